"""How a table is written as text: where its rows begin, what separates cells, and which sign is the decimal one."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TextIO

from vem.data.reading import Wishes, unreadable
from vem.data.text_rows import LINE_END, NOTHING, Row, opened, rows
from vem.errors import VemError

SEPARATORS = {"comma": ",", "semicolon": ";", "tab": "\t", "space": " "}
DECIMALS = {"point": ".", "comma": ","}
THREE = ",;\t"  # what is tried before spaces
COMMENT = ("#", "%")
TRUTH = {"true": 1.0, "false": 0.0}
EXCEL = re.compile(r"\"?sep=.\"?")  # a first line that tells Excel the separator
CHUNK = 1 << 16  # characters: how a table is written is told by its beginning, and the rest must fit
ENOUGH = 4  # lines of that beginning, however long they are

# Numbers in the forms that pandas' C reader takes.
NUMBER = re.compile(r"[+-]?(?:(?:\d+\.?\d*|\.\d+)(?:e[+-]?\d+)?|inf(?:inity)?|nan)", re.IGNORECASE | re.ASCII)
DECIMAL_COMMA = r"[+-]?(?:\d*|\d{1,3}(?:\.\d{3})+),(\d+)(?:[eE][+-]?\d+)?"
POINTS = r"[+-]?\d{1,3}(?:\.\d{3})+(?:,\d*)?"
THOUSANDS = r"[+-]?\d{1,3}(?:,\d{3})+(?:\.\d*)?"


@dataclass(frozen=True)
class Layout:
    """How a file is written, and its first rows.

    ``rows[0]`` may be names or data; the rows' places are relative to ``start``, the number of characters before
    it. ``comment`` is the file's first line if that is a comment just above ``rows[0]``. ``misfit`` says why nothing
    separates cells although something might.
    """

    path: Path
    encoding: str
    separator: str
    decimal: str
    thousands: str | None
    start: int
    line_1: str
    rows: list[Row]
    comment: str | None
    misfit: str | None

    @property
    def width(self) -> int:
        """The number of cells of a row."""
        return len(self.rows[-1].cells)

    @property
    def one_fewer(self) -> bool:
        """Whether line 1 has one name fewer than the others have cells."""
        return len(self.rows[0].cells) == self.width - 1

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


@dataclass(frozen=True)
class Trial:
    """The first rows as one separator cuts them, and why it does not fit, if so."""

    separator: str
    rows: list[Row]
    header: str | bool  # the option
    ragged: str | None  # lines with other numbers of cells
    foreign: str | None  # a cell that holds another separator

    @property
    def exact(self) -> bool:
        """Whether all lines have the same number of cells, and more than one; blanks beside one cell do not count."""
        several = self.separator != "\t" or any(sum(map(bool, row.cells)) > 1 for row in self.rows)
        return self.ragged is None and len(self.rows[0].cells) >= 2 and several

    @property
    def one_fewer(self) -> bool:
        """Whether line 1 holds names, one fewer than the others, which agree, have cells."""
        first, rest = self.rows[0], self.rows[1:]
        numbers = [
            cell
            for cell, quoted in zip(first.cells, first.quoted, strict=True)
            if not quoted and NUMBER.fullmatch(cell)
        ]
        names = self.header is True or (self.header == "auto" and not numbers)
        return {len(row.cells) for row in rest} == {len(first.cells) + 1} and names


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
    line_1 = (re.split(LINE_END, body, maxsplit=1)[0]).strip()
    line_1 = line_1 if len(line_1) <= 80 else line_1[:80] + " …"

    def tried(separator: str) -> Trial:
        found = list(rows(body, separator, line, whole))
        if (
            separator == " "
            and body[: found[0].end if found else 0][:1].isspace()
            and {len(row.cells) for row in found[1:]} == {len(found[0].cells) + 1}
        ):
            # So pandas writes an empty cell above row names: the only blank that counts.
            found[0] = found[0]._replace(cells=["", *found[0].cells], quoted=[False, *found[0].quoted])
        return _tried(separator, found, decimal, wishes.header)

    # Spaces only where there is no tab, which they would count as a space.
    candidates = [s for s in (*THREE, " ") if s in body and s != decimal and not (s == " " and "\t" in body)]
    misfit = None
    if wanted is None:
        trials = [tried(s) for s in candidates]
        trial, misfit = _fitting([t for t in trials if t.rows], tried, line_1, wishes, path)
    else:
        trial = tried(wanted)
        if trial.rows and trial.ragged and not trial.one_fewer:
            raise VemError(f"data.path={path} cannot be read: {trial.ragged}. Mend the line, or data.separator.")
        others = [t for t in map(tried, candidates) if t.rows and t.exact and not t.foreign]
        if trial.rows and len(trial.rows[0].cells) == 1 and others:
            other, num = named(others[0].separator), len(others[0].rows[0].cells)
            raise VemError(
                f"data.path={path}: data.separator={named(wanted)} stands in no line, and a {other} cuts every one "
                f"into {num} cells (line {line}: {line_1!r}). Say data.separator={other}; if a comma is the decimal "
                "sign, say data.decimal=comma."
            )
    if not trial.rows or (whole and body[trial.rows[-1].end :].strip()):
        reason = "a quote in it is not closed" if body.strip() else "it holds no row"
        raise unreadable(path, reason)
    sign, thousands = _decimal(path, encoding, start, trial.separator, decimal, line_1)
    return Layout(
        path, encoding, trial.separator, sign, thousands, start, line_1, trial.rows, comment, misfit
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


def _tried(separator: str, found: list[Row], decimal: str | None, header: str | bool) -> Trial:
    """How the first rows fit a separator."""
    ragged = foreign = None
    others = [s for s in THREE if s != separator]
    forms = {".": [THOUSANDS], ",": [DECIMAL_COMMA]}.get(decimal or "", [DECIMAL_COMMA, THOUSANDS])
    number = re.compile("|".join(forms), re.ASCII)
    for row in found:
        if ragged is None and len(row.cells) != len(found[0].cells):
            ragged = (
                f"line {row.line} has {cells_as_text(len(row.cells))} and line {found[0].line} has "
                f"{len(found[0].cells)} (separator: {named(separator)})"
            )
        if foreign is None and any(other in cell for cell in row.cells for other in others):
            for cell, quoted in zip(row.cells, row.quoted, strict=True):
                held = [s for s in others if s in cell and not quoted]
                if held and not (held == [","] and number.fullmatch(cell)):
                    foreign = f"{cell!r} in line {row.line} holds a {named(held[0])} (separator: {named(separator)})"
                    break
    if ragged and len({len(row.cells) for row in found[1:]}) == 1 < len(found) - 1:
        ragged += ", which alone differs: if it holds no names, take it out or put # before it"
        if len(found[0].cells) == len(found[1].cells) - 1:
            ragged += "; if it holds names, and the first cells name the rows, say data.header=true"
    return Trial(separator, found, header, ragged, foreign)


def cells_as_text(num: int) -> str:
    """How many cells there are, in words."""
    return "1 cell" if num == 1 else f"{num} cells"


def named(separator: str) -> str:
    """What a separator is called in a message and in data.separator."""
    return next((name for name, sign in SEPARATORS.items() if sign == separator), separator)


def _fitting(
    trials: Sequence[Trial], tried: Callable[[str], Trial], line_1: str, wishes: Wishes, path: Path
) -> tuple[Trial, str | None]:
    """The one separator that fits, or a single column and why nothing fits.

    Raises:
        VemError: several fit.
    """
    fits = [t for t in trials if t.exact and not t.foreign]
    fits = fits or [t for t in trials if t.one_fewer and not t.foreign]
    if len(fits) == 1:
        return fits[0], None
    # Numbers between commas, beside labels that hold other separators, were always read so.
    comma = [t for t in trials if t.separator == "," and t.exact and _numbers_but_for_labels(t.rows, wishes)]
    if comma:
        return comma[0], None
    if fits:
        options = " or ".join(
            f"data.separator={named(t.separator)}" + (" data.decimal=comma" if t.separator != "," else "") for t in fits
        )
        ways = " and by ".join(named(t.separator) for t in fits)
        raise VemError(
            f"data.path={path}: line {fits[0].rows[0].line}, {line_1!r}, can be cut into cells by {ways}. Say which is "
            f"meant, with {options}."
        )
    reasons = [reason for t in trials for reason in (t.ragged, t.foreign) if reason]
    return tried(NOTHING), "; ".join(reasons) or None


def _numbers_but_for_labels(found: Sequence[Row], wishes: Wishes) -> bool:
    """Whether all cells below line 1 are numbers, those of the labels apart."""
    label = str(wishes.label_column)
    columns = {j for j, name in enumerate(found[0].cells) if name == label} | {
        int(label) - 1 if label.isdecimal() else -1
    }
    odd = {
        j
        for row in found[1:]
        for j, cell in enumerate(row.cells)
        if cell and not NUMBER.fullmatch(cell) and cell.lower() not in TRUTH
    }
    return len(odd) <= 1 and odd <= columns


def _decimal(
    path: Path, encoding: str, start: int, separator: str, wanted: str | None, line_1: str
) -> tuple[str, str | None]:
    """The decimal sign, and what groups thousands, if anything does.

    A comma is decimal if some number has other than three digits after it.

    Raises:
        VemError: all have three.
    """
    if wanted == "," or separator == NOTHING or (separator == "," and not wanted):
        return wanted or ".", None
    three = _commas(path, encoding, start, separator)
    if three is None:
        return ".", None
    if wanted == ".":
        return ".", "," if three else None
    if three:
        raise VemError(
            f"data.path={path}: the comma in {three!r} may be a decimal sign or mark thousands, as every number of the "
            f"file has three digits after it (line 1: {line_1!r}). Say which is meant, with data.decimal=comma or "
            "data.decimal=point."
        )
    return ",", None


def _commas(path: Path, encoding: str, start: int, separator: str) -> str | None:
    """A number of the file with a comma if all have three digits after it; "" if some have not, None without any."""
    sign = re.escape(separator)
    beside = ' *" *' if separator == "," else '[ "]*'  # what holds a comma between commas is quoted
    cell = re.compile(
        rf"(?:^|{sign}){beside}({DECIMAL_COMMA}|{THOUSANDS}){beside}(?={sign}|$|\r)", re.ASCII | re.MULTILINE
    )
    found = None
    with opened(path, encoding) as stream:
        stream.read(start)
        while piece := stream.read(CHUNK) + stream.readline():
            if "," not in piece:
                continue
            for match in cell.finditer(piece):
                if match.group(2) and len(match.group(2)) != 3:
                    return ""
                found = found or match.group(1)
    return found
