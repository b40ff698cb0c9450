"""Every command and every piece of code in README.md and docs/ runs as it stands there, from outside the package."""

from __future__ import annotations

import functools
import inspect
import os
import pkgutil
import re
import shlex
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path

import numpy as np
import pytest
from warm import Warm

from vem.storage import locks

Call = Callable[[list[str]], str]

ROOT = Path(__file__).resolve().parents[1]
PAGES = {path: path.read_text(encoding="utf-8") for path in [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]}

# Appended to a run's command so that a test takes seconds: what is tested is that it runs, not what it reaches.
SHORT = {
    "vem.run": ["training.epochs=2", "training.records=1", "evaluation.num_data=20", "training.valid_data=20"],
    "vem.evaluate": [
        "evaluation.num_data=8", "evaluation.best.draws=20", "evaluation.best.rounds=2",
        "evaluation.diagnostics.num_data=50",
    ],
}  # fmt: skip


FILE = r"# ([\w/]+\.(?:py|yaml))\n"  # the first line of a block that is a file
RUN_BY_TESTS = ("vem.load(", "vem.measure(", "vem.compare(")  # blocks without a file's name: a test for each below

# Needed by what is a word of its own on a command line.
EXTRAS = {
    "launcher=joblib": "hydra_plugins.hydra_joblib_launcher",
    "launcher=slurm": "submitit",
    "launcher=ray": "hydra_plugins.hydra_ray_launcher",
    "sweeper=optuna": "hydra_plugins.hydra_optuna_sweeper",
}


def blocks(language: str) -> list[str]:
    """The fenced blocks of a language on all pages, in order, each once."""
    pattern = re.compile(rf"^```{language}\n(.*?)^```", flags=re.M | re.S)
    return list(dict.fromkeys(block for text in PAGES.values() for block in pattern.findall(text)))


COMMANDS = list(dict.fromkeys(line for block in blocks("bash") for line in block.splitlines()))
SETUP = [line for line in COMMANDS if line.startswith("python3 -m venv")]
RUNS = [line for line in COMMANDS if line not in SETUP]


@pytest.fixture(scope="session")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A working directory outside the package, with the files that the README asks for.

    One for all processes of the tests: what a command of the page makes, others read.
    """
    base = tmp_path_factory.getbasetemp()
    base = base.parent if os.environ.get("PYTEST_XDIST_WORKER") else base
    folder = base / "readme"
    with locks.held(base / "readme.lock"):
        if not folder.exists():
            _write_files(folder)
    return folder


def _write_files(folder: Path) -> None:
    folder.mkdir()
    for block in blocks("python") + blocks("yaml"):
        named = re.match(FILE, block)
        if named:
            path = folder / named.group(1)
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(block, encoding="utf-8")
    np.save(folder / "my.npy", np.random.default_rng(0).normal(size=(120, 5)))


@pytest.fixture
def call(folder: Path, warm: Warm) -> Call:
    """Run with this checkout's package and return what it printed; fails on a non-zero exit code."""

    def call(command: list[str]) -> str:
        assert command[0] == "python"
        done = warm.run(*command[1:], cwd=folder)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    return call


def cold(command: list[str], folder: Path) -> str:
    """The same in a process from scratch."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [sys.executable, *command[1:]], cwd=folder, env=environment, capture_output=True, text=True, timeout=600
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.mark.slow
@pytest.mark.parametrize("command", RUNS, ids=lambda c: c[10:70])
def test_command_of_the_readme(command: str, folder: Path, call: Call, request: pytest.FixtureRequest) -> None:
    words = shlex.split(command)
    if "data=mnist" in words:
        words.append(f"data.root={request.getfixturevalue('data_root')}")
    _skip_what_is_not_here(words)
    for word in words[3:]:
        if (
            word.startswith("runs/")
            and words[2] in ("vem.evaluate", "vem.report")
            and words[words.index(word) - 1] != "--out"
        ):
            _made(word, folder, call)
    words += SHORT.get(words[2], [])
    if "sweeper=optuna" in words:
        words.append("hydra.sweeper.n_trials=3")
    # joblib's workers do not start from a process that was itself forked.
    run = functools.partial(cold, folder=folder) if any(word.startswith("launcher=") for word in words) else call
    with _alone(words, folder):
        out = run(words)
    assert "ELBO" in out
    if "-m" in words[3:]:
        assert "Figures:" in out or "figures" in out


def _skip_what_is_not_here(words: list[str]) -> None:
    """A command that needs an extra runs where that is installed; on a cluster, ``tests/cluster`` runs such ones."""
    for word, module in EXTRAS.items():
        if word in words:
            pytest.importorskip(module, reason=f"the extra of {word} is not installed")
    if "launcher=slurm" in words and shutil.which("sbatch") is None:
        pytest.skip("no Slurm here: tests/cluster/slurm.sh makes one")
    if "launcher=slurm" in words and subprocess.run(["sinfo"], capture_output=True).returncode:
        pytest.skip("Slurm does not answer here: tests/cluster/slurm.sh makes one that does")
    address = "hydra.launcher.ray.init.address=auto"
    if address in words and subprocess.run(["ray", "status"], capture_output=True).returncode:
        pytest.skip("no Ray cluster here: tests/cluster/ray.sh makes one")


def _made(runs: str, folder: Path, call: Call) -> None:
    """What an earlier command of the page makes, if it has not been run yet."""
    line = next(line for line in RUNS if _place(line.split()) == runs)
    words = [*shlex.split(line), *SHORT["vem.run"]]
    with _alone(words, folder):
        if not list((folder / runs).rglob("evaluation.json")):
            call(words)


def _place(words: list[str]) -> str | None:
    """The folder of the runs that a command makes or measures."""
    if words[2] == "vem.evaluate":
        return next((word for word in words if word.startswith("runs/")), None)
    named = (word.partition("=") for word in words)
    return next((value for key, _, value in named if key in ("hydra.run.dir", "hydra.sweep.dir")), None)


def _alone(words: list[str], folder: Path) -> AbstractContextManager[object]:
    """One command at a time works in a folder of runs."""
    place = _place(words)
    return nullcontext() if place is None else locks.held(folder / f"{Path(place).name}.lock")


@pytest.mark.slow
def test_loading_a_run_in_python(folder: Path, call: Call) -> None:
    """After the commands above: ``runs/plane`` is there."""
    (code,) = [block for block in blocks("python") if "vem.load" in block]
    _made("runs/plane", folder, call)
    out = call(["python", "-c", code + "\nassert z.shape == (16, 2) and x.shape == (16, 8, 8)"])
    assert re.search(r"-\d+\.\d+", out)  # the mean ELBO, in nats


@pytest.mark.slow
def test_measuring_ones_own_model(call: Call) -> None:
    """As it stands there, but for the number of steps; its numbers are those of 3,000."""
    (code,) = [block for block in blocks("python") if "vem.measure" in block]
    out = call(["python", "-c", code.replace("range(3000)", "range(300)")])
    for name in ("ELBO L[q]", "approximation gap", "amortization gap", "checks passed"):
        assert name in out
    assert len([line for line in code.splitlines() if line.strip()]) <= 25
    assert "runs/mine" in call(["python", "-m", "vem.report", "runs/mine"])


def test_comparing_in_python(call: Call) -> None:
    """As it stands there, but for the folder: that of a sweep without training it."""
    (code,) = [block for block in blocks("python") if "vem.compare" in block]
    out = call(["python", "-c", code.replace("runs/launched", str(ROOT / "tests/golden/reports/paired"))])
    assert "local ahead amortized 0.3" in out


@pytest.mark.slow
def test_hard_em_loses_nats_against_exact_em(folder: Path, call: Call) -> None:
    """The point of the page on strategies: hard EM's bound is below exact EM's, by as much as it says."""
    import pandas as pd

    command = next(line for line in RUNS if "hard_em" in line)
    call([*shlex.split(command), "hydra.sweep.dir=runs/hard"])
    table = pd.read_csv(folder / "runs/hard/summary.csv").set_index("strategy")
    column = next(c for c in table.columns if c.startswith("train") and "elbo" in c.lower() and "se" not in c.lower())
    loss = table.loc["gmm", column] - table.loc["hard_em", column]
    assert 0 < loss < 2


def test_the_main_job_is_a_sweep_over_the_three_strategies() -> None:
    """The first set-up command runs what the tests above run in small."""
    main, tests = SETUP
    assert main.endswith("vem.run -m strategy=local,amortized,gmm seed=0,1,2 evaluation=brief launcher=joblib")
    assert tests.endswith(".venv/bin/python -m pytest -q -n auto --dist worksteal")
    assert all("-c constraints.txt" in line for line in SETUP)


def test_the_plan_is_the_one_that_import_linter_holds() -> None:
    layers = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]["contracts"][0]["layers"]
    plan = PAGES[ROOT / "docs/architecture.md"].partition("```text\nvem/\n")[2].partition("\nconf/")[0]
    rooms = [line.strip().partition("   ")[0].split() for line in plan.splitlines()]
    assert rooms == [re.split(r" [|:] ", layer) for layer in layers]


def test_the_readme_is_short_and_names_every_page() -> None:
    text = PAGES[ROOT / "README.md"]
    assert len(text.splitlines()) <= 200
    assert all(f"(docs/{path.name})" in text for path in PAGES if path.parent != ROOT)


@pytest.mark.parametrize("page", PAGES, ids=lambda path: path.name)
def test_links_lead_somewhere(page: Path) -> None:
    for target, anchor in re.findall(r"\]\((?!https?:)([^)#\s]*)#?([^)\s]*)\)", PAGES[page]):
        path = (page.parent / target).resolve() if target else page
        assert path.exists(), f"{page.name} links to {target}"
        if anchor:
            titles = re.findall(r"^#+ (.*)$", path.read_text(encoding="utf-8"), flags=re.M)
            anchors = [re.sub(r"[^\w\- ]", "", title).strip().lower().replace(" ", "-") for title in titles]
            assert anchor in anchors, f"{page.name} links to {target}#{anchor}"


@pytest.mark.parametrize("page", PAGES, ids=lambda path: path.name)
def test_names_of_the_code_exist(page: Path) -> None:
    """Every `vem.….name` of a page, and every path of a file of the repository."""
    prose = re.sub(r"^```.*?^```", "", PAGES[page], flags=re.M | re.S)
    for name in re.findall(r"`(vem\.[\w.]+)", prose):
        assert _exists(name), f"{page.name} speaks of {name}"
    for path in re.findall(r"`((?:vem|conf|tests|experiments)/[\w/.]+)`", prose):
        assert (ROOT / path).exists(), f"{page.name} speaks of {path}"


def _exists(name: str) -> bool:
    """A module, a name in one, or a member or an annotated field of a class."""
    owner, _, member = name.rpartition(".")
    try:
        kinds = getattr(pkgutil.resolve_name(owner), "__mro__", ())
        if not any(member in inspect.get_annotations(kind) for kind in kinds):
            pkgutil.resolve_name(name)
    except (ImportError, AttributeError):
        return False
    return True


def test_every_block_of_code_is_a_file_or_is_run() -> None:
    """A new block with neither a file's name on its first line nor a test below would rot."""
    loose = [block for block in blocks("python") + blocks("yaml") if not re.match(FILE, block)]
    assert [block for block in loose if not any(word in block for word in RUN_BY_TESTS)] == []
