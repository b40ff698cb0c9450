"""Bidirectional Monte Carlo: on data simulated from the model, log p(x) between two annealing runs."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

from vem.contracts import GenerativeModel, LogMarginal, Posterior
from vem.errors import at_least
from vem.evaluation.bounds.annealing import kind, looks_for_modes, marks, put, summarized
from vem.evaluation.bounds.annealing_path import Annealing, prepare
from vem.evaluation.bounds.annealing_run import Tick, backward, forward
from vem.evaluation.bounds.curvature import invertible
from vem.evaluation.bounds.hmc import Target, frozen, refreshes, starting_point
from vem.evaluation.bounds.several import Start, choose, exact_point
from vem.noise import fill


class Simulated(NamedTuple):
    """Pairs drawn from the model, and log p(x) between two bounds."""

    z: Tensor  # [N, H]
    x: Tensor  # [N, *X]
    log_marginal: LogMarginal  # lower and upper [N], each in the mean over its noise
    decoder_gradients: float  # for each datum: pilot and both directions; what ``start`` spent comes on top


def bidirectional(
    model: GenerativeModel,
    num: int,
    start: Callable[[Tensor], Posterior | None],
    settings: Annealing,
    pilot_stream: torch.Generator,
    stream: torch.Generator,
    tick: Tick | None = None,
    modes_stream: torch.Generator | None = None,
) -> Simulated:
    """Lower and upper bounds on log p(x) for ``num`` pairs (z, x) simulated from the model, nats per datum.

    lower = log (1/C) Σ_c w_c,  upper = mean over c of log (w̃_c + Σ_k w_k) / (C + 1)

    w_1 … w_C come from a forward run, and w̃_c from backward runs that start at the exact z. ``start`` gives the q to
    anneal from for x [N, *X], or None for the prior. ``tick`` is called ``num_ticks(settings, 2)`` times. The width
    upper − lower, in the mean, is above what either bound misses on such data. It says nothing certain of real
    data, which the model did not make.

    Raises:
        VemError: ``num`` below 1; a q whose transport cannot be undone; as
            :func:`vem.evaluation.bounds.annealing.anneal`.

    Source: Grosse, Ghahramani and Adams, 2015; Sobolev and Vetrov, 2019; Brekelmans et al., 2022.
    """
    at_least(num, 1, "evaluation.simulated.num_data")
    with frozen(model):
        dtype = next((p.dtype for p in model.parameters()), torch.float32)
        z, x = model.sample(fill(model.sample_noise(num), stream, dtype))
        return enclose(model, z, x, start(x), settings, pilot_stream, stream, tick, modes_stream)


def enclose(
    model: GenerativeModel,
    z: Tensor,
    x: Tensor,
    posterior: Posterior | None,
    settings: Annealing,
    pilot_stream: torch.Generator,
    stream: torch.Generator,
    tick: Tick | None = None,
    modes_stream: torch.Generator | None = None,
) -> Simulated:
    """The same for pairs z [B, H], x [B, *X] that are known to come from p(x, z), a chunk of them for example."""
    if posterior is not None:
        invertible(posterior)
    with frozen(model):
        target, found = prepare(Target(model, x, posterior), settings, pilot_stream, tick)
        path = found.path
        noise = refreshes(stream, (settings.chains, len(x), target.size), x.dtype)
        ahead = forward(target, path, starting_point(target, next(noise).momentum), noise, settings.leapfrog, tick)
        back = backward(target, path, exact_point(target, z, settings.chains), noise, settings.leapfrog, tick)
        lower, diagnostics = summarized(ahead, path)
        upper = upper_bound(ahead.log_weight, back.log_weight)
        diagnostics["backward_acceptance"] = back.acceptance
        spent = float(target.gradients)
        if modes_stream is not None and looks_for_modes(settings, posterior):
            chosen = choose(target, found, settings, modes_stream, tick)
            spent += chosen.gradients
            diagnostics |= marks(chosen)
            for other in chosen.starts:
                spent += _from_elsewhere(other, z, settings, modes_stream, lower, upper, diagnostics, tick) / len(x)
    diagnostics["decoder_gradients"] = torch.tensor(spent, dtype=torch.float64)
    return Simulated(z, x, LogMarginal(lower, upper, f"bidirectional, {kind(settings, posterior)}", diagnostics), spent)


def _from_elsewhere(
    other: Start, z: Tensor, settings: Annealing, stream: torch.Generator, lower: Tensor, upper: Tensor,
    diagnostics: dict[str, Tensor], tick: Tick | None,
) -> float:  # fmt: skip
    """Both directions from another start than q*, written into the numbers of its data; the gradients of all of them.

    From a mixture the label of a chain is part of its state: a forward chain draws it by the shares, a backward one
    by the shares that the components have of Q at the exact z, and the chains are independent of each other as the
    upper bound needs it.
    """
    shape = (settings.chains, len(other.rows), z.shape[-1])
    noise = refreshes(stream, shape, z.dtype)
    target = other.chains(settings.chains, stream)
    start = starting_point(target, next(noise).momentum)
    ahead = forward(target, other.path, start, noise, settings.leapfrog, tick)
    reverse, exact = other.exact(z, settings.chains, stream)
    back = backward(reverse, other.path, exact, noise, settings.leapfrog, tick)
    low, its = summarized(ahead, other.path)
    put(lower, diagnostics, other.rows, low, its | {"backward_acceptance": back.acceptance})
    upper[other.rows] = upper_bound(ahead.log_weight, back.log_weight)
    return float(target.gradients * len(other.rows))


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
