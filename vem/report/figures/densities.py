"""The posterior of a two-dimensional z against its approximations, and how hard an annealing path was."""

from __future__ import annotations

from collections.abc import Sequence

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from vem.report.figures.cells import cells, value_limits
from vem.report.figures.panels import Pictures
from vem.report.figures.style import QUIET, grid, looks, new_figure, say, tidy, titled, wrapped
from vem.report.table import number

ARRAYS = tuple(f"posterior_{name}" for name in ("x", "rows", "axes", "truth", "q", "names", "gaps"))
SHARES = (0.25, 0.5, 0.75, 0.95)  # of its mass that a density's contours enclose
MOST_DATA = 3  # side by side
MOST_PATHS = 50  # data whose annealing paths are drawn
TRUTH, BEHIND = ("Blues", 0.85), ("Greys", 0.5)  # colour map, and how far into it a peak lies: alone, and behind q


def posterior_figure(pictures: Pictures, title: str) -> Figure:
    """One row a data point: x, its true posterior, and each q in colour over it in grey, with its gap in nats."""
    names = [str(name).replace("_", " ") for name in pictures["posterior_names"]]
    columns = [("true posterior", pictures, None), *((name, pictures, q) for q, name in enumerate(names))]
    figure = _figure(columns, list(pictures["posterior_rows"]), 1.9)
    shares = ", ".join(f"{share:.0%}" for share in SHARES)
    titled(figure, f"True posterior and q; numbers: KL(q ‖ p(z | x)); contours hold {shares} of the mass", title)
    return figure


def posteriors_figure(groups: Sequence[tuple[str, Pictures]], title: str) -> Figure:
    """One row a data point, one column a group: the true posterior of that group's model in grey, its q in colour.

    groups: names, and arrays that hold ``ARRAYS``; the data are those that the first of them shows. A strategy's own q
    is the first of its approximations.
    """
    columns = [(name, pictures, 0) for name, pictures in groups]
    figure = _figure(columns, list(groups[0][1]["posterior_rows"][:MOST_DATA]), 2.15)
    titled(figure, "True posterior (grey) and q (colour), with KL(q ‖ p(z | x))", title)
    return figure


def _figure(columns: Sequence[tuple[str, Pictures, int | None]], rows: Sequence[int], width: float) -> Figure:
    """A row of panels of that many inches for each data point: x, then that q of each, or None for the posterior."""
    figure = new_figure(width * (len(columns) + 1) + 0.2, 1.95 * len(rows) + 0.8)
    panels = figure.subplots(len(rows), len(columns) + 1, squeeze=False)
    x = columns[0][1]["posterior_x"]
    for n, (row, (first, *others)) in enumerate(zip(rows, panels, strict=True)):
        cells(first, x[n : n + 1], 1, value_limits(x))
        first.set_ylabel(f"row {row}", fontsize=8, color=QUIET)
        others[0].set_ylabel("$z_2$")
        for ax, (_, pictures, q), look in zip(others, columns, looks(len(columns) + 1)[1:], strict=True):
            _posterior(ax, pictures, np.flatnonzero(pictures["posterior_rows"] == row), q, look.colour)
    for ax, name in zip(panels[0], ["x", *(name for name, *_ in columns)], strict=True):
        ax.set_title(wrapped(name, 24, 3), fontsize=9)
    for ax in panels[-1, 1:]:
        ax.set_xlabel("$z_1$")
    return figure


def _posterior(ax: Axes, pictures: Pictures, places: np.ndarray, q: int | None, colour: object) -> None:
    """The true posterior of a data point, and where one is asked for the q-th approximation in colour over it."""
    if not len(places):
        say(ax, "not drawn\nfor this run")
        return
    n = places[0]
    axes = pictures["posterior_axes"][n]
    density(ax, axes, pictures["posterior_truth"][n], fill=TRUTH if q is None else BEHIND)
    if q is not None:
        density(ax, axes, pictures["posterior_q"][q, n], colour=colour)
        gap = pictures["posterior_gaps"][q, n]
        text = f"{number(gap)} nats" if np.isfinite(gap) else "q is not finite"
        box = {"facecolor": "white", "edgecolor": "none", "alpha": 0.75, "pad": 1.5}
        ax.text(0.04, 0.96, text, transform=ax.transAxes, ha="left", va="top", fontsize=8, bbox=box)
    ax.set(xlim=axes[0, [0, -1]], ylim=axes[1, [0, -1]], aspect="equal")
    ax.locator_params(nbins=3)
    tidy(ax)
    ax.tick_params(labelsize=7)


def density(
    ax: Axes, axes: np.ndarray, values: np.ndarray, fill: tuple[str, float] | None = None, colour: object = None
) -> None:
    """Contours of a density [g, g] over axes [2, g] that enclose ``SHARES`` of its mass: filled, or lines."""
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


def path_figure(pictures: Pictures, title: str) -> Figure:
    """The effective sample size of each step of an annealing path: where it dips, a bound needs more temperatures."""
    betas, ess = (np.asarray(pictures[name], dtype=float) for name in ("path_betas", "path_ess"))
    ess = ess.reshape(len(ess), -1)
    betas = np.broadcast_to(betas.reshape(len(betas), -1), ess.shape)
    figure = new_figure(6.4, 3.6)
    ax = figure.add_subplot()
    colour, num = looks(1)[0].colour, ess.shape[1]
    if num == 1:
        ax.plot(betas, ess, "o-", color=colour, linewidth=1.4, markersize=3)
    else:
        chosen = np.unique(np.linspace(0, num - 1, MOST_PATHS).astype(int))
        # Above the median, which is broad: data that agree with it show as well.
        lines = ax.plot(betas[:, chosen], ess[:, chosen], color="0.4", linewidth=0.5, zorder=2.5)
        lines[0].set_label(f"{len(chosen)} of {num} data" if len(chosen) < num else "each data point")
        middle = np.median(betas, axis=1)
        ax.plot(middle, np.median(ess, axis=1), color=colour, linewidth=4.0, alpha=0.6, label="median step")
        ax.plot(middle, ess.min(axis=1), "--", color="black", linewidth=1.3, zorder=3, label="lowest at this step")
        ax.legend(fontsize=8, frameon=False, loc="lower right")
    ax.set(ylim=(0, 1.03), xlabel="inverse temperature β at the end of the step",
           ylabel="effective samples, share of the chains")  # fmt: skip
    grid(ax)
    tidy(ax)
    titled(figure, "The annealing path", title)
    return figure
