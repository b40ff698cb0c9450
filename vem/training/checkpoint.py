"""Checkpoints: everything needed to go on bit for bit, written atomically, read without running code."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from vem.errors import VemError
from vem.records import replacing

VERSION = 2


def save(path: Path, state: dict[str, Any]) -> None:
    """Write a checkpoint; the one that stood there stays until the new one is whole.

    Raises:
        VemError: the disk is full or the folder cannot be written.
    """
    with replacing(path) as temporary, open(temporary, "wb") as file:
        try:
            torch.save({"version": VERSION, **state}, file)
        except RuntimeError as error:
            # torch's zip writer buries the failed write under an error of its own ("unexpected pos …").
            if isinstance(error.__context__, OSError):
                raise error.__context__ from None
            raise


def load(path: Path, device: torch.device | str) -> dict[str, Any]:
    """Read a checkpoint with ``weights_only=True``.

    Raises:
        VemError: it is missing, damaged or of another version of vem.
    """
    try:
        state = torch.load(path, map_location=device, weights_only=True)
    except FileNotFoundError:
        raise VemError(f"{path} is missing: the run has not reached its first checkpoint. Start it again.") from None
    except Exception as error:  # a damaged pickle can raise anything: KeyError, IndexError, UnpicklingError, …
        raise VemError(f"{path} is damaged ({_line(error)}): delete {path.parent} and run it again.") from error
    if not isinstance(state, dict) or state.get("version") != VERSION:
        raise VemError(f"{path} was not written by this version of vem: delete {path.parent} and run it again.")
    return state


def _line(error: BaseException) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:200]
