"""ELBO curves over training: against epochs, seconds and decoder evaluations, with bands over seeds."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, NullLocator

from vem.report.files import read_metrics
from vem.report.style import (
    COSTS,
    ELBO_LABEL,
    QUIET,
    Look,
    grid,
    label_time,
    legend_below,
    looks,
    new_figure,
    note_cut,
    robust_limits,
    tidy,
    titled,
    wrapped,
)

WIDTH = 10.8  # inches
MOST_TOGETHER = 6  # curves that one pair of axes can hold
MOST_STRATEGIES = 6
MOST_SETTINGS = 8
ALONE = Look((0.1, 0.1, 0.1), "-", "o")
SPLIT_TITLES = {"train": "Training data (running average of the epoch)", "valid": "Held-out data (validation split)"}
BANDS = "± 1 standard error over seeds"


class Curve(NamedTuple):
    """One group's curve, as :func:`seed_average` gives it."""

    name: str
    strategy: str
    rows: pd.DataFrame


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
    together = together.reindex(columns=["split", "epoch", "elbo", *list(COSTS)[1:]])
    mean = together.groupby(["split", "epoch"], as_index=False).agg(
        seconds=("seconds", "mean"),
        decoder_evaluations=("decoder_evaluations", "mean"),
        counted=("decoder_evaluations", "count"),
        elbo=("elbo", "mean"),
        se=("elbo", "sem"),
        seeds=("elbo", "size"),
    )
    mean["decoder_evaluations"] = mean["decoder_evaluations"].where(mean.pop("counted") == mean["seeds"])
    return mean[mean["seeds"] == sum(len(run) > 0 for run in runs)]


def comparison_figure(curves: Sequence[Curve], table: str) -> Figure:
    """A few groups on common axes: a row for each split, a column for each cost; bands ± 1 standard error."""
    splits = [s for s in SPLIT_TITLES if any((curve.rows["split"] == s).any() for curve in curves)]
    figure, axes = _axes(curves, len(splits), 2.9 * len(splits) + 1.0)
    for row, split in zip(axes, splits, strict=True):
        _row(row, curves, looks(len(curves)), [], split)
        row[0].set_title(SPLIT_TITLES[split], fontsize=10, loc="left")
    _finish(figure, axes, curves, splits)
    _legend(figure, axes, [curve.name for curve in curves])
    titled(figure, f"ELBO while training; larger is better{_bands(curves)}", table)
    return figure


def strategies_figure(
    curves: Sequence[Curve], rows: Sequence[str], coloured: Sequence[str], split: str, table: str
) -> Figure:
    """Many groups on one split: a row for each strategy, its curves in colour before all the others in grey.

    rows: the strategies that have one. coloured: the settings, as :func:`beyond` gives them, that have a look, the
    same one in each row. A strategy's only curve without settings is black.
    """
    curves = [curve for curve in curves if (curve.rows["split"] == split).any()]
    strategies = [name for name in dict.fromkeys(curve.strategy for curve in curves) if name in rows]
    styles = {"": ALONE, **dict(zip(coloured, looks(len(coloured)), strict=True))}
    figure, axes = _axes(curves, len(strategies), 2.2 * len(strategies) + 1.1)
    for row, strategy in zip(axes, strategies, strict=True):
        settings = {c.name: beyond(c.name, strategy) for c in curves if c.strategy == strategy}
        shown = [curve for curve in curves if settings.get(curve.name) in styles]
        named = [curve._replace(name=settings[curve.name]) for curve in shown]
        others = [curve for curve in curves if settings.get(curve.name) not in styles]
        _row(row, named, [styles[curve.name] for curve in named], others, split)
        row[0].set_title(wrapped(strategy, 40, 1), fontsize=10, loc="left", weight="bold")
    _finish(figure, axes, curves, [split])
    _legend(figure, axes, list(coloured))
    title = SPLIT_TITLES[split][0].lower() + SPLIT_TITLES[split][1:]
    titled(figure, f"ELBO while training, {title}; larger is better{_bands(curves)}", table)
    return figure


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


def _axes(curves: Sequence[Curve], rows: int, height: float) -> tuple[Figure, list[list[Axes]]]:
    costs = _costs(curves)
    figure = new_figure(WIDTH, height)
    axes = figure.subplots(rows, len(costs), sharey=True, sharex="col", squeeze=False)
    return figure, [list(row) for row in axes]


def _costs(curves: Sequence[Curve]) -> list[str]:
    """The costs that some curve has; decoder evaluations not where every one is without."""
    return [cost for cost in COSTS if cost != "decoder_evaluations" or any(_counted(curve.rows) for curve in curves)]


def _counted(rows: pd.DataFrame) -> bool:
    counts = rows["decoder_evaluations"]
    return bool(len(rows)) and bool(counts.notna().all() and counts.max() > 0)


def _row(
    axes: Sequence[Axes], coloured: Sequence[Curve], styles: Sequence[Look], behind: Sequence[Curve], split: str
) -> None:
    for ax, cost in zip(axes, _costs([*coloured, *behind]), strict=True):
        others = [_of(curve, split, cost)[[cost, "elbo"]].to_numpy(float) for curve in behind]
        if others:
            ax.add_collection(LineCollection([o for o in others if len(o)], colors="0.78", linewidths=0.9, zorder=1))
        for curve, look in zip(coloured, styles, strict=True):
            _curve(ax, _of(curve, split, cost), cost, _label(curve.name), look)
        if not ax.lines:
            ax.text(0.5, 0.04, "not counted here", transform=ax.transAxes, ha="center", fontsize=8, color=QUIET)
        ax.autoscale_view()
        grid(ax)
        tidy(ax)


def _of(curve: Curve, split: str, cost: str) -> pd.DataFrame:
    if cost == "decoder_evaluations" and not _counted(curve.rows):
        return curve.rows[:0]
    return curve.rows[curve.rows["split"] == split]


def _curve(ax: Axes, rows: pd.DataFrame, cost: str, name: str, look: Look) -> None:
    if not len(rows):
        return
    ax.plot(
        rows[cost],
        rows["elbo"],
        color=look.colour,
        linestyle=look.dash,
        linewidth=1.7,
        label=name,
        marker=look.marker,
        markersize=5,
        markevery=[len(rows) - 1],
    )
    if rows["seeds"].iloc[0] > 1:
        band = rows["elbo"] - rows["se"], rows["elbo"] + rows["se"]
        ax.fill_between(rows[cost], *band, color=look.colour, alpha=0.2, linewidth=0)


def _legend(figure: Figure, axes: Sequence[Sequence[Axes]], names: Sequence[str]) -> None:
    """Each of these names once, in their order, below the panels: a curve may be absent from some of them."""
    found: dict[str, Any] = {}
    for ax in (ax for row in axes for ax in row):
        found |= dict(zip(*reversed(ax.get_legend_handles_labels()), strict=True))
    labels = [label for label in map(_label, names) if label in found]
    if labels:
        legend_below(figure, [found[label] for label in labels], labels)


def _label(name: str) -> str:
    return wrapped(name, 32)


def _finish(figure: Figure, axes: Sequence[Sequence[Axes]], curves: Sequence[Curve], splits: Sequence[str]) -> None:
    """Common limits, and the names of the axes."""
    values = [c.rows.loc[c.rows["split"] == s, "elbo"].to_numpy(float) for c in curves for s in splits]
    low, high, cut = robust_limits([v for v in values if v.size])
    for row in axes:
        row[0].set(ylim=(low, high), ylabel=ELBO_LABEL)
        note_cut(row[0], cut)
    for ax, cost in zip(axes[-1], _costs(curves), strict=True):
        label_time(ax, cost)
        if cost != "epoch":
            ax.xaxis.set_major_locator(MaxNLocator(5))
            _spread(ax, [c.rows for c in curves if cost == "seconds" or _counted(c.rows)], cost)


def _spread(ax: Axes, curves: Sequence[pd.DataFrame], cost: str) -> None:
    """Make a cost logarithmic where one curve ends long before another."""
    ends = [float(rows[cost].max()) for rows in curves]
    if min(ends) > 0 and max(ends) >= 8 * min(ends):
        number = ax.xaxis.get_major_formatter() if cost == "decoder_evaluations" else (lambda value, _: f"{value:g}")
        ax.set_xscale("log")
        ax.xaxis.set_major_formatter(number)
        ax.xaxis.set_minor_locator(NullLocator())
        ax.set_xlabel(f"{ax.get_xlabel()}, log scale")


def _bands(curves: Sequence[Curve]) -> str:
    return f"; bands {BANDS}" if any((curve.rows["seeds"] > 1).any() for curve in curves) else ""


def uncounted(curves: Sequence[Curve]) -> list[str]:
    """The groups that make no decoder evaluations, or did not count them, beside some that did."""
    found = [curve.name for curve in curves if not _counted(curve.rows)]
    return found if len(found) < len(curves) else []
