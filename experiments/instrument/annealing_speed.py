"""Decoder gradients per second of annealing, beside a straightforward implementation without the caches.

``python experiments/instrument/annealing_speed.py RUN_DIR`` runs both on the same model, data, posterior, path and
random numbers, in turn, and first checks that their weights are equal.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

import vem
from vem.contracts import GenerativeModel, Posterior
from vem.evaluation.bounds.annealing import follow
from vem.evaluation.bounds.annealing_path import Annealing, pilot
from vem.evaluation.bounds.annealing_path import Path as AnnealingPath
from vem.evaluation.bounds.hmc import JITTER, Refresh, Target, frozen, refreshes
from vem.families.gaussian import DiagonalGaussianPosterior, log_standard_normal
from vem.noise import fill, generator


def arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path, help="directory of a finished run with a continuous z")
    parser.add_argument("--num", type=int, default=100, help="data (default 100)")
    parser.add_argument("--rounds", type=int, default=5, help="timings of each, in turn (default 5)")
    parser.add_argument("--threads", type=int, default=2)
    return parser.parse_args()


class Uncached:
    """Annealing as one writes it down: energies and gradients are asked for wherever the formulas have them.

    A transition takes L + 1 gradients and 2 energies, and the weight 2 more energies: public implementations of
    annealing for such models do the same.
    """

    def __init__(self, model: GenerativeModel, x: Tensor, posterior: Posterior) -> None:
        self.model, self.x, self.posterior = model, x, posterior

    def log_density(self, eps: Tensor, beta: Tensor) -> Tensor:
        """log π_β(ε) [C, B]."""
        z, log_det = self.posterior.transport(eps)
        log_joint = self.model.log_likelihood(self.x, z) + self.model.log_prior(z) + log_det
        return (1 - beta) * log_standard_normal(eps) + beta * log_joint

    def gradient(self, eps: Tensor, beta: Tensor) -> Tensor:
        """∇ log π_β(ε) [C, B, H]."""
        with torch.enable_grad():
            leaf = eps.detach().requires_grad_()
            return torch.autograd.grad(self.log_density(leaf, beta).sum(), leaf)[0]

    def transition(self, eps: Tensor, beta: Tensor, step: Tensor, noise: Refresh, leapfrog: int) -> Tensor:
        """Hamiltonian Monte Carlo, once."""
        step = (step * (1 + JITTER * (2 * noise.jitter - 1)))[..., None]
        moved, momentum = eps, noise.momentum + 0.5 * step * self.gradient(eps, beta)
        for i in range(leapfrog):
            moved = moved + step * momentum
            momentum = momentum + (step if i < leapfrog - 1 else 0.5 * step) * self.gradient(moved, beta)
        before = self.log_density(eps, beta) + log_standard_normal(noise.momentum)
        after = self.log_density(moved, beta) + log_standard_normal(momentum)
        accepted = noise.threshold < (after - before).exp()
        return torch.where(accepted[..., None], moved, eps)

    def log_weight(self, eps: Tensor, path: AnnealingPath, noise: list[Refresh], leapfrog: int) -> Tensor:
        """log w [C, B]."""
        total = torch.zeros(eps.shape[:-1], dtype=torch.float64, device=eps.device)
        for t in range(1, len(path.betas)):
            total += (self.log_density(eps, path.betas[t]) - self.log_density(eps, path.betas[t - 1])).double()
            if t < len(path.betas) - 1:
                eps = self.transition(eps, path.betas[t], path.step_sizes[t - 1], noise[t - 1], leapfrog)
        return total


def seconds(work: Callable[[], Tensor]) -> float:
    """How long one call takes."""
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


class Case:
    """Both implementations on the same model, data, posterior, path and random numbers."""

    def __init__(self, run: Any, num: int, dtype: torch.dtype) -> None:
        self.model, self.settings = run.model.to(dtype), Annealing(curvature=0)
        with torch.no_grad():
            pairs = fill(self.model.sample_noise(num), generator("cpu", 0, "simulate"), dtype)
            _, x = self.model.sample(pairs)
        zeros = torch.zeros(num, self.model.latent_size, dtype=dtype)
        # As a q* would be: its mode, and the widths that are usual there.
        q = DiagonalGaussianPosterior(pairs["z"], zeros - 1)
        self.target, self.plain = Target(self.model, x, q), Uncached(self.model, x, q)
        with frozen(self.model):
            self.path = pilot(self.target, self.settings, generator("cpu", 0, "pilot")).path
        draws = refreshes(generator("cpu", 0, "anneal"), (self.settings.chains, num, self.target.size), dtype)
        self.eps = next(draws).momentum
        self.noise = [next(draws) for _ in range(self.settings.temperatures - 1)]

    def cached(self) -> Tensor:
        """log w [C, B] by vem."""
        with frozen(self.model):
            start, leapfrog = self.target(self.eps), self.settings.leapfrog
            return follow(self.target, self.path, start, iter(self.noise), leapfrog).log_weight

    def uncached(self) -> Tensor:
        """log w [C, B] by the formulas."""
        with frozen(self.model):
            return self.plain.log_weight(self.eps, self.path, self.noise, self.settings.leapfrog)


def main() -> None:
    """Check, time, print."""
    args = arguments()
    torch.set_num_threads(args.threads)
    run = vem.load(args.run)
    dtype = next(run.model.parameters()).dtype
    exact = Case(run, args.num, torch.float64)
    difference = float((exact.cached() - exact.uncached()).abs().max())
    print(f"float64: the log weights of both differ by {difference:.1e} nats at most")
    if not difference < 1e-5:
        raise SystemExit("the two implementations disagree: their speeds cannot be compared")
    case = Case(run, args.num, dtype)
    settings = case.settings
    timed: dict[str, list[float]] = {"cached": [], "uncached": []}
    for _ in range(args.rounds):
        timed["cached"].append(seconds(case.cached))
        timed["uncached"].append(seconds(case.uncached))
    steps = settings.chains * (settings.temperatures - 1) * settings.leapfrog * args.num
    print(
        f"{dtype}, {args.threads} threads, {args.num} data, T={settings.temperatures}, C={settings.chains}, "
        f"L={settings.leapfrog}; medians (and ranges) of {args.rounds} runs, in turn\n"
    )
    print("| implementation | seconds | leapfrog steps per second | ratio |\n|---|---|---|---|")
    slow = statistics.median(timed["uncached"])
    for name, times in timed.items():
        middle = statistics.median(times)
        spread = f"{min(times):.2f}–{max(times):.2f}"
        print(f"| {name} | {middle:.2f} ({spread}) | {steps / middle:,.0f} | {slow / middle:.2f} |")


if __name__ == "__main__":
    main()
