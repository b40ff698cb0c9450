"""The same command works from the checkout, an editable install and a wheel, from any working directory."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
from cli_support import CHECKOUT, TINY, TINY_GMM, Ended

pytestmark = pytest.mark.slow

# As `python -m vem.run` with the folder among the site packages, where an editable install's .pth counts.
FROM_SITE = """
import runpy, site, sys
site.addsitedir(sys.argv.pop(1))
runpy.run_module("vem.run", run_name="__main__", alter_sys=True)
"""
# Several commands in one process: each is MODULE:ARGUMENT:…
SEVERAL = """
import runpy, sys
import vem.cli.messages
print(vem.cli.messages.config_directory())
for command in sys.argv[1:]:
    module, *sys.argv[1:] = command.split(":")
    try:
        runpy.run_module(module, run_name="__main__", alter_sys=True)
    except SystemExit as ended:
        assert not ended.code, command
"""


def cold(*command: str, path: Path, cwd: Path) -> Ended:
    """``python COMMAND``, with nothing but ``path`` on its own path."""
    environment = {**os.environ, "PYTHONPATH": str(path), "OMP_NUM_THREADS": "1"}
    environment.pop("PYTHONWARNINGS", None)
    done = subprocess.run([sys.executable, *command], cwd=cwd, env=environment, capture_output=True, text=True)
    return Ended(done.returncode, done.stdout, done.stderr)


def pip(*arguments: str) -> None:
    quiet = ("--disable-pip-version-check", "--quiet", "--no-index", "--no-deps", "--no-build-isolation")
    done = subprocess.run(
        [sys.executable, "-m", "pip", *arguments, *quiet], capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    pip("wheel", str(CHECKOUT), "--wheel-dir", str(folder))
    (found,) = folder.glob("vem-*.whl")
    return found


@pytest.fixture(scope="module")
def places(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """What stands on the path in each way of having vem."""
    installed, editable = (tmp_path_factory.mktemp(name) for name in ("installed", "editable"))
    pip("install", str(wheel), "--target", str(installed))
    pip("install", "--editable", str(CHECKOUT), "--target", str(editable))
    return {"checkout": CHECKOUT, "wheel": installed, "editable": editable}


def test_the_wheel_holds_every_config_and_module(wheel):
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
    for folder in ("conf", "vem"):
        for path in (CHECKOUT / folder).rglob("*"):
            if path.suffix in (".yaml", ".py"):
                name = path.relative_to(CHECKOUT).as_posix()
                assert (f"vem/{name}" if folder == "conf" else name) in names
    assert not [name for name in names if name.split("/")[0] in ("conf", "tests", "experiments")]


@pytest.fixture
def own(here: Path) -> Path:
    """A user's working directory: a module, and a folder of configs with an option and an experiment."""
    (here / "mymodule.py").write_text(
        "from vem.strategies.exact_em import ExactEM\n\n\nclass Mine(ExactEM):\n"
        '    """A strategy of the user\'s own."""\n'
    )
    configs = here / "configs"
    (configs / "strategy").mkdir(parents=True)
    (configs / "experiment").mkdir()
    (configs / "strategy" / "mine.yaml").write_text(
        "defaults:\n  - exact_em\n  - override /model@_global_.model: mixture\n  - _self_\n_target_: mymodule.Mine\n"
    )
    (configs / "experiment" / "mine.yaml").write_text(
        "# @package _global_\ndefaults:\n  - override /strategy: mine\n"
        "allow_targets: [mymodule]\nmodel:\n  components: 3\n"
    )
    return here


@pytest.mark.parametrize("place", ["checkout", "wheel", "editable"])
def test_a_run_with_a_users_own_config_and_module(place, places, own):
    """``python -m vem.run`` elsewhere than in the checkout, with ``--config-dir`` and a ``_target_`` of one's own."""
    command = ["--config-dir", "configs", *TINY_GMM[:-2], "experiment=mine", "evaluation.draws=2", "hydra.run.dir=r"]
    if place == "editable":
        cold("-c", FROM_SITE, str(places[place]), *command, path=own, cwd=own).good()
    else:
        cold("-m", "vem.run", *command, path=places[place], cwd=own).good()
    run = json.loads((own / "r" / "run.json").read_text())
    assert run["status"] == "done" and run["strategy"] == "mine" and run["components"] == 3
    assert (run["commit"] is None) == (place == "wheel" or not (CHECKOUT / ".git").exists())


def test_the_installed_package_is_the_one_that_runs(places, here):
    """Its configs lie within it, and a run of its own default groups comes to its end and into a report."""
    run = ":".join(("vem.run", *TINY, "hydra.run.dir=r"))
    commands = ("vem.run:--cfg:job", run, "vem.report:r")
    said = cold("-c", SEVERAL, *commands, path=places["wheel"], cwd=here).good().out
    where, _, said = said.partition("\n")
    assert Path(where) == (places["wheel"] / "vem" / "conf").resolve()
    assert "_target_: vem.strategies.amortized.Amortized" in said and "amortized" in said.rpartition("Data: ")[2]


def test_without_its_prefix_a_module_of_ones_own_is_refused(own, vem_process):
    ended = vem_process("--config-dir", "configs", *TINY_GMM[:-2], "strategy=mine").bad()
    assert "strategy._target_=mymodule.Mine" in ended.err and "allow_targets=[mymodule]" in ended.err
