"""Small measurements, for the tests of ``vem.measure``."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

import vem
from vem.external.measurement import Measurement
from vem.noise import generator

TINY = [
    *("evaluation=gaps", "evaluation.num_data=6", "evaluation.draws=20", "evaluation.best.draws=20"),
    *("evaluation.best.evaluations=30", "evaluation.best.rounds=2", "evaluation.annealing.temperatures=8"),
    *("evaluation.annealing.chains=4", "evaluation.annealing.pilot_temperatures=4"),
    *("evaluation.annealing.pilot_chains=4", "evaluation.diagnostics.points=10"),
]


def measure(*arguments: Any, evaluation: list[str] = TINY, **options: Any) -> Measurement:
    return vem.measure(*arguments, evaluation=evaluation, progress=False, **options)


def drawn(*shape: int, like: str = "normal", key: str = "x", dtype: torch.dtype = torch.float32) -> Tensor:
    draw = torch.randn if like == "normal" else torch.rand
    return draw(*shape, generator=generator("cpu", key), dtype=torch.float64).to(dtype)
