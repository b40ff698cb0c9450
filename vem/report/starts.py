"""The rule of convergence by which training was to end, and what lets it."""

from __future__ import annotations

import math
from collections.abc import Mapping

from vem.report.words import plural

EXACT = ("vem.strategies.exact_em.ExactEM",)


def rule(own: Mapping[str, str]) -> str | None:
    """The rule of convergence that training was to end by, as one would type it; None where none was set.

    >>> rule({"training.stop.tolerance": "0.1"}), rule({"training.stop.tolerance": "null"})
    ('training.stop.tolerance=0.1', None)
    """
    stop = own.get("training.stop.tolerance", "null")
    if stop != "null":
        return f"training.stop.tolerance={stop}"
    tolerance = own.get("strategy.tolerance", "0")
    redrawn = own.get("data.binarize") == "stochastic"  # on such data EM never says that it has converged
    exact = own.get("strategy._target_") in EXACT and not redrawn
    return f"strategy.tolerance={tolerance}" if exact and float(tolerance) > 0 else None


def longer(own: Mapping[str, str]) -> str:
    """What lets that rule end the training: more epochs, and how many it needs where they end in the KL warm-up.

    >>> longer({"training.stop.tolerance": "0.1", "training.epochs": "40", "training.kl_warmup": "35"})[-59:]
    'training.epochs=45 or more, or a shorter training.kl_warmup'
    """
    warmup, window = math.ceil(float(own.get("training.kl_warmup", 0))), int(own.get("training.stop.window", 5))
    needed = warmup + 2 * window
    if own.get("training.stop.tolerance", "null") == "null" or int(own.get("training.epochs", needed)) >= needed:
        return "raise training.epochs"
    after = " after the KL warm-up" if warmup else ""
    shorter = ", or a shorter training.kl_warmup" if warmup else ""
    epochs = f"two windows of {plural(window, 'epoch')}"
    return f"it compares {epochs}{after}: take training.epochs={needed} or more{shorter}"
