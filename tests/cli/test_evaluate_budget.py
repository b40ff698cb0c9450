"""What ``python -m vem.evaluate`` takes from the run's own command."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from vem.cli.evaluate import _of_the_run
from vem.storage.records import OVERRIDES

TYPED = ["strategy=local", "evaluation=gaps", "evaluation.num_data=20", "evaluation/best=thorough", "seed=1"]


@pytest.mark.parametrize(
    ("said", "kept"),
    [
        ([], TYPED[1:4]),
        (["evaluation.num_data=5"], ["evaluation=gaps", "evaluation/best=thorough"]),
        (["evaluation/best=default"], ["evaluation=gaps", "evaluation.num_data=20"]),
        (["evaluation=full"], []),
    ],
)
def test_what_is_left_open_is_as_the_run_had_it(tmp_path: Path, said: list[str], kept: list[str]) -> None:
    (tmp_path / OVERRIDES).write_text(yaml.safe_dump(TYPED), encoding="utf-8")
    assert _of_the_run(tmp_path, said) == kept


def test_a_folder_without_its_command_leaves_nothing(tmp_path: Path) -> None:
    assert _of_the_run(tmp_path, []) == []
