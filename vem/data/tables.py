"""Reading a user's own arrays: .npy, .npz and .csv."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from vem.errors import VemError, did_you_mean
from vem.records import SPLITS

SUFFIXES = (".npy", ".npz", ".csv")
HEADERS = {"auto", True, False}

Array = npt.NDArray[Any]


def read_table(path: Path, label_column: str | int | None, header: str | bool) -> dict[str, Array]:
    """The arrays of a file by name: x and perhaps labels, or train, valid, test and perhaps x_labels.

    Raises:
        VemError: the file is missing, of another kind, damaged, or holds something else than numbers.
    """
    if not path.is_file():
        raise VemError(
            f"data.path={path} is not a file (looked at {path.resolve()}). Give the path of a .npy, .npz or .csv."
        )
    suffix = path.suffix.lower()
    if suffix not in SUFFIXES:
        raise VemError(
            f"data.path={path}: {suffix or 'no suffix'} is not a kind that vem reads. Save it as .npy, .npz or .csv."
        )
    if suffix == ".csv":
        return _csv(path, label_column, header)
    if label_column is not None or header != "auto":
        raise VemError(
            f"data.label_column and data.header are for .csv files, and data.path={path} is not one: "
            "leave them out; the labels of an .npz stand under the key 'labels'."
        )
    try:
        with path.open("rb") as file:
            content = np.load(file, allow_pickle=False)
            arrays = {"x": content} if isinstance(content, np.ndarray) else {k: content[k] for k in content.files}
    except Exception as error:  # numpy passes on whatever zipfile, zlib and pickle meet in damaged bytes
        raise _unreadable(path, error) from error
    return arrays if suffix == ".npy" else _known_keys(path, arrays)


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


def _csv(path: Path, label_column: str | int | None, header: str | bool) -> dict[str, Array]:
    """A table of numbers, with or without a line of names; one column may be labels, of numbers or text."""
    import pandas as pd  # here, because pandas takes half a second to import

    if header not in HEADERS:
        raise VemError(f"data.header={header!r} is not known. Choose one of: auto, true, false.")
    try:
        named = _has_names(path) if header == "auto" else bool(header)
        table = pd.read_csv(path, header=0 if named else None, skipinitialspace=True, low_memory=False)
        table.columns = [str(name) if named else str(i) for i, name in enumerate(table.columns, 1)]
    except (ValueError, OSError) as error:  # pandas' ParserError and EmptyDataError are ValueErrors
        raise _unreadable(path, error) from error
    if not isinstance(table.index, pd.RangeIndex):  # pandas takes a cell without a name for a row's name
        raise VemError(
            f"data.path={path}: its lines have more cells than line 1 has names. Name every column, or drop the "
            "column of row names."
        )
    arrays = {}
    if label_column is not None:
        label_column, names = str(label_column), list(table.columns)
        if label_column not in names:
            listed = ", ".join(names[:20]) + (" …" if len(names) > 20 else "")
            unnamed = "" if named else " (numbers: the file has no line of names)"
            raise VemError(
                f"data.label_column={label_column!r} is not a column of data.path={path}"
                f"{did_you_mean(label_column, names)} Its columns: {listed}{unnamed}."
            )
        arrays["labels"] = table.pop(label_column).to_numpy()
    for name in table.columns:
        column = table[name]
        if not pd.api.types.is_numeric_dtype(column):
            text = pd.to_numeric(column, errors="coerce").isna() & column.notna()
            row = int(text.to_numpy().argmax())
            raise VemError(
                f"data.path={path}: line {row + 1 + named}, column {name}, holds {column.iloc[row]!r}, "
                "not a number. Remove or encode the column, or name it with data.label_column if it "
                "holds the labels."
            )
    # Named, because numpy would make a table with a column of true and false one of objects.
    return {"x": table.to_numpy(dtype=np.float64), **arrays}


def _has_names(path: Path) -> bool:
    """Whether the first line names the columns: no cell of it is a number."""
    with path.open(encoding="utf-8-sig") as file:
        cells = file.readline().strip().split(",")
    numbers = [_is_number(cell) for cell in cells]
    if any(numbers) and not all(numbers):
        odd = cells[numbers.index(False)]
        raise VemError(
            f"data.path={path}: line 1, column {numbers.index(False) + 1}, holds {odd!r} among numbers. "
            "Say with data.header=true that line 1 names the columns, or mend the cell."
        )
    return not any(numbers)


def _is_number(cell: str) -> bool:
    try:
        float(cell)
    except ValueError:
        return not cell.strip()  # an empty cell is a missing number, not a name
    return True


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
