"""Which seeds of one training are measured alike: on the same rows, by the settings that bear on the number.

A finished run can be measured again, with other settings than its kin. It stays a seed of its group; what changes is
which numbers it has a share in. L[q] is an estimate of the same number whatever the budget, as long as its rows are
the same. Gaps and bounds on log p(x) are as near to the truth as their search was long: those of two budgets are two
numbers.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable, Mapping, Sequence
from typing import Any

from vem.report.kin import by
from vem.report.labels import MEASUREMENT, settings_of
from vem.report.quantities import GAPS, column, fact
from vem.storage.records import SPLITS

TEST = "test"
OTHER_ROWS = "other_rows"  # of a run: whether its test rows are others than those that its table is about
# Those that make no gap another number: how often an unbiased estimate is drawn, what is measured beside it, and
# rows, which are compared themselves.
NO_BEARING = ("draws", "num_data", "splits", "strict", "diagnostics", "checks", "importance", "prior", "simulated")
SOUGHT = {split: [column(split, gap, field="sought") for gap in GAPS.values()] for split in SPLITS}
Run = Mapping[Any, Any]


def on_the_same_rows(split: str, done: Sequence[Run]) -> list[Run]:
    """The runs that were evaluated on the rows of a split that most of them have; those of unknown rows stay.

    Of the test data those that have the rows which their table is about. ``num_SPLIT_evaluated``, ``SPLIT_rows`` and
    ``SPLIT_x`` (digests of the row numbers, and of all data) tell rows.
    """
    if split == TEST:
        return [m for m in done if not m.get(OTHER_ROWS)]
    known = Counter(key for m in done if set(key := _rows(m, split)) != {None})
    if len(known) < 2:
        return list(done)
    most, _ = max(known.items(), key=lambda item: (item[1], -item[0].count(None)))
    pairs = [(m, list(zip(_rows(m, split), most, strict=True))) for m in done]
    return [m for m, own in pairs if all(None in pair or pair[0] == pair[1] for pair in own)]


def same_data(split: str, one: Run, other: Run) -> bool:
    """Whether nothing tells the rows of two runs apart, nor those of them whose gaps were measured."""
    pairs = [*zip(_rows(one, split), _rows(other, split), strict=True)]
    pairs.append((fact(one, split, "gap_data"), fact(other, split, "gap_data")))
    return all(None in pair or pair[0] == pair[1] for pair in pairs)


def bearing(settings: Mapping[str, str]) -> dict[str, str]:
    """Those settings of a measurement on which gaps depend, rows aside.

    >>> bearing({"evaluation.draws": "10", "evaluation.best.steps": "30", "strategy.rate": "1"})
    {'best.steps': '30'}
    """
    found = {k.removeprefix(MEASUREMENT): v for k, v in settings.items() if k.startswith(MEASUREMENT)}
    return {k: v for k, v in found.items() if k.partition(".")[0] not in NO_BEARING and not k.endswith("._target_")}


def _rows(run: Run, split: str) -> tuple[Any, ...]:
    return tuple(fact(run, split, name) for name in ("num_evaluated", "rows", "x"))


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
