"""A density that raises for some z is −∞ there and there alone; a fault of the program is not swallowed."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from measure_support import drawn, measure
from torch import Tensor, nn
from torch.distributions import Distribution, HalfNormal, MultivariateNormal, Normal, Uniform

import vem
from vem.errors import VemError
from vem.external.measurement import Measurement
from vem.external.model import ForeignModel, foreign_model
from vem.external.raising import Raising, raised

D = 4


class TwoHeads(nn.Module):
    """The usual decoder: a mean and the exponential of a log scale, which over- and underflows."""

    def __init__(self, size: int, slope: float) -> None:
        super().__init__()
        self.register_buffer("weight", drawn(size, D, key="w"))
        self.slope = slope

    def forward(self, z: Tensor) -> tuple[Tensor, Tensor]:
        return z @ self.weight, (self.slope * z[..., :1]).exp().expand(*z.shape[:-1], D)


def normal(decoder: nn.Module) -> Any:
    def log_p(x: Tensor, z: Tensor) -> Tensor:
        mean, scale = decoder(z)
        return Normal(mean, scale, validate_args=True).log_prob(x).sum(-1)

    return log_p


def mean_of_best(result: Measurement) -> float:
    (found,) = result.evaluation["test"]["families"].values()
    return found["best_elbo"]["mean"]


def test_the_pairs_that_raise_are_found_and_no_others() -> None:
    """Against one pair at a time; the gradient of the others is that without the bad ones."""
    density = normal(TwoHeads(2, 40.0))
    x, z = drawn(5, D), 1.5 * drawn(7, 5, 2, key="z")
    z[3, 2, 0], z[0, 0, 0] = -4.0, -3.0
    guarded = Raising(density, "log p(x | z)")
    leaf = z.clone().requires_grad_()
    value = guarded(x, leaf)
    (gradient,) = torch.autograd.grad(value[value.isfinite()].sum(), leaf)
    bad = 0
    for s in range(7):
        for b in range(5):
            alone = z[s : s + 1, b : b + 1].clone().requires_grad_()
            try:
                truth = density(x[b : b + 1], alone)
            except ValueError:
                bad += 1
                assert value[s, b] == -math.inf and bool((gradient[s, b] == 0).all())
                continue
            torch.testing.assert_close(value[s, b], truth[0, 0])
            if bool(truth.isfinite()):
                torch.testing.assert_close(gradient[s, b], torch.autograd.grad(truth.sum(), alone)[0][0, 0])
    assert 2 <= bad < 30 and guarded.count == bad
    assert "if a scale under- or overflows there, clamp its log" in (guarded.said() or "")
    assert Distribution._validate_args is __debug__  # the default is back


def test_a_covariance_that_is_not_positive_definite() -> None:
    def log_p(x: Tensor, z: Tensor) -> Tensor:
        covariance = torch.eye(D) * (3 - z[..., :1, None])
        return MultivariateNormal(0 * x, scale_tril=torch.linalg.cholesky(covariance)).log_prob(x)

    model = ForeignModel(log_p, (D,), 1)
    z = torch.tensor([0.0, 2.0, 4.0])[:, None, None].expand(3, 2, 1)
    value = model.log_likelihood(drawn(2, D), z)
    assert value.isfinite().tolist() == [[True, True], [True, True], [False, False]] and value[2, 0] == -math.inf
    assert "LinAlgError" in raised(model)[0]


@pytest.mark.parametrize(
    ("prior", "inside"), [(lambda z: Uniform(-2.0, 2.0, validate_args=True).log_prob(z).sum(-1), 1.0),
                          (lambda z: HalfNormal(1.0).log_prob(z).sum(-1), 0.5)],
)  # fmt: skip
def test_a_prior_with_an_end(prior: Any, inside: float) -> None:
    model = foreign_model(nn.Linear(1, D), "gaussian", drawn(5, D), 1, scale=1.0, log_prior=prior)
    z = torch.tensor([[[inside]], [[-2.5]]])
    assert model.log_prior(z).isfinite().tolist() == [[True], [False]]


def test_faults_of_the_program_are_not_swallowed() -> None:
    """An error of shapes, one whatever z is, and one in the first call."""

    def batch_of_six(x: Tensor, z: Tensor) -> Tensor:
        if z.shape[0] == 3:
            raise ValueError("expected another number of draws")
        return -z.square().sum(-1)

    guarded = Raising(batch_of_six, "log p(x | z)")
    guarded(drawn(2, D), drawn(2, 2, 1, key="z"))
    with pytest.raises(VemError, match="whatever z is: expected another number of draws"):
        guarded(drawn(2, D), drawn(3, 2, 1, key="z"))
    with pytest.raises(RuntimeError, match=r"shape|size"):
        Raising(lambda x, z: x @ z, "log p(x | z)")(drawn(2, D), drawn(2, 2, 1, key="z"))
    with pytest.raises(ValueError, match="never"):
        Raising(lambda x, z: (_ for _ in ()).throw(ValueError("never")), "f")(drawn(2, D), drawn(2, 2, 1, key="z"))


@pytest.mark.parametrize(("size", "slope"), [(1, 12.0), (3, 12.0)])  # quadrature, annealing
def test_the_usual_two_headed_decoder_is_measured(size: int, slope: float) -> None:
    decoder = TwoHeads(size, slope)
    x = decoder(0.1 * drawn(2, size, key="z"))[0] + 0.5 * drawn(2, D)
    result = measure(decoder, likelihood=normal(decoder), latent_dim=size, x=x)
    bound = result.evaluation["test"]["log_marginal"]["lower"]["mean"]
    assert math.isfinite(bound) and bound >= mean_of_best(result) - 0.1
    if result.facts["raised"]:
        assert "clamp its log" in str(result)


def test_a_q_where_the_likelihood_raises_has_no_finite_elbo() -> None:
    decoder = TwoHeads(3, 12.0)
    x = drawn(2, D)
    result = measure(decoder, likelihood=normal(decoder), x=x, encoder=lambda x: (x[:, :3] * 0 - 9, x[:, :3] * 0 - 4))
    (check,) = (found for found in result.evaluation["test"]["checks"] if found["name"] == "finite")
    assert not check["passed"] and "elbo: 2 data" in check["detail"] and "note: log p(x | z) raised at" in str(result)
    assert math.isfinite(result.evaluation["test"]["log_marginal"]["lower"]["mean"])


class Strict(torch.nn.Module):
    """A decoder that raises, where its likelihood is one of vem's own."""

    def forward(self, z: Tensor) -> Tensor:
        if bool((z.abs() > 4).any()):
            raise ValueError("z is out of range")
        return torch.cat([z, z.square()], -1)


def test_a_decoder_that_raises_ends_in_one_message() -> None:
    """Quadrature looks further out than the prior's draws, and asks the decoder for many data at once."""
    x = torch.randn(6, 4, generator=torch.Generator().manual_seed(0))
    small = ["evaluation=gaps", "evaluation.best.draws=10", "evaluation.best.rounds=1"]
    with pytest.raises(VemError, match=r"z is out of range.*clamp") as caught:
        vem.measure(Strict(), likelihood="gaussian", scale=0.5, latent_dim=2, x=x, evaluation=small, progress=False)
    assert len(str(caught.value).splitlines()) == 1
