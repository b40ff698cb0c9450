"""Groups of one table against the best of them: which leads count, and for what.

The best is picked from the same test data that show its lead, so its lead over each other group counts when the
interval at the level 1 − 0.05/m excludes zero, m the number of leads that the answer judges: k − 1 among k groups,
summed over the places where it names a best (Bonferroni). Not all k(k − 1)/2 pairs need be allowed for: a group is
wrongly called the best only when its lead over the true best is false, and these are k − 1 leads (Hsu, 1984,
"Constrained simultaneous confidence intervals for multiple comparisons with the best", Annals of Statistics 12). That
a group which is not shown to be the best leads some other one is said of any pair, and allows for all pairs.

A lead counts beyond these test data when the interval over data, at the same level, excludes zero as well. One below
:data:`vem.report.words.EXACT` is none, however sure it is, and a group whose own bound is in doubt is not the best.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Literal

from vem.report.contenders import Rivals, entered
from vem.report.findings import Axis
from vem.report.intervals import Difference, corrected
from vem.report.labels import value_names
from vem.report.words import EXACT, Row, failed_on

# Checks without which a mean test ELBO is no bound that could be compared, or one that single data carry.
ELBO_CHECKS = ("finite", "best_above_q", "best_below_upper", "better_than_prior", "outliers")
MOST_VALUES = 6  # of an axis that are ranked one by one
Kind = Literal["ahead", "here", "models", "open", "equal", "behind", "unknown"]  # see Verdict


@dataclass(frozen=True)
class Verdict:
    """What the lead of the group with the highest mean test ELBO over another one shows, in nats per data point.

    It judges the numbers alone: that a bound is in doubt, since a check failed, is in ``checks_failed`` of the table.
    ``kind``:

    - ``ahead``: the intervals over seeds and over data lie above zero;
    - ``here``: that over seeds does, so that the lead is shown on these test data;
    - ``models``: that over the data of one common seed does, so that one trained model is ahead of another;
    - ``open``: the interval covers zero;
    - ``equal``: the difference is below 0.001 nats;
    - ``behind``: the interval lies below zero, since the two means are over different seeds;
    - ``unknown``: there is no interval.
    """

    best: str
    rival: str
    kind: Kind
    mean: float | None  # paired difference ``best`` − ``rival`` over their common ``seeds``
    low: float | None  # ends of its interval; None where there is none, and ``reason`` says why
    high: float | None
    level: float  # of the intervals, corrected for all leads that are judged
    over: str  # whether that interval is over ``seeds`` or, with one common seed, over ``data``
    seeds: int
    data_low: float | None = None  # ends of the interval over data
    data_high: float | None = None
    reason: str | None = None
    place: str | None = None  # value of a swept axis where the two are compared, such as ``latent_dim=2``; None: all
    data: str = ""  # that they were evaluated on


@dataclass(frozen=True)
class Ranking:
    """Groups of one table with a test ELBO, the highest mean first, and its lead over each of the others."""

    rows: tuple[Row, ...]
    leads: Mapping[str, Difference]
    compared: int  # leads that are judged, in this ranking and in those beside it: what every interval allows for
    pairs: int  # of groups in the whole table
    seeds: Mapping[str, frozenset[int]] = field(default_factory=dict)  # of each group
    place: str | None = None

    @property
    def best(self) -> Row:
        return self.rows[0]

    @property
    def second(self) -> Row:
        return self.rows[1]

    @property
    def one_seed(self) -> bool:
        """Whether every lead is one between two trained models."""
        return all(lead.over == "data" for lead in self.leads.values())

    @cached_property
    def verdicts(self) -> Mapping[str, Verdict]:
        """By the label of the other group."""
        return {label: self._verdict(label, lead) for label, lead in self.leads.items()}

    def _verdict(self, label: str, lead: Difference) -> Verdict:
        level = corrected(self.compared)
        (low, high), (data_low, data_high) = lead.ends(level)
        kind = _kind(lead.mean, low, high, data_low, lead.over)
        return Verdict(self.best["label"], label, kind, lead.mean, low, high, level, lead.over, lead.seeds, data_low,
                       data_high, lead.reason, self.place)  # fmt: skip

    def having(self, *kinds: Kind) -> list[str]:
        """The labels of the groups with one of these verdicts, in the order in which the kinds are named."""
        return [label for kind in kinds for label, verdict in self.verdicts.items() if verdict.kind == kind]

    @property
    def doubts(self) -> list[str]:
        """The groups that keep the first from being called the best."""
        return self.having("behind", "open", "equal", "unknown", *(() if self.one_seed else ("models",)))

    @property
    def won(self) -> tuple[list[str], list[str]]:
        """The groups that it leads beyond doubt where all pairs are allowed for: everywhere, and on these data."""
        sure = {
            label: self.leads[label].ends(corrected(self.pairs)) for label in self.leads if label not in self.doubts
        }
        here = [label for label, (own, _) in sure.items() if (own[0] or 0) > 0]
        everywhere = [label for label in here if (sure[label][1][0] or 0) > 0]
        return everywhere, [label for label in here if label not in everywhere]

    @property
    def failed(self) -> list[str]:
        """The failed checks that put the first one's own bound in doubt."""
        return in_doubt(self.best)

    def common(self, label: str) -> int | None:
        """The number of common seeds, where this group or the first has others than those; else None."""
        one, other = self.seeds.get(self.best["label"], frozenset()), self.seeds.get(label, frozenset())
        return None if one == other else len(one & other)


def _kind(mean: float | None, low: float | None, high: float | None, data_low: float | None, over: str) -> Kind:
    if mean is None or low is None or high is None:
        return "unknown"
    # Within the floor as a whole, or too small a difference however sure it is.
    if abs(mean) < EXACT and (max(abs(low), abs(high)) < EXACT or low > 0 or high < 0):
        return "equal"
    if low <= 0:
        return "behind" if high < 0 else "open"
    if over == "data":
        return "models"
    return "ahead" if data_low is not None and data_low > 0 else "here"


def in_doubt(row: Row) -> list[str]:
    """The failed checks that put a group's test ELBO in doubt."""
    found = failed_on(row, "test")
    return [check for check in ELBO_CHECKS if check in found]


def rank(
    rows: Sequence[Row], rivals: Rivals, compared: int | None = None, pairs: int | None = None, place: str | None = None
) -> Ranking:
    """The groups with a test ELBO, compared with the one that has the highest mean.

    compared, pairs: those of the whole table, where some of its groups are ranked, at ``place``.
    """
    known = entered(rows)
    leads = {row["label"]: rivals.difference(known[0]["label"], row["label"]) for row in known[1:]}
    every = len(known) * (len(known) - 1) // 2
    seeds = {row["label"]: frozenset(rivals.scores[row["label"]]) for row in known}
    compared, pairs = len(leads) if compared is None else compared, every if pairs is None else pairs
    return Ranking(known, leads, compared, pairs, seeds, place)


def rankings(rows: Sequence[Row], rivals: Rivals, axes: Sequence[Axis]) -> tuple[Ranking, ...]:
    """That of all groups; then, where one axis was swept, those at each of its values where two strategies meet."""
    places = _places(axes, rows)
    compared = sum(max(len(entered(here)) - 1, 0) for here in (rows, *places.values()))
    whole = rank(rows, rivals, compared)
    return whole, *(rank(here, rivals, compared, whole.pairs, place) for place, here in places.items())


def _places(axes: Sequence[Axis], rows: Sequence[Row]) -> dict[str, list[Row]]:
    if len(axes) != 1 or len(axes[0].values) > MOST_VALUES or axes[0].key.startswith("evaluation"):
        return {}
    axis = axes[0]
    out = {
        f"{axis.key}={text}": [row for row in rows if axis.places.get(row["label"], value) == value]
        for value, text in value_names(axis.values).items()
    }
    return {place: here for place, here in out.items() if len({row["strategy"] for row in entered(here)}) > 1}
