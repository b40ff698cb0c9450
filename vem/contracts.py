"""What the rooms of vem agree on: the tuples that pass between them and the protocols they meet.

Axes, always in this order: ``S`` draws, ``B`` batch, ``K`` components, ``H`` latent dimension,
``*X`` event of x, ``*Z`` event of z (``[H]`` for a continuous z, nothing for an index).

One sign: everything called ``elbo``, ``bound`` or ``log_*`` is a log-probability in nats, larger is
better. Only the line that hands a number to an optimizer negates.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Literal, NamedTuple, Protocol, runtime_checkable

from torch import Generator, Tensor
from torch.nn import Parameter


class Batch(NamedTuple):
    """Some data, and where they stand in the training set."""

    x: Tensor  # [B, *X]
    rows: Tensor | None  # [B] distinct row numbers in the training set; None = held-out data


class Draws(NamedTuple):
    """S weighted draws per datum from q: E_q[f] = Σ_s exp(log_weight_s) f(z_s)."""

    z: Tensor  # [S, B, *Z]
    log_q: Tensor  # [S, B] log q(z)
    log_weight: Tensor  # [S, B]; logsumexp over S is 0


class Bound(NamedTuple):
    """A bound on log p(x), in nats per datum, larger is better."""

    value: Tensor  # [B] the ELBO of q on these draws, whatever is ascended: logs, stopping rules and reports read it
    surrogate: Tensor  # [B] what is differentiated
    # reconstruction, kl, … each [B]. Another bound that is ascended stands here (``iw_bound``); ``objective``, where
    # there is one, is what is ascended: stopping rules read that one then
    terms: dict[str, Tensor]

    def detached(self) -> Bound:
        """The same numbers without the graph that made them."""
        terms = {name: term.detach() for name, term in self.terms.items()}
        return Bound(self.value.detach(), self.surrogate.detach(), terms)


class LogMarginal(NamedTuple):
    """What is known of log p(x), in nats per datum."""

    lower: Tensor | None  # [B]
    upper: Tensor | None  # [B]; equal to lower where log p(x) is exact
    kind: str
    diagnostics: dict[str, Tensor]


class NoiseSpec(NamedTuple):
    """The kind and the static shape of one tensor of noise that a step asks for."""

    kind: Literal["normal", "uniform"]
    shape: tuple[int, ...]


Noise = Mapping[str, Tensor]


class Schedule(NamedTuple):
    """Device scalars, written in place by the loop."""

    rate: Tensor  # [] multiplies the step size of every optimizer
    kl_weight: Tensor  # [] weight of the KL term in the surrogate, never in the value
    progress: Tensor  # [] share of the planned epochs that is done, 0 … 1


class StepInfo(NamedTuple):
    """What one step tells the loop."""

    bound: Bound | None  # None where the method has no ELBO; the reason is in the strategy
    terms: dict[str, Tensor]  # further scalars or [B] tensors to record and to watch for non-finite numbers
    decoder_evaluations: int  # forward passes of one z through the decoder
    decoder_gradients: int = 0  # backward passes of one z through the decoder


class TrainingSet(NamedTuple):
    """The training data as a strategy sees them: no labels, no other splits."""

    x: Tensor  # [N, *X]
    redrawn: bool  # x is drawn anew each epoch (stochastic binarization)


class Posterior(Protocol):
    """q for a batch."""

    def noise(self, num_draws: int) -> NoiseSpec | None:
        """The noise that ``num_draws`` draws need; None if q enumerates its support."""

    def draws(self, noise: Tensor | None) -> Draws:
        """Draws made from the noise [S, B, *Z] handed in, or the whole support where that is finite."""

    def mean(self) -> Tensor:
        """A point that stands for z, [B, H]: E_q[z], or the component probabilities of an index."""


@runtime_checkable
class Transported(Posterior, Protocol):
    """A continuous q that is a smooth map of Gaussian noise; one that is none leaves the method out."""

    def transport(self, eps: Tensor) -> tuple[Tensor, Tensor]:
        """z [S, B, H] and log|dz/dε| [S, B] for ε ~ N(0, I)."""


@runtime_checkable
class ClosedKL(Protocol):
    """A posterior that knows its KL divergence from the standard normal in closed form."""

    def kl_standard_normal(self) -> Tensor:
        """KL(q ‖ N(0, I)) [B]."""


@runtime_checkable
class PathPosterior(Protocol):
    """A posterior whose log q can be taken with λ held constant."""

    def frozen_log_q(self, z: Tensor) -> Tensor:
        """log q(z) [S, B] for z [S, B, H], differentiable in z and constant in λ."""


@runtime_checkable
class Invertible(Protocol):
    """A posterior whose transport can be undone, as annealing backward from a known z needs it."""

    def whiten(self, z: Tensor) -> Tensor:
        """The ε [S, B, H] with transport(ε) = z; z [S, B, H]."""


class Family(Protocol):
    """A set of distributions q_λ(z) with one row of numbers λ for each datum."""

    size: int  # H for a continuous z, K for an index
    num_params: int
    latent: Literal["real", "index"]

    def __call__(self, params: Tensor) -> Posterior:
        """[B, num_params] → q."""

    def start(self, mean: Tensor, scale: Tensor) -> Tensor:
        """Parameters [B, num_params] of a q near N(mean, scale²); mean, scale [B, H]."""

    def noise(self, draws: int, batch_size: int) -> NoiseSpec | None:
        """The noise that ``draws`` draws for each of ``batch_size`` data need; None if q enumerates."""


class GenerativeModel(Protocol):
    """p_θ(x, z) = p(z) p_θ(x | z), with both densities. In vem always a ``torch.nn.Module``."""

    latent_size: int  # H, or the number of components
    latent: Literal["real", "index"]
    prior_kind: str  # "standard_normal" allows a closed-form KL

    def sample_noise(self, num: int) -> dict[str, NoiseSpec]:
        """The noise that ``sample`` needs for ``num`` pairs."""

    def sample(self, noise: Noise) -> tuple[Tensor, Tensor]:
        """Pairs (z [S, *Z], x [S, *X]) from p(x, z): bidirectional Monte Carlo needs the pair."""

    def decode(self, z: Tensor) -> Tensor:
        """E[x | z], [..., *X] for z [..., *Z]; without a closed form a stand-in that the docstring names."""

    def log_prior(self, z: Tensor) -> Tensor:
        """log p(z) [S, B] for z [S, B, *Z]."""

    def log_likelihood(self, x: Tensor, z: Tensor) -> Tensor:
        """log p(x | z) [S, B], normalized; x [B, *X], z [S, B, *Z]."""

    def start(self, x: Tensor, generator: Generator) -> None:
        """Set the parameters to a start that looks at the training data x [N, *X]."""

    def notes(self) -> list[str]:
        """What a reader of the result must know: a scale at its floor, a component that died."""

    def parameters(self) -> Iterator[Parameter]: ...
    def state_dict(self) -> dict[str, Any]: ...
    def load_state_dict(self, state: Mapping[str, Any]) -> Any: ...


@runtime_checkable
class TractableModel(Protocol):
    """A generative model whose posterior, log p(x) and M-step have closed forms."""

    def exact_posterior(self, x: Tensor) -> Posterior:
        """p(z | x)."""

    def log_marginal(self, x: Tensor) -> Tensor:
        """log p(x) [B]."""

    def statistics(self, x: Tensor, posterior: Posterior) -> dict[str, Tensor]:
        """Expected sufficient statistics, summed over the batch: they add up over batches."""

    def maximize(self, statistics: Mapping[str, Tensor]) -> None:
        """Closed-form M-step: θ ← argmax E_q[log p(x, z)] from the summed statistics."""


class Objective(Protocol):
    """What is ascended, estimated from draws of q; its users ask for no more than this."""

    num_draws: int  # draws of q for each datum and step

    def __call__(
        self, model: GenerativeModel, x: Tensor, posterior: Posterior, noise: Tensor | None, kl_weight: Tensor
    ) -> Bound:
        """The bound for x [B, *X] from noise [S, B, *Z].

        ``kl_weight`` [] weighs the KL term of the surrogate (a warm-up), never that of the value, which is the ELBO.
        """

    def cost(self, family: Family, batch_size: int) -> int:
        """Decoder evaluations of one call for a batch."""


@runtime_checkable
class WeighsTerms(Protocol):
    """An objective that weighs the terms of the ELBO: with other weights than 1 it ascends another function."""

    reconstruction_weight: float
    kl_weight: float


class Inference(Protocol):
    """How q is found, and nothing else: what measuring a model asks for."""

    no_elbo: str | None  # why this method has no ELBO; None where it has one
    gap_name: str  # what L[q*] − L[q] is: "amortization" for an encoder, "optimization" for rows that lag behind

    @property
    def family(self) -> Family | None:
        """Of q, known once the model is: its best member is sought. None where there is none to seek."""

    def noise(self, batch_size: int, held_out: bool = False) -> dict[str, NoiseSpec]:
        """The noise for a batch of this size: of ``infer`` for training rows, and of a strategy's ``step``; or,
        ``held_out``, of ``infer`` for data with rows=None."""

    def infer(self, model: GenerativeModel, batch: Batch, noise: Noise) -> Posterior:
        """q for these data; at frozen θ, without a graph, and changing nothing."""


class Strategy(Inference, Protocol):
    """How q is found and θ is moved."""

    def setup(self, model: GenerativeModel, data: TrainingSet, generator: Generator) -> None:
        """See N and the event shape; make starts that look at the data."""

    def step(self, model: GenerativeModel, batch: Batch, noise: Noise, schedule: Schedule) -> StepInfo:
        """The bound and one update."""

    def end_epoch(self, model: GenerativeModel) -> bool:
        """What happens after a pass over the data; True = converged."""

    def state_dict(self) -> dict[str, Any]: ...
    def load_state_dict(self, state: Mapping[str, Any]) -> None: ...
