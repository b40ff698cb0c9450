"""Gaps as pictures: bars with their intervals for each strategy, and how they are spread over data."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.markers import CARETRIGHTBASE

from vem.report.figures.style import COLOURS, QUIET, grid, legend_below, looks, new_figure, tidy, titled, wrapped
from vem.report.quantities import GAPS, estimate, gaps_of
from vem.report.table import number
from vem.report.words import NATS

MOST_BARS = 16  # groups in one figure
ARROW = 8  # points: the size of the arrow in the place of an upper end
SPLIT_TITLES = {"train": "Training data", "valid": "Validation data", "test": "Test data"}
FORMULAS = {
    "approximation": "approximation: log p(x) − L[q*]",
    "amortization": "amortization: L[q*] − L[q], encoder",
    "optimization": "optimization: L[q*] − L[q], stored λ",
    "inference": "inference: log p(x) − L[q]",
}
# Of each kind: colour, hatch, and its place beside a group; of the middle two one is there.
BARS = dict(zip(GAPS, ((COLOURS[0], "", -0.27), (COLOURS[1], "///", 0.0), (COLOURS[2], "...", 0.0), ("0.8", "", 0.27)),
                strict=True))  # fmt: skip
# Columns of per_datum.csv: the gap of a data point is the first less the second.
APPROXIMATION, MIDDLE = ("log_marginal_lower", "best_elbo"), ("best_elbo", "elbo")
PAIRS = {
    "approximation gap: log p(x) − L[q*]": APPROXIMATION,
    "amortization or optimization gap: L[q*] − L[q]": MIDDLE,
}
STYLES = {"test": "test data", "train": "training data"}
MARKS = {"test data": (COLOURS[0], "o"), "training data": (COLOURS[1], "s")}
APART = 0.34  # what lies between the two of a group
FAR = 4.0  # a line that ends beyond this many times the middle end is cut off, with its number


def measured(row: Mapping[Any, Any]) -> list[dict[str, Any]]:
    """For each gap that a group has measured its split, which gap it is, and the fields of its estimate."""
    return [
        {"split": split, "gap": kind, **estimate(row, split, GAPS[kind])._asdict()}
        for split in SPLIT_TITLES
        for kind in gaps_of(row, split)
    ]


def gaps_figure(names: Sequence[str], groups: Sequence[Mapping[Any, Any]], table: str) -> Figure | None:
    """Each group's gaps side by side with their 95 % intervals, a panel for each split that has them; None without.

    names: one for each group of :func:`vem.report.aggregate.aggregate`.
    """
    every = [(name, row, own) for name, row in zip(names, groups, strict=True) if (own := measured(row))]
    if not every:
        return None
    shown = every[:MOST_BARS]
    gaps = pd.DataFrame([{"place": i, **gap} for i, (*_, own) in enumerate(shown) for gap in own])
    for field in ("mean", "low", "high"):
        gaps[field] = gaps[field].astype(float)
    splits = [split for split in SPLIT_TITLES if (gaps["split"] == split).any()]
    figure = new_figure(max(9.5, 4.0 * len(splits)), 0.95 + 0.75 * len(shown) + 0.55)
    axes = figure.subplots(1, len(splits), sharex=True, sharey=True, squeeze=False)[0]
    for ax, split in zip(axes, splits, strict=True):
        for kind in GAPS:
            _bars(ax, kind, gaps[(gaps["split"] == split) & (gaps["gap"] == kind)])
        ax.set_title(SPLIT_TITLES[split], fontsize=10, loc="left")
        ax.set_xlabel(NATS)
        grid(ax, zero=True)
        tidy(ax)
    labels = [wrapped(name) + ("\nCHECKS FAILED" if row.get("checks_failed") else "") for name, row, _ in shown]
    axes[0].set_yticks(range(len(shown)), labels)
    axes[0].set(ylim=(len(shown) - 0.5, -0.5), xlim=_limits(gaps))
    legend_below(figure, handle_length=2)
    several = any(row["seeds"] > 1 for _, row, _ in shown)
    over = "over seeds, over data where there is one seed" if several else "over data, paired"
    lower = "; ≥ and arrow: log p(x) is known from below alone" if gaps["one_sided"].any() else ""
    more = f"; the first {len(shown)} of {len(every)}" if len(every) > len(shown) else ""
    titled(figure, f"Gaps; smaller is better; lines are 95 % intervals {over}{lower}{more}", table)
    return figure


def _bars(ax: Axes, kind: str, gaps: pd.DataFrame) -> None:
    """The bars of one kind of gap; an arrow where the truth may lie anywhere to the right."""
    colour, hatch, beside = BARS[kind]
    if not len(gaps):
        return
    y, mean, below = gaps["place"] + beside, gaps["mean"], gaps["one_sided"].to_numpy(bool)
    ax.barh(y, mean, height=0.25, color=colour, hatch=hatch, edgecolor="0.25", linewidth=0.6, label=FORMULAS[kind])
    right = gaps[["mean", "high"]].max(axis="columns").clip(lower=0.0)
    ends = gaps["high"].where(~below, right)
    errors = mean - gaps["low"], ends - mean
    ax.errorbar(mean, y, xerr=errors, fmt="none", ecolor="black", elinewidth=1.3, capsize=2.5)
    ax.plot(right[below], y[below], marker=CARETRIGHTBASE, color="black", markersize=ARROW, linestyle="")
    for end, place, value, arrow in zip(right, y, mean, below, strict=True):
        text, beyond = f"{'≥ ' if arrow else ''}{number(value)}", 4 + arrow * ARROW // 2
        ax.annotate(text, (end, place), (beyond, 0), textcoords="offset points", va="center", fontsize=7.5)


def _limits(gaps: pd.DataFrame) -> tuple[float, float]:
    """Room for bars and their numbers; an interval of two seeds may run out of the picture."""
    size, ends = max(gaps["mean"].abs().max(), 1e-6), gaps[["mean", "low", "high"]]
    high, low = max(0.0, min(ends.max(axis=None), 2 * size)), min(0.0, max(ends.min(axis=None), -size))
    high = high if high > low else size  # every gap is exactly 0, and one data point has no interval
    return low - (0.12 * (high - low) if low < 0 else 0.0), high + 0.18 * (high - low)


# --- data point by data point


def gap_of_each(rows: pd.DataFrame, split: str, pair: tuple[str, str]) -> np.ndarray:
    """The gap of each data point of a split in nats, as far as it was measured; rows as in per_datum.csv."""
    if not {"split", *pair} <= set(rows):
        return np.empty(0)
    above, below = (pd.to_numeric(rows.loc[rows["split"] == split, n], errors="coerce").to_numpy(float) for n in pair)
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
    axes[0].set(ylabel="share of data with a smaller gap", ylim=(0, 1.005))
    legend_below(figure)
    titled(figure, "Gaps, data point by data point; markers: means", title)
    return figure


def _shares(ax: Axes, gaps: Mapping[str, np.ndarray]) -> None:
    """Distribution functions; the limits lie three interquartile ranges from the quartiles, if data do."""
    lows, highs = ([], []) if gaps else ([0.0], [1.0])
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
    every = np.concatenate([*gaps.values(), []])
    if outside := int(((every < low) | (every > high)).sum()):
        ax.set_title(f"outside: {outside} of {len(every)} data", fontsize=7.5, color=QUIET, loc="right")
    grid(ax)
    tidy(ax)


def distributions_figure(groups: Sequence[tuple[str, pd.DataFrame]], table: str) -> Figure | None:
    """How each gap is spread over data, a panel for each gap, boxes for each group; None where none was measured.

    groups: names, and their rows of per_datum.csv over all seeds.
    """
    parts = [
        pd.DataFrame({"title": title, "name": name, "split": text, "gap": gap_of_each(rows, split, pair)})
        for name, rows in groups
        for title, pair in PAIRS.items()
        for split, text in STYLES.items()
    ]
    found = pd.concat([part for part in parts if len(part)] or parts[:1])
    names = list(found["name"].unique()[:MOST_BARS])
    if not names:
        return None
    titles = [title for title in PAIRS if (found["title"] == title).any()]
    splits = [split for split in STYLES.values() if (found["split"] == split).any()]
    figure = new_figure(10.5, 1.5 + 0.5 * len(names))
    axes = figure.subplots(1, len(titles), sharey=True, squeeze=False)[0]
    for ax, title in zip(axes, titles, strict=True):
        _boxes(ax, found[(found["title"] == title) & found["name"].isin(names)], names, splits)
        ax.set_title(title, fontsize=9.5, loc="left")
    axes[0].set_yticks(range(len(names)), [wrapped(name, 32, 2) for name in names])
    legend_below(figure, 2)
    titled(figure, "Gaps, data point by data point (smaller is better); median, middle half, 90 %; | mean", table)
    return figure


def _boxes(ax: Axes, gaps: pd.DataFrame, names: Sequence[str], splits: Sequence[str]) -> None:
    """Median, middle half and 90 % of each; one that reaches far beyond the others is cut off, with its end."""
    colours, markers = ([MARKS[split][part] for split in splits] for part in (0, 1))
    look: dict[str, Any] = {
        "y": "name", "x": "gap", "hue": "split", "order": names, "hue_order": splits, "palette": colours,
        "dodge": len(splits) > 1 and APART, "linestyle": "none", "ax": ax,
    }  # fmt: skip
    for share, width in ((90, 1), (50, 4.5)):
        sns.pointplot(gaps, estimator="median", errorbar=("pi", share), err_kws={"linewidth": width},
                      markers=markers, markersize=5.5, legend="full" if share == 50 else False, **look)  # fmt: skip
    black = {**look, "palette": ["black"] * len(splits)}
    sns.pointplot(gaps, estimator="mean", errorbar=None, marker="|", markersize=9, legend=False, **black)
    if legend := ax.get_legend():  # one for all panels stands below them
        legend.remove()
    least, most = (gaps.groupby(["name", "split"])["gap"].quantile(p / 100) for p in (5, 95))
    low, high = min(0.0, least.min()), most.max()
    high = min(high, FAR * most.median()) if most.median() > 0 else high
    pad = 0.04 * (high - low) or 0.05
    ax.set(xlim=(low - pad, high + 2.5 * pad), ylim=(len(names) - 0.5, -0.5), xlabel=NATS, ylabel="")
    for (name, split), end in most[most > high + pad].to_dict().items():
        up = names.index(name) + APART * (splits.index(split) - (len(splits) - 1) / 2)
        ax.annotate(f"to {number(end, 1)} →", (1, up), xycoords=("axes fraction", "data"), fontsize=7,
                    ha="right", va="bottom", color=QUIET)  # fmt: skip
    grid(ax, zero=True)
    tidy(ax)
