"""The report as Markdown: the same sections as the page, with links to the figures."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from pathlib import Path

from vem.report.comparison_cells import Cell, comparison_cells, signed
from vem.report.ends import ends_text
from vem.report.figures.catalogue import Drawn
from vem.report.findings import Axis, Findings, Table, alike
from vem.report.further import further_tables
from vem.report.labels import value_names, whole
from vem.report.page import ABSENT, TITLES
from vem.report.quantities import present
from vem.report.table import number
from vem.report.words import plural
from vem.report.worst import NUMBERS, Case, Cases, worst_of

KINDS = {"finding": "", "loss": "What each loses, and why", "caution": "What cannot be concluded"}
# Within a line of text: what would begin an element, a cell, emphasis or HTML.
SPECIAL = re.compile(r"([\\`*_\[\]<>|#~$&])")


def markdown(findings: Findings, drawn: Sequence[Drawn], folder: Path) -> str:
    """The whole report; links to figures are relative to ``folder``."""
    counts = ", ".join(f"{count} {state}" for state, count in findings.progress.items() if count)
    lines = [f"# {escaped(findings.title)}", "", f"Written {findings.provenance.written}."]
    lines += ["", f"{counts}."] if counts else []
    body = {"answer": _answer, "comparison": _comparison, "gaps": _gaps, "axes": _axes, "provenance": _provenance}
    for index, (key, title) in enumerate(TITLES.items(), 1):
        lines += ["", f"## {index}. {title}", ""]
        own = list(body[key](findings)) if key in body else []
        figures = [line for one in drawn if one.section == key for line in _figure(one, findings, folder)]
        lines += [*([] if figures or (own and key != "gaps") else [" ".join(_absent(key))]), *figures, *own]
    return re.sub(r"\n{3,}", "\n\n", "\n".join(lines)).rstrip() + "\n"


def escaped(text: object) -> str:
    """Text that Markdown shows as it is, on one line.

    >>> escaped("a|b_c"), escaped("<script>\\n1 * 2")
    ('a\\\\|b\\\\_c', '\\\\<script\\\\> 1 \\\\* 2')
    """
    return SPECIAL.sub(r"\\\1", " ".join(str(text).split()))


def _absent(key: str) -> tuple[str, str]:
    text, command = ABSENT.get(key, ("Nothing to show.", ""))
    return text, f"`{command}`" if command else ""


def _code(text: str) -> list[str]:
    """A block of code that no line of ``text`` can end."""
    longest = max((len(run) for run in re.findall(r"`+", text)), default=0)
    fence = "`" * max(3, longest + 1)
    return [fence, text, fence]


def _cells(header: Sequence[object], rows: Sequence[Sequence[object]]) -> list[str]:
    def line(cells: Sequence[object]) -> str:
        return f"| {' | '.join(escaped(cell) for cell in cells)} |"

    return ["", line(header), f"|{' --- |' * len(header)}", *(line(row) for row in rows), ""]


def _name(findings: Findings, table: Table) -> list[str]:
    return ["", f"### {escaped(table.name)}", ""]


def _answer(findings: Findings) -> Iterator[str]:
    for table in findings.tables:
        yield from _name(findings, table)
        for kind, title in KINDS.items():
            said = [sentence.text for sentence in table.answer if sentence.kind == kind]
            if said:
                yield from (["", f"{title}:", ""] if title else [""])
                yield from (f"- {escaped(text)}" for text in said)
    if not findings.tables:
        yield "No run got far enough to be compared: the last section says which failed, and why."


def _comparison(findings: Findings) -> Iterator[str]:
    yield from (f"- {escaped(sentence)}" for sentence in findings.apart)
    for table in findings.tables:
        shown = comparison_cells(table)
        titles = [f"{c.part}: {c.title}" if c.part else c.title for c in shown.columns]
        rows = []
        for row in shown.rows:
            remarks = [*row.remarks, *([f"CHECKS FAILED: {row.failed}"] if row.failed else [])]
            rows.append([" · ".join([row.label, *remarks]), *(_cell(cell) for cell in row.cells)])
        yield from [*_name(findings, table), *_cells(["strategy", *titles], rows)]
        yield from (f"{escaped(remark)}\n" for remark in shown.remarks)
        yield from (f"- undefined ({index}): {escaped(note)}" for index, note in enumerate(shown.notes, 1))


def _cell(cell: Cell) -> str:
    note = f" ({cell.note})" if cell.note else ""
    ends = f" ({'; '.join(cell.ends)})" if cell.ends else ""
    return f"{cell.text} {cell.error}".strip() + ends + note


def _gaps(findings: Findings) -> Iterator[str]:
    """What the figures do not say in numbers, and the data on which q does worst."""
    for table in findings.tables:
        for own in further_tables(table):
            yield from _heading(findings, table, own.title)
            yield from _cells(own.columns, [[_cell(cell) for cell in row] for row in own.rows])
            yield from (f"{escaped(note)}\n" for note in own.notes)
    for cases in worst_of(findings, pictures=False):
        yield from _heading(findings, findings.tables[cases.table], "The worst cases")
        titles = ["strategy", "seed", "datum", *(["class"] if cases.labelled else []), *cases.titles]
        yield from _cells(titles, [_case(case, cases) for case in cases.rows])
        yield escaped(cases.caption)


def _case(case: Case, cases: Cases) -> list[str]:
    numbers = (NUMBERS[title](case) for title in cases.titles)
    texts = ["–" if value is None else sign + signed(value) for sign, value in numbers]
    label = [case.label or "–"] if cases.labelled else []
    return [case.group, "–" if case.seed is None else str(case.seed), f"{case.split}, row {case.row}", *label, *texts]


def _heading(findings: Findings, table: Table, title: str) -> list[str]:
    return ["", f"### {escaped(title + (f', {table.name}' if len(findings.tables) > 1 else ''))}", ""]


def _figure(drawn: Drawn, findings: Findings, folder: Path) -> list[str]:
    table = f" ({findings.tables[drawn.table].name})" if len(findings.tables) > 1 else ""
    link = drawn.png.relative_to(folder).as_posix()
    title = escaped(drawn.title + table)
    return ["", f"**{title}**", "", f"![{title}]({link})", "", escaped(drawn.caption)]


def _axes(findings: Findings) -> Iterator[str]:
    for table in findings.tables:
        for axis in table.axes:
            yield from _axis(axis, f"{axis.key}, {table.name}")


def _axis(axis: Axis, title: str) -> Iterator[str]:
    """A table for each number: a row for each series, a column for each value."""
    yield from ["", f"### {escaped(title)}", ""]
    points = [{str(k): present(v) for k, v in row.items()} for row in axis.points.to_dict("records")]
    for metric, what in axis.metrics.items():
        found = {(p["series"], p["value"]): p for p in points if p["metric"] == metric}
        body = [
            [name, *(_point(found.get((name, value)) or found.get((name, None))) for value in axis.values)]
            for name in dict.fromkeys(name for name, _ in found)
        ]
        if body:
            yield from _cells([what, *(f"{axis.key}={text}" for text in value_names(axis.values).values())], body)


def _point(point: dict[str, object] | None) -> str:
    if point is None:
        return "–"
    mean, low, high = (point[key] for key in ("mean", "low", "high"))
    assert isinstance(mean, float)
    text = ("≥ " if point["at_least"] else "") + number(mean)
    known = [end if isinstance(end, float) else None for end in (low, high)]
    ends = ends_text(known[0], known[1], number)
    return f"{text} ({ends})" if ends else text


def _provenance(findings: Findings) -> Iterator[str]:
    p = findings.provenance
    for title, lines in (("Commands", p.commands), ("This report again", (p.rebuild,))):
        yield from ["", f"{title}:", "", *(line for text in lines for line in [*_code(text), ""])] if lines else []
    counted = (("Commits", p.commits), ("Machines", p.machines))
    for title, found in counted:
        if found:
            counts = ", ".join(f"{escaped(name)} ({plural(count, 'run')})" for name, count in found.items())
            yield f"- {title}: {counts}"
    if p.versions:
        yield f"- Versions: {', '.join(escaped(f'{name} ' + ' | '.join(v)) for name, v in p.versions.items())}"
    yield from (f"- {escaped(remark)}" for remark in p.remarks)
    columns = [str(column) for column in p.differences.columns]
    if len(columns) > 1:
        rows = [["" if present(v) is None else whole(v) for v in row] for row in p.differences.itertuples(index=False)]
        yield from ["", "### Settings that differ", *_cells(columns, rows)]
    if findings.unfinished:
        yield from ["", "### Runs without a result", ""]
    for runs in alike(findings.unfinished):
        run = runs[0]
        if len(runs) == 1:
            yield f"- {run.status}: {escaped(run.who)}, {escaped(run.directory)}: {escaped(run.reason)}"
        else:
            places = "; ".join(f"{escaped(r.directory)} ({escaped(r.who)})" for r in runs)
            yield f"- {run.status}, {len(runs)} runs: {escaped(run.reason)}: {places}"
        if run.log:
            yield from ["", *(f"  {line}" for line in _code("\n  ".join(run.log.splitlines()))), ""]
