"""What the studies share: one command that sweeps, the runs read back, means over seeds, tables."""

from __future__ import annotations

import argparse
import csv
import math
import os
import statistics
import subprocess
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from vem.storage import folders, records

SEEDS = "seed=0,1,2"


@dataclass(frozen=True)
class Run:
    """A finished run, as its directory tells it."""

    directory: Path
    config: Mapping[str, Any]
    facts: Mapping[str, Any]  # run.json
    evaluation: Mapping[str, Any]

    def curve(self, split: str) -> list[dict[str, float]]:
        """The records of a split, in order; a quantity that a record lacks is left out."""
        with (self.directory / records.METRICS).open(newline="", encoding="utf-8") as file:
            rows = [row for row in csv.DictReader(file) if row["split"] == split]
        return [{k: float(v) for k, v in row.items() if k != "split" and v} for row in rows]

    def mean(self, split: str, *keys: str) -> float:
        """The mean of a number in evaluation.json: ``mean("test", "gaps", "amortization")``."""
        found: Any = self.evaluation[split]
        for key in keys:
            found = found[key]
        return float(found["mean"])


def arguments(description: str | None, name: str) -> argparse.Namespace:
    """The command line of a study."""
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sweep", type=Path, default=Path("runs/studies") / name, help="the folder of the runs")
    here = Path(__file__).parent / name
    parser.add_argument("--out", type=Path, default=here, help="the folder of table and figures")
    parser.add_argument("--collect", action="store_true", help="read the runs that are there, and run nothing")
    parser.add_argument("--quick", action="store_true", help="a smoke test: tiny runs, to see that everything works")
    return parser.parse_args()


def sweep(directory: Path, commands: Iterable[Sequence[str]], quick: Sequence[str] | None = None) -> None:
    """Run every command as ``python -m vem.run -m`` into one sweep directory; what is finished there is left alone.

    ``quick`` are overrides that make the runs tiny; they come last.
    """
    for command in commands:
        call = [sys.executable, "-m", "vem.run", "-m", *command, f"hydra.sweep.dir={directory}", "progress=false"]
        call += ["threads=1", *(quick or ())]
        print("$", " ".join(["python", *call[1:]]), flush=True)
        done = subprocess.run(call, env={**os.environ, "OMP_NUM_THREADS": "1"}, check=False)
        if done.returncode:
            sys.exit(f"a run failed: see {directory}. The same command again runs what is missing.")


def runs(directory: Path) -> list[Run]:
    """Every finished run of a sweep."""
    found = []
    for place in sorted(folder.path for folder in folders.below([directory]) if folder.is_run):
        facts = records.read_json(place / records.RUN)
        if facts["status"] != "done":
            continue
        config = yaml.safe_load((place / records.CONFIG).read_text(encoding="utf-8"))
        found.append(Run(place, config, facts, records.read_json(place / records.EVALUATION)))
    if not found:
        sys.exit(f"no finished run below {directory}: name the folder of a sweep.")
    return found


def grouped(found: Iterable[Run], key: Callable[[Run], Any]) -> dict[Any, list[Run]]:
    """The runs by what they are, seeds together and in order."""
    out: dict[Any, list[Run]] = {}
    for run in sorted(found, key=lambda run: run.facts["seed"]):
        out.setdefault(key(run), []).append(run)
    return out


def over_seeds(values: Iterable[float]) -> tuple[float, float]:
    """Mean, and standard error of the mean over seeds (NaN for one seed); both NaN where a seed has no such number."""
    values = list(values)
    if any(math.isnan(value) for value in values):
        return math.nan, math.nan
    spread = statistics.stdev(values) / math.sqrt(len(values)) if len(values) > 1 else math.nan
    return statistics.fmean(values), spread


def shown(value: tuple[float, float], digits: int = 2) -> str:
    """``mean ± standard error`` with a true minus sign.

    >>> shown((-1.234, 0.056)), shown((2.0, math.nan))
    ('−1.23 ± 0.06', '2.00')
    """
    mean, error = value
    text = f"{mean:,.{digits}f}".replace("-", "−")
    return text if math.isnan(error) else f"{text} ± {error:,.{digits}f}"


def markdown(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A table in Markdown."""
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines) + "\n"


def write(out: Path, rows: Sequence[Mapping[str, Any]], table: str) -> None:
    """summary.csv, every number at full length, and table.md, what people read."""
    out.mkdir(parents=True, exist_ok=True)
    records.write_csv(out / "summary.csv", rows)
    records.write_text(out / "table.md", table)
    print(table)
