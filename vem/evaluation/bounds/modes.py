"""The modes of p(z | x), and a mixture of Gaussians over them: where annealing starts if there are several."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import NamedTuple, Self

import torch
from torch import Tensor

from vem.ascent.joint import log_joint, log_joint_gradient, log_joint_in_blocks
from vem.ascent.lbfgs import climb
from vem.contracts import GenerativeModel
from vem.evaluation.bounds.curvature import probes, with_curvature
from vem.evaluation.bounds.hmc import Point, Target, log_ratio
from vem.evaluation.elbo import draws_of_prior
from vem.families.gaussian import DiagonalGaussianPosterior, log_standard_normal

FIRST = 12  # climbs from draws of the prior that look for a second mode
ROUND = 48  # further ones a round, where there is one
CLIMBS = 6  # at most so many times the modes that are looked for, until a round finds no more
CLIMB, TOLERANCE = 25, 1e-2  # evaluations of a climb, and nats
NARROW = 0.1  # scale of the q that is fitted to a mode, at first
PASSES = 3  # Newton steps of that fit
BETWEEN = 5  # points on the line between two maxima
BARRIER = 1.0  # nats that log p(x, z) falls between two maxima at least that are two modes
FAR = 20.0  # nats below the highest one from where a maximum is not looked at
SMALL = 0.01  # of p(x), by the number of modes: the share from where a mode counts


class ModeMixture(NamedTuple):
    """Q(z) = Σ_k s_k N(z; m_k, A_k A_kᵀ) for each data point; ``labels`` say which component each chain moves in.

    z = m_k + A_k ε with k the label of the chain. Shares of components that a data point does not have are zero.
    """

    location: Tensor  # [K, B, H] m
    matrix: Tensor  # [K, B, H, H] A
    inverse: Tensor  # [K, B, H, H] of A
    log_det: Tensor  # [K, B] log|det A|
    log_share: Tensor  # [K, B] log s
    labels: Tensor  # [C, B] long

    def of(self, rows: Tensor) -> ModeMixture:
        """The mixtures of some of the data."""
        return ModeMixture(*(part[:, rows] for part in self))

    def mean(self) -> Tensor:
        """E_Q[z] [B, H]."""
        return (self.log_share.exp()[..., None] * self.location).sum(0)

    def transport(self, eps: Tensor) -> tuple[Tensor, Tensor]:
        """z [C, B, H] and log|dz/dε| [C, B], each chain by its own component; eps [C, B, H]."""
        rows = torch.arange(eps.shape[1], device=eps.device)
        z = self.location[self.labels, rows] + torch.einsum("cbij,cbj->cbi", self.matrix[self.labels, rows], eps)
        return z, self.log_det[self.labels, rows]

    def whiten(self, z: Tensor) -> Tensor:
        """The ε [C, B, H] of z [C, B, H] in the component of each chain."""
        rows = torch.arange(z.shape[1], device=z.device)
        centred = z - self.location[self.labels, rows]
        return torch.einsum("cbij,cbj->cbi", self.inverse[self.labels, rows], centred)

    def components(self, z: Tensor) -> Tensor:
        """log s_k N(z; m_k, A_k A_kᵀ) [K, C, B] at z [C, B, H]."""
        eps = torch.einsum("kbij,kcbj->kcbi", self.inverse, z - self.location[:, None])
        return log_standard_normal(eps) + (self.log_share - self.log_det)[:, None]


def mixture_of(location: Tensor, matrix: Tensor, log_share: Tensor, labels: Tensor) -> ModeMixture:
    """The mixture with these centres, matrices and shares."""
    double = matrix.double()
    inverse, log_det = torch.linalg.inv(double), torch.linalg.slogdet(double).logabsdet
    return ModeMixture(location, matrix, inverse.to(matrix), log_det.to(matrix), log_share, labels)


class MixtureTarget(Target):
    """The target of annealing from a mixture: log p(ε | x) of the chains of each component, nats.

    log π_β(z, k) = log s_k q_k(z) + β · [log p(x, z) − log Q(z)]: at β = 0 a component drawn by its share and a z
    drawn from it, at β = 1 p(x, z) times the share q_k has of Q at z, whose sum over k is p(x, z). The label of a chain
    stays, so that it need not cross from mode to mode; log w = Σ Δβ · [log p(x, z) − log Q(z)] has E[w] = p(x), and
    is constant where Q is the posterior. In the coordinates of its component, f(ε) = log p(x, z) − log Q(z) +
    log N(ε; 0, I).
    """

    base: ModeMixture

    def drawn(self, chains: int, stream: torch.Generator) -> Self:
        """The same target for so many chains, each with a component drawn by the shares."""
        return self.labelled(_draw(self.base.log_share.T.exp(), chains, stream))

    def labelled(self, labels: Tensor) -> Self:
        """The same target for other chains [C, B]."""
        return self.at(self.base._replace(labels=labels))

    def blocks(self, num: int) -> Iterable[Self]:
        """One block of so many chains after another, each with the labels of its own."""
        return map(self.labelled, self.base.labels.split(num))

    def exact(self, z: Tensor, chains: int, stream: torch.Generator) -> tuple[Self, Point]:
        """Chains that start at an exact draw z [B, H] of p(z | x), each in a component drawn by its share of Q at z."""
        share = self.base.components(z[None])[:, 0].softmax(0)
        target = self.labelled(_draw(share.T, chains, stream))
        return target, target(target.base.whiten(z[None].expand(chains, -1, -1)))

    def value(self, eps: Tensor) -> Tensor:
        """f [C, B] at eps [C, B, H]."""
        z, _ = self.base.transport(eps)
        return log_joint(self.model, self.x, z) - self.base.components(z).logsumexp(0) + log_standard_normal(eps)


def _draw(share: Tensor, chains: int, stream: torch.Generator) -> Tensor:
    """Labels [C, B] from shares [B, K]."""
    return torch.multinomial(share, chains, replacement=True, generator=stream).T


class Found(NamedTuple):
    """The data that have several modes."""

    rows: Tensor  # [R] their places
    mixture: ModeMixture | None  # of these rows; None where there is none
    modes: Tensor  # [R] how many
    gradients: Tensor  # [B] decoder gradients spent on each data point
    open_end: Tensor  # [R] bool: the search ended while it still found modes


class _Peaks(NamedTuple):
    """Maxima of log p(x, z) that are modes of their own, of each data point as many as have a finite height."""

    points: Tensor  # [K, B, H]
    heights: Tensor  # [K, B], −∞ where there is none

    def of(self, rows: Tensor) -> _Peaks:
        return _Peaks(self.points[:, rows], self.heights[:, rows])

    @property
    def number(self) -> Tensor:
        return self.heights.isfinite().sum(0)


def find_modes(target: Target, most: int, settled: Tensor, stream: torch.Generator) -> Found:
    """Up to ``most`` modes of p(z | x) for those of the target's data that have several, each with a Gaussian there.

    Maxima of log p(x, z) are climbed to from the mean of the target's q and from draws of the prior. Two of them are
    two modes if log p(x, z) falls on the line between them. A mode counts if its share of p(x), by the Gaussian
    fitted to it, is not small: against the others, and against ``settled`` [B], what annealing from q* has found on
    its pilot. Where a second one counts, more climbs look for further ones until none is found.
    """
    model, x, mean = target.model, target.x, target.base.mean()
    spent = torch.zeros(len(x), dtype=torch.float64, device=x.device)
    none = torch.full((most, len(x)), -torch.inf, dtype=x.dtype, device=x.device)
    peaks = _Peaks(x.new_zeros(most, len(x), model.latent_size), none)
    starts = torch.cat([mean[None].to(x.dtype), draws_of_prior(model, x, FIRST, stream)])
    every = torch.arange(len(x), device=x.device)
    _climb_and_add(model, x, starts, every, peaks, spent)
    rows = (peaks.number > 1).nonzero()[:, 0]
    if len(rows):
        target.tick()
        rows = _fitted(model, x, rows, peaks, settled, spent, stream).rows
    at_work = rows
    for _ in range(math.ceil(CLIMBS * most / ROUND)):
        if not len(at_work):
            break
        target.tick()
        here, before = peaks.of(at_work), peaks.number[at_work]
        _climb_and_add(model, x, draws_of_prior(model, x[at_work], ROUND, stream), at_work, here, spent)
        peaks.points[:, at_work], peaks.heights[:, at_work] = here
        at_work = at_work[(here.number > before) & (here.number < most)]
    open_end = torch.zeros(len(x), dtype=torch.bool, device=x.device)
    open_end[at_work] = True
    found = _fitted(model, x, rows, peaks, settled, spent, stream)
    full = peaks.number[found.rows] == most
    return found._replace(open_end=open_end[found.rows] | full)


def _climb_and_add(
    model: GenerativeModel, x: Tensor, starts: Tensor, rows: Tensor, peaks: _Peaks, spent: Tensor
) -> None:
    """Climb log p(x, z) from starts [M, R, H] of these rows of x; what is a mode of its own joins the peaks."""
    whose = rows.repeat(len(starts))

    def height(z: Tensor, places: Tensor) -> tuple[Tensor, Tensor]:
        value, gradient = log_joint_gradient(model, x[whose[places]], z[None])
        return value[0], gradient[0]

    found = climb(height, starts.flatten(0, 1), CLIMB, TOLERANCE)
    spent.index_add_(0, whose, found.evaluations.to(spent))
    value = torch.where(found.value.isfinite() & found.params.isfinite().all(-1), found.value, -torch.inf)
    heights, order = value.reshape(starts.shape[:2]).sort(0, descending=True)
    points = found.params.reshape(starts.shape).gather(0, order[..., None].expand_as(starts))
    best = torch.maximum(heights[0], peaks.heights.amax(0))
    for point, top in zip(points, heights, strict=True):
        seen = ((top > best - FAR) & (peaks.number < len(peaks.heights))).nonzero()[:, 0]
        new = seen[_apart(model, x[rows[seen]], point[seen], top[seen], peaks.of(seen))]
        place = peaks.number[new]
        peaks.points[place, new], peaks.heights[place, new] = point[new], top[new]


def _apart(model: GenerativeModel, x: Tensor, points: Tensor, heights: Tensor, peaks: _Peaks) -> Tensor:
    """Whether log p(x, z) falls between points [B, H] and the peaks that are nearest to them: [B] bool."""
    if not len(x):
        return torch.zeros(0, dtype=torch.bool, device=x.device)
    known = peaks.heights.isfinite()
    nearest = torch.where(known, (peaks.points - points).norm(dim=-1), torch.inf).argmin(0)
    here = torch.arange(len(x), device=x.device)
    steps = torch.linspace(0, 1, BETWEEN + 2, dtype=points.dtype, device=points.device)[1:-1, None, None]
    between = log_joint_in_blocks(model, x, torch.lerp(points, peaks.points[nearest, here], steps))
    lowest = between.nan_to_num(-torch.inf).amin(0)
    return (lowest < torch.minimum(heights, peaks.heights[nearest, here]) - BARRIER) | ~known.any(0)


def _fitted(
    model: GenerativeModel, x: Tensor, rows: Tensor, peaks: _Peaks, settled: Tensor, spent: Tensor,
    stream: torch.Generator,
) -> Found:  # fmt: skip
    """The mixture over the peaks of these rows of x: a Gaussian bent to each, with the share that it finds of p(x)."""
    nothing = Found(rows[:0], None, rows[:0], spent, rows[:0].bool())
    if not len(rows):
        return nothing
    peaks = peaks.of(rows)
    peaks = _Peaks(*(part[: int(peaks.number.max())] for part in peaks))
    number, place = peaks.heights.isfinite().nonzero(as_tuple=True)  # one line for each mode of each data point
    mode = peaks.points[number, place]
    target = Target(model, x[rows[place]], DiagonalGaussianPosterior(mode, torch.full_like(mode, math.log(NARROW))))
    bent = with_curvature(target, PASSES, stream)
    eps = torch.randn(probes(target.size), *mode.shape, generator=stream, device=x.device, dtype=x.dtype)
    weights = log_ratio(Point(eps, target.at(bent).value(eps), eps)).nan_to_num(-torch.inf, -torch.inf, -torch.inf)
    spent.index_add_(0, rows[place], torch.full_like(weights[0], float((PASSES + 2) * len(eps))))
    masses = torch.full(peaks.heights.shape, -torch.inf, dtype=torch.float64, device=x.device)
    masses[number, place] = weights.logsumexp(0) - math.log(len(eps))
    least = torch.maximum(masses.logsumexp(0), settled[rows]) + math.log(SMALL) - peaks.number.log()
    masses = torch.where(masses > least, masses, -torch.inf)
    several = (masses.isfinite().sum(0) > 1).nonzero()[:, 0]
    if not len(several):
        return nothing
    assert isinstance(bent.base, DiagonalGaussianPosterior)
    scale = bent.base.log_scale.exp()  # z = location + matrix · η
    location, matrix = bent.base.location + scale * bent.shift, scale[..., None] * bent.matrix
    centres = torch.zeros_like(peaks.points)
    spreads = torch.eye(target.size).to(matrix).expand(*peaks.heights.shape, -1, -1).clone()
    centres[number, place], spreads[number, place] = location, matrix
    share = masses[:, several].log_softmax(0).to(x.dtype)
    labels = torch.zeros(1, len(several), dtype=torch.long, device=x.device)
    mixture = mixture_of(centres[:, several], spreads[:, several], share, labels)
    modes = masses[:, several].isfinite().sum(0)
    return Found(rows[several], mixture, modes, spent, torch.zeros_like(modes, dtype=torch.bool))
