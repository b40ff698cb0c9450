"""Local variational EM: every datum keeps a λ_n of its own in a table."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from vem.ascent.climb import ascend, row_gradient
from vem.ascent.rules import Rule
from vem.ascent.starts import CHUNK, PCAStart, Start
from vem.ascent.table import Rows, RowTable, fresh
from vem.contracts import (
    Batch,
    Bound,
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
from vem.errors import VemError, at_least, choice
from vem.families.checks import matching
from vem.models.units import in_units
from vem.strategies.compiled import compiled
from vem.strategies.gradient import Climber, OptimizerFactory, Slope, differentiate
from vem.strategies.phases import Alternation


@dataclass(frozen=True)
class HeldOut:
    """The budget of held-out rows: ``steps`` ascent steps of ``draws`` draws, the rate cooled to ``cool``."""

    steps: int = 100
    draws: int = 1
    rate: float = 1.0
    cool: float = 0.05

    def __post_init__(self) -> None:
        at_least(self.steps, 1, "strategy.held_out.steps")
        at_least(self.draws, 1, "strategy.held_out.draws")
        # A negative rate would descend.
        at_least(self.rate, 0, "strategy.held_out.rate")
        at_least(self.cool, 0, "strategy.held_out.cool")


class Local:
    """Stochastic variational EM with a persistent table of λ_n (Algorithms 7 and 8 of the notes).

    ``schedule="minibatch"`` (Algorithm 8): for each batch ``e_steps`` ascent steps on its rows and
    ``m_steps`` on θ, in the ``order`` ``e_then_m``, ``m_then_e``, or ``joint``, where one gradient at the
    same (λ, θ) is the last e-step and the m-step. Rows ascend Σ_b L_b, θ ascends (N/B) Σ_b L_b.

    ``schedule="alternating"`` (Algorithm 7): whole passes over the data that move only the rows until the
    ELBO rises by less than ``tolerance`` nats per datum or ``max_passes`` are done, then passes that move
    only θ, and so on. It is the objective's own bound that counts there, where that is another than the ELBO.

    ``m_steps=0`` keeps θ as it is: the rows alone ascend.

    The rows' rate falls along a cosine to ``cool`` times itself over the planned epochs, so that the rows
    settle. The objective's path gradient suits the rows, for its noise vanishes as they settle; θ's
    gradient is the same either way, for log q does not depend on θ. ``compile=True`` compiles these gradients.

    Source: Neal and Hinton, 1998 (EM as ascent on one bound); Hoffman et al., 2013; Roeder et al., 2017.
    """

    no_elbo: str | None = None
    gap_name = "optimization"
    family: Family  # made for the model, in setup

    def __init__(
        self,
        family: Callable[[int], Family],
        objective: Objective,
        optimizer: OptimizerFactory,
        rule: Rule,
        start: Start,
        held_out: HeldOut,
        e_steps: int = 1,
        m_steps: int = 1,
        order: str = "joint",
        schedule: str = "minibatch",
        tolerance: float = 0.01,
        max_passes: int = 10,
        cool: float = 0.25,
        compile: bool = False,
    ) -> None:
        self.make_family, self.make_optimizer = family, optimizer
        self.objective = objective
        at_least(cool, 0, "strategy.cool")
        self.cool, self.compile = cool, compile
        self.rule, self.start, self.held_out = rule, start, held_out
        at_least(e_steps, 1, "strategy.e_steps")
        at_least(m_steps, 0, "strategy.m_steps")
        self.order = choice(order, ("e_then_m", "m_then_e", "joint"), "strategy.order")
        self.schedule = choice(schedule, ("minibatch", "alternating"), "strategy.schedule")
        if m_steps > 1 and order == "joint" and schedule == "minibatch":
            raise VemError(f"strategy.m_steps={m_steps}: strategy.order=joint moves θ once a batch; take e_then_m.")
        self.m_steps = m_steps
        # Where one gradient moves λ and θ together, the last of the e-steps is that one.
        self.joint = order == "joint" and schedule == "minibatch" and m_steps == 1
        self.e_steps = e_steps - 1 if self.joint else e_steps
        self.phases = Alternation(tolerance, max_passes) if schedule == "alternating" else None

    def setup(self, model: GenerativeModel, data: TrainingSet, generator: torch.Generator) -> None:
        """Make the table, its rows at the start.

        Raises:
            VemError: the data are redrawn each epoch, so that one λ_n would stand for many x.
        """
        if data.redrawn:
            raise VemError(
                "strategy=local keeps one λ_n for each x_n, and these data are drawn anew each epoch "
                "(data.binarize=stochastic): take data.binarize=static or threshold, or strategy=amortized."
            )
        self.family = matching(self.make_family, model)
        self.num_data = len(data.x)
        if self.family.latent == "index" and isinstance(self.start, PCAStart):
            raise VemError(
                "strategy/start=pca gives z a place in a plane, and the z of a mixture is an index: take "
                "strategy/start=prior, where every component starts with the same share."
            )
        if self.m_steps:  # a θ that is kept is one that the caller has chosen
            model.start(data.x, generator)
        # Where columns have scales of their own, so has the probabilistic PCA of the start.
        self.start.fit(in_units(model, data.x), self.family.size, generator)
        params = data.x.new_empty(self.num_data, self.family.num_params)
        for low in range(0, self.num_data, CHUNK):
            params[low : low + CHUNK] = self._started(model, data.x[low : low + CHUNK])
        self.row_gradient = compiled(row_gradient, self.compile, data.x.device)
        self.slope = compiled(self._slope, self.compile, data.x.device)
        self.table = RowTable(fresh(params, self.rule.moments))
        if self.m_steps:
            self.climber = Climber(self.make_optimizer, model.parameters())
        if self.phases:
            self.phases.reset(data.x.device)

    def _started(self, model: GenerativeModel, x: Tensor) -> Tensor:
        return self.family.start(*self.start(in_units(model, x))).to(x.dtype)

    def noise(self, batch_size: int, held_out: bool = False) -> dict[str, NoiseSpec]:
        """``rows``: for each E-step; ``theta``: for each M-step."""
        draws = self.held_out.draws if held_out else self.objective.num_draws
        spec = self.family.noise(draws, batch_size)
        if spec is None:
            return {}
        repeats = {"rows": self.held_out.steps} if held_out else {"rows": self.e_steps, "theta": self.m_steps}
        return {name: NoiseSpec(spec.kind, (n, *spec.shape)) for name, n in repeats.items() if n}

    @torch.no_grad()
    def infer(self, model: GenerativeModel, batch: Batch, noise: Noise) -> Posterior:
        """The stored rows; for held-out data fresh rows, raised at frozen θ with the budget ``held_out``."""
        if batch.rows is not None:
            # A data-dependent check would wait for the device; the indexing itself checks the range.
            return self.family(self.table.params[batch.rows])
        rows = fresh(self._started(model, batch.x), self.rule.moments)
        rows, _ = ascend(
            model, self.family, self.objective, batch.x, rows, self.rule, noise.get("rows"),
            self.held_out.steps, self.held_out.rate, batch.x.new_ones(()), self.held_out.cool,
        )  # fmt: skip
        return self.family(rows.params)

    def step(self, model: GenerativeModel, batch: Batch, noise: Noise, schedule: Schedule) -> StepInfo:
        """The E- and M-steps of one batch; the bound is that of the last gradient in θ, if there was one."""
        if batch.rows is None:
            raise VemError(
                "strategy=local was asked to train on rows of data it has no λ for: held-out data go through infer()."
            )
        e_steps, m_steps = self.e_steps, self.m_steps
        if self.phases:
            e_steps, m_steps = (e_steps, 0) if self.phases.moves_rows(m_steps) else (0, m_steps)
        rows = self.table.gather(batch.rows)
        if self.order == "m_then_e":
            learned = self._m_steps(model, batch, rows, noise, schedule, m_steps)
            rows, raised = self._e_steps(model, batch, rows, noise, schedule, e_steps)
        else:
            rows, raised = self._e_steps(model, batch, rows, noise, schedule, e_steps)
            if self.joint:
                rows, learned = self._joint_step(model, batch, rows, noise, schedule)
            else:
                learned = self._m_steps(model, batch, rows, noise, schedule, m_steps)
        self.table.scatter(batch.rows, rows)
        bound, terms = learned or (raised, {})
        assert bound is not None  # no step moves neither λ nor θ
        if self.phases:
            self.phases.add(bound.terms.get("objective", bound.value), schedule.kl_weight)
        passes = (e_steps + m_steps) * self.objective.cost(self.family, len(batch.x))
        return StepInfo(bound, terms, passes, passes)

    def _e_steps(
        self, model: GenerativeModel, batch: Batch, rows: Rows, noise: Noise, schedule: Schedule, steps: int
    ) -> tuple[Rows, Bound | None]:
        """λ_n ← λ_n + step of ∇ L_n, ``steps`` times, with θ frozen."""
        rate = self._row_rate(schedule)
        return ascend(
            model, self.family, self.objective, batch.x, rows, self.rule, noise.get("rows"), steps, rate,
            schedule.kl_weight, gradient_of=self.row_gradient,
        )  # fmt: skip

    def _row_rate(self, schedule: Schedule) -> Tensor:
        # In tensors all along: reading the progress on the host would be a sync point.
        cosine = 0.5 + 0.5 * torch.cos(math.pi * schedule.progress)
        return schedule.rate * (self.cool + (1 - self.cool) * cosine)

    def _m_steps(
        self, model: GenerativeModel, batch: Batch, rows: Rows, noise: Noise, schedule: Schedule, steps: int
    ) -> tuple[Bound, dict[str, Tensor]] | None:
        """θ ← θ + step of (N/B) Σ_b ∇_θ L_b, ``steps`` times, with the rows frozen."""
        learned = None
        for step in range(steps):
            slope = self.slope(model, batch, rows.params, noise, schedule, step)
            self.climber.step(slope, schedule.rate)
            learned = slope.bound, self._terms(slope)
        return learned

    def _joint_step(
        self, model: GenerativeModel, batch: Batch, rows: Rows, noise: Noise, schedule: Schedule
    ) -> tuple[Rows, tuple[Bound, dict[str, Tensor]]]:
        """One gradient at the same (λ, θ) moves both."""
        params = rows.params.detach().requires_grad_()
        slope = self.slope(model, batch, params, noise, schedule, 0)
        # θ takes (N/B) Σ_b L_b; the rows take Σ_b L_b, so N/B is taken out again, from the smaller of the two.
        gradient = slope.others[0] * (len(batch.x) / self.num_data)
        rows = self.rule(self.family, rows._replace(params=params.detach()), gradient, self._row_rate(schedule))
        self.climber.step(slope, schedule.rate)
        return rows, (slope.bound, self._terms(slope))

    def _slope(
        self, model: GenerativeModel, batch: Batch, params: Tensor, noise: Noise, schedule: Schedule, step: int
    ) -> Slope:
        """The gradient of (N/B) Σ_b L_b in θ, and in the rows if they ask for one."""
        eps = noise.get("theta")
        eps = None if eps is None else eps[step]
        bound = self.objective(model, batch.x, self.family(params), eps, schedule.kl_weight)
        rows = [params] if params.requires_grad else []
        return differentiate(bound, float(self.num_data), self.climber.params, rows)

    def _terms(self, slope: Slope) -> dict[str, Tensor]:
        return {"gradient_norm": slope.norm / self.num_data}

    def end_epoch(self, model: GenerativeModel) -> bool:
        """Algorithm 7 changes its phase here; True once a whole cycle gains less than the tolerance."""
        return self.phases.end_pass() if self.phases and self.m_steps else False

    def state_dict(self) -> dict[str, Any]:
        """The table, the fitted start, θ's optimizer, the phase."""
        # The start of held-out rows: fitted again elsewhere, an eigenvector may come out with the other sign.
        start = {name: value for name, value in vars(self.start).items() if isinstance(value, Tensor)}
        state: dict[str, Any] = {"table": self.table.state_dict(), "start": start}
        if self.m_steps:
            state["optimizer"] = self.climber.state_dict()
        if self.phases:
            state["phases"] = self.phases.state_dict()
        return state

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Put them back."""
        self.table.load_state_dict(state["table"])
        vars(self.start).update(state["start"])
        if self.m_steps:
            self.climber.load_state_dict(state["optimizer"])
        if self.phases:
            self.phases.load_state_dict(state["phases"])
