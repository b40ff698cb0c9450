"""How much to measure when training is over."""

from __future__ import annotations

from dataclasses import dataclass

from vem.errors import at_least


@dataclass(frozen=True)
class Evaluation:
    """The ``evaluation`` group of the config.

    Up to ``num_data`` data of each split, spread evenly over it, are scored with ``draws`` draws of q each
    (a q that enumerates its support is scored exactly). ``num_data=0`` measures nothing.

    Raises:
        VemError: a number out of range.
    """

    num_data: int = 10_000
    draws: int = 10

    def __post_init__(self) -> None:
        at_least(self.num_data, 0, "evaluation.num_data")
        at_least(self.draws, 1, "evaluation.draws")
