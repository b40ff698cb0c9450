"""Checkpoints: everything needed to go on bit for bit, written atomically, read without running code."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from vem.contracts import GenerativeModel, Strategy
from vem.errors import VemError
from vem.storage import tensors

VERSION = 2


def save(path: Path, state: dict[str, Any]) -> None:
    """Write a checkpoint; the one that stood there stays until the new one is whole.

    Raises:
        VemError: the disk is full or the folder cannot be written.
    """
    tensors.save(path, {"version": VERSION, **state})


def load(
    path: Path, device: torch.device | str, config_hash: str | None = None, mapped: bool = False
) -> dict[str, Any]:
    """Read a checkpoint with ``weights_only=True``; ``config_hash`` is that of the run it must belong to.

    ``mapped``: tensors stay in the file until they are looked at.

    Raises:
        VemError: it is missing, damaged, of another version of vem, or of another config.
    """
    try:
        state = torch.load(path, map_location=device, weights_only=True, mmap=mapped)
    except FileNotFoundError:
        raise VemError(f"{path} is missing: put it back, or delete {path.parent} and run it again.") from None
    except Exception as error:  # a damaged pickle can raise anything: KeyError, IndexError, UnpicklingError, …
        raise VemError(f"{path} is damaged ({_line(error)}): delete {path.parent} and run it again.") from error
    if not isinstance(state, dict) or state.get("version") != VERSION:
        raise VemError(f"{path} was not written by this version of vem: delete {path.parent} and run it again.")
    found = state.get("config_hash")
    if None not in (found, config_hash) and found != config_hash:
        raise VemError(
            f"{path} belongs to a run of another config (its config hash is {found}, that of {path.parent} is "
            f"{config_hash}): put the run's own checkpoint back, or delete {path.parent} and run it again."
        )
    return state


def put(path: Path, state: Mapping[str, Any], model: GenerativeModel, strategy: Strategy) -> None:
    """Give the model and the strategy the state that was read from ``path``.

    Raises:
        VemError: it is of another model or strategy.
    """
    try:
        model.load_state_dict(state["model"])
        strategy.load_state_dict(state["strategy"])
    except (RuntimeError, KeyError, ValueError, TypeError, AttributeError) as error:
        raise VemError(
            f"{path} does not fit this model and strategy: name a fresh hydra.run.dir, or put the run's own "
            f"checkpoint back. ({_line(error)})"
        ) from error


def _line(error: BaseException) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:200]
