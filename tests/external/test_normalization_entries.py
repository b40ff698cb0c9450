"""Entries of any kind: right densities of every kind pass, wrong ones are named, and what is not free is not judged."""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch import distributions as td
from torch.nn import functional as F

from vem.external.model import ForeignModel
from vem.external.normalization import Normalization, check_likelihood
from vem.noise import generator

H, D, N = 2, 6, 40


@pytest.fixture(autouse=True)
def one_z(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    if "several_z" not in request.node.name:
        monkeypatch.setattr("vem.external.normalization.PLACES", 1)


def test_a_fault_at_one_of_several_z_is_found() -> None:
    """Right at the first z alone: a scale that is left out of the constant where it is not one."""

    def log_p(x: Tensor, z: Tensor) -> Tensor:
        scale = 1 + z[..., :1].clamp_min(0)
        return (-(x - level(z)).abs() / scale - math.log(2)).sum(-1)

    found = check(log_p, NORMAL)
    assert found.passed is False, found.detail


def level(z: Tensor, key: str = "loc") -> Tensor:
    """A number for each entry that depends on z, [..., D]."""
    return z @ torch.randn(H, D, generator=generator("cpu", key), dtype=torch.float64).to(z)


def width(z: Tensor) -> Tensor:
    return (0.5 * level(z, "scale")).exp()


def drawn(kind: Callable[[Tensor], td.Distribution], num: int = N) -> Tensor:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return kind(torch.randn(num, H, dtype=torch.float64)).sample()


def check(log_p: Callable[[Tensor, Tensor], Tensor], x: Tensor) -> Normalization:
    return check_likelihood(ForeignModel(log_p, tuple(x.shape[1:]), H), x)


def mixture(z: Tensor) -> td.Distribution:
    loc = level(z)
    parts = td.Normal(torch.stack([loc - 100, loc + 100], -1), torch.stack([0.1 * width(z), width(z)], -1))
    return td.MixtureSameFamily(td.Categorical(torch.ones_like(parts.loc)), parts)


KINDS: dict[str, Callable[[Tensor], td.Distribution]] = {
    "laplace": lambda z: td.Laplace(level(z), width(z)),
    "cauchy": lambda z: td.Cauchy(level(z), width(z)),
    "student": lambda z: td.StudentT(1.5, level(z), width(z)),
    "very narrow": lambda z: td.Normal(level(z), 1e-5 * width(z)),
    "very wide": lambda z: td.Normal(1e6 * level(z), 1e6 * width(z)),
    "gumbel": lambda z: td.Gumbel(level(z), width(z)),
    "far modes": mixture,
    "log-normal": lambda z: td.LogNormal(level(z), width(z)),
    "gamma": lambda z: td.Gamma(0.5 * width(z), width(z)),
    "beta": lambda z: td.Beta(width(z), 1 + width(z)),
    "von mises": lambda z: td.VonMises(level(z), width(z)),
    "poisson": lambda z: td.Poisson(3 * width(z)),
    "poisson, large": lambda z: td.Poisson(1e6 * width(z)),
    "negative binomial": lambda z: td.NegativeBinomial(2 * width(z), logits=level(z)),
    "binomial": lambda z: td.Binomial(20, logits=level(z)),
    "categorical": lambda z: td.Categorical(logits=torch.stack([level(z), level(z, "b"), level(z, "c")], -1)),
    "geometric": lambda z: td.Geometric(logits=level(z)),
}


@pytest.mark.parametrize("name", list(KINDS))
def test_right_densities_pass_and_their_means_and_signs_do_not(name: str) -> None:
    kind = KINDS[name]
    x = drawn(kind).double()
    right = check(lambda x, z: kind(z).log_prob(x).sum(-1), x)
    assert right.passed and abs(right.excess or 0) < 0.03, right.detail
    mean = check(lambda x, z: kind(z).log_prob(x).mean(-1), x)
    assert mean.passed is False and f"mean over the {D}" in mean.detail, mean.detail
    if name not in ("student", "beta", "poisson"):
        return
    sign = check(lambda x, z: -kind(z).log_prob(x).sum(-1), x)
    assert sign.passed is False, sign.detail


def zero_inflated(x: Tensor, z: Tensor) -> Tensor:
    rest = math.log(0.4) + td.Poisson(300 * width(z)).log_prob(x)
    return torch.where(x == 0, torch.logaddexp(rest, rest.new_tensor(0.6).log()), rest).sum(-1)


def levels(low: float, high: float) -> Callable[[Tensor, Tensor], Tensor]:
    """The discretized logistic on 256 levels, the tails in the outermost ones."""

    def log_p(x: Tensor, z: Tensor) -> Tensor:
        step = (high - low) / 255
        loc, scale = low + (high - low) * level(z).sigmoid(), 0.05 * (high - low) * width(z)
        above, below = (x + step / 2 - loc) / scale, (x - step / 2 - loc) / scale
        inner = (above.sigmoid() - below.sigmoid()).clamp_min(1e-300).log()
        ends = torch.where(x > high - step / 2, -F.softplus(below), inner)
        return torch.where(x < low + step / 2, F.logsigmoid(above), ends).sum(-1)

    return log_p


def censored(x: Tensor, z: Tensor) -> Tensor:
    q = td.Normal(level(z), width(z), validate_args=False)
    low, high = q.cdf(torch.zeros_like(x)).log(), (1 - q.cdf(torch.ones_like(x))).log()
    return torch.where(x <= 0, low, torch.where(x >= 1, high, q.log_prob(x))).sum(-1)


def truncated(x: Tensor, z: Tensor) -> Tensor:
    q = td.Normal(level(z), width(z))
    mass = (q.cdf(torch.full_like(x, 2.0)) - q.cdf(torch.full_like(x, -2.0))).log()
    return torch.where(x.abs() <= 2, q.log_prob(x) - mass, -torch.inf).sum(-1)


def spike_and_slab(x: Tensor, z: Tensor) -> Tensor:
    spike, slab = td.Normal(torch.zeros_like(x), 1e-6).log_prob(x), td.Normal(level(z), width(z)).log_prob(x)
    return torch.logaddexp(spike + math.log(0.3), slab + math.log(0.7)).sum(-1)


def uniform(*shape: int) -> Tensor:
    return torch.rand(*shape, generator=generator("cpu", "u"), dtype=torch.float64)


NORMAL = drawn(lambda z: td.Normal(level(z), width(z)))
GREY = (255 * uniform(N, D)).round()
OWN: dict[str, tuple[Callable[[Tensor, Tensor], Tensor], Tensor]] = {
    "zero-inflated Poisson": (zero_inflated, drawn(lambda z: td.Poisson(300 * width(z))) * (uniform(N, D) < 0.4)),
    "levels 0 … 1": (levels(0.0, 1.0), GREY / 255),
    "levels −1 … 1, float32": (levels(-1.0, 1.0), (GREY / 127.5 - 1).float()),
    "levels 0 … 255": (levels(0.0, 255.0), GREY),
    "censored": (censored, NORMAL.clamp(0, 1)),
    "truncated": (truncated, NORMAL.clamp(-1.99, 1.99)),
    "spike and slab": (spike_and_slab, NORMAL * (uniform(N, D) < 0.7)),
    "Laplace over 0 and 1": (lambda x, z: td.Laplace(level(z), width(z)).log_prob(x).sum(-1), uniform(N, D).round()),
    "Poisson over 0 and 1": (lambda x, z: td.Poisson(width(z)).log_prob(x).sum(-1), uniform(N, D).round()),
    "a Gaussian over whole numbers": (lambda x, z: td.Normal(level(z), 0.1).log_prob(x).sum(-1), GREY),
}


@pytest.mark.parametrize("name", list(OWN))
def test_densities_of_mixed_kinds_pass(name: str) -> None:
    log_p, x = OWN[name]
    found = check(log_p, x)
    assert found.passed, found.detail


COUNTS = drawn(lambda z: td.Poisson(3 * width(z)))
FAULTS: list[tuple[str, Callable[[Tensor, Tensor], Tensor], Tensor, str, float | None]] = [
    ("Poisson", lambda x, z: (x * level(z) - level(z).exp()).sum(-1), COUNTS, "−log x! an entry is missing", None),
    ("its mean", lambda x, z: (x * level(z) - level(z).exp()).mean(-1), COUNTS, r"log x!.*mean over the 6", None),
    ("L1", lambda x, z: -(x - level(z)).abs().sum(-1), NORMAL, "constant", D * math.log(2)),
    ("L1, scaled", lambda x, z: -10 * (x - level(z)).abs().sum(-1), NORMAL, "constant", D * math.log(0.2)),
    ("mean of L1", lambda x, z: -(x - level(z)).abs().mean(-1), NORMAL, "", D * math.log(2 * D)),
    ("log cosh", lambda x, z: -(x - level(z)).cosh().log().sum(-1), NORMAL, "constant", D * math.log(math.pi)),
    ("constant", lambda x, z: td.Laplace(level(z), 1.0).log_prob(x).sum(-1) + 1, NORMAL, "constant", 1.0),
    ("cut off", lambda x, z: -(x - level(z))[..., 1:].abs().sum(-1), NORMAL, "entry 0|infinite", math.inf),
    ("zero inflated", lambda x, z: torch.where(x == 0, math.log(0.6), math.log(0.6) + td.Poisson(300 * width(z))
     .log_prob(x)).sum(-1), OWN["zero-inflated Poisson"][1], "term", D * math.log(1.2)),
    ("a truncation without its mass", lambda x, z: torch.where(x.abs() <= 2, td.Laplace(0 * level(z), 2.0).log_prob(x),
     -torch.inf).sum(-1), NORMAL.clamp(-1.99, 1.99), "term", D * math.log(1 - math.exp(-1))),
]  # fmt: skip


@pytest.mark.parametrize(("name", "log_p", "x", "words", "excess"), FAULTS, ids=[f[0] for f in FAULTS])
def test_faults_are_measured(
    name: str, log_p: Callable[[Tensor, Tensor], Tensor], x: Tensor, words: str, excess: float | None
) -> None:
    found = check(log_p, x)
    assert found.passed is False and re.search(words, found.detail), found.detail
    if excess is not None:
        assert found.excess == pytest.approx(excess, abs=0.02), found.detail


def one_hot(x: Tensor, z: Tensor) -> Tensor:
    return (x * level(z).unflatten(-1, (2, 3)).log_softmax(-1).flatten(-2)).sum(-1)


def correlated(x: Tensor, z: Tensor) -> Tensor:
    factor = torch.eye(D).to(z) + 0.3 * torch.ones(D, D).to(z).tril(-1)
    return td.MultivariateNormal(level(z), scale_tril=factor).log_prob(x)


def hidden_spike(x: Tensor, z: Tensor) -> Tensor:
    spike = td.Normal(level(z) + 0.1, 1e-3 * width(z)).log_prob(x)
    return torch.logaddexp(spike + math.log(0.1), td.Laplace(level(z), width(z)).log_prob(x) + math.log(0.9)).sum(-1)


NOT_FREE: dict[str, tuple[Callable[[Tensor, Tensor], Tensor], Tensor]] = {
    "one-hot": (one_hot, F.one_hot((3 * uniform(N, 2)).long(), 3).flatten(1).double()),
    "words": (lambda x, z: (x * level(z).log_softmax(-1)).sum(-1), COUNTS),
    "covariance": (correlated, NORMAL),
    "autoregressive": (lambda x, z: td.Normal(level(z) + F.pad(x, (1, -1)), 1.0).log_prob(x).sum(-1), NORMAL),
    "autoregressive bits": (
        lambda x, z: td.Bernoulli(logits=level(z) + 3 * F.pad(x, (1, -1))).log_prob(x).sum(-1),
        (NORMAL > 0).double(),
    ),
    "autoregressive counts": (
        lambda x, z: td.Poisson(1 + F.pad(x, (1, -1))).log_prob(x).sum(-1) + 0 * z.sum(-1),
        COUNTS,
    ),
    "shares": (lambda x, z: td.Dirichlet(1 + width(z)).log_prob(x), NORMAL.softmax(-1)),
}


@pytest.mark.parametrize("name", list(NOT_FREE))
def test_entries_that_depend_on_one_another_are_not_judged(name: str) -> None:
    found = check(*NOT_FREE[name])
    assert found.passed is None and "cannot be tested cheaply" in found.detail, found.detail


def test_mass_that_no_point_sees_is_not_called_missing() -> None:
    assert check(hidden_spike, NORMAL).passed is not False


def test_a_thousand_entries_take_one_evaluation_each_point(monkeypatch: pytest.MonkeyPatch) -> None:
    """The terms that are summed are read off: negative binomial counts of 1000 genes; and without them, less."""
    loc = torch.randn(1000, generator=generator("cpu", "genes"), dtype=torch.float64)
    called: list[int] = []

    def log_p(x: Tensor, z: Tensor) -> Tensor:
        called.append(x.shape[0])
        return td.NegativeBinomial(2.0, logits=loc + 0 * z[..., :1]).log_prob(x).sum(-1)

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        x = td.NegativeBinomial(2.0, logits=loc).sample((20,))
    right = check(log_p, x)
    assert right.passed and sum(called) < 20_000, right.detail
    assert check(lambda x, z: log_p(x, z) / 1000, x).passed is False


def test_one_entry_and_one_datum() -> None:
    x = torch.tensor([[3.0]])
    assert check(lambda x, z: td.Poisson(4.0 + 0 * z[..., 0]).log_prob(x[..., 0]), x).passed
    assert check(lambda x, z: td.Laplace(4.0 + 0 * z[..., 0], 1.0).log_prob(x[..., 0]), x + 0.3).passed


class Refusing(nn.Module):
    """Counts whose support is checked by the user, and a network in float32."""

    latent_size = H

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(H, D)

    def log_likelihood(self, x: Tensor, z: Tensor) -> Tensor:
        if bool((x != x.round()).any() or (x < 0).any()):
            raise AssertionError("counts, please")
        return td.Poisson(F.softplus(self.layer(z))).log_prob(x).sum(-1)


def test_a_module_that_refuses_what_is_no_count() -> None:
    model: Any = Refusing()
    assert check_likelihood(model, COUNTS.float()).passed
    assert next(model.parameters()).dtype == torch.float32
