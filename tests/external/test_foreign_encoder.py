"""An encoder's output is the q that torch says it is, and every wrong output is named."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.distributions import (
    AffineTransform,
    Categorical,
    Distribution,
    Independent,
    LowRankMultivariateNormal,
    MixtureSameFamily,
    MultivariateNormal,
    Normal,
    StudentT,
    TanhTransform,
    TransformedDistribution,
)

from vem.contracts import Batch, Posterior
from vem.errors import VemError
from vem.external.encoder import ForeignEncoder
from vem.external.model import foreign_model
from vem.external.posteriors import DistributionPosterior, TransportedPosterior
from vem.families.gaussian import (
    DiagonalGaussian,
    DiagonalGaussianPosterior,
    FullGaussian,
    FullGaussianPosterior,
    log_standard_normal,
)
from vem.noise import fill, generator

H, D, B = 3, 6, 5


class Net(nn.Module):
    """A linear encoder whose outputs every kind of q below is made from."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(D, 2 * H)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        mean, log_variance = self.layer(x).chunk(2, -1)
        return mean, log_variance

    def normal(self, x: Tensor) -> Distribution:
        mean, log_variance = self(x)
        return Normal(mean, (0.5 * log_variance).exp())


@pytest.fixture
def net(device: torch.device, dtype: torch.dtype) -> Net:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return Net().to(device, dtype)


@pytest.fixture
def x(device: torch.device, dtype: torch.dtype) -> Tensor:
    return torch.rand(B, D, generator=generator("cpu", "x"), dtype=dtype).to(device)


def infer(encoder: Any, x: Tensor, like: Tensor | None = None) -> Posterior:
    model = foreign_model(nn.Linear(H, D).to(x), "gaussian", x, H, scale=1.0)
    return ForeignEncoder(encoder, x).infer(model, Batch(x if like is None else x.to(like), None), {})


def draws(q: Posterior, like: Tensor, num: int = 4, seed: int = 0) -> tuple[Tensor, Tensor, Tensor]:
    spec = q.noise(num)
    assert spec is not None
    noise = fill({"z": spec}, generator(like.device, seed), like.dtype)["z"]
    z, log_q, _ = q.draws(noise)
    return z, log_q, noise


def test_gaussians_become_those_of_vem(net: Net, x: Tensor) -> None:
    with torch.no_grad():
        normal = net.normal(x)
    assert isinstance(normal, Normal)
    tril = torch.diag_embed(normal.scale) + 0.1 * torch.ones(H, H).tril(-1).to(x)
    correlated = MultivariateNormal(normal.loc, scale_tril=tril)
    factor = torch.full((B, H, 1), 0.3).to(x)
    low_rank = LowRankMultivariateNormal(normal.loc, factor, normal.scale.square())
    diagonal, full = DiagonalGaussianPosterior, FullGaussianPosterior
    cases: list[tuple[Callable[[Tensor], Any], Distribution, type]] = [
        (net, Independent(normal, 1), diagonal),
        (lambda x: list(net(x)), Independent(normal, 1), diagonal),
        (net.normal, Independent(normal, 1), diagonal),
        (lambda x: Independent(net.normal(x), 1), Independent(normal, 1), diagonal),
        (lambda x: Independent(net.normal(x), 2), Independent(normal, 1), diagonal),
        (lambda x: MultivariateNormal(net(x)[0], scale_tril=_tril(net, x)), correlated, full),
        (lambda x: LowRankMultivariateNormal(net(x)[0], factor[: len(x)], net(x)[1].exp()), low_rank, full),
    ]  # fmt: skip
    for encoder, truth, kind in cases:
        q = infer(encoder, x)
        z, log_q, _ = draws(q, x)
        assert isinstance(q, kind) and z.dtype == x.dtype
        torch.testing.assert_close(log_q, truth.log_prob(z), atol=1e-4, rtol=1e-4)
        found = ForeignEncoder(encoder, x)
        assert isinstance(found.family, DiagonalGaussian if kind is diagonal else FullGaussian)
        assert (found.latent_dim, found.family.size, found.gap_name, found.no_elbo) == (H, H, "amortization", None)
        assert found.noise(B) == {}


def _tril(net: Net, x: Tensor) -> Tensor:
    return torch.diag_embed((0.5 * net(x)[1]).exp()) + 0.1 * torch.ones(H, H).tril(-1).to(x)


def flow(net: Net) -> Callable[[Tensor], Distribution]:
    return lambda x: TransformedDistribution(net.normal(x), [TanhTransform(cache_size=1), AffineTransform(1.0, 2.0)])


def test_a_flow_over_a_gaussian_is_a_transport(net: Net, x: Tensor) -> None:
    q = infer(flow(net), x)
    assert isinstance(q, TransportedPosterior)
    z, log_q, eps = draws(q, x)
    with torch.no_grad():
        torch.testing.assert_close(log_q, flow(net)(x).log_prob(z).sum(-1), atol=2e-3, rtol=1e-3)
        torch.testing.assert_close(q.frozen_log_q(z), log_q, atol=2e-3, rtol=1e-3)
    moved, log_det = q.transport(eps)
    torch.testing.assert_close(log_standard_normal(eps) - log_det, log_q)
    jacobian = torch.autograd.functional.jacobian(lambda e: q.transport(e)[0][0, 0], eps[:1])[:, 0, 0]
    torch.testing.assert_close(torch.linalg.slogdet(jacobian).logabsdet, log_det[0, 0], atol=1e-4, rtol=1e-4)
    assert torch.equal(moved, z) and ForeignEncoder(flow(net), x).family is None


def mixture(net: Net) -> Callable[[Tensor], Distribution]:
    def encode(x: Tensor) -> Distribution:
        mean, log_variance = net(x)
        parts = Normal(torch.stack([mean, mean + 2], 1), (0.5 * log_variance).exp()[:, None].expand(-1, 2, -1))
        return MixtureSameFamily(Categorical(logits=mean.new_zeros(len(x), 2)), Independent(parts, 1))

    return encode


@pytest.mark.parametrize("make", [mixture, lambda net: lambda x: StudentT(5.0, net(x)[0], (0.5 * net(x)[1]).exp())])
def test_any_other_distribution_draws_from_the_noise_it_is_given(
    make: Callable[[Net], Callable[[Tensor], Distribution]], net: Net, x: Tensor
) -> None:
    q = infer(make(net), x)
    assert isinstance(q, DistributionPosterior)
    state = torch.get_rng_state()
    z, log_q, _ = draws(q, x, 4000)
    assert torch.equal(state, torch.get_rng_state())
    assert torch.equal(z, draws(q, x, 4000)[0]) and not torch.equal(z, draws(q, x, 4000, seed=1)[0])
    with torch.no_grad():
        truth = make(net)(x)
        value = truth.log_prob(z)
        torch.testing.assert_close(log_q, value if value.dim() == 2 else value.sum(-1))
        torch.testing.assert_close(z.mean(0), truth.mean, atol=0.15, rtol=0)
    torch.testing.assert_close(q.mean(), truth.mean)
    correlation = torch.corrcoef(z[..., 0].T) - torch.eye(B).to(x)
    assert float(correlation.abs().max()) < 0.08  # independent across data
    assert not hasattr(q, "transport")  # an unknown density has draws alone


def test_types_and_places_are_converted(device: torch.device) -> None:
    """A float32 encoder beside a float64 model."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        net = Net().to(device)
    x = torch.rand(B, D, generator=generator("cpu", "x"), dtype=torch.float64).to(device)
    for encoder in (net, net.normal, flow(net), mixture(net)):
        q = infer(encoder if encoder in (net, net.normal) else (lambda x, e=encoder: e(x.float())), x)
        z, log_q, _ = draws(q, x)
        assert z.dtype == log_q.dtype == q.mean().dtype == torch.float64


def test_a_module_in_training_mode_is_measured_in_evaluation_mode(x: Tensor) -> None:
    class Dropping(Net):
        def encode(self, x: Tensor) -> tuple[Tensor, Tensor]:
            return self(nn.functional.dropout(x, 0.5, self.training))

    net = Dropping().to(x).train()
    for q in (infer(net.encode, x), infer(net.encode, x)):
        torch.testing.assert_close(q.mean(), net(x)[0].detach())
    assert net.training and all(p.requires_grad for p in net.parameters())
    with pytest.raises(VemError, match=r"is random.*dropout in training mode"):
        ForeignEncoder(lambda x: net.encode(x), x)


# Made of the net n: λ for each draw, λ that depends on the batch, rows in another order; outputs that are no q.
REFUSED: list[tuple[Callable[[Net], Any], str]] = [
    (lambda n: lambda x: tuple(t.repeat(2, 1) for t in n(x)),
     r"shape \[8, 3\], and \[B, H\] = \[4, H\] was expected: give one λ for each datum, not one for"),
    (lambda n: lambda x: tuple(t.expand(2, -1, -1) for t in n(x)), r"shape \[2, 4, 3\].*not one for each draw"),
    (lambda n: lambda x: Normal(torch.zeros(2, len(x), H), 1.0), r"shape \[2, 4, 3\].*not one for each draw"),
    (lambda n: lambda x: tuple(t[:1] for t in n(x)), r"shape \[1, 3\].*one λ for each datum"),
    (lambda n: lambda x: tuple(t.flip(0) for t in n(x)), r"gives a datum another q alone than in a batch"),
    (lambda n: lambda x: n(x - x.mean(0)), r"gives a datum another q alone than in a batch"),
    (lambda n: lambda x: tuple(t[:, 0] for t in n(x)), r"shape \[4\].*for one latent dimension give \[B, 1\]"),
    (lambda n: lambda x: MultivariateNormal(torch.zeros(H), torch.eye(H)), r"shape \[3\].*give one λ for each datum"),
    (lambda n: n.layer, r"Linear gives one tensor \[4, 6\].*chunk\(2, -1\)"),
    (lambda n: lambda x: (x, *n(x)), r"gives 3 things \(\[4, 6\], \[4, 3\], \[4, 3\]\)"),
    (lambda n: lambda x: {"mean": x}, r"gives a dict"),
    (lambda n: lambda x: (n(x)[0], n(x)[1][:, :1]), r"a mean \[4, 3\] and a log variance \[4, 1\]"),
    (lambda n: lambda x: (n(x)[0], 1.0), r"gives 2 things \(\[4, 3\], float\)"),
    (lambda n: lambda x: n(x[:, :2]), r"fails on x of shape \[4, 6\]"),
    (lambda n: lambda x: Normal(n(x)[0], 0 * n(x)[1], validate_args=True), r"fails on x of shape .*scale"),
    (lambda n: lambda x: Normal(n(x)[0], 0 * n(x)[1], validate_args=False), r"zero, infinite or NaN variance"),
    (lambda n: lambda x: StudentT(5.0, n(x)[0], n(x)[1] * torch.inf, validate_args=False),
     r"StudentT with draws or log_prob that are not finite for 4 of 4 data"),
    (lambda n: lambda x: Categorical(logits=x[:, None].expand(-1, H, -1)), r"a Categorical, whose draws are discrete"),
    (lambda n: "encoder", r"encoder='encoder' cannot be called"),
]  # fmt: skip


@pytest.mark.parametrize(("make", "words"), REFUSED)
def test_what_is_no_q_of_each_datum_is_named(make: Callable[[Net], Any], words: str, net: Net, x: Tensor) -> None:
    with pytest.raises(VemError, match=words):
        ForeignEncoder(make(net), x)


def test_a_distribution_that_does_not_know_its_mean(net: Net, x: Tensor) -> None:
    """A flow over Student's t: the mean of its draws stands for it. A Cauchy has none, and is measured all the same."""

    def heavy(df: float) -> Callable[[Tensor], Distribution]:
        return lambda x: TransformedDistribution(StudentT(df, net(x)[0], 0.1), [TanhTransform()])

    q = infer(heavy(5.0), x)
    torch.testing.assert_close(q.mean(), net(x)[0].detach().tanh(), atol=0.05, rtol=0)
    z, log_q, _ = draws(infer(lambda x: StudentT(1.0, net(x)[0], 0.1), x), x)
    assert bool(log_q.isfinite().all()) and z.shape == (4, B, H)


@pytest.mark.parametrize("bad", [-torch.inf, torch.inf, torch.nan, -3000.0, 3000.0])
def test_zero_infinite_and_nan_variance_name_the_rows(bad: float, net: Net, x: Tensor) -> None:
    fine, model = x.clone(), foreign_model(nn.Linear(H, D).to(x), "gaussian", x, H, scale=1.0)

    def encode(x: Tensor) -> tuple[Tensor, Tensor]:
        mean, log_variance = net(x)
        return mean, torch.where(x[:, :1] == 7, bad, log_variance)

    strategy = ForeignEncoder(encode, fine)
    fine[3] = 7
    with pytest.raises(VemError, match=r"zero, infinite or NaN variance.*1 of 5 data \(rows 3 of the batch\)"):
        strategy.infer(model, Batch(fine, None), {})
    with pytest.raises(VemError, match=r"rows 40 of x.*take its log; clamp"):
        strategy.infer(model, Batch(fine, torch.arange(10, 60, 10, device=x.device)), {})
    with pytest.raises(VemError, match=r"zero, infinite or NaN variance"):
        ForeignEncoder(lambda x: (net(x)[0], torch.full_like(net(x)[1], bad)), x)


def test_an_encoder_of_another_model(net: Net, x: Tensor) -> None:
    model = foreign_model(nn.Linear(2, D).to(x), "gaussian", x, 2, scale=1.0)
    with pytest.raises(VemError, match=r"over 3 latent dimensions, and the model has latent_dim=2"):
        ForeignEncoder(net, x).infer(model, Batch(x, None), {})
