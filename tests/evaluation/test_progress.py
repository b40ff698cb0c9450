"""The bar of long work: on a terminal alone, and it counts what is left."""

from __future__ import annotations

import io
import sys
from pathlib import Path
from typing import Any

import pytest

from vem.evaluation import progress
from vem.evaluation.progress import Progress


class Terminal(io.StringIO):
    """Where a bar is drawn."""

    def isatty(self) -> bool:
        return True


def drawn(monkeypatch: pytest.MonkeyPatch, folder: Path, found: int, terminal: io.StringIO) -> str:
    """What four pieces of work, some of them kept before, leave on such a terminal."""

    def work(shown: bool, pieces: int) -> Progress:
        seen = Progress(shown).keep(folder, "f")

        def piece() -> dict[str, Any]:
            seen.stage("annealing")
            seen.tick()
            return {}

        seen.total(4)
        for number in range(pieces):
            assert seen.piece(str(number), piece) == {}
        seen.close()
        return seen

    work(False, found)
    monkeypatch.setattr(sys, "stderr", terminal)
    monkeypatch.setattr(progress, "REDRAWN", -1.0)
    seen = work(True, 4)
    assert set(seen.seconds) == {"annealing"} and (seen.made, seen.found) == (4 - found, found)
    return terminal.getvalue()


@pytest.mark.parametrize(("found", "shown", "hidden"), [(0, ("0/4", "annealing", "3/4"), ()), (3, ("0/1",), ("3/4",))])
def test_a_bar_on_a_terminal(
    found: int, shown: tuple[str, ...], hidden: tuple[str, ...], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """What was kept already is not counted: it says nothing about how long the rest takes."""
    text = drawn(monkeypatch, tmp_path, found, Terminal())
    assert all(word in text for word in shown) and not any(word in text for word in hidden)


def test_no_bar_elsewhere(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    assert drawn(monkeypatch, tmp_path, 0, io.StringIO()) == ""
