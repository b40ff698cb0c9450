"""Columns of a table on one scale: what a classical model standardizes inside, so that units do not matter."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from vem.errors import BadArgument
from vem.models.variance import data_moments


class Columns(nn.Module):
    """u = (x − shift) / scale, with p(x) = p(u) / Π scale; in float64, where nothing cancels.

    shift, scale [D]; ``common``: one scale for all columns, as one noise variance for all needs it. What is u's
    smallest variance beside its ordinary one stands in ``smallest`` []: 1 unless ``common``.
    """

    shift: Tensor
    scale: Tensor
    smallest: Tensor

    def __init__(self, size: int, common: bool) -> None:
        super().__init__()
        self.common = common
        self.register_buffer("shift", torch.zeros(size))
        self.register_buffer("scale", torch.ones(size))
        self.register_buffer("smallest", torch.ones(()))

    @torch.no_grad()
    def fit(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Take the scales of the data x [N, D]; mean and variance of u over them, [D] each, in float64.

        A constant column has no scale of its own: it takes the common one, the geometric mean of the others.
        """
        mean, variance = data_moments(x)
        low, high = torch.aminmax(x, dim=0)
        varies = (low < high) & (variance > 0)
        log_variance = variance[varies].log()
        common = log_variance.mean().exp() if bool(varies.any()) else variance.new_ones(())
        if self.common:
            scale = variance[varies].mean().sqrt() if bool(varies.any()) else variance.new_ones(())
            smallest = log_variance.min().exp() / scale.square() if bool(varies.any()) else variance.new_ones(())
            self.scale.copy_(scale)
            self.smallest.copy_(smallest)
        else:
            self.scale.copy_(torch.where(varies, variance, common).sqrt())
        self.shift.copy_(mean)
        kept = self.scale.double()  # as rounded
        return (mean - self.shift.double()) / kept, torch.where(varies, variance, 0.0) / kept.square()

    def inside(self, x: Tensor) -> Tensor:
        """u [..., D] in float64 for x [..., D]."""
        return (x.double() - self.shift.double()) / self.scale.double()

    def outside(self, u: Tensor) -> Tensor:
        """x [..., D] for u [..., D], in the type of u."""
        return u * self.scale.to(u.dtype) + self.shift.to(u.dtype)

    def log_scale(self) -> Tensor:
        """Σ log scale, [] in float64: log p(x) = log p(u) − this."""
        return self.scale.double().log().sum()


class Standardizing(nn.Module):
    """A model that can standardize the columns of its data; ``columns`` is None where it does not.

    ``standardize``: true, false, or auto: where exact EM trains the model, see :meth:`standardize_columns`.
    """

    columns: Columns | None
    standardize: bool | str

    def set_up_columns(self, standardize: bool | str, size: int, common: bool) -> None:
        """To be called when the model is made.

        Raises:
            VemError: another word than auto.
        """
        if not isinstance(standardize, bool) and standardize != "auto":
            raise BadArgument("standardize", f"={standardize} is not known: take auto, true or false.")
        self.standardize = standardize
        self._size_common = (size, common)
        self.columns = Columns(size, common) if standardize is True else None

    def _inside(self, x: Tensor) -> Tensor:
        """x [B, *X] as the parameters see it [B, D]: as it is, or standardized and in float64."""
        flat = x.flatten(1)
        return flat if self.columns is None else self.columns.inside(flat)

    def _outside(self, u: Tensor) -> Tensor:
        """x [..., D] of what the parameters give, u [..., D]."""
        return u if self.columns is None else self.columns.outside(u)

    def standardize_columns(self) -> None:
        """What exact EM asks of a model: with ``standardize=auto`` its columns are standardized from here on."""
        if self.standardize == "auto" and self.columns is None:
            parameter = next(self.parameters())
            self.columns = Columns(*self._size_common).to(parameter.device, parameter.dtype)

    def _load_from_state_dict(self, state_dict: Mapping[str, Any], prefix: str, *rest: Any) -> None:
        if f"{prefix}columns.scale" in state_dict:  # a loaded model has met no strategy yet
            self.standardize_columns()
        super()._load_from_state_dict(state_dict, prefix, *rest)
