"""Where the records of a run go while it trains: metrics.csv, and TensorBoard for those who watch it there."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vem.errors import VemError
from vem.storage import records

if TYPE_CHECKING:
    from torch.utils.tensorboard.writer import SummaryWriter

FOLDER = "tensorboard"
PLACES = ("epoch", "step", "split")  # where a record stands; everything else in it is a scalar


class Recorder:
    """Writes all records of the run in ``directory`` whenever one is added: what ``fit`` calls ``on_record``.

    Made before training begins, so that a missing package is met then and not hours later.

    Raises:
        VemError: ``tensorboard``, and the package of that name is not installed.
    """

    def __init__(self, directory: Path, tensorboard: bool = False) -> None:
        if tensorboard and find_spec("tensorboard") is None:
            raise VemError(
                "tensorboard=true needs the package tensorboard, which is not installed: "
                "pip install 'vem[tensorboard]', or leave tensorboard=false."
            )
        self.metrics = directory / records.METRICS
        self.board = TensorBoard(directory) if tensorboard else None

    def __call__(self, rows: list[dict[str, Any]]) -> None:
        """Write them.

        Raises:
            VemError: the disk is full or the folder cannot be written.
        """
        records.write_csv(self.metrics, rows)
        if self.board is not None:
            self.board.add(rows)

    def __enter__(self) -> Recorder:
        return self

    def __exit__(self, *error: object) -> None:
        if self.board is not None:
            self.board.close()


class TensorBoard:
    """Scalars ``QUANTITY/SPLIT`` against the step, in ``DIRECTORY/tensorboard``; the numbers of metrics.csv.

    ``add(rows)`` takes all records of the run and writes those that it has not written. The first call of a
    process writes them all and takes away what an earlier process had left, since a resumed run goes back to its
    checkpoint: no step stands there twice. The relative time axis is the training seconds, across all starts.
    """

    def __init__(self, directory: Path) -> None:
        self.directory = directory / FOLDER
        self.written = 0
        self.zero = 0.0  # the wall time that counts as the beginning of training
        self.writer: SummaryWriter | None = None

    def add(self, rows: Sequence[Mapping[str, Any]]) -> None:
        """Write the records that are new.

        Raises:
            VemError: the disk is full or the folder cannot be written.
        """
        try:
            writer = self.writer or self._open(rows)
            for row in rows[self.written :]:
                for name, value in row.items():
                    if name not in PLACES and value is not None and math.isfinite(value):
                        tag, wall = f"{name}/{row['split']}", self.zero + row["seconds"]
                        writer.add_scalar(tag, value, row["step"], walltime=wall)
            self.written = len(rows)
            writer.flush()
        except OSError as error:
            raise records.unwritable(self.directory, error) from error

    def close(self) -> None:
        """Close the file, if one was opened."""
        if self.writer is not None:
            self.writer.close()

    def _open(self, rows: Sequence[Mapping[str, Any]]) -> SummaryWriter:
        # Imported here: the import takes a second, and most runs do without.
        from torch.utils.tensorboard.writer import SummaryWriter

        for old in self.directory.glob("events.out.tfevents.*"):
            old.unlink()
        self.zero = time.time() - rows[-1]["seconds"]
        # purge_step tells a TensorBoard that has read the old file to forget it.
        self.writer = SummaryWriter(str(self.directory), purge_step=0)
        return self.writer
