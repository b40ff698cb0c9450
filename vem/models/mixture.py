"""Finite mixtures: Gaussian and Bernoulli, with exact posterior, log p(x) and M-step."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Literal

import torch
from torch import Tensor, nn

from vem.contracts import Noise, NoiseSpec, Posterior
from vem.errors import BadArgument, VemError, at_least, positive
from vem.families.categorical import CategoricalPosterior
from vem.models.columns import Standardizing
from vem.models.mixture_components import make_components
from vem.models.variance import data_moments

# k-means++ looks at this many data, chosen at random: enough for a start, whatever N is.
SUBSET = 10_000
KMEANS_STEPS = 10
# The share of each datum that the start spreads over all components: a cluster of one datum, or a pixel that
# is never on in a cluster, would otherwise start at a floor and stay there.
SPREAD = 0.1


class Mixture(Standardizing):
    """p(z = k) = π_k, p(x | z = k) Gaussian or a product of Bernoullis.

    log p(x) = log Σ_k π_k p(x | k), and p(z = k | x) is the softmax over k of log π_k + log p(x | k).
    z [S, B] int64 is the number of a component. ``covariance`` (Gaussian only): full, diagonal, tied
    (one full covariance for all) or spherical. Variances keep above ``variance_floor`` (squared unit of
    x), Bernoulli means between ``probability_floor`` and one minus it: the M-step is the maximum under that
    constraint, so EM still never decreases. ``regularize`` is added to the diagonal of each covariance
    after it is fitted, as scikit-learn's ``reg_covar`` is; above 0, EM may decrease.

    ``standardize`` (Gaussian only): the components are those of u = (x − shift) / scale, in float64 inside; floor and
    ``regularize`` are then relative to each column's variance, and k-means sees standardized columns. Columns times k
    shift log p(x) by −Σ log k exactly (one k for all, if spherical). ``auto``: where exact EM trains the model.

    A component that loses its data stays where it is, for moving it could lower the bound; :meth:`notes` says so.

    Raises:
        VemError: fewer than one component, an unknown likelihood or covariance, a floor out of range.

    Source: Dempster, Laird and Rubin, 1977; Bishop, 2006, §9.2–9.3.
    """

    prior_kind = "categorical"
    latent: Literal["real", "index"] = "index"
    num_data: Tensor

    def __init__(
        self,
        event_shape: Sequence[int],
        components: int,
        likelihood: str = "gaussian",
        covariance: str = "diagonal",
        variance_floor: float = 1e-6,
        probability_floor: float = 1e-3,
        regularize: float = 0.0,
        standardize: bool | str = False,
    ) -> None:
        super().__init__()
        at_least(components, 1, "components")
        at_least(regularize, 0, "regularize")
        positive(variance_floor, "variance_floor", ", or a variance runs to zero.")
        if not 0 < probability_floor < 0.5:
            raise BadArgument("probability_floor", f"={probability_floor} must lie between 0 and 0.5.")
        self.event_shape = tuple(event_shape)
        self.latent_size = components
        floors = (float(variance_floor), float(probability_floor))
        size = math.prod(self.event_shape)
        self.components = make_components(likelihood, covariance, components, size, floors, float(regularize))
        self.weight_logits = nn.Parameter(torch.zeros(components))
        self.set_up_columns(standardize if likelihood == "gaussian" else False, size, common=covariance == "spherical")
        # How many data the weights were fitted to: a component dies when its share is below one of them.
        self.register_buffer("num_data", torch.zeros((), dtype=torch.int64))

    def log_weights(self) -> Tensor:
        """log π [K]."""
        return self.weight_logits.log_softmax(0)

    # --- the generative model

    def log_prior(self, z: Tensor) -> Tensor:
        """log π_z [S, B]; z [S, B] int64."""
        return self.log_weights()[z]

    def log_likelihood(self, x: Tensor, z: Tensor) -> Tensor:
        """log p(x | z) [S, B]; x [B, *X], z [S, B] int64.

        All K densities in one matrix product, then a gather: the cost of K draws, whatever S is.
        """
        return self._log_density(x).T.gather(0, z)

    def _log_density(self, x: Tensor) -> Tensor:
        """log p(x | z = k) [B, K]."""
        value = self.components.log_density(self._inside(x))
        return value if self.columns is None else (value - self.columns.log_scale()).to(x.dtype)

    def decode(self, z: Tensor) -> Tensor:
        """E[x | z]: the mean of component z, [..., *X] for z [...] int64."""
        return self._outside(self.components.means())[z].reshape(*z.shape, *self.event_shape)

    def sample_noise(self, num: int) -> dict[str, NoiseSpec]:
        """One uniform number for z, noise [S, *X] for x given z."""
        of_x = NoiseSpec(self.components.noise_kind, (num, *self.event_shape))
        return {"z": NoiseSpec("uniform", (num,)), "x": of_x}

    def sample(self, noise: Noise) -> tuple[Tensor, Tensor]:
        """z ~ π [S] by inversion of its distribution function, x ~ p(x | z) [S, *X]."""
        cumulative = self.log_weights().exp().cumsum(0)
        # The last entry can round to less than 1.
        z = torch.searchsorted(cumulative, noise["z"].contiguous()).clamp_max(self.latent_size - 1)
        x = self.components.sample(z, noise["x"].flatten(1))
        return z, self._outside(x).reshape(noise["x"].shape)

    # --- what has a closed form

    def exact_posterior(self, x: Tensor) -> CategoricalPosterior:
        """p(z | x): log r [B, K]."""
        return CategoricalPosterior(self._log_joint(x).log_softmax(1))

    def log_marginal(self, x: Tensor) -> Tensor:
        """log p(x) [B]."""
        return self._log_joint(x).logsumexp(1)

    def _log_joint(self, x: Tensor) -> Tensor:
        """log p(x, z = k) [B, K]."""
        return self._log_density(x) + self.log_weights()

    @torch.no_grad()
    def statistics(self, x: Tensor, posterior: Posterior) -> dict[str, Tensor]:
        """Σ_n r_nk [K] and the components' own sums weighted by r, in float64."""
        r = posterior.mean().double()
        # Float32 responsibilities sum to 1 ± 1e-7; the sums must count each datum once.
        r = r / r.sum(1, keepdim=True)
        return {"count": r.sum(0), **self.components.statistics(self._inside(x), r)}

    @torch.no_grad()
    def maximize(self, statistics: Mapping[str, Tensor]) -> None:
        """π_k = Σ_n r_nk / N, and each component's weighted maximum likelihood under its floor.

        Source: Bishop, 2006, eq. 9.24–9.26 and 9.59.
        """
        count = statistics["count"]
        self.num_data.copy_(count.sum().round())
        # Far below any share that matters, and its logarithm is finite.
        share = (count / count.sum()).clamp_min(torch.finfo(torch.float32).tiny)
        self.weight_logits.copy_(share.log())
        self.components.maximize(count, statistics)

    # --- the start

    @torch.no_grad()
    def start(self, x: Tensor, generator: torch.Generator) -> None:
        """k-means++, a few k-means steps, then one M-step, all on a random subset of the data.

        Raises:
            VemError: more components than data.

        Source: Arthur and Vassilvitskii, 2007.
        """
        if self.latent_size > len(x):
            raise VemError(
                f"model.components={self.latent_size} is more than the {len(x)} training data: "
                f"choose at most {len(x)}, and better a small part of that.",
            )
        flat = x.flatten(1)
        self.components.set_center(data_moments(flat)[0] if self.columns is None else self.columns.fit(flat)[0])
        num = min(len(x), max(SUBSET, 20 * self.latent_size))
        chosen = torch.randperm(len(x), generator=generator, device=generator.device)[:num].to(x.device)
        subset = x[chosen]
        points = self._inside(subset)
        labels = kmeans(points, kmeans_plus_plus(points, self.latent_size, generator), KMEANS_STEPS)
        r = nn.functional.one_hot(labels, self.latent_size).double()
        spread = (1 - SPREAD) * r + SPREAD / self.latent_size
        self.maximize(self.statistics(subset, CategoricalPosterior(spread.log())))
        self.num_data.fill_(len(x))

    @torch.no_grad()
    def notes(self) -> list[str]:
        """Says so when a component holds less than one datum, or a variance has come down to its floor."""
        # Not 1: in float32 a weight of exactly one datum rounds below it as often as not.
        dead = (self.log_weights().exp() * self.num_data < 0.999).nonzero().flatten().tolist()
        notes = self.components.notes(relative=self.columns is not None)
        if dead and int(self.num_data) > 0:
            which = ", ".join(map(str, dead[:8])) + (", …" if len(dead) > 8 else "")
            notes.append(
                f"{len(dead)} of {self.latent_size} components died, with a weight below one of "
                f"{int(self.num_data)} data: {which}. Take fewer model.components, or more strategy.restarts."
            )
        return notes


def kmeans_plus_plus(x: Tensor, components: int, generator: torch.Generator) -> Tensor:
    """K of the data, each drawn with probability ∝ its squared distance to those before; x [N, D] → [K, D].

    Source: Arthur and Vassilvitskii, 2007.
    """
    uniform = torch.rand(components, generator=generator, device=generator.device, dtype=torch.float64)
    distance = torch.ones(len(x), dtype=torch.float64, device=x.device)
    centers: list[Tensor] = []
    for u in uniform.to(x.device):
        # ``right`` passes over data at distance 0; where all are (every datum is a centre), the last will do.
        cumulative = distance.cumsum(0)
        index = torch.searchsorted(cumulative, (u * cumulative[-1])[None], right=True).clamp_max(len(x) - 1)
        centers.append(x[index])
        new = (x - x[index]).square().sum(1).double()
        distance = new if len(centers) == 1 else torch.minimum(distance, new)
    return torch.cat(centers)


def kmeans(x: Tensor, centers: Tensor, steps: int) -> Tensor:
    """The nearest centre of each datum [N] after ``steps`` of Lloyd's algorithm; an empty cluster stays.

    Source: Lloyd, 1982.
    """
    shift = x.mean(0)  # distances are expanded, and would cancel far from the origin
    x, centers = x - shift, centers - shift
    labels = torch.zeros(len(x), dtype=torch.int64, device=x.device)
    for step in range(steps + 1):
        labels = (2 * x @ centers.T - centers.square().sum(1)).argmax(1)
        if step < steps:
            count = torch.bincount(labels, minlength=len(centers)).to(x.dtype)[:, None]
            total = torch.zeros_like(centers).index_add_(0, labels, x)
            centers = torch.where(count > 0, total / count.clamp_min(1), centers)
    return labels
