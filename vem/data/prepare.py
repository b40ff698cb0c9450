"""What every data set does alike: grey levels, splits by seed, binarization, training subsets."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from vem.data.dataset import Data, Split, check, is_binary
from vem.errors import VemError, choice
from vem.noise import generator
from vem.storage.records import SPLITS

BINARIZATIONS = ("none", "threshold", "static", "stochastic")
THRESHOLD = 0.5


def grey_levels(values: npt.NDArray[Any], white: int = 255) -> Tensor:
    """Grey levels 0 … ``white`` as float32 in [0, 1].

    >>> grey_levels(np.array([[0, 51, 255]], dtype=np.uint8))
    tensor([[0.0000, 0.2000, 1.0000]])
    """
    return torch.from_numpy(values.astype(np.float32)).div_(white)


def split_rows(num: int, sizes: Sequence[int], seed: int) -> list[Tensor]:
    """Row numbers of disjoint random splits of ``num`` rows; the same for the same seed.

    >>> [len(rows) for rows in split_rows(10, (6, 2, 2), seed=0)]
    [6, 2, 2]
    """
    order = torch.randperm(num, generator=generator("cpu", seed, "split"))
    return list(torch.split(order[: sum(sizes)], list(sizes)))


def whole(value: float, place: str) -> int:
    """A count as an int, VemError if it is none: on a command line 1e5 is a float.

    >>> whole(1e5, "data.num")
    100000
    """
    if not isinstance(value, int | float) or not value >= 1 or value != int(value):
        raise VemError(f"{place}={value} is not a count: give a whole number of at least 1.")
    return int(value)


def dealt(
    name: str, rows: Split, parts: Iterable[Tensor], binarize: str, max_train: int | None, *fields: Any, **more: Any
) -> Data:
    """The data set whose train, valid and test are these ``parts`` (row numbers) of ``rows``, prepared."""
    train, valid, test = map(rows.take, parts)
    return prepare(Data(name, train, valid, test, *fields, **more), binarize, max_train)


def drawn(
    name: str,
    sizes: Sequence[float],
    draw: Callable[[str, int, torch.Generator], Split],
    truth: dict[str, Tensor],
    seed: int,
    max_train: int | None,
) -> Data:
    """Synthetic real data: ``draw`` makes a split from its name, its size and a stream of random numbers.

    A stream for each split: a longer training set leaves the test data as they are.
    """
    counts = [whole(size, f"data.{key}") for size, key in zip(sizes, ("num", "num_valid", "num_test"), strict=True)]
    train, valid, test = (
        draw(split, count, generator("cpu", seed, name, split)) for split, count in zip(SPLITS, counts, strict=True)
    )
    return prepare(Data(name, train, valid, test, kind="real", seed=seed, truth=truth), max_train=max_train)


def prepare(data: Data, binarize: str = "none", max_train: int | None = None) -> Data:
    """Check, binarize and cut down a data set: the last line of every data set's function.

    Binarization comes first, so that a datum is the same whatever ``max_train`` is.

    Raises:
        VemError: the data are unusable, not grey levels in [0, 1], or fewer than ``max_train``.
    """
    choice(binarize, BINARIZATIONS, "data.binarize")
    data = check(data)
    if binarize != "none":
        data = _binarized(data, binarize)
    elif data.kind == "real" and all(is_binary(data.split(name).x) for name in SPLITS):
        data = replace(data, kind="binary")
    if max_train is not None:
        data = _fewer(data, max_train)
    # Thresholding, or keeping few rows, can leave data that are all equal.
    return data if binarize == "none" and max_train is None else check(data)


def _binarized(data: Data, how: str) -> Data:
    """0/1 data from grey levels p: p ≥ ½, or Bernoulli(p) drawn once (static) or every epoch (stochastic).

    Source: Salakhutdinov and Murray, 2008 (static); Burda, Grosse and Salakhutdinov, 2016 (stochastic).
    """

    def draw(name: str, x: Tensor) -> Tensor:
        # In float32 whatever the file holds: a draw takes other random numbers in float64, and a datum must not
        # depend on how its grey levels were saved.
        x = x.float()
        low, high = (v.item() for v in torch.aminmax(x))
        if low < 0 or high > 1:
            raise VemError(
                f"data.binarize={how} takes grey levels in [0, 1], but the {name} data={data.name} run "
                f"from {low:g} to {high:g}: scale them first (x / 255, say), or use data.binarize=none "
                "and a Gaussian likelihood."
            )
        if how == "threshold":
            return (x >= THRESHOLD).to(x.dtype)
        if how == "stochastic" and name == "train":
            return x
        return torch.bernoulli(x, generator=generator("cpu", data.seed, "binarize", name))

    drawn = data.with_x(draw, kind="binary")
    # Data that are 0/1 already are drawn alike each time: nothing is redrawn.
    return replace(drawn, redrawn=how == "stochastic" and not is_binary(drawn.train.x))


def _fewer(data: Data, max_train: int) -> Data:
    """Keep a random part of the training rows; with the same seed a smaller part lies within a larger one."""
    num, max_train = len(data.train), whole(max_train, "data.max_train")
    if max_train > num:
        raise VemError(
            f"data.max_train={max_train} is out of range: data={data.name} has {num} training rows; "
            "give a smaller number, or null for all of them."
        )
    rows = torch.randperm(num, generator=generator("cpu", data.seed, "max_train"))[:max_train].sort().values
    truth = {name: value[rows] if name.endswith("_train") else value for name, value in data.truth.items()}
    return replace(data, train=data.train.take(rows), truth=truth)
