"""Strategies side by side: their ELBO curves on common axes, and their pictures in rows."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from vem.records import FIGURES
from vem.report import panels
from vem.report.aggregate import labels
from vem.report.figures import note_cut
from vem.report.gap_figures import gaps_figure
from vem.report.runs import read_metrics, read_pictures
from vem.report.style import (
    ELBO_LABEL,
    Look,
    grid,
    label_time,
    looks,
    new_figure,
    robust_limits,
    save,
    say,
    tidy,
    wrapped,
)

MOST_CURVES = 12
MOST_ROWS = 8
ROW_HEIGHT = 2.7  # inches
SPLIT_TITLES = {"train": "Training data (running average of the epoch)", "valid": "Validation data"}


def draw_comparison(groups: pd.DataFrame, base: Path, out: Path, table: str, alone: bool) -> list[Path]:
    """Draw ``comparison.png``, ``gaps.png`` and ``side_by_side.png`` of groups on the same data into ``out/figures``.

    What the runs do not hold is not drawn.
    ``groups`` as :func:`vem.report.aggregate.aggregate` gives them; their directories start from ``base``.
    Where it is not the only table, its name is added to the files' names.

    Raises:
        VemError: a file of a run is damaged, or a figure cannot be written.
    """
    every = zip(labels(groups), groups["directories"], strict=True)
    named = [(name, [base / d for d in found]) for name, found in every if found]
    suffix = "" if alone else "_" + re.sub(r"[^A-Za-z0-9.]+", "-", table).strip("-")
    drawn = []
    curves = [(name, seed_average(found)) for name, found in named]
    curves = [(name, curve) for name, curve in curves if len(curve)]
    if curves:
        drawn.append(save(comparison_figure(curves, table), out / FIGURES / f"comparison{suffix}.png"))
    gaps = gaps_figure(labels(groups), groups, table)
    if gaps is not None:
        drawn.append(save(gaps, out / FIGURES / f"gaps{suffix}.png"))
    pictured = [(name, pictures) for name, found in named if (pictures := read_pictures(found[0]))]
    if pictured:
        drawn.append(save(side_by_side_figure(pictured, table), out / FIGURES / f"side_by_side{suffix}.png"))
    return drawn


def seed_average(directories: Sequence[Path]) -> pd.DataFrame:
    """ELBO curves averaged over seeds: split, epoch, seconds (mean), elbo (mean), se (over seeds), seeds.

    Only the epochs that every seed has recorded: past the end of the shortest run the mean would be one of
    those that happened to run on.
    """
    runs = [read_metrics(directory) for directory in directories]
    together = pd.concat([run for run in runs if len(run)] or runs[:1])
    mean = together.groupby(["split", "epoch"], as_index=False).agg(
        seconds=("seconds", "mean"), elbo=("elbo", "mean"), se=("elbo", "sem"), seeds=("elbo", "size")
    )
    return mean[mean["seeds"] == sum(len(run) > 0 for run in runs)]


def comparison_figure(curves: Sequence[tuple[str, pd.DataFrame]], table: str) -> Figure:
    """Every group's ELBO on common axes: a row for each split, against epochs and seconds; bands ± 1 se."""
    shown = curves[:MOST_CURVES]
    splits = [s for s in SPLIT_TITLES if any((curve["split"] == s).any() for _, curve in shown)]
    figure = new_figure(9.5, 3.1 * len(splits) + 0.9)
    axes = figure.subplots(len(splits), 2, sharey=True, sharex="col", squeeze=False)
    values = [c.loc[c["split"] == s, "elbo"].to_numpy(float) for _, c in shown for s in splits]
    low, high, cut = robust_limits([v for v in values if v.size])
    styles = looks(len(shown))
    for row, split in zip(axes, splits, strict=True):
        for ax, x in zip(row, ("epoch", "seconds"), strict=True):
            for (name, curve), look in zip(shown, styles, strict=True):
                _curve(ax, curve[curve["split"] == split], x, name, look)
            grid(ax)
            tidy(ax)
        row[0].set(ylim=(low, high), ylabel=ELBO_LABEL)
        row[0].set_title(SPLIT_TITLES[split], fontsize=10, loc="left")
        note_cut(row[0], cut)
    label_time(axes[-1, 0], "epoch")
    label_time(axes[-1, 1], "seconds")
    _spread_axis(axes[-1, 1], [c for _, c in shown])
    handles, names = axes[0, 0].get_legend_handles_labels()
    names = [wrapped(name) for name in names]
    longest = max(len(line) for name in names for line in name.split("\n"))
    figure.legend(
        handles,
        names,
        loc="outside lower center",
        ncols=min(len(names), 4 if longest <= 16 else 3 if longest <= 24 else 2),
        fontsize=9,
        frameon=False,
        handlelength=3.5,
    )
    bands = "; bands ± 1 standard error over seeds" if any((c["seeds"] > 1).any() for _, c in shown) else ""
    more = f"; the first {len(shown)} of {len(curves)}" if len(curves) > len(shown) else ""
    figure.suptitle(f"ELBO while training: {table}\nlarger is better{bands}{more}", fontsize=10.5, x=0.01, ha="left")
    return figure


def _curve(ax: Axes, curve: pd.DataFrame, x: str, name: str, look: Look) -> None:
    if not len(curve):
        return
    ax.plot(
        curve[x],
        curve["elbo"],
        color=look.colour,
        linestyle=look.dash,
        linewidth=1.7,
        label=name,
        marker=look.marker,
        markersize=5,
        markevery=[len(curve) - 1],
    )
    if curve["seeds"].iloc[0] > 1:
        band = curve["elbo"] - curve["se"], curve["elbo"] + curve["se"]
        ax.fill_between(curve[x], *band, color=look.colour, alpha=0.2, linewidth=0)


def _spread_axis(ax: Axes, curves: Sequence[pd.DataFrame]) -> None:
    """Make the seconds logarithmic where one curve ends long before another."""
    ends = [float(curve["seconds"].max()) for curve in curves]
    if min(ends) > 0 and max(ends) >= 8 * min(ends):
        ax.set_xscale("log")
        ax.xaxis.set_major_formatter(lambda value, _: f"{value:g}")
        ax.set_xlabel(f"{ax.get_xlabel()}, log scale")


def side_by_side_figure(rows: Sequence[tuple[str, dict[str, np.ndarray]]], table: str) -> Figure:
    """A row for each group, of one seed: where the data lie in z, what the model makes, reconstructions."""
    shown = rows[:MOST_ROWS]
    figure = new_figure(11, ROW_HEIGHT * len(shown) + 0.7)
    axes = figure.subplots(len(shown), 3, squeeze=False, width_ratios=(1, 1, 1.5))
    for row, (name, pictures) in zip(axes, shown, strict=True):
        _latent_cell(row[0], pictures)
        _model_cell(row[1], pictures)
        _reconstruction_cell(row[2], pictures)
        row[0].set_title(wrapped(name, 36, 3), fontsize=11 if len(name) <= 36 else 8, loc="left", weight="bold")
    more = f"; the first {len(shown)} of {len(rows)}" if len(rows) > len(shown) else ""
    figure.suptitle(f"Side by side: {table} (one seed each{more})", fontsize=10.5, x=0.01, ha="left")
    return figure


def _latent_cell(ax: Axes, pictures: dict[str, np.ndarray]) -> None:
    mixture = "component_weights" in pictures
    if mixture and "latent_means" in pictures and "labels" in pictures:
        panels.classes_of_components(
            ax, pictures["latent_means"], pictures["labels"], pictures["component_weights"], legend=False
        )
        ax.text(1, 1.02, "share of each class: white 0, blue 100%", transform=ax.transAxes, fontsize=8, ha="right")
    elif not mixture and "latent_means" in pictures:
        panels.latent_plane(ax, pictures["latent_means"], pictures.get("labels"), legend=False)
        for axis in (ax.xaxis, ax.yaxis):
            axis.set_label_text(axis.get_label_text().replace(" of the means", "").replace(" of their variance", ""))
    elif mixture:
        weights = np.sort(pictures["component_weights"])[::-1]
        ax.bar(np.arange(1, len(weights) + 1), weights, color=sns.color_palette("colorblind")[0], width=0.8)
        ax.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
        ax.set(
            xlim=(0.4, len(weights) + 0.6),
            xlabel=f"component (of {len(weights)}, heaviest first)",
            ylabel="weight",
        )
        tidy(ax)
    else:
        say(ax, "no picture of z")


def _model_cell(ax: Axes, pictures: dict[str, np.ndarray]) -> None:
    if "decoded_grid" in pictures and "grid_axis" in pictures:
        size = len(pictures["grid_axis"])
        stride = -(-size // 10)  # at most ten a side can be read at this size
        few = np.arange((size - 1) % stride // 2, size, stride)
        rows = size - 1 - few[::-1]  # row 0 is the top
        panels.decoded_grid(ax, pictures["decoded_grid"][np.ix_(rows, few)], pictures["grid_axis"][few])
        ax.set_title("decoded latent plane", fontsize=9, loc="left")
    elif "component_means" in pictures and "component_weights" in pictures:
        means = pictures["component_means"]
        columns = int(np.ceil(np.sqrt(len(means))))  # about a square
        shown = panels.components(ax, means, pictures["component_weights"], columns)
        ax.set_title(f"means and weights of {shown} components", fontsize=9, loc="left")
    elif "samples" in pictures:
        columns = min(8, int(np.sqrt(len(pictures["samples"]))))
        panels.samples(ax, pictures["samples"][: columns**2], columns)
        ax.set_title("draws from the model", fontsize=9, loc="left")
    else:
        say(ax, "no picture of the model")


def _reconstruction_cell(ax: Axes, pictures: dict[str, np.ndarray]) -> None:
    if "chosen_x" in pictures and "reconstructions" in pictures:
        x, again = pictures["chosen_x"][:16], pictures["reconstructions"][:16]
        panels.reconstructions(ax, x, again, -(-len(x) // 2))
        ax.set_title("data and their reconstructions", fontsize=9, loc="left")
    else:
        say(ax, "no reconstructions")
