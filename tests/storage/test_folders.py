"""Runs behind symbolic links are found: each real folder once, nothing below a run, nothing that was put aside."""

from __future__ import annotations

from pathlib import Path

import pytest
from run_folders import run_directories

from vem.storage import folders


@pytest.fixture
def tree(tmp_path):
    """Where people look, and a scratch disk beside it."""
    for name in ("home/a", "scratch/b", "scratch/more/c", "scratch/b/earlier/001"):
        make(tmp_path / name)
    return tmp_path


def make(run: Path) -> Path:
    run.mkdir(parents=True, exist_ok=True)
    (run / "run.json").write_text("{}")
    return run


def found(tree, *roots):
    return [str(path.relative_to(tree)) for path in run_directories([tree / r for r in roots or ("home",)])]


def test_a_run_behind_a_link(tree):
    (tree / "home/b").symlink_to(tree / "scratch/b")
    assert found(tree) == ["home/a", "home/b"]


def test_a_folder_of_runs_behind_a_link_and_a_link_behind_that(tree):
    (tree / "home/disk").symlink_to(tree / "scratch/more")
    (tree / "scratch/more/on").symlink_to("../b")
    assert found(tree) == ["home/a", "home/disk/c", "home/disk/on"]


def test_a_root_that_is_a_link(tree):
    (tree / "disk").symlink_to(tree / "scratch")
    assert found(tree, "disk") == ["scratch/b", "scratch/more/c"]


def test_a_run_under_two_names_is_one_and_has_the_name_that_is_no_link(tree):
    for name in ("0first", "z"):
        (tree / "home" / name).symlink_to(tree / "home/a")
    for name in ("one", "two"):
        (tree / "home" / name).symlink_to(tree / "scratch/b")
    assert found(tree) == found(tree, "home", "home/a", "home") == ["home/a", "home/one"]


def test_cycles_end_and_a_link_to_a_parent_adds_what_is_there(tree):
    (tree / "home/self").symlink_to(tree / "home")
    (tree / "home/round").symlink_to(tree / "home/round")
    (tree / "home/x").mkdir()
    (tree / "home/x/up").symlink_to("..")
    (tree / "home/gone").symlink_to(tree / "nowhere")
    assert found(tree) == ["home/a"]
    (tree / "home/all").symlink_to(tree)
    assert found(tree) == ["home/a", "home/all/scratch/b", "home/all/scratch/more/c"]


@pytest.mark.parametrize("target", ["scratch/b/earlier", "scratch/b/earlier/001"])
def test_what_was_put_aside_stays_aside(tree, target):
    (tree / "home/again").symlink_to(tree / target)
    (tree / "home/earlier").symlink_to(tree / "scratch/more")
    assert found(tree) == ["home/a"]
    assert found(tree, "scratch/b/earlier") == ["scratch/b/earlier/001"]  # asked for by name


def test_nothing_below_a_run_but_in_the_folder_of_a_sweep(tree):
    make(tree / "home/a/inner")
    (tree / "home/a/link").symlink_to(tree / "scratch/b")
    assert found(tree) == ["home/a"]
    (tree / "home/a/.sweep").mkdir()
    assert found(tree) == ["home/a", "home/a/inner", "home/a/link"]


def test_what_cannot_be_read_is_left_out(tree, monkeypatch):
    (tree / "home/closed").mkdir()
    scandir = folders.os.scandir

    def refusing(path):
        if Path(path).name == "closed":
            raise PermissionError
        return scandir(path)

    monkeypatch.setattr(folders.os, "scandir", refusing)
    assert found(tree) == ["home/a"]
