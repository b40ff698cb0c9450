"""torch.distributions objects as posteriors: Gaussians exactly, flows by transport, the rest by seeded draws."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.distributions import (
    Distribution,
    Independent,
    LowRankMultivariateNormal,
    MultivariateNormal,
    Normal,
    Transform,
    TransformedDistribution,
)
from torch.distributions.constraints import Constraint

from vem.contracts import Draws, NoiseSpec, Posterior
from vem.errors import VemError
from vem.external.borrowed import few, seeded
from vem.families.gaussian import (
    DiagonalGaussianPosterior,
    FullGaussianPosterior,
    GaussianPosterior,
    uniform_log_weight,
)

MEAN_DRAWS = 256  # behind the mean of a distribution that does not know it


def from_distribution(q: Distribution, x: Tensor, name: str) -> Posterior:
    """The posterior [B, H] that this distribution stands for, for the data x [B, *X]; ``name`` of its encoder.

    VemError if it is not continuous, or it, its draws or its log_prob are of another shape or not finite.
    """
    shape = tuple(q.batch_shape + q.event_shape)
    check_rows(shape, len(x), name)
    inner = _unwrapped(q)
    gaussian = _gaussian(inner, x)
    if gaussian is not None:
        return gaussian
    # A subclass that draws in its own way is not the transport of its base.
    if isinstance(inner, TransformedDistribution) and type(inner).rsample is TransformedDistribution.rsample:
        base = _gaussian(_unwrapped(inner.base_dist), None)
        maps = all(t.bijective and t.domain.event_dim <= 1 >= t.codomain.event_dim for t in inner.transforms)
        if base is not None and maps and tuple(base.location.shape) == shape:
            return TransportedPosterior(base, inner, x)
    other = DistributionPosterior(q, x)
    _check_draws(other, x, name)
    return other


def check_rows(shape: tuple[int, ...], num_data: int, name: str) -> None:
    """VemError if this is not [B, H], one row of numbers for each of ``num_data`` data."""
    if len(shape) == 2 and shape[0] == num_data:
        return
    if shape == (num_data,):
        remedy = "for one latent dimension give [B, 1]"
    elif len(shape) == 3 or (len(shape) == 2 and shape[0] > num_data):
        remedy = "give one λ for each datum, not one for each draw"
    else:
        remedy = "give one λ for each datum"
    raise VemError(
        f"encoder={name} gives q of shape {list(shape)}, and [B, H] = [{num_data}, H] was expected: {remedy}."
    )


def _unwrapped(q: Distribution) -> Distribution:
    """Without Independent, which only says which axes belong to the event: here it is always the last."""
    while isinstance(q, Independent):
        q = q.base_dist
    return q


def _gaussian(q: Distribution, like: Tensor | None) -> DiagonalGaussianPosterior | FullGaussianPosterior | None:
    """q as vem's own, in its own type or that of ``like``; None if it is none."""
    if not isinstance(q, Normal | LowRankMultivariateNormal | MultivariateNormal):
        return None
    like = q.loc if like is None else like
    if isinstance(q, Normal):
        return DiagonalGaussianPosterior(q.loc.to(like), q.scale.log().to(like))
    low_rank = isinstance(q, LowRankMultivariateNormal)
    scale_tril = torch.linalg.cholesky(q.covariance_matrix) if low_rank else q.scale_tril
    return FullGaussianPosterior(q.loc.to(like), scale_tril.to(like))


def _log_prob(q: Distribution, z: Tensor) -> Tensor:
    """log q(z) [S, B], whether or not the distribution counts the last axis to the event."""
    value: Tensor = q.log_prob(z)
    return value.sum(-1) if value.dim() == z.dim() else value


def support_of(q: Distribution) -> Constraint | None:
    """Where q has a density, if it says so."""
    try:
        return q.support
    except NotImplementedError:
        return None


class TransportedPosterior(GaussianPosterior):
    """q of a flow z = T_k ∘ … ∘ T_1(μ + L ε): the transforms of a TransformedDistribution over a Gaussian.

    log|dz/dε| = log|det L| + Σ_k log|det dT_k|. Source: Rezende and Mohamed, 2015, eq. 7.
    """

    def __init__(
        self, base: DiagonalGaussianPosterior | FullGaussianPosterior, flow: TransformedDistribution, like: Tensor
    ) -> None:
        self.base, self.flow = base, flow
        self.location = self.transport(torch.zeros_like(base.location)[None].to(like))[0][0]

    def transport(self, eps: Tensor) -> tuple[Tensor, Tensor]:
        """z [S, B, H] and log|dz/dε| [S, B]."""
        z, log_det = self.base.transport(eps.to(self.base.location))
        z, log_det = _moved(z, log_det, self.flow.transforms)
        return z.to(eps), log_det.to(eps)

    def mean(self) -> Tensor:
        """The image of ε = 0, a point that stands for z, [B, H]."""
        return self.location

    def frozen_log_q(self, z: Tensor) -> Tensor:
        """log q(z) [S, B], −∞ where the flow does not reach; λ came without a graph."""
        back = [step.inv for step in reversed(self.flow.transforms)]
        eps, change = _moved(z.to(self.base.location), torch.zeros_like(z[..., 0]), back)
        log_q = self.base.frozen_log_q(eps) + change
        return torch.where(log_q.isnan(), -torch.inf, log_q).to(z)


def _moved(z: Tensor, log_det: Tensor, steps: Sequence[Transform]) -> tuple[Tensor, Tensor]:
    """z [S, B, H] through these transforms in turn, and ``log_det`` [S, B] and the log of their determinants."""
    for step in steps:
        image = step(z)
        change = step.log_abs_det_jacobian(z, image)
        log_det = log_det + (change.sum(-1) if change.dim() == z.dim() else change)
        z = image
    return z, log_det


class DistributionPosterior:
    """Any continuous distribution over [B, H]: its own sampler, seeded from the noise, and its own log_prob.

    Torch's samplers take no noise, so the noise handed in becomes a seed of torch's global stream, which is put
    back: the same noise gives the same draws, and data stay independent. There is no transport.
    """

    def __init__(self, q: Distribution, like: Tensor) -> None:
        self.q = q
        self.like = like.new_zeros(1)  # where its draws are wanted, and in which type
        self.shape = tuple(q.batch_shape + q.event_shape)

    def noise(self, num_draws: int) -> NoiseSpec:
        """What the seed is taken from, [S, B, H]."""
        return NoiseSpec("normal", (num_draws, *self.shape))

    def draws(self, noise: Tensor | None) -> Draws:
        """Draws and their log q."""
        if noise is None:
            raise VemError(f"{type(self.q).__name__} needs noise [S, B, H] to seed its draws: none was given.")
        with seeded(noise):
            z = self.q.rsample(noise.shape[:1]) if self.q.has_rsample else self.q.sample(noise.shape[:1])
        log_q = _log_prob(self.q, z).to(noise)
        return Draws(z.to(noise), log_q, uniform_log_weight(log_q))

    def mean(self) -> Tensor:
        """E_q[z] [B, H], or the mean of some draws where the distribution does not know it."""
        try:
            return self.q.mean.expand(self.shape).to(self.like)
        except NotImplementedError:
            with seeded(self.like):
                return self.q.sample(torch.Size([MEAN_DRAWS])).mean(0).to(self.like)

    def frozen_log_q(self, z: Tensor) -> Tensor:
        """log q(z) [S, B], −∞ outside of its support; λ came without a graph."""
        support = support_of(self.q)
        inside = torch.ones_like(z[..., 0], dtype=torch.bool) if support is None else support.check(z)
        inside = inside.all(-1) if inside.dim() == z.dim() else inside
        # torch refuses a z outside: a point inside takes its place.
        log_q = _log_prob(self.q, torch.where(inside[..., None], z, self.mean()))
        return torch.where(inside, log_q, -torch.inf).to(z)


def _check_draws(q: DistributionPosterior, x: Tensor, name: str) -> None:
    kind = type(q.q).__name__
    if getattr(support_of(q.q), "is_discrete", False):
        raise VemError(f"encoder={name} gives a {kind}, whose draws are discrete: a density over real z is expected.")
    spec = q.noise(2)
    try:
        z, log_q, _ = q.draws(torch.zeros(spec.shape, device=x.device, dtype=x.dtype))
    except (RuntimeError, ValueError, NotImplementedError) as error:
        raise VemError(f"encoder={name} gives a {kind} without draws or log_prob: {error}.") from error
    if tuple(z.shape) != spec.shape or tuple(log_q.shape) != spec.shape[:2]:
        raise VemError(
            f"encoder={name} gives a {kind} with draws {list(z.shape)} and log_prob {list(log_q.shape)}: "
            f"{list(spec.shape)} and {list(spec.shape[:2])} were expected. Its batch shape must be [B], or [B, H]."
        )
    bad = ~(z.isfinite().all(-1) & log_q.isfinite()).all(0)
    if bool(bad.any()):
        raise VemError(
            f"encoder={name} gives a {kind} with draws or log_prob that are not finite for {int(bad.sum())} of "
            f"{len(bad)} data (rows {few(bad.nonzero().flatten())} of the batch): does it have a variance there?"
        )
