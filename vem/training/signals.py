"""SIGTERM and Ctrl-C: finish the step, write a checkpoint, leave."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

from vem.errors import VemError


class InterruptedRun(VemError):
    """Training was asked to stop; its checkpoint is written."""


class Asked:
    """Which signal asked for a stop, if any; read by the loop after each step."""

    name: str | None = None


@contextmanager
def stop_requests() -> Iterator[Asked]:
    """Note the first SIGTERM or SIGINT instead of dying of it; the second acts at once.

    Handlers can be set in the main thread only: elsewhere (a launcher's worker thread) this does nothing.
    """
    asked = Asked()
    if threading.current_thread() is not threading.main_thread():
        yield asked
        return

    def note(number: int, frame: FrameType | None) -> None:
        asked.name = signal.Signals(number).name
        signal.signal(number, before[number])

    before = {int(number): signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}
    for number in before:
        signal.signal(number, note)
    try:
        yield asked
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
