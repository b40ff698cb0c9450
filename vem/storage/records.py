"""The run directory: names, schema, atomic writes. ``vem.run`` writes it, ``vem.report`` reads it.

One run is one directory::

    config.yaml       the resolved config
    overrides.yaml    what was typed
    run.json          status running|done|failed|repeats, error, config hash, seed, commit, versions, device, …;
                      written last, by vem.storage.sealing, with the hashes of the other files
    metrics.csv       one row per record
    evaluation.json   per split, nats per datum, with errors; earlier ones in evaluations/
    per_datum.csv     one row per evaluated datum
    pictures.npz      arrays that the figures are drawn from
    checkpoint.pt     everything needed to go on bit for bit
    figures/          png
    run.log

A file is written to a temporary name and renamed, so that a reader never sees half of one and a full
disk costs only the new version. A missing or infinite number is ``null`` with a reason, never NaN.
"""

from __future__ import annotations

import csv
import errno
import hashlib
import io
import json
import math
import os
import re
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import yaml

from vem.errors import VemError
from vem.storage import folders

CONFIG = "config.yaml"
OVERRIDES = "overrides.yaml"
RUN = folders.RUN
METRICS = "metrics.csv"
EVALUATION = "evaluation.json"
EARLIER = "evaluations"  # earlier results of a run that was measured again
PER_DATUM = "per_datum.csv"
PICTURES = "pictures.npz"
CHECKPOINT = "checkpoint.pt"
BEST_CHECKPOINT = "best.pt"
FIGURES = "figures"
LOG = "run.log"

REPEATS = "repeats"  # status of a job of a sweep that another folder, named beside it, runs
ASIDE = folders.ASIDE
BY_COLUMN = "gaussian (a scale for each column)"  # likelihood of a run whose learned σ_i are each column's own

SPLITS = ("train", "valid", "test")


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A temporary path beside ``path`` that takes its place when the block ends well.

    Raises:
        VemError: the disk is full or the folder cannot be written; what stood at ``path`` is untouched.
    """
    # The process id keeps two writers apart; the suffix stays, since numpy appends one that is missing.
    temporary = path.with_name(f".{path.stem}.{os.getpid()}{path.suffix}")
    try:
        yield temporary
        with open(temporary, "rb") as f:
            os.fsync(f.fileno())
        os.replace(temporary, path)
    except OSError as error:
        raise unwritable(path, error) from error
    finally:
        with suppress(OSError):  # a folder that is gone or read-only must not hide the error above
            temporary.unlink(missing_ok=True)


def clear_leftovers(*folders: Path) -> None:
    """Remove the temporary files that a killed writer has left; to be called by the only one at work in the folders."""
    for path in (path for folder in folders for path in folder.glob(".*.*")):
        if re.fullmatch(r"\..+\.\d+(\.\w+)?", path.name) and path.is_file():
            with suppress(OSError):
                path.unlink(missing_ok=True)


class Unwritable(VemError):
    """A file that could not be written: what happened, and the remedies of ``python -m vem.run``."""

    def __init__(self, told: str, full: bool = False, remedy: str | None = None) -> None:
        super().__init__(told, full, remedy)  # all of them, for the copy that another process gets
        self.told, self.full = told, full
        self.remedy = remedy or (FREE_SPACE if full else ANOTHER_FOLDER)

    def __str__(self) -> str:
        return f"{self.told} {self.remedy}"

    def advising(self, option: str, command: str = "") -> VemError:
        """The same of a command that takes another folder by ``option``."""
        first = "Free some space and start the same command again" if self.full else "Make its folder writable"
        elsewhere = "one on another disk" if self.full else "another one"
        return VemError(f"{self.told} {first}, or name {elsewhere} with {option}{command and f': {command}'}.")


ANOTHER_FOLDER = (
    "Make its folder writable, or name one that is (of a run with hydra.run.dir=DIR, of a sweep with "
    "hydra.sweep.dir=DIR)."
)
FREE_SPACE = "Free some space and start the same command again."
PUT_BACK = "Put it back under its name, and the same command goes on; without it, the same command begins again."


def unwritable(path: Path, error: OSError) -> Unwritable:
    """The message for a file that could not be written."""
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        kept = "the earlier version is kept" if path.exists() else "nothing was overwritten"
        what = "the disk is full" if error.errno == errno.ENOSPC else "your quota on this disk is used up"
        return Unwritable(f"{what}: {path} was not written ({kept}).", full=True)
    if error.errno in (errno.ENOENT, errno.ESTALE) and not path.parent.is_dir():
        return Unwritable(f"{path} cannot be written: its folder is gone, removed or renamed.", remedy=PUT_BACK)
    return Unwritable(f"{path} cannot be written: {error.strerror or error}.")


def make_folder(folder: Path) -> None:
    """Create a folder and those above it.

    Raises:
        VemError: it cannot be created.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise unwritable(folder, error) from error


def try_writing(directory: Path) -> None:
    """Refuse a folder that takes no files before something long is computed for it.

    Raises:
        VemError: it cannot be written, or the disk is full.
    """
    try:
        with tempfile.TemporaryFile(dir=directory) as file:
            file.write(b"vem")
    except OSError as error:
        raise unwritable(directory, error) from error


def write_text(path: Path, text: str) -> None:
    """Write a text file atomically."""
    with replacing(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def number(value: float | None, reason: str | None = None) -> dict[str, Any] | float:
    """A finite number as itself; anything else as ``{"value": None, "reason": …}``.

    >>> number(1.5), number(float("inf"), "q has no density")
    (1.5, {'value': None, 'reason': 'q has no density'})
    """
    if value is not None and math.isfinite(value):
        return float(value)
    return {"value": None, "reason": reason or f"the number is {value}"}


def write_json(path: Path, content: Mapping[str, Any]) -> None:
    """Write a JSON file atomically.

    Raises:
        ValueError: a number in it is NaN or infinite (give it to :func:`number` with the reason).
    """
    write_text(path, json.dumps(content, indent=1, allow_nan=False, ensure_ascii=False) + "\n")


def read_json(path: Path) -> dict[str, Any]:
    """Read a JSON file.

    Raises:
        VemError: the file is missing or broken.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise VemError(f"{path} is missing: is {path.parent} the directory of a run?") from None
    except (ValueError, RecursionError) as error:  # a number may have too many digits, lists may be nested too deep
        raise VemError(f"{path} is not readable JSON ({error}): delete the run's directory and run it again.") from None
    except OSError as error:
        raise VemError(f"{path} cannot be read: {error.strerror or error}. Check its permissions.") from error
    if not isinstance(content, dict):
        raise VemError(
            f"{path} holds {type(content).__name__}, not an object: delete the run's directory and run it again."
        )
    return content


def read_run(directory: Path) -> dict[str, Any]:
    """What run.json says; empty where there is none, or one that cannot be read."""
    try:
        return read_json(directory / RUN)
    except VemError:
        return {}


def read_yaml(path: Path, remedy: str = "run it again in a fresh hydra.run.dir.") -> Any:
    """Read a yaml file.

    Raises:
        VemError: the file is missing or broken.
    """
    try:
        return yaml.safe_load(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise VemError(f"{path} is missing: is {path.parent} the directory of a run?") from None
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise VemError(f"{path} cannot be read ({error}): {remedy}") from None


def write_config(directory: Path, config: Mapping[str, Any], overrides: Sequence[str] | None = None) -> None:
    """Write config.yaml and, where they are given, the overrides that were typed.

    Raises:
        VemError: the disk is full or the folder cannot be written.
    """
    write_text(directory / CONFIG, yaml.safe_dump(dict(config), sort_keys=False, allow_unicode=True))
    if overrides is not None:
        write_text(directory / OVERRIDES, yaml.safe_dump(list(overrides), allow_unicode=True))


def valid_elbo(directory: Path) -> float:
    """The validation ELBO that a finished run wrote, for a sweeper; NaN if it wrote none.

    Raises:
        VemError: evaluation.json cannot be read.
    """
    if not (directory / EVALUATION).exists():
        return math.nan
    elbo = read_json(directory / EVALUATION).get("valid", {}).get("elbo", {})
    value = elbo.get("mean") if isinstance(elbo, dict) else None
    return float(value) if isinstance(value, int | float) else math.nan


def write_csv(path: Path, rows: Sequence[Mapping[str, Any]]) -> None:
    """Write rows as CSV atomically; the columns are those of all rows, in order of appearance.

    A missing or non-finite number is an empty cell.
    """
    columns = list(dict.fromkeys(name for row in rows for name in row))
    text = io.StringIO()
    writer = csv.DictWriter(text, columns, lineterminator="\n")
    writer.writeheader()
    writer.writerows({k: _cell(v) for k, v in row.items()} for row in rows)
    write_text(path, text.getvalue())


def _cell(value: Any) -> Any:
    if value is None or (isinstance(value, float) and not math.isfinite(value)):
        return ""
    return f"{value:.9g}" if isinstance(value, float) else value


NEEDED = ("data", "model", "strategy", "training", "evaluation", "seed", "dtype")  # of a config

# What a run's numbers depend on. A top-level value such as latent_dim counts through the sections that
# interpolate it, so a value that the chosen model does not use does not count.
HASHED = ("data", "model", "strategy", "training", "evaluation", "seed", "dtype")
FILE_HASH = "sha256"  # data.sha256, beside data.path: what the user's own file holds
NOT_HASHED = ("data.root", "training.checkpoint_seconds", "evaluation.strict")

# Options that came after the first release, each with the value that means what runs without it did. At that value,
# and where it changes nothing, an option is no part of the hash: an old run and a new one are then the same run.
AS_BEFORE: dict[str, Any] = {
    "model.units": "none",
    "evaluation.annealing.modes": 1,
    "evaluation.gap_data": None,
    **{f"data.{key}": None for key in ("columns", "drop", "array", "label_array", "layer")},
    **{f"data.{key}": "auto" for key in ("row_names", "separator", "decimal", "encoding")},
    "data.categories": "refuse",
    "data.precision": "single",
    "model.standardize": False,
    "strategy.convergence": "auto",  # as before where no columns are standardized, and so is the next
    "strategy.accelerate": "auto",
}
# Options whose default was another one: (the old, the new).
MOVED_DEFAULTS: dict[str, tuple[Any, Any]] = {"strategy.start": ("data", "closed")}
# Of all these, the ones that change nothing for binary data.
REAL_ONLY: tuple[str, ...] = ("model.units", "model.standardize", "strategy.start")


def config_hash(config: Mapping[str, Any]) -> str:
    """A hash of what a run's numbers depend on, and of nothing else: not of paths, device or threads.

    >>> config_hash({"seed": 0, "device": "cpu"}) == config_hash({"seed": 0, "device": "cuda"})
    True
    >>> config_hash({"seed": 0}) == config_hash({"seed": 1})
    False
    """
    text = json.dumps(hashed_part(config), sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def hashed_part(config: Mapping[str, Any]) -> dict[str, Any]:
    """The part of a resolved config that :func:`config_hash` reads, as flat dotted keys."""
    flat: dict[str, Any] = {}

    def walk(node: Any, path: str) -> None:
        if isinstance(node, Mapping) and node:
            for key, child in node.items():
                walk(child, f"{path}.{key}" if path else str(key))
        elif path not in NOT_HASHED:
            flat[path] = list(node) if isinstance(node, list | tuple) else node

    walk({key: config[key] for key in HASHED if key in config}, "")
    if f"data.{FILE_HASH}" in flat:
        del flat["data.path"]  # what the file holds counts, not where it lies
    if "strategy.start" in flat:
        flat["strategy.start"] = _same_start(flat)
    flat |= _same_gradient(flat)
    flat = {k: OLD_TARGETS.get(v, v) if k.endswith("._target_") else v for k, v in flat.items()}
    idle = _neutral(flat)
    return {k: v for k, v in flat.items() if k not in AS_BEFORE or not (k in idle or v == AS_BEFORE[k])}


def _neutral(flat: Mapping[str, Any]) -> set[str]:
    """The keys of ``AS_BEFORE`` that change no number under this config, as far as the config alone tells."""
    idle = set(REAL_ONLY) if _is_binary(flat) else set()
    if flat.get("model.units") == "auto" and (_drawn(flat) or not builds_network(flat)):
        idle.add("model.units")
    if flat.get("dtype") == "float32":
        idle.add("data.precision")  # x is rounded to that anyway
    if flat.get("model.standardize") == "auto" and flat.get("strategy._target_") in NOT_EXACT:
        idle.add("model.standardize")
    if flat.get("model._target_") in EXACT:
        idle.add("evaluation.annealing.modes")  # there log p(x) needs no annealing
    return idle


EXACT = ("vem.models.mixture.Mixture", "vem.models.linear_gaussian.LinearGaussian")
# Strategies under which model.standardize=auto means false.
LOCAL = "vem.strategies.local.Local"
NOT_EXACT = (LOCAL, "vem.strategies.amortized.Amortized")
OLD_TARGETS = {"vem.training.schedules.Stepwise": "vem.training.schedules.IWAE"}  # classes by their oldest names
GRADIENTS = ("path", "reparameterized", "objective")
OF_STRATEGY, OF_OBJECTIVE = "strategy.gradient", "strategy.objective.gradient"


def _same_start(flat: Mapping[str, Any]) -> Any:
    """The start of exact EM by its oldest name: ``model`` was ``data``, and so is ``closed`` without a closed form.

    >>> _same_start({"strategy.start": "closed", "model._target_": "vem.models.mixture.Mixture"})
    'data'
    """
    start = flat["strategy.start"]
    mixture = flat.get("model._target_") == "vem.models.mixture.Mixture"
    return "data" if start == "model" or (start == "closed" and mixture) else start


def _same_gradient(flat: Mapping[str, Any]) -> dict[str, Any]:
    """The gradient by its oldest names: ``strategy.gradient`` of local rows ruled over that of the objective.

    >>> _same_gradient({"strategy._target_": LOCAL, OF_OBJECTIVE: "path"})
    {'strategy.gradient': 'path', 'strategy.objective.gradient': 'reparameterized'}
    """
    chosen = flat.get(OF_OBJECTIVE)
    plain = {} if chosen is None else {OF_OBJECTIVE: "reparameterized"}
    if flat.get("strategy._target_") != LOCAL or OF_STRATEGY in flat:
        return plain if chosen == "auto" else {}
    return {OF_STRATEGY: "path" if chosen == "path" else "objective"} | plain


def settled(config: Mapping[str, Any], before: bool = False) -> dict[str, Any]:
    """The config with the gradient where it belongs, in the objective's options, and ``auto`` replaced.

    ``strategy.gradient`` of local rows is what ``auto`` means, ``path`` where a yaml of one's own has none; in a config
    from ``before`` there was no ``auto``, and its ``path`` ruled over the objective's own. Beside
    ``objective.gradient=path``, or none, nothing is changed: both words are part of the hash, as they were.

    >>> settled({"strategy": {"_target_": LOCAL, "gradient": "path", "objective": {"gradient": "auto"}}})["strategy"]
    {'_target_': 'vem.strategies.local.Local', 'objective': {'gradient': 'path'}}
    """
    chosen = option(config, OF_OBJECTIVE)
    if option(config, "strategy._target_") != LOCAL:
        return dict(config)
    said = config["strategy"].get("gradient", "path" if chosen == "auto" else None)
    if said not in GRADIENTS or chosen in (None, "path"):
        return dict(config)
    out = with_option(config, "strategy", {k: v for k, v in config["strategy"].items() if k != "gradient"})
    if chosen == "auto" or (before and said == "path"):
        return with_option(out, OF_OBJECTIVE, "path" if said == "path" else "reparameterized")
    return out


def _is_binary(flat: Mapping[str, Any]) -> bool:
    """Whether x is surely 0 or 1, and the likelihood made for that.

    >>> _is_binary({"model.likelihood": "auto", "data.binarize": "static"})
    True
    """
    likelihood = flat.get("model.likelihood")
    return likelihood == "bernoulli" or (likelihood == "auto" and _drawn(flat))


def _drawn(flat: Mapping[str, Any]) -> bool:
    """Whether x is surely 0 or 1."""
    return flat.get("data.binarize") not in (None, "none") or "silhouettes" in str(flat.get("data._target_"))


def builds_network(flat: Mapping[str, Any]) -> bool:
    """Whether the decoder or the encoder is one that vem builds: ``model.units=auto`` is about those.

    >>> builds_network({"model.decoder._target_": "mynets.Decoder", "strategy.encoder._target_": "mynets.Encoder"})
    False
    """
    return any(str(flat.get(f"{place}._target_")).startswith("vem.") for place in ("model.decoder", "strategy.encoder"))


def option(config: Mapping[str, Any], key: str) -> Any:
    """The value under a dotted key; None where a config does not have it.

    >>> option({"model": {"units": "none"}}, "model.units"), option({}, "model.units")
    ('none', None)
    """
    node: Any = config
    for part in key.split("."):
        node = node.get(part) if isinstance(node, Mapping) else None
    return node


def without_later(config: Mapping[str, Any], path: str = "", keys: Mapping[str, Any] = AS_BEFORE) -> dict[str, Any]:
    """The config without the ``keys`` that stand at the value that means the same as their absence."""
    out = {}
    for name, child in config.items():
        key = f"{path}.{name}" if path else str(name)
        if not (key in keys and child == keys[key]):
            out[name] = without_later(child, key, keys) if isinstance(child, Mapping) else child
    return out


def with_option(config: Mapping[str, Any], key: str, value: Any) -> dict[str, Any]:
    """The config with another value under a dotted key.

    >>> with_option({"model": {"units": "auto"}, "seed": 0}, "model.units", "none")
    {'model': {'units': 'none'}, 'seed': 0}
    """
    head, _, rest = key.partition(".")
    return {**config, head: with_option(config.get(head) or {}, rest, value) if rest else value}
