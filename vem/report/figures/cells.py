"""Events x as cells of a grid: an image in grey, any other event as a profile of its values."""

from __future__ import annotations

from collections.abc import Sequence

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection

from vem.report.figures.style import QUIET

Limits = tuple[float, float]
PROFILE = 0.8  # height of a profile's cell for its width


def is_image(event: Sequence[int]) -> bool:
    """Whether an event of this shape is drawn as an image: two axes, each longer than one."""
    return len(event) == 2 and min(event) > 1


def is_point(event: Sequence[int]) -> bool:
    """Whether an event of this shape is drawn as a point of a plane: two numbers."""
    return tuple(event) == (2,)


def value_limits(*arrays: np.ndarray) -> Limits:
    """The range that all the arrays are drawn in: [0, 1] where they lie in it, else from least to greatest.

    >>> value_limits(np.array([0.2, 0.9])), value_limits(np.array([-1.0, 3.0]))
    ((0.0, 1.0), (-1.0, 3.0))
    """
    finite = np.concatenate([a[np.isfinite(a)] for a in arrays])
    low, high = (float(finite.min()), float(finite.max())) if finite.size else (0.0, 1.0)
    if low >= 0.0 and high <= 1.0:
        return 0.0, 1.0
    return (low, high) if high > low else (low - 0.5, high + 0.5)


def cells(
    ax: Axes,
    items: np.ndarray,
    num_columns: int,
    limits: Limits | None = None,
    captions: Sequence[str] = (),
    spaced: bool = True,
) -> None:
    """Draw events [n, *X] in rows of ``num_columns``: cell (r, c) is [c, c+1] × [r, r+1], r downwards.

    An image is drawn in grey (white is the upper limit), any other event as a profile of its values.
    Captions stand above their cells; images that are not ``spaced`` stand on one dark sheet.
    """
    limits = limits or value_limits(items)
    num_rows = -(-len(items) // num_columns)
    header = 0.24 if captions else 0.0  # the share of a cell's height kept free for its caption
    if is_image(items.shape[1:]):
        height, width = items.shape[1:]
        gap = max(1, round(0.05 * max(height, width))) if spaced else 1
        top = round(header * (height + gap) / (1 - header))
        tile = np.full((num_rows, num_columns, top + height + gap, width + gap), np.nan if spaced else limits[0])
        tile.reshape(-1, *tile.shape[2:])[: len(items), top : top + height, :width] = items
        grey = matplotlib.colormaps["gray"].with_extremes(bad="white")
        sheet = np.block([[*row] for row in tile])
        ax.imshow(sheet, cmap=grey, vmin=limits[0], vmax=limits[1], extent=(0, num_columns, num_rows, 0))
        ax.set_aspect(tile.shape[2] / tile.shape[3])
    else:
        _profiles(ax, items.reshape(len(items), -1), num_columns, limits, header)
        ax.set_aspect(PROFILE / (1 - header))
    for i, caption in enumerate(captions):
        row, column = divmod(i, num_columns)
        ax.text(column + 0.5, row + header - 0.02, caption, ha="center", va="bottom", fontsize=6.5, color=QUIET)
    ax.set(xlim=(0, num_columns), ylim=(num_rows, 0), xticks=[], yticks=[])
    ax.spines[:].set_visible(False)


def _profiles(ax: Axes, items: np.ndarray, num_columns: int, limits: Limits, header: float) -> None:
    rows, columns = np.divmod(np.arange(len(items)), num_columns)
    size, (low, high) = items.shape[1], limits
    across = np.linspace(0.08, 0.92, size) if size > 1 else np.array([0.5])
    down = rows[:, None] + 0.92 - (0.86 - header) * (items - low) / (high - low)
    lines = np.stack([columns[:, None] + across, down], axis=-1)
    ends = np.array([(0.05, 0.95), (0.95, 0.95)])
    baselines = np.column_stack([columns, rows])[:, None] + ends
    ax.add_collection(LineCollection(list(baselines), colors="0.8", linewidths=0.6))
    ax.add_collection(LineCollection(list(lines), colors="0.15", linewidths=1.0))
    if size <= 20:  # few enough values to show where each stands
        ax.scatter(lines[..., 0], lines[..., 1], s=5, color="0.15", linewidths=0, zorder=3)
