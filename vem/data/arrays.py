"""Reading a user's own file: .npy and .npz here, other kinds by the modules that know them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from vem.data.containers import FEATHER, PARQUET, read_annotated, read_frame, read_matlab, read_sparse
from vem.data.reading import OF_ARRAYS, Array, Wishes, pick, unreadable
from vem.data.rounding import tell_apart
from vem.data.text import is_text, read_text
from vem.errors import VemError

SUFFIXES = (".npy", ".npz")


def read_table(path: Path, wishes: Wishes) -> tuple[dict[str, Array], tuple[str, ...]]:
    """The arrays of a file by name, and what to say about how they were read.

    The names are x and perhaps labels, or train, valid, test and perhaps x_labels.

    Raises:
        VemError: the file is missing, of another kind, damaged, or holds something else than numbers.
    """
    if not path.is_file():
        raise VemError(
            f"data.path={path} is not a file (looked at {path.resolve()}). Give the path of a .npy, .npz or .csv."
        )
    if is_text(path):
        return read_text(path, wishes)
    suffix = path.suffix.lower()
    if suffix in (*PARQUET, *FEATHER):
        return read_frame(path, wishes)
    if suffix == ".mat":
        return read_matlab(path, wishes), ()
    if suffix == ".h5ad":
        return read_annotated(path, wishes), ()
    if suffix not in SUFFIXES:
        raise VemError(
            f"data.path={path}: {suffix or 'no suffix'} is not a kind that vem reads. Save it as .npy, .npz or .csv; "
            "vem also reads .tsv, .txt, .parquet, .feather, .mat and .h5ad."
        )
    wishes.none_but(OF_ARRAYS if suffix == ".npz" else (), path)
    try:
        with path.open("rb") as file:
            content = np.load(file, allow_pickle=False)
            if isinstance(content, np.ndarray):
                return {"x": content}, ()
            if {"format", "shape", "data"} <= set(content.files):  # of scipy.sparse.save_npz
                return read_sparse(path, wishes), ()
            arrays = {key: _of_plain_kind(content, key) for key in content.files}
    except VemError:
        raise
    except Exception as error:  # numpy passes on whatever zipfile, zlib and pickle meet in damaged bytes
        raise _not_read(path, error) from error
    picked = pick({key: () if values is None else values.shape for key, values in arrays.items()}, wishes, path)
    found = {}
    for role, key in picked.items():
        values = arrays[key]
        if values is None:
            kind = "str) if they are text" if role.endswith("labels") else "float)"
            raise VemError(
                f"data.path={path}: {key} holds Python objects, and reading them could run code. Save it again with "
                f"{key}=np.asarray({key}, dtype={kind}."
            )
        found[role] = values
    return found, ()


def _of_plain_kind(content: Any, key: str) -> Array | None:
    """An array of an .npz; None if it is one of objects, which is an obstacle only where it is asked for."""
    try:
        return np.asarray(content[key])
    except ValueError as error:
        if "Object arrays" not in str(error):
            raise
        return None


def _not_read(path: Path, error: Exception) -> VemError:
    if "Object arrays" in str(error):
        return VemError(
            f"data.path={path} holds objects, not numbers, and reading them could run code. Save it again "
            "from an array of numbers: np.save(path, np.asarray(values, dtype=np.float32))."
        )
    # numpy takes bytes that it does not know for a pickle, and says how to run it
    return unreadable(path, "it is not a NumPy file" if "pickle" in str(error) else error)


def numbers(values: Array, place: str, single: bool = False) -> Tensor:
    """Data as float32 where that holds every number of their type, else as float64; ``single``: as float32.

    Raises:
        VemError: they are not finite real numbers, or not [N, D] or [N, height, width], or whole numbers so large
            that float64 cannot tell them apart.
    """
    if values.dtype.kind not in "buif":
        raise VemError(f"{place} holds {values.dtype}, not real numbers: save it as float32 or float64.")
    if values.ndim not in (2, 3):
        raise VemError(
            f"{place} has shape {values.shape}; vem takes [N, D] or [N, height, width]. "
            "Reshape it: x.reshape(len(x), -1) gives one row per datum."
        )
    wide = not single and not np.can_cast(values.dtype, np.float32)
    with np.errstate(over="ignore"):  # what is beyond the type becomes infinite, and is refused below
        # Of any byte order; torch reads only the machine's own.
        x = torch.from_numpy(values.astype(np.float64 if wide else np.float32))
    # Here, because after the split a row's number would not be that in the file.
    bad = ~torch.isfinite(x).flatten(1).all(1)
    if bad.any():
        raise VemError(
            f"{place}: {int(bad.sum())} of {len(x)} rows hold NaN, infinite or missing values, the first is "
            f"row {int(bad.nonzero()[0])} (counted from 0). Remove or impute them."
        )
    if wide and values.dtype.kind in "iu":
        for column, whole in enumerate(values.reshape(len(values), -1).T, 1):
            tell_apart(whole, f"{place}: column {column}")
    return x
