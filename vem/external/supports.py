"""Over which x a density is to sum or integrate to one: from the data, and from what the density accepts."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import NamedTuple

import torch
from torch import Tensor

SAMPLED = 3  # entries whose support is looked at
LEVELS = 1024  # most different numbers that a lattice of grey levels has
HALVINGS = 40  # of the search for the end of a support
COMMON = 0.02  # share of the entries that a number of their own has, which makes it an atom


class Line(NamedTuple):
    """Real numbers between ``low`` and ``high``, and point masses at ``atoms`` besides."""

    low: float = -torch.inf
    high: float = torch.inf
    atoms: tuple[float, ...] = ()

    def to_value(self, w: Tensor) -> tuple[Tensor, Tensor]:
        """v in the support and log dv/dw for w on the whole line."""
        if self.low > -torch.inf and self.high < torch.inf:
            width = self.high - self.low
            # From the nearer end, so that both ends keep their digits.
            v = torch.where(w < 0, self.low + width * w.sigmoid(), self.high - width * (-w).sigmoid())
            slope = torch.nn.functional.logsigmoid(w) + torch.nn.functional.logsigmoid(-w)
            slope = slope + torch.tensor(width, dtype=torch.float64).log()
            inside = (v > self.low) & (v < self.high)
            return torch.where(inside, v, 0.5 * (self.low + self.high)), torch.where(inside, slope, -torch.inf)
        if self.low > -torch.inf or self.high < torch.inf:
            v = self.low + w.exp() if self.low > -torch.inf else self.high - w.exp()
            inside = v.isfinite() & (v != (self.low if self.low > -torch.inf else self.high))
            middle = self.low + 1 if self.low > -torch.inf else self.high - 1
            return torch.where(inside, v, middle), torch.where(inside, w, -torch.inf)
        return w, torch.zeros_like(w)

    def to_line(self, v: Tensor) -> Tensor:
        """The w of these v; those at an end, or beyond, a little inside."""
        if self.low > -torch.inf and self.high < torch.inf:
            share = ((v - self.low) / (self.high - self.low)).clamp(1e-3, 1 - 1e-3)
            return share.logit()
        if self.low > -torch.inf:
            return _inside(v - self.low).log()
        if self.high < torch.inf:
            return _inside(self.high - v).log()
        return v

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


def _inside(distance: Tensor) -> Tensor:
    smallest = torch.where(distance > 0, distance, torch.inf).amin()
    return distance.clamp_min(float(smallest) if bool(smallest.isfinite()) else 1.0)


def supports(g: Callable[[Tensor, Tensor], Tensor], x: Tensor) -> Iterator[Line | Lattice]:
    """The supports that the data x [N, D] may have, the likeliest first; g (entries [M], values [M]) → log p + c."""
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
    if not whole or _accepts_between(g, x, entries):
        line = Line(*_ends(g, x, entries))
        if line == Line() and _periodic(g, x, entries):
            line = Line(
                low - 0.5 * (2 * math.pi - (high - low)), low + 2 * math.pi - 0.5 * (2 * math.pi - (high - low))
            )
        yield line
        if not whole:
            atoms = _atoms(x)
            if atoms:
                yield line._replace(atoms=atoms)
                ends = (low if low in atoms else line.low, high if high in atoms else line.high)
                if ends != (line.low, line.high):
                    yield Line(*ends, atoms=atoms)
            yield from _grey(x)


def _accepts_between(g: Callable[[Tensor, Tensor], Tensor], x: Tensor, entries: Tensor) -> bool:
    values = (x[0, entries] + 0.37) if bool((x[0] < x.max()).any()) else x[0, entries] - 0.37
    return bool(g(entries, values).isfinite().all())


def _periodic(g: Callable[[Tensor, Tensor], Tensor], x: Tensor, entries: Tensor) -> bool:
    """Whether the entries are angles."""
    if float(x.max() - x.min()) > 2 * math.pi + 1e-6:
        return False
    values = x[0, entries] + torch.tensor([[0.0], [0.3], [1.7]], dtype=x.dtype, device=x.device)
    one, other = (g(entries.expand_as(values).flatten(), (values + turn).flatten()) for turn in (0.0, 2 * math.pi))
    return bool((one - other).abs().max() <= 1e-4) and bool((one != one[0]).any())


def _ends(g: Callable[[Tensor, Tensor], Tensor], x: Tensor, entries: Tensor) -> tuple[float, float]:
    """Where the support ends, if it ends at one place for the entries that are looked at."""
    low, high = float(x.min()), float(x.max())
    spread = max(high - low, 1e-3 * max(abs(low), abs(high)), 1e-6)
    found = []
    for inner, sign in ((low, -1.0), (high, 1.0)):
        beyond = [inner + sign * spread * step for step in (1.0, 1e2)]
        accepted = [bool(g(entries, torch.full_like(x[0, entries], v)).isfinite().any()) for v in beyond]
        found.append(sign * torch.inf if any(accepted) else _end(g, x, entries, beyond[0], sign))
    return found[0], found[1]


def _end(g: Callable[[Tensor, Tensor], Tensor], x: Tensor, entries: Tensor, outer: float, sign: float) -> float:
    inside = x[:, entries].amin(0) if sign < 0 else x[:, entries].amax(0)
    # A data point at the very end may be refused there: from a value of its own inward.
    middle = 0.5 * (x[:, entries].amin(0) + x[:, entries].amax(0))
    inside = torch.where(g(entries, inside).isfinite(), inside, middle)
    outside = torch.full_like(inside, outer)
    for _ in range(HALVINGS):
        half = 0.5 * (inside + outside)
        accepted = g(entries, half).isfinite()
        inside, outside = torch.where(accepted, half, inside), torch.where(accepted, outside, half)
    end = float(outside[0])
    scale = max(1.0, abs(end))
    if float((outside - end).abs().max()) > 1e-6 * scale:
        return sign * torch.inf  # every entry has its own, as where log p underflows
    return round(end, 6) + 0.0 if abs(round(end, 6) - end) <= 1e-6 * scale else end


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
    step = float(values.diff().min())
    place = (values - values[0]) / step
    if float((place - place.round()).abs().max()) > 1e-3:
        return
    low, high = float(values[0]), float(values[-1])
    step = (high - low) / round((high - low) / step)
    # Levels that no data point has may be missing at the ends, or in between.
    for first, end in dict.fromkeys([(low, high), (0.0, 1.0), (-1.0, 1.0)]):
        for levels in sorted({round((end - first) / step), 255, 256, 15, 16} - {0}):
            if first <= low + 1e-6 and end >= high - 1e-6 and _fits(values, first, (end - first) / levels):
                yield Lattice(first, (end - first) / levels, levels)
    yield Lattice(low, step, None, True)


def _fits(values: Tensor, first: float, step: float) -> bool:
    place = (values - first) / step
    return float((place - place.round()).abs().max()) < 1e-3
