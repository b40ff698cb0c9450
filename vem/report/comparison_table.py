"""The comparison table, and those beside it: gaps split by split, families, generalization, further bounds."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from vem.report import findings, quantities
from vem.report.ends import ends_text
from vem.report.figures.gaps import FORMULAS
from vem.report.frame import PASSED
from vem.report.kin import by
from vem.report.labels import whole
from vem.report.prose import worded
from vem.report.quantities import GAPS, Estimate, elbo_order, estimate, fact, families, gaps_of, plain_rows
from vem.report.table import EMPTY, UNDEFINED, Cell, Column, Table, number, table
from vem.report.words import NATS, listed, plural
from vem.storage.records import SPLITS

Row = Mapping[str, Any]
LOOSE = "LOOSE"
DATA = {"train": "training", "valid": "validation", "test": "test"}


def comparison_table(compared: findings.Table) -> Table:
    """The groups of :class:`vem.report.findings.Table` beside each other."""
    rows = sorted(plain_rows(compared.groups), key=elbo_order)
    baseline, split = compared.baseline, next((s for s in ("test", *SPLITS) for r in rows if gaps_of(r, s)), "test")
    elbo, gaps, on = f"ELBO, {NATS}", f"Gaps on {DATA[split]} data, {NATS}", split.capitalize()
    columns: list[tuple[Column, Callable[[Row], Cell]]] = [
        (Column("Strategy", numeric=False, always=True), _head),
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
    notes = [f"In {NATS}; larger ELBOs and smaller gaps are better."]
    if any(estimate(row, None, "paired").mean is not None for row in rows):
        notes.append(f"Differences in test ELBO to the baseline, {baseline}, are paired; positive is better.")
        notes += _unpaired(rows)
    body = [[cell(row) for _, cell in columns] for row in rows]
    return table("Comparison", [own for own, _ in columns], body, notes, look="comparison", sortable=True)


def _unpaired(rows: Sequence[Row]) -> list[str]:
    """Which differences are not what the line above says."""
    found = {str(row["label"]): own for row in rows if (own := estimate(row, None, "paired")).mean is not None}
    reasons = by((own.reason for own in found.values()), found)
    return [f"{listed(labels)}: {reason}." for reason, labels in reasons.items() if reason]


# --- cells


def _number(found: Estimate, row: Row, digits: int = 2, plus: bool = False, **more: Any) -> Cell:
    """A number with ± one standard error over seeds, or over the data of one seed, and of how many where not all."""
    se, over = (found.se, "standard error over seeds") if found.se is not None else (
        found.data_se, "" if found.data_se is None else "one seed: standard error over data")  # fmt: skip
    error = [] if se is None else [f"± {number(se, digits)}"]
    error += [f"({found.over} of {row['seeds']} seeds)"] if found.over else []
    assert found.mean is not None
    text = ("≥ " if found.one_sided else "") + number(found.mean, digits, plus)
    return Cell(text, " ".join(error), found.mean, **{"detail": over, **more})


def quantity(
    row: Row, split: str, name: str, family: str | None = None, over_data: bool = False, required: bool = False
) -> Cell:
    """A number with its error and interval, and ≥ before what is known from below alone.

    ``over_data``: of several seeds with the interval over data beside the one over seeds; ``required``: undefined where
    it was not measured, else empty unless some run looked for it.
    """
    found = estimate(row, split, name, family)
    if found.mean is None and name == GAPS["inference"]:  # where log p(x) is known, and no best q was sought
        exact = estimate(row, split, "exact_loss")
        found = found if exact.mean is None else exact
    if found.mean is None:
        return Cell(UNDEFINED, reason=str(found.reason)) if found.sought or required else EMPTY
    ends, data = interval(found.low, found.high), interval(found.data_low, found.data_high)
    if over_data and ends and data and found.se is not None:
        ends = (f"seeds {ends[0]}", f"data {data[0]}")
    return _number(found, row, ends=ends)


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
        return _number(exact, row, detail=exact.kind or "exact")
    if lower.mean is None:
        return EMPTY
    if upper.mean is not None and number(upper.mean) != number(lower.mean):
        both = f"{number(lower.mean)} to {number(upper.mean)}"
        return Cell(both, "", lower.mean, detail=f"between a lower and an upper bound, {lower.kind or ''}")
    return _number(lower, row, detail=("a lower bound, " if lower.one_sided else "") + (lower.kind or ""))


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
    return _number(found._replace(over=None), row, plus=True, ends=ends, detail=f"paired {over}")


def _cost(row: Row, name: str, digits: int) -> Cell:
    found = estimate(row, None, name)
    own = found._replace(se=found.se or None)
    return EMPTY if found.mean is None else _number(own, row, digits, detail="mean over seeds")


def count(value: float | None) -> Cell:
    """A number of things, with a decimal where it is a mean that is not whole."""
    return EMPTY if value is None else Cell(number(value, 0 if float(value).is_integer() else 1), value=float(value))


def _head(row: Row) -> Cell:
    remarks = () if row.get("status") in (None, "done") else (str(row["status"]),)
    return Cell(label := str(row["label"]), value=label, remarks=remarks, failed=str(row.get("checks_failed") or ""))


def _seeds(row: Row) -> Cell:
    seeds, runs = row.get("seeds") or 0, row.get("runs") or 0
    return Cell(f"{seeds}" if seeds == runs else f"{seeds} of {runs}", value=float(seeds))


def _model(row: Row) -> Cell:
    family, size = str(row.get("family") or "").replace("_", " "), row.get("latent_dim")
    facts = [str(row.get("model") or ""), family, "" if size is None else f"{whole(size)}-D z"]
    text = ", ".join(filter(None, facts)) or EMPTY.text
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
    columns = [*_words("Group", "Data"), *(Column(kind.capitalize()) for kind in found), Column("log p(x)"),
               Column("Active units"), *_words("log p(x) by", "Checks")]  # fmt: skip
    body = [
        [
            *_place(row, split, fact(row, split, "gap_data")),
            *(quantity(row, split, GAPS[kind], over_data=True) for kind in found),
            log_marginal(row, split),
            count(estimate(row, split, "active_units").mean),
            Cell(estimate(row, split, "log_marginal_lower").kind or EMPTY.text),
            Cell(_checks(fact(row, split, "checks") or EMPTY.text)),
        ]
        for row, split in places
    ]
    notes = [f"In {NATS}, paired: {'; '.join(FORMULAS[kind] for kind in found)}.", *_widths(places)]
    for i in (len(columns) - 1, len(columns) - 2):  # what is the same in every row is told once
        if len(told := {row[i].text for row in body}) == 1:
            notes.append(f"{columns.pop(i).title}: {told.pop()}.")
            body = [[*row[:i], *row[i + 1 :]] for row in body]
    return table("Gaps in numbers", columns, body, notes)


def _families(places: Sequence[tuple[Row, str]]) -> Table:
    columns = [*_words("Group", "Data", "Family"), Column("L[q*]"), Column("Approximation gap"),
               Column("Gain over own"), Column("Converged")]  # fmt: skip
    body = []
    for row, split, family in [(*place, family) for place in places for family in families(*place)]:
        costs = [quantity(row, split, name, family, over_data=True)
                 for name in ("best_elbo", GAPS["approximation"], "gain_over_own")]  # fmt: skip
        share = estimate(row, split, "converged", family).mean
        converged = EMPTY if share is None else Cell(f"{share:.0%}")
        body.append([*_place(row, split), Cell(family.replace("_", " ")), *costs, converged])
    note = f"In {NATS}. Gain over own: L[q*] of this family − L[q*] of the strategy's own; converged: of the data."
    return table("What each family costs", columns, body, [note])


def _generalization(places: Sequence[tuple[Row, str]]) -> Table:
    names = quantities.GENERALIZATION
    known = [place for place in places if any(estimate(*place, name).mean is not None for name in names)]
    body = [[*_place(*p), *(quantity(*p, name, over_data=True) for name in names)] for p in known]
    columns = [*_words("Group", "Held out"), *(Column(quantities.QUANTITIES[name]) for name in names)]
    note = f"In {NATS}: of the encoder the difference of its amortization gaps, of the model the others."
    return table("Generalization", columns, body, [note])


def _bounds(places: Sequence[tuple[Row, str]]) -> Table:
    columns = [*_words("Group", "Data", "Bound"), Column("Value"), Column("Effective samples"), *_words("")]
    body = []
    for row, split, name in [(*place, name) for place in places for name in quantities.BOUNDS]:
        found = estimate(row, split, name)
        if found.kind is not None and found.mean is not None:
            loose = Cell(LOOSE if found.loose else "")
            body.append([*_place(row, split), Cell(found.kind), quantity(row, split, name), count(found.ess), loose])
    notes = [f"In {NATS}; the gaps are not taken from these. Effective samples: median over data."]
    if any(row[-1].text for row in body):
        notes.append(f"{LOOSE}: too few effective samples, so that the bound is too low by an unknown amount.")
    return table("Further lower bounds on log p(x)", columns, body, notes)


def _words(*titles: str) -> list[Column]:
    return [Column(title, numeric=False) for title in titles]


def _place(row: Row, split: str, of: str | None = None) -> tuple[Cell, Cell]:
    return Cell(str(row["label"])), Cell(DATA[split] + (f", {of} data" if of else ""))


def _checks(names: str) -> str:
    """The checks that failed in some seed, else that they passed."""
    failed = [name for name in names.split("; ") if name not in (PASSED, EMPTY.text)]
    return f"FAILED: {', '.join(dict.fromkeys(failed))}" if failed else names


def _widths(places: Sequence[tuple[Row, str]]) -> list[str]:
    """What the lower bounds may still miss: the interval's width on simulated data."""
    ends = [
        (row["label"], [fact(row, split, f"simulated_{end}") for end in ("width", "worst")]) for row, split in places
    ]
    found = {label: both for label, both in ends if None not in both}
    return [worded("captions", "simulated", widths=found)] if found else []
