"""Active units, KL per dimension and ELBO surgery, against quadrature, enumeration and planted faults."""

from __future__ import annotations

import json
import math
from typing import Any, Literal

import pytest
import torch
from gap_cases import Fixed
from torch import Tensor

from vem.contracts import Batch, Family, Noise, NoiseSpec, Posterior, TrainingSet
from vem.evaluation.diagnostics import diagnose
from vem.evaluation.elbo import score, spread
from vem.families.gaussian import DiagonalGaussian, FullGaussian
from vem.models.linear_gaussian import LinearGaussian
from vem.models.mixture import Mixture
from vem.noise import generator
from vem.objectives.elbo import ELBO
from vem.strategies.exact_em import ExactEM


def reads(family: Family, no_elbo: str | None = None) -> Fixed:
    """A strategy that reads λ off x itself, so that a test can lay down any posteriors it likes."""
    return Fixed(family, family, no_elbo=no_elbo)


def read(params: Tensor, family: Family, **options: Any) -> dict[str, Any]:
    """The diagnostics of a linear-Gaussian model whose data are the parameters [N, num_params] themselves."""
    model = LinearGaussian((params.shape[1],), family.size).to(params.device, params.dtype)
    settings: dict[str, Any] = {"training_rows": False, "points": 1000, "seed": 0, "name": "test"} | options
    found = diagnose(model, reads(family), params, **settings)  # type: ignore[arg-type]  # only what is asked of it
    json.dumps(found, allow_nan=False)
    return found


def diagonal(num: int, size: int, scale: float, device: torch.device, spacing: float = 1.0) -> Tensor:
    mean = spacing * torch.randn(num, size, generator=torch.Generator().manual_seed(3), dtype=torch.float64)
    log_scale = math.log(scale) + 0.3 * torch.randn(mean.shape, generator=torch.Generator().manual_seed(4)).double()
    return torch.cat([mean, log_scale], 1).to(device)


def full(num: int, device: torch.device) -> Tensor:
    g = torch.Generator().manual_seed(5)
    return (torch.randn(num, 5, generator=g).double() * torch.tensor([1, 1, 0.4, 0.4, 0.6]).double()).to(device)


def by_quadrature(family: Family, params: Tensor) -> tuple[float, float]:
    """I_q(n; z) and KL(q(z) ‖ N(0, I)) in the plane, on a grid."""
    axis = torch.linspace(-8, 8, 201, dtype=torch.float64, device=params.device)
    grid = torch.cartesian_prod(axis, axis)
    area = float(axis[1] - axis[0]) ** 2
    log_q = family(params).frozen_log_q(grid[:, None])  # type: ignore[attr-defined]  # Gaussians have it
    log_mean = log_q.logsumexp(1) - math.log(len(params))
    information = ((log_q - log_mean[:, None]) * log_q.exp()).sum() * area / len(params)
    log_prior = -0.5 * grid.square().sum(1) - math.log(2 * math.pi)
    marginal = ((log_mean - log_prior) * log_mean.exp()).sum() * area
    return float(information), float(marginal)


@pytest.mark.parametrize("kind", ["diagonal", "full"])
def test_the_surgery_is_that_of_quadrature(kind: Literal["diagonal", "full"], device: torch.device) -> None:
    family: Family = DiagonalGaussian(2) if kind == "diagonal" else FullGaussian(2)
    params = diagonal(60, 2, 0.4, device) if kind == "diagonal" else full(60, device)
    information, marginal = by_quadrature(family, params)
    found = read(params, family, points=20_000)["surgery"]
    assert found["points"] == 20_000 and found["num_data"] == 60 and found["cap"] == math.log(60)
    for name, truth in (("mutual_information", information), ("marginal_kl", marginal)):
        assert 0 < found[name]["se"] < 0.02
        assert abs(found[name]["mean"] - truth) < 4 * found[name]["se"]


def test_the_stated_error_is_that_of_repeated_calls(device: torch.device) -> None:
    params = diagonal(400, 2, 0.5, device)
    params[1::2, 2:] -= 1  # points at every fourth datum would see the wide half alone
    information, marginal = by_quadrature(DiagonalGaussian(2), params)
    found = [read(params, DiagonalGaussian(2), points=100, seed=seed)["surgery"] for seed in range(40)]
    for name, truth in (("mutual_information", information), ("marginal_kl", marginal)):
        means = torch.tensor([one[name]["mean"] for one in found])
        stated = torch.tensor([one[name]["se"] for one in found]).square().mean().sqrt()
        assert abs(float(means.mean()) - truth) < 4 * float(means.std()) / 40**0.5
        # Points spread over the data vary a little less than points at random, which the error stands for.
        assert 0.6 < float(means.std() / stated) < 1.25


def test_the_parts_add_up_to_the_elbo(device: torch.device, dtype: torch.dtype) -> None:
    params = diagonal(300, 3, 0.3, device).to(dtype)
    found = read(params, DiagonalGaussian(3), points=300)["surgery"]
    sum_of_parts = found["reconstruction"]["mean"] - found["mutual_information"]["mean"] - found["marginal_kl"]["mean"]
    assert sum_of_parts == pytest.approx(found["elbo"]["mean"], abs=1e-9)
    model = LinearGaussian((6,), 3).to(device, dtype)
    scores = score(
        model, reads(DiagonalGaussian(3)), params, spread(300, 300), training_rows=False, draws=50, seed=1, name="test"  # type: ignore[arg-type]  # only what is asked of it
    )  # fmt: skip
    assert scores.elbo is not None
    # The same data on both sides, so only the draws differ: far less than the error over data.
    assert found["elbo"]["mean"] == pytest.approx(float(scores.elbo.mean()), abs=found["elbo"]["se"])


def per_minibatch(params: Tensor, size: int, batch: int) -> float:
    """The planted fault: the mixture is taken over each minibatch alone, so that log(batch) is all it can find."""
    out = []
    for part in params.split(batch):
        q = DiagonalGaussian(size)(part)
        z, log_q, _ = q.draws(torch.randn(1, len(part), size, dtype=part.dtype, device=part.device))
        log_mean = q.frozen_log_q(z.transpose(0, 1)).logsumexp(1) - math.log(len(part))
        out.append(log_q[0] - log_mean)
    return float(torch.cat(out).mean())


def test_information_is_capped_by_the_data_and_not_by_a_minibatch(device: torch.device) -> None:
    params = diagonal(2000, 10, 0.01, device, spacing=3.0)
    found = read(params, DiagonalGaussian(10))["surgery"]
    information = found["mutual_information"]["mean"]
    assert information == pytest.approx(math.log(2000), abs=1e-6) == found["cap"]
    assert found["near_cap"] is True
    assert per_minibatch(params, 10, 100) == pytest.approx(math.log(100), abs=1e-6)


@pytest.mark.parametrize("size", [1, 4])
def test_a_collapsed_q_carries_nothing(size: int, device: torch.device, dtype: torch.dtype) -> None:
    found = read(torch.zeros(700, 2 * size, device=device, dtype=dtype), DiagonalGaussian(size))
    near = {torch.float32: 1e-5, torch.float64: 1e-12}[dtype]
    for name in ("mutual_information", "marginal_kl"):
        assert abs(found["surgery"][name]["mean"]) < near and found["surgery"][name]["se"] < near
    assert found["surgery"]["near_cap"] is False
    assert found["active_units"] == 0 and found["unit_variance"] == [0.0] * size
    assert found["kl_per_dimension"]["mean"] == [0.0] * size


def test_narrow_posteriors_far_from_zero_do_not_cancel(device: torch.device) -> None:
    """Pairs of equal posteriors: half of log N is lost, exactly, however narrow they are."""
    mean = 50 + torch.arange(100, dtype=torch.float64, device=device).div(2, rounding_mode="floor")[:, None]
    params = torch.cat([mean, torch.full_like(mean, math.log(1e-5))], 1)
    found = read(params, DiagonalGaussian(1))["surgery"]["mutual_information"]
    assert found["mean"] == pytest.approx(math.log(50), abs=1e-3)


def test_the_narrowest_posteriors_still_count_themselves_once(device: torch.device) -> None:
    """At σ = 1e-9 the products behind log q cancel by hundreds of nats; a point's own component must not."""
    mean = 50 + torch.arange(100, dtype=torch.float64, device=device)[:, None]
    params = torch.cat([mean, torch.full_like(mean, math.log(1e-9))], 1)
    found = read(params, DiagonalGaussian(1))["surgery"]["mutual_information"]
    assert found["mean"] == pytest.approx(math.log(100), abs=1e-9)


class Noisy(Fixed):
    """A strategy whose q depends on its noise, as that of held-out rows does; it keeps what it was asked."""

    def __init__(self, family: Family) -> None:
        super().__init__(family, family)
        self.seen: list[Tensor] = []
        self.rows: list[Tensor | None] = []

    def noise(self, batch_size: int, held_out: bool = False) -> dict[str, NoiseSpec]:
        return {"shift": NoiseSpec("normal", (batch_size, self.family.num_params))} if held_out else {}

    def infer(self, model: Any, batch: Batch, noise: Noise) -> Posterior:
        self.rows.append(batch.rows)
        self.seen.append(batch.x + noise.get("shift", torch.zeros_like(batch.x)))
        return self.family(self.seen[-1])


@pytest.mark.parametrize("training_rows", [True, False])
def test_the_q_is_the_one_that_was_scored(training_rows: bool, device: torch.device) -> None:
    params = diagonal(1200, 2, 0.5, device)
    model = LinearGaussian((4,), 2).to(device, torch.float64)
    scored, diagnosed = Noisy(DiagonalGaussian(2)), Noisy(DiagonalGaussian(2))
    options: dict[str, Any] = {"training_rows": training_rows, "seed": 3, "name": "test"}
    score(model, scored, params, spread(1100, 1200), draws=1, **options)  # type: ignore[arg-type]
    diagnose(model, diagnosed, params, num_data=1100, **options)  # type: ignore[arg-type]
    assert torch.equal(torch.cat(scored.seen), torch.cat(diagnosed.seen))
    rows = [part for part in diagnosed.rows if part is not None]
    assert (torch.cat(rows).tolist() == spread(1100, 1200).tolist()) if training_rows else not rows


def test_each_point_is_scored_at_its_own_datum(device: torch.device) -> None:
    """With exact q the ELBO of every point is log p(x) of its datum; as many points as data visit each once."""
    x = torch.randn(300, 4, generator=generator("cpu", 2), dtype=torch.float64).to(device)
    model = LinearGaussian((4,), 2).to(device, torch.float64)
    strategy = ExactEM(ELBO())
    strategy.setup(model, TrainingSet(x, False), generator(device, 0))
    found = diagnose(
        model, strategy, x, training_rows=True, num_data=40, points=40, seed=0, name="train", batch_size=7
    )["surgery"]  # fmt: skip
    with torch.no_grad():
        exact = model.log_marginal(x[spread(40, 300)])
    assert found["elbo"]["mean"] == pytest.approx(float(exact.mean()), abs=1e-9)
    assert found["elbo"]["se"] == pytest.approx(float(exact.std()) / 40**0.5, rel=1e-6)


def test_active_units_and_kl_per_dimension(device: torch.device) -> None:
    spreads = torch.tensor([2.0, 0.5, 0.11, 0.09, 0.0], dtype=torch.float64, device=device)
    params = diagonal(500, 5, 0.5, device)
    params[:, :5] = (params[:, :5] - params[:, :5].mean(0)) / params[:, :5].std(0, correction=0) * spreads
    found = read(params, DiagonalGaussian(5), points=1)
    assert found["unit_variance"] == pytest.approx(spreads.square().tolist())
    assert found["active_units"] == 3 and found["active_unit_threshold"] == 0.01  # 0.0121 is, 0.0081 is not
    kl = DiagonalGaussian(5)(params).kl_standard_normal()
    per = found["kl_per_dimension"]
    assert sum(per["mean"]) == pytest.approx(float(kl.mean())) and per["of"] == "factors of q"
    q = torch.distributions.Normal(params[:, :5], params[:, 5:].exp())
    oracle = torch.distributions.kl_divergence(q, torch.distributions.Normal(0.0, 1.0))
    assert per["mean"] == pytest.approx(oracle.mean(0).tolist())
    assert per["se"] == pytest.approx((oracle.std(0) / 500**0.5).tolist())
    assert found["surgery"]["marginal_kl"]["se"]["value"] is None  # one point has no spread


def test_the_marginals_of_a_full_gaussian(device: torch.device) -> None:
    params = full(200, device)
    found = read(params, FullGaussian(2), points=10)["kl_per_dimension"]
    q = FullGaussian(2)(params)
    covariance = q.scale_tril @ q.scale_tril.mT
    scale = covariance.diagonal(dim1=-2, dim2=-1).sqrt()
    oracle = torch.distributions.kl_divergence(
        torch.distributions.Normal(q.location, scale), torch.distributions.Normal(0.0, 1.0)
    )
    assert found["mean"] == pytest.approx(oracle.mean(0).tolist())
    assert "do not add up" in found["of"] and sum(found["mean"]) < float(q.kl_standard_normal().mean())


def test_batches_and_blocks_do_not_matter(device: torch.device) -> None:
    params = diagonal(130, 2, 0.5, device)
    one, many = (read(params, DiagonalGaussian(2), points=130, batch_size=size) for size in (130, 17))
    assert one["unit_variance"] == pytest.approx(many["unit_variance"])
    for name in ("mutual_information", "marginal_kl"):
        assert one["surgery"][name]["mean"] == pytest.approx(many["surgery"][name]["mean"], abs=0.5)
    again = read(params, DiagonalGaussian(2), points=130, batch_size=17)
    assert again == many and read(params, DiagonalGaussian(2), points=130, batch_size=17, name="train") != many


def test_num_data_is_the_aggregate_that_is_taken(device: torch.device) -> None:
    params = diagonal(400, 8, 0.01, device, spacing=3.0)
    found = read(params, DiagonalGaussian(8), num_data=50)
    assert found["num_data"] == 50 and found["surgery"]["cap"] == math.log(50)
    assert found["surgery"]["mutual_information"]["mean"] == pytest.approx(math.log(50), abs=1e-6)


class Opaque:
    """A q that can be drawn from and whose density elsewhere is known only through ``frozen_log_q``, if at all."""

    latent: Literal["real"] = "real"

    def __init__(self, size: int, known: bool) -> None:
        self.size, self.num_params, self.known = size, 2 * size, known

    def __call__(self, params: Tensor) -> Any:
        q = DiagonalGaussian(self.size)(params)
        names = ("noise", "draws", "transport", "mean", *(("frozen_log_q",) if self.known else ()))
        return type("OpaquePosterior", (), {name: staticmethod(getattr(q, name)) for name in names})()


def test_any_family_that_knows_its_density(device: torch.device, dtype: torch.dtype) -> None:
    params = diagonal(90, 2, 0.5, device).to(dtype)
    known = read(params, DiagonalGaussian(2), points=200)
    opaque = read(params, Opaque(2, True), points=200)  # type: ignore[arg-type]  # no start: it is never asked for
    near = {torch.float32: 0.2, torch.float64: 1e-9}[dtype]  # float32 draws other points
    for name in ("mutual_information", "marginal_kl"):
        assert opaque["surgery"][name]["mean"] == pytest.approx(known["surgery"][name]["mean"], abs=near)
    assert opaque["active_units"] == known["active_units"]
    assert opaque["kl_per_dimension"]["value"] is None and "OpaquePosterior" in opaque["kl_per_dimension"]["reason"]
    silent = read(params, Opaque(2, False), points=200)  # type: ignore[arg-type]
    assert silent["surgery"]["value"] is None and "frozen_log_q" in silent["surgery"]["reason"]


@torch.no_grad()
def test_a_mixture_is_enumerated(device: torch.device) -> None:
    x = torch.randn(300, 3, generator=generator("cpu", 2), dtype=torch.float64).to(device)
    model = Mixture((3,), 4).to(device, torch.float64)
    strategy = ExactEM(ELBO())
    strategy.setup(model, TrainingSet(x, False), generator(device, 0))
    found = diagnose(model, strategy, x, training_rows=True, seed=0, name="train", batch_size=70)
    json.dumps(found, allow_nan=False)
    r = model.exact_posterior(x).mean()
    mean = r.mean(0)
    entropy = -(mean * mean.log()).sum() + (r * r.log()).sum(1).mean()
    surgery = found["surgery"]
    assert surgery["mutual_information"] == {"mean": pytest.approx(float(entropy), abs=1e-9), "se": 0.0}
    marginal = (mean * (mean.log() - model.log_weights())).sum()
    assert surgery["marginal_kl"]["mean"] == pytest.approx(float(marginal), abs=1e-9)
    parts = surgery["reconstruction"]["mean"] - surgery["mutual_information"]["mean"] - surgery["marginal_kl"]["mean"]
    assert parts == pytest.approx(float(model.log_marginal(x).mean()), abs=1e-9) == surgery["elbo"]["mean"]
    assert found["components_used"] == len(r.argmax(1).unique())
    assert found["active_units"]["value"] is None and found["kl_per_dimension"]["value"] is None


def test_a_certain_mixture(device: torch.device) -> None:
    """Far apart clusters: the index is known from x, so the information is the entropy of the weights."""
    x = torch.arange(60, dtype=torch.float64, device=device).remainder(3).mul(1000)[:, None].expand(60, 2).contiguous()
    model = Mixture((2,), 3).to(device, torch.float64)
    strategy = ExactEM(ELBO())
    strategy.setup(model, TrainingSet(x, False), generator(device, 0))
    for _ in range(5):
        model.maximize(model.statistics(x, model.exact_posterior(x)))
    found = diagnose(model, strategy, x, training_rows=True, seed=0, name="train")
    assert found["components_used"] == 3
    assert found["surgery"]["mutual_information"]["mean"] == pytest.approx(math.log(3), abs=1e-6)
    assert found["surgery"]["marginal_kl"]["mean"] == pytest.approx(0.0, abs=1e-6)


@pytest.mark.parametrize(("value", "column"), [(math.nan, 0), (math.inf, 1), (-math.inf, 3), (math.nan, 2)])
def test_a_q_that_is_not_finite_is_said(value: float, column: int, device: torch.device) -> None:
    params = diagonal(50, 2, 0.5, device)
    params[17, column] = value
    found = read(params, DiagonalGaussian(2), batch_size=20)
    for name in ("active_units", "kl_per_dimension", "unit_variance", "surgery"):
        assert found[name]["value"] is None
        assert "1 of 50 data" in found[name]["reason"] and "row 17" in found[name]["reason"]


def test_a_method_without_an_elbo_says_why(device: torch.device) -> None:
    model = LinearGaussian((4,), 2).to(device)
    strategy = reads(DiagonalGaussian(2), no_elbo="draws but no density")
    found = diagnose(model, strategy, torch.zeros(5, 4, device=device), training_rows=False, seed=0, name="test")  # type: ignore[arg-type]
    assert found == {"value": None, "reason": "draws but no density"}
