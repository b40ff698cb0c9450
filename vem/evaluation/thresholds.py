"""When a check fails (``evaluation.checks``), and whether a weighted lower bound on log p(x) is to be trusted."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from vem.contracts import LogMarginal
from vem.errors import at_least
from vem.evaluation.measured import ESS, MC_VARIANCE

SHARE = 0.1  # of the samples drawn: where more are effective, the weights are even enough for the delta method


@dataclass(frozen=True)
class Thresholds:
    """When a check fails.

    Raises:
        VemError: a number out of range.
    """

    standard_errors: float = 4.0  # how many of its errors a difference may have the wrong sign by
    slack: float = 1e-3  # nats that any difference may have the wrong sign by, for rounding
    exceeding: float = 0.001  # share of the data that may break an inequality beyond their own error
    prior_slack: float = 10.0  # nats that L[q] of a data point may lie below that of the prior as q, beyond its error
    below_prior: float = 0.05  # share of the data whose L[q] may lie lower than that
    bias: float = 0.05  # nats, ½ Var[log w̄] in the mean over data, that a lower bound may be too low
    samples: float = 10.0  # effective samples that are enough for a data point; a tenth of those drawn are, too
    thin: float = 0.05  # share of the data that may have too few effective samples
    width: float = 0.05  # nats that the interval for log p(x) may be wide on simulated data, in the mean
    widest: float = 1.0  # nats that it may be wide for any of these data
    quadrature: float = 0.01  # nats of stated error that log p(x) by quadrature may have
    unconverged: float = 0.05  # share of the data whose q* may not have converged
    outlier: float = 25.0  # robust standard deviations from the median beyond which a data point is an outlier
    influence: float = 3.0  # standard errors that the outliers together may move the mean

    def __post_init__(self) -> None:
        for name, value in vars(self).items():
            at_least(value, 0, name)


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
    not (ESS below a tenth of K) hide those not drawn; there a data point needs effective samples by number.

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
