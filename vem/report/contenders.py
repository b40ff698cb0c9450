"""The groups of a table that compete, and their paired differences to the baseline."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import pandas as pd

from vem.errors import VemError, did_you_mean
from vem.report.aggregate import aggregate
from vem.report.alike import OTHER_ROWS, TEST
from vem.report.frame import Framed
from vem.report.groups import NAMED
from vem.report.intervals import LEVEL, ONE_DATUM, Difference, Scores, paired, read_data
from vem.report.kin import by
from vem.report.labels import labels, training_of
from vem.report.prose import worded
from vem.report.quantities import Estimate, column, elbo_order, estimate, plain_rows, present
from vem.report.runs import DONE
from vem.report.words import Row, named

OF_MEANS = "a difference of means: not every seed has the ELBO of each of the same data"
PAIRED = ("mean", "se", "low", "high", "over", "reason", "data_se", "data_low", "data_high")


class Rivals:
    """The groups of one table, to be compared pair by pair: by label and seed, their runs and their test ELBOs."""

    def __init__(self, groups: pd.DataFrame, runs: pd.DataFrame, framed: Framed) -> None:
        rows = {row["directory"]: row for row in plain_rows(runs)}
        self.refused = frozenset(d for d in rows if framed.evaluated[d].refused)  # whose rows are not used
        self.rows: dict[str, dict[int, Mapping[Any, Any]]] = {}
        self.scores: dict[str, dict[int, Scores]] = {}
        for label, directories in zip(map(str, groups["label"]), groups["directories"], strict=True):
            by_seed = {rows[d]["seed"]: rows[d] for d in reversed(directories)}
            self.rows[label] = {int(seed): row for seed, row in by_seed.items() if seed is not None}
            self.scores[label] = {
                seed: Scores(row["test_elbo"], *framed.evaluated[row["directory"]].elbo.get(TEST, ()))
                for seed, row in self.rows[label].items() if not row[OTHER_ROWS]
            }  # fmt: skip

    def difference(self, label: str, baseline: str) -> Difference:
        """Test ELBO of ``label`` − that of ``baseline``."""
        return paired(self.scores[label], self.scores[baseline])


def grouped(framed: Framed) -> dict[str, pd.DataFrame]:
    """By table, its groups, each with its ``label``."""
    base = framed.gathered.base
    groups = aggregate(framed.rows, lambda d: {} if framed.evaluated[d].refused else read_data(base / d))
    out: dict[str, pd.DataFrame] = {}
    for table, part in groups.groupby("table", sort=False) if len(groups) else ():
        out[str(table)] = part.reset_index(drop=True)
        out[str(table)].insert(0, "label", labels(part))
    return out


def _trainings(groups: pd.DataFrame) -> list[tuple[Any, ...]]:
    """What each group trained: groups that agree in it were measured with different settings."""
    rows = plain_rows(groups[[*NAMED, "variant"]])
    return [(*map(row.get, NAMED), training_of(row["variant"])) for row in rows]


def _measurements(groups: pd.DataFrame) -> list[list[int]]:
    """The places of groups with a test ELBO, those of one training together; first the one of most seeds."""
    known = [i for i, elbo in enumerate(groups["test_elbo_mean"]) if present(elbo) is not None]
    trained, seeds = _trainings(groups), list(groups["seeds"])
    return [sorted(same, key=lambda i: -int(seeds[i])) for same in by((trained[i] for i in known), known).values()]


def contenders(groups: pd.DataFrame) -> pd.DataFrame:
    """The groups that are rivals: each training once, however often it was measured."""
    again = [i for same in _measurements(groups) for i in same[1:]]
    return groups.drop(index=groups.index[again])


def measured_again(groups: pd.DataFrame) -> list[str]:
    """Sentences: which groups are measurements of one training, and which of them the answer takes."""
    labels = list(map(str, groups["label"]))
    again = ([labels[i] for i in same] for same in _measurements(groups) if len(same) > 1)
    return [worded("cautions", "measured_again", who=same) for same in again]


def left_out(groups: pd.DataFrame, runs: pd.DataFrame) -> list[str]:
    """A sentence, where some runs of a group were trained and not evaluated: they count in no mean of it."""
    counted = {directory for found in groups["directories"] for directory in found}
    absent = [str(d) for d in runs.loc[runs["status"] == DONE, "directory"] if d not in counted]
    return [worded("cautions", "left_out", runs=absent)] if absent else []


def entered(rows: Iterable[Row]) -> tuple[Row, ...]:
    """Those with a test ELBO, the highest mean first."""
    return tuple(row for row in sorted(rows, key=elbo_order) if estimate(row, "test", "elbo").mean is not None)


def chosen_baseline(groups: pd.DataFrame, wanted: str | None) -> str | None:
    """The label of the baseline: the one that is wanted, if the table has it, else the best contender; None without."""
    found = _named(groups, wanted)
    known = entered(plain_rows(contenders(groups)))
    return found[0] if len(found) == 1 else str(known[0]["label"]) if known else None


def _named(groups: pd.DataFrame, wanted: str | None) -> list[str]:
    """The labels of the groups that are called so: by their label, else by their strategy alone."""
    by_strategy = groups.loc[groups["strategy"] == wanted, "label"]
    return [wanted] if wanted is not None and wanted in set(groups["label"]) else list(map(str, by_strategy))


def check_baseline(tables: Sequence[pd.DataFrame], wanted: str | None) -> None:
    """Refuse a baseline that no table has.

    Raises:
        VemError: no group is called so, or several are.
    """
    found = [_named(groups, wanted) for groups in tables]
    if wanted is None or any(len(labels) == 1 for labels in found):
        return
    names = list(dict.fromkeys(str(label) for groups in tables for label in groups["label"]))
    shown = named(names, 12)
    if any(found):
        raise VemError(f"baseline {wanted!r} is the strategy of several groups: name one of them. They are: {shown}.")
    near = did_you_mean(wanted, names)
    raise VemError(f"baseline {wanted!r}: no group is called so{near} The groups are: {shown}.")


def with_differences(groups: pd.DataFrame, rivals: Rivals, baseline: str | None) -> pd.DataFrame:
    """The groups with their paired difference to the baseline, as ``paired_…``, and its error over data."""
    training = dict(zip(groups["label"], _trainings(groups), strict=True))

    def difference(label: str) -> Estimate:
        if baseline is None or label == baseline:
            return Estimate(reason="the baseline" if baseline else "no group has a test ELBO")
        if training[label] == training[baseline]:
            return Estimate(reason="another measurement of what the baseline trained")
        d = rivals.difference(label, baseline)
        low, high = d.data_interval(LEVEL) or (None, None)
        paired_alike = d.mean is None or d.over == "data" or d.data_se is not None  # datum by datum in every seed
        why = d.reason or (ONE_DATUM if d.alone else None if paired_alike else OF_MEANS)
        return Estimate(d.mean, d.se, None, d.low, d.high, over=d.seeds, reason=why, data_se=d.data_se, data_low=low,
                        data_high=high)  # fmt: skip

    found = [difference(str(label)) for label in groups["label"]]
    return groups.assign(**{column(None, "paired", field=f): [getattr(one, f) for one in found] for f in PAIRED})
