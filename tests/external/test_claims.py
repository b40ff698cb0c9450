"""Distributions whose draws have another density than they claim are refused with numbers, and right ones are not."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar

import pytest
import torch
from torch import Tensor
from torch import distributions as td

from vem.errors import VemError
from vem.external.encoder import ForeignEncoder
from vem.noise import generator

B, D = 4, 6


def level(x: Tensor, size: int) -> Tensor:
    return x[:, :size]


class Own(td.Distribution):
    """A Normal under another class, so that it is known by its draws and log_prob alone."""

    arg_constraints: ClassVar[dict[str, Any]] = {}
    support = td.constraints.independent(td.constraints.real, 1)
    has_rsample = True

    def __init__(self, loc: Tensor, scale: float = 1.0, claimed: float = 1.0, constant: float = 0.0) -> None:
        self.q, self.other = td.Normal(loc, scale), td.Normal(loc, claimed)
        self.constant = constant
        super().__init__(loc.shape[:1], loc.shape[1:], validate_args=False)

    @property
    def mean(self) -> Tensor:
        return self.q.mean

    def rsample(self, sample_shape: Any = ()) -> Tensor:
        return self.q.rsample(sample_shape)

    def log_prob(self, value: Tensor) -> Tensor:
        return self.other.log_prob(value).sum(-1) + self.constant


class Clamped(Own):
    """As some flows: what lies beyond an edge is put there."""

    def rsample(self, sample_shape: Any = ()) -> Tensor:
        return super().rsample(sample_shape).clamp(-1.5, 1.5)


class Atoms(Own):
    def rsample(self, sample_shape: Any = ()) -> Tensor:
        return super().rsample(sample_shape).round()


class Together(Own):
    """Draws that come with a log-density, as zuko's flows."""

    def rsample_and_log_prob(self, shape: Any = ()) -> tuple[Tensor, Tensor]:
        z = self.rsample(shape)
        return z, self.q.log_prob(z).sum(-1)


class WrongJacobian(td.ExpTransform):
    def log_abs_det_jacobian(self, x: Tensor, y: Tensor) -> Tensor:
        return -x


@pytest.fixture
def x() -> Tensor:
    return torch.randn(B, D, generator=generator("cpu", "x"), dtype=torch.float64)


WRONG: dict[str, tuple[Callable[[Tensor], td.Distribution], str]] = {
    "clamped": (lambda x: Clamped(level(x, 3)), r"share coordinate \d with another \(such as -?1.5, \d+ times\)"),
    "atoms": (lambda x: Atoms(level(x, 2), 2.0, 2.0), "share coordinate"),
    "narrower than claimed": (lambda x: Own(level(x, 5), 1.0, 2.0), r"E_q.* is 0.7\d.*narrower than"),
    "wider than claimed": (lambda x: Own(level(x, 3), 2.0, 1.0), r"E_q.* is -\d.*wider than"),
    "a constant, H = 1": (lambda x: Own(level(x, 1), constant=1.0), r"-(0.9|1.0|1.1)\d ± .* nats too low"),
    "a constant, H = 2": (lambda x: Own(level(x, 2), constant=-2.0), r"\+(1.8|1.9|2.0|2.1)\d ± .* nats too low"),
    "a density with the draws": (lambda x: Together(level(x, 5), constant=0.7), r"differ for 100% .*by up to 0.7 nats"),
    "a wrong Jacobian": (
        lambda x: td.TransformedDistribution(td.Normal(level(x, 3), 1.0), [WrongJacobian()]), "derivatives"
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", list(WRONG))
def test_what_is_claimed_wrongly_is_refused(name: str, x: Tensor) -> None:
    encoder, words = WRONG[name]
    with pytest.raises(VemError, match=r"do not have the density that it claims.*" + words):
        ForeignEncoder(encoder, x)


def mixture(x: Tensor, size: int, apart: float) -> td.Distribution:
    loc = torch.stack([level(x, size) - apart, level(x, size) + apart], 1)
    parts = td.Independent(td.Normal(loc, torch.tensor([0.1, 1.0], dtype=x.dtype)[:, None]), 1)
    return td.MixtureSameFamily(td.Categorical(torch.ones(len(x), 2)), parts)


RIGHT: dict[str, Callable[[Tensor], td.Distribution]] = {
    "H = 1": lambda x: Own(level(x, 1)),
    "H = 5, narrow": lambda x: Own(level(x, 5), 1e-4, 1e-4),
    "with a density": lambda x: Together(level(x, 2)),
    "far modes, H = 1": lambda x: mixture(x, 1, 50.0),
    "far modes, H = 2": lambda x: mixture(x, 2, 50.0),
    "modes, H = 5": lambda x: mixture(x, 5, 2.0),
    "Student": lambda x: td.StudentT(3.0, level(x, 2), 0.5),
    "Cauchy": lambda x: td.Cauchy(level(x, 1), 0.5),
    "Laplace": lambda x: td.Laplace(level(x, 3), 0.5),
    "uniform": lambda x: td.Uniform(level(x, 2) - 1, level(x, 2) + 1),
    "beta": lambda x: td.Beta(0.5 + level(x, 2).abs(), 0.7),
    "a flow": lambda x: td.TransformedDistribution(td.Normal(level(x, 3), 1.0), [td.TanhTransform()]),
    "float32": lambda x: td.StudentT(5.0, level(x, 4).float(), 0.5),
}


@pytest.mark.parametrize("name", list(RIGHT))
def test_what_is_claimed_rightly_is_taken(name: str, x: Tensor) -> None:
    assert ForeignEncoder(RIGHT[name], x).latent_dim >= 1


def test_zuko_where_it_is_installed(x: Tensor) -> None:
    zuko = pytest.importorskip("zuko")
    before = td.Distribution._validate_args
    for make, right in ((zuko.flows.NSF, True), (zuko.flows.SOSPF, False)):
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            flow = make(3, D, transforms=1, hidden_features=[8]).double()
            for parameter in flow.parameters():
                parameter.data.mul_(1.0 if right else 5.0)
        if right:
            assert ForeignEncoder(lambda x, f=flow: f(x), x).latent_dim == 3
        else:
            with pytest.raises(VemError, match="do not have the density"):
                ForeignEncoder(lambda x, f=flow: f(x), x)
    assert td.Distribution._validate_args == before
