"""The answer in English: the only file that turns what ranking.py and explain.py found into sentences."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

import pandas as pd

from vem.report.contenders import Rivals
from vem.report.ends import ends_text
from vem.report.explain import Caution, Ends, Lead, Loss, Number, Sources, Spent, cautions, lead, losses
from vem.report.findings import Axis, Sentence
from vem.report.intervals import LEVEL, Difference
from vem.report.quantities import present
from vem.report.ranking import Ranking, Verdict, in_doubt, rankings
from vem.report.starts import about_starts
from vem.report.words import (
    EXACT,
    Row,
    digits,
    evaluated_data,
    failed,
    interval,
    listed,
    name,
    nats,
    number,
    over,
    plural,
    seeds,
)

MOST_LOSSES = 8  # groups whose losses are told one by one
MOST_PAIRS = 3  # whose compute is told
INTERVAL = "95 % interval"
CAUSES = {
    "approximation": "to its family, in which no q equals the posterior (approximation gap)",
    "amortization": "to its encoder, which does not find the best q for each datum (amortization gap)",
    "optimization": "to rows that are not at their optimum (optimization gap)",
}
ON = {"test": "test data", "train": "training data"}
MISSED = {"approximation": "log p(x)", "inference": "log p(x)"}  # by a measurement whose gap is below zero; else q*
IN_WORDS = {"log_marginal": "log p(x)", "best_elbo": "L[q*]"}
Named = Callable[[Row], str]


def answer(groups: pd.DataFrame, rivals: Rivals, axes: Sequence[Axis], sources: Sources) -> tuple[Sentence, ...]:
    """The sentences of one table, each with what it is about; ``groups`` as in :class:`vem.report.findings.Table`."""
    rows = [{str(k): present(v) for k, v in row.items()} for row in groups.to_dict("records")]
    found = rankings(rows, rivals, axes)
    out = [Sentence(_first(found[0]), "finding", found[0])] if found[0].rows else []
    out += [Sentence(_at(here), "finding", here) for here in found[1:]]
    out += [Sentence(text, "finding") for text in about_starts(rows, sources.settings)]
    if (why := lead(found[0], rivals, sources.base)) is not None:
        out.append(Sentence(_lead(why), "loss", why))
    told = losses(rows)
    out += [Sentence(_loss(loss), "loss", loss) for loss in told[:MOST_LOSSES]]
    if (more := len(told) - MOST_LOSSES) > 0:
        out.append(Sentence(f"What the other {more} lose stands in the table.", "loss"))
    return (*out, *map(caution, cautions(rows, found, axes, sources)))


def caution(found: Caution) -> Sentence:
    """A reason to doubt, in words."""
    return Sentence(CAUTIONS[found.kind](found.labels, **found.facts), "caution", found)


# --- who is the best


def _first(found: Ranking) -> str:
    """Who has the best bound, and whether that can be said at all."""
    best, label = found.best, _full(found.best)
    elbo = f"{nats(best['test_elbo_mean'], *_ends(best))} nats per datum ({seeds(best)})"
    if len(found.rows) == 1:
        return f"{label} has a test ELBO of {elbo}. No other group has one, so nothing is compared."
    highest = f"Of these trained models, {label}" if found.one_seed else label
    highest += f" has the highest test ELBO, {elbo}"
    one_seed = f" W{_one_seed(found)[1:]}." if found.one_seed else ""
    second = found.second["label"]

    def above() -> str:
        return f"{_on_common(found, second)}{_lead_over(found, second)} above the next best, {_full(found.second)}."

    if found.doubts or found.failed:
        text = f"{highest}, but it cannot be called the best: {_why_not(found, _full)}."
        text += f" Nor is its lead over {listed(found.doubts[1:])} shown." if found.doubts[1:] else ""
        if found.failed:
            return text + ("" if found.doubts else f" As measured it is {above()}") + one_seed
        return text + _won(found) + one_seed
    if found.one_seed:
        return f"{highest}: {above()}{one_seed}{_shaky(found)}"
    return f"{label} has the best bound{_where(found)}: its test ELBO is {elbo}, {above()}{_over_data(found)}" + _shaky(
        found
    )


def _at(here: Ranking) -> str:
    """Who leads at one value of an axis, by the rules of the whole table."""
    strategies = [row["strategy"] for row in here.rows]

    def named(row: Row) -> str:
        return (row["strategy"] if strategies.count(row["strategy"]) == 1 else name(row["label"])) + failed(row)

    best, second = named(here.best), here.second["label"]
    elbo = f"test ELBO {nats(here.best['test_elbo_mean'], *_ends(here.best))} nats per datum"
    if here.doubts or here.failed:
        why = _why_not(here, named)
        return f"At {here.place} none can be called the best: {best} has the highest mean ({elbo}), but {why}."
    by = f"{_on_common(here, second)}above {named(here.second)} by {_lead_over(here, second)}"
    if here.one_seed:
        return f"At {here.place} the trained model of {best} is the best ({elbo}), {by}; {_one_seed(here)}."
    return f"At {here.place} the best{_where(here)} is {best} ({elbo}), {by}."


def _one_seed(found: Ranking) -> str:
    what = "strategies" if len({row["strategy"] for row in found.rows}) > 1 else "groups"
    return f"whether the {what} differ is not known from one seed"


def _why_not(found: Ranking, named: Named) -> str:
    """Why the first cannot be called the best: its own bound is in doubt, or a lead is not shown."""
    reasons = [_doubt(found, found.doubts[0], named)] if found.doubts else []
    if found.failed:
        what = "check" if len(found.failed) == 1 else "checks"
        reasons.insert(0, f"its {what} {listed(found.failed)} failed, so that its bound is in doubt")
    return "; and ".join(reasons)


def _doubt(found: Ranking, label: str, named: Named) -> str:
    """Why the first is not the better one of this pair."""
    verdict, common = found.verdicts[label], _on_common(found, label)
    other = named(next(row for row in found.rows if row["label"] == label))
    if verdict.kind == "unknown":
        return f"of its lead over {other} no interval is known ({verdict.reason or 'no error'})"
    if verdict.kind == "equal":
        return f"{common}it and {other} are equal to within {EXACT:g} nats"
    by, sure = _stated(found, label)
    if verdict.kind == "models":
        return f"its lead over {other}, {by} ({sure}), is that of one trained model over another"
    if verdict.kind == "behind":
        where = "on the one common seed" if verdict.over == "data" else f"on the {verdict.seeds} common seeds"
        return f"{where} {other} is above it by {by} ({sure})"
    return f"{common}its lead over {other}, {by}, has the {sure}, which covers 0"


def _won(found: Ranking) -> str:
    """Whom the first, which is not shown to be the best, leads all the same, and how far that reaches."""
    everywhere, here = found.won
    if everywhere:
        also = f"; on these test data also above {listed(here)}" if here else ""
        return f" It is above {listed(everywhere)}{also}."
    return f" On these test data it is above {listed(here)}." if here else ""


def _shaky(found: Ranking) -> str:
    """The leads over groups whose own bound is in doubt."""
    rivals = {row["label"]: in_doubt(row) for row in found.rows[1:] if in_doubt(row)}
    checks = list(dict.fromkeys(check for names in rivals.values() for check in names))
    if not rivals:
        return ""
    return f" In doubt is the lead over {listed(list(rivals))}: checks failed there ({', '.join(checks)})."


def _on_common(found: Ranking, label: str) -> str:
    """The seeds that a lead is over, where the two means are over others."""
    common = found.common(label)
    return "" if not common else "on the one common seed " if common == 1 else f"on the {common} common seeds "


def _full(row: Row) -> str:
    """A group's label, with the checks that failed."""
    return name(row["label"]) + failed(row)


def _ends(row: Row) -> tuple[float | None, float | None]:
    se = row.get("test_elbo_se") or row.get("test_elbo_data_se")
    return (None, None) if not se else (row["test_elbo_mean"] - se, row["test_elbo_mean"] + se)


def _stated(found: Ranking, label: str) -> tuple[str, str]:
    """A lead in nats, and its interval at the level that allows for all that are judged; of one behind, by how much."""
    v = found.verdicts[label]
    assert v.mean is not None and v.low is not None and v.high is not None
    mean, low, high = (-v.mean, -v.high, -v.low) if v.kind == "behind" else (v.mean, v.low, v.high)
    corrected = "corrected " if found.compared > 1 else ""
    how = over(found.leads[label])
    return f"{nats(mean, low, high)} nats", f"{corrected}95 % interval {interval(low, high)}, {how}"


def _lead_over(found: Ranking, label: str) -> str:
    return "{} ({})".format(*_stated(found, label))


def _where(found: Ranking) -> str:
    """The test data, where the claim does not reach beyond them."""
    return f" on {evaluated_data(found.best, 'these')}" if found.having("here") else ""


def _over_data(found: Ranking) -> str:
    """What the leads are over test data."""
    here = [found.verdicts[label] for label in found.having("here")]
    covers = [verdict for verdict in here if verdict.data_low is not None]
    if covers:
        whose = "its interval" if len(covers) == 1 else f"the interval of that over {name(covers[0].rival)}"
        shown = f"over the data {whose} is {_data_interval(covers[0])}"
        return f" On other test data the lead over {listed([v.rival for v in covers])} may be none: {shown}."
    if here:
        alone = found.leads[here[0].rival].alone
        why = "there is one test datum" if alone else "the ELBO of each datum is missing"
        return f" What it would be on other test data is not known: {why}."
    second = found.verdicts[found.second["label"]]
    shown = _data_interval(second)
    return f" Over {evaluated_data(found.best, 'the')} the interval is {shown}." if shown else ""


def _data_interval(verdict: Verdict) -> str:
    low, high = verdict.data_low, verdict.data_high
    return "" if low is None or high is None else interval(low, high)


# --- why the best leads


def _lead(found: Lead) -> str:
    gap = _shift(found, found.gap, "its inference gap is", "the two inference gaps are", ("larger", "smaller"))
    marginal = _shift(found, found.marginal, "the log p(x) of its model is", "the log p(x) of the two models is",
                      ("higher", "lower"))  # fmt: skip
    limits = ", as far as the lower bounds on log p(x) tell, whose looseness may differ" if found.loose else ""
    how = f", {over(found.gap)}" if found.gap.se is not None else ""
    here = "" if found.reaches_other_data else " on these data"
    each = "strategy" if found.strategies else "group"
    who = f"Against {name(found.rival)}{how}, {name(found.best)} stands so{here}"
    return f"Each {each} trained a model of its own. {who}: {gap}, {marginal}{limits}."


def _shift(found: Lead, d: Difference, one: str, two: str, ways: tuple[str, str]) -> str:
    """A difference with its direction, where the interval shows one."""
    assert d.mean is not None
    way, size, limit = ways[0] if d.mean > 0 else ways[1], abs(d.mean), found.limit(d)
    least = f"{limit} " if limit else ""
    if d.low is None or d.high is None:
        return f"{one} {least}{nats(size)} nats {way} (no interval)"
    if d.low <= 0 <= d.high:
        return f"{two} not told apart ({nats(d.mean, d.low, d.high)} nats, {interval(d.low, d.high)})"
    sized = d if d.mean > 0 else d._replace(mean=-d.mean)
    shown = [_limited(ends, limit) for ends in (sized.interval(LEVEL), sized.data_interval(LEVEL))]
    intervals = shown[0] if d.over == "data" else f"{shown[0]}; over data {shown[1]}"
    other = f", and may be {ways[1] if d.mean > 0 else ways[0]}" if limit == "at most" else ""
    return f"{one} {least}{nats(size, d.low, d.high)} nats ({intervals}) {way}{other}"


def _limited(ends: tuple[float, float] | None, limit: str) -> str:
    """An interval, or the one end that limits the number."""
    if ends is None:
        return "not known"
    low, high = (None if limit == "at most" else ends[0]), (None if limit == "at least" else ends[1])
    return ends_text(low, high, _to((ends[1] - ends[0]) / 2))


def _to(half: float) -> Callable[[float], str]:
    """A number with as many decimals as half its interval has digits."""
    return lambda value: number(value, digits(half))


# --- what each group loses


def _text(n: Number) -> str:
    """The number itself, with as many decimals as its interval has."""
    low, high = n.ends or (None, None)
    shown = f"{'at least ' if n.at_least else ''}{nats(n.mean, low, high)}"
    return shown if n.most is None else f"{shown} to {nats(n.most, low, high)}"


def _sure(n: Number, kind: str = "") -> str:
    """Its interval, with ``kind`` before it what it is over; of several seeds that over data as well."""
    if n.ends is None:
        return "no interval"
    lower = "" if n.most is None else "of the lower end" if kind else "lower end"
    text = " ".join(filter(None, [*([] if n.at_least else [kind, lower]), _interval(n, n.ends)]))
    if n.seeds < 2:
        return f"{text}, over the data of one seed" if kind else text
    text += f", over {n.seeds} seeds" if kind else ""
    return f"{text}; over data {'not known' if n.data is None else _interval(n, n.data)}"


def _interval(n: Number, ends: Ends) -> str:
    return ends_text(ends.low, None if n.at_least else ends.high, _to((ends.high - ends.low) / 2))


def _loss(loss: Loss) -> str:
    who = _full(loss.row)
    if loss.kind == "posterior":
        text = f"{who} loses nothing on test data: its q is the exact posterior, so its ELBO is log p(x)."
    elif loss.kind == "none":
        gap = f"inference gap {_text(loss.gap)}"
        text = f"{who} loses nothing on {ON[loss.split]}: its q is the posterior ({gap})."
    elif loss.kind == "exact":
        text = f"{_headline(who, loss)}, where log p(x) is exact."
    elif loss.kind == "undivided":
        text = (f"{_headline(who, loss)}. How it divides into its causes is not told: the search for the best q did "
                "not reach it (check converged failed).")  # fmt: skip
    else:
        parts = "; ".join(_part(kind, gap) for kind, gap in loss.parts.items())
        text = f"{_headline(who, loss)}{parts and f': {parts}'}." + _generalization(loss)
    return text + _overfit(loss)


def _headline(who: str, loss: Loss) -> str:
    gap, on = loss.gap, ON[loss.split]
    bounds = "log p(x) lies between two bounds; " if gap.most is not None else ""
    if gap.negative:
        measured = replace(gap, at_least=False)
        return (f"{who}: its inference gap on {on} is below 0, {_text(measured)} nats per datum "
                f"({bounds}{_sure(measured, INTERVAL)}): {_missed('inference')}")  # fmt: skip
    sure = f"({bounds}{_sure(gap, INTERVAL)})"
    if gap.ends is not None and not gap.positive:
        return f"{who}: no loss is shown on {on}, its inference gap is {_text(gap)} nats per datum {sure}"
    these = "" if gap.on_other_data or gap.ends is None else "these "
    return f"{who} loses {_text(gap)} nats per datum {sure} on {these}{on}"


def _part(kind: str, gap: Number) -> str:
    """One gap; a cause is named where its interval excludes zero, of these data alone where that over data does not."""
    if gap.ends is None:
        return f"its {kind} gap is {_text(gap)}, without an interval"
    if gap.negative:
        measured = replace(gap, at_least=False)
        return f"its {kind} gap is below 0, {_text(measured)} ({_sure(measured)}): {_missed(kind)}"
    if not gap.positive:
        return f"no {kind} gap is found ({_text(gap)}, {_sure(gap)})"
    return f"{'' if gap.on_other_data else 'on these data '}{_text(gap)} ({_sure(gap)}) {CAUSES[kind]}"


def _missed(kind: str) -> str:
    return f"the measurement missed {MISSED.get(kind, 'the best q')}"


def _generalization(loss: Loss) -> str:
    """Of the encoder; seeds say nothing of the two samples, so that the interval over data must exclude zero too."""
    gap = loss.generalization
    if gap is None:
        return ""
    if gap.negative and gap.data is not None and gap.data.high < 0:
        shown = f"{_text(-gap)} ({_sure(-gap)})"
        return f" On test data its amortization gap is {shown} smaller than on training data."
    if not gap.on_other_data:
        shown = _text(gap) + ("" if gap.ends is None else f", {_sure(gap)}")
        return f" That the encoder does worse on new data than on training data is not shown (difference {shown})."
    return (f" {_text(gap)} ({_sure(gap)}) of its amortization gap is there on new data alone: "
            "so much smaller is the gap on training data (generalization).")  # fmt: skip


def _overfit(loss: Loss) -> str:
    """Of the model."""
    if loss.overfit is None:
        return ""
    what, shown, sure = IN_WORDS[loss.overfit_in], _text(loss.overfit), _sure(loss.overfit, INTERVAL)
    if loss.overfit.on_other_data:
        return (f" Its model is overfit: {what} is {shown} nats per datum ({sure}) higher on training data than on "
                "test data.")  # fmt: skip
    return f" Overfitting is not shown ({what}, training − test data: {shown}; {sure})."


# --- what cannot be concluded


def _jobs_left(_: Sequence[str], running: int, later: int, planned: int) -> str:
    parts = [f"{n} {what}" for n, what in ((running, "running"), (later, "not begun or stopped")) if n]
    have = "has" if running + later == 1 else "have"
    return (f"{running + later} of {plural(planned, 'planned job')} {have} no result yet ({', '.join(parts)}). "
            "This is a state in between: the order may still change.")  # fmt: skip


def _from_below(_: Sequence[str], width: float | None, worst: float | None) -> str:
    text = ("“At least”: log p(x) is known from below alone, so that approximation and inference gaps may be larger, "
            "and their intervals have a lower end alone.")  # fmt: skip
    if width is None or worst is None:
        return text
    return (f"{text} On data made by the models themselves the bounds miss at most {number(width, 3)} nats in the "
            f"mean and {number(worst, 3)} for one datum.")  # fmt: skip


def _correction(alone: Sequence[str], groups: int, leads: int) -> str:
    text = (f"{plural(groups, 'group')} were compared, and the best was picked from the same test data. A corrected "
            f"interval allows for all {leads} leads that this answer judges (Bonferroni), one in the table for its "
            "pair alone.")  # fmt: skip
    return text + (f" Without the correction the lead over {listed(alone)} would count." if alone else "")


def _compute(_: Sequence[str], pairs: Sequence[Spent]) -> str:
    told = []
    for pair in pairs[:MOST_PAIRS]:
        own, other = (number(spent, 0 if min(pair.own, pair.other) >= 10 else 2) for spent in (pair.own, pair.other))
        told.append(f"{name(pair.best)} {own} {pair.unit}, {name(pair.rival)} {other}")
    more = f"; and {len(pairs) - MOST_PAIRS} more pairs" if len(pairs) > MOST_PAIRS else ""
    return (f"These pairs did not use equal compute: {'; '.join(told)}{more}. The curves against seconds and decoder "
            "evaluations compare them at equal cost.")  # fmt: skip


def _one_seed_each(who: Sequence[str], every: bool) -> str:
    return (f"{'Every group has' if every else f'{listed(who)}:'} one seed alone. Intervals are then over test data: "
            "they do not tell how another seed would move the numbers, and it may change the order.")  # fmt: skip


def _no_elbo(who: Sequence[str], reason: str) -> str:
    have, are = ("has", "it is") if len(who) == 1 else ("have", "they are")
    return f"{listed(who)} {have} no test ELBO ({reason}), so {are} not compared."


def _not_tested(who: Sequence[str], what: str) -> str:
    rest = " If it does not, every number here is off by as much." if what.startswith("whether") else ""
    return f"{listed(who)}: not tested: {what}.{rest}"


def _over_seeds(_: Sequence[str], num_data: float | None) -> str:
    on = f" of {plural(int(num_data), 'datum').replace('datums', 'data')}" if num_data else ""
    return (f"Intervals over seeds tell how another seed would move the numbers on this test set{on}; intervals over "
            "data tell how other test data would.")  # fmt: skip


CAUTIONS: Mapping[str, Callable[..., str]] = {
    "remark": lambda _, text: text,
    "jobs_left": _jobs_left,
    "running": lambda who, runs: (
        f"{plural(runs, 'run')} of {listed(who)} {'is' if runs == 1 else 'are'} not finished yet: means are over the "
        "others, and the order may still change."
    ),
    "no_result": lambda who, runs: (
        f"{plural(runs, 'run')} of {listed(who)} gave no result (failed, killed or damaged). Means are over those "
        "that finished; the others may have been the worse ones."
    ),
    "no_elbo": _no_elbo,
    "no_elbo_at_all": lambda _: "No group has a test ELBO, so no strategy can be called the best.",
    "checks_failed": lambda who, what: (
        f"{listed(who)}: checks failed ({what}). The bounds and gaps measured there are in doubt; evaluation.json "
        "says what was found."
    ),
    "not_tested": _not_tested,
    "one_seed": _one_seed_each,
    "correction": _correction,
    "from_below": _from_below,
    "other_models": lambda _, keys: (
        f"Groups that differ in {' and '.join(keys)} have different models: a higher ELBO there may be a better model "
        "and not better inference, and decoder evaluations do not cost the same."
    ),
    "compute": _compute,
    "held_out_steps": lambda who, steps, key: (
        f"The test ELBO of {listed(who)} includes {steps} ascent steps for each test datum ({key}), which training "
        "seconds and decoder evaluations do not count."
    ),
    "over_seeds": _over_seeds,
    "unequal_seeds": lambda _, fewest, most: (
        f"The groups have unequal numbers of seeds ({fewest} to {most}): differences are over the seeds that both "
        "groups of a pair have."
    ),
    "other_seeds": lambda who: (
        f"{listed(who)} do not have the same seeds: each mean is over the group's own, a difference over the seeds "
        "that both have, so that it is not the difference of the means."
    ),
    "two_samples": lambda _: (
        "Training and test data are different samples. An interval over data allows for how they were drawn, not for "
        "a test set that is harder or easier by design."
    ),
    "changed_together": lambda _, key, others: (
        f"{key} and {listed(others)} changed together: which of them moved the numbers is not known."
    ),
    "train_size": lambda _: (
        "Groups that differ in data.max_train are compared on the same test data; their training numbers are each "
        "about training data of their own."
    ),
}
