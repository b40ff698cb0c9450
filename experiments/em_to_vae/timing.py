"""What a step of each algorithm costs: CPU seconds on one thread, which other work on the machine disturbs least.

The seconds of the runs themselves depend on what else the machine did at the time.
"""

from __future__ import annotations

import csv
import math
import statistics
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from tables import ALGORITHMS

from vem.cli import messages
from vem.config import build
from vem.training.fit import fit

TRACTABLE = ["experiment=em_to_vae_tractable"]
DEEP = ["experiment=em_to_vae", "data.max_train=5000"]
ALTERNATING = ["strategy=local", "strategy.schedule=alternating", "strategy.max_passes=1"]
CASES: dict[tuple[str, str], list[str]] = {
    ("tractable", "exact_em"): [*TRACTABLE, "strategy=exact_em"],
    ("tractable", "alternating"): [*TRACTABLE, *ALTERNATING],
    ("tractable", "local"): [*TRACTABLE, "strategy=local"],
    ("tractable", "amortized"): [
        *TRACTABLE,
        "strategy=amortized",
        "strategy/encoder=mlp",
        "strategy.encoder.widths=[]",
    ],
    ("deep", "alternating"): [*DEEP, *ALTERNATING],
    ("deep", "local"): [*DEEP, "strategy=local"],
    ("deep", "amortized"): [*DEEP, "strategy=amortized"],
}
SHORT, LONG, ROUNDS = 4, 12, 3  # epochs; whole cycles of Algorithm 7


def cpu_seconds(overrides: Sequence[str], epochs: int) -> tuple[float, int]:
    """CPU seconds of a training of so many epochs, and its steps."""
    config = messages.composed([*overrides, f"training.epochs={epochs}", "training.records=1", "seed=0"])
    built = build.build(config)
    if getattr(built.strategy, "phases", None) is not None:
        built.strategy.phases.tolerance = -math.inf  # type: ignore[attr-defined]  # it must not stop early here
    started = time.process_time()
    done = fit(built.model, built.strategy, built.data, built.training, seed=0, progress_bar=False)
    return time.process_time() - started, done.step


def step_costs(quick: bool = False) -> dict[tuple[str, str], float]:
    """CPU milliseconds of a step: the median over rounds in turn, A B C A B C; what comes before the steps cancels."""
    torch.set_num_threads(1)
    found: dict[tuple[str, str], list[float]] = {case: [] for case in CASES}
    for turn in range(1 + (1 if quick else ROUNDS)):
        for case, overrides in CASES.items():
            extra = (
                ["data=digits", "data.binarize=threshold", "data.max_train=200"] if quick and case[0] == "deep" else []
            )
            (short, few), (long, many) = (cpu_seconds([*overrides, *extra], epochs) for epochs in (SHORT, LONG))
            if turn:  # the first round warms up
                found[case].append(1e3 * (long - short) / (many - few))
    return {case: statistics.median(values) for case, values in found.items()}


def read(path: Path) -> dict[tuple[str, str], float]:
    """The costs of an earlier measurement."""
    with path.open(newline="", encoding="utf-8") as file:
        return {(row["part"], row["algorithm"]): float(row["cpu_ms_per_step"]) for row in csv.DictReader(file)}


def as_rows(costs: Mapping[tuple[str, str], float]) -> list[dict[str, Any]]:
    """Rows for step_costs.csv."""
    return [{"part": part, "algorithm": name, "cpu_ms_per_step": ms} for (part, name), ms in costs.items()]


def described(costs: Mapping[tuple[str, str], float]) -> str:
    """One sentence a part."""
    lines = []
    for part in ("tractable", "deep"):
        each = [f"{ALGORITHMS[name]} {ms:.2f}" for (of, name), ms in costs.items() if of == part]
        lines.append(f"CPU milliseconds a step, {part} model: {'; '.join(each)}.")
    return "\n\n".join(lines) + "\n"
