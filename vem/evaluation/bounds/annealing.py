"""Annealed importance sampling from q to p(z | x): bounds on log p(x) that are close for few gradients."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import NamedTuple

import torch
from torch import Tensor

from vem.contracts import GenerativeModel, LogMarginal, Transported
from vem.evaluation.bounds import hmc
from vem.evaluation.bounds.annealing_path import Annealing, Path, pilot
from vem.evaluation.bounds.curvature import with_curvature
from vem.evaluation.bounds.importance import LogMeanExp
from vem.evaluation.bounds.several import Start, choose
from vem.evaluation.measured import ESS, MC_VARIANCE, MODES, START, STARTS, Streams
from vem.evaluation.progress import never


def anneal(
    model: GenerativeModel, x: Tensor, posterior: Transported | None, settings: Annealing, streams: Streams,
    tick: hmc.Tick = never, z: Tensor | None = None,
) -> LogMarginal:  # fmt: skip
    """Bounds on log p(x) by annealed importance sampling with Hamiltonian transitions, nats per data point.

        lower = log (1/C) Σ_c w_c,  E[w_c] = p(x)

    x [B, *X]; ``posterior`` is the q to start from, None for the prior. → lower [B] in float64; ``mc_variance``,
    ``ess``, ``diverged`` [B]; ``acceptance``, ``step_size`` [T − 1, B]; ``path_ess``, ``beta`` [T, B];
    ``decoder_gradients``, for each data point, the pilot's among them. The path is found on ``streams("pilot")`` and
    then held for the run on ``streams("annealing")``, so that E[w_c] = p(x) given the path. With settings.modes above
    1 data that have several modes may start elsewhere, by ``streams("modes")`` (:mod:`vem.evaluation.bounds.several`);
    ``start`` and ``modes`` [B] say where. Memory grows with C · B · H, and with 2H · B · H where the curvature is
    used. ``tick`` is called at each temperature of the pilot and the run; what it raises ends the work.

    Where (z [B, H], x) are exact pairs from p(x, z), there is an upper bound too (:func:`upper_bound`), from backward
    runs that start at z. The width upper − lower, in the mean, is above what either bound misses on such data. It says
    nothing certain of real data, which the model did not make.

    Raises:
        VemError: z is an index; q has no density, or, given z, a transport that cannot be undone; log p(x, z) is NaN
            or +∞ at the start.

    Source: Neal, 2001; Wu et al., 2017; Grosse, Ghahramani and Adams, 2015 (bidirectional).
    """
    with hmc.frozen(model):
        target, stream = hmc.Target(model, x, posterior, tick), streams("pilot")
        if z is not None:
            hmc.invertible(target.base)
        if settings.curvature and not target.from_prior:
            target = target.at(with_curvature(target, settings.curvature, stream))
        found = pilot(target, settings, stream)
        every = torch.arange(len(x), device=x.device)
        lower, upper, diagnostics = _annealed(Start(every, target, found.path), z, settings, streams("annealing"))
        spent = float(target.gradients)
        # From the prior every mode is reached alike.
        if settings.modes > 1 and posterior is not None:
            stream = streams("modes")
            chosen = choose(target, found, settings, stream)
            spent += chosen.gradients
            diagnostics |= chosen.diagnostics
            for other in chosen.starts:
                low, high, its = _annealed(other, z, settings, stream)
                spent += other.target.gradients * len(other.rows) / len(x)
                lower[other.rows] = low
                if upper is not None and high is not None:
                    upper[other.rows] = high
                for name, values in its.items():
                    diagnostics[name][..., other.rows] = values
    diagnostics["decoder_gradients"] = torch.tensor(spent, dtype=torch.float64)
    directions = "annealing" if z is None else "bidirectional, annealing"
    origin = "the prior" if posterior is None else "q* and its curvature" if settings.curvature else "q*"
    kind = f"{directions} from {origin}, T={settings.temperatures}, C={settings.chains}, L={settings.leapfrog}"
    return LogMarginal(lower, upper, kind, diagnostics)


def _annealed(
    start: Start, z: Tensor | None, settings: Annealing, stream: torch.Generator
) -> tuple[Tensor, Tensor | None, dict[str, Tensor]]:
    """Lower bound [R] of the data of a start, the upper one where their exact z is known, and what the runs tell.

    From a mixture the label of a chain is part of its state: a forward chain draws it by the shares, a backward one
    by the shares that the components have of Q at the exact z, and the chains are independent of each other as the
    upper bound needs it.
    """
    x, path = start.target.x, start.path
    noise = hmc.refreshes(stream, (settings.chains, len(x), start.target.size), x.dtype)
    target = start.target.drawn(settings.chains, stream)
    ahead = follow(target, path, hmc.starting_point(target, next(noise).momentum), noise, settings.leapfrog)
    weights = LogMeanExp.of(ahead.log_weight)
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
    reverse, exact = start.target.exact(z[start.rows], settings.chains, stream)
    back = follow(reverse, path, exact, noise, settings.leapfrog, backward=True)
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


def follow(
    target: hmc.Target,
    path: Path,
    point: hmc.Point,
    noise: Iterator[hmc.Refresh],
    leapfrog: int,
    backward: bool = False,
) -> Run:
    """From q to p(z | x): log w = Σ_t (β_t − β_{t−1}) r(ε_{t−1}), where HMC at β_t takes ε_{t−1} to ε_t; or backward.

    r(ε) = f(ε) − log N(ε; 0, I); ``point`` holds ε_0 ~ N(0, I) [C, B, H], backward an exact draw of p(ε | x). A pure
    function of path, point and noise: nothing adapts. At β = 1 the weight is complete and nothing moves:
    (T − 1) · L decoder gradients a chain. Each transition is reversible, so that a backward run is the time reversal of
    a forward one, and w the same function of the states that were visited.

    Source: Neal, 2001; Grosse, Ghahramani and Adams, 2015.
    """
    ratios, acceptance = [hmc.log_ratio(point)], []
    diverged = torch.zeros_like(ratios[0])
    order = range(1, len(path.betas) - 1)
    for t in reversed(order) if backward else order:
        moved = hmc.transition(target, point, path.betas[t], path.step_sizes[t - 1], next(noise), leapfrog)
        point = moved.point
        ratios.append(hmc.log_ratio(point))
        acceptance.append(moved.acceptance.mean(0))
        diverged += moved.diverged
    if backward:
        ratios.reverse()
        acceptance.reverse()
    widths = path.betas.double().diff(dim=0)
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
    where = {}
    for number in start[start > 0].unique().long().tolist():
        few, many = (int(end) for end in modes[start == number].aminmax())
        several = f"{few} q*'s" if few == many else f"{few} to {many} q*'s"
        where[number] = "the prior" if STARTS[number] == "prior" else several
    if len(where) == 1 and bool((start > 0).all()):
        head, _, budget = kind.partition(", ")
        return f"{head.partition(' from ')[0]} from {where.popitem()[1]} (chosen on a pilot), {budget}"
    parts = [
        f"of {int((start == number).sum())} of {len(start)} data with several modes from {words}"
        for number, words in where.items()
    ]
    return f"{kind}; {', '.join(parts)} (chosen on a pilot)"
