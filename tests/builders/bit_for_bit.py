"""Whether two states of a training are equal bit for bit."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from vem.storage.records import CHECKPOINT
from vem.training import checkpoint


def same(a: Any, b: Any, path: str = "") -> None:
    """Equal bit for bit, in whatever is nested."""
    assert type(a) is type(b), path
    if isinstance(a, Tensor):
        assert a.dtype == b.dtype and torch.equal(a, b), path
    elif isinstance(a, dict):
        assert a.keys() == b.keys(), path
        for key in a:
            same(a[key], b[key], f"{path}.{key}")
    elif isinstance(a, list | tuple):
        assert len(a) == len(b), path
        for i, (x, y) in enumerate(zip(a, b, strict=True)):
            same(x, y, f"{path}[{i}]")
    else:
        assert a == b, path


def final(directory: Path, device: torch.device) -> dict[str, Any]:
    """Everything in the checkpoint but the clock."""
    state = checkpoint.load(directory / CHECKPOINT, device)
    state["progress"]["seconds"] = 0.0
    for record in state["progress"]["records"]:
        record["seconds"] = 0.0
    return state
