"""One run of annealed importance sampling along a path that was fixed beforehand, in either direction."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import NamedTuple

import torch
from torch import Tensor

from vem.evaluation.bounds.hmc import Point, Refresh, Target, log_ratio, transition

Tick = Callable[[], object]  # called once a temperature; may raise to stop


class Path(NamedTuple):
    """What a run follows, each datum its own way."""

    betas: Tensor  # [T + 1, B] from 0 to 1
    step_sizes: Tensor  # [T − 1, B] at the temperatures in between


class Run(NamedTuple):
    """What one run saw; log w [C, B] is the sum of the increments over temperatures."""

    increments: Tensor  # [T, C, B] float64, from β = 0 upward in either direction
    acceptance: Tensor  # [T − 1, B] mean Metropolis probability at the temperatures in between
    diverged: Tensor  # [B] share of the trajectories that left the finite numbers

    @property
    def log_weight(self) -> Tensor:
        """log w [C, B]: E[w] = p(x) in a forward run, E[1/w] = 1/p(x) in a backward one."""
        return self.increments.sum(0)


def forward(
    target: Target, path: Path, point: Point, noise: Iterator[Refresh], leapfrog: int, tick: Tick | None = None
) -> Run:
    """From q to p(z | x): log w = Σ_t (β_t − β_{t−1}) r(ε_{t−1}), where HMC at β_t takes ε_{t−1} to ε_t.

    r(ε) = f(ε) − log N(ε; 0, I); ``point`` holds ε_0 ~ N(0, I) [C, B, H]. A pure function of path, point and noise:
    nothing adapts. At β = 1 the weight is complete and nothing moves: (T − 1) · L decoder gradients a chain.

    Source: Neal, 2001.
    """
    return _follow(target, path, point, noise, leapfrog, tick, range(1, len(path.betas) - 1))


def backward(
    target: Target, path: Path, point: Point, noise: Iterator[Refresh], leapfrog: int, tick: Tick | None = None
) -> Run:
    """The same path from p(z | x) to q; ``point`` holds an exact draw of p(ε | x).

    Each transition is reversible, so that this is the time reversal of a forward run, and w the same function of
    the states that were visited.

    Source: Grosse, Ghahramani and Adams, 2015.
    """
    run = _follow(target, path, point, noise, leapfrog, tick, range(len(path.betas) - 2, 0, -1))
    return Run(run.increments.flip(0), run.acceptance.flip(0), run.diverged)


def _follow(
    target: Target, path: Path, point: Point, noise: Iterator[Refresh], leapfrog: int, tick: Tick | None, order: range
) -> Run:
    """Transitions at the temperatures of ``order``; the increments stand in the order of the visits."""
    ratios, acceptance = [log_ratio(point)], []
    diverged = torch.zeros_like(ratios[0])
    for t in order:
        moved = transition(target, point, path.betas[t], path.step_sizes[t - 1], next(noise), leapfrog)
        point = moved.point
        ratios.append(log_ratio(point))
        acceptance.append(moved.acceptance.mean(0))
        diverged += moved.diverged
        if tick is not None:
            tick()
    widths = path.betas.double().diff(dim=0)
    widths = widths if order.step > 0 else widths.flip(0)
    rates = torch.stack(acceptance) if acceptance else torch.zeros_like(path.step_sizes)
    return Run(widths[:, None] * torch.stack(ratios), rates, diverged.mean(0) / max(1, len(order)))


def path_ess(increments: Tensor) -> Tensor:
    """The conditional effective sample size of every temperature step, as a share of the chains; [T, C, B] → [T, B].

    CESS_t = (Σ_c W_c u_c)² / Σ_c W_c u_c², with u_c = exp(increment) and W_c the normalized weights so far.

    Source: Zhou, Johansen and Aston, 2016, eq. 3.16.

    >>> path_ess(torch.zeros(3, 4, 1)).flatten()
    tensor([1., 1., 1.])
    """
    past = (increments.cumsum(0) - increments).log_softmax(1)
    return (2 * (past + increments).logsumexp(1) - (past + 2 * increments).logsumexp(1)).exp()
