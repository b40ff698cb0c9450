"""The posterior of a two-dimensional z against its approximations: the arrays of the lecture's figure.

In ``pictures.npz``, for n chosen data, Q approximations and a grid of g × g points:

- ``posterior_x`` [n, *X], ``posterior_rows`` [n]: the data, and their rows in the split;
- ``posterior_axes`` [n, 2, g]: z_1 and z_2, ascending; densities have z_2 along rows and z_1 along columns;
- ``posterior_truth`` [n, g, g]: p(z | x); ``posterior_q`` [Q, n, g, g]: q(z), 0 where q is not finite;
- ``posterior_names`` [Q]; ``posterior_gaps`` [Q, n]: KL(q ‖ p(z | x)) in nats, NaN where q is not finite.

The figure of an annealing path reads ``path_betas`` and ``path_ess``, each [T] or [T, n]: the temperature that
each step ends at, and its conditional effective sample size as a share of the chains.

Source: Cremer, Li and Duvenaud, 2018, fig. 1 and 2.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from vem.contracts import GenerativeModel, PathPosterior, Posterior
from vem.evaluation.bounds.quadrature import posterior_boxes, posterior_grid, quadrature
from vem.families.gaussian import log_standard_normal
from vem.models.modes import evaluating

NUM_SHOWN = 4  # data in the figure
GRID = 121
NODES = 40  # of the Gauss–Hermite rule, along each axis
SHOWN_NATS = 5.0  # below its peak the truth's density ends in the picture: 3.2 standard deviations of a Gaussian
RING = math.sqrt(-2 * math.log(0.01))  # the circle that holds 99 % of N(0, I) in the plane
FARTHEST = 20.0  # no picture reaches beyond this
NO_WEIGHT = 1e-14  # nodes below this weigh nothing, and lie where a decoder may overflow
CHUNK = 250  # points of one pass through the decoder, for each datum

Arrays = dict[str, NDArray[Any]]


@torch.no_grad()
def planes(model: GenerativeModel, x: Tensor, rows: Tensor, posteriors: Mapping[str, Posterior]) -> Arrays:
    """Densities on a grid that fits each datum, and each q's distance from the truth; nothing unless H = 2.

    x [n, *X] are the ``rows`` [n] of their split; ``posteriors``, by the name to show, hold q for each of them
    (one whose density is known at its own draws alone, without ``frozen_log_q``, is not shown).
    KL(q ‖ p(z | x)) = log p(x) − L[q], log p(x) by quadrature and L[q] by a Gauss–Hermite rule in the ε that q
    is transported from.

    Raises:
        VemError: what :func:`vem.evaluation.bounds.quadrature.quadrature` raises.
    """
    shown = {name: q for name, q in posteriors.items() if isinstance(q, PathPosterior)}
    if model.latent != "real" or model.latent_size != 2 or not shown:
        return {}
    # A q that points at the posterior, so that quadrature finds one that is very narrow.
    centre = next((q for q in shown.values() if bool(q.mean().isfinite().all())), None)
    with evaluating(model):
        boxes = _views(posterior_boxes(model, x, centre=centre, nats=SHOWN_NATS), shown.values())
        truth = posterior_grid(model, x, boxes, GRID, centre=centre)
        log_marginal = quadrature(model, x, centre=centre).lower
        assert log_marginal is not None
        gaps = [log_marginal - _elbo(model, x, q) for q in shown.values()]
    densities = [_density(q, truth.axes.to(x.dtype)) for q in shown.values()]
    return {
        "posterior_x": _array(x),
        "posterior_rows": rows.cpu().numpy(),
        "posterior_axes": _array(truth.axes),
        "posterior_truth": _array(truth.log_density.exp()),
        "posterior_q": _array(torch.stack(densities)),
        "posterior_names": np.array(list(shown)),
        "posterior_gaps": _array(torch.stack(gaps)),
    }


def _views(truth: Tensor, posteriors: Iterable[Posterior]) -> Tensor:
    """A square box [n, 2, 2] around the truth's and 99 % of each q that is finite, with a margin."""
    angle = torch.linspace(0, 2 * math.pi, 65, device=truth.device, dtype=truth.dtype)[:-1]
    ring = RING * torch.stack([angle.cos(), angle.sin()], -1)[:, None].expand(-1, len(truth), -1)
    points = torch.cat([q.transport(ring.to(q.mean()))[0].to(truth) for q in posteriors])  # [S, n, 2]
    finite = points.isfinite().all(-1, keepdim=True)
    points = torch.where(finite, points, truth.mean(-1)).clamp(-FARTHEST, FARTHEST)
    low, high = torch.minimum(truth[..., 0], points.amin(0)), torch.maximum(truth[..., 1], points.amax(0))
    half = 0.53 * (high - low).amax(-1, keepdim=True)
    middle = (low + high) / 2
    return torch.stack([middle - half, middle + half], -1)


def _elbo(model: GenerativeModel, x: Tensor, q: Posterior) -> Tensor:
    """L[q] [n] = E_ε[log p(x, z) + log|dz/dε| − log N(ε; 0, I)], z = transport(ε), by a Gauss–Hermite rule."""
    node, weight = np.polynomial.hermite_e.hermegauss(NODES)
    weight = np.outer(weight, weight).ravel() / weight.sum() ** 2
    kept = weight > NO_WEIGHT
    eps = torch.as_tensor(np.stack(np.meshgrid(node, node), -1).reshape(-1, 2)[kept]).to(x)
    total = torch.zeros(len(x), device=x.device, dtype=torch.float64)
    for part, w in zip(eps.split(CHUNK), torch.as_tensor(weight[kept]).to(x.device).split(CHUNK), strict=True):
        part = part[:, None].expand(-1, len(x), -1)
        z, log_det = q.transport(part)
        log_ratio = model.log_likelihood(x, z) + model.log_prior(z) + log_det - log_standard_normal(part)
        total += (w[:, None] * log_ratio.double()).sum(0)
    return total


def _density(q: PathPosterior, axes: Tensor) -> Tensor:
    """q(z) [n, g, g] on the grid, 0 where it is not a number."""
    n, _, size = axes.shape
    z = torch.stack([axes[:, 0, None, :].expand(n, size, size), axes[:, 1, :, None].expand(n, size, size)], -1)
    log_q = q.frozen_log_q(z.flatten(1, 2).transpose(0, 1))
    return log_q.T.reshape(n, size, size).exp().nan_to_num(0.0, posinf=0.0)


def _array(x: Tensor) -> NDArray[Any]:
    return x.detach().cpu().numpy().astype(np.float32)
