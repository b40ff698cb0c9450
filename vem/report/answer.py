"""The answer, in words with numbers: which strategy has the best bound, what each loses and why, what stays open.

Which leads count: :mod:`vem.report.race`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import pandas as pd

from vem.report.aggregate import present, value_names
from vem.report.cautions import Sources, cautions
from vem.report.findings import Axis, Sentence
from vem.report.losses import losses
from vem.report.race import Race, entered, in_doubt, race
from vem.report.starts import about_starts
from vem.report.tables import Rivals
from vem.report.words import EXACT, Row, evaluated_data, failed, interval, listed, name, nats, over, seeds

MOST_VALUES = 6  # of an axis that the answer goes through one by one
Named = Callable[[Row], str]


def answer(groups: pd.DataFrame, rivals: Rivals, axes: Sequence[Axis], sources: Sources) -> tuple[Sentence, ...]:
    """The sentences of one table; ``groups`` as :class:`vem.report.findings.Table` holds them."""
    rows = [{str(k): present(v) for k, v in row.items()} for row in groups.to_dict("records")]
    places = _places(axes, rows)
    races: list[Sequence[Row]] = [rows, *places.values()]
    compared = sum(max(len(entered(here)) - 1, 0) for here in races)
    found = race(rows, rivals, compared)
    along = [(place, race(here, rivals, compared, found.pairs)) for place, here in places.items()]
    told = [*_first(found), *(_at(place, here) for place, here in along), *about_starts(rows, sources.settings)]
    out = [Sentence(text, "finding") for text in told]
    out += [Sentence(text, "loss") for text in losses(rows, found.rows[:2], rivals, sources.base)]
    every = [found, *(here for _, here in along)]
    out += [Sentence(text, "caution") for text in cautions(rows, every, axes, sources)]
    return tuple(out)


def _first(found: Race) -> list[str]:
    """Who has the best bound, and whether that can be said at all."""
    if not found.rows:
        return []
    best, label = found.best, _full(found.best)
    elbo = f"{nats(best['test_elbo_mean'], *_ends(best))} nats per datum ({seeds(best)})"
    if len(found.rows) == 1:
        return [f"{label} has a test ELBO of {elbo}. No other group has one, so nothing is compared."]
    highest = f"Of these trained models, {label}" if found.one_seed else label
    highest += f" has the highest test ELBO, {elbo}"
    one_seed = f" W{_one_seed(found)[1:]}." if found.one_seed else ""
    if found.doubts or found.broken:
        text = f"{highest}, but it cannot be called the best: {_why_not(found, _full)}."
        text += f" Nor is its lead over {listed(found.doubts[1:])} shown." if found.doubts[1:] else ""
        if found.broken:
            return [text + ("" if found.doubts else f" As measured it is {_above(found)}") + one_seed]
        return [text + _won(found) + one_seed]
    if found.one_seed:
        return [f"{highest}: {_above(found)}{one_seed}{_shaky(found)}"]
    text = f"{label} has the best bound{_where(found)}: its test ELBO is {elbo}, {_above(found)}{_over_data(found)}"
    return [text + _shaky(found)]


def _above(found: Race) -> str:
    """The lead over the next best."""
    label = found.second["label"]
    return f"{_on_common(found, label)}{_lead(found, label)} above the next best, {_full(found.second)}."


def _one_seed(found: Race) -> str:
    what = "strategies" if len({row["strategy"] for row in found.rows}) > 1 else "groups"
    return f"whether the {what} differ is not known from one seed"


def _why_not(found: Race, named: Named) -> str:
    """Why the first cannot be called the best: its own bound is in doubt, or a lead is not shown."""
    reasons = [_doubt(found, found.doubts[0], named)] if found.doubts else []
    if found.broken:
        what = "check" if len(found.broken) == 1 else "checks"
        reasons.insert(0, f"its {what} {listed(found.broken)} failed, so that its bound is in doubt")
    return "; and ".join(reasons)


def _won(found: Race) -> str:
    """Whom the first, which is not shown to be the best, leads all the same, and how far that reaches."""
    everywhere, here = found.won
    if everywhere:
        also = f"; on these test data also above {listed(here)}" if here else ""
        return f" It is above {listed(everywhere)}{also}."
    return f" On these test data it is above {listed(here)}." if here else ""


def _shaky(found: Race) -> str:
    """The leads over groups whose own bound is in doubt."""
    rivals = {row["label"]: in_doubt(row) for row in found.rows[1:] if in_doubt(row)}
    checks = list(dict.fromkeys(check for names in rivals.values() for check in names))
    if not rivals:
        return ""
    return f" In doubt is the lead over {listed(list(rivals))}: checks failed there ({', '.join(checks)})."


def _on_common(found: Race, label: str) -> str:
    """The seeds that a lead is over, where the two means are over others."""
    common = found.common(label)
    return "" if not common else "on the one common seed " if common == 1 else f"on the {common} common seeds "


def _full(row: Row) -> str:
    """A group's label, with the checks that failed."""
    return name(row["label"]) + failed(row)


def _ends(row: Row) -> tuple[float | None, float | None]:
    se = row.get("test_elbo_se") or row.get("test_elbo_data_se")
    return (None, None) if not se else (row["test_elbo_mean"] - se, row["test_elbo_mean"] + se)


def _stated(found: Race, label: str) -> tuple[str, str]:
    """A lead in nats, and its interval at the level that allows for all that are judged; of one behind, by how much."""
    lead = found.leads[label]
    ends = lead.interval(found.level)
    assert lead.mean is not None and ends is not None
    mean = lead.mean
    if found.verdict(label) == "behind":
        mean, ends = -mean, (-ends[1], -ends[0])
    corrected = "corrected " if found.compared > 1 else ""
    return f"{nats(mean, *ends)} nats", f"{corrected}95 % interval {interval(*ends)}, {over(lead)}"


def _lead(found: Race, label: str) -> str:
    return "{} ({})".format(*_stated(found, label))


def _doubt(found: Race, label: str, named: Named) -> str:
    """Why the first is not the better one of this pair."""
    lead, verdict = found.leads[label], found.verdict(label)
    other = named(next(row for row in found.rows if row["label"] == label))
    if verdict == "unknown":
        return f"of its lead over {other} no interval is known ({lead.reason or 'no error'})"
    if verdict == "equal":
        return f"{_on_common(found, label)}it and {other} are equal to within {EXACT:g} nats"
    by, sure = _stated(found, label)
    if verdict == "models":
        return f"its lead over {other}, {by} ({sure}), is that of one trained model over another"
    if verdict == "behind":
        where = "on the one common seed" if lead.over == "data" else f"on the {lead.seeds} common seeds"
        return f"{where} {other} is above it by {by} ({sure})"
    return f"{_on_common(found, label)}its lead over {other}, {by}, has the {sure}, which covers 0"


def _where(found: Race) -> str:
    """The test data, where the claim does not reach beyond them."""
    return f" on {evaluated_data(found.best, 'these')}" if found.having("here") else ""


def _over_data(found: Race) -> str:
    """What the leads are over test data."""
    missing = [label for label in found.having("here") if found.leads[label].data_se is None]
    covers = [label for label in found.having("here") if label not in missing]
    if covers:
        ends = found.leads[covers[0]].data_interval(found.level)
        assert ends is not None
        whose = "its interval" if len(covers) == 1 else f"the interval of that over {name(covers[0])}"
        shown = f"over the data {whose} is {interval(*ends)}"
        return f" On other test data the lead over {listed(covers)} may be none: {shown}."
    if missing:
        why = "there is one test datum" if found.leads[missing[0]].alone else "the ELBO of each datum is missing"
        return f" What it would be on other test data is not known: {why}."
    data = found.leads[found.second["label"]].data_interval(found.level)
    return "" if data is None else f" Over {evaluated_data(found.best, 'the')} the interval is {interval(*data)}."


def _places(axes: Sequence[Axis], rows: Sequence[Row]) -> dict[str, list[Row]]:
    """Where one axis was swept: the groups at each of its values, where two strategies meet there."""
    if len(axes) != 1 or len(axes[0].values) > MOST_VALUES or axes[0].key.startswith("evaluation"):
        return {}
    axis = axes[0]
    out = {
        f"{axis.key}={text}": [row for row in rows if axis.places.get(row["label"], value) == value]
        for value, text in value_names(axis.values).items()
    }
    return {place: here for place, here in out.items() if len({row["strategy"] for row in entered(here)}) > 1}


def _at(place: str, here: Race) -> str:
    """Who leads at one value of an axis, by the rules of the whole table."""
    strategies = [row["strategy"] for row in here.rows]

    def named(row: Row) -> str:
        return (row["strategy"] if strategies.count(row["strategy"]) == 1 else name(row["label"])) + failed(row)

    best, second = named(here.best), here.second["label"]
    elbo = f"test ELBO {nats(here.best['test_elbo_mean'], *_ends(here.best))} nats per datum"
    if here.doubts or here.broken:
        why = _why_not(here, named)
        return f"At {place} none can be called the best: {best} has the highest mean ({elbo}), but {why}."
    by = f"{_on_common(here, second)}above {named(here.second)} by {_lead(here, second)}"
    if here.one_seed:
        return f"At {place} the trained model of {best} is the best ({elbo}), {by}; {_one_seed(here)}."
    return f"At {place} the best{_where(here)} is {best} ({elbo}), {by}."
