"""ELBO curves over training: against epochs, seconds and decoder evaluations, with bands over seeds."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MaxNLocator, NullLocator

from vem.report.figures import style
from vem.report.runs import read_metrics

WIDTH = 10.8  # inches
MOST_TOGETHER = 6  # curves that one pair of axes can hold
MOST_STRATEGIES = 6
MOST_SETTINGS = 8
ALONE = style.Look((0.1, 0.1, 0.1), "-", "o")
SPLIT_TITLES = {"train": "Training data (running average of the epoch)", "valid": "Held-out data (validation split)"}
BANDS = "± 1 standard error over seeds"


class Curve(NamedTuple):
    """One group's curve, as :func:`seed_average` gives it."""

    name: str
    strategy: str
    rows: pd.DataFrame

    @property
    def counted(self) -> bool:
        """Whether each of its seeds counted its decoder evaluations, and made some."""
        counts = self.rows[style.COUNTED]
        return bool(len(counts) and counts.notna().all() and counts.max() > 0)

    def of(self, split: str, cost: str) -> pd.DataFrame:
        """Its rows of a split; none where it did not count this cost."""
        return self.rows[(self.rows["split"] == split) & (cost != style.COUNTED or self.counted)]


class _Row(NamedTuple):
    """One row of panels: its title, its split, curves with their looks, and those behind them in grey."""

    title: str
    split: str
    coloured: Sequence[tuple[Curve, style.Look]]
    behind: Sequence[Curve] = ()


def seed_average(directories: Sequence[Path]) -> pd.DataFrame:
    """ELBO curves averaged over seeds: split, epoch, elbo (mean), se (over seeds), seeds; mean costs.

    The costs are ``seconds`` and ``decoder_evaluations``, empty where a seed did not count them. Only the epochs
    that every seed has recorded: past the end of the shortest run the mean would be one of those that happened to
    run on.

    Raises:
        VemError: a metrics.csv is damaged.
    """
    runs = [read_metrics(directory) for directory in directories]
    together = pd.concat([run for run in runs if len(run)] or runs[:1])
    together = together.reindex(columns=["split", "epoch", "elbo", *list(style.COSTS)[1:]])
    mean = together.groupby(["split", "epoch"], as_index=False).agg(
        seconds=("seconds", "mean"), decoder_evaluations=(style.COUNTED, "mean"), counted=(style.COUNTED, "count"),
        elbo=("elbo", "mean"), se=("elbo", "sem"), seeds=("elbo", "size"),
    )  # fmt: skip
    mean[style.COUNTED] = mean[style.COUNTED].where(mean.pop("counted") == mean["seeds"])
    return mean[mean["seeds"] == sum(len(run) > 0 for run in runs)]


def comparison_figure(curves: Sequence[Curve], table: str) -> Figure:
    """A few groups on common axes: a row for each split, a column for each cost; bands ± 1 standard error."""
    pairs = list(zip(curves, style.looks(len(curves)), strict=True))
    rows = [
        _Row(title, s, pairs) for s, title in SPLIT_TITLES.items() if any((c.rows["split"] == s).any() for c in curves)
    ]
    return _figure(rows, curves, 2.9, [c.name for c in curves], "", table)


def strategies_figure(
    curves: Sequence[Curve], rows: Sequence[str], coloured: Sequence[str], split: str, table: str
) -> Figure:
    """Many groups on one split: a row for each strategy, its curves in colour before all the others in grey.

    rows: the strategies that have one. coloured: the settings, as :func:`beyond` gives them, that have a look, the
    same one in each row. A strategy's only curve without settings is black.
    """
    curves = [curve for curve in curves if (curve.rows["split"] == split).any()]
    styles = {"": ALONE, **dict(zip(coloured, style.looks(len(coloured)), strict=True))}
    found = []
    for strategy in (name for name in dict.fromkeys(curve.strategy for curve in curves) if name in rows):
        own = {c.name: setting for c in curves
               if c.strategy == strategy and (setting := beyond(c.name, strategy)) in styles}  # fmt: skip
        pairs = [(c._replace(name=own[c.name]), styles[own[c.name]]) for c in curves if c.name in own]
        found.append(_Row(style.wrapped(strategy, 40, 1), split, pairs, [c for c in curves if c.name not in own]))
    title = SPLIT_TITLES[split][0].lower() + SPLIT_TITLES[split][1:]
    return _figure(found, curves, 2.2, coloured, f", {title}", table)


def beyond(name: str, strategy: str) -> str:
    """What a group's label says beyond its strategy.

    >>> beyond("local, latent_dim=2", "local"), beyond("local", "local")
    ('latent_dim=2', '')
    """
    return "" if name == strategy else name.removeprefix(f"{strategy}, ")


def strategies_with_rows(ranked: Sequence[Curve]) -> list[str]:
    """The strategies that :func:`strategies_figure` has room for: those of the best curves, which come first."""
    return list(dict.fromkeys(curve.strategy for curve in ranked))[:MOST_STRATEGIES]


def settings_to_colour(ranked: Sequence[Curve]) -> list[str]:
    """The settings that :func:`strategies_figure` can tell apart: the best of each strategy, then the next best.

    ranked: the best curve first.
    """
    firsts: dict[str, str] = {}
    for curve in ranked:
        firsts.setdefault(curve.strategy, beyond(curve.name, curve.strategy))
    order = [*firsts.values(), *(beyond(curve.name, curve.strategy) for curve in ranked)]
    return [setting for setting in dict.fromkeys(order) if setting][:MOST_SETTINGS]


def uncounted(curves: Sequence[Curve]) -> list[str]:
    """The groups that make no decoder evaluations, or did not count them, beside some that did."""
    found = [curve.name for curve in curves if not curve.counted]
    return found if len(found) < len(curves) else []


def _figure(
    rows: Sequence[_Row], curves: Sequence[Curve], height: float, names: Sequence[str], title: str, table: str
) -> Figure:
    """Rows of panels of that many inches; in the legend these names, each of which may be absent from some panels."""
    costs = [cost for cost in style.COSTS if cost != style.COUNTED or any(curve.counted for curve in curves)]
    figure = style.new_figure(WIDTH, height * len(rows) + 1.0)
    axes = figure.subplots(len(rows), len(costs), sharey=True, sharex="col", squeeze=False)
    handles: dict[str, Any] = {}
    for line, row in zip(axes, rows, strict=True):
        for ax, cost in zip(line, costs, strict=True):
            _panel(ax, row, cost)
            handles |= dict(zip(*reversed(ax.get_legend_handles_labels()), strict=True))
        line[0].set_title(row.title, fontsize=10, loc="left", weight="bold" if row.behind else None)
        style.label_elbo(
            line[0], [c.rows.loc[c.rows["split"] == r.split, "elbo"].to_numpy(float) for r in rows for c in curves]
        )
    for ax, cost in zip(axes[-1], costs, strict=True):
        style.label_time(ax, cost)
        if cost != "epoch":
            _scale(ax, [float(c.rows[cost].max()) for c in curves if cost != style.COUNTED or c.counted])
    labels = [label for label in map(style.wrapped, names) if label in handles]
    if labels:
        style.legend_below(figure, [handles[label] for label in labels], labels)
    bands = f"; bands {BANDS}" if any((curve.rows["seeds"] > 1).any() for curve in curves) else ""
    style.titled(figure, f"ELBO while training{title}; larger is better{bands}", table)
    return figure


def _panel(ax: Axes, row: _Row, cost: str) -> None:
    others = [found for curve in row.behind if len(found := curve.of(row.split, cost)[[cost, "elbo"]].to_numpy(float))]
    if others:
        ax.add_collection(LineCollection(others, colors=style.BEHIND, linewidths=0.9, zorder=1))
    for curve, look in row.coloured:
        rows = curve.of(row.split, cost)
        if not len(rows):
            continue
        x, elbo, end = rows[cost], rows["elbo"], [len(rows) - 1]
        ax.plot(x, elbo, linewidth=1.7, label=style.wrapped(curve.name), markersize=5, markevery=end, **look.line)
        if rows["seeds"].iloc[0] > 1:
            ax.fill_between(x, elbo - rows["se"], elbo + rows["se"], color=look.colour, alpha=0.2, linewidth=0)
    if not ax.lines:
        ax.text(0.5, 0.04, "not counted here", transform=ax.transAxes, ha="center", fontsize=8, color=style.QUIET)
    ax.autoscale_view()
    style.grid(ax)
    style.tidy(ax)


def _scale(ax: Axes, ends: Sequence[float]) -> None:
    """Few ticks; a cost is logarithmic where one curve ends long before another."""
    ax.xaxis.set_major_locator(MaxNLocator(5))
    if min(ends) > 0 and max(ends) >= 8 * min(ends):
        number = ax.xaxis.get_major_formatter()
        ax.set_xscale("log")
        plain = FuncFormatter(lambda value, _: f"{value:g}")
        ax.xaxis.set_major_formatter(plain if ax.get_xlabel() == style.COSTS["seconds"] else number)
        ax.xaxis.set_minor_locator(NullLocator())
        ax.set_xlabel(f"{ax.get_xlabel()}, log scale")
