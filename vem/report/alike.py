"""Which seeds of one training are measured alike: on the same rows, by the settings that bear on the number.

A finished run can be measured again, with other settings than its kin: it stays a seed of its group, with a share in
other numbers. On the same rows L[q] is an estimate of one number whatever the budget. Gaps and bounds on log p(x) are
as near to the truth as their search was long: those of two budgets are two numbers.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable, Mapping, Sequence
from typing import Any

from vem.report.kin import agree, by
from vem.report.labels import MEASUREMENT, settings_of
from vem.report.quantities import GAPS, column, fact
from vem.storage.records import SPLITS

TEST = "test"
OTHER_ROWS = "other_rows"  # of a run: whether its test rows are others than those that its table is about
# That make no gap another number: draws of an unbiased estimate, what is measured beside it, rows.
NO_BEARING = ("draws", "num_data", "splits", "strict", "diagnostics", "checks", "importance", "prior", "simulated")
SOUGHT = {split: [column(split, gap, field="sought") for gap in GAPS.values()] for split in SPLITS}
Run = Mapping[Any, Any]


def on_the_same_rows(split: str, done: Sequence[Run]) -> list[Run]:
    """The runs that were evaluated on the rows of a split that most of them have; those of unknown rows stay.

    Of the test data those that have the rows which their table is about.
    """
    if split == TEST:
        return [m for m in done if not m.get(OTHER_ROWS)]
    known = Counter(tuple(rows.items()) for m in done if (rows := _rows(m, split)))
    most, _ = max(known.items(), key=lambda item: (item[1], len(item[0])), default=((), 0))
    return [m for m in done if agree(dict(most), _rows(m, split))]


def same_data(split: str, one: Run, other: Run) -> bool:
    """Whether nothing tells the rows of two runs apart, nor those of them whose gaps were measured."""
    return agree(*(_rows(run, split) | {"gap_data": fact(run, split, "gap_data")} for run in (one, other)))


def _rows(run: Run, split: str) -> dict[str, Any]:
    """What tells rows: how many they are, and digests of their numbers and of all data, as far as they are known."""
    found = {name: fact(run, split, name) for name in ("num_evaluated", "rows", "x")}
    return {name: value for name, value in found.items() if value is not None}


def bearing(settings: Mapping[str, str]) -> dict[str, str]:
    """Those settings of a measurement on which gaps depend, rows aside.

    >>> bearing({"evaluation.draws": "10", "evaluation.best.steps": "30", "strategy.rate": "1"})
    {'best.steps': '30'}
    """
    found = {k.removeprefix(MEASUREMENT): v for k, v in settings.items() if k.startswith(MEASUREMENT)}
    return {k: v for k, v in found.items() if k.partition(".")[0] not in NO_BEARING and not k.endswith("._target_")}


def measured(run: Run) -> bool:
    """Whether the best q was sought in this run."""
    return any(run.get(name) for names in SOUGHT.values() for name in names)


def measured_alike(done: Sequence[Run]) -> list[list[Run]]:
    """Runs whose gaps were measured by the same settings together, the most first; all as one where none was."""
    sought = [run for run in done if measured(run)]
    return sorted(by(map(_budget, sought), sought).values(), key=lambda same: -len(same)) or [list(done)]


def having(alike: Sequence[list[Run]], split: str, quantity: str, family: str | None = None) -> list[Run]:
    """The runs of :func:`measured_alike` over which a gap, or another number that a search gives, is averaged.

    The most that have it, or looked for it; the most of all where none has it.
    """
    columns = column(split, quantity, family), column(split, quantity, family, "sought")
    return next(
        (same for same in alike if any(m.get(columns[0]) is not None or m.get(columns[1]) for m in same)), alike[0]
    )


def _budget(run: Run) -> Hashable:
    """What the gaps of a run depend on."""
    found = tuple(bearing(settings_of(run.get("measurement"))).items())
    # Of the splits with gaps: of others a run whose per_datum.csv is refused may not know the rows.
    where = [split for split in SPLITS if any(map(run.get, SOUGHT[split]))]
    return found, tuple((split, fact(run, split, "num_evaluated")) for split in where)
