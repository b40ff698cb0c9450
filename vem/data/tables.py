"""Reading a user's own arrays: .npy, .npz and .csv."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from vem.data.text import is_text, read_text
from vem.data.wishes import Wishes
from vem.errors import VemError
from vem.records import SPLITS

SUFFIXES = (".npy", ".npz")

Array = npt.NDArray[Any]


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
    if suffix not in SUFFIXES:
        raise VemError(
            f"data.path={path}: {suffix or 'no suffix'} is not a kind that vem reads. Save it as .npy, .npz or .csv."
        )
    wishes.none_but((), path)
    try:
        with path.open("rb") as file:
            content = np.load(file, allow_pickle=False)
            arrays = {"x": content} if isinstance(content, np.ndarray) else {k: content[k] for k in content.files}
    except Exception as error:  # numpy passes on whatever zipfile, zlib and pickle meet in damaged bytes
        raise _unreadable(path, error) from error
    return (arrays if suffix == ".npy" else _known_keys(path, arrays)), ()


def _unreadable(path: Path, error: Exception) -> VemError:
    if "Object arrays" in str(error):
        return VemError(
            f"data.path={path} holds objects, not numbers, and reading them could run code. Save it again "
            "from an array of numbers: np.save(path, np.asarray(values, dtype=np.float32))."
        )
    reason = " ".join(str(error).split()) or type(error).__name__  # one line, whatever the library says
    if "pickle" in reason:  # numpy takes bytes that it does not know for a pickle, and says how to run it
        reason = "it is not a NumPy file"
    return VemError(f"data.path={path} cannot be read ({reason}): is it whole? Save it again.")


def _known_keys(path: Path, arrays: dict[str, Array]) -> dict[str, Array]:
    one, three = {"x", "labels"}, {*SPLITS, *(f"{name}_labels" for name in SPLITS)}
    found = set(arrays)
    if ("x" in found and found <= one) or (set(SPLITS) <= found <= three):
        return arrays
    raise VemError(
        f"data.path={path} has the keys {', '.join(sorted(found)) or '(none)'}. Save it with x and, if "
        "you have them, labels; or with train, valid and test and, if you have them, train_labels, "
        "valid_labels, test_labels."
    )


def numbers(values: Array, place: str) -> Tensor:
    """Data as float32.

    Raises:
        VemError: they are not finite real numbers, or not [N, D] or [N, height, width].
    """
    if values.dtype.kind not in "buif":
        raise VemError(f"{place} holds {values.dtype}, not real numbers: save it as float32.")
    if values.ndim not in (2, 3):
        raise VemError(
            f"{place} has shape {values.shape}; vem takes [N, D] or [N, height, width]. "
            "Reshape it: x.reshape(len(x), -1) gives one row per datum."
        )
    with np.errstate(over="ignore"):  # what is beyond float32 becomes infinite, and is refused below
        x = torch.from_numpy(values.astype(np.float32))  # of any byte order; torch reads only the machine's own
    # Here, because after the split a row's number would not be that in the file.
    bad = ~torch.isfinite(x).flatten(1).all(1)
    if bad.any():
        raise VemError(
            f"{place}: {int(bad.sum())} of {len(x)} rows hold NaN, infinite or missing values, the first is "
            f"row {int(bad.nonzero()[0])} (counted from 0). Remove or impute them."
        )
    return x


def classes(values: Array, num: int, place: str) -> Tensor:
    """Labels [N] as int64; text is numbered in alphabetical order.

    Raises:
        VemError: there are not ``num`` of them, some are missing, or they are not whole numbers.
    """
    if values.shape != (num,):
        raise VemError(
            f"{place} has shape {values.shape} and x has {num} rows: give one label per row, shape ({num},)."
        )
    missing = [row for row, label in enumerate(values.tolist()) if label != label] if values.dtype.kind == "O" else []
    if missing:
        raise VemError(
            f"{place}: {len(missing)} of {num} labels are missing, the first is that of row {missing[0]} (counted from "
            "0). Name a class for them, or leave the labels out."
        )
    if values.dtype.kind in "OUS":
        return torch.from_numpy(np.unique(values.astype(str), return_inverse=True)[1].astype(np.int64))
    if values.dtype.kind not in "buif" or not np.all(np.isfinite(values) & (values == np.floor(values))):
        raise VemError(f"{place} holds numbers that are not whole: labels are classes. Leave them out or number them.")
    return torch.from_numpy(values.astype(np.int64))
