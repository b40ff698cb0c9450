"""L-BFGS for many data at once: every datum has its own history, its own line search and its own end."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor

# value [A] and gradient [A, P] at params [A, P] of the data ``rows`` [A] (numbers within the batch)
Climbable = Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]

SUFFICIENT = 1e-4  # Armijo's share of the promised gain
ROUNDING = 8  # a step may lose this many units in the last place of the value
CHECKED = 5  # evaluations between two looks at who has finished: each look waits for the device


class History(NamedTuple):
    """Steps s and changes of gradient y, newest first: what an inverse Hessian is built from."""

    steps: Tensor  # [M, B, P]
    changes: Tensor  # [M, B, P] g(before) − g(after), for an ascent
    weights: Tensor  # [M, B] 1 / (s · y); 0 where there is no pair yet
    scale: Tensor  # [B] the inverse curvature where the history is silent

    def precondition(self, gradient: Tensor) -> Tensor:
        """H g [B, P], an estimate of the inverse of the negative Hessian times g, by the two-loop recursion.

        Source: Nocedal, 1980.
        """
        direction, shares = gradient, []
        for step, change, weight in zip(self.steps, self.changes, self.weights, strict=True):
            share = weight * (step * direction).sum(-1)
            direction = direction - share[:, None] * change
            shares.append(share)
        direction = direction * self.scale[:, None]
        for i in reversed(range(len(shares))):
            back = self.weights[i] * (self.changes[i] * direction).sum(-1)
            direction = direction + (shares[i] - back)[:, None] * self.steps[i]
        return direction

    def remember(self, step: Tensor, change: Tensor, accepted: Tensor) -> History:
        """The history with a new pair, for the rows that accepted it and where the curvature is positive."""
        product, square = (step * change).sum(-1), change.square().sum(-1)
        keep = accepted & (product > 1e-8 * step.norm(dim=-1) * square.sqrt())
        pushed = [torch.cat([new[None], old[:-1]]) for new, old in ((step, self.steps), (change, self.changes))]
        weight = torch.cat([torch.where(keep, 1 / product, 0)[None], self.weights[:-1]])
        return History(
            torch.where(keep[:, None], pushed[0], self.steps),
            torch.where(keep[:, None], pushed[1], self.changes),
            torch.where(keep, weight, self.weights),
            torch.where(keep, product / square, self.scale),
        )


class Climbed(NamedTuple):
    """Where the rows have come to."""

    params: Tensor  # [B, P]
    value: Tensor  # [B]
    history: History
    evaluations: Tensor  # [B] of value and gradient
    finished: Tensor  # [B] whether the last evaluations gained less than the tolerance


def some_of(state: Any, rows: Tensor) -> Any:
    """Some of the rows of all tensors in nested tuples."""
    if isinstance(state, History):
        return History(state.steps[:, rows], state.changes[:, rows], state.weights[:, rows], state.scale[rows])
    return state[rows] if isinstance(state, Tensor) else type(state)(*(some_of(part, rows) for part in state))


def put(state: Any, rows: Tensor, part: Any) -> None:
    """Write them back, in place."""
    for mine, its in zip(state, part, strict=True):
        if not isinstance(mine, Tensor):
            put(mine, rows, its)
        elif isinstance(state, History) and mine is not state.scale:
            mine[:, rows] = its
        else:
            mine[rows] = its


def no_history(params: Tensor, memory: int) -> History:
    """The history of rows [B, P] that have taken no step: the gradient itself is the direction."""
    pairs = params.new_zeros(memory, *params.shape)
    return History(pairs, pairs.clone(), params.new_zeros(memory, len(params)), params.new_ones(len(params)))


def climb(climbable: Climbable, params: Tensor, evaluations: int, tolerance: float, memory: int = 20) -> Climbed:
    """Maximize a deterministic function of every row of params [B, P], at most ``evaluations`` times evaluated.

    Every call evaluates one proposal of every row that is still at work: a row whose proposal gains enough
    takes it and proposes the next quasi-Newton step, one whose proposal does not proposes a shorter one, and
    nobody waits for anybody. A proposal that is not finite is too long. A row is finished when two looks,
    five evaluations apart, find a gain below ``tolerance``, unless all five proposals were too long and more
    was promised: then it is still looking for a step. The first step has at most length one.

    Source: Nocedal, 1980; Liu and Nocedal, 1989.
    """
    history = no_history(params, memory)
    out = Climbed(
        params.clone(), params.new_empty(len(params)), history,
        torch.ones(len(params), dtype=torch.long, device=params.device),
        torch.zeros(len(params), dtype=torch.bool, device=params.device),
    )  # fmt: skip
    rows = torch.arange(len(params), device=params.device)
    value, gradient = climbable(params, rows)
    out.value.copy_(value)
    history = history._replace(scale=1 / gradient.norm(dim=-1).clamp_min(1))
    line = _Line(params, value, gradient, history.precondition(gradient), torch.ones_like(value))
    looked = value
    for count in range(1, evaluations):
        proposal = line.proposal()
        line, history = line.judge(proposal, *climbable(proposal, rows), history)
        if count % CHECKED and count < evaluations - 1:
            continue
        # A look that comes early, for the evaluations are spent, has not seen enough to say so.
        finished = (line.value - looked < tolerance) & ~line.searching(tolerance) & (count % CHECKED == 0)
        looked = line.value
        out.params[rows], out.value[rows], out.finished[rows] = line.params, line.value, finished
        out.evaluations[rows] = count + 1
        put(out.history, rows, history)
        if bool(finished.any()):
            left = (~finished).nonzero()[:, 0]
            if not len(left):
                break
            rows, history, line, looked = (some_of(part, left) for part in (rows, history, line, looked))
    return out


class _Line(NamedTuple):
    """The line search of every row: where it stands, in which direction, and how far it tries to go."""

    params: Tensor  # [A, P]
    value: Tensor  # [A]
    gradient: Tensor  # [A, P]
    direction: Tensor  # [A, P]
    length: Tensor  # [A] of the next proposal, in units of the direction

    def proposal(self) -> Tensor:
        """The point that each row tries next."""
        return self.params + self.direction * self.length[:, None]

    def searching(self, tolerance: float) -> Tensor:
        """Whether none of the last proposals was short enough, although the direction promises to gain."""
        promised = (self.gradient * self.direction).sum(-1)
        return (self.length <= 0.5**CHECKED) & (promised > tolerance)

    def judge(self, new: Tensor, value: Tensor, gradient: Tensor, history: History) -> tuple[_Line, History]:
        """Take the proposals that gain enough; shorten the others by the parabola through what is known."""
        promised = self.length * (self.gradient * self.direction).sum(-1)
        rounding = ROUNDING * torch.finfo(value.dtype).eps * self.value.abs()
        finite = value.isfinite() & gradient.isfinite().all(-1)
        good = finite & (value >= self.value + SUFFICIENT * promised - rounding)
        gradient = torch.where(finite[:, None], gradient, 0)
        history = history.remember(new - self.params, self.gradient - gradient, good)
        fitted = 0.5 * promised / (promised - (value - self.value))
        shorter = self.length * torch.where(fitted.isfinite(), fitted, 0.1).clamp(0.1, 0.5)
        here = torch.where(good[:, None], gradient, self.gradient)
        newton = history.precondition(here)
        uphill = (newton * here).sum(-1) > 0
        direction = torch.where(uphill[:, None], newton, here * history.scale[:, None])
        taken = good[:, None]
        line = _Line(
            torch.where(taken, new, self.params), torch.where(good, value, self.value), here,
            torch.where(taken, direction, self.direction), torch.where(good, 1.0, shorter),
        )  # fmt: skip
        return line, history
