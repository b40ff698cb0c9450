"""Over which x a density is to sum or integrate to one: from the data, and from what the density accepts."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import NamedTuple

import torch
from torch import Tensor
from torch.distributions import Transform, biject_to, constraints

SAMPLED = 3  # entries whose support is looked at
LEVELS = 1024  # most different numbers that a lattice of grey levels has
HALVINGS = 40  # of the search for the end of a support
COMMON = 0.02  # share of the entries that a number of their own has, which makes it an atom


class Line(NamedTuple):
    """Real numbers between ``low`` and ``high``, and point masses at ``atoms`` besides."""

    low: float = -torch.inf
    high: float = torch.inf
    atoms: tuple[float, ...] = ()

    @property
    def _map(self) -> Transform:
        """From the whole line onto the support."""
        low, high = self.low > -torch.inf, self.high < torch.inf
        if low and high:
            return biject_to(constraints.interval(self.low, self.high))
        if low or high:
            return biject_to(constraints.greater_than(self.low) if low else constraints.less_than(self.high))
        return biject_to(constraints.real)

    def to_value(self, w: Tensor) -> tuple[Tensor, Tensor]:
        """v in the support and log dv/dw for w on the whole line."""
        onto = self._map
        v = onto(w)
        inside = v.isfinite() & (v > self.low) & (v < self.high)
        slope = torch.where(inside, onto.log_abs_det_jacobian(w, v), -torch.inf)
        return torch.where(inside, v, onto(torch.zeros_like(w))), slope

    def to_line(self, v: Tensor) -> Tensor:
        """The w of these v; those at an end, or beyond, a little inside."""
        for end, sign in ((self.low, 1.0), (self.high, -1.0)):
            if math.isfinite(end):
                distance = sign * (v - end)
                inner = distance[(distance > 0) & (distance < self.high - self.low)]
                least = float(inner.amin()) if len(inner) else min(1.0, 0.5 * (self.high - self.low))
                v = end + sign * distance.clamp_min(least)
        return self._map.inv(v)

    def __str__(self) -> str:
        """For a message."""
        name = {(-torch.inf, torch.inf): "real", (0.0, torch.inf): "positive"}.get((self.low, self.high))
        name = name or f"between {self.low:.4g} and {self.high:.4g}"
        return name + "".join(f" or {atom:.4g}" for atom in self.atoms)


class Lattice(NamedTuple):
    """first + step · k for k = 0 … last (None: without end), or for all whole k."""

    first: float = 0.0
    step: float = 1.0
    last: int | None = None
    both_ways: bool = False

    def __str__(self) -> str:
        """For a message."""
        if self.both_ways:
            return "whole"
        end = "…" if self.last is None else f"… {self.first + self.step * self.last:.4g}"
        return f"{self.first:.4g}, {self.first + self.step:.4g}, {end}"


def supports(g: Callable[[Tensor, Tensor], Tensor], x: Tensor) -> Iterator[Line | Lattice]:
    """The supports that the data x [N, D] may have, the likeliest first; g (entries, values) → log p + c."""
    size = x.shape[1]
    entries = torch.linspace(0, size - 1, min(SAMPLED, size), device=x.device).long()
    low, high = float(x.min()), float(x.max())
    whole = bool((x == x.round()).all())
    if whole and low >= 0:
        yield Lattice()
        for last in sorted({int(high), 2 ** int(high).bit_length() - 1}):
            yield Lattice(last=max(1, last))
    elif whole:
        yield Lattice(both_ways=True)
    between = x[0, entries] + (0.37 if bool((x[0] < high).any()) else -0.37)
    if whole and not bool(g(entries, between).isfinite().all()):
        return
    line = Line(*_ends(g, x, entries))
    if line == Line() and _periodic(g, x, entries):
        middle = 0.5 * (low + high)
        line = Line(middle - math.pi, middle + math.pi)
    yield line
    if not whole:
        atoms = _atoms(x)
        if atoms:
            yield line._replace(atoms=atoms)
            ends = (low if low in atoms else line.low, high if high in atoms else line.high)
            if ends != (line.low, line.high):
                yield Line(*ends, atoms=atoms)
        yield from _grey(x)


def _periodic(g: Callable[[Tensor, Tensor], Tensor], x: Tensor, entries: Tensor) -> bool:
    """Whether the entries are angles."""
    if float(x.max() - x.min()) > 2 * math.pi + 1e-6:
        return False
    values = x[0, entries] + torch.tensor([[0.0], [0.3], [1.7]], dtype=x.dtype, device=x.device)
    one, other = (g(entries, values + turn) for turn in (0.0, 2 * math.pi))
    return bool((one - other).abs().max() <= 1e-4) and bool((one != one[0]).any())


def _ends(g: Callable[[Tensor, Tensor], Tensor], x: Tensor, entries: Tensor) -> tuple[float, float]:
    """Where the support ends, if it ends at one place for the entries that are looked at."""
    low, high = float(x.min()), float(x.max())
    spread = max(high - low, 1e-3 * max(abs(low), abs(high)), 1e-6)
    least, most = x[:, entries].aminmax(dim=0)

    def end(inner: float, own: Tensor, sign: float) -> float:
        beyond = [torch.full_like(own, inner + sign * spread * step) for step in (1.0, 1e2)]
        if any(bool(g(entries, v).isfinite().any()) for v in beyond):
            return sign * torch.inf
        # A data point at the very end may be refused there: from a value of its own inward.
        inside, outside = torch.where(g(entries, own).isfinite(), own, 0.5 * (least + most)), beyond[0]
        for _ in range(HALVINGS):
            half = 0.5 * (inside + outside)
            accepted = g(entries, half).isfinite()
            inside, outside = torch.where(accepted, half, inside), torch.where(accepted, outside, half)
        found = float(outside[0])
        scale = max(1.0, abs(found))
        if float((outside - found).abs().max()) > 1e-6 * scale:
            return sign * torch.inf  # every entry has its own, as where log p underflows
        return round(found, 6) + 0.0 if abs(round(found, 6) - found) <= 1e-6 * scale else found

    return end(low, least, -1.0), end(high, most, 1.0)


def _atoms(x: Tensor) -> tuple[float, ...]:
    """Numbers that many entries have, in data that are otherwise all different."""
    values, counts = x.flatten().unique(return_counts=True)
    common = counts > max(1.0, COMMON * x.numel())
    alone = float(counts[~common].double().mean()) if bool((~common).any()) else 0.0
    return tuple(values[common].tolist()) if 1 <= int(common.sum()) <= 3 and 0 < alone < 1.5 else ()


def _grey(x: Tensor) -> Iterator[Lattice]:
    """Lattices of grey levels such as k / 255."""
    values = x.flatten().unique()
    if not 3 <= len(values) <= LEVELS:
        return

    def fits(first: float, step: float) -> bool:
        place = (values - first) / step
        return float((place - place.round()).abs().max()) < 1e-3

    low, high, step = float(values[0]), float(values[-1]), float(values.diff().min())
    if not fits(low, step):
        return
    step = (high - low) / round((high - low) / step)
    # Levels that no data point has may be missing at the ends, or in between.
    for first, end in dict.fromkeys([(low, high), (0.0, 1.0), (-1.0, 1.0)]):
        for levels in sorted({round((end - first) / step), 255, 256, 15, 16} - {0}):
            if first <= low + 1e-6 and end >= high - 1e-6 and fits(first, (end - first) / levels):
                yield Lattice(first, (end - first) / levels, levels)
    yield Lattice(low, step, None, True)
