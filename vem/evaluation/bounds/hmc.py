"""Hamiltonian Monte Carlo in the whitened coordinates of a posterior: one transition costs L decoder gradients."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from itertools import repeat
from typing import Any, NamedTuple, Protocol, Self

import torch
from torch import Tensor

from vem.ascent.joint import draws_per_block, log_joint
from vem.contracts import GenerativeModel, Invertible
from vem.errors import VemError
from vem.evaluation.bounds.importance import refuse_invalid, refuse_invalid_draws
from vem.evaluation.progress import never
from vem.families.gaussian import DiagonalGaussianPosterior, log_standard_normal
from vem.models.modes import evaluating

Tick = Callable[[], object]  # called after every transition; may raise to stop

JITTER = 0.2  # each trajectory's step is drawn from (1 ± JITTER) times its size, which breaks periodic orbits


class Coordinates(Protocol):
    """What annealing needs of a q: z as a smooth map of ε (:class:`vem.contracts.Transported`), and its middle."""

    def transport(self, eps: Tensor) -> tuple[Tensor, Tensor]: ...

    def mean(self) -> Tensor: ...


class Point(NamedTuple):
    """The state of a chain, with all that the next transition needs, at whatever temperature."""

    eps: Tensor  # [C, B, H]
    value: Tensor  # [C, B] f(ε) = log p(x, z(ε)) + log|dz/dε|
    gradient: Tensor  # [C, B, H] ∇f


class Refresh(NamedTuple):
    """The random numbers of one transition."""

    momentum: Tensor  # [C, B, H] standard normal
    jitter: Tensor  # [C, B] uniform
    threshold: Tensor  # [C, B] uniform


class Transition(NamedTuple):
    """One step of every chain."""

    point: Point
    acceptance: Tensor  # [C, B] the Metropolis probability
    diverged: Tensor  # [C, B] true where the trajectory left the finite numbers; it is rejected


class Target:
    """f(ε) = log p(x, z) + log|dz/dε| at z = transport(ε), and ∇f: log p(ε | x) up to a constant, nats.

    x [B, *X]; ``base`` is q, or the prior as N(0, I). At temperature β the chains see
    log π_β(ε) = log N(ε; 0, I) + β · [f(ε) − log N(ε; 0, I)]: q at β = 0, p(z | x) at β = 1. ``gradients`` counts
    the decoder gradients for each data point, in every copy made by :meth:`at`; ``tick`` is called after each step.

    Raises:
        VemError: z is an index, or the prior is to be the start and is not N(0, I).
    """

    def __init__(self, model: GenerativeModel, x: Tensor, posterior: Coordinates | None, tick: Tick = never) -> None:
        if model.latent != "real":
            raise VemError(f"z of {type(model).__name__} is an index: log p(x) is exact by enumeration, take that.")
        self.from_prior = posterior is None
        if posterior is None:
            if model.prior_kind != "standard_normal":
                raise VemError(
                    f"evaluation.annealing.start=prior anneals from N(0, I), and {type(model).__name__} has the prior "
                    f"{model.prior_kind}: take evaluation.annealing.start=best."
                )
            zeros = torch.zeros(len(x), model.latent_size, device=x.device, dtype=x.dtype)
            posterior = DiagonalGaussianPosterior(zeros, zeros)
        self.model, self.x, self.size = model, x, model.latent_size
        self.base: Coordinates = posterior
        self.tick, self._spent = tick, [0]

    def at(self, posterior: Coordinates) -> Self:
        """The same target in the coordinates of another q."""
        other = copy.copy(self)
        other.base = posterior
        return other

    def blocks(self, num: int) -> Iterable[Self]:
        """The target of one block of so many chains after another."""
        return repeat(self)

    def drawn(self, chains: int, stream: torch.Generator) -> Self:
        """The target for a forward run of so many chains."""
        return self

    def exact(self, z: Tensor, chains: int, stream: torch.Generator) -> tuple[Self, Point]:
        """The target and the first points of a backward run: every chain starts at an exact draw z [B, H] of p(z | x).

        Raises:
            VemError: the transport of q cannot be undone.
        """
        point = self(invertible(self.base).whiten(z[None]))
        return self, Point(*(part.expand(chains, *part.shape[1:]) for part in point))

    @property
    def gradients(self) -> int:
        """Decoder gradients for each data point so far."""
        return self._spent[0]

    def value(self, eps: Tensor) -> Tensor:
        """f [C, B] at eps [C, B, H]."""
        z, log_det = self.base.transport(eps)
        return log_joint(self.model, self.x, z) + log_det

    def __call__(self, eps: Tensor) -> Point:
        """f and ∇f at eps [C, B, H]: one forward and one backward pass for each, to ε and not to θ."""
        self._spent[0] += len(eps)
        values, gradients = [], []
        num = draws_per_block(self.x, eps)
        for part, target in zip(eps.split(num), self.blocks(num), strict=False):
            leaf = part.detach().requires_grad_()
            with torch.enable_grad():
                value = target.value(leaf)
                (gradient,) = torch.autograd.grad(value.sum(), leaf)
            values.append(value.detach())
            gradients.append(gradient)
        return Point(eps, torch.cat(values), torch.cat(gradients))


def invertible(posterior: Coordinates) -> Invertible:
    """The same q, if it can take a z back to its ε.

    Raises:
        VemError: it cannot.
    """
    if not isinstance(posterior, Invertible):
        raise VemError(
            f"{type(posterior).__name__} has no whiten(z), the inverse of its transport, and annealing backward starts "
            "at a known z: write that method, or measure the width with family=diagonal_gaussian or full_gaussian."
        )
    return posterior


def starting_point(target: Target, eps: Tensor) -> Point:
    """f and ∇f at draws ε ~ N(0, I) [C, B, H], looked at before anything is built on them.

    Raises:
        VemError: q has no density, or log p(x, z) is NaN or +∞; −∞ is an impossible x, of weight zero.
    """
    z, log_det = target.base.transport(eps)
    refuse_invalid_draws(z, log_det)
    point = target(eps)
    refuse_invalid(point.value)
    return point


def log_ratio(point: Point) -> Tensor:
    """r(ε) = f(ε) − log N(ε; 0, I) [C, B] in float64: constant, and log p(x), where q is the posterior."""
    return point.value.double() - log_standard_normal(point.eps.double())


@contextmanager
def frozen(model: Any) -> Iterator[None]:
    """Evaluation mode and no gradient to θ, as no step here needs one; both come back."""
    learned = [p for p in model.parameters() if p.requires_grad]
    with evaluating(model), torch.no_grad():
        try:
            for parameter in learned:
                parameter.requires_grad_(False)
            yield
        finally:
            for parameter in learned:
                parameter.requires_grad_(True)


def tempered(point: Point, beta: Tensor) -> Tensor:
    """log π_β(ε) [C, B], unnormalized; beta [B]."""
    return beta * point.value + (1 - beta) * log_standard_normal(point.eps)


def transition(
    target: Target, point: Point, beta: Tensor, step_size: Tensor, refresh: Refresh, leapfrog: int
) -> Transition:
    """``leapfrog`` steps with a fresh momentum of unit mass, and a Metropolis test; leaves π_β invariant.

    beta, step_size [B]. The kernel is its own reverse: the jittered step is drawn without looking at the state. f and
    ∇f are those of the point at any β: L decoder gradients in all. A trajectory that meets a NaN or an infinity is
    rejected.

    Source: Duane et al., 1987; Neal, 2011, §5.3.
    """
    beta = beta.to(point.eps)
    size = (step_size.to(point.eps) * (1 + JITTER * (2 * refresh.jitter - 1)))[..., None]
    slope = beta[:, None]
    momentum = refresh.momentum + 0.5 * size * (slope * point.gradient - (1 - slope) * point.eps)
    moved = point
    for i in range(leapfrog):
        moved = target(moved.eps + size * momentum)
        force = slope * moved.gradient - (1 - slope) * moved.eps
        momentum = momentum + (size if i < leapfrog - 1 else 0.5 * size) * force
    # log N(momentum) is minus the kinetic energy, up to a constant.
    log_ratio = tempered(moved, beta) - tempered(point, beta)
    log_ratio = log_ratio + log_standard_normal(momentum) - log_standard_normal(refresh.momentum)
    # Every number of the trajectory's end is in this sum; one that is not finite spoils it.
    finite = torch.isfinite(log_ratio) & torch.isfinite(moved.gradient.sum(-1))
    acceptance = torch.where(finite, log_ratio.clamp_max(0).exp(), torch.zeros_like(log_ratio))
    accepted = refresh.threshold < acceptance
    target.tick()
    return Transition(
        Point(
            torch.where(accepted[..., None], moved.eps, point.eps),
            torch.where(accepted, moved.value, point.value),
            torch.where(accepted[..., None], moved.gradient, point.gradient),
        ),
        acceptance,
        ~finite,
    )


def refreshes(stream: torch.Generator, shape: tuple[int, int, int], dtype: torch.dtype) -> Iterator[Refresh]:
    """The random numbers of one transition after another, for chains of shape [C, B, H]."""
    while True:
        normal = torch.randn(shape, generator=stream, device=stream.device, dtype=dtype)
        uniform = torch.rand(2, *shape[:-1], generator=stream, device=stream.device, dtype=dtype)
        yield Refresh(normal, uniform[0], uniform[1])
