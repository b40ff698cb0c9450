"""From a table with named columns to arrays: which columns are data, which is the labels, and numbers in each."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from vem.data.reading import Array, Arrays, Names, Wishes, listed
from vem.data.rounding import tell_apart
from vem.errors import VemError, choice, did_you_mean

if TYPE_CHECKING:
    import pandas as pd

CATEGORIES = ("refuse", "onehot")
UNKNOWN = "?"  # a missing cell, beside what pandas takes for one: an empty cell, NA, NaN, null and so on


@dataclass(frozen=True)
class Source:
    """Where a table comes from: how messages name its rows, and how what is left as text is read."""

    path: Path
    place: Callable[[int], str]  # where a row stands in the file: "line 7"
    decimal: str = "."  # the sign in what is left as text
    hint: Callable[[str], str] = lambda text: ""  # what else a cell that is no number may be


def arrays_of(
    table: pd.DataFrame, wishes: Wishes, source: Source, left_out: Collection[int] = (), named: bool = True
) -> Arrays:
    """x [N, D] (float64) and perhaps labels [N] of a table whose columns have distinct names, and what to say of it.

    The columns numbered ``left_out`` (from 0) are data only where they are asked for. Without ``named`` the names are
    the numbers of the columns. VemError, with row and column, where they hold something else than finite numbers.
    """
    import pandas as pd  # here, because pandas takes half a second to import

    path, place = source.path, source.place
    choice(wishes.categories, CATEGORIES, "data.categories")
    names = [str(name) for name in table.columns]
    label, kept = chosen(names, wishes, path, left_out, named)
    arrays = {}
    if label is not None:
        labels = table.iloc[:, label]
        missing = labels.isna().to_numpy(dtype=bool)
        if missing.any():
            raise VemError(
                f"data.path={path}: {int(missing.sum())} of {len(labels)} labels are missing, the first in "
                f"{place(int(missing.argmax()))}, column {labels.name}. Name a class for them, or leave the labels out."
            )
        arrays["labels"] = labels.to_numpy()
    frame = table if kept == list(range(len(names))) else table.iloc[:, kept]
    origin, notes = kept, list[str]()  # origin: the column that each of the frame's comes from
    if not all(map(pd.api.types.is_numeric_dtype, frame.dtypes)):
        parts: list[Any] = []
        origin = []
        for j in kept:
            column = as_numbers(table.iloc[:, j], source.decimal)
            if column is not None:
                parts.append(column)
            else:
                levels = _levels(table.iloc[:, j], names, j, wishes, source)
                parts += [table.iloc[:, j] == level for level in levels]
                notes.append(f"data.path={path}: column {names[j]} is {len(levels)} of 0 and 1: {', '.join(levels)}.")
            origin += [j] * (len(parts) - len(origin))
        frame = pd.concat(parts, axis=1)
    # Named, because numpy would make a table with a column of true and false one of objects.
    x = frame.to_numpy(np.float64)
    bad = ~np.isfinite(x)
    if bad.any():
        rows = bad.any(axis=1)
        row = int(rows.argmax())
        j = origin[int(bad[row].argmax())]
        raise VemError(
            f"data.path={path}: {int(rows.sum())} of {len(x)} rows hold NaN, infinite or missing values, the first in "
            f"{place(row)}, column {names[j]}. Remove or impute them, or leave the column out: "
            f"data.drop=[{typed(names, j)}]."
        )
    if x.size and max(x.max(), -x.min()) > 2**53:
        for j in kept:
            if table.dtypes.iloc[j].kind in "iu":
                tell_apart(table.iloc[:, j].to_numpy(), f"data.path={path}: column {names[j]}")
    return {"x": x, **arrays}, tuple(notes)


def chosen(
    names: Sequence[str], wishes: Wishes, path: Path, left_out: Collection[int] = (), named: bool = True
) -> tuple[int | None, list[int]]:
    """The columns of the labels and of the data, numbered from 0; they are asked for by name, or by number from 1.

    The data are ``wishes.columns`` in that order, else every column, less the labels and ``wishes.drop``. VemError if
    one is not there, is named twice, or none is left.
    """

    def numbers(wanted: Names, key: str) -> list[int]:
        asked = [wanted] if isinstance(wanted, str | int) else list(wanted or ())
        found = []
        for name in map(str, asked):
            if name not in names and not (name.isdecimal() and 1 <= int(name) <= len(names)):
                unnamed = "" if named else " (numbers: the file has no line of names)"
                raise VemError(
                    f"data.{key}={name!r} is not a column of data.path={path}{did_you_mean(name, names)} Its columns: "
                    f"{listed(names)}{unnamed}."
                )
            found.append(names.index(name) if name in names else int(name) - 1)
        if len(set(found)) < len(found):
            raise VemError(f"data.{key}={asked} names a column twice: name each once.")
        return found

    label = numbers(wishes.label_column, "label_column")
    drop = {*label, *numbers(wishes.drop, "drop")}
    columns = numbers(wishes.columns, "columns")
    kept = [j for j in columns or range(len(names)) if j not in drop and (columns or j not in left_out)]
    if not kept:
        raise VemError(
            f"data.path={path}: no column is left for x (of {listed(names)}). Change data.columns, data.drop or "
            "data.label_column."
        )
    return label[0] if label else None, kept


def typed(names: Sequence[str], j: int) -> str:
    """What to write for a column in a list of columns: its number, unless another column has that for a name.

    >>> typed(["a (cm)", "b"], 0), typed(["0", "1", "2"], 0)
    ('1', '0')
    """
    return names[j] if str(j + 1) in names else str(j + 1)


def as_numbers(column: pd.Series[Any], decimal: str = ".") -> pd.Series[Any] | None:
    """The column as numbers, NaN where a cell is missing; None if a cell holds text."""
    import pandas as pd

    if pd.api.types.is_numeric_dtype(column):
        return column
    numbers = _cell_by_cell(column, decimal)  # integers beyond 64 bits, true and false beside missing cells
    return None if (numbers.isna() & column.notna()).any() else numbers


def _cell_by_cell(column: pd.Series[Any], decimal: str) -> pd.Series[Any]:
    """The number in each cell, NaN where there is none: beside decimal commas, a point may mark thousands."""
    import pandas as pd

    if decimal == ",":
        column = column.map(
            lambda cell: ("" if "." in cell else cell.replace(",", ".")) if isinstance(cell, str) else cell
        )
    return pd.to_numeric(column, errors="coerce")


def _levels(column: pd.Series[Any], names: Sequence[str], j: int, wishes: Wishes, source: Source) -> list[str]:
    """The different texts of a column, in alphabetical order, if each shall become a column of 0 and 1.

    Refused where it shall not, a cell is missing, there is a number among the texts, or no two are equal.
    """
    missing = (column.isna() | (column.astype(str).str.strip() == UNKNOWN)).to_numpy(dtype=bool)
    number = ~missing & _cell_by_cell(column, source.decimal).notna().to_numpy(dtype=bool)
    text = ~missing & ~number
    hints = source.hint(str(column.iloc[int(text.argmax())])) if text.any() else ""
    drop = f"leave the column out: data.drop=[{typed(names, j)}]"

    def says(rows: Array) -> str:
        row = int(rows.argmax())
        return f"data.path={source.path}: {source.place(row)}, column {names[j]}, holds {column.iloc[row]!r}"

    if missing.any() and (number.any() or wishes.categories == "onehot") and not (number.any() and text.any()):
        raise VemError(
            f"{says(missing)}, a missing value. Remove or impute such cells (the column has "
            f"{int(missing.sum())}), or {drop}."
        )
    if number.any() or not text.any():
        line = ", take the line out if it holds units or more names" if text[0] and text.sum() == 1 else ""
        raise VemError(f"{says(text)}, not a number. Mend the cell{line}, or {drop}.{hints}")
    if wishes.categories != "onehot":
        raise VemError(
            f"{says(text)}, not a number. Name the column with data.label_column if it holds the labels, encode "
            f"it with data.categories=onehot, or {drop}.{hints}"
        )
    levels = sorted(set(column.astype(str)))
    if len(levels) == len(column) > 2:
        raise VemError(
            f"{says(text)}, and no two of its {len(levels)} texts are equal: it is no category. Just {drop}."
        )
    return levels
