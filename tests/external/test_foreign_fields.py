"""What other packages' encoders and exported decoders give is understood where it is plain, and named where not."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any, NamedTuple

import pytest
import torch
from torch import Tensor, nn
from torch.distributions import Independent, LogNormal, Normal

from vem.errors import VemError
from vem.external.encoder import ForeignEncoder
from vem.external.model import foreign_model
from vem.families.gaussian import DiagonalGaussianPosterior
from vem.noise import generator

H, D, B = 2, 5, 4


class ModelOutput(OrderedDict[str, Any]):
    """As pythae's: a mapping whose keys are attributes too."""

    def __getattr__(self, name: str) -> Any:
        return self[name]


class LocScale(NamedTuple):
    loc: Tensor
    scale: Tensor


class Unnamed(NamedTuple):
    first: Tensor
    second: Tensor


@dataclass
class MuLogStd:
    mu: Tensor
    log_std: Tensor
    hidden: Tensor


class DiagonalGaussianDistribution:
    """As diffusers': every name at once, and no distribution of torch's."""

    def __init__(self, mean: Tensor, logvar: Tensor) -> None:
        self.mean, self.logvar = mean, logvar
        self.std, self.var, self.deterministic = (0.5 * logvar).exp(), logvar.exp(), False

    def sample(self) -> Tensor:
        return self.mean


def mean(x: Tensor) -> Tensor:
    return x[:, :H]


def log_variance(x: Tensor) -> Tensor:
    return 0.3 * x[:, H : 2 * H] - 1


def std(x: Tensor) -> Tensor:
    return (0.5 * log_variance(x)).exp()


UNDERSTOOD: dict[str, Callable[[Tensor], Any]] = {
    "pythae": lambda x: ModelOutput(embedding=mean(x), log_covariance=log_variance(x)),
    "loc and scale": lambda x: {"loc": mean(x), "scale": std(x)},
    "a NamedTuple": lambda x: LocScale(mean(x), std(x)),
    "a NamedTuple whose names say nothing": lambda x: Unnamed(mean(x), log_variance(x)),
    "a dataclass": lambda x: MuLogStd(mean(x), 0.5 * log_variance(x), x),
    "keras' names": lambda x: SimpleNamespace(z_mean=mean(x), z_log_var=log_variance(x), z=mean(x)),
    "diffusers": lambda x: SimpleNamespace(latent_dist=DiagonalGaussianDistribution(mean(x), log_variance(x))),
    "diffusers, within": lambda x: DiagonalGaussianDistribution(mean(x), log_variance(x)),
    "scvi": lambda x: {"z": mean(x), "qz": Normal(mean(x), std(x)), "ql": LogNormal(mean(x), 1.0)},
    "one distribution": lambda x: {"dist": Independent(Normal(mean(x), std(x)), 1), "features": x},
    "a variance": lambda x: {"mean": mean(x), "variance": log_variance(x).exp()},
}


@pytest.fixture
def x() -> Tensor:
    return torch.randn(B, D, generator=generator("cpu", "x"), dtype=torch.float64)


@pytest.mark.parametrize("name", list(UNDERSTOOD))
def test_what_is_plain_is_understood(name: str, x: Tensor) -> None:
    q = ForeignEncoder(UNDERSTOOD[name], x)._posterior(x, None)
    assert isinstance(q, DiagonalGaussianPosterior)
    torch.testing.assert_close(q.location, mean(x))
    torch.testing.assert_close(q.log_scale, 0.5 * log_variance(x))


REFUSED: dict[str, tuple[Callable[[Tensor], Any], str]] = {
    "no width": (lambda x: {"mean": mean(x), "h": x}, r"a dict with the fields mean \[4, 2\], h \[4, 5\].*not plain"),
    "no mean": (lambda x: SimpleNamespace(a=mean(x), scale=std(x)), r"fields a \[4, 2\], scale.*not plain"),
    "two means": (lambda x: {"mean": mean(x), "mu": 2 * mean(x), "std": std(x)}, "More than one is a mean, and they"),
    "two widths": (lambda x: {"mean": mean(x), "std": std(x), "logvar": 0 * std(x)}, "More than one is a width"),
    "not positive": (lambda x: {"loc": mean(x), "scale": -std(x)}, r"gives scale, and it is not positive for 8 of 8"),
    "a log that is called a scale": (lambda x: LocScale(mean(x), log_variance(x)), "not positive.*If it is the log"),
    "two distributions": (lambda x: {"a": Normal(mean(x), 1.0), "b": Normal(mean(x), 2.0)}, "none is plainly q"),
}


@pytest.mark.parametrize("name", list(REFUSED))
def test_what_is_not_plain_is_refused_with_its_fields(name: str, x: Tensor) -> None:
    encoder, words = REFUSED[name]
    with pytest.raises(VemError, match=words):
        ForeignEncoder(encoder, x)


def exported(module: nn.Module, shape: tuple[int, ...], dynamic: bool) -> nn.Module:
    shapes = ({0: torch.export.Dim("batch")},) if dynamic else None
    return torch.export.export(module.eval(), (torch.zeros(4, *shape),), dynamic_shapes=shapes).module()


def test_a_fixed_batch_names_the_remedy_and_the_remedy_works(x: Tensor) -> None:
    x, net = x.float(), nn.Sequential(nn.Linear(H, 6), nn.Tanh(), nn.Linear(6, D))
    for wrap in (lambda m: m, lambda m: lambda z: m(z)):
        with pytest.raises(VemError, match=r"Guard failed.*dynamic_shapes=\(\{0: torch.export.Dim\('batch'\)"):
            foreign_model(wrap(exported(net, (H,), False)), "gaussian", x, H, scale=1.0)
    z = torch.randn(3, B, H, generator=generator("cpu", "z"))
    truth = foreign_model(net, "gaussian", x, H, scale=1.0).log_likelihood(x, z)
    found = foreign_model(exported(net, (H,), True), "gaussian", x, H, scale=1.0).log_likelihood(x, z)
    torch.testing.assert_close(found, truth)


def test_an_encoder_with_a_fixed_batch(x: Tensor) -> None:
    x, net = x.float().repeat(2, 1), nn.Linear(D, 2 * H)
    fixed, free = (exported(net, (D,), dynamic) for dynamic in (False, True))
    assert ForeignEncoder(lambda x: free(x).chunk(2, -1), x).latent_dim == H
    with pytest.raises(VemError, match=r"Guard failed.*export it with a dynamic batch"):
        ForeignEncoder(lambda x: fixed(x).chunk(2, -1), x)


@pytest.mark.filterwarnings("ignore:.*torch.jit:DeprecationWarning", "ignore::torch.jit.TracerWarning")
def test_a_trace_with_a_fixed_shape(x: Tensor) -> None:
    class Fixed(nn.Module):
        def forward(self, z: Tensor) -> Tensor:
            return z.repeat(1, 5).view(int(z.shape[0]), D, 2)[..., 0]

    traced = torch.jit.trace(Fixed(), torch.zeros(4, H))  # type: ignore[no-untyped-call, unused-ignore]
    with pytest.raises(VemError, match=r"(?s)is invalid for input of size.*torch.jit.script in the place of trace"):
        foreign_model(traced, "gaussian", x.float(), H, scale=1.0)
