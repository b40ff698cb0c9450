"""Widths of bidirectional Monte Carlo on data simulated from trained models, against decoder gradients.

``python experiments/instrument/widths.py RUN_DIR [RUN_DIR …]`` anneals from the best diagonal q on ``--num``
simulated points of each run, and from the prior on the first ``--prior-num`` of them at several budgets. It
writes ``widths.csv``, one row for each point and budget, and prints the summary.
"""

from __future__ import annotations

import argparse
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor

import vem
from vem.ascent.best import BestSettings, best_q
from vem.contracts import Batch, LogMarginal, Posterior
from vem.evaluation.bounds.annealing import anneal
from vem.evaluation.bounds.annealing_path import Annealing
from vem.evaluation.measured import Streams
from vem.families.gaussian import DiagonalGaussian, DiagonalGaussianPosterior
from vem.noise import fill, generator

HERE = Path(__file__).resolve().parent
GOAL = 0.05  # nats, the mean width
PRIOR = Annealing(leapfrog=5, pilot_temperatures=50)
PRIOR_BUDGETS = (100, 300, 1000)  # temperatures


def arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", nargs="+", type=Path, help="directories of finished runs with an encoder")
    parser.add_argument("--num", type=int, default=200, help="simulated points of each run (default 200)")
    parser.add_argument("--prior-num", type=int, default=20, help="of these, annealed from the prior (default 20)")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--out", type=Path, default=HERE, help="folder of widths.csv (default: beside this file)")
    return parser.parse_args()


class Start:
    """x → the best diagonal q, found from the encoder's q and from the prior."""

    def __init__(self, run: Any, seed: int) -> None:
        self.run, self.seed = run, seed
        self.gradients = torch.zeros(0)  # [N] that the search took

    def __call__(self, x: Tensor) -> Posterior:
        """The best q of these x."""
        model, strategy = self.run.model, self.run.strategy
        family = DiagonalGaussian(model.latent_size)
        noise = fill(strategy.noise(len(x), held_out=True), generator(x.device, self.seed, "encoder"), x.dtype)
        q = strategy.infer(model, Batch(x, None), noise)
        if not isinstance(q, DiagonalGaussianPosterior):
            raise SystemExit(f"this study wants an encoder to a diagonal Gaussian, not {type(q).__name__}")
        ones = torch.ones_like(q.location)
        starts = {"encoder": family.start(q.location, q.log_scale.exp()), "prior": family.start(0 * ones, ones)}
        found = best_q(model, family, x, starts, BestSettings(), generator(x.device, self.seed, "best"))
        self.gradients = found.decoder_gradients
        return family(found.params)


def table(
    name: str, start: str, temperatures: int, found: LogMarginal, searched: Tensor | float, seconds: float
) -> Any:
    """One row for each point; gradients count everything."""
    lower, upper = found.lower, found.upper
    assert lower is not None and upper is not None
    return pd.DataFrame(
        {
            "run": name,
            "point": range(len(lower)),
            "start": start,
            "temperatures": temperatures,
            "gradients": float(found.diagnostics["decoder_gradients"])
            + torch.as_tensor(searched).expand(len(lower)).double().numpy(),
            "lower": lower.numpy(),
            "upper": upper.numpy(),
            "width": (upper - lower).numpy(),
            "ess": found.diagnostics["ess"].numpy(),
            "seconds": seconds,
        }
    )


def measure(directory: Path, args: argparse.Namespace) -> list[Any]:
    """The rows of one run."""
    run = vem.load(directory)
    start, name = Start(run, args.seed), directory.name

    def streams(stage: str) -> Streams:
        keys = {"pilot": "pilot", "annealing": "run"}
        return {purpose: generator("cpu", args.seed, name, stage, key) for purpose, key in keys.items()}.__getitem__

    settings = Annealing()
    begun = time.perf_counter()
    noise = streams("best")
    dtype = next(run.model.parameters()).dtype
    with torch.no_grad():
        z, x = run.model.sample(fill(run.model.sample_noise(args.num), noise("annealing"), dtype))
        best = anneal(run.model, x, start(x), settings, noise, z=z)
    parts = [table(name, "best", settings.temperatures, best, start.gradients, time.perf_counter() - begun)]
    z, x = z[: args.prior_num], x[: args.prior_num]
    for temperatures in PRIOR_BUDGETS if len(x) else ():
        settings = replace(PRIOR, temperatures=temperatures)
        begun = time.perf_counter()
        found = anneal(run.model, x, None, settings, streams(f"prior {temperatures}"), z=z)
        parts.append(table(name, "prior", temperatures, found, 0.0, time.perf_counter() - begun))
    return parts


def fitted_cost(prior: Any) -> tuple[float, float]:
    """The slope of log mean width in log gradients, and the gradients at which the line meets the goal."""
    means = prior.groupby("temperatures")[["gradients", "width"]].mean()
    slope, offset = np.polyfit(np.log(means["gradients"]), np.log(means["width"]), 1)
    return slope, float(np.exp((np.log(GOAL) - offset) / slope))


def report(rows: Any) -> None:
    """The summary, as a table in Markdown."""
    print("| run | start | T | points | decoder gradients per point | mean width ± se | worst | seconds |")
    print("|---|---|---|---|---|---|---|---|")
    for (name, start, temperatures), part in rows.groupby(["run", "start", "temperatures"], sort=False):
        width, gradients = part["width"], part["gradients"]
        cells = [
            f"{name} | {start} | {temperatures} | {len(part)}",
            f"{gradients.mean():,.0f} (at most {gradients.max():,.0f})",
            f"{width.mean():.4f} ± {width.sem():.4f} | {width.max():.3f} | {part['seconds'].iloc[0]:.0f}",
        ]
        print("| " + " | ".join(cells) + " |")
    for name, part in rows[rows["start"] == "prior"].groupby("run", sort=False):
        slope, cost = fitted_cost(part)
        print(
            f"\n{name}, from the prior: width ~ gradients^{slope:.2f}; a mean of {GOAL} nats at {cost:,.0f} per point"
        )


def main() -> None:
    """Measure every run, write, print."""
    args = arguments()
    torch.set_num_threads(args.threads)
    rows = pd.concat([part for directory in args.runs for part in measure(directory, args)])
    args.out.mkdir(parents=True, exist_ok=True)
    rows.to_csv(args.out / "widths.csv", index=False, float_format="%.6g")
    report(rows)


if __name__ == "__main__":
    main()
