"""A sweep of four, killed and damaged: a part of what ``killing.py`` and ``mutations.py`` do at length."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from cli_support import Ended
from killing import MEASURED, NINE, Moment, differences, left_over, results, start
from mutations import Truth, faults_of, finished
from warm import Warm

from vem.storage import locks

pytestmark = pytest.mark.skipif(not Path("/proc/self/environ").exists(), reason="looks for processes in /proc")

FOUR = ("strategy=local,gmm", "seed=0,1", *NINE[2:], *MEASURED)
SEEDS = range(40)
WITH_COMMAND = (3, 17)  # and with figures
Command = Callable[[Path], Ended]


@pytest.fixture(scope="session")
def command(warm: Warm) -> Command:
    """Type the command of the sweep in a folder."""

    def call(folder: Path) -> Ended:
        done = warm.run("-m", "vem.run", "-m", *FOUR, "hydra.sweep.dir=sweep", cwd=folder)
        return Ended(done.returncode, done.stdout, done.stderr)

    return call


@pytest.fixture(scope="session")
def undisturbed(command: Command, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The sweep, made by the first worker that needs it."""
    base = tmp_path_factory.getbasetemp()
    folder = (base.parent if base.name.startswith("popen") else base) / "undisturbed"  # what the workers share
    folder.mkdir(exist_ok=True)
    with locks.held(folder):
        return finished(folder, command)


@pytest.mark.slow
def test_killed_while_a_result_and_a_report_are_renamed(
    undisturbed: Path, command: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("VEM_KILLING_UNPAINTED", "1")
    for when in (Moment("after", 25), Moment("report", 5)):
        assert start(tmp_path, FOUR, when, tmp_path / "hooks").by_the_kill
    command(tmp_path).good()
    assert differences(results(undisturbed), results(tmp_path / "sweep")) == []
    assert left_over(tmp_path / "sweep") == []


@pytest.mark.slow
def test_a_damaged_sweep_ends_in_the_right_answer_or_in_a_message_that_names_the_file(
    undisturbed: Path, command: Command, tmp_path: Path, drawn: None
) -> None:
    truth = Truth(undisturbed)
    found = {}
    for seed in SEEDS:
        again = command if seed in WITH_COMMAND else None
        found[seed] = faults_of(seed, undisturbed, truth, tmp_path, again, figures=again is not None)
    assert {seed: told for seed, told in found.items() if told[1]} == {}
