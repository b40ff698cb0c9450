"""A last batch of one row: it joins the one before it where a network cannot take it, and nowhere else."""

from __future__ import annotations

from functools import partial
from typing import Any

import pytest
import torch
from parts import amortized, deep, local, schedule, seeded, train
from torch import Tensor, nn

from vem.contracts import TrainingSet
from vem.data.dataset import Data, Split
from vem.errors import VemError
from vem.models.deep import DeepLatentModel
from vem.models.networks import MLPFactory
from vem.strategies.local import HeldOut
from vem.training.batches import batches_of, joins_lone_row


class Own(nn.Module):
    """Vectors [N, 6] → [N, outputs] by way of ``middle``; the sizes of the batches that it saw in training."""

    def __init__(self, outputs: int, middle: nn.Module, inputs: int = 6) -> None:
        super().__init__()
        self.first, self.middle, self.last = nn.Linear(inputs, 8), middle, nn.Linear(8, outputs)
        self.sizes: list[int] = []

    def forward(self, x: Tensor) -> Tensor:
        if self.training:
            self.sizes.append(len(x))
        return self.last(self.middle(self.first(x)))


class Pixels(nn.Module):
    """[N, 8] as pictures of one pixel, or of 2 × 2."""

    def __init__(self, side: int) -> None:
        super().__init__()
        self.side, self.norm = side, nn.BatchNorm2d(8 // side**2)

    def forward(self, x: Tensor) -> Tensor:
        return self.norm(x.reshape(len(x), -1, self.side, self.side)).flatten(1)


class ByHand(nn.Module):
    """A batch norm that a user wrote: NaN, and no error, for one row."""

    def forward(self, x: Tensor) -> Tensor:
        return (x - x.mean(0)) / (x.var(0, correction=0) * len(x) / (len(x) - 1 + 1e-30)).sqrt() if self.training else x


class Frozen(nn.BatchNorm1d):
    """A batch norm whose statistics stay as they are."""

    def train(self, mode: bool = True) -> Frozen:
        return super().train(False)


class Squeezed(nn.Module):
    """A user's slip: a batch of one row loses its axis."""

    def forward(self, x: Tensor) -> Tensor:
        return x.squeeze(0)[:, :8]


def made(middle: nn.Module, where: str) -> tuple[DeepLatentModel, Any, Own]:
    with seeded():
        own = Own(6, middle, 2) if where != "encoder" else Own(4, middle)
    model = deep(decoder=own if where != "encoder" else MLPFactory([5]), likelihood="gaussian")
    if where == "local":
        return model, local(held_out=HeldOut(steps=2)), own
    return model, amortized(own if where == "encoder" else MLPFactory([5])), own


def trained(middle: nn.Module, where: str, num: int = 21, batch_size: int = 5, epochs: int = 2) -> tuple[Any, Own]:
    x = torch.randn(num + 8, 6, generator=torch.Generator().manual_seed(0))
    data = Data("x", Split(x[:num]), Split(x[num : num + 4]), Split(x[num + 4 :]), "real")
    model, strategy, own = made(middle, where)
    return train(model, strategy, data, epochs, batch_size, valid_data=500, kl_warmup=2), own


def steps_of(own: Own) -> list[int]:
    """The sizes that training saw, less those of the trial before it."""
    sizes = own.sizes
    while sizes[0] <= 2:
        sizes = sizes[1:]
    return sizes


@pytest.mark.parametrize("where", ["encoder", "decoder", "local"])
@pytest.mark.parametrize("kind", ["norm", "one pixel", "by hand"])
def test_it_joins_the_batch_before_it(kind: str, where: str) -> None:
    middle = {"norm": partial(nn.BatchNorm1d, 8), "one pixel": partial(Pixels, 1), "by hand": ByHand}[kind]()
    done, own = trained(middle, where)
    assert steps_of(own) == [5, 5, 5, 6] * 2
    assert done.step == 8 and done.decoder_evaluations == 42


def test_a_network_that_needs_its_batch_axis() -> None:
    _, own = trained(Squeezed(), "encoder")
    assert steps_of(own) == [5, 5, 5, 6] * 2


@pytest.mark.parametrize(
    "middle", [partial(nn.GroupNorm, 2, 8), partial(Pixels, 2), partial(nn.LayerNorm, 8), partial(Frozen, 8)]
)
def test_it_stays_alone_where_a_network_takes_it(middle: Any) -> None:
    """As before: a batch norm over pictures has several values for each channel."""
    _, own = trained(middle(), "encoder")
    assert own.sizes[-5:] == [5, 5, 5, 5, 1]


@pytest.mark.parametrize("num", [20, 22])
def test_no_lone_row_no_trial(num: int) -> None:
    _, own = trained(nn.BatchNorm1d(8), "encoder", num)
    assert own.sizes == ([5, 5, 5, 5] if num == 20 else [5, 5, 5, 5, 2]) * 2


@pytest.mark.parametrize("compile", [False, True])
@pytest.mark.parametrize("where", ["encoder", "decoder", "local"])
def test_the_trial_changes_nothing(where: str, compile: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """Batch statistics, torch's global stream: a run whose last row is no trouble equals one that was not tried.

    Nor does it wait for a compilation.
    """
    monkeypatch.setattr(torch, "compile", lambda function, **_: pytest.fail)
    monkeypatch.setattr("shutil.which", lambda name: name)  # a compiler, which is not called
    middle = nn.Sequential(nn.BatchNorm1d(8), nn.Dropout(0.5))
    model, strategy, own = made(middle, where)
    strategy.compile = compile
    x = torch.randn(6, 6, generator=torch.Generator().manual_seed(0))
    strategy.setup(model, TrainingSet(x, False), torch.Generator())
    before = {name: value.clone() for name, value in own.state_dict().items()}
    stream = torch.get_rng_state()
    assert joins_lone_row(model, strategy, x, 5, schedule(), 0)
    assert all(torch.equal(value, before[name]) for name, value in own.state_dict().items())
    assert torch.equal(torch.get_rng_state(), stream) and own.training


@pytest.mark.parametrize(
    ("num", "batch_size", "words"),
    [
        (9, 1, r"training.batch_size=1, .*more than 1 value.*training.batch_size=2"),
        (1, 5, r"one training datum.*more data"),
    ],
)
def test_batches_of_one_row_are_refused_before_training(num: int, batch_size: int, words: str) -> None:
    with pytest.raises(VemError, match=words):
        trained(nn.BatchNorm1d(8), "decoder", num, batch_size)


def test_two_batches_and_a_pair() -> None:
    assert [len(rows) for rows in batches_of(torch.arange(6), 5, True)] == [6]
    assert [len(rows) for rows in batches_of(torch.arange(5), 2, True)] == [2, 3]
    order = torch.randperm(31)
    assert torch.equal(torch.cat(batches_of(order, 10, True)), order)
