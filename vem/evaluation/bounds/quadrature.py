"""log p(x) by adaptive quadrature over one or two latent dimensions, and the posterior density for pictures."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from vem.contracts import GenerativeModel, LogMarginal, Posterior
from vem.errors import VemError, positive
from vem.evaluation.bounds import cubature
from vem.evaluation.bounds.cubature import Found, Hint, Tiles
from vem.evaluation.bounds.importance import refuse_invalid, which
from vem.evaluation.measured import MC_VARIANCE
from vem.models.deep import DeepLatentModel
from vem.models.modes import evaluating
from vem.noise import fill, generator

MAX_FLOATS = 2**20  # floats of x or z that the decoder sees at once
TOLERANCE = 1e-4  # nats
FIRST_TILES = {1: 64, 2: 8}  # tiles along each axis of the first grid, by H
FIRST_POINTS = {size: (cubature.NODES * tiles) ** size for size, tiles in FIRST_TILES.items()}
REACH = 8.0  # the first box, in standard deviations of the prior: mass 1e-15 lies beyond
MAX_DOUBLINGS = 6  # of the box, where a posterior touches its edge: up to 512 standard deviations


def quadrature(
    model: GenerativeModel, x: Tensor, *, centre: Posterior | None = None, tolerance: float = TOLERANCE
) -> LogMarginal:
    """log p(x) = log ∫ p(x, z) dz for H = 1 or 2 and any decoder, as lower and upper; nats per data point.

    x [B, *X] → lower = upper [B] in float64, ``error`` [B]: the sum over tiles of what halving each of them changed,
    and rounding in the model's type. It is at most ``tolerance`` but for jumps of log p(x | z) and coarse types.

    The box of ± 8 standard deviations of the prior (widened where a posterior touches its edge) is cut into tiles
    with 8 Gauss–Legendre nodes an axis, which are halved until that changes nothing; a tile that can hold no mass, by
    its peak and its second differences, is left. A mode much narrower than the first nodes' distance (0.3 for H = 2,
    0.05 for H = 1) that leaves no slope at any node is found only where the mean of ``centre``, some q, points at it.

    Raises:
        VemError: H above 2, a tolerance that is not positive, log p(x | z) = NaN or +∞ somewhere or −∞ everywhere,
            a posterior beyond every box.

    Source: Davis and Rabinowitz, 1984, ch. 6 (adaptive integration).
    """
    found = _integrate(model, x, centre, tolerance)
    diagnostics = {"error": found.error, MC_VARIANCE: torch.zeros_like(found.error)}
    return LogMarginal(found.log_integral, found.log_integral, "quadrature", diagnostics)


def posterior_boxes(
    model: GenerativeModel, x: Tensor, *, centre: Posterior | None = None, nats: float = 8.0
) -> tuple[Tensor, Tensor]:
    """For each data point a box that covers where p(z | x) is within ``nats`` of its maximum, and log p(x) [B].

    The boxes [B, H, 2] hold low and high; 8 nats are four standard deviations of a Gaussian. Raises what
    :func:`quadrature` raises.
    """
    found = _integrate(model, x, centre, TOLERANCE, nats)
    tiles = found.tiles
    index = tiles.datum[:, None].expand_as(tiles.low)
    low = torch.full((len(x), model.latent_size), torch.inf, dtype=torch.float64, device=x.device)
    high = low.neg().scatter_reduce(0, index, tiles.low + tiles.width, "amax")
    return torch.stack([low.scatter_reduce(0, index, tiles.low, "amin"), high], -1), found.log_integral


def joint_on_grid(model: GenerativeModel, x: Tensor, boxes: Tensor, n: int) -> tuple[Tensor, Tensor]:
    """log p(x, z) on n × n points of a box [B, 2, 2] for each data point (H = 2), the edges of the box included.

    → axes [B, 2, n]: z_1 of the columns and z_2 of the rows, both ascending; log p(x, z) [B, n, n] in float64.
    """
    low, high = boxes.double().unbind(-1)
    share = torch.linspace(0, 1, n, dtype=torch.float64, device=x.device)
    axes = low[..., None] + (high - low)[..., None] * share
    rows, columns = torch.meshgrid(torch.arange(n), torch.arange(n), indexing="ij")
    z = torch.stack([axes[:, 0, columns.flatten()], axes[:, 1, rows.flatten()]], -1).transpose(0, 1)  # [n², B, 2]
    with torch.no_grad(), evaluating(model):
        log_joint = _Integrand(model, x)(z, torch.arange(len(x), device=x.device))
    return axes, log_joint.T.reshape(len(x), n, n)


class _Integrand:
    """log p(x, z) in float64, in blocks that bound the memory."""

    def __init__(self, model: GenerativeModel, x: Tensor) -> None:
        self.model, self.x = model, x
        self.width = max(model.latent_size, x[0].numel())

    def __call__(self, z: Tensor, datum: Tensor) -> Tensor:
        """z [P, T, H], datum [T] → [P, T]."""
        columns = max(1, MAX_FLOATS // (len(z) * self.width))
        rows = min(len(z), max(1, MAX_FLOATS // self.width))
        parts = zip(z.split(columns, 1), datum.split(columns), strict=True)
        return torch.cat([torch.cat([self._block(piece, d) for piece in part.split(rows)]) for part, d in parts], 1)

    def shared(self, z: Tensor, datum: Tensor) -> Tensor:
        """The same z [S, H] for all of the data [b]: → [S, b]; a deep decoder sees each z once."""
        points = max(1, MAX_FLOATS // (len(datum) * self.width))
        return torch.cat([self._block(part[:, None], datum) for part in z.split(points)])

    def _block(self, z: Tensor, datum: Tensor) -> Tensor:
        x, z = self.x[datum], z.to(self.x.dtype)
        if z.shape[1] != len(datum) and isinstance(self.model, DeepLatentModel):
            output = self.model.output(z)
            output = output.expand(len(z), len(datum), *output.shape[2:])
            log_likelihood = self.model.likelihood.log_prob(x, output)
        else:
            log_likelihood = self.model.log_likelihood(x, z.expand(-1, len(datum), -1))
        refuse_invalid(log_likelihood, datum, len(self.x))
        return log_likelihood.double() + self.model.log_prior(z).double()


def _integrate(
    model: GenerativeModel, x: Tensor, centre: Posterior | None, tolerance: float, nats: float = 0.0
) -> Found:
    if model.latent == "index":
        raise VemError("quadrature is over a continuous z; an index is enumerated: take the exact log p(x).")
    if model.latent_size > 2:
        raise VemError(
            f"latent_dim={model.latent_size}: quadrature is for at most 2 latent dimensions. Take the exact log p(x) "
            "where the model has one, else annealing from q* or an importance-weighted bound."
        )
    positive(tolerance, "tolerance", ": a number of nats.")
    with torch.no_grad(), evaluating(model):
        integrand = _Integrand(model, x)
        middle, scale = _prior_scale(model, x)
        hint = _hint(integrand, centre, middle, scale * REACH * 2**MAX_DOUBLINGS)
        tiles = _first_tiles(integrand, hint, middle, scale, tolerance)
        eps = torch.finfo(x.dtype).eps
        found = cubature.refine(integrand, tiles, hint, tolerance=tolerance, eps=eps, max_points=MAX_FLOATS, near=nats)
    # What the type of the model leaves open, whatever the resolution.
    rounding = eps * (16 + 4 * found.peak.abs())
    return found._replace(error=found.error + rounding)


def _hint(integrand: _Integrand, centre: Posterior | None, middle: Tensor, reach: Tensor) -> Hint:
    """The mean of ``centre``, kept within the widest box; a q that diverged points at the prior's mean."""
    datum = torch.arange(len(integrand.x), device=middle.device)
    if centre is None:
        return Hint(middle.expand(len(datum), -1), torch.full_like(datum, -torch.inf, dtype=torch.float64))
    offset = (centre.mean().double() - middle).nan_to_num(0.0, 0.0, 0.0)
    where = middle + torch.maximum(torch.minimum(offset, reach), -reach)
    return Hint(where, integrand(where[None], datum).squeeze(0))


def _first_tiles(integrand: _Integrand, hint: Hint, middle: Tensor, scale: Tensor, tolerance: float) -> Tiles:
    """The tiles of the first grid for every data point, its box wide enough.

    Raises:
        VemError: an impossible x, a posterior that touches the edge of the widest box.
    """
    x, size = integrand.x, integrand.model.latent_size
    across = FIRST_TILES[size]
    corner = cubature.product(torch.arange(across, device=x.device).double() / across, size)  # in the unit box
    near = math.log(1 / tolerance) + 8  # nats; what is lower at the edge adds less than the tolerance beyond it
    parts, peak = [], hint.value.clone()
    waiting, reach = torch.arange(len(x), device=x.device), REACH
    for _ in range(MAX_DOUBLINGS + 1):
        wide = []
        low, width = middle + reach * scale * (2 * corner - 1), 2 * reach * scale / across
        z = cubature.points(low, width.expand_as(low))  # [P, T, H]
        off = (z - middle).abs()
        outer = (off > (1 - 1e-9) * off.amax((0, 1))).any(-1).flatten()  # the nodes next to the edge
        # One block of data at a time keeps its whole first grid.
        for datum in waiting.split(max(1, MAX_FLOATS // FIRST_POINTS[size])):
            f = integrand.shared(z.flatten(0, 1), datum)
            peak[datum] = torch.maximum(peak[datum], f.amax(0))
            touching = f[outer].amax(0) > peak[datum] - near
            outside = ((hint.where[datum] - middle).abs() > reach * scale).any(-1)
            touching |= outside & (hint.value[datum] > peak[datum] - near)
            wide.append(datum[touching])
            kept = datum[~touching]
            f = f[:, ~touching].reshape(len(z), len(low) * len(kept))
            spread = low.repeat_interleave(len(kept), 0)
            parts.append(cubature.measured(f, kept.repeat(len(low)), spread, width.expand_as(spread)))
        impossible = peak == -torch.inf
        if bool(impossible.any()):
            raise VemError(f"{which(impossible)}: log p(x | z) = −∞ at every z, so these x are impossible.")
        waiting, reach = torch.cat(wide), 2 * reach
        if not len(waiting):
            return cubature.joined(parts)
    beyond = torch.zeros(len(x), dtype=torch.bool, device=x.device).index_fill(0, waiting, True)
    raise VemError(
        f"the posterior of {which(beyond)} touches the edge at {reach / 2:g} standard deviations of the prior: these x "
        "are far from what the model knows. Check their scale (data.standardize), or leave them out."
    )


def _prior_scale(model: GenerativeModel, x: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and standard deviation [H] of the prior."""
    if model.prior_kind == "standard_normal":
        zero = torch.zeros(model.latent_size, device=x.device, dtype=torch.float64)
        return zero, zero + 1
    stream = generator(x.device, "quadrature", "prior")
    z = model.sample(fill(model.sample_noise(4096), stream, x.dtype))[0].double()
    return z.mean(0), z.std(0)
