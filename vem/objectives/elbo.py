"""The evidence lower bound: one estimator for every strategy."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from vem.contracts import Bound, ClosedKL, Family, GenerativeModel, PathPosterior, Posterior
from vem.errors import BadArgument, VemError, at_least, choice
from vem.numerics import weighted_sum


class ELBO:
    """Evidence lower bound, in nats per datum.

    L[q] = E_q[log p(x | z)] − KL(q ‖ p(z)),  E_q[f] = Σ_s exp(log_weight_s) f(z_s)

    x [B, *X], noise [S, B, *Z] or None where q enumerates its support → value, surrogate [B];
    terms ``reconstruction`` = E_q[log p(x | z)] and ``kl`` = E_q[log q(z) − log p(z)], each [B].

    ``gradient="path"`` differentiates log q(z) through z alone, λ held constant there ("sticking the landing"): the
    value and the expected gradient are the same, and at q = p(z | x) its noise is zero. A q that enumerates its support
    has an exact gradient already. ``"auto"`` is ``"reparameterized"`` where the config of the strategy says no other.

    ``kl="closed"`` takes KL(q ‖ N(0, I)) in closed form: less noisy far from the posterior. ``"sampled"`` is less noisy
    near it: at q = p(z | x) its variance is zero. ``num_draws`` is M, the number of draws for each datum.

    ``reconstruction_weight`` r and ``kl_weight`` c: what is differentiated is r · reconstruction − c · kl (c = β is the
    β-VAE). The value stays the bound; the term ``objective`` holds the weighed sum, which stopping rules read.

    Raises:
        VemError: ``kl="closed"`` for a q or a prior that has no closed form; weights that are negative, infinite
            or both zero.

    Source: Jordan et al., 1999; Kingma and Welling, 2014, eq. 3 (sampled = eq. 2); Roeder et al., 2017, eq. 8
    (path gradient); Higgins et al., 2017, eq. 4 (a weighed KL).
    """

    def __init__(
        self,
        num_draws: int = 1,
        kl: str = "auto",
        gradient: str = "auto",
        reconstruction_weight: float = 1.0,
        kl_weight: float = 1.0,
    ) -> None:
        at_least(num_draws, 1, "num_draws")
        self.num_draws = num_draws
        self.gradient = choice(gradient, ("auto", "reparameterized", "path"), "gradient")
        self.kl = choice(kl, ("auto", "closed", "sampled"), "kl")
        self.reconstruction_weight = _weight(reconstruction_weight, "reconstruction_weight")
        self.kl_weight = _weight(kl_weight, "kl_weight")
        if reconstruction_weight == kl_weight == 0:
            raise VemError(
                "objective.reconstruction_weight=0 and objective.kl_weight=0 leave nothing to learn from: give at "
                "least one of them a positive weight."
            )

    def __call__(
        self,
        model: GenerativeModel,
        x: Tensor,
        posterior: Posterior,
        noise: Tensor | None,
        kl_weight: Tensor | None = None,
    ) -> Bound:
        """The bound and its terms.

        ``kl_weight`` w comes on top of the own weight c of the KL term: surrogate = r · reconstruction − w c · kl;
        None is 1. Source: Bowman et al., 2016 (KL annealing).
        """
        z, log_q, log_weight = posterior.draws(noise)
        reconstruction = weighted_sum(log_weight, model.log_likelihood(x, z))
        if self.gradient == "path" and isinstance(posterior, PathPosterior):
            path = weighted_sum(log_weight, posterior.frozen_log_q(z) - model.log_prior(z))
            with torch.no_grad():
                gap = self._kl(model, posterior, z, log_q, log_weight) - path
            kl = path + gap  # the value of one, the gradient of the other
        else:
            kl = self._kl(model, posterior, z, log_q, log_weight)
        value = surrogate = reconstruction - kl
        terms = {"reconstruction": reconstruction, "kl": kl}
        if not self.reconstruction_weight == self.kl_weight == 1:
            surrogate = self.reconstruction_weight * reconstruction - self.kl_weight * kl
            terms["objective"] = surrogate.detach()
        if kl_weight is not None:
            surrogate = torch.addcmul(surrogate, 1 - kl_weight, kl, value=self.kl_weight)
        return Bound(value.detach(), surrogate, terms)

    def _kl(self, model: GenerativeModel, posterior: Posterior, z: Tensor, log_q: Tensor, log_weight: Tensor) -> Tensor:
        if self.closed(model, posterior):
            assert isinstance(posterior, ClosedKL)
            return posterior.kl_standard_normal()
        return weighted_sum(log_weight, log_q - model.log_prior(z))

    def cost(self, family: Family, batch_size: int) -> int:
        """Decoder evaluations of one bound for a batch: M draws for each datum, or one for each component."""
        return batch_size * (self.num_draws if family.latent == "real" else family.size)

    def closed(self, model: GenerativeModel, posterior: Posterior) -> bool:
        """Whether the KL term is taken in closed form for this pair.

        Raises:
            VemError: it was asked for and there is none.
        """
        possible = model.prior_kind == "standard_normal" and isinstance(posterior, ClosedKL)
        if self.kl == "closed" and not possible:
            raise VemError(
                f"objective.kl=closed: there is no closed-form KL between {type(posterior).__name__} and a "
                f"{model.prior_kind} prior. Take objective.kl=auto or objective.kl=sampled.",
            )
        return possible and self.kl != "sampled"


def _weight(value: float, name: str) -> float:
    at_least(value, 0, name)
    if math.isinf(value):
        raise BadArgument(name, f"={value} must be finite: to leave the other term out, give that one the weight 0.")
    return float(value)
