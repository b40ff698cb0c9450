"""The comparison table, and those beside it: gaps split by split, families, generalization, further bounds."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from vem.report import findings
from vem.report.ends import ends_text
from vem.report.estimates import PASSED
from vem.report.figures.gaps import FORMULAS
from vem.report.labels import whole
from vem.report.quantities import BOUNDS, GAPS, Estimate, elbo_order, estimate, fact, families, gaps_of, plain_rows
from vem.report.table import EMPTY, UNDEFINED, Cell, Column, Table, number, table
from vem.report.words import NATS, listed, plural
from vem.storage.records import SPLITS

Row = Mapping[str, Any]
LOOSE = "LOOSE"
DATA = {"train": "training", "valid": "validation", "test": "test"}


def comparison_table(compared: findings.Table) -> Table:
    """The groups of :class:`vem.report.findings.Table` beside each other."""
    rows = sorted(plain_rows(compared.groups), key=elbo_order)
    columns = _columns(compared.baseline, next((s for s in ("test", *SPLITS) for r in rows if gaps_of(r, s)), "test"))
    head = Column("Strategy", numeric=False, always=True)
    body = [(_head(row), *(cell(row) for _, cell in columns)) for row in rows]
    notes = [f"In {NATS}; larger ELBOs and smaller gaps are better."]
    if any(estimate(row, None, "paired").mean is not None for row in rows):
        notes.append(f"Differences in test ELBO to the baseline, {compared.baseline}, are paired; positive is better.")
        notes += _unpaired(rows)
    shown = [head, *(column for column, _ in columns)]
    return table("Comparison", shown, body, notes, look="comparison", sortable=True)


def _head(row: Row) -> Cell:
    remarks = () if row.get("status") in (None, "done") else (str(row["status"]),)
    return Cell(label := str(row["label"]), value=label, remarks=remarks, failed=str(row.get("checks_failed") or ""))


def _columns(baseline: str | None, split: str) -> list[tuple[Column, Callable[[Row], Cell]]]:
    elbo, gaps = f"ELBO, {NATS}", f"Gaps on {DATA[split]} data, {NATS}"
    on = split.capitalize()
    return [
        (Column("Test", elbo, larger_first=True, always=True, sorted=True, brief="Test ELBO"),
         lambda row: quantity(row, "test", "elbo", required=True)),
        (Column("Test, to baseline", elbo, larger_first=True, always=baseline is not None),
         lambda row: _paired(row, baseline)),
        (Column("Train", elbo, larger_first=True, always=True, brief="Train ELBO"),
         lambda row: quantity(row, "train", "elbo", required=True)),
        (Column(on, f"log p(x), {NATS}", larger_first=True, brief=f"{on} log p(x)"),
         lambda row: log_marginal(row, split)),
        *((Column(kind.capitalize(), gaps, brief=""), lambda row, gap=gap: quantity(row, split, gap))
          for kind, gap in GAPS.items()),
        (Column("Seconds", "Training", always=True), lambda row: _cost(row, "training_seconds", 1)),
        (Column("Decoder evaluations", "Training", always=True), lambda row: _cost(row, "decoder_evaluations", 0)),
        (Column("Seeds", "Training", larger_first=True, always=True), _seeds),
        (Column("Kind", "Model", numeric=False, brief="Model"), _model),
        (Column("Parameters", "Model", always=True, brief=""), lambda row: count(row.get("num_parameters"))),
        (Column("Active units", "Model", larger_first=True, brief=""),
         lambda row: count(estimate(row, split, "active_units").mean)),
        (Column("Trained on", "Data"), lambda row: count(row.get("num_train"))),
        (Column("Evaluated on (test)", "Data", larger_first=True, brief=""), lambda row: count(row.get("num_data"))),
    ]  # fmt: skip


# --- cells


def quantity(
    row: Row, split: str, name: str, family: str | None = None, over_data: bool = False, required: bool = False
) -> Cell:
    """A number with its error and interval, and ≥ before what is known from below alone.

    ``over_data``: of several seeds with the interval over data beside the one over seeds; ``required``: undefined where
    it was not measured, else empty unless some run looked for it.
    """
    found = estimate(row, split, name, family)
    if found.mean is None and name == GAPS["inference"] and estimate(row, split, "exact_loss").mean is not None:
        found = estimate(row, split, "exact_loss")  # log p(x) is known, and no best q was sought
    if found.mean is None:
        return Cell(UNDEFINED, reason=str(found.reason)) if found.sought or required else EMPTY
    ends, data = interval(found.low, found.high), interval(found.data_low, found.data_high)
    if over_data and ends and data and found.se is not None:
        ends = (f"seeds {ends[0]}", f"data {data[0]}")
    error, over = _error(found, row)
    sign = "≥ " if found.one_sided else ""
    return Cell(sign + number(found.mean), error, found.mean, ends=ends, detail=over)


def _error(found: Estimate, row: Row) -> tuple[str, str]:
    """± one standard error over seeds, or over the data of one seed, and of how many where not all; what it is over."""
    of = f" ({found.over} of {row['seeds']} seeds)" if found.over else ""
    if found.se is not None:
        return f"± {number(found.se)}{of}", "standard error over seeds"
    if found.data_se is not None:
        return f"± {number(found.data_se)}{of}", "one seed: standard error over data"
    return of.strip(), ""


def interval(low: float | None, high: float | None) -> tuple[str, ...]:
    """The line of an interval, of one end where it has one; none where there is none.

    >>> interval(-0.5, 1), interval(-0.5, None), interval(None, None)
    (('−0.50 to 1.00',), ('at least −0.50 (97.5 %)',), ())
    """
    text = ends_text(low, high, number)
    return (text,) if text else ()


def log_marginal(row: Row, split: str) -> Cell:
    """log p(x) where it is known, else the bounds that it lies between, or the one that there is."""
    exact, lower, upper = (estimate(row, split, f"log_marginal{end}") for end in ("", "_lower", "_upper"))
    if exact.mean is not None:
        return Cell(number(exact.mean), _error(exact, row)[0], exact.mean, detail=exact.kind or "exact")
    if lower.mean is None:
        return EMPTY
    kind = lower.kind or ""
    if upper.mean is not None and number(upper.mean) != number(lower.mean):
        both = f"{number(lower.mean)} to {number(upper.mean)}"
        return Cell(both, "", lower.mean, detail=f"between a lower and an upper bound, {kind}")
    sign, below = ("≥ ", "a lower bound, ") if lower.one_sided else ("", "")
    return Cell(sign + number(lower.mean), _error(lower, row)[0], lower.mean, detail=below + kind)


def _paired(row: Row, baseline: str | None) -> Cell:
    if row["label"] == baseline:
        return Cell("baseline", value=0.0, detail="the others are compared with it")
    found = estimate(row, None, "paired")
    if found.mean is None:
        return EMPTY if baseline is None else Cell(UNDEFINED, reason=str(found.reason))
    ends, seeds = interval(found.low, found.high), found.over or 0
    if ends and 0 < seeds < (row.get("seeds") or 0):
        ends = (f"{ends[0]}, {plural(seeds, 'common seed')}",)
    over = "over data, one seed" if seeds == 1 else f"over {seeds} seeds" if seeds else ""
    error = "" if found.se is None else f"± {number(found.se)}"
    return Cell(number(found.mean, plus=True), error, found.mean, ends=ends, detail=f"paired {over}")


def _unpaired(rows: Sequence[Row]) -> list[str]:
    """Which differences are not what the line above says."""
    found: dict[str, list[str]] = {}
    for row in rows:
        own = estimate(row, None, "paired")
        if own.mean is not None and own.reason:
            found.setdefault(own.reason, []).append(str(row["label"]))
    return [f"{listed(labels)}: {reason}." for reason, labels in found.items()]


def _cost(row: Row, name: str, digits: int) -> Cell:
    found = estimate(row, None, name)
    if found.mean is None:
        return EMPTY
    error = f"± {number(found.se, digits)}" if found.se else ""
    return Cell(number(found.mean, digits), error, found.mean, detail="mean over seeds")


def count(value: float | None) -> Cell:
    """A number of things, with a decimal where it is a mean that is not whole."""
    return EMPTY if value is None else Cell(number(value, 0 if float(value).is_integer() else 1), value=float(value))


def _seeds(row: Row) -> Cell:
    seeds, runs = row.get("seeds") or 0, row.get("runs") or 0
    return Cell(f"{seeds}" if seeds == runs else f"{seeds} of {runs}", value=float(seeds))


def _model(row: Row) -> Cell:
    facts = [str(row["model"])] if row.get("model") is not None else []
    if row.get("family") is not None:
        facts.append(str(row["family"]).replace("_", " "))
    if row.get("latent_dim") is not None:
        facts.append(f"{whole(row['latent_dim'])}-D z")
    text = ", ".join(facts) or EMPTY.text
    return Cell(text, value=text)


# --- beside the comparison


def gap_tables(compared: findings.Table) -> list[Table]:
    """Those that have rows, a row for each group and split; groups by test ELBO, as in the comparison."""
    places = [(row, split) for row in sorted(plain_rows(compared.groups), key=elbo_order) for split in SPLITS]
    made = (_gaps([p for p in places if gaps_of(*p)]), _families(places), _generalization(places), _bounds(places))
    return [found for found in made if found.rows]


def _gaps(places: Sequence[tuple[Row, str]]) -> Table:
    measured = {kind for place in places for kind in gaps_of(*place)}
    found = [kind for kind in GAPS if kind in measured]
    columns = [*_who("Data"), *(Column(kind.capitalize()) for kind in found), Column("log p(x)"),
               Column("Active units"), _words("log p(x) by"), _words("Checks")]  # fmt: skip
    body = [
        [
            Cell(str(row["label"])),
            Cell(DATA[split] + (f", {few} data" if (few := fact(row, split, "gap_data")) else "")),
            *(quantity(row, split, GAPS[kind], over_data=True) for kind in found),
            log_marginal(row, split),
            count(estimate(row, split, "active_units").mean),
            _text(estimate(row, split, "log_marginal_lower").kind),
            _checks(fact(row, split, "checks")),
        ]
        for row, split in places
    ]
    notes = [f"In {NATS}, paired: {'; '.join(FORMULAS[kind] for kind in found)}.", *_widths(places)]
    for i in (len(columns) - 1, len(columns) - 2):  # what is the same in every row is told once
        if len(told := {row[i].text for row in body}) == 1:
            notes.append(f"{columns[i].title}: {told.pop()}.")
            columns.pop(i)
            body = [[*row[:i], *row[i + 1 :]] for row in body]
    return table("Gaps in numbers", columns, body, notes)


def _families(places: Sequence[tuple[Row, str]]) -> Table:
    columns = [*_who("Data"), _words("Family"), Column("L[q*]"), Column("Approximation gap"), Column("Gain over own"),
               Column("Converged")]  # fmt: skip
    body = []
    for row, split in places:
        for family in families(row, split):
            share = estimate(row, split, "converged", family).mean
            costs = [quantity(row, split, name, family, over_data=True)
                     for name in ("best_elbo", GAPS["approximation"], "gain_over_own")]  # fmt: skip
            converged = EMPTY if share is None else Cell(f"{share:.0%}")
            body.append([*_place(row, split), Cell(family.replace("_", " ")), *costs, converged])
    note = f"In {NATS}. Gain over own: L[q*] of this family − L[q*] of the strategy's own; converged: of the data."
    return table("What each family costs", columns, body, [note])


def _generalization(places: Sequence[tuple[Row, str]]) -> Table:
    names = {
        "amortization_generalization": "Amortization gap, held out − training",
        "model_generalization_best_elbo": "L[q*], training − held out",
        "model_generalization_log_marginal": "log p(x), training − held out",
    }
    places = [(r, s) for r, s in places if any(estimate(r, s, name).mean is not None for name in names)]
    body = [[*_place(r, s), *(quantity(r, s, name, over_data=True) for name in names)] for r, s in places]
    note = f"In {NATS}: of the encoder the difference of its amortization gaps, of the model the others."
    return table("Generalization", [*_who("Held out"), *map(Column, names.values())], body, [note])


def _bounds(places: Sequence[tuple[Row, str]]) -> Table:
    columns = [*_who("Data"), _words("Bound"), Column("Value"), Column("Effective samples"), _words("")]
    body = []
    for row, split in places:
        for name in BOUNDS:
            found = estimate(row, split, name)
            if found.kind is not None and found.mean is not None:
                loose = Cell(LOOSE if found.loose else "")
                body.append(
                    [*_place(row, split), Cell(found.kind), quantity(row, split, name), count(found.ess), loose]
                )
    notes = [f"In {NATS}; the gaps are not taken from these. Effective samples: median over data."]
    if any(row[-1].text for row in body):
        notes.append(f"{LOOSE}: too few effective samples, so that the bound is too low by an unknown amount.")
    return table("Further lower bounds on log p(x)", columns, body, notes)


def _who(data: str) -> tuple[Column, Column]:
    return _words("Group"), _words(data)


def _words(title: str) -> Column:
    return Column(title, numeric=False)


def _place(row: Row, split: str) -> tuple[Cell, Cell]:
    return Cell(str(row["label"])), Cell(DATA[split])


def _text(value: Any) -> Cell:
    return EMPTY if value in (None, "") else Cell(str(value))


def _checks(names: str | None) -> Cell:
    """The checks that failed in some seed, else that they passed."""
    failed = [name for name in (names or "").split("; ") if name and name != PASSED]
    return Cell(f"FAILED: {', '.join(dict.fromkeys(failed))}") if failed else _text(names)


def _widths(places: Sequence[tuple[Row, str]]) -> list[str]:
    """What the lower bounds may still miss: the interval's width on simulated data."""
    found = {}
    for row, split in places:
        width, worst = (fact(row, split, f"simulated_{end}") for end in ("width", "worst"))
        if width is not None and worst is not None:
            found[row["label"]] = f"{number(width, 3)} nats wide in the mean, {number(worst, 3)} at worst"
    first = ("On data that the model itself made, log p(x) lies in an interval that tells what the bound may miss; "
             "real data may differ from those:")  # fmt: skip
    return [f"{first} {'; '.join(f'{who}: {text}' for who, text in found.items())}."] if found else []
