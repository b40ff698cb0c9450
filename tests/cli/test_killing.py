"""A sweep of nine, killed and damaged: a part of what ``killing.py`` and ``mutations.py`` do at length."""

from __future__ import annotations

from pathlib import Path

import pytest
from killing import Moment, chain, differences, left_over, results
from mutations import SWEEP, Truth, faults_of, sweep_of_nine

from vem.storage import locks

pytestmark = pytest.mark.skipif(not Path("/proc/self/environ").exists(), reason="looks for processes in /proc")

SEEDS = range(40)
WITH_COMMAND = (3, 17, 31)


@pytest.fixture(scope="session")
def nine(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An undisturbed sweep of nine, made by the first worker that needs it."""
    base = tmp_path_factory.getbasetemp()
    folder = (base.parent if base.name.startswith("popen") else base) / "nine"  # what the workers of xdist share
    folder.mkdir(exist_ok=True)
    with locks.held(folder):
        return sweep_of_nine(folder)


@pytest.fixture(scope="session")
def truth(nine: Path) -> Truth:
    return Truth(nine)


@pytest.mark.slow
def test_killed_while_a_result_and_a_report_are_renamed(nine: Path, truth: Truth, tmp_path: Path) -> None:
    ended, last = chain(tmp_path, SWEEP, [Moment("after", 41), Moment("report", 5)], tmp_path / "hooks")
    assert [one.by_the_kill for one in ended] == [True, True]
    assert last.code == 0, last.text
    assert differences(truth.results, results(tmp_path / "sweep")) == []
    assert left_over(tmp_path / "sweep") == []


@pytest.mark.slow
def test_a_damaged_sweep_ends_in_the_right_answer_or_in_a_message_that_names_the_file(
    nine: Path, truth: Truth, tmp_path: Path
) -> None:
    found = {
        seed: faults_of(seed, nine, truth, tmp_path, seed in WITH_COMMAND, figures=seed in WITH_COMMAND)
        for seed in SEEDS
    }
    assert {seed: told for seed, told in found.items() if told[1]} == {}
