"""How numbers move along a swept axis: a panel for each number, a line with its band for each series."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
from matplotlib.axes import Axes as Panel
from matplotlib.figure import Figure
from matplotlib.markers import CARETUPBASE

from vem.report.findings import Axis
from vem.report.style import Look, grid, legend_below, looks, new_figure, tidy, titled, wrapped
from vem.report.ticks import set_values

MOST_SERIES = 8
COLUMNS = 3
ARROW = 9  # points: the size of the arrow in the place of an upper end
MARGIN = 0.75  # inches of a panel that its numbers take


def ranked_series(axis: Axis) -> list[str]:
    """The axis's series, those with the largest first metric first; those without one last."""
    first = next(iter(axis.metrics), None)
    means = axis.points[axis.points["metric"] == first].groupby("series", sort=False)["mean"].mean()
    names = list(dict.fromkeys(axis.points["series"]))
    return sorted(names, key=lambda name: -float(means[name]) if name in means else np.inf)


def axis_figure(axis: Axis, table: str) -> Figure | None:
    """Each metric against the values of one swept axis; None where none was measured.

    A series that does not use the axis is a level dotted line. Beyond ``MOST_SERIES``, the lower ones are grey.
    """
    metrics = {key: title for key, title in axis.metrics.items() if _means(axis, key).any()}
    if not metrics:
        return None
    ranked = ranked_series(axis)
    order = dict.fromkeys(axis.points["series"])
    shown = [name for name in order if name in ranked[:MOST_SERIES]]
    styles = dict(zip(shown, looks(len(shown)), strict=True))
    columns = min(COLUMNS, len(metrics))
    rows = -(-len(metrics) // columns)
    figure = new_figure(max(6.4, 3.5 * columns), 2.7 * rows + 0.9)
    panels = figure.subplots(rows, columns, squeeze=False).ravel()
    for panel, (key, title) in zip(panels, metrics.items(), strict=False):
        places = set_values(panel, axis, figure.get_size_inches()[0] / columns - MARGIN)
        _panel(panel, axis, key, styles, places)
        panel.set_title(wrapped(title, 44, 2), fontsize=9.5, loc="left")
    for panel in panels[len(metrics) :]:
        panel.set_visible(False)
    handles = {h.get_label(): h for panel in panels for h in panel.get_lines() if not h.get_label().startswith("_")}
    legend_below(figure, list(handles.values()), list(handles))
    titled(figure, f"Along {axis.key}", table)
    return figure


def _means(axis: Axis, key: str) -> pd.Series[bool]:
    return (axis.points["metric"] == key) & axis.points["mean"].notna()


def _panel(panel: Panel, axis: Axis, key: str, styles: Mapping[str, Look], places: Mapping[float | str, float]) -> None:
    rows = axis.points[_means(axis, key)]
    for name in dict.fromkeys(rows["series"]):
        own = rows[rows["series"] == name]
        if name in axis.absent:
            _level(panel, own, name, styles.get(name))
        else:
            own = own.assign(place=[places[value] for value in own["value"]]).sort_values("place")
            _line(panel, own, name, styles.get(name))
    grid(panel)
    tidy(panel)


def _line(panel: Panel, own: pd.DataFrame, name: str, look: Look | None) -> None:
    x, mean = own["place"].to_numpy(float), own["mean"].to_numpy(float)
    if look is None:
        panel.plot(x, mean, color="0.78", linewidth=0.9, zorder=1)
        return
    panel.plot(x, mean, color=look.colour, linestyle=look.dash, marker=look.marker, markersize=5, linewidth=1.6,
               label=wrapped(name, 40, 2))  # fmt: skip
    low, high = (pd.to_numeric(own[end], errors="coerce").to_numpy(float) for end in ("low", "high"))
    one = _one_ended(own)
    if np.isfinite(low).any():
        panel.fill_between(x, low, np.where(one, mean, high), color=look.colour, alpha=0.18, linewidth=0)
    if one.any():
        panel.plot(x[one], mean[one], marker=CARETUPBASE, color=look.colour, markersize=ARROW, linestyle="")


def _level(panel: Panel, own: pd.DataFrame, name: str, look: Look | None) -> None:
    """A series that does not use the axis: the same number everywhere."""
    mean = float(own["mean"].iloc[0])
    colour = look.colour if look else "0.78"
    panel.axhline(mean, color=colour, linestyle=":", linewidth=1.6, label=f"{wrapped(name, 40, 2)} (not swept)")
    low, high = (pd.to_numeric(own[end], errors="coerce").iloc[0] for end in ("low", "high"))
    if look and np.isfinite(low) and (np.isfinite(high) or _one_ended(own)[0]):
        panel.axhspan(low, high if np.isfinite(high) else mean, color=colour, alpha=0.10, linewidth=0)


def _one_ended(own: pd.DataFrame) -> np.ndarray:
    """Where the interval has a lower end alone, because log p(x) is known from below: the truth may lie above."""
    low, high = (pd.to_numeric(own[end], errors="coerce").to_numpy(float) for end in ("low", "high"))
    return own["at_least"].to_numpy(bool) & np.isfinite(low) & ~np.isfinite(high)


def omitted(axis: Axis) -> Sequence[str]:
    """The series that are drawn in grey."""
    return ranked_series(axis)[MOST_SERIES:]
