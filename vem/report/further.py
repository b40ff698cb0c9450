"""Tables beside the comparison: the gaps split by split, families, generalization, further bounds on log p(x)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from vem.report.comparison_cells import DATA, EMPTY, Cell, bounded, marginal_bounds
from vem.report.ends import AT_LEAST, ONE_END
from vem.report.estimates import FAMILY_PARTS, GAPS, GENERALIZATION, MODEL_GENERALIZATION, OTHERS
from vem.report.figures.gaps import FORMULAS
from vem.report.findings import Table
from vem.report.quantities import present
from vem.report.table import UNDEFINED, number
from vem.storage.records import SPLITS

Row = Mapping[str, Any]
WORDED = ("Group", "Data", "Held out", "Family", "Bound", "log p(x) by", "Checks", "")


@dataclass(frozen=True)
class Further:
    """One such table: a row for each group and split."""

    title: str
    columns: tuple[str, ...]
    rows: tuple[tuple[Cell, ...], ...]
    notes: tuple[str, ...]

    def worded(self, column: int) -> bool:
        """Whether the column holds words, not numbers."""
        return self.columns[column] in WORDED


def further_tables(table: Table) -> list[Further]:
    """Those that have rows; groups by test ELBO, as in the comparison."""
    rows = [{str(k): present(v) for k, v in row.items()} for row in table.groups.to_dict("records")]
    rows.sort(key=lambda row: -row["test_elbo_mean"] if row.get("test_elbo_mean") is not None else float("inf"))
    made = (_gaps(rows), _families(rows), _generalization(rows), _bounds(rows))
    return [found for found in made if found.rows]


def _gaps(rows: Sequence[Row]) -> Further:
    places = [
        (row, split)
        for row in rows
        for split in SPLITS
        if any(row.get(f"{split}_{gap}_gap_mean") is not None for gap in GAPS)
    ]
    gaps = [gap for gap in GAPS if any(row.get(f"{split}_{gap}_gap_mean") is not None for row, split in places)]
    body = [
        (
            _who(row, split)[0],
            Cell(DATA[split] + (f", {few}" if (few := row.get(f"{split}_gap_data")) else "")),
            *(bounded(f"{split}_{gap}_gap", over_data=True)(row) for gap in gaps),
            marginal_bounds(split)(row),
            _text(row.get(f"{split}_active_units_mean")),
            _text(row.get(f"{split}_log_marginal_kind")),
            _text(row.get(f"{split}_checks")),
        )
        for row, split in places
    ]
    titles = ("Group", "Data", *(gap.capitalize() for gap in gaps), "log p(x)", "Active units", "log p(x) by", "Checks")
    notes = [f"In nats per datum, paired: {'; '.join(FORMULAS[gap] for gap in gaps)}.", *_signs(body), *_widths(places)]
    for title in titles[-2:]:  # what is the same in every row is said once
        told = {row[titles.index(title)].text for row in body}
        if len(told) == 1:
            body = [tuple(c for c, own in zip(row, titles, strict=True) if own != title) for row in body]
            titles = tuple(own for own in titles if own != title)
            notes.append(f"{title}: {told.pop()}.")
    return Further("Gaps in numbers", titles, tuple(body), tuple(notes))


def _families(rows: Sequence[Row]) -> Further:
    body = []
    for row in rows:
        for split, family in _measured_families(row):
            name = f"{split}_family_{family}"
            share = row.get(f"{name}_converged_mean")
            costs = [bounded(f"{name}_{part}", over_data=True)(row) for part in FAMILY_PARTS]
            converged = EMPTY if share is None else Cell(f"{share:.0%}")
            body.append((*_who(row, split), Cell(family.replace("_", " ")), *costs, converged))
    titles = ("Group", "Data", "Family", "L[q*]", "Approximation gap", "Gain over own", "Converged")
    note = (
        "In nats per datum. Gain over own: L[q*] of this family − L[q*] of the strategy's own; converged: of the data."
    )
    return Further("What each family costs", titles, tuple(body), (note, *_signs(body)))


def _measured_families(row: Row) -> Iterator[tuple[str, str]]:
    for split in SPLITS:
        start, end = f"{split}_family_", "_best_elbo_mean"
        for column in row:
            if column.startswith(start) and column.endswith(end) and row[column] is not None:
                yield split, column.removeprefix(start).removesuffix(end)


def _generalization(rows: Sequence[Row]) -> Further:
    parts = {
        "Amortization gap, held out − training": GENERALIZATION,
        "L[q*], training − held out": MODEL_GENERALIZATION["best_elbo"],
        "log p(x), training − held out": MODEL_GENERALIZATION["log_marginal"],
    }
    places = [
        (row, split) for row in rows for split in SPLITS for name in parts.values() if _known(row, f"{split}_{name}")
    ]
    places = [place for i, place in enumerate(places) if place not in places[:i]]
    parts = {title: name for title, name in parts.items() if any(_known(row, f"{s}_{name}") for row, s in places)}
    body = [
        (*_who(row, split), *(bounded(f"{split}_{name}", over_data=True)(row) for name in parts.values()))
        for row, split in places
    ]
    notes = ["In nats per datum. The first number is the encoder's generalization, the others are the model's."]
    notes = notes if len(parts) > 1 and GENERALIZATION in parts.values() else ["In nats per datum."]
    return Further("Generalization", ("Group", "Held out", *parts), tuple(body), (*notes, *_signs(body)))


def _known(row: Row, name: str) -> bool:
    return row.get(f"{name}_mean") is not None


def _bounds(rows: Sequence[Row]) -> Further:
    body = []
    for row in rows:
        for split in SPLITS:
            for bound in (f"{split}_{other}_bound" for other in OTHERS):
                if row.get(f"{bound}_kind") is not None and _known(row, bound):
                    loose = Cell("LOOSE" if row.get(f"{bound}_loose") else "")
                    kind, samples = str(row[f"{bound}_kind"]), _text(row.get(f"{bound}_ess"))
                    body.append((*_who(row, split), Cell(kind), bounded(bound)(row), samples, loose))
    notes = ["In nats per datum; the gaps are not taken from these. Effective samples: median over data."]
    if any(cells[-1].text for cells in body):
        notes.append("LOOSE: too few effective samples, so that the bound is too low by an unknown amount.")
    titles = ("Group", "Data", "Bound", "Value", "Effective samples", "")
    return Further("Further lower bounds on log p(x)", titles, tuple(body), (*notes, *_signs(body)))


def _who(row: Row, split: str) -> tuple[Cell, Cell]:
    return Cell(str(row["label"])), Cell(DATA[split])


def _text(value: Any) -> Cell:
    if value in (None, ""):
        return EMPTY
    return Cell(number(value, 0 if float(value).is_integer() else 1) if isinstance(value, float | int) else str(value))


def _signs(body: Sequence[Sequence[Cell]]) -> Iterator[str]:
    """What the signs in a table mean, and why numbers in it are undefined."""
    cells = [(row[0].text, cell) for row in body for cell in row]
    if any(cell.ends for _, cell in cells):
        yield "± one standard error, with the 95 % interval: over seeds or, of one seed, over its data."
    if any(AT_LEAST in end for _, cell in cells for end in cell.ends):
        yield ONE_END.capitalize()
    if any(len(cell.ends) > 1 for _, cell in cells):
        yield "data: the interval over data, of the mean over these seeds."
    if any("≥" in cell.text for _, cell in cells):
        yield "≥: log p(x) is known from below alone, so the truth is at least this."
    reasons: dict[str, dict[str, None]] = {}
    for who, cell in cells:
        if cell.text == UNDEFINED:
            reasons.setdefault(cell.reason, {})[who] = None
    yield from (f"undefined ({'; '.join(who)}): {reason}" for reason, who in reasons.items())


def _widths(places: Sequence[tuple[Row, str]]) -> list[str]:
    """What the lower bounds may still miss: the interval's width on simulated data."""
    found = {}
    for row, split in places:
        width, worst = (row.get(f"{split}_log_marginal_simulated_{end}") for end in ("width", "worst"))
        if width is not None and worst is not None:
            found[row["label"]] = f"{number(width, 3)} nats wide in the mean, {number(worst, 3)} at worst"
    first = ("On data that the model itself made, log p(x) lies in an interval that tells what the bound may miss; "
             "real data may differ from those:")  # fmt: skip
    return [f"{first} {'; '.join(f'{who}: {text}' for who, text in found.items())}."] if found else []
