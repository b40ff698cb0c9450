"""Where annealing starts if p(z | x) has several modes: at q*, at a mixture over them, or at the prior."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import torch
from torch import Tensor

from vem.evaluation.bounds.annealing_path import Annealing, Path, Pilot, pilot
from vem.evaluation.bounds.curvature import invertible
from vem.evaluation.bounds.hmc import Point, Target
from vem.evaluation.bounds.importance import LogMeanExp
from vem.evaluation.bounds.modes import MixtureTarget, find_modes

# Nats by which another start must surpass q* on the pilot. From the prior few chains carry the weight, and what they
# see in excess is as often luck: a mean weight is e^t times too large with a probability of up to e^{−t}.
GAIN = {"modes": 0.02, "prior": 1.0}
ERRORS = {"modes": 1.0, "prior": 3.0}  # standard errors that are taken off


class Start(NamedTuple):
    """Where some of the data start."""

    name: str  # of STARTS
    rows: Tensor  # [R] their places
    target: Target  # of these data alone
    path: Path

    def chains(self, num: int, stream: torch.Generator) -> Target:
        """The target for a forward run of so many chains."""
        return _drawn(self.target, num, stream)

    def exact(self, z: Tensor, chains: int, stream: torch.Generator) -> tuple[Target, Point]:
        """The target and the first points of a backward run, from exact draws z [B, H] of p(z | x) for all data."""
        if isinstance(self.target, MixtureTarget):
            return self.target.exact(z[self.rows], chains, stream)
        # Every backward chain starts at the one exact z; their noise is their own.
        point = self.target(invertible(self.target.base).whiten(z[self.rows][None]))
        return self.target, Point(*(part.expand(chains, *part.shape[1:]) for part in point))


class Chosen(NamedTuple):
    """The starts of a batch that are not q*, by a rule that looked at a pilot alone."""

    starts: list[Start]
    modes: Tensor  # [B] how many were found; 1 where no second one counts
    open_end: Tensor  # [B] bool: there are more than were looked for
    gradients: float  # decoder gradients for each data point, of the search and the pilots


def _drawn(target: Target, chains: int, stream: torch.Generator) -> Target:
    """The target for so many chains, which have labels where it is a mixture."""
    return target.drawn(chains, stream) if isinstance(target, MixtureTarget) else target


def choose(target: Target, found: Pilot, settings: Annealing, stream: torch.Generator) -> Chosen:
    """The starts of the data that have several modes and for which a pilot finds more there than from q*.

    ``found`` is the pilot from q*. The candidates are a mixture over the modes and the prior; each is annealed once,
    as the pilot from q* was. Of the three the one with the highest log mean weight, less its error and less what
    ``GAIN`` asks of it, is taken. Neither the modes nor the pilots are used again:
    given the choice, made for each data point, the weights of the run after it average to p(x).
    """
    batch = len(target.x)
    modes = torch.ones(batch, dtype=torch.long, device=target.x.device)
    open_end = torch.zeros_like(modes, dtype=torch.bool)
    value, variance = _judged(found)
    search = find_modes(target, settings.modes, value, stream)
    spent = float(search.gradients.mean())
    if search.mixture is None:
        return Chosen([], modes, open_end, spent)
    rows, x = search.rows, target.x[search.rows]
    modes[rows], open_end[rows] = search.modes, search.open_end
    candidates: dict[str, Target] = {"modes": MixtureTarget(target.model, x, search.mixture, target.tick)}
    if target.model.prior_kind == "standard_normal":
        candidates["prior"] = Target(target.model, x, None, target.tick)
    pilots = {
        name: pilot(_drawn(other, settings.pilot_chains, stream), settings, stream)
        for name, other in candidates.items()
    }
    best = _best(pilots, value[rows], variance[rows])
    starts = []
    for number, (name, other) in enumerate(candidates.items()):
        mine = (best == number).nonzero()[:, 0]
        spent += other.gradients * len(rows) / batch
        if len(mine):
            path = Path(*(part[:, mine] for part in pilots[name].path))
            starts.append(Start(name, rows[mine], _part(other, mine), path))
    return Chosen(starts, modes, open_end, spent)


def _part(target: Target, rows: Tensor) -> Target:
    """The target of some of its data, with a count of gradients of its own."""
    if isinstance(target, MixtureTarget):
        return MixtureTarget(target.model, target.x[rows], target.base.of(rows), target.tick)
    return Target(target.model, target.x[rows], None, target.tick)


def _judged(found: Pilot) -> tuple[Tensor, Tensor]:
    """log mean weight of a pilot and the variance of its log, [B]; −∞ where it is not a number."""
    log_weight = found.log_weight.nan_to_num(-torch.inf, -torch.inf, -torch.inf)
    total = LogMeanExp(log_weight.shape[1], log_weight.device)
    total.add(log_weight)
    return total.log_mean(), total.variance().nan_to_num(torch.inf)


def _best(pilots: Mapping[str, Pilot], value: Tensor, variance: Tensor) -> Tensor:
    """The place of the best candidate [R], −1 where it is q*, whose value and variance are given."""
    scores = [value - variance.sqrt().nan_to_num(posinf=0.0)]
    for name, found in pilots.items():
        its, error = _judged(found)
        scores.append(its - ERRORS[name] * error.sqrt() - GAIN[name])
    return torch.stack(scores).nan_to_num(-torch.inf).argmax(0) - 1
