"""Gaps as pictures: bars with their intervals for each strategy, and how they are spread over data."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.markers import CARETRIGHTBASE
from matplotlib.patches import Patch

from vem.report.figures.style import COLOURS, QUIET, grid, legend_below, looks, new_figure, tidy, titled, wrapped
from vem.report.quantities import GAPS, Estimate, estimate, plain_rows
from vem.report.quantities import gaps_of as measured
from vem.report.table import number

MOST_BARS = 16  # groups in one figure
ARROW = 8  # points: the size of the arrow in the place of an upper end
SPLIT_TITLES = {"train": "Training data", "valid": "Validation data", "test": "Test data"}
FORMULAS = {
    "approximation": "approximation: log p(x) − L[q*]",
    "amortization": "amortization: L[q*] − L[q], encoder",
    "optimization": "optimization: L[q*] − L[q], stored λ",
    "inference": "inference: log p(x) − L[q]",
}
LOOKS = dict(zip(GAPS, ((COLOURS[0], ""), (COLOURS[1], "///"), (COLOURS[2], "..."), ("0.8", "")), strict=True))
# Places beside a group; of the middle two one is there.
SLOTS = dict(zip(GAPS, (-0.27, 0.0, 0.0, 0.27), strict=True))
# Columns of per_datum.csv: the gap of a data point is the first less the second.
APPROXIMATION, MIDDLE = ("log_marginal_lower", "best_elbo"), ("best_elbo", "elbo")
PAIRS = {
    "approximation gap: log p(x) − L[q*]": APPROXIMATION,
    "amortization or optimization gap: L[q*] − L[q]": MIDDLE,
}
STYLES = dict(zip(("test", "train"), zip(looks(2), (None, "white"), (-0.17, 0.17), strict=True), strict=True))
PERCENTILES = (5, 25, 50, 75, 95)
FAR = 4.0  # a line that ends beyond this many times the middle end is cut off, with its number


def gaps_of(row: Mapping[Any, Any]) -> dict[tuple[str, str], Estimate]:
    """By split and kind of gap, what a group has measured."""
    return {(split, kind): estimate(row, split, GAPS[kind]) for split in SPLIT_TITLES for kind in measured(row, split)}


def _end(gap: Estimate) -> float:
    """Where a gap's bar and its line end, on the right."""
    return max(end for end in (gap.mean, gap.high, 0.0) if end is not None)


def gaps_figure(names: Sequence[str], groups: pd.DataFrame, table: str) -> Figure | None:
    """Each group's gaps side by side with their 95 % intervals, a panel for each split that has them; None without.

    names: one for each group of :func:`vem.report.aggregate.aggregate`.
    """
    rows = zip(names, plain_rows(groups), strict=True)
    found = [(name, row, gaps) for name, row in rows if (gaps := gaps_of(row))]
    if not found:
        return None
    shown = found[:MOST_BARS]
    every = {key: gap for *_, gaps in shown for key, gap in gaps.items()}
    splits = [split for split in SPLIT_TITLES if any(s == split for s, _ in every)]
    figure = new_figure(max(9.5, 4.0 * len(splits)), 0.95 + 0.75 * len(shown) + 0.55)
    axes = figure.subplots(1, len(splits), sharex=True, sharey=True, squeeze=False)[0]
    for ax, split in zip(axes, splits, strict=True):
        for place, (*_, gaps) in enumerate(shown):
            for gap in GAPS:
                if (split, gap) in gaps:
                    _bar(ax, gaps[split, gap], place + SLOTS[gap], *LOOKS[gap])
        ax.set_title(SPLIT_TITLES[split], fontsize=10, loc="left")
        ax.set_xlabel("nats per datum")
        grid(ax, zero=True)
        tidy(ax)
    marks = ["\nCHECKS FAILED" if row.get("checks_failed") else "" for _, row, _ in shown]
    axes[0].set_yticks(range(len(shown)), [wrapped(name) + m for (name, *_), m in zip(shown, marks, strict=True)])
    axes[0].set(ylim=(len(shown) - 0.5, -0.5), xlim=_limits([gap for *_, gaps in shown for gap in gaps.values()]))
    kinds = [gap for gap in GAPS if any(g == gap for _, g in every)]
    handles = [Patch(facecolor=LOOKS[gap][0], hatch=LOOKS[gap][1], edgecolor="0.25") for gap in kinds]
    legend_below(figure, handles, [FORMULAS[gap] for gap in kinds], handle_length=2)
    several = any(row["seeds"] > 1 for _, row, _ in shown)
    over = "over seeds, over data where there is one seed" if several else "over data, paired"
    below = any(gap.one_sided for *_, gaps in shown for gap in gaps.values())
    lower = "; ≥ and arrow: log p(x) is known from below alone" if below else ""
    more = f"; the first {len(shown)} of {len(found)}" if len(found) > len(shown) else ""
    titled(figure, f"Gaps; smaller is better; lines are 95 % intervals {over}{lower}{more}", table)
    return figure


def _bar(ax: Axes, gap: Estimate, place: float, colour: Any, hatch: str) -> None:
    mean = gap.mean or 0.0
    ax.barh(place, mean, height=0.25, color=colour, hatch=hatch, edgecolor="0.25", linewidth=0.6)
    beyond = 4
    if gap.low is not None and (gap.high is not None or gap.one_sided):
        ends, marked = [gap.low, _end(gap) if gap.high is None else gap.high], [0] if gap.high is None else [0, 1]
        ax.plot(ends, [place] * 2, "k-|", linewidth=1.3, solid_capstyle="butt", markersize=5, markevery=marked)
        if gap.high is None:  # the truth may lie anywhere to the right
            ax.plot(_end(gap), place, marker=CARETRIGHTBASE, color="black", markersize=ARROW, linestyle="")
            beyond += ARROW // 2
    text = f"{'≥ ' if gap.one_sided else ''}{number(mean)}"
    ax.annotate(text, (_end(gap), place), (beyond, 0), textcoords="offset points", va="center", fontsize=7.5)


def _limits(gaps: Sequence[Estimate]) -> tuple[float, float]:
    """Room for bars and their numbers; an interval of two seeds may run out of the picture."""
    size = max(max(abs(gap.mean or 0.0) for gap in gaps), 1e-6)
    ends = [end for gap in gaps for end in (gap.mean, gap.low, gap.high) if end is not None]
    high, low = max(0.0, min(max(ends), 2 * size)), min(0.0, max(min(ends), -size))
    high = high if high > low else size  # every gap is exactly 0, and one data point has no interval
    return low - (0.12 * (high - low) if low < 0 else 0.0), high + 0.18 * (high - low)


# --- data point by data point


def gap_of_each(rows: pd.DataFrame, split: str, pair: tuple[str, str]) -> np.ndarray:
    """The gap of each data point of a split in nats, as far as it was measured; rows as in per_datum.csv."""
    if not {"split", *pair} <= set(rows):
        return np.empty(0)
    chosen = rows[rows["split"] == split]
    above, below = (pd.to_numeric(chosen[name], errors="coerce").to_numpy(dtype=float) for name in pair)
    return (above - below)[np.isfinite(above - below)]


def per_datum_figure(rows: pd.DataFrame, gap_name: str, title: str) -> Figure | None:
    """The share of data whose gap is below x, for each split; None where no gap was measured.

    rows as in per_datum.csv; ``gap_name`` says what L[q*] − L[q] is called for this strategy.
    """
    pairs = {"approximation": APPROXIMATION, gap_name: MIDDLE}
    columns = {name: pair for name, pair in pairs.items() if set(pair) <= set(rows)}
    splits = [s for s in SPLIT_TITLES if (rows["split"] == s).any()]
    if not columns or not splits:
        return None
    figure = new_figure(4.75 * len(columns), 3.7)
    axes = figure.subplots(1, len(columns), sharey=True, squeeze=False)[0]
    for ax, (name, pair) in zip(axes, columns.items(), strict=True):
        _shares(ax, {s: gaps for s in splits if (gaps := gap_of_each(rows, s, pair)).size})
        at_least = name == "approximation" and "log_marginal_upper" not in rows
        ax.set_xlabel(f"{FORMULAS[name]} (nats)" + ("\nfrom the lower bound on log p(x)" if at_least else ""))
        ax.set_title(f"{name} gap", fontsize=10, loc="left")
    handles, names = max((ax.get_legend_handles_labels() for ax in axes), key=lambda found: len(found[0]))
    if handles:  # else nothing is finite
        legend_below(figure, handles, names)
    axes[0].set(ylabel="share of data with a smaller gap", ylim=(0, 1.005))
    titled(figure, "Gaps datum by datum, markers: means", title)
    return figure


def _shares(ax: Axes, gaps: Mapping[str, np.ndarray]) -> None:
    """Distribution functions; the limits lie three interquartile ranges from the quartiles, if data do."""
    lows, highs = [0.0] if not gaps else [], [1.0] if not gaps else []
    for (split, values), look in zip(gaps.items(), looks(len(gaps)), strict=True):
        sns.ecdfplot(x=values, ax=ax, color=look.colour, linestyle=look.dash, linewidth=1.6,
                     label=f"{split} ({len(values)} data)")  # fmt: skip
        ax.plot(values.mean(), (values < values.mean()).mean(), look.marker, color=look.colour, markersize=6)
        first, third = np.quantile(values, [0.25, 0.75])
        lows.append(max(values.min(), first - 3 * (third - first)))
        highs.append(min(values.max(), third + 3 * (third - first)))
    pad = 0.03 * (max(highs) - min(lows)) or 0.05 * max(1e-3, abs(max(highs)))
    low, high = min(lows) - pad, max(highs) + pad
    ax.set_xlim(low, high)
    if low < 0 < high:
        ax.axvline(0.0, color=QUIET, linewidth=0.8)
    total, outside = sum(map(len, gaps.values())), sum(int(((v < low) | (v > high)).sum()) for v in gaps.values())
    if outside:
        ax.set_title(f"outside: {outside} of {total} data", fontsize=7.5, color=QUIET, loc="right")
    grid(ax)
    tidy(ax)


def distributions_figure(groups: Sequence[tuple[str, pd.DataFrame]], table: str) -> Figure | None:
    """How each gap is spread over data, a panel for each gap and lines for each group; None where none was measured.

    groups: names, and their rows of per_datum.csv over all seeds.
    """
    every = {
        name: {(title, split): gap_of_each(rows, split, pair) for title, pair in PAIRS.items() for split in STYLES}
        for name, rows in groups
    }
    names = [name for name, gaps in every.items() if any(map(len, gaps.values()))][:MOST_BARS]
    titles = [title for title in PAIRS if any(len(every[name][title, split]) for name in names for split in STYLES)]
    if not names:
        return None
    figure = new_figure(10.5, 1.5 + 0.5 * len(names))
    axes = figure.subplots(1, len(titles), sharey=True, squeeze=False)[0]
    for ax, title in zip(axes, titles, strict=True):
        found = [(i, split, gaps) for i, name in enumerate(names) for split in STYLES
                 if len(gaps := every[name][title, split])]  # fmt: skip
        _quantiles(ax, found)
        ax.set_title(title, fontsize=9.5, loc="left")
    axes[0].set_yticks(range(len(names)), [wrapped(name, 32, 2) for name in names])
    axes[0].set_ylim(len(names) - 0.5, -0.5)
    handles = [Line2D([], [], color=look.colour, marker=look.marker, markerfacecolor=face, linewidth=4)
               for look, face, _ in STYLES.values()]  # fmt: skip
    spread = "median, middle half, 90 %; | mean"
    legend_below(figure, handles, [f"test data: {spread}", f"training data: {spread}"], 2)
    titled(figure, "Gaps datum by datum (smaller is better)", table)
    return figure


def _quantiles(ax: Axes, found: Sequence[tuple[int, str, np.ndarray]]) -> None:
    """Lines at the places of their groups; one that reaches far beyond the others is cut off, with its end."""
    every = [np.percentile(gaps, PERCENTILES) for *_, gaps in found]
    usual = float(np.median([q[-1] for q in every]))
    low, high = min(0.0, *(q[0] for q in every)), max(q[-1] for q in every)
    high = min(high, FAR * usual) if usual > 0 else high
    pad = 0.04 * (high - low) or 0.05
    for (i, split, gaps), q in zip(found, every, strict=True):
        (colour, _, marker), face, up = STYLES[split]
        ax.plot(q[[0, -1]], [i + up] * 2, color=colour, linewidth=1, solid_capstyle="butt")
        ax.plot(q[[1, 3]], [i + up] * 2, color=colour, linewidth=4.5, solid_capstyle="butt", alpha=0.55)
        ax.plot(q[2], i + up, marker, color=colour, markerfacecolor=face, markersize=5.5)
        ax.plot(gaps.mean(), i + up, "|", color="black", markersize=9, markeredgewidth=1.2)
        if q[-1] > high + pad:
            ax.annotate(f"to {number(q[-1], 1)} →", (1, i + up), xycoords=("axes fraction", "data"), fontsize=7,
                        ha="right", va="bottom", color=QUIET)  # fmt: skip
    ax.set(xlim=(low - pad, high + 2.5 * pad), xlabel="nats per datum")
    grid(ax, zero=True)
    tidy(ax)


def caption(groups: Sequence[Mapping[Any, Any]]) -> str:
    """What :func:`distributions_figure` shows; the groups' rows, of those that it is drawn from."""
    words = "How the gaps are spread over data: a mean far above its median comes from a few data."
    if any((row.get("seeds") or 0) > 1 for row in groups):
        words += " All seeds together, so that each datum is counted once for each seed."
    at_least = (gap.one_sided for row in groups for (_, name), gap in gaps_of(row).items() if name == "approximation")
    if any(at_least):
        words += " ≥: approximation gaps from a lower bound on log p(x) may be larger than they are drawn."
    return words
