"""Reading a user's own arrays: .npy, .npz and .csv."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from vem.data.rounding import TOLD
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
        _tell_apart(values.reshape(len(values), -1), place)
    return x


def _tell_apart(values: Array, place: str) -> None:
    """Refuse whole numbers [N, D] beyond 2⁵³ whose differences are lost in float64, as times in nanoseconds are."""
    for column, whole in enumerate(values.T, 1):
        low = whole.min()
        if max(abs(int(low)), abs(int(whole.max()))) <= 2**53:
            continue
        # Differences of whole numbers are exact in unsigned arithmetic, whatever the sign and the range.
        exact = (whole.astype(np.uint64) - np.array(low).astype(np.uint64)).astype(np.float64)
        rounding = whole.astype(np.float64) - float(low) - exact
        if rounding.std() > TOLD * exact.std():
            raise VemError(
                f"{place}: column {column} holds whole numbers near {int(low):.3g}, whose differences (standard "
                f"deviation {exact.std():.3g}) double precision rounds away: subtract its smallest value before saving."
            )
