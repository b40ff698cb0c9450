"""Does a log p(x | z) that is a sum over the entries of x normalize? Whatever each entry's density is."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from vem.external.borrowed import prior_draws
from vem.external.entries import MOST_NUMBERS, Integrals, LogP, OneEntry, TooMany, integrals
from vem.external.supports import Lattice, Line, supports
from vem.external.terms import terms

ROWS = 20  # that identify the terms of a sum
DIRECTIONS = 4  # random ones, along which it is verified that entries do not depend on one another
SLACK = 0.01  # nats a data point
KNOWN = 16  # data whose values show where mass lies
CONFIRMED = 4  # entries that are looked at again before a mass is called missing
FINER = 64  # how much closer together
NEEDED = 400  # values of an entry that an integral takes, about
MARGIN = 4  # times what is allowed within which nothing is said against it
RELIABLE = 1.0  # nats of stated error beyond which nothing is concluded
NOT_FREE = "as of one-hot codes"


class Normalization(NamedTuple):
    """Whether p(x | z) sums or integrates to one over x, at one z."""

    passed: bool | None  # None: not decided by a cheap test
    detail: str
    excess: float | None  # log ∫ p(x | z) dx in nats: by so much log p(x) comes out too large


def entrywise(log_p: LogP, x: Tensor, eps: float) -> Normalization:
    """Σ or ∫ p(x | z) dx from one-dimensional ones; x [N, D] float64 are the data, eps the rounding of log p.

    log ∫ p dx = log p(x⁰) + Σ_i log ∫ exp(g_i(v)) dv with g_i(v) = log p(x⁰ with x_i = v) − log p(x⁰), where
    log p is a sum over entries; that it is, is verified along random directions. The supports are those that the
    data and the density allow: whole numbers, grey levels, real, positive, between two ends, with atoms. One that
    gives one will do. Where none does, −log p, means over entries, and a missing log x! are tried by name.
    """
    said = dependent(x)
    if said is not None:
        return untold(said)
    try:
        return _verdict(log_p, x, eps)
    except TooMany as error:
        return untold(str(error))


def dependent(x: Tensor) -> str | None:
    """Why the entries of these data cannot vary one at a time: one-hot, shares, counts of a fixed total."""
    if bool((x < 0).any()) or x.shape[1] < 2:
        return None
    for grouped in _groups(x):
        sums = grouped.sum(-1)
        alike = float(sums.max() - sums.min()) <= 1e-5 * float(sums.max())
        # Data that are all the same sum to the same by chance.
        if sums.numel() > 1 and float(sums.min()) > 0 and alike and bool((grouped != grouped[:1, :1]).any()):
            return f"{grouped.shape[-1]} entries of x sum to {float(sums.max()):.4g} in every datum, {NOT_FREE}"
    return None


def _groups(x: Tensor) -> Iterator[Tensor]:
    """The entries of x [N, D] in groups [N, ·, size] of every size: neighbours, and those a constant apart."""
    for size in [d for d in range(2, x.shape[1] + 1) if x.shape[1] % d == 0]:
        yield from (x.view(len(x), -1, size), x.view(len(x), size, -1).mT)


def _verdict(log_p: LogP, x: Tensor, eps: float) -> Normalization:
    value = log_p(x)
    value = torch.where(value.isfinite(), value, -torch.inf)
    if not bool(value.isfinite().any()):
        return untold("every datum is impossible at a z from the prior")
    base = x[value.argmax()]
    mixed = torch.where(signs(ROWS, x) > 0, x[torch.arange(ROWS, device=x.device) % len(x)], base)
    summed = terms(log_p, mixed, eps)
    if summed is None and NEEDED * x.shape[1] ** 2 > MOST_NUMBERS:
        return untold(f"it would take {NEEDED * x.shape[1]} evaluations of log p(x | z)")
    one = OneEntry(log_p, base, summed)
    known = x[torch.cat([value.argmax()[None], torch.arange(min(KNOWN, len(x)), device=x.device)]).unique()]
    off = _dependence(one, x, eps)
    if off is not None:
        return untold(off)
    one = _uphill(one, known)
    size = len(one.base)
    rounding = 2 * eps * (abs(one.here) + 1) * size
    tolerance = min(1e-4, 0.002 / size)
    tried: list[tuple[Line | Lattice, Integrals]] = []
    for support in supports(one.at(one.base), x):  # what it tries must not mark what lies beyond as refused
        found = integrals(one, support, known, 1.0, tolerance)
        allowed = SLACK + rounding + found.error
        if abs(found.total) <= allowed < RELIABLE:
            said = f"entry by entry, over x {support}: p(x | z) comes to one within {allowed:.2g} nats a datum."
            return Normalization(True, said, found.total)
        tried.append((support, found))
    if not tried:
        return untold("log p(x | z) is no density over what the data may be")
    if _multinomial(one, known):
        return untold(f"log p(x | z) is linear in the entries of x, {NOT_FREE}, or of words in a text")
    named = _named(one, [support for support, _ in tried], known, tolerance, rounding)
    support, found = tried[0]
    near = MARGIN * (SLACK + rounding) + 1e-4 * size
    if any(abs(f.total) <= near + MARGIN * f.error for _, f in tried if not f.open_end):
        return untold(f"its sum or integral lies within {near:.2g} nats of one, or its error does")
    if named is None and any(f.error + rounding > RELIABLE or f.open_end for _, f in tried):
        return untold("its sums or integrals over one entry do not converge")
    if named is None and found.total < 0 and not _confirmed(one, found, support, known, tolerance):
        return untold("p(x | z) has peaks too narrow for a quadrature")
    unnamed = "a term or a constant is missing, or it is another function than a log-density"
    return failed(found.total, f"over x {support}", named or unnamed)


def signs(num: int, x: Tensor) -> Tensor:
    """Random ±1 [num, D] for data x [..., D]; the same at every call."""
    return prior_draws(num, x.shape[-1], x).sign()


def _dependence(one: OneEntry, x: Tensor, eps: float) -> str | None:
    """Whether changes of several entries at once add up; they are values of other data."""
    size = len(one.base)
    every = torch.arange(size, device=x.device)
    others = [x[n % len(x)] for n in range(1, DIRECTIONS + 1)]
    if len(x) < 2 or all(bool((other == one.base).all()) for other in others):
        whole = bool((x == x.round()).all())
        step = torch.ones_like(one.base) if whole else 0.1 * one.base.abs().clamp_min(0.1)
        others = [one.base + step] * DIRECTIONS
    for other, sign in zip(others, signs(DIRECTIONS, x), strict=True):
        value = torch.where(sign > 0, other, one.base)
        alone = torch.where(value != one.base, one(every, value), 0)
        moved = float(one.log_p(value[None])) - one.here
        expected = float(alone.sum())
        if not math.isfinite(expected) and not math.isfinite(moved):
            continue
        largest = max(abs(one.here), abs(moved), float(alone.abs().nan_to_num(posinf=0.0, neginf=0.0).max()))
        if not abs(moved - expected) <= SLACK + 2 * eps * largest * size + 1e-9 * size * largest:
            return "given z the entries of x depend on one another"
    return None


def _uphill(one: OneEntry, known: Tensor, sign: float = 1.0) -> OneEntry:
    """Around the likeliest (the least likely for ``sign`` −1) known value of each entry.

    There log p is smallest in size, and rounding costs least.
    """
    entry = torch.arange(len(one.base), device=known.device)
    value = sign * one(entry, known)
    value = torch.where(value.isfinite(), value, -torch.inf)
    best = value.argmax(0)
    base = torch.where(value[best, entry] > 0, known[best, entry], one.base)
    found = one.at(base)
    return found if math.isfinite(found.here) else one


def _multinomial(one: OneEntry, known: Tensor) -> bool:
    """Whether log p = Σ_i x_i l_i with Σ_i exp(l_i) = 1 over all entries or along groups of them."""
    if not bool(((known == known.round()) & (known >= 0)).all()):
        return False
    entry = torch.arange(len(one.base), device=known.device)
    zero, first, third = (one(entry, torch.full_like(one.base, v)) for v in (0.0, 1.0, 3.0))
    slope = first - zero
    if not bool(slope.isfinite().all()) or float(((third - zero) - 3 * slope).abs().max()) > 1e-3:
        return False
    return any(float((grouped.sum(-1) - 1).abs().max()) < 1e-2 for grouped in _groups(slope.exp()[None]))


def _named(
    one: OneEntry, tried: Sequence[Line | Lattice], known: Tensor, tolerance: float, rounding: float
) -> str | None:
    """The fault that, mended, makes it normalize."""
    size = len(one.base)
    down = _uphill(one, known, -1.0)
    for factor, fault in faults(size):
        side = down if factor < 0 else one
        for support in tried:
            found = integrals(side, support, known, factor, tolerance)
            if abs(found.total) <= SLACK + rounding * abs(factor) + found.error < RELIABLE:
                return fault
    for share in (1, size) if isinstance(tried[0], Lattice) and tried[0].step == 1.0 else ():

        def mended(rows: Tensor, share: int = share) -> Tensor:
            return share * one.log_p(rows) - torch.lgamma(rows + 1).sum(-1)

        found = integrals(OneEntry(mended, one.base), tried[0], known, 1.0, tolerance)
        if abs(found.total) <= SLACK + rounding * share:
            fault = "−log x! an entry is missing (torch's poisson_nll_loss leaves it out)"
            fault += f", and it is the mean over the {size} entries of x" if share > 1 else ""
            return f"{fault}. Add −torch.lgamma(x + 1)"
    return None


def _confirmed(one: OneEntry, found: Integrals, support: Line | Lattice, known: Tensor, tolerance: float) -> bool:
    """Whether no more mass is found where some of the entries are looked at between more closely spaced points."""
    if isinstance(support, Lattice) and support.last is not None and support.last <= KNOWN:
        return True
    size = len(one.base)
    some = torch.linspace(0, size - 1, min(CONFIRMED, size), device=known.device).long()
    rest = one.at(one.base)
    rest.only = some
    again = integrals(rest, support, known[:, some], 1.0, tolerance, FINER)
    return float((again.each - found.each[some]).abs().max()) < SLACK


def faults(size: int) -> Iterator[tuple[float, str]]:
    """Factors of log p with which a density of so many entries would normalize, and what is wrong then."""
    yield -1.0, "the sign is flipped: this is −log p(x | z), a loss. Negate it"
    if size > 1:
        yield float(size), f"it is the mean over the {size} entries of x. Take the sum"
        yield -float(size), f"it is a loss, −log p(x | z), and the mean over the {size} entries of x. Negate and sum"


def untold(why: str) -> Normalization:
    """Not decided by a cheap test, and why."""
    return Normalization(None, f"whether p(x | z) normalizes cannot be tested cheaply: {why.rstrip('.')}.", None)


def failed(excess: float, over: str, fault: str) -> Normalization:
    """It does not normalize over so-and-so, by how much, and the fault."""
    off = f"off by {excess:+.2f} nats a datum" if math.isfinite(excess) else "its sum or integral is infinite"
    return Normalization(False, f"p(x | z) does not normalize {over}, {off}: {fault}.", excess)
