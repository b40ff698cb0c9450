"""Fixtures that every test may ask for."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path

# The workers of pytest-xdist share the processor: one thread each, set before numpy and torch are imported.
if "PYTEST_XDIST_WORKER" in os.environ:
    for _library in ("OMP", "OPENBLAS", "MKL"):
        os.environ[f"{_library}_NUM_THREADS"] = "1"

import pytest
import torch
from warm import Warm

if "PYTEST_XDIST_WORKER" in os.environ:
    torch.set_num_threads(1)


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--device", default="cpu", help="device of the numerical tests: cpu or cuda")


@pytest.hookimpl(optionalhook=True)  # of pytest-xdist, which may be missing
def pytest_xdist_auto_num_workers() -> int:
    """``-n auto``: a worker for each processor, as long as the memory of an ordinary machine lasts."""
    usable = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return min(usable, 8)


def pytest_configure() -> None:
    """Where the tests were started in the background of a script, their processes would ignore Ctrl-C."""
    if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The longest first, so that at the end no worker waits for another's."""
    items.sort(key=lambda item: "test_survival" not in item.nodeid)


@pytest.fixture(scope="session")
def device(request: pytest.FixtureRequest) -> torch.device:
    """The device that numerical tests run on (``pytest --device cuda``)."""
    name = request.config.getoption("--device")
    if name.startswith("cuda") and not torch.cuda.is_available():
        pytest.skip("--device cuda was asked for and torch sees no GPU")
    return torch.device(name)


@pytest.fixture(scope="session")
def data_root() -> Path:
    """The folder with the real data sets: VEM_DATA, else ../shared/data; skipped where absent."""
    here = Path(__file__).resolve().parents[1]
    for root in (os.environ.get("VEM_DATA"), here.parent / "shared" / "data"):
        if root and Path(root).is_dir():
            return Path(root)
    pytest.skip("no real data: set VEM_DATA to a folder that holds them")


@pytest.fixture(params=["float32", "float64"])
def dtype(request: pytest.FixtureRequest) -> torch.dtype:
    """Both floating types."""
    return getattr(torch, request.param)


@pytest.fixture(scope="session")
def warm(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Warm]:
    """Processes that need not import torch for themselves."""
    processes = Warm(tmp_path_factory.mktemp("warm"))
    yield processes
    processes.close()


@pytest.fixture(scope="session")
def undrawn_jobs() -> Iterator[None]:
    """The jobs of sweeps in this process draw no figures."""
    from vem.sweep import isolated

    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", str(Path(__file__).with_name("builders")), prepend=os.pathsep)
        patch.setattr(isolated, "PRELOADED", [*isolated.PRELOADED, "undrawn_jobs"])
        yield
