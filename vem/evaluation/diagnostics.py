"""What the latent code of a whole split holds: active units, KL per dimension, ELBO surgery."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import Tensor

from vem.contracts import GenerativeModel, Inference, Posterior
from vem.errors import at_least
from vem.evaluation.elbo import BATCH, Inferred, inferred, spread
from vem.evaluation.surgery import ONE_POINT, surgery, surgery_terms
from vem.families.gaussian import DiagonalGaussianPosterior, FullGaussianPosterior
from vem.models.modes import evaluating
from vem.noise import generator
from vem.numerics import mean_and_se, weighted_sum
from vem.storage.records import number

ACTIVE_VARIANCE = 0.01  # Burda, Grosse and Salakhutdinov, 2016, §5.2


@torch.no_grad()
def diagnose(
    model: GenerativeModel, strategy: Inference, x: Tensor, *, training_rows: bool, points: int = 1000,
    num_data: int | None = None, seed: int, name: str, batch_size: int = BATCH,
) -> dict[str, Any]:  # fmt: skip
    """Diagnostics of the strategy's q over ``num_data`` data (None: all) of the split x [N, *X], ready for JSON.

    - ``active_units``: dimensions with ``unit_variance`` Var_n(E_q[z_h]) > 0.01;
    - ``kl_per_dimension``: ``mean`` over the data and ``se`` [H] of KL(q(z_h | x_n) ‖ N(0, 1)), ``of`` what;
    - ``surgery``: ``elbo`` = ``reconstruction`` − ``mutual_information`` − ``marginal_kl``, nats, each with
      ``se``: see :func:`vem.evaluation.surgery.surgery`; for an index z exact, by enumeration, with ``se`` 0;
    - ``components_used`` (an index z): components that are the likeliest one of at least one data point.

    q is that of :func:`vem.evaluation.elbo.score`, kept for all data: 24 MB for 60,000 diagonal Gaussians of H = 50 in
    float32, 600 MB for full ones. What a family or a q that is not finite cannot give is null with its reason.

    Raises:
        VemError: ``points`` or ``num_data`` below 1.

    Source: Burda, Grosse and Salakhutdinov, 2016, §5.2; Hoffman and Johnson, 2016.
    """
    at_least(points, 1, "points")
    if num_data is not None:
        at_least(num_data, 1, "num_data")
    if strategy.no_elbo is not None:
        return {"value": None, "reason": strategy.no_elbo}
    rows = spread(len(x) if num_data is None else num_data, len(x)).to(x.device)
    with evaluating(model):
        batches = inferred(
            model, strategy, x, rows, training_rows=training_rows, seed=seed, name=name, batch_size=batch_size
        )
        if model.latent == "index":
            return _of_index(model, x, batches)
        return _of_real(model, x, list(batches), points, generator(x.device, seed, name, "diagnose"))


# --- a continuous z


def _of_real(
    model: GenerativeModel, x: Tensor, batches: Sequence[Inferred], points: int, stream: torch.Generator
) -> dict[str, Any]:
    means = torch.cat([b.posterior.mean() for b in batches]).double()
    out: dict[str, Any] = {"num_data": len(means), "active_unit_threshold": ACTIVE_VARIANCE}
    bad = torch.cat([b.rows[~_finite(b.posterior)] for b in batches])
    if len(bad):
        first = f"the first of them row {int(bad[0])} of the split"
        undefined = number(None, f"q is not finite for {len(bad)} of {len(means)} data, {first}")
        return out | dict.fromkeys(("active_units", "unit_variance", "kl_per_dimension", "surgery"), undefined)
    variance = means.var(0, correction=0)
    alone = {"value": None, "reason": "one datum has no variance over data"} if len(means) == 1 else None
    return out | {
        "active_units": alone or int((variance > ACTIVE_VARIANCE).sum()),
        "unit_variance": alone or variance.tolist(),
        "kl_per_dimension": _kl_per_dimension(model, batches),
        "surgery": surgery(model, x, batches, points, stream),
    }


def _finite(q: Posterior) -> Tensor:
    """Which q are finite, with a scale that is neither 0 nor infinite, [B]."""
    finite = q.mean().isfinite().all(-1)
    if isinstance(q, DiagonalGaussianPosterior):
        finite = finite & q.log_scale.isfinite().all(-1)
    if isinstance(q, FullGaussianPosterior):
        positive = q.scale_tril.diagonal(dim1=-2, dim2=-1) > 0
        finite = finite & q.scale_tril.isfinite().all(-1).all(-1) & positive.all(-1)
    return finite


def _kl_per_dimension(model: GenerativeModel, batches: Sequence[Inferred]) -> dict[str, Any]:
    """½ (μ_h² + σ_h² − 1 − log σ_h²) of each dimension, its mean and error over the data [H]."""
    of, parts = "factors of q", []
    for _, _, q in batches:
        if model.prior_kind != "standard_normal":
            return {"value": None, "reason": f"the prior is {model.prior_kind}, not standard normal"}
        if isinstance(q, DiagonalGaussianPosterior):
            variance = (2 * q.log_scale.double()).exp()
        elif isinstance(q, FullGaussianPosterior):
            variance = q.scale_tril.double().square().sum(-1)
            of = "marginals of q: they do not add up to KL(q ‖ p), which also counts their correlation"
        else:
            return {"value": None, "reason": f"{type(q).__name__} has no closed form for one dimension"}
        parts.append(0.5 * (q.mean().double().square() + variance - 1 - variance.log()))
    found = [mean_and_se(column) for column in torch.cat(parts).T]
    return {"mean": [number(m) for m, _ in found], "se": [number(se, ONE_POINT) for _, se in found], "of": of}


# --- an index z


def _of_index(model: GenerativeModel, x: Tensor, batches: Iterator[Inferred]) -> dict[str, Any]:
    """The same by enumeration: I = H(r̄) − mean H(r_n), KL(r̄ ‖ π), with r̄ = (1/N) Σ_n r_n; nothing is drawn."""
    components = torch.arange(model.latent_size, device=x.device)
    log_prior = model.log_prior(components[:, None])[:, 0].double()
    total = torch.zeros_like(log_prior)
    used = torch.zeros_like(components, dtype=torch.bool)
    num, negative_entropy, reconstruction = 0, x.new_zeros((), dtype=torch.float64), 0.0
    for rows, _, posterior in batches:
        r = posterior.mean().double()
        num += len(r)
        total += r.sum(0)
        negative_entropy += torch.special.xlogy(r, r).sum()
        used[r.argmax(1)] = True
        draws = posterior.draws(None)
        log_likelihood = model.log_likelihood(x[rows], draws.z)
        reconstruction += float(weighted_sum(draws.log_weight, log_likelihood).double().sum())
    mean = total / num
    entropy = -torch.special.xlogy(mean, mean).sum()
    marginal = float(-entropy - torch.where(mean > 0, mean * log_prior, 0.0).sum())
    fit, information = reconstruction / num, float(entropy + negative_entropy / num)
    terms = {"reconstruction": fit, "mutual_information": information, "marginal_kl": marginal}
    exact = {name: (value, 0.0) for name, value in {**terms, "elbo": fit - information - marginal}.items()}
    no_axis = {"value": None, "reason": "z is an index: it has components, not dimensions"}
    return {
        "num_data": num,
        "components_used": int(used.sum()),
        "active_units": no_axis,
        "kl_per_dimension": no_axis,
        "surgery": surgery_terms(num, None, **exact),
    }
