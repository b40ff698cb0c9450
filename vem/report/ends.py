"""The ends of 95 % intervals in words; an interval of one end says "at least"."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

AT_LEAST = "at least "
ONE_END = "at least … (97.5 %): the one end that is known, that of the two-sided 95 % interval."


def ends_text(low: float | None, high: float | None, shown: Callable[[float], str]) -> str:
    """Both ends, or the one that there is with its own level; nothing where there is none.

    >>> ends_text(0.05, None, "{:.2f}".format), ends_text(None, 0.3, "{:.2f}".format), ends_text(0, 1, "{:.0f}".format)
    ('at least 0.05 (97.5 %)', 'at most 0.30 (97.5 %)', '0 to 1')
    """
    if low is not None and high is not None:
        return f"{shown(low)} to {shown(high)}"
    if low is None and high is None:
        return ""
    return f"{AT_LEAST}{shown(low)} (97.5 %)" if low is not None else f"at most {shown(high)} (97.5 %)"  # type: ignore[arg-type]  # one of the two is a number


def sides(entry: Mapping[str, Any]) -> tuple[bool, bool]:
    """Whether a number of evaluation.json is known from below alone, and whether from above alone.

    So it is where log p(x) is: by ``identified``, one of whose ends is then open and the other the number itself.

    >>> sides({"mean": 1.0, "identified": [1.0, None]}), sides({"mean": 1.0, "identified": [0.5, None]})
    ((True, False), (False, False))
    """
    limits, mean = entry.get("identified"), entry.get("mean")
    if not isinstance(limits, list) or len(limits) != 2 or not isinstance(mean, int | float):
        return False, False
    near = [isinstance(v, int | float) and abs(v - mean) <= max(1e-9, 1e-6 * abs(mean)) for v in limits]
    return limits[1] is None and near[0], limits[0] is None and near[1]


def known_ends(entry: Mapping[str, Any]) -> tuple[float | None, float | None]:
    """The ends of an entry's ``ci95`` that limit it; older results hold both where one is meant.

    >>> known_ends({"mean": 1.0, "ci95": [0.8, 1.2], "identified": [1.0, None]})
    (0.8, None)
    """
    ends = entry.get("ci95")
    if not isinstance(ends, list) or len(ends) != 2:
        return None, None
    from_below, from_above = sides(entry)
    return None if from_above else ends[0], None if from_below else ends[1]
