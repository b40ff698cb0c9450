"""Reading a table written as text: .csv, .tsv, .txt and the like, packed with gzip or not."""

from __future__ import annotations

import re
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from vem.data.columns import Source, arrays_of, as_numbers
from vem.data.reading import Arrays, Wishes
from vem.data.text_layout import DECIMAL_COMMA, THOUSANDS, TRUTH, Layout, find_layout, unlike
from vem.data.text_names import all_whole, first_row, judge, names_above, row_names
from vem.data.text_rows import NOTHING, Row, opened, rows
from vem.errors import VemError

if TYPE_CHECKING:
    import pandas as pd

SUFFIXES = (".csv", ".tsv", ".txt", ".data", ".dat")


def is_text(path: Path) -> bool:
    """Whether a file is a table written as text, by its name.

    >>> is_text(Path("a.CSV")), is_text(Path("a.tsv.gz")), is_text(Path("a.npy"))
    (True, True, False)
    """
    return path.name.lower().removesuffix(".gz").endswith(SUFFIXES)


def read_text(path: Path, wishes: Wishes) -> Arrays:
    """A table of numbers, with or without a line of names; one column may be labels, of numbers or text.

    The arrays are x [N, D] (float64) and perhaps labels [N]; beside them is what to say about the reading.

    Raises:
        VemError: the file cannot be read, can be read in several ways, or holds something else than numbers; the
            message names the line, and the options that settle it.
    """
    for key in ("header", "row_names"):
        if getattr(wishes, key) not in ("auto", True, False):
            raise VemError(f"data.{key}={getattr(wishes, key)!r} is not known. Choose one of: auto, true, false.")
    layout = find_layout(path, wishes)
    notes = []
    if layout.decimal == "," and wishes.decimal == "auto":
        notes.append(f"data.path={path}: the comma is the decimal sign (data.decimal=point says otherwise).")
    given, skipped, table = _names_and_body(layout, notes)
    if layout.misfit and as_numbers(table.iloc[:, 0], layout.decimal) is None:
        raise VemError(
            f"data.path={path} cannot be read: no separator gives every line the same number of cells: "
            f"{layout.misfit}. Line {layout.rows[0].line}: {layout.line_1!r}. Mend the lines, or say data.separator."
        )
    if blank := _blank_end(layout, table):
        table = table.iloc[:-blank]
        notes.append(f"data.path={path}: lines at the end that hold separators only are left out ({blank}).")
    width = table.shape[1] - _trailing(layout, given or [], table)
    table = table.iloc[:, :width]
    left_out = int(wishes.row_names is True)
    if given is None:
        names = [str(j + 1) for j in range(width)]
    else:
        too_few = len(given) < width
        names = ["", *given] if too_few else given[:width]
        left_out, said = row_names(layout, names, table, too_few)
        notes += [said] if said else []
    table = table.set_axis(_distinct(names), axis=1)
    source = Source(path, lambda row: _place(layout, row + skipped), layout.decimal, lambda cell: _hint(layout, cell))
    arrays, more = arrays_of(table, wishes, source, range(left_out), given is not None)
    return arrays, (*notes, *more)


def _names_and_body(layout: Layout, notes: list[str]) -> tuple[list[str] | None, int, pd.DataFrame]:
    """The names, how many rows stand above the data, and these; ``notes`` gets what to say about it.

    Asked where the first row may be names or a datum.
    """
    first = layout.rows[0]
    where = f"data.path={layout.path}: line {first.line}, {layout.line_1!r},"
    above = names_above(layout)
    if above is not None:
        return above, 0, _body(layout, 0)
    found = first_row(layout)
    if found == "data":
        quoted = all(quoted or not cell for cell, quoted in zip(first.cells, first.quoted, strict=True))
        # Only said where such a row used to be read as names.
        if layout.wishes.header == "auto" and (quoted or all(cell.lower() in TRUTH for cell in first.cells)):
            kind = "quoted numbers" if quoted else "true and false"
            notes.append(f"{where} holds {kind}, as the lines below it: a datum (data.header=true makes it names).")
        return None, 0, _body(layout, 0)
    below = _body(layout, 1)
    if found == "names":
        return first.cells, 1, below
    nameless = 0 if first.cells[0] else len(first.cells) - len(found)
    verdict = judge(found, all_whole(below.iloc[:, nameless:], layout.decimal)) if len(below) else "data"
    if verdict == "names":
        notes.append(f"{where} names the columns, as far as numbers tell (data.header=false makes it a datum).")
        return first.cells, 1, below
    # As a datum it would lack its first cell, and to leave that column out would make the names a datum.
    if verdict == "asked" or not first.cells[0]:
        missing, beside = ("", "") if first.cells[0] else (" whose first cell is missing", " data.drop=[1]")
        raise VemError(
            f"{where} may name the columns or be a datum{missing}. "
            f"Say data.header=true if it names them, data.header=false{beside} if it is a datum."
        )
    return None, 0, _body(layout, 0)


def _body(layout: Layout, first: int) -> pd.DataFrame:
    """The rows from this one on, by pandas' C reader; a line with too many cells is named."""
    import pandas as pd  # here, because pandas takes half a second to import

    if first == len(layout.rows):
        return pd.DataFrame(np.empty((0, layout.width)))
    try:
        with opened(layout.path, layout.encoding) as stream:
            stream.read(layout.start + layout.rows[first].start)
            return pd.read_csv(
                stream,
                header=None,
                sep=r"\s+" if layout.separator == " " else layout.separator,
                decimal=layout.decimal,
                thousands=layout.thousands,
                skipinitialspace=True,
                low_memory=False,
            )
    except VemError:
        _refuse_ragged(layout)
        raise


def _trailing(layout: Layout, names: list[str], table: pd.DataFrame) -> int:
    """The number of columns that come from separators at the end of every line."""
    below = layout.rows[1:] if names else layout.rows
    for num, j in enumerate(reversed(range(1, layout.width))):
        empty = all(not row.cells[j] and not row.quoted[j] for row in below) and table.iloc[:, j].isna().all()
        if not empty or (j < len(names) and names[j]):
            return num
    return layout.width - 1


def _blank_end(layout: Layout, table: pd.DataFrame) -> int:
    """The number of rows at the end that hold separators only, as spreadsheets write lines without cells."""
    if not len(table) or not table.iloc[-1].isna().all():
        return 0
    written = [any(row.cells) or any(row.quoted) for row in _rows(layout)]
    return written[::-1].index(True) if any(written) else len(table)


def _distinct(names: list[str]) -> list[str]:
    """The names as pandas has always made them: numbered where they repeat, and where there is none.

    >>> _distinct(["a", "", "a"])
    ['a', 'Unnamed: 1', 'a.1']
    """
    out: dict[str, None] = {}  # in order, and quick to look into
    for j, name in enumerate(names):
        name = fresh = re.sub(r"\s*[\r\n]\s*", " ", name) or f"Unnamed: {j}"
        num = 0
        while fresh in out:
            num += 1
            fresh = f"{name}.{num}"
        out[fresh] = None
    return list(out)


def _rows(layout: Layout) -> Iterator[Row]:
    """All rows of the file, cut by the slow way that knows lines."""
    with opened(layout.path, layout.encoding) as stream:
        stream.read(layout.start)
        text = stream.read()
    return rows(text, layout.separator, layout.rows[0].line)


def _refuse_ragged(layout: Layout) -> None:
    for num, row in enumerate(_rows(layout)):
        if len(row.cells) != layout.width and (num or not layout.one_fewer):
            raise VemError(
                f"data.path={layout.path} cannot be read: {unlike(row, layout.rows[0], layout.separator)}. Mend the "
                "line, or say data.separator."
            )


def _place(layout: Layout, num: int) -> str:
    """Where the row of this number stands; one with too few cells is refused."""
    row = next(islice(_rows(layout), num, None), None)
    if row is None:
        return f"row {num} (counted from 0)"
    if len(row.cells) != layout.width:
        _refuse_ragged(layout)
    return f"line {row.line}"


def _hint(layout: Layout, cell: str) -> str:
    """What else a cell that is no number may be."""
    if layout.decimal == "," and layout.is_number(cell):
        marks = ", and a point may mark thousands: save the numbers without such marks" if "." in cell else ""
        return f" The comma is the decimal sign here{marks}; data.decimal=point says otherwise."
    if layout.separator == "," and layout.decimal == ".":
        sign = "data.separator=comma data.decimal=comma if the comma in it is the decimal sign"
        ways = [sign] if re.fullmatch(DECIMAL_COMMA, cell) else []
        ways += ["data.decimal=point if commas mark thousands"] if re.fullmatch(THOUSANDS, cell) else []
        if ways:
            return f" Say {', or '.join(ways)}."
    parts = re.split(r"[,;:|\s]+", cell)
    if len(parts) > 1 and any(map(layout.is_number, parts)):
        return " If something in it separates cells or decimals, say data.separator or data.decimal."
    if layout.separator == NOTHING and re.search(r"[^\w\s]", cell):
        return " If something in it separates cells, say data.separator."
    return ""
