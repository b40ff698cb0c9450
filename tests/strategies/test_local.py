"""Local variational EM: the table in a step, Algorithm 7, mixtures, held-out data, refusals."""

from __future__ import annotations

import re
from functools import partial
from typing import Any

import pytest
import torch
from torch import Tensor

from vem.ascent.rules import Adam, Natural
from vem.ascent.starts import PCAStart, PriorStart
from vem.contracts import Batch, Schedule, TrainingSet
from vem.data.blobs import blobs
from vem.data.linear_gaussian import linear_gaussian
from vem.errors import VemError
from vem.families.categorical import Categorical
from vem.families.gaussian import DiagonalGaussian, FullGaussian
from vem.models.deep import DeepLatentModel
from vem.models.linear_gaussian import LinearGaussian
from vem.models.mixture import Mixture
from vem.models.networks import MLPFactory
from vem.noise import fill, generator
from vem.objectives.elbo import ELBO
from vem.strategies.exact_em import ExactEM
from vem.strategies.local import HeldOut, Local
from vem.training.fit import fit
from vem.training.schedules import Constant, Cosine
from vem.training.settings import Training


def make(family: Any = DiagonalGaussian, rate: float = 0.01, rule: Any = None, draws: int = 1, **options: Any) -> Local:
    optimizer = partial(torch.optim.Adam, lr=rate)
    start, held_out = options.pop("start", PCAStart()), options.pop("held_out", HeldOut())
    return Local(family, ELBO(draws, gradient="path"), optimizer, rule or Natural(), start, held_out, **options)


def ready(
    strategy: Local, device: torch.device, num: int = 20, dtype: torch.dtype = torch.float32
) -> tuple[Any, Tensor]:
    """A small deep model and binary data, the strategy set up on them."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = DeepLatentModel((6,), 2, MLPFactory([8])).to(device, dtype)
    x = (torch.rand(num, 6, generator=generator("cpu", 1)) > 0.5).to(device, dtype)
    strategy.setup(model, TrainingSet(x, False), generator(device, 2))
    return model, x


def schedule(device: torch.device, dtype: torch.dtype = torch.float32) -> Schedule:
    return Schedule(*(torch.tensor(v, device=device, dtype=dtype) for v in (1.0, 1.0, 0.0)))


@pytest.mark.parametrize("e_steps", [1, 3])
def test_step_counts_belong_to_rows(e_steps: int, device: torch.device) -> None:
    data = linear_gaussian(num=23, dims=4, latent=2).to(device, torch.float32)  # batches of 10, 10 and 3
    strategy = make(rule=Adam(), e_steps=e_steps, order="e_then_m")
    fit(
        LinearGaussian((4,), 2).to(device),
        strategy,
        data,
        Training(3, 10, 0.01, Constant(), valid_data=0),
        progress_bar=False,
    )
    assert strategy.table.rows.steps.tolist() == [3 * e_steps] * 23


def test_algorithm_7_moves_rows_or_theta_and_converges(device: torch.device) -> None:
    data = linear_gaussian(num=100, dims=5, latent=2).to(device, torch.float64)
    model = LinearGaussian((5,), 2).to(device, torch.float64)
    strategy = make(
        FullGaussian, rate=0.02, schedule="alternating", order="e_then_m", tolerance=0.02, max_passes=15, cool=1.0
    )
    strategy.setup(model, data.training_set(), generator(device, 0))
    one, stream, x = schedule(device, torch.float64), generator(device, 1), data.train.x
    start = model.log_marginal(x).mean().item()
    phases, converged = [], False
    for epoch in range(600):
        assert strategy.phases is not None
        phase, rows, theta = strategy.phases.phase, strategy.table.params.clone(), model.weight.detach().clone()
        for index in torch.randperm(100, generator=generator(device, epoch), device=device).split(50):
            strategy.step(model, Batch(x[index], index), fill(strategy.noise(50), stream, torch.float64), one)
        assert torch.equal(rows, strategy.table.params) == (phase == "theta")
        assert torch.equal(theta, model.weight) == (phase == "rows")
        phases.append(phase)
        if strategy.end_epoch(model):
            converged = True
            break
    assert converged and phases[0] == "rows" and phases[-1] == "theta"
    text = "".join(p[0] for p in phases)
    assert len(re.findall("rt", text)) >= 2  # several cycles
    assert max(len(run) for run in re.findall("r+|t+", text)) <= 15
    assert model.log_marginal(x).mean().item() > start + 0.1


def test_a_mixture_with_local_rows_reaches_exact_em(device: torch.device) -> None:
    data = blobs(num=300).to(device, torch.float64)
    components = 3

    def model() -> Mixture:
        return Mixture(data.event_shape, components, covariance="diagonal").to(device, torch.float64)

    exact = model()
    settings = Training(60, 300, 0.02, Cosine(), valid_data=0)
    fit(exact, ExactEM(ELBO(), tolerance=0.0), data, settings, seed=3, progress_bar=False)
    local = model()
    strategy = make(
        Categorical, rate=0.03, rule=Natural(rate=1.0, trust=10.0), start=PriorStart(), cool=1.0, order="e_then_m"
    )
    fit(local, strategy, data, Training(200, 100, 0.03, Cosine(), valid_data=0), seed=3, progress_bar=False)
    x = data.train.x
    with torch.no_grad():
        target = exact.log_marginal(x).mean().item()
        rows = torch.arange(len(x), device=device)
        bound = ELBO()(local, x, strategy.infer(local, Batch(x, rows), {}), None).value.mean().item()
        assert bound <= local.log_marginal(x).mean().item() + 1e-9
    assert bound == pytest.approx(target, abs=0.01)


def test_held_out_data_leave_the_table_alone_and_use_their_noise(device: torch.device) -> None:
    strategy = make(held_out=HeldOut(steps=7, draws=3))
    model, x = ready(strategy, device)
    specs = strategy.noise(5, held_out=True)
    assert specs["rows"].shape == (7, 3, 5, 2)
    before = strategy.table.params.clone()
    noise = fill(specs, generator(device, 0))
    first = strategy.infer(model, Batch(x[:5], None), noise).mean()
    assert torch.equal(first, strategy.infer(model, Batch(x[:5], None), noise).mean())
    assert not torch.equal(first, strategy.infer(model, Batch(x[:5], None), fill(specs, generator(device, 1))).mean())
    assert not first.requires_grad and torch.equal(strategy.table.params, before)
    torch.testing.assert_close(
        strategy.infer(model, Batch(x[:5], torch.arange(5, device=device)), {}).mean(), before[:5, :2]
    )


def test_frozen_theta_is_what_the_caller_chose(device: torch.device) -> None:
    strategy = make(m_steps=0)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = DeepLatentModel((6,), 2, MLPFactory([8])).to(device)
    before = {k: v.clone() for k, v in model.state_dict().items()}
    x = (torch.rand(20, 6, device=device) > 0.2).float()
    strategy.setup(model, TrainingSet(x, False), generator(device, 2))
    rows = torch.arange(20, device=device)
    start = strategy.table.params.clone()
    strategy.step(model, Batch(x, rows), fill(strategy.noise(20), generator(device, 0)), schedule(device))
    assert all(torch.equal(v, before[k]) for k, v in model.state_dict().items())
    assert not torch.equal(start, strategy.table.params)


def test_redrawn_data_are_refused_with_the_remedy(device: torch.device) -> None:
    model = DeepLatentModel((6,), 2, MLPFactory([8])).to(device)
    with pytest.raises(VemError, match=r"binarize=stochastic.*data\.binarize=static.*strategy=amortized"):
        make().setup(model, TrainingSet(torch.zeros(5, 6, device=device), True), generator(device, 0))


def test_training_without_rows_is_refused(device: torch.device) -> None:
    strategy = make()
    model, x = ready(strategy, device)
    with pytest.raises(VemError, match="held-out data go through infer"):
        strategy.step(model, Batch(x, None), fill(strategy.noise(20), generator(device, 0)), schedule(device))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"order": "e_them_m"}, "did you mean 'e_then_m'"),
        ({"schedule": "alternate"}, "did you mean 'alternating'"),
        ({"e_steps": -1}, r"e_steps=-1"),
        ({"e_steps": 0}, r"e_steps=0"),
        ({"m_steps": 2}, "take e_then_m"),
        ({"tolerance": -1.0, "schedule": "alternating"}, r"tolerance=-1"),
        ({"max_passes": 0, "schedule": "alternating"}, r"max_passes=0"),
    ],
)
def test_bad_options_are_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(VemError, match=message):
        make(**options)


@pytest.mark.parametrize("options", [{"steps": 0}, {"draws": 0}])
def test_a_bad_budget_is_refused(options: dict[str, int]) -> None:
    with pytest.raises(VemError, match=r"steps=0|draws=0"):
        HeldOut(**options)


@pytest.mark.parametrize("options", [{"cool": -1.0}, {"held_out": {"rate": -1.0}}, {"held_out": {"cool": -0.5}}])
def test_rates_that_would_descend_are_refused(options: dict[str, Any]) -> None:
    with pytest.raises(VemError, match=r"(cool|rate)=-"):
        make(**{k: HeldOut(**v) if k == "held_out" else v for k, v in options.items()})


def test_an_index_has_no_place_in_the_plane_of_a_pca(device: torch.device) -> None:
    data = blobs(num=50).to(device, torch.float64)
    model = Mixture(data.event_shape, 3).to(device, torch.float64)
    with pytest.raises(VemError, match="strategy/start=prior"):
        make(Categorical).setup(model, data.training_set(), generator(device, 0))
