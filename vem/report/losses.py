"""What each strategy loses and why: its gaps in words, with intervals and with what they cannot identify."""

from __future__ import annotations

from collections.abc import Sequence

from vem.report.estimates import GENERALIZATION
from vem.report.paired import Difference, Scores, paired
from vem.report.tables import Rivals
from vem.report.words import Row, interval, name, nats, over

MOST = 8  # groups whose losses are told one by one
EXACT = 1e-3  # nats; below this q is the posterior
WHY = {
    "approximation": "to its family, in which no q equals the posterior (approximation gap)",
    "amortization": "to its encoder, which does not find the best q for each datum (amortization gap)",
    "optimization": "to rows that are not at their optimum (optimization gap)",
}
ON = {"test": "test data", "train": "training data"}


def losses(rows: Sequence[Row], leaders: Sequence[Row], rivals: Rivals) -> list[str]:
    """A sentence for each group whose gaps were measured, the best test ELBO first; first why the best leads."""
    ranked = sorted(rows, key=lambda row: -(row.get("test_elbo_mean") or float("-inf")))
    told = [text for row in ranked if (text := _loss(row)) is not None]
    more = [f"What the other {len(told) - MOST} lose stands in the table."] if len(told) > MOST else []
    return [*_why(leaders, rivals), *told[:MOST], *more]


def _loss(row: Row) -> str | None:
    split = next((s for s in ON if row.get(f"{s}_inference_gap_mean") is not None), None)
    if split is None:
        return _exact(row)
    gap = row[f"{split}_inference_gap_mean"]
    if abs(gap) < EXACT and not row.get(f"{split}_inference_gap_at_least"):
        return f"{name(row['label'])} loses nothing on {ON[split]}: its q is the posterior (inference gap {nats(gap)})."
    parts = [
        f"{told} {why}" for gap, why in WHY.items() if (told := _told(row, f"{split}_{gap}_gap", False)) is not None
    ]
    whole = _told(row, f"{split}_inference_gap", True)
    text = f"{name(row['label'])} loses {whole} on {ON[split]}"
    return text + (f": {'; '.join(parts)}." if parts else ".") + _generalization(row)


def _told(row: Row, column: str, units: bool) -> str | None:
    """The number with its interval: ``at least 1.54 nats per datum (95 % interval 1.52 to 1.56)``."""
    mean, low, high = (row.get(f"{column}_{end}") for end in ("mean", "ci95_low", "ci95_high"))
    if mean is None:
        return None
    text = ("at least " if row.get(f"{column}_at_least") else "") + nats(mean, low, high)
    text += " nats per datum" if units else ""
    if low is None or high is None:
        return text
    return f"{text} ({'95 % interval ' if units else ''}{interval(low, high)})"


def _exact(row: Row) -> str | None:
    """Of a model whose log p(x) is known, without a search for the best q."""
    elbo, marginal = row.get("test_elbo_mean"), row.get("test_log_marginal_mean")
    if elbo is None or marginal is None:
        return None
    who = name(row["label"])
    if abs(marginal - elbo) < EXACT:
        return f"{who} loses nothing on test data: its q is the exact posterior, so its ELBO is log p(x)."
    return f"{who} loses {nats(marginal - elbo)} nats per datum on test data, where log p(x) is exact."


def _generalization(row: Row) -> str:
    mean, low, high = (row.get(f"test_{GENERALIZATION}_{end}") for end in ("mean", "ci95_low", "ci95_high"))
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


def _why(leaders: Sequence[Row], rivals: Rivals) -> list[str]:
    """Whether the best leads by its inference or by its model: ΔELBO = Δ log p(x) − Δ inference gap."""
    if len(leaders) < 2:
        return []
    best, second = leaders
    gap, marginal = (
        _between(best, second, rivals, column) for column in ("test_inference_gap", "test_log_marginal_lower")
    )
    if gap is None or marginal is None or gap.mean is None or marginal.mean is None:
        return []
    first = f"its inference gap is {_amount(gap)} {'smaller' if gap.mean < 0 else 'larger'}"
    then = f"the log p(x) of its model {_amount(marginal)} {'higher' if marginal.mean > 0 else 'lower'}"
    known = any(row.get("test_inference_gap_at_least") for row in leaders)
    limits = ", as far as the lower bounds on log p(x) tell, whose looseness may differ" if known else ""
    how = f" ({over(gap)})" if gap.se is not None else ""
    who = f"Against {name(second['label'])}, {name(best['label'])} stands so"
    return [f"Each strategy trained a model of its own. {who}: {first}, {then}{how}{limits}."]


def _amount(d: Difference) -> str:
    assert d.mean is not None
    if d.low is None or d.high is None:
        return f"{nats(abs(d.mean))} nats"
    ends = (d.low, d.high) if d.mean >= 0 else (-d.high, -d.low)
    return f"{nats(abs(d.mean), d.low, d.high)} nats ({interval(*ends)})"


def _between(one: Row, other: Row, rivals: Rivals, column: str) -> Difference | None:
    """The paired difference of another number than the ELBO, over common seeds."""
    if one.get(f"{column}_mean") is None or other.get(f"{column}_mean") is None:
        return None
    own, base = (
        {seed: Scores(rivals.number(row["label"], seed, column)) for seed in rivals.scores[row["label"]]}
        for row in (one, other)
    )
    return paired(own, base)
