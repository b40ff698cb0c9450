"""The report as one page: everything is inside it, and nothing is fetched."""

from __future__ import annotations

import base64
import hashlib
import re
import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

import jinja2
from markupsafe import Markup

from vem.report.comparison_cells import comparison_cells, signed
from vem.report.figures.catalogue import Drawn
from vem.report.figures.style import DPI
from vem.report.findings import Findings, alike
from vem.report.further import further_tables
from vem.report.labels import whole
from vem.report.quantities import present
from vem.report.worst import NUMBERS, worst_of

REFRESH_SECONDS = 20
RUNNING = ("running", "waiting")  # keys of Findings.progress
BROAD = 640  # CSS pixels: a wider figure is not shrunk further than this on a phone, where it scrolls
MOST_SENTENCES = 5  # of a list; the others open on demand
MOST_ROWS = 15  # of a table beside the comparison; a longer one opens on demand
LONG_WORD = 18  # characters that a column of labels has room for on a phone
CSS_DPI = 96  # a CSS inch
TITLES = {
    "answer": "The answer",
    "comparison": "Comparison",
    "curves": "ELBO while training",
    "gaps": "Gaps",
    "pictures": "Pictures",
    "axes": "What was swept",
    "provenance": "Where the numbers come from",
}
ABSENT = {
    "curves": ("No run has recorded an ELBO while training, so there are no curves.", ""),
    "gaps": ("No gap was measured. This measures those of a finished run:",
             "python -m vem.evaluate RUN evaluation=gaps"),
    "pictures": ("No finished run holds pictures.", ""),
    "axes": ("Nothing but the strategy and the seed was swept. This sweeps a setting:",
             "python -m vem.run -m strategy=local,amortized latent_dim=2,10,50 seed=0,1,2"),
}  # fmt: skip


@dataclass(frozen=True)
class Figure:
    """A figure inside the page."""

    section: str
    table: int
    title: str
    caption: str
    alt: str
    source: str
    width: int
    height: int
    look: str  # classes of the style sheet: a chart may be turned over in the dark, pictures may not


@dataclass(frozen=True)
class Section:
    """One section of the page; ``absent``: why it is empty, and ``command`` what would fill it."""

    key: str
    title: str
    template: str
    figures: tuple[Figure, ...] = ()
    absent: str = ""
    command: str = ""


def render(findings: Findings, drawn: Sequence[Drawn]) -> str:
    """The page as HTML.

    It allows itself no connection (Content-Security-Policy); every label is escaped. While runs of a sweep are
    missing it reloads itself.
    """
    environment = _environment()
    style, script = (environment.loader.get_source(environment, f"page.{kind}")[0] for kind in ("css", "js"))  # type: ignore[union-attr]  # a loader was given
    policy = (
        f"default-src 'none'; img-src data:; style-src '{_hash(style)}'; script-src '{_hash(script)}'; "
        "base-uri 'none'; form-action 'none'"
    )
    return environment.get_template("page.html").render(
        findings=findings,
        title=findings.title,
        written=findings.provenance.written,
        policy=policy,
        style=Markup(style),  # both are files of this package: nothing of the user's is in them
        script=Markup(script),
        sections=_sections(findings, [_figure(one) for one in drawn]),
        comparisons=[comparison_cells(table) for table in findings.tables],
        further=[further_tables(table) for table in findings.tables],
        worst=worst_of(findings),
        numbers=NUMBERS,
        most_rows=MOST_ROWS,
        differences=_differences(findings),
        unfinished=alike(findings.unfinished),
        running=any(findings.progress.get(state) for state in RUNNING),
        counts=", ".join(f"{num} {state}" for state, num in findings.progress.items() if num),
        refresh_seconds=REFRESH_SECONDS,
        signed=signed,
    )


@cache
def _environment() -> jinja2.Environment:
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("vem.report"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["typeset"] = _typeset
    environment.filters["breakable"] = _breakable
    environment.globals["most_sentences"] = MOST_SENTENCES  # macros see globals alone
    return environment


def _typeset(text: str) -> str:
    """A sentence whose negative numbers have a true minus sign, and whose percent signs stay with their numbers.

    >>> _typeset("at -84.23 (x-1, e=1e-3)")
    'at −84.23 (x-1, e=1e-3)'
    """
    return re.sub(r"(?<![\w.,)=-])-(?=\d)", "−", text).replace(" %", "\N{NO-BREAK SPACE}%")


def _breakable(label: object) -> Markup:
    """A label whose long words may end a line behind an equals sign, before a number is torn apart.

    >>> _breakable("seed=1 training.schedule.rate=<b>")
    Markup('seed=1 training.schedule.rate=<wbr>&lt;b&gt;')
    """
    words = str(label).split(" ")  # join escapes each part
    ends = (Markup("=<wbr>" if len(word) > LONG_WORD else "=").join(word.split("=")) for word in words)
    return Markup(" ").join(ends)


def _hash(text: str) -> str:
    """What the policy knows an inline style or script by: another one is not run."""
    return "sha256-" + base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()


def _figure(drawn: Drawn) -> Figure:
    """The smaller of a figure's two files, inside the page."""
    png, svg = drawn.png.read_bytes(), drawn.svg.read_bytes()
    kind, content = min(("svg+xml", svg), ("png", png), key=lambda file: len(file[1]))
    width, height = (round(n * CSS_DPI / DPI) for n in struct.unpack(">II", png[16:24]))
    source = f"data:image/{kind};base64,{base64.b64encode(content).decode()}"
    look = "pictures" if drawn.section == "pictures" else "chart"
    look += " broad" if width > BROAD else ""
    return Figure(drawn.section, drawn.table, drawn.title, drawn.caption, drawn.alt, source, width, height, look)


def _sections(findings: Findings, figures: Sequence[Figure]) -> list[Section]:
    found = []
    for key, title in TITLES.items():
        own = tuple(figure for figure in figures if figure.section == key)
        absent, command = ABSENT.get(key, ("", "")) if not own else ("", "")
        if key in ("answer", "comparison") and not findings.tables:
            absent = "No run got far enough to be compared: the last section says which failed, and why."
        elif key in ABSENT and not findings.tables:
            continue  # nothing was measured at all: the first section says so
        template = {"answer": "answer", "comparison": "table", "gaps": "gaps", "provenance": "provenance"}.get(
            key, "figures"
        )
        found.append(Section(key, title, f"{template}.html", own, absent, command))
    return found


def _differences(findings: Findings) -> Mapping[str, Any]:
    """The settings that differ, with the shorter of the two lists, groups or settings, as columns."""
    frame = findings.provenance.differences
    names = [str(name) for name in frame.columns]
    rows = [["" if present(v) is None else str(whole(v)) for v in row] for row in frame.itertuples(index=False)]
    if len(names) < 2:
        return {"columns": names, "rows": []}
    if len(names) - 1 <= len(rows):
        return {"columns": ["Strategy", *names[1:]], "rows": rows}
    columns = list(zip(*rows, strict=True))
    settings = [[name, *values] for name, values in zip(names[1:], columns[1:], strict=True)]
    return {"columns": ["Setting", *columns[0]], "rows": settings}
