"""A density of the user's own that raises for some z: −∞ there and there alone, and it is said."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor
from torch.distributions import Distribution

from vem.errors import VemError
from vem.external.borrowed import point

log = logging.getLogger("vem")

# What the checks of a distribution raise where a scale under- or overflows or a covariance is not positive definite.
# Any other RuntimeError (shapes, memory) is a fault of the program.
RAISED = (ValueError, FloatingPointError, torch.linalg.LinAlgError)


class Raising:
    """log p [S, B] of the user's function of (x [B, *X], z [S, B, H]) or of z alone, −∞ where it raises.

    Nothing is done until it raises. Then the pairs of x and z that raise are searched for: first all are evaluated with
    torch's checks off, which turns the bad ones to NaN; what is left is halved until it no longer raises. Where it
    raises in the same shapes at a z that it knew before, it is no fault of z.

    Raises:
        VemError: it raises whatever z is.
    """

    def __init__(self, function: Callable[..., Tensor], name: str) -> None:
        self.function, self.name = function, name
        self.known: tuple[Tensor, ...] | None = None  # x [1, *X] and z [1, 1, H] where it gave a number
        self.count = 0  # pairs of x and z at which it raised
        self.first = ""  # the first of them

    def __call__(self, *arguments: Tensor) -> Tensor:
        """log p [S, B]."""
        try:
            value = self.function(*arguments)
        except RAISED as error:
            return self._in_parts(arguments, error)
        if self.known is None and isinstance(value, Tensor):
            first = torch.zeros(1, dtype=torch.long, device=value.device)
            self.known = tuple(part.detach() for part in _pairs(arguments, first))
        return value

    def said(self) -> str | None:
        """What a reader of the result must know; None where it never raised."""
        if not self.count:
            return None
        return (
            f"{self.name} raised at {self.count} pairs of x and z, counted as −∞ ({self.first}): if a scale under- or "
            "overflows there, clamp its log in the decoder"
        )

    def _in_parts(self, arguments: tuple[Tensor, ...], error: Exception) -> Tensor:
        z = arguments[-1]
        self._refuse_a_fault(arguments, error)
        pairs = torch.arange(z[..., 0].numel(), device=z.device)
        parts = list(self._fine(arguments, self._likely(arguments, pairs)))
        if not parts and self.known is None:
            raise error
        value = torch.full_like(z[..., 0], -torch.inf).flatten()
        if parts:
            chosen, found = (torch.cat(some) for some in zip(*parts, strict=True))
            value = value.to(found.dtype).index_put((chosen,), found)
            pairs = pairs[~torch.isin(pairs, chosen)]
            if self.known is None:
                self.known = tuple(part.detach() for part in _pairs(arguments, chosen[:1]))
        if len(pairs):
            self._count(z.reshape(-1, z.shape[-1])[pairs], error)
        # Where every z raised the value still hangs on z, with a gradient of zero.
        return torch.where(torch.zeros_like(value, dtype=torch.bool), z.sum(-1).flatten(), value).view(z.shape[:2])

    def _refuse_a_fault(self, arguments: tuple[Tensor, ...], error: Exception) -> None:
        if self.known is None:
            return
        like = [k.to(a).expand(a.shape) for k, a in zip(self.known, arguments, strict=True)]
        try:
            with torch.no_grad():
                self.function(*like)
        except RAISED:
            shapes = " and ".join(str(list(a.shape)) for a in arguments)
            raise VemError(
                f"{self.name} fails on tensors of shape {shapes}, whatever z is: {_brief(error)}. It must take any "
                "number of draws S and of data B."
            ) from error

    @torch.no_grad()
    def _likely(self, arguments: tuple[Tensor, ...], pairs: Tensor) -> Tensor:
        """The pairs that are numbers with torch's checks off; all where that raises too."""
        try:
            with unchecked():
                value = self.function(*_pairs(arguments, pairs))[0]
        except RAISED:
            return pairs
        return pairs[~(value.isnan() | (value == torch.inf))]

    def _fine(self, arguments: tuple[Tensor, ...], pairs: Tensor) -> Iterator[tuple[Tensor, Tensor]]:
        """Pairs and their values, less those that raise."""
        if not len(pairs):
            return
        try:
            yield pairs, self.function(*_pairs(arguments, pairs))[0]
        except RAISED:
            if len(pairs) > 1:
                for half in pairs.chunk(2):
                    yield from self._fine(arguments, half)

    def _count(self, z: Tensor, error: Exception) -> None:
        z = z[z.isfinite().all(-1)]  # what a search proposes and gives up
        if not len(z):
            return
        if not self.count:
            self.first = f"the first at z = {point(z[0])}: {type(error).__name__}: {_brief(error)}"
            log.warning("%s raises at z = %s and counts as −∞ there: %s", self.name, point(z[0]), _brief(error))
        self.count += len(z)


def raised(model: Any) -> list[str]:
    """What the densities of this model have to say of where they raised."""
    found = [part.said() for part in vars(model).values() if isinstance(part, Raising)]
    return [sentence for sentence in found if sentence is not None]


def density_of(model: Any) -> Callable[[Tensor, Tensor], Tensor]:
    """The user's log p(x | z) as it is: what it raises is raised."""
    found = model.log_likelihood
    return found.function if isinstance(found, Raising) else found


@contextmanager
def unchecked() -> Iterator[None]:
    """Torch's distributions without the checks of their arguments; the default comes back."""
    before = Distribution._validate_args  # torch has no public way to ask for it
    Distribution.set_default_validate_args(False)
    try:
        yield
    finally:
        Distribution.set_default_validate_args(before)


def _pairs(arguments: tuple[Tensor, ...], pairs: Tensor) -> tuple[Tensor, ...]:
    """The arguments of some of the S · B pairs as one draw of so many data."""
    *x, z = arguments
    return (*(part[pairs % z.shape[1]] for part in x), z.reshape(-1, z.shape[-1])[pairs][None])


def _brief(error: Exception) -> str:
    """The message without the tensors that torch prints."""
    text = str(error).split(", but found invalid values", maxsplit=1)[0].strip().split("\n", maxsplit=1)[0]
    return text.rstrip(".:")
