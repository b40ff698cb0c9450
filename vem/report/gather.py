"""Finding the runs below some folders, and what became of each: runs, repeats of them, and jobs that never began."""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vem.errors import VemError
from vem.report.findings import Unfinished
from vem.report.groups import one_run, with_data, x_of
from vem.report.kin import by
from vem.report.runs import DONE, FAILED, RUNNING, UNREADABLE, RunRecord, read_run
from vem.report.told import told_by_kin
from vem.storage import folders, ledger
from vem.storage.records import LOG, REPEATS, RUN
from vem.storage.sealing import mapping

STATUS_ORDER = (DONE, RUNNING, "stopped", "lost", FAILED, UNREADABLE, REPEATS)
LOG_LINES = 15  # of a run that failed
LOG_BYTES = 20_000
WHY = {  # of a run that left no error
    RUNNING: "at work",
    "stopped": "stopped before its end",
    "lost": "its process is gone: killed, or the machine went down",
    FAILED: "it left no error",
}
NOT_BEGUN = {
    "waiting": "planned, and not begun yet",
    "stopped": "planned, and not begun when the sweep ended: the same command goes on with it",
    RUNNING: "has just begun",
}


@dataclass(frozen=True)
class Gathered:
    """The runs below some folders.

    ``runs``: each config once. ``repeats``: by directory of such a run, the other directories of its config.
    ``base``: the folder that they are named from. ``jobs``: the overrides of every planned job, by its directory.
    ``idle``: the directories of sweeps that nobody is at work on.
    """

    base: Path
    runs: tuple[RunRecord, ...]
    repeats: Mapping[Path, tuple[RunRecord, ...]]
    sweeps: tuple[ledger.Sweep, ...]
    jobs: Mapping[Path, tuple[str, ...]]
    idle: frozenset[Path]

    def relative(self, path: Path) -> str:
        """How the report names a directory."""
        return path.relative_to(self.base).as_posix()

    @property
    def waiting(self) -> list[Path]:
        """Planned jobs that have no run yet."""
        begun = {run.directory for same in (self.runs, *self.repeats.values()) for run in same}
        places = {folders.identity(path) for path in begun} - {None}  # two jobs may be links to one run
        return [path for path in self.jobs if path not in begun and folders.identity(path) not in places]

    def state(self, job: Path) -> str:
        """What became of a planned job: as the ledger has it, but ``stopped`` for one that nobody will begin."""
        state = ledger.state(job.parent, job.name)
        return "stopped" if state == "waiting" and job.parent in self.idle else state


def gather(roots: Iterable[Path], ended: bool = False) -> Gathered:
    """Read the runs at or below ``roots``, and what the ledgers of their sweeps say of them.

    ``ended``: the command of the sweep has ended.

    Raises:
        VemError: a root does not exist, or neither a run nor a planned job lies below any of them.
    """
    roots = [Path(root) for root in roots]
    if not roots:
        raise VemError("no folder was named: name the folder of a run or of a sweep.")
    for root in roots:
        check_root(root)
    below = folders.below(roots)
    planned = sorted((folder.path for folder in below if ledger.FOLDER in folder.names), key=_natural)
    sweeps = tuple(sweep for path in planned if (sweep := ledger.read(path)) is not None)
    jobs = {sweep.directory / job.folder: job.overrides for sweep in sweeps for job in sweep.jobs}
    # That of a planned job, whose folder may be a link, stands under the job's name.
    names = {folders.identity(job): job for job in jobs}
    found = [names.get(folders.identity(folder.path)) or folder.path for folder in below if folder.is_run]
    if not jobs and not found:
        raise VemError(f"no run below {', '.join(map(str, roots))}: a run's directory holds {RUN}.")
    places = sorted({*found, *jobs}, key=_natural)
    base = Path(os.path.commonpath(places)) if len(places) > 1 else places[0].parent
    records = with_data([_with_state(read_run(directory), jobs) for directory in sorted(found, key=_natural)])
    runs, repeats = _once(told_by_kin(records))
    idle = frozenset(sweep.directory for sweep in sweeps if not at_work(sweep, ended))
    return Gathered(base, tuple(runs), repeats, sweeps, jobs, idle)


def check_root(root: Path) -> None:
    """Refuse what is no folder.

    Raises:
        VemError: it is none.
    """
    if not root.is_dir():
        raise VemError(f"{root} is not a directory: name the folder of a run or of a sweep.")


def at_work(sweep: ledger.Sweep, ended: bool = False) -> bool:
    """Whether jobs that wait may still begin: one is alive, or something has lately changed, or they are in a queue."""
    if sweep.launcher in ledger.DETACHED:
        return True
    if ended:
        return False
    if any(ledger.is_alive(sweep.directory, job.folder) for job in sweep.jobs):
        return True
    plan = sweep.directory / ledger.FOLDER
    signs = [plan / "sweep.json", plan / "alive", *(sweep.directory / job.folder / RUN for job in sweep.jobs)]
    changed = [ledger.lately(sign, ledger.SILENCE, plan) for sign in signs]  # a look at each, for the next time
    return any(changed)


def _natural(path: Path) -> list[int | str]:
    """Sort key under which job 10 of a sweep comes after job 2: text and numbers in turn."""
    return [int(part) if i % 2 else part for i, part in enumerate(re.split(r"(\d+)", str(path)))]


def _with_state(run: RunRecord, jobs: Mapping[Path, Any]) -> RunRecord:
    """The record with what became of a run that only says that it is running."""
    if run.status != RUNNING:
        return run
    if run.directory in jobs:
        return run.saying(status=ledger.state(run.directory.parent, run.directory.name))
    if not ledger.gone(run.facts.get("host"), run.facts.get("pid")):
        return run
    return run.saying(status="stopped" if run.facts.get("error") else "lost")


# --- one run under several names


def _once(found: Sequence[RunRecord]) -> tuple[list[RunRecord], dict[Path, tuple[RunRecord, ...]]]:
    """Each config once, where it first appears: the finished run, else the one that got furthest; and its repeats.

    Runs of one config that saw other data, or were made by other code, are no repeats of each other, nor are damaged
    ones. Of finished ones that are, the one that was measured last: beside a run that cannot be written, for example.
    """
    at = {run.directory: run for run in found}
    named = [at.get(_repeated(run), run) for run in found]
    configs = [run.directory if run.status == UNREADABLE else run.facts.get("config_hash") or run.directory
               for run in named]  # fmt: skip
    chosen, repeats = [], {}
    for same in (kind for own in by(configs, found).values() for kind in _kinds(own)):
        best = min(same, key=lambda run: STATUS_ORDER.index(run.status))
        if best.status == DONE:  # older versions do not say when a run was measured again
            done = [run for run in same if run.status == DONE]
            best = max(done, key=lambda run: str(mapping(run.facts.get("evaluated")).get("at") or ""))
        if best.status == REPEATS:
            where = best.facts.get("repeats") or "another run"
            best = best.saying(status=UNREADABLE, error=f"it repeats {where}, which is not there")
        chosen.append(best)
        if len(same) > 1:
            repeats[best.directory] = tuple(run for run in same if run.directory != best.directory)
    return chosen, repeats


def _repeated(run: RunRecord) -> Path:
    """The run that a repeat names, else itself."""
    named = run.facts.get("repeats") if run.status == REPEATS else None
    return run.directory.parent / named if named else run.directory


def _kinds(same: Sequence[RunRecord]) -> list[list[RunRecord]]:
    """Runs of one config, those together that may be the same run; one that says nothing goes with the only others."""
    order = {run.directory: i for i, run in enumerate(same)}
    kinds: list[list[RunRecord]] = []
    for run in sorted(same, key=lambda run: run.status == REPEATS or not x_of(run)):
        named = [kind for kind in kinds if any(other.directory == _repeated(run) for other in kind)]
        fitting = named or [kind for kind in kinds if all(one_run(run, other) for other in kind)]
        if len(fitting) == 1:
            fitting[0].append(run)
        else:
            kinds.append([run])
    return sorted((sorted(kind, key=lambda run: order[run.directory]) for kind in kinds),
                  key=lambda kind: order[kind[0].directory])  # fmt: skip


# --- runs without a result


def unfinished(gathered: Gathered, runs: Sequence[RunRecord]) -> tuple[Unfinished, ...]:
    """Every run without a result, with its reason; the planned jobs that never began come last."""
    begun = [
        Unfinished(gathered.relative(run.directory), who(run.facts), run.status, _reason(run), _last_words(run))
        for run in runs
        if run.status != DONE
    ]
    absent = [
        Unfinished(gathered.relative(job), " ".join(gathered.jobs[job]), state, NOT_BEGUN.get(state, state))
        for job in gathered.waiting
        for state in [gathered.state(job)]
    ]
    return (*begun, *absent)


def who(facts: Mapping[str, Any]) -> str:
    """The strategy and the seed, as far as known."""
    if facts.get("strategy") is None:
        return "unknown"
    seed = facts.get("seed")
    return str(facts["strategy"]) if seed is None else f"{facts['strategy']}, seed {int(seed)}"


def _reason(run: RunRecord) -> str:
    """Why a run has no result, on one line."""
    return " ".join(str(run.facts.get("error") or "").split()) or WHY.get(run.status, run.status)


def _last_words(run: RunRecord) -> str:
    """The last lines of the log of a run that failed or vanished."""
    if run.status not in (FAILED, "lost"):
        return ""
    try:
        with open(run.directory / LOG, "rb") as file:
            file.seek(max(0, file.seek(0, 2) - LOG_BYTES))
            text = file.read().decode("utf-8", errors="replace")
    except OSError:
        return ""
    return "\n".join(text.rstrip().splitlines()[-LOG_LINES:])


def progress(gathered: Gathered, jobs: Iterable[Path] | None = None) -> dict[str, int]:
    """How many jobs of the sweeps are done, running, failed and waiting, and stopped where some were.

    ``jobs``: these of them. Empty where no sweep was planned.
    """
    if not gathered.sweeps:
        return {}
    kinds = {REPEATS: DONE} | {state: state for state in (DONE, RUNNING, "waiting", "stopped")}
    counts = Counter(dict.fromkeys((DONE, RUNNING, FAILED, "waiting"), 0))
    counts.update(kinds.get(gathered.state(path), FAILED) for path in (gathered.jobs if jobs is None else jobs))
    return dict(counts)
