"""How gaps are spread over the data: a line of quantiles for each group, so that many groups stand below each other."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from vem.report.gap_figures import MOST_BARS
from vem.report.style import QUIET, grid, legend_below, looks, new_figure, tidy, titled, wrapped
from vem.report.table import number

PAIRS = {
    "approximation gap: log p(x) − L[q*]": ("log_marginal_lower", "best_elbo"),
    "amortization or optimization gap: L[q*] − L[q]": ("best_elbo", "elbo"),
}
SPLITS = ("test", "train")
QUANTILES = (0.05, 0.25, 0.5, 0.75, 0.95)
FAR = 4.0  # a quantile beyond this many times the middle one is cut off, with its number


def caption(groups: Sequence[Mapping[Any, Any]]) -> str:
    """What the figure shows; the groups' rows, of those that it is drawn from."""
    words = "How the gaps are spread over data: a mean far above its median comes from a few data."
    if any((row.get("seeds") or 0) > 1 for row in groups):
        words += " All seeds together, so that each datum is counted once for each seed."
    if any(row.get(f"{split}_approximation_gap_at_least") for row in groups for split in SPLITS):
        words += " ≥: approximation gaps from a lower bound on log p(x) may be larger than they are drawn."
    return words


class Spread(NamedTuple):
    """Quantiles of one gap over the data of one split, and its mean."""

    quantiles: np.ndarray
    mean: float
    num_data: int


def spread_of(rows: pd.DataFrame, split: str, pair: tuple[str, str]) -> Spread | None:
    """The distribution of one gap over data, in nats; None where it was not measured.

    rows: as in per_datum.csv, of one seed or of several below each other.
    """
    if not {"split", *pair} <= set(rows):
        return None
    chosen = rows[rows["split"] == split]
    above, below = (pd.to_numeric(chosen[name], errors="coerce").to_numpy(dtype=float) for name in pair)
    gaps = above - below
    gaps = gaps[np.isfinite(gaps)]
    return Spread(np.quantile(gaps, QUANTILES), float(gaps.mean()), len(gaps)) if gaps.size else None


def distributions_figure(groups: Sequence[tuple[str, pd.DataFrame]], table: str) -> Figure | None:
    """The spread of each gap over data, a panel for each gap and a row for each group; None where none was measured.

    groups: names, and their rows of per_datum.csv over all seeds.
    """
    found = [
        (name, {(t, s): spread_of(rows, s, pair) for t, pair in PAIRS.items() for s in SPLITS}) for name, rows in groups
    ]
    found = [(name, spreads) for name, spreads in found if any(spreads.values())][:MOST_BARS]
    titles = [t for t in PAIRS if any(spreads[t, s] for _, spreads in found for s in SPLITS)]
    if not found:
        return None
    figure = new_figure(10.5, 1.5 + 0.5 * len(found))
    axes = figure.subplots(1, len(titles), sharey=True, squeeze=False)[0]
    for ax, title in zip(axes, titles, strict=True):
        _panel(ax, [{s: spreads[title, s] for s in SPLITS} for _, spreads in found])
        ax.set_title(title, fontsize=9.5, loc="left")
        ax.set_xlabel("nats per datum")
    axes[0].set_yticks(range(len(found)), [wrapped(name, 32, 2) for name, _ in found])
    axes[0].set_ylim(len(found) - 0.5, -0.5)
    handles = _handles()
    legend_below(figure, handles, [str(handle.get_label()) for handle in handles], handle_length=2)
    titled(figure, "Gaps datum by datum (smaller is better)", table)
    return figure


def _handles() -> list[Line2D]:
    test, train = looks(2)
    return [
        Line2D([], [], color=test.colour, marker="o", markersize=6, linewidth=4, label="test data, median"),
        Line2D([], [], color=train.colour, marker="s", markersize=5, markerfacecolor="white", linewidth=4,
               label="training data, median"),
        Line2D([], [], color=QUIET, linewidth=4, label="middle half of the data"),
        Line2D([], [], color=QUIET, linewidth=1, label="90 % of the data; | mean"),
    ]  # fmt: skip


def _panel(ax: Axes, rows: Sequence[Mapping[str, Spread | None]]) -> None:
    ends = [s.quantiles[[0, -1]] for row in rows for s in row.values() if s is not None]
    low, high = min(0.0, min(e[0] for e in ends)), max(e[1] for e in ends)
    usual = float(np.median([e[1] for e in ends]))
    high = min(high, FAR * usual) if usual > 0 else high
    pad = 0.04 * (high - low) or 0.05
    ax.set_xlim(low - pad, high + 2.5 * pad)
    for place, row in enumerate(rows):
        for split, up, look, face in zip(SPLITS, (-0.17, 0.17), looks(2), (None, "white"), strict=True):
            spread = row[split]
            if spread is None:
                continue
            q, y = spread.quantiles, place + up
            ax.plot(q[[0, -1]], [y, y], color=look.colour, linewidth=1, solid_capstyle="butt")
            ax.plot(q[[1, 3]], [y, y], color=look.colour, linewidth=4.5, solid_capstyle="butt", alpha=0.55)
            ax.plot(q[2], y, look.marker, color=look.colour, markerfacecolor=face, markersize=5.5)
            ax.plot(spread.mean, y, "|", color="black", markersize=9, markeredgewidth=1.2)
            if q[-1] > high + pad:
                ax.annotate(f"to {number(float(q[-1]), 1)} →", (1, y), xycoords=("axes fraction", "data"), fontsize=7,
                            ha="right", va="bottom", color=QUIET)  # fmt: skip
    if low - pad < 0:
        ax.axvline(0.0, color=QUIET, linewidth=0.8, zorder=0)
    grid(ax)
    ax.grid(False, axis="y")
    tidy(ax)
