"""``vem.measure``: a model trained elsewhere gets the numbers it must have, and stays as it is."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from measure_support import TINY, drawn, measure
from torch import Tensor, nn
from torch.distributions import (
    AffineTransform,
    Categorical,
    Distribution,
    Independent,
    MixtureSameFamily,
    MultivariateNormal,
    Normal,
    TanhTransform,
    TransformedDistribution,
    Uniform,
    kl_divergence,
)

from vem.cli import measure as measuring
from vem.errors import VemError
from vem.evaluation import instrument
from vem.evaluation.progress import FOLDER, Piece, Progress
from vem.external.measurement import Measurement
from vem.report.summary import write_report
from vem.storage.checks import failed
from vem.training.signals import InterruptedRun

ACCURATE = [
    *TINY, "evaluation.num_data=10", "evaluation.draws=40", "evaluation.best.evaluations=40",
    "evaluation.best.rounds=4", "evaluation.annealing.temperatures=12", "evaluation.annealing.pilot_temperatures=6",
    "evaluation.diagnostics.points=20",
]  # fmt: skip
D = 6


def made(make: Callable[[], nn.Module], device: torch.device, dtype: torch.dtype = torch.float32) -> Any:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return make().to(device, dtype)


@pytest.fixture
def binary(device: torch.device) -> Tensor:
    return drawn(20, D, like="uniform").round().to(device)


@pytest.fixture
def decoder(device: torch.device) -> nn.Module:
    return made(lambda: nn.Sequential(nn.Linear(3, 10), nn.Tanh(), nn.Linear(10, D)), device)


@pytest.fixture
def trunk(device: torch.device) -> nn.Module:
    return made(lambda: nn.Sequential(nn.Linear(D, 10), nn.Tanh(), nn.Linear(10, 6)), device)


def halves(trunk: nn.Module) -> Callable[[Tensor], Any]:
    return lambda x: trunk(x).chunk(2, -1)


@pytest.fixture
def given(decoder: nn.Module, trunk: nn.Module, binary: Tensor) -> dict[str, Any]:
    """A plain call."""
    return {"decoder": decoder, "likelihood": "bernoulli", "encoder": halves(trunk), "x": binary}


def mean_of(result: Measurement, *path: str) -> float:
    node: Any = result.evaluation["test"]
    for key in path:
        node = node[key]
    return node["mean"]


# --- known answers


class LinearGaussianInTorch:
    """x = W z + b + σ ε in plain torch, with everything that is known of it in float64."""

    def __init__(self, size: int, device: torch.device, dtype: torch.dtype, sigma: float = 0.5) -> None:
        self.sigma = sigma
        self.decoder = made(lambda: nn.Linear(size, D), device, torch.float64)
        with torch.no_grad():
            self.decoder.weight.copy_(drawn(D, size, key="W", dtype=torch.float64))
        self.decoder = self.decoder.to(dtype)
        weight, self.bias = (p.detach().double() for p in (self.decoder.weight, self.decoder.bias))
        self.gain = weight.T / self.sigma**2
        self.precision = torch.eye(size).to(weight) + self.gain @ weight
        self.covariance = torch.linalg.inv(self.precision)
        self.marginal = MultivariateNormal(self.bias, weight @ weight.T + self.sigma**2 * torch.eye(D).to(weight))
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            self.x = self.marginal.sample((20,)).to(dtype)

    def mean(self, x: Tensor) -> Tensor:
        return (x.double() - self.bias) @ self.gain.T @ self.covariance

    def posterior(self, x: Tensor) -> MultivariateNormal:
        return MultivariateNormal(self.mean(x), self.covariance)

    def measure(self, encoder: Callable[[Tensor], Any], *more: str) -> Measurement:
        settings = [*ACCURATE, *more]
        return measure(
            self.decoder, likelihood="gaussian", scale=self.sigma, encoder=encoder, x=self.x, evaluation=settings
        )


# A quadrature, and annealing.
@pytest.mark.parametrize(("size", "dtype"), [(2, torch.float32), (4, torch.float64)])
def test_the_exact_posterior_of_a_linear_gaussian_loses_nothing(
    size: int, dtype: torch.dtype, device: torch.device
) -> None:
    linear = LinearGaussianInTorch(size, device, dtype)
    result = linear.measure(linear.posterior)
    assert failed(result.evaluation) == [] and result.facts["family"] == "full_gaussian"
    truth = float(linear.marginal.log_prob(linear.x[::2].double()).mean())
    bound = result.evaluation["test"]["log_marginal"]["lower"]
    assert bound["mean"] == pytest.approx(truth, abs=2e-3 + 4 * bound["mc_se"])
    for name in ("approximation", "amortization", "inference"):
        assert abs(mean_of(result, "gaps", name)) < 5e-3


def test_the_gaps_of_a_diagonal_encoder_are_those_in_closed_form(device: torch.device, dtype: torch.dtype) -> None:
    """log p − L[q] = KL(q ‖ p(z | x)); the best diagonal q has the posterior's mean and 1/Λ_hh as variances."""
    linear = LinearGaussianInTorch(3, device, dtype)

    def off(x: Tensor) -> tuple[Tensor, Tensor]:
        mean = linear.mean(x) + 0.1
        return mean, linear.covariance.diagonal().log().expand_as(mean)

    result = linear.measure(off)
    assert failed(result.evaluation) == []
    x = linear.x[::2]
    exact = linear.posterior(x)

    def loss(mean: Tensor, variance: Tensor) -> float:
        return float(kl_divergence(MultivariateNormal(mean, variance.diag_embed()), exact).mean())

    approximation = loss(linear.mean(x), (1 / linear.precision.diagonal()).expand(len(x), -1))
    inference = loss(linear.mean(x) + 0.1, linear.covariance.diagonal().expand(len(x), -1))
    for name, truth in (
        ("approximation", approximation), ("inference", inference), ("amortization", inference - approximation),
    ):  # fmt: skip
        gap = result.evaluation["test"]["gaps"][name]
        assert gap["mean"] == pytest.approx(truth, abs=5e-3 + 4 * gap["mc_se"])
    gaps = result.evaluation["test"]["gaps"]
    assert gaps["inference"]["mean"] == pytest.approx(
        gaps["approximation"]["mean"] + gaps["amortization"]["mean"], abs=1e-9
    )


# --- what can be passed


def test_one_model_in_five_ways_is_one_model(decoder: nn.Module, trunk: nn.Module, binary: Tensor) -> None:
    """Named likelihood, probabilities, a function, an object, a Normal in the place of a pair: the same numbers."""

    def log_likelihood(x: Tensor, z: Tensor) -> Tensor:
        logits = decoder(z.flatten(0, 1)).unflatten(0, z.shape[:2])
        return -nn.functional.binary_cross_entropy_with_logits(logits, x.expand_as(logits), reduction="none").sum(-1)

    class Model:
        latent_dim = 3

        def log_likelihood(self, x: Tensor, z: Tensor) -> Tensor:
            return log_likelihood(x, z)

    def normal(x: Tensor) -> Independent:
        mean, log_variance = halves(trunk)(x)
        return Independent(Normal(mean, (0.5 * log_variance).exp()), 1)

    ways: list[dict[str, Any]] = [
        {"decoder": decoder, "likelihood": "bernoulli", "encoder": halves(trunk)},
        {"decoder": nn.Sequential(decoder, nn.Sigmoid()), "likelihood": "bernoulli_probs", "encoder": halves(trunk)},
        {"decoder": decoder, "likelihood": log_likelihood, "encoder": halves(trunk)},
        {"decoder": Model(), "encoder": halves(trunk)},
        {"decoder": decoder, "likelihood": "bernoulli", "encoder": normal},
    ]
    # To a thousandth of a nat: the default search stops at a hundredth, which is more than the ways may differ by.
    budget = ["evaluation=gaps", "evaluation/best=thorough"]
    first, *others = (measure(x=binary[:6], evaluation=budget, **way) for way in ways)
    assert failed(first.evaluation) == []
    for other in others:
        for path in (("elbo",), ("best_elbo",), ("log_marginal", "lower"), ("gaps", "amortization")):
            assert mean_of(other, *path) == pytest.approx(mean_of(first, *path), abs=2e-3)


def test_two_splits_are_compared(given: dict[str, Any], binary: Tensor) -> None:
    result = measure(**given | {"x": {"test": binary[12:].cpu().numpy(), "train": binary[:12]}})
    assert [split for split in result.evaluation if split in ("train", "valid", "test")] == ["train", "test"]
    assert "ci95" in result.evaluation["across_splits"]["test"]["amortization_generalization"]
    assert {row["split"] for row in result.per_datum} == {"train", "test"}
    # A split is measured in full, whatever it is called.
    valid = measure(**given | {"x": {"valid": binary[12:]}})
    assert "mean" in valid.evaluation["valid"]["gaps"]["approximation"]


def test_without_an_encoder(given: dict[str, Any]) -> None:
    result = measure(**given | {"encoder": None, "latent_dim": 3})
    numbers = result.evaluation["test"]
    assert numbers["elbo"] == {"value": None, "reason": "no encoder was given"}
    gap = numbers["families"]["diagonal_gaussian"]["approximation"]
    assert -4 * gap["mc_se"] < gap["mean"] < 1
    shown = str(result)
    assert "best ELBO L[q*], diagonal_gaussian" in shown and "approximation gap, diagonal_gaussian" in shown


@pytest.mark.parametrize(("kind", "size"), [("flow", 3), ("mixture", 2), ("uniform", 3)])
def test_a_q_of_no_family_of_vems(kind: str, size: int, device: torch.device, binary: Tensor) -> None:
    """A flow, a mixture: their gap to the best Gaussian is no amortization gap, and is not called one."""
    decoder = made(lambda: nn.Linear(size, D), device)

    def encoder(x: Tensor) -> Any:
        mean = 0.3 * x[:, :size]
        base = Independent(Normal(mean, torch.full_like(mean, 0.8)), 1)
        if kind == "uniform":
            return Independent(Uniform(mean - 1.2, mean + 1.2), 1)
        if kind == "flow":
            return TransformedDistribution(base, [TanhTransform(cache_size=1), AffineTransform(0.0, 3.0)])
        parts = Normal(torch.stack([mean, mean + 1], 1), torch.ones(2, size).to(x))
        return MixtureSameFamily(Categorical(torch.ones(len(x), 2).to(x)), Independent(parts, 1))

    result = measure(decoder, likelihood="bernoulli", encoder=encoder, x=binary)
    numbers = result.evaluation["test"]
    assert "mean" in numbers["gaps"]["inference"] and numbers["gaps"]["inference"]["mean"] > 0
    assert numbers["gaps"]["amortization"]["value"] is None
    assert set(numbers["families"]) == {"diagonal_gaussian"} and failed(result.evaluation) == []


def test_the_users_modules_stay_as_they_are(given: dict[str, Any], decoder: nn.Module, device: torch.device) -> None:
    class Encoder(nn.Linear):
        def forward(self, x: Tensor) -> Any:
            return super().forward(x).chunk(2, -1)

    encoder = made(lambda: Encoder(D, 6), device)
    modules = (decoder.train(), encoder.eval())
    encoder.bias.requires_grad_(False)
    before = measuring.state_hash(*(m.state_dict() for m in modules))
    wanted = [p.requires_grad for m in modules for p in m.parameters()]
    random = torch.random.get_rng_state()
    measure(**given | {"encoder": encoder})
    assert decoder.training and not encoder.training
    assert measuring.state_hash(*(m.state_dict() for m in modules)) == before
    assert [p.requires_grad for m in modules for p in m.parameters()] == wanted
    assert all(p.grad is None for m in modules for p in m.parameters())
    assert torch.equal(torch.random.get_rng_state(), random)


# --- planted faults, through the front door


class PointMass(Distribution):
    """A point on a continuous z that claims log q = 0: its "ELBO" is log p(x, z)."""

    has_rsample = True

    def __init__(self, loc: Tensor) -> None:
        self.loc = loc
        super().__init__(loc.shape[:-1], loc.shape[-1:], validate_args=False)

    @property
    def mean(self) -> Tensor:
        return self.loc

    def rsample(self, sample_shape: Any = ()) -> Tensor:
        return self.loc.expand(*sample_shape, *self.loc.shape)

    def log_prob(self, value: Tensor) -> Tensor:
        return torch.zeros_like(value[..., 0])


@pytest.mark.parametrize(("size", "check"), [(2, "best_below_upper"), (4, "lower_above_best")])
def test_a_point_mass_on_a_continuous_z_is_caught(
    size: int, check: str, device: torch.device, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its draws give it away; and where they would not, the checks of the result do."""
    linear = LinearGaussianInTorch(size, device, torch.float32, sigma=0.2)

    def encoder(x: Tensor) -> PointMass:
        return PointMass(linear.mean(x).float())

    with pytest.raises(VemError, match="100% of 2000 draws share coordinate 0"):
        linear.measure(encoder)
    monkeypatch.setattr("vem.external.encoder.check_claims", lambda *_: None)
    result = linear.measure(encoder)
    assert mean_of(result, "elbo") > float(linear.marginal.log_prob(linear.x[::2].double()).mean()) + 0.3
    names = [found["name"] for found in result.evaluation["test"]["checks"] if not found["passed"]]
    assert check in names
    assert "check failed" in str(result)
    with pytest.raises(VemError, match=f"evaluation.strict=true: .*{check}"):
        linear.measure(encoder, "evaluation.strict=true")


def test_faults_are_refused_at_the_front_door(given: dict[str, Any], decoder: nn.Module) -> None:
    """Of the encoder and of the likelihood; which ones there are is said in the tests of either."""
    with pytest.raises(VemError, match=r"encoder=.*variance"):
        measure(**given | {"encoder": lambda x: 2 * [x[:, :3] - math.inf]})

    def loss(x: Tensor, z: Tensor) -> Tensor:
        logits = decoder(z.flatten(0, 1)).unflatten(0, z.shape[:2])
        return nn.functional.binary_cross_entropy_with_logits(logits, x.expand_as(logits), reduction="none").sum(-1)

    with pytest.raises(VemError, match=r"p\(x \| z\) is no normalized log-density.*sign"):
        measure(**given | {"likelihood": loss})


def test_a_decoder_that_breaks_down_far_out_is_named(binary: Tensor) -> None:
    """Fine at draws of the prior; NaN where only the search or annealing comes."""

    class Brittle(nn.Module):
        def forward(self, z: Tensor) -> Tensor:
            far = z.square().sum(-1, keepdim=True) > 25
            return torch.where(far, torch.nan, z.repeat(1, 2))

    def encoder(x: Tensor) -> tuple[Tensor, Tensor]:
        mean = torch.where(x[:, :1] > 0, 5.5, 0.0) * torch.ones(3).to(x)
        return mean, torch.full_like(mean, -8.0)

    result = measure(Brittle(), likelihood="bernoulli", encoder=encoder, x=binary, evaluation=ACCURATE)
    rows = [row["row"] for row in result.per_datum if math.isnan(row["elbo"])]
    assert rows == [row for row in range(0, 20, 2) if binary[row, 0] > 0]
    (check,) = (found for found in result.evaluation["test"]["checks"] if found["name"] == "finite")
    assert not check["passed"] and f"elbo: {len(rows)} data (rows {rows[0]}, {rows[1]}" in check["detail"]
    assert result.evaluation["test"]["elbo"]["mean"]["reason"] == f"{len(rows)} of 10 data have no finite value"
    assert math.isfinite(mean_of(result, "log_marginal", "lower"))  # the best q starts elsewhere


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"x": {}}, "x holds nothing"),
        ({"x": {"train": torch.zeros(3, D), "test": torch.zeros(3, D + 1)}}, "one shape in all splits"),
        ({"x": {"tset": torch.zeros(3, D)}}, "did you mean 'test'"),
        ({"x": torch.rand(3, D)}, "holds other numbers than 0 and 1"),
        ({"evaluation": ["training.epochs=3"]}, "training.epochs=3.*begins with evaluation"),
        ({"evaluation": ["evaluation=gaps", "evaluation.num_dat=3"]}, "did you mean 'evaluation.num_data'"),
        ({"evaluation": "gasp"}, "did you mean 'gaps'"),
        ({"evaluation": "none"}, "measures nothing"),
        ({"likelihood": "poisson"}, "likelihood='poisson'"),
        ({"likelihood": "gaussian"}, "needs scale"),
        ({"encoder": None}, "latent_dim is not known"),
    ],
)
def test_one_message(options: dict[str, Any], words: str, given: dict[str, Any]) -> None:
    with pytest.raises(VemError, match=words):
        measure(**given | options)


@pytest.fixture
def no_figures(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("vem.external.measurement.draw_run", lambda directory: None)


@pytest.mark.usefixtures("no_figures")
def test_what_was_not_tested_is_said_everywhere(tmp_path: Path) -> None:
    """A full covariance: right, and no cheap test can tell; a file of before says nothing of it and is read."""
    x = drawn(8, D)
    factor = torch.eye(D) + 0.3 * torch.ones(D, D).tril(-1)

    def log_p(x: Tensor, z: Tensor) -> Tensor:
        return MultivariateNormal(z.repeat(1, 1, 3), scale_tril=factor).log_prob(x)

    result = measure(nn.Identity(), likelihood=log_p, latent_dim=2, x=x, evaluation=[*TINY, "evaluation.num_data=3"])
    said = "not tested: whether p(x | z) normalizes (given z the entries of x depend on one another)"
    assert said in str(result) and said.removeprefix("not tested: ") in result.evaluation["test"]["not_tested"]
    place = result.save(tmp_path / "new")
    assert "not_tested" in (place / "evaluation.json").read_text()
    text = write_report([place], tmp_path / "report")
    assert "whether p(x | z) normalizes" in text
    for page in ("report.md", "report.html"):
        assert "not tested: whether p(x" in (tmp_path / "report" / page).read_text()
    del result.evaluation["test"]["not_tested"]
    assert "not tested" not in write_report([result.save(tmp_path / "old")], tmp_path / "other")


# --- directories


def test_saved_and_reported(tmp_path: Path, given: dict[str, Any]) -> None:
    result = measure(**given)
    place = result.save(tmp_path / "a" / "mine")
    assert json.loads((place / "evaluation.json").read_text()) == result.evaluation
    assert (place / "figures" / "gaps_per_datum.png").exists()
    before = (place / "evaluation.json").read_bytes()
    with pytest.raises(VemError, match=r"holds a result already.*overwrite=True"):
        result.save(place)
    result.save(place, overwrite=True)
    assert (place / "evaluation.json").read_bytes() == before
    other = measure(**given | {"encoder": None, "latent_dim": 3})
    text = write_report([place, other.save(tmp_path / "b")], tmp_path / "report")
    assert "amortization" in text and "no encoder" in text
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "checkpoint.pt").write_text("")
    with pytest.raises(VemError, match="directory of a run"):
        result.save(tmp_path / "run", overwrite=True)


def count_kept(monkeypatch: pytest.MonkeyPatch) -> list[bool]:
    """Whether each piece of work was there already."""
    found, piece = [], Progress.piece

    def counted(self: Progress, name: str, work: Callable[[], Piece]) -> Piece:
        before = self.found
        out = piece(self, name, work)
        found.append(self.found > before)
        return out

    monkeypatch.setattr(Progress, "piece", counted)
    return found


@pytest.mark.usefixtures("no_figures")
def test_a_directory_keeps_what_is_finished(
    tmp_path: Path, given: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(instrument, "CHUNK", 2)
    given["directory"] = place = tmp_path / "d"
    whole = measure(**given | {"directory": None})
    left = [150]

    def tick(self: Progress) -> None:
        left[0] -= 1
        if left[0] < 0:
            raise InterruptedRun("stopped")

    with monkeypatch.context() as patch:
        patch.setattr(Progress, "tick", tick)
        with pytest.raises(InterruptedRun):
            measure(**given)
    assert 0 < len(list((place / FOLDER).iterdir())) < 3

    # Another model does not go on from them, even one that differs in one number of the encoder alone.
    def wider(x: Tensor) -> tuple[Tensor, Tensor]:
        mean, log_variance = given["encoder"](x)
        return mean, log_variance + 1e-3

    found = count_kept(monkeypatch)
    measure(**given | {"encoder": wider})
    assert not any(found)
    earlier = (place / "evaluation.json").read_bytes()

    result = measure(**given)
    assert result.evaluation == whole.evaluation and result.per_datum == whole.per_datum
    assert json.loads((place / "evaluation.json").read_text()) == whole.evaluation
    assert (place / "evaluations" / "001" / "evaluation.json").read_bytes() == earlier
    assert not (place / FOLDER).exists()
    measure(**given)
    assert [p.name for p in (place / "evaluations").iterdir()] == ["001"]  # the same is no other result


@pytest.mark.usefixtures("no_figures")
def test_interrupted_pieces_are_used(tmp_path: Path, given: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(instrument, "CHUNK", 2)
    with monkeypatch.context() as patch:
        patch.setattr(Measurement, "save", lambda *_, **__: (_ for _ in ()).throw(VemError("the disk is full")))
        with pytest.raises(VemError, match="disk is full"):
            measure(directory=tmp_path, **given)
    found = count_kept(monkeypatch)
    measure(directory=tmp_path, **given)
    assert sum(found) == 3
