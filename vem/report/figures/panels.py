"""What a run's pictures.npz shows, each picture on one pair of axes: data, their codes, and what the model makes.

Each draws with less in a ``small`` panel, and returns its title. Events of two numbers are points of a plane.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection
from matplotlib.patheffects import withStroke
from matplotlib.ticker import MaxNLocator

from vem.report.figures.cells import cells, is_point, value_limits
from vem.report.figures.style import COLOURS, MARKERS, QUIET, tidy

Pictures = Mapping[str, np.ndarray]
MOST_CLASSES = len(COLOURS)  # more than this cannot be told apart by colour
MOST_COMPONENTS = 100
DOTS: dict[str, Any] = {"color": COLOURS[0], "linewidths": 0}


def _plane_of_x(ax: Axes) -> None:
    ax.autoscale_view()
    ax.set(xlabel="$x_1$", ylabel="$x_2$")
    ax.set_aspect("equal", adjustable="datalim")
    tidy(ax)


# --- what the model makes


def decoded_grid(ax: Axes, pictures: Pictures, small: bool = False) -> str:
    """E[x | z] over the latent plane: ``decoded_grid[r, c]`` decodes z = (grid_axis[c], grid_axis[g − 1 − r]).

    z₁ runs to the right and z₂ upwards: row 0 is the top. Events of two numbers are the image of the latent grid:
    lines of constant z₁ and of constant z₂.
    """
    grid, axis = pictures["decoded_grid"], pictures["grid_axis"]
    if small:
        stride = -(-len(axis) // 10)  # at most ten a side can be read at this size
        few = np.arange((len(axis) - 1) % stride // 2, len(axis), stride)
        grid, axis = grid[np.ix_(len(axis) - 1 - few[::-1], few)], axis[few]  # row 0 is the top
    if is_point(grid.shape[2:]):
        span = f"runs from {axis[0]:.1f} to {axis[-1]:.1f}"
        for name, lines, dash, colour in (("$z_1$", grid, "-", 0), ("$z_2$", grid.swapaxes(0, 1), "--", 1)):
            ax.add_collection(LineCollection(list(lines), colors=[COLOURS[colour]], linewidths=1.1, linestyles=dash,
                                             label=f"{name} {span}"))  # fmt: skip
        ax.legend(fontsize=8, frameon=False, loc="upper right")
        _plane_of_x(ax)
    else:
        size = len(axis)
        cells(ax, grid.reshape(size * size, *grid.shape[2:]), size, spaced=False)
        values = MaxNLocator(5).tick_values(axis[0], axis[-1])
        values = values[(values >= axis[0]) & (values <= axis[-1])]
        places, names = np.interp(values, axis, np.arange(size) + 0.5), [f"{value:g}" for value in values]
        ax.set_xticks(places, names)
        ax.set_yticks(size - places, names)
        ax.set(xlabel="$z_1$", ylabel="$z_2$")
        tidy(ax)
    return "The decoded latent plane"


def samples(ax: Axes, pictures: Pictures, small: bool = False) -> str:
    """E[x | z] or draws of x, ``samples`` [n, *X], for z from the prior."""
    x = pictures["samples"]
    columns = min(8, int(np.sqrt(len(x)))) if small else min(10, len(x))
    x = x[: columns**2] if small else x
    if is_point(x.shape[1:]):
        ax.scatter(x[:, 0], x[:, 1], s=12, alpha=0.75, **DOTS)
        _plane_of_x(ax)
    else:
        cells(ax, x, columns)
    return "Draws from the model"


def reconstructions(ax: Axes, pictures: Pictures, small: bool = False) -> str:
    """Data ``chosen_x`` [n, *X] above their ``reconstructions``, in as many pairs of rows as it takes.

    Those of two numbers are open points, tied by lines to their reconstructions, which are filled.
    """
    x, again = (pictures[name][: 16 if small else None] for name in ("chosen_x", "reconstructions"))
    if is_point(x.shape[1:]):
        ax.add_collection(LineCollection(list(np.stack([x, again], axis=1)), colors="0.6", linewidths=0.8))
        ax.scatter(
            x[:, 0], x[:, 1], s=26, facecolors="white", edgecolors="black", linewidths=0.9, label="data", zorder=3
        )
        ax.scatter(again[:, 0], again[:, 1], s=16, label="reconstruction", zorder=4, **DOTS)
        ax.legend(fontsize=8, frameon=False, loc="upper left", bbox_to_anchor=(1.0, 1.0), handletextpad=0.2)
        _plane_of_x(ax)
    else:
        columns = -(-len(x) // 2) if small else min(10, len(x))
        pairs = len(x) // columns  # whole rows only
        rows = np.stack([a[: pairs * columns].reshape(pairs, columns, *a.shape[1:]) for a in (x, again)], axis=1)
        cells(ax, rows.reshape(2 * pairs * columns, *x.shape[1:]), columns, value_limits(x, again))
        ax.set_yticks(np.arange(2 * pairs) + 0.5, ["data", "rec."] * pairs, fontsize=8)
        ax.tick_params(length=0)
    return "Data and their reconstructions"


def components(ax: Axes, pictures: Pictures, small: bool = False) -> str:
    """``component_means`` [K, *X] with their ``component_weights`` [K], heaviest first.

    Means of two numbers are discs that grow with their weights.
    """
    order = np.argsort(-pictures["component_weights"], kind="stable")[:MOST_COMPONENTS]
    means, weights = pictures["component_means"][order], pictures["component_weights"][order]
    texts, num = [f"{weight:.1%}" for weight in weights], len(pictures["component_means"])
    if is_point(means.shape[1:]):
        ax.scatter(means[:, 0], means[:, 1], s=20 + 900 * weights, alpha=0.35, **DOTS)
        ax.scatter(means[:, 0], means[:, 1], s=5, color="black", linewidths=0)
        for mean, text in zip(means, texts, strict=True) if len(means) <= 12 else ():
            ax.annotate(text, mean, (4, 3), textcoords="offset points", fontsize=7, color=QUIET)
        _plane_of_x(ax)
    else:
        cells(ax, means, int(np.ceil(np.sqrt(num))) if small else min(10, len(means)), captions=texts)
    return f"Means and weights of {'' if len(means) == num else f'the {len(means)} heaviest of '}{num} components"


# --- where the data lie in z


def principal_plane(means: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The two principal coordinates of points [n, H] → [n, 2], and the share of the variance along each [2].

    The sign of an axis is that of its largest loading, so that the same data give the same picture.
    """
    if len(means) == 1:
        return np.zeros((1, 2)), np.zeros(2)
    centred = means - means.mean(axis=0)
    _, scales, axes = np.linalg.svd(centred, full_matrices=False)
    largest = np.take_along_axis(axes, np.abs(axes).argmax(axis=1, keepdims=True), axis=1)
    axes = axes * np.where(largest < 0, -1.0, 1.0)
    return centred @ axes[:2].T, scales[:2] ** 2 / ((scales**2).sum() or 1.0)


def latent_plane(ax: Axes, pictures: Pictures, small: bool = False) -> str:
    """``latent_means`` [n, H] by class: as they are for H = 2, in their principal plane for H > 2.

    Without ``labels`` [n] the points have one colour and the picture says so.
    """
    means, labels = pictures["latent_means"], pictures.get("labels")
    plane = means = np.asarray(means, dtype=float).reshape(len(means), -1)
    names = ["$z_1$", "$z_2$"]
    if means.shape[1] > 2:
        plane, share = principal_plane(means)
        text = "principal axis {} ({:.0%})" if small else "principal axis {} of the means ({:.0%} of their variance)"
        names = [text.format(i + 1, share[i]) for i in range(2)]
    elif means.shape[1] == 1:  # one latent dimension: spread the data upwards so that they do not hide each other
        plane, names = np.column_stack([means[:, 0], np.arange(len(means))]), ["$z_1$", "row"]
    style: dict[str, Any] = {"s": float(np.clip(9000 / len(plane), 3.5, 22)), "linewidths": 0, "alpha": 0.75,
                             "rasterized": True}  # fmt: skip
    if labels is None:
        names[0] += "\nthese data have no labels: one colour"
        ax.scatter(*plane.T, **DOTS | style)
    elif len(found := np.unique(labels)) > MOST_CLASSES:
        coloured = ax.scatter(plane[:, 0], plane[:, 1], c=np.searchsorted(found, labels), cmap="viridis", **style)
        ax.figure.colorbar(coloured, ax=ax, shrink=0.8, ticks=[]).set_label(f"class (1 of {len(found)})", fontsize=8)
    else:
        clouds = [plane[labels == name] for name in found]
        for cloud, name, colour, marker in zip(clouds, found, COLOURS, MARKERS, strict=False):
            ax.scatter(*cloud.T, color=colour, marker=marker, label=f"{name}", **style)
        # The name on the cloud serves readers who cannot tell the colours apart.
        places = spread(np.stack([np.median(cloud, axis=0) for cloud in clouds]), 0.055 * np.ptp(plane, axis=0).max())
        for name, (x, y) in zip(found, places, strict=True):
            ax.text(x, y, f"{name}", fontsize=9 if small else 11, weight="bold", ha="center", va="center", zorder=4,
                    path_effects=[withStroke(linewidth=2.5, foreground="white")])  # fmt: skip
        if not small:
            ax.legend(title="class", fontsize=8, title_fontsize=8, frameon=False, markerscale=1.6, loc="center left",
                      bbox_to_anchor=(1.0, 0.5), handletextpad=0.2)  # fmt: skip
    ax.set(xlabel=names[0], ylabel=names[1])
    if means.shape[1] >= 2:
        ax.set_aspect("equal", adjustable="datalim")
    tidy(ax)
    return "Posterior means"


def spread(places: np.ndarray, distance: float, rounds: int = 200) -> np.ndarray:
    """Push points [n, 2] apart until each pair is about ``distance`` apart, moving them little.

    >>> apart = spread(np.array([[0.0, 0.0], [0.0, 0.0], [9.0, 9.0]]), 1.0)
    >>> bool(np.linalg.norm(apart[0] - apart[1]) > 0.95), apart[2].round(2).tolist()
    (True, [9.0, 9.0])
    """
    angles = np.arange(len(places)) * 2.4  # coinciding points part in directions that are all different
    places = places + 1e-3 * distance * np.column_stack([np.cos(angles), np.sin(angles)])
    for _ in range(rounds):
        away = places[:, None] - places
        lengths = np.linalg.norm(away, axis=-1, keepdims=True)
        push = np.maximum(distance - lengths, 0.0) / np.maximum(lengths, 1e-12)
        places = places + 0.1 * (push * away).sum(axis=1)
    return places


def classes(ax: Axes, pictures: Pictures, small: bool = False) -> str:
    """Which classes each component holds: share of a component's data that is of each class.

    ``latent_means`` [n, K] are the probabilities of the components, ``labels`` [n]. Components stand by their
    ``component_weights`` [K], heaviest first; a column adds up to one.
    """
    order = np.argsort(-pictures["component_weights"], kind="stable")
    names, of = np.unique(pictures["labels"], return_inverse=True)
    held = np.eye(len(names))[of].T @ pictures["latent_means"][:, order]
    share = held / np.maximum(held.sum(axis=0), 1e-12)
    picture = ax.imshow(share, cmap="Blues", vmin=0, vmax=1, aspect="auto", interpolation="nearest")
    if len(names) <= 30:  # more names would overlap
        ax.set_yticks(range(len(names)), [f"{name}" for name in names])
    ax.set_xticks([])
    ax.set(xlabel=f"{len(order)} components, heaviest first", ylabel="class")
    ax.figure.colorbar(picture, ax=ax, shrink=0.8, format="{x:.0%}").ax.tick_params(labelsize=7.5)
    tidy(ax)
    return "Share of each class in a component"


def weights(ax: Axes, pictures: Pictures, small: bool = False) -> str:
    """``component_weights`` [K], heaviest first."""
    num = len(pictures["component_weights"])
    ax.bar(np.arange(1, num + 1), np.sort(pictures["component_weights"])[::-1], color=COLOURS[0], width=0.8)
    ax.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
    ax.set(xlim=(0.4, num + 0.6), xlabel=f"component (of {num}, heaviest first)", ylabel="weight")
    tidy(ax)
    return "Weights of the components"


class Picture(NamedTuple):
    """One picture: the arrays of pictures.npz that it needs, the one in whose presence another takes its place."""

    draw: Callable[[Axes, Pictures, bool], str]
    needs: tuple[str, ...]
    instead: str = ""

    def allowed(self, pictures: Pictures) -> bool:
        """Whether a run's arrays allow it."""
        return self.instead not in pictures and all(k in pictures and pictures[k].size for k in self.needs)


# Those of a run, by the names of their files.
PICTURES = {
    "latent_plane": Picture(latent_plane, ("latent_means",), instead="component_weights"),  # then z is an index
    "classes": Picture(classes, ("latent_means", "labels", "component_weights")),
    "decoded_grid": Picture(decoded_grid, ("decoded_grid", "grid_axis")),
    "samples": Picture(samples, ("samples",), instead="decoded_grid"),
    "reconstructions": Picture(reconstructions, ("chosen_x", "reconstructions")),
    "components": Picture(components, ("component_means", "component_weights")),
}
# Side by side, the first of each that a run's arrays allow, and what stands where none is.
CELLS: dict[str, tuple[Picture, ...]] = {
    "no picture of z": (PICTURES["latent_plane"], PICTURES["classes"], Picture(weights, ("component_weights",))),
    "no picture of the model": tuple(PICTURES[name] for name in ("decoded_grid", "components", "samples")),
    "no reconstructions": (PICTURES["reconstructions"],),
}
