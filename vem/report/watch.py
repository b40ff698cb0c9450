"""A report that is written again whenever its runs have changed, until all of them are finished."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from typing import TextIO

from vem.errors import VemError
from vem.report.findings import Findings
from vem.report.gather import at_work, check_root
from vem.report.read import findings
from vem.report.summary import PAGE, write
from vem.storage import folders, ledger
from vem.storage.records import CONFIG, EVALUATION, METRICS, PER_DATUM, PICTURES, RUN

SHARE = 5.0  # pauses are at least so many times as long as the report took: the runs need the machine
OPEN = ("running", "waiting")
WATCHED = (RUN, CONFIG, METRICS, EVALUATION, PER_DATUM, PICTURES)


def watch(roots: Sequence[Path], out: Path, baseline: str | None, seconds: float, stream: TextIO) -> str:
    """Keep the report in ``out`` up to date, a line on ``stream`` for each time; returns the text of the last one.

    It looks every ``seconds``, and less often where writing takes long. It ends when no run is at work, and none
    waits in a sweep that goes on.
    What hinders a report (no run yet, a full disk) is said once and tried again.

    Raises:
        VemError: a root does not exist.
    """
    for root in roots:
        check_root(root)
    seen: object = None
    said = ""
    while True:
        started = time.monotonic()
        now = signature(roots)
        if now != seen:
            try:
                found = findings(roots, baseline, out)
                text = write(found, out)
                seen, said = now, ""
                print(f"{time.strftime('%H:%M:%S')}  {counts(found)}  {out / PAGE}", file=stream, flush=True)
                if finished(found):
                    return text
            except VemError as error:
                if str(error) != said:
                    print(f"{time.strftime('%H:%M:%S')}  {error}", file=stream, flush=True)
                said = str(error)
        time.sleep(max(seconds, SHARE * (time.monotonic() - started)))


def signature(roots: Sequence[Path]) -> tuple[object, ...]:
    """What changes when a run has got further, or is known to be lost."""
    below = folders.below(roots)
    files = sorted(folder.path / name for folder in below for name in WATCHED if name in folder.names)
    plans = sorted(folder.path for folder in below if ledger.FOLDER in folder.names)
    sweeps = [sweep for plan in plans if (sweep := ledger.read(plan)) is not None]
    fates = [ledger.state(sweep.directory, job.folder) for sweep in sweeps for job in sweep.jobs]
    return tuple(_stamp(path) for path in files), tuple(fates), tuple(map(at_work, sweeps))


def _stamp(path: Path) -> tuple[str, int, int]:
    try:
        found = path.stat()
        return str(path), found.st_mtime_ns, found.st_size
    except OSError:  # it went away between two looks
        return str(path), 0, 0


def finished(found: Findings) -> bool:
    """Whether no run is at work, and none that was planned is still to begin."""
    return not any(run.status in OPEN for run in found.unfinished)


def counts(found: Findings) -> str:
    """How many runs are in which state.

    A sweep's jobs count as they were planned, else what was found counts.
    """
    states = dict(found.progress) or {"done": sum(found.runs["status"] == "done")} | _states(found)
    return ", ".join(f"{count} {state}" for state, count in states.items() if count)


def _states(found: Findings) -> dict[str, int]:
    names = [run.status for run in found.unfinished]
    return {name: names.count(name) for name in dict.fromkeys(names)}
