"""A run's own figures, drawn from its metrics.csv, per_datum.csv, run.json and pictures.npz."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

from vem.report.figures import densities
from vem.report.figures.curves import elbo_figure
from vem.report.figures.gaps import per_datum_figure
from vem.report.figures.panels import PICTURES, Picture, Pictures
from vem.report.figures.style import new_figure, save, titled
from vem.report.files import read_metrics, read_per_datum, read_pictures
from vem.report.frame import gap_name
from vem.report.runs import read_run
from vem.storage.records import FIGURES

# Figures of several panels: by file, the arrays that they need, and what draws them.
FURTHER = {
    "posteriors": (densities.ARRAYS, densities.posterior_figure),
    "annealing_path": (("path_betas", "path_ess"), densities.path_figure),
}


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
    made = {
        "elbo": elbo_figure(metrics, title) if len(metrics) else None,
        "gaps_per_datum": per_datum_figure(read_per_datum(directory), gap_name(run.evaluation), title),
    }
    for name, picture in PICTURES.items():
        made[name] = _figure(picture, pictures, title) if picture.allowed(pictures) else None
    for name, (needs, draw) in FURTHER.items():
        made[name] = draw(pictures, title) if all(key in pictures and pictures[key].size for key in needs) else None
    drawn = []
    for name, figure in made.items():
        path = directory / FIGURES / f"{name}.png"
        if figure is not None:
            drawn.append(save(figure, path))
        elif name != "elbo":
            path.unlink(missing_ok=True)  # of a result that another one has replaced
    return drawn


def _figure(picture: Picture, pictures: Pictures, of: str) -> Figure:
    """A picture as a figure of its own, whose size fits its cells where it has some."""
    figure = new_figure(6.4, 5.0)
    ax = figure.add_subplot()
    title = picture.draw(ax, pictures, False)
    if ax.yaxis_inverted() and (aspect := ax.get_aspect()) != "auto":
        columns, rows = ax.get_xlim()[1], ax.get_ylim()[0]
        width = float(np.clip(0.75 * columns, 4.0, 8.0))
        figure.set_size_inches(width, np.clip(width / columns * float(aspect) * rows + 0.4, 1.4, 12.0))
    titled(figure, title, of)
    return figure
