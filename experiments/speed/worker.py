"""One process for each contender, stopped and started in turn, so that no two ever run at the same time."""

from __future__ import annotations

import multiprocessing
import os
import resource
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib import import_module
from multiprocessing.connection import Connection
from typing import Any


@dataclass(frozen=True)
class Task:
    """What a contender is to train on, and how long one slice of it is."""

    data: str | int  # an .npy file of x [N, 784] (uint8), or N for random binary x
    steps: int  # of a slice
    threads: int
    device: str
    batch_size: int = 100
    widths: tuple[int, ...] = (200, 200)
    latent_dim: int = 50
    rate: float = 1e-3


class Gate:
    """Stands in a contender's loop; every ``steps`` steps it reports the seconds and waits for its next turn."""

    def __init__(self, pipe: Connection, steps: int) -> None:
        self.pipe, self.steps = pipe, steps
        self.finish_device: Callable[[], None] = lambda: None
        self.notes: dict[str, Any] = {}
        self.done, self.started = 0, 0.0

    def wait(self) -> None:
        """Say that all is ready, then wait for the turn; ends the process when there is none any more."""
        self.pipe.send(None)
        self._turn()

    def __call__(self, steps: int = 1) -> None:
        """Count steps that were done."""
        self.done += steps
        if self.done >= self.steps:
            self.finish_device()
            self.pipe.send((self.done, time.perf_counter() - self.started))
            self._turn()

    def _turn(self) -> None:
        if not self.pipe.recv():
            self.pipe.send({**self.notes, "peak_bytes": peak_bytes()})
            sys.exit()
        self.done, self.started = 0, time.perf_counter()


def peak_bytes() -> int:
    """The most memory this process has held."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


class Worker:
    """A contender in a process of its own, seen from the outside."""

    def __init__(self, module: str, options: Mapping[str, Any], task: Task) -> None:
        context = multiprocessing.get_context("spawn")
        self.pipe, theirs = context.Pipe()
        self.process = context.Process(target=_serve, args=(module, dict(options), task, theirs), daemon=True)
        self.process.start()
        theirs.close()  # so that a worker that dies ends the conversation instead of hanging it
        self.pipe.recv()

    def slice(self) -> tuple[int, float]:
        """Let it run one slice: the steps done and the seconds they took."""
        self.pipe.send(True)
        return self.pipe.recv()

    def close(self) -> dict[str, Any]:
        """End it; returns what it noted, with its peak memory."""
        self.pipe.send(False)
        notes = self.pipe.recv()
        self.process.join()
        return notes


def _serve(module: str, options: dict[str, Any], task: Task, pipe: Connection) -> None:
    # Every library gets the same cores, whatever thread settings of its own it has.
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[: task.threads])
    os.environ["OMP_NUM_THREADS"] = os.environ["MKL_NUM_THREADS"] = str(task.threads)
    if task.device == "cpu":
        os.environ["JAX_PLATFORMS"] = "cpu"
    # Imported here: each process loads its own contender's library and no other.
    import_module(module).run(task, Gate(pipe, task.steps), **options)
