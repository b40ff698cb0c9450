"""Small models, strategies, schedules and trainings: what most tests of a step or of a training are made of."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from vem.ascent.rules import Natural
from vem.ascent.starts import PCAStart
from vem.contracts import Schedule
from vem.families.gaussian import DiagonalGaussian
from vem.models.deep import DeepLatentModel
from vem.models.networks import MLPFactory
from vem.objectives.elbo import ELBO
from vem.strategies.amortized import Amortized
from vem.strategies.local import HeldOut, Local
from vem.training.fit import Progress, fit
from vem.training.schedules import Constant
from vem.training.settings import Training


class ConvDecoder(nn.Module):
    """A user's decoder: it sees one batch axis, and has dropout and batch norm."""

    def __init__(self, latent: int) -> None:
        super().__init__()
        self.first = nn.Linear(latent, 2 * 4 * 4)
        self.norm = nn.BatchNorm1d(2 * 4 * 4)
        self.drop = nn.Dropout(0.5)
        self.up = nn.ConvTranspose2d(2, 1, 4, stride=2, padding=1)
        self.seen: list[tuple[int, ...]] = []

    def forward(self, z: Tensor) -> Tensor:
        self.seen.append(tuple(z.shape))
        h = self.drop(self.norm(self.first(z)).relu()).reshape(-1, 2, 4, 4)
        return self.up(h).squeeze(1)


@contextmanager
def seeded(seed: int = 0) -> Iterator[None]:
    """torch's global stream from this seed on, and afterwards as it was."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        yield


def scattered(model: Any, stream: torch.Generator) -> Any:
    """The model, its parameters drawn from N(0, 1): away from their defaults, and aligned with nothing."""
    with torch.no_grad():
        for p in model.parameters():
            p.copy_(torch.randn(p.shape, generator=stream, device=stream.device, dtype=torch.float64))
    return model


def adam(rate: float = 0.01) -> Any:
    return partial(torch.optim.Adam, lr=rate)


def deep(
    event: tuple[int, ...] = (6,), latent: int = 2, decoder: Any = None, likelihood: str = "bernoulli", **options: Any
) -> DeepLatentModel:
    """A deep model that is the same each time; its decoder has eight hidden units if none is given."""
    with seeded():
        return DeepLatentModel(event, latent, decoder or MLPFactory([8]), likelihood, **options)


def amortized(
    encoder: Any = None, rate: float = 0.01, family: Any = DiagonalGaussian, objective: Any = None, **options: Any
) -> Amortized:
    """By Adam; with a linear encoder if none is given."""
    return Amortized(family, objective or ELBO(), adam(rate), encoder or MLPFactory([]), **options)


def local(
    family: Any = DiagonalGaussian, rate: float = 0.01, rule: Any = None, objective: Any = None, start: Any = None,
    held_out: Any = None, **options: Any,
) -> Local:  # fmt: skip
    """θ by Adam; the rows by natural steps along the path gradient, from a PCA, if nothing else is given."""
    return Local(
        family, objective or ELBO(gradient="path"), adam(rate), rule or Natural(), start or PCAStart(),
        held_out or HeldOut(), **options,
    )  # fmt: skip


def schedule(
    device: torch.device | str = "cpu", dtype: torch.dtype = torch.float32, rate: float = 1.0, kl_weight: float = 1.0,
    progress: float = 0.0,
) -> Schedule:  # fmt: skip
    return Schedule(*(torch.tensor(value, device=device, dtype=dtype) for value in (rate, kl_weight, progress)))


def train(
    model: Any, strategy: Any, data: Any, epochs: int, batch_size: int, rates: Any = None, rate: float = 0.01,
    seed: int = 0, directory: Path | None = None, **settings: Any,
) -> Progress:  # fmt: skip
    """Without a bar, at a constant rate if no schedule is given, and without validation data."""
    chosen = Training(epochs, batch_size, rate, rates or Constant(), **{"valid_data": 0, **settings})
    return fit(model, strategy, data, chosen, seed=seed, directory=directory, progress_bar=False)
