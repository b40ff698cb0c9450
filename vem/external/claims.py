"""Do the draws of a distribution from elsewhere have the density that it claims? What cheap tests can tell."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

from vem.errors import VemError
from vem.external.borrowed import noise_of
from vem.external.posteriors import DistributionPosterior, TransportedPosterior, support_of

DRAWS = 2000  # for each of the data that are looked at
TIED = 0.01  # share of the draws that one number may have
OFF = 0.25  # nats, or of a mean that is to be 0
ERRORS = 6.0  # standard errors
AT_ONCE = 8, 64  # draws at which a Jacobian is taken, most dimensions
NEIGHBOURS = 10  # of the local width of the draws


def check_claims(q: Any, name: str, x: Tensor) -> None:
    """Compare draws z ~ q with log q(z) for x [B, *X]; Gaussians of vem's own are not looked at.

    A flow over a Gaussian: its log|det dz/dε| is that of its derivatives. Any other distribution: continuous
    draws do not share a number; a density that comes with the draws is that of log_prob; over all real z
    E_q[1 + (z_h − m_h) ∂_h log q(z)] = 0, by parts, for every h; for H ≤ 2 also E_q[r(z) / q(z)] = 1, r a mixture of
    Gaussians around other draws. VemError if they do not agree; by how much.
    """
    fault = next(_faults(q, x), None)
    if fault is not None:
        kind = type(getattr(q, "q", getattr(q, "flow", q))).__name__
        raise VemError(
            f"encoder={name} gives a {kind} whose draws do not have the density that it claims: {fault}. ELBO and gaps "
            "would be off by as much: mend its sampler or its log_prob."
        )


def _faults(q: Any, x: Tensor) -> Iterator[str]:
    if isinstance(q, TransportedPosterior):
        yield from _jacobian(q, x)
    elif isinstance(q, DistributionPosterior):
        noise = noise_of(q, DRAWS, x, "claims")
        z, log_q, _ = (part.detach() for part in q.draws(noise))
        yield from _ties(z)
        yield from _together(q, noise)
        support: Any = support_of(q.q)
        while hasattr(support, "base_constraint"):
            support = support.base_constraint
        if type(support).__name__ in ("_Real", "_RealVector"):  # z has no end that its density does not fall off to
            yield from _by_parts(q, z)
            if z.shape[-1] <= 2:
                yield from _total(z, log_q)


def _ties(z: Tensor) -> Iterator[str]:
    ordered = z.sort(0).values
    equal = (ordered[1:] == ordered[:-1]).double().mean(0)  # [B, H]
    if float(equal.max()) > TIED:
        b, h = divmod(int(equal.argmax()), z.shape[-1])
        values, counts = z[:, b, h].unique(return_counts=True)
        yield (
            f"{float(equal.max()):.0%} of {len(z)} draws share coordinate {h} with another (such as "
            f"{float(values[counts.argmax()]):.4g}, {int(counts.max())} times), as where draws are clamped to an "
            "edge, and a density has no such points"
        )


def _together(q: DistributionPosterior, noise: Tensor) -> Iterator[str]:
    both = getattr(q.q, "rsample_and_log_prob", None)
    if not callable(both):
        return
    with torch.no_grad():
        z, log_q = both(noise.shape[:1])
        other = q.q.log_prob(z)
    off = (log_q - other).detach().abs()
    bad = ~(off <= OFF + 0.01 * log_q.detach().abs())
    if float(bad.double().mean()) > TIED:
        most = off.nan_to_num(nan=math.inf).max()
        share = f"{float(bad.double().mean()):.0%} of {bad.numel()} draws"
        yield (
            f"the log-density that comes with the draws and log_prob there differ for {share}, by up to "
            f"{float(most):.3g} nats"
        )


def _by_parts(q: DistributionPosterior, z: Tensor) -> Iterator[str]:
    with torch.enable_grad():
        leaf = z.detach().to(q.like).requires_grad_()
        try:
            value = q.q.log_prob(leaf)
            (slope,) = torch.autograd.grad(value.sum(), leaf)
        except Exception:  # a log_prob that torch cannot differentiate is not tested this way
            return
    z, slope = z.double(), slope.double()
    term = 1 + (z - z.median(0).values) * slope
    if not bool(term.isfinite().all()):
        return
    mean, error = term.mean(0), term.std(0) / len(z) ** 0.5
    bad = (mean.abs() > OFF) & (mean.abs() > ERRORS * error)
    if bool(bad.any()):
        b, h = (int(i) for i in bad.nonzero()[0])
        side = "narrower" if mean[b, h] > 0 else "wider"
        yield (
            f"E_q[1 + (z − m) ∂ log q] is {float(mean[b, h]):.3g} ± {float(error[b, h]):.2g} for "
            f"coordinate {h} and must be 0: they are {side} than its log_prob says"
        )


def _total(z: Tensor, log_q: Tensor) -> Iterator[str]:
    """E_q[r / q] = 1 for a mixture r of Gaussians around a quarter of the draws, each as wide as its neighbourhood."""
    for b in range(z.shape[1]):
        at, tested = z[: len(z) // 4, b].double(), z[len(z) // 4 :, b].double()
        width = torch.cdist(at, at).kthvalue(NEIGHBOURS + 1, dim=1).values.clamp_min(1e-30)
        apart = torch.cdist(tested, at) / width
        log_r = (-0.5 * apart.square() - z.shape[-1] * (width.log() + 0.5 * math.log(2 * math.pi))).logsumexp(1)
        weight = (log_r - math.log(len(at)) - log_q[len(z) // 4 :, b].double()).exp()
        mean, error = float(weight.mean()), float(weight.std()) / len(weight) ** 0.5
        # An outlier's wide kernel reaches where no draw is: only a weight that is well known is judged.
        if math.isfinite(mean) and error < 0.1 * mean and abs(math.log(mean)) > OFF:
            yield (
                f"its log_prob is {math.log(mean):+.2f} ± {error / mean:.2g} nats too low to be that of "
                "the draws (E_q[r / q] = 1 for any density r)"
            )


def _jacobian(q: TransportedPosterior, x: Tensor) -> Iterator[str]:
    size = q.mean().shape[-1]
    if size > AT_ONCE[1]:
        return
    eps = noise_of(q, AT_ONCE[0], x, "claims")
    with torch.enable_grad():
        leaf = eps.detach().requires_grad_()
        try:
            z, log_det = q.transport(leaf)
            rows = [torch.autograd.grad(z[..., h].sum(), leaf, retain_graph=True)[0] for h in range(size)]
        except RuntimeError:
            return  # no graph from ε to z
    truth = torch.linalg.slogdet(torch.stack(rows, -2).double()).logabsdet
    off = (log_det.detach().double() - truth).abs()
    known = truth.isfinite() & off.isfinite()
    bad = known & (off > OFF + 0.01 * truth.abs())
    if 2 * int(bad.sum()) > max(1, int(known.sum())):
        yield (
            f"log|det dz/dε| of its transforms is off by {float(off[known].median()):.3g} nats (median of "
            f"{int(known.sum())} draws) from that of their derivatives"
        )
