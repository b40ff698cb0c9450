"""Evaluation mode, with every part of a network put back as it was."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from torch import nn


@contextmanager
def evaluating(model: Any) -> Iterator[None]:
    """Evaluation mode: no dropout, no moving batch statistics; the earlier mode of every part comes back."""
    modes = [(part, part.training) for part in model.modules()] if isinstance(model, nn.Module) else []
    if hasattr(model, "eval"):
        model.eval()
    try:
        yield
    finally:
        if modes:
            model.train(modes[0][1])  # a train() of the user's may freeze parts, or do something besides
            for part, mode in modes:  # not train() alone: a batch norm that was frozen by hand stays frozen
                part.training = mode and (part.training or not modes[0][1])
