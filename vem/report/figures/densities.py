"""The posterior of a two-dimensional z against its approximations, and how hard an annealing path was."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from vem.report.figures import panels
from vem.report.figures.style import QUIET, grid, looks, new_figure, say, tidy, titled, wrapped
from vem.report.table import number

Pictures = Mapping[str, np.ndarray]
ARRAYS = tuple(f"posterior_{name}" for name in ("x", "rows", "axes", "truth", "q", "names", "gaps"))
SHARES = (0.25, 0.5, 0.75, 0.95)  # of its mass that a density's contours enclose
MOST_DATA = 3  # side by side
MOST_PATHS = 50  # data whose annealing paths are drawn


def posterior_figure(pictures: Pictures, title: str) -> Figure:
    """One row a data point: x, its true posterior, and each q in colour over it in grey, with its gap in nats."""
    names = [str(name).replace("_", " ") for name in pictures["posterior_names"]]
    rows = list(pictures["posterior_rows"])
    figure, table = _table(pictures, rows, ["x", "true posterior", *names], 1.9)
    for n, panel in enumerate(table):
        axes = pictures["posterior_axes"][n]
        density(panel[1], axes, pictures["posterior_truth"][n], fill=("Blues", 0.85))
        _frame(panel[1], axes)
        for q, (ax, look) in enumerate(zip(panel[2:], looks(len(names) + 1)[1:], strict=True)):
            _over_truth(ax, pictures, n, q, look.colour)
    shares = ", ".join(f"{share:.0%}" for share in SHARES)
    titled(figure, f"True posterior and q; numbers: KL(q ‖ p(z | x)); contours hold {shares} of the mass", title)
    return figure


def posteriors_figure(groups: Sequence[tuple[str, Pictures]], title: str) -> Figure:
    """One row a data point, one column a group: the true posterior of that group's model in grey, its q in colour.

    groups: names, and arrays that hold ``ARRAYS``; the data are those that the first of them shows. A strategy's own q
    is the first of its approximations.
    """
    rows = [int(row) for row in groups[0][1]["posterior_rows"][:MOST_DATA]]
    figure, table = _table(groups[0][1], rows, ["x", *(wrapped(name, 24, 3) for name, _ in groups)], 2.15)
    for panel, row in zip(table, rows, strict=True):
        for ax, (_, pictures), look in zip(panel[1:], groups, looks(len(groups) + 1)[1:], strict=True):
            places = np.flatnonzero(pictures["posterior_rows"] == row)
            if len(places):
                _over_truth(ax, pictures, places[0], 0, look.colour)
            else:
                say(ax, "not drawn\nfor this run")
    titled(figure, "True posterior (grey) and q (colour), with KL(q ‖ p(z | x))", title)
    return figure


def _table(pictures: Pictures, rows: Sequence[int], titles: Sequence[str], width: float) -> tuple[Figure, np.ndarray]:
    """A figure with a row of panels of that many inches for each data point, x in the first; the panels."""
    figure = new_figure(width * len(titles) + 0.2, 1.95 * len(rows) + 0.8)
    table = figure.subplots(len(rows), len(titles), squeeze=False)
    x = pictures["posterior_x"]
    for n, row in enumerate(rows):
        panels.cells(table[n, 0], x[n : n + 1], 1, panels.value_limits(x))
        table[n, 0].set_ylabel(f"row {row}", fontsize=8, color=QUIET)
        table[n, 1].set_ylabel("$z_2$")
    for ax, name in zip(table[0], titles, strict=True):
        ax.set_title(name, fontsize=9)
    for ax in table[-1, 1:]:
        ax.set_xlabel("$z_1$")
    return figure, table


def _over_truth(ax: Axes, pictures: Pictures, n: int, q: int, colour: object) -> None:
    """The q-th approximation of the n-th posterior in colour, over it in a grey that is light enough."""
    axes, gap = pictures["posterior_axes"][n], pictures["posterior_gaps"][q, n]
    density(ax, axes, pictures["posterior_truth"][n], fill=("Greys", 0.5))
    density(ax, axes, pictures["posterior_q"][q, n], colour=colour)
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
    ax.locator_params(nbins=3)
    tidy(ax)
    ax.tick_params(labelsize=7)
    if text:
        box = {"facecolor": "white", "edgecolor": "none", "alpha": 0.75, "pad": 1.5}
        ax.text(0.04, 0.96, text, transform=ax.transAxes, ha="left", va="top", fontsize=8, bbox=box)


def path_figure(pictures: Pictures, title: str) -> Figure:
    """The effective sample size of each step of an annealing path: where it dips, a bound needs more temperatures."""
    betas, ess = (np.asarray(pictures[name], dtype=float) for name in ("path_betas", "path_ess"))
    betas, ess = (a[:, None] if a.ndim == 1 else a for a in (betas, ess))
    betas = np.broadcast_to(betas, ess.shape)
    figure = new_figure(6.4, 3.6)
    ax = figure.add_subplot()
    colour, num = looks(1)[0].colour, ess.shape[1]
    if num == 1:
        ax.plot(betas, ess, "o-", color=colour, linewidth=1.4, markersize=3)
    else:
        chosen = np.unique(np.linspace(0, num - 1, MOST_PATHS).astype(int))
        # Above the median, which is broad: data that agree with it show as well.
        lines = ax.plot(betas[:, chosen], ess[:, chosen], color="0.4", linewidth=0.5, zorder=2.5)
        lines[0].set_label(f"{len(chosen)} of {num} data" if len(chosen) < num else "each datum")
        middle = np.median(betas, axis=1)
        ax.plot(middle, np.median(ess, axis=1), color=colour, linewidth=4.0, alpha=0.6, label="median step")
        ax.plot(middle, ess.min(axis=1), "--", color="black", linewidth=1.3, zorder=3, label="lowest at this step")
        ax.legend(fontsize=8, frameon=False, loc="lower right")
    ax.set(ylim=(0, 1.03), xlabel="inverse temperature β at the end of the step")
    ax.set_ylabel("effective samples, share of the chains")
    grid(ax)
    tidy(ax)
    titled(figure, "The annealing path", title)
    return figure
