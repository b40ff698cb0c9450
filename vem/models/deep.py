"""The deep latent-variable model: a standard normal prior, a decoder network, a likelihood."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn.parameter import is_lazy

from vem.contracts import Noise, NoiseSpec
from vem.errors import BadArgument, at_least, choice
from vem.families.gaussian import log_standard_normal
from vem.models.likelihoods import Gaussian, make_likelihood
from vem.models.modes import evaluating
from vem.models.networks import MLP, MLPFactory
from vem.models.units import CHOICES, Units
from vem.storage.records import BY_COLUMN


class DeepLatentModel(nn.Module):
    """p(z) = N(0, I), p(x | z) = likelihood(x; decoder(z)).

    ``decoder`` is any ``nn.Module`` that maps [N, H] to [N, *X] (the logits of a Bernoulli or the mean of
    a Gaussian), or a factory ``(in_shape, out_shape) → nn.Module`` such as
    :class:`vem.models.networks.MLPFactory`.

    ``units`` are those that networks and a learned σ are in, of a Gaussian likelihood (:class:`Units`), fitted by
    :meth:`start`: ``common`` or ``column``, for all networks; ``auto``, the common ones, where a network that vem did
    not build speaks x itself; ``none``, x for all. Densities, means and samples are of x, whatever they are.

    Raises:
        VemError: a latent dimension below 1, a decoder whose output has another shape than x, or units for a
            Bernoulli likelihood.

    Source: Kingma and Welling, 2014; Rezende et al., 2014.
    """

    prior_kind = "standard_normal"
    latent: Literal["real", "index"] = "real"

    def __init__(
        self,
        event_shape: Sequence[int],
        latent_dim: int,
        decoder: nn.Module | Callable[..., nn.Module],
        likelihood: str = "bernoulli",
        scale: str | float = "learned",
        scale_floor: float = 0.01,
        data_start: bool = True,
        units: str = "none",
    ) -> None:
        super().__init__()
        at_least(latent_dim, 1, "latent_dim")
        self.event_shape = tuple(event_shape)
        self.latent_size = latent_dim
        self.likelihood = make_likelihood(
            likelihood, self.event_shape, scale, scale_floor, self._make_units(units, likelihood)
        )
        self.data_start = data_start
        # Kept so that an encoder can mirror it.
        self.decoder_factory = decoder if isinstance(decoder, MLPFactory) else None
        self.decoder = decoder if isinstance(decoder, nn.Module) else decoder((latent_dim,), self.event_shape)
        self._check_decoder()
        if isinstance(self.likelihood, Gaussian) and self.units is not None:
            self.likelihood.spoken = self.units.spoken_by(self.decoder)

    def _make_units(self, name: str, likelihood: str) -> Units | None:
        choice(name, CHOICES, "units")
        if likelihood == "bernoulli" and name in ("common", "column"):
            raise BadArgument(
                "units",
                f"={name} is for real data: a Bernoulli likelihood of 0 and 1 has no units. Leave out "
                "model.units, or take model.likelihood=gaussian.",
            )
        if name == "none" or likelihood == "bernoulli":
            return None
        return Units(self.event_shape, by_column=name == "column", everywhere=name != "auto")

    @property
    def units(self) -> Units | None:
        """The units of x that the networks speak; None where they speak x itself."""
        return self.likelihood.units

    @property
    def likelihood_name(self) -> str | None:
        """What tables call the likelihood, where that says more than the option does."""
        return BY_COLUMN if self._learns_scale() and self.units is not None and self.units.by_column else None

    def _learns_scale(self) -> bool:
        return isinstance(self.likelihood, Gaussian) and self.likelihood.fixed is None

    def unit_notes(self) -> list[str]:
        """What a reader must know of the units, once they are fitted; a fixed σ is the same in all of them."""
        return [] if self.units is None or not self._learns_scale() else self.units.notes()

    def _check_decoder(self) -> None:
        # A lazy layer knows its shape, and its weights, after the first call only: this one.
        parameter = next((p for p in self.decoder.parameters() if not is_lazy(p)), torch.zeros(()))
        try:
            # In evaluation mode, so that a batch norm keeps its statistics and a dropout draws nothing.
            with torch.no_grad(), evaluating(self.decoder):
                shape = tuple(self.decoder(parameter.new_zeros(2, self.latent_size)).shape[1:])
        except (RuntimeError, ValueError, IndexError, TypeError) as error:
            raise BadArgument(
                "decoder",
                f"={type(self.decoder).__name__} does not take z [N, {self.latent_size}]: {error}. It "
                "must map [N, latent_dim] to [N, *event shape of x].",
            ) from error
        if shape != self.event_shape:
            wanted = ", ".join(map(str, self.event_shape))
            raise BadArgument(
                "decoder",
                f"={type(self.decoder).__name__} gives events of shape {shape}, the data have "
                f"{self.event_shape}: it must map [N, {self.latent_size}] to [N, {wanted}].",
            )

    def output(self, z: Tensor) -> Tensor:
        """The decoder's output [..., *X] for z [..., H]; a user's module sees one batch axis."""
        flat: Tensor = self.decoder(z.reshape(-1, z.shape[-1]))
        return flat.reshape(*z.shape[:-1], *self.event_shape)

    def log_prior(self, z: Tensor) -> Tensor:
        """log N(z; 0, I) [S, B]."""
        return log_standard_normal(z)

    def log_likelihood(self, x: Tensor, z: Tensor) -> Tensor:
        """log p(x | z) [S, B]; x [B, *X], z [S, B, H]."""
        return self.likelihood.log_prob(x, self.output(z))

    def decode(self, z: Tensor) -> Tensor:
        """E[x | z] [..., *X]."""
        return self.likelihood.mean(self.output(z))

    def sample_noise(self, num: int) -> dict[str, NoiseSpec]:
        """ε of z and the noise of x given z."""
        return {"z": NoiseSpec("normal", (num, self.latent_size)), "x": self.likelihood.sample_noise(num)}

    def sample(self, noise: Noise) -> tuple[Tensor, Tensor]:
        """z ~ p(z) [S, H], x ~ p(x | z) [S, *X]."""
        z = noise["z"]
        return z, self.likelihood.sample(self.output(z), noise["x"])

    @torch.no_grad()
    def start(self, x: Tensor, generator: torch.Generator) -> None:
        """Fit the units; put the mean of the data into the last layer's bias, and their spread into a learned σ."""
        spread = None if self.units is None else self.units.fit(x)
        if not self.data_start:
            return
        mean = x.mean(0) if self.units is None else self.units.shift
        if isinstance(self.decoder, MLP):
            self.decoder.last.bias.copy_(self.likelihood.bias(mean).flatten())
        if isinstance(self.likelihood, Gaussian):
            self.likelihood.start_scale((x - mean).square().mean().sqrt() if spread is None else spread)

    def notes(self) -> list[str]:
        """The likelihood's notes: a learned scale at its floor."""
        return self.likelihood.notes()
