"""Reading a table written as text: .csv."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from vem.data.wishes import Wishes
from vem.errors import VemError, did_you_mean

HEADERS = {"auto", True, False}

Array = npt.NDArray[Any]


def read_text(path: Path, wishes: Wishes) -> tuple[dict[str, Array], tuple[str, ...]]:
    """A table of numbers, with or without a line of names; one column may be labels, of numbers or text.

    The arrays are x [N, D] (float64) and perhaps labels [N]; beside them is what to say about the reading.

    Raises:
        VemError: the file cannot be read, or holds something else than numbers; the message names the line.
    """
    import pandas as pd  # here, because pandas takes half a second to import

    label_column, header = wishes.label_column, wishes.header
    if header not in HEADERS:
        raise VemError(f"data.header={header!r} is not known. Choose one of: auto, true, false.")
    try:
        named = _has_names(path) if header == "auto" else bool(header)
        table = pd.read_csv(path, header=0 if named else None, skipinitialspace=True, low_memory=False)
        table.columns = [str(name) if named else str(i) for i, name in enumerate(table.columns, 1)]
    except (ValueError, OSError) as error:  # pandas' ParserError and EmptyDataError are ValueErrors
        reason = " ".join(str(error).split()) or type(error).__name__  # one line, whatever the library says
        raise VemError(f"data.path={path} cannot be read ({reason}): is it whole? Save it again.") from error
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
    return {"x": table.to_numpy(dtype=np.float64), **arrays}, ()


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
