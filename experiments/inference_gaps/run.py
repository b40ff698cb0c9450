"""Gaps of amortized inference against encoder size, decoder size and training time, on MNIST and Fashion-MNIST.

``python experiments/inference_gaps/run.py`` trains and measures 42 runs (seven designs, two data sets, three seeds;
about an hour on two idle cores) and writes summary.csv, table.md and gaps.png beside this file; ``--collect`` makes
them again from the runs that are there, finished or not.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # the studies' common modules lie beside their folders
from drawing import band, finish, legend_below, looks, new_figure, save
from study import SEEDS, Run, arguments, grouped, markdown, over_seeds, runs, shown, sweep, write

DATA = {"mnist": "static MNIST", "fashion_mnist": "Fashion-MNIST, drawn once"}
GAPS = ("approximation", "amortization")
SPLITS = ("train", "test")
QUICK = ["data=digits", "data.binarize=static", "data.max_train=100", "training.epochs=2", "evaluation.num_data=6",
         "evaluation.annealing.temperatures=3", "evaluation.annealing.chains=2", "seed=0"]  # fmt: skip
QUICK_DATA = {"digits": "digits"}
PUBLISHED = [  # (source, data, points, log p, best ELBO, ELBO, approximation, amortization), nats
    ("Cremer et al., 2018", "mnist", "train", "−89.80", "−91.23", "−92.57", "1.43", "1.34"),
    ("Cremer et al., 2018", "fashion_mnist", "train", "", "", "", "3.06", "4.22"),
    ("reference without vem, one seed", "mnist", "train", "≥ −88.41 (importance weights)", "−89.88", "−93.43",
     "1.65 ± 0.07", "3.54 ± 0.19"),
    ("reference without vem, one seed", "mnist", "test", "", "", "", "1.67 ± 0.09", "4.51 ± 0.39"),
]  # fmt: skip


class Design(NamedTuple):
    """What one run trained; the widths of the two hidden layers."""

    data: str
    encoder: int
    decoder: int
    epochs: int


AXES = {  # what is varied, as a field of Design, and its name on an axis
    "encoder": "units in each hidden layer of the encoder",
    "decoder": "units in each hidden layer of the decoder",
    "epochs": "epochs of training",
}
BASE = {"encoder": 200, "decoder": 200, "epochs": 30}


def commands(data: str) -> list[list[str]]:
    """What is run on one data set."""
    common = ["experiment=inference_gaps", f"data={data}", SEEDS]
    return [
        [*common, "strategy.encoder.widths=[200,200],[50,50],[20,20]"],
        [*common, "model.decoder.widths=[50,50],[20,20]"],
        [*common, "training.epochs=10,60"],
    ]


def design(run: Run) -> Design:
    """What a run trained."""
    widths = [run.config[a][b]["widths"][0] for a, b in (("strategy", "encoder"), ("model", "decoder"))]
    return Design(run.facts["data"], *widths, run.facts["epochs"])


def described(groups: Mapping[Design, list[Run]]) -> tuple[list[dict[str, Any]], str]:
    """Rows for summary.csv, and the table in Markdown."""
    rows, lines = [], []
    for of, seeds in sorted(groups.items()):
        for split in SPLITS:
            row: dict[str, Any] = {**of._asdict(), "split": split, "seeds": len(seeds)}
            checks = [check for run in seeds for check in run.evaluation[split]["checks"]]
            row["failed_checks"] = sum(not check["passed"] for check in checks)
            for name, keys in _numbers().items():
                row[name], row[f"{name}_se"] = over_seeds(run.mean(split, *keys) for run in seeds)
            for gap in GAPS:  # the seeds share their data: this error does not shrink with more of them
                errors = [run.evaluation[split]["gaps"][gap]["se"] for run in seeds]
                row[f"{gap}_se_data"] = float(np.sqrt(np.mean(np.square(errors))))
            rows.append(row)
            lines.append([
                *map(str, of), split, str(len(seeds)), *(shown((row[name], np.nan)) for name in list(_numbers())[:3]),
                *(_with_errors(row, gap) for gap in GAPS), str(row["failed_checks"]),
            ])  # fmt: skip
    header = ["data", "encoder", "decoder", "epochs", "split", "seeds", "log p(x) ≥", "L[q*]", "L[q]",
              "approximation gap ≥", "amortization gap", "failed checks"]  # fmt: skip
    return rows, markdown(header, lines)


def _with_errors(row: Mapping[str, Any], gap: str) -> str:
    """Mean ± standard error over seeds, and in brackets the one over data."""
    return f"{shown((row[gap], row[f'{gap}_se']))} ({row[f'{gap}_se_data']:.2f})"


def _numbers() -> dict[str, tuple[str, ...]]:
    return {
        "log_marginal": ("log_marginal", "lower"),
        "best_elbo": ("best_elbo",),
        "elbo": ("elbo",),
        "approximation": ("gaps", "approximation"),
        "amortization": ("gaps", "amortization"),
    }


def beside_published(rows: Sequence[Mapping[str, Any]]) -> str:
    """What vem measured of the published design, and what others did."""
    header = ["source", "data", "points", "log p(x)", "L[q*]", "L[q]", "approximation", "amortization"]
    ours = [
        [
            f"vem, {row['seeds']} seeds", row["data"], row["split"],
            *(shown((row[name], np.nan)) for name in ("log_marginal", "best_elbo", "elbo")),
            *(_with_errors(row, gap) for gap in GAPS),
        ]
        for row in rows
        if all(row[axis] == value for axis, value in BASE.items())
    ]  # fmt: skip
    return f"## Beside the published numbers\n\n{markdown(header, [*ours, *PUBLISHED])}"


def draw(groups: Mapping[Design, list[Run]], data: Mapping[str, str], out: Path) -> None:
    """The two gaps along each axis: a row for each data set."""
    figure = new_figure(10.2, 3.0 * len(data) + 0.8)
    axes = figure.subplots(len(data), len(AXES), sharey="row", squeeze=False)
    names = [(gap, split) for gap in GAPS for split in SPLITS]
    for i, name in enumerate(data):
        for j, (axis, label) in enumerate(AXES.items()):
            others = {key: value for key, value in BASE.items() if key != axis}
            found = sorted((of for of in groups if of.data == name and others.items() <= of._asdict().items()),
                           key=lambda of, axis=axis: getattr(of, axis))  # fmt: skip
            for look, (gap, split) in zip(looks(len(names)), names, strict=True):
                if not found:
                    break
                values = [over_seeds(run.mean(split, "gaps", gap) for run in groups[of]) for of in found]
                x = np.array([getattr(of, axis) for of in found], dtype=float)
                mean, error = np.nan_to_num(np.array(values)).T
                band(axes[i][j], x, mean, error, look, f"{gap} gap, {split} data", points=True)
            finish(axes[i][j], data[name] if j == 0 else "", label, "gap (nats per datum)" if j == 0 else "")
            axes[i][j].set_ylim(bottom=0)
            axes[i][j].set_xticks([getattr(of, axis) for of in found])
    legend_below(figure, axes[0][0], 2, "bands: one standard error over seeds; log p(x) by annealing, a lower bound")
    save(figure, out / "gaps.png")


def main() -> None:
    """Run the study, or read what was run."""
    args = arguments(__doc__, "inference_gaps")
    data = QUICK_DATA if args.quick else DATA
    if not args.collect:
        for name in data:
            sweep(args.sweep, commands(name), QUICK if args.quick else None)
    groups = grouped(runs(args.sweep), design)
    planned = len(data) * 7 * 3
    print(f"{sum(map(len, groups.values()))} of {planned} runs are finished" if not args.quick else "smoke test")
    rows, text = described(groups)
    write(args.out, rows, f"{text}\n{beside_published(rows)}")
    draw(groups, data, args.out)


if __name__ == "__main__":
    main()
