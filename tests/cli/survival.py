"""What a sweep survives, for any launcher: four runs of which one raises, one is SIGKILLed and one yields NaN.

The tests use it for the launchers that need nothing but this machine; the scripts in ``tests/cluster`` use it as a
program, in an empty folder of their own: ``python survival.py launcher=slurm …``.
"""

from __future__ import annotations

import csv
import html
import json
import os
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from cli_support import CHECKOUT, TINY, Ended

RUNS = 4
RAISES, KILLED, NAN = 0, 1, 3  # seeds
MISHAPS = {RAISES: "ZeroDivisionError: an odd number", KILLED: "SIGKILL", NAN: "became NaN or infinite"}
MODULE = f"""
import os, signal
from pathlib import Path
from vem.strategies.amortized import Amortized

HERE = Path(__file__).parent

class Odd(Amortized):
    def __init__(self, case, **options):
        super().__init__(**options)
        self.case, self.named = None if (HERE / "mended").exists() else case, case

    def step(self, model, batch, noise, schedule):
        if self.named is not None:  # the first step of the run
            with open(HERE / "begun.txt", "a") as file:  # one short line at a time: no two jobs mix theirs
                file.write(f"{{self.named}}\\n")
            self.named = None
        if self.case == {RAISES}:
            raise ZeroDivisionError("an odd number")
        if self.case == {KILLED}:
            os.kill(os.getpid(), signal.SIGKILL)
        if self.case == {NAN}:
            for parameter in model.parameters():
                parameter.data.fill_(float("nan"))
        return super().step(model, batch, noise, schedule)
"""

Call = Callable[..., Ended]


def survives(folder: Path, launcher: Sequence[str], call: Call, again: Sequence[str] | None = None) -> None:
    """Assert it all, in an empty working directory; ``call`` runs ``python -m vem.run`` with its arguments there.

    ``again`` is the launcher of the second start, by default the same.
    """
    (folder / "odd_module.py").write_text(MODULE, encoding="utf-8")
    sweep = (
        "-m", *TINY, "evaluation=none", "strategy._target_=odd_module.Odd", "allow_targets=[odd_module]",
        "+strategy.case=${seed}", f"seed=range({RUNS})", "hydra.sweep.dir=sweep",
    )  # fmt: skip
    ended = call(*sweep, *launcher)
    assert ended.code == 1, ended.text
    runs = by_seed(folder / "sweep")
    assert sorted(runs) == list(range(RUNS)), ended.text
    assert sorted(begun(folder)) == list(range(RUNS))
    for seed, (_, status) in runs.items():
        assert status["status"] == ("failed" if seed in MISHAPS else "done"), status
        assert MISHAPS.get(seed, "") in (status["error"] or ""), status
    complete_for_the_others(folder / "sweep", ended)

    (folder / "mended").touch()
    (folder / "begun.txt").unlink()
    before = {seed: (path / "run.json").read_bytes() for seed, (path, _) in runs.items() if seed not in MISHAPS}
    ended = call(*sweep, *(launcher if again is None else again))
    assert ended.code == 0, ended.text
    assert sorted(begun(folder)) == sorted(MISHAPS)
    runs = by_seed(folder / "sweep")
    assert {status["status"] for _, status in runs.values()} == {"done"} and len(runs) == RUNS
    assert {seed: (runs[seed][0] / "run.json").read_bytes() for seed in before} == before


def by_seed(sweep: Path) -> dict[int, tuple[Path, dict]]:
    """seed → the folder of its run, and what run.json says."""
    found = ((path.parent, json.loads(path.read_text(encoding="utf-8"))) for path in sweep.glob("*/run.json"))
    return {status["seed"]: (path, status) for path, status in found}


def begun(folder: Path) -> list[int]:
    """The seeds of the runs that were begun since the file was last removed, as often as they were."""
    return [int(line) for line in (folder / "begun.txt").read_text().split()]


def complete_for_the_others(sweep: Path, ended: Ended) -> None:
    """The report holds the others, and names the three with their reasons, on the terminal and in each of its files."""
    with open(sweep / "runs.csv", encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert sum(row["status"] == "done" for row in rows) == RUNS - len(MISHAPS)
    texts = {"the terminal": ended.out} | {
        "report.md": (sweep / "report.md").read_text(encoding="utf-8").replace("\\_", "_"),
        "report.html": html.unescape((sweep / "report.html").read_text(encoding="utf-8")),
    }
    runs = by_seed(sweep)
    for where, text in texts.items():
        for seed, reason in MISHAPS.items():
            assert runs[seed][0].name in text, (where, seed)
            assert reason in text, (where, reason)
    assert f"{len(MISHAPS)} of {RUNS} jobs are not done: {len(MISHAPS)} failed" in ended.err


def in_a_process(folder: Path) -> Call:
    """``python -m vem.run`` as a person starts it."""

    def call(*arguments: str) -> Ended:
        environment = {**os.environ, "PYTHONPATH": str(CHECKOUT)}
        environment.pop("PYTHONWARNINGS", None)
        command = [sys.executable, "-m", "vem.run", *arguments]
        done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, timeout=1800)
        return Ended(done.returncode, done.stdout, done.stderr)

    return call


if __name__ == "__main__":
    survives(Path.cwd(), sys.argv[1:], in_a_process(Path.cwd()))
    print(f"{' '.join(sys.argv[1:])}: one of four runs done, three named; the second start ran exactly those three")
