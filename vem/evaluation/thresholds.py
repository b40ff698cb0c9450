"""When a check fails: the numbers of ``evaluation.checks``."""

from __future__ import annotations

from dataclasses import dataclass

from vem.errors import at_least


@dataclass(frozen=True)
class Thresholds:
    """When a check fails.

    Raises:
        VemError: a number out of range.
    """

    standard_errors: float = 4.0  # a difference of the wrong sign is tolerated up to so many of its errors,
    slack: float = 1e-3  # and so many nats for rounding
    exceeding: float = 0.001  # share of the data that may break an inequality beyond their own error
    prior_slack: float = 10.0  # nats that L[q] of a datum may lie below that of the prior as q, beyond its error,
    below_prior: float = 0.05  # and the share of the data that may lie lower
    bias: float = 0.05  # nats, ½ Var[log w̄] in the mean over data, that a lower bound may be too low
    samples: float = (
        10.0  # effective samples of a datum, fewer than which (and than a tenth of those drawn) are too few
    )
    thin: float = 0.05  # share of the data that may have too few
    width: float = 0.05  # nats, in the mean, that the interval for log p(x) may be wide on simulated data,
    widest: float = 1.0  # and at worst
    quadrature: float = 0.01  # nats of stated error that log p(x) by quadrature may have
    unconverged: float = 0.05  # share of the data whose q* may not have converged
    outlier: float = 25.0  # robust standard deviations from the median beyond which a datum is an outlier
    influence: float = 3.0  # standard errors that the outliers together may move the mean

    def __post_init__(self) -> None:
        for name, value in vars(self).items():
            at_least(value, 0, f"evaluation.checks.{name}")
