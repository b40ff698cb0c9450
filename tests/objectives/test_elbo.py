"""The ELBO against log p(x) where that is exact, against finite differences, and against itself."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from vem.contracts import GenerativeModel, Posterior
from vem.errors import VemError
from vem.families.categorical import Categorical
from vem.families.gaussian import DiagonalGaussian, FullGaussian
from vem.models.deep import DeepLatentModel
from vem.models.linear_gaussian import LinearGaussian
from vem.models.mixture import Mixture
from vem.models.networks import MLPFactory
from vem.noise import fill, generator
from vem.objectives.elbo import ELBO

GAUSSIANS = {"diagonal": DiagonalGaussian, "full": FullGaussian}


def linear_gaussian(
    device: torch.device, dtype: torch.dtype = torch.float64, noise: str = "diagonal"
) -> LinearGaussian:
    """A model that is not aligned with the axes of z, so that its posterior is correlated."""
    model = LinearGaussian((6,), 3, noise=noise).to(device, dtype)
    g = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for p in model.parameters():
            p.copy_(torch.randn(p.shape, generator=g, dtype=torch.float64))
    return model


def deep(likelihood: str, device: torch.device, dtype: torch.dtype = torch.float64) -> DeepLatentModel:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = DeepLatentModel((2, 3), 2, MLPFactory([4], "tanh"), likelihood=likelihood)
    return model.to(device, dtype)


def data_for(model: DeepLatentModel, num: int, device: torch.device) -> Tensor:
    g = torch.Generator().manual_seed(3)
    x = torch.randn(num, *model.event_shape, generator=g, dtype=torch.float64).to(device)
    return (x > 0).to(x) if model.likelihood.kind == "binary" else x


def test_exact_q_gives_log_p_of_x_from_one_draw(device: torch.device) -> None:
    model = linear_gaussian(device)
    x = model.sample(fill(model.sample_noise(40), generator(device, 1), torch.float64))[1]
    bound = ELBO(kl="sampled")(
        model, x, model.exact_posterior(x), torch.randn(1, 40, 3, device=device, dtype=torch.float64)
    )
    torch.testing.assert_close(bound.value, model.log_marginal(x), rtol=0, atol=1e-9)


def test_exact_q_of_a_mixture_gives_log_p_of_x(device: torch.device) -> None:
    model = Mixture((4,), 3, covariance="full").to(device, torch.float64)
    x = torch.randn(60, 4, generator=generator(device, 2), device=device, dtype=torch.float64)
    model.start(x, generator(device, 3))
    bound = ELBO()(model, x, model.exact_posterior(x), None)
    torch.testing.assert_close(bound.value, model.log_marginal(x), rtol=0, atol=1e-9)
    other = ELBO()(model, x, Categorical(3)(torch.randn(60, 3, device=device, dtype=torch.float64)), None)
    assert bool((other.value < model.log_marginal(x)).all())


def test_closed_and_sampled_kl_agree_in_mean(device: torch.device) -> None:
    model, draws = linear_gaussian(device), 20_000
    x = torch.randn(2, 6, device=device, dtype=torch.float64)
    posterior = FullGaussian(3)(0.3 * torch.randn(2, 9, device=device, dtype=torch.float64))
    noise = torch.randn(draws, 2, 3, generator=generator(device, 4), device=device, dtype=torch.float64)
    closed, sampled = (
        ELBO(draws, "closed")(model, x, posterior, noise),
        ELBO(draws, "sampled")(model, x, posterior, noise),
    )
    z, log_q, _ = posterior.draws(noise)
    error = (log_q - model.log_prior(z)).std(0) / draws**0.5
    assert bool(((closed.terms["kl"] - sampled.terms["kl"]).abs() < 4 * error).all())
    assert torch.equal(closed.terms["reconstruction"], sampled.terms["reconstruction"])


def test_the_best_diagonal_q_scores_its_closed_form(device: torch.device) -> None:
    model = linear_gaussian(device)
    x = torch.randn(3, 6, device=device, dtype=torch.float64)
    noise = torch.randn(10_000, 3, 3, generator=generator(device, 5), device=device, dtype=torch.float64)
    # ε and −ε together cancel the odd terms; what is left over is the error of the mean square of ε.
    both = torch.cat([noise, -noise])
    value = ELBO(20_000, "closed")(model, x, model.best_diagonal(x), both).value
    q = model.best_diagonal(x)
    z = q.draws(both).z
    error = (model.log_likelihood(x, z)).std(0) / 20_000**0.5
    assert bool(((value - model.best_diagonal_bound(x)).abs() < 5 * error).all())


def test_value_is_detached_and_terms_add_up(device: torch.device) -> None:
    model = deep("bernoulli", device)
    x = data_for(model, 5, device)
    params = torch.zeros(5, 4, device=device, dtype=torch.float64, requires_grad=True)
    bound = ELBO(2)(model, x, DiagonalGaussian(2)(params), torch.randn(2, 5, 2, device=device, dtype=torch.float64))
    assert not bound.value.requires_grad and bound.surrogate.requires_grad
    assert bound.value.shape == (5,)
    torch.testing.assert_close(bound.value, bound.terms["reconstruction"] - bound.terms["kl"])
    noise, weight = torch.zeros(2, 5, 2, device=device, dtype=torch.float64), torch.tensor(0.25, device=device)
    bound, weighed = (ELBO(2)(model, x, DiagonalGaussian(2)(params), noise, w) for w in (None, weight))
    assert torch.equal(weighed.value, bound.value)
    torch.testing.assert_close(weighed.surrogate, bound.terms["reconstruction"] - 0.25 * bound.terms["kl"])


@pytest.mark.parametrize("likelihood", ["bernoulli", "gaussian"])
@pytest.mark.parametrize("kl", ["closed", "sampled"])
@pytest.mark.parametrize("family", GAUSSIANS)
def test_gradients_match_finite_differences_on_common_noise(
    family: str, kl: str, likelihood: str, device: torch.device
) -> None:
    model, q = deep(likelihood, device), GAUSSIANS[family](2)
    check_gradients(
        model, data_for(model, 3, device), q, ELBO(2, kl), torch.randn(2, 3, 2, device=device, dtype=torch.float64)
    )


@pytest.mark.parametrize("kl", ["closed", "sampled"])
@pytest.mark.parametrize("family", GAUSSIANS)
def test_gradients_of_the_linear_gaussian_bound(family: str, kl: str, device: torch.device) -> None:
    model = linear_gaussian(device)
    x = torch.randn(3, 6, device=device, dtype=torch.float64)
    check_gradients(
        model, x, GAUSSIANS[family](3), ELBO(2, kl), torch.randn(2, 3, 3, device=device, dtype=torch.float64)
    )


@pytest.mark.parametrize("likelihood", ["bernoulli", "gaussian"])
def test_gradients_of_the_enumerated_bound(likelihood: str, device: torch.device) -> None:
    model = Mixture((3,), 4, likelihood=likelihood).to(device, torch.float64)
    x = torch.randn(8, 3, generator=generator(device, 6), device=device, dtype=torch.float64)
    x = (x > 0).to(x) if likelihood == "bernoulli" else x
    model.start(x, generator(device, 7))
    for p in model.parameters():
        p.requires_grad_()
    check_gradients(model, x[:3], Categorical(4), ELBO(), None)


def check_gradients(
    model: GenerativeModel, x: Tensor, family: Callable[[Tensor], Posterior], objective: ELBO, noise: Tensor | None
) -> None:
    """torch.autograd.gradcheck of the bound in λ and in every parameter of the model."""
    assert isinstance(model, nn.Module)
    names = [name for name, p in model.named_parameters() if p.requires_grad]
    params = 0.5 * torch.randn(len(x), family.num_params, generator=generator("cpu", 8), dtype=torch.float64)  # type: ignore[attr-defined]

    def bound(params: Tensor, *theta: Tensor) -> Tensor:
        class Moved:
            """The model with other parameters: gradcheck hands them in one by one."""

            prior_kind = model.prior_kind

            def log_likelihood(self, x: Tensor, z: Tensor) -> Tensor:
                return torch.func.functional_call(Call(model, "log_likelihood"), moved, (x, z))

            def log_prior(self, z: Tensor) -> Tensor:
                return torch.func.functional_call(Call(model, "log_prior"), moved, (z,))

        moved = {f"model.{name}": value for name, value in zip(names, theta, strict=True)}
        return objective(Moved(), x, family(params), noise).surrogate  # type: ignore[arg-type]

    theta = [p.detach().clone().requires_grad_() for p in model.parameters() if p.requires_grad]
    assert theta
    torch.autograd.gradcheck(bound, (params.to(x).requires_grad_(), *theta), atol=1e-6, rtol=1e-5)


class Call(nn.Module):
    """A method of a module as a module's forward, for functional_call."""

    def __init__(self, model: nn.Module, method: str) -> None:
        super().__init__()
        self.model, self.method = model, method

    def forward(self, *args: Tensor) -> Tensor:
        return getattr(self.model, self.method)(*args)  # type: ignore[no-any-return]


def test_a_component_of_weight_zero_adds_nothing_and_no_nan(device: torch.device, dtype: torch.dtype) -> None:
    model = Mixture((2,), 3, likelihood="bernoulli").to(device, dtype)
    x = (torch.rand(6, 2, generator=generator(device, 9), device=device) > 0.5).to(dtype)
    model.start(x, generator(device, 9))
    params = torch.tensor([[0.0, -1e5, 1.0]], device=device, dtype=dtype).expand(6, 3).clone().requires_grad_()
    bound = ELBO()(model, x, Categorical(3)(params), None)
    (gradient,) = torch.autograd.grad(bound.surrogate.sum(), params)
    assert torch.isfinite(bound.value).all() and torch.isfinite(gradient).all()
    assert torch.equal(gradient[:, 1], torch.zeros_like(gradient[:, 1]))
    two = ELBO()(model, x, Categorical(3)(params.detach().clamp_min(-200)), None)
    torch.testing.assert_close(bound.value, two.value)


class CannotHave(nn.Module):
    """p(x | z = k) is zero for the last component: its log-likelihood is −∞."""

    prior_kind = "categorical"

    def log_prior(self, z: Tensor) -> Tensor:
        return torch.full(z.shape, -1.0986122886681098, dtype=torch.float64, device=z.device)

    def log_likelihood(self, x: Tensor, z: Tensor) -> Tensor:
        return torch.where(z == 2, -torch.inf, -1.0).double()


def test_zero_times_minus_infinity_is_zero_with_gradients(device: torch.device) -> None:
    params = torch.tensor([[0.3, 0.0, -torch.inf]], device=device, dtype=torch.float64)
    free = params[:, :2].clone().requires_grad_()
    full = torch.cat([free, params[:, 2:]], 1)
    bound = ELBO()(CannotHave(), torch.zeros(1, 1), Categorical(3)(full), None)  # type: ignore[arg-type]
    (gradient,) = torch.autograd.grad(bound.surrogate.sum(), free)
    two = free.detach().log_softmax(-1)
    expected = -1.0 - 1.0986122886681098 - (two.exp() * two).sum()
    assert float(bound.value) == pytest.approx(float(expected), abs=1e-12)
    assert torch.isfinite(gradient).all() and float(gradient.abs().max()) > 0.01


def test_closed_kl_is_refused_where_there_is_none(device: torch.device) -> None:
    model = Mixture((2,), 3).to(device)
    x = torch.randn(20, 2, device=device)
    model.start(x, generator(device, 0))
    with pytest.raises(VemError, match=r"objective\.kl=closed.*CategoricalPosterior.*objective\.kl=auto"):
        ELBO(kl="closed")(model, x, model.exact_posterior(x), None)
    with pytest.raises(VemError, match=r"objective\.kl='clsd' is not known"):
        ELBO(kl="clsd")
    with pytest.raises(VemError, match=r"objective\.num_draws=0"):
        ELBO(0)


@pytest.mark.parametrize(("family", "expected"), [(DiagonalGaussian(4), 30), (Categorical(7), 70)])
def test_decoder_evaluations_are_counted(family: DiagonalGaussian | Categorical, expected: int) -> None:
    assert ELBO(3).cost(family, 10) == expected


@pytest.mark.parametrize("family", GAUSSIANS)
def test_the_path_gradient_has_the_same_mean_and_the_same_value(family: str, device: torch.device) -> None:
    model, q, draws = linear_gaussian(device), GAUSSIANS[family](3), 20_000
    x = torch.randn(2, 6, generator=generator(device, 10), device=device, dtype=torch.float64)
    start = 0.3 * torch.randn(2, q.num_params, generator=generator(device, 11), device=device, dtype=torch.float64)
    noise = torch.randn(draws, 2, 3, generator=generator(device, 12), device=device, dtype=torch.float64)
    gradients, values = [], []
    for gradient in ("reparameterized", "path"):
        params = start.clone().requires_grad_()
        bound = ELBO(draws, "sampled", gradient)(model, x, q(params), noise)
        gradients.append(torch.autograd.grad(bound.surrogate.sum(), params)[0])
        values.append(bound.value)
    assert torch.equal(*values)
    # Their difference is the mean of the score of q, whose variance is the Fisher information: 1/σ² and 2.
    torch.testing.assert_close(*gradients, rtol=0, atol=0.1)
    assert not torch.equal(*gradients)


def test_the_path_gradient_vanishes_at_the_posterior(device: torch.device) -> None:
    model = linear_gaussian(device)
    x = torch.randn(4, 6, device=device, dtype=torch.float64)
    exact, h = model.exact_posterior(x), 3
    row, col = torch.tril_indices(h, h, offset=-1)
    diagonal = exact.scale_tril.diagonal(dim1=-2, dim2=-1).log()
    params = torch.cat([exact.location, diagonal, exact.scale_tril[:, row, col]], 1).detach()
    noise = torch.randn(1, 4, 3, device=device, dtype=torch.float64)
    sizes = {}
    for gradient in ("reparameterized", "path"):
        free = params.clone().requires_grad_()
        surrogate = ELBO(1, "sampled", gradient)(model, x, FullGaussian(h)(free), noise).surrogate
        sizes[gradient] = float(torch.autograd.grad(surrogate.sum(), free)[0].abs().max())
    assert sizes["path"] < 1e-9 < 0.1 < sizes["reparameterized"]


@pytest.mark.parametrize("kl", ["closed", "sampled"])
def test_the_path_gradient_in_theta_is_the_plain_one(kl: str, device: torch.device) -> None:
    model = deep("bernoulli", device)
    x, noise = data_for(model, 5, device), torch.randn(2, 5, 2, device=device, dtype=torch.float64)
    params = torch.randn(5, 4, device=device, dtype=torch.float64)
    found = [
        torch.autograd.grad(
            ELBO(2, kl, gradient)(model, x, DiagonalGaussian(2)(params), noise).surrogate.sum(),
            list(model.parameters()),
        )
        for gradient in ("reparameterized", "path")
    ]
    for a, b in zip(*found, strict=True):
        torch.testing.assert_close(a, b)
