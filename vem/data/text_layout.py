"""How a table is written as text: where its rows begin, what separates cells, and which sign is the decimal one."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TextIO

from vem.data.reading import Wishes, unreadable
from vem.data.text_rows import LINE_END, NOTHING, Row, opened, rows
from vem.errors import VemError

SEPARATORS = {"comma": ",", "semicolon": ";", "tab": "\t", "space": " "}
DECIMALS = {"point": ".", "comma": ","}
THREE = ",;\t"  # what is tried before spaces
COMMENT = ("#", "%")
TRUTH = {"true", "false"}
EXCEL = re.compile(r"\"?sep=.\"?")  # a first line that tells Excel the separator
CHUNK = 1 << 16  # characters: how a table is written is told by its beginning, and the rest must fit
ENOUGH = 4  # lines of that beginning, however long they are

# Numbers in the forms that pandas' C reader takes.
NUMBER = re.compile(r"[+-]?(?:(?:\d+\.?\d*|\.\d+)(?:e[+-]?\d+)?|inf(?:inity)?|nan)", re.IGNORECASE | re.ASCII)
DECIMAL_COMMA = r"[+-]?(?:\d*|\d{1,3}(?:\.\d{3})+),(\d+)(?:[eE][+-]?\d+)?"
POINTS = r"[+-]?\d{1,3}(?:\.\d{3})+(?:,\d*)?"
THOUSANDS = r"[+-]?\d{1,3}(?:,\d{3})+(?:\.\d*)?"


@dataclass(frozen=True)
class Cut:
    """The first rows of a file as one separator cuts them into cells."""

    wishes: Wishes
    separator: str
    rows: list[Row]

    @property
    def width(self) -> int:
        """The number of cells of a row."""
        return len(self.rows[-1].cells)

    @cached_property
    def ragged(self) -> str | None:
        """Which line has another number of cells than the first, if one has."""
        first, *rest = self.rows
        odd = next((row for row in rest if len(row.cells) != len(first.cells)), None)
        if odd is None:
            return None
        said = unlike(odd, first, self.separator)
        if len({len(row.cells) for row in rest}) == 1 < len(rest):
            said += ", which alone differs: if it holds no names, take it out or put # before it"
            if len(first.cells) == self.width - 1:
                said += "; if it holds names, and the first cells name the rows, say data.header=true"
        return said

    @cached_property
    def foreign(self) -> str | None:
        """Which cell holds another separator, if one does, and is no number with a comma."""
        decimal = DECIMALS.get(self.wishes.decimal, self.wishes.decimal)
        number = re.compile({".": THOUSANDS, ",": DECIMAL_COMMA}.get(decimal, f"{DECIMAL_COMMA}|{THOUSANDS}"), re.ASCII)
        for row in self.rows:
            for cell, quoted in zip(row.cells, row.quoted, strict=True):
                held = [s for s in THREE if s != self.separator and s in cell and not quoted]
                if held and not (held == [","] and number.fullmatch(cell)):
                    sign, where = named(held[0]), named(self.separator)
                    return f"{cell!r} in line {row.line} holds a {sign} (separator: {where})"
        return None

    @property
    def exact(self) -> bool:
        """Whether all lines have the same number of cells, and more than one; blanks beside one cell do not count."""
        several = self.separator != "\t" or any(sum(map(bool, row.cells)) > 1 for row in self.rows)
        return self.ragged is None and self.width >= 2 and several

    @property
    def one_fewer(self) -> bool:
        """Whether line 1 holds names, one fewer than the others, which agree, have cells."""
        first, *rest = self.rows
        numbers = (NUMBER.fullmatch(cell) for cell, q in zip(first.cells, first.quoted, strict=True) if not q)
        names = self.wishes.header is True or (self.wishes.header == "auto" and not any(numbers))
        return {len(row.cells) for row in rest} == {len(first.cells) + 1} and names


@dataclass(frozen=True)
class Layout(Cut):
    """How a file is written, and its first rows.

    ``rows[0]`` may be names or data; the rows' places are relative to ``start``, the number of characters before
    it. ``comment`` is the file's first line if that is a comment just above ``rows[0]``. ``misfit`` says why nothing
    separates cells although something might.
    """

    path: Path
    encoding: str
    decimal: str
    thousands: str | None
    start: int
    line_1: str
    comment: str | None
    misfit: str | None

    def number(self, cell: str) -> float | None:
        """The number in a cell, by this file's signs; None if there is none, NaN if its points may mark thousands."""
        if self.decimal == "," and "." in cell:
            return math.nan if NUMBER.fullmatch(cell) or re.fullmatch(POINTS, cell, re.ASCII) else None
        if self.decimal == ",":
            cell = cell.replace(",", ".")
        elif self.thousands and re.fullmatch(THOUSANDS, cell, re.ASCII):
            cell = cell.replace(self.thousands, "")
        return float(cell) if NUMBER.fullmatch(cell) else None

    def is_number(self, cell: str) -> bool:
        """Whether a cell holds a number."""
        return self.number(cell) is not None


def find_layout(path: Path, wishes: Wishes) -> Layout:
    """How the file is written, as far as ``wishes`` leave it open.

    Raises:
        VemError: it holds no row, lines differ in their number of cells, or more than one layout fits: the message
            shows line 1 and names the options that settle it.
    """
    wanted = _sign(wishes.separator, SEPARATORS, "data.separator")
    decimal = _sign(wishes.decimal, DECIMALS, "data.decimal")
    with opened(path, wishes.encoding) as stream:
        encoding = stream.encoding
        text, whole = _beginning(stream)
    start, line, comment = _preamble(text)
    body = text[start:]
    line_1 = re.split(LINE_END, body, maxsplit=1)[0].strip()
    line_1 = line_1 if len(line_1) <= 80 else line_1[:80] + " …"

    def tried(separator: str) -> Cut:
        found = list(rows(body, separator, line, whole))
        first_fewer = found and {len(row.cells) for row in found[1:]} == {len(found[0].cells) + 1}
        if separator == " " and body[:1].isspace() and first_fewer:
            # So pandas writes an empty cell above row names: the only blank that counts.
            found[0] = found[0]._replace(cells=["", *found[0].cells], quoted=[False, *found[0].quoted])
        return Cut(wishes, separator, found)

    # Spaces only where there is no tab, which they would count as a space.
    candidates = [s for s in (*THREE, " ") if s in body and s != decimal and not (s == " " and "\t" in body)]
    others = [cut for cut in map(tried, candidates) if cut.rows]
    misfit = None
    if wanted is None:
        cut, misfit = _fitting(others, tried, line_1, path)
    else:
        cut = tried(wanted)
        if cut.rows and cut.ragged and not cut.one_fewer:
            raise VemError(f"data.path={path} cannot be read: {cut.ragged}. Mend the line, or data.separator.")
        others = [other for other in others if other.exact and not other.foreign]
        if cut.rows and len(cut.rows[0].cells) == 1 and others:
            other = named(others[0].separator)
            raise VemError(
                f"data.path={path}: data.separator={named(wanted)} stands in no line, and a {other} cuts every one "
                f"into {others[0].width} cells (line {line}: {line_1!r}). Say data.separator={other}; if a comma is "
                "the decimal sign, say data.decimal=comma."
            )
    if not cut.rows or (whole and body[cut.rows[-1].end :].strip()):
        raise unreadable(path, "a quote in it is not closed" if body.strip() else "it holds no row")
    sign, thousands = decimal or ".", None
    # Between commas, or in a single column, a comma is no decimal sign unless that is said.
    if decimal != "," and cut.separator != NOTHING and (cut.separator != "," or decimal):
        sign, thousands = _decimal(path, encoding, start, cut.separator, decimal, line_1)
    return Layout(
        wishes, cut.separator, cut.rows, path, encoding, sign, thousands, start, line_1, comment, misfit
    )  # fmt: skip


def _sign(value: str, names: Mapping[str, str], key: str) -> str | None:
    """The character that is meant by its name or by itself; None for auto."""
    if value == "auto":
        return None
    sign = names.get(value, "\t" if value == "\\t" else value)
    usable = sign in names.values() or (names is SEPARATORS and not re.search(r"[\w\s\"'.+-]", str(sign)))
    if not isinstance(sign, str) or len(sign) != 1 or not usable:
        listed = ", ".join(names) + (", or one character such as |" if names is SEPARATORS else "")
        raise VemError(f"{key}={value!r} is not known. Choose one of: auto, {listed}.")
    return sign


def _beginning(stream: TextIO) -> tuple[str, bool]:
    """The first characters of a text, and whether these are all of it."""
    text = ""
    while True:
        most = max(CHUNK, len(text))
        piece = stream.read(most)
        text += piece
        if len(piece) < most:
            return text, True
        if text.count("\n") + text.count("\r") >= 2 * ENOUGH:  # a line may end in both
            return text, False


def _preamble(text: str) -> tuple[int, int, str | None]:
    """Where the first row begins, the number of its line, and the comment above it if that is the first line.

    Comments are whole lines before the first row.
    """
    start, line = len(text) - len(text.removeprefix("\ufeff")), 1
    comments: list[str] = []
    for match in re.compile(rf"([^\r\n]*)({LINE_END})").finditer(text, start):
        content = match.group(1).strip()
        if content and not content.startswith(COMMENT) and not EXCEL.fullmatch(content):
            break
        comments += [content] if content else []
        start, line = match.end(), line + 1
    return start, line, comments[0] if len(comments) == 1 else None


def named(separator: str) -> str:
    """What a separator is called in a message and in data.separator."""
    return next((name for name, sign in SEPARATORS.items() if sign == separator), separator)


def unlike(row: Row, first: Row, separator: str) -> str:
    """That a row has another number of cells than the first, in words."""
    cells = "1 cell" if len(row.cells) == 1 else f"{len(row.cells)} cells"
    return f"line {row.line} has {cells} and line {first.line} has {len(first.cells)} (separator: {named(separator)})"


def _fitting(cuts: Sequence[Cut], tried: Callable[[str], Cut], line_1: str, path: Path) -> tuple[Cut, str | None]:
    """The one separator that fits, or a single column and why nothing fits; refused if several fit."""
    fits = [cut for cut in cuts if cut.exact and not cut.foreign]
    fits = fits or [cut for cut in cuts if cut.one_fewer and not cut.foreign]
    if len(fits) == 1:
        return fits[0], None
    # Numbers between commas, beside labels that hold other separators, were always read so.
    comma = [cut for cut in cuts if cut.separator == "," and cut.exact and _numbers_but_for_labels(cut)]
    if comma:
        return comma[0], None
    if fits:
        options = " or ".join(
            f"data.separator={named(cut.separator)}" + (" data.decimal=comma" if cut.separator != "," else "")
            for cut in fits
        )
        raise VemError(
            f"data.path={path}: line {fits[0].rows[0].line}, {line_1!r}, can be cut into cells by "
            f"{' and by '.join(named(cut.separator) for cut in fits)}. Say which is meant, with {options}."
        )
    return tried(NOTHING), "; ".join(reason for cut in cuts for reason in (cut.ragged, cut.foreign) if reason) or None


def _numbers_but_for_labels(cut: Cut) -> bool:
    """Whether all cells below line 1 are numbers, those of the labels apart."""
    label = str(cut.wishes.label_column)
    columns = {j for j, name in enumerate(cut.rows[0].cells) if label in (name, str(j + 1))}
    odd = {
        j
        for row in cut.rows[1:]
        for j, cell in enumerate(row.cells)
        if cell and not NUMBER.fullmatch(cell) and cell.lower() not in TRUTH
    }
    return len(odd) <= 1 and odd <= columns


def _decimal(
    path: Path, encoding: str, start: int, separator: str, wanted: str | None, line_1: str
) -> tuple[str, str | None]:
    """The decimal sign, and what groups thousands, if anything does; ``wanted`` may be the point.

    A comma is decimal if some number has other than three digits after it; if all have three, it is asked.
    """
    sign = re.escape(separator)
    beside = ' *" *' if separator == "," else '[ "]*'  # what holds a comma between commas is quoted
    cell = re.compile(
        rf"(?:^|{sign}){beside}({DECIMAL_COMMA}|{THOUSANDS}){beside}(?={sign}|$|\r)", re.ASCII | re.MULTILINE
    )
    three = None
    with opened(path, encoding) as stream:
        stream.read(start)
        while piece := stream.read(CHUNK) + stream.readline():
            for match in cell.finditer(piece) if "," in piece else ():
                if match.group(2) and len(match.group(2)) != 3:
                    return (".", None) if wanted else (",", None)
                three = three or match.group(1)
    if three and not wanted:
        raise VemError(
            f"data.path={path}: the comma in {three!r} may be a decimal sign or mark thousands, as every number of the "
            f"file has three digits after it (line 1: {line_1!r}). Say which is meant, with data.decimal=comma or "
            "data.decimal=point."
        )
    return ".", "," if three else None
