"""Measured pieces as plain tensors: joined to a split, and kept on disk so that cut-off work can go on."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from vem.contracts import LogMarginal
from vem.evaluation.elbo import SplitScores
from vem.evaluation.measured import FamilyScores, Measured
from vem.storage import records, tensors

Piece = dict[str, Any]  # nested dicts of tensors, texts and None: loads with weights_only=True
FOLDER = "evaluating"


def plain(value: Any) -> Any:
    """A measured piece as nested dicts of tensors on the host."""
    if isinstance(value, Tensor):
        return value.detach().cpu()
    if isinstance(value, tuple) and hasattr(value, "_asdict"):
        return plain(value._asdict())
    if isinstance(value, Mapping):
        return {key: plain(part) for key, part in value.items()}
    return value


def measured(piece: Piece) -> Measured:
    """The way back from :func:`plain`."""
    exact = piece["log_marginal"]
    return Measured(
        SplitScores(**piece["scores"]),
        {name: FamilyScores(**part) for name, part in piece["families"].items()},
        piece["own"],
        piece["gap_name"],
        None if exact is None else LogMarginal(**exact),
        {name: LogMarginal(**part) for name, part in piece["others"].items()},
    )


def join(pieces: Sequence[Any]) -> Any:
    """Pieces of consecutive data as one: [B] and [T, B] along the data, a scalar's mean, a text's first."""
    first = pieces[0]
    if isinstance(first, Mapping):
        return {key: join([piece[key] for piece in pieces]) for key in first}
    if not isinstance(first, Tensor):
        return first
    return torch.stack(list(pieces)).double().mean() if first.dim() == 0 else torch.cat(list(pieces), -1)


class Keep:
    """Finished pieces in a folder of the run, under names; those of another measurement are thrown away.

    ``fingerprint`` says what the pieces depend on: the settings, the checkpoint, the data. ``found`` is called
    where a piece was there.
    """

    def __init__(self, directory: Path, fingerprint: str, found: Callable[[], None] = lambda: None) -> None:
        self.folder = directory / FOLDER
        self.fingerprint, self.found = fingerprint, found

    def __call__(self, name: str, work: Callable[[], Piece]) -> Piece:
        """The piece of that name: read if it is there, else made and written.

        Raises:
            VemError: the disk is full or the folder cannot be written; what was kept before is still there.
        """
        path = self.folder / f"{name}.pt"
        kept = self._read(path)
        if kept is not None:
            self.found()
            return kept
        piece = work()
        try:
            self.folder.mkdir(exist_ok=True)
        except OSError as error:
            raise records.unwritable(self.folder, error) from error
        tensors.save(path, {"fingerprint": self.fingerprint, "piece": piece})
        return piece

    def _read(self, path: Path) -> Piece | None:
        try:
            content = torch.load(path, map_location="cpu", weights_only=True)
        except Exception:  # missing or damaged, it can be made again
            return None
        if not isinstance(content, dict) or content.get("fingerprint") != self.fingerprint:
            return None
        kept: Piece | None = content.get("piece")
        return kept

    def clear(self) -> None:
        """Remove the folder: the result is written."""
        shutil.rmtree(self.folder, ignore_errors=True)


def make_always(name: str, work: Callable[[], Piece]) -> Piece:
    """In place of a :class:`Keep` where nothing is kept."""
    return work()
