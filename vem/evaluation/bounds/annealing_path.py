"""The budget of annealing, and the pilot run that finds its path: temperatures and step sizes for each data point."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from vem.errors import BadArgument, at_least, choice
from vem.evaluation.bounds.hmc import Target, log_ratio, refreshes, starting_point, transition

GAIN = 0.5  # of log step size for each unit that the acceptance misses its goal by
FIRST_GAIN = 2.0  # falls to GAIN as 1/t: the first step size is a guess
EVEN = 0.1  # share of the temperatures that is spread evenly, whatever the pilot saw
SIGMOID = 4.0  # the sigmoid schedule runs from σ(−SIGMOID) to σ(SIGMOID), rescaled


@dataclass(frozen=True)
class Annealing:
    """How annealed importance sampling spends its decoder gradients, for each data point.

    - ``temperatures`` T, ``chains`` C, ``leapfrog`` steps L: C · (1 + (T − 1) · L) gradients in a run.
    - ``schedule``: ``linear`` and ``sigmoid`` temperatures are the same for all data; ``adaptive`` ones have a
      constant conditional effective sample size for each data point, as the pilot sees it.
    - ``start``: ``best`` is q*, after ``curvature`` Newton steps on its mean and covariance (curvature + 1 probes
      of max(2H, 32) gradients; 0 leaves q* as it is). ``prior`` anneals the likelihood only.
    - The pilot: ``pilot_temperatures`` · ``pilot_chains`` · L gradients, aiming at an ``acceptance``.
    - ``modes``: where p(z | x) has several, annealing starts from a mixture over up to so many, or from the prior, if
      a pilot of their own finds more there; 1 looks for none (see :mod:`vem.evaluation.bounds.several`).

    Raises:
        VemError: a number out of range, or a name that is not known.
    """

    temperatures: int = 50
    chains: int = 8
    leapfrog: int = 3
    schedule: str = "adaptive"
    start: str = "best"
    curvature: int = 2
    pilot_temperatures: int = 20
    pilot_chains: int = 8
    acceptance: float = 0.8
    modes: int = 1

    def __post_init__(self) -> None:
        smallest = {"temperatures": 1, "chains": 1, "leapfrog": 1, "curvature": 0, "modes": 1}
        for name, least in {**smallest, "pilot_temperatures": 1, "pilot_chains": 2}.items():
            at_least(getattr(self, name), least, name)
        choice(self.schedule, ("adaptive", "linear", "sigmoid"), "schedule")
        choice(self.start, ("best", "prior"), "start")
        if not 0 < self.acceptance < 1:
            raise BadArgument("acceptance", f"={self.acceptance} must lie between 0 and 1; take 0.8.")


class Path(NamedTuple):
    """What a run follows; each data point its own."""

    betas: Tensor  # [T + 1, B] from 0 to 1
    step_sizes: Tensor  # [T − 1, B] at the temperatures in between


class Pilot(NamedTuple):
    """A path, and what the run that it was found by saw of log p(x): as good as its steps were, and no bound."""

    path: Path
    log_weight: Tensor  # [C, B]


def pilot(target: Target, settings: Annealing, stream: torch.Generator) -> Pilot:
    """Anneal ``pilot_chains`` once, with step sizes that adapt, and read the path off them.

    At each temperature log step moves by the gain times (acceptance − its goal), for each data point, up to the step
    of L leapfrog steps that take a quarter of a period of N(0, I): the most that decorrelates r(ε).

    The variance of log w added by a short step Δβ is Δβ² Var[r], and its conditional effective sample size
    1 − Δβ² Var[r] (a share): both are constant where the temperatures stand at equal shares of ∫ √Var[r] dβ.
    """
    shape = (settings.pilot_chains, len(target.x), target.size)
    noise = refreshes(stream, shape, target.x.dtype)
    point = starting_point(target, next(noise).momentum)
    longest = math.log(0.5 * math.pi / settings.leapfrog)
    knots = fixed_betas("sigmoid" if target.from_prior else "linear", settings.pilot_temperatures, target.x)
    log_step = torch.full_like(knots[0], min(longest, math.log(1.5 * target.size**-0.25)))
    log_steps, ratios = [], [log_ratio(point)]
    for t, beta in enumerate(knots[1:], start=1):
        moved = transition(target, point, beta, log_step.exp(), next(noise), settings.leapfrog)
        point = moved.point
        missed = moved.acceptance.mean(0) - settings.acceptance
        log_step = (log_step + max(GAIN, FIRST_GAIN / t) * missed).clamp_max(longest)
        log_steps.append(log_step)
        ratios.append(log_ratio(point))
    betas = fixed_betas(settings.schedule, settings.temperatures, target.x)
    if settings.schedule == "adaptive":
        betas = equal_shares(knots, torch.stack([ratio.std(0) for ratio in ratios]), settings.temperatures)
    steps = interpolate(betas[1:-1], knots, torch.stack([log_steps[0], *log_steps])).exp()
    log_weight = (knots.double().diff(dim=0)[:, None] * torch.stack(ratios[:-1])).sum(0)
    return Pilot(Path(betas.to(target.x.dtype), steps.to(target.x.dtype)), log_weight)


def fixed_betas(schedule: str, num: int, x: Tensor) -> Tensor:
    """``linear`` temperatures, else ``sigmoid`` ones, the same for every data point: [num + 1, B] float64."""
    line = torch.linspace(0, 1, num + 1, dtype=torch.float64, device=x.device)
    if schedule == "sigmoid":
        line = torch.sigmoid(SIGMOID * (2 * line - 1))
        line = (line - line[0]) / (line[-1] - line[0])
    return line[:, None].repeat(1, len(x))


def equal_shares(knots: Tensor, spread: Tensor, num: int) -> Tensor:
    """Temperatures [num + 1, B] at equal shares of ∫ spread dβ; knots, spread [M + 1, B]."""
    # A pilot that saw no spread, or infinite weights, leaves evenly spread temperatures.
    spread = spread.nan_to_num(0.0, 0.0, 0.0)
    pieces = knots.diff(dim=0) * 0.5 * (spread[1:] + spread[:-1])
    length = torch.cat([torch.zeros_like(knots[:1]), pieces.cumsum(0)])
    length = length + (EVEN * length[-1] + torch.finfo(length.dtype).tiny ** 0.5) * knots
    even = torch.linspace(0, 1, num + 1, dtype=knots.dtype, device=knots.device)[:, None].repeat(1, knots.shape[1])
    betas = interpolate(even, length / length[-1], knots)
    betas[0], betas[-1] = 0.0, 1.0
    return betas


def interpolate(at: Tensor, knots: Tensor, values: Tensor) -> Tensor:
    """Piecewise linear, column by column: at [K, B], rising knots [M, B], values [M, B] → [K, B].

    >>> interpolate(torch.tensor([[0.25]]), torch.tensor([[0.0], [0.5], [1.0]]), torch.tensor([[0.0], [1.0], [4.0]]))
    tensor([[0.5000]])
    """
    right = torch.searchsorted(knots.T.contiguous(), at.T.contiguous()).T.clamp(1, len(knots) - 1)
    low, high = knots.gather(0, right - 1), knots.gather(0, right)
    share = ((at - low) / (high - low)).clamp(0, 1)
    return torch.lerp(values.gather(0, right - 1), values.gather(0, right), share)
