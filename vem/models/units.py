"""The units that networks speak: x = shift + scale · u, fitted on the training data and kept with the model."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from vem.models.networks import MLP

CHOICES = ("auto", "common", "column", "none")
CHUNK = 4096  # data of one pass in float64
UNEVEN = 100.0  # spreads of columns that differ by more than this are worth a note


class Units(nn.Module):
    """u = (x − shift) / scale, log p(x) = log p(u) − Σ_i log scale_i; nothing else knows of it.

    ``by_column=False``: shift_i is the mean of column i and scale the root of the mean variance of a column. A model
    of u with one σ is then one of x with one σ: the same densities and the same maximum, in other coordinates.
    ``by_column=True``: scale_i is the standard deviation of column i, so that σ_i = σ · scale_i, another likelihood; a
    constant column keeps the common scale.

    ``everywhere``: all networks speak u. Else those that vem did not build (:meth:`spoken_by`) speak x.

    Until :meth:`fit`, u = x.
    """

    shift: Tensor
    scale: Tensor

    def __init__(self, event_shape: Sequence[int], by_column: bool = False, everywhere: bool = False) -> None:
        super().__init__()
        self.by_column, self.everywhere = by_column, everywhere
        self.register_buffer("shift", torch.zeros(tuple(event_shape)))
        self.register_buffer("scale", torch.ones(tuple(event_shape) if by_column else ()))
        self.unevenness = 1.0  # largest / smallest spread of a column, of the data that were fitted

    @torch.no_grad()
    def fit(self, x: Tensor) -> Tensor:
        """Shift and scale from the training data x [N, *X] in float64; gives the root mean square of u, a scalar."""
        mean, spread = column_moments(x)
        varies = spread > 0
        common = spread.square().mean().sqrt() if bool(varies.any()) else torch.ones_like(spread).mean()
        scale = torch.where(varies, spread, common) if self.by_column else common
        self.shift.copy_(mean)
        self.scale.copy_(scale)
        self.unevenness = float(spread.max() / spread[varies].min()) if bool(varies.any()) else 1.0
        return (spread / scale).square().mean().sqrt()

    def forward(self, x: Tensor) -> Tensor:
        """u of x [..., *X]."""
        return (x - self.shift) / self.scale

    def back(self, u: Tensor) -> Tensor:
        """x of u [..., *X]."""
        return self.shift + self.scale * u

    def mean_log_scale(self) -> Tensor:
        """(1/D) Σ_i log scale_i: what a column of x costs beside one of u, in nats."""
        return self.scale.log().mean()

    def spoken_by(self, network: Any) -> bool:
        """Whether this network speaks u, not x."""
        return self.everywhere or type(network) is MLP

    @property
    def name(self) -> str:
        """The option that they are."""
        return "column" if self.by_column else "common"

    def notes(self) -> list[str]:
        """What a reader must know of a σ learned in them: another likelihood, or columns that one σ does not fit."""
        if self.by_column:
            return [
                "model.units=column: each column has a scale of its own, σ_i = σ s_i with s_i its standard deviation "
                "in the training data. That is another likelihood than one σ for all of x: ELBO and log p(x) are not "
                "comparable with those of model.units=common."
            ]
        if self.shift.dim() == 1 and self.unevenness > UNEVEN:  # pixels are no columns
            return [
                f"the columns' standard deviations differ by a factor of {self.unevenness:.3g}, and one σ for all of x "
                "leaves the small ones to noise: model.units=column gives each column a scale of its own (another "
                "likelihood)."
            ]
        return []


def units_of(model: Any) -> Units | None:
    """The units of a model that has some."""
    units = getattr(model, "units", None)
    return units if isinstance(units, Units) else None


def in_units(model: Any, x: Tensor) -> Tensor:
    """x [..., *X] in the units of a model that has some, else x."""
    units = units_of(model)
    return x if units is None else units(x)


def column_moments(x: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and standard deviation (1/N) of each column of x [N, *X] in float64, without a float64 copy of x.

    About the first row, and in units of the largest distance from it: a constant column has exactly 0, an offset far
    beyond the spread costs no digits, and no square over- or underflows.

    >>> column_moments(torch.tensor([[1e6, 7.0], [1e6 + 2, 7.0]]))
    (tensor([1.0000e+06, 7.0000e+00], dtype=torch.float64), tensor([1., 0.], dtype=torch.float64))
    """
    origin = x[0].double()
    total, span = torch.zeros_like(origin), origin.new_zeros(())
    for part in torch.split(x, CHUNK):
        off = part.double() - origin
        total += off.sum(0)
        span = torch.maximum(span, off.abs().amax())
    span = torch.where(span > 0, span, 1.0)
    middle = total / len(x)
    square = torch.zeros_like(origin)
    for part in torch.split(x, CHUNK):
        square += ((part.double() - origin - middle) / span).square().sum(0)
    return origin + middle, span * (square / len(x)).sqrt()
