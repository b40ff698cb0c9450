"""Long work on a terminal: a bar with the time that is left, the seconds of each stage, and a way to stop."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable

from tqdm import tqdm

REDRAWN = 0.5  # seconds


def never() -> None:
    """Nobody asks for a stop."""


class Watch:
    """Told what begins; counts pieces of work and the seconds of each stage.

    ``stop`` is called after every small piece of work and raises where a stop was asked for. With ``progress``
    a bar is drawn, on a terminal.
    """

    def __init__(self, progress: bool = False, stop: Callable[[], None] = never) -> None:
        self.seconds: dict[str, float] = {}
        self.stop = stop
        self._now, self._since = "", time.monotonic()
        self._shown = progress and sys.stderr.isatty()
        self._drawn = 0.0
        self._bar = tqdm(disable=True)

    def total(self, pieces: int) -> None:
        """How many pieces of work there are."""
        self._bar = tqdm(total=pieces, desc="evaluation", unit="piece", disable=not self._shown, leave=False)

    def stage(self, name: str) -> None:
        """What begins now; what went before it has ended."""
        self._book()
        self._now = name
        self._bar.set_postfix_str(name, refresh=True)

    def tick(self) -> None:
        """A small piece of work is done."""
        self.stop()
        if self._shown and time.monotonic() - self._drawn > REDRAWN:
            self._drawn = time.monotonic()
            self._bar.refresh()  # the seconds go on, also within a piece

    def done(self) -> None:
        """A piece is done and kept."""
        self._book()
        self._bar.update()

    def found(self) -> None:
        """A piece was there already: it says nothing about how long the others take."""
        if self._bar.total:
            self._bar.total -= 1

    def close(self) -> None:
        """Take the bar away."""
        self._book()
        self._bar.close()

    def _book(self) -> None:
        now = time.monotonic()
        if self._now:
            self.seconds[self._now] = self.seconds.get(self._now, 0.0) + now - self._since
        self._now, self._since = "", now
