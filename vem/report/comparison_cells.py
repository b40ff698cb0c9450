"""The cells of the comparison table: what stands in each, what it is sorted by, and why a number is missing."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import accumulate, groupby
from typing import Any

from vem.report.alike import fewer
from vem.report.ends import AT_LEAST, ONE_END, ends_text
from vem.report.estimates import EXACT_LOSS, GAPS
from vem.report.findings import Table
from vem.report.labels import whole
from vem.report.quantities import present
from vem.report.table import UNDEFINED, number
from vem.report.words import listed, plural
from vem.storage.records import SPLITS

Row = Mapping[str, Any]
NATS = "nats per datum"
DATA = {"train": "training", "valid": "validation", "test": "test"}


@dataclass(frozen=True)
class Cell:
    """One cell: its text and error, the number that it is sorted by, and the reason where it is undefined.

    ``note`` numbers the reason's footnote, from 1; ``ends``: its intervals, a line each; ``detail`` is said when the
    cell is pointed at.
    """

    text: str
    error: str = ""
    value: float | str | None = None
    reason: str = ""
    note: int = 0
    ends: tuple[str, ...] = ()
    detail: str = ""


@dataclass(frozen=True)
class Column:
    """One column: its title below the title of its part of the table."""

    title: str
    part: str
    cell: Callable[[Row], Cell]
    numeric: bool = True
    larger_first: bool = False
    always: bool = False  # also where every cell of it is empty
    sorted: bool = False  # the rows stand by it
    first: bool = False  # of its part


@dataclass(frozen=True)
class TableRow:
    """One group: its name, what is wrong with it, and its cells."""

    label: str
    remarks: tuple[str, ...]
    failed: str
    cells: tuple[Cell, ...]


@dataclass(frozen=True)
class ComparisonTable:
    """What the page shows of a :class:`vem.report.findings.Table`; rows by test ELBO, the undefined last."""

    columns: tuple[Column, ...]
    parts: tuple[tuple[str, int], ...]  # titles above the columns, and how many each spans
    rows: tuple[TableRow, ...]
    notes: tuple[str, ...]  # why numbers are undefined
    remarks: tuple[str, ...]


EMPTY = Cell("–")


def comparison_cells(table: Table) -> ComparisonTable:
    """The comparison table of the page."""
    rows = [{str(k): present(v) for k, v in row.items()} for row in table.groups.to_dict("records")]
    rows.sort(key=lambda row: -row["test_elbo_mean"] if row.get("test_elbo_mean") is not None else float("inf"))
    known = _columns(table, measured_split(rows))
    columns = [c for c in known if c.always or any(c.cell(row).text != EMPTY.text for row in rows)]
    notes: dict[str, int] = {}
    body = []
    for row in rows:
        cells = [_noted(column.cell(row), notes) for column in columns]
        remarks = () if row.get("status") in (None, "done") else (str(row["status"]),)
        body.append(TableRow(str(row["label"]), remarks, str(row.get("checks_failed") or ""), tuple(cells)))
    spans = [(part, len(list(own))) for part, own in groupby(columns, key=lambda column: column.part)]
    opening = {0, *accumulate(span for _, span in spans)}
    columns = [replace(column, first=i in opening) for i, column in enumerate(columns)]
    return ComparisonTable(tuple(columns), tuple(spans), tuple(body), tuple(notes), tuple(_remarks(table, rows, body)))


def measured_split(rows: Sequence[Row]) -> str:
    """The split whose gaps stand in the table: test, else the first that has some."""
    known = [s for s in ("test", *SPLITS) for row in rows for gap in GAPS if row.get(f"{s}_{gap}_gap_mean") is not None]
    return next(iter(known), "test")


def _columns(table: Table, split: str) -> list[Column]:
    test, gaps = f"ELBO, {NATS}", f"Gaps on {DATA[split]} data, {NATS}"
    return [
        Column("Test", test, _estimate("test_elbo"), larger_first=True, always=True, sorted=True),
        Column(
            "Test, to baseline", test, _paired(table.baseline), larger_first=True, always=table.baseline is not None
        ),
        Column("Train", test, _estimate("train_elbo"), larger_first=True, always=True),
        Column(split.capitalize(), f"log p(x), {NATS}", _log_marginal(split), larger_first=True),
        *(Column(gap.capitalize(), gaps, bounded(f"{split}_{gap}_gap")) for gap in GAPS),
        Column("Seconds", "Training", _cost("training_seconds", 1), always=True),
        Column("Decoder evaluations", "Training", _cost("decoder_evaluations", 0), always=True),
        Column("Seeds", "Training", _seeds, larger_first=True, always=True),
        Column("Kind", "Model", _model, numeric=False),
        Column("Parameters", "Model", _count("num_parameters"), always=True),
        Column("Active units", "Model", _count(f"{split}_active_units_mean", 1), larger_first=True),
        Column("Trained on", "Data", _count("num_train")),
        Column("Evaluated on (test)", "Data", _count("num_data"), larger_first=True),
    ]


def _noted(cell: Cell, notes: dict[str, int]) -> Cell:
    """The cell with the number of its footnote; each reason has one."""
    if not cell.reason:
        return cell
    return Cell(cell.text, reason=cell.reason, note=notes.setdefault(cell.reason, len(notes) + 1))


def _model(row: Row) -> Cell:
    facts = [str(row["model"])] if row.get("model") is not None else []
    if row.get("family") is not None:
        facts.append(str(row["family"]).replace("_", " "))
    if row.get("latent_dim") is not None:
        facts.append(f"{whole(row['latent_dim'])}-D z")
    text = ", ".join(facts) or EMPTY.text
    return Cell(text, value=text)


def signed(value: float, digits: int = 2, plus: bool = False) -> str:
    """A number with a true minus sign, and where wanted a plus.

    >>> signed(-1.234), signed(0.5, plus=True)
    ('−1.23', '+0.50')
    """
    text = number(value, digits).replace("-", "−")
    return f"+{text}" if plus and value > 0 and not text.startswith("−") else text


def _error(row: Row, name: str) -> tuple[str, str]:
    """± one standard error over seeds, or over the data of one seed, and of how many where not all; what it is over."""
    se, data_se, of = row.get(f"{name}_se"), row.get(f"{name}_data_se"), fewer(row, name)
    if se is not None:
        return f"± {number(se)}{of}", "standard error over seeds"
    return (of.strip(), "") if data_se is None else (f"± {number(data_se)}{of}", "one seed: standard error over data")


def _estimate(name: str) -> Callable[[Row], Cell]:
    def cell(row: Row) -> Cell:
        mean = row.get(f"{name}_mean")
        if mean is None:
            return Cell(UNDEFINED, reason=str(row.get(f"{name}_reason") or "not measured"))
        error, over = _error(row, name)
        return Cell(signed(mean), error, mean, detail=over)

    return cell


def _paired(baseline: str | None) -> Callable[[Row], Cell]:
    def cell(row: Row) -> Cell:
        if row["label"] == baseline:
            return Cell("baseline", value=0.0, detail="the others are compared with it")
        mean, se = row.get("paired_mean"), row.get("paired_se")
        if mean is None:
            reason = row.get("paired_reason")
            return Cell(UNDEFINED, reason=str(reason)) if reason else EMPTY
        low, high, seeds = (row.get(f"paired_{part}") for part in ("ci95_low", "ci95_high", "seeds"))
        ends = interval(low, high)
        fewer = seeds is not None and seeds < (row.get("seeds") or 0)
        ends = (f"{ends[0]}, {plural(int(seeds or 0), 'common seed')}",) if ends and fewer else ends
        over = "over data, one seed" if seeds == 1 else f"over {whole(seeds)} seeds" if seeds else ""
        return Cell(
            signed(mean, plus=True), "" if se is None else f"± {number(se)}", mean, ends=ends, detail=f"paired {over}"
        )

    return cell


def interval(low: float | None, high: float | None) -> tuple[str, ...]:
    """The line of an interval, of one end where it has one; none where there is none.

    >>> interval(-0.5, 1), interval(-0.5, None), interval(None, None)
    (('−0.50 to 1.00',), ('at least −0.50 (97.5 %)',), ())
    """
    text = ends_text(low, high, signed)
    return (text,) if text else ()


def _log_marginal(split: str) -> Callable[[Row], Cell]:
    def cell(row: Row) -> Cell:
        exact = row.get(f"{split}_log_marginal_mean")
        if exact is not None:
            known = str(row.get(f"{split}_log_marginal_kind") or "exact")
            return Cell(signed(exact), _error(row, f"{split}_log_marginal")[0], exact, detail=known)
        return marginal_bounds(split)(row)

    return cell


def marginal_bounds(split: str) -> Callable[[Row], Cell]:
    """The bounds on log p(x), or the one that is known."""
    name = f"{split}_log_marginal"

    def cell(row: Row) -> Cell:
        lower, upper = row.get(f"{name}_lower_mean"), row.get(f"{name}_upper_mean")
        if lower is None:
            return EMPTY
        kind = str(row.get(f"{name}_kind") or "")
        if upper is not None and number(upper) != number(lower):
            both = f"{signed(lower)} to {signed(upper)}"
            return Cell(both, "", lower, detail=f"between a lower and an upper bound, {kind}")
        sign = "≥ " if row.get(f"{name}_lower_at_least") else ""
        error, _ = _error(row, f"{name}_lower")
        return Cell(sign + signed(lower), error, lower, detail=("a lower bound, " if sign else "") + kind)

    return cell


def bounded(name: str, over_data: bool = False) -> Callable[[Row], Cell]:
    """A number with its interval, and ≥ before what is known from below alone.

    ``over_data``: of several seeds with the interval over data beside the one over seeds.
    """
    exact = name.replace("inference_gap", EXACT_LOSS)  # of a model whose log p(x) is known, and no best q was sought

    def cell(row: Row) -> Cell:
        mean = row.get(f"{name}_mean")
        if mean is None and exact != name and row.get(f"{exact}_mean") is not None:
            return bounded(exact, over_data)(row)
        if mean is None:
            missing = row.get(f"{name}_sought")  # a gap that is not this strategy's was not
            return Cell(UNDEFINED, reason=str(row[f"{name}_reason"])) if missing else EMPTY
        ends = interval(row.get(f"{name}_ci95_low"), row.get(f"{name}_ci95_high"))
        data = interval(row.get(f"{name}_data_ci95_low"), row.get(f"{name}_data_ci95_high"))
        if over_data and ends and data and row.get(f"{name}_se") is not None:
            ends = (f"seeds {ends[0]}", f"data {data[0]}")
        sign = "≥ " if row.get(f"{name}_at_least") else ""
        error, over = _error(row, name)
        return Cell(sign + signed(mean), error, mean, ends=ends, detail=over)

    return cell


def _cost(name: str, digits: int) -> Callable[[Row], Cell]:
    def cell(row: Row) -> Cell:
        mean, se = row.get(f"{name}_mean"), row.get(f"{name}_se")
        if mean is None:
            return EMPTY
        return Cell(number(mean, digits), f"± {number(se, digits)}" if se else "", mean, detail="mean over seeds")

    return cell


def _count(name: str, digits: int = 0) -> Callable[[Row], Cell]:
    def cell(row: Row) -> Cell:
        value = row.get(name)
        if value is None:
            return EMPTY
        return Cell(number(value, 0 if float(value).is_integer() else digits), value=float(value))

    return cell


def _seeds(row: Row) -> Cell:
    seeds, runs = row.get("seeds") or 0, row.get("runs") or 0
    return Cell(f"{seeds}" if seeds == runs else f"{seeds} of {runs}", value=float(seeds))


def _unpaired(rows: Sequence[Row]) -> list[str]:
    """Which differences are not what the line above says."""
    found: dict[str, list[str]] = {}
    for row in rows:
        if row.get("paired_mean") is not None and row.get("paired_reason"):
            found.setdefault(str(row["paired_reason"]), []).append(str(row["label"]))
    return [f"{listed(labels)}: {reason}." for reason, labels in found.items()]


def _remarks(table: Table, rows: Sequence[Row], body: Sequence[TableRow]) -> list[str]:
    """What the signs in the table mean."""
    several, single = (any(test(row.get("seeds") or 0) for row in rows) for test in (lambda n: n > 1, lambda n: n == 1))
    single = single or any(n == 1 for row in rows for name, n in row.items() if name.endswith("_over"))
    over = "over seeds" if several else "over data"
    lines = [f"Larger ELBOs and smaller gaps are better; ± one standard error {over}"]
    lines[0] += ", over data where there is one seed." if several and single else "."
    if table.baseline is not None and len(rows) > 1:
        lines.append(f"Differences in test ELBO to the baseline, {table.baseline}, are paired; positive is better.")
        lines += _unpaired(rows)
    if any(cell.ends for row in body for cell in row.cells):
        lines.append("With a difference or a gap stands its 95 % interval.")
    if any(AT_LEAST in end for row in body for cell in row.cells for end in cell.ends):
        lines.append(ONE_END.capitalize())
    if any("≥" in cell.text for row in body for cell in row.cells):
        lines.append("≥: log p(x) is known from below alone, so the truth is at least this.")
    return lines
