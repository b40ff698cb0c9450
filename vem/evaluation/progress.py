"""Long work: its bar, the seconds of each stage, a way to stop, and finished pieces on disk to go on from."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from tqdm import tqdm

from vem.storage import records, tensors

FOLDER = "evaluating"
REDRAWN = 0.5  # seconds
Piece = dict[str, Any]  # nested dicts of tensors, texts and None: loads with weights_only=True


def never() -> None:
    """Nobody asks for a stop."""


class Progress:
    """Counts pieces of work and the seconds of each stage, and keeps what is finished.

    ``stop`` is called after every small part of a piece and may raise. With ``shown`` a terminal has a bar.
    """

    def __init__(self, shown: bool = False, stop: Callable[[], None] = never) -> None:
        self.seconds: dict[str, float] = {}
        self.stop = stop
        self.made, self.found = 0, 0  # pieces
        self._now, self._since = "", time.monotonic()
        self._disable = None if shown else True  # None: on a terminal alone
        self._bar = tqdm(disable=True)
        self._folder: Path | None = None
        self._fingerprint = ""

    def keep(self, directory: Path, fingerprint: str) -> Progress:
        """Keep finished pieces in a folder of ``directory``; those of another measurement are thrown away.

        ``fingerprint`` says what the pieces depend on: the settings, the checkpoint, the data.
        """
        self._folder, self._fingerprint = directory / FOLDER, fingerprint
        return self

    def total(self, pieces: int) -> None:
        """How many pieces of work there are."""
        look: dict[str, Any] = {"desc": "evaluation", "unit": "piece", "leave": False}
        self._bar = tqdm(total=pieces, disable=self._disable, miniters=0, mininterval=REDRAWN, **look)

    def stage(self, name: str) -> None:
        """What begins now; what went before it has ended."""
        self._book()
        self._now = name
        self._bar.set_postfix_str(name, refresh=True)

    def tick(self) -> None:
        """A small part of a piece is done."""
        self.stop()
        self._bar.update(0)  # the seconds go on, also within a piece

    def piece(self, name: str, work: Callable[[], Piece]) -> Piece:
        """The piece of that name: read if it was kept, else made, and kept.

        Raises:
            VemError: the disk is full or the folder cannot be written; what was kept before is still there.
        """
        kept = self._read(name)
        if kept is not None:
            self.found += 1
            if self._bar.total:  # it says nothing about how long the others take
                self._bar.total -= 1
            return kept
        piece = work()
        if self._folder is not None:
            try:
                self._folder.mkdir(exist_ok=True)
            except OSError as error:
                raise records.unwritable(self._folder, error) from error
            tensors.save(self._folder / f"{name}.pt", {"fingerprint": self._fingerprint, "piece": piece})
        self.made += 1
        self._book()
        self._bar.update()
        return piece

    def close(self) -> None:
        """Take the bar away."""
        self._book()
        self._bar.close()

    def _book(self) -> None:
        now = time.monotonic()
        if self._now:
            self.seconds[self._now] = self.seconds.get(self._now, 0.0) + now - self._since
        self._now, self._since = "", now

    def _read(self, name: str) -> Piece | None:
        if self._folder is None:
            return None
        try:
            content = torch.load(self._folder / f"{name}.pt", map_location="cpu", weights_only=True)
        except Exception:  # missing or damaged, it can be made again
            return None
        if not isinstance(content, dict) or content.get("fingerprint") != self._fingerprint:
            return None
        piece: Piece | None = content.get("piece")
        return piece


def drop_pieces(directory: Path) -> None:
    """Remove the folder of pieces: the result is written."""
    shutil.rmtree(directory / FOLDER, ignore_errors=True)
