"""Ascent on λ at fixed θ: the one home of the local E-step and of held-out rows."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor

from vem.ascent.lambda_table import Lambdas
from vem.ascent.rules import Rule
from vem.contracts import Bound, Family, GenerativeModel, Objective


def cooled(progress: float, cool: float) -> float:
    """A factor that falls along a cosine from 1 to ``cool`` while ``progress`` goes from 0 to 1.

    >>> cooled(0.0, 0.2), round(cooled(1.0, 0.2), 6)
    (1.0, 0.2)
    """
    return cool + (1 - cool) * 0.5 * (1 + math.cos(math.pi * progress))


def lambda_gradient(
    model: GenerativeModel,
    family: Family,
    objective: Objective,
    x: Tensor,
    params: Tensor,
    noise: Tensor | None,
    kl_weight: Tensor,
) -> tuple[Bound, Tensor]:
    """The rows' bound and its gradient ∇_{λ_n} L_n [B, P], uphill; params is a leaf that requires a gradient.

    Only λ is differentiated: θ needs no gradient here, which saves a third of the work.
    """
    bound = objective(model, x, family(params), noise, kl_weight)
    # The sum, not the mean: each L_n depends on λ_n alone, so this is every row's own gradient.
    (gradient,) = torch.autograd.grad(bound.surrogate.sum(), params)
    return bound.detached(), gradient


LambdaGradient = Callable[..., tuple[Bound, Tensor]]  # called as lambda_gradient is


def ascend(
    model: GenerativeModel,
    family: Family,
    objective: Objective,
    x: Tensor,
    rows: Lambdas,
    rule: Rule,
    noise: Tensor | None,
    steps: int,
    rate: Tensor | float,
    kl_weight: Tensor,
    cool: float | None = None,
    gradient_of: LambdaGradient = lambda_gradient,
) -> tuple[Lambdas, Bound | None]:
    """``steps`` steps up on the rows of x [B, *X] with θ frozen: λ_n ← λ_n + rule(∇_{λ_n} L_n).

    noise [steps, S, B, *Z], or None where q enumerates its support. With ``cool`` the rate falls along a
    cosine to ``cool`` · rate, which lets the rows settle. ``gradient_of`` stands in for :func:`lambda_gradient`,
    compiled for example. Returns the rows and the bound of the last gradient, taken before its step.
    """
    bound = None
    for step in range(steps):
        params = rows.params.detach().requires_grad_()
        eps = None if noise is None else noise[step]
        with torch.enable_grad():
            bound, gradient = gradient_of(model, family, objective, x, params, eps, kl_weight)
        now = rate if cool is None else rate * cooled(step / steps, cool)
        rows = rule(family, rows._replace(params=params.detach()), gradient, now)
    return rows, bound
