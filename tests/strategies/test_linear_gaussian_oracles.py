"""`local` and `amortized` on linear-Gaussian data, where every answer has a closed form."""

from __future__ import annotations

import pytest
import torch
from oracles import maximum_likelihood_ppca
from parts import amortized, local, train
from torch import Tensor

from vem.ascent.starts import PCAStart, PriorStart
from vem.contracts import Batch
from vem.data.linear_gaussian import linear_gaussian
from vem.families.gaussian import DiagonalGaussian, DiagonalGaussianPosterior, FullGaussian, FullGaussianPosterior
from vem.models.linear_gaussian import LinearGaussian
from vem.noise import fill, generator
from vem.objectives.elbo import ELBO
from vem.strategies.local import HeldOut
from vem.training.schedules import Cosine

FAMILIES = {"diagonal": DiagonalGaussian, "full": FullGaussian}


def exact_elbo(model: LinearGaussian, x: Tensor, q: DiagonalGaussianPosterior | FullGaussianPosterior) -> Tensor:
    """L[q] = log p(x) − KL(q ‖ p(z | x)) [B], by torch.distributions: no draw is made."""
    exact = model.exact_posterior(x)
    tril = torch.diag_embed(q.log_scale.exp()) if isinstance(q, DiagonalGaussianPosterior) else q.scale_tril
    posterior = torch.distributions.MultivariateNormal(exact.location, scale_tril=exact.scale_tril)
    found = torch.distributions.MultivariateNormal(q.location, scale_tril=tril)
    return model.log_marginal(x) - torch.distributions.kl_divergence(found, posterior)


def unaligned(latent: int, device: torch.device) -> LinearGaussian:
    """A fixed θ whose posterior is strongly correlated."""
    model = LinearGaussian((8,), latent, noise="diagonal").to(device, torch.float64)
    g = generator("cpu", "unaligned", latent)
    with torch.no_grad():
        model.weight.copy_(torch.randn(8, latent, generator=g, dtype=torch.float64))
        model.bias.copy_(torch.randn(8, generator=g, dtype=torch.float64))
        model.log_noise.copy_(torch.randn(8, generator=g, dtype=torch.float64) * 0.5 - 1)
    return model.requires_grad_(False)


@pytest.mark.parametrize("start", [PriorStart, PCAStart])
@pytest.mark.parametrize("name", FAMILIES)
def test_rows_reach_the_best_q_at_fixed_theta(name: str, start: type, device: torch.device) -> None:
    model = unaligned(5, device)
    data = linear_gaussian(num=100, dims=8, latent=5).to(device, torch.float64)
    theta = {k: v.clone() for k, v in model.state_dict().items()}
    strategy = local(FAMILIES[name], objective=ELBO(10), start=start(), m_steps=0, cool=0.01)
    train(model, strategy, data, 400, 100, Cosine())
    assert all(torch.equal(v, theta[k]) for k, v in model.state_dict().items())
    x = data.train.x
    truth = model.best_diagonal_bound(x) if name == "diagonal" else model.log_marginal(x)
    gap = truth - exact_elbo(model, x, strategy.family(strategy.table.params))
    assert gap.min().item() > -1e-9
    assert gap.mean().item() < 0.01
    if name == "diagonal":  # the oracle is not trivial: a full q would do better by far
        assert (model.log_marginal(x) - truth).min().item() > 0.1


@pytest.mark.parametrize("name", FAMILIES)
def test_held_out_rows_reach_the_best_q_within_their_budget(name: str, device: torch.device) -> None:
    model = unaligned(3, device)
    data = linear_gaussian(num=100, dims=8, latent=3).to(device, torch.float64)
    budget = {"steps": 400, "draws": 10, "cool": 0.01}  # 4000 decoder gradients a datum
    strategy = local(FAMILIES[name], m_steps=0, held_out=HeldOut(**budget))  # type: ignore[arg-type]
    strategy.setup(model, data.training_set(), generator(device, 0))
    x, before = data.test.x, strategy.table.params.clone()
    noise = fill(strategy.noise(len(x), held_out=True), generator(device, 1), torch.float64)
    q = strategy.infer(model, Batch(x, None), noise)
    truth = model.best_diagonal_bound(x) if name == "diagonal" else model.log_marginal(x)
    gap = truth - exact_elbo(model, x, q)  # type: ignore[arg-type]
    assert gap.min().item() > -1e-9 and gap.mean().item() < 0.01
    assert torch.equal(strategy.table.params, before)


@pytest.mark.parametrize(
    ("method", "name", "latent", "epochs"),
    [
        ("local", "diagonal", 3, 500), ("local", "full", 3, 200), ("local", "full", 1, 200),
        ("amortized", "diagonal", 3, 600), ("amortized", "full", 3, 600), ("amortized", "full", 1, 200),
    ],
)  # fmt: skip
def test_theta_reaches_maximum_likelihood(
    method: str, name: str, latent: int, epochs: int, device: torch.device
) -> None:
    data = linear_gaussian(num=500, dims=6, latent=latent).to(device, torch.float64)
    model = LinearGaussian((6,), latent).to(device, torch.float64)
    strategy = (
        local(FAMILIES[name], rate=0.03, cool=0.05, e_steps=2)
        if method == "local"
        else amortized(rate=0.03, family=FAMILIES[name], objective=ELBO(4))
    )
    train(model, strategy, data, epochs, 100, Cosine())
    x = data.train.x
    best = maximum_likelihood_ppca(x, latent).log_marginal.item()
    reached = model.log_marginal(x).mean().item()
    q = strategy.infer(model, Batch(x, torch.arange(len(x), device=device)), {})
    elbo = exact_elbo(model, x, q).mean().item()  # type: ignore[arg-type]
    assert reached <= best + 1e-9 and elbo <= reached + 1e-9
    assert best - reached < 0.02
    assert best - elbo < 0.02  # with a diagonal q too: W has rotated until the posterior is aligned
