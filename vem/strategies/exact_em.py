"""Exact EM: the posterior and the M-step in closed form, statistics summed over minibatches."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

import torch
from torch import Tensor

from vem.contracts import (
    Batch,
    Bound,
    GenerativeModel,
    Noise,
    NoiseSpec,
    Objective,
    Posterior,
    Schedule,
    StepInfo,
    TractableModel,
    TrainingSet,
)
from vem.errors import VemError, at_least, choice
from vem.objectives.elbo import ELBO

# Data in one piece of a restart's pass: bounds the memory of the responsibilities, [RESTART_BATCH, K].
RESTART_BATCH = 1000


class ExactModel(GenerativeModel, TractableModel, Protocol):
    """A generative model with a closed-form posterior and M-step."""


class ExactEM:
    """EM with q = p(z | x): one epoch is one E-step over all data, then the closed-form M-step.

    q_n ← p(z | x_n; θ),  θ ← argmax Σ_n E_{q_n}[log p(x_n, z; θ)]

    The sufficient statistics are summed in float64 over the minibatches of an epoch, so the result does
    not depend on the batch size and N × K responsibilities never exist at once. At the exact posterior the
    bound equals log p(x). For a Gaussian posterior the shared ELBO is taken with one draw in its sampled
    form, which has zero variance there, while the closed form would be noisy.

    ``restarts`` starts are tried for ``restart_epochs`` passes each, and the one with the best bound goes
    on. ``start="keep"`` leaves the model as it is. Converged when the mean bound rises by less than
    ``tolerance`` nats per datum in an epoch; never on data redrawn each epoch, whose bound goes up and down
    by itself.

    Raises:
        VemError: a model without a closed-form posterior and M-step, an objective that weighs the terms of the
            ELBO, or an option out of range.

    Source: Dempster, Laird and Rubin, 1977; Neal and Hinton, 1998 (EM as ascent on the bound).
    """

    no_elbo: str | None = None
    gap_name = "optimization"

    def __init__(
        self,
        objective: Objective,
        restarts: int = 1,
        restart_epochs: int = 5,
        tolerance: float = 1e-6,
        start: str = "data",
    ) -> None:
        at_least(restarts, 1, "strategy.restarts")
        at_least(restart_epochs, 1, "strategy.restart_epochs")
        at_least(tolerance, 0, "strategy.tolerance")
        if isinstance(objective, ELBO) and objective.weighed:
            raise VemError(
                f"objective.reconstruction_weight={objective.reconstruction_weight}, objective.kl_weight="
                f"{objective.kl_weight}: exact EM maximizes the ELBO itself, both weights 1, in closed form. Leave "
                "them at 1, or take strategy=local or strategy=amortized."
            )
        if choice(start, ("data", "keep"), "strategy.start") == "keep" and restarts > 1:
            raise VemError(f"strategy.start=keep has one start only: set strategy.restarts=1, not {restarts}.")
        self.objective = ELBO(num_draws=1, kl="sampled") if isinstance(objective, ELBO) else objective
        self.restarts = restarts
        self.restart_epochs = restart_epochs
        self.tolerance = tolerance
        self.start = start
        self.redrawn = False
        self.latent_size: int | None = None  # H of a continuous z; None = an index, which is enumerated
        self.last = -float("inf")
        self._forget()

    def _forget(self) -> None:
        self.statistics: dict[str, Tensor] = {}
        self.bound_sum: Tensor | None = None
        self.count = 0

    # --- the protocol

    def setup(self, model: GenerativeModel, data: TrainingSet, generator: torch.Generator) -> None:
        """Start the model from the data, several times if restarts were asked for."""
        tractable = _tractable(model)
        self.latent_size = model.latent_size if model.latent == "real" else None
        self.redrawn = data.redrawn
        self.last = -float("inf")
        self._forget()
        if self.start == "keep":
            return
        if self.restarts == 1:
            model.start(data.x, generator)
            return
        best, best_state = -float("inf"), None
        for _ in range(self.restarts):
            model.start(data.x, generator)
            bound = self._short_run(tractable, data.x)
            if best_state is None or bound > best:
                best, best_state = bound, {k: v.clone() for k, v in model.state_dict().items()}
        assert best_state is not None
        model.load_state_dict(best_state)

    def noise(self, batch_size: int, held_out: bool = False) -> dict[str, NoiseSpec]:
        """None for an index; one standard normal draw [1, B, H] for a continuous z."""
        if self.latent_size is None:
            return {}
        return {"z": NoiseSpec("normal", (self.objective.num_draws, batch_size, self.latent_size))}

    @torch.no_grad()
    def infer(self, model: GenerativeModel, batch: Batch, noise: Noise) -> Posterior:
        """p(z | x), for training and held-out data alike."""
        return _tractable(model).exact_posterior(batch.x)

    @torch.no_grad()
    def bound(self, model: GenerativeModel, batch: Batch, noise: Noise, schedule: Schedule) -> Bound:
        """The ELBO at the exact posterior, which is log p(x)."""
        return self.objective(model, batch.x, self.infer(model, batch, noise), noise.get("z"))

    @torch.no_grad()
    def step(self, model: GenerativeModel, batch: Batch, noise: Noise, schedule: Schedule) -> StepInfo:
        """E-step on a minibatch: the bound, and its statistics added to the epoch's."""
        posterior = self.infer(model, batch, noise)
        bound = self.objective(model, batch.x, posterior, noise.get("z"))
        self._add(_tractable(model), batch.x, posterior, bound.value)
        draws = model.latent_size if self.latent_size is None else self.objective.num_draws
        return StepInfo(bound, {}, draws * len(batch.x))

    @torch.no_grad()
    def end_epoch(self, model: GenerativeModel) -> bool:
        """M-step; True when the bound rose by less than the tolerance since the epoch before."""
        if self.bound_sum is None:
            return False
        mean = float(self.bound_sum) / self.count
        _tractable(model).maximize(self.statistics)
        converged = mean - self.last < self.tolerance and not self.redrawn
        self.last = mean
        self._forget()
        return converged

    def state_dict(self) -> dict[str, Any]:
        """The epoch's sums so far and the last epoch's bound."""
        return {
            "statistics": {k: v.clone() for k, v in self.statistics.items()},
            "bound_sum": None if self.bound_sum is None else self.bound_sum.clone(),
            "count": self.count,
            "last": self.last,
            "latent_size": self.latent_size,  # a loaded run asks for noise without a setup
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on where :meth:`state_dict` was taken."""
        self.statistics = {k: v.clone() for k, v in state["statistics"].items()}
        self.bound_sum = None if state["bound_sum"] is None else state["bound_sum"].clone()
        self.count = state["count"]
        self.last = state["last"]
        self.latent_size = state["latent_size"]

    # --- pieces

    def _add(self, model: TractableModel, x: Tensor, posterior: Posterior, value: Tensor) -> None:
        for name, total in model.statistics(x, posterior).items():
            if name in self.statistics:
                self.statistics[name] += total
            else:
                self.statistics[name] = total
        total = value.double().sum()
        self.bound_sum = total if self.bound_sum is None else self.bound_sum + total
        self.count += len(x)

    @torch.no_grad()
    def _short_run(self, model: ExactModel, x: Tensor) -> float:
        """A few epochs of EM from where the model stands; the mean log p(x) after the last of them."""
        for _ in range(self.restart_epochs):
            for part in torch.split(x, RESTART_BATCH):
                self._add(model, part, model.exact_posterior(part), model.log_marginal(part))
            model.maximize(self.statistics)
            self._forget()
        sums = [model.log_marginal(part).double().sum() for part in torch.split(x, RESTART_BATCH)]
        return float(torch.stack(sums).sum()) / len(x)


def _tractable(model: GenerativeModel) -> ExactModel:
    """The model, if exact EM can treat it.

    Raises:
        VemError: it has no closed-form posterior or M-step.
    """
    if not isinstance(model, TractableModel):
        raise VemError(
            "strategy=exact_em needs a closed-form posterior and M-step, which "
            f"{type(model).__name__} does not have: take model=mixture or "
            "model=linear_gaussian, or strategy=local or strategy=amortized."
        )
    return model
