"""Groups of one table against the best of them: which leads count, and for what.

The best is picked from the same test data that show its lead, so its lead over each other group counts when the
interval at the level 1 − 0.05/m leaves out 0, m the number of leads that the answer judges: k − 1 among k groups,
summed over the places where it names a best (Bonferroni). Not all k(k − 1)/2 pairs need be allowed for: a group is
wrongly called the best only when its lead over the true best is false, and these are k − 1 leads (Hsu, 1984,
"Constrained simultaneous confidence intervals for multiple comparisons with the best", Annals of Statistics 12). That
a group which is not shown to be the best leads some other one is said of any pair, and allows for all pairs.

A lead counts beyond these test data when the interval over data, at the same level, leaves out 0 as well. One below
:data:`vem.report.words.EXACT` is none, however sure it is, and a group whose own bound is in doubt is not the best.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

from vem.report.aggregate import present
from vem.report.paired import LEVEL, Difference
from vem.report.tables import Rivals
from vem.report.words import EXACT, Row, failed_on

# Checks without which a mean test ELBO is no bound that could be compared, or one that single data carry.
ELBO_CHECKS = ("finite", "best_above_q", "best_below_upper", "better_than_prior", "outliers")
Verdict = Literal[
    "ahead",  # over seeds and over data
    "here",  # over seeds, on these test data
    "models",  # over the data of one seed: of these trained models, not of the strategies
    "open",  # the interval covers 0
    "equal",  # the means differ by less than what counts
    "behind",  # it lies below 0: on the common seeds the other one is better
    "unknown",  # there is no interval
]


@dataclass(frozen=True)
class Race:
    """Groups of one table with a test ELBO, the highest mean first, and its lead over each of the others."""

    rows: tuple[Row, ...]
    leads: Mapping[str, Difference]
    compared: int  # leads that are judged, in this race and in those beside it: what every interval allows for
    pairs: int  # of groups in the whole table
    seeds: Mapping[str, frozenset[int]] = field(default_factory=dict)  # of each group

    @property
    def best(self) -> Row:
        return self.rows[0]

    @property
    def second(self) -> Row:
        return self.rows[1]

    @property
    def level(self) -> float:
        """Of each interval."""
        return 1 - (1 - LEVEL) / max(self.compared, 1)

    @property
    def one_seed(self) -> bool:
        """Whether every lead is one between two trained models."""
        return all(lead.over == "data" for lead in self.leads.values())

    def verdict(self, label: str) -> Verdict:
        """What the lead over this group tells."""
        lead = self.leads[label]
        ends, data = lead.interval(self.level), lead.data_interval(self.level)
        if ends is None or lead.mean is None:
            return "unknown"
        # Within the floor as a whole, or too small a difference however sure it is.
        if abs(lead.mean) < EXACT and (max(map(abs, ends)) < EXACT or ends[0] > 0 or ends[1] < 0):
            return "equal"
        if ends[0] <= 0:
            return "behind" if ends[1] < 0 else "open"
        if lead.over == "data":
            return "models"
        return "ahead" if data is not None and data[0] > 0 else "here"

    def having(self, *verdicts: Verdict) -> list[str]:
        """The labels of the groups with one of these verdicts, in the order in which they are named."""
        return [label for verdict in verdicts for label in self.leads if self.verdict(label) == verdict]

    @property
    def doubts(self) -> list[str]:
        """The groups that keep the first from being called the best."""
        return self.having("behind", "open", "equal", "unknown", *(() if self.one_seed else ("models",)))

    @property
    def won(self) -> tuple[list[str], list[str]]:
        """The groups that it leads beyond doubt where all pairs are allowed for: everywhere, and on these data."""
        level = 1 - (1 - LEVEL) / max(self.pairs, 1)
        sure = [label for label in self.leads if label not in self.doubts]
        sure = [label for label in sure if (self.leads[label].interval(level) or (0,))[0] > 0]
        everywhere = [label for label in sure if (self.leads[label].data_interval(level) or (0,))[0] > 0]
        return everywhere, [label for label in sure if label not in everywhere]

    @property
    def broken(self) -> list[str]:
        """The failed checks that put the first one's own bound in doubt."""
        return in_doubt(self.best)

    def common(self, label: str) -> int | None:
        """The number of common seeds, where this group or the first has others than those; else None."""
        one, other = self.seeds.get(self.best["label"], frozenset()), self.seeds.get(label, frozenset())
        return None if one == other else len(one & other)


def in_doubt(row: Row) -> list[str]:
    """The failed checks that put a group's test ELBO in doubt."""
    found = failed_on(row, "test")
    return [check for check in ELBO_CHECKS if check in found]


def race(rows: Sequence[Row], rivals: Rivals, compared: int | None = None, pairs: int | None = None) -> Race:
    """The groups with a test ELBO, compared with the one that has the highest mean.

    compared, pairs: those of the whole table, where this is a race between some of its groups.
    """
    known = entered(rows)
    leads = {row["label"]: rivals.difference(known[0]["label"], row["label"]) for row in known[1:]}
    every = len(known) * (len(known) - 1) // 2
    seeds = {row["label"]: frozenset(rivals.scores[row["label"]]) for row in known}
    return Race(known, leads, len(leads) if compared is None else compared, every if pairs is None else pairs, seeds)


def entered(rows: Sequence[Row]) -> tuple[Row, ...]:
    """Those with a test ELBO, the highest mean first."""
    known = [row for row in rows if present(row.get("test_elbo_mean")) is not None]
    return tuple(sorted(known, key=lambda row: -row["test_elbo_mean"]))
