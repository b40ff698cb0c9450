"""ELBO curves over training: against epochs, seconds and decoder evaluations, with bands over seeds."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection
from matplotlib.figure import Figure
from matplotlib.ticker import EngFormatter, MaxNLocator, NullLocator, StrMethodFormatter

from vem.report.figures import style
from vem.report.files import read_metrics
from vem.report.words import NATS

WIDTH = 10.8  # inches
MOST_TOGETHER = 6  # curves that one pair of axes can hold
MOST_STRATEGIES = 6
MOST_SETTINGS = 8
ALONE = style.Look((0.1, 0.1, 0.1), "-", "o")
SPLIT_TITLES = {"train": "Training data (running average of the epoch)", "valid": "Held-out data (validation split)"}
BANDS = "± 1 standard error over seeds"
COUNTED = "decoder_evaluations"
COSTS = {"epoch": "epoch", "seconds": "training time (seconds)", COUNTED: "decoder evaluations"}
MUCH = 8  # where a curve ends at so many times the cost of another one, costs are on a logarithmic axis


class Curve(NamedTuple):
    """One group's curve, as :func:`seed_average` gives it."""

    name: str
    strategy: str
    rows: pd.DataFrame

    @property
    def setting(self) -> str:
        """What its label says beyond its strategy."""
        return "" if self.name == self.strategy else self.name.removeprefix(f"{self.strategy}, ")

    def of(self, split: str) -> pd.DataFrame:
        return self.rows[self.rows["split"] == split]


class _Line(NamedTuple):
    """One curve of a panel: epoch, seconds, decoder_evaluations, elbo; with seeds > 1 its se."""

    label: str
    rows: pd.DataFrame
    look: style.Look


class _Row(NamedTuple):
    """One row of panels: its title, its curves, and those behind them in grey."""

    title: str
    lines: Sequence[_Line]
    behind: Sequence[pd.DataFrame] = ()


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
    together = together.reindex(columns=["split", "epoch", "elbo", "seconds", COUNTED])
    mean = together.groupby(["split", "epoch"], as_index=False).agg(
        seconds=("seconds", "mean"), decoder_evaluations=(COUNTED, "mean"),
        elbo=("elbo", "mean"), se=("elbo", "sem"), seeds=("elbo", "size"),
    )  # fmt: skip
    mean = mean[mean["seeds"] == sum(len(run) > 0 for run in runs)]
    return mean if together[COUNTED].notna().all() else mean.assign(**{COUNTED: np.nan})


def elbo_figure(metrics: pd.DataFrame, title: str) -> Figure:
    """ELBO curves of the training and validation data of one run against epochs and against seconds."""
    found = {title: own for s, title in SPLIT_TITLES.items() if len(own := metrics[metrics["split"] == s])}
    looks = style.looks(len(found))
    lines = [_Line(label, own.assign(seeds=1), look) for (label, own), look in zip(found.items(), looks, strict=True)]
    return _figure([_Row("", lines)], 3.0, "", title, costs=("epoch", "seconds"))


def comparison_figure(curves: Sequence[Curve], table: str) -> Figure:
    """A few groups on common axes: a row for each split, a column for each cost; bands ± 1 standard error."""
    pairs = list(zip(curves, style.looks(len(curves)), strict=True))
    rows = [
        _Row(title, [_Line(curve.name, own, look) for curve, look in pairs if len(own := curve.of(split))])
        for split, title in SPLIT_TITLES.items()
    ]
    return _figure([row for row in rows if row.lines], 2.9, "", table)


def strategies_figure(curves: Sequence[Curve], ranked: Sequence[Curve], split: str, table: str) -> Figure:
    """Many groups on one split: a row for each strategy, its curves in colour before all the others in grey.

    Rows, and settings that have a colour, the same one in each row, as :func:`coloured` gives them; a strategy's only
    curve without settings is black.
    """
    strategies, settings = coloured(ranked)
    looks = {"": ALONE, **dict(zip(settings, style.looks(len(settings)), strict=True))}
    found = [(curve.strategy, curve.setting, own) for curve in curves if len(own := curve.of(split))]
    rows = []
    for strategy in (name for name in dict.fromkeys(s for s, *_ in found) if name in strategies):
        lines = [_Line(name, own, looks[name]) for s, name, own in found if s == strategy and name in looks]
        behind = [own for s, name, own in found if s != strategy or name not in looks]
        rows.append(_Row(style.wrapped(strategy, 40, 1), lines, behind))
    title = SPLIT_TITLES[split][0].lower() + SPLIT_TITLES[split][1:]
    return _figure(rows, 2.2, f", {title}", table)


def coloured(ranked: Sequence[Curve]) -> tuple[list[str], list[str]]:
    """The strategies and the settings that :func:`strategies_figure` can tell apart; ranked: the best curve first.

    The strategies of the best curves; of these the best setting of each, then the next best.
    """
    strategies = list(dict.fromkeys(curve.strategy for curve in ranked))[:MOST_STRATEGIES]
    firsts = [next(curve for curve in ranked if curve.strategy == strategy) for strategy in strategies]
    order = [*firsts, *(curve for curve in ranked if curve.strategy in strategies)]
    return strategies, [name for name in dict.fromkeys(curve.setting for curve in order) if name][:MOST_SETTINGS]


def uncounted(curves: Sequence[Curve]) -> list[str]:
    """The groups that make no decoder evaluations, or did not count them, beside some that did."""
    found = [curve.name for curve in curves if not (curve.rows[COUNTED] > 0).any()]
    return found if len(found) < len(curves) else []


def _figure(rows: Sequence[_Row], height: float, title: str, of: str, costs: Sequence[str] = tuple(COSTS)) -> Figure:
    """Rows of panels of that many inches, a panel for each cost that some curve has counted."""
    every = [own for row in rows for own in (*(line.rows for line in row.lines), *row.behind)]
    ends = {cost: [float(own[cost].max()) for own in every if (own[cost] > 0).any()] for cost in costs}
    ends = {cost: own for cost, own in ends.items() if own}
    figure = style.new_figure(WIDTH, height * len(rows) + 1.0)
    axes = figure.subplots(len(rows), len(ends), sharey=True, sharex="col", squeeze=False)
    low, high, cut = style.robust_limits([own["elbo"].to_numpy(float) for own in every])
    for line, row in zip(axes, rows, strict=True):
        for ax, cost in zip(line, ends, strict=True):
            _panel(ax, row, cost)
        line[0].set_title(row.title, fontsize=10, loc="left", weight="bold" if row.behind else None)
        line[0].set(ylim=(low, high), ylabel=f"ELBO ({NATS})")
        if cut:
            text = "the first epochs lie below ↓"
            line[0].text(0.98, 0.02, text, transform=line[0].transAxes, fontsize=7.5, color=style.QUIET, ha="right")
    for ax, cost in zip(axes[-1], ends, strict=True):
        _label_cost(ax, cost, max(ends[cost]) >= MUCH * min(ends[cost]))
    style.legend_below(figure)
    bands = f"; bands {BANDS}" if any((own["seeds"] > 1).any() for own in every) else ""
    style.titled(figure, f"ELBO while training{title}; larger is better{bands}", of)
    return figure


def _panel(ax: Axes, row: _Row, cost: str) -> None:
    others = [own.loc[own[cost] > 0, [cost, "elbo"]].to_numpy(float) for own in row.behind]
    if others := [own for own in others if len(own)]:
        ax.add_collection(LineCollection(others, colors=style.BEHIND, linewidths=0.9, zorder=1))
    for label, rows, look in row.lines:
        own = rows[rows[cost] > 0]
        if len(own):
            label, end = style.wrapped(label), [len(own) - 1]
            ax.plot(own[cost], own["elbo"], linewidth=1.7, label=label, markersize=5, markevery=end, **look.line)
        if (own["seeds"] > 1).any():
            ends = own["elbo"] - own["se"], own["elbo"] + own["se"]
            ax.fill_between(own[cost], *ends, color=look.colour, alpha=0.2, linewidth=0)
    if not ax.lines:
        ax.text(0.5, 0.04, "not counted here", transform=ax.transAxes, ha="center", fontsize=8, color=style.QUIET)
    ax.autoscale_view()
    style.grid(ax)
    style.tidy(ax)


def _label_cost(ax: Axes, cost: str, logarithmic: bool) -> None:
    """Name and few ticks of the axis of a cost; epochs are whole."""
    ax.set_xlabel(COSTS[cost])
    ax.xaxis.set_major_locator(MaxNLocator(5, integer=cost == "epoch"))
    if logarithmic and cost != "epoch":
        ax.set_xscale("log")
        ax.xaxis.set_minor_locator(NullLocator())
        ax.set_xlabel(f"{COSTS[cost]}, log scale")
    ax.xaxis.set_major_formatter(EngFormatter(sep="") if cost == COUNTED else StrMethodFormatter("{x:g}"))
