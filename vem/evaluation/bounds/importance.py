"""log p(x) by weighting draws: the importance-weighted bound, and naive Monte Carlo."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor

from vem.contracts import GenerativeModel, LogMarginal, Posterior
from vem.errors import VemError, at_least
from vem.evaluation.elbo import draws_of_prior
from vem.evaluation.measured import ESS, MC_VARIANCE
from vem.families.gaussian import uniform_log_weight
from vem.models.modes import evaluating
from vem.noise import fill

# Floats of x or z that the decoder sees at once. Its layers and the likelihood make some ten arrays of that size,
# so this is about 50 MiB in float32; larger blocks leave the cache and are slower (three times at 2^24).
MAX_FLOATS = 2**20

# (number of draws, generator) → z [S, B, H] and log p(z) − log q(z) [S, B]
Draw = Callable[[int], tuple[Tensor, Tensor]]


class LogMeanExp:
    """log (1/K) Σ_k w_k for each data point from log w [S, B], chunk by chunk, any K, in float64.

    Keeps Σ w and Σ w² over exp of the running maximum. With w̄ the mean weight:

    - effective sample size ESS = (Σ w)² / Σ w² (Kong, 1992), at most K;
    - Var[log w̄] ≈ Var[w] / (K w̄²) = (K / ESS − 1) / (K − 1), the delta method with the unbiased variance of w.
      It is too small where ESS is small: the weights that matter may not have been drawn.

    >>> total = LogMeanExp(1, "cpu")
    >>> total.add(torch.tensor([[0.0], [0.0]])); total.add(torch.tensor([[-torch.inf], [-torch.inf]]))
    >>> round(total.log_mean().exp().item(), 12), round(total.ess().item(), 12)
    (0.5, 2.0)
    """

    def __init__(self, num_data: int, device: torch.device | str) -> None:
        self.count = 0
        self.peak = torch.full((num_data,), -torch.inf, dtype=torch.float64, device=device)
        self.total = torch.zeros(num_data, dtype=torch.float64, device=device)
        self.square = torch.zeros(num_data, dtype=torch.float64, device=device)

    @classmethod
    def of(cls, log_weight: Tensor) -> LogMeanExp:
        """Of all draws at once: log w [S, B]."""
        total = cls(log_weight.shape[1], log_weight.device)
        total.add(log_weight)
        return total

    def add(self, log_weight: Tensor) -> None:
        """S more draws for each data point: log w [S, B]."""
        log_weight = log_weight.double()
        peak = torch.maximum(self.peak, log_weight.amax(0))
        # Where every weight so far is zero, any finite shift will do.
        shift = torch.where(peak == -torch.inf, torch.zeros_like(peak), peak)
        weight = (log_weight - shift).exp()
        shrink = (self.peak - shift).exp()
        self.total = self.total * shrink + weight.sum(0)
        self.square = self.square * shrink.square() + weight.square().sum(0)
        self.peak = peak
        self.count += len(log_weight)

    def log_mean(self) -> Tensor:
        """log w̄ [B], −∞ where every weight is zero."""
        return self.peak + self.total.log() - math.log(self.count)

    def ess(self) -> Tensor:
        """(Σ w)² / Σ w² [B], NaN where there is no weight."""
        return self.total.square() / self.square

    def variance(self) -> Tensor:
        """Monte Carlo variance of log w̄ [B] in nats²; one draw has none, NaN."""
        if self.count < 2:
            return torch.full_like(self.total, torch.nan)
        return (self.count / self.ess() - 1).clamp_min(0) / (self.count - 1)


def importance_bound(
    model: GenerativeModel, x: Tensor, posterior: Posterior, *, samples: int, stream: torch.Generator
) -> LogMarginal:
    """The importance-weighted lower bound on log p(x), in nats per data point.

    log p(x) ≥ E log (1/K) Σ_k p(x, z_k) / q(z_k),  z_k ~ q(z),  K = ``samples``

    x [B, *X] → lower [B] in float64, ``mc_variance`` and ``ess`` [B]. Rises with K in expectation, from the ELBO at
    K = 1. An effective sample size far below K says that it may be many nats low.

    Raises:
        VemError: K below 1, a q that enumerates its support, a q without density or width, log p(x | z) = NaN or
            +∞ for some draw, or −∞ for all of them.

    Source: Burda, Grosse and Salakhutdinov, 2016, eq. 8.
    """

    def draw(num: int) -> tuple[Tensor, Tensor]:
        spec = posterior.noise(num)
        assert spec is not None
        z, log_q, log_weight = posterior.draws(fill({"z": spec}, stream, x.dtype)["z"])
        refuse_invalid_draws(z, log_q)
        # Zero for plain Monte Carlo; a stratified q weighs its draws.
        tilt = log_weight - uniform_log_weight(log_weight)
        return z, model.log_prior(z).double() - log_q.double() + tilt.double()

    return _weigh(model, x, draw, samples, f"importance, K={samples}")


def prior_monte_carlo(model: GenerativeModel, x: Tensor, *, samples: int, stream: torch.Generator) -> LogMarginal:
    """Naive Monte Carlo, in nats per data point: a lower bound in expectation, and a poor one beyond a few dimensions.

    log p(x) ≥ E log (1/K) Σ_k p(x | z_k),  z_k ~ p(z),  K = ``samples``

    x [B, *X] → lower [B] in float64, ``mc_variance`` and ``ess`` [B]: an effective sample size near 1 says that one
    draw carries the estimate, which is then far too low.

    Raises:
        VemError: as :func:`importance_bound`.
    """

    def draw(num: int) -> tuple[Tensor, Tensor]:
        z = draws_of_prior(model, x, num, stream)
        return z, z.new_zeros(num, len(x), dtype=torch.float64)

    return _weigh(model, x, draw, samples, f"prior, K={samples}")


def refuse_invalid(log_likelihood: Tensor, rows: Tensor | None = None, num_data: int | None = None) -> None:
    """Refuse log p(x | z) [S, B] that is NaN or +∞ for some z; −∞ is an impossible x, of weight zero.

    ``rows`` [B] says which of ``num_data`` data each column is of, where a column is not a data point.

    Raises:
        VemError: names how many data and z, the first rows, and the remedy.
    """
    bad = log_likelihood.isnan() | (log_likelihood == torch.inf)
    if not bool(bad.any()):
        return
    hit = bad.any(0)
    if rows is not None:
        assert num_data is not None
        hit = torch.zeros(num_data, dtype=torch.bool, device=bad.device).index_fill(0, rows[hit], True)
    value = "NaN" if bool(log_likelihood.isnan().any()) else "+inf"
    raise VemError(
        f"log p(x | z) is {value} for {int(bad.sum())} of {bad.numel()} z, in {which(hit)}. Look at the decoder at "
        "large |z|: bound its scale away from 0 and its outputs away from overflow, or evaluate with dtype=float64."
    )


def which(bad: Tensor) -> str:
    """How many data, and the first few of them, for a message: bad [B]."""
    rows = bad.nonzero().flatten().tolist()
    shown = ", ".join(map(str, rows[:5])) + (", …" if len(rows) > 5 else "")
    return f"{len(rows)} of {len(bad)} data (rows {shown} of those measured together)"


def _weigh(model: GenerativeModel, x: Tensor, draw: Draw, samples: int, kind: str) -> LogMarginal:
    """log of the mean of p(x | z) · p(z) / q(z) over draws of z, in bounded memory."""
    at_least(samples, 1, "samples")
    if model.latent == "index":
        raise VemError(
            "an index z is enumerated, which is exact, and not sampled: take the exact log p(x) of the model instead."
        )
    width = max(model.latent_size, x[0].numel())
    # So many draws of z for all data at once, and the decoder then sees so many data at once.
    num = min(samples, max(1, min(MAX_FLOATS // (len(x) * model.latent_size), MAX_FLOATS // width)))
    rows = max(1, MAX_FLOATS // (num * width))
    total = LogMeanExp(len(x), x.device)
    with torch.no_grad(), evaluating(model):
        for start in range(0, samples, num):
            z, log_ratio = draw(min(num, samples - start))
            parts = zip(x.split(rows), z.split(rows, 1), strict=True)
            log_likelihood = torch.cat([model.log_likelihood(*part) for part in parts], 1)
            refuse_invalid(log_likelihood)
            total.add(log_likelihood + log_ratio)
    lower = total.log_mean()
    impossible = lower == -torch.inf
    if bool(impossible.any()):
        raise VemError(
            f"{which(impossible)}: log p(x | z) = −∞ for every one of {samples} draws, so these x seem impossible "
            "under the model. Check that the data have the values that the likelihood knows (0 and 1 for Bernoulli)."
        )
    return LogMarginal(lower, None, kind, {MC_VARIANCE: total.variance(), ESS: total.ess()})


def refuse_invalid_draws(z: Tensor, density: Tensor) -> None:
    """Refuse a q that has no density: z [S, B, H]; log q or log|dz/dε| [S, B].

    Raises:
        VemError: some of these are not finite; names the first data.
    """
    bad = ~(density.sum(0).isfinite() & z.sum((0, 2)).isfinite())
    if bool(bad.any()):
        raise VemError(
            f"q is no distribution for {which(bad)}: its draws or its density are not finite, as with a variance that "
            "is zero, infinite or NaN. Bound the log-scales of the encoder or of λ, or train with a smaller "
            "step size."
        )
