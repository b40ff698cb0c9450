"""The larger files of a run directory: a reader for each, which rows were evaluated, and which files are damaged.

Files that are not the ones run.json speaks of are found by :mod:`vem.storage.sealing`; older runs say nothing of their
files, so that each reader knows a file that was cut off.
"""

from __future__ import annotations

import hashlib
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pandas as pd

from vem import __version__
from vem.errors import VemError
from vem.report.runs import DONE, RunRecord, finite
from vem.storage.identity import config_hash
from vem.storage.records import CONFIG, METRICS, PER_DATUM, PICTURES, SPLITS
from vem.storage.sealing import mapping

CURVE = ("epoch", "seconds", "elbo")
COUNTED = ("step", "decoder_evaluations", "decoder_gradients")  # that older records may lack
TOLERANCE = 1e-5  # relative: per_datum.csv holds nine digits of numbers in single precision
Numbers = npt.NDArray[np.float64]


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
    return _metrics(path, found and (found.st_mtime_ns, found.st_size)).copy()


@lru_cache(maxsize=2048)  # the report and its figures read each of them; a watch reads them again and again
def _metrics(path: Path, changed: tuple[int, int] | None) -> pd.DataFrame:
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
    last = {(str(splits[i]), float(epochs[i])): int(i) for i in np.flatnonzero(whole)}
    return table.iloc[[last[place] for place in sorted(last)]]


def _read_csv(path: Path, remedy: str, columns: Sequence[str] | None = None) -> pd.DataFrame:
    """A table; without rows and columns where there is no such file, or an empty one."""
    try:
        with open(path, "rb") as file:
            size = file.seek(0, 2)
            file.seek(max(0, size - 1))
            if size and file.read(1) != b"\n":  # its last number may be a part of one
                raise VemError(f"{path} is damaged: its last line is cut off; {remedy}.")
        return pd.read_csv(path, usecols=None if columns is None else lambda name: name in columns)
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
    """Refuse what does not hold each datum once, as many as evaluation.json speaks of, with their mean.

    Raises:
        VemError: it was cut off between two lines, or is of another measurement.
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
    whole = not path.exists() or zipfile.is_zipfile(path)
    return "" if whole else f"{path} is damaged: its end is missing, so the run shows no pictures."
