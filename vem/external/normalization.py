"""Does a log-likelihood of the user's own normalize? A cheap test where pixels are independent given z."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable
from typing import Any, Literal, cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from vem.errors import VemError
from vem.evaluation.elbo import spread
from vem.external.additive import DIRECTIONS, NOT_FREE, SLACK, Normalization, entrywise, failed, faults, signs, untold
from vem.external.borrowed import as_data, few, prior_draws
from vem.external.entries import LogP
from vem.external.raising import density_of
from vem.families.gaussian import LOG_2PI
from vem.models.modes import evaluating

MOST = 20_000  # decoder evaluations beyond which the test is not cheap
NUMBERS = 2**18  # entries of x evaluated at once
PLACES, SMALL = 3, 256  # z that are tried; entries of x beyond which one is
ROWS = 64  # data whose values are looked at
GENERIC = "a constant is missing"
FLAT = "does not depend on entry"


@torch.no_grad()
def check_likelihood(model: Any, x: Any, kind: Literal["binary", "real"] | None = None) -> Normalization:
    """log ∫ p(x | z) dx = 0? Tried at some z from the prior; x [N, *X].

    ``binary``: with l_i = log p(x_i = 1, rest | z) − log p(x_i = 0, rest | z) and independent pixels,
    log p(x | z) = Σ_i [x_i l_i − log(1 + e^{l_i})]; D + 1 evaluations for D pixels. ``real``: independent Gaussian
    pixels make log p quadratic in each x_i; second differences give 1/σ_i², first differences the mean m, and
    log p(m | z) = −½ Σ_i log 2πσ_i²; about 4 D evaluations. Entries of any other kind that are independent given z:
    :func:`vem.external.additive.entrywise`. Entries that depend on one another given z cannot be tested,
    and ``passed`` is None. ``kind=None``: binary if x is, and where that fails real numbers as well.
    A module is tested as a copy in float64, so that thousands of pixels can be told
    from rounding; where it cannot be copied, or does not compute in float64, in its own type.
    """
    x = as_data(x, model)
    is_binary = bool(((x == 0) | (x == 1)).all())
    if kind == "binary" and not is_binary:
        share = float(((x != 0) & (x != 1)).double().mean())
        return Normalization(
            False,
            f"{share:.0%} of the entries of x are neither 0 nor 1: over grey levels a Bernoulli does not integrate to "
            "one, and its nats are not those of a density. Binarize x.",
            None,
        )
    as_binary = kind == "binary" or (kind is None and is_binary)
    twin = _double(model, x[:1])
    found = None if twin is None else _tested(twin, x.cpu().double(), as_binary, kind)
    # Where float32 within that copy looks like pixels that depend on one another, its own type may tell.
    return _tested(model, x, as_binary, kind) if found is None or found.passed is None else found


@torch.no_grad()
def check_prior(model: Any, x: Tensor) -> Normalization:
    """log ∫ p(z) dz = 0? Where log p(z) is a sum over the dimensions of z; x [N, *X] says where the model lies."""
    rows = prior_draws(ROWS, model.latent_size, x).double()

    def log_p(z: Tensor) -> Tensor:
        return cast(Tensor, model.log_prior(z.to(x)[None])[0].double())

    rows = rows[log_p(rows).isfinite()]
    if not len(rows):
        return untold("log p(z) is −∞ at every z that was tried")
    eps = torch.finfo(x.dtype).eps
    return _attempt(entrywise, log_p, rows, eps)


def _double(model: Any, x: Tensor) -> Any:
    """A copy of a module that computes in float64 on the host; None where there is none. x [1, *X]."""
    if not isinstance(model, nn.Module):
        return None
    x = x.cpu().double()
    try:
        twin: Any = copy.deepcopy(model).double().cpu()
        with evaluating(twin):
            value = density_of(twin)(x, prior_draws(1, twin.latent_size, x)[None])
    except Exception:  # whatever a user's module raises here: it is tested as it is
        return None
    return twin if value.dtype == torch.float64 else None


def _tested(model: Any, x: Tensor, as_binary: bool, kind: str | None) -> Normalization:
    """At one z after the other: what fails at one fails."""
    zs = prior_draws(PLACES, model.latent_size, x)[: PLACES if x[0].numel() <= SMALL else 1]
    passed, open_ = None, None
    with evaluating(model):
        for z in zs:
            found = _at(_at_one_z(model, x, z[None]), x, as_binary, kind)
            if found.passed is False:
                return found
            passed, open_ = (found, open_) if found.passed else (passed, open_ or found)
    return passed or open_ or untold("there is no z to try")


def _at(log_p: LogP, x: Tensor, as_binary: bool, kind: str | None) -> Normalization:
    """The quick tests for Bernoulli and Gaussian entries; where they do not pass it, that for entries of any kind."""
    start, eps = x[0].flatten(), torch.finfo(x.dtype).eps
    cost = len(start) if as_binary else 4 * len(start)
    quick = untold(f"it would take {cost} evaluations of the decoder")
    if cost <= MOST:
        quick = _attempt(_binary if as_binary else _real, log_p, start, eps)
        if quick.passed is False and as_binary and kind is None:
            # A refusal of real x, such as that of torch's Bernoulli, leaves the verdict on binary x as it is.
            real = _attempt(_real, log_p, start, eps)
            if real.passed:
                return real._replace(detail=f"as a density over real x: {real.detail}")
    if quick.passed or (quick.passed is False and kind is not None and FLAT not in quick.detail):
        return quick
    if x.is_cuda and bool((x == x.round()).all()):
        return quick  # an index beyond the last one ends all work on the device
    rows = x[spread(ROWS, len(x)).to(x.device)].flatten(1).double()
    found = _attempt(entrywise, log_p, rows, eps)
    if found.passed is None:
        if quick.passed is False and FLAT not in quick.detail and not (as_binary and NOT_FREE in found.detail):
            return quick
        return found
    named = quick.passed is False and GENERIC not in quick.detail
    return quick if named and found.passed is False else found


def _attempt(test: Callable[[LogP, Tensor, float], Normalization], log_p: LogP, x: Tensor, eps: float) -> Normalization:
    try:
        return test(log_p, x, eps)
    except VemError:
        raise
    except Exception as error:  # a user's function may raise anything here
        return untold(f"log p(x | z) refuses an x that is not in the data ({error})")


def _at_one_z(model: Any, x: Tensor, z: Tensor) -> LogP:
    density = density_of(model)  # what it raises at an x off the data tells something of its support

    def log_p(flat: Tensor) -> Tensor:
        rows = flat.to(x).reshape(-1, *x.shape[1:])
        value = density(rows, z.expand(1, len(rows), -1))
        if tuple(value.shape) != (1, len(rows)):
            raise VemError(f"log_likelihood gives shape {list(value.shape)}: [S, B] = [1, {len(rows)}] was expected.")
        return value[0].double()

    return log_p


def _one_by_one(log_p: LogP, base: Tensor, values: Tensor) -> Tensor:
    """log p [D] with x_i replaced by values_i, for each i in turn; base, values [D]."""
    parts = []
    for index in torch.arange(len(base), device=base.device).split(max(1, NUMBERS // len(base))):
        rows = base.repeat(len(index), 1)
        rows[torch.arange(len(index), device=base.device), index] = values[index]
        parts.append(log_p(rows))
    return torch.cat(parts)


def _tolerance(value: Tensor, eps: float, size: int) -> float:
    """Nats: rounding of ``size`` differences to one and the same log p as large as ``value``, so that it adds up."""
    return SLACK + 2 * eps * float(value.abs().max()) * size


def _binary(log_p: LogP, x: Tensor, eps: float) -> Normalization:
    size, x = len(x), x.double()
    here = log_p(x[None])
    change = _one_by_one(log_p, x, 1 - x) - here
    if not bool(change.isfinite().all() & here.isfinite().all()):
        return untold("log p(x | z) is infinite for some x at a z from the prior")
    flipped = (signs(DIRECTIONS, x) > 0).double()
    moved = log_p((x - flipped).abs())
    tolerance = _tolerance(torch.cat([here, moved]), eps, size)
    if float((moved - here - flipped @ change).abs().max()) > tolerance:
        return untold("given z the pixels depend on one another, or on x in another way than a Bernoulli's")
    logits = (1 - 2 * x) * change

    def excess(factor: float) -> float:
        return float(factor * here - (x * factor * logits - F.softplus(factor * logits)).sum())

    return _verdict(excess, tolerance, size, "binary x: p(x | z) sums")


def _real(log_p: LogP, x: Tensor, eps: float) -> Normalization:
    size, x = len(x), x.double()
    step = torch.full_like(x, max(float(x.std()) if size > 1 else 1.0, 0.1))
    flat = torch.zeros_like(x, dtype=torch.bool)
    for _ in range(6):  # a step too short for this σ drowns in rounding; a quadratic allows any
        step = torch.where(flat, 10 * step, step)
        slope, curvature, here = _differences(log_p, x, step)
        flat = curvature.abs() * step.square() < 1e3 * eps * (1 + here.abs())
        if not bool(flat.any()):
            break
    if bool((flat & (slope.abs() * step < 1e3 * eps * (1 + here.abs()))).any()):
        pixels = few(flat.nonzero().flatten())
        return Normalization(False, f"log p(x | z) {FLAT} {pixels} of x: no density.", math.inf)
    sign = -float(curvature.sign().mean())
    if not bool(curvature.isfinite().all()) or abs(sign) != 1:
        return untold("log p(x | z) is not quadratic in every entry of x")
    mode, scale = x - slope / curvature, curvature.abs().rsqrt()
    # Once more around the mode, where log p is smallest in size and rounding costs least.
    slope, curvature, here = _differences(log_p, mode, scale * math.sqrt(size))
    mode, precision = mode - slope / curvature, curvature.abs()
    here = log_p(mode[None])
    reach = torch.tensor([1.0, 2.0] * (DIRECTIONS // 2), device=x.device, dtype=x.dtype)
    moved = log_p(mode + reach[:, None] * signs(DIRECTIONS, x) * precision.rsqrt())
    tolerance = _tolerance(torch.cat([here, moved]), eps, size)
    off = (moved - here + sign * 0.5 * size * reach.square()).abs()
    if not bool((off <= tolerance + 1e-3 * size * reach.square()).all()):
        return untold("log p(x | z) is no Gaussian with independent entries")

    def excess(factor: float) -> float:
        if factor * sign < 0:
            return math.inf
        return float(factor * here + 0.5 * (LOG_2PI - (abs(factor) * precision).log()).sum())

    if sign > 0 and abs(excess(1.0)) > tolerance:
        found, constant = excess(1.0), 0.5 * size * LOG_2PI
        if abs(found - constant) <= tolerance:
            return failed(found, "over x", f"−½ log 2π an entry is missing, {constant:.2f} nats in all")
        if abs(float(here)) <= tolerance:
            fault = "−½ log 2πσ² an entry is missing: a squared error was taken for a log-density. As it stands σ is "
            return failed(found, "over x", f"{fault}{float(precision.rsqrt().median()):.3g}; add {-found:.2f} nats")
    return _verdict(excess, tolerance, size, "real x: ∫ p(x | z) dx comes")


def _differences(log_p: LogP, x: Tensor, step: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """First and second derivatives [D] of log p in each entry by central differences, and log p [1]."""
    here = log_p(x[None])
    up, down = _one_by_one(log_p, x, x + step), _one_by_one(log_p, x, x - step)
    return (up - down) / (2 * step), (up - 2 * here + down) / step.square(), here


def _verdict(excess: Callable[[float], float], tolerance: float, size: int, words: str) -> Normalization:
    """Does it normalize, and if not, would −log p, or the sum in the place of a mean over entries?"""
    found = excess(1.0)
    if abs(found) <= tolerance:
        return Normalization(True, f"{words} to one within {tolerance:.2g} nats a datum.", found)
    for factor, fault in faults(size):
        if abs(excess(factor)) <= SLACK + (tolerance - SLACK) * abs(factor):
            return failed(found, "over x", fault)
    return failed(found, "over x", f"{GENERIC}, or it is another function than a log-density")
