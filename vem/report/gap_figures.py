"""Gaps as pictures: bars with their intervals for each strategy, and the distribution over data for each run."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.markers import CARETRIGHTBASE
from matplotlib.patches import Patch

from vem.report.estimates import GAPS
from vem.report.quantities import present
from vem.report.style import QUIET, grid, legend_below, looks, new_figure, tidy, titled, wrapped
from vem.report.table import number

MOST_BARS = 16  # groups in one figure
ARROW = 8  # points: the size of the arrow in the place of an upper end
SPLIT_TITLES = {"train": "Training data", "valid": "Validation data", "test": "Test data"}
FORMULAS = {
    "approximation": "approximation: log p(x) − L[q*]",
    "amortization": "amortization: L[q*] − L[q], encoder",
    "optimization": "optimization: L[q*] − L[q], stored rows",
    "inference": "inference: log p(x) − L[q]",
}


class BarLook(NamedTuple):
    """Colour and hatch: either tells a gap from its neighbours, also in grey."""

    colour: Any
    hatch: str


def bar_looks() -> dict[str, BarLook]:
    """One look for each gap."""
    blue, orange, green = sns.color_palette("colorblind")[:3]
    styles = (BarLook(blue, ""), BarLook(orange, "///"), BarLook(green, "..."), BarLook("0.8", ""))
    return dict(zip(GAPS, styles, strict=True))


def gaps_figure(names: Sequence[str], groups: pd.DataFrame, table: str) -> Figure | None:
    """Each group's gaps side by side with their 95 % intervals, a panel for each split that has them; None without.

    names: one for each group of :func:`vem.report.aggregate.aggregate`.
    """
    rows = [{str(k): present(v) for k, v in row.items()} for row in groups.to_dict("records")]
    found = [(name, row) for name, row in zip(names, rows, strict=True) if _gaps_of(row)]
    if not found:
        return None
    shown = found[:MOST_BARS]
    kinds = [gap for gap in GAPS if any(gap in _gaps_of(row) for _, row in shown)]
    slots = {gap: min(i, 1) if gap != "inference" else 2 for i, gap in enumerate(GAPS)}  # the middle ones share one
    splits = [split for split in SPLIT_TITLES if any(_gaps_of(row, [split]) for _, row in shown)]
    figure = new_figure(max(9.5, 4.0 * len(splits)), 0.95 + 0.75 * len(shown) + 0.55)
    axes = figure.subplots(1, len(splits), sharex=True, sharey=True, squeeze=False)[0]
    for ax, split in zip(axes, splits, strict=True):
        for place, (_, row) in enumerate(shown):
            for gap in kinds:
                _bar(ax, row, f"{split}_{gap}_gap", place + 0.27 * (slots[gap] - 1), bar_looks()[gap])
        ax.set_title(SPLIT_TITLES[split], fontsize=10, loc="left")
        ax.set_xlabel("nats per datum")
        ax.axvline(0.0, color="0.25", linewidth=0.8)
        grid(ax)
        ax.grid(False, axis="y")
        tidy(ax)
    marks = ["CHECKS FAILED" if row.get("checks_failed") else "" for _, row in shown]
    names = [wrapped(name) for name, _ in shown]
    axes[0].set_yticks(range(len(shown)), [f"{n}\n{m}" if m else n for n, m in zip(names, marks, strict=True)])
    axes[0].set(ylim=(len(shown) - 0.5, -0.5), xlim=_limits([row for _, row in shown], kinds))
    handles = [
        Patch(facecolor=v.colour, hatch=v.hatch, edgecolor="0.25", label=FORMULAS[g])
        for g, v in bar_looks().items()
        if g in kinds
    ]
    legend_below(figure, handles, [str(handle.get_label()) for handle in handles], handle_length=2)
    several = any(row["seeds"] > 1 for _, row in shown)
    over = "over seeds, over data where there is one seed" if several else "over data, paired"
    lower = "; ≥ and arrow: log p(x) is known from below alone" if any(_at_least(row) for _, row in shown) else ""
    more = f"; the first {len(shown)} of {len(found)}" if len(found) > len(shown) else ""
    titled(figure, f"Gaps; smaller is better; lines are 95 % intervals {over}{lower}{more}", table)
    return figure


def _gaps_of(row: Mapping[str, Any], splits: Iterable[str] = tuple(SPLIT_TITLES)) -> list[str]:
    return [g for g in GAPS if any(row.get(f"{split}_{g}_gap_mean") is not None for split in splits)]


def _at_least(row: Mapping[str, Any]) -> bool:
    return any(row.get(f"{split}_{gap}_gap_at_least") for split in SPLIT_TITLES for gap in GAPS)


def _bar(ax: Axes, row: Mapping[str, Any], name: str, place: float, look: BarLook) -> None:
    mean, low, high = (row.get(f"{name}_{part}") for part in ("mean", "ci95_low", "ci95_high"))
    if mean is None:
        return
    ax.barh(place, mean, height=0.25, color=look.colour, hatch=look.hatch, edgecolor="0.25", linewidth=0.6)
    at_least = bool(row.get(f"{name}_at_least"))
    end, beyond = max(mean, mean if high is None else high, 0.0), 4
    if low is not None and (high is not None or at_least):
        ends = [low] if high is None else [low, high]
        ax.plot([low, end if high is None else high], [place] * 2, color="black", linewidth=1.3, solid_capstyle="butt")
        ax.plot(ends, [place] * len(ends), "|", color="black", markersize=5)
    if low is not None and high is None and at_least:  # the truth may lie anywhere to the right
        ax.plot(end, place, marker=CARETRIGHTBASE, color="black", markersize=ARROW, linestyle="")
        beyond += ARROW // 2
    sign = "≥ " if at_least else ""
    ax.annotate(f"{sign}{number(mean)}", (end, place), (beyond, 0), textcoords="offset points", va="center",
                fontsize=7.5)  # fmt: skip


def _limits(rows: Sequence[Mapping[str, Any]], kinds: Sequence[str]) -> tuple[float, float]:
    """Room for bars and their numbers; an interval of two seeds may run out of the picture."""
    names = [f"{split}_{gap}_gap" for split in SPLIT_TITLES for gap in kinds]
    means = [row[f"{n}_mean"] for row in rows for n in names if row.get(f"{n}_mean") is not None]
    ends = [
        row[f"{n}_ci95_{e}"]
        for row in rows
        for n in names
        for e in ("low", "high")
        if row.get(f"{n}_ci95_{e}") is not None
    ]
    size = max(max(map(abs, means)), 1e-6)
    high = max(0.0, min(max([*means, *ends]), 2 * size))
    low = min(0.0, max(min([*means, *ends]), -size))
    high = high if high > low else size  # every gap is exactly 0, and one datum has no interval
    return low - (0.12 * (high - low) if low < 0 else 0.0), high + 0.18 * (high - low)


def per_datum_figure(rows: pd.DataFrame, gap_name: str, title: str) -> Figure | None:
    """The share of data whose gap is below x, for each split; None where no gap was measured.

    rows as in per_datum.csv; ``gap_name`` says what L[q*] − L[q] is called for this strategy.
    """
    if "best_elbo" not in rows:
        return None
    both = {
        "approximation": ("log_marginal_lower", "best_elbo"),
        gap_name: ("best_elbo", "elbo"),
    }
    columns = {name: pair for name, pair in both.items() if set(pair) <= set(rows)}
    splits = [s for s in ("train", "valid", "test") if (rows["split"] == s).any()]
    if not columns or not splits:
        return None
    figure = new_figure(4.75 * len(columns), 3.7)
    axes = figure.subplots(1, len(columns), sharey=True, squeeze=False)[0]
    for ax, (name, (above, below)) in zip(axes, columns.items(), strict=True):
        gaps = {s: _finite(rows.loc[rows["split"] == s, above] - rows.loc[rows["split"] == s, below]) for s in splits}
        _distributions(ax, {s: v for s, v in gaps.items() if v.size})
        at_least = name == "approximation" and "log_marginal_upper" not in rows
        ax.set_xlabel(f"{FORMULAS[name]} (nats)" + ("\nfrom the lower bound on log p(x)" if at_least else ""))
        ax.set_title(f"{name} gap", fontsize=10, loc="left")
    handles, names = max((ax.get_legend_handles_labels() for ax in axes), key=lambda found: len(found[0]))
    figure.legend(handles, names, loc="outside lower center", ncols=3, fontsize=8.5, frameon=False, handlelength=3)
    axes[0].set(ylabel="share of data with a smaller gap", ylim=(0, 1.005))
    figure.suptitle(f"Gaps datum by datum: {title} (markers: means)", fontsize=10.5, x=0.01, ha="left")
    return figure


def _finite(values: pd.Series[Any]) -> np.ndarray:
    array = pd.to_numeric(values, errors="coerce").to_numpy(dtype=float)
    return np.sort(array[np.isfinite(array)])


def _distributions(ax: Axes, gaps: Mapping[str, np.ndarray]) -> None:
    styles = looks(len(gaps))
    for (split, values), look in zip(gaps.items(), styles, strict=True):
        share = np.arange(1, len(values) + 1) / len(values)
        name = f"{split} ({len(values)} data)"
        ax.step(values, share, where="post", color=look.colour, linestyle=look.dash, linewidth=1.6, label=name)
        mean = float(values.mean())
        ax.plot(mean, np.searchsorted(values, mean) / len(values), look.marker, color=look.colour, markersize=6)
    low, high = _view(list(gaps.values()))
    outside = sum(int(((v < low) | (v > high)).sum()) for v in gaps.values())
    ax.set_xlim(low, high)
    if low < 0 < high:
        ax.axvline(0.0, color=QUIET, linewidth=0.8)
    if outside:
        note = f"outside: {outside} of {sum(map(len, gaps.values()))} data"
        ax.set_title(note, fontsize=7.5, color=QUIET, loc="right")
    grid(ax)
    tidy(ax)


def _view(values: Sequence[np.ndarray]) -> tuple[float, float]:
    """Limits that a few far data do not stretch: they reach three interquartile ranges beyond the quartiles."""
    if not values:
        return 0.0, 1.0
    quarters = [np.quantile(v, [0.25, 0.75]) for v in values]
    low = min(max(float(v[0]), q[0] - 3 * (q[1] - q[0])) for v, q in zip(values, quarters, strict=True))
    high = max(min(float(v[-1]), q[1] + 3 * (q[1] - q[0])) for v, q in zip(values, quarters, strict=True))
    pad = 0.03 * (high - low) or 0.05 * max(1e-3, abs(high))
    return float(low - pad), float(high + pad)
