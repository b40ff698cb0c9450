"""Which seeds of one training are measured alike: on the same rows, by the settings that bear on the number.

A finished run can be measured again, with other settings than its kin. It stays a seed of its group; what changes is
which numbers it has a share in. L[q] is an estimate of the same number whatever the budget, as long as its rows are
the same. Gaps and bounds on log p(x) are as near to the truth as their search was long: those of two budgets are two
numbers.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Hashable, Iterable, Mapping, Sequence
from fractions import Fraction
from typing import Any

from vem.report.estimates import GAPS
from vem.storage.records import SPLITS

TEST = "test"
OTHER_ROWS = "other_rows"  # of a run: whether its test rows are others than those that its table is about
MEASUREMENT = "evaluation."  # settings that say how a trained model was measured
# Those that make no gap another number: how often an unbiased estimate is drawn, what is measured beside it, and
# rows, which are compared themselves.
NO_BEARING = ("draws", "num_data", "splits", "strict", "diagnostics", "checks", "importance", "prior", "simulated")
Run = Mapping[str, Any]


def settings_of(text: str | None) -> list[str]:
    """The settings of a variant.

    >>> settings_of("evaluation.draws=10, strategy.rate=0.1"), settings_of(None)
    (['evaluation.draws=10', 'strategy.rate=0.1'], [])
    """
    return re.split(r", (?=[\w.]+=)", text) if text else []


def rows_of(trainings: Sequence[Hashable], measurements: Sequence[Hashable], seeds: Sequence[Any]) -> list[int]:
    """For each run the place of the run whose measurement stands for its row of the table.

    The measurements of one training share a row unless a seed has several of them; that of the most seeds comes first.

    >>> rows_of(["a"] * 3, ["quick", "quick", "gaps"], [0, 1, 2])  # one seed was measured again
    [0, 0, 0]
    >>> rows_of(["a"] * 4, ["few", "few", "many", "many"], [0, 1, 0, 1])  # each seed was measured twice
    [0, 0, 2, 2]
    """
    classes: dict[Hashable, dict[Hashable, list[int]]] = {}
    for i, (training, measurement) in enumerate(zip(trainings, measurements, strict=True)):
        classes.setdefault(training, {}).setdefault(measurement, []).append(i)
    out = [0] * len(trainings)
    for own in classes.values():
        taken: dict[int, set[Any]] = {}
        for members in sorted(own.values(), key=lambda same: -len({seeds[i] for i in same})):
            these = {seeds[i] for i in members}
            row = next((first for first, held in taken.items() if not held & these), members[0])
            taken.setdefault(row, set()).update(these)
            for i in members:
                out[i] = row
    return out


def rows_of_tables(
    trainings: Sequence[Hashable], places: Sequence[int], sizes: Sequence[int], seeds: Sequence[Any]
) -> list[int]:
    """For each run on one data set the set of rows that its table is about.

    A training whose seeds were evaluated on several sets stays in one table, unless a seed has several of them: that
    about the set that most trainings share, each counted by the part of its seeds that has it, else the larger one.

    places: which set of rows each run was evaluated on; sizes: how many rows it was, 0 where it was not.

    >>> rows_of_tables("aaabbb", [0, 0, 1, 0, 0, 0], [9, 9, 5, 9, 9, 9], [0, 1, 2] * 2)  # one seed was measured again
    [0, 0, 0, 0, 0, 0]
    >>> rows_of_tables("aabb", [0, 1, 0, 1], [9, 5, 9, 5], [0, 0, 0, 0])  # each seed was measured on both
    [0, 1, 0, 1]
    """
    units = rows_of(trainings, places, seeds)
    sets: dict[int, Counter[int]] = {}
    for unit, place, size in zip(units, places, sizes, strict=True):
        sets.setdefault(unit, Counter()).update([place] if size else [])
    votes: dict[int, Fraction] = {}
    for own in sets.values():
        for place, number in own.items():
            votes[place] = votes.get(place, Fraction(0)) + Fraction(number, own.total())
    size_of = dict(zip(places, sizes, strict=True)) | {p: size for p, size in zip(places, sizes, strict=True) if size}
    chosen = {unit: max(own, key=lambda p: (votes[p], size_of[p]), default=None) for unit, own in sets.items()}
    found = (chosen[unit] for unit in units)
    return [place if own is None else own for own, place in zip(found, places, strict=True)]


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
    data = f"{split}_gap_data"
    pairs = [*zip(_rows(one, split), _rows(other, split), strict=True), (one.get(data), other.get(data))]
    return all(None in pair or pair[0] == pair[1] for pair in pairs)


def bearing(settings: Iterable[str]) -> list[str]:
    """Those settings of a measurement on which gaps depend, rows aside.

    >>> bearing(["evaluation.draws=10", "evaluation.best.steps=30", "strategy.rate=1", "evaluation.best._target_=a"])
    ['evaluation.best.steps=30']
    """
    found = (s.removeprefix(MEASUREMENT) for s in settings if s.startswith(MEASUREMENT))
    kept = [s for s in found if s.partition("=")[0].partition(".")[0] not in NO_BEARING and "._target_=" not in s]
    return [MEASUREMENT + s for s in kept]


def _rows(run: Run, split: str) -> tuple[Any, ...]:
    return run.get(f"num_{split}_evaluated"), run.get(f"{split}_rows"), run.get(f"{split}_x")


def measured(run: Run) -> bool:
    """Whether the best q was sought in this run."""
    return any(run.get(f"{split}_{gap}_gap_sought") for split in SPLITS for gap in GAPS)


def having(name: str, done: Sequence[Run]) -> list[Run]:
    """The runs that have a gap, or another number that a search gives, and measured it alike: the most that there are.

    All of them where none has it.
    """
    classes: dict[Hashable, list[Run]] = {}
    for m in done:
        if measured(m):
            classes.setdefault(_budget(m), []).append(m)
    ranked = sorted(classes.values(), key=lambda same: -len(same)) or [list(done)]
    return next((same for same in ranked if any(_has(m, name) for m in same)), ranked[0])


def _has(run: Run, name: str) -> bool:
    return run.get(name) is not None or bool(run.get(f"{name}_sought"))


def _budget(run: Run) -> Hashable:
    """What the gaps of a run depend on."""
    found = tuple(bearing(settings_of(run.get("measurement"))))
    # Of the splits with gaps: of others a run whose per_datum.csv is refused may not know the rows.
    where = [split for split in SPLITS if any(run.get(f"{split}_{gap}_gap_sought") for gap in GAPS)]
    return found, tuple((split, run.get(f"num_{split}_evaluated")) for split in where)


def fewer(row: Run, name: str) -> str:
    """Of how many of a group's seeds a number is, where not of all.

    >>> fewer({"seeds": 3, "test_elbo_over": 1}, "test_elbo"), fewer({"seeds": 3}, "test_elbo")
    (' (1 of 3 seeds)', '')
    """
    return f" ({int(row[f'{name}_over'])} of {row['seeds']} seeds)" if row.get(f"{name}_over") else ""
