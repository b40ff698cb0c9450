"""Row rules and the table: torch.optim.Adam run on each row alone is the judge."""

from __future__ import annotations

import math

import pytest
import torch

from vem.ascent.e_step import ascend
from vem.ascent.lambda_table import LambdaTable, fresh
from vem.ascent.rules import SGD, Adam, Natural
from vem.errors import VemError
from vem.families.gaussian import DiagonalGaussian
from vem.models.linear_gaussian import LinearGaussian
from vem.objectives.elbo import ELBO


def ragged_visits(num: int, epochs: int) -> list[torch.Tensor]:
    """Shuffled batches of 3 with a ragged last one; the last epoch is cut short, so counts differ."""
    g = torch.Generator().manual_seed(0)
    visits = [b for _ in range(epochs) for b in torch.randperm(num, generator=g).split(3)]
    return visits[:-2]


def test_adam_rows_equal_torch_adam_on_each_row_alone(device: torch.device, dtype: torch.dtype) -> None:
    num, size = 7, 4
    start = torch.randn(num, size, device=device, dtype=dtype)
    rule, family = Adam(rate=0.1, beta1=0.6, beta2=0.95), DiagonalGaussian(2)
    table = LambdaTable(fresh(start.clone(), rule.moments))
    alone = [row.clone().requires_grad_() for row in start]
    optimizers = [torch.optim.Adam([row], lr=0.1, betas=(0.6, 0.95), eps=1e-8, maximize=True) for row in alone]
    count = [0] * num
    for step, index in enumerate(ragged_visits(num, 6)):
        rate = 1.0 / (1 + step)  # a schedule
        gradient = torch.randn(len(index), size, device=device, dtype=dtype)
        table.scatter(index.to(device), rule(family, table.gather(index.to(device)), gradient, rate))
        for n, g in zip(index.tolist(), gradient, strict=True):
            alone[n].grad = g
            optimizers[n].param_groups[0]["lr"] = 0.1 * rate
            optimizers[n].step()
            count[n] += 1
    assert len(set(count)) > 1
    assert table.rows.steps.tolist() == count
    torch.testing.assert_close(table.params, torch.stack(alone).detach())
    for name, key, sign in (("first", "exp_avg", -1), ("second", "exp_avg_sq", 1)):  # torch keeps moments of −∇L
        expected = sign * torch.stack([o.state[p][key] for o, p in zip(optimizers, alone, strict=True)])
        torch.testing.assert_close(table.rows.moments[name], expected)


@pytest.mark.parametrize("rule", [Adam(), SGD(), Natural()])
def test_absent_rows_keep_everything(rule: Adam | SGD | Natural, device: torch.device) -> None:
    family = DiagonalGaussian(2)
    table = LambdaTable(fresh(torch.randn(6, 4, device=device), rule.moments))
    visit = torch.tensor([4, 0, 3], device=device)
    table.scatter(visit, rule(family, table.gather(visit), torch.randn(3, 4, device=device), 1.0))
    before = [t.clone() for t in (table.params, table.rows.steps, *table.rows.moments.values())]
    again, absent = torch.tensor([0, 5], device=device), [1, 2, 3, 4]
    table.scatter(again, rule(family, table.gather(again), torch.randn(2, 4, device=device), 1.0))
    for old, new in zip(before, (table.params, table.rows.steps, *table.rows.moments.values()), strict=True):
        assert torch.equal(old[absent], new[absent])
    assert table.rows.steps.tolist() == [2, 0, 0, 1, 1, 1]
    assert not torch.equal(before[0][again], table.params[again])


def test_a_family_without_a_natural_gradient_is_told_the_remedy() -> None:
    with pytest.raises(VemError, match=r"natural_step.*strategy/rule=adam"):
        Natural()(object(), fresh(torch.zeros(1, 2), ()), torch.zeros(1, 2), 1.0)  # type: ignore[arg-type]


def test_ascent_follows_a_hand_written_loop_and_leaves_theta_alone(device: torch.device) -> None:
    model = LinearGaussian((3,), 2).to(device, torch.float64)
    x = torch.randn(4, 3, device=device, dtype=torch.float64)
    noise = torch.randn(5, 2, 4, 2, device=device, dtype=torch.float64)
    family, objective, start = DiagonalGaussian(2), ELBO(2), torch.zeros(4, 4, device=device, dtype=torch.float64)
    one = torch.ones((), device=device, dtype=torch.float64)
    rows, bound = ascend(model, family, objective, x, fresh(start, ()), SGD(0.1), noise, 5, one, 0.5 * one, cool=0.2)
    params = start
    for step in range(5):
        free = params.clone().requires_grad_()
        z = free[:, :2] + free[:, 2:].exp() * noise[step]
        log_lik = torch.distributions.Normal(z @ model.weight.T, 1.0 + model.noise_floor).log_prob(x).sum(-1).mean(0)
        q = torch.distributions.Normal(free[:, :2], free[:, 2:].exp())
        kl = torch.distributions.kl_divergence(q, torch.distributions.Normal(torch.zeros_like(q.loc), 1.0)).sum(-1)
        (gradient,) = torch.autograd.grad((log_lik - 0.5 * kl).sum(), free)
        value = (log_lik - kl).detach()
        params = params + 0.1 * (0.2 + 0.8 * 0.5 * (1 + math.cos(math.pi * step / 5))) * gradient
    torch.testing.assert_close(rows.params, params, rtol=1e-5, atol=1e-5)  # the floor makes ψ a little more than 1
    assert bound is not None
    torch.testing.assert_close(bound.value, value, rtol=1e-5, atol=1e-5)
    assert rows.steps.tolist() == [5] * 4
    assert all(p.grad is None for p in model.parameters()) and not rows.params.requires_grad
    assert ascend(model, family, objective, x, rows, SGD(), noise, 0, one, one) == (rows, None)
