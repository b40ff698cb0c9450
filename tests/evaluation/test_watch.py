"""The bar of long work: on a terminal alone, and it counts what is left."""

from __future__ import annotations

import io
import sys

import pytest

from vem.evaluation import watch
from vem.evaluation.watch import Watch


class Terminal(io.StringIO):
    """Where a bar is drawn."""

    def isatty(self) -> bool:
        return True


def work(pieces: int, found: int) -> dict[str, float]:
    seen = Watch(progress=True)
    seen.total(pieces)
    for _ in range(found):
        seen.found()
    for _ in range(pieces - found):
        seen.stage("annealing")
        seen.tick()
        seen.done()
    seen.close()
    return seen.seconds


def drawn(monkeypatch: pytest.MonkeyPatch, pieces: int, found: int, terminal: io.StringIO) -> str:
    """What that work leaves on such a terminal."""
    monkeypatch.setattr(sys, "stderr", terminal)
    monkeypatch.setattr(watch, "REDRAWN", -1.0)
    assert set(work(pieces, found)) == {"annealing"}
    return terminal.getvalue()


def test_a_bar_on_a_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    text = drawn(monkeypatch, 4, 0, Terminal())
    assert "0/4" in text and "annealing" in text and "3/4" in text


def test_what_was_there_already_is_not_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    """It says nothing about how long the rest takes."""
    text = drawn(monkeypatch, 4, 3, Terminal())
    assert "0/1" in text and "3/4" not in text


def test_no_bar_elsewhere(monkeypatch: pytest.MonkeyPatch) -> None:
    assert drawn(monkeypatch, 4, 0, io.StringIO()) == ""


def test_a_stop_is_raised_at_the_next_tick() -> None:
    def stop() -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        Watch(stop=stop).tick()
