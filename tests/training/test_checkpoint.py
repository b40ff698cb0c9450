"""Checkpoints: atomic, safe to read, one clear message when the disk is full."""

from __future__ import annotations

import errno
import os
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from warm import Warm

from vem.errors import VemError
from vem.training import checkpoint

STATE = {"model": {"w": torch.arange(3.0)}, "progress": {"epoch": 3, "best": None, "records": [{"elbo": -1.5}]}}


def test_saved_and_loaded(tmp_path: Path) -> None:
    checkpoint.save(tmp_path / "c.pt", STATE)
    state = checkpoint.load(tmp_path / "c.pt", "cpu")
    assert torch.equal(state["model"]["w"], STATE["model"]["w"]) and state["progress"] == STATE["progress"]
    assert [p.name for p in tmp_path.iterdir()] == ["c.pt"]


@pytest.mark.parametrize("where", ["torch.save", "os.fsync", "os.replace"])
def test_a_full_disk_leaves_the_last_good_one(where: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "c.pt"
    checkpoint.save(path, STATE)

    def full(*arguments: Any, **names: Any) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr({"torch": torch, "os": os}[where.split(".")[0]], where.split(".")[1], full)
    with pytest.raises(VemError, match=r"the disk is full: .*c\.pt was not written \(the earlier version is kept\)"):
        checkpoint.save(path, {**STATE, "model": {"w": torch.zeros(9)}})
    monkeypatch.undo()
    assert torch.equal(checkpoint.load(path, "cpu")["model"]["w"], torch.arange(3.0))
    assert [p.name for p in tmp_path.iterdir()] == ["c.pt"]


LIMITED = """
import pathlib, resource, signal, sys, torch
from vem.errors import VemError
from vem.training import checkpoint
path = pathlib.Path(sys.argv[1])
checkpoint.save(path, {"a": torch.zeros(10)})
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, 50_000))
try:
    checkpoint.save(path, {"a": torch.zeros(100_000)})
except VemError as error:
    print("refused:", error)
print(len(checkpoint.load(path, "cpu")["a"]), [p.name for p in path.parent.iterdir()])
"""


@pytest.mark.skipif(sys.platform == "win32", reason="file size limits are a POSIX matter")
def test_a_write_that_the_system_cuts_short_leaves_the_last_good_one(tmp_path: Path, warm: Warm) -> None:
    """The real thing: torch's zip writer runs into the limit half way and hides the cause."""
    done = warm.run("-c", LIMITED, str(tmp_path / "c.pt"))
    assert done.returncode == 0, done.stderr
    first, second = done.stdout.splitlines()
    assert first.startswith("refused:") and "c.pt cannot be written: File too large" in first
    assert second == "10 ['c.pt']"


class Evil:
    def __reduce__(self) -> Any:
        return os.system, ("true",)


def test_nothing_in_a_checkpoint_is_run(tmp_path: Path) -> None:
    torch.save({"version": checkpoint.VERSION, "a": Evil()}, tmp_path / "c.pt")
    with pytest.raises(VemError, match=r"c\.pt is damaged"):
        checkpoint.load(tmp_path / "c.pt", "cpu")


def test_damaged_and_missing_checkpoints_are_one_message(tmp_path: Path) -> None:
    path = tmp_path / "c.pt"
    with pytest.raises(VemError, match="is missing"):
        checkpoint.load(path, "cpu")
    checkpoint.save(path, STATE)
    whole = path.read_bytes()
    for damaged in (b"", b"hello", whole[: len(whole) // 2]):
        path.write_bytes(damaged)
        with pytest.raises(VemError, match=r"is damaged.*delete") as caught:
            checkpoint.load(path, "cpu")
        assert "\n" not in str(caught.value)
    torch.save({"version": 0}, path)
    with pytest.raises(VemError, match="not written by this version"):
        checkpoint.load(path, "cpu")
