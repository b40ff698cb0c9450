"""Strategies side by side: a row of pictures for each."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from vem.report import panels
from vem.report.style import new_figure, say, tidy, titled, wrapped

ROW_HEIGHT = 2.7  # inches


def side_by_side_figure(rows: Sequence[tuple[str, dict[str, np.ndarray]]], table: str) -> Figure:
    """A row for each group, of one seed: where the data lie in z, what the model makes, reconstructions."""
    figure = new_figure(11, ROW_HEIGHT * len(rows) + 0.7)
    axes = figure.subplots(len(rows), 3, squeeze=False, width_ratios=(1, 1, 1.5))
    for row, (name, pictures) in zip(axes, rows, strict=True):
        _latent_cell(row[0], pictures)
        _model_cell(row[1], pictures)
        _reconstruction_cell(row[2], pictures)
        row[0].set_title(wrapped(name, 36, 3), fontsize=11 if len(name) <= 36 else 8, loc="left", weight="bold")
    titled(figure, "Side by side, one seed each", table)
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
