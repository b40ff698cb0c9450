"""Tables beside the comparison: the gaps split by split, families, generalization, further bounds on log p(x)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from vem.report import findings
from vem.report.comparison_table import DATA, NATS, Row, by_elbo, count, log_marginal, quantity
from vem.report.estimates import PASSED
from vem.report.figures.gaps import FORMULAS
from vem.report.quantities import BOUNDS, GAPS, estimate, fact, families, gaps_of
from vem.report.table import EMPTY, Cell, Column, Table, number, table
from vem.storage.records import SPLITS

LOOSE = "LOOSE"


def gap_tables(compared: findings.Table) -> list[Table]:
    """Those that have rows, a row for each group and split; groups by test ELBO, as in the comparison."""
    places = [(row, split) for row in by_elbo(compared.groups) for split in SPLITS]
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
