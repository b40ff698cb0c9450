"""Densities that normalize pass, the usual faults are named, and what cannot be told is not judged."""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from vem.external.borrowed import prior_draws
from vem.external.model import ForeignModel, foreign_model
from vem.external.normalization import Normalization, check_likelihood
from vem.models.deep import DeepLatentModel
from vem.models.linear_gaussian import LinearGaussian
from vem.models.networks import MLPFactory
from vem.noise import generator

D, H = 30, 3
SIGMA = 0.2


def weights(device: torch.device, dtype: torch.dtype) -> Tensor:
    return torch.randn(H, D, generator=generator("cpu", "w"), dtype=torch.float64).to(device, dtype)


def data(kind: str, device: torch.device, dtype: torch.dtype) -> Tensor:
    x = torch.rand(5, D, generator=generator("cpu", "x"), dtype=torch.float64).to(device, dtype)
    return x.round() if kind == "binary" else x


def check(log_likelihood: Callable[[Tensor, Tensor], Tensor], kind: Any, x: Tensor) -> Normalization:
    return check_likelihood(ForeignModel(log_likelihood, (D,), H), x, kind)


@pytest.mark.parametrize("likelihood", ["bernoulli", "gaussian"])
def test_the_deep_model_normalizes(likelihood: str, device: torch.device, dtype: torch.dtype) -> None:
    model = DeepLatentModel((6, 5), H, MLPFactory([20]), likelihood, scale=0.05).to(device, dtype)
    x = data("binary" if likelihood == "bernoulli" else "real", device, dtype).reshape(-1, 6, 5)
    found = check_likelihood(model, x)
    assert found.passed and found.excess is not None and abs(found.excess) < 0.05, found.detail


@pytest.mark.parametrize("scale", [1e-3, 1.0, 1e3])
def test_any_width_and_any_unit(scale: float, device: torch.device, dtype: torch.dtype) -> None:
    """σ far from the spread of the data: the step finds its length."""
    w = weights(device, dtype)

    def log_p(x: Tensor, z: Tensor) -> Tensor:
        return torch.distributions.Normal(z @ w, scale).log_prob(x).sum(-1)

    found = check(log_p, "real", data("real", device, dtype))
    assert found.passed, found.detail


def test_a_width_for_each_entry(device: torch.device, dtype: torch.dtype) -> None:
    model = LinearGaussian((D,), H, noise="diagonal").to(device, dtype)
    x = data("real", device, dtype)
    model.start(x * torch.logspace(-1, 2, D, device=device, dtype=dtype), generator(device, 0))
    found = check_likelihood(model, x)
    assert found.passed, found.detail


def bernoulli(x: Tensor, z: Tensor) -> Tensor:
    logits = z @ weights(z.device, z.dtype)
    return F.binary_cross_entropy_with_logits(logits, x.expand_as(logits), reduction="none")


def square(x: Tensor, z: Tensor) -> Tensor:
    return ((x - z @ weights(z.device, z.dtype)) / SIGMA).square()


LOG_SCALE = math.log(SIGMA) + 0.5 * math.log(2 * math.pi)
FAULTS: list[tuple[str, Callable[[Tensor, Tensor], Tensor], str, float | None]] = [
    ("binary", lambda x, z: bernoulli(x, z).sum(-1), "sign is flipped", None),
    ("binary", lambda x, z: -bernoulli(x, z).mean(-1), "mean over the 30", None),
    ("binary", lambda x, z: bernoulli(x, z).mean(-1), "loss, .* and the mean", None),
    ("binary", lambda x, z: -bernoulli(x, z).sum(-1) + 7, "constant", 7.0),
    ("real", lambda x, z: -0.5 * square(x, z).sum(-1), "squared error", D * LOG_SCALE),
    ("real", lambda x, z: (-0.5 * square(x, z) - math.log(SIGMA)).sum(-1), "½ log 2π an entry", D * 0.918939),
    ("real", lambda x, z: (-0.5 * square(x, z) - LOG_SCALE).mean(-1), "mean over the 30", None),
    ("real", lambda x, z: (0.5 * square(x, z) + LOG_SCALE).sum(-1), "sign is flipped", math.inf),
    ("real", lambda x, z: (0.5 * square(x, z) + LOG_SCALE).mean(-1), "loss, .* and the mean", math.inf),
    ("real", lambda x, z: (-0.5 * square(x, z) - LOG_SCALE).sum(-1) - 4, "constant", -4.0),
    ("real", lambda x, z: (-0.5 * square(x, z) - LOG_SCALE)[..., 1:].sum(-1), "not depend on entry 0 ", math.inf),
]


@pytest.mark.parametrize(("kind", "log_p", "words", "excess"), FAULTS)
def test_planted_faults_are_named(
    kind: str,
    log_p: Callable[[Tensor, Tensor], Tensor],
    words: str,
    excess: float | None,
    device: torch.device,
    dtype: torch.dtype,
) -> None:
    found = check(log_p, kind, data(kind, device, dtype))
    assert found.passed is False
    assert re.search(words, found.detail), found.detail
    if excess is not None:
        assert found.excess == pytest.approx(excess, abs=0.05)
        assert math.isinf(excess) or f"{found.excess:+.2f} nats a datum" in found.detail


@pytest.mark.parametrize(("sign", "words"), [(1.0, "mean over the 30"), (-1.0, "loss")])
def test_a_refusal_of_real_x_does_not_undo_the_verdict_on_binary_x(
    sign: float, words: str, device: torch.device, dtype: torch.dtype
) -> None:
    """Torch's Bernoulli raises on real x, which are tried where binary x fail."""

    def log_p(x: Tensor, z: Tensor) -> Tensor:
        return sign * torch.distributions.Bernoulli(logits=z @ weights(z.device, z.dtype)).log_prob(x).mean(-1)

    found = check_likelihood(ForeignModel(log_p, (D,), H), data("binary", device, dtype))
    assert found.passed is False and words in found.detail, found.detail


def test_the_excess_of_a_mean_is_that_of_enumeration(device: torch.device) -> None:
    """log Σ_x p(x | z) over all 2^8 x of the wrong likelihood."""
    w = weights(device, torch.float64)[:, :8]

    def log_p(x: Tensor, z: Tensor) -> Tensor:
        logits = (z @ w).expand(*z.shape[:-1], 8)
        return -F.binary_cross_entropy_with_logits(logits, x.expand_as(logits), reduction="none").mean(-1)

    every = torch.cartesian_prod(*[torch.tensor([0.0, 1.0], device=device, dtype=torch.float64)] * 8)
    found = check_likelihood(ForeignModel(log_p, (8,), H), every[:5])
    z = prior_draws(1, H, every).expand(1, len(every), H)
    assert found.excess == pytest.approx(float(log_p(every, z).logsumexp(1)), abs=1e-9)


def test_grey_levels_under_a_bernoulli(device: torch.device) -> None:
    found = check(lambda x, z: -bernoulli(x, z).sum(-1), "binary", data("real", device, torch.float32))
    assert found.passed is False and "100% of the entries" in found.detail and "Binarize" in found.detail


def test_a_gaussian_over_binary_data_is_a_density(device: torch.device) -> None:
    x = data("binary", device, torch.float64)
    found = check(lambda x, z: (-0.5 * square(x, z) - LOG_SCALE).sum(-1), None, x)
    assert found.passed and found.detail.startswith("as a density over real x")
    wrong = check(lambda x, z: bernoulli(x, z).sum(-1), None, x)
    assert wrong.passed is False and "sign" in wrong.detail


def test_a_large_event_is_left_out(device: torch.device) -> None:
    """Where one evaluation tells all terms of the sum, any size will do; where it does not, it is said."""
    model = foreign_model(nn.Linear(2, 6000).to(device), "gaussian", torch.zeros(3, 6000, device=device), 2, 1.0)
    x = torch.linspace(0, 1, 18000, device=device).reshape(3, 6000)
    assert check_likelihood(model, x).passed

    def hidden(x: Tensor, z: Tensor) -> Tensor:
        square = (x - z[..., :1]).square()
        return -0.5 * (square @ square.new_ones(6000) + 6000 * math.log(2 * math.pi))

    found = check_likelihood(ForeignModel(hidden, (6000,), 2), x)
    assert found.passed is None and "evaluations of" in found.detail


def wide(likelihood: str, scale: float) -> nn.Module:
    """3072 pixels, [3, 32, 32], float32, with logits far from 0."""
    net = nn.Sequential(nn.Linear(10, 3072), nn.Unflatten(1, (3, 32, 32)))
    with torch.no_grad():
        net[0].weight.copy_(10 * scale * torch.randn(3072, 10, generator=generator("cpu", "wide")))
        net[0].bias.zero_()
    return DeepLatentModel((3, 32, 32), 10, net, likelihood, scale=scale)


class Changed(nn.Module):
    """A log-likelihood with something done to it."""

    latent_size = 10

    def __init__(self, model: nn.Module, change: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.model, self.change = model, change

    def log_likelihood(self, x: Tensor, z: Tensor) -> Tensor:
        return self.change(self.model.log_likelihood(x, z))


class Single(Changed):
    """Computes in float32, whatever comes."""

    def log_likelihood(self, x: Tensor, z: Tensor) -> Tensor:
        return self.change(self.model.float().log_likelihood(x.float(), z.float()))


class NoModule:
    """In the place of a module that cannot be copied."""

    latent_size = 10

    def __init__(self, of: Changed) -> None:
        self.log_likelihood = of.log_likelihood


KINDS: list[tuple[str, Callable[[Changed], Any], float]] = [
    ("a module", lambda m: m, 0.02),
    ("no module", NoModule, 10.0),
    ("float32 within", lambda m: Single(m.model, m.change), 10.0),
]


@pytest.mark.parametrize(("name", "wrap", "within"), KINDS, ids=[k[0] for k in KINDS])
@pytest.mark.parametrize("scale", [0.02, 0.3])
def test_thousands_of_pixels_are_told_from_rounding(
    name: str, wrap: Callable[[Changed], Any], within: float, scale: float
) -> None:
    """[3, 32, 32] in float32: a right Bernoulli passes, faults are named, and the tolerance is said."""
    model = wide("bernoulli", scale)
    x = torch.rand(3, 3, 32, 32, generator=generator("cpu", "x")).round()
    right = check_likelihood(wrap(Changed(model, lambda v: v)), x, "binary")
    assert right.passed and right.excess is not None and abs(right.excess) < within, right.detail
    for change, words in (
        (torch.neg, "sign is flipped"),
        (lambda v: v / 3072, "mean over the 3072"),
        (lambda v: v + 50, "constant"),
    ):
        found = check_likelihood(wrap(Changed(model, change)), x, "binary")
        assert found.passed is False and words in found.detail, found.detail


def test_thousands_of_real_pixels() -> None:
    x = torch.rand(2, 3, 32, 32, generator=generator("cpu", "x"))
    model = wide("gaussian", 0.1)
    assert check_likelihood(model, x, "real").passed
    assert "sign is flipped" in check_likelihood(Changed(model, torch.neg), x, "real").detail


def test_the_user_s_module_stays_as_it_is() -> None:
    model = wide("bernoulli", 0.1).train()
    check_likelihood(model, torch.rand(1, 3, 32, 32, generator=generator("cpu", "x")).round())
    assert model.training and {p.dtype for p in model.parameters()} == {torch.float32}
