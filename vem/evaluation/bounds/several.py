"""Where annealing starts if p(z | x) has several modes: at q*, at a mixture over them, or at the prior."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

from vem.evaluation.bounds.annealing_path import Annealing, Path, Pilot, pilot
from vem.evaluation.bounds.hmc import Target
from vem.evaluation.bounds.importance import LogMeanExp
from vem.evaluation.bounds.modes import MixtureTarget, find_modes
from vem.evaluation.measured import MODES, MORE, START, STARTS

# Nats by which another start must surpass q* on the pilot. From the prior few chains carry the weight, and what they
# see in excess is as often luck: a mean weight is e^t times too large with a probability of up to e^{−t}.
GAIN = {"modes": 0.02, "prior": 1.0}
ERRORS = {"modes": 1.0, "prior": 3.0}  # standard errors that are taken off


class Start(NamedTuple):
    """Where some of the data start."""

    rows: Tensor  # [R] their places
    target: Target  # of these data alone
    path: Path


class Chosen(NamedTuple):
    """The starts of a batch that are not q*, by a rule that looked at a pilot alone."""

    starts: list[Start]
    diagnostics: dict[str, Tensor]  # [B] ``START``, ``MODES`` (1 where no second one counts) and ``MORE``
    gradients: float  # decoder gradients for each data point, of the search and the pilots


def choose(target: Target, found: Pilot, settings: Annealing, stream: torch.Generator) -> Chosen:
    """The starts of the data that have several modes and for which a pilot finds more there than from q*.

    ``found`` is the pilot from q*. The candidates are a mixture over the modes and the prior; each is annealed once,
    as the pilot from q* was. Of the three the one with the highest log mean weight, less its error and less what
    ``GAIN`` asks of it, is taken. Neither the modes nor the pilots are used again:
    given the choice, made for each data point, the weights of the run after it average to p(x).
    """
    batch = len(target.x)
    start = torch.zeros(batch, dtype=torch.float64, device=target.x.device)
    modes, more = start + 1, start.clone()
    diagnostics = {START: start, MODES: modes, MORE: more}
    value, error = _judged(found)
    search = find_modes(target, settings.modes, value, stream)
    spent = float(search.gradients.mean())
    if search.mixture is None:
        return Chosen([], diagnostics, spent)
    rows, mixture = search.rows, search.mixture
    modes[rows], more[rows] = search.modes.double(), search.open_end.double()
    make: dict[str, Callable[[Tensor], Target]] = {
        "modes": lambda some: MixtureTarget(target.model, target.x[rows[some]], mixture.of(some), target.tick)
    }
    if target.model.prior_kind == "standard_normal":
        make["prior"] = lambda some: Target(target.model, target.x[rows[some]], None, target.tick)
    scores, paths = [value[rows] - error[rows].nan_to_num(posinf=0.0)], []
    for name, of in make.items():
        candidate = of(torch.arange(len(rows), device=rows.device))
        piloted = pilot(candidate.drawn(settings.pilot_chains, stream), settings, stream)
        its, its_error = _judged(piloted)
        scores.append(its - ERRORS[name] * its_error - GAIN[name])
        paths.append(piloted.path)
        spent += candidate.gradients * len(rows) / batch
    best = torch.stack(scores).nan_to_num(-torch.inf).argmax(0)  # 0 where it is q*
    starts = []
    for number, (name, of) in enumerate(make.items(), start=1):
        mine = (best == number).nonzero()[:, 0]
        if len(mine):
            start[rows[mine]] = float(STARTS.index(name))
            path = Path(*(part[:, mine] for part in paths[number - 1]))
            starts.append(Start(rows[mine], of(mine), path))
    return Chosen(starts, diagnostics, spent)


def _judged(found: Pilot) -> tuple[Tensor, Tensor]:
    """log mean weight of a pilot and its standard error, [B]; −∞ and ∞ where they are not numbers."""
    total = LogMeanExp.of(found.log_weight.nan_to_num(-torch.inf, -torch.inf, -torch.inf))
    return total.log_mean(), total.variance().nan_to_num(torch.inf).sqrt()
