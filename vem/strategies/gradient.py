"""The step on networks: the one place where a bound is negated and handed to an optimizer."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.nn import Parameter
from torch.optim import Optimizer

from vem.contracts import Bound
from vem.errors import VemError

OptimizerFactory = Callable[..., Optimizer]


class Gradient(NamedTuple):
    """A bound's gradient at one point."""

    bound: Bound  # detached
    downhill: tuple[Tensor | None, ...]  # of the parameters, for torch's optimizers; None where one has no part in it
    norm: Tensor  # [] of that
    uphill: tuple[Tensor, ...]  # of λ


def differentiate(bound: Bound, scale: float, params: Sequence[Tensor], lambdas: Sequence[Tensor] = ()) -> Gradient:
    """The gradient of scale · (1/B) Σ_b L_b in ``params`` and ``lambdas``; B the batch, larger L is better.

    torch's optimizers go down: this is the line that negates for them.
    """
    found = torch.autograd.grad(-scale * bound.surrogate.mean(), [*params, *lambdas], allow_unused=True)
    downhill, rest = found[: len(params)], found[len(params) :]
    flat = [g.reshape(-1) for g in downhill if g is not None]
    norm = torch.stack([torch.dot(g, g) for g in flat]).sum().sqrt()
    uphill = tuple(torch.zeros_like(o) if g is None else -g for o, g in zip(lambdas, rest, strict=True))
    return Gradient(bound.detached(), tuple(downhill), norm, uphill)


class AscentOptimizer:
    """Ascends a bound with any ``torch.optim`` optimizer.

    ``factory(params)`` makes the optimizer; its own step size is multiplied by the schedule's rate. A parameter that
    is given twice, as encoder and decoder may share one, is stepped once, along the sum over both uses.

    Raises:
        VemError: there is nothing to optimize, or the step size is not positive.
    """

    def __init__(self, factory: OptimizerFactory, params: Iterable[Parameter]) -> None:
        self.params = [p for p in dict.fromkeys(params) if p.requires_grad]
        if not self.params:
            raise VemError("there are no parameters to train: every one of them has requires_grad=False.")
        self.optimizer = factory(self.params)
        self.doubled = False  # the state that was loaded is of steps that were taken twice
        self.base = [float(group["lr"]) for group in self.optimizer.param_groups]
        if min(self.base) <= 0:
            raise VemError(f"training.rate={min(self.base)} must be positive.")

    def step(self, gradient: Gradient, rate: Tensor) -> None:
        """One step up. The schedule's rate stays on its device, so that a step never waits for a GPU.

        Raises:
            VemError: the state that was loaded is of an optimizer that stepped shared weights twice.
        """
        if self.doubled:
            raise VemError(
                "this run was begun by a version of vem in which weights that encoder and decoder share took two steps "
                "a batch; they take one now, so that it cannot go on as it began. Delete its checkpoint.pt, and it "
                "begins again, or name a fresh hydra.run.dir."
            )
        for p, g in zip(self.params, gradient.downhill, strict=True):
            p.grad = g
        for group, base in zip(self.optimizer.param_groups, self.base, strict=True):
            group["lr"] = base * float(rate) if rate.device.type == "cpu" else base * rate
        if not _fused_adam_step(self.optimizer):
            self.optimizer.step()

    def state_dict(self) -> dict[str, Any]:
        """The optimizer's state."""
        return self.optimizer.state_dict()

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Put the optimizer's state back.

        One in which shared weights stand twice can be read, as a finished run needs it, but not gone on with.
        """
        given = state["param_groups"]
        groups = [{**group, "params": list(dict.fromkeys(group["params"]))} for group in given]
        self.doubled = groups != given
        self.optimizer.load_state_dict({**state, "param_groups": groups})


@torch.no_grad()
def _fused_adam_step(optimizer: Optimizer) -> bool:
    """The step of ``torch.optim.Adam(fused=True)`` on a CPU, bit for bit, without the bookkeeping around it.

    That bookkeeping (hooks, grouping by device, a tensor made for each step count) takes as long as the
    kernel does on networks of this size. False, with nothing done, for any other optimizer, and for the
    first step, which makes the state.
    """
    if type(optimizer) is not torch.optim.Adam:
        return False
    for group in optimizer.param_groups:
        params = [p for p in group["params"] if p.grad is not None]
        unusual = ("amsgrad", "maximize", "decoupled_weight_decay")
        plain = group["fused"] and not any(group.get(name) for name in unusual)
        if not plain or any(p.device.type != "cpu" or not optimizer.state[p] for p in params):
            return False
    for group in optimizer.param_groups:
        params = [p for p in group["params"] if p.grad is not None]
        states = [optimizer.state[p] for p in params]
        for state in states:
            state["step"] += 1
        beta1, beta2 = group["betas"]
        torch._fused_adam_(
            params, [p.grad for p in params], [s["exp_avg"] for s in states], [s["exp_avg_sq"] for s in states], [],
            [s["step"] for s in states], lr=group["lr"], beta1=beta1, beta2=beta2, weight_decay=group["weight_decay"],
            eps=group["eps"], amsgrad=False, maximize=False,
        )  # fmt: skip
    return True
