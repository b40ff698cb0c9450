"""Fixtures that every test may ask for."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import torch


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--device", default="cpu", help="device of the numerical tests: cpu or cuda")


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
