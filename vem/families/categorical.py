"""The categorical family: q over the components of a mixture, enumerated rather than sampled."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from vem.contracts import Draws
from vem.errors import at_least

# A step of this many nats turns certainty for one component into certainty for another.
TRUSTED_NATS = 30.0
# A step leaves no component further below the likeliest one than this: a weight that costs no bound anything, and
# that float32 can still divide a gradient by. Without it a component that lost a datum could never win it back.
REACH_NATS = 40.0


@dataclass
class CategoricalPosterior:
    """q(z_n = k) = r_nk; log_probs [B, K], normalized over K."""

    log_probs: Tensor

    def noise(self, num_draws: int) -> None:
        """None: the support is enumerated."""
        return

    def draws(self, noise: Tensor | None) -> Draws:
        """The whole support: z [K, B] = 0 … K−1, log_q = log_weight = log r, so that every sum is exact."""
        log_r = self.log_probs.T
        z = torch.arange(log_r.shape[0], device=log_r.device)[:, None].expand(log_r.shape)
        return Draws(z, log_r, log_r)

    def mean(self) -> Tensor:
        """r [B, K]."""
        return self.log_probs.exp()


class Categorical:
    """Distributions over K components: λ = K logits a datum."""

    latent: Literal["real", "index"] = "index"

    def __init__(self, size: int) -> None:
        at_least(size, 1, "size")
        self.size = size
        self.num_params = size

    def __call__(self, params: Tensor) -> CategoricalPosterior:
        """[B, K] logits → q."""
        return CategoricalPosterior(params.log_softmax(-1))

    def start(self, mean: Tensor, scale: Tensor) -> Tensor:
        """Logits of the distribution nearest to uniform that leans to ``mean`` [B, K]; scale flattens it.

        λ = mean / scale, each within ± ½ ``REACH_NATS``: with mean = 0 the uniform distribution.
        """
        return (mean / scale).clamp(-0.5 * REACH_NATS, 0.5 * REACH_NATS)

    def natural_step(self, params: Tensor, gradient: Tensor, rate: Tensor | float, trust: float) -> Tensor:
        """λ ← λ + rate · (g_k / r_k), clipped at ``trust`` times the distance a logit can matter over.

        For the ELBO g_k / r_k = log p(x, k) − λ_k up to a constant in k: with rate 1 one step lands on the
        exact posterior, but for components ``REACH_NATS`` below the likeliest, which stay there within reach.
        params, gradient [B, K].
        """
        log_r = params.log_softmax(-1)
        r = log_r.exp()
        # A component that starts without weight gives no gradient to divide: it stays where it is.
        alive = r > torch.finfo(r.dtype).tiny ** 0.5
        natural = torch.where(alive, gradient / torch.where(alive, r, 1.0), torch.zeros_like(r))
        limit = trust * TRUSTED_NATS
        moved = log_r + (rate * natural).clamp(-limit, limit)
        within_reach = moved.clamp_min(moved.amax(-1, keepdim=True) - REACH_NATS)
        return torch.where(alive, within_reach, log_r)

    def noise(self, draws: int, batch_size: int) -> None:
        """None: the support is enumerated."""
        return
