"""The answer, in words with numbers: which strategy has the best bound, what each loses and why, what stays open.

A lead counts when the paired 95 % interval leaves out 0, and counts beyond doubt when the interval at the level
1 − 0.05/m does as well, m the number of all pairs of groups (Bonferroni): the best was picked from the same test
data, and whichever pair is picked, it is one of the m.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from vem.report.aggregate import present
from vem.report.cautions import cautions
from vem.report.findings import Axis, Sentence
from vem.report.losses import losses
from vem.report.paired import LEVEL, Difference
from vem.report.tables import Rivals
from vem.report.words import Row, interval, listed, name, nats, over, plural, seeds

MOST_VALUES = 6  # of an axis that the answer goes through one by one


@dataclass(frozen=True)
class Race:
    """Groups of one table with a test ELBO, the best first, and its lead over each of the others."""

    rows: tuple[Row, ...]
    leads: Mapping[str, Difference]
    pairs: int  # of groups in the whole table: what a corrected interval allows for

    @property
    def best(self) -> Row:
        return self.rows[0]

    @property
    def second(self) -> Row:
        return self.rows[1]

    def corrected(self, label: str) -> tuple[float, float] | None:
        """The interval of the lead that allows for all pairs."""
        return self.leads[label].interval(1 - (1 - LEVEL) / max(self.pairs, 1))

    def ahead(self, label: str) -> bool:
        """Whether the interval of this pair alone leaves out 0."""
        low = self.leads[label].low
        return low is not None and low > 0

    def beyond_doubt(self, label: str) -> bool:
        """Whether the corrected interval leaves out 0."""
        ends = self.corrected(label)
        return ends is not None and ends[0] > 0


def race(rows: Sequence[Row], rivals: Rivals, pairs: int | None = None) -> Race:
    """The groups with a test ELBO, compared with the best of them."""
    known = sorted(
        (row for row in rows if present(row.get("test_elbo_mean")) is not None), key=lambda row: -row["test_elbo_mean"]
    )
    leads = {row["label"]: rivals.difference(known[0]["label"], row["label"]) for row in known[1:]}
    return Race(tuple(known), leads, len(known) * (len(known) - 1) // 2 if pairs is None else pairs)


def answer(groups: pd.DataFrame, rivals: Rivals, axes: Sequence[Axis], base: Path) -> tuple[Sentence, ...]:
    """The sentences of one table; ``groups`` as :class:`vem.report.findings.Table` holds them."""
    rows = [{str(k): present(v) for k, v in row.items()} for row in groups.to_dict("records")]
    found = race(rows, rivals)
    out = [Sentence(text, "finding") for text in [*_first(found), *_along(axes, rows, rivals, found.pairs)]]
    out += [Sentence(text, "loss") for text in losses(rows, found.rows[:2], rivals)]
    out += [Sentence(text, "caution") for text in [*_correction(found), *cautions(rows, found.rows[:2], axes, base)]]
    return tuple(out)


def _first(found: Race) -> list[str]:
    """Who has the best bound, and whether that can be said at all."""
    if not found.rows:
        return []
    best, label = found.best, name(found.best["label"])
    elbo = f"{nats(best['test_elbo_mean'], *_ends(best))} nats per datum ({seeds(best)})"
    if len(found.rows) == 1:
        return [f"{label} has a test ELBO of {elbo}. No other group has one, so nothing is compared."]
    second, lead = name(found.second["label"]), found.leads[found.second["label"]]
    not_the_best = f"{label} has the highest test ELBO, {elbo}, but it cannot be called the best: "
    if lead.mean is None or lead.low is None or lead.high is None:
        return [f"{not_the_best}of its lead over {second} no interval is known ({lead.reason or 'no error'})."]
    by = f"{nats(lead.mean, lead.low, lead.high)} nats"
    sure = f"95 % interval {interval(lead.low, lead.high)}, {over(lead)}"
    rest = [row["label"] for row in found.rows[2:] if not found.ahead(row["label"])]
    if not found.ahead(found.second["label"]):
        also = f" Nor is it told apart from {listed(rest)}." if rest else ""
        return [f"{not_the_best}its lead over {second}, {by}, has the {sure}, which covers 0.{also}"]
    also = f" It is not told apart from {listed(rest)}." if rest else ""
    corrected = found.corrected(found.second["label"])
    if corrected is not None and corrected[0] <= 0:
        return [f"{not_the_best}it leads {second} by {by} ({sure}), but with the correction for all {found.pairs} "
                f"pairs of groups the interval is {interval(*corrected)}, which covers 0.{also}"]  # fmt: skip
    where = " on the one seed compared" if lead.over == "data" else ""
    return [f"{label} has the best bound{where}: its test ELBO is {elbo}, {by} above the next best, {second} "
            f"({sure}).{also}"]  # fmt: skip


def _ends(row: Row) -> tuple[float | None, float | None]:
    se = row.get("test_elbo_se") or row.get("test_elbo_data_se")
    return (None, None) if not se else (row["test_elbo_mean"] - se, row["test_elbo_mean"] + se)


def _along(axes: Sequence[Axis], rows: Sequence[Row], rivals: Rivals, pairs: int) -> list[str]:
    """Where one axis was swept: who leads at each of its values, a sentence each."""
    if len(axes) != 1 or len(axes[0].values) > MOST_VALUES:
        return []
    axis, out = axes[0], []
    for value in axis.values:
        here = race([row for row in rows if axis.places.get(row["label"], value) == value], rivals, pairs)
        if len({row["strategy"] for row in here.rows}) < 2:
            continue
        lead = here.leads[here.second["label"]]
        names = here.best["strategy"], here.second["strategy"]
        if lead.mean is None or lead.low is None or lead.high is None:
            out.append(f"At {axis.key}={value}: {names[0]} before {names[1]}, without an interval ({lead.reason}).")
            continue
        told = f"{nats(lead.mean, lead.low, lead.high)} nats (95 % interval {interval(lead.low, lead.high)}, "
        told += f"{over(lead)})"
        elbo = f"test ELBO {nats(here.best['test_elbo_mean'], *_ends(here.best))} nats per datum"
        if here.ahead(here.second["label"]):
            out.append(f"At {axis.key}={value} the best is {names[0]} ({elbo}), above {names[1]} by {told}.")
        else:
            out.append(f"At {axis.key}={value} no strategy is the best: {names[0]} ({elbo}) is above {names[1]} by "
                       f"{told}, which covers 0.")  # fmt: skip
    return out


def _correction(found: Race) -> list[str]:
    """What is left of the leads when all pairs are allowed for."""
    if len(found.rows) < 3:
        return []
    ahead = [row["label"] for row in found.rows[1:] if found.ahead(row["label"])]
    lost = [label for label in ahead if not found.beyond_doubt(label)]
    text = f"{plural(len(found.rows), 'group')} were compared, in {plural(found.pairs, 'pair')}. Each 95 % interval is "
    text += f"for its pair alone, and {name(found.best['label'])} was picked as the best from the same test data. "
    if not ahead:
        return [text + "No lead of its counts even so."]
    level = f"Corrected for all {found.pairs} pairs (Bonferroni), "
    if not lost:
        return [text + level + f"all its {plural(len(ahead), 'lead')} that counted still count."
                if len(ahead) > 1 else text + level + f"its lead over {name(ahead[0])} still counts."]  # fmt: skip
    kept = f"; over {plural(len(ahead) - len(lost), 'other group')} it counts" if len(lost) < len(ahead) else ""
    return [text + level + f"its lead over {listed(lost)} no longer counts{kept}."]
