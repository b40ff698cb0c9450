"""The characters and cells of a table written as text: encoding, gzip, lines, quotes."""

from __future__ import annotations

import codecs
import gzip
import io
import re
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple, TextIO

from vem.data.reading import unreadable
from vem.errors import VemError

GZIP = b"\x1f\x8b"
BOMS = {
    codecs.BOM_UTF32_LE: "utf-32",  # begins as the mark of UTF-16 does
    codecs.BOM_UTF32_BE: "utf-32",
    codecs.BOM_UTF16_LE: "utf-16",
    codecs.BOM_UTF16_BE: "utf-16",
}
NOTHING = "\x1f"  # the separator of a single column: a character that no table holds
LINE_END = r"\r\n|\n|\r"


class Row(NamedTuple):
    """A row of cells: its first line (from 1), where it begins and ends in the text, and which cells are quoted."""

    line: int
    start: int
    end: int
    cells: list[str]
    quoted: list[bool]


@contextmanager
def opened(path: Path, encoding: str) -> Iterator[TextIO]:
    """The text of a file, packed with gzip or not; ``encoding`` auto is UTF-8, or UTF-16 where its bytes say so.

    VemError if it cannot be read, or is in another encoding; the message names the line.
    """
    try:
        with path.open("rb") as file:
            packed = file.read(2) == GZIP
            file.seek(0)
            raw: Any = gzip.open(file) if packed else file  # noqa: SIM115  # closed with the file below it
            head = raw.read(1024)
            raw.seek(0)
            stream = io.TextIOWrapper(raw, encoding=_encoding(head, encoding, path), newline="")
            try:
                yield stream
            except UnicodeError as error:
                raw.seek(0)
                raise _undecodable(path, raw.read(), stream.encoding) from error
    except (ValueError, OSError, EOFError, zlib.error) as error:  # pandas' ParserError is a ValueError
        raise unreadable(path, error) from error


def _encoding(head: bytes, wanted: str, path: Path) -> str:
    if wanted != "auto":
        try:
            codecs.lookup(wanted)
        except LookupError as error:
            raise VemError(
                f"data.encoding={wanted} is not an encoding: say auto, utf-8, utf-16, cp1252 or latin-1."
            ) from error
        return wanted
    for mark, name in BOMS.items():
        if head.startswith(mark):
            return name
    even, odd = head[::2].count(0), head[1::2].count(0)
    if not even and not odd:
        return "utf-8"
    # Of two bytes for each letter, one is zero for every digit and separator.
    if (even and odd) or 4 * max(even, odd) < len(head):
        raise VemError(
            f"data.path={path} holds zero bytes, so it is not a text. Save it again, as comma-separated text."
        )
    return "utf-16-le" if odd > even else "utf-16-be"


def _undecodable(path: Path, content: bytes, name: str) -> VemError:
    where = ""
    try:
        content.decode(name)
    except UnicodeDecodeError as error:
        where = f" (byte 0x{content[error.start]:02x} in line {1 + content[: error.start].count(10)})"
    except UnicodeError:  # a mark that is missing
        pass
    return VemError(
        f"data.path={path} is not written in {name}{where}. Say in which encoding it is, data.encoding=cp1252 "
        "(Windows, Western Europe) or latin-1 for one (auto knows UTF-8 and UTF-16), or save it again as UTF-8."
    )


@cache
def _cell(separator: str) -> re.Pattern[str]:
    """A cell and what ends it, as pandas reads them: a quote counts only where a cell begins."""
    blank = separator == " "  # runs of spaces and tabs
    end = rf"[ \t]*({LINE_END}|\Z)|([ \t]+)" if blank else rf"({LINE_END}|\Z)|({re.escape(separator)})"
    plain = rf"[^{' ' + chr(9) if blank else re.escape(separator)}\r\n]*"
    blanks = "[ ]*" if separator == "\t" else "[ \t]*"
    return re.compile(rf'{blanks}(?:"([^"]*(?:""[^"]*)*)"({plain})|((?!"){plain}))(?:{end})')


def rows(text: str, separator: str, line: int = 1, whole: bool = True) -> Iterator[Row]:
    """The rows of a text whose first line has this number, without blank lines.

    Unless the text is ``whole``, its last row may be cut, and is left out. The rows end where a quote is not closed.
    """
    pattern, at, size = _cell(separator), 0, len(text)
    while at < size:
        start, cells, quoted = at, [], []
        while True:
            match = pattern.match(text, at)
            if match is None:  # a quote that is never closed
                return
            inner, after, plain, newline, _ = match.groups()
            cells.append(plain.rstrip() if inner is None else inner.replace('""', '"') + after.rstrip())
            quoted.append(inner is not None)
            at = match.end()
            if newline is not None:
                break
        if not newline and not whole:
            return
        if len(cells) > 1 or cells[0] or quoted[0]:
            yield Row(line, start, at, cells, quoted)
        line += text.count("\n", start, at) or text.count("\r", start, at)
