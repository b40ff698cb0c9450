"""Speed benchmarks: vem against Pyro, NumPyro and plain PyTorch, side by side in one run.

``python experiments/speed/run.py`` takes about ten minutes, on cores that do nothing else; ``--quick`` runs a
few steps, to see that everything starts.
"""

from __future__ import annotations

import argparse
import multiprocessing
import sys
import tempfile
import time
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import summary
from contenders import MANY, Contender, Plan, plans
from data import digits_folder, prepare
from tqdm import tqdm
from worker import Task, Worker

HERE = Path(__file__).resolve().parent


def arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cpu", choices=("cpu", "cuda"))
    parser.add_argument("--threads", type=int, default=2, help="cores that every contender gets (default 2)")
    parser.add_argument("--rounds", type=int, help="slices of each contender after the warm-up (default 9)")
    parser.add_argument("--steps", type=int, help="steps of a slice (default 600)")
    parser.add_argument("--group", choices=("amortized", "local", "growth"), action="append", help="only this group")
    parser.add_argument("--quick", action="store_true", help="a smoke test: few steps, small N")
    parser.add_argument("--out", type=Path, default=HERE, help="folder of the results (default: beside this file)")
    args = parser.parse_args()
    args.rounds = args.rounds or (2 if args.quick else 9)
    args.steps = args.steps or (20 if args.quick else 600)
    if min(args.rounds, args.steps, args.threads) < 1:
        parser.error("--rounds, --steps and --threads must be at least 1")
    return args


def available(contenders: list[Contender], device: str) -> list[Contender]:
    """Those whose library is installed and runs on the device; says which are left out."""
    kept = []
    for contender in contenders:
        if contender.needs and find_spec(contender.needs) is None:
            print(f"skipped: {contender.name}: {contender.needs} is not installed (pip install 'vem[bench]')")
        elif contender.needs == "numpyro" and device == "cuda" and find_spec("jax_cuda12_plugin") is None:
            print(f"skipped: {contender.name}: this jax has no CUDA (pip install 'jax[cuda12]')")
        else:
            kept.append(contender)
    return kept


def measure(plan: Plan, data: str, args: argparse.Namespace) -> tuple[list[dict[str, Any]], dict[str, dict[str, Any]]]:
    """Rows (round, contender, steps, seconds), round 0 being the warm-up, and what each contender noted."""
    contenders = available(plan.contenders, args.device)
    workers = {}
    for contender in tqdm(contenders, desc="starting", leave=False, disable=None):
        steps = max(args.steps // contender.divisor, 2)
        task = Task(contender.num_data or data, steps, args.threads, args.device)
        workers[contender.name] = Worker(contender.module, contender.options, task)
    rows = []
    for turn in tqdm(range(args.rounds + 1), desc="rounds", leave=False, disable=None):
        for contender in contenders:  # A B C A B C …: the machine's drift falls on all alike
            time.sleep(0.1)  # the last one's threads go to sleep
            steps, seconds = workers[contender.name].slice()
            rows.append({"group": contender.group, "contender": contender.name, "round": turn, "steps": steps,
                         "seconds": seconds, "steps_per_second": steps / seconds})  # fmt: skip
    return rows, {name: worker.close() for name, worker in workers.items()}


def prepared(folder: Path, quick: bool) -> tuple[str, str]:
    """The file of the shared data, and what they are."""
    digits, path = digits_folder(), str(folder / "x.npy")
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    size = MANY // 10 if quick else MANY
    process = context.Process(target=prepare, args=(digits and str(digits), size, path, theirs))
    process.start()
    theirs.close()
    name = ours.recv()
    process.join()
    return path, name


def main() -> None:
    """Measure all groups; write results.csv, table.md and speed.png."""
    args = arguments()
    rows: list[dict[str, Any]] = []
    notes: dict[str, dict[str, Any]] = {}
    chosen = {name: plan for name, plan in plans(args.quick).items() if name in (args.group or [name])}
    with tempfile.TemporaryDirectory() as folder:
        data, data_name = prepared(Path(folder), args.quick)
        print(f"data: {data_name}; {args.threads} threads, {args.rounds} rounds of {args.steps} steps")
        for plan in chosen.values():
            new, noted = measure(plan, data, args)
            rows += new
            notes |= noted
    text = summary.write(args.out, rows, notes, chosen, summary.conditions(args, data_name))
    print(text)


if __name__ == "__main__":
    sys.exit(main())
