"""Local variational EM: Algorithm 7, mixtures, refusals."""

from __future__ import annotations

import re

import pytest
import torch
from parts import deep, local, schedule, train

from vem.ascent.rules import Natural
from vem.ascent.starts import PriorStart
from vem.contracts import Batch, TrainingSet
from vem.data.blobs import blobs
from vem.data.linear_gaussian import linear_gaussian
from vem.errors import VemError
from vem.families.categorical import Categorical
from vem.families.gaussian import FullGaussian
from vem.models.linear_gaussian import LinearGaussian
from vem.models.mixture import Mixture
from vem.noise import fill, generator
from vem.objectives.elbo import ELBO
from vem.strategies.exact_em import ExactEM
from vem.training.schedules import Cosine


def test_algorithm_7_moves_rows_or_theta_and_converges(device: torch.device) -> None:
    data = linear_gaussian(num=100, dims=5, latent=2).to(device, torch.float64)
    model = LinearGaussian((5,), 2).to(device, torch.float64)
    strategy = local(
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
    train(exact, ExactEM(ELBO(), tolerance=0.0), data, 60, 300, seed=3)
    rows_of_its_own = model()
    strategy = local(
        Categorical, rate=0.03, rule=Natural(rate=1.0, trust=10.0), start=PriorStart(), cool=1.0, order="e_then_m"
    )
    train(rows_of_its_own, strategy, data, 200, 100, Cosine(), seed=3)
    x = data.train.x
    with torch.no_grad():
        target = exact.log_marginal(x).mean().item()
        rows = torch.arange(len(x), device=device)
        q = strategy.infer(rows_of_its_own, Batch(x, rows), {})
        bound = ELBO()(rows_of_its_own, x, q, None).value.mean().item()
        assert bound <= rows_of_its_own.log_marginal(x).mean().item() + 1e-9
    assert bound == pytest.approx(target, abs=0.01)


def test_redrawn_data_are_refused_with_the_remedy(device: torch.device) -> None:
    with pytest.raises(VemError, match=r"binarize=stochastic.*data\.binarize=static.*strategy=amortized"):
        local().setup(deep().to(device), TrainingSet(torch.zeros(5, 6, device=device), True), generator(device, 0))


def test_training_without_rows_is_refused(device: torch.device) -> None:
    strategy, model, x = local(), deep().to(device), torch.ones(20, 6, device=device)
    strategy.setup(model, TrainingSet(x, False), generator(device, 2))
    with pytest.raises(VemError, match="held-out data go through infer"):
        strategy.step(model, Batch(x, None), fill(strategy.noise(20), generator(device, 0)), schedule(device))


def test_an_index_has_no_place_in_the_plane_of_a_pca(device: torch.device) -> None:
    data = blobs(num=50).to(device, torch.float64)
    model = Mixture(data.event_shape, 3).to(device, torch.float64)
    with pytest.raises(VemError, match="strategy/start=prior"):
        local(Categorical).setup(model, data.training_set(), generator(device, 0))
