"""One plain-SGD step of Algorithm 8 on a tiny model, against numbers from hand-written densities.

The model is x = w z + b + s ε with x in R², z in R, s fixed; q_n = N(μ_n, e^{2 ρ_n}). Nothing of vem
computes the expected numbers: densities and KL are written out, autograd differentiates them.
"""

from __future__ import annotations

import math
from functools import partial
from typing import Any, NamedTuple

import pytest
import torch
from torch import Tensor

from vem.ascent.rules import SGD
from vem.ascent.starts import PriorStart
from vem.contracts import Batch, Schedule, TrainingSet
from vem.families.gaussian import DiagonalGaussian
from vem.models.deep import DeepLatentModel
from vem.models.networks import MLPFactory
from vem.noise import fill, generator
from vem.objectives.elbo import ELBO
from vem.strategies.local import HeldOut, Local

N, M, S = 5, 2, 0.6  # data, draws, σ of x
ROW_RATE, THETA_RATE, RATE, KL_WEIGHT = 0.3, 0.01, 0.5, 0.7
BATCH = [3, 1]


class State(NamedTuple):
    """Everything that moves."""

    params: Tensor  # [N, 2]
    weight: Tensor  # [2, 1]
    bias: Tensor  # [2]


def hand_bound(x: Tensor, state: State, rows: list[int], eps: Tensor, path: bool) -> Tensor:
    """L_n [B] = mean over draws of log N(x; w z + b, s²) minus KL_WEIGHT · KL, for eps [M, B, 1].

    With ``path`` KL = E[log q(z) − log p(z)] with λ in log q held constant.
    """
    mu, rho = state.params[rows, :1], state.params[rows, 1:]
    z = mu + rho.exp() * eps
    output = z * state.weight[:, 0] + state.bias
    reconstruction = (-0.5 * ((x[rows] - output) / S) ** 2 - math.log(S) - 0.5 * math.log(2 * math.pi)).sum(-1).mean(0)
    if path:
        m, r = mu.detach(), rho.detach()
        log_q = -0.5 * ((z - m) / r.exp()) ** 2 - r
        kl = (log_q + 0.5 * z**2).sum(-1).mean(0)
    else:
        kl = 0.5 * (mu**2 + (2 * rho).exp() - 1 - 2 * rho).sum(-1)
    return reconstruction - KL_WEIGHT * kl


def hand_step(x: Tensor, state: State, eps: Tensor, path: bool, rows: bool, theta: bool) -> State:
    """λ_n += rate ∇L_n and θ += rate (N/B) Σ_b ∇L_b, both from the gradient at the state given."""
    free = State(*(t.detach().clone().requires_grad_() for t in state))
    total = hand_bound(x, free, BATCH, eps, path).sum()
    g_params, g_weight, g_bias = torch.autograd.grad(total, free)
    scale = THETA_RATE * RATE * N / len(BATCH)
    return State(
        state.params + ROW_RATE * RATE * g_params if rows else state.params,
        state.weight + scale * g_weight if theta else state.weight,
        state.bias + scale * g_bias if theta else state.bias,
    )


def vem_step(device: torch.device, order: str, gradient: str, **steps: int) -> tuple[Any, ...]:
    model = DeepLatentModel((2,), 1, MLPFactory([]), "gaussian", scale=S, data_start=False).to(device, torch.float64)
    x = torch.randn(N, 2, generator=generator("cpu", 0), dtype=torch.float64).to(device)
    strategy = Local(
        DiagonalGaussian, ELBO(M, "closed", gradient), partial(torch.optim.SGD, lr=THETA_RATE), SGD(ROW_RATE),
        PriorStart(), HeldOut(), order=order, cool=1.0, **steps,
    )  # fmt: skip
    strategy.setup(model, TrainingSet(x, False), generator(device, 1))
    strategy.table.params.copy_(torch.randn(N, 2, generator=generator("cpu", 2), dtype=torch.float64))
    last = model.decoder.last
    before = State(strategy.table.params.clone(), last.weight.detach().clone(), last.bias.detach().clone())
    noise = fill(strategy.noise(len(BATCH)), generator(device, 3), torch.float64)
    schedule = Schedule(*(torch.tensor(v, device=device, dtype=torch.float64) for v in (RATE, KL_WEIGHT, 0.5)))
    rows = torch.tensor(BATCH, device=device)
    info = strategy.step(model, Batch(x[rows], rows), noise, schedule)
    after = State(strategy.table.params, last.weight.detach(), last.bias.detach())
    return x, before, after, noise, info, strategy


@pytest.mark.parametrize("gradient", ["reparameterized", "path"])
@pytest.mark.parametrize("order", ["joint", "e_then_m", "m_then_e", "e_then_joint"])
def test_scaling_and_order(order: str, gradient: str, device: torch.device) -> None:
    path = gradient == "path"
    steps = {"joint": {"e_steps": 1}, "e_then_joint": {"e_steps": 3}, "e_then_m": {"e_steps": 2, "m_steps": 2}}.get(
        order, {}
    )
    option = "joint" if order == "e_then_joint" else order
    x, state, after, noise, info, strategy = vem_step(device, option, gradient, **steps)
    start = state
    e = [(noise["rows"][i], True, False) for i in range(len(noise.get("rows", ())))]
    m = [(noise["theta"][i], False, True) for i in range(len(noise["theta"]))]
    both = [(noise["theta"][0], True, True)]
    moves = {"joint": both, "e_then_joint": e + both, "e_then_m": e + m, "m_then_e": m + e}[order]
    assert len(moves) == {"joint": 1, "e_then_joint": 3, "e_then_m": 4, "m_then_e": 2}[order]
    for eps, rows, theta in moves:
        last = state
        state = hand_step(x, state, eps, path, rows, theta)
    for name, found, expected, old in zip(State._fields, after, state, start, strict=True):
        torch.testing.assert_close(found, expected, rtol=1e-10, atol=1e-10, msg=lambda m, name=name: f"{name}: {m}")
        assert not torch.equal(found, old)
    absent = [n for n in range(N) if n not in BATCH]
    assert torch.equal(after.params[absent], start.params[absent])
    row_moves = sum(rows for _, rows, _ in moves)
    assert strategy.table.rows.steps.tolist() == [row_moves if n in BATCH else 0 for n in range(N)]
    # What is reported: the bound itself, its KL unweighted, at the last gradient (or the last one of θ).
    if order != "m_then_e":
        eps = moves[-1][0]
        mu, rho = last.params[BATCH, :1], last.params[BATCH, 1:]
        kl = 0.5 * (mu**2 + (2 * rho).exp() - 1 - 2 * rho).sum(-1)
        value = hand_bound(x, last, BATCH, eps, False) - (1 - KL_WEIGHT) * kl
        torch.testing.assert_close(info.bound.value, value, rtol=1e-10, atol=1e-10)
    assert info.decoder_evaluations == info.decoder_gradients == len(moves) * M * len(BATCH)
