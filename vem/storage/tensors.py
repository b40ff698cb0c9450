"""Tensors on disk: written atomically, and a full disk told as what it is."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from vem.storage.records import replacing


def save(path: Path, content: Mapping[str, Any]) -> None:
    """``torch.save``; the file that stood there stays until the new one is whole.

    Raises:
        VemError: the disk is full or the folder cannot be written.
    """
    with replacing(path) as temporary, open(temporary, "wb") as file:
        try:
            torch.save(dict(content), file)
        except RuntimeError as error:
            # torch's zip writer buries the failed write under an error of its own ("unexpected pos …").
            if isinstance(error.__context__, OSError):
                raise error.__context__ from None
            raise
