"""The answer in words: what ranking.py and explain.py found, by templates/sentences.txt and templates/cautions.txt."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache

import pandas as pd

from vem.report.cautions import Caution, Sources, cautions
from vem.report.contenders import Rivals
from vem.report.explain import Lead, Loss, Number, lead, losses
from vem.report.findings import Axis, Sentence
from vem.report.intervals import LEVEL, Difference
from vem.report.prose import environment, worded
from vem.report.quantities import estimate, plain_rows
from vem.report.ranking import Ranking, Verdict, in_doubt, rankings
from vem.report.unlike import about_starts
from vem.report.words import EXACT, NATS, Row, evaluated_data, failed, interval, nats, over, seeds

MOST_LOSSES = 8  # groups whose losses are told one by one
INTERVAL = "95 % interval"


def answer(groups: pd.DataFrame, rivals: Rivals, axes: Sequence[Axis], sources: Sources) -> tuple[Sentence, ...]:
    """The sentences of one table, each with what it is about; ``groups`` as in :class:`vem.report.findings.Table`."""
    rows = plain_rows(groups)
    found = rankings(rows, rivals, axes)
    why, known = lead(found[0], rivals, sources.base), losses(rows)
    more = len(known) - MOST_LOSSES
    return (
        *(Sentence(in_words(here), "finding", here) for here in found if here.rows),
        *(Sentence(text, "finding") for text in about_starts(rows, sources.settings)),
        *(Sentence(in_words(loss), "loss", loss) for loss in (why, *known[:MOST_LOSSES]) if loss is not None),
        *([Sentence(f"The losses of the other {more} are in the table.", "loss")] if more > 0 else ()),
        *map(caution, cautions(rows, found, axes, sources)),
    )


def caution(found: Caution) -> Sentence:
    """A reason to doubt, in words."""
    if found.kind == "remark":
        return Sentence(found.facts["text"], "caution", found)
    return Sentence(worded("cautions", found.kind, who=found.labels, **found.facts), "caution", found)


def in_words(about: Ranking | Lead | Loss) -> str:
    """Who has the best bound, and whether that can be said at all; why it leads; or what a group loses."""
    _learn()
    return worded("sentences", type(about).__name__.lower(), about)


@cache
def _learn() -> None:
    """Numbers as the sentences write them."""
    own = (elbo, stated, data_interval, ends, shown, sure, over, failed, rivals_in_doubt)
    environment().filters |= {function.__name__: function for function in own}
    environment().tests |= {"covered": _covered}
    environment().globals |= {"nats": nats, "interval": interval, "evaluated_data": evaluated_data, "NATS": NATS,
                              "EXACT": f"{EXACT:g}", "INTERVAL": INTERVAL}  # fmt: skip


def elbo(row: Row) -> str:
    """The mean test ELBO with one standard error."""
    found = estimate(row, "test", "elbo")
    assert found.mean is not None
    se = found.se or found.data_se
    limits = (found.mean - se, found.mean + se) if se else ()
    return f"{nats(found.mean, *limits)} {NATS} ({seeds(row)})"


def stated(found: Ranking, label: str) -> str:
    """A lead in nats, and its interval at the level that allows for all that are judged; of one behind, by how much."""
    v = found.verdicts[label]
    assert v.mean is not None and v.low is not None and v.high is not None
    mean, low, high = (-v.mean, -v.high, -v.low) if v.kind == "behind" else (v.mean, v.low, v.high)
    corrected = "corrected " if found.compared > 1 else ""
    return f"{nats(mean, low, high)} nats ({corrected}{INTERVAL} {interval(low, high)}, {over(found.leads[label])})"


def data_interval(verdict: Verdict) -> str:
    """The interval of a lead over data."""
    assert verdict.data_low is not None and verdict.data_high is not None
    return interval(verdict.data_low, verdict.data_high)


def _covered(label: str, found: Ranking) -> bool:
    return found.verdicts[label].data_low is not None


def rivals_in_doubt(found: Ranking) -> dict[str, list[str]]:
    """The groups whose own bound is in doubt, behind the first, and the checks that failed there."""
    return {row["label"]: failed for row in found.rows[1:] if (failed := in_doubt(row))}


def ends(found: Lead, d: Difference) -> str:
    """The interval of a difference, as one above zero; of several seeds that over data as well."""
    size, limit = d if (d.mean or 0.0) > 0 else d._replace(mean=-(d.mean or 0.0)), found.limit(d)
    own, data = (_limited(ends, limit) for ends in (size.interval(LEVEL), size.data_interval(LEVEL)))
    return own if d.over == "data" else f"{own}; over data {data}"


def _limited(ends: tuple[float, float] | None, limit: str = "") -> str:
    return "not known" if ends is None else interval(*ends, limit)


def shown(n: Number, limited: bool = True) -> str:
    """The number itself, with as many decimals as its interval has; ``limited``: with what it limits."""
    text = f"{'at least ' if n.at_least and limited else ''}{nats(n.mean, *(n.ends or ()))}"
    return text if n.most is None else f"{text} to {nats(n.most, *(n.ends or ()))}"


def sure(n: Number, kind: str = "", limited: bool = True) -> str:
    """Its interval, with ``kind`` before it what it is over; of several seeds that over data as well."""
    if n.ends is None:
        return "no interval"
    limit = "at least" if n.at_least and limited else ""
    lower = "" if n.most is None else "of the lower end" if kind else "lower end"
    text = " ".join(filter(None, [*([] if limit else [kind, lower]), _limited(n.ends, limit)]))
    if n.seeds < 2:
        return f"{text}, over the data of one seed" if kind else text
    return f"{text}{f', over {n.seeds} seeds' if kind else ''}; over data {_limited(n.data, limit)}"
