"""The answer in English: what ranking.py and explain.py found as sentences, the cautions by templates/cautions.txt."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import pandas as pd

from vem.report.contenders import Rivals
from vem.report.explain import Caution, Lead, Loss, Number, Sources, cautions, lead, losses
from vem.report.findings import Axis, Sentence
from vem.report.intervals import LEVEL, Difference
from vem.report.prose import worded
from vem.report.quantities import estimate, plain_rows
from vem.report.ranking import Ranking, Verdict, in_doubt, rankings
from vem.report.unlike import about_starts
from vem.report.words import EXACT, NATS, Row, evaluated_data, failed, interval, listed, name, nats, over, seeds

MOST_LOSSES = 8  # groups whose losses are told one by one
INTERVAL = "95 % interval"
CAUSES = {
    "approximation": "to its family, which does not contain the posterior (approximation gap)",
    "amortization": "to its encoder, which does not find the best q of each data point (amortization gap)",
    "optimization": "to λ that are not at their optimum (optimization gap)",
}
ON = {"test": "test data", "train": "training data"}
IN_WORDS = {"log_marginal": "log p(x)", "best_elbo": "L[q*]"}


def answer(groups: pd.DataFrame, rivals: Rivals, axes: Sequence[Axis], sources: Sources) -> tuple[Sentence, ...]:
    """The sentences of one table, each with what it is about; ``groups`` as in :class:`vem.report.findings.Table`."""
    rows = plain_rows(groups)
    found = rankings(rows, rivals, axes)
    out = [Sentence(of_ranking(here), "finding", here) for here in found if here.rows]
    out += [Sentence(text, "finding") for text in about_starts(rows, sources.settings)]
    if (why := lead(found[0], rivals, sources.base)) is not None:
        out.append(Sentence(of_lead(why), "loss", why))
    known = losses(rows)
    out += [Sentence(of_loss(loss), "loss", loss) for loss in known[:MOST_LOSSES]]
    if (more := len(known) - MOST_LOSSES) > 0:
        out.append(Sentence(f"The losses of the other {more} are in the table.", "loss"))
    return (*out, *map(caution, cautions(rows, found, axes, sources)))


def caution(found: Caution) -> Sentence:
    """A reason to doubt, in words."""
    if found.kind == "remark":
        return Sentence(found.facts["text"], "caution", found)
    return Sentence(worded("cautions", found.kind, who=found.labels, **found.facts), "caution", found)


# --- who is the best


def of_ranking(found: Ranking) -> str:
    """Who has the best bound, of all groups or at one value of an axis, and whether that can be said at all."""
    best, label = found.best, _named(found, found.best)
    elbo = f"{nats(*_elbo(best))} {NATS} ({seeds(best)})"
    where = f"At {found.place}, " if found.place else ""
    if len(found.rows) == 1:
        return f"{where}{label} has a test ELBO of {elbo}. No other group has one, so nothing is compared."
    highest = f"{where}{'of these trained models, ' if found.one_seed else ''}{label} has the highest test ELBO, {elbo}"
    highest = highest[0].upper() + highest[1:] if highest.startswith("of ") else highest
    above = _above(found) if found.verdicts[found.second["label"]].low is not None else ""
    if found.doubts or found.failed:
        text = f"{highest}, but it is not shown to be the best: {_doubts(found)}."
        if found.doubts[1:]:
            text += f" Its lead over {listed(found.doubts[1:])} is not shown either."
        if found.failed:
            text += "" if found.doubts else f" As measured, it is {above}."
        else:
            text += _won(found)
    elif found.one_seed:
        text = f"{highest}: {above}."
    else:
        here = f" on {evaluated_data(best, 'these')}" if found.having("here") else ""
        text = f"{where}{label} has the best bound{here}: its test ELBO is {elbo}, {above}.{_over_data(found)}"
    return text + _one_seed(found) + ("" if found.doubts or found.failed else _shaky(found))


def _above(found: Ranking) -> str:
    """The lead over the next best."""
    by, sure = _stated(found, found.second["label"])
    return f"{_on_common(found, found.second['label'])}{by} ({sure}) above the next best, {_named(found, found.second)}"


def _one_seed(found: Ranking) -> str:
    what = "strategies" if len({row["strategy"] for row in found.rows}) > 1 else "groups"
    return f" One seed does not show whether the {what} differ." if found.one_seed else ""


def _doubts(found: Ranking) -> str:
    """Why the first cannot be called the best: its own bound is in doubt, or a lead is not shown."""
    checks = f"{'check' if len(found.failed) == 1 else 'checks'} {listed(found.failed)}" if found.failed else ""
    reasons = [f"its {checks} failed, so that its bound is in doubt"] if checks else []
    return "; and ".join([*reasons, *(_doubt(found, label) for label in found.doubts[:1])])


def _doubt(found: Ranking, label: str) -> str:
    """Why the first is not the better one of this pair."""
    verdict, common = found.verdicts[label], _on_common(found, label)
    other = _named(found, next(row for row in found.rows if row["label"] == label))
    if verdict.kind == "unknown":
        return f"its lead over {other} has no interval ({verdict.reason or 'no error'})"
    if verdict.kind == "equal":
        return f"{common}it and {other} are equal to within {EXACT:g} nats"
    by, sure = _stated(found, label)
    if verdict.kind == "models":
        return f"its lead over {other}, {by} ({sure}), is that of one trained model over another"
    if verdict.kind == "behind":
        where = "on the one common seed" if verdict.over == "data" else f"on the {verdict.seeds} common seeds"
        return f"{where} {other} is above it by {by} ({sure})"
    return f"{common}its lead over {other} is {by} ({sure}), which includes zero"


def _won(found: Ranking) -> str:
    """Whom the first, which is not shown to be the best, leads all the same, and how far that reaches."""
    everywhere, here = found.won
    if everywhere:
        also = f"; on these test data it is also above {listed(here)}" if here else ""
        return f" It is above {listed(everywhere)}{also}."
    return f" On these test data it is above {listed(here)}." if here else ""


def _shaky(found: Ranking) -> str:
    """The leads over groups whose own bound is in doubt."""
    rivals = {row["label"]: in_doubt(row) for row in found.rows[1:] if in_doubt(row)}
    checks = ", ".join(dict.fromkeys(check for names in rivals.values() for check in names))
    return f" The lead over {listed(list(rivals))} is in doubt: checks failed there ({checks})." if rivals else ""


def _on_common(found: Ranking, label: str) -> str:
    """The seeds that a lead is over, where the two means are over others."""
    common = found.common(label)
    return "" if not common else "on the one common seed " if common == 1 else f"on the {common} common seeds "


def _named(found: Ranking, row: Row) -> str:
    """A group, at one value of an axis by its strategy where that is enough; with the checks that failed."""
    alone = [other["strategy"] for other in found.rows].count(row["strategy"]) == 1
    return (row["strategy"] if found.place and alone else name(row["label"])) + failed(row)


def _elbo(row: Row) -> tuple[float, float | None, float | None]:
    """The mean test ELBO, and one standard error below and above it."""
    found = estimate(row, "test", "elbo")
    assert found.mean is not None
    se = found.se or found.data_se
    return (found.mean, found.mean - se, found.mean + se) if se else (found.mean, None, None)


def _stated(found: Ranking, label: str) -> tuple[str, str]:
    """A lead in nats, and its interval at the level that allows for all that are judged; of one behind, by how much."""
    v = found.verdicts[label]
    assert v.mean is not None and v.low is not None and v.high is not None
    mean, low, high = (-v.mean, -v.high, -v.low) if v.kind == "behind" else (v.mean, v.low, v.high)
    corrected = "corrected " if found.compared > 1 else ""
    how = over(found.leads[label])
    return f"{nats(mean, low, high)} nats", f"{corrected}{INTERVAL} {interval(low, high)}, {how}"


def _over_data(found: Ranking) -> str:
    """What the leads are over test data."""
    here = [found.verdicts[label] for label in found.having("here")]
    covers = [verdict for verdict in here if verdict.data_low is not None]
    if covers:
        whose = "its interval over data" if len(covers) == 1 else f"over data, that over {name(covers[0].rival)}"
        shown = f"{whose} is {_data_interval(covers[0])}"
        return f" On other test data the lead over {listed([v.rival for v in covers])} may vanish: {shown}."
    if here:
        alone = found.leads[here[0].rival].alone
        why = "there is one test data point" if alone else "the ELBO of each data point is missing"
        return f" Whether it holds on other test data is not known: {why}."
    shown = _data_interval(found.verdicts[found.second["label"]])
    return f" Over {evaluated_data(found.best, 'the')} the interval is {shown}." if shown else ""


def _data_interval(verdict: Verdict) -> str:
    low, high = verdict.data_low, verdict.data_high
    return "" if low is None or high is None else interval(low, high)


# --- why the best leads


def of_lead(found: Lead) -> str:
    whose = f"the inference gap of {name(found.best)} is"
    gap = _shift(found, found.gap, whose, "the two inference gaps do not differ", ("larger", "smaller"))
    marginal = _shift(found, found.marginal, "log p(x) of its model is", "log p(x) of the two models does not differ",
                      ("higher", "lower"))  # fmt: skip
    limits = ", judged by lower bounds on log p(x) whose looseness may differ" if found.loose else ""
    where = "" if found.reaches_other_data else "on these data"
    how = ", ".join(filter(None, [over(found.gap) if found.gap.se is not None else "", where]))
    who = f"Against {name(found.rival)}{how and f' ({how})'}"
    each = "strategy" if found.strategies else "group"
    return f"Each {each} trained its own model. {who}, {gap}, and {marginal}{limits}."


def _shift(found: Lead, d: Difference, one: str, two: str, ways: tuple[str, str]) -> str:
    """A difference with its direction, where the interval shows one."""
    assert d.mean is not None
    way, size, limit = ways[0] if d.mean > 0 else ways[1], abs(d.mean), found.limit(d)
    least = f"{limit} " if limit else ""
    if d.low is None or d.high is None:
        return f"{one} {least}{nats(size)} nats {way} (no interval)"
    if d.low <= 0 <= d.high:
        return f"{two} significantly ({nats(d.mean, d.low, d.high)} nats, {interval(d.low, d.high)})"
    sized = d if d.mean > 0 else d._replace(mean=-d.mean)
    own, data = (_limited(ends, limit) for ends in (sized.interval(LEVEL), sized.data_interval(LEVEL)))
    intervals = own if d.over == "data" else f"{own}; over data {data}"
    other = f", and may be {ways[1] if d.mean > 0 else ways[0]}" if limit == "at most" else ""
    return f"{one} {least}{nats(size, d.low, d.high)} nats ({intervals}) {way}{other}"


def _limited(ends: tuple[float, float] | None, limit: str = "") -> str:
    return "not known" if ends is None else interval(*ends, limit)


# --- what each group loses


def _text(n: Number) -> str:
    """The number itself, with as many decimals as its interval has."""
    shown = f"{'at least ' if n.at_least else ''}{nats(n.mean, *(n.ends or (None, None)))}"
    return shown if n.most is None else f"{shown} to {nats(n.most, *(n.ends or (None, None)))}"


def _sure(n: Number, kind: str = "") -> str:
    """Its interval, with ``kind`` before it what it is over; of several seeds that over data as well."""
    if n.ends is None:
        return "no interval"
    limit = "at least" if n.at_least else ""
    lower = "" if n.most is None else "of the lower end" if kind else "lower end"
    text = " ".join(filter(None, [*([] if n.at_least else [kind, lower]), _limited(n.ends, limit)]))
    if n.seeds < 2:
        return f"{text}, over the data of one seed" if kind else text
    return f"{text}{f', over {n.seeds} seeds' if kind else ''}; over data {_limited(n.data, limit)}"


def of_loss(loss: Loss) -> str:
    who = name(loss.label) + failed(loss.row)
    if loss.kind == "posterior":
        text = f"{who} loses nothing on test data: its q is the exact posterior, so its ELBO is log p(x)."
    elif loss.kind == "none":
        text = f"{who} loses nothing on {ON[loss.split]}: its q is the posterior (inference gap {_text(loss.gap)})."
    elif loss.kind == "exact":
        text = f"{_headline(who, loss)}, where log p(x) is exact."
    elif loss.kind == "undivided":
        text = f"{_headline(who, loss)}. Its causes are not known: the search for the best q did not converge."
    else:
        colon = ": " if loss.gap.positive or loss.gap.ends is None else "; "
        parts = "; ".join(_part(kind, gap) for kind, gap in loss.parts.items())
        text = f"{_headline(who, loss)}{parts and f'{colon}{parts}'}." + _generalization(loss.generalization)
    return text + _overfit(loss)


def _headline(who: str, loss: Loss) -> str:
    gap, on = loss.gap, ON[loss.split]
    bounds = "log p(x) lies between two bounds; " if gap.most is not None else ""
    if gap.negative:
        n = replace(gap, at_least=False)
        sure = f"{_text(n)} {NATS} ({bounds}{_sure(n, INTERVAL)})"
        return f"{who}: its inference gap on {on} is negative, {sure}: {_missed('inference')}"
    shown = f"{_text(gap)} {NATS} ({bounds}{_sure(gap, INTERVAL)})"
    if gap.ends is not None and not gap.positive:
        return f"{who} shows no significant loss on {on}: its inference gap is {shown}"
    return f"{who} loses {shown} on {'' if gap.on_other_data or gap.ends is None else 'these '}{on}"


def _part(kind: str, gap: Number) -> str:
    """One gap; a cause is named where its interval excludes zero, of these data alone where that over data does not."""
    if gap.ends is None:
        return f"its {kind} gap is {_text(gap)}, without an interval"
    if gap.negative:
        n = replace(gap, at_least=False)
        return f"its {kind} gap is negative, {_text(n)} ({_sure(n)}): {_missed(kind)}"
    if not gap.positive:
        return f"no significant {kind} gap ({_text(gap)}, {_sure(gap)})"
    return f"{'' if gap.on_other_data else 'on these data '}{_text(gap)} ({_sure(gap)}) {CAUSES[kind]}"


def _missed(kind: str) -> str:
    return "log p(x) is underestimated" if kind in ("approximation", "inference") else "the search missed the best q"


def _generalization(gap: Number | None) -> str:
    """Of the encoder; seeds say nothing of the two samples, so that the interval over data must exclude zero too."""
    if gap is None:
        return ""
    smaller = gap.negative and gap.data is not None and gap.data[1] < 0
    if smaller or gap.on_other_data:
        shown = f"{_text(-gap)} ({_sure(-gap)}) smaller" if smaller else f"{_text(gap)} ({_sure(gap)}) larger"
        return f" Its amortization gap is {shown} on test data than on training data."
    shown = _text(gap) + ("" if gap.ends is None else f", {_sure(gap)}")
    return f" Its amortization gap is not significantly larger on test data than on training data ({shown})."


def _overfit(loss: Loss) -> str:
    """Of the model."""
    if loss.overfit is None:
        return ""
    what, shown, sure = IN_WORDS[loss.overfit_in], _text(loss.overfit), _sure(loss.overfit, INTERVAL)
    if loss.overfit.on_other_data:
        return f" Its model overfits: {what} is {shown} {NATS} ({sure}) higher on training data than on test data."
    return f" No significant overfitting ({what}, training − test data: {shown}; {sure})."
