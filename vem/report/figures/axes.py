"""How numbers move along a swept axis: a panel for each number, a line with its band for each series."""

from __future__ import annotations

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
WHOLE = 999  # characters of a line that is not wrapped


def ranked_series(axis: Axis) -> list[str]:
    """The axis's series, those with the largest first metric first; those without one last."""
    first = axis.points["metric"] == next(iter(axis.metrics), None)
    means = axis.points["mean"].where(first).groupby(axis.points["series"], sort=False).mean()
    return list(means.sort_values(ascending=False, kind="stable").index)


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
    looks = dict(zip(shown, style.looks(len(shown)), strict=True))
    columns = min(COLUMNS, len(metrics))
    rows = -(-len(metrics) // columns)
    figure = style.new_figure(max(6.4, 3.5 * columns), 2.7 * rows + 0.9)
    panels = figure.subplots(rows, columns, squeeze=False).ravel()
    for panel, (key, title) in zip(panels, metrics.items(), strict=False):
        places = set_values(panel, axis, figure.get_size_inches()[0] / columns - MARGIN)
        points = measured[measured["metric"] == key]
        points = points.assign(place=points["value"].map(places)).sort_values("place")
        for name, own in points.groupby("series", sort=False):
            _series(panel, own, str(name), looks.get(str(name)), name in axis.absent)
        style.grid(panel)
        style.tidy(panel)
        panel.set_title(style.wrapped(title, 44, 2), fontsize=9.5, loc="left")
    for panel in panels[len(metrics) :]:
        panel.set_visible(False)
    style.legend_below(figure)
    style.titled(figure, f"Along {axis.key}", table)
    return figure


def _series(panel: Panel, own: pd.DataFrame, name: str, look: style.Look | None, level: bool) -> None:
    """One series: in grey without a look; ``level`` where it does not use the axis, and is the same everywhere."""
    numbers = own[["place", "mean", "low", "high"]].astype(float).to_numpy().T
    (x, mean, low, high), label = numbers, style.wrapped(name, 40, 2)
    below = own["at_least"].to_numpy(bool) & np.isfinite(low) & ~np.isfinite(high)  # log p(x) is: no upper end
    high = np.where(below, mean, high)
    if level:
        colour = look.colour if look else style.BEHIND
        panel.axhline(mean[0], color=colour, linestyle=":", linewidth=1.6, label=f"{label} (not swept)")
        if look and np.isfinite(high[0] - low[0]):
            panel.axhspan(low[0], high[0], color=colour, alpha=0.10, linewidth=0)
    elif look is None:
        panel.plot(x, mean, color=style.BEHIND, linewidth=0.9, zorder=1)
    else:
        panel.plot(x, mean, markersize=5, linewidth=1.6, label=label, **look.line)
        panel.fill_between(x, low, high, color=look.colour, alpha=0.18, linewidth=0)
        if below.any():
            panel.plot(x[below], mean[below], marker=CARETUPBASE, color=look.colour, markersize=ARROW, linestyle="")


# --- where the values stand, and as many of them in writing as there is room for


def set_values(panel: Panel, axis: Axis, width: float) -> dict[float | str, float]:
    """Scale, ticks and name of the horizontal axis; returns where each value stands.

    width: of the panel, in inches.
    """
    name = style.wrapped(axis.key, WHOLE)
    if axis.numeric:
        numbers = [float(value) for value in axis.values]
        panel.set_xlabel(name + _scale(panel, numbers))
        ticks = _with_room(panel, dict(zip(numbers, value_names(axis.values).values(), strict=True)), numbers, width)
        if len(ticks) < len(numbers) and len(numbers) > FEW:
            ticks = _with_room(panel, {n: f"{n:g}" for n in _round(numbers, panel.get_xscale())}, numbers, width)
        panel.set_xticks(list(ticks), list(ticks.values()))
        panel.xaxis.set_minor_locator(NullLocator())
        panel.xaxis.set_minor_formatter(NullFormatter())
        panel.set_xticks([n for n in numbers if n not in ticks], minor=True)
        return dict(zip(axis.values, numbers, strict=True))
    count, texts = len(axis.values), [style.wrapped(str(value), WHOLE) for value in axis.values]
    lying = [style.wrapped(str(value), max(1, int((width / count - GAP) / CHARACTER)), LINES) for value in axis.values]
    if [text.replace("\n", " ") for text in lying] == texts:  # none is torn apart or cut short
        panel.set_xticks(range(count), lying)
    else:
        some = range(0, count, -(-count // max(1, int(width / LINE))))
        panel.set_xticks(some, [style.wrapped(str(axis.values[i]), LONGEST, 1) for i in some], rotation="vertical")
    panel.set(xlim=(-0.4, count - 0.6), xlabel=name)
    return {value: float(i) for i, value in enumerate(axis.values)}


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
    low, high = at(np.array([min(numbers), max(numbers)]))
    order = sorted(texts)
    inches = dict(zip(order, 0.9 * width * (at(np.array(order)) - low) / ((high - low) or 1.0), strict=True))
    kept: list[float] = []
    for n in dict.fromkeys([*order[:1], *order[-1:], *order]):
        room = (abs(inches[n] - inches[k]) - CHARACTER * (len(texts[n]) + len(texts[k])) / 2 for k in kept)
        if all(free >= GAP for free in room):
            kept.append(n)
    return {n: texts[n] for n in sorted(kept)}
