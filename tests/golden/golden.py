"""Reports of fixed run directories, as text that is the same on every machine; as a command, it accepts those of today.

``python tests/golden/golden.py [CASE…]`` writes ``expected/CASE/`` anew. A change of the report's output is accepted on
purpose, with this command, and listed in the message of its commit.

``reports/CASE/`` holds run directories of every kind that the report reads. They were written once, and are not made by
the builders of other tests, which may change. The case ``sweep`` is a real sweep (``tests/cli/test_as_before.py``), the
case ``many`` five hundred runs that are written here; of its tables only hashes are kept, one for each column.
"""

from __future__ import annotations

import contextlib
import csv
import difflib
import hashlib
import io
import itertools
import json
import math
import os
import re
import shutil
import sys
import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np
import yaml
from matplotlib.figure import Figure

HERE = Path(__file__).resolve().parent
EXPECTED, REPORTS, SWEEP = HERE / "expected", HERE / "reports", HERE / "sweep"
SUMMARY, RUNS, TERMINAL, TEXT, PAGE = "summary.csv", "runs.csv", "terminal.txt", "report.md", "report.html"
TABLES = (SUMMARY, RUNS)
MANY = "many"
CASES = (*sorted(path.name for path in REPORTS.iterdir()), SWEEP.name, MANY)
OPTIONS = {"paired": ("--baseline", "local")}
ACCEPT = "python tests/golden/golden.py"
LONG_AGO = 1.6e9  # seconds: else a planned job of files just copied might still begin
CLOSE, NOTHING = 2e-8, 1e-11  # relative, absolute: the ninth digit, the last that is written, may be rounded otherwise
MOST = 60  # lines of a diff that are shown


def render(case: str, folder: Path) -> dict[str, str]:
    """By file, what ``python -m vem.report CASE`` makes of a case's run directories, copied into ``folder``."""
    from vem.report.__main__ import main  # not at import, for other commands of pytest: it takes seconds

    printed = io.StringIO()
    with contextlib.chdir(folder), contextlib.redirect_stdout(printed), unpainted():
        copy(case)
        assert main([case, *OPTIONS.get(case, ())]) == 0
        names = (*TABLES, TEXT, PAGE)
        made = {name: Path(case, name).read_text(encoding="utf-8") for name in names if Path(case, name).exists()}
    if case == MANY:
        made = {f"{name}.sha256": digests(made[name]) for name in TABLES}
    return {name: plain(text, folder) for name, text in (made | {TERMINAL: printed.getvalue()}).items()}


def copy(case: str) -> None:
    """Put the run directories of a case into the folder CASE of the working directory."""
    if case == MANY:
        write_many(Path(case))
    else:
        shutil.copytree(SWEEP if case == SWEEP.name else REPORTS / case, case)
    for path in Path(case).rglob("*"):
        os.utime(path, (LONG_AGO, LONG_AGO))


@contextlib.contextmanager
def unpainted() -> Iterator[None]:
    """Figures are made and saved, and empty: painting them is most of a report's time, and no pixel is compared."""
    paint = Figure.draw
    Figure.draw = lambda self, renderer: None
    try:
        yield
    finally:
        Figure.draw = paint


def plain(text: str, folder: Path) -> str:
    """A text less its place, the date, the bytes and pixels of pictures, and the page's style and script."""
    for place in {str(folder), str(folder.resolve())}:
        text = text.replace(place, "FOLDER").replace(place.replace("_", r"\_"), "FOLDER")
    text = re.sub(r"\b20\d\d-\d\d-\d\d \d\d:\d\d [\w+-]+", "DATE", text)
    text = re.sub(r"data:image/[\w+]+;base64,[\w+/=]+", "PICTURE", text)
    text = re.sub(r'src="PICTURE" width="\d+" height="\d+"', 'src="PICTURE"', text)
    text = re.sub(r"sha256-[\w+/=]+", "HASH", text)
    return re.sub(r"<(style|script)>.*?</\1>", r"<\1></\1>", text, flags=re.DOTALL)


def digests(table: str) -> str:
    """A line for each column of a table: its name, and a hash of its cells with numbers to 7 digits."""
    rows = list(csv.reader(io.StringIO(table)))
    columns = zip(*([_rounded(cell) for cell in row] for row in rows[1:]), strict=True)
    hashes = (hashlib.sha256("\n".join(column).encode()).hexdigest()[:16] for column in columns)
    return "".join(f"{name} {digest}\n" for name, digest in zip(rows[0], hashes, strict=True))


def _rounded(cell: str) -> str:
    number = _number(cell)
    return cell if number is None else f"{0.0 if abs(number) < NOTHING else number:.7g}"


def _number(cell: str) -> float | None:
    try:
        return float(cell)
    except ValueError:
        return None


# --- as accepted


def accept(case: str) -> None:
    """Write what a case is expected to give."""
    with tempfile.TemporaryDirectory() as folder:
        made = render(case, Path(folder))
    shutil.rmtree(EXPECTED / case, ignore_errors=True)
    (EXPECTED / case).mkdir(parents=True)
    for name, text in made.items():
        (EXPECTED / case / name).write_text(text, encoding="utf-8", newline="")


def differences(case: str, made: dict[str, str]) -> str:
    """What is no longer as it was accepted: a diff for each file, and the command that accepts it."""
    expected = {path.name: path.read_bytes().decode() for path in (EXPECTED / case).iterdir()}
    found = []
    for name in sorted({*expected, *made}):
        old, new = expected.get(name, ""), made.get(name, "")
        if old == new:
            continue
        lines = list(cells(old, new) if name in TABLES and old and new else difflib.unified_diff(
            old.splitlines(), new.splitlines(), "accepted", "made", lineterm="", n=1))  # fmt: skip
        more = [f"… and {len(lines) - MOST} lines more"] if len(lines) > MOST else []
        if lines:
            found += [f"--- {case}/{name}", *lines[:MOST], *more]
    return "\n".join([*found, f"If that is meant: {ACCEPT} {case}, and say so in the commit."]) if found else ""


def cells(old: str, new: str) -> Iterable[str]:
    """The columns that came or went, else the cells that differ by more than rounding."""
    before, after = (list(csv.reader(io.StringIO(text))) for text in (old, new))
    if before[0] != after[0]:
        yield from difflib.unified_diff(before[0], after[0], "accepted columns", "made", lineterm="", n=0)
    elif len(before) != len(after):
        yield f"{len(before) - 1} rows were accepted, {len(after) - 1} made"
    else:
        for i, (one, other) in enumerate(zip(before[1:], after[1:], strict=True), 1):
            for column, a, b in zip(before[0], one, other, strict=True):
                if not _same(a, b):
                    yield f"row {i}, {column}: {a!r} was accepted, {b!r} made"


def _same(one: str, other: str) -> bool:
    a, b = _number(one), _number(other)
    return one == other or (None not in (a, b) and math.isclose(a, b, rel_tol=CLOSE, abs_tol=NOTHING))


# --- five hundred runs

STRATEGIES, SIZES, WIDTHS = ("local", "amortized"), (2, 5, 10, 20, 50), ("[]", "[50]", "[100]", "[200]", "[200, 200]")
SEEDS, ROWS = 10, 12


def write_many(root: Path) -> None:
    """Strategies, sizes of z, widths and seeds, all with gaps and with numbers of each data point."""
    rng = np.random.default_rng(0)
    for strategy, size, widths, seed in itertools.product(STRATEGIES, SIZES, WIDTHS, range(SEEDS)):
        run = root / f"latent_dim={size},widths={widths},seed={seed},strategy={strategy}"
        run.mkdir(parents=True)
        typed = {"strategy": strategy, "latent_dim": size, "model.decoder.widths": widths, "seed": seed}
        model = {"latent_dim": size, "decoder": {"widths": yaml.safe_load(widths)}}
        config = {"seed": seed, "device": "cpu", "latent_dim": size, "model": model, "data": {"seed": 0}}
        facts = {"status": "done", "error": None, "seed": seed, "strategy": strategy, "model": "deep",
                 "family": "diagonal_gaussian", "data": "digits", "binarize": "threshold", "likelihood": "bernoulli",
                 "latent_dim": size, "num_parameters": 10, "epochs": 3, "converged": False, "notes": [],
                 "training_seconds": 10.0 + seed, "seconds": 12.0, "decoder_evaluations": 1000,
                 "decoder_gradients": 900, "config_hash": run.name}  # fmt: skip
        _write_text(run / "run.json", json.dumps(facts))
        _write_text(run / "config.yaml", yaml.safe_dump(config | {"strategy": {"_target_": f"vem.{strategy}"}}))
        _write_text(run / "overrides.yaml", yaml.safe_dump([f"{key}={value}" for key, value in typed.items()]))
        _write_many_numbers(run, strategy, -90.0 - 5.0 / size, rng)


def _write_many_numbers(run: Path, strategy: str, level: float, rng: np.random.Generator) -> None:
    middle = "optimization" if strategy == "local" else "amortization"
    numbers, rows = {"valid": {"num_data": 0}}, []
    for split in ("train", "test"):
        lower = level + 5 * rng.random(ROWS)
        best = lower - rng.random(ROWS)
        elbo = best - 3 * rng.random(ROWS)
        gaps = {"approximation": lower - best, middle: best - elbo, "inference": lower - elbo}
        numbers[split] = {
            "num_data": ROWS, "elbo": _estimate(elbo), "reconstruction": _estimate(elbo + 10),
            "kl": _estimate(np.full(ROWS, 10.0)),
            "log_marginal": {"lower": _estimate(lower), "upper": None, "kind": "annealing"},
            "gaps": {name: {**_estimate(gap), "ci95": [gap.mean() - 0.2, gap.mean() + 0.2],
                            "identified": [gap.mean(), gap.mean() if name == middle else None]}
                     for name, gap in gaps.items()},
            "checks": [{"name": "converged", "passed": True, "detail": "as it should be"}],
            "diagnostics": {"active_units": 2},
        }  # fmt: skip
        rows += [f"{split},{7 * i},{i % 10},{elbo[i]},{best[i]},{lower[i]}" for i in range(ROWS)]
    _write_text(run / "evaluation.json", json.dumps(numbers))
    _write_text(run / "per_datum.csv", "\n".join(("split,row,label,elbo,best_elbo,log_marginal_lower", *rows, "")))
    curve = [f"{e},{10 * e},{1.5 * e},{split},{level - 50 / e}" for e in (1, 2, 3) for split in ("train", "valid")]
    _write_text(run / "metrics.csv", "\n".join(("epoch,step,seconds,split,elbo", *curve, "")))


def _estimate(values: np.ndarray) -> dict[str, float]:
    return {"mean": float(values.mean()), "se": float(values.std(ddof=1) / ROWS**0.5), "mc_se": 0.01}


def _write_text(path: Path, text: str) -> None:
    path.write_text(text, encoding="utf-8", newline="")


if __name__ == "__main__":
    for name in sys.argv[1:] or CASES:
        accept(name)
