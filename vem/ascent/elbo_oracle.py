"""What q's of many data are worth: their bounds on given draws, the gradients, gains and scores."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Protocol, runtime_checkable

import torch
from torch import Tensor

from vem.ascent.joint import log_joint_gradient, log_joint_in_blocks
from vem.ascent.lbfgs import Climbable
from vem.ascent.matched import antithetic, spherical
from vem.contracts import Family, GenerativeModel, NoiseSpec
from vem.errors import VemError
from vem.numerics import weighted_sum

SETS = 8, 32  # fewest and most sets of spherical draws that a gain is taken from
SCORED = 2000  # most draws that are scored together

Chart = Callable[[Tensor, Tensor], Tensor]  # base [A, P], coordinates [A, ·] → λ [A, P]
Drawer = Callable[[NoiseSpec, torch.Generator, torch.dtype], Tensor]  # as matched, spherical and antithetic are


@runtime_checkable
class Composable(Protocol):
    """A family that is closed under its own transport, so that λ can be sought in the coordinates of a q."""

    def compose(self, outer: Tensor, inner: Tensor) -> Tensor:
        """λ [B, P] of the q whose transport is ε → outer(inner(ε))."""


class ElboOracle:
    """The bounds of q's of a family for x [B, *X], row by row; θ gets no gradient.

    ``rows`` [A] below are numbers of data, params [A, P] their λ's in the same order. Every datum has noise
    of its own. ``tick`` is called after each piece of work and may raise. ``gradients`` [B] counts the decoder
    gradients spent on each datum.
    """

    def __init__(
        self, model: GenerativeModel, family: Family, x: Tensor, stream: torch.Generator, tick: Callable[[], None]
    ) -> None:
        self.model, self.family, self.x, self.stream, self.tick = model, family, x, stream, tick
        self.composes = isinstance(family, Composable)
        self.rows = torch.arange(len(x), device=x.device)
        self.gradients = torch.zeros(len(x), device=x.device)

    def chart(self, base: Tensor, inner: Tensor) -> Tensor:
        """λ from the coordinates in which it is sought: those where ``base`` is N(0, I), if the family composes."""
        return self.family.compose(base, inner) if isinstance(self.family, Composable) else inner

    def noise(self, draws: int, rows: Tensor, draw: Drawer) -> Tensor | None:
        """Noise of its own for each of the rows [S, A, H]; None if q enumerates."""
        spec = self.family.noise(draws, len(rows))
        return None if spec is None else draw(spec, self.stream, self.x.dtype)

    def climbable(self, base: Tensor, eps: Tensor | None, rows: Tensor, chart: Chart | None = None) -> Climbable:
        """The bound on these draws and its gradient, in the coordinates of ``base``; rows numbered within ``rows``.

        The coordinates are those of :meth:`chart` if no other ones are given.
        """
        to_params = chart or self.chart

        def value_and_gradient(inner: Tensor, some: Tensor) -> tuple[Tensor, Tensor]:
            x, noise = self.x[rows[some]], None if eps is None else eps[:, some]
            with torch.enable_grad():
                leaf = inner.detach().requires_grad_()
                z, log_q, log_weight = self.family(to_params(base[some], leaf)).draws(noise)
                joint, slope = log_joint_gradient(self.model, x, z)
                # The decoder's gradient is known at z: what is left to differentiate is q alone.
                linear = joint + (slope * (z - z.detach())).sum(-1)
                bound = weighted_sum(log_weight, linear - log_q)
                (gradient,) = torch.autograd.grad(bound.sum(), leaf)
            self.gradients[rows[some]] += len(z)
            self.tick()
            return bound.detach(), gradient

        return value_and_gradient

    def of_draws(self, params: Tensor, eps: Tensor | None, rows: Tensor) -> tuple[Tensor, Tensor]:
        """log p(x, z_s) − log q(z_s) and the log weight of the draw, each [S, A], float64."""
        z, log_q, log_weight = self.family(params).draws(eps)
        joint = log_joint_in_blocks(self.model, self.x[rows], z)
        self.tick()
        return joint.double() - log_q.double(), log_weight.double()

    def mean(self, params: Tensor, eps: Tensor | None, rows: Tensor) -> Tensor:
        """L on these draws [A]; −∞ where it is not a number, so that any other q is better."""
        values, log_weight = self.of_draws(params, eps, rows)
        bound = weighted_sum(log_weight, values)
        return torch.where(bound.isfinite(), bound, -torch.inf)

    def gain(self, before: Tensor, after: Tensor, rows: Tensor, draws: int, tolerance: float) -> tuple[Tensor, Tensor]:
        """L[after] − L[before] on fresh noise common to both, and its Monte Carlo variance, each [A].

        From sets of so many spherical draws, each set without bias and independent of the others: eight, and
        up to 32 where their spread leaves open on which side of the tolerance the gain lies.
        """
        means = torch.zeros(SETS[1], len(rows), dtype=torch.float64, device=rows.device)
        taken = torch.zeros(len(rows), dtype=torch.long, device=rows.device)
        undecided = torch.arange(len(rows), device=rows.device)
        for number in range(1, SETS[1] + 1):
            part = rows[undecided]
            eps = self.noise(draws, part, spherical)
            new, old = (self.mean(q[undecided], eps, part) for q in (after, before))
            means[number - 1, undecided] = new - old
            taken[undecided] = number
            if number >= SETS[0]:
                mean, variance = _over_sets(means, taken)
                unsure = (mean.abs() - tolerance).abs() < 2 * variance.sqrt()
                undecided = (unsure & (taken == number)).nonzero()[:, 0]
                if eps is None or not len(undecided):
                    break
        return _over_sets(means, taken)

    def score(self, params: Tensor, draws: int) -> tuple[Tensor, Tensor]:
        """L of a q for every datum on fresh noise, and its Monte Carlo variance (0 where q enumerates), each [B].

        In antithetic pairs, which are independent of one another.

        Raises:
            VemError: it is not finite for some datum.
        """
        blocks = math.ceil(draws / SCORED)
        pairs_each = math.ceil(draws / (2 * blocks))
        means, pairs = [], []
        for _ in range(blocks):
            eps = self.noise(2 * pairs_each, self.rows, antithetic)
            values, log_weight = self.of_draws(params, eps, self.rows)
            means.append(weighted_sum(log_weight, values))
            if eps is None:
                break
            pairs.append(0.5 * (values[:pairs_each] + values[pairs_each:]))
        elbo = torch.stack(means).mean(0)
        variance = torch.cat(pairs).var(0) / (blocks * pairs_each) if pairs else torch.zeros_like(elbo)
        if not bool(elbo.isfinite().all()):
            lost = (~elbo.isfinite()).nonzero()[:, 0].tolist()
            raise VemError(
                f"log p(x, z) is not finite at draws of the best q for {len(lost)} of {len(elbo)} data (the first: "
                f"{lost[:5]} of this batch): the decoder gives NaN or infinite numbers for some z. Clamp its output."
            )
        return elbo, variance


def _over_sets(means: Tensor, taken: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and variance of the mean of the first ``taken`` [A] of the sets' means [N, A]."""
    used = torch.arange(len(means), device=means.device)[:, None] < taken
    mean = means.sum(0) / taken
    return mean, torch.where(used, means - mean, 0).square().sum(0) / (taken * (taken - 1))
