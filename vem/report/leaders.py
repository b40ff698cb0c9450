"""Whether the best leads by its inference or by its model."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from vem.errors import VemError
from vem.report.aggregate import present
from vem.report.alike import having, same_data
from vem.report.ends import ends_text
from vem.report.files import read_per_datum
from vem.report.paired import LEVEL, Difference, Scores, paired
from vem.report.tables import TEST, Rivals
from vem.report.words import EXACT, Row, digits, name, nats, number, over, trusted

COLUMNS = ("split", "row", "elbo", "log_marginal_lower")
GAP, MARGINAL = "test_inference_gap", "test_log_marginal_lower"


def why(leaders: Sequence[Row], rivals: Rivals, base: Path) -> list[str]:
    """Whether the best leads by its inference or by its model: ΔELBO = Δ log p(x) − Δ inference gap."""
    if len(leaders) < 2:
        return []
    best, second = leaders
    gap, marginal = (_between(best, second, rivals, base, column) for column in (GAP, MARGINAL))
    if gap is None or marginal is None or gap.mean is None or marginal.mean is None:
        return []
    # What is bounded from one side on one side alone limits the difference from that side.
    bounded = [_from_below(row) for row in leaders]
    one_sided = bounded[0] != bounded[1] and all(trusted(row, TEST) for row in leaders)
    sides = (bounded[0], bounded[1]) if one_sided else (False, False)
    first = _compared(gap, "its inference gap is", "the two inference gaps are", ("larger", "smaller"), sides)
    then = _compared(marginal, "the log p(x) of its model is", "the log p(x) of the two models is",
                     ("higher", "lower"), sides)  # fmt: skip
    loose = any(bounded) and not one_sided
    limits = ", as far as the lower bounds on log p(x) tell, whose looseness may differ" if loose else ""
    how = f", {over(gap)}" if gap.se is not None else ""
    here = "" if all(map(_on_other_data, (gap, marginal))) else " on these data"
    who = f"Against {name(second['label'])}{how}, {name(best['label'])} stands so{here}"
    each = "strategy" if best["strategy"] != second["strategy"] else "group"
    return [f"Each {each} trained a model of its own. {who}: {first}, {then}{limits}."]


def _from_below(row: Row) -> bool:
    """Whether log p(x) is known from below alone, or lies between two bounds of which this is the lower one."""
    lower, upper = row.get(f"{MARGINAL}_mean"), row.get("test_log_marginal_upper_mean")
    between = lower is not None and upper is not None and upper - lower > EXACT
    return bool(row.get(f"{MARGINAL}_at_least")) or between


def _on_other_data(d: Difference) -> bool:
    """Whether a difference over seeds, where it shows a direction, is not one of these data alone."""
    if d.over == "data" or d.low is None or d.high is None or d.low <= 0 <= d.high:
        return True
    data = d.data_interval(LEVEL)
    return data is not None and not data[0] <= 0 <= data[1]


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
        return f"{two} not told apart ({nats(d.mean, d.low, d.high)} nats, {_ends(d.low, d.high)})"
    shown = _intervals(d, limit)
    other = f", and may be {ways[1] if d.mean > 0 else ways[0]}" if limit == "at most " else ""
    return f"{one} {limit}{nats(size, d.low, d.high)} nats ({shown}) {way}{other}"


def _intervals(d: Difference, limit: str) -> str:
    """The interval of a difference's size, or the one end that limits it; over seeds with that over data beside it."""
    size = d if d.mean is None or d.mean > 0 else d._replace(mean=-d.mean)
    found = size.interval(LEVEL), size.data_interval(LEVEL)
    own, data = ("not known" if ends is None else _ends(*ends, limit) for ends in found)
    return own if d.over == "data" else f"{own}; over data {data}"


def _ends(low: float, high: float, limit: str = "") -> str:
    places = digits((high - low) / 2)
    known = {"at least ": (low, None), "at most ": (None, high)}.get(limit, (low, high))
    return ends_text(*known, lambda end: number(end, places))


def _between(one: Row, other: Row, rivals: Rivals, base: Path, column: str) -> Difference | None:
    """The paired difference of another number than the ELBO, as :func:`paired` has it."""
    if one.get(f"{column}_mean") is None or other.get(f"{column}_mean") is None:
        return None
    labels = one["label"], other["label"]
    seeds = [_seeds(label, rivals, column) for label in labels]
    both = ([{str(k): present(v) for k, v in rivals.rows[label][seed].items()} for label in labels]
            for seed in seeds[0] & seeds[1])  # fmt: skip
    common = {int(rows[0]["seed"]) for rows in both if same_data(TEST, *rows)}
    own, against = ({seed: _scores(label, seed, rivals, base, column) for seed in common} for label in labels)
    return paired(own, against)


def _seeds(label: str, rivals: Rivals, column: str) -> set[int]:
    """The seeds that have a number, measured alike."""
    rows = {seed: {str(k): present(v) for k, v in row.items()} for seed, row in rivals.rows[label].items()}
    alike = having(column, list(rows.values()))
    return {seed for seed, row in rows.items() if row in alike and row.get(column) is not None}


def _scores(label: str, seed: int, rivals: Rivals, base: Path, column: str) -> Scores:
    """A number of one run, and that of each datum where the file has it and agrees."""
    mean = rivals.number(label, seed, column)
    if mean is None:
        return Scores(mean)
    directory = rivals.rows[label][seed]["directory"]
    if directory in rivals.refused:
        return Scores(mean)
    try:
        table = read_per_datum(base / directory, COLUMNS)
        table = table[table["split"] == TEST].sort_values("row")
        values = table["log_marginal_lower"].to_numpy(float)
        values = values - table["elbo"].to_numpy(float) if column == GAP else values
        rows = table["row"].to_numpy(float)
        rows, values = rows[~np.isnan(values)], values[~np.isnan(values)]  # gaps may be measured of some data alone
    except (VemError, KeyError, ValueError):
        return Scores(mean)
    known = len(values) > 0 and bool(np.isclose(values.mean(), mean, rtol=1e-4, atol=EXACT))
    return Scores(mean, rows, values) if known else Scores(mean)
