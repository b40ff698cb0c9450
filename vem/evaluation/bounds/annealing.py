"""Annealed importance sampling from q to p(z | x): a lower bound on log p(x) that is close for few gradients."""

from __future__ import annotations

import torch
from torch import Tensor

from vem.contracts import GenerativeModel, LogMarginal, Posterior
from vem.evaluation.bounds.annealing_path import Annealing, prepare
from vem.evaluation.bounds.annealing_run import Path, Run, Tick, forward, path_ess
from vem.evaluation.bounds.hmc import Target, frozen, refreshes, starting_point
from vem.evaluation.bounds.importance import LogMeanExp
from vem.evaluation.measured import ESS, MC_VARIANCE


def anneal(
    model: GenerativeModel,
    x: Tensor,
    posterior: Posterior | None,
    settings: Annealing,
    pilot_stream: torch.Generator,
    stream: torch.Generator,
    tick: Tick | None = None,
) -> LogMarginal:
    """A lower bound on log p(x) by annealed importance sampling with Hamiltonian transitions, nats per datum.

    log p(x) ≥ E log (1/C) Σ_c w_c,  E[w_c] = p(x)

    x [B, *X]; ``posterior`` is the q to start from, None for the prior. → lower [B] in float64; ``mc_variance``,
    ``ess``, ``diverged`` [B]; ``acceptance``, ``step_size`` [T − 1, B]; ``path_ess``, ``beta`` [T, B];
    ``decoder_gradients``, for each datum, the pilot's among them. The path is found on ``pilot_stream`` and then held,
    so that E[w_c] = p(x) given the path. Memory grows with C · B · H, and with 2H · B · H where the curvature is
    used. ``tick`` is called :func:`num_ticks` times; what it raises ends the work.

    Raises:
        VemError: z is an index; q has no density; log p(x, z) is NaN or +∞ at the start.

    Source: Neal, 2001; Wu et al., 2017.
    """
    with frozen(model):
        target, path = prepare(Target(model, x, posterior), settings, pilot_stream, tick)
        noise = refreshes(stream, (settings.chains, len(x), target.size), x.dtype)
        start = starting_point(target, next(noise).momentum)
        run = forward(target, path, start, noise, settings.leapfrog, tick)
    lower, diagnostics = summarized(run, path)
    diagnostics["decoder_gradients"] = torch.tensor(float(target.gradients), dtype=torch.float64)
    return LogMarginal(lower, None, kind(settings, posterior), diagnostics)


def summarized(run: Run, path: Path) -> tuple[Tensor, dict[str, Tensor]]:
    """log mean_c w_c [B] of a forward run, and what else it tells; one chain has no Monte Carlo variance, NaN."""
    total = LogMeanExp(run.increments.shape[-1], run.increments.device)
    total.add(run.log_weight)
    return total.log_mean(), {
        MC_VARIANCE: total.variance(),
        ESS: total.ess(),
        "diverged": run.diverged,
        "acceptance": run.acceptance,
        "path_ess": path_ess(run.increments),
        "beta": path.betas[1:].double(),
        "step_size": path.step_sizes.double(),
    }


def kind(settings: Annealing, posterior: Posterior | None) -> str:
    """What the bound is called in tables.

    >>> kind(Annealing(), None)
    'annealing from the prior, T=50, C=8, L=3'
    """
    curved = " and its curvature" if settings.curvature else ""
    start = "the prior" if posterior is None else f"q*{curved}"
    return f"annealing from {start}, T={settings.temperatures}, C={settings.chains}, L={settings.leapfrog}"


def num_ticks(settings: Annealing, directions: int = 1) -> int:
    """How often ``tick`` is called: once for each temperature of the pilot and of each direction."""
    return settings.pilot_temperatures + directions * (settings.temperatures - 1)
