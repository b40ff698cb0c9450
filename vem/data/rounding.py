"""What rounding to a narrower floating type costs: data far from zero, or tiny, lose their spread to it."""

from __future__ import annotations

from collections.abc import Sequence
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
    """x in ``dtype``.

    Raises:
        VemError: a number is too large for it.
    """
    narrow = x.to(dtype)
    if narrow.dtype != x.dtype and not torch.isfinite(torch.stack(torch.aminmax(narrow))).all():
        value = float(x[~torch.isfinite(narrow)][0])
        wider = "" if abs(value) > SQUARED else "set dtype=float64, or "
        raise VemError(
            f"{place} holds {value:g}, and {_name(dtype)} ends at {torch.finfo(dtype).max:.2g}: {wider}divide the data "
            "by a power of ten."
        )
    return narrow


def lost(x: Tensor, narrow: Tensor) -> Tensor:
    """The share of each column's spread that rounding x [N, *X] to ``narrow`` costs, [D] in [0, 1].

    The standard deviation of narrow − x over that of x; 0 for a column that is constant in x.
    """
    x, narrow = x.flatten(1), narrow.flatten(1)
    variance = torch.var(x, 0, correction=0)
    low, high = torch.aminmax(x, dim=0)
    limits = torch.finfo(narrow.dtype)
    largest = torch.maximum(low.abs(), high.abs())
    error = (largest * limits.eps / 2).clamp_min(limits.smallest_normal * limits.eps / 2)
    # Nearly always the largest error there can be is too small to tell, and the columns need not be looked at.
    doubtful = (error.square() > TOLD**2 * variance) & (low < high)
    share = torch.zeros_like(variance)
    if doubtful.any():
        rounding = torch.var(narrow[:, doubtful].to(x.dtype) - x[:, doubtful], 0, correction=0)
        share[doubtful] = (rounding / variance[doubtful]).sqrt().clamp_max(1)
    return share


def notes(x: Tensor, narrow: Tensor, name: str) -> list[str]:
    """Says which column of the training data loses most by rounding, where that is more than ``TOLD``.

    Raises:
        VemError: all data are equal once they are rounded.
    """
    if not x.is_floating_point() or not torch.finfo(narrow.dtype).eps > torch.finfo(x.dtype).eps:
        return []
    kind, share = _name(narrow.dtype), lost(x, narrow)
    worst = int(share.argmax())
    if not share[worst] > TOLD:
        return []
    column = x.flatten(1)[:, worst]
    spread = f"values near {float(column.mean()):.6g}, standard deviation {float(column.std(correction=0)):.3g}"
    if bool((narrow == narrow[:1]).all()):
        raise VemError(
            f"data={name}: rounded to dtype={kind}, all {len(x)} training data are equal ({spread}). Set "
            "dtype=float64, which keeps what the file holds, or subtract the mean of each column."
        )
    which = _place(worst, x.shape[1:])
    more = int((share > TOLD).sum()) - 1
    others = f" (and more than {TOLD:.1%} of that of {more} other{'s' * (more > 1)})" if more else ""
    return [
        f"dtype={kind} rounds away {float(share[worst]):.1%} of the spread of {which}{others}: {spread}. The results "
        "are those of the rounded data; dtype=float64 keeps what the file holds."
    ]


def tell_apart(whole: npt.NDArray[Any], place: str) -> None:
    """Refuse whole numbers [N] beyond 2⁵³ whose differences are lost in float64, as times in nanoseconds are.

    Raises:
        VemError: more than ``TOLD`` of their spread is lost.
    """
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


def _place(index: int, event: Sequence[int]) -> str:
    """The name of an entry of x: a column counted from 1, or the row and column of a pixel."""
    if len(event) == 1:
        return f"column {index + 1} of {event[0]}"
    return f"pixel [{index // event[1]}, {index % event[1]}]"


def _name(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")
