"""Adaptive Gauss–Legendre cubature of exp(f) over boxes of one or two dimensions, many integrals in parallel.

Each integral is one log p(x) = log ∫ exp f(z) dz with f(z) = log p(x, z); tiles of all data are halved together.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

NODES = 8  # of the Gauss–Legendre rule, along each axis of a tile
MAX_LEVELS = 40  # halvings of a tile
MAX_TILES = 4096  # of one data point in one level; beyond, the data point ends with the error it has
NEGLIGIBLE = math.exp(-12)  # of tolerance · p(x): a tile whose mass stays below is not refined
SHARE = 1 / 64  # of the tolerance, that one tile may be wrong by
SMOOTH = 3.0  # nats that f may rise above a tile's nodes where the tile counts as resolved

# z [P, T, H], datum [T] → f [P, T] in float64, −∞ where z is impossible
Integrand = Callable[[Tensor, Tensor], Tensor]


class Tiles(NamedTuple):
    """T boxes, each with the integrand's numbers in it; float64."""

    datum: Tensor  # [T] which integral it belongs to
    low: Tensor  # [T, H]
    width: Tensor  # [T, H]
    log_mass: Tensor  # [T] log ∫ exp f over the box, by its nodes
    peak: Tensor  # [T] largest f at a node
    slack: Tensor  # [T] nats that f may rise above that between nodes

    def take(self, chosen: Tensor) -> Tiles:
        """The tiles that a mask [T] chooses."""
        return Tiles(*(field[chosen] for field in self))

    def mass(self, shift: Tensor) -> Tensor:
        """[T], over exp(shift [B])."""
        return (self.log_mass - shift[self.datum]).exp()

    def bound(self, shift: Tensor) -> Tensor:
        """What the mass can hardly exceed [T], over exp(shift [B])."""
        return (self.peak + self.slack - shift[self.datum]).exp() * self.width.prod(-1)


class Hint(NamedTuple):
    """A point where f is known: the tile around it is refined until it sees that."""

    where: Tensor  # [B, H]
    value: Tensor  # [B] f there; −∞ asks for nothing

    def unseen(self, tiles: Tiles) -> Tensor:
        """[T]: the point is inside, and the nodes know nothing so large."""
        offset = self.where[tiles.datum] - tiles.low
        inside = ((offset >= 0) & (offset < tiles.width)).all(-1)
        return inside & (tiles.peak < self.value[tiles.datum] - 1)


class Found(NamedTuple):
    """The integrals."""

    log_integral: Tensor  # [B]
    error: Tensor  # [B] of log_integral: what halving the tiles changed, and what tiles left alone can hold
    peak: Tensor  # [B] largest f that was seen
    tiles: Tiles  # the last tiles that lie near the peak


class _Sums:
    """Mass that is settled and its error, over exp(peak), for each data point; the peak rises as nodes find more."""

    def __init__(self, peak: Tensor) -> None:
        self.peak, self.mass, self.error = peak, torch.zeros_like(peak), torch.zeros_like(peak)

    def see(self, tiles: Tiles) -> None:
        """Take the largest f so far as the unit."""
        risen = self.peak.scatter_reduce(0, tiles.datum, tiles.peak, "amax")
        shrink = (self.peak - risen).exp()
        self.peak, self.mass, self.error = risen, self.mass * shrink, self.error * shrink

    def per_datum(self, values: Tensor, datum: Tensor) -> Tensor:
        """Values of tiles [T] summed over those of each data point: [B]."""
        return torch.zeros_like(self.peak).index_add(0, datum, values)

    def total(self, tiles: Tiles) -> Tensor:
        """The integral as far as it is known [B]."""
        return self.mass + self.per_datum(tiles.mass(self.peak), tiles.datum)


def refine(
    f: Integrand, tiles: Tiles, hint: Hint, *, tolerance: float, eps: float, max_points: int, near: float
) -> Found:
    """Halve tiles until halving changes the log of each integral by less than ``tolerance`` nats.

    ``tiles`` are the first ones. ``eps`` is the rounding of f, which no halving mends; at most ``max_points`` nodes
    are kept at once. ``Found.tiles`` are those with a node within ``near`` nats of the peak.
    """
    sums, shown = _Sums(hint.value), [tiles.take(torch.zeros_like(tiles.datum, dtype=torch.bool))]
    sums.see(tiles)
    for level in range(MAX_LEVELS):
        bound = tiles.bound(sums.peak)
        kept = (bound > NEGLIGIBLE * tolerance * sums.total(tiles)[tiles.datum]) | hint.unseen(tiles)
        sums.error += sums.per_datum(torch.where(kept, 0, bound), tiles.datum)
        parents = tiles.take(kept)
        if not len(parents.datum):
            break  # what was left open holds nothing
        children = halved(f, parents, max_points)
        sums.see(children)

        mass = children.mass(sums.peak).view(len(parents.datum), -1)  # [T, 2^H]
        change = (mass.sum(1) - parents.mass(sums.peak)).abs()
        settled = _settled(parents, children, change, sums, hint, tolerance, eps)
        # A data point that needs too many tiles ends here, with twice the last change: it did not converge.
        left = sums.per_datum((~settled).double(), parents.datum) * mass.shape[1]
        crowded = (left > MAX_TILES)[parents.datum]
        ended = ~settled & (crowded | (level == MAX_LEVELS - 1))
        sums.mass += sums.per_datum(torch.where(settled | ended, mass.sum(1), 0), parents.datum)
        sums.error += sums.per_datum(torch.where(settled, change, torch.where(ended, 2 * change, 0)), parents.datum)

        finished = (settled | ended).repeat_interleave(mass.shape[1])
        shown.append(children.take(finished & (children.peak >= sums.peak[children.datum] - near)))
        tiles = children.take(~finished)
        if not len(tiles.datum):
            break
    final = joined(shown)
    final = final.take(final.peak >= sums.peak[final.datum] - near)
    return Found(sums.peak + sums.mass.log(), sums.error / sums.mass, sums.peak, final)


def _settled(
    parents: Tiles, children: Tiles, change: Tensor, sums: _Sums, hint: Hint, tolerance: float, eps: float
) -> Tensor:
    """Which parents need no further halving [T]: it changed little, and nothing can hide between the nodes."""
    shape = (len(parents.datum), -1)
    total = sums.total(children)[parents.datum]
    # f carries a rounding of a few eps · |f| that halving cannot mend.
    rounding = eps * (128 + 8 * parents.peak.abs().nan_to_num(posinf=0.0)) * parents.mass(sums.peak)
    small = change <= (SHARE * tolerance * total).clamp_min(rounding)
    smooth = (children.slack <= SMOOTH).view(shape).all(1)
    blank = children.bound(sums.peak).view(shape).sum(1) <= NEGLIGIBLE * tolerance * total
    return small & (smooth | blank) & ~hint.unseen(children).view(shape).any(1)


def halved(f: Integrand, parents: Tiles, max_points: int) -> Tiles:
    """The 2^H halves of each tile [T · 2^H], those of one tile side by side."""
    size = parents.low.shape[1]
    corner = product(torch.arange(2, device=parents.low.device), size)
    width = (parents.width / 2).repeat_interleave(len(corner), 0)
    low = parents.low.repeat_interleave(len(corner), 0) + corner.repeat(len(parents.datum), 1) * width
    datum = parents.datum.repeat_interleave(len(corner))
    block = max(1, max_points // NODES**size)  # only the numbers of a tile outlive its block
    parts = zip(datum.split(block), low.split(block), width.split(block), strict=True)
    return joined([measured(f(points(at, w), d), d, at, w) for d, at, w in parts])


def points(low: Tensor, width: Tensor) -> Tensor:
    """The nodes of each tile, [NODES^H, T, H]; low, width [T, H]."""
    nodes, _ = _rule(low.device)
    return low + product(nodes, low.shape[1])[:, None] * width


def measured(f: Tensor, datum: Tensor, low: Tensor, width: Tensor) -> Tiles:
    """The numbers of tiles from f at their nodes, [NODES^H, T]."""
    nodes, weights = _rule(f.device)
    log_weight = product(weights, low.shape[1]).prod(-1).log()
    log_mass = torch.logsumexp(f + log_weight[:, None], 0) + width.log().sum(-1)
    return Tiles(datum, low, width, log_mass, f.amax(0), _slack(f, nodes, low.shape[1]))


def joined(parts: list[Tiles]) -> Tiles:
    """Several lots of tiles as one."""
    return Tiles(*(torch.cat(field) for field in zip(*parts, strict=True)))


def product(values: Tensor, size: int) -> Tensor:
    """Every combination of ``size`` values, [N^size, size]."""
    return torch.cartesian_prod(*[values] * size).reshape(-1, size)


def _slack(f: Tensor, nodes: Tensor, size: int) -> Tensor:
    """How far f may rise above its values at the nodes [T], from its second differences along each axis.

    A parabola lies at most 1/8 of its second difference above the better node; along a slanted ridge of two
    dimensions 1/4 per axis. Twice that is taken, for curvature that changes.
    """
    # An impossible z is a cliff of 100 nats here, to have second differences; a blank tile has none.
    lowest = torch.where(f == -torch.inf, torch.inf, f).amin(0)
    grid = torch.where(f == -torch.inf, lowest - 100, f).unflatten(0, (NODES,) * size)
    gaps = nodes.diff()
    slack = f.new_zeros(f.shape[1])
    for axis in range(size):
        slope = grid.movedim(axis, -1).diff() / gaps
        curvature = 2 * slope.diff() / (gaps[1:] + gaps[:-1])
        slack += 0.5 * gaps.max() ** 2 * curvature.abs().movedim(-1, 0).flatten(0, size - 1).amax(0)
    return slack.nan_to_num(nan=0.0)


def _rule(device: torch.device) -> tuple[Tensor, Tensor]:
    """Nodes and weights of Gauss–Legendre on the unit interval, float64."""
    nodes, weights = np.polynomial.legendre.leggauss(NODES)
    return torch.as_tensor((nodes + 1) / 2, device=device), torch.as_tensor(weights / 2, device=device)
