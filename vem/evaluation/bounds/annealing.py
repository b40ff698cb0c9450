"""Annealed importance sampling from q to p(z | x): bounds on log p(x) that are close for few gradients."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import NamedTuple

import torch
from torch import Tensor

from vem.contracts import GenerativeModel, LogMarginal, Transported
from vem.evaluation.bounds.annealing_path import Annealing, Path, prepare
from vem.evaluation.bounds.curvature import invertible
from vem.evaluation.bounds.hmc import (
    Point,
    Refresh,
    Target,
    Tick,
    frozen,
    log_ratio,
    refreshes,
    starting_point,
    transition,
)  # fmt: skip
from vem.evaluation.bounds.importance import LogMeanExp
from vem.evaluation.bounds.several import Chosen, Start, choose
from vem.evaluation.measured import ESS, MC_VARIANCE, MODES, MORE, START, STARTS
from vem.evaluation.progress import never


def anneal(
    model: GenerativeModel, x: Tensor, posterior: Transported | None, settings: Annealing,
    pilot_stream: torch.Generator, stream: torch.Generator, tick: Tick = never,
    modes_stream: torch.Generator | None = None,
) -> LogMarginal:  # fmt: skip
    """A lower bound on log p(x) by annealed importance sampling with Hamiltonian transitions, nats per data point.

    log p(x) ≥ E log (1/C) Σ_c w_c,  E[w_c] = p(x)

    x [B, *X]; ``posterior`` is the q to start from, None for the prior. → lower [B] in float64; ``mc_variance``,
    ``ess``, ``diverged`` [B]; ``acceptance``, ``step_size`` [T − 1, B]; ``path_ess``, ``beta`` [T, B];
    ``decoder_gradients``, for each data point, the pilot's among them. The path is found on ``pilot_stream`` and then
    held, so that E[w_c] = p(x) given the path. With ``modes_stream``, data that have several modes may start
    elsewhere (:func:`vem.evaluation.bounds.several.choose`); then ``start`` and ``modes`` [B] say where. Memory grows
    with C · B · H, and with 2H · B · H where the curvature is used. ``tick`` is called at each temperature of the
    pilot and the run, more where there are several modes; what it raises ends the work.

    Raises:
        VemError: z is an index; q has no density; log p(x, z) is NaN or +∞ at the start.

    Source: Neal, 2001; Wu et al., 2017.
    """
    return _bound(model, x, None, posterior, settings, pilot_stream, stream, tick, modes_stream)


def enclose(
    model: GenerativeModel, z: Tensor, x: Tensor, posterior: Transported | None, settings: Annealing,
    pilot_stream: torch.Generator, stream: torch.Generator, tick: Tick = never,
    modes_stream: torch.Generator | None = None,
) -> LogMarginal:  # fmt: skip
    """Lower and upper bounds on log p(x) for pairs z [B, H], x [B, *X] from p(x, z), nats per data point.

    lower = log (1/C) Σ_c w_c,  upper = mean over c of log (w̃_c + Σ_k w_k) / (C + 1)

    w_1 … w_C come from a forward run, and w̃_c from backward runs that start at the exact z; else as :func:`anneal`,
    each bound in the mean over its noise. The width upper − lower, in the mean, is above what either bound misses on
    such data. It says nothing certain of real data, which the model did not make.

    Raises:
        VemError: a q whose transport cannot be undone; as :func:`anneal`.

    Source: Grosse, Ghahramani and Adams, 2015; Sobolev and Vetrov, 2019; Brekelmans et al., 2022.
    """
    if posterior is not None:
        invertible(posterior)
    found = _bound(model, x, z, posterior, settings, pilot_stream, stream, tick, modes_stream)
    return found._replace(kind=f"bidirectional, {found.kind}")


def _bound(
    model: GenerativeModel, x: Tensor, z: Tensor | None, posterior: Transported | None, settings: Annealing,
    pilot_stream: torch.Generator, stream: torch.Generator, tick: Tick, modes_stream: torch.Generator | None,
) -> LogMarginal:  # fmt: skip
    """From q*, and for data with several modes from where their pilots found most; an upper bound too if z is known."""
    with frozen(model):
        target, found = prepare(Target(model, x, posterior, tick), settings, pilot_stream)
        every = torch.arange(len(x), device=x.device)
        lower, upper, diagnostics = _annealed(Start("q*", every, target, found.path), z, settings, stream)
        spent = float(target.gradients)
        # From the prior every mode is reached alike.
        if modes_stream is not None and settings.modes > 1 and posterior is not None:
            chosen = choose(target, found, settings, modes_stream)
            spent += chosen.gradients
            diagnostics |= _marks(chosen)
            for other in chosen.starts:
                low, high, its = _annealed(other, z, settings, modes_stream)
                spent += other.target.gradients * len(other.rows) / len(x)
                lower[other.rows] = low
                if upper is not None and high is not None:
                    upper[other.rows] = high
                for name, values in its.items():
                    diagnostics[name][..., other.rows] = values
    diagnostics["decoder_gradients"] = torch.tensor(spent, dtype=torch.float64)
    return LogMarginal(lower, upper, kind(settings, posterior), diagnostics)


def _annealed(
    start: Start, z: Tensor | None, settings: Annealing, stream: torch.Generator
) -> tuple[Tensor, Tensor | None, dict[str, Tensor]]:
    """Lower bound [R] of the data of a start, the upper one where their exact z is known, and what the runs tell.

    From a mixture the label of a chain is part of its state: a forward chain draws it by the shares, a backward one
    by the shares that the components have of Q at the exact z, and the chains are independent of each other as the
    upper bound needs it.
    """
    x, path = start.target.x, start.path
    noise = refreshes(stream, (settings.chains, len(x), start.target.size), x.dtype)
    target = start.chains(settings.chains, stream)
    ahead = forward(target, path, starting_point(target, next(noise).momentum), noise, settings.leapfrog)
    weights = LogMeanExp(len(x), x.device)
    weights.add(ahead.log_weight)
    diagnostics = {
        MC_VARIANCE: weights.variance(),  # of one chain NaN: not known
        ESS: weights.ess(),
        "diverged": ahead.diverged,
        "acceptance": ahead.acceptance,
        "path_ess": path_ess(ahead.increments),
        "beta": path.betas[1:].double(),
        "step_size": path.step_sizes.double(),
    }
    if z is None:
        return weights.log_mean(), None, diagnostics
    reverse, exact = start.exact(z, settings.chains, stream)
    back = backward(reverse, path, exact, noise, settings.leapfrog)
    diagnostics["backward_acceptance"] = back.acceptance
    return weights.log_mean(), upper_bound(ahead.log_weight, back.log_weight), diagnostics


def upper_bound(forward_weight: Tensor, backward_weight: Tensor) -> Tensor:
    """mean over r of log (w̃_r + Σ_c w_c) / (C + 1) [B], from log w [C, B] forward and log w̃ [R, B] backward.

    Let P be the law of a backward trajectory τ from an exact draw and Q that of a forward one: w(τ) = p(x) P(τ) / Q(τ).
    With one of C + 1 trajectories from P and C from Q, the mean weight over p(x) is the density ratio of
    R = the mean over j of P(τ_j) Π_{i ≠ j} Q(τ_i) to Q^{C+1}. It is symmetric in the trajectories, so that its
    expected log is that under R, KL(R ‖ Q^{C+1}) ≥ 0: an upper bound on log p(x) in expectation, for each r, and so
    for their average. It needs no mixing of the backward chains; and the weights that it shares with the lower bound
    make the noise of the width small.

    Source: Sobolev and Vetrov, 2019; Brekelmans et al., 2022, eq. 16.
    """
    total = torch.logaddexp(backward_weight, forward_weight.logsumexp(0))
    return total.mean(0) - math.log(len(forward_weight) + 1)


# --- one run along a path that was fixed beforehand, in either direction


class Run(NamedTuple):
    """What one run saw; log w [C, B] is the sum of the increments over temperatures."""

    increments: Tensor  # [T, C, B] float64, from β = 0 upward in either direction
    acceptance: Tensor  # [T − 1, B] mean Metropolis probability at the temperatures in between
    diverged: Tensor  # [B] share of the trajectories that left the finite numbers

    @property
    def log_weight(self) -> Tensor:
        """log w [C, B]: E[w] = p(x) in a forward run, E[1/w] = 1/p(x) in a backward one."""
        return self.increments.sum(0)


def forward(target: Target, path: Path, point: Point, noise: Iterator[Refresh], leapfrog: int) -> Run:
    """From q to p(z | x): log w = Σ_t (β_t − β_{t−1}) r(ε_{t−1}), where HMC at β_t takes ε_{t−1} to ε_t.

    r(ε) = f(ε) − log N(ε; 0, I); ``point`` holds ε_0 ~ N(0, I) [C, B, H]. A pure function of path, point and noise:
    nothing adapts. At β = 1 the weight is complete and nothing moves: (T − 1) · L decoder gradients a chain.

    Source: Neal, 2001.
    """
    return _follow(target, path, point, noise, leapfrog, range(1, len(path.betas) - 1))


def backward(target: Target, path: Path, point: Point, noise: Iterator[Refresh], leapfrog: int) -> Run:
    """The same path from p(z | x) to q; ``point`` holds an exact draw of p(ε | x).

    Each transition is reversible, so that this is the time reversal of a forward run, and w the same function of
    the states that were visited.

    Source: Grosse, Ghahramani and Adams, 2015.
    """
    run = _follow(target, path, point, noise, leapfrog, range(len(path.betas) - 2, 0, -1))
    return Run(run.increments.flip(0), run.acceptance.flip(0), run.diverged)


def _follow(target: Target, path: Path, point: Point, noise: Iterator[Refresh], leapfrog: int, order: range) -> Run:
    """Transitions at the temperatures of ``order``; the increments stand in the order of the visits."""
    ratios, acceptance = [log_ratio(point)], []
    diverged = torch.zeros_like(ratios[0])
    for t in order:
        moved = transition(target, point, path.betas[t], path.step_sizes[t - 1], next(noise), leapfrog)
        point = moved.point
        ratios.append(log_ratio(point))
        acceptance.append(moved.acceptance.mean(0))
        diverged += moved.diverged
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


# --- what is said of it


def _marks(chosen: Chosen) -> dict[str, Tensor]:
    """Where each data point starts, as a place in ``STARTS``, how many modes it has, and whether it has more: [B]."""
    start = torch.zeros_like(chosen.modes)
    for other in chosen.starts:
        start[other.rows] = STARTS.index(other.name)
    return {START: start.double(), MODES: chosen.modes.double(), MORE: chosen.open_end.double()}


def kind(settings: Annealing, posterior: Transported | None) -> str:
    """What the bound is called in tables; of data that started elsewhere :func:`with_starts` tells.

    >>> kind(Annealing(), None)
    'annealing from the prior, T=50, C=8, L=3'
    """
    curved = " and its curvature" if settings.curvature else ""
    start = "the prior" if posterior is None else f"q*{curved}"
    return f"annealing from {start}, T={settings.temperatures}, C={settings.chains}, L={settings.leapfrog}"


def with_starts(kind: str, diagnostics: Mapping[str, Tensor]) -> str:
    """The name of a bound that also says from where the data with several modes were annealed.

    >>> with_starts("annealing from q*, T=50", {"start": torch.tensor([1.0, 1.0]), "modes": torch.tensor([8.0, 8.0])})
    "annealing from 8 q*'s (chosen on a pilot), T=50"
    >>> with_starts("annealing from q*, T=50", {"start": torch.tensor([0.0, 2.0]), "modes": torch.tensor([1.0, 3.0])})
    'annealing from q*, T=50; of 1 of 2 data with several modes from the prior (chosen on a pilot)'
    """
    start, modes = diagnostics.get(START), diagnostics.get(MODES)
    if start is None or modes is None or not bool((start > 0).any()):
        return kind
    words = []
    for number, name in enumerate(STARTS[1:], start=1):
        mine = modes[start == number]
        if len(mine):
            few, many = int(mine.min()), int(mine.max())
            several = f"{few} q*'s" if few == many else f"{few} to {many} q*'s"
            words.append((len(mine), "the prior" if name == "prior" else several))
    if len(words) == 1 and words[0][0] == len(start):
        head, _, budget = kind.partition(", ")
        return f"{head.partition(' from ')[0]} from {words[0][1]} (chosen on a pilot), {budget}"
    parts = [f"of {count} of {len(start)} data with several modes from {where}" for count, where in words]
    return f"{kind}; {', '.join(parts)} (chosen on a pilot)"
