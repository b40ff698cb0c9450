"""∫ p(x_i | z) dx_i, or Σ, one entry at a time, of a log p(x | z) that is a sum over the entries of x."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from vem.evaluation.bounds import cubature
from vem.evaluation.bounds.cubature import Hint, Tiles
from vem.external.supports import Lattice, Line
from vem.external.terms import Terms

LogP = Callable[[Tensor], Tensor]  # x [N, D] → log p(x | z) [N] at one z, float64

NUMBERS = 2**18  # entries of x evaluated at once
MOST_NUMBERS = 2**27  # entries of x evaluated in all: some seconds
MOST_VALUES = 5000  # of one entry in one integral
MOST_REFUSED = 60  # values of an entry that are refused, searched for one by one
DECADES = 6  # the scale of a density is searched this far to either side of the data's
PASSES = 3  # of that search, each from the best point of the one before
REACH = 50.0  # v = c + s sinh(u), |u| below this: 10²¹ scales
# Tiles are narrow where most densities lie.
EDGES = (0.0, 0.7, 1.4, 2.1, 3.0, 4.0, 6.0, 9.0, 14.0, 22.0, 34.0, REACH)
OFF = 0.0931  # a kink at the mode is not to lie next to the edge of a tile, which no node sees
LARGEST = 32  # counts below 2 to this power
KEY = LARGEST + 2  # bits of a count in the number that stands for a pair of entry and count
DEEP = 1e8  # nats below the best known point
OPEN_END = 12.0  # nats below the integral at which the integrand must lie at the end of what is seen


class TooMany(Exception):
    """More evaluations than a cheap test may take."""


class Crowded(Exception):
    """One integral takes too many values to be one that converges."""


class OneEntry:
    """g_i(v) = log p(x with x_i = v) − log p(x) around a base x [D]; −∞ where it is NaN or is refused.

    What lies beyond a value that is refused is refused too: one that raises is not asked a thousand times.
    """

    def __init__(self, log_p: LogP, base: Tensor, terms: Terms | None = None) -> None:
        self.log_p, self.base, self.terms = log_p, base, terms
        self.of_base = None if terms is None else terms(base[None])[0]
        self.here = float(log_p(base[None]))
        self.numbers, self.refused = 0, 0
        self.low, self.high = torch.full_like(base, -torch.inf), torch.full_like(base, torch.inf)
        self.values = math.inf  # that may still be asked for
        self.only: Tensor | None = None  # entries that numbers of entries stand for

    def at(self, base: Tensor) -> OneEntry:
        """The same around another base, with what is left of the budget."""
        other = OneEntry(self.log_p, base, self.terms)
        other.numbers, other.refused = self.numbers, self.refused
        other.low, other.high = self.low.clone(), self.high.clone()
        return other

    def __call__(self, entry: Tensor, value: Tensor, factor: float = 1.0) -> Tensor:
        """factor · g of entries at values, of any shape together; what is impossible is so whatever the factor."""
        shape = value.shape
        entry, value = entry.expand(shape).flatten(), value.flatten()
        self.values -= len(value)
        if self.values < 0:
            raise Crowded
        entry = entry if self.only is None else self.only[entry]
        inside = ((value > self.low[entry]) & (value < self.high[entry])).nonzero()[:, 0]
        g = torch.full_like(value, -torch.inf)
        found = self._all_at_once(entry[inside], value[inside])
        if found is None:
            some = inside.split(max(1, NUMBERS // len(self.base)))
            found = torch.cat([self._of(entry[index], value[index]) for index in some]) - self.here
        g[inside] = found
        return torch.where(g.isfinite(), factor * g, -torch.inf).view(shape)

    def _all_at_once(self, entry: Tensor, value: Tensor) -> Tensor | None:
        """The same from as few rows as one entry has values, where the terms are known and nothing is refused."""
        if self.terms is None or self.of_base is None or not len(entry):
            return None
        order = entry.argsort(stable=True)
        ahead = torch.searchsorted(entry[order], torch.arange(len(self.base), device=entry.device))
        row = torch.empty_like(entry)
        row[order] = torch.arange(len(entry), device=entry.device) - ahead[entry[order]]
        rows = self.base.repeat(int(row.max()) + 1, 1)
        rows[row, entry] = value
        try:
            parts = [self.terms(part) for part in rows.split(max(1, NUMBERS // len(self.base)))]
        except Exception:  # some value is refused: which one is found one by one
            return None
        self._spend(rows)
        return (torch.cat(parts) - self.of_base)[row, entry]

    def _spend(self, rows: Tensor) -> None:
        self.numbers += rows.numel()
        if self.numbers > MOST_NUMBERS:
            raise TooMany(f"it would take more than {MOST_NUMBERS // len(self.base)} evaluations of log p(x | z)")

    def _of(self, entry: Tensor, value: Tensor) -> Tensor:
        out = torch.full_like(value, -torch.inf)
        inside = ((value > self.low[entry]) & (value < self.high[entry])).nonzero()[:, 0]
        entry, value = entry[inside], value[inside]
        if not len(inside):
            return out
        rows = self.base.repeat(len(inside), 1)
        rows[torch.arange(len(rows), device=rows.device), entry] = value
        self._spend(rows)
        try:
            out[inside] = self.log_p(rows)
        except Exception as error:  # whatever the user's function makes of an x that is not in the data
            if len(inside) == 1:
                self.refused += 1
                if self.refused > MOST_REFUSED * (1 + len(self.base)):
                    raise TooMany(f"log p(x | z) refuses an x that is not in the data ({error})") from error
                above = value > self.base[entry]
                self.high[entry] = torch.where(above, value, self.high[entry])
                self.low[entry] = torch.where(above, self.low[entry], value)
                return out
            # Entry by entry, from the base outward, so that the nearest that is refused is found first.
            order = (value - self.base[entry]).abs().argsort()
            order = order[entry[order].argsort(stable=True)]
            for half in order.chunk(2):
                out[inside[half]] = self._of(entry[half], value[half])
        return out


class Integrals(NamedTuple):
    """What came of the entries; float64."""

    total: float  # log ∫ p(x | z)^factor dx, with the masses of atoms; ∞ where it does not converge
    error: float  # of total
    each: Tensor  # [D] log ∫ exp(factor · g_i), with the masses of atoms
    open_end: bool  # an integrand is not small where the range ends, and it cannot be told whether it converges


def integrals(
    one: OneEntry, support: Line | Lattice, data: Tensor, factor: float, tolerance: float, finer: int = 1
) -> Integrals:
    """log ∫ exp(factor · log p(x | z)) dx over this support; data [N, D] are where mass is looked for first.

    ``finer``: into how many the first tiles are cut.
    """
    found = _sums if isinstance(support, Lattice) else _over_the_line
    one.values = MOST_VALUES * finer * data.shape[1]
    try:
        return found(one, support, data, factor, tolerance, finer)  # type: ignore[arg-type]  # each takes its own kind
    except Crowded:
        return Integrals(math.inf, math.inf, torch.zeros_like(data[0]), True)
    finally:
        one.values = math.inf


# --- real numbers


def _over_the_line(
    one: OneEntry, support: Line, data: Tensor, factor: float, tolerance: float, finer: int
) -> Integrals:
    size, device = data.shape[1], one.base.device

    def log_density(entry: Tensor, w: Tensor) -> Tensor:
        v, slope = support.to_value(w)
        return one(entry, v, factor) + slope

    centre, scale = located(log_density, support.to_line(data), size)

    def integrand(z: Tensor, datum: Tensor) -> Tensor:
        u = z[..., 0]
        w = centre[datum] + scale[datum] * u.sinh()
        f = log_density(datum, w) + scale[datum].log() + u.cosh().log()
        return torch.where(f.isnan() | (f == torch.inf), -torch.inf, f)

    half = torch.tensor(EDGES, dtype=torch.float64, device=device)
    edges = torch.cat([-half.flip(0), half[1:]]) + OFF
    every = torch.arange(size, device=device)
    zero = torch.zeros(size, 1, dtype=torch.float64, device=device)
    hint = Hint(zero, integrand(zero[None], every)[0])
    found = _refined(integrand, cut(edges, finer), hint, tolerance)
    ends = torch.tensor([-REACH, -REACH / 2, REACH / 2, REACH], dtype=torch.float64, device=device)
    f = integrand(ends[:, None, None].expand(-1, size, 1), every)
    rising = torch.maximum(f[0] - f[1], f[3] - f[2])
    masses = [one(every, torch.full_like(f[0], atom), factor) for atom in support.atoms]
    return _joined(one, found, torch.maximum(f[0], f[3]), rising, factor, masses)


def located(log_density: Callable[[Tensor, Tensor], Tensor], data: Tensor, size: int) -> tuple[Tensor, Tensor]:
    """A point near the mode of each entry [D], and the distance [D] over which the log-density falls by a nat.

    From the likeliest of the data [N, D] outward by powers of ten, again from the best point of that.
    """
    entry = torch.arange(size, device=data.device)
    spread = (data.amax(0) - data.amin(0)).clamp_min(1e-3 * (1 + data.abs().amax(0)))
    power = torch.logspace(-DECADES, DECADES, 2 * DECADES + 1, dtype=data.dtype, device=data.device)
    offset = torch.cat([-power.flip(0), power])[:, None] * spread
    points, scale = data, spread
    for _ in range(PASSES):
        value = log_density(entry, points)
        best = value.argmax(0)
        centre, top = points[best, entry], value[best, entry]
        points = torch.cat([centre + offset, centre[None]])
    fallen = torch.where(log_density(entry, centre + offset) < top - 1, offset.abs(), torch.inf).amin(0)
    return centre, torch.where(fallen.isfinite(), fallen, scale * 10.0**DECADES)


# --- lattices


def _sums(one: OneEntry, support: Lattice, data: Tensor, factor: float, tolerance: float, finer: int) -> Integrals:
    """Σ_k as the integral of the function that is linear between the terms, which tiles of width one give exactly."""
    size, device = data.shape[1], one.base.device
    last = 2.0**LARGEST if support.last is None else support.last

    def term(entry: Tensor, k: Tensor) -> Tensor:
        inside = (k >= (-last if support.both_ways else 0)) & (k <= last)
        g = torch.full_like(k, -torch.inf)
        g[inside] = one(entry.expand_as(k)[inside], support.first + support.step * k[inside], factor)
        return g

    def integrand(z: Tensor, datum: Tensor) -> Tensor:
        k = z[..., 0]
        low, entry = k.floor(), datum.expand_as(k)
        asked = (entry << KEY) + torch.stack([low, low + 1]).long() + (1 << KEY - 1)
        keys, place = asked.unique(return_inverse=True)  # nodes that lie close together share their terms
        below, above = term(keys >> KEY, (keys & (1 << KEY) - 1).double() - (1 << KEY - 1))[place]
        share = k - low
        return torch.logaddexp(below + torch.log1p(-share), above + share.log())

    power = 2.0 ** torch.arange(LARGEST + 1, dtype=torch.float64, device=device)
    up = torch.cat([power.new_tensor([-1.0]), (power - 1).clamp_max(last + 1)])
    if support.both_ways:
        up = torch.cat([-up.flip(0), up])
    edges = up.unique()
    every = torch.arange(size, device=device)
    known = ((data - support.first) / support.step).round().clamp(-last if support.both_ways else 0, last)
    value = term(every, known)
    best = value.argmax(0)
    hint = Hint(known[best, every][:, None], value[best, every])
    found = _refined(integrand, cut(edges, finer), hint, tolerance)
    if support.last is not None:
        nothing = torch.full_like(found.log_integral, -torch.inf)
        return _joined(one, found, nothing, nothing, factor)
    far = torch.tensor([last / 4, last - 2], dtype=torch.float64, device=device)
    f = integrand(far[:, None, None].expand(-1, size, 1), every) + far[:, None].log()
    return _joined(one, found, f[1], f[1] - f[0], factor)


# --- both


def cut(edges: Tensor, parts: int) -> Tensor:
    """Each tile cut into so many."""
    share = torch.arange(parts, dtype=edges.dtype, device=edges.device) / parts
    return torch.cat([(edges[:-1, None] + edges.diff()[:, None] * share).flatten(), edges[-1:]])


def _refined(integrand: cubature.Integrand, edges: Tensor, hint: Hint, tolerance: float) -> cubature.Found:
    """The integral of every entry over the tiles between these edges."""
    size = len(hint.value)
    # Curvature a thousand scales away, where nothing is, asks for tiles without end: what is lower is all the same.
    floor = hint.value - DEEP

    def f(z: Tensor, datum: Tensor) -> Tensor:
        value = integrand(z, datum)
        return torch.where(value == -torch.inf, value, torch.maximum(value, floor[datum]))

    low, width = edges[:-1, None], edges.diff()[:, None]
    every = torch.arange(size, device=edges.device)
    datum = every.repeat_interleave(len(low))
    low, width = low.repeat(size, 1), width.repeat(size, 1)
    tiles: Tiles = cubature.measured(f(cubature.points(low, width), datum), datum, low, width)
    eps = torch.finfo(torch.float64).eps
    return cubature.refine(f, tiles, hint, tolerance=tolerance, eps=eps, max_points=NUMBERS, near=0.0)


def _joined(
    one: OneEntry, found: cubature.Found, end: Tensor, rising: Tensor, factor: float, masses: Sequence[Tensor] = ()
) -> Integrals:
    """The entries together; where an integrand has the height ``end`` at the end of its range, and rises there."""
    high = end - found.log_integral > -OPEN_END
    each = torch.stack([found.log_integral, *masses]).logsumexp(0)
    if bool((high & (rising > -1e-3)).any()):
        return Integrals(math.inf, 0.0, each, False)
    total, error = factor * one.here + float(each.sum()), float(found.error.sum())
    return Integrals(total, error, each, bool(high.any()) or not math.isfinite(total + error))
