"""Reading a user's own file: .npy and .npz here, other kinds by the modules that know them."""

from __future__ import annotations

from collections.abc import Callable, Collection
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from vem.data.containers import read_annotated, read_frame
from vem.data.matlab import read_matlab
from vem.data.reading import OF_ARRAYS, OF_TABLES, OF_TEXT, Array, Arrays, Wishes, dense, legible, pick
from vem.data.rounding import tell_apart
from vem.data.text import is_text, read_text
from vem.errors import VemError


def read_table(path: Path, wishes: Wishes) -> Arrays:
    """The arrays of a file by name, and what to say about how they were read.

    The names are x and perhaps labels, or train, valid, test and perhaps train_labels and so on.

    Raises:
        VemError: the file is missing, of another kind, damaged, or holds something else than numbers; an option is
            set that its kind does not have.
    """
    if not path.is_file():
        raise VemError(
            f"data.path={path} is not a file (looked at {path.resolve()}). Give the path of a .npy, .npz or .csv."
        )
    suffix = path.suffix.lower()
    reader, options = READERS.get(suffix, (None, ())) if not is_text(path) else (read_text, (*OF_TABLES, *OF_TEXT))
    if reader is None:
        raise VemError(
            f"data.path={path}: {suffix or 'no suffix'} is not a kind that vem reads. Save it as .npy, .npz or .csv; "
            "vem also reads .tsv, .txt, .parquet, .feather, .mat and .h5ad."
        )
    wishes.none_but(options, path)
    return reader(path, wishes)


def _read_numpy(path: Path, wishes: Wishes) -> Arrays:
    """x of a .npy; of an .npz the arrays that :func:`pick` finds, or a sparse matrix of scipy's."""
    with legible(path), path.open("rb") as file:
        try:
            content = np.load(file, allow_pickle=False)
        except ValueError as error:
            if "Object arrays" in str(error):
                raise _of_objects(path, "x", "float") from error
            # numpy takes bytes that it does not know for a pickle, and says how to run it
            raise ValueError("it is not a NumPy file") if "pickle" in str(error) else error from None
        if isinstance(content, np.ndarray):
            return {"x": content}, ()
        if {"format", "shape", "data"} <= set(content.files):  # of scipy.sparse.save_npz
            return _read_sparse(path, wishes), ()
        arrays = {key: _of_plain_kind(content, key) for key in content.files}
    picked = pick({key: np.shape(values) if values is not None else () for key, values in arrays.items()}, wishes, path)
    found = {}
    for role, key in picked.items():
        values = arrays[key]
        if values is None:
            raise _of_objects(path, key, "str" if role.endswith("labels") else "float")
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


def _of_objects(path: Path, key: str, kind: str) -> VemError:
    return VemError(
        f"data.path={path}: {key} holds Python objects, not numbers, and reading them could run code. Save it again "
        f"from np.asarray({key}, dtype={kind})."
    )


def _read_sparse(path: Path, wishes: Wishes) -> dict[str, Array]:
    """The matrix that scipy.sparse.save_npz wrote, as x."""
    from scipy import sparse  # here, because it costs the other kinds a tenth of a second

    for key in OF_ARRAYS:
        if getattr(wishes, key) is not None:
            raise VemError(
                f"data.{key}={getattr(wishes, key)}: data.path={path} holds one sparse matrix and no other array. To "
                "give labels too, save np.savez(FILE, x=matrix.toarray(), labels=labels), or an .h5ad."
            )
    return {"x": dense(sparse.load_npz(path), path)}


READERS: dict[str, tuple[Callable[[Path, Wishes], Arrays], Collection[str]]] = {
    ".npy": (_read_numpy, ()),
    ".npz": (_read_numpy, OF_ARRAYS),
    ".mat": (read_matlab, OF_ARRAYS),
    ".h5ad": (read_annotated, ("layer", "label_column")),
    **dict.fromkeys((".parquet", ".pq", ".feather", ".arrow"), (read_frame, OF_TABLES)),
}


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
