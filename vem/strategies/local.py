"""Local variational EM: every datum keeps a λ_n of its own in a table."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from vem.ascent.e_step import ascend, lambda_gradient
from vem.ascent.lambda_table import Lambdas, LambdaTable, fresh
from vem.ascent.rules import Rule
from vem.ascent.starts import CHUNK, PCAStart, Start
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
from vem.errors import BadArgument, VemError, at_least, choice
from vem.families.checks import matching
from vem.models.units import in_units
from vem.objectives.checks import called_in_steps
from vem.strategies.compiled import compiled
from vem.strategies.gradient import AscentOptimizer, Gradient, OptimizerFactory, differentiate
from vem.strategies.phases import Alternation


@dataclass(frozen=True)
class HeldOut:
    """The budget of held-out rows: ``steps`` ascent steps of ``draws`` draws, the rate cooled to ``cool``."""

    steps: int = 100
    draws: int = 1
    rate: float = 1.0
    cool: float = 0.05

    def __post_init__(self) -> None:
        at_least(self.steps, 1, "steps")
        at_least(self.draws, 1, "draws")
        # A negative rate would descend.
        at_least(self.rate, 0, "rate")
        at_least(self.cool, 0, "cool")


class Local:
    """Stochastic variational EM with a persistent table of λ_n (Algorithms 7 and 8 of the notes).

    ``schedule="minibatch"`` (Algorithm 8): for each batch ``e_steps`` ascent steps on its rows and
    ``m_steps`` on θ, in the ``order`` ``e_then_m``, ``m_then_e``, or ``joint``, where one gradient at the
    same (λ, θ) is the last e-step and the m-step. λ ascends Σ_b L_b, θ ascends (N/B) Σ_b L_b.

    ``schedule="alternating"`` (Algorithm 7): whole passes over the data that move only the rows until the
    ELBO rises by less than ``tolerance`` nats per datum or ``max_passes`` are done, then passes that move
    only θ, and so on. It is the objective's own bound that counts there, where that is another than the ELBO.

    ``m_steps=0`` keeps θ as it is: the rows alone ascend.

    The rows' rate falls along a cosine to ``cool`` times itself over the planned epochs, so that they settle. The
    objective's path gradient suits them, for its noise then vanishes. ``compile=True`` compiles the gradients.

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
        self.objective = called_in_steps(objective)
        at_least(cool, 0, "cool")
        self.cool, self.compile = cool, compile
        self.rule, self.start, self.held_out = rule, start, held_out
        at_least(e_steps, 1, "e_steps")
        at_least(m_steps, 0, "m_steps")
        self.order = choice(order, ("e_then_m", "m_then_e", "joint"), "order")
        self.schedule = choice(schedule, ("minibatch", "alternating"), "schedule")
        if m_steps > 1 and order == "joint" and schedule == "minibatch":
            raise BadArgument("m_steps", f"={m_steps}: strategy.order=joint moves θ once a batch; take e_then_m.")
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
        self.lambda_gradient = compiled(lambda_gradient, self.compile, data.x.device)
        self.theta_gradient = compiled(self._theta_gradient, self.compile, data.x.device)
        self.table = LambdaTable(fresh(params, self.rule.moments))
        if self.m_steps:
            self.optimizer = AscentOptimizer(self.make_optimizer, model.parameters())
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
        """The stored λ; for held-out data a fresh one, raised at frozen θ with the budget ``held_out``."""
        if batch.rows is not None:
            # A data-dependent check would wait for the device; the indexing itself checks the range.
            return self.family(self.table.params[batch.rows])
        lambdas = fresh(self._started(model, batch.x), self.rule.moments)
        lambdas, _ = ascend(
            model, self.family, self.objective, batch.x, lambdas, self.rule, noise.get("rows"),
            self.held_out.steps, self.held_out.rate, batch.x.new_ones(()), self.held_out.cool,
        )  # fmt: skip
        return self.family(lambdas.params)

    def step(self, model: GenerativeModel, batch: Batch, noise: Noise, schedule: Schedule) -> StepInfo:
        """The E- and M-steps of one batch; the bound is that of the last gradient in θ, if there was one."""
        if batch.rows is None:
            raise VemError(
                "strategy=local was asked to train on rows of data it has no λ for: held-out data go through infer()."
            )
        e_steps, m_steps = self.e_steps, self.m_steps
        if self.phases:
            e_steps, m_steps = (e_steps, 0) if self.phases.moves_rows(m_steps) else (0, m_steps)
        # In tensors all along: reading the progress on the host would be a sync point.
        cosine = 0.5 + 0.5 * torch.cos(math.pi * schedule.progress)
        rate = schedule.rate * (self.cool + (1 - self.cool) * cosine)
        lambdas, raised, learned = self.table.gather(batch.rows), None, None

        def e_step() -> tuple[Lambdas, Bound | None]:
            """λ_n ← λ_n + step of ∇ L_n, with θ frozen."""
            return ascend(
                model, self.family, self.objective, batch.x, lambdas, self.rule, noise.get("rows"), e_steps, rate,
                schedule.kl_weight, gradient_of=self.lambda_gradient,
            )  # fmt: skip

        def m_step() -> Gradient | None:
            """θ ← θ + step of (N/B) Σ_b ∇_θ L_b, with λ frozen."""
            gradient = None
            for step in range(m_steps):
                gradient = self.theta_gradient(model, batch, lambdas.params, noise, schedule, step)
                self.optimizer.step(gradient, schedule.rate)
            return gradient

        if self.order == "m_then_e":
            learned = m_step()
        lambdas, raised = e_step()
        if self.joint:
            lambdas, learned = self._joint_step(model, batch, lambdas, noise, schedule, rate)
        elif self.order != "m_then_e":
            learned = m_step()
        self.table.scatter(batch.rows, lambdas)
        bound = raised if learned is None else learned.bound
        assert bound is not None  # no step moves neither λ nor θ
        if self.phases:
            self.phases.add(bound.terms.get("objective", bound.value), schedule.kl_weight)
        passes = (e_steps + m_steps) * self.objective.cost(self.family, len(batch.x))
        terms = {} if learned is None else {"gradient_norm": learned.norm / self.num_data}
        return StepInfo(bound, terms, passes, passes)

    def _joint_step(
        self, model: GenerativeModel, batch: Batch, lambdas: Lambdas, noise: Noise, schedule: Schedule, rate: Tensor
    ) -> tuple[Lambdas, Gradient]:
        """One gradient at the same (λ, θ) moves both."""
        params = lambdas.params.detach().requires_grad_()
        gradient = self.theta_gradient(model, batch, params, noise, schedule, 0)
        # θ takes (N/B) Σ_b L_b and λ takes Σ_b L_b: N/B is taken out again, from the smaller of the two.
        uphill = gradient.uphill[0] * (len(batch.x) / self.num_data)
        lambdas = self.rule(self.family, lambdas._replace(params=params.detach()), uphill, rate)
        self.optimizer.step(gradient, schedule.rate)
        return lambdas, gradient

    def _theta_gradient(
        self, model: GenerativeModel, batch: Batch, params: Tensor, noise: Noise, schedule: Schedule, step: int
    ) -> Gradient:
        """The gradient of (N/B) Σ_b L_b in θ, and in λ if it asks for one."""
        eps = noise.get("theta")
        eps = None if eps is None else eps[step]
        bound = self.objective(model, batch.x, self.family(params), eps, schedule.kl_weight)
        return differentiate(
            bound, float(self.num_data), self.optimizer.params, [params] if params.requires_grad else []
        )

    def end_epoch(self, model: GenerativeModel) -> bool:
        """Algorithm 7 changes its phase here; True once a whole cycle gains less than the tolerance."""
        return self.phases.end_pass() if self.phases and self.m_steps else False

    def state_dict(self) -> dict[str, Any]:
        """The table, the fitted start, θ's optimizer, the phase."""
        # The start of held-out rows: fitted again elsewhere, an eigenvector may come out with the other sign.
        start = {name: value for name, value in vars(self.start).items() if isinstance(value, Tensor)}
        state: dict[str, Any] = {"table": self.table.state_dict(), "start": start}
        if self.m_steps:
            state["optimizer"] = self.optimizer.state_dict()
        if self.phases:
            state["phases"] = self.phases.state_dict()
        return state

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Put them back."""
        self.table.load_state_dict(state["table"])
        vars(self.start).update(state["start"])
        if self.m_steps:
            self.optimizer.load_state_dict(state["optimizer"])
        if self.phases:
            self.phases.load_state_dict(state["phases"])
