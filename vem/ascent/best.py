"""The best q of a family for every datum, at frozen θ, with a certificate of how much is still missing."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import NamedTuple, Protocol, runtime_checkable

import torch
from torch import Tensor

from vem.ascent.joint import log_joint_gradient, log_joint_in_blocks
from vem.ascent.lbfgs import Climbable, Climbed, History, climb
from vem.ascent.matched import antithetic, matched
from vem.contracts import Family, GenerativeModel, NoiseSpec
from vem.errors import VemError, at_least
from vem.numerics import weighted_sum

TRUST = 2.0  # a stochastic step's greatest length: standard deviations, where the family composes
SCREENED = 5  # evaluations of the screening of a start
COOLED, SLOWER = 0.8, 0.2  # what a round leaves of the rate, and what one that lost leaves
SCORED = 2000  # most draws that are scored together
SETS = 8, 32  # fewest and most sets of matched draws that a gain is taken from


@runtime_checkable
class Composable(Protocol):
    """A family that is closed under its own transport, so that λ can be sought in the coordinates of a q."""

    def compose(self, outer: Tensor, inner: Tensor) -> Tensor:
        """λ [B, P] of the q whose transport is ε → outer(inner(ε))."""


@dataclass(frozen=True)
class BestSettings:
    """The budget of the search, for each datum.

    ``draws`` a gradient (at least 2H); ``tolerance`` nats: a datum whose certificate is below it has
    converged and stops; ``evaluations`` of the quasi-Newton climb, ``memory`` pairs in its history; then
    ``rounds`` of averaged steps at most, the first of ``steps`` (of more where the climb was longer), each at
    twice the cost of the one before: twice the draws and twice the steps by turns; ``rate`` of the first
    round's steps; ``score_draws`` to report.

    Raises:
        VemError: a number out of range.
    """

    draws: int = 100
    tolerance: float = 0.01
    evaluations: int = 100
    memory: int = 20
    steps: int = 25
    rounds: int = 6
    rate: float = 0.5
    score_draws: int = 200

    def __post_init__(self) -> None:
        smallest = {"draws": 2, "evaluations": 2, "memory": 1, "steps": 2, "rounds": 1, "score_draws": 4}
        for name, least in smallest.items():
            at_least(getattr(self, name), least, f"evaluation.best.{name}")
        for name in ("tolerance", "rate"):
            if not getattr(self, name) > 0:
                raise VemError(f"evaluation.best.{name}={getattr(self, name)} must be positive.")


class BestQ(NamedTuple):
    """The best q of the family for each datum; bounds in nats."""

    params: Tensor  # [B, P]
    elbo: Tensor  # [B] L[q*] on noise that neither found nor picked it
    mc_variance: Tensor  # [B] of elbo
    certificate: Tensor  # [B] what the last round gained, judged on fresh noise: as much work again as all before
    certificate_variance: Tensor  # [B]
    start_spread: Tensor  # [B] best less worst start, each after the screening; 0 with one start
    gradient_norm: Tensor  # [B] of L at q*, in the coordinates where q* is N(0, I) if the family composes
    steps: Tensor  # [B] ascent steps taken
    converged: Tensor  # [B] bool: the climb finished and the certificate is below the tolerance
    decoder_gradients: Tensor  # [B] spent


def best_q(
    model: GenerativeModel,
    family: Family,
    x: Tensor,
    starts: Mapping[str, Tensor],
    settings: BestSettings,
    stream: torch.Generator,
    tick: Callable[[], None] = lambda: None,
) -> BestQ:
    """q*_n = argmax_{q in the family} L_n[q] for x [B, *X], all data in parallel; ``starts`` holds λ's [B, P].

    1. Every start is raised briefly; the best one, by common noise, goes on.
    2. L-BFGS on a fixed set of moment-matched antithetic draws, in the coordinates where the start is N(0, I).
       Such draws integrate quadratics exactly, so that the excess of a Gaussian posterior's q* is zero
       whatever its condition number. Elsewhere the optimum fits its S draws, at a cost of c/S nats.
    3. Rounds of stochastic steps with the history's inverse Hessian, fresh draws each, averaged over the
       second half. A round costs twice the one before and, averaged well, halves the excess: what it gains,
       on fresh paired noise, is then what is still missing after it. That gain is the certificate; a round
       that does not gain is undone, and a datum stops when |gain| is below the tolerance.

    A q gives way to another only on noise that found neither, the start included, and the bound of the last
    one comes from noise that picked nothing. Noise is independent across data. θ gets no gradient. ``tick``
    is called after each piece of work and may raise.

    Raises:
        VemError: no start has a finite bound, or the bound of the result is not finite.

    Source: Cremer et al., 2018, section 5.1 (the local optimum per datum); Polyak and Juditsky, 1992
    (averaging); Liu and Nocedal, 1989.
    """
    search = _Search(model, family, x, settings, stream, tick)
    with torch.no_grad():
        return search.run(starts)


class _Search:
    """The search for one batch of data."""

    def __init__(
        self, model: GenerativeModel, family: Family, x: Tensor, settings: BestSettings, stream: torch.Generator,
        tick: Callable[[], None],
    ) -> None:  # fmt: skip
        self.model, self.family, self.x, self.settings = model, family, x, settings
        self.stream, self.tick = stream, tick
        size = len(x)
        self.rows = torch.arange(size, device=x.device)
        self.gradients = torch.zeros(size, device=x.device)
        self.draws = 2 * math.ceil(max(settings.draws, 2 * family.size) / 2)
        ones = x.new_ones(size, family.size)
        self.origin = family.start(torch.zeros_like(ones), ones).to(x.dtype)  # N(0, I)
        self.picking = self.noise(2 * self.draws, self.rows, matched)

    def run(self, starts: Mapping[str, Tensor]) -> BestQ:
        base, spread = self.screen(starts)
        climbed = self.climb(base, self.rows, self.settings.evaluations)
        here = self.chart(base, climbed.params)
        certificate = torch.full_like(here[:, 0], torch.inf, dtype=torch.float64)
        variance, steps = torch.zeros_like(certificate), climbed.evaluations.clone()
        self.go_on_climbing(~climbed.finished, here, steps, certificate, variance)
        self.go_on_averaging(climbed, base, here, steps, certificate, variance)
        risen = self.gain(base, here, self.rows, self.draws)[0] > 0
        best = torch.where(risen[:, None], here, base)
        elbo, mc_variance = self.score(best)
        return BestQ(
            best, elbo, mc_variance, certificate, variance, spread, self.slope(best), steps,
            climbed.finished & (certificate.abs() <= self.settings.tolerance), self.gradients,
        )  # fmt: skip

    # --- the stages

    def screen(self, starts: Mapping[str, Tensor]) -> tuple[Tensor, Tensor]:
        """The best start after a few evaluations, by one noise; and best less worst."""
        raised, bounds = [], []
        for start in starts.values():
            start = start.to(self.x.dtype)
            if len(starts) == 1:  # nothing to choose from
                raised, bounds = [start], [self.mean_bound(start, self.picking, self.rows)]
                break
            for params in (start, self.chart(start, self.climb(start, self.rows, SCREENED).params)):
                raised.append(params)
                bounds.append(self.mean_bound(params, self.picking, self.rows))
        bound, params = torch.stack(bounds), torch.stack(raised)
        if not bool(bound.isfinite().any(0).all()):
            lost = (~bound.isfinite().any(0)).nonzero()[:, 0].tolist()
            raise VemError(
                f"no start of the best q has a finite bound for {len(lost)} of {len(self.x)} data (the first: "
                f"{lost[:5]} of this batch): the decoder or the encoder gives NaN or infinite numbers there."
            )
        best = bound.argmax(0)
        ends = bound[1::2] if len(starts) > 1 else bound
        finite = torch.where(ends.isfinite(), ends, ends.amax(0))
        return params[best, self.rows], finite.amax(0) - finite.amin(0)

    def climb(self, base: Tensor, rows: Tensor, evaluations: int) -> Climbed:
        """L-BFGS from the q's ``base`` of these rows, on fresh draws that stay the same throughout."""
        eps = self.noise(self.draws, rows, matched)
        climbable = self.climbable(base, eps, rows)
        origin = self.origin[rows] if self.composes else base
        return climb(climbable, origin, evaluations, 0.1 * self.settings.tolerance, self.settings.memory)

    def go_on_climbing(
        self, unfinished: Tensor, here: Tensor, steps: Tensor, certificate: Tensor, variance: Tensor
    ) -> None:
        """Rows whose climb ran out of evaluations climb as long again: what that gains is their certificate."""
        rows = unfinished.nonzero()[:, 0]
        if len(rows):
            again = self.climb(here[rows], rows, self.settings.evaluations)
            after = self.chart(here[rows], again.params)
            steps[rows] += again.evaluations
            certificate[rows], variance[rows] = self.gain(here[rows], after, rows, self.draws)
            here[rows] = torch.where((certificate[rows] > 0)[:, None], after, here[rows])

    def go_on_averaging(
        self, climbed: Climbed, base: Tensor, here: Tensor, steps: Tensor, certificate: Tensor, variance: Tensor
    ) -> None:
        """Rounds of averaged steps for the rows whose climb has finished, each at twice the cost of the last.

        Rows are taken together that have climbed for about as long, so that a round is as much work again as
        all before it. More draws let the noise of the steps fall, more steps reach the slow directions: the
        cost goes to either by turns. The rate cools, and more so where a round loses: a history of few
        pairs can promise too much.
        """
        settings = self.settings
        doublings = (climbed.evaluations / settings.steps).clamp_min(1).log2().ceil().long()
        for doubling in sorted(set(doublings[climbed.finished].tolist())):
            rows = (climbed.finished & (doublings == doubling)).nonzero()[:, 0]
            inner, rate = climbed.params[rows], settings.rate * torch.ones_like(climbed.params[rows, :1])
            for number in range(settings.rounds):
                length, draws = settings.steps * 2 ** (doubling + number // 2), self.draws * 2 ** ((number + 1) // 2)
                moved = self.average(base[rows], inner, climbed.history.of(rows), rows, length, draws, rate)
                after = self.chart(base[rows], moved)
                certificate[rows], variance[rows] = self.gain(here[rows], after, rows, draws)
                risen = (certificate[rows] > 0)[:, None]
                inner, rate = torch.where(risen, moved, inner), rate * torch.where(risen, COOLED, SLOWER)
                here[rows] = torch.where(risen, after, here[rows])
                steps[rows] += length
                on = (~(certificate[rows].abs() <= settings.tolerance)).nonzero()[:, 0]
                rows, inner, rate = rows[on], inner[on], rate[on]
                if not len(rows):
                    break

    def average(
        self, base: Tensor, inner: Tensor, history: History, rows: Tensor, steps: int, draws: int, rate: Tensor
    ) -> Tensor:
        """The mean of the second half of ``steps`` stochastic quasi-Newton steps, fresh draws each."""
        total = torch.zeros_like(inner)
        for step in range(steps):
            _, gradient = self.climbable(base, self.noise(draws, rows, matched), rows)(inner, self.within(rows))
            move = history.precondition(gradient)
            move = move * (TRUST / move.norm(dim=-1, keepdim=True)).clamp_max(1)
            inner = inner + rate * torch.where(move.isfinite().all(-1, keepdim=True), move, 0)
            if step >= steps // 2:
                total = total + inner
        return total / (steps - steps // 2)

    # --- the bound

    @property
    def composes(self) -> bool:
        return isinstance(self.family, Composable)

    def chart(self, base: Tensor, inner: Tensor) -> Tensor:
        """λ from the coordinates in which it is sought."""
        return self.family.compose(base, inner) if isinstance(self.family, Composable) else inner

    def noise(
        self, draws: int, rows: Tensor, draw: Callable[[NoiseSpec, torch.Generator, torch.dtype], Tensor]
    ) -> Tensor | None:
        """Noise of its own for each of the rows [S, A, H]."""
        spec = self.family.noise(draws, len(rows))
        return None if spec is None else draw(spec, self.stream, self.x.dtype)

    @staticmethod
    def within(rows: Tensor) -> Tensor:
        return torch.arange(len(rows), device=rows.device)

    def climbable(self, base: Tensor, eps: Tensor | None, rows: Tensor) -> Climbable:
        """The bound on these draws and its gradient, for rows numbered within ``rows``."""

        def value_and_gradient(inner: Tensor, some: Tensor) -> tuple[Tensor, Tensor]:
            x, noise = self.x[rows[some]], None if eps is None else eps[:, some]
            with torch.enable_grad():
                leaf = inner.detach().requires_grad_()
                z, log_q, log_weight = self.family(self.chart(base[some], leaf)).draws(noise)
                joint, slope = log_joint_gradient(self.model, x, z)
                # The decoder's gradient is known at z: what is left to differentiate is q alone.
                linear = joint + (slope * (z - z.detach())).sum(-1)
                bound = weighted_sum(log_weight, linear - log_q)
                (gradient,) = torch.autograd.grad(bound.sum(), leaf)
            self.gradients[rows[some]] += len(z)
            self.tick()
            return bound.detach(), gradient

        return value_and_gradient

    def draw_bounds(self, params: Tensor, eps: Tensor | None, rows: Tensor) -> tuple[Tensor, Tensor]:
        """log p(x, z_s) − log q(z_s) and the weight of the draw, each [S, A], float64."""
        z, log_q, log_weight = self.family(params).draws(eps)
        joint = log_joint_in_blocks(self.model, self.x[rows], z)
        self.tick()
        return joint.double() - log_q.double(), log_weight.double()

    def mean_bound(self, params: Tensor, eps: Tensor | None, rows: Tensor) -> Tensor:
        """L of these q's on these draws [A]; −∞ where it is not a number, so that any other q is better."""
        bounds, log_weight = self.draw_bounds(params, eps, rows)
        bound = weighted_sum(log_weight, bounds)
        return torch.where(bound.isfinite(), bound, -torch.inf)

    def gain(self, before: Tensor, after: Tensor, rows: Tensor, draws: int) -> tuple[Tensor, Tensor]:
        """L[after] − L[before] on fresh noise common to both, and its Monte Carlo variance, each [A].

        From sets of so many matched draws, the sets independent of one another: eight, and up to 32 where
        their spread leaves open on which side of the tolerance the gain lies.
        """
        means = self.x.new_zeros(SETS[1], len(rows), dtype=torch.float64)
        taken = torch.zeros(len(rows), dtype=torch.long, device=rows.device)
        open_rows = self.within(rows)
        for number in range(SETS[1]):
            part = rows[open_rows]
            eps = self.noise(draws, part, matched)
            new, old = (self.mean_bound(q[open_rows], eps, part) for q in (after, before))
            means[number, open_rows] = new - old
            taken[open_rows] += 1
            if number + 1 >= SETS[0]:
                mean, variance = _over_sets(means, taken)
                unsure = (mean.abs() - self.settings.tolerance).abs() < 2 * variance.sqrt()
                open_rows = (unsure & (taken == number + 1)).nonzero()[:, 0]
                if eps is None or not len(open_rows):
                    break
        return _over_sets(means, taken)

    def score(self, params: Tensor) -> tuple[Tensor, Tensor]:
        """L[q*] on fresh noise, and its Monte Carlo variance.

        Raises:
            VemError: it is not finite for some datum.
        """
        blocks = math.ceil(self.settings.score_draws / SCORED)
        draws = 2 * math.ceil(self.settings.score_draws / (2 * blocks))
        means, pairs = [], []
        for _ in range(blocks):
            eps = self.noise(draws, self.rows, antithetic)
            bounds, log_weight = self.draw_bounds(params, eps, self.rows)
            means.append(weighted_sum(log_weight, bounds))
            if eps is None:  # q enumerates its support: there is no error
                break
            pairs.append(0.5 * (bounds[: draws // 2] + bounds[draws // 2 :]))
        elbo = torch.stack(means).mean(0)
        variance = torch.cat(pairs).var(0) / (blocks * draws // 2) if pairs else torch.zeros_like(elbo)
        if not bool(elbo.isfinite().all()):
            lost = (~elbo.isfinite()).nonzero()[:, 0].tolist()
            raise VemError(
                f"log p(x, z) is not finite at draws of the best q for {len(lost)} of {len(elbo)} data (the first: "
                f"{lost[:5]} of this batch): the decoder gives NaN or infinite numbers for some z. Clamp its output."
            )
        return elbo, variance

    def slope(self, params: Tensor) -> Tensor:
        """‖∇L‖ [B] at these q's, on fresh draws."""
        inner = self.origin if self.composes else params
        _, gradient = self.climbable(params, self.noise(self.draws, self.rows, matched), self.rows)(inner, self.rows)
        return gradient.norm(dim=-1).double()


def _over_sets(means: Tensor, taken: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and variance of the mean of the first ``taken`` [A] of the sets' means [N, A]."""
    used = torch.arange(len(means), device=means.device)[:, None] < taken
    mean = means.sum(0) / taken
    return mean, (torch.where(used, means - mean, 0).square().sum(0) / (taken * (taken - 1)))
