"""The figures of the study."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
from drawing import COSTS, Numbers, band, finish, legend_below, looks, new_figure, over_seeds, save
from tables import ALGORITHMS, Groups, truth

from vem.report.figures.style import robust_limits

LOOKS = dict(zip(ALGORITHMS, looks(len(ALGORITHMS)), strict=True))
BANDS = "bands: one standard error over seeds"
NOTE = f"{BANDS}; CPU time: steps × the measured CPU time of a step"
Costs = Mapping[tuple[str, str], float]  # CPU milliseconds of a step, by part and algorithm
NATS = "training ELBO (nats per datum)"


def curve(groups: Groups, size: int | None, name: str, x: str, costs: Costs) -> tuple[Numbers, Numbers, Numbers]:
    """What was spent, the mean training ELBO and its standard error over seeds."""
    if x != "seconds":
        return over_seeds(groups[size, name], "train", x)
    step, mean, error = over_seeds(groups[size, name], "train", "step")
    return (
        step * costs["tractable" if size is None else "deep", "local" if name == "prior" else name] / 1e3,
        mean,
        error,
    )


def tractable(groups: Groups, costs: Costs, out: Path) -> None:
    """The bound against epochs, seconds and decoder evaluations, under the truth."""
    figure = new_figure(10.2, 3.8)
    axes = figure.subplots(1, 3, sharey=True)
    best = truth(groups)
    for ax, x in zip(axes, COSTS, strict=True):
        for name in ALGORITHMS:
            if (None, name) in groups:
                band(ax, *curve(groups, None, name, x, costs), LOOKS[name], ALGORITHMS[name])
        ax.axhline(best, color="0.2", lw=0.9, ls="--")
        ax.set(xscale="log", ylim=(best - 1.5, best + 0.1))
        finish(ax, "", COSTS[x], NATS if ax is axes[0] else "")
    axes[0].text(0.98, best + 0.02, "largest possible log p(x)", transform=axes[0].get_yaxis_transform(), fontsize=7.5,
                 va="bottom", ha="right", color="0.2")  # fmt: skip
    legend_below(figure, axes[0], 3, NOTE)
    save(figure, out / "tractable.png")


def deep(groups: Groups, costs: Costs, out: Path) -> None:
    """The bound of a deep model against decoder evaluations and seconds, a column for each training-set size."""
    numbers = sorted({size for size, _ in groups if size is not None})
    figure = new_figure(10.2, 6.2)
    axes = figure.subplots(2, len(numbers), squeeze=False)
    for j, size in enumerate(numbers):
        names = [name for name in ALGORITHMS if (size, name) in groups]
        for i, x in enumerate(("decoder_evaluations", "seconds")):
            ax, means = axes[i][j], []
            for name in names:
                cost, mean, error = curve(groups, size, name, x, costs)
                means.append(mean)
                band(ax, cost, mean, error, LOOKS[name], ALGORITHMS[name])
            low, high, _ = robust_limits(means)
            ax.set_ylim(low, high)
            visits = groups[size, names[0]][0].config["training"]["epochs"]
            finish(
                ax,
                f"{size:,} training data, {visits:,} visits of each" if i == 0 else "",
                COSTS[x],
                NATS if j == 0 else "",
            )
            if i == 0:
                ax.xaxis.set_major_formatter(lambda value, _: f"{value / 1000:g}k")
    legend_below(figure, axes[0][0], 2, NOTE)
    save(figure, out / "deep.png")


def sizes(groups: Groups, out: Path) -> None:
    """What is reached at the end, on training and on test data, against the number of training data."""
    numbers = sorted({size for size, _ in groups if size is not None})
    figure = new_figure(10.2, 3.8)
    axes = figure.subplots(1, 2)
    for ax, split in zip(axes, ("train", "test"), strict=True):
        for name in ALGORITHMS:
            found = [groups[size, name] for size in numbers if (size, name) in groups]
            if not found:
                continue
            values = [np.array([run.mean(split, "elbo") for run in seeds]) for seeds in found]
            x = np.array([seeds[0].facts["num_train"] for seeds in found], dtype=float)
            error = np.array([v.std(ddof=1) / np.sqrt(len(v)) if len(v) > 1 else 0.0 for v in values])
            band(ax, x, np.array([v.mean() for v in values]), error, LOOKS[name], ALGORITHMS[name], points=True)
        ax.set_xscale("log")
        finish(ax, f"{split} data, at the end", "training data (each visited less often the more there are)",
               "ELBO (nats per datum)")  # fmt: skip
    legend_below(figure, axes[0], 2, BANDS)
    save(figure, out / "sizes.png")
