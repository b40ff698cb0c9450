"""Annealed importance sampling from q to p(z | x): a lower bound on log p(x) that is close for few gradients."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from vem.contracts import GenerativeModel, LogMarginal, Posterior
from vem.evaluation.bounds.annealing_path import Annealing, prepare
from vem.evaluation.bounds.annealing_run import Path, Run, Tick, forward, path_ess
from vem.evaluation.bounds.hmc import Target, frozen, refreshes, starting_point
from vem.evaluation.bounds.importance import LogMeanExp
from vem.evaluation.bounds.several import Chosen, choose
from vem.evaluation.measured import ESS, MC_VARIANCE, MODES, MORE, START, STARTS


def anneal(
    model: GenerativeModel,
    x: Tensor,
    posterior: Posterior | None,
    settings: Annealing,
    pilot_stream: torch.Generator,
    stream: torch.Generator,
    tick: Tick | None = None,
    modes_stream: torch.Generator | None = None,
) -> LogMarginal:
    """A lower bound on log p(x) by annealed importance sampling with Hamiltonian transitions, nats per datum.

    log p(x) ≥ E log (1/C) Σ_c w_c,  E[w_c] = p(x)

    x [B, *X]; ``posterior`` is the q to start from, None for the prior. → lower [B] in float64; ``mc_variance``,
    ``ess``, ``diverged`` [B]; ``acceptance``, ``step_size`` [T − 1, B]; ``path_ess``, ``beta`` [T, B];
    ``decoder_gradients``, for each datum, the pilot's among them. The path is found on ``pilot_stream`` and then
    held, so that E[w_c] = p(x) given the path. With ``modes_stream``, data that have several modes may start
    elsewhere (:func:`vem.evaluation.bounds.several.choose`); then ``start`` and ``modes`` [B] say where. Memory grows
    with C · B · H, and with 2H · B · H where the curvature is used. ``tick`` is called :func:`num_ticks` times, more
    where there are several modes; what it raises ends the work.

    Raises:
        VemError: z is an index; q has no density; log p(x, z) is NaN or +∞ at the start.

    Source: Neal, 2001; Wu et al., 2017.
    """
    with frozen(model):
        target, found = prepare(Target(model, x, posterior), settings, pilot_stream, tick)
        path = found.path
        noise = refreshes(stream, (settings.chains, len(x), target.size), x.dtype)
        start = starting_point(target, next(noise).momentum)
        run = forward(target, path, start, noise, settings.leapfrog, tick)
        lower, diagnostics = summarized(run, path)
        spent = float(target.gradients)
        if modes_stream is not None and looks_for_modes(settings, posterior):
            chosen = choose(target, found, settings, modes_stream, tick)
            spent += chosen.gradients
            diagnostics |= marks(chosen)
            for other in chosen.starts:
                chains = other.chains(settings.chains, modes_stream)
                noise = refreshes(modes_stream, (settings.chains, len(other.rows), target.size), x.dtype)
                run = forward(
                    chains, other.path, starting_point(chains, next(noise).momentum), noise, settings.leapfrog, tick
                )
                spent += chains.gradients * len(other.rows) / len(x)
                put(lower, diagnostics, other.rows, *summarized(run, other.path))
    diagnostics["decoder_gradients"] = torch.tensor(spent, dtype=torch.float64)
    return LogMarginal(lower, None, kind(settings, posterior), diagnostics)


def looks_for_modes(settings: Annealing, posterior: Posterior | None) -> bool:
    """Whether other starts than q* are looked for; from the prior every mode is reached alike."""
    return settings.modes > 1 and posterior is not None


def marks(chosen: Chosen) -> dict[str, Tensor]:
    """Where each datum starts, as a place in ``STARTS``, how many modes it has, and whether it has more: [B] each."""
    start = torch.zeros_like(chosen.modes)
    for other in chosen.starts:
        start[other.rows] = STARTS.index(other.name)
    return {START: start.double(), MODES: chosen.modes.double(), MORE: chosen.open_end.double()}


def put(lower: Tensor, diagnostics: Mapping[str, Tensor], rows: Tensor, own: Tensor, its: Mapping[str, Tensor]) -> None:
    """Write the numbers of some of the data into those of all, in place; the data are the last axis."""
    lower[rows] = own
    for name, values in its.items():
        diagnostics[name][..., rows] = values


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


def num_ticks(settings: Annealing, directions: int = 1) -> int:
    """How often ``tick`` is called: once for each temperature of the pilot and of each direction."""
    return settings.pilot_temperatures + directions * (settings.temperatures - 1)
