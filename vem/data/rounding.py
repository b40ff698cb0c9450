"""What rounding to a narrower floating type costs: data far from zero, or tiny, lose their spread to it."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from vem.errors import VemError

# Above this share of a column's standard deviation the rounding is told: it then adds 1 % to the variance of a
# noise of a hundredth of that spread, which is 0.005 nats.
TOLD = 1e-3
SQUARED = 1e150  # beyond it a square is infinite in float64, too


def narrowed(x: Tensor, dtype: torch.dtype, place: str) -> Tensor:
    """x in ``dtype``; VemError if a number is too large for it."""
    narrow = x.to(dtype)
    if narrow.dtype != x.dtype and not torch.isfinite(torch.stack(torch.aminmax(narrow))).all():
        value = float(x[~torch.isfinite(narrow)][0])
        wider = "" if abs(value) > SQUARED else "set dtype=float64, or "
        raise VemError(
            f"{place} holds {value:g}, and {_name(dtype)} ends at {torch.finfo(dtype).max:.2g}: {wider}divide the data "
            "by a power of ten."
        )
    return narrow


def notes(x: Tensor, narrow: Tensor, name: str) -> list[str]:
    """Says which column of the training data x [N, *X] loses most by rounding to ``narrow``, if more than ``TOLD``.

    The loss is the standard deviation of narrow − x over that of x; VemError if all data are equal once rounded.
    """
    limits = torch.finfo(narrow.dtype)
    if not x.is_floating_point() or not limits.eps > torch.finfo(x.dtype).eps:
        return []
    flat, rounded, kind = x.flatten(1), narrow.flatten(1), _name(narrow.dtype)
    variance = torch.var(flat, 0, correction=0)
    low, high = torch.aminmax(flat, dim=0)
    error = torch.maximum(low.abs(), high.abs()) * limits.eps / 2
    error = error.clamp_min(limits.smallest_normal * limits.eps / 2)
    # Nearly always the largest error there can be is too small to tell, and the columns need not be looked at.
    doubtful = (error.square() > TOLD**2 * variance) & (low < high)
    share = torch.zeros_like(variance)
    if doubtful.any():
        rounding = torch.var(rounded[:, doubtful].to(x.dtype) - flat[:, doubtful], 0, correction=0)
        share[doubtful] = (rounding / variance[doubtful]).sqrt().clamp_max(1)
    worst = int(share.argmax())
    if not share[worst] > TOLD:
        return []
    column = flat[:, worst]
    spread = f"values near {float(column.mean()):.6g}, standard deviation {float(column.std(correction=0)):.3g}"
    if bool((narrow == narrow[:1]).all()):
        raise VemError(
            f"data={name}: rounded to dtype={kind}, all {len(x)} training data are equal ({spread}). Set "
            "dtype=float64, which keeps what the file holds, or subtract the mean of each column."
        )
    width = x.shape[-1]
    which = f"column {worst + 1} of {width}" if x.dim() == 2 else f"pixel [{worst // width}, {worst % width}]"
    more = int((share > TOLD).sum()) - 1
    others = f" (and more than {TOLD:.1%} of that of {more} other{'s' * (more > 1)})" if more else ""
    return [
        f"dtype={kind} rounds away {float(share[worst]):.1%} of the spread of {which}{others}: {spread}. The results "
        "are those of the rounded data; dtype=float64 keeps what the file holds."
    ]


def tell_apart(whole: npt.NDArray[Any], place: str) -> None:
    """VemError if whole numbers [N] beyond 2⁵³, such as times in nanoseconds, lose their differences in float64."""
    if not len(whole) or max(abs(int(whole.min())), abs(int(whole.max()))) <= 2**53:
        return
    low = whole.min()
    # Differences of whole numbers are exact in unsigned arithmetic, whatever the sign and the range.
    exact = (whole.astype(np.uint64) - np.array(low).astype(np.uint64)).astype(np.float64)
    rounding = whole.astype(np.float64) - float(low) - exact
    if rounding.std() > TOLD * exact.std():
        raise VemError(
            f"{place} holds whole numbers near {int(low):.3g}, whose differences (standard deviation "
            f"{exact.std():.3g}) double precision rounds away: subtract its smallest value before saving."
        )


def _name(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")
