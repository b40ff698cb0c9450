"""Log-sum-exp and friends: the few numerical pieces that every room shares."""

from __future__ import annotations

import torch
from torch import Tensor


def weighted_sum(log_weight: Tensor, f: Tensor) -> Tensor:
    """Σ_s exp(log_weight_s) f_s over the first axis, with 0 · (±∞) = 0.

    log_weight, f [S, B] → [B]. A draw of weight zero (log_weight = −∞) adds nothing and its gradient
    is zero, whatever f is there.

    >>> weighted_sum(torch.tensor([[0.0], [-torch.inf]]), torch.tensor([[2.0], [-torch.inf]]))
    tensor([2.])
    """
    if log_weight.shape[0] == 1:
        return f.squeeze(0)  # one draw carries all the weight
    weight = log_weight.exp()
    used = weight > 0
    # `where` on the factors, not on the product: the gradient of 0 · ∞ would still be NaN.
    return (weight * torch.where(used, f, torch.zeros_like(f))).sum(0)


def mean_and_se(values: Tensor) -> tuple[float, float]:
    """Mean over data and its standard error, in float64; values [N]. The error of one datum is NaN: not known.

    >>> mean_and_se(torch.tensor([1.0, 3.0]))
    (2.0, 1.0)
    """
    v = values.double()
    se = v.std(unbiased=True) / v.numel() ** 0.5 if v.numel() > 1 else torch.tensor(torch.nan)
    return float(v.mean()), float(se)
