"""How figures look and are saved: no pyplot, no change of matplotlib's settings, the same bytes each time."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from vem.records import replacing, unwritable

DPI = 150
ELBO_LABEL = "ELBO (nats per datum)"
QUIET = "0.35"  # grey of what must be legible without drawing the eye
DASHES: tuple[Any, ...] = ("-", (0, (5, 1.5)), (0, (1.2, 1.2)), (0, (7, 1.5, 1.5, 1.5)))
MARKERS = ("o", "s", "^", "D", "v", "P", "X", "<", ">", "*")
NUM_COLOURS = 10


class Look(NamedTuple):
    """One curve's colour, dash and end marker: any one of the three tells it from its neighbours."""

    colour: tuple[float, float, float]
    dash: Any
    marker: str


def looks(num: int) -> list[Look]:
    """``num`` looks, for colour-blind readers and for print in grey.

    Dashes and markers cycle with other periods than colours, so that a combination returns late.
    """
    colours = sns.color_palette("colorblind", NUM_COLOURS)
    markers = MARKERS[: NUM_COLOURS - 1]
    return [Look(colours[i % NUM_COLOURS], DASHES[i % len(DASHES)], markers[i % len(markers)]) for i in range(num)]


def new_figure(width: float, height: float) -> Figure:
    """A figure of that many inches that keeps its texts apart."""
    return Figure(figsize=(width, height), layout="constrained", facecolor="white")


def save(figure: Figure, path: Path) -> Path:
    """Write a PNG atomically, without a date or a program's name in it.

    Raises:
        VemError: the folder cannot be written, or the disk is full.
    """
    make_folder(path.parent)
    with replacing(path) as temporary:
        figure.savefig(temporary, dpi=DPI, metadata={"Software": None})
    return path


def make_folder(folder: Path) -> None:
    """Create a folder and those above it.

    Raises:
        VemError: it cannot be created.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise unwritable(folder, error) from error


def tidy(ax: Axes) -> None:
    """Small ticks and names, no box."""
    ax.tick_params(labelsize=8, length=3, color=QUIET)
    sns.despine(ax=ax)
    ax.xaxis.label.set_fontsize(9)
    ax.yaxis.label.set_fontsize(9)


def label_time(ax: Axes, x: str) -> None:
    """Name the axis of epochs or of seconds; epochs are whole."""
    ax.set_xlabel({"epoch": "epoch", "seconds": "training time (seconds)"}[x])
    if x == "epoch":
        ax.xaxis.set_major_locator(MaxNLocator(integer=True))


def grid(ax: Axes) -> None:
    """A grid behind the curves."""
    ax.grid(True, color="0.9", linewidth=0.7)
    ax.set_axisbelow(True)


def wrapped(name: str, width: int = 32, lines: int = 4) -> str:
    """A name in a few lines that a figure has room for.

    >>> wrapped("amortized, latent_dim=2, strategy.rate=0.001", width=24)
    'amortized, latent_dim=2,\\nstrategy.rate=0.001'
    """
    return textwrap.fill(name, width, max_lines=lines, placeholder=" …")


def say(ax: Axes, text: str) -> None:
    """A sentence in place of a picture."""
    ax.set_axis_off()
    ax.text(0.5, 0.5, text, ha="center", va="center", fontsize=9, color=QUIET, transform=ax.transAxes, wrap=True)


def robust_limits(curves: Sequence[np.ndarray]) -> tuple[float, float, bool]:
    """Limits (low, high, cut) that the first epochs of the curves do not stretch.

    A curve counts from its lower quintile upwards. Where that would hide little, nothing is cut.

    >>> low, high, cut = robust_limits([np.array([-5000.0, -110, -105, -102, -101, -100, -100, -100, -100])])
    >>> low > -120, high > -100, cut
    (True, True, True)
    >>> robust_limits([np.array([-2.0, -1.0])])
    (-2.05, -0.95, False)
    """
    lowest = min(float(curve.min()) for curve in curves)
    highest = max(float(curve.max()) for curve in curves)
    kept = min(float(np.quantile(curve, 0.2)) for curve in curves)
    cut = highest - lowest > 2.5 * (highest - kept) > 0
    low = kept - 0.15 * (highest - kept) if cut else lowest
    pad = 0.05 * (highest - low) or 0.05 * max(1.0, abs(highest))
    return low - pad, highest + pad, cut
