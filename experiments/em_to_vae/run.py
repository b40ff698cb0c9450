"""From EM to the variational auto-encoder: Algorithms 7, 8 and 9 and exact EM on the same data.

``python experiments/em_to_vae/run.py`` runs a model where exact EM gives the truth and a deep decoder where it is
impossible, at three training-set sizes, three seeds each, and writes summary.csv, table.md and the figures beside
this file; ``--collect`` makes them again from the runs.
"""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # the studies' common modules lie beside their folders
import figures
import tables
import timing
from study import SEEDS, Run, arguments, grouped, runs, sweep, write

from vem.storage import records

VISITS = 200_000  # data that every deep run visits in all
SIZES = (500, 5_000, 50_000)  # training data
TRACTABLE = ["experiment=em_to_vae_tractable", SEEDS]
QUICK = ["training.epochs=3", "seed=0"]
QUICK_DEEP = [*QUICK, "data=digits", "data.binarize=threshold", "evaluation.num_data=40"]


def tractable() -> list[list[str]]:
    """The model for which exact EM gives the truth."""
    return [
        [*TRACTABLE, "strategy=exact_em"],
        [*TRACTABLE, "strategy=local", "strategy.schedule=minibatch,alternating"],
        [*TRACTABLE, "strategy=amortized", "strategy/encoder=mlp", "strategy.encoder.widths=[]"],
    ]


def deep(size: int) -> list[list[str]]:
    """A deep decoder on so many training data."""
    common = ["experiment=em_to_vae", SEEDS, f"data.max_train={size}", f"training.epochs={VISITS // size}"]
    return [
        [*common, "strategy=local,amortized"],
        [*common, "strategy=local", "strategy/start=prior"],
        [*common, "strategy=local", "strategy.schedule=alternating", "strategy.max_passes=2"],
    ]


def kind(run: Run) -> tuple[int | None, str]:
    """The training-set size (None: the tractable model), and the algorithm."""
    strategy = run.config["strategy"]
    size = None if run.facts["model"] == "linear_gaussian" else run.facts["num_train"]
    if run.facts["strategy"] != "local":
        return size, run.facts["strategy"]
    if strategy["schedule"] == "alternating":
        return size, "alternating"
    return size, "prior" if strategy["start"]["_target_"].endswith("PriorStart") else "local"


def main() -> None:
    """Run the study, or read what was run."""
    args = arguments(__doc__, "em_to_vae")
    if not args.collect:
        sweep(args.sweep, tractable(), QUICK if args.quick else None)
        for size in (40,) if args.quick else SIZES:
            sweep(args.sweep, deep(size), QUICK_DEEP if args.quick else None)
    groups = grouped(runs(args.sweep), kind)
    measured = args.out / "step_costs.csv"
    costs = timing.read(measured) if args.collect and measured.exists() else timing.step_costs(args.quick)
    rows, text = tables.both(groups)
    write(args.out, rows, f"{text}\n{timing.described(costs)}")
    records.write_csv(measured, timing.as_rows(costs))
    figures.tractable(groups, costs, args.out)
    figures.deep(groups, costs, args.out)
    figures.sizes(groups, args.out)


if __name__ == "__main__":
    main()
