"""A run's own figures, drawn from its metrics.csv, per_datum.csv, run.json and pictures.npz."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from vem.report.estimates import gap_name
from vem.report.figures import densities, panels
from vem.report.figures.gaps import per_datum_figure
from vem.report.figures.style import grid, label_elbo, label_time, looks, new_figure, save, tidy, titled
from vem.report.runs import read_metrics, read_per_datum, read_pictures, read_run
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
    title += f", seed {run.facts['seed']}" if run.facts.get("seed") is not None else ""
    metrics, pictures = read_metrics(directory), read_pictures(directory)
    instead = {"samples": "decoded_grid", "latent_plane": "component_weights"}  # the latter: z is an index
    made = {
        "elbo": elbo_figure(metrics, title) if len(metrics) else None,
        "gaps_per_datum": per_datum_figure(read_per_datum(directory), gap_name(run.evaluation), title),
    }
    for name, (needed, draw) in PICTURE_FIGURES.items():
        allowed = instead.get(name) not in pictures and all(key in pictures and pictures[key].size for key in needed)
        made[name] = draw(pictures, title) if allowed else None
    drawn = []
    for name, figure in made.items():
        path = directory / FIGURES / f"{name}.png"
        if figure is not None:
            drawn.append(save(figure, path))
        elif name != "elbo":
            path.unlink(missing_ok=True)  # of a result that another one has replaced
    return drawn


def elbo_figure(metrics: pd.DataFrame, title: str) -> Figure:
    """ELBO curves of the training and validation data against epochs and against seconds."""
    figure = new_figure(9, 3.6)
    axes = figure.subplots(1, 2, sharey=True)
    curves = {split: own for split in CURVE_NAMES if len(own := metrics[metrics["split"] == split])}
    for ax, x in zip(axes, ("epoch", "seconds"), strict=True):
        for (split, curve), look in zip(curves.items(), looks(len(curves)), strict=True):
            size = 3 if len(curve) <= 60 else 0
            ax.plot(curve[x], curve["elbo"], label=CURVE_NAMES[split], markersize=size, **look.line)
        label_time(ax, x)
        grid(ax)
        tidy(ax)
    label_elbo(axes[0], [curve["elbo"].to_numpy(dtype=float) for curve in curves.values()])
    axes[1].legend(loc="lower right", fontsize=8.5, frameon=True, edgecolor="none")
    titled(figure, "ELBO while training (larger is better)", title)
    return figure


def _latent_plane(pictures: Pictures, title: str) -> Figure:
    figure = new_figure(6.4, 5.4)
    panels.latent_plane(figure.add_subplot(), pictures["latent_means"], pictures.get("labels"))
    titled(figure, "Posterior means", title)
    return figure


def _classes(pictures: Pictures, title: str) -> Figure:
    figure = new_figure(6.4, 4.2)
    means, labels, weights = (pictures[name] for name in ("latent_means", "labels", "component_weights"))
    panels.classes_of_components(figure.add_subplot(), means, labels, weights)
    titled(figure, "Share of each class in a component", title)
    return figure


def _cell_figure(num_rows: int, num_columns: int, event: tuple[int, ...], header: float = 0.0) -> tuple[Figure, Axes]:
    """A figure whose size fits that many cells of that event (or the plane of events of two numbers)."""
    width, height = 6.4, 5.0
    if not panels.is_point(event):
        shape = event[0] / event[1] if panels.is_image(event) else 0.8
        width = float(np.clip(0.75 * num_columns, 4.0, 8.0))
        height = float(np.clip(width / num_columns * shape * num_rows * (1 + header) + 0.4, 1.4, 12.0))
    figure = new_figure(width, height)
    return figure, figure.add_subplot()


def _decoded_grid(pictures: Pictures, title: str) -> Figure:
    values = pictures["decoded_grid"]
    figure, ax = _cell_figure(len(values), len(values), values.shape[2:])
    panels.decoded_grid(ax, values, pictures["grid_axis"])
    titled(figure, "The decoded latent plane", title)
    return figure


def _samples(pictures: Pictures, title: str) -> Figure:
    values = pictures["samples"]
    columns = min(10, len(values))
    figure, ax = _cell_figure(-(-len(values) // columns), columns, values.shape[1:])
    panels.samples(ax, values, columns)
    titled(figure, "Draws from the model", title)
    return figure


def _reconstructions(pictures: Pictures, title: str) -> Figure:
    x = pictures["chosen_x"]
    columns = min(10, len(x))
    figure, ax = _cell_figure(2 * (len(x) // columns), columns, x.shape[1:])
    panels.reconstructions(ax, x, pictures["reconstructions"], columns)
    titled(figure, "Data and their reconstructions", title)
    return figure


def _components(pictures: Pictures, title: str) -> Figure:
    means, weights = pictures["component_means"], pictures["component_weights"]
    columns = min(10, len(means))
    figure, ax = _cell_figure(-(-min(len(means), 100) // columns), columns, means.shape[1:], header=0.3)
    shown = panels.components(ax, means, weights, columns)
    which = f"{len(means)} components" if shown == len(means) else f"the {shown} heaviest of {len(means)} components"
    titled(figure, f"Means and weights of {which}", title)
    return figure


# By file, the arrays of pictures.npz that it needs, and what draws it.
PICTURE_FIGURES: Mapping[str, tuple[tuple[str, ...], Callable[[Pictures, str], Figure]]] = {
    "latent_plane": (("latent_means",), _latent_plane),
    "classes": (("latent_means", "labels", "component_weights"), _classes),
    "decoded_grid": (("decoded_grid", "grid_axis"), _decoded_grid),
    "samples": (("samples",), _samples),
    "reconstructions": (("chosen_x", "reconstructions"), _reconstructions),
    "components": (("component_means", "component_weights"), _components),
    "posteriors": (densities.ARRAYS, densities.posterior_figure),
    "annealing_path": (("path_betas", "path_ess"), densities.path_figure),
}
