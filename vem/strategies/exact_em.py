"""Exact EM: the posterior and the M-step in closed form, statistics summed over minibatches."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any, Protocol, runtime_checkable

import torch
from torch import Tensor

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
    TractableModel,
    TrainingSet,
    WeighsTerms,
)
from vem.errors import BadArgument, VemError, at_least, choice
from vem.models.columns import Standardizing
from vem.objectives.elbo import ELBO
from vem.strategies import squarem

# Data in one piece of a restart's pass: bounds the memory of the responsibilities, [RESTART_BATCH, K].
RESTART_BATCH = 1000
# Nats per datum below the best W for its noise from which a linear-Gaussian model is not at a maximum.
SADDLE = 1e-3
# A loaded run asks for noise without a setup, hence latent_size.
KEPT = ("statistics", "bound_sum", "count", "last", "latent_size")
KEPT_LATER = ("last_rise", "settled", "anchor")  # with the longer steps


class ExactModel(GenerativeModel, TractableModel, Protocol):
    """A generative model with a closed-form posterior and M-step."""


@runtime_checkable
class Solvable(Protocol):
    """A model that finds its maximum by itself, and tells a saddle from it."""

    def solve(self, x: Tensor, generator: torch.Generator, restarts: int = 1) -> None:
        """θ ← the maximum of the likelihood of x [N, *X], as far as it can be found."""

    def best_at_noise(self, x: Tensor) -> float:
        """The mean log p(x) at the best of the other parameters, the noise as it is."""


class ExactEM:
    """EM with q = p(z | x): one epoch is one E-step over all data, then the closed-form M-step.

    q_n ← p(z | x_n; θ),  θ ← argmax Σ_n E_{q_n}[log p(x_n, z; θ)]

    The statistics are summed in float64 over the minibatches of an epoch: the result does not depend on the batch size.
    At the exact posterior every bound equals log p(x), whatever the ``objective``: the ELBO is taken, for a Gaussian
    posterior with one draw in its sampled form, which has zero variance there.

    ``start="closed"``: the maximum itself where the model can find it without EM (``restarts`` times as many starts of
    its search); else, and with ``"model"`` (formerly ``"data"``), the best of ``restarts`` of the model's own starts,
    after ``restart_epochs`` passes each. ``"keep"`` leaves the model as it is.

    ``convergence="rise"``: converged when the mean bound rises by less than ``tolerance`` nats per datum in an epoch.
    ``"gain"``: when, besides, all that EM has still to gain is less, extrapolated from how fast the rises shrink, and
    this is no saddle (SADDLE). Never on data redrawn each epoch.

    ``accelerate``: after every second epoch SQUAREM's longer step is tried, which costs a pass over the data, and taken
    where the bound gains by it. ``auto``, for both: ``gain`` and true where the model's columns are standardized.

    Raises:
        VemError: a model without a closed-form posterior and M-step, an objective that weighs the terms of the
            ELBO, or an option out of range.

    Source: Dempster, Laird and Rubin, 1977; Neal and Hinton, 1998 (EM as ascent on the bound).
    """

    no_elbo: str | None = None
    gap_name = "optimization"
    family: Family | None = None  # q is the posterior itself
    x: Tensor  # the training data, for passes of its own

    def __init__(
        self,
        objective: Objective,
        restarts: int = 1,
        restart_epochs: int = 5,
        tolerance: float = 1e-6,
        start: str = "model",
        convergence: str = "auto",
        accelerate: bool | str = "auto",
    ) -> None:
        at_least(restarts, 1, "restarts")
        at_least(restart_epochs, 1, "restart_epochs")
        at_least(tolerance, 0, "tolerance")
        if isinstance(objective, WeighsTerms) and not objective.reconstruction_weight == objective.kl_weight == 1:
            raise VemError(
                f"objective.reconstruction_weight={objective.reconstruction_weight}, objective.kl_weight="
                f"{objective.kl_weight}: exact EM maximizes the ELBO itself, both weights 1, in closed form. Leave "
                "them at 1, or take strategy=local or strategy=amortized.",
            )
        if choice(start, ("closed", "model", "data", "keep"), "start") == "keep" and restarts > 1:
            raise BadArgument("start", f"=keep has one start only: set strategy.restarts=1, not {restarts}.")
        self.objective = ELBO(num_draws=1, kl="sampled")
        self.restarts = restarts
        self.restart_epochs = restart_epochs
        self.tolerance = tolerance
        self.start = start
        self.convergence = choice(convergence, ("auto", "rise", "gain"), "convergence")
        if not isinstance(accelerate, bool):
            choice(accelerate, ("auto",), "accelerate")
        self.accelerate = accelerate
        self.latent_size: int | None = None  # H of a continuous z; None = an index, which is enumerated
        self._begin()

    def _begin(self) -> None:
        self.last = -float("inf")
        self.last_rise = float("inf")
        self.settled = 0  # epochs in a row after which nothing was left to gain
        self.anchor: Tensor | None = None  # the parameters before the first of two epochs
        self.step_length = squarem.Longer()
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
        self.redrawn, self.x = data.redrawn, data.x
        if isinstance(model, Standardizing):
            model.standardize_columns()
        careful = getattr(model, "columns", None) is not None  # so these options are on for this model
        self.by_gain = self.convergence == "gain" or (self.convergence == "auto" and careful)
        self.longer = self.accelerate is True or (self.accelerate == "auto" and careful)
        self._begin()
        if self.start == "keep":
            return
        if self.start == "closed" and isinstance(model, Solvable):
            model.solve(data.x, generator, self.restarts)
            return
        if self.restarts == 1:
            model.start(data.x, generator)
            return
        best, best_state = -float("inf"), None
        for _ in range(self.restarts):
            model.start(data.x, generator)
            bound = self._short_run(tractable)
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

    # --- EM

    @torch.no_grad()
    def step(self, model: GenerativeModel, batch: Batch, noise: Noise, schedule: Schedule) -> StepInfo:
        """E-step on a minibatch: q_n ← p(z | x_n; θ), its statistics added to the epoch's, and the bound."""
        posterior = self.infer(model, batch, noise)
        bound = self.objective(model, batch.x, posterior, noise.get("z"))
        self._add(_tractable(model), batch.x, posterior, bound.value)
        draws = model.latent_size if self.latent_size is None else self.objective.num_draws
        return StepInfo(bound, {}, draws * len(batch.x))

    @torch.no_grad()
    def end_epoch(self, model: GenerativeModel) -> bool:
        """M-step, θ ← argmax Σ_n E_{q_n}[log p(x_n, z; θ)], and SQUAREM's step where it is due; True = converged."""
        if self.bound_sum is None:
            return False
        mean, tractable = float(self.bound_sum) / self.count, _tractable(model)
        guarded = self.by_gain and not self.redrawn and isinstance(model, Solvable)
        before = squarem.flat(tractable) if self.longer or guarded else None
        self._maximize(tractable)
        if guarded and before is not None and not self._mean_log_marginal(tractable) >= mean:
            # Statistics of columns whose scales differ by 1e10 cancel: near the maximum their M-step is rounding.
            squarem.put(tractable, before)
        rise, self.last = mean - self.last, mean
        rate: float | None = rise / self.last_rise if self.last_rise > 0 else 0.0
        self.last_rise = rise
        if self.redrawn:
            return False
        if self.longer and before is not None and self.anchor is None:
            self.anchor, rate = before, None  # the rise since a longer step says nothing of EM's rate
        elif self.longer and before is not None:
            rate = self._longer_step(tractable, before, mean, rise)
        return self._settled(tractable, rise, rate) if self.by_gain else rise < self.tolerance

    def _add(self, model: TractableModel, x: Tensor, posterior: Posterior, value: Tensor) -> None:
        for name, total in model.statistics(x, posterior).items():
            self.statistics[name] = self.statistics[name] + total if name in self.statistics else total
        total = value.double().sum()
        self.bound_sum = total if self.bound_sum is None else self.bound_sum + total
        self.count += len(x)

    def _maximize(self, model: TractableModel) -> None:
        model.maximize(self.statistics)
        self._forget()

    @torch.no_grad()
    def _short_run(self, model: ExactModel) -> float:
        """A few epochs of EM from where the model stands; the mean log p(x) after the last of them."""
        for _ in range(self.restart_epochs):
            for part in torch.split(self.x, RESTART_BATCH):
                self._add(model, part, model.exact_posterior(part), model.log_marginal(part))
            self._maximize(model)
        return self._mean_log_marginal(model)

    # --- how far, and how long

    def _longer_step(self, model: ExactModel, before: Tensor, mean: float, rise: float) -> float:
        """SQUAREM's step from the last two; returns the rate at which EM's rises shrink.

        It is taken where it gains as much as the epoch before: more than a third step of EM would.
        """
        assert self.anchor is not None
        after = squarem.flat(model)
        first, last = torch.linalg.vector_norm(before - self.anchor), torch.linalg.vector_norm(after - before)
        trial = self.step_length.trial(self.anchor, before, after)
        self.anchor = None
        if trial is not None:
            squarem.put(model, trial)
            good = self._mean_log_marginal(model) > mean + max(rise, 0.0)  # false for NaN
            if not good:
                squarem.put(model, after)
            self.step_length.judge(good)
        return float((last / first).square()) if bool(first > 0) else 0.0  # the bound is quadratic at its maximum

    def _settled(self, model: ExactModel, rise: float, rate: float | None) -> bool:
        """Whether nothing is left to gain, and was not before: one odd rise does not make a rate."""
        if rate is None:
            return False
        done = rise < squarem.ROUNDING * self.tolerance or max(rise, squarem.to_come(rise, rate)) < self.tolerance
        self.settled = self.settled + 1 if done else 0
        if self.settled >= 2 and isinstance(model, Solvable) and model.best_at_noise(self.x) > self.last + SADDLE:
            self.settled = 0
        return self.settled >= 2

    def _mean_log_marginal(self, model: ExactModel) -> float:
        """The mean log p(x) over the training data; NaN where the parameters have none."""
        try:
            sums = [model.log_marginal(part).double().sum() for part in torch.split(self.x, RESTART_BATCH)]
        except torch.linalg.LinAlgError:  # a step that went too far
            return float("nan")
        return float(torch.stack(sums).sum()) / len(self.x)

    # --- state

    def state_dict(self) -> dict[str, Any]:
        """The epoch's sums so far and what is known of the epochs before."""
        kept = {name: copy.deepcopy(getattr(self, name)) for name in (*KEPT, *KEPT_LATER)}
        return kept | {"step_limit": self.step_length.limit}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on where :meth:`state_dict` was taken; one from before the longer steps lacks what belongs to them."""
        self._begin()
        for name in (*KEPT, *KEPT_LATER):
            if name in KEPT or name in state:
                setattr(self, name, copy.deepcopy(state[name]))
        self.step_length = squarem.Longer(state.get("step_limit", squarem.GROWTH))


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
