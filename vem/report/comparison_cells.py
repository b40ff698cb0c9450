"""The cells of the comparison table: what stands in each, what it is sorted by, and why a number is missing."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import accumulate, groupby
from typing import Any

from vem.report.aggregate import present, whole
from vem.report.findings import Table
from vem.report.table import UNDEFINED, number

Row = Mapping[str, Any]
NATS = "nats per datum"


@dataclass(frozen=True)
class Cell:
    """One cell: its text and error, the number that it is sorted by, and the reason where it is undefined.

    ``note`` numbers the reason's footnote, from 1; ``detail`` is said when the cell is pointed at.
    """

    text: str
    error: str = ""
    value: float | str | None = None
    reason: str = ""
    note: int = 0
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
    columns = [c for c in _columns(table) if c.always or any(c.cell(row).text != EMPTY.text for row in rows)]
    notes: dict[str, int] = {}
    body = []
    for row in rows:
        cells = [_noted(column.cell(row), notes) for column in columns]
        remarks = () if row.get("status") in (None, "done") else (str(row["status"]),)
        body.append(TableRow(str(row["label"]), remarks, str(row.get("checks_failed") or ""), tuple(cells)))
    spans = [(part, len(list(own))) for part, own in groupby(columns, key=lambda column: column.part)]
    opening = {0, *accumulate(span for _, span in spans)}
    columns = [replace(column, first=i in opening) for i, column in enumerate(columns)]
    return ComparisonTable(tuple(columns), tuple(spans), tuple(body), tuple(notes), tuple(_remarks(table, rows)))


def _columns(table: Table) -> list[Column]:
    test, gaps = f"ELBO, {NATS}", f"Gaps on test data, {NATS}"
    return [
        Column("Test", test, _estimate("test_elbo"), larger_first=True, always=True, sorted=True),
        Column(
            "Test, to baseline", test, _paired(table.baseline), larger_first=True, always=table.baseline is not None
        ),
        Column("Train", test, _estimate("train_elbo"), larger_first=True, always=True),
        Column("Test", f"log p(x), {NATS}", _log_marginal, larger_first=True),
        Column("Approximation", gaps, _gap("approximation")),
        Column("Amortization", gaps, _gap("amortization")),
        Column("Optimization", gaps, _gap("optimization")),
        Column("Inference", gaps, _gap("inference")),
        Column("Seconds", "Training", _cost("training_seconds", 1), always=True),
        Column("Decoder evaluations", "Training", _cost("decoder_evaluations", 0), always=True),
        Column("Seeds", "Training", _seeds, larger_first=True, always=True),
        Column("Kind", "Model", _model, numeric=False),
        Column("Parameters", "Model", _count("num_parameters"), always=True),
        Column("Active units", "Model", _count("test_active_units_mean", 1), larger_first=True),
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
    """± one standard error over seeds, or over the data of the one seed; and what it is over."""
    se, data_se = row.get(f"{name}_se"), row.get(f"{name}_data_se")
    if se is not None:
        return f"± {number(se)}", "standard error over seeds"
    return ("", "") if data_se is None else (f"± {number(data_se)}", "one seed: standard error over data")


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
        ends = "" if low is None or high is None else f"95 % interval {signed(low)} to {signed(high)}; "
        over = (
            "paired over data, one seed" if seeds == 1 else f"paired over {whole(seeds)} seeds" if seeds else "paired"
        )
        over += f"; {row['paired_reason']}" if row.get("paired_reason") else ""
        return Cell(signed(mean, plus=True), "" if se is None else f"± {number(se)}", mean, detail=ends + over)

    return cell


def _log_marginal(row: Row) -> Cell:
    name = "test_log_marginal_lower"
    exact, lower = row.get("test_log_marginal_mean"), row.get(f"{name}_mean")
    if exact is not None:
        known = str(row.get("test_log_marginal_kind") or "exact")
        return Cell(signed(exact), _error(row, "test_log_marginal")[0], exact, detail=known)
    if lower is None:
        return EMPTY
    kind = str(row.get("test_log_marginal_kind") or "")
    upper = row.get("test_log_marginal_upper_mean")
    if upper is not None and upper > lower:
        return Cell(
            f"{signed(lower)} to {signed(upper)}", "", lower, detail=f"between a lower and an upper bound, {kind}"
        )
    sign = "≥ " if row.get(f"{name}_at_least") else ""
    return Cell(sign + signed(lower), _error(row, name)[0], lower, detail=("a lower bound, " if sign else "") + kind)


def _gap(gap: str) -> Callable[[Row], Cell]:
    name = f"test_{gap}_gap"

    def cell(row: Row) -> Cell:
        mean = row.get(f"{name}_mean")
        if mean is None:
            missing = row.get(f"{name}_sought")  # a gap that is not this strategy's was not
            return Cell(UNDEFINED, reason=str(row[f"{name}_reason"])) if missing else EMPTY
        low, high = row.get(f"{name}_ci95_low"), row.get(f"{name}_ci95_high")
        ends = "" if low is None or high is None else f"95 % interval {signed(low)} to {signed(high)}"
        sign = "≥ " if row.get(f"{name}_at_least") else ""
        more = "; log p(x) is known from below alone" if sign else ""
        return Cell(sign + signed(mean), _error(row, name)[0], mean, detail=ends + more)

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


def _remarks(table: Table, rows: Sequence[Row]) -> list[str]:
    """What the signs in the table mean."""
    several, single = (any(test(row.get("seeds") or 0) for row in rows) for test in (lambda n: n > 1, lambda n: n == 1))
    over = "over seeds" if several else "over data"
    lines = [f"Larger ELBOs and smaller gaps are better; ± one standard error {over}"]
    lines[0] += ", over data where there is one seed." if several and single else "."
    if table.baseline is not None and len(rows) > 1:
        lines.append(f"Differences in test ELBO to the baseline, {table.baseline}, are paired; positive is better.")
    if any(row.get("test_approximation_gap_at_least") or row.get("test_log_marginal_lower_at_least") for row in rows):
        lines.append("≥: log p(x) is known from below alone, so the truth is at least this.")
    return lines
