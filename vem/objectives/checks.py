"""Can a strategy call this objective?"""

from __future__ import annotations

import inspect

from vem.contracts import Objective
from vem.errors import BadArgument


def called_in_steps(objective: Objective) -> Objective:
    """The objective, if it takes the five arguments that a step gives it.

    Raises:
        VemError: it does not, as one does that overrides ``__call__`` without the weight of the KL term.
    """
    try:
        inspect.signature(objective).bind(*[None] * 5)
    except TypeError as error:
        raise BadArgument(
            "objective",
            f"={type(objective).__name__} cannot be called as a step calls it ({error}): its __call__ must take "
            "(model, x, posterior, noise, kl_weight), the last of them the weight of the KL term in the surrogate.",
        ) from error
    return objective
