"""How numbers move along a swept axis: a panel for each number, a line with its band for each series."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
from matplotlib.axes import Axes as Panel
from matplotlib.figure import Figure
from matplotlib.markers import CARETUPBASE
from matplotlib.ticker import LogLocator, MaxNLocator, NullFormatter, NullLocator

from vem.report.figures import style
from vem.report.findings import Axis
from vem.report.labels import value_names

MOST_SERIES = 8
COLUMNS = 3
ARROW = 9  # points: the size of the arrow in the place of an upper end
MARGIN = 0.75  # inches of a panel that its numbers take
LOG_RATIO = 8.0  # values that span more than this stand on a logarithmic axis
CHARACTER, LINE = 0.068, 0.16  # inches of a tick's label at 8 pt
GAP = 0.09  # inches between two labels
FEW = 6  # values that are written rather than round numbers
LINES = 3  # of a value that lies
LONGEST = 22  # characters of a value that stands upright


def ranked_series(axis: Axis) -> list[str]:
    """The axis's series, those with the largest first metric first; those without one last."""
    first = next(iter(axis.metrics), None)
    means = axis.points[axis.points["metric"] == first].groupby("series", sort=False)["mean"].mean()
    names = list(dict.fromkeys(axis.points["series"]))
    return sorted(names, key=lambda name: -float(means[name]) if name in means else np.inf)


def omitted(axis: Axis) -> Sequence[str]:
    """The series that are drawn in grey."""
    return ranked_series(axis)[MOST_SERIES:]


def axis_figure(axis: Axis, table: str) -> Figure | None:
    """Each metric against the values of one swept axis; None where none was measured.

    A series that does not use the axis is a level dotted line. Beyond ``MOST_SERIES``, the lower ones are grey.
    """
    measured = axis.points[axis.points["mean"].notna()]
    metrics = {key: title for key, title in axis.metrics.items() if (measured["metric"] == key).any()}
    if not metrics:
        return None
    best = ranked_series(axis)[:MOST_SERIES]
    shown = [name for name in dict.fromkeys(axis.points["series"]) if name in best]
    styles = dict(zip(shown, style.looks(len(shown)), strict=True))
    columns = min(COLUMNS, len(metrics))
    rows = -(-len(metrics) // columns)
    figure = style.new_figure(max(6.4, 3.5 * columns), 2.7 * rows + 0.9)
    panels = figure.subplots(rows, columns, squeeze=False).ravel()
    for panel, (key, title) in zip(panels, metrics.items(), strict=False):
        places = set_values(panel, axis, figure.get_size_inches()[0] / columns - MARGIN)
        for name, own in measured[measured["metric"] == key].groupby("series", sort=False):
            draw = _level if name in axis.absent else _line
            draw(
                panel, own.assign(place=own["value"].map(places)).sort_values("place"), str(name), styles.get(str(name))
            )
        style.grid(panel)
        style.tidy(panel)
        panel.set_title(style.wrapped(title, 44, 2), fontsize=9.5, loc="left")
    for panel in panels[len(metrics) :]:
        panel.set_visible(False)
    handles = {h.get_label(): h for panel in panels for h in panel.get_lines() if not h.get_label().startswith("_")}
    style.legend_below(figure, list(handles.values()), list(handles))
    style.titled(figure, f"Along {axis.key}", table)
    return figure


def _line(panel: Panel, own: pd.DataFrame, name: str, look: style.Look | None) -> None:
    x, mean, low, high, one_ended = _numbers(own)
    if look is None:
        panel.plot(x, mean, color=style.BEHIND, linewidth=0.9, zorder=1)
        return
    panel.plot(x, mean, markersize=5, linewidth=1.6, label=style.wrapped(name, 40, 2), **look.line)
    if np.isfinite(low).any():
        panel.fill_between(x, low, np.where(one_ended, mean, high), color=look.colour, alpha=0.18, linewidth=0)
    if one_ended.any():
        panel.plot(x[one_ended], mean[one_ended], marker=CARETUPBASE, color=look.colour, markersize=ARROW, linestyle="")


def _level(panel: Panel, own: pd.DataFrame, name: str, look: style.Look | None) -> None:
    """A series that does not use the axis: the same number everywhere."""
    _, (mean, *_), (low, *_), (high, *_), (one_ended, *_) = _numbers(own)
    colour = look.colour if look else style.BEHIND
    panel.axhline(mean, color=colour, linestyle=":", linewidth=1.6, label=f"{style.wrapped(name, 40, 2)} (not swept)")
    if look and np.isfinite(low) and (np.isfinite(high) or one_ended):
        panel.axhspan(low, mean if one_ended else high, color=colour, alpha=0.10, linewidth=0)


def _numbers(own: pd.DataFrame) -> tuple[np.ndarray, ...]:
    """Places, means, both ends, and where the interval has a lower one alone: log p(x) is known from below there."""
    names = ("place", "mean", "low", "high")
    place, mean, low, high = (pd.to_numeric(own[name], errors="coerce").to_numpy(float) for name in names)
    return place, mean, low, high, own["at_least"].to_numpy(bool) & np.isfinite(low) & ~np.isfinite(high)


# --- where the values stand, and as many of them in writing as there is room for


def set_values(panel: Panel, axis: Axis, width: float) -> dict[float | str, float]:
    """Scale, ticks and name of the horizontal axis; returns where each value stands.

    width: of the panel, in inches.
    """
    if axis.numeric:
        _set_numbers(panel, axis, width)
        return {value: float(value) for value in axis.values}
    _set_words(panel, axis, width)
    return {value: float(i) for i, value in enumerate(axis.values)}


def _set_words(panel: Panel, axis: Axis, width: float) -> None:
    """Values side by side, upright where their texts would run into each other."""
    count, texts = len(axis.values), [style.one_line(str(value)) for value in axis.values]
    room = int((width / count - GAP) / CHARACTER)
    if all(_fits(text, room) for text in texts):
        panel.set_xticks(range(count), [style.wrapped(text, room, LINES) for text in texts])
    else:
        shown = range(0, count, -(-count // max(1, int(width / LINE))))
        panel.set_xticks(shown, [style.wrapped(texts[i], LONGEST, 1) for i in shown], rotation="vertical")
    panel.set(xlim=(-0.4, count - 0.6), xlabel=style.plain(axis.key))


def _fits(text: str, room: int) -> bool:
    """Whether the text has few enough lines of that many characters, and no word is torn apart.

    >>> _fits("[200, 200]", 5), _fits("[2000, 200]", 5)
    (True, False)
    """
    return max(map(len, text.split() or [""])) <= room and len(textwrap.wrap(text, max(room, 1))) <= LINES


def _set_numbers(panel: Panel, axis: Axis, width: float) -> None:
    numbers = [float(value) for value in axis.values]
    panel.set_xlabel(style.plain(axis.key) + _scale(panel, numbers))
    ticks = _with_room(panel, dict(zip(numbers, value_names(axis.values).values(), strict=True)), numbers, width)
    if len(ticks) < len(numbers) and len(numbers) > FEW:
        ticks = _with_room(panel, {n: f"{n:g}" for n in _round(numbers, panel.get_xscale())}, numbers, width)
    panel.set_xticks(list(ticks), list(ticks.values()))
    panel.xaxis.set_minor_locator(NullLocator())
    panel.xaxis.set_minor_formatter(NullFormatter())
    panel.set_xticks([n for n in numbers if n not in ticks], minor=True)


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
    """Round numbers within the values: powers of ten on a logarithmic axis, 2 and 5 times them if these are too few."""
    low, high = min(n for n in numbers if n > 0 or scale == "linear"), max(numbers)
    locators = (
        [MaxNLocator(5)] if scale == "linear" else [LogLocator(numticks=99), LogLocator(subs=(1, 2, 5), numticks=99)]
    )
    found = [[float(n) for n in locator.tick_values(low, high) if low <= n <= high] for locator in locators]
    zero = [0.0] if scale == "symlog" else []
    return zero + (found[0] if len(found[0]) > 1 else found[-1])


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
