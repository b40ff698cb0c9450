"""A table of the report: its cells are made once, and written for the terminal, for Markdown or for the page."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import groupby

from vem.report.ends import AT_LEAST, ONE_END
from vem.report.labels import CUT

UNDEFINED = "undefined"
CHECKS_FAILED = "CHECKS FAILED"


def number(value: float, digits: int = 2, plus: bool = False) -> str:
    """A number with thousands set apart and a true minus sign, and where wanted a plus.

    >>> number(-98.4, 2), number(1234567, 0), number(-0.001), number(0.5, plus=True)
    ('−98.40', '1,234,567', '0.00', '+0.50')
    """
    text = f"{round(value, digits) + 0.0:,.{digits}f}".replace("-", "−")  # −0.0 + 0.0 is 0.0
    return f"+{text}" if plus and value > 0 and not text.startswith("−") else text


@dataclass(frozen=True)
class Cell:
    """One cell; the first of a row names it."""

    text: str
    error: str = ""
    value: float | str | None = None  # what it is sorted by
    reason: str = ""  # why it is undefined, in a footnote
    ends: tuple[str, ...] = ()  # its intervals, a line each
    detail: str = ""  # said when it is pointed at
    remarks: tuple[str, ...] = ()  # of the first cell
    failed: str = ""  # of the first cell: the checks that failed
    picture: str = ""  # a data: URI that stands on the page, with the text as its alternative


EMPTY = Cell("–")


@dataclass(frozen=True)
class Column:
    """One column: its title, below the title of its part of the table where it has parts."""

    title: str
    part: str = ""
    numeric: bool = True
    larger_first: bool = False
    sorted: bool = False  # the rows stand by it
    always: bool = False  # also where every cell of it is empty
    brief: str | None = None  # its title on the terminal, "" where it has no room there; None: the same
    pictures: bool = False  # on the page alone
    first: bool = False  # of its part


@dataclass(frozen=True)
class Table:
    """A table as it is shown; the first cell of a row names it."""

    title: str
    columns: tuple[Column, ...]
    rows: tuple[tuple[Cell, ...], ...]
    notes: tuple[str, ...] = ()
    look: str = "further"  # its class in the style sheet
    sortable: bool = False

    @cached_property
    def reasons(self) -> tuple[str, ...]:
        """Why numbers are undefined, each once: the footnotes."""
        return tuple(dict.fromkeys(cell.reason for row in self.rows for cell in row if cell.reason))

    @property
    def parts(self) -> list[tuple[str, int]]:
        """Titles above the columns, and how many each spans; none where no column has a part."""
        spans = [(part, len(list(own))) for part, own in groupby(self.columns, key=lambda column: column.part)]
        return spans if any(part for part, _ in spans) else []

    def note(self, cell: Cell) -> int:
        """The number of the footnote that says why a cell is undefined."""
        return self.reasons.index(cell.reason) + 1

    def plain(self, cell: Cell) -> str:
        """All that a cell says, on one line."""
        failed = [f"{CHECKS_FAILED}: {cell.failed}"] if cell.failed else []
        text = " · ".join([f"{cell.text} {cell.error}".strip(), *cell.remarks, *failed])
        inside = [f"{self.note(cell)}"] if cell.reason else cell.ends
        return f"{text} ({'; '.join(inside)})" if inside else text

    @property
    def remarks(self) -> list[str]:
        """The notes, and what the signs in the cells mean."""
        cells = [cell for row in self.rows for cell in row]
        ends = [end for cell in cells for end in cell.ends]
        intervals = ", with the 95 % interval of a difference or a gap" if ends else ""
        signs = {
            f"± one standard error{intervals}: over seeds or, of one seed, over its data.":
                any(cell.error.startswith("±") for cell in cells),
            ONE_END.capitalize(): any(AT_LEAST in end for end in ends),
            "data: the interval over data, of the mean over these seeds.": any(len(cell.ends) > 1 for cell in cells),
            "≥: log p(x) is known from below alone, so the truth is at least this.":
                any("≥" in cell.text for cell in cells),
            f"{CUT}: further settings of the measurement differ; in full in runs.csv (variant) and evaluation.json.":
                any(CUT in row[0].text for row in self.rows),
        }  # fmt: skip
        return [*self.notes, *(sign for sign, there in signs.items() if there)]

    @property
    def footnotes(self) -> list[str]:
        """The remarks, and why numbers are undefined."""
        return [*self.remarks, *(f"{UNDEFINED} ({i}): {reason}" for i, reason in enumerate(self.reasons, 1))]

    def lines(self) -> list[str]:
        """The table as the terminal has it: of several intervals of a number the first."""
        shown = [i for i, column in enumerate(self.columns) if column.brief != "" and not column.pictures]
        columns = tuple(self.columns[i] for i in shown)
        rows = tuple(tuple(replace(row[i], ends=row[i].ends[:1]) for i in shown) for row in self.rows)
        brief = replace(self, columns=columns, rows=rows)
        texts = [[re.sub(r"−(?=\d)", "-", brief.plain(cell).replace("(seeds ", "(")) for cell in row] for row in rows]
        return [*align([c.brief or c.title for c in columns], texts, [c.numeric for c in columns]), *brief.footnotes]


def table(
    title: str, columns: Sequence[Column], rows: Sequence[Sequence[Cell]], notes: Sequence[str] = (), **options: object
) -> Table:
    """The table less its columns that are empty."""
    kept = [i for i, c in enumerate(columns) if c.always or any(row[i].text not in ("", EMPTY.text) for row in rows)]
    parts = [columns[i].part for i in kept]
    shown = [replace(columns[i], first=bool(parts[n]) and parts[n : n + 1] != parts[n - 1 : n])
             for n, i in enumerate(kept)]  # fmt: skip
    body = tuple(tuple(row[i] for i in kept) for row in rows)
    return Table(title, tuple(shown), body, tuple(notes), **options)  # type: ignore[arg-type]  # look, sortable


def align(header: Sequence[str], rows: Sequence[Sequence[str]], right: Sequence[bool]) -> list[str]:
    """Lines of equal columns.

    >>> align(["a", "n"], [["xx", "1"], ["y", "10"]], [False, True])
    ['a    n', '──  ──', 'xx   1', 'y   10']
    """
    rows = [[" ".join(text.split("\n")) for text in row] for row in rows]  # a line break would tear the columns
    widths = [max(len(row[i]) for row in [header, *rows]) for i in range(len(header))]

    def line(row: Sequence[str]) -> str:
        places = zip(row, widths, right, strict=True)
        return "  ".join(t.rjust(w) if r else t.ljust(w) for t, w, r in places).rstrip()

    return [line(header), "  ".join("─" * w for w in widths), *(line(row) for row in rows)]
