"""A sweep of nine whose files are damaged one at a time: what the report, ``vem.load`` and the command say of it.

``python tests/cli/mutations.py SWEEP --num 2000`` mutates copies of a finished sweep of nine (that of ``killing.py``,
made if it is not there). Whatever was cut, emptied, swapped, dropped, renamed or made of another type, each ends in the
right answer or in a message that names the file: never in a traceback, a NaN or a wrong number.
"""

from __future__ import annotations

import argparse
import contextlib
import csv
import io
import json
import logging
import math
import random
import shutil
import sys
import time
import traceback
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import yaml
from killing import MEASURED, NINE, Killed, differences, results, start

from vem import VemError, load
from vem.cli.measure import state_hash
from vem.report import summary
from vem.storage.sealing import FILES as FILES_SAID
from vem.storage.sealing import OWN

SWEEP = (*NINE, *MEASURED)
FILES = ("run.json", "evaluation.json", "config.yaml", "overrides.yaml", "metrics.csv", "per_datum.csv", "pictures.npz",
         "checkpoint.pt")  # fmt: skip
TREES = ("run.json", "evaluation.json", "config.yaml")  # files with fields
OTHERS: tuple[Any, ...] = (None, "text", 7, -1.5, True, [], {}, [1, "a"], {"a": 1}, 10**400)
NUMBERS = tuple(f"{split}_{name}" for split in ("train", "valid", "test") for name in ("elbo", "reconstruction", "kl"))
GAPS = ("test_amortization_gap", "test_optimization_gap", "test_approximation_gap")
SEALS = (OWN, FILES_SAID)
Command = Callable[[Path], Any]  # of a sweep, in this folder; its code and its text


class Mutation(NamedTuple):
    """What was done to which file of which run."""

    kind: str
    run: str
    file: str
    detail: str = ""


def typed(folder: Path) -> Killed:
    """Type the command of the sweep in ``folder``, and wait for its end."""
    return start(folder, SWEEP, None, folder / "hooks")


def finished(folder: Path, command: Command = typed) -> Path:
    """The finished sweep in ``folder``, made there if it is not there."""
    if not (folder / "sweep" / "summary.csv").exists():
        folder.mkdir(parents=True, exist_ok=True)
        ended = command(folder)
        assert ended.code == 0, ended.text
    return folder / "sweep"


def mutate(sweep: Path, seed: int) -> Mutation:
    """Do one random thing to a sweep."""
    draw = random.Random(seed)
    runs = sorted(path.parent.name for path in sweep.glob("*/run.json"))
    run, other = draw.sample(runs, 2)
    kind = draw.choice(list(KINDS))
    return KINDS[kind](sweep, run, other, draw)


def _cut(sweep: Path, run: str, other: str, draw: random.Random) -> Mutation:
    path = sweep / run / draw.choice(FILES)
    content = path.read_bytes()
    length = draw.randrange(len(content))
    path.write_bytes(content[:length])
    return Mutation("cut", run, path.name, f"at {length} of {len(content)}")


def _emptied(sweep: Path, run: str, other: str, draw: random.Random) -> Mutation:
    path = sweep / run / draw.choice(FILES)
    path.write_bytes(b"")
    return Mutation("emptied", run, path.name)


def _removed(sweep: Path, run: str, other: str, draw: random.Random) -> Mutation:
    path = sweep / run / draw.choice(FILES)
    path.unlink()
    return Mutation("removed", run, path.name)


def _swapped(sweep: Path, run: str, other: str, draw: random.Random) -> Mutation:
    name = draw.choice(FILES)
    one, two = (sweep / folder / name for folder in (run, other))
    first, second = one.read_bytes(), two.read_bytes()
    one.write_bytes(second)
    two.write_bytes(first)
    return Mutation("swapped", run, name, f"with {other}")


def _renamed(sweep: Path, run: str, other: str, draw: random.Random) -> Mutation:
    name = draw.choice(["renamed", "ü b", "x=1,y=2"])
    (sweep / run).rename(sweep / name)
    return Mutation("renamed", run, "", name)


def _dropped(sweep: Path, run: str, other: str, draw: random.Random) -> Mutation:
    return _edited(sweep, run, draw, "dropped", lambda node, key: node.pop(key) and None)


def _retyped(sweep: Path, run: str, other: str, draw: random.Random) -> Mutation:
    value = draw.choice(OTHERS)

    def change(node: Any, key: Any) -> None:
        node[key] = value

    return _edited(sweep, run, draw, f"became {str(value)[:9]!r}", change)


def _row(sweep: Path, run: str, other: str, draw: random.Random) -> Mutation:
    """A line or a column of a table goes, or a cell is another."""
    path = sweep / run / draw.choice(["metrics.csv", "per_datum.csv"])
    rows = [line.split(",") for line in path.read_text(encoding="utf-8").splitlines()]
    kind = draw.choice(["line", "column", "cell"])
    at = draw.randrange(len(rows)), draw.randrange(len(rows[0]))
    if kind == "line":
        del rows[at[0]]
    elif kind == "column":
        rows = [[cell for i, cell in enumerate(row) if i != at[1]] for row in rows]
    else:
        rows[at[0]][at[1]] = draw.choice(["", "text", "1e5", "nan", "-3"])
    path.write_text("".join(",".join(row) + "\n" for row in rows), encoding="utf-8")
    return Mutation(kind, run, path.name, str(at))


def _edited(sweep: Path, run: str, draw: random.Random, kind: str, change: Callable[[Any, Any], Any]) -> Mutation:
    """Change one random field of a file, at any depth."""
    path = sweep / run / draw.choice(TREES)
    text = path.read_text(encoding="utf-8")
    tree = json.loads(text) if path.suffix == ".json" else yaml.safe_load(text)
    node, keys = tree, []
    while True:
        keys.append(draw.choice(sorted(node) if isinstance(node, dict) else range(len(node))))
        child = node[keys[-1]]
        if not isinstance(child, dict | list) or not child or draw.random() < 0.3:
            break
        node = child
    change(node, keys[-1])
    written = json.dumps(tree) if path.suffix == ".json" else yaml.safe_dump(tree, sort_keys=False)
    path.write_text(written, encoding="utf-8")
    return Mutation(kind, run, path.name, ".".join(map(str, keys)))


KINDS: dict[str, Callable[[Path, str, str, random.Random], Mutation]] = {
    "cut": _cut, "emptied": _emptied, "removed": _removed, "swapped": _swapped, "renamed": _renamed,
    "dropped": _dropped, "dropped again": _dropped, "retyped": _retyped, "retyped again": _retyped, "row": _row,
}  # fmt: skip


# --- what is to be seen of it


class Truth:
    """The numbers of the sweep as it was."""

    def __init__(self, sweep: Path) -> None:
        with open(sweep / "runs.csv", encoding="utf-8", newline="") as file:
            rows = list(csv.DictReader(file))
        self.runs = {(row["strategy"], row["seed"]): row for row in rows}
        self.names = {row["directory"]: (row["strategy"], row["seed"]) for row in rows}
        self.folders = {key: name for name, key in self.names.items()}
        self.loaded = {name: _loaded(sweep / name) for name in self.names}
        self.results = results(sweep)


def _loaded(run: Path) -> str:
    """A hash of θ, of φ and of the data that ``vem.load`` gives back."""
    found = load(run)
    return state_hash(found.model.state_dict(), found.strategy.state_dict(), {"x": found.data.test.x})


def report_faults(sweep: Path, truth: Truth, done: Mutation, figures: bool) -> list[str]:
    """What is wrong with the report of the mutated sweep."""
    if not figures:
        kept, summary.draw = summary.draw, lambda *arguments, **named: []
    out = sweep.parent / "report"
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            text = summary.write_report([sweep], out)
    except VemError as error:
        return [] if _names_it(str(error), done) else [f"the report's message names no file: {error}"]
    except Exception:
        return [f"the report: {traceback.format_exc()}"]
    finally:
        if not figures:
            summary.draw = kept
    return _wrong_numbers(out, truth, done, text)


def _names_it(text: str, done: Mutation) -> bool:
    """Whether a message names the file, or the folder where that is what was changed."""
    return done.file in text if done.file and done.file != "run.json" else done.run in text or done.detail in text


def _wrong_numbers(out: Path, truth: Truth, done: Mutation, text: str) -> list[str]:
    faults = []
    tables = {}
    for name in ("runs.csv", "summary.csv"):
        with open(out / name, encoding="utf-8", newline="") as file:
            tables[name] = list(csv.DictReader(file))
        faults += [f"{name} holds {cell!r} in {key}" for row in tables[name] for key, cell in row.items()
                   if str(cell).lower() in ("nan", "inf", "-inf", "none")]  # fmt: skip
    missing = dict(truth.runs)
    for row in tables["runs.csv"]:
        name = row["directory"] if row["directory"] in truth.names else done.run
        was = truth.runs[truth.names[name]]
        if row["status"] == "done":
            missing.pop(truth.names[name], None)
            faults += [f"{name}: {key} is {row[key]}, was {was[key]}" for key in (*NUMBERS, *GAPS)
                       if row.get(key) and row[key] != was[key]]  # fmt: skip
            lost = [key for key in NUMBERS if was[key] and not row.get(key)]
            if lost and done.file not in row["damaged"] and done.file not in text:
                faults.append(f"{name} has lost {lost} without a word on {done.file}")
            faults += [f"{name}: {key} is {row[key]}, was {was[key]}" for key in ("strategy", "seed", "model", "data")
                       if row[key] != was[key]]  # fmt: skip
    for key in missing:
        who = truth.folders[key]
        if not (_names_it(text, done) or who in text):
            faults.append(f"{who} has no numbers, and nothing is said of it")
    return faults + _wrong_means(tables["summary.csv"], truth, done)


def _wrong_means(rows: list[dict[str, str]], truth: Truth, done: Mutation) -> list[str]:
    """Each mean over seeds is that of the true numbers of the runs that it names."""
    faults, seen = [], []
    for row in rows:
        names = [name if name in truth.names else done.run for name in _folders(row["directories"], truth, done)]
        seen += names
        for key in (*NUMBERS, *GAPS):
            told = row.get(f"{key}_mean")
            parts = [truth.runs[truth.names[name]][key] for name in names]
            if not told or not all(parts):
                continue
            mean = math.fsum(map(float, parts)) / len(parts)
            if abs(float(told) - mean) > 1e-6 * max(1.0, abs(mean)):
                faults.append(f"{row['label']}: {key}_mean is {told} over {len(parts)} seeds, and should be {mean:.9g}")
    faults += [f"{name} is in two rows" for name in set(seen) if seen.count(name) > 1]
    return faults


def _folders(text: str, truth: Truth, done: Mutation) -> list[str]:
    """The folders of a cell; one was renamed, with a space in its new name perhaps."""
    found = [name for name in truth.names if name in text.split(" ")]
    return [*found, done.run] if done.kind == "renamed" and done.detail in text else found


def load_faults(sweep: Path, truth: Truth, done: Mutation) -> list[str]:
    """What is wrong with what ``vem.load`` gives of the mutated run, and of the one that it was swapped with."""
    faults = []
    other = done.detail.removeprefix("with ") if done.kind == "swapped" else None
    for name in filter(None, (done.run, other)):
        place = sweep / (done.detail if done.kind == "renamed" else name)
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("error")
                found = _loaded(place)
        except VemError as error:
            if not (done.file in str(error) or str(place) in str(error)):
                faults.append(f"vem.load({name}) names no file: {error}")
        except Exception:
            faults.append(f"vem.load({name}): {traceback.format_exc()}")
        else:
            if found != truth.loaded[name]:
                faults.append(f"vem.load({name}) gives other parameters or data")
    return faults


def command_faults(sweep: Path, truth: Truth, done: Mutation, command: Command) -> list[str]:
    """What is wrong with what comes of typing the same command again over the mutated sweep."""
    ended = command(sweep.parent)
    if "Traceback" in ended.text:
        return [f"the command: {ended.text}"]
    if ended.code:
        return [] if _names_it(ended.text, done) else [f"the command names no file: {ended.text}"]
    # A folder that was renamed is a further run.
    wanted = {name: value for name, value in truth.results.items() if name not in ("summary.csv", "runs.csv")}
    unlike = differences(wanted, {name: value for name, value in results(sweep).items() if name in wanted})
    return [f"typed again, without a word: {unlike}"] if unlike else []


def faults_of(
    seed: int, sweep: Path, truth: Truth, work: Path, command: Command | None, figures: bool, sealed: bool = True
) -> tuple[Mutation, list[str]]:
    """Mutate a copy of the sweep, and look at it, and at what ``command`` makes of it.

    Of runs from before, which are not ``sealed``, a number that is another one cannot be seen: for them the tracebacks
    and the NaN count.
    """
    place = work / f"{seed}"
    shutil.copytree(sweep, place / "sweep", symlinks=True)
    if not sealed:
        _unseal(place / "sweep")
    done = mutate(place / "sweep", seed)
    with contextlib.redirect_stdout(io.StringIO()):
        faults = report_faults(place / "sweep", truth, done, figures) + load_faults(place / "sweep", truth, done)
    if command is not None:
        faults += command_faults(place / "sweep", truth, done, command)
    shutil.rmtree(place)
    return done, faults if sealed else [fault for fault in faults if "Traceback" in fault or " holds " in fault]


def _unseal(sweep: Path) -> None:
    """Make the runs say of their files what runs from before say: nothing."""
    for path in sweep.glob("*/run.json"):
        content = json.loads(path.read_text(encoding="utf-8"))
        path.write_text(json.dumps({k: v for k, v in content.items() if k not in SEALS}), encoding="utf-8")


def main() -> int:
    """Mutate so many times; returns the exit code: 1 where something was wrong."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--num", type=int, default=2000)
    parser.add_argument("--first", type=int, default=0, help="the first seed")
    parser.add_argument("--from-before", action="store_true", help="as runs from before, which say nothing of files")
    parser.add_argument("--command-every", type=int, default=20)
    parser.add_argument("--figures-every", type=int, default=20)
    given = parser.parse_args()
    logging.getLogger("vem").setLevel(logging.ERROR)
    folder = given.folder.resolve()
    sweep = finished(folder)
    truth, begun, bad = Truth(sweep), time.monotonic(), 0
    for seed in range(given.first, given.first + given.num):
        again, figures = (n > 0 and seed % n == 0 for n in (given.command_every, given.figures_every))
        command = typed if again else None
        done, faults = faults_of(seed, sweep, truth, folder / "work", command, figures, not given.from_before)
        bad += bool(faults)
        for fault in faults:
            print(f"{seed}: {done}: {fault}", flush=True)
    print(f"{given.num} mutations, {time.monotonic() - begun:.0f} s: {bad} with faults")
    return int(bool(bad))


if __name__ == "__main__":
    sys.exit(main())
