"""One job of a sweep in a child process of its own, whatever launched it.

A job that is killed does not affect the others; its threads, its peak memory and the last bits of its numbers are the
same under every launcher. Children are forked from a server that has torch loaded already, so a job starts at once.
"""

from __future__ import annotations

import math
import multiprocessing
import os
import signal
from collections.abc import Mapping
from contextlib import suppress
from multiprocessing.connection import Connection
from multiprocessing.connection import wait as wait_for
from multiprocessing.process import BaseProcess
from typing import Any

from vem.errors import VemError
from vem.storage import ledger, records
from vem.storage.ledger import JobState
from vem.sweep import child, stopping
from vem.sweep.jobs import Ended, Work, write_failure
from vem.training.signals import Asked, stop_requests

POLL = 0.2  # seconds between two looks for a signal
HASTE = 5.0  # seconds for a child's checkpoint after a second Ctrl-C
PATIENCE = 90.0  # seconds for it where a cluster has taken the job's time away; Slurm gives notice (signal_delay_s)
# torch._dynamo is what the first optimizer imports, for seconds.
PRELOADED = ["vem.cli.train", "vem.cli.messages", "torch._dynamo"]
ONE_THREAD = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")


def run(work: Work) -> Ended:
    """Do the job in a child process, wait for it, and record its outcome, even if the child exits without reporting.

    SIGTERM and Ctrl-C are handed on: the child writes a checkpoint and stops. A job that has ended in this start
    already is not tried again when a launcher that broke is started again, or a search comes to its values again.
    """
    already = ledger.outcome(work.sweep, work.directory.name, work.start)
    if already is not None and already.status != JobState.STOPPED:
        return Ended(already, _value(work, already))
    if (name := stopping.told(work.sweep, work.start)) is not None:
        return Ended(_not_begun(name), signal=name)
    with stop_requests() as asked:
        receiver, sender = _context().Pipe(duplex=False)
        process = _start(work, sender)
        sender.close()
        ended: Ended | None = None
        try:
            _wait(work, process, receiver, asked)
            with suppress(EOFError, OSError):
                ended = receiver.recv() if receiver.poll() else None
            process.join()
        except BaseException as error:
            _end(process, HASTE if isinstance(error, KeyboardInterrupt) else PATIENCE)
            raise
    ended = ended or _killed(work, process.exitcode, asked.name)
    ledger.write_outcome(work.sweep, work.directory.name, work.start, ended.outcome)
    return ended._replace(signal=asked.name)


def _value(work: Work, outcome: ledger.Outcome) -> float:
    """The validation ELBO of a run that has ended well, or of the run that it repeats; else NaN."""
    held = {JobState.DONE: work.directory, JobState.REPEATS: work.sweep / outcome.message}
    with suppress(KeyError, VemError):
        return records.valid_elbo(held[JobState(outcome.status)])
    return math.nan


def _not_begun(name: str) -> ledger.Outcome:
    return ledger.Outcome(JobState.STOPPED, f"stopped by {name} before it began: the same command goes on.")


def _end(process: BaseProcess, seconds: float) -> None:
    """No child is left behind, and none is waited for without an end."""
    process.terminate()
    process.join(seconds)
    if process.is_alive():
        process.kill()
        process.join(HASTE)


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
            target=child.main, args=(work, sender, {**os.environ}), name=work.directory.name
        )
        process.start()
    finally:
        for name, value in before.items():
            os.environ.pop(name, None)
            if value is not None:
                os.environ[name] = value
    return process


def _wait(work: Work, process: BaseProcess, receiver: Connection, asked: Asked) -> None:
    """Until the child has told its outcome or ended; the first signal, to here or to the sweep, is handed on, once."""
    handed = False
    while not wait_for([receiver, process.sentinel], timeout=POLL):
        asked.name = asked.name or stopping.told(work.sweep, work.start)
        if asked.name and not handed and process.pid is not None:
            handed = True
            with suppress(ProcessLookupError):
                os.kill(process.pid, signal.Signals[asked.name])


def _killed(work: Work, code: int | None, asked: str | None) -> Ended:
    """What to say for a child that said nothing. A finished run is never made a failed one."""
    how = f"exit code {code}" if code is None or code >= 0 else signal.Signals(-code).name
    if asked is not None and how == asked:
        return Ended(_not_begun(how))
    found = records.read_run(work.directory)
    if found.get("status") == JobState.DONE and found.get("start") == work.start:
        done = ledger.Outcome(JobState.DONE)
        return Ended(done, _value(work, done))
    hint = " It may have asked for more memory than there is." if how == "SIGKILL" else ""
    message = f"killed: the process of this run ended by {how} without reporting.{hint}"
    write_failure(work.directory, message, work.start, work.config.get("seed"))
    return Ended(ledger.Outcome(JobState.FAILED, message))


def without_console(content: Mapping[str, Any]) -> dict[str, Any]:
    """A logging config without the handlers that write to a terminal: that has the sweep's one line."""
    handlers = {
        name: handler
        for name, handler in (content.get("handlers") or {}).items()
        if not str(handler.get("class", "")).endswith(".StreamHandler")
    }

    def kept(logger: Mapping[str, Any] | None) -> dict[str, Any]:
        own = dict(logger or {})
        return own | {key: [name for name in own[key] if name in handlers] for key in ("handlers",) if own.get(key)}

    loggers = {name: kept(logger) for name, logger in (content.get("loggers") or {}).items()}
    return {**content, "handlers": handlers, "loggers": loggers, "root": kept(content.get("root"))}
