"""One picture on one pair of axes: events as cells of a grid or points of a plane, and data in the latent plane."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection
from matplotlib.patheffects import withStroke
from matplotlib.ticker import MaxNLocator

from vem.report.figures.style import COLOURS, MARKERS, QUIET, say, tidy

Limits = tuple[float, float]
MOST_CLASSES = len(COLOURS)  # more than this cannot be told apart by colour
DOTS: dict[str, Any] = {"color": COLOURS[0], "linewidths": 0}


def is_image(event: Sequence[int]) -> bool:
    """Whether an event of this shape is drawn as an image: two axes, each longer than one."""
    return len(event) == 2 and min(event) > 1


def is_point(event: Sequence[int]) -> bool:
    """Whether an event of this shape is drawn as a point of a plane: two numbers."""
    return tuple(event) == (2,)


def value_limits(*arrays: np.ndarray) -> Limits:
    """The range that all the arrays are drawn in: [0, 1] where they lie in it, else from least to greatest.

    >>> value_limits(np.array([0.2, 0.9])), value_limits(np.array([-1.0, 3.0]))
    ((0.0, 1.0), (-1.0, 3.0))
    """
    finite = [a[np.isfinite(a)] for a in arrays]
    low = min((float(a.min()) for a in finite if a.size), default=0.0)
    high = max((float(a.max()) for a in finite if a.size), default=1.0)
    if low >= 0.0 and high <= 1.0:
        return 0.0, 1.0
    return (low, high) if high > low else (low - 0.5, high + 0.5)


# --- cells


def cells(
    ax: Axes,
    items: np.ndarray,
    num_columns: int,
    limits: Limits | None = None,
    captions: Sequence[str] = (),
    spaced: bool = True,
) -> None:
    """Draw events [n, *X] in rows of ``num_columns``: cell (r, c) is [c, c+1] × [r, r+1], r downwards.

    An image is drawn in grey (white is the upper limit), any other event as a profile of its values.
    Captions stand above their cells; images that are not ``spaced`` stand on one dark sheet.
    """
    limits = limits or value_limits(items)
    num_rows = -(-len(items) // num_columns)
    header = 0.24 if captions else 0.0  # the share of a cell's height kept free for its caption
    if is_image(items.shape[1:]):
        _image_cells(ax, items, num_rows, num_columns, limits, header, spaced)
    else:
        _profile_cells(ax, items.reshape(len(items), -1), num_columns, limits, header)
    for i, caption in enumerate(captions):
        row, column = divmod(i, num_columns)
        ax.text(column + 0.5, row + header - 0.02, caption, ha="center", va="bottom", fontsize=6.5, color=QUIET)
    ax.set(xlim=(0, num_columns), ylim=(num_rows, 0), xticks=[], yticks=[])
    ax.spines[:].set_visible(False)


def _image_cells(
    ax: Axes, items: np.ndarray, rows: int, columns: int, limits: Limits, header: float, spaced: bool
) -> None:
    height, width = items.shape[1:]
    gap = max(1, round(0.05 * max(height, width))) if spaced else 1
    top = round(header * (height + gap) / (1 - header))
    tile = np.full((rows, columns, top + height + gap, width + gap), np.nan if spaced else limits[0])
    for i, image in enumerate(items):
        tile[i // columns, i % columns, top : top + height, :width] = image
    sheet = tile.transpose(0, 2, 1, 3).reshape(rows * tile.shape[2], columns * tile.shape[3])
    grey = matplotlib.colormaps["gray"].with_extremes(bad="white")
    ax.imshow(sheet, cmap=grey, vmin=limits[0], vmax=limits[1], extent=(0, columns, rows, 0),
              aspect=tile.shape[2] / tile.shape[3])  # fmt: skip


def _profile_cells(ax: Axes, items: np.ndarray, columns: int, limits: Limits, header: float) -> None:
    size = items.shape[1]
    low, high = limits
    across = np.linspace(0.08, 0.92, size) if size > 1 else np.array([0.5])
    lines, baselines = [], []
    for i, values in enumerate(items):
        row, column = divmod(i, columns)
        up = (values - low) / (high - low)  # 0 at the lower limit, 1 at the upper
        lines.append(np.column_stack([column + across, row + 0.92 - (0.86 - header) * up]))
        baselines.append([(column + 0.05, row + 0.95), (column + 0.95, row + 0.95)])
    ax.add_collection(LineCollection(baselines, colors="0.8", linewidths=0.6))
    ax.add_collection(LineCollection(lines, colors="0.15", linewidths=1.0))
    if size <= 20:  # few enough values to show where each stands
        places = np.concatenate(lines)
        ax.scatter(places[:, 0], places[:, 1], s=5, color="0.15", linewidths=0, zorder=3)


# --- what the model makes


def decoded_grid(ax: Axes, grid: np.ndarray, axis: np.ndarray) -> None:
    """E[x | z] over the latent plane: ``grid[r, c]`` decodes z = (axis[c], axis[g − 1 − r]).

    z₁ runs to the right and z₂ upwards: row 0 is the top. Events of two numbers are the image of the latent grid:
    lines of constant z₁ and of constant z₂.
    """
    if is_point(grid.shape[2:]):
        span = f"runs from {axis[0]:.1f} to {axis[-1]:.1f}"
        for name, lines, dash, colour in (("$z_1$", grid, "-", 0), ("$z_2$", grid.swapaxes(0, 1), "--", 1)):
            ax.add_collection(LineCollection(list(lines), colors=[COLOURS[colour]], linewidths=1.1, linestyles=dash,
                                             label=f"{name} {span}"))  # fmt: skip
        ax.legend(fontsize=8, frameon=False, loc="upper right")
        return _plane_of_x(ax)
    size = len(axis)
    cells(ax, grid.reshape(size * size, *grid.shape[2:]), size, spaced=False)
    values = MaxNLocator(5).tick_values(axis[0], axis[-1])
    values = values[(values >= axis[0]) & (values <= axis[-1])]
    places = np.interp(values, axis, np.arange(size) + 0.5)
    names = [f"{value:g}" for value in values]
    ax.set_xticks(places, names)
    ax.set_yticks(size - places, names)
    ax.set(xlabel="$z_1$", ylabel="$z_2$")
    return tidy(ax)


def samples(ax: Axes, x: np.ndarray, num_columns: int = 10) -> None:
    """E[x | z] or draws of x [n, *X] for z from the prior."""
    if is_point(x.shape[1:]):
        ax.scatter(x[:, 0], x[:, 1], s=12, alpha=0.75, **DOTS)
        return _plane_of_x(ax)
    return cells(ax, x, min(num_columns, len(x)))


def reconstructions(ax: Axes, x: np.ndarray, reconstructed: np.ndarray, num_columns: int = 10) -> None:
    """Data [n, *X] above their reconstructions [n, *X], in as many pairs of rows as it takes.

    Those of two numbers are open points, tied by lines to their reconstructions, which are filled.
    """
    if is_point(x.shape[1:]):
        ax.add_collection(LineCollection(list(np.stack([x, reconstructed], axis=1)), colors="0.6", linewidths=0.8))
        ax.scatter(
            x[:, 0], x[:, 1], s=26, facecolors="white", edgecolors="black", linewidths=0.9, label="data", zorder=3
        )
        ax.scatter(reconstructed[:, 0], reconstructed[:, 1], s=16, label="reconstruction", zorder=4, **DOTS)
        ax.legend(fontsize=8, frameon=False, loc="upper left", bbox_to_anchor=(1.0, 1.0), handletextpad=0.2)
        return _plane_of_x(ax)
    num_columns = min(num_columns, len(x))
    num_pairs = len(x) // num_columns  # whole rows only
    n = num_pairs * num_columns
    rows = np.stack([a[:n].reshape(num_pairs, num_columns, *a.shape[1:]) for a in (x, reconstructed)], axis=1)
    cells(ax, rows.reshape(2 * n, *x.shape[1:]), num_columns, value_limits(x, reconstructed))
    ax.set_yticks(np.arange(2 * num_pairs) + 0.5, ["data", "rec."] * num_pairs, fontsize=8)
    return ax.tick_params(length=0)


def components(ax: Axes, means: np.ndarray, weights: np.ndarray, num_columns: int = 10, most: int = 100) -> int:
    """Component means [K, *X] with their weights [K], heaviest first; returns how many are drawn.

    Means of two numbers are discs that grow with their weights.
    """
    order = np.argsort(-weights, kind="stable")[:most]
    means, weights = means[order], weights[order]
    if is_point(means.shape[1:]):
        ax.scatter(means[:, 0], means[:, 1], s=20 + 900 * weights, alpha=0.35, **DOTS)
        ax.scatter(means[:, 0], means[:, 1], s=5, color="black", linewidths=0)
        for mean, weight in zip(means, weights, strict=True) if len(means) <= 12 else ():
            ax.annotate(f"{weight:.1%}", mean, (4, 3), textcoords="offset points", fontsize=7, color=QUIET)
        _plane_of_x(ax)
    else:
        cells(ax, means, min(num_columns, len(order)), captions=[f"{weight:.1%}" for weight in weights])
    return len(order)


def _plane_of_x(ax: Axes) -> None:
    ax.autoscale_view()
    ax.set(xlabel="$x_1$", ylabel="$x_2$")
    ax.set_aspect("equal", adjustable="datalim")
    tidy(ax)


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
    total = float((scales**2).sum())
    share = scales[:2] ** 2 / total if total > 0 else np.zeros(2)
    return centred @ axes[:2].T, share


def latent_plane(ax: Axes, means: np.ndarray, labels: np.ndarray | None, legend: bool = True) -> None:
    """Posterior means [n, H] by class: as they are for H = 2, in their principal plane for H > 2.

    Without labels [n] the points have one colour and the picture says so. The names of the axes are short without a
    ``legend``, where there is less room.
    """
    means = np.asarray(means, dtype=float).reshape(len(means), -1)
    plane, names = means, ["$z_1$", "$z_2$"]
    if means.shape[1] > 2:
        plane, share = principal_plane(means)
        name, of = (
            ("principal axis {} of the means", "{:.0%} of their variance")
            if legend
            else ("principal axis {}", "{:.0%}")
        )
        names = [f"{name.format(i + 1)} ({of.format(share[i])})" for i in range(2)]
    elif means.shape[1] == 1:  # one latent dimension: spread the data upwards so that they do not hide each other
        plane, names = np.column_stack([means[:, 0], np.arange(len(means))]), ["$z_1$", "row"]
    classes = np.unique(labels) if labels is not None else np.array([])
    style: dict[str, Any] = {"s": float(np.clip(9000 / len(plane), 3.5, 22)), "linewidths": 0, "alpha": 0.75,
                             "rasterized": True}  # fmt: skip
    if labels is None:
        ax.scatter(plane[:, 0], plane[:, 1], color=COLOURS[0], **style)
        names[0] += "\nthese data have no labels: one colour"
    elif len(classes) > MOST_CLASSES:
        coloured = ax.scatter(plane[:, 0], plane[:, 1], c=np.searchsorted(classes, labels), cmap="viridis", **style)
        ax.figure.colorbar(coloured, ax=ax, shrink=0.8, ticks=[]).set_label(f"class (1 of {len(classes)})", fontsize=8)
    else:
        _scatter_by_class(ax, plane, labels, classes, style, legend)
    ax.set(xlabel=names[0], ylabel=names[1])
    if means.shape[1] >= 2:
        ax.set_aspect("equal", adjustable="datalim")
    tidy(ax)


def _scatter_by_class(
    ax: Axes, plane: np.ndarray, labels: np.ndarray, classes: np.ndarray, style: dict[str, Any], legend: bool
) -> None:
    clouds = [plane[labels == name] for name in classes]
    for i, (name, cloud) in enumerate(zip(classes, clouds, strict=True)):
        ax.scatter(cloud[:, 0], cloud[:, 1], color=COLOURS[i], marker=MARKERS[i], label=f"{name}", **style)
    # The name on the cloud serves readers who cannot tell the colours apart.
    halo = [withStroke(linewidth=2.5, foreground="white")]
    places = spread(np.stack([np.median(cloud, axis=0) for cloud in clouds]), 0.055 * np.ptp(plane, axis=0).max())
    for name, (x, y) in zip(classes, places.tolist(), strict=True):
        ax.text(x, y, f"{name}", fontsize=11 if legend else 9, weight="bold", ha="center", va="center", color="black",
                path_effects=halo, zorder=4)  # fmt: skip
    if legend:
        ax.legend(title="class", fontsize=8, title_fontsize=8, frameon=False, markerscale=1.6, loc="center left",
                  bbox_to_anchor=(1.0, 0.5), handletextpad=0.2)  # fmt: skip


def spread(places: np.ndarray, distance: float, rounds: int = 200) -> np.ndarray:
    """Push points [n, 2] apart until each pair is about ``distance`` apart, moving them little.

    >>> apart = spread(np.array([[0.0, 0.0], [0.0, 0.0], [9.0, 9.0]]), 1.0)
    >>> bool(np.linalg.norm(apart[0] - apart[1]) > 0.95), apart[2].tolist()
    (True, [9.0, 9.0])
    """
    crowded = (np.linalg.norm(places[:, None] - places[None], axis=-1) < distance).sum(axis=1, keepdims=True) > 1
    angles = np.arange(len(places)) * 2.4  # coinciding points part in directions that are all different
    places = places + 1e-3 * distance * np.column_stack([np.cos(angles), np.sin(angles)]) * crowded
    for _ in range(rounds):
        away = places[:, None] - places[None]
        lengths = np.linalg.norm(away, axis=-1, keepdims=True)
        push = np.where((lengths > 0) & (lengths < distance), away / np.maximum(lengths, 1e-12), 0.0)
        if not push.any():
            break
        places = places + 0.1 * (push * (distance - lengths)).sum(axis=1)
    return places


def classes_of_components(
    ax: Axes, probabilities: np.ndarray, labels: np.ndarray, weights: np.ndarray, legend: bool = True
) -> None:
    """Which classes each component holds: share of a component's data [n, K] that is of each class [n].

    Components stand by weight [K], heaviest first; a column adds up to one.
    """
    order = np.argsort(-weights, kind="stable")
    classes = np.unique(labels)
    held = np.stack([probabilities[labels == name].sum(axis=0) for name in classes])[:, order]
    share = held / np.maximum(held.sum(axis=0), 1e-12)
    picture = ax.imshow(share, cmap="Blues", vmin=0, vmax=1, aspect="auto", interpolation="nearest")
    if len(classes) <= 30:  # more names would overlap
        ax.set_yticks(range(len(classes)), [f"{name}" for name in classes])
    ax.set_xticks([])
    ax.set(xlabel=f"{len(order)} components, heaviest first", ylabel="class")
    if legend:
        ax.figure.colorbar(picture, ax=ax, shrink=0.8, format="{x:.0%}").ax.tick_params(labelsize=7.5)
    else:
        ax.text(1, 1.02, "share of each class: white 0, blue 100%", transform=ax.transAxes, fontsize=8, ha="right")
    tidy(ax)


# --- one seed in three panels, for many strategies below each other


def latent_cell(ax: Axes, pictures: dict[str, np.ndarray]) -> None:
    """Where the data lie in z, as far as a run's pictures show it: plane, classes of components, or weights alone."""
    means, labels, weights = (pictures.get(name) for name in ("latent_means", "labels", "component_weights"))
    if weights is None and means is not None:
        latent_plane(ax, means, labels, legend=False)
    elif weights is not None and means is not None and labels is not None:
        classes_of_components(ax, means, labels, weights, legend=False)
    elif weights is not None:
        num = len(weights)
        ax.bar(np.arange(1, num + 1), np.sort(weights)[::-1], color=COLOURS[0], width=0.8)
        ax.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
        ax.set(xlim=(0.4, num + 0.6), xlabel=f"component (of {num}, heaviest first)", ylabel="weight")
        tidy(ax)
    else:
        say(ax, "no picture of z")


def model_cell(ax: Axes, pictures: dict[str, np.ndarray]) -> None:
    """What the model makes: the decoded latent plane, the components, or draws."""
    title = ""
    if "decoded_grid" in pictures and "grid_axis" in pictures:
        size = len(pictures["grid_axis"])
        stride = -(-size // 10)  # at most ten a side can be read at this size
        few = np.arange((size - 1) % stride // 2, size, stride)
        rows = size - 1 - few[::-1]  # row 0 is the top
        decoded_grid(ax, pictures["decoded_grid"][np.ix_(rows, few)], pictures["grid_axis"][few])
        title = "decoded latent plane"
    elif "component_means" in pictures and "component_weights" in pictures:
        columns = int(np.ceil(np.sqrt(len(pictures["component_means"]))))  # about a square
        shown = components(ax, pictures["component_means"], pictures["component_weights"], columns)
        title = f"means and weights of {shown} components"
    elif "samples" in pictures:
        columns = min(8, int(np.sqrt(len(pictures["samples"]))))
        samples(ax, pictures["samples"][: columns**2], columns)
        title = "draws from the model"
    else:
        say(ax, "no picture of the model")
    ax.set_title(title, fontsize=9, loc="left")


def reconstruction_cell(ax: Axes, pictures: dict[str, np.ndarray]) -> None:
    """Data and their reconstructions."""
    if "chosen_x" in pictures and "reconstructions" in pictures:
        x, again = pictures["chosen_x"][:16], pictures["reconstructions"][:16]
        reconstructions(ax, x, again, -(-len(x) // 2))
        ax.set_title("data and their reconstructions", fontsize=9, loc="left")
    else:
        say(ax, "no reconstructions")
