"""Amortized inference: an encoder maps every x to its λ (the variational auto-encoder)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.random import fork_rng

from vem.contracts import (
    Batch,
    Family,
    GenerativeModel,
    Noise,
    NoiseSpec,
    Objective,
    Posterior,
    Schedule,
    StepInfo,
    TrainingSet,
)
from vem.errors import VemError
from vem.families.checks import matching
from vem.models.modes import evaluating
from vem.models.units import in_units, units_of
from vem.objectives.checks import called_in_steps
from vem.strategies.compiled import compiled
from vem.strategies.gradient import AscentOptimizer, Gradient, OptimizerFactory, differentiate

EncoderFactory = Callable[[tuple[int, ...], tuple[int, ...]], nn.Module]


class Mirror:
    """Stands for an encoder with the layers of the model's MLP decoder in the opposite order."""


class Amortized:
    """λ_n = f(x_n; φ): one joint gradient step on θ and φ (Algorithm 9 of the notes).

    ``encoder`` is :class:`Mirror`, any ``nn.Module`` that maps x [B, *X] to
    λ [B, num_params], or a factory ``(in_shape, out_shape) → nn.Module``.

    An encoder that vem makes sees x in the model's units, one of the user's only where these are for all networks.

    A step differentiates the mean over the batch, (1/B) Σ_b L_b. ``compile=True`` compiles that gradient.

    Source: Kingma and Welling, 2014, algorithm 1.
    """

    no_elbo: str | None = None
    gap_name = "amortization"
    family: Family  # made for the model, in setup

    def __init__(
        self,
        family: Callable[[int], Family],
        objective: Objective,
        optimizer: OptimizerFactory,
        encoder: nn.Module | EncoderFactory | Mirror,
        compile: bool = False,
    ) -> None:
        self.make_family = family
        self.objective = called_in_steps(objective)
        self.make_optimizer = optimizer
        self.make_encoder = encoder
        self.compile = compile

    def setup(self, model: GenerativeModel, data: TrainingSet, generator: torch.Generator) -> None:
        """Make the encoder for these shapes and one optimizer for θ and φ.

        Raises:
            VemError: no encoder was given and the decoder cannot be mirrored, or the encoder's output does
                not hold one λ for each datum.
        """
        self.family = matching(self.make_family, model)
        model.start(data.x, generator)
        self.encoder = self._encoder(model, data.x, generator).to(data.x.device, data.x.dtype)
        units = units_of(model)
        self.in_units = units is not None and units.spoken_by(self.encoder)
        self._check_encoder(self._seen(model, data.x[:2]))
        self.optimizer = AscentOptimizer(self.make_optimizer, [*model.parameters(), *self.encoder.parameters()])
        self.gradient = compiled(self._gradient, self.compile, data.x.device)

    def _encoder(self, model: GenerativeModel, x: Tensor, generator: torch.Generator) -> nn.Module:
        if isinstance(self.make_encoder, nn.Module):
            return self.make_encoder
        factory = self.make_encoder
        if isinstance(factory, Mirror):
            decoder_factory = getattr(model, "decoder_factory", None)
            if decoder_factory is None:
                raise VemError(
                    f"strategy/encoder=mirror mirrors an MLP decoder, and {type(model).__name__} has none: name an "
                    "encoder, for example strategy/encoder=mlp or strategy.encoder._target_=mymodule.MyEncoder."
                )
            factory = decoder_factory.mirror()
        # torch's layers start from its global stream: borrow it, and put it back.
        with fork_rng(devices=[]):
            seed = int(torch.randint(2**62, (), generator=generator, device=generator.device))
            torch.default_generator.manual_seed(seed)
            return factory(tuple(x.shape[1:]), (self.family.num_params,))

    def _seen(self, model: GenerativeModel, x: Tensor) -> Tensor:
        """x as the encoder sees it."""
        return in_units(model, x) if self.in_units else x

    def _check_encoder(self, x: Tensor) -> None:
        try:
            with torch.no_grad(), evaluating(self.encoder):
                shape = tuple(self.encoder(x).shape)
        except (RuntimeError, ValueError, IndexError, TypeError) as error:
            raise VemError(
                f"strategy.encoder={type(self.encoder).__name__} does not take x of shape {tuple(x.shape)}: {error}. "
                f"It must map [B, *event shape of x] to [B, {self.family.num_params}]."
            ) from error
        if shape != (len(x), self.family.num_params):
            raise VemError(
                f"strategy.encoder={type(self.encoder).__name__} maps {tuple(x.shape)} to {shape}: "
                f"{type(self.family).__name__} needs [B, {self.family.num_params}]."
            )

    def noise(self, batch_size: int, held_out: bool = False) -> dict[str, NoiseSpec]:
        """M draws a datum."""
        spec = self.family.noise(self.objective.num_draws, batch_size)
        return {} if spec is None else {"z": spec}

    @torch.no_grad()
    def infer(self, model: GenerativeModel, batch: Batch, noise: Noise) -> Posterior:
        """The encoder's q, with dropout and batch norm of a user's encoder in evaluation mode."""
        with evaluating(self.encoder):
            return self.family(self.encoder(self._seen(model, batch.x)))

    def step(self, model: GenerativeModel, batch: Batch, noise: Noise, schedule: Schedule) -> StepInfo:
        """One joint step on θ and φ."""
        gradient = self.gradient(model, batch, noise, schedule)
        self.optimizer.step(gradient, schedule.rate)
        evaluations = self.objective.cost(self.family, len(batch.x))
        return StepInfo(gradient.bound, {"gradient_norm": gradient.norm}, evaluations, evaluations)

    def _gradient(self, model: GenerativeModel, batch: Batch, noise: Noise, schedule: Schedule) -> Gradient:
        posterior = self.family(self.encoder(self._seen(model, batch.x)))
        bound = self.objective(model, batch.x, posterior, noise.get("z"), schedule.kl_weight)
        return differentiate(bound, 1.0, self.optimizer.params)

    def end_epoch(self, model: GenerativeModel) -> bool:
        """Nothing happens between epochs."""
        return False

    def state_dict(self) -> dict[str, Any]:
        """φ and the optimizer."""
        return {"encoder": self.encoder.state_dict(), "optimizer": self.optimizer.state_dict()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Put φ and the optimizer back."""
        self.encoder.load_state_dict(state["encoder"])
        self.optimizer.load_state_dict(state["optimizer"])
