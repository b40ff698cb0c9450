"""The posterior of a two-dimensional z against its approximations, and how hard an annealing path was."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from vem.report import panels
from vem.report.style import QUIET, grid, looks, new_figure, say, tidy, titled, wrapped
from vem.report.table import number

Pictures = Mapping[str, np.ndarray]
ARRAYS = tuple(f"posterior_{name}" for name in ("x", "rows", "axes", "truth", "q", "names", "gaps"))
SHARES = (0.25, 0.5, 0.75, 0.95)  # of its mass that a density's contours enclose
MOST_DATA = 3  # side by side
MOST_PATHS = 50  # data whose annealing paths are drawn


def posterior_figure(pictures: Pictures, title: str) -> Figure:
    """One row a datum: x, its true posterior, and each q in colour over the truth in grey, with its gap in nats."""
    x, axes, truth = (pictures[f"posterior_{name}"] for name in ("x", "axes", "truth"))
    names = [str(name) for name in pictures["posterior_names"]]
    titles = ["x", "true posterior", *(name.replace("_", " ") for name in names)]
    figure = new_figure(1.9 * len(titles) + 0.2, 1.95 * len(x) + 0.6)
    table = figure.subplots(len(x), len(titles), squeeze=False)
    limits, colours = panels.value_limits(x), [look.colour for look in looks(len(names) + 1)[1:]]
    for n, (row, place, true) in enumerate(zip(table, axes, truth, strict=True)):
        panels.cells(row[0], x[n : n + 1], 1, limits)
        row[0].set_ylabel(f"row {pictures['posterior_rows'][n]}", fontsize=8, color=QUIET)
        density(row[1], place, true, fill=("Blues", 0.85))
        _frame(row[1], place)
        gaps = pictures["posterior_gaps"][:, n]
        for ax, q, gap, colour in zip(row[2:], pictures["posterior_q"][:, n], gaps, colours, strict=True):
            density(ax, place, true, fill=("Greys", 0.45))  # light enough for a colour on top
            density(ax, place, q, colour=colour)
            _frame(ax, place, f"{number(gap)} nats" if np.isfinite(gap) else "q is not finite")
    for ax, name in zip(table[0], titles, strict=True):
        ax.set_title(name, fontsize=9)
    for ax in table[-1, 1:]:
        ax.set_xlabel("$z_1$")
    for ax in table[:, 1]:
        ax.set_ylabel("$z_2$")
    shares = ", ".join(f"{share:.0%}" for share in SHARES)
    figure.suptitle(
        f"True posterior and q: {title}\nnumbers: KL(q ‖ p(z | x)); contours hold {shares} of the mass",
        fontsize=9.5,
        x=0.01,
        ha="left",
    )
    return figure


def posteriors_figure(groups: Sequence[tuple[str, Pictures]], title: str) -> Figure:
    """One row a datum, one column a group: the true posterior of that group's model in grey, its own q in colour.

    groups: names, and arrays that hold ``ARRAYS``; the data are those that the first of them shows.
    """
    first = groups[0][1]
    rows = [int(row) for row in first["posterior_rows"][:MOST_DATA]]
    figure = new_figure(2.15 * (len(groups) + 1) + 0.2, 2.0 * len(rows) + 1.0)
    table = figure.subplots(len(rows), len(groups) + 1, squeeze=False)
    limits = panels.value_limits(first["posterior_x"])
    for n, (panel, row) in enumerate(zip(table, rows, strict=True)):
        panels.cells(panel[0], first["posterior_x"][n : n + 1], 1, limits)
        panel[0].set_ylabel(f"row {row}", fontsize=8, color=QUIET)
        for ax, (_, pictures), look in zip(panel[1:], groups, looks(len(groups) + 1)[1:], strict=True):
            _own_posterior(ax, pictures, row, look.colour)
    table[0, 0].set_title("x", fontsize=9)
    for ax, (name, _) in zip(table[0, 1:], groups, strict=True):
        ax.set_title(wrapped(name, 24, 3), fontsize=9)
    for ax in table[-1, 1:]:
        ax.set_xlabel("$z_1$")
    for ax in table[:, 1]:
        ax.set_ylabel("$z_2$")
    titled(figure, "True posterior (grey) and q (colour), with KL(q ‖ p(z | x))", title)
    return figure


def _own_posterior(ax: Axes, pictures: Pictures, row: int, colour: object) -> None:
    """The panel of one datum and one group: its strategy's q is the first of its approximations."""
    places = np.flatnonzero(pictures["posterior_rows"] == row)
    if not len(places):
        say(ax, "not drawn\nfor this run")
        return
    n = places[0]
    axes, gap = pictures["posterior_axes"][n], pictures["posterior_gaps"][0, n]
    density(ax, axes, pictures["posterior_truth"][n], fill=("Greys", 0.6))
    density(ax, axes, pictures["posterior_q"][0, n], colour=colour)
    _frame(ax, axes, f"{number(gap)} nats" if np.isfinite(gap) else "q is not finite")


def density(
    ax: Axes, axes: np.ndarray, values: np.ndarray, fill: tuple[str, float] | None = None, colour: object = None
) -> None:
    """Contours of a density [g, g] over axes [2, g] that enclose ``SHARES`` of its mass: filled, or lines.

    ``fill`` is a colour map and how far into it the peak lies.
    """
    levels = mass_levels(values, SHARES)
    if not len(levels):
        if (values == values.max()).sum() == 1:  # a q so narrow that its mass is one cell
            row, column = np.unravel_index(values.argmax(), values.shape)
            ax.plot(axes[0, column], axes[1, row], "+", color=colour or "black")
    elif fill:
        shades = matplotlib.colormaps[fill[0]](np.linspace(0.25, fill[1], len(levels)))
        ax.contourf(*axes, values, levels=[*levels, 1.01 * values.max()], colors=shades)
    else:
        ax.contour(*axes, values, levels=levels, colors=[colour], linewidths=np.linspace(0.7, 1.6, len(levels)))


def mass_levels(values: np.ndarray, shares: Sequence[float]) -> np.ndarray:
    """The heights above which a density on a grid holds these shares of its mass, ascending, each once.

    >>> mass_levels(np.array([[4.0, 3.0], [2.0, 1.0]]), (0.6, 0.8)).tolist()
    [2.0, 3.0]
    """
    falling = np.sort(values, axis=None)[::-1].astype(float)
    total = falling.cumsum()
    if not total[-1] > 0:
        return np.array([])
    places = np.searchsorted(total, np.asarray(shares) * total[-1])
    heights = np.unique(falling[np.minimum(places, len(falling) - 1)])
    return heights[(heights > 0) & (heights < falling[0])]


def _frame(ax: Axes, axes: np.ndarray, text: str = "") -> None:
    """Limits, few ticks, and a few words inside."""
    ax.set(xlim=axes[0, [0, -1]], ylim=axes[1, [0, -1]], aspect="equal")
    ax.xaxis.set_major_locator(MaxNLocator(3))
    ax.yaxis.set_major_locator(MaxNLocator(3))
    tidy(ax)
    ax.tick_params(labelsize=7)
    if text:
        box = {"facecolor": "white", "edgecolor": "none", "alpha": 0.75, "pad": 1.5}
        ax.text(0.04, 0.96, text, transform=ax.transAxes, ha="left", va="top", fontsize=8, bbox=box)


def path_figure(pictures: Pictures, title: str) -> Figure:
    """The effective sample size of each step of an annealing path: where it dips, a bound needs more temperatures."""
    betas, ess = (np.asarray(pictures[name], dtype=float) for name in ("path_betas", "path_ess"))
    betas, ess = (a[:, None] if a.ndim == 1 else a for a in (betas, ess))
    figure = new_figure(6.4, 3.6)
    ax = figure.add_subplot()
    colour = looks(1)[0].colour
    chosen = np.unique(np.linspace(0, ess.shape[1] - 1, MOST_PATHS).astype(int))
    alone = ess.shape[1] == 1
    lines = ax.plot(
        np.broadcast_to(betas, ess.shape)[:, chosen],
        ess[:, chosen],
        color=colour if alone else "0.4",
        linewidth=1.4 if alone else 0.5,
        zorder=2.5,  # above the median, which is broad: data that agree with it show as well
        marker="o" if alone else None,
        markersize=3,
    )
    if not alone:
        lines[0].set_label(f"{len(chosen)} of {ess.shape[1]} data" if len(chosen) < ess.shape[1] else "each datum")
        middle = np.median(np.broadcast_to(betas, ess.shape), axis=1)
        ax.plot(middle, np.median(ess, axis=1), color=colour, linewidth=4.0, alpha=0.6, label="median step")
        ax.plot(middle, ess.min(axis=1), "--", color="black", linewidth=1.3, zorder=3, label="lowest at this step")
        ax.legend(fontsize=8, frameon=False, loc="lower right")
    ax.set(ylim=(0, 1.03), xlabel="inverse temperature β at the end of the step")
    ax.set_ylabel("effective samples, share of the chains")
    grid(ax)
    tidy(ax)
    figure.suptitle(f"The annealing path: {title}", fontsize=10.5, x=0.01, ha="left")
    return figure
