"""The two-dimensional latent space of MNIST: only reconstruction, only KL, both.

``python experiments/latent_plane/run.py`` trains 18 runs (three objectives, two networks, three seeds) and writes
summary.csv, table.md, planes.png and grids.png beside this file; ``--collect`` makes them again from the runs.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.patches import Circle

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # the studies' common modules lie beside their folders
from drawing import new_figure, save
from study import SEEDS, Run, arguments, grouped, markdown, over_seeds, runs, shown, sweep, write

from vem.report.figures.panels import decoded_grid, latent_plane
from vem.report.figures.style import tidy
from vem.storage import records

QUICK = ["data=digits", "data.max_train=100", "training.epochs=2", "seed=0"]
NETWORKS = {"one hidden layer": [200], "strictly linear": []}
OBJECTIVES = {"only reconstruction": (1.0, 0.0), "both terms": (1.0, 1.0), "only KL": (0.0, 1.0)}
POINTS = 600  # in each panel
COLLAPSED = 0.2  # codes nearer to 0 than this are one point
SHOWN = (0, 2, 4, 6, 8, 11, 13, 15, 17, 19)  # of the 20 rows and columns of the decoded grid: about every other one
NEIGHBOURS = 5


def commands() -> list[list[str]]:
    """What is run."""
    common = ["experiment=latent_plane", "model.decoder.widths=[200],[]", SEEDS]
    return [[*common, "objective.kl_weight=0,1"], [*common, "objective.reconstruction_weight=0"]]


def kind(run: Run) -> tuple[str, str]:
    """Its network and its objective."""
    objective = run.config["strategy"]["objective"]
    weights = objective["reconstruction_weight"], objective["kl_weight"]
    network = next(name for name, widths in NETWORKS.items() if widths == run.config["model"]["decoder"]["widths"])
    return network, next(name for name, pair in OBJECTIVES.items() if pair == weights)


def pictures(run: Run) -> Mapping[str, Any]:
    """The arrays of pictures.npz."""
    with np.load(run.directory / records.PICTURES, allow_pickle=False) as file:
        return {name: file[name] for name in file.files}


def accuracy(means: np.ndarray, labels: np.ndarray) -> float:
    """Share of the points whose class is that of most of their five nearest others in the plane."""
    distances = ((means[:, None] - means[None]) ** 2).sum(-1)
    np.fill_diagonal(distances, np.inf)
    nearest = labels[np.argsort(distances, axis=1, kind="stable")[:, :NEIGHBOURS]]
    votes = (nearest[:, :, None] == np.arange(labels.max() + 1)).sum(1)
    return float((votes.argmax(1) == labels).mean())


def measured(run: Run) -> dict[str, float]:
    """The numbers of one run: nats per datum on test data, and where their codes lie."""
    arrays = pictures(run)
    means = arrays["latent_means"]
    return {
        "train_elbo": run.mean("train", "elbo"),
        "test_elbo": run.mean("test", "elbo"),
        "test_reconstruction": run.mean("test", "reconstruction"),
        "test_kl": run.mean("test", "kl"),
        "code_spread": float(np.sqrt((means**2).mean())),
        "accuracy": accuracy(means, arrays["labels"]),
    }


def table(groups: Mapping[tuple[str, str], list[Run]]) -> tuple[list[dict[str, Any]], str]:
    """Rows for summary.csv, and the table in Markdown."""
    rows: list[dict[str, Any]] = []
    lines = []
    for network, objective in ((n, o) for n in NETWORKS for o in OBJECTIVES):
        found = [measured(run) for run in groups[network, objective]]
        numbers = {key: over_seeds(one[key] for one in found) for key in found[0]}
        row: dict[str, Any] = {"network": network, "objective": objective, "seeds": len(found)}
        for key, (mean, error) in numbers.items():
            row |= {key: mean, f"{key}_se": error}
        rows.append(row)
        accuracy_text = shown(tuple(100 * value for value in numbers.pop("accuracy")), 1)
        lines.append([network, objective, *(shown(value) for value in numbers.values()), f"{accuracy_text} %"])
    header = ["network", "trained by", "train ELBO", "test ELBO", "test reconstruction", "test KL",
              "RMS of the codes' means", "class of 5 nearest codes"]  # fmt: skip
    return rows, markdown(header, lines)


def planes(groups: Mapping[tuple[str, str], list[Run]], out: Path) -> None:
    """Test data in the plane by class: a row for each network, a column for each objective."""
    figure = new_figure(9.3, 6.2)
    axes = figure.subplots(len(NETWORKS), len(OBJECTIVES), squeeze=False)
    for i, network in enumerate(NETWORKS):
        for j, objective in enumerate(OBJECTIVES):
            ax, run = axes[i][j], groups[network, objective][0]
            arrays = pictures(run)
            codes = arrays["latent_means"][:POINTS]
            if np.abs(codes).max() < COLLAPSED:
                ax.plot([0], [0], "o", color="0.2", ms=5)
                ax.text(0, 0.12, "every code is here", fontsize=8.5, ha="center")
                ax.set(xlabel="$z_1$", ylabel="$z_2$", xlim=(-3, 3), ylim=(-3, 3), aspect="equal")
                tidy(ax)
            else:
                latent_plane(ax, {"latent_means": codes, "labels": arrays["labels"][:POINTS]}, small=True)
            ax.add_patch(Circle((0, 0), 2.0, fill=False, edgecolor="0.2", linestyle="--", linewidth=0.9))
            reconstruction, kl = (run.mean("test", name) for name in ("reconstruction", "kl"))
            text = f"reconstruction {reconstruction:,.1f}, KL {abs(kl):,.1f}".replace("-", "−")
            ax.set_title(f"{objective}, {network}\n{text}", fontsize=8.5, loc="left")
    figure.suptitle("MNIST test data in the latent plane, by class; dashed: two standard deviations of the prior. "
                    "Nats per datum, seed 0; the axes differ", fontsize=9.5, x=0.01, ha="left")  # fmt: skip
    save(figure, out / "planes.png")


def grids(groups: Mapping[tuple[str, str], list[Run]], out: Path) -> None:
    """The plane decoded on a grid, by objective, for the network with a hidden layer."""
    figure = new_figure(7.5, 3.0)
    for ax, objective in zip(figure.subplots(1, len(OBJECTIVES)), OBJECTIVES, strict=True):
        arrays = pictures(groups["one hidden layer", objective][0])
        grid, axis = arrays["decoded_grid"][np.ix_(SHOWN, SHOWN)], arrays["grid_axis"][list(SHOWN)]
        decoded_grid(ax, {"decoded_grid": grid, "grid_axis": axis})
        ax.set_title(objective, fontsize=9, loc="left")
    figure.suptitle("The decoder's mean over the plane, ± 2.5 standard deviations of the prior", fontsize=9.5, x=0.01,
                    ha="left")  # fmt: skip
    save(figure, out / "grids.png")


def main() -> None:
    """Run the study, or read what was run."""
    args = arguments(__doc__, "latent_plane")
    if not args.collect:
        sweep(args.sweep, commands(), QUICK if args.quick else None)
    groups = grouped(runs(args.sweep), kind)
    rows, text = table(groups)
    write(args.out, rows, text)
    planes(groups, args.out)
    grids(groups, args.out)


if __name__ == "__main__":
    main()
