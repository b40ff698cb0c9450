"""The terms of a log p(x | z) that the user's function sums over entries: all of them from one evaluation."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

SUMS = (
    torch.ops.aten.sum.dim_IntList,
    torch.ops.aten.sum.default,
    torch.ops.aten.mean.dim,
    torch.ops.aten.mean.default,
)
MOST = 8  # sums that are kept
CLOSE = 1e-6  # of the changes of log p, relative


class _Recorded(TorchDispatchMode):
    """Keeps what was summed, where it has one number for each entry of each row."""

    def __init__(self, rows: int, size: int) -> None:
        super().__init__()
        self.rows, self.size, self.found = rows, size, list[Tensor]()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func in SUMS and len(self.found) < MOST and args[0].numel() == self.rows * self.size:
            self.found.append(args[0].reshape(self.rows, self.size).double())
        return func(*args, **(kwargs or {}))


class Terms(NamedTuple):
    """log p(x) = constant + Σ_j share_j Σ_i h_ij(x_i), with h the tensors that the function sums."""

    log_p: Callable[[Tensor], Tensor]
    which: list[int]
    shares: list[float]

    def __call__(self, rows: Tensor) -> Tensor:
        """Σ_j share_j h_ij [N, D] at rows [N, D]."""
        with _Recorded(*rows.shape) as recorded:
            self.log_p(rows)
        return sum((share * recorded.found[j] for j, share in zip(self.which, self.shares, strict=True)),
                   torch.zeros_like(rows))  # fmt: skip


def terms(log_p: Callable[[Tensor], Tensor], rows: Tensor, eps: float) -> Terms | None:
    """What ``log_p`` sums, verified on these rows [N, D]: half of them fit the shares. None where it cannot be told."""
    try:
        with _Recorded(*rows.shape) as recorded:
            value = log_p(rows)
    except Exception:  # a function that torch cannot look into
        return None
    which = [j for j, h in enumerate(recorded.found) if bool(h.isfinite().all()) and bool((h != h[:1]).any())]
    if not which or not bool(value.isfinite().all()) or len(rows) < 2 * len(which) + 2:
        return None
    sums = torch.stack([recorded.found[j].sum(1) for j in which], 1)
    change, moved = sums - sums[:1], value - value[0]
    half = len(rows) // 2
    scale = change.abs().amax(0).clamp_min(1e-300)
    shares = torch.linalg.lstsq(change[1 : half + 1] / scale, moved[1 : half + 1, None], driver="gelsd").solution[:, 0]
    off = (change / scale @ shares - moved).abs().max()
    if not float(off) <= CLOSE * float(moved.abs().max()) + 100 * eps * float(value.abs().max()):
        return None
    return Terms(log_p, which, (shares / scale).tolist())
