"""When the launcher has returned, or broken: who is still at work, who died, and what the sweep's exit code is."""

from __future__ import annotations

import shlex
import sys
import time
import traceback
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path

from vem.cli import messages
from vem.errors import VemError
from vem.storage import ledger, records
from vem.storage.ledger import JobState
from vem.sweep import plan, stopping
from vem.sweep.jobs import Jobs, write_failure
from vem.training.signals import InterruptedRun


def end(jobs: Jobs, error: BaseException | None, complain: Callable[[BaseException], int]) -> int:
    """Settle what is left, write and print the report; returns the exit code: 0 where every job is done.

    error: what the launcher raised, if it did; ``complain`` prints a message. Ctrl-C ends the waiting, then the rest.
    """
    try:
        return _end(jobs, error, complain)
    except KeyboardInterrupt:
        place = shlex.quote(str(jobs.sweep.directory))
        print(f"vem: stopped before the report was whole: python -m vem.report {place} writes it.", file=sys.stderr)
        return 1


def _end(jobs: Jobs, error: BaseException | None, complain: Callable[[BaseException], int]) -> int:
    stopped, detached = isinstance(error, InterruptedRun), jobs.sweep.launcher in ledger.DETACHED
    if error is not None and not stopped and not (plan.current.submitted() if detached else jobs.begun()):
        plan.current.undo()
        if detached and messages.explain(error) is None:  # `sbatch` fails, or is not there: that is no fault in vem
            launcher = jobs.sweep.launcher
            error = VemError(f"the launcher {launcher} could hand no job over ({_line(error)}). Nothing was begun.")
        return complain(error)
    try:
        if error is not None and detached and not stopped:
            _wait_for_signs_of_life(jobs)
        elif not (stopped and detached):  # the user asked for an end: jobs in the queue of a cluster go on
            stopping.wait_while_running(jobs)
    except KeyboardInterrupt:
        error = error or InterruptedRun("stopped: not all jobs were waited for.")
    mark_lost_jobs_failed(jobs)
    _report(jobs)
    if error is not None:
        complain(error if stopped else _broken(jobs, error))
    code, text = verdict(jobs)
    if text:
        print(f"vem: {text}", file=sys.stderr)
    return code or int(error is not None)


def _line(error: BaseException) -> str:
    return " ".join(f"{type(error).__name__}: {error}".split())[:300]


def _report(jobs: Jobs) -> None:
    """A report that fails must not hide the runs: one line, and the traceback of a fault in a file."""
    try:
        messages.report(jobs.sweep.directory)
    except VemError as error:
        print(f"vem: no report: {error}", file=sys.stderr)
    except Exception as error:
        place = _keep_traceback(jobs, error, "report.log")
        print(f"vem: no report: {type(error).__name__}: {error} (in full in {place})", file=sys.stderr)


def _keep_traceback(jobs: Jobs, error: BaseException, name: str) -> Path:
    place = jobs.sweep.directory / ledger.FOLDER / name
    with suppress(OSError):
        place.write_text("".join(traceback.format_exception(error)), encoding="utf-8")
    return place


def worth_another_go(sweeps: Sequence[Jobs], error: BaseException | None, ended_before: int) -> int | None:
    """How many jobs have ended, if a launcher that broke should be started again for the others; else None.

    It is once, and as long as some job has ended since it was started last (``ended_before``; −1 at first): a worker
    that was killed costs nothing then, and a launcher that cannot work at all is given up.
    """
    if error is None or isinstance(error, InterruptedRun) or not sweeps:
        return None
    (jobs,) = sweeps
    if jobs.sweep.launcher in ledger.DETACHED or not jobs.begun():
        return None
    stopping.wait_while_running(jobs)
    states = list(jobs.states().values())
    ended = sum(state in (JobState.DONE, JobState.FAILED) for state in states)
    if ended == len(states) or ended <= ended_before:
        return None
    print(f"vem: {_broken(jobs, error)} It is started again for the other jobs.", file=sys.stderr)
    return ended


def _broken(jobs: Jobs, error: BaseException) -> VemError:
    """One message where the launcher itself broke; the traceback goes to a file."""
    place = _keep_traceback(jobs, error, "launcher.log")
    said = messages.explain(error) or _line(error)
    return VemError(f"the launcher {jobs.sweep.launcher} broke off ({said}; in full in {place}).")


def mark_lost_jobs_failed(jobs: Jobs) -> None:
    """Record as failed the runs whose process is gone."""
    for folder, state in jobs.states().items():
        if state == JobState.LOST:
            kept = (jobs.sweep.directory / folder / records.CHECKPOINT).exists()
            onward = "goes on from its checkpoint" if kept else "begins it again"
            message = f"killed: the process of this run is gone. The same command {onward}."
            write_failure(jobs.sweep.directory / folder, message, jobs.sweep.start)
            failed = ledger.Outcome(JobState.FAILED, message)
            ledger.write_outcome(jobs.sweep.directory, folder, jobs.sweep.start, failed)


def _wait_for_signs_of_life(jobs: Jobs) -> None:
    """One job of a queue broke the wait for all: the others go on. Wait until none shows itself any more."""
    last = time.monotonic()
    while time.monotonic() - last < 2 * ledger.SILENCE:
        states = set(jobs.states().values())
        if not states & {JobState.RUNNING, JobState.WAITING}:
            return
        if JobState.RUNNING in states:
            last = time.monotonic()
        time.sleep(1.0)


UNDONE = {
    JobState.FAILED: "failed",
    JobState.STOPPED: "stopped",
    JobState.RUNNING: "at work",
    JobState.WAITING: "not begun",
    JobState.LOST: "lost",
}


def verdict(jobs: Jobs) -> tuple[int, str]:
    """The exit code, and a sentence: 0 where every job is done."""
    states = jobs.states()
    for folder, state in states.items():  # one that was done, and was then removed
        if state == JobState.DONE and not (jobs.sweep.directory / folder / records.RUN).exists():
            states[folder] = JobState.LOST
    counts = Counter(state for state in states.values() if state != JobState.DONE)
    if not counts:
        return 0, _made_by_other_code(jobs)
    parts = [f"{counts[state]} {word}" for state, word in UNDONE.items() if counts[state]]
    place = shlex.quote(f"hydra.sweep.dir={jobs.sweep.directory}")
    return 1, (
        f"{counts.total()} of {len(states)} jobs are not done: {', '.join(parts)}. The same command with {place} runs "
        "these, and leaves the rest alone."
    )


def _made_by_other_code(jobs: Jobs) -> str:
    """A warning where finished runs count that older or newer code made."""
    from vem.cli.resume import by_other_code

    found = [records.read_run(jobs.sweep.directory / folder) for folder in jobs.folders() if not jobs.ran(folder)]
    old = Counter(made for run in found if run and (made := by_other_code(run)))
    if not old:
        return ""
    told = "; ".join(f"{n} of the finished runs: each {made}" for made, n in old.items())
    return f"{told}. They count as done, and rerun=stale runs them again."
