"""A q bent towards p(z | x): the mean curvature of log p(x, z) under q gives it a covariance and a better mean."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from vem.ascent.matched import matched
from vem.contracts import NoiseSpec
from vem.evaluation.bounds.hmc import Coordinates, Point, Target, invertible, log_ratio, starting_point

EIGENVALUES = (1 / 16, 16.0)  # of the curvature where q = N(0, I): one pass changes no width more than fourfold
PROBES = 32  # draws of a pass at least; 2H where that is more
REACH = 3.0  # the longest step of the mean in one pass, in standard deviations of q


class CurvedPosterior(NamedTuple):
    """z = transport of a base q at ε = m + A η, with η ~ N(0, I): a Gaussian where the base is one."""

    base: Coordinates
    shift: Tensor  # [B, H] m
    matrix: Tensor  # [B, H, H] A
    log_det: Tensor  # [B] log|det A|

    def transport(self, eps: Tensor) -> tuple[Tensor, Tensor]:
        """z [S, B, H] and log|dz/dη| [S, B]; eps is η."""
        z, log_det = self.base.transport(self.shift + torch.einsum("bij,sbj->sbi", self.matrix, eps))
        return z, log_det + self.log_det

    def whiten(self, z: Tensor) -> Tensor:
        """The η [S, B, H] of z [S, B, H], if the transport of the base can be undone."""
        centred = invertible(self.base).whiten(z) - self.shift
        return torch.linalg.solve(self.matrix, centred.movedim(0, -1)).movedim(-1, 0)

    def mean(self) -> Tensor:
        """z [B, H] at η = 0, which is E_q[z] where the base is Gaussian."""
        return self.transport(torch.zeros_like(self.shift)[None])[0].squeeze(0)


def with_curvature(target: Target, passes: int, stream: torch.Generator) -> CurvedPosterior:
    """The target's q after up to ``passes`` Newton steps on mean and covariance; passes + 1 probes of 2H gradients.

    In the coordinates where q = N(0, I), a Gaussian is the best one where E[∇f] = 0 and E[−∇²f] = Σ⁻¹. Both come
    from gradients alone, for E[∇²f] = E[∇f εᵀ], and moment-matched draws make that exact for a quadratic f: one
    pass takes any diagonal q to a Gaussian posterior. The probes are noise of their own, so that what anneals from
    here stays unbiased. Each data point keeps the pass with the highest ELBO on its probe, the q it began with among
    them.

    Raises:
        VemError: q has no density, or log p(x, z) is not a number at its draws.

    Source: Opper and Archambeau, 2009, eq. 12–13; the identity is Price's (1958).
    """
    batch, size = len(target.x), target.size
    zeros = torch.zeros(batch, size, dtype=torch.float64, device=target.x.device)
    now = _curved(target.base, zeros, torch.diag_embed(zeros + 1), target.x.dtype)
    kept, kept_elbo = now, zeros[:, 0] - torch.inf
    for done in range(passes + 1):
        eps = matched(NoiseSpec("normal", (probes(size), batch, size)), stream, target.x.dtype)
        probed = target.at(now)
        point = probed(eps) if done else starting_point(probed, eps)
        elbo = log_ratio(point).mean(0)
        better = elbo > kept_elbo  # never for NaN
        kept, kept_elbo = _where(better, now, kept), torch.where(better, elbo, kept_elbo)
        if done < passes:
            now = _newton(now, point)
    return kept


def probes(size: int) -> int:
    """The decoder gradients of one probe, for each data point."""
    return max(2 * size, PROBES)


def _newton(now: CurvedPosterior, point: Point) -> CurvedPosterior:
    """m ← m + A S⁻¹ E[∇f] and A ← A S^{−½} with S = −E[∇²f], its eigenvalues and the step kept in bounds."""
    gradient, eps = point.gradient.double(), point.eps.double()
    slope = gradient.mean(0)
    # Matched draws come as ±ε: in the sum the even part of ∇f, which is noise here, cancels.
    curvature = -torch.einsum("sbi,sbj->bij", gradient, eps) / len(eps)
    curvature = 0.5 * (curvature + curvature.mT)
    finite = torch.isfinite(curvature.sum((1, 2)) + slope.sum(1))  # a data point that met a NaN stays where it is
    curvature = torch.where(finite[:, None, None], curvature, torch.eye(slope.shape[1]).to(curvature))
    slope = torch.where(finite[:, None], slope, torch.zeros_like(slope))
    values, vectors = torch.linalg.eigh(curvature)
    values = values.clamp(*EIGENVALUES)[:, None]
    step = torch.einsum("bij,bj->bi", (vectors / values) @ vectors.mT, slope)
    step = step * (REACH / torch.linalg.vector_norm(step, dim=1, keepdim=True).clamp_min(REACH))
    matrix = now.matrix.double()
    shift = now.shift.double() + torch.einsum("bij,bj->bi", matrix, step)
    return _curved(now.base, shift, matrix @ (vectors * values.rsqrt()) @ vectors.mT, now.shift.dtype)


def _curved(base: Coordinates, shift: Tensor, matrix: Tensor, dtype: torch.dtype) -> CurvedPosterior:
    matrix = matrix.to(dtype)
    # The determinant of the rounded matrix, for that is the one that transports.
    log_det = torch.linalg.slogdet(matrix.double()).logabsdet
    return CurvedPosterior(base, shift.to(dtype), matrix, log_det.to(dtype))


def _where(chosen: Tensor, yes: CurvedPosterior, no: CurvedPosterior) -> CurvedPosterior:
    shift = torch.where(chosen[:, None], yes.shift, no.shift)
    matrix = torch.where(chosen[:, None, None], yes.matrix, no.matrix)
    return CurvedPosterior(yes.base, shift, matrix, torch.where(chosen, yes.log_det, no.log_det))
