"""SIGTERM and Ctrl-C: finish the step, write a checkpoint, leave."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from types import FrameType

from vem.errors import VemError


class InterruptedRun(VemError):
    """A run was asked to stop; while it trained, its checkpoint is written."""


class Terminated(KeyboardInterrupt):
    """SIGTERM. (Where code that is read in meets a bare KeyboardInterrupt, Python ends with 130, caught or not.)"""


# For a stop that no checkpoint answers: while data, model or figures are made, or at a second signal.
AT_ONCE = "stopped at once: the same command with the same hydra.run.dir, or hydra.sweep.dir, goes on."


class Asked:
    """Which signal asked for a stop, if any; read by the loop after each step."""

    name: str | None = None


@contextmanager
def _handled(handlers: Mapping[int, Callable[[int, FrameType | None], None]]) -> Iterator[None]:
    """Other handlers of signals while the block runs; elsewhere than in the main thread they cannot be set."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.signal(number, handler) for number, handler in handlers.items()}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextmanager
def terminable() -> Iterator[None]:
    """Let SIGTERM raise while the block runs, as Ctrl-C does; in the main thread alone."""

    def stop(number: int, frame: FrameType | None) -> None:
        raise Terminated

    with _handled({signal.SIGTERM: stop}):
        yield


@contextmanager
def stop_requests() -> Iterator[Asked]:
    """Note the first SIGTERM or SIGINT instead of dying of it; the second acts at once.

    In the main thread only: elsewhere (a launcher's worker thread) this does nothing.
    """
    asked = Asked()
    before = {int(number): signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}

    def note(number: int, frame: FrameType | None) -> None:
        asked.name = signal.Signals(number).name
        signal.signal(number, before[number])

    with _handled(dict.fromkeys(before, note)):
        yield asked
