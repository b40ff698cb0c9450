"""What each strategy loses and why: its gaps in words, with intervals and with what they cannot identify."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from vem.report.ends import ends_text
from vem.report.estimates import EXACT_LOSS, GENERALIZATION, MODEL_GENERALIZATION
from vem.report.leaders import why
from vem.report.tables import Rivals
from vem.report.words import EXACT, Row, digits, failed, failed_on, name, nats, number, trusted

INTERVAL = "95 % interval"
MOST = 8  # groups whose losses are told one by one
WHY = {
    "approximation": "to its family, in which no q equals the posterior (approximation gap)",
    "amortization": "to its encoder, which does not find the best q for each datum (amortization gap)",
    "optimization": "to rows that are not at their optimum (optimization gap)",
}
ON = {"test": "test data", "train": "training data"}
# What a gap below 0 says of its measurement.
MISSED = {
    "inference": "the measurement missed log p(x)",
    "approximation": "the measurement missed log p(x)",
    "amortization": "the measurement missed the best q",
    "optimization": "the measurement missed the best q",
}


def losses(rows: Sequence[Row], leaders: Sequence[Row], rivals: Rivals, base: Path) -> list[str]:
    """A sentence for each group whose gaps were measured, the best test ELBO first; first why the best leads."""
    ranked = sorted(rows, key=lambda row: -(row.get("test_elbo_mean") or float("-inf")))
    told = [text + _overfit(row) for row in ranked if (text := _loss(row)) is not None]
    more = [f"What the other {len(told) - MOST} lose stands in the table."] if len(told) > MOST else []
    return [*why(leaders, rivals, base), *told[:MOST], *more]


# --- one number


class _Ends(NamedTuple):
    """The ends of a 95 % interval around ``mean``; ``one``: only the lower one limits the number."""

    mean: float
    low: float
    high: float
    one: bool = False

    def __str__(self) -> str:
        return ends_text(self.low, None if self.one else self.high, lambda end: number(end, self.places))

    @property
    def places(self) -> int:
        """Decimals that show two digits of half the interval."""
        return digits((self.high - self.low) / 2)


class _Number(NamedTuple):
    """A mean in nats per datum, its 95 % interval over seeds (over the data of one seed), and that over data."""

    mean: float
    ends: _Ends | None
    data: _Ends | None
    seeds: int
    most: float | None  # where log p(x) lies between two bounds, what the mean could be at most

    def text(self, at_least: str = "") -> str:
        """The number itself."""
        shown = at_least + self.nats(self.mean)
        return shown if self.most is None else f"{shown} to {self.nats(self.most)}"

    def nats(self, value: float) -> str:
        """A number with as many decimals as the interval has."""
        return nats(value) if self.ends is None else number(value, self.ends.places)

    def sure(self, kind: str = "") -> str:
        """Its interval, with ``kind`` before it what it is over; of several seeds that over data as well."""
        if self.ends is None:
            return "no interval"
        lower = "" if self.most is None else "of the lower end" if kind else "lower end"
        text = " ".join(filter(None, [*([] if self.ends.one else [kind, lower]), str(self.ends)]))
        if self.seeds < 2:
            return f"{text}, over the data of one seed" if kind else text
        text += f", over {self.seeds} seeds" if kind else ""
        return f"{text}; over data {self.data or 'not known'}"

    def measured(self) -> _Number:
        """The mean that was measured, with both its errors, in the place of what it limits."""
        ends, data = (None if e is None else e._replace(one=False) for e in (self.ends, self.data))
        return self._replace(ends=ends, data=data)

    @property
    def positive(self) -> bool:
        return self.ends is not None and self.ends.low > 0

    @property
    def negative(self) -> bool:
        """Whether the measured mean lies below 0 beyond its error, whatever it limits."""
        return self.ends is not None and self.ends.high < 0

    @property
    def on_other_data(self) -> bool:
        """Whether it is positive beyond these data too."""
        return self.positive and self.data is not None and self.data.low > 0


def _number(row: Row, column: str, sound: bool = True) -> _Number | None:
    """A number of a group; ``sound``: whether the bounds on log p(x) that limit it passed their checks."""
    mean = row.get(f"{column}_mean")
    if mean is None:
        return None
    ends, data = (_ends(row, column, kind, mean, sound) for kind in ("ci95", "data_ci95"))
    most = row.get(f"{column}_identified_high")
    count = int(row.get(f"{column}_over") or row["seeds"])
    return _Number(mean, ends, data, count, most if sound and most is not None and most > mean + EXACT else None)


def _ends(row: Row, column: str, kind: str, mean: float, sound: bool) -> _Ends | None:
    """The interval of a number. That of a lower limit has one end, and where a check of the bounds failed two again:

    then it is no limit, and its error is that of any mean, alike to both sides.
    """
    low, high = row.get(f"{column}_{kind}_low"), row.get(f"{column}_{kind}_high")
    if low is None:
        return None
    at_least = bool(row.get(f"{column}_at_least"))
    if high is None and not at_least:
        return None
    return _Ends(mean, low, 2 * mean - low if high is None else high, one=at_least and sound)


# --- the gaps of one group


def _loss(row: Row) -> str | None:
    split = next((s for s in ON if row.get(f"{s}_inference_gap_mean") is not None), None)
    if split is None:
        return _exact(row)
    gap = _number(row, f"{split}_inference_gap", trusted(row, split))
    assert gap is not None
    who, at_least = name(row["label"]) + failed(row), _at_least(row, split, "inference")
    reach = [gap.mean] if gap.ends is None else [gap.mean, gap.ends.low, gap.ends.high]
    if not at_least and max(map(abs, reach)) < EXACT:
        return f"{who} loses nothing on {ON[split]}: its q is the posterior (inference gap {gap.text()})."
    text = _headline(who, gap, at_least, split)
    if "converged" in failed_on(row, split):
        return (f"{text}. How it divides into its causes is not told: the search for the best q did not reach it "
                "(check converged failed).")  # fmt: skip
    parts = [told for kind in WHY if (told := _part(row, split, kind)) is not None]
    return text + (f": {'; '.join(parts)}." if parts else ".") + _generalization(row)


def _headline(who: str, gap: _Number, at_least: str, split: str) -> str:
    bounds = "log p(x) lies between two bounds; " if gap.most is not None else ""
    if gap.negative:
        return (f"{who}: its inference gap on {ON[split]} is below 0, {gap.text()} nats per datum "
                f"({bounds}{gap.measured().sure(INTERVAL)}): {MISSED['inference']}")  # fmt: skip
    sure = f"({bounds}{gap.sure(INTERVAL)})"
    if gap.ends is not None and not gap.positive:
        gap_is = f"its inference gap is {gap.text(at_least)} nats per datum"
        return f"{who}: no loss is shown on {ON[split]}, {gap_is} {sure}"
    these = "" if gap.on_other_data or gap.ends is None else "these "
    return f"{who} loses {gap.text(at_least)} nats per datum {sure} on {these}{ON[split]}"


def _part(row: Row, split: str, kind: str) -> str | None:
    """One gap; a cause is named where its interval leaves out 0, of these data alone where that over data does not."""
    gap = _number(row, f"{split}_{kind}_gap", trusted(row, split))
    if gap is None:
        return None
    shown = gap.text(_at_least(row, split, kind))
    if gap.ends is None:
        return f"its {kind} gap is {shown}, without an interval"
    if gap.negative:
        return f"its {kind} gap is below 0, {gap.text()} ({gap.measured().sure()}): {MISSED[kind]}"
    if not gap.positive:
        return f"no {kind} gap is found ({shown}, {gap.sure()})"
    return f"{'' if gap.on_other_data else 'on these data '}{shown} ({gap.sure()}) {WHY[kind]}"


def _at_least(row: Row, split: str, kind: str) -> str:
    """The words before a gap that is known from one side alone; none where a check of its bounds failed."""
    return "at least " if row.get(f"{split}_{kind}_gap_at_least") and trusted(row, split) else ""


def _exact(row: Row) -> str | None:
    """Of a model whose log p(x) is known, without a search for the best q."""
    elbo, marginal = row.get("test_elbo_mean"), row.get("test_log_marginal_mean")
    if elbo is None or marginal is None:
        return None
    who = name(row["label"]) + failed(row)
    if abs(marginal - elbo) < EXACT:
        return f"{who} loses nothing on test data: its q is the exact posterior, so its ELBO is log p(x)."
    gap = _number(row, f"test_{EXACT_LOSS}") or _Number(marginal - elbo, None, None, row["seeds"], None)
    return f"{_headline(who, gap, '', 'test')}, where log p(x) is exact."


# --- new data against training data


def _generalization(row: Row) -> str:
    """Of the encoder. Seeds say nothing of the two samples, so that the interval over data must leave out 0 as well."""
    gap = _number(row, f"test_{GENERALIZATION}")
    if gap is None or "converged" in failed_on(row, "train"):
        return ""
    if gap.negative and gap.data is not None and gap.data.high < 0:
        less = _less(gap)
        return f" On test data its amortization gap is {less.text()} ({less.sure()}) smaller than on training data."
    if not gap.on_other_data:
        shown = gap.text() + ("" if gap.ends is None else f", {gap.sure()}")
        return f" That the encoder does worse on new data than on training data is not shown (difference {shown})."
    return (f" {gap.text()} ({gap.sure()}) of its amortization gap is there on new data alone: "
            "so much smaller is the gap on training data (generalization).")  # fmt: skip


def _less(gap: _Number) -> _Number:
    """The number with its sign changed."""
    ends, data = (None if e is None else _Ends(-e.mean, -e.high, -e.low) for e in (gap.ends, gap.data))
    return gap._replace(mean=-gap.mean, ends=ends, data=data)


def _overfit(row: Row) -> str:
    """Of the model: log p(x) on training data less that on test data where it is exact, else L[q*]."""
    kind, what = MODEL_GENERALIZATION["log_marginal"], "log p(x)"
    least, most = (row.get(f"test_{kind}_identified_{end}") for end in ("low", "high"))
    if least is None or most is None or most - least > EXACT:  # bounds, each loose by an amount of its own
        kind, what = MODEL_GENERALIZATION["best_elbo"], "L[q*]"
        if "converged" in failed_on(row, "train") | failed_on(row, "test"):
            return ""
    gap = _number(row, f"test_{kind}")
    if gap is None:
        return ""
    if gap.on_other_data:
        return (f" Its model is overfit: {what} is {gap.text()} nats per datum ({gap.sure(INTERVAL)}) higher on "
                "training data than on test data.")  # fmt: skip
    return f" Overfitting is not shown ({what}, training − test data: {gap.text()}; {gap.sure(INTERVAL)})."
