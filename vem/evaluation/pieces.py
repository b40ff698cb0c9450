"""What the instrument does to one chunk of data: q, the best q of each family, bounds on log p(x)."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import NamedTuple

import torch
from torch import Tensor

from vem.ascent.best import BestQ, best_q
from vem.ascent.starting import mode_params, params_of, prior_params
from vem.contracts import Family, GenerativeModel, LogMarginal, Posterior, TractableModel
from vem.errors import VemError
from vem.evaluation.bounds.annealing import anneal
from vem.evaluation.bounds.importance import exact, importance_bound, prior_monte_carlo
from vem.evaluation.bounds.quadrature import quadrature
from vem.evaluation.measured import FamilyScores
from vem.evaluation.settings import Evaluation

QUADRATURE = 2  # largest H for which log p(x) is a quadrature
Streams = Callable[[str], torch.Generator]  # a stream of noise of its own for each purpose
Stage = Callable[[str], None]  # told what begins


class Searched(NamedTuple):
    """The best q's of one chunk."""

    scores: dict[str, FamilyScores]
    posteriors: dict[str, Posterior]  # by family, the poorest first


def search(
    model: GenerativeModel,
    x: Tensor,
    posterior: Posterior | None,
    families: Mapping[str, Family],
    settings: Evaluation,
    streams: Streams,
    stage: Stage,
    tick: Callable[[], None],
) -> Searched:
    """The best q of every family for x [B, *X]; ``posterior`` is the strategy's q, None where it has none.

    The poorest family starts at the strategy's q, at the prior and at a mode; a richer one at what has been
    found before it, and so in the modes that these have found. A family that contains
    a poorer one starts there exactly and cannot end below it, up to noise; one that does not starts at a q of
    its own with the same mean and spread, and can.
    """
    out = Searched({}, {})
    if settings.best is None:
        return out
    for name, family in sorted(families.items(), key=lambda item: item[1].num_params):
        stage(f"best {name}")
        stream = streams(f"best {name}")
        # Where the best q of the strategy's own kind is known, its q has nothing to add.
        surpassed = any(type(best) is type(posterior) for best in out.posteriors.values())
        known = {**({} if posterior is None or surpassed else {"q": posterior}), **out.posteriors}
        starts = {key: params_of(family, q, stream, x.dtype) for key, q in known.items()}
        spent = torch.zeros(len(x), device=x.device)
        if not out.posteriors:
            starts["prior"] = prior_params(family, x)
            starts["mode"], raised = mode_params(model, family, x, stream)
            spent = spent + raised
        found = best_q(model, family, x, starts, settings.best, stream, tick)
        out.scores[name] = _scores(found, spent)
        out.posteriors[name] = family(found.params)
    return out


def _scores(found: BestQ, spent: Tensor) -> FamilyScores:
    return FamilyScores(
        found.elbo, found.mc_variance, found.certificate, found.certificate_variance, found.start_spread,
        found.gradient_norm, found.steps.double(), found.converged.double(), found.decoder_gradients + spent,
    )  # fmt: skip


def check_families(families: Mapping[str, Family], x: Tensor, settings: Evaluation) -> None:
    """Whether annealing can start at one of these families, said before the long search for their best q.

    Raises:
        VemError: none of them transports ε, which the whitened coordinates of annealing need.
    """
    if settings.annealing is None or settings.annealing.start != "best" or not families or not len(x):
        return
    if not any(_transports(family(prior_params(family, x[:1]))) for family in families.values()):
        raise VemError(
            f"annealing from q* moves in the coordinates ε of q, and {', '.join(families)} has no transport(ε): write "
            "that method, add a family that has one (+evaluation.families.NAME=…), or set evaluation.annealing=null."
        )


def _transports(q: Posterior) -> bool:
    return callable(getattr(q, "transport", None))


def richest(searched: Searched) -> Posterior | None:
    """The best q of the largest family that transports ε: where annealing and importance sampling start."""
    return next((q for q in reversed(searched.posteriors.values()) if _transports(q)), None)


def log_marginal(
    model: GenerativeModel,
    x: Tensor,
    searched: Searched,
    settings: Evaluation,
    streams: Streams,
    stage: Stage,
    tick: Callable[[], None],
) -> LogMarginal | None:
    """What is known of log p(x), by a rule fixed beforehand: exact, else quadrature (H ≤ 2), else annealing."""
    if isinstance(model, TractableModel):
        return exact(model, x)
    if settings.annealing is None:
        return None
    if model.latent_size <= QUADRATURE:
        stage("quadrature")
        return quadrature(model, x, centre=richest(searched))
    stage("annealing")
    start = richest(searched) if settings.annealing.start == "best" else None
    return anneal(model, x, start, settings.annealing, streams("pilot"), streams("annealing"), tick, streams("modes"))


def others(
    model: GenerativeModel, x: Tensor, searched: Searched, settings: Evaluation, streams: Streams, stage: Stage
) -> dict[str, LogMarginal]:
    """The bounds that are shown beside it, never mixed with it: importance-weighted, and from the prior."""
    out: dict[str, LogMarginal] = {}
    start = richest(searched)
    if settings.importance is not None and start is not None:
        stage("importance")
        out["importance"] = importance_bound(
            model, x, start, samples=settings.importance.samples, stream=streams("importance")
        )
    if settings.prior is not None:
        stage("prior")
        out["prior"] = prior_monte_carlo(model, x, samples=settings.prior.samples, stream=streams("prior"))
    return out
