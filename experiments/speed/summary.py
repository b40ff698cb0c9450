"""From slices to the table and the figure."""

from __future__ import annotations

import argparse
import os
import platform
import statistics
import subprocess
import sys
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import Any

from contenders import Contender, Plan, Ratio
from matplotlib.figure import Figure

from vem.storage.records import write_csv, write_text

GIB = 2**30
SPARE_GIB = 1.5  # what a run may take beside its data and its table: torch itself, activations, the start
Row = Mapping[str, Any]
TITLES = {
    "amortized": "An encoder: steps per second",
    "local": "A table of λ, N = {n}: steps (visits of a batch) per second",
    "growth": "The cost of a local step as N grows, random data",
}


def conditions(args: argparse.Namespace, data: str) -> dict[str, str]:
    """Where, when and with what this was measured."""
    packages = ("torch", "pyro-ppl", "numpyro", "jax", "numpy")
    return {
        "machine": f"{_processor()}, {os.cpu_count()} cores, {platform.system()}" + _gpu(args.device),
        "threads": str(args.threads),
        "versions": ", ".join([f"Python {platform.python_version()}", *filter(None, map(_version, packages))]),
        "commit": _commit(),
        "date": datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
        "network": "784-200-200-50, ELU, Bernoulli, batch 100, one draw, closed KL (but for Trace_ELBO), Adam 1e-3",
        "data": data,
        "slices": f"{args.rounds} rounds of {args.steps} steps after a warm-up slice (Pyro's table: a tenth of that)",
        "command": " ".join(["python", "experiments/speed/run.py", *sys.argv[1:]]),
    }


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
        return next(line.split(":", 1)[1].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()


def _gpu(device: str) -> str:
    if device != "cuda":
        return ""
    call = ["nvidia-smi", "--query-gpu=name", "--format=csv,noheader"]
    try:
        return ", " + subprocess.run(call, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.SubprocessError):
        return ", a GPU"


def _version(package: str) -> str | None:
    try:
        return f"{package} {metadata.version(package)}"
    except metadata.PackageNotFoundError:
        return None


def _commit() -> str:
    call = ["git", "-C", str(Path(__file__).parent), "describe", "--always", "--abbrev=12", "--dirty=+", "--exclude=*"]
    try:
        return subprocess.run(call, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.SubprocessError):
        return "not in a checkout"


def speeds(rows: Sequence[Row], name: str) -> list[float]:
    """Steps per second of every slice after the warm-up, in order."""
    return [row["steps_per_second"] for row in rows if row["contender"] == name and row["round"] > 0]


def pairs(rows: Sequence[Row], ratio: Ratio) -> list[float]:
    """The ratio in each round: the two slices are neighbours in time, so the machine's drift cancels."""
    return [a / b for a, b in zip(speeds(rows, ratio.above), speeds(rows, ratio.below), strict=False)]


def _range(values: Sequence[float], digits: int) -> str:
    return f"{statistics.median(values):.{digits}f} ({min(values):.{digits}f} – {max(values):.{digits}f})"


def speed_table(rows: Sequence[Row], contenders: Sequence[Contender], notes: Mapping[str, Row]) -> list[str]:
    """One line for each contender that ran."""
    lines = ["| contender | passes a step | steps per second: median (min – max) | note |", "|---|---|---|---|"]
    for contender in contenders:
        values = speeds(rows, contender.name)
        if values:
            note = _note(notes[contender.name])
            lines.append(f"| {contender.name} | {contender.passes} | {_range(values, 1)} | {note} |")
    return lines


def _note(noted: Row) -> str:
    if "compile_seconds" in noted:
        return f"compilation, {noted['compile_seconds']:.1f} s, is not counted"
    if "decoder_passes" in noted:
        return f"{noted['decoder_passes']:g} decoder evaluations a datum, as vem counts them"
    return ""


def ratio_table(rows: Sequence[Row], plan: Plan) -> list[str]:
    """One line for each ratio whose two contenders ran, with what was asked of it."""
    lines = ["| ratio | median (min – max) over the rounds | asked | met |", "|---|---|---|---|"]
    for ratio in plan.ratios:
        values = pairs(rows, ratio)
        if not values:
            continue
        name = f"{ratio.above} / {ratio.below}"
        if ratio.group == "growth":  # the slower one over the faster one, seen as a cost
            name = f"cost of {ratio.below} / cost of {ratio.above}"
        middle, asked, met = statistics.median(values), "", ""
        if ratio.at_least is not None:
            asked, met = f"≥ {ratio.at_least:g}", _yes(middle >= ratio.at_least)
        elif ratio.at_most is not None:
            asked, met = f"≤ {ratio.at_most:g}", _yes(middle <= ratio.at_most)
        lines.append(f"| {name} | {_range(values, 2)} | {asked} | {met} |")
    return lines


def _yes(value: bool) -> str:
    return "yes" if value else "**no**"


def memory_table(contenders: Sequence[Contender], notes: Mapping[str, Row]) -> list[str]:
    """Peak memory of each process against data + table with its moments + what is spare, in GiB."""
    header = "| contender | data | λ, moments, counts | peak of the process | allowed | met |"
    lines = [header, "|---|---|---|---|---|---|"]
    for contender in contenders:
        noted = notes.get(contender.name)
        if noted is None:
            continue
        data, table, peak = (noted[key] / GIB for key in ("data_bytes", "table_bytes", "peak_bytes"))
        allowed = data + table + SPARE_GIB
        lines.append(
            f"| {contender.name} | {data:.2f} | {table:.2f} | {peak:.2f} | {allowed:.2f} | {_yes(peak <= allowed)} |"
        )
    return lines


def write(
    folder: Path, rows: Sequence[Row], notes: Mapping[str, Row], plans: Mapping[str, Plan], where: Mapping[str, str]
) -> str:
    """Write results.csv, table.md and speed.png; returns the table's text."""
    folder.mkdir(parents=True, exist_ok=True)
    write_csv(folder / "results.csv", rows)
    lines = ["# Speed", "", *(f"- {name}: {value}" for name, value in where.items())]
    size = where["data"].rsplit("= ", 1)[-1]
    for group, plan in plans.items():
        lines += ["", f"## {TITLES[group].format(n=size)}", "", *speed_table(rows, plan.contenders, notes)]
        lines += ["", *ratio_table(rows, plan)]
        if group == "growth":
            lines += ["", "Memory, GiB:", "", *memory_table(plan.contenders, notes)]
    text = "\n".join(lines) + "\n"
    write_text(folder / "table.md", text)
    draw(folder / "speed.png", rows, plans, size)
    return text


def draw(path: Path, rows: Sequence[Row], plans: Mapping[str, Plan], size: str) -> None:
    """One panel a group: the median as a bar, min to max as a whisker, vem dark."""
    counts = [len([c for c in plan.contenders if speeds(rows, c.name)]) for plan in plans.values()]
    figure = Figure(figsize=(9, 0.42 * sum(counts) + 1.1 * len(plans)), layout="constrained")
    panels = figure.subplots(len(plans), squeeze=False, height_ratios=counts)[:, 0]
    for axes, (group, plan) in zip(panels, plans.items(), strict=True):
        names = [c.name for c in plan.contenders if speeds(rows, c.name)]
        values = [speeds(rows, name) for name in names]
        middles = [statistics.median(v) for v in values]
        whiskers = [[m - min(v) for m, v in zip(middles, values, strict=True)],
                    [max(v) - m for m, v in zip(middles, values, strict=True)]]  # fmt: skip
        shades = ["0.35" if name.startswith("vem") else "0.75" for name in names]
        axes.barh(names, middles, xerr=whiskers, color=shades, edgecolor="black", linewidth=0.6, capsize=3)
        for i, middle in enumerate(middles):
            axes.annotate(f" {middle:.0f}", (max(values[i]), i), va="center", xytext=(4, 0), textcoords="offset points")
        axes.set_xlim(0, 1.12 * max(map(max, values)))
        axes.invert_yaxis()
        axes.set_xlabel("speed (steps per second, batch of 100)")
        axes.set_title(TITLES[group].split(":")[0].format(n=size), loc="left")
    figure.savefig(path, dpi=150)
