"""A job of a sweep, inside its own process: it does the run, or points to the one that has the same config."""

from __future__ import annotations

import logging.config
import multiprocessing
import os
import signal
import threading
from collections.abc import Mapping
from contextlib import suppress
from multiprocessing.connection import Connection
from types import FrameType

from tqdm import tqdm

from vem.storage import ledger, records
from vem.storage.ledger import JobState
from vem.storage.streams import outlived
from vem.sweep.jobs import Ended, Work, write_failure
from vem.training.signals import AT_ONCE


def main(work: Work, sender: Connection, environment: Mapping[str, str]) -> None:
    """A session of its own, so that the terminal's Ctrl-C reaches the parent alone; tells its outcome at the end."""
    for number in (signal.SIGTERM, signal.SIGINT):  # the latter may come ignored from a launcher's worker
        signal.signal(number, _stop)
    if hasattr(os, "setsid"):
        os.setsid()
    os.environ.update(environment)
    threading.Thread(target=_end_with_parent, name="vem-parent", daemon=True).start()
    tqdm.set_lock(threading.RLock())  # its own is a semaphore of the system, which a killed child leaves behind
    with outlived():
        try:
            logging.config.dictConfig(dict(work.logging))
            folder = work.directory.name
            with ledger.alive(work.sweep, folder), ledger.alone(work.sweep, folder):
                told = _job(work)
        except BaseException as error:
            told = _explained(work, error)
    with suppress(BrokenPipeError):  # the parent was killed
        sender.send(told)
    sender.close()


def _stop(number: int, frame: FrameType | None) -> None:
    raise KeyboardInterrupt


def _end_with_parent() -> None:
    """A parent that was killed leaves no one to report to: write a checkpoint and stop."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os.kill(os.getpid(), signal.SIGTERM)


def _job(work: Work) -> Ended:
    import threadpoolctl

    from vem.cli import measure, resume, train
    from vem.sweep import gpus
    from vem.sweep.repeats import holder_of, write_repeat

    config = resume.as_begun(work.directory, train.identified(dict(work.config)), work.overrides)
    train.set_threads(config["threads"])
    resume.left_behind(work.directory, config, sweeping=True)  # refuses a folder with a run of another config
    holder = holder_of(config, work.sweep, work.directory)
    if holder is not None:
        write_repeat(config, list(work.overrides), work.directory, holder, work.start)
        measure.judge(holder, config["evaluation"].get("strict", False))
        return Ended(ledger.Outcome(JobState.REPEATS, holder.name), records.valid_elbo(holder))
    place = gpus.slot(gpus.visible(config["device"]), config["jobs_per_gpu"])
    with threadpoolctl.threadpool_limits(limits=config["threads"]), place as number:
        if number is not None:
            config["device"] = f"cuda:{number}"
        return Ended(
            ledger.Outcome(JobState.DONE),
            train.execute(config, list(work.overrides), work.directory, start=work.start),
        )


def _explained(work: Work, error: BaseException) -> Ended:
    """What the job raised; where run.json does not tell of it yet, it does now, and so does the log."""
    from vem.cli import messages
    from vem.cli.resume import AtWork, OtherConfig
    from vem.training.signals import InterruptedRun

    log, found = logging.getLogger("vem"), records.read_run(work.directory)
    if isinstance(error, KeyboardInterrupt | InterruptedRun):
        return Ended(ledger.Outcome(JobState.STOPPED, str(error) or str(found.get("error") or AT_ONCE)))
    message, other = messages.message(error), found.get("start") != work.start
    if message != found.get("error") or other:
        log.error("%s", message)
    refused = isinstance(error, OtherConfig | AtWork)  # what lies there is not this job's
    if not refused and (other or found.get("status") == JobState.RUNNING):
        log.debug("traceback", exc_info=error)
        write_failure(work.directory, message, work.start, work.config.get("seed"))
    return Ended(ledger.Outcome(JobState.FAILED, message))
