"""A sweep of nine that is killed by SIGKILL again and again, and typed again each time, equals the undisturbed one.

``python tests/cli/killing.py --kills 100`` in any folder takes about half an hour on two cores; the tests make two of
these kills. The moments are random (by ``--seed``), of four kinds:

- ``clock``: all processes of the sweep at a random time of its course, imports and report included;
- ``before`` and ``after``: all of them, by one that is about to rename or has just renamed a file;
- ``alone``: only the process that is about to rename: a job of the sweep, or the command itself;
- ``report``: as the files of a report take their places.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import random
import shutil
import signal
import subprocess
import sys
import time
import uuid
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch

CHECKOUT = Path(__file__).resolve().parents[2]
NINE = (
    "strategy=local,amortized,gmm", "seed=0,1,2", "data=blobs", "data.num=40", "data.num_valid=10", "data.num_test=10",
    "data.dims=3", "latent_dim=2", "training.epochs=6", "training.batch_size=20", "training.checkpoint_seconds=0",
    "progress=false", "device=cpu", "strategy.held_out.steps=5",
)  # fmt: skip
MEASURED = ("evaluation=brief", "evaluation.num_data=6", "evaluation.annealing=null", "evaluation.best.steps=2")
TIMES = ("seconds", "memory")  # what a name of a number that may differ holds
OF_THIS_START = ("pid", "commit", "started", "start", "command", "files", "sha256", "error", "host")
KINDS = ("clock", "clock", "before", "after", "alone", "report")
MOST_RENAMES = 150  # of a sweep of nine, those of its report among them

# Python reads a module of this name at every start of an interpreter, so also in that of the jobs.
HOOK = """
import os, signal

def hooked(call):
    def hooked_call(source, *rest, **named):
        kind, limit, folder = os.environ["VEM_KILLING_AT"].split(":", 2)
        report = ".report." in os.fspath(source)
        counts = (report if kind == "report" else True) and not os.path.exists(folder + "/killed")
        if not counts:
            return call(source, *rest, **named)
        with open(folder + "/renames", "ab") as file:
            file.write(b".")
            file.flush()
            due = file.tell() == int(limit)
        if due and kind == "after":
            call(source, *rest, **named)
        if due:
            open(folder + "/killed", "w").close()
            os.kill(os.getpid(), signal.SIGKILL)
        return call(source, *rest, **named)
    return hooked_call

if os.environ.get("VEM_KILLING_UNPAINTED"):  # figures are saved empty
    from matplotlib.figure import Figure
    Figure.draw = lambda self, renderer: None
if os.environ.get("VEM_KILLING_AT"):
    os.replace, os.rename = hooked(os.replace), hooked(os.rename)
"""


class Moment(NamedTuple):
    """When a sweep is killed: ``at`` is in seconds for a ``clock``, else the number of a rename."""

    kind: str
    at: float


class Killed(NamedTuple):
    """How a start of the sweep ended: whether by the kill, and what it said."""

    by_the_kill: bool
    code: int
    text: str


def moment(draw: random.Random, seconds: float) -> Moment:
    """A random moment of a sweep that takes so many seconds."""
    kind = draw.choice(KINDS)
    if kind == "clock":
        return Moment(kind, draw.uniform(0.3, seconds))
    return Moment(kind, draw.randint(1, 12 if kind == "report" else MOST_RENAMES))


def start(folder: Path, sweep: Sequence[str], when: Moment | None, hooks: Path) -> Killed:
    """Type the sweep's command in ``folder``, kill it at that moment, and bury everything that it had started."""
    tag = uuid.uuid4().hex
    marks = hooks / tag
    marks.mkdir(parents=True)
    (hooks / "sitecustomize.py").write_text(HOOK, encoding="utf-8")
    environment = {**os.environ, "PYTHONPATH": f"{hooks}:{CHECKOUT}", "OMP_NUM_THREADS": "1", "VEM_KILLING_TAG": tag}
    environment.pop("PYTHONWARNINGS", None)
    if when is not None and when.kind != "clock":
        kind = when.kind if when.kind in ("after", "report") else "before"
        environment["VEM_KILLING_AT"] = f"{kind}:{int(when.at)}:{marks}"
    command = [sys.executable, "-m", "vem.run", "-m", *sweep, "hydra.sweep.dir=sweep"]
    log = marks / "output.txt"
    with open(log, "wb") as out:
        process = subprocess.Popen(command, cwd=folder, env=environment, stdout=out, stderr=subprocess.STDOUT)
    killed = _watch(process, when, marks)
    code = process.wait()
    everything(tag, signal.SIGKILL)
    return Killed(killed, code, log.read_text(encoding="utf-8", errors="replace"))


def _watch(process: subprocess.Popen[bytes], when: Moment | None, marks: Path) -> bool:
    """Until it has ended; whether the kill has been."""
    begun = time.monotonic()
    while process.poll() is None:
        time.sleep(0.01)
        due = when is not None and when.kind == "clock" and time.monotonic() - begun >= when.at
        if due or ((marks / "killed").exists() and when is not None and when.kind != "alone"):
            everything(marks.name, signal.SIGKILL)
            process.wait()
            return True
    return (marks / "killed").exists()


def everything(tag: str, number: int) -> None:
    """Send a signal to every process of a start, twice: one may just have begun another."""
    for _ in range(2):
        for pid in tagged(tag):
            with suppress(ProcessLookupError):
                os.kill(pid, number)


def tagged(tag: str) -> Iterator[int]:
    """The processes whose environment has this tag."""
    for place in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            if f"VEM_KILLING_TAG={tag}".encode() in (place / "environ").read_bytes():
                yield int(place.name)


# --- what has to be equal


def results(sweep: Path) -> dict[str, Any]:
    """Everything that the runs and the report say, less times, and plain enough for ``==``."""
    found: dict[str, Any] = {}
    for run in sorted(path.parent for path in sweep.glob("*/run.json")):
        for name in ("config.yaml", "overrides.yaml", "per_datum.csv"):
            found[f"{run.name}/{name}"] = (run / name).read_text(encoding="utf-8")
        found[f"{run.name}/metrics.csv"] = _table(run / "metrics.csv")
        for name in ("run.json", "evaluation.json"):
            found[f"{run.name}/{name}"] = _plain(json.loads((run / name).read_text(encoding="utf-8")))
        found[f"{run.name}/checkpoint.pt"] = _plain(torch.load(run / "checkpoint.pt", weights_only=True))
        with np.load(run / "pictures.npz") as arrays:
            found[f"{run.name}/pictures.npz"] = {name: arrays[name].tobytes() for name in sorted(arrays)}
        found[f"{run.name}/figures"] = sorted(path.name for path in (run / "figures").glob("[!.]*"))
    for name in ("summary.csv", "runs.csv"):
        found[name] = _table(sweep / name)
    return found


def _table(path: Path) -> list[list[str]]:
    header, *rows = [line.split(",") for line in path.read_text(encoding="utf-8").splitlines()]
    # Settings with a comma in them move a cell: then the whole line is kept, which holds no time.
    kept = [i for i, name in enumerate(header) if not _is_time(name)]
    return [[row[i] for i in kept if i < len(row)] if len(row) == len(header) else _untimed(row) for row in rows]


def _untimed(row: Sequence[str]) -> list[str]:
    return [cell for cell in row if not _number(cell)]


def _number(cell: str) -> bool:
    try:
        float(cell)
    except ValueError:
        return False
    return True


def _is_time(name: str) -> bool:
    return any(word in name for word in TIMES) or name in OF_THIS_START


def _plain(node: Any) -> Any:
    if isinstance(node, dict):
        return {str(k): _plain(v) for k, v in sorted(node.items(), key=str) if not _is_time(str(k))}
    if isinstance(node, list | tuple):
        return [_plain(v) for v in node]
    return (str(node.dtype), node.tolist()) if isinstance(node, torch.Tensor) else node


def differences(one: dict[str, Any], other: dict[str, Any]) -> list[str]:
    """The names of what is not equal."""
    return [name for name in sorted({*one, *other}) if repr(one.get(name)) != repr(other.get(name))]


# --- the script


def chain(folder: Path, sweep: Sequence[str], moments: Sequence[Moment], hooks: Path) -> tuple[list[Killed], Killed]:
    """Kill a sweep at each of these moments, typed again after each, then let it end; all of it."""
    folder.mkdir(parents=True, exist_ok=True)
    ended = [start(folder, sweep, when, hooks) for when in moments]
    return ended, start(folder, sweep, None, hooks)


def left_over(sweep: Path) -> list[str]:
    """Temporary files that nobody will remove."""
    return [str(p.relative_to(sweep)) for p in sweep.rglob(".*") if p.name not in (".sweep", ".report.json")]


def main() -> int:
    """Kill until there were so many kills; each sweep is compared with the undisturbed one. Returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=100)
    parser.add_argument("--chain", type=int, default=5, help="kills of one sweep")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--folder", type=Path, default=Path("killing"))
    given = parser.parse_args()
    sweep, draw, folder = (*NINE, *MEASURED), random.Random(given.seed), given.folder.resolve()
    shutil.rmtree(folder, ignore_errors=True)
    begun = time.monotonic()
    undisturbed, ended = chain(folder / "undisturbed", sweep, [], folder / "hooks")
    assert not undisturbed and ended.code == 0, ended.text
    seconds, wanted = time.monotonic() - begun, results(folder / "undisturbed" / "sweep")
    print(f"{platform.processor() or platform.machine()}: {len(wanted)} files, undisturbed {seconds:.0f} s", flush=True)
    kills: Counter[str] = Counter()
    bad, number = 0, 0
    while sum(kills.values()) < given.kills:
        number += 1
        moments = [moment(draw, seconds) for _ in range(given.chain)]
        one, last = chain(folder / f"{number:03d}", sweep, moments, folder / "hooks")
        for when, ended in zip(moments, one, strict=True):
            kills[when.kind] += ended.by_the_kill
            if "Traceback" in ended.text:
                print(f"  {when}: a traceback\n{ended.text}", flush=True)
        place = folder / f"{number:03d}" / "sweep"
        unlike = differences(wanted, results(place)) if last.code == 0 else [f"exit code {last.code}: {last.text}"]
        unlike += [f"left over: {name}" for name in left_over(place)]
        bad += bool(unlike)
        told = ", ".join(f"{when.kind} {when.at:.1f}" for when in moments)
        print(f"{number:3d} ({told}): {unlike if unlike else 'equal'}", flush=True)
        if not unlike:
            shutil.rmtree(folder / f"{number:03d}")
    print(f"{sum(kills.values())} kills ({dict(kills)}) in {number} sweeps, {time.monotonic() - begun:.0f} s: "
          f"{number - bad} equal, {bad} not", flush=True)  # fmt: skip
    return int(bool(bad))


if __name__ == "__main__":
    sys.exit(main())
