"""One job of a sweep in a child process of its own, whatever launched it.

A job that is killed costs itself alone; its threads, its peak memory and the last bits of its numbers are those of any
other launcher. Children are forked from a server that has torch loaded already, so that a job starts at once.
"""

from __future__ import annotations

import logging.config
import multiprocessing
import os
import signal
import threading
import traceback
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from multiprocessing.connection import Connection
from multiprocessing.connection import wait as wait_for
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any, NamedTuple

from tqdm import tqdm

from vem import ledger, records
from vem.errors import VemError
from vem.training.signals import Asked, stop_requests

POLL = 0.2  # seconds between two looks for a signal
PRELOADED = ["vem.execute", "vem.command", "torch._dynamo"]  # the last is what the first optimizer imports, for seconds
ONE_THREAD = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")


@dataclass(frozen=True)
class Work:
    """What a child needs to know. ``start`` says which start of the sweep this is."""

    config: Mapping[str, Any]
    overrides: tuple[str, ...]
    directory: Path
    sweep: Path
    start: str
    logging: Mapping[str, Any]


class Outcome(NamedTuple):
    """How a job ended: ``done``, ``failed`` or ``stopped``; the validation ELBO, or NaN; a message."""

    status: str
    value: float
    message: str = ""


def run(work: Work) -> Outcome:
    """Do the job in a child process and wait for it; a child that dies without a word is written down as failed.

    SIGTERM and Ctrl-C are handed on: the child writes a checkpoint and stops. A job that has failed in this start
    already is not tried again when a launcher that broke is started again.
    """
    failed = _failed_already(work)
    if failed is not None:
        return failed
    with stop_requests() as asked:
        receiver, sender = _context().Pipe(duplex=False)
        process = _start(work, sender)
        sender.close()
        _wait(process, receiver, asked)
        try:
            outcome = receiver.recv() if receiver.poll() else None
        except (EOFError, OSError):
            outcome = None
        process.join()
    return outcome or _killed(work, process.exitcode)


def _failed_already(work: Work) -> Outcome | None:
    try:
        status = records.read_json(work.directory / records.RUN)
    except VemError:
        return None
    if status.get("status") != "failed" or status.get("start") != work.start:
        return None
    return Outcome("failed", float("nan"), str(status.get("error")))


def _context() -> multiprocessing.context.BaseContext:
    methods = multiprocessing.get_all_start_methods()
    return multiprocessing.get_context("forkserver" if "forkserver" in methods else "spawn")


def _start(work: Work, sender: Connection) -> BaseProcess:
    """Start the child; the server that it is forked from loads torch with one thread for each library."""
    context = _context()
    default = multiprocessing.get_start_method(allow_none=True)
    if default is not None and default not in multiprocessing.get_all_start_methods():
        # A joblib worker's own way of starting processes, which a child would be told to take over and does not know.
        multiprocessing.set_start_method(context.get_start_method(), force=True)
    before = {name: os.environ.get(name) for name in ONE_THREAD}
    os.environ.update(dict.fromkeys(ONE_THREAD, "1"))
    try:
        if context.get_start_method() == "forkserver":
            context.set_forkserver_preload(PRELOADED)
        process: BaseProcess = context.Process(  # type: ignore[attr-defined]  # every context but the base has it
            target=_child, args=(work, sender, {**os.environ}), name=work.directory.name
        )
        process.start()
    finally:
        for name, value in before.items():
            os.environ.pop(name, None)
            if value is not None:
                os.environ[name] = value
    return process


def _wait(process: BaseProcess, receiver: Connection, asked: Asked) -> None:
    """Until the child has told its outcome or ended; the first signal that comes in is handed on, once."""
    handed = False
    while not wait_for([receiver, process.sentinel], timeout=POLL):
        if asked.name and not handed and process.pid is not None:
            handed = True
            with suppress(ProcessLookupError):
                os.kill(process.pid, signal.Signals[asked.name])


def _killed(work: Work, code: int | None) -> Outcome:
    """Write down for a dead child what it could not write itself."""
    how = f"exit code {code}"
    if code is not None and code < 0:
        how = signal.Signals(-code).name
    hint = " It may have asked for more memory than there is." if how == "SIGKILL" else ""
    message = f"killed: the process of this run ended by {how} without a word.{hint}"
    write_failure(work.directory, message, work.start, work.config.get("seed"))
    return Outcome("failed", float("nan"), message)


def write_failure(directory: Path, message: str, start: str, seed: Any = None) -> None:
    """Make run.json say ``failed``; what else it says is kept, and so is everything that the run computed."""
    try:
        status = records.read_json(directory / records.RUN)
    except VemError:
        status = {"config_hash": None, "seed": seed}
    with suppress(VemError):  # a full disk: the line on the terminal says so, too
        records.write_json(directory / records.RUN, {**status, "status": "failed", "error": message, "start": start})


def _child(work: Work, sender: Connection, environment: Mapping[str, str]) -> None:
    """In the child: a session of its own, so that the terminal's Ctrl-C reaches the parent alone."""
    if hasattr(os, "setsid"):
        os.setsid()
    os.environ.update(environment)
    threading.Thread(target=_end_with_parent, name="vem-parent", daemon=True).start()
    tqdm.set_lock(threading.RLock())  # its own is a semaphore of the system, which a killed child leaves behind
    logging.config.dictConfig(dict(work.logging))
    folder = work.directory.name
    with ledger.alive(work.sweep, folder):
        try:
            with ledger.alone(work.sweep, folder):
                outcome = _failed_already(work) or _job(work)
        except BaseException as error:
            outcome = _explained(work, error)
    sender.send(outcome)
    sender.close()


def _end_with_parent() -> None:
    """A parent that was killed leaves no one to report to: write a checkpoint and stop."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os.kill(os.getpid(), signal.SIGTERM)


def _job(work: Work) -> Outcome:
    import threadpoolctl

    from vem import execute, resume
    from vem.sweep import gpus
    from vem.sweep.repeats import holder_of, write_repeat

    config = execute.identified(dict(work.config))
    holder = holder_of(config, work.sweep, work.directory)
    if holder is not None:
        resume.earlier_run(work.directory, config)  # refuses a folder with a run of another config
        write_repeat(config, list(work.overrides), work.directory, holder, work.start)
        return Outcome("done", execute.valid_elbo(holder))
    place = gpus.slot(work.sweep / ledger.FOLDER, gpus.visible(config["device"]), config["jobs_per_gpu"])
    with threadpoolctl.threadpool_limits(limits=config["threads"]), place as number:
        if number is not None:
            config["device"] = f"cuda:{number}"
        return Outcome("done", execute.execute(config, list(work.overrides), work.directory, start=work.start))


def _explained(work: Work, error: BaseException) -> Outcome:
    """What execute() raised: run.json says it already, unless there was not even room for that."""
    from vem import command, execute

    if isinstance(error, KeyboardInterrupt) or (isinstance(error, Exception) and execute.stops_a_sweep(error)):
        return Outcome("stopped", float("nan"), command.message(error))
    message = command.message(error)
    try:
        known = records.read_json(work.directory / records.RUN)
    except VemError:
        known = {}
    if known.get("status") in (None, "running"):  # it broke outside of what execute() watches over
        logging.getLogger("vem").debug("".join(traceback.format_exception(error)))
        write_failure(work.directory, message, work.start, work.config.get("seed"))
    return Outcome("failed", float("nan"), message)


def without_console(content: Mapping[str, Any]) -> dict[str, Any]:
    """A logging config without the handlers that write to a terminal: that has the sweep's one line."""
    handlers: dict[str, Any] = {
        name: handler
        for name, handler in (content.get("handlers") or {}).items()
        if not str(handler.get("class", "")).endswith(".StreamHandler")
    }

    def kept(logger: Mapping[str, Any]) -> dict[str, Any]:
        names = [name for name in logger.get("handlers") or [] if name in handlers]
        return {**logger, "handlers": names} if "handlers" in logger else dict(logger)

    loggers = {name: kept(logger or {}) for name, logger in (content.get("loggers") or {}).items()}
    return {**content, "handlers": handlers, "loggers": loggers, "root": kept(content.get("root") or {})}
