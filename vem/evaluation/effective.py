"""Is a weighted lower bound on log p(x) to be trusted? Its bias, and its effective samples, datum by datum."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from vem.contracts import LogMarginal
from vem.evaluation.measured import ESS, MC_VARIANCE
from vem.evaluation.thresholds import Thresholds

SHARE = 0.1  # of the samples drawn: where more are effective, the weights are even enough for the delta method


class Effective(NamedTuple):
    """How far the weights behind a bound allow to trust it."""

    passed: bool
    bias: float  # nats, mean over data
    median: float  # effective samples
    thin: Tensor  # places of the data that have too few

    def sentence(self, num: int, limits: Thresholds, where: str = "") -> str:
        """The numbers, held against their limits; ``where`` names some of the thin data, ``num`` of all."""
        return (
            f"median of {self.median:.1f} effective samples; ½ Var[log w̄] = {self.bias:.2g} nats in the mean "
            f"(at most {limits.bias:g}); {len(self.thin) / num:.1%} of the data have fewer than {limits.samples:g} "
            f"and fewer than {SHARE:.0%} of those drawn{where}"
        )


def effective(bound: LogMarginal, limits: Thresholds) -> Effective | None:
    """Two rules for log w̄ of K weights; None where the bound is no weighted one.

    By the delta method E[log w̄] = log p(x) − ½ Var[log w̄], with Var[log w̄] ≈ (K / ESS − 1) / (K − 1): its mean
    over data is the bias of the bound. That is right for few chains whose weights are even. Weights that are
    not (ESS below a tenth of K) hide those not drawn; there a datum needs effective samples by number.

    Source: Kong, 1992; Nowozin, 2018, prop. 1.
    """
    ess = bound.diagnostics.get(ESS)
    if ess is None or not ess.numel():
        return None
    ess = ess.double()
    variance = bound.diagnostics.get(MC_VARIANCE, torch.full_like(ess, torch.nan)).double().expand(ess.shape)
    share = (1 - ess * variance) / (1 - variance)  # ESS / K, from the two; NaN where one draw was made
    # NaN is neither enough samples nor even weights.
    thin = (~(ess >= limits.samples) & ~(share >= SHARE)).nonzero().flatten()
    half = 0.5 * torch.where(variance.isfinite(), variance, 1 / ess)
    known = half[half.isfinite()]
    bias = float(known.mean()) if known.numel() else float("nan")
    passed = bias <= limits.bias and len(thin) <= limits.thin * len(ess)
    return Effective(passed, bias, float(ess.median()), thin)
