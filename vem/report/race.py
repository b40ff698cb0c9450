"""Groups of one table against the best of them: which leads count, and for what.

A lead counts when its interval at the level 1 − 0.05/m leaves out 0, m the number of all pairs of groups of the table
(Bonferroni): the best was picked from the same test data, and whichever pair is picked, it is one of the m. It counts
beyond these test data when the interval over data, at the same level, leaves out 0 as well.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from vem.report.aggregate import present
from vem.report.paired import LEVEL, Difference
from vem.report.tables import Rivals
from vem.report.words import Row

Verdict = Literal[
    "ahead",  # over seeds and over data
    "here",  # over seeds, on these test data
    "models",  # over the data of one seed: of these trained models, not of the strategies
    "open",  # the interval covers 0
    "behind",  # it lies below 0: on the common seeds the other one is better
    "unknown",  # there is no interval
]


@dataclass(frozen=True)
class Race:
    """Groups of one table with a test ELBO, the highest mean first, and its lead over each of the others."""

    rows: tuple[Row, ...]
    leads: Mapping[str, Difference]
    pairs: int  # of groups in the whole table: what every interval allows for

    @property
    def best(self) -> Row:
        return self.rows[0]

    @property
    def second(self) -> Row:
        return self.rows[1]

    @property
    def level(self) -> float:
        """Of each interval."""
        return 1 - (1 - LEVEL) / max(self.pairs, 1)

    @property
    def one_seed(self) -> bool:
        """Whether every lead is one between two trained models."""
        return all(lead.over == "data" for lead in self.leads.values())

    def verdict(self, label: str) -> Verdict:
        """What the lead over this group tells."""
        lead = self.leads[label]
        ends, data = lead.interval(self.level), lead.data_interval(self.level)
        if ends is None:
            return "unknown"
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
        return self.having("behind", "open", "unknown", *(() if self.one_seed else ("models",)))

    @property
    def won(self) -> list[str]:
        """The groups that it leads beyond doubt, on these test data at least."""
        return [label for label in self.leads if label not in self.doubts]


def race(rows: Sequence[Row], rivals: Rivals, pairs: int | None = None) -> Race:
    """The groups with a test ELBO, compared with the one that has the highest mean."""
    known = sorted(
        (row for row in rows if present(row.get("test_elbo_mean")) is not None), key=lambda row: -row["test_elbo_mean"]
    )
    leads = {row["label"]: rivals.difference(known[0]["label"], row["label"]) for row in known[1:]}
    return Race(tuple(known), leads, len(known) * (len(known) - 1) // 2 if pairs is None else pairs)
