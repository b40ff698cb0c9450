"""What each strategy loses and why: its gaps in words, with intervals and with what they cannot identify."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from vem.errors import VemError
from vem.report.estimates import GENERALIZATION
from vem.report.files import read_per_datum
from vem.report.paired import Difference, Scores, paired
from vem.report.tables import TEST, Rivals
from vem.report.words import Row, failed, interval, name, nats, over

MOST = 8  # groups whose losses are told one by one
EXACT = 1e-3  # nats; below this q is the posterior
WHY = {
    "approximation": "to its family, in which no q equals the posterior (approximation gap)",
    "amortization": "to its encoder, which does not find the best q for each datum (amortization gap)",
    "optimization": "to rows that are not at their optimum (optimization gap)",
}
ON = {"test": "test data", "train": "training data"}
# Checks without which the bounds are no bounds, and a gap is not "at least" anything.
BOUND_CHECKS = {"finite", "best_above_q", "richer_family", "best_below_upper", "lower_above_best", "interval_ordered",
                "quadrature"}  # fmt: skip
GAP, MARGINAL = "test_inference_gap", "test_log_marginal_lower"


def losses(rows: Sequence[Row], leaders: Sequence[Row], rivals: Rivals, base: Path) -> list[str]:
    """A sentence for each group whose gaps were measured, the best test ELBO first; first why the best leads."""
    ranked = sorted(rows, key=lambda row: -(row.get("test_elbo_mean") or float("-inf")))
    told = [text for row in ranked if (text := _loss(row)) is not None]
    more = [f"What the other {len(told) - MOST} lose stands in the table."] if len(told) > MOST else []
    return [*_why(leaders, rivals, base), *told[:MOST], *more]


# --- the gaps of one group


def _loss(row: Row) -> str | None:
    split = next((s for s in ON if row.get(f"{s}_inference_gap_mean") is not None), None)
    if split is None:
        return _exact(row)
    mean, low, high = _estimate(row, f"{split}_inference_gap")
    assert mean is not None
    who, at_least = name(row["label"]) + failed(row), _at_least(row, split, "inference")
    if not at_least and max(abs(v) for v in (mean, low, high) if v is not None) < EXACT:
        return f"{who} loses nothing on {ON[split]}: its q is the posterior (inference gap {nats(mean)})."
    sure = "" if low is None or high is None else f" (95 % interval {interval(low, high)}, {_over(row)})"
    if low is not None and high is not None and low <= 0 <= high:
        shown = f"{nats(mean, low, high)} nats per datum{sure}"
        text = f"{who}: no loss is shown on {ON[split]}, its inference gap is {shown}"
    else:
        text = f"{who} loses {at_least}{nats(mean, low, high)} nats per datum{sure} on {ON[split]}"
    parts = [told for gap in WHY if (told := _part(row, split, gap)) is not None]
    return text + (f": {'; '.join(parts)}." if parts else ".") + _generalization(row)


def _estimate(row: Row, column: str) -> tuple[float | None, float | None, float | None]:
    mean, low, high = (row.get(f"{column}_{end}") for end in ("mean", "ci95_low", "ci95_high"))
    return mean, low, high


def _part(row: Row, split: str, gap: str) -> str | None:
    """One gap; a cause is named only where its interval leaves out 0."""
    mean, low, high = _estimate(row, f"{split}_{gap}_gap")
    if mean is None:
        return None
    number = _at_least(row, split, gap) + nats(mean, low, high)
    if low is None or high is None:
        return f"its {gap} gap is {number}, without an interval"
    if low > 0:
        return f"{number} ({interval(low, high)}) {WHY[gap]}"
    if high < 0:
        return f"its {gap} gap is below 0, {number} ({interval(low, high)}): the measurement missed the best q"
    return f"no {gap} gap is found ({number}, {interval(low, high)})"


def _at_least(row: Row, split: str, gap: str) -> str:
    """The words before a gap that is known from one side alone; none where a check of its bounds failed."""
    return "at least " if row.get(f"{split}_{gap}_gap_at_least") and _trusted(row, split) else ""


def _trusted(row: Row, split: str) -> bool:
    return not BOUND_CHECKS & set((row.get(f"{split}_checks") or "").split("; "))


def _over(row: Row) -> str:
    return f"over {row['seeds']} seeds" if row["seeds"] > 1 else "over the data of one seed"


def _exact(row: Row) -> str | None:
    """Of a model whose log p(x) is known, without a search for the best q."""
    elbo, marginal = row.get("test_elbo_mean"), row.get("test_log_marginal_mean")
    if elbo is None or marginal is None:
        return None
    who = name(row["label"]) + failed(row)
    if abs(marginal - elbo) < EXACT:
        return f"{who} loses nothing on test data: its q is the exact posterior, so its ELBO is log p(x)."
    return f"{who} loses {nats(marginal - elbo)} nats per datum on test data, where log p(x) is exact."


def _generalization(row: Row) -> str:
    mean, low, high = _estimate(row, f"test_{GENERALIZATION}")
    if mean is None:
        return ""
    if low is None or high is None or low <= 0 <= high:
        shown = nats(mean, low, high) + ("" if low is None or high is None else f", {interval(low, high)}")
        return f" That the encoder does worse on new data than on training data is not shown (difference {shown})."
    if mean < 0:
        smaller = f"{nats(-mean, low, high)} ({interval(-high, -low)})"
        return f" On test data its amortization gap is {smaller} smaller than on training data."
    return (f" {nats(mean, low, high)} ({interval(low, high)}) of its amortization gap is there on new data alone: "
            "so much smaller is the gap on training data (generalization).")  # fmt: skip


# --- the two that lead


def _why(leaders: Sequence[Row], rivals: Rivals, base: Path) -> list[str]:
    """Whether the best leads by its inference or by its model: ΔELBO = Δ log p(x) − Δ inference gap."""
    if len(leaders) < 2:
        return []
    best, second = leaders
    gap, marginal = (_between(best, second, rivals, base, column) for column in (GAP, MARGINAL))
    if gap is None or marginal is None or gap.mean is None or marginal.mean is None:
        return []
    # What is bounded from one side on one side alone limits the difference from that side.
    bounded = [bool(row.get(f"{MARGINAL}_at_least")) for row in leaders]
    one_sided = bounded[0] != bounded[1] and all(_trusted(row, TEST) for row in leaders)
    sides = (bounded[0], bounded[1]) if one_sided else (False, False)
    first = _compared(gap, "its inference gap is", "the two inference gaps are", ("larger", "smaller"), sides)
    then = _compared(marginal, "the log p(x) of its model is", "the log p(x) of the two models is",
                     ("higher", "lower"), sides)  # fmt: skip
    loose = any(bounded) and not one_sided
    limits = ", as far as the lower bounds on log p(x) tell, whose looseness may differ" if loose else ""
    how = f", {over(gap)}" if gap.se is not None else ""
    who = f"Against {name(second['label'])}{how}, {name(best['label'])} stands so"
    return [f"Each strategy trained a model of its own. {who}: {first}, {then}{limits}."]


def _compared(d: Difference, one: str, two: str, ways: tuple[str, str], sides: tuple[bool, bool]) -> str:
    """A difference with its direction, where the interval shows one.

    ``sides``: whether the number of the first, of the second, is a lower bound and that of the other exact.
    """
    assert d.mean is not None
    way, size = ways[0] if d.mean > 0 else ways[1], abs(d.mean)
    limit = ""
    if sides[0] or sides[1]:
        limit = "at least " if sides[0] == (d.mean > 0) else "at most "
    if d.low is None or d.high is None:
        return f"{one} {limit}{nats(size)} nats {way} (no interval)"
    if d.low <= 0 <= d.high:
        return f"{two} not told apart ({nats(d.mean, d.low, d.high)} nats, {interval(d.low, d.high)})"
    ends = (d.low, d.high) if d.mean > 0 else (-d.high, -d.low)
    return f"{one} {limit}{nats(size, d.low, d.high)} nats ({interval(*ends)}) {way}"


def _between(one: Row, other: Row, rivals: Rivals, base: Path, column: str) -> Difference | None:
    """The paired difference of another number than the ELBO, over common seeds, or over the data of the one."""
    if one.get(f"{column}_mean") is None or other.get(f"{column}_mean") is None:
        return None
    labels = one["label"], other["label"]
    common = set(rivals.rows[labels[0]]) & set(rivals.rows[labels[1]])
    own, against = (
        {seed: _scores(label, seed, rivals, base if len(common) == 1 else None, column) for seed in common}
        for label in labels
    )
    return paired(own, against)


def _scores(label: str, seed: int, rivals: Rivals, base: Path | None, column: str) -> Scores:
    """A number of one run; with ``base`` that of each datum too, where the file has it and agrees."""
    mean = rivals.number(label, seed, column)
    if base is None or mean is None:
        return Scores(mean)
    try:
        table = read_per_datum(base / rivals.rows[label][seed]["directory"])
        table = table[table["split"] == TEST].sort_values("row")
        values = table["log_marginal_lower"].to_numpy(float)
        values = values - table["elbo"].to_numpy(float) if column == GAP else values
        rows = table["row"].to_numpy(float)
    except (VemError, KeyError, ValueError):
        return Scores(mean)
    known = len(values) > 0 and bool(np.isclose(values.mean(), mean, rtol=1e-4, atol=EXACT))
    return Scores(mean, rows, values) if known else Scores(mean)
