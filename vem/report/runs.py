"""Run directories as the report reads them: a reader for each file, and what damage costs: the run its own numbers.

A directory may be copied, edited or of another program. Files that are not the ones run.json speaks of are found by
:mod:`vem.storage.sealing`; older runs say nothing of their files, so that each reader knows a file that was cut off.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import yaml

from vem import __version__
from vem.errors import VemError
from vem.storage import sealing
from vem.storage.records import (
    AS_BEFORE,
    CONFIG,
    EVALUATION,
    FILE_HASH,
    METRICS,
    OVERRIDES,
    PER_DATUM,
    PICTURES,
    REPEATS,
    RUN,
    SPLITS,
    config_hash,
    hashed_part,
    option,
    read_json,
)
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
CURVE = ("epoch", "seconds", "elbo")
COUNTED = ("step", "decoder_evaluations", "decoder_gradients")  # that older records may lack
TOLERANCE = 1e-5  # relative: per_datum.csv holds nine digits of numbers in single precision
Numbers = npt.NDArray[np.float64]


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
        asked = flat_settings(config) | _typed_as_before(config, typed)
        record = RunRecord(directory, facts, {}, asked, asked, config, typed, broken)
        evaluation = _read_evaluation(whole(EVALUATION))
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


def _read_evaluation(path: Path) -> Mapping[str, Any]:
    try:
        return read_json(path) if path.exists() else {}
    except VemError:
        again = f"python -m vem.evaluate {path.parent} --again"
        raise VemError(f"{path} is damaged: {again} measures the run again.") from None


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
    except (OSError, yaml.YAMLError, ValueError, RecursionError) as error:
        reason = " ".join(str(error).split())
        raise VemError(f"{path} is not readable YAML ({reason}): delete the run and start it again.") from None


def read_typed(path: Path) -> tuple[str, ...]:
    """The keys that were typed; none where overrides.yaml is missing or damaged, for no number depends on it."""
    try:
        found = yaml.load(path.read_text(encoding="utf-8"), Loader=_Loader)
    except (OSError, yaml.YAMLError, ValueError, RecursionError):
        return ()
    return tuple(key_of(item) for item in found if isinstance(item, str)) if isinstance(found, list) else ()


def key_of(override: str) -> str:
    """The key of an override.

    >>> key_of("latent_dim=2"), key_of("+evaluation.odd=true"), key_of("strategy/encoder=mlp")
    ('latent_dim', 'evaluation.odd', 'strategy/encoder')
    """
    return override.partition("=")[0].lstrip("+~")


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


def _typed_as_before(config: Mapping[str, Any], typed: Sequence[str]) -> dict[str, str]:
    """Typed options at the value that the hash leaves out: a swept one is shown beside its other values.

    Not those of the data, which would set tables apart.
    """
    keys = [key for key in typed if key in AS_BEFORE and not key.startswith("data.")]
    return {key: str(option(config, key)) for key in keys if option(config, key) == AS_BEFORE[key]}


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


# --- the larger files


def read_per_datum(directory: Path, columns: Sequence[str] | None = None) -> pd.DataFrame:
    """The rows of per_datum.csv: split, and numbers; no rows where there is no such file.

    ``columns``: only these, as far as the file has them.

    Raises:
        VemError: the file is damaged.
    """
    table = _read_csv(directory / PER_DATUM, "measure the run again: python -m vem.evaluate DIR --again", columns)
    return table if "split" in table else pd.DataFrame(columns=["split"])


def read_metrics(directory: Path) -> pd.DataFrame:
    """The finite ELBO records of a run: epoch, seconds, split, elbo, and step, decoder_evaluations,
    decoder_gradients where it has them; no rows where there are none.

    Raises:
        VemError: metrics.csv is damaged, lacks a column or is not a table.
    """
    path = directory / METRICS
    found = path.stat() if path.exists() else None
    return _metrics(path, found.st_mtime_ns, found.st_size).copy() if found else _metrics(path, 0, 0).copy()


@lru_cache(maxsize=2048)  # the report and its figures read each of them; a watch reads them again and again
def _metrics(path: Path, changed: int, size: int) -> pd.DataFrame:
    table = _read_csv(path, "its curve is lost; the same command in an empty folder makes it again")
    if table.empty and not len(table.columns):
        return pd.DataFrame(columns=[*CURVE, "split"])
    missing = {*CURVE, "split"} - set(table.columns)
    if missing:
        raise VemError(f"{path} is not a run's record: it has no {' and no '.join(sorted(missing))}.")
    for name in (*CURVE, *(c for c in COUNTED if c in table)):
        if table[name].dtype.kind not in "fi":
            table[name] = pd.to_numeric(table[name], errors="coerce")
    whole = np.isfinite(table[list(CURVE)].to_numpy(dtype=float)).all(axis=1)
    epochs, splits = table["epoch"].to_numpy(), table["split"].to_numpy()
    # The last record of an epoch; by hand, for pandas takes longer to sort sixty rows than to read them.
    last = {(str(splits[i]), float(epochs[i])): i for i in np.flatnonzero(whole)}
    return table.iloc[np.array([last[place] for place in sorted(last)], dtype=int)]


def _read_csv(path: Path, remedy: str, columns: Sequence[str] | None = None) -> pd.DataFrame:
    """A table; without rows and columns where there is no such file, or an empty one."""
    wanted = None if columns is None else frozenset(columns)
    try:
        with open(path, "rb") as file:
            size = file.seek(0, 2)
            file.seek(max(0, size - 1))
            if size and file.read(1) != b"\n":  # its last number may be a part of one
                raise VemError(f"{path} is damaged: its last line is cut off; {remedy}.")
        return pd.read_csv(path, usecols=None if wanted is None else lambda name: name in wanted)
    except (FileNotFoundError, pd.errors.EmptyDataError):
        return pd.DataFrame()
    except (OSError, ValueError) as error:
        reason = " ".join(str(error).split())
        raise VemError(f"{path} is damaged ({reason}); {remedy}.") from None


def read_pictures(directory: Path) -> dict[str, np.ndarray]:
    """The arrays of pictures.npz; none where there is no such file.

    Raises:
        VemError: the file is damaged.
    """
    path = directory / PICTURES
    if not path.exists():
        return {}
    try:
        # Opened here: numpy forgets to close a file that turns out to be damaged.
        with open(path, "rb") as file, np.load(file, allow_pickle=False) as arrays:
            return {name: arrays[name] for name in arrays.files}
    except Exception as error:  # numpy passes on whatever zipfile and zlib meet in damaged bytes
        raise VemError(f"{path} is damaged ({error}): delete it and run the same command again.") from None


# --- whether they are of this run, and whole


@dataclass(frozen=True)
class Evaluated:
    """The evaluated rows of a run. ``digests`` is empty where only their number is known, ``counts`` if nothing is.

    ``elbo``: split → (row numbers, sorted; ELBO of each).
    """

    counts: Mapping[str, int] = field(default_factory=dict)
    digests: Mapping[str, str] = field(default_factory=dict)
    elbo: Mapping[str, tuple[Numbers, Numbers]] = field(default_factory=dict)
    damage: tuple[str, ...] = ()  # one sentence for each file of the run that cannot be used
    refused: str = ""  # the one on per_datum.csv


def evaluated(run: RunRecord) -> Evaluated:
    """What a run's rows are, and which of its larger files are damaged."""
    curve = run.broken.get(METRICS) or _damaged_curve(run)
    if run.status != DONE:
        return Evaluated(damage=(curve,) if curve else ())
    counts = {s: int(n) for s in SPLITS if (n := finite(run.part(s).get("num_data"))) is not None}
    found = [_other_config(run), curve, run.broken.get(PICTURES) or _damaged_pictures(run)]
    found += [text for name, text in run.broken.items() if name not in (METRICS, PICTURES, PER_DATUM)]
    damage = tuple(text for text in found if text)
    try:
        if PER_DATUM in run.broken:
            raise VemError(run.broken[PER_DATUM])
        elbo = _elbo_of_rows(read_per_datum(run.directory, ("split", "row", "elbo")))
        if elbo:
            _check(run, elbo, counts)
    except VemError as error:
        return Evaluated(counts, damage=(*damage, str(error)), refused=str(error))
    digests = {split: hashlib.sha256(rows.tobytes()).hexdigest()[:16] for split, (rows, _) in elbo.items()}
    return Evaluated({s: len(rows) for s, (rows, _) in elbo.items()} or counts, digests, elbo, damage)


def _elbo_of_rows(table: pd.DataFrame) -> dict[str, tuple[Numbers, Numbers]]:
    """By split the row numbers, sorted, and their ELBO; empty for a table without row numbers."""
    if "row" not in table:
        return {}
    table = table.reindex(columns=["split", "row", "elbo"])
    rows, elbo = (pd.to_numeric(table[name], errors="coerce").to_numpy(float) for name in ("row", "elbo"))
    places = {split: np.flatnonzero(table["split"].to_numpy() == split) for split in SPLITS}
    ordered = {split: own[np.argsort(rows[own], kind="stable")] for split, own in places.items() if len(own)}
    return {split: (rows[own], elbo[own]) for split, own in ordered.items()}


def _check(run: RunRecord, found: Mapping[str, tuple[Numbers, Numbers]], counts: Mapping[str, int]) -> None:
    """Refuse a file that was cut off between two lines, or that is not about what evaluation.json is about.

    Raises:
        VemError: it does not hold each datum once, as many as evaluation.json speaks of, or their mean is another.
    """
    for split in dict.fromkeys((*counts, *(found if counts else ()))):
        rows, elbo = found.get(split, (np.empty(0), np.empty(0)))
        num, again = counts.get(split, 0), len(rows) - len(np.unique(rows))
        told = finite(mapping(run.part(split).get("elbo")).get("mean"))
        scored, what = not np.isnan(elbo).all(), ""
        if len(rows) < num:
            what = f"holds {len(rows)} of {num} {split} data"
        elif again:
            what = f"holds {again} {split} data twice"
        elif len(rows) > num:
            what = f"holds {len(rows)} {split} data, evaluation.json speaks of {num}"
        elif told is not None and scored and not np.isfinite(elbo).all():
            what = f"lacks the ELBO of {int((~np.isfinite(elbo)).sum())} of {num} {split} data"
        elif told is not None and scored and abs(elbo.mean() - told) > TOLERANCE * max(1.0, abs(told)):
            what = f"has a mean {split} ELBO of {elbo.mean():.6g}, evaluation.json one of {told:.6g}"
        if what:
            raise VemError(f"{run.directory / PER_DATUM} {what}: it is damaged or of another measurement, and nothing "
                           f"is paired with it; python -m vem.evaluate {run.directory} --again measures the run "
                           "again.")  # fmt: skip


def _other_config(run: RunRecord) -> str:
    """A config.yaml that is not the one that ran: cut off between two lines, or edited."""
    # Other versions may hash otherwise, and what vem.measure saved has no command and another hash.
    known = run.facts["versions"].get("vem") == __version__ and run.facts.get("command") is not None
    if not known or config_hash(run.config) == run.facts.get("config_hash"):
        return ""
    return (f"{run.directory / CONFIG} is not the config that ran (run.json has another hash): it was cut off or "
            "edited, so the settings that are shown may be wrong.")  # fmt: skip


def _damaged_curve(run: RunRecord) -> str:
    try:
        curve = read_metrics(run.directory)
    except VemError as error:
        return str(error)
    epochs = finite(run.facts.get("epochs"))
    if run.status == DONE and epochs and len(curve) and (last := curve["epoch"].max()) < epochs:
        return f"{run.directory / METRICS} ends at epoch {int(last)} of {int(epochs)}: its curve is cut short."
    return ""


def _damaged_pictures(run: RunRecord) -> str:
    """A cheap look: a zip file that was cut off has lost the directory at its end."""
    path = run.directory / PICTURES
    try:
        with open(path, "rb") as file:
            file.seek(max(0, file.seek(0, 2) - 22))
            whole = file.read(4) == b"PK\x05\x06"
    except OSError:
        return ""
    return "" if whole else f"{path} is damaged: its end is missing, so the run shows no pictures."
