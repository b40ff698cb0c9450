"""Where the values of a swept axis stand, and as many of them in writing as there is room for."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes as Panel
from matplotlib.ticker import MaxNLocator, NullFormatter, NullLocator

from vem.report.findings import Axis
from vem.report.labels import value_names
from vem.report.style import one_line, plain, wrapped

LOG_RATIO = 8.0  # values that span more than this stand on a logarithmic axis
CHARACTER, LINE = 0.068, 0.16  # inches of a tick's label at 8 pt
GAP = 0.09  # inches between two labels
FEW = 6  # values that are written rather than round numbers
LINES = 3  # of a value that lies
LONGEST = 22  # characters of a value that stands upright


def set_values(panel: Panel, axis: Axis, width: float) -> dict[float | str, float]:
    """Scale, ticks and name of the horizontal axis; returns where each value stands.

    width: of the panel, in inches.
    """
    return _numbers(panel, axis, width) if axis.numeric else _words(panel, axis, width)


def _words(panel: Panel, axis: Axis, width: float) -> dict[float | str, float]:
    """Values side by side, upright where their texts would run into each other."""
    count, texts = len(axis.values), [one_line(str(value)) for value in axis.values]
    room = int((width / count - GAP) / CHARACTER)
    if all(_fits(text, room) for text in texts):
        panel.set_xticks(range(count), [wrapped(text, room, LINES) for text in texts])
    else:
        each = -(-count // max(1, int(width / LINE)))
        shown = range(0, count, each)
        panel.set_xticks(shown, [wrapped(str(axis.values[i]), LONGEST, 1) for i in shown], rotation="vertical")
    panel.set_xlim(-0.4, count - 0.6)
    panel.set_xlabel(plain(axis.key))
    return {value: float(i) for i, value in enumerate(axis.values)}


def _fits(text: str, room: int) -> bool:
    """Whether the text has few enough lines of that many characters, and no word is torn apart.

    >>> _fits("[200, 200]", 5), _fits("[2000, 200]", 5)
    (True, False)
    """
    return max(map(len, text.split() or [""])) <= room and len(textwrap.wrap(text, max(room, 1))) <= LINES


def _numbers(panel: Panel, axis: Axis, width: float) -> dict[float | str, float]:
    numbers = [float(value) for value in axis.values]
    panel.set_xlabel(plain(axis.key) + _scale(panel, numbers))
    texts = value_names(axis.values)
    ticks = _with_room(panel, dict(zip(numbers, texts.values(), strict=True)), numbers, width)
    if len(ticks) < len(numbers) and len(numbers) > FEW:
        ticks = _with_room(panel, {n: f"{n:g}" for n in _round(numbers, panel.get_xscale())}, numbers, width)
    panel.set_xticks(list(ticks), list(ticks.values()))
    panel.xaxis.set_minor_locator(NullLocator())
    panel.xaxis.set_minor_formatter(NullFormatter())
    panel.set_xticks([n for n in numbers if n not in ticks], minor=True)
    return dict(zip(axis.values, numbers, strict=True))


def _scale(panel: Panel, numbers: Sequence[float]) -> str:
    """Make the axis logarithmic where its values span much; what its name says of it."""
    above = [n for n in numbers if n > 0]
    if min(numbers) < 0 or not above or max(above) < LOG_RATIO * min(above):
        return ""
    if min(numbers) > 0:
        panel.set_xscale("log")
        return " (log scale)"
    panel.set_xscale("symlog", linthresh=min(above), linscale=0.6)
    return f" (log scale, linear below {min(above):.4g})"


def _round(numbers: Sequence[float], scale: str) -> list[float]:
    """Round numbers within the values."""
    low, high = min(numbers), max(numbers)
    found: np.ndarray
    if scale == "linear":
        found = np.asarray(MaxNLocator(5).tick_values(low, high))
    else:
        first = min(n for n in numbers if n > 0)
        decades = 10.0 ** np.arange(np.floor(np.log10(first)), np.ceil(np.log10(high)) + 1)
        found = decades if sum(low <= n <= high for n in decades) > 1 else np.outer(decades, (1, 2, 5)).ravel()
        found = np.append(found, 0.0)
    return sorted(float(n) for n in found if low <= n <= high)


def _with_room(panel: Panel, texts: Mapping[float, str], numbers: Sequence[float], width: float) -> dict[float, str]:
    """Those labels that do not run into each other: the first, the last, and what fits between them.

    numbers: all that the axis holds.
    """
    at = panel.xaxis.get_transform().transform
    low, high = (float(at(np.array([end]))[0]) for end in (min(numbers), max(numbers)))
    inches = {n: 0.9 * width * (float(at(np.array([n]))[0]) - low) / ((high - low) or 1.0) for n in texts}
    order = sorted(texts)
    kept: list[float] = []
    for n in dict.fromkeys([*order[:1], *order[-1:], *order]):
        room = (abs(inches[n] - inches[k]) - CHARACTER * (len(texts[n]) + len(texts[k])) / 2 for k in kept)
        if all(free >= GAP for free in room):
            kept.append(n)
    return {n: texts[n] for n in sorted(kept)}
