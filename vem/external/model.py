"""A generative model trained elsewhere, as vem sees it: a decoder with a named likelihood, or the user's densities.

What vem calls is a frozen copy: evaluation mode, no gradients of θ, the user's own module left as it is.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, Literal, cast

import torch
from torch import Tensor, nn

from vem.contracts import GenerativeModel, Noise, NoiseSpec
from vem.errors import VemError, at_least, choice
from vem.external.borrowed import as_data, frozen, module_of, name_of, prior_draws, seeded
from vem.external.probe import PROBES, check_outputs, outputs_of, probe
from vem.external.raising import RAISED, Raising
from vem.families.gaussian import LOG_2PI, log_standard_normal
from vem.models.deep import DeepLatentModel
from vem.models.likelihoods import Gaussian
from vem.models.modes import evaluating

Density = Callable[[Tensor, Tensor], Tensor]
LIKELIHOODS = ("bernoulli", "bernoulli_probs", "gaussian")
LOG_LIKELIHOOD, LOG_PRIOR = "log p(x | z)", "log p(z)"  # in messages
# What a user's object must have to be taken as it is; one with less goes through an adapter.
PROTOCOL = ("latent_size", "latent", "prior_kind", "sample_noise", "sample", "decode", "log_prior", "log_likelihood")


def foreign_model(
    decoder: Any,
    likelihood: str | Density | None,
    x: Any,
    latent_dim: int | None = None,
    scale: float | Tensor | None = None,
    log_prior: Callable[[Tensor], Tensor] | None = None,
) -> GenerativeModel:
    """p(x, z) of a model trained elsewhere; x [N, *X] are the data it is measured on.

    - ``likelihood="bernoulli"``: ``decoder`` maps z [N, H] to logits [N, *X]; ``"bernoulli_probs"``: to
      probabilities, clamped to [ε, 1 − ε] with ε the resolution of their type, as torch.distributions does, so
      that a pixel costs at most 15.9 nats in float32; ``"gaussian"``: to means, with σ = ``scale``, a number
      or a tensor that broadcasts to *X.
    - ``likelihood`` a callable log p(x | z): (x [B, *X], z [S, B, H]) → [S, B]. The decoder behind it, if
      given, is the one that is put into evaluation mode while vem measures.
    - ``likelihood=None``: ``decoder`` is an object with log_likelihood(x, z) [S, B] and, if it has them,
      log_prior(z) [S, B], decode(z) and sample(num) → (z [num, H], x [num, *X]).

    ``log_prior`` z [S, B, H] → [S, B] replaces the standard normal, and the model then cannot ``sample``;
    :func:`vem.external.borrowed.can_sample` tells.

    Raises:
        VemError: what came has another shape than was expected, is not finite, is random, or depends on which
            other data are in the batch; data, outputs and likelihood do not fit; something needed is missing.
    """
    x = as_data(x, likelihood if module_of(likelihood) else decoder)
    model: nn.Module
    if isinstance(likelihood, str):
        model = _decoder_model(decoder, likelihood, x, latent_dim, scale, log_prior)
    elif scale is not None:
        raise VemError(
            f"scale={_shown(scale)} belongs to likelihood='gaussian': a log-likelihood of your own has its scale."
        )
    elif likelihood is not None:
        density = frozen(likelihood)
        owner = module_of(density) or module_of(decoder)
        model = ForeignModel(density, x.shape[1:], _known(latent_dim), log_prior, owner=owner)
    else:
        model = _own_model(decoder, x, latent_dim, log_prior)
    with evaluating(model):
        probe(model, x)
    return cast(GenerativeModel, model)


class ForeignModel(nn.Module):
    """p(x, z) from the user's own functions; a standard normal prior where they give none.

    ``sample`` num → (z [num, H], x [num, *X]) draws from torch's global stream, which is borrowed for it: seeded
    from the noise handed in and put back.
    """

    latent: Literal["real", "index"] = "real"

    def __init__(
        self,
        log_likelihood: Density,
        event_shape: tuple[int, ...],
        latent_size: int,
        log_prior: Callable[[Tensor], Tensor] | None = None,
        sample: Callable[[int], tuple[Tensor, Tensor]] | None = None,
        decode: Callable[[Tensor], Tensor] | None = None,
        owner: nn.Module | None = None,
    ) -> None:
        super().__init__()
        self.event_shape, self.latent_size = tuple(event_shape), latent_size
        self.prior_kind = "standard_normal" if log_prior is None else "foreign"
        self.can_sample = sample is not None
        self.log_likelihood = Raising(log_likelihood, LOG_LIKELIHOOD)  # x [B, *X], z [S, B, H] → [S, B]
        self.log_prior = log_standard_normal if log_prior is None else Raising(log_prior, LOG_PRIOR)  # z → [S, B]
        self._sample, self._decode = sample, decode
        self.owner = owner  # a submodule: its parameters and its mode go with this model's

    def decode(self, z: Tensor) -> Tensor:
        """E[x | z], where the user's object has it."""
        if self._decode is None:
            raise VemError("this model has no decode(z): give your object one, or a decoder with a named likelihood.")
        return self._decode(z)

    def sample_noise(self, num: int) -> dict[str, NoiseSpec]:
        """What the seed of the draws is taken from."""
        return {"z": NoiseSpec("normal", (num, self.latent_size))}

    def sample(self, noise: Noise) -> tuple[Tensor, Tensor]:
        """Pairs (z [S, H], x [S, *X]) from the user's sample(num)."""
        if self._sample is None:
            raise VemError(
                "bidirectional Monte Carlo is not possible without pairs (z, x) from the model: give your object "
                "sample(num) → (z [num, H], x [num, *X]), or measure a lower bound on log p(x) alone."
            )
        try:
            with seeded(noise["z"]):
                z, x = self._sample(len(noise["z"]))
        except RAISED as error:
            raise VemError(
                f"sample({len(noise['z'])}) of this model raises: {error}. If a scale under- or overflows at some z, "
                "clamp its log in the decoder; evaluation.simulated=null leaves simulated data out."
            ) from error
        return z, x

    def start(self, x: Tensor, generator: torch.Generator) -> None:
        """The model is trained: nothing to start."""

    def notes(self) -> list[str]:
        """Nothing is known beyond the numbers."""
        return []


class Logits(nn.Module):
    """Probabilities as logits, clamped to [ε, 1 − ε]."""

    def forward(self, probabilities: Tensor) -> Tensor:
        """Both [N, *X]."""
        eps = torch.finfo(probabilities.dtype).eps
        return probabilities.clamp(eps, 1 - eps).logit()


class PixelGaussian(Gaussian):
    """p(x | z) = N(x; output, diag σ²) with a given σ [*X]."""

    def __init__(self, event_shape: tuple[int, ...], scale: Tensor) -> None:
        super().__init__(event_shape, scale=1.0)
        self.register_buffer("pixel_scale", scale.expand(event_shape).clone())

    def scale(self) -> Tensor:
        """σ [*X]."""
        return cast(Tensor, self.pixel_scale)

    def log_prob(self, x: Tensor, output: Tensor) -> Tensor:
        """log p(x | z): x [B, *X], output [S, B, *X] → [S, B]."""
        scale = self.scale()
        square = ((x - output) / scale).square().flatten(-len(self.event_shape)).sum(-1)
        return -0.5 * (square + self.size * LOG_2PI) - scale.log().sum()


class _Called(nn.Module):
    """A decoder that is a plain function, in the place of the data."""

    def __init__(self, function: Callable[[Tensor], Tensor], x: Tensor) -> None:
        super().__init__()
        self.function = function
        self.register_buffer("like", x.new_zeros(()))

    def forward(self, z: Tensor) -> Tensor:
        return self.function(z.to(cast(Tensor, self.like)))


# --- the three ways in


def _decoder_model(
    decoder: Any, likelihood: str, x: Tensor, latent_dim: int | None, scale: Any, log_prior: Any
) -> nn.Module:
    choice(likelihood, LIKELIHOODS, "likelihood")
    if not callable(decoder):
        raise VemError(f"decoder={decoder!r} cannot be called: give a module or a function z [N, H] → [N, *X].")
    size, event_shape, name = _known(latent_dim), tuple(x.shape[1:]), name_of(decoder)
    decoder, gaussian = frozen(decoder), likelihood == "gaussian"
    check_outputs(outputs_of(decoder, name, prior_draws(PROBES, size, x)), name, likelihood)
    if not gaussian:
        if scale is not None:
            raise VemError(
                f"scale={_shown(scale)} belongs to likelihood='gaussian', and likelihood={likelihood!r} has none."
            )
        if not bool(((x == 0) | (x == 1)).all()):
            raise VemError(
                f"x holds other numbers than 0 and 1 (from {float(x.min()):.4g} to {float(x.max()):.4g}), and "
                f"likelihood={likelihood!r} gives probability to these two alone: binarize x as in training."
            )
    if not isinstance(decoder, nn.Module):
        decoder = _Called(decoder, x)
    if likelihood == "bernoulli_probs":
        decoder = nn.Sequential(decoder, Logits())
    sigma = _scale(scale, event_shape, x) if gaussian else torch.ones(())
    width = float(sigma) if sigma.dim() == 0 else 1.0
    model = DeepLatentModel(event_shape, size, decoder, "gaussian" if gaussian else "bernoulli", width)
    if sigma.dim():
        model.likelihood = PixelGaussian(event_shape, sigma)
    if log_prior is None:
        return _guarded(model)
    return ForeignModel(model.log_likelihood, event_shape, size, log_prior, decode=model.decode, owner=model)


def _own_model(source: Any, x: Tensor, latent_dim: int | None, log_prior: Any) -> nn.Module:
    if not hasattr(source, "log_likelihood"):
        raise VemError(
            f"{name_of(source)} has no log_likelihood(x, z) and no likelihood was named: give likelihood= one of "
            f"{', '.join(LIKELIHOODS)}, or a callable log p(x | z)."
        )
    own = frozen(source)
    if log_prior is None and isinstance(own, nn.Module) and all(hasattr(own, name) for name in PROTOCOL):
        if own.latent != "real":
            raise VemError(f"z of {name_of(source)} is an index: its log p(x) is a sum over all values, not measured.")
        return _guarded(own)
    if latent_dim is None:
        latent_dim = getattr(source, "latent_size", getattr(source, "latent_dim", None))
    return ForeignModel(
        own.log_likelihood,
        x.shape[1:],
        _known(latent_dim),
        log_prior or getattr(own, "log_prior", None),
        getattr(own, "sample", None) if log_prior is None else None,
        getattr(own, "decode", None),
        own if isinstance(own, nn.Module) else None,
    )


def _guarded(model: nn.Module) -> nn.Module:
    """The model, which is a copy, with −∞ for log p(x | z) and log p(z) where they raise."""
    if not model.__module__.startswith("vem.") or isinstance(model, DeepLatentModel):  # the decoder is the user's
        model.log_likelihood = Raising(model.log_likelihood, LOG_LIKELIHOOD)  # type: ignore[assignment, arg-type]
        model.log_prior = Raising(model.log_prior, LOG_PRIOR)  # type: ignore[assignment, arg-type]
    return model


def _known(latent_dim: int | None) -> int:
    if latent_dim is None:
        raise VemError("latent_dim is not known: pass latent_dim=H, or an encoder, from whose output it is read.")
    at_least(latent_dim, 1, "latent_dim")
    return int(latent_dim)


def _shown(scale: Any) -> str:
    """A scale for a message: of many numbers the shape."""
    shape = list(getattr(scale, "shape", []))
    return f"{type(scale).__name__} of shape {shape}" if shape else repr(scale)


def _scale(scale: Any, event_shape: tuple[int, ...], x: Tensor) -> Tensor:
    if scale is None:
        raise VemError(
            "likelihood='gaussian' needs scale=σ, the width that the training loss implied: a squared error summed "
            f"over pixels means σ² = 1/2, half of it σ² = 1, its mean over pixels σ² = {math.prod(event_shape) / 2:g}."
        )
    try:
        sigma = torch.as_tensor(scale).detach().to(x.device, x.dtype)
        sigma.expand(event_shape)
    except (TypeError, ValueError, RuntimeError) as error:
        raise VemError(
            f"scale={_shown(scale)} is not a number or a tensor that broadcasts to {event_shape}."
        ) from error
    if not bool((sigma > 0).all() & sigma.isfinite().all()):
        raise VemError(f"scale={_shown(scale)} must be positive and finite: it is the standard deviation of a pixel.")
    return sigma
