"""What holds of every model, with every likelihood."""

from __future__ import annotations

import copy
import itertools
from typing import Any

import pytest
import torch
from members import DIMS, MODELS, NUM, PAIRS, data, hermite, made, target
from torch import Tensor

from vem.noise import fill, generator
from vem.objectives.elbo import ELBO

CASES = [(*case, "") for case in MODELS] + [
    *(("mixture", "real", f"model.covariance={kind}") for kind in ("full", "tied", "spherical")),
    ("mixture", "real", "model.standardize=true"),
    ("linear_gaussian", "real", "model.noise=diagonal"),
    ("linear_gaussian", "real", "model.standardize=true"),
    ("deep", "real", "model.scale=0.7"),
    *(("deep", "real", f"model.units={units}") for units in ("none", "column")),
]
EVERY = pytest.mark.parametrize("case", CASES, ids=lambda case: "-".join(filter(None, case)))
TRACTABLE = pytest.mark.parametrize(
    "case",
    [case for case in CASES if hasattr(target("model", case[0]), "log_marginal")],
    ids=lambda case: "-".join(filter(None, case)),
)
S = 5


def model_of(case: tuple[str, ...], dtype: str = "float64") -> tuple[Any, Tensor]:
    """A model that is no longer at its start, and its data."""
    family = next(pair[2] for pair in PAIRS if pair[:2] == case[:2])
    built = made("local", *case[:2], family, case[2], dtype=dtype)
    g = generator("cpu", *case)
    with torch.no_grad():
        for p in built.model.parameters():
            p.add_(0.2 * torch.randn(p.shape, generator=g, dtype=torch.float64).to(p))
    return built.model, built.data.train.x


def some_z(model: Any) -> Tensor:
    """[S, 1, *Z]."""
    z, _ = model.sample(fill(model.sample_noise(S), generator("cpu", "z"), torch.float64))
    return z.detach()[:, None]


def whole_of_z(model: Any) -> tuple[Tensor, Tensor]:
    """Points z [Q, 1, *Z] and weights [Q] with E_p(z)[f] = Σ w f(z)."""
    if model.latent == "index":
        z = torch.arange(model.latent_size)[:, None]
        return z, model.log_prior(z)[:, 0].exp()
    nodes, weights = hermite(60)
    return nodes[:, None], weights


def whole_of_x(kind: str) -> tuple[Tensor, float]:
    """Every x [Q, D], or a grid of them, and what each counts for."""
    if kind == "binary":
        return torch.tensor(list(itertools.product((0.0, 1.0), repeat=DIMS)), dtype=torch.float64), 1.0
    line = torch.linspace(-16, 16, 81, dtype=torch.float64)
    return torch.cartesian_prod(*[line] * DIMS), float(line[1] - line[0]) ** DIMS


@EVERY
@torch.no_grad()
def test_densities_integrate_and_decode_is_the_mean_of_theirs(case: tuple[str, ...]) -> None:
    model, _ = model_of(case)
    z, (x, cell) = some_z(model)[:2], whole_of_x(case[1])
    for one in z:
        density = model.log_likelihood(x, one[None].expand(1, len(x), *one.shape[1:])).exp()[0] * cell
        assert float(density.sum()) == pytest.approx(1, abs=1e-5)
        torch.testing.assert_close(density @ x, model.decode(one)[0], rtol=0, atol=1e-4)
    if model.latent == "index":
        assert float(whole_of_z(model)[1].sum()) == pytest.approx(1)
    else:
        line = torch.linspace(-9, 9, 301, dtype=torch.float64)
        prior = model.log_prior(torch.cartesian_prod(line, line)[:, None]).exp().sum()
        assert float(prior) * float(line[1] - line[0]) ** 2 == pytest.approx(1, abs=1e-6)


@EVERY
@torch.no_grad()
def test_samples_are_pairs_of_the_joint(case: tuple[str, ...], dtype: torch.dtype) -> None:
    """Their mean is that of the model, and each x belongs to its z: without noise in x it would be its mean."""
    model, _ = model_of(case, str(dtype).removeprefix("torch."))
    specs = model.sample_noise(20_000)
    z, x = model.sample(fill(specs, generator("cpu", "sample"), dtype))
    assert z.shape[0] == 20_000 and x.shape == (20_000, DIMS) and x.dtype == dtype
    mean = model.decode(z)
    error = (x - mean).double().std(0) / 20_000**0.5
    assert bool(((x - mean).double().mean(0).abs() < 5 * error).all())
    together = ((x - mean) * (mean - mean.mean(0))).double()  # what decode leaves over knows nothing of z
    assert bool((together.mean(0).abs() < 5 * together.std(0) / 20_000**0.5 + 1e-12).all())


@TRACTABLE
@torch.no_grad()
def test_log_marginal_is_the_integral_and_the_exact_posterior_attains_it(case: tuple[str, ...]) -> None:
    model, x = model_of(case)
    z, weights = whole_of_z(model)
    joint = model.log_likelihood(x, z.expand(len(z), len(x), *z.shape[2:])) + weights.log()[:, None]
    found = model.log_marginal(x)
    torch.testing.assert_close(found, joint.logsumexp(0), rtol=0, atol=1e-3)
    q = model.exact_posterior(x)
    eps = None if (spec := q.noise(1)) is None else fill({"z": spec}, generator("cpu", 0), torch.float64)["z"]
    torch.testing.assert_close(ELBO(kl="sampled")(model, x, q, eps).value, found, rtol=0, atol=1e-9)


@TRACTABLE
@torch.no_grad()
def test_statistics_add_up_and_em_never_decreases(case: tuple[str, ...], dtype: torch.dtype) -> None:
    model, x = model_of(case, str(dtype).removeprefix("torch."))
    whole = model.statistics(x, model.exact_posterior(x))
    parts = [model.statistics(part, model.exact_posterior(part)) for part in (x[:7], x[7:])]
    for name, value in whole.items():
        torch.testing.assert_close(value, parts[0][name] + parts[1][name], rtol=1e-5, atol=1e-5)
    levels = []
    for _ in range(20):
        levels.append(model.log_marginal(x).double().mean().item())
        model.maximize(model.statistics(x, model.exact_posterior(x)))
    assert levels[-1] > levels[0] + 0.01
    assert min(b - a for a, b in itertools.pairwise(levels)) > (-1e-4 if dtype == torch.float32 else -1e-9)


@TRACTABLE
def test_the_maximum_is_where_the_gradient_vanishes(case: tuple[str, ...]) -> None:
    """θ ← argmax E_q[log p(x, z)], by autograd, with as many draws as a quadrature has nodes."""
    model, x = model_of(case)
    q = model.exact_posterior(x)
    if model.latent == "index":  # one that leaves no probability at its floor
        q = type(q)((0.3 * torch.randn(q.log_probs.shape, generator=generator("cpu", 1)).double()).log_softmax(-1))
    model.maximize(model.statistics(x, q))
    if model.latent == "index":
        z, weights = whole_of_z(model)[0].expand(-1, len(x)), q.mean().detach().T
    else:
        nodes, w = hermite(8)
        z, weights = q.transport(nodes[:, None].expand(-1, len(x), -1))[0].detach(), w[:, None]
    expected = (weights * (model.log_likelihood(x, z) + model.log_prior(z))).sum(0).mean()
    for gradient in torch.autograd.grad(expected, [p.requires_grad_() for p in model.parameters()], allow_unused=True):
        assert gradient is None or float(gradient.abs().max()) < 1e-4


@EVERY
def test_the_state_is_whole_and_the_start_is_the_generator_s(case: tuple[str, ...]) -> None:
    model, x = model_of(case)
    other, _ = model_of(case)
    with torch.no_grad():
        for p in other.parameters():
            p.add_(1)
    other.load_state_dict(copy.deepcopy(model.state_dict()))
    z = some_z(model).expand(S, NUM, *some_z(model).shape[2:])
    assert torch.equal(model.log_likelihood(x, z), other.log_likelihood(x, z)) and model.notes() == other.notes()
    for m in (model, other):
        m.start(x, generator("cpu", "start"))
    assert all(torch.equal(a, b) for a, b in zip(model.parameters(), other.parameters(), strict=True))
    assert x.shape == data(case[1]).train.x.shape
