"""Whether the first row of a table names the columns or is a datum, and whether its first column names the rows."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise, takewhile
from typing import TYPE_CHECKING, Literal

import numpy as np

from vem.data.columns import as_numbers
from vem.data.text_layout import TRUTH, Layout
from vem.data.text_rows import rows
from vem.errors import VemError

if TYPE_CHECKING:
    import pandas as pd

MISSING = {"na", "nan", "n/a", "#n/a", "null", "none", "?"}  # among numbers they are no names


def names_above(layout: Layout) -> list[str] | None:
    """The names in a comment that is the file's first line and stands just above the first row of numbers.

    So numpy.savetxt writes them, and such a line was always read as names.
    """
    header = layout.wishes.header
    data = any(layout.is_number(cell) or cell.lower() in TRUTH for cell in layout.rows[0].cells)
    if header is False or layout.comment is None or not data:
        return None
    above = next(rows(layout.comment.lstrip("#% \t"), layout.separator), None)
    if above is None or len(above.cells) != layout.width:
        return None
    return None if header == "auto" and any(map(layout.is_number, above.cells)) else above.cells


def first_row(layout: Layout) -> Literal["names", "data"] | list[float]:
    """What the first row holds; numbers may be names all the same, and are given to :func:`judge`.

    An empty first cell, which stands above row names, is not among them. A number in quotes is a name above cells
    that are not quoted. VemError if it holds names and numbers, and no option says what it is.
    """
    wishes = layout.wishes
    if wishes.header != "auto":
        return "names" if wishes.header else "data"
    if layout.one_fewer:
        return "names"
    first = layout.rows[0]
    numbers: list[int] = []
    names: list[int] = []
    empty: list[int] = []
    for j, cell in enumerate(first.cells):
        below = [row for row in layout.rows[1:] if row.cells[j]]
        name = first.quoted[j] and not all(row.quoted[j] for row in below)
        truth = cell.lower() in TRUTH and bool(below) and all(row.cells[j].lower() in TRUTH for row in below)
        (numbers if truth or (layout.is_number(cell) and not name) else names if cell else empty).append(j)
    if not numbers:
        return "names" if names else "data"
    missing = [j for j in names if first.cells[j].lower() in MISSING]
    odd = [j for j in names if j not in missing and str(j + 1) not in _apart(layout)]
    if odd:
        j = odd[0]
        raise VemError(
            f"data.path={layout.path}: line {first.line}, column {j + 1}, holds {first.cells[j]!r} among numbers "
            f"({layout.line_1!r}). If this line names the columns, say data.header=true. If it is a datum, say "
            f"data.header=false, and data.label_column={j + 1} if that column holds the labels (data.drop=[{j + 1}] if "
            "it is to be left out); or mend the cell."
        )
    inside = [j for j in empty if 0 < j < max(numbers)]
    if missing or inside or (any(first.quoted[j] for j in numbers) and first.cells[0]):
        return "data"
    values = [layout.number(first.cells[j]) for j in numbers]
    return "data" if None in values else [value for value in values if value is not None]


def _apart(layout: Layout) -> set[str]:
    """The columns that are asked for as labels, or to be left out."""
    drop = layout.wishes.drop
    return {str(one) for one in (layout.wishes.label_column, *([drop] if isinstance(drop, str | int) else drop or ()))}


def judge(numbers: Sequence[float], whole: bool) -> Literal["names", "data", "asked"]:
    """Whether a first row of numbers names the columns, which are ``whole`` if all cells below it are whole numbers.

    >>> judge([2019, 2020, 2021], whole=False), judge([2019, 2020, 2021], whole=True), judge([0, 1, 2], whole=True)
    ('names', 'data', 'asked')
    """
    num = len(numbers)
    if not np.all(np.isfinite(numbers)):
        return "data"
    steps = np.diff(numbers)
    from_0, from_1 = list(numbers) == list(range(num)), list(numbers) == list(range(1, num + 1))
    if not whole:
        # Names such as 0.1, 0.2, 0.30000000000000004 differ by a constant up to rounding.
        if num >= 3 and steps[0] != 0 and np.all(np.abs(steps - steps[0]) <= 1e-6 * abs(steps[0])):
            return "names"
        if num <= 2 and from_0:
            return "asked"
    elif (from_0 or from_1) and num >= 2:
        return "names" if num >= 6 else "asked"
    return "asked" if num >= 5 and all(a < b for a, b in pairwise(numbers)) else "data"


def all_whole(table: pd.DataFrame, decimal: str) -> bool:
    """Whether every cell that is not missing is a whole number."""
    for j in range(table.shape[1]):
        column = as_numbers(table.iloc[:, j], decimal)
        if column is None:
            return False
        values = column.to_numpy(np.float64)
        if not np.all((values == np.floor(values)) | np.isnan(values)):
            return False
    return True


def row_names(layout: Layout, names: Sequence[str], table: pd.DataFrame, too_few: bool) -> tuple[int, str | None]:
    """How many columns from the first on name the rows, and what to say about it.

    They have no name, or there is one name too few: so R's write.csv and write.table, and pandas, write row names.
    VemError if their values repeat, or the one cell too many is no row name for sure.
    """
    wishes, first_line = layout.wishes, layout.rows[0].line
    more_cells = (
        f"data.path={layout.path}: its lines have more cells than line {first_line} has names, "
        f"{layout.line_1!r} above {', '.join(layout.rows[1].cells[:9])!r}."
        if too_few
        else ""
    )
    if wishes.row_names != "auto":
        if too_few and not wishes.row_names:
            raise VemError(f"{more_cells} Name every column, or leave the first out with data.row_names=true.")
        return int(bool(wishes.row_names)), None
    num = len(list(takewhile(lambda name: not name, names)))
    asked_for = _apart(layout)
    settled = "Unnamed: 0" in asked_for or ("1" in asked_for and "1" not in names)
    if num == 0 or num == len(names) or settled or wishes.columns is not None:
        return 0, None
    first = table.iloc[:, :num]
    if too_few and layout.separator not in ("\t", " "):
        quoted = all(row.quoted[0] for row in layout.rows[1:])
        if not quoted and all_whole(first, layout.decimal):
            decimal = all(row.cells[1].isdecimal() for row in layout.rows[1:]) and layout.width == 2
            comma = "if the comma is the decimal sign, say data.decimal=comma; " if decimal else ""
            raise VemError(
                f"{more_cells} What is meant: {comma}if the first cells name the rows, say data.row_names=true; "
                "else name every column."
            )
    again = first.duplicated()
    if again.any():
        value = first[again].iloc[0, 0]
        raise VemError(
            f"data.path={layout.path}: the first column has no name (line {first_line}: {layout.line_1!r}), "
            f"and {str(value)!r} stands in it twice, so it may be data or row names. Say data.row_names=true to leave "
            "it out, data.row_names=false to keep it."
        )
    what = "the first column has no name" if num == 1 else f"the first {num} columns have no names"
    return num, (
        f"data.path={layout.path}: {what}, and no two values are equal: row names, left out "
        "(data.row_names=false keeps them)."
    )
