"""What can help where training ended in a NaN: it depends on what the networks saw, and on whether a step was taken."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from vem.models.deep import DeepLatentModel
from vem.models.likelihoods import Gaussian
from vem.models.units import units_of
from vem.training.settings import Training

LARGE, NARROW = 10.0, 0.01  # beyond these x is not scaled as networks that start at random expect it
LOOKED_AT = 10_000  # data


def remedy(model: Any, strategy: Any, x: Tensor, settings: Training, step: int) -> str:
    """What to try for training data x [N, *X] on which ``step`` gave the first number that is not finite."""
    some = x[:LOOKED_AT]
    low, high = (float(value) for value in torch.aminmax(some))
    networks = _in_units_of_x(model, strategy)
    scaled = max(-low, high) <= LARGE and float(some.std(0, correction=0).max()) >= NARROW
    units = ""
    if networks and not scaled:
        units = f"x runs from {low:.4g} to {high:.4g}, which {networks}: {_other_units(model)}."
    moved = hasattr(strategy, "rule")  # local rows climb within a step
    wider = ", or take dtype=float64" if x.dtype == torch.float32 else ""
    if step == 1 and not moved:
        return units or (
            "No step had been taken, so that no rate is the cause: the networks give such numbers as they start. Look "
            f"at how they begin and at their last layers{wider}."
        )
    rate = f"{'Otherwise lower' if units else 'Lower'} training.rate{' (or strategy.rule.rate)' if moved else ''}"
    return f"{units} {rate}{'' if settings.kl_warmup else ', set training.kl_warmup'}{wider}.".lstrip()


def _in_units_of_x(model: Any, strategy: Any) -> str:
    """``the encoder works with as it is``: the networks that know x in the units of the file, empty if none does."""
    units = units_of(model)
    networks = {"the decoder": getattr(model, "decoder", None), "the encoder": getattr(strategy, "encoder", None)}
    found = [
        name
        for name, network in networks.items()
        if isinstance(network, nn.Module) and (units is None or not units.spoken_by(network))
    ]
    return f"{' and '.join(found)} {'work' if len(found) > 1 else 'works'} with as it is" if found else ""


def _other_units(model: Any) -> str:
    if isinstance(model, DeepLatentModel) and isinstance(model.likelihood, Gaussian):
        return (
            "take model.units=common (or model.units=column, another likelihood, where columns are of several kinds), "
            "or scale x in a network of your own"
        )
    return (
        "model.units is of the deep model, so scale the columns in the file (subtract the mean, divide by the spread)"
    )
