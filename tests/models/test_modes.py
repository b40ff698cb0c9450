"""Parts that the user has frozen stay frozen, and weights that networks share take one step a batch."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from parts import adam, amortized, seeded, train
from torch import Tensor, nn

from vem.contracts import Batch
from vem.data.linear_gaussian import linear_gaussian
from vem.errors import VemError
from vem.evaluation.elbo import score, spread
from vem.models.deep import DeepLatentModel
from vem.models.modes import evaluating
from vem.models.networks import MLPFactory
from vem.noise import fill, generator
from vem.storage.records import CHECKPOINT
from vem.strategies.amortized import Amortized
from vem.strategies.gradient import AscentOptimizer
from vem.training import checkpoint

DATA = linear_gaussian(num=60, num_valid=10, num_test=10, dims=4, latent=2)


class Frozen(nn.Module):
    """A network whose batch norm (on 8 units) and dropout were frozen by hand."""

    def __init__(self, inputs: int, outputs: int, gradient: bool = True) -> None:
        super().__init__()
        self.first, self.bn, self.drop = nn.Linear(inputs, 8), nn.BatchNorm1d(8), nn.Dropout(0.8)
        self.last = nn.Linear(8, outputs)
        self.bn.running_var.fill_(4.0)
        self.bn.requires_grad_(gradient)
        self.bn.eval()
        self.drop.eval()

    def forward(self, x: Tensor) -> Tensor:
        return self.last(self.drop(self.bn(self.first(x))))


def trained(model: Any, strategy: Any, **more: Any) -> Any:
    return train(model, strategy, DATA, 2, 20, valid_data=500, **more)


@pytest.mark.parametrize("gradient", [True, False], ids=["trained", "without gradient"])
@pytest.mark.parametrize("where", ["decoder", "encoder"])
def test_a_frozen_batch_norm_and_dropout_stay_frozen(where: str, gradient: bool) -> None:
    network = Frozen(2, 4, gradient) if where == "decoder" else Frozen(4, 4, gradient)
    model = DeepLatentModel((4,), 2, network if where == "decoder" else MLPFactory([8]), "gaussian")
    strategy = amortized(network if where == "encoder" else MLPFactory([8]))
    trained(model, strategy)
    assert torch.equal(network.bn.running_var, torch.full((8,), 4.0)) and int(network.bn.num_batches_tracked) == 0
    assert not network.bn.training and not network.drop.training
    assert network.training and network.last.training
    x = DATA.test.x
    noise = fill(strategy.noise(10), generator("cpu", 0), x.dtype)
    assert torch.equal(*(strategy.infer(model, Batch(x, None), noise).mean() for _ in range(2)))
    # Nothing is dropped in training either, so that q is the same there.
    assert torch.equal(
        network(x if where == "encoder" else x[:, :2]), network.eval()(x if where == "encoder" else x[:, :2])
    )


def test_a_batch_norm_that_is_not_frozen_goes_on_learning() -> None:
    network = Frozen(2, 4).train()
    trained(DeepLatentModel((4,), 2, network, "gaussian"), amortized(MLPFactory([8])))
    assert int(network.bn.num_batches_tracked) == 6 and network.bn.training


def test_what_a_train_of_the_users_sets_comes_back_too() -> None:
    class Own(nn.Sequential):
        def train(self, mode: bool = True) -> Own:
            self.deterministic = not mode
            return super().train(mode)

    network = Own(nn.Linear(2, 4), nn.Dropout().eval()).train()
    network[1].eval()
    with evaluating(network):
        assert network.deterministic
    assert not network.deterministic and network.training and not network[1].training


class FrozenByTrain(nn.Sequential):
    """The usual way: train() puts a part into evaluation mode again. Nobody has called it yet."""

    def train(self, mode: bool = True) -> FrozenByTrain:
        super().train(mode)
        self[1].eval()
        return self


@pytest.mark.parametrize("where", ["decoder", "encoder"])
def test_a_train_of_the_users_that_freezes_a_part_does_so_before_the_first_step(where: str) -> None:
    inputs = 2 if where == "decoder" else 4
    network = FrozenByTrain(nn.Linear(inputs, 4), nn.BatchNorm1d(4), nn.Dropout(0.5))
    assert network[1].training
    decoder, encoder = (network, MLPFactory([8])) if where == "decoder" else (MLPFactory([8]), network)
    trained(DeepLatentModel((4,), 2, decoder, "gaussian"), amortized(encoder))
    assert int(network[1].num_batches_tracked) == 0
    assert network.training and network[2].training and not network[1].training


def test_a_part_that_trains_within_a_network_that_does_not_is_put_back() -> None:
    network = nn.Sequential(nn.Linear(2, 4), nn.Dropout()).eval()
    network[1].train()
    with evaluating(network):
        assert not network[1].training
    assert network[1].training and not network.training and not network[0].training


class Tied(nn.Module):
    """Encoder or decoder around a layer that both share, used twice in one of them."""

    def __init__(self, inputs: int, outputs: int, shared: nn.Module, times: int = 1) -> None:
        super().__init__()
        self.first, self.shared, self.last, self.times = nn.Linear(inputs, 8), shared, nn.Linear(8, outputs), times

    def forward(self, x: Tensor) -> Tensor:
        h = self.first(x)
        for _ in range(self.times):
            h = torch.tanh(self.shared(h))
        return self.last(h)


def tied() -> tuple[DeepLatentModel, Amortized, nn.Module]:
    with seeded():
        shared = nn.Linear(8, 8)
        model = DeepLatentModel((4,), 2, Tied(2, 4, shared, 2), "gaussian")
        return model, amortized(Tied(4, 4, shared)), shared


def test_shared_weights_take_one_step_a_batch(tmp_path: Path) -> None:
    model, strategy, shared = tied()
    trained(model, strategy, directory=tmp_path)
    state = strategy.optimizer.optimizer.state
    assert {float(state[p]["step"]) for p in strategy.optimizer.params} == {6.0}
    assert sum(p is shared.weight for p in strategy.optimizer.params) == 1
    again, learner, _ = tied()
    assert trained(again, learner, directory=tmp_path).finished  # it is read again
    assert not learner.optimizer.doubled
    for one, other in zip(model.parameters(), again.parameters(), strict=True):
        assert torch.equal(one, other)


class Doubled(AscentOptimizer):
    """As it was: a shared weight stands in the optimizer twice."""

    def __init__(self, factory: Any, params: Any) -> None:
        super().__init__(factory, given := list(params))
        self.params = given
        self.optimizer.param_groups[0]["params"] = given


def test_an_unfinished_run_of_double_steps_is_refused_and_a_finished_one_is_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr("vem.strategies.amortized.AscentOptimizer", Doubled)
        model, strategy, _ = tied()
        trained(model, strategy, directory=tmp_path)
    saved = checkpoint.load(tmp_path / CHECKPOINT, "cpu")
    places = saved["strategy"]["optimizer"]["param_groups"][0]["params"]
    assert len(places) == len(set(places)) + 2
    again, learner, _ = tied()
    trained(again, learner, directory=tmp_path)  # it has finished: nothing is trained
    rows = spread(10, 10)
    old, new = (
        score(m, s, DATA.test.x, rows, training_rows=False, draws=1, seed=0, name="test").elbo
        for m, s in ((model, strategy), (again, learner))
    )
    assert torch.equal(old, new)
    saved["progress"] |= {"finished": False, "epoch": 1}
    checkpoint.save(tmp_path / CHECKPOINT, {k: v for k, v in saved.items() if k != "version"})
    with pytest.raises(VemError, match="share took two steps a batch"):
        trained(*tied()[:2], directory=tmp_path)
    (tmp_path / CHECKPOINT).unlink()  # the remedy
    assert trained(*tied()[:2], directory=tmp_path).finished


def test_a_decoder_that_uses_a_parameter_twice_is_stepped_once_by_local_too() -> None:
    model = tied()[0]
    assert len(AscentOptimizer(adam(), model.parameters()).params) == len(list(model.parameters()))
