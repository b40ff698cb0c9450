"""Jobs of a sweep spread over the GPUs of a machine, a set number on each."""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

from vem import records
from vem.errors import at_least
from vem.targets import conform

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]

FOLDER = "gpus"
POLL = 0.2  # seconds between two looks for a free place


def visible(device: str) -> list[str]:
    """Names of the GPUs that this process may use, the same in every process; none where ``device`` leaves no choice.

    A queue may show each job one GPU and call it number 0, so numbers are no names.
    """
    if device not in ("auto", "cuda"):
        return []
    import torch

    if not torch.cuda.is_available():
        return []
    return [str(torch.cuda.get_device_properties(i).uuid) for i in range(torch.cuda.device_count())]


@contextmanager
def slot(directory: Path, gpus: Sequence[str], per_gpu: int) -> Iterator[int | None]:
    """Hold a place on one of the ``gpus`` while the block runs; waits while all are taken. Gives the GPU's number.

    A place is a lock on a file in ``directory``, so it is free again when its holder ends, however that comes about.
    None where there are no GPUs, or no such locks (Windows): the device is then what the config says.

    Raises:
        VemError: ``per_gpu`` is not a whole number of at least 1, or the folder cannot be written.
    """
    per_gpu = conform(per_gpu, int, "jobs_per_gpu")
    at_least(per_gpu, 1, "jobs_per_gpu")
    if not gpus or fcntl is None:
        yield None
        return
    number, file = _wait(_places(directory / FOLDER, gpus, per_gpu))
    try:
        yield number
    finally:
        os.close(file)


def _places(folder: Path, gpus: Sequence[str], per_gpu: int) -> list[tuple[int, Path]]:
    """Every place, the first one of each GPU before the second of any: jobs spread before they share."""
    host = socket.gethostname()
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise records.unwritable(folder, error) from error
    return [(i, folder / f"{host}-{name}-{place}") for place in range(per_gpu) for i, name in enumerate(gpus)]


def _wait(places: Sequence[tuple[int, Path]]) -> tuple[int, int]:
    """The number of the GPU, and the open file whose lock is the place on it."""
    while True:
        for number, path in places:
            try:
                file = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
            except OSError as error:
                raise records.unwritable(path, error) from error
            with suppress(BlockingIOError):
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                return number, file
            os.close(file)
        time.sleep(POLL)
