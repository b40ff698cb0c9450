"""The larger files of a run directory: its record, its rows, its arrays. A damaged one is an error of its own."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path

import numpy as np
import pandas as pd

from vem.errors import VemError
from vem.storage.records import METRICS, PER_DATUM, PICTURES

CURVE = ("epoch", "seconds", "elbo")
COUNTED = ("step", "decoder_evaluations", "decoder_gradients")  # that older records may lack


def read_per_datum(directory: Path, columns: Sequence[str] | None = None) -> pd.DataFrame:
    """The rows of per_datum.csv: split, and numbers; no rows where there is no such file.

    ``columns``: only these, as far as the file has them.

    Raises:
        VemError: the file is damaged.
    """
    path = directory / PER_DATUM
    if not path.exists():
        return pd.DataFrame(columns=["split"])
    table = _read_csv(path, "measure the run again: python -m vem.evaluate DIR --again", columns)
    return table if "split" in table else pd.DataFrame(columns=["split"])


def read_metrics(directory: Path) -> pd.DataFrame:
    """The finite ELBO records of a run: epoch, seconds, split, elbo, and step, decoder_evaluations,
    decoder_gradients where it has them; no rows where there are none.

    Raises:
        VemError: metrics.csv is damaged, lacks a column or is not a table.
    """
    path = directory / METRICS
    if not path.exists():
        return pd.DataFrame(columns=[*CURVE, "split"])
    found = path.stat()
    return _metrics(path, found.st_mtime_ns, found.st_size).copy()


@lru_cache(maxsize=2048)  # the report and its figures read each of them; a watch reads them again and again
def _metrics(path: Path, changed: int, size: int) -> pd.DataFrame:
    table = _read_csv(path, "its curve is lost; the same command in an empty folder makes it again", None)
    missing = {*CURVE, "split"} - set(table.columns)
    if missing:
        if table.empty and not len(table.columns):
            return pd.DataFrame(columns=[*CURVE, "split"])
        raise VemError(f"{path} is not a run's record: it has no {' and no '.join(sorted(missing))}.")
    for name in (*CURVE, *(c for c in COUNTED if c in table)):
        if table[name].dtype.kind not in "fi":
            table[name] = pd.to_numeric(table[name], errors="coerce")
    finite = np.isfinite(table[list(CURVE)].to_numpy(dtype=float)).all(axis=1)
    epochs, splits = table["epoch"].to_numpy(), table["split"].to_numpy()
    # The last record of an epoch; by hand, for pandas takes longer to sort sixty rows than to read them.
    last = {(str(splits[i]), float(epochs[i])): i for i in np.flatnonzero(finite)}
    return table.iloc[np.array([last[place] for place in sorted(last)], dtype=int)]


def _read_csv(path: Path, remedy: str, columns: Sequence[str] | None) -> pd.DataFrame:
    try:
        if _cut(path):
            raise VemError(f"{path} is damaged: its last line is cut off; {remedy}.")
        wanted = None if columns is None else frozenset(columns)
        return pd.read_csv(path, usecols=None if wanted is None else lambda name: name in wanted)
    except pd.errors.EmptyDataError:
        return pd.DataFrame()
    except (OSError, ValueError) as error:
        reason = " ".join(str(error).split())
        raise VemError(f"{path} is damaged ({reason}); {remedy}.") from None


def _cut(path: Path) -> bool:
    """Whether the file ends within a line: its last number may then be a part of one."""
    with open(path, "rb") as file:
        if file.seek(0, 2) == 0:
            return False
        file.seek(-1, 2)
        return file.read(1) != b"\n"


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
