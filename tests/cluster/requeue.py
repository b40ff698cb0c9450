"""A run that is longer than its time on the cluster: queued again, it goes on from its checkpoint.

In the cluster of ``slurm.sh``: its numbers are those of the same run that nothing stopped.
"""

from __future__ import annotations

import csv
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

RUN = ["data=digits", "strategy=amortized", "training.epochs=800", "training.checkpoint_seconds=5", "threads=1"]
LIMIT = ["launcher=slurm", "hydra.launcher.timeout_min=1", "hydra.launcher.signal_delay_s=30"]


def vem(*arguments: str) -> None:
    """``python -m vem.run`` in this folder."""
    subprocess.run([sys.executable, "-m", "vem.run", *arguments], check=True)


def numbers(directory: Path) -> tuple[list[dict[str, str]], Any]:
    """What a run has measured: all but the seconds."""
    with (directory / "metrics.csv").open(newline="", encoding="utf-8") as file:
        records = [{name: value for name, value in row.items() if name != "seconds"} for row in csv.DictReader(file)]
    return records, json.loads((directory / "evaluation.json").read_text(encoding="utf-8"))


def main() -> None:
    """Run it here, then there."""
    vem(*RUN, "hydra.run.dir=here")
    vem("-m", *RUN, *LIMIT, "hydra.sweep.dir=there")
    (directory,) = (path.parent for path in Path("there").glob("*/run.json"))
    starts = (directory / "run.log").read_text(encoding="utf-8").count("Requeued job")
    assert starts, "the run was not queued again: give it more epochs"
    assert numbers(Path("here")) == numbers(directory), "other numbers than those of the run that nothing stopped"
    print(f"a run that Slurm queued again {starts} times has the numbers of the run that nothing stopped, bit for bit")


if __name__ == "__main__":
    main()
