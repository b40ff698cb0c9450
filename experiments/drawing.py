"""Curves with bands over seeds, for the figures of the studies."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray
from study import Run

from vem.report.figures.style import QUIET, Look, grid, tidy
from vem.report.figures.style import looks as looks
from vem.report.figures.style import new_figure as new_figure
from vem.report.figures.style import save as save_png

Numbers = NDArray[np.float64]
COSTS = {  # columns of metrics.csv, and their names on an axis
    "epoch": "epoch",
    "seconds": "CPU time (seconds, one thread)",
    "decoder_evaluations": "decoder evaluations",
}


def over_seeds(seeds: Sequence[Run], split: str, x: str) -> tuple[Numbers, Numbers, Numbers]:
    """The mean cost x and the mean and standard error of the ELBO over seeds, record by record.

    Seeds that stopped early are followed as far as all of them go.
    """
    curves = [run.curve(split) for run in seeds]
    length = min(map(len, curves))
    costs = np.array([[row[x] for row in curve[:length]] for curve in curves])
    elbos = np.array([[row["elbo"] for row in curve[:length]] for curve in curves])
    error = elbos.std(axis=0, ddof=1) / np.sqrt(len(elbos)) if len(elbos) > 1 else np.zeros(length)
    return costs.mean(axis=0), elbos.mean(axis=0), error


def band(ax: Axes, x: Numbers, mean: Numbers, error: Numbers, look: Look, label: str, points: bool = False) -> None:
    """A line with a band of one standard error on either side; ``points`` marks every value."""
    every = 1 if points else [len(x) - 1]
    ax.plot(
        x, mean, color=look.colour, linestyle=look.dash, marker=look.marker, markevery=every, ms=5, lw=1.5, label=label
    )
    ax.fill_between(x, mean - error, mean + error, color=look.colour, alpha=0.2, linewidth=0)


def finish(ax: Axes, title: str, x: str, y: str) -> None:
    """Names, units, a grid behind the lines."""
    ax.set_title(title, fontsize=9, loc="left")
    ax.set(xlabel=x, ylabel=y)
    grid(ax)
    tidy(ax)


def legend_below(figure: Figure, ax: Axes, columns: int, note: str) -> None:
    """One legend for all panels, and above them what the bands are."""
    handles, labels = ax.get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=columns, fontsize=8.5, frameon=False)
    figure.suptitle(note, x=0.995, ha="right", fontsize=7.5, color=QUIET)


def save(figure: Figure, path: Path) -> None:
    """Write a PNG."""
    save_png(figure, path)
    print(path)
