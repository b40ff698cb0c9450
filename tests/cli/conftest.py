"""The real command line: in this process, where a run takes a tenth of a second, or in one of its own."""

from __future__ import annotations

import copy
import logging
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from cli_support import Ended
from hydra._internal.hydra import Hydra
from matplotlib.figure import Figure
from warm import Warm


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working directory of its own."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def drawn(monkeypatch: pytest.MonkeyPatch) -> None:
    """For tests of the figures' names: they are made and saved, and empty."""
    monkeypatch.setattr(Figure, "draw", lambda self, renderer: None)
    from vem.cli import train  # slow to import, for torch
    from vem.report.figures import run

    # A module of the run that was imported anew within a test without figures would go without them for good.
    monkeypatch.setattr(train, "draw_run", run.draw_run)


@pytest.fixture(autouse=True)
def undrawn(request: pytest.FixtureRequest, undrawn_jobs: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """Other tests do without figures: drawing is most of a small run and of a report."""
    from vem.cli import train  # slow to import, for torch
    from vem.report import summary
    from vem.report.figures import run

    if "drawn" not in request.fixturenames:
        monkeypatch.setattr(summary, "draw", lambda *given, **named: [])
        for module in (train, run):
            monkeypatch.setattr(module, "draw_run", lambda directory: [])


_composed: dict[tuple[str, ...], dict[str, Any]] = {}


@pytest.fixture(scope="module")
def composed_once() -> Iterator[None]:
    """Each config is composed once: this takes as long as a tiny run, and is what other tests are about."""
    from vem.cli import messages

    compose = messages.composed

    def once(overrides: Sequence[str]) -> dict[str, Any]:
        if (key := tuple(overrides)) not in _composed:
            _composed[key] = compose(overrides)
        return copy.deepcopy(_composed[key])

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(messages, "composed", once)
        yield


@pytest.fixture
def vem_run(
    here: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> Iterator[Callable[..., Ended]]:
    """``python -m vem.run …`` in this process; what it changes for the whole process is put back."""
    from vem import run

    root = logging.getLogger()
    before, level, threads = root.handlers[:], root.level, torch.get_num_threads()
    levels = {name: logging.getLogger(name).level for name in ("vem", "hydra")}
    monkeypatch.setenv("HYDRA_FULL_ERROR", "1")
    # Hydra composes the config a second time to read hydra.mode from it, which vem leaves unset.
    monkeypatch.setattr(Hydra, "get_mode", lambda *arguments, **named: None)
    monkeypatch.syspath_prepend(str(here))  # as `python -m` does

    def call(*arguments: str) -> Ended:
        monkeypatch.setattr(sys, "argv", ["vem", *arguments])
        capfd.readouterr()
        code = 0
        try:
            run.main()
        except SystemExit as end:
            code = end.code if isinstance(end.code, int) else int(bool(end.code))
        finally:
            for handler in [h for h in root.handlers if h not in before]:
                handler.close()
            root.handlers[:] = before
        return Ended(code, *capfd.readouterr())

    yield call
    root.setLevel(level)
    for name, value in levels.items():
        logging.getLogger(name).setLevel(value)
    torch.set_num_threads(threads)
    for name, module in list(sys.modules.items()):
        if str(getattr(module, "__file__", None)).startswith(str(here)):
            del sys.modules[name]


@pytest.fixture
def vem_process(here: Path, warm: Warm) -> Callable[..., Ended]:
    """``python -m MODULE …`` in a process of its own."""

    def call(*arguments: str, module: str = "vem.run") -> Ended:
        done = warm.run("-m", module, *arguments, cwd=here)
        return Ended(done.returncode, done.stdout, done.stderr)

    return call
