"""Jobs of a sweep spread over the GPUs of a machine, a set number on each."""

from __future__ import annotations

import os
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

from vem.config.targets import conform
from vem.errors import VemError, at_least
from vem.storage import locks

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
def slot(gpus: Sequence[str], per_gpu: int, folder: Path | None = None) -> Iterator[int | None]:
    """Hold a place on one of the ``gpus`` while the block runs; waits while all are taken. Gives the GPU's number.

    A place is a lock on a file in ``folder``, so it is free again when its holder ends, however that comes about. It
    is the same folder for all sweeps of a user on a machine, so that two of them share its GPUs, too. None where there
    are no GPUs, or no locks (Windows): the device is then what the config says.

    Raises:
        VemError: ``per_gpu`` is not a whole number of at least 1, or the folder cannot be written.
    """
    per_gpu = conform(per_gpu, int, "jobs_per_gpu")
    at_least(per_gpu, 1, "jobs_per_gpu")
    if not gpus:
        yield None
        return
    if folder is None:
        user = os.getuid() if hasattr(os, "getuid") else "user"  # no such numbers on Windows, and no locks either
        folder = Path(tempfile.gettempdir(), f"vem-gpus-{user}")
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise VemError(
            f"{folder} cannot be made ({error.strerror or error}), where jobs take their places on the GPUs: name a "
            "folder for temporary files with the environment variable TMPDIR."
        ) from error
    # The first place of each GPU comes before the second of any: jobs spread before they share.
    places = [(i, folder / f"{name}-{place}") for place in range(per_gpu) for i, name in enumerate(gpus)]
    with ExitStack() as stack:
        yield _wait(places, stack)


def _wait(places: Sequence[tuple[int, Path]], stack: ExitStack) -> int | None:
    """The number of the GPU that a place is on, held until the stack is closed; None where there are no locks."""
    while True:
        for number, path in places:
            with suppress(locks.Taken):
                return number if stack.enter_context(locks.held(path, wait=False)) else None
        time.sleep(POLL)
