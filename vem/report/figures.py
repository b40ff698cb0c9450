"""A run's own figures, drawn from its metrics.csv, run.json and pictures.npz."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from vem.report import panels, posteriors
from vem.report.estimates import gap_name
from vem.report.files import read_metrics, read_per_datum, read_pictures
from vem.report.gap_figures import per_datum_figure
from vem.report.runs import read_run
from vem.report.style import ELBO_LABEL, grid, label_time, looks, new_figure, note_cut, plain, robust_limits, save, tidy
from vem.storage.records import FIGURES

Pictures = Mapping[str, np.ndarray]
CURVE_NAMES = {"train": "train, running average of the epoch", "valid": "validation"}


def draw_run(directory: Path) -> list[Path]:
    """Draw the figures that a run's files allow into ``directory/figures``; returns their paths.

    ``elbo.png`` needs metrics.csv, ``gaps_per_datum.png`` the best q in per_datum.csv; the others need
    arrays of pictures.npz:

    - ``latent_plane.png``: ``latent_means`` [n, H], ``labels`` [n] (optional)
    - ``decoded_grid.png``: ``decoded_grid`` [g, g, *X], ``grid_axis`` [g]; ``decoded_grid[r, c]`` is E[x | z]
      at z = (grid_axis[c], grid_axis[g − 1 − r]); without it ``samples.png``: ``samples`` [n, *X]
    - ``reconstructions.png``: ``chosen_x``, ``reconstructions`` [n, *X]
    - ``classes.png``: for an index z, whose ``latent_means`` are probabilities [n, K], with ``labels``
    - ``components.png``: ``component_means`` [K, *X], ``component_weights`` [K]
    - ``posteriors.png``: ``posterior_…``, as :mod:`vem.evaluation.pictures` writes them
    - ``annealing_path.png``: ``path_betas``, ``path_ess`` [T] or [T, n]

    Raises:
        VemError: a file is damaged, or the figures cannot be written.
    """
    directory = Path(directory)
    run = read_run(directory)
    title = ", ".join(f"{run.facts[k]}" for k in ("strategy", "model", "data") if run.facts.get(k))
    if run.facts.get("seed") is not None:
        title += f", seed {run.facts['seed']}"
    title = plain(title)
    drawn = []
    metrics = read_metrics(directory)
    if len(metrics):
        drawn.append(save(elbo_figure(metrics, title), directory / FIGURES / "elbo.png"))
    gaps = per_datum_figure(read_per_datum(directory), gap_name(run.evaluation), title)
    if gaps is not None:
        drawn.append(save(gaps, directory / FIGURES / "gaps_per_datum.png"))
    pictures = read_pictures(directory)
    for name, (needed, draw) in PICTURE_FIGURES.items():
        if all(pictures.get(key) is not None and pictures[key].size for key in needed):
            if name == "samples" and "decoded_grid" in pictures:
                continue
            if name == "latent_plane" and "component_weights" in pictures:  # z is an index: it has no plane
                continue
            drawn.append(save(draw(pictures, title), directory / FIGURES / f"{name}.png"))
    for name in ("gaps_per_datum", *PICTURE_FIGURES):
        path = directory / FIGURES / f"{name}.png"
        if path not in drawn:
            path.unlink(missing_ok=True)  # of a result that another one has replaced
    return drawn


def elbo_figure(metrics: pd.DataFrame, title: str) -> Figure:
    """ELBO curves of the training and validation data against epochs and against seconds."""
    figure = new_figure(9, 3.6)
    axes = figure.subplots(1, 2, sharey=True)
    splits = [split for split in CURVE_NAMES if (metrics["split"] == split).any()]
    curves = {split: metrics[metrics["split"] == split] for split in splits}
    low, high, cut = robust_limits([curve["elbo"].to_numpy(dtype=float) for curve in curves.values()])
    for ax, x in zip(axes, ("epoch", "seconds"), strict=True):
        for (split, curve), look in zip(curves.items(), looks(len(curves)), strict=True):
            ax.plot(
                curve[x],
                curve["elbo"],
                color=look.colour,
                linestyle=look.dash,
                label=CURVE_NAMES[split],
                marker=look.marker,
                markersize=3 if len(curve) <= 60 else 0,
            )
        label_time(ax, x)
        grid(ax)
        tidy(ax)
    axes[0].set(ylim=(low, high), ylabel=ELBO_LABEL)
    note_cut(axes[0], cut)
    axes[1].legend(loc="lower right", fontsize=8.5, frameon=True, edgecolor="none")
    figure.suptitle(f"ELBO while training: {title} (larger is better)", fontsize=10.5, x=0.01, ha="left")
    return figure


def latent_plane_figure(pictures: Pictures, title: str) -> Figure:
    """Data in the latent plane, coloured by class."""
    figure = new_figure(6.4, 5.4)
    ax = figure.add_subplot()
    panels.latent_plane(ax, pictures["latent_means"], pictures.get("labels"))
    figure.suptitle(f"Posterior means: {title}", fontsize=10.5, x=0.01, ha="left")
    return figure


def classes_figure(pictures: Pictures, title: str) -> Figure:
    """Which classes each component holds."""
    figure = new_figure(6.4, 4.2)
    ax = figure.add_subplot()
    panels.classes_of_components(ax, pictures["latent_means"], pictures["labels"], pictures["component_weights"])
    figure.suptitle(f"Share of each class in a component: {title}", fontsize=10.5, x=0.01, ha="left")
    return figure


def _cell_figure(num_rows: int, num_columns: int, event: tuple[int, ...], header: float = 0.0) -> tuple[Figure, Axes]:
    """A figure whose size fits that many cells of that event (or the plane of events of two numbers)."""
    if panels.is_point(event):
        figure = new_figure(6.4, 5.0)
        return figure, figure.add_subplot()
    shape = event[0] / event[1] if panels.is_image(event) else 0.8
    width = float(np.clip(0.75 * num_columns, 4.0, 8.0))
    height = width / num_columns * shape * num_rows * (1 + header) + 0.4
    figure = new_figure(width, float(np.clip(height, 1.4, 12.0)))
    return figure, figure.add_subplot()


def decoded_grid_figure(pictures: Pictures, title: str) -> Figure:
    """E[x | z] over the latent plane."""
    values = pictures["decoded_grid"]
    figure, ax = _cell_figure(len(values), len(values), values.shape[2:])
    panels.decoded_grid(ax, values, pictures["grid_axis"])
    figure.suptitle(f"The decoded latent plane: {title}", fontsize=10.5, x=0.01, ha="left")
    return figure


def samples_figure(pictures: Pictures, title: str) -> Figure:
    """Draws from the model."""
    values = pictures["samples"]
    columns = min(10, len(values))
    figure, ax = _cell_figure(-(-len(values) // columns), columns, values.shape[1:])
    panels.samples(ax, values, columns)
    figure.suptitle(f"Draws from the model: {title}", fontsize=10.5, x=0.01, ha="left")
    return figure


def reconstructions_figure(pictures: Pictures, title: str) -> Figure:
    """Data and their reconstructions."""
    x = pictures["chosen_x"]
    columns = min(10, len(x))
    figure, ax = _cell_figure(2 * (len(x) // columns), columns, x.shape[1:])
    panels.reconstructions(ax, x, pictures["reconstructions"], columns)
    figure.suptitle(f"Data and their reconstructions: {title}", fontsize=10.5, x=0.01, ha="left")
    return figure


def components_figure(pictures: Pictures, title: str) -> Figure:
    """Component means, heaviest first."""
    means, weights = pictures["component_means"], pictures["component_weights"]
    columns = min(10, len(means))
    figure, ax = _cell_figure(-(-min(len(means), 100) // columns), columns, means.shape[1:], header=0.3)
    shown = panels.components(ax, means, weights, columns)
    which = f"{len(means)} components" if shown == len(means) else f"the {shown} heaviest of {len(means)} components"
    figure.suptitle(f"Means and weights of {which}: {title}", fontsize=10.5, x=0.01, ha="left")
    return figure


PICTURE_FIGURES: Mapping[str, tuple[tuple[str, ...], Callable[[Pictures, str], Figure]]] = {
    "latent_plane": (("latent_means",), latent_plane_figure),
    "classes": (("latent_means", "labels", "component_weights"), classes_figure),
    "decoded_grid": (("decoded_grid", "grid_axis"), decoded_grid_figure),
    "samples": (("samples",), samples_figure),
    "reconstructions": (("chosen_x", "reconstructions"), reconstructions_figure),
    "components": (("component_means", "component_weights"), components_figure),
    "posteriors": (posteriors.ARRAYS, posteriors.posterior_figure),
    "annealing_path": (("path_betas", "path_ess"), posteriors.path_figure),
}
