"""Exact EM over seeds: one optimum that all must reach, or several that a start chooses among; and who converged."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence

from vem.report.table import number
from vem.report.words import NATS, Row, listed, name, plural

ONE = 0.01  # nats by which seeds of a method with one optimum may differ
EXACT = ("vem.strategies.exact_em.ExactEM",)
Settings = Mapping[str, Mapping[str, str]]


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


def about_starts(rows: Sequence[Row], settings: Settings) -> Iterator[str]:
    """A sentence for each group whose seeds differ where they should not, or may."""
    for row in rows:
        pairs = (text.split("=") for text in row.get("train_elbo_seeds") or ())
        found = {seed: float(elbo) for seed, elbo in pairs}
        own = next((settings[d] for d in row["directories"] if d in settings), {})  # of the first run
        if len(found) < 2 or own.get("strategy._target_") not in EXACT:
            continue
        model = own.get("model._target_"), own.get("model.noise")
        low, high = min(found.values()), max(found.values())
        best = next(seed for seed, elbo in found.items() if elbo == high)
        if model == ("vem.models.linear_gaussian.LinearGaussian", "isotropic") and high - low > ONE:  # PCA
            yield (f"{name(row['label'])}: its likelihood has one optimum, and its seeds differ by "
                   f"{number(high - low, 3)} {NATS} in the training ELBO: some did not reach it. "
                   "strategy.start=closed starts there.")  # fmt: skip
        if model[0] == "vem.models.mixture.Mixture":
            yield (f"The seeds of {name(row['label'])} are other starts of EM, which ends in the local maximum next to "
                   f"each: over {len(found)} starts the training ELBO ranges from {number(low)} to {number(high)} "
                   f"{NATS}, the best that of seed {best}. Its means and errors are over starts; strategy.restarts "
                   "tries several in each run.")  # fmt: skip


def unconverged(rows: Sequence[Row], settings: Settings) -> Iterator[str]:
    """Training that ended by its number of epochs although a rule of convergence was set."""
    found: dict[tuple[str, str], list[str]] = {}
    for row in rows:
        for directory in row.get("unconverged") or ():
            own = settings.get(directory, {})
            asked = rule(own)
            if asked is not None:
                found.setdefault((asked, longer(own)), []).append(row["label"])
    for (asked, remedy), labels in found.items():
        yield (f"Training of {listed(list(dict.fromkeys(labels)))} ended by its number of epochs, before it had "
               f"converged ({asked}): {remedy} ({plural(len(labels), 'run')}).")  # fmt: skip
