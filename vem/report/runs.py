"""What a run directory says of itself in its small files: run.json, evaluation.json, the config.

A directory may be copied, edited or of another program. What is damaged costs the run its own numbers, and no other.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import yaml

from vem.errors import VemError
from vem.storage import sealing
from vem.storage.identity import AS_BEFORE, FILE_HASH, hashed_part, key_of, option
from vem.storage.records import CONFIG, EVALUATION, OVERRIDES, REPEATS, RUN, read_json
from vem.storage.sealing import mapping

# libyaml's loader is ten times faster; a build without it reads the same.
_Loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)

DONE, RUNNING, FAILED, UNREADABLE = "done", "running", "failed", "unreadable"
STATUSES = (DONE, RUNNING, FAILED, REPEATS)  # that run.json may hold
TEXTS = (
    "status", "error", "config_hash", "strategy", "model", "family", "data", "binarize", "likelihood", "commit",
    "device", "host", "command", "repeats", "dtype", "started",
)  # fmt: skip
COUNTS = ("seed", "latent_dim", "components", "num_parameters", "num_train", "threads", "epochs", "pid")  # whole
NUMBERS = (
    *COUNTS, "training_seconds", "seconds", "decoder_evaluations", "decoder_gradients", "peak_memory_mib",
)  # fmt: skip
NOT_YAML = (OSError, yaml.YAMLError, ValueError, RecursionError)


@dataclass(frozen=True)
class RunRecord:
    """What a run directory says of itself: run.json, evaluation.json, the config.

    ``asked``: the flattened config that its hash covers, less the seed; ``settings``: the same with what the
    numbers were really measured with. ``typed``: the keys of overrides.yaml. ``broken``: by file that is not the one
    that run.json speaks of, a sentence on it.
    """

    directory: Path
    facts: Mapping[str, Any]
    evaluation: Mapping[str, Any] = field(default_factory=dict)
    settings: Mapping[str, str] = field(default_factory=dict)
    asked: Mapping[str, str] = field(default_factory=dict)
    config: Mapping[str, Any] = field(default_factory=dict)
    typed: tuple[str, ...] = ()
    broken: Mapping[str, str] = field(default_factory=dict)

    @property
    def status(self) -> str:
        """``done``, ``running``, ``stopped``, ``lost``, ``failed``, ``repeats`` or ``unreadable``."""
        return str(self.facts["status"])

    @property
    def placed(self) -> bool:
        """Whether it got far enough to say what it trains on what; else it belongs in no table."""
        return self.facts.get("strategy") is not None and self.facts.get("data") is not None

    def part(self, split: str) -> Mapping[str, Any]:
        """A split's part of evaluation.json; empty where there is none."""
        return mapping(self.evaluation.get(split))

    def saying(self, **facts: Any) -> RunRecord:
        """The same record with other facts."""
        return replace(self, facts={**self.facts, **facts})


def finite(value: Any) -> float | None:
    """A finite number, else None.

    >>> finite(1), finite(float("nan")), finite("1"), finite(True), finite(10**400)
    (1.0, None, None, None, None)
    """
    if not isinstance(value, int | float) or isinstance(value, bool):
        return None
    try:
        number = float(value)
    except OverflowError:
        return None
    return number if math.isfinite(number) else None


# --- the small files


def read_run(directory: Path) -> RunRecord:
    """Read a run's small files; where one cannot be read the status is ``unreadable``, with the reason."""
    record = RunRecord(directory, {})
    try:
        said = read_json(directory / RUN)
        found = sealing.damage(directory, said)
        broken = {n: text for n in (RUN, *sealing.SEALED) for text in found if text.startswith(f"{directory / n} ")}

        def whole(name: str) -> Path:
            if name in broken:
                raise VemError(broken[name])
            return directory / name

        facts = _facts(said, whole(RUN))
        # Without its config it has a name, and no place in a table.
        record = RunRecord(directory, {key: facts.get(key) for key in ("strategy", "seed", "config_hash")})
        config = read_config(whole(CONFIG))
        typed = () if OVERRIDES in broken else read_typed(directory / OVERRIDES)
        # Typed options at the value that the hash leaves out: a swept one is shown beside its other values. Not those
        # of the data, which would set tables apart.
        known = {key: option(config, key) for key in typed if key in AS_BEFORE and not key.startswith("data.")}
        asked = flat_settings(config) | {key: str(v) for key, v in known.items() if v == AS_BEFORE[key]}
        record = RunRecord(directory, facts, {}, asked, asked, config, typed, broken)
        if not whole(EVALUATION).exists():
            return record
        try:
            evaluation = read_json(directory / EVALUATION)
        except VemError:
            again = f"python -m vem.evaluate {directory} --again measures the run again."
            raise VemError(f"{directory / EVALUATION} is damaged: {again}") from None
        return replace(record, evaluation=evaluation, settings=as_evaluated(asked, evaluation.get("settings")))
    except VemError as error:
        return record.saying(status=UNREADABLE, error=str(error))


def _facts(found: Mapping[str, Any], path: Path) -> dict[str, Any]:
    """What run.json says, as far as it is of the kind that vem.run writes.

    Raises:
        VemError: it was written by another program.
    """
    status = found.get("status")
    if status not in STATUSES:
        said = "has no status" if status is None else f"has the status {str(status)[:40]!r}"
        raise VemError(f"{path} {said}: it was not written by vem.run.")
    facts: dict[str, Any] = {key: found[key] for key in TEXTS if isinstance(found.get(key), str)}
    facts |= {key: found[key] for key in NUMBERS if finite(found.get(key)) is not None}
    facts = {key: value for key, value in facts.items() if key not in COUNTS or value == int(value)}
    # What is null was said; what is missing, or of another kind, was not.
    facts["unsaid"] = tuple(key for key in (*TEXTS, *NUMBERS) if key not in facts and found.get(key, "") is not None)
    notes, converged = found.get("notes"), found.get("converged")
    facts["notes"] = [str(note) for note in notes] if isinstance(notes, list) else []
    facts["converged"] = converged if isinstance(converged, bool) else None
    facts["versions"] = {str(k): str(v) for k, v in mapping(found.get("versions")).items()}
    facts["evaluated"] = mapping(found.get("evaluated"))
    return facts | {key: found[key] for key in ("data_digests", "code") if isinstance(found.get(key), Mapping)}


def read_config(path: Path) -> Mapping[str, Any]:
    """The resolved config; empty where there is no such file.

    Raises:
        VemError: the file is not readable YAML.
    """
    if not path.exists():
        return {}
    try:
        text = path.read_text(encoding="utf-8")
        if not text.endswith("\n"):
            raise ValueError("it is cut off")
        return mapping(yaml.load(text, Loader=_Loader))
    except NOT_YAML as error:
        reason = " ".join(str(error).split())
        raise VemError(f"{path} is not readable YAML ({reason}): delete the run and start it again.") from None


def read_typed(path: Path) -> tuple[str, ...]:
    """The keys that were typed; none where overrides.yaml is missing or damaged, for no number depends on it."""
    try:
        found = yaml.load(path.read_text(encoding="utf-8"), Loader=_Loader)
    except NOT_YAML:
        return ()
    return tuple(key_of(item) for item in found if isinstance(item, str)) if isinstance(found, list) else ()


def flat_settings(config: Mapping[str, Any]) -> dict[str, str]:
    """What a run's numbers depend on but for its seed, flattened; the user's own file by name and hash.

    So what no number depends on (device, threads, where a file lies) tells no two runs apart.
    """
    flat = hashed_part(config)
    digest = flat.pop(f"data.{FILE_HASH}", None)
    if digest is not None:
        flat["data.path"] = f"{Path(str(mapping(config.get('data')).get('path'))).name} ({str(digest)[:8]})"
    return _texts({key: value for key, value in flat.items() if key != "seed"})


def _texts(flat: Mapping[str, Any]) -> dict[str, str]:
    return {key: "null" if value is None else str(value) for key, value in flat.items()}


def as_evaluated(settings: Mapping[str, str], found: Any) -> dict[str, str]:
    """The settings with those that the numbers in evaluation.json were really measured with.

    A finished run can be measured again with another budget: then its config says what was asked for first.

    >>> as_evaluated({"evaluation.draws": "10", "seed": "0"}, {"draws": 100})
    {'seed': '0', 'evaluation.draws': '100'}
    """
    if not isinstance(found, dict):
        return dict(settings)
    renewed = tuple(f"evaluation.{key}." for key in found)
    kept = {key: value for key, value in settings.items() if not f"{key}.".startswith(renewed)}
    return kept | _texts(hashed_part({"evaluation": found}))
