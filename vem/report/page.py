"""The report as one page, in which everything is and nothing is fetched, and as Markdown with links to the figures."""

from __future__ import annotations

import base64
import hashlib
import re
import struct
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jinja2
from markupsafe import Markup

from vem.report.comparison_table import comparison_table, gap_tables, interval
from vem.report.figures.catalogue import Drawn
from vem.report.figures.style import DPI
from vem.report.findings import Axis, Findings, alike
from vem.report.labels import value_names, whole
from vem.report.prose import environment
from vem.report.quantities import plain_rows, present
from vem.report.table import EMPTY, Cell, Column, Table, number, table
from vem.report.worst import worst_table

REFRESH_SECONDS = 20
RUNNING = ("running", "waiting")  # keys of Findings.progress
BROAD = 640  # CSS pixels: a wider figure is not shrunk further than this on a phone, where it scrolls
MOST_SENTENCES = 5  # of a list; the others open on demand
MOST_ROWS = 15  # of a table that cannot be sorted; a longer one opens on demand
LONG_WORD = 18  # characters that a column of labels has room for on a phone
CSS_DPI = 96  # a CSS inch
SECTIONS = ("answer", "comparison", "curves", "gaps", "pictures", "axes", "provenance")  # of figures
# Within a line of Markdown: what would begin an element, a cell, emphasis or HTML.
SPECIAL = re.compile(r"([\\`*_\[\]<>|#~$&])")


def render(findings: Findings, drawn: Sequence[Drawn]) -> str:
    """The page as HTML.

    It allows itself no connection (Content-Security-Policy); every label is escaped. While runs of a sweep are
    missing it reloads itself.
    """
    templates = _templates()
    style, script = (templates.loader.get_source(templates, f"page.{kind}")[0] for kind in ("css", "js"))  # type: ignore[union-attr]  # a loader was given
    policy = (
        f"default-src 'none'; img-src data:; style-src '{_hash(style)}'; script-src '{_hash(script)}'; "
        "base-uri 'none'; form-action 'none'"
    )
    return templates.get_template("page.html").render(
        **_shown(findings, drawn),
        policy=policy,
        style=Markup(style),  # both are files of this package: nothing of the user's is in them
        script=Markup(script),
        running=any(findings.progress.get(state) for state in RUNNING),
        refresh_seconds=REFRESH_SECONDS,
    )


def markdown(findings: Findings, drawn: Sequence[Drawn], folder: Path) -> str:
    """The whole report as Markdown; links to figures are relative to ``folder``."""
    shown = _shown(findings, drawn, pictures=False)
    axes = [[(axis, _axis_tables(axis)) for axis in found.axes] for found in findings.tables]
    text = _templates().get_template("report.md").render(**shown, folder=folder, axes=axes, code=_code)
    return re.sub(r"\n{3,}", "\n\n", text).strip() + "\n"


def _shown(findings: Findings, drawn: Sequence[Drawn], pictures: bool = True) -> dict[str, Any]:
    """What both templates show."""
    worst = [worst_table(found, findings.base, pictures) for found in findings.tables]
    further = [gap_tables(found) + [w for w in [own] if w] for found, own in zip(findings.tables, worst, strict=True)]
    return {
        "findings": findings,
        "figures_of": {key: [one for one in drawn if one.section == key] for key in SECTIONS},
        "comparisons": [comparison_table(found) for found in findings.tables],
        "further": further,
        "differences": _differences(findings),
        "unfinished": alike(findings.unfinished),
        "counts": ", ".join(f"{num} {state}" for state, num in findings.progress.items() if num),
    }


def _templates() -> jinja2.Environment:
    found = environment()
    found.filters |= {"typeset": _typeset, "breakable": _breakable, "md": escaped, "inlined": _inlined}
    found.globals |= {"most_sentences": MOST_SENTENCES, "most_rows": MOST_ROWS}  # macros see globals alone
    return found


def escaped(text: object) -> str:
    """Text that Markdown shows as it is, on one line.

    >>> escaped("a|b_c"), escaped("<script>\\n1 * 2")
    ('a\\\\|b\\\\_c', '\\\\<script\\\\> 1 \\\\* 2')
    """
    return SPECIAL.sub(r"\\\1", " ".join(str(text).split()))


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


def _code(text: str) -> str:
    """A block of Markdown code that no line of ``text`` can end."""
    fence = "`" * max(3, 1 + max((len(run) for run in re.findall(r"`+", text)), default=0))
    return f"{fence}\n{text}\n{fence}"


def _inlined(drawn: Drawn) -> dict[str, Any]:
    """The smaller of a figure's two files, its size on the page, and its classes in the style sheet.

    A chart may be turned over in the dark, pictures may not.
    """
    png, svg = drawn.png.read_bytes(), drawn.svg.read_bytes()
    kind, content = min(("svg+xml", svg), ("png", png), key=lambda file: len(file[1]))
    width, height = (round(n * CSS_DPI / DPI) for n in struct.unpack(">II", png[16:24]))
    source = f"data:image/{kind};base64,{base64.b64encode(content).decode()}"
    look = ("pictures" if drawn.section == "pictures" else "chart") + (" broad" if width > BROAD else "")
    return {"source": source, "width": width, "height": height, "look": look}


def _differences(findings: Findings) -> Table | None:
    """The settings that differ, with the shorter of the two lists, groups or settings, as columns."""
    frame = findings.provenance.differences
    names = [str(name) for name in frame.columns]
    rows = [["" if present(v) is None else str(whole(v)) for v in row] for row in frame.itertuples(index=False)]
    if len(names) < 2 or not rows:
        return None
    names[0] = "Strategy"
    if len(names) - 1 > len(rows):
        names[0] = "Setting"
        names, *rows = map(list, zip(names, *rows, strict=True))
    columns = [Column(name, numeric=False) for name in names]
    body = tuple(tuple(Cell(text) for text in row) for row in rows)
    return Table("Settings that differ", tuple(columns), body, look="plain")


def _axis_tables(axis: Axis) -> list[Table]:
    """For Markdown, what the page has as a figure: for each number a row for each series, a column for each value."""
    points = plain_rows(axis.points)
    made = []
    for metric, what in axis.metrics.items():
        found = {(p["series"], p["value"]): _point(p) for p in points if p["metric"] == metric}
        columns = [
            Column(what),
            *(Column(f"{axis.key}={text}", always=True) for text in value_names(axis.values).values()),
        ]
        body = [
            [Cell(name), *(found.get((name, value)) or found.get((name, None)) or EMPTY for value in axis.values)]
            for name in dict.fromkeys(name for name, _ in found)
        ]
        made += [table(what, columns, body)] if body else []
    return made


def _point(point: dict[str, Any]) -> Cell:
    sign = "≥ " if point["at_least"] else ""
    return Cell(sign + number(point["mean"]), ends=interval(point["low"], point["high"]))
