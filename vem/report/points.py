"""Events of two numbers, drawn as points of their own plane instead of as cells."""

from __future__ import annotations

import numpy as np
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection

from vem.report.style import QUIET, tidy


def _finish(ax: Axes) -> None:
    ax.autoscale_view()
    ax.set(xlabel="$x_1$", ylabel="$x_2$")
    ax.set_aspect("equal", adjustable="datalim")
    tidy(ax)


def samples(ax: Axes, x: np.ndarray) -> None:
    """Draws [n, 2]."""
    ax.scatter(x[:, 0], x[:, 1], s=12, linewidths=0, alpha=0.75, color=sns.color_palette("colorblind")[0])
    _finish(ax)


def reconstructions(ax: Axes, x: np.ndarray, reconstructed: np.ndarray) -> None:
    """Data [n, 2] (open), tied by lines to their reconstructions [n, 2] (filled)."""
    ax.add_collection(LineCollection(list(np.stack([x, reconstructed], axis=1)), colors="0.6", linewidths=0.8))
    ax.scatter(x[:, 0], x[:, 1], s=26, facecolors="white", edgecolors="black", linewidths=0.9, label="data", zorder=3)
    blue = sns.color_palette("colorblind")[0]
    ax.scatter(
        reconstructed[:, 0],
        reconstructed[:, 1],
        s=16,
        color=blue,
        linewidths=0,
        label="reconstruction",
        zorder=4,
    )
    ax.legend(fontsize=8, frameon=False, loc="upper left", bbox_to_anchor=(1.0, 1.0), handletextpad=0.2)
    _finish(ax)


def components(ax: Axes, means: np.ndarray, weights: np.ndarray) -> None:
    """Component means [K, 2] in discs that grow with their weights [K]."""
    ax.scatter(
        means[:, 0],
        means[:, 1],
        s=20 + 900 * weights,
        color=sns.color_palette("colorblind")[0],
        alpha=0.35,
        linewidths=0,
    )
    ax.scatter(means[:, 0], means[:, 1], s=5, color="black", linewidths=0)
    for mean, weight in zip(means, weights, strict=True) if len(means) <= 12 else ():
        ax.annotate(f"{weight:.1%}", mean, (4, 3), textcoords="offset points", fontsize=7, color=QUIET)
    _finish(ax)


def decoded_grid(ax: Axes, grid: np.ndarray, axis: np.ndarray) -> None:
    """The image [g, g, 2] of the latent grid under E[x | z]: lines of constant z₁ and of constant z₂."""
    blue, orange = sns.color_palette("colorblind")[:2]
    span = f"from {axis[0]:.1f} to {axis[-1]:.1f}"
    ax.add_collection(LineCollection(list(grid), colors=[blue], linewidths=1.1, label=f"$z_1$ runs {span}"))
    ax.add_collection(
        LineCollection(
            list(grid.swapaxes(0, 1)),
            colors=[orange],
            linewidths=1.1,
            linestyles="--",
            label=f"$z_2$ runs {span}",
        )
    )
    ax.legend(fontsize=8, frameon=False, loc="upper right")
    _finish(ax)
