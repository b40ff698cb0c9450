"""The best q of a family for every datum, at frozen θ, with a certificate of how much is still missing."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from vem.ascent.elbo_oracle import ElboOracle
from vem.ascent.lbfgs import Climbed, History, climb, put, some_of
from vem.ascent.matched import matched, spherical
from vem.ascent.starting import prior_params, screen
from vem.contracts import Family, GenerativeModel
from vem.errors import at_least, positive

TRUST = 2.0  # a stochastic step's greatest length: standard deviations, where the family composes
BURNED = 1 / 3  # share of a round's steps that its average leaves out
RESTED = 5.0  # tolerances below its start at which a walk that has come to rest still vouches for the start
COOLED, SLOWER = 0.8, 0.2  # what a round leaves of the rate, and what one that lost leaves


@dataclass(frozen=True)
class BestSettings:
    """The budget of the search, for each datum.

    ``draws`` a gradient (at least 2H); ``tolerance`` nats: a datum whose certificate is below it, by more than its
    standard error, has converged and stops; ``evaluations`` of the quasi-Newton climb, ``memory`` pairs in its history;
    then ``rounds`` of averaged steps at most, the first at the cost of ``steps`` gradients (of more where the climb was
    longer), each at twice the cost of the one before; ``rate`` of the first round's steps; ``score_draws`` to report.

    Raises:
        VemError: a number out of range.
    """

    draws: int = 100
    tolerance: float = 0.01
    evaluations: int = 100
    memory: int = 20
    steps: int = 25
    rounds: int = 7
    rate: float = 0.5
    score_draws: int = 200

    def __post_init__(self) -> None:
        smallest = {"draws": 2, "evaluations": 2, "memory": 1, "steps": 2, "rounds": 1, "score_draws": 4}
        for name, least in smallest.items():
            at_least(getattr(self, name), least, name)
        for name in ("tolerance", "rate"):
            positive(getattr(self, name), name)


class BestQ(NamedTuple):
    """The best q of the family for each datum; bounds in nats."""

    params: Tensor  # [B, P]
    elbo: Tensor  # [B] L[q*] on noise that neither found nor picked it
    mc_variance: Tensor  # [B] of elbo
    certificate: Tensor  # [B] what as much work again gained, on fresh noise; negative where it lost
    certificate_variance: Tensor  # [B]
    start_spread: Tensor  # [B] best less worst start, each after its rough climb; 0 with one start
    gradient_norm: Tensor  # [B] of L at q*, in the coordinates where q* is N(0, I) if the family composes
    steps: Tensor  # [B] ascent steps taken
    # [B] bool: the climb finished, and |certificate| plus its standard error is within the tolerance. That says
    # that q* is a local optimum: another start may still lead higher, by more the more rugged the bound is.
    converged: Tensor
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

    1. A rough climb raises every start, of means and scales on few draws. The best one goes on; the second
       best one too, where it lies behind by less than the climb of the first gains.
    2. L-BFGS on a fixed set of moment-matched antithetic draws, in the coordinates where the start is N(0, I).
       Such draws integrate quadratics exactly, so that the excess of a Gaussian posterior's q* is zero
       whatever its condition number. Elsewhere the optimum fits its S draws, at a cost of c/S nats, and what
       hangs on |ε| is biased, for their lengths do not vary as a normal's do.
    3. Rounds of stochastic steps with the history's inverse Hessian, on fresh normal draws each, averaged
       after the first third. A round costs twice the one before and, averaged well, halves the excess: what
       it gains is then what is still missing after it. That gain is the certificate. A round that loses more
       than its noise explains is undone, and a datum stops when |gain| is below the tolerance.

    The climbs alone use ``matched`` draws, which are not normal; the rounds and all judgements use ``spherical`` ones,
    which are, and the bound that is reported ``antithetic`` ones, for its standard error. A q gives way to another only
    on noise that found neither, the start included (of two rounds that the noise cannot tell apart the later one is
    kept), and the reported bound comes from noise that picked nothing. Noise is independent across data. θ gets no
    gradient. ``tick`` is called after each piece of work and may raise.

    Raises:
        VemError: no start has a finite bound, or the bound of the result is not finite.

    Source: Cremer et al., 2018, section 5.1 (the local optimum per datum); Polyak and Juditsky, 1992
    (averaging); Liu and Nocedal, 1989.
    """
    with torch.no_grad():
        return _Search(ElboOracle(model, family, x, stream, tick), settings).run(starts)


class _Walk(NamedTuple):
    """How far each datum has come; written in place."""

    base: Tensor  # [B, P] the q in whose coordinates the climb and the rounds take place
    here: Tensor  # [B, P] λ
    climbed: Climbed  # in those coordinates
    steps: Tensor  # [B]
    certificate: Tensor  # [B] gain of the last piece of work, nats
    variance: Tensor  # [B] of that gain


class _Search:
    """The search for one batch of data."""

    def __init__(self, bounds: ElboOracle, settings: BestSettings) -> None:
        self.bounds, self.settings = bounds, settings
        self.rows = bounds.rows
        self.draws = 2 * math.ceil(max(settings.draws, 2 * bounds.family.size) / 2)
        self.few = 4 * math.ceil(settings.draws / 8)  # for gains that are large: spherical draws come in fours
        self.origin = prior_params(bounds.family, bounds.x)

    def run(self, starts: Mapping[str, Tensor]) -> BestQ:
        settings = self.settings
        tried, bound = screen(self.bounds, starts, self.draws, settings.evaluations, settings.memory)
        start, spread = tried[0], bound[0] - torch.where(bound.isfinite(), bound, bound[0]).amin(0)
        walk = self.climb_twice(start, self.rows)
        if len(tried) > 1:
            self.climb_from_the_second(walk, tried[:2], bound[:2])
        self.go_on_averaging(walk)
        # The start may still be the best of all, whatever was gained after it was left.
        gain, variance = self.gain(start, walk.here, self.rows)
        risen = gain > 0
        best = torch.where(risen[:, None], walk.here, start)
        # A start that is kept, because the walk came to rest a little below it, was at an optimum already.
        settled = self.settled(walk.certificate, walk.variance) & (gain > -RESTED * self.settings.tolerance)
        certificate = torch.where(risen, walk.certificate, gain)
        variance = torch.where(risen, walk.variance, variance)
        elbo, mc_variance = self.bounds.score(best, self.settings.score_draws)
        return BestQ(
            best, elbo, mc_variance, certificate, variance, spread,
            self.slope(best), walk.steps, walk.climbed.finished & settled,
            self.bounds.gradients,
        )  # fmt: skip

    # --- the stages

    def climb(self, base: Tensor, rows: Tensor) -> Climbed:
        """L-BFGS from the q's ``base`` of these rows, on fresh draws that stay the same throughout."""
        settings = self.settings
        climbable = self.bounds.climbable(base, self.bounds.noise(self.draws, rows, matched), rows)
        origin = self.origin[rows] if self.bounds.composes else base
        return climb(climbable, origin, settings.evaluations, 0.1 * settings.tolerance, settings.memory)

    def climb_twice(self, start: Tensor, rows: Tensor) -> _Walk:
        """The climb; rows that ran out of evaluations climb as long again: what that gains is their certificate."""
        climbed = self.climb(start, rows)
        here = self.bounds.chart(start, climbed.params)
        open_end = torch.full((len(here),), torch.inf, dtype=torch.float64, device=here.device)
        walk = _Walk(start.clone(), here, climbed, climbed.evaluations.clone(), open_end, open_end.clone())
        left = (~climbed.finished).nonzero()[:, 0]
        if len(left):
            base = here[left]
            again = self.climb(base, rows[left])
            after = self.bounds.chart(base, again.params)
            gain, variance = self.gain(base, after, rows[left])
            best = torch.where((gain > 0)[:, None], after, base)
            put(walk, left, _Walk(base, best, again, walk.steps[left] + again.evaluations, gain, variance))
        return walk

    def climb_from_the_second(self, walk: _Walk, tried: Tensor, bound: Tensor) -> None:
        """The same climb from the second best start, where it would overtake if it gained as much as the first.

        The screening is short: on a rugged surface its order says little, and a climb gains far more than lay
        between the starts. Where the first climb gained little, it has nothing to be afraid of.
        """
        gained, _ = self.gain(tried[0], walk.here, self.rows, self.few)
        rows = (bound[1] + gained > bound[0]).nonzero()[:, 0]
        if len(rows):
            rival = self.climb_twice(tried[1, rows], rows)
            gain, _ = self.gain(walk.here[rows], rival.here, rows)
            won = (gain > 0).nonzero()[:, 0]
            put(walk, rows[won], some_of(rival, won))

    def go_on_averaging(self, walk: _Walk) -> None:
        """Rounds of averaged steps for the rows whose climb has finished, each at twice the cost of the last.

        Rows are taken together that have climbed for about as long, so that a round is as much work again as
        all before it. A step takes twice the draws of the climb, for it is four of each direction that integrate
        a quadratic almost without error. More draws let the noise of the steps fall, more steps reach the slow
        directions: the cost goes to either by turns. The rate cools, and more so where a round loses: a history
        of few pairs can promise too much.
        """
        settings, finished = self.settings, walk.climbed.finished
        steps = math.ceil(settings.steps / 2)
        doublings = (walk.steps / settings.steps).clamp_min(1).log2().ceil().long()
        for doubling in sorted(set(doublings[finished].tolist())):
            rows = (finished & (doublings == doubling)).nonzero()[:, 0]
            inner = walk.climbed.params[rows]
            rate = torch.full_like(inner[:, :1], settings.rate)
            for number in range(settings.rounds):
                length, draws = steps * 2 ** (doubling + number // 2), 2 * self.draws * 2 ** ((number + 1) // 2)
                base, here, history = walk.base[rows], walk.here[rows], some_of(walk.climbed.history, rows)
                moved = self.average(base, inner, history, rows, length, draws, rate)
                after = self.bounds.chart(base, moved)
                gain, variance = self.gain(here, after, rows, max(2 * self.draws, draws // 2))
                # Where the noise leaves it open, the round with more draws behind it is the better guess.
                risen = (gain > -(2 * variance.sqrt()).clamp_max(settings.tolerance))[:, None]
                inner, rate = torch.where(risen, moved, inner), rate * torch.where(risen, COOLED, SLOWER)
                walk.here[rows] = torch.where(risen, after, here)
                walk.certificate[rows], walk.variance[rows] = gain, variance
                walk.steps[rows] += length
                on = (~self.settled(gain, variance)).nonzero()[:, 0]
                rows, inner, rate = rows[on], inner[on], rate[on]
                if not len(rows):
                    break

    def average(
        self, base: Tensor, inner: Tensor, history: History, rows: Tensor, steps: int, draws: int, rate: Tensor
    ) -> Tensor:
        """The mean of ``steps`` stochastic quasi-Newton steps after the first third, fresh normal draws each."""
        total, within = torch.zeros_like(inner), torch.arange(len(rows), device=rows.device)
        burned = int(BURNED * steps)
        for step in range(steps):
            _, gradient = self.bounds.climbable(base, self.bounds.noise(draws, rows, spherical), rows)(inner, within)
            move = history.precondition(gradient)
            move = move * (TRUST / move.norm(dim=-1, keepdim=True)).clamp_max(1)
            inner = inner + rate * torch.where(move.isfinite().all(-1, keepdim=True), move, 0)
            if step >= burned:
                total = total + inner
        return total / (steps - burned)

    # --- what a q is worth

    def gain(self, before: Tensor, after: Tensor, rows: Tensor, draws: int | None = None) -> tuple[Tensor, Tensor]:
        """L[after] − L[before] on fresh normal noise, to about the tolerance, and its variance."""
        return self.bounds.gain(before, after, rows, draws or 2 * self.draws, self.settings.tolerance)

    def settled(self, gain: Tensor, variance: Tensor) -> Tensor:
        """Whether a gain is within the tolerance, with its standard error to spare; False where it is not a number."""
        return gain.abs() + variance.sqrt() <= self.settings.tolerance

    def slope(self, params: Tensor) -> Tensor:
        """‖∇L‖ [B] at these q's, on fresh draws."""
        climbable = self.bounds.climbable(params, self.bounds.noise(2 * self.draws, self.rows, spherical), self.rows)
        _, gradient = climbable(self.origin if self.bounds.composes else params, self.rows)
        return gradient.norm(dim=-1).double()
