"""Faults from outside a run: a disk that fills, a quota, a folder that is taken away. One message, nothing lost."""

from __future__ import annotations

import contextlib
import errno
import logging
import os
import shutil
import subprocess

import pytest

from vem.cli import messages, train
from vem.errors import VemError
from vem.storage import records
from vem.storage import tensors as saving
from vem.storage.streams import RunLog

SMALL = [
    "data=blobs", "data.num=40", "data.num_valid=10", "data.num_test=10", "data.dims=3", "latent_dim=2", "device=cpu",
    "training.epochs=3", "training.batch_size=20", "training.checkpoint_seconds=0", "model.decoder.widths=[4]",
    "progress=false", "threads=1",
]  # fmt: skip


@pytest.fixture
def small_disk(tmp_path):
    """A file system of its own, of 1 MB."""
    place = tmp_path / "disk"
    place.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(place)], capture_output=True).returncode:
        pytest.skip("a tmpfs cannot be mounted here")
    yield place
    subprocess.run(["umount", "-l", str(place)], check=True)


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    place = tmp_path_factory.mktemp("whole")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(train, "draw_run", lambda directory: [])
        train.execute(messages.composed(SMALL), SMALL, place)
    return records.read_json(place / records.EVALUATION)


@pytest.fixture
def start(monkeypatch, capsys):
    """Start the run; at the n-th file that it writes something happens. Gives the message, and what is said beside."""
    monkeypatch.setattr(train, "draw_run", lambda directory: [])
    real, log = records.replacing, logging.getLogger("vem")

    def call(directory, at=0, happens=None):
        written = []

        @contextlib.contextmanager
        def counted(path):
            written.append(path)
            if len(written) == at:
                happens()
            with real(path) as temporary:
                yield temporary

        handlers = [RunLog(directory / "run.log", delay=True), logging.StreamHandler()]
        handlers[1].setLevel(logging.WARNING)
        with monkeypatch.context() as patch:
            for module in (records, saving):
                patch.setattr(module, "replacing", counted)
            patch.setattr(log, "handlers", handlers)
            patch.setattr(log, "level", logging.DEBUG)
            try:
                train.execute(messages.composed(SMALL), SMALL, directory)
                said = None
            except VemError as error:
                said = str(error)
            finally:
                for handler in handlers:
                    handler.close()
        return said, capsys.readouterr().err

    return call


@pytest.mark.parametrize("at", [3, 8, 15])
def test_a_disk_that_fills(small_disk, start, undisturbed, at):
    """While run.json, metrics.csv, checkpoint.pt and the result are written: what stands is kept, and gone on with."""
    run, filler = small_disk / "run", small_disk / "filler"
    run.mkdir()

    def fill():
        with filler.open("wb", buffering=0) as file, contextlib.suppress(OSError):
            while True:
                file.write(b"x" * 512)

    said, beside = start(run, at, fill)
    assert said is not None and said.startswith(f"the disk is full: {run}/") and beside == ""
    assert [path.name for path in run.glob(".*")] == []
    filler.unlink()
    said, beside = start(run)
    assert said is None and records.read_json(run / records.EVALUATION) == undisturbed


@pytest.mark.parametrize(("at", "kept"), [(8, True), (14, False)])
def test_a_folder_that_is_removed_or_renamed(tmp_path, start, undisturbed, at, kept):
    run, aside = tmp_path / "run", tmp_path / "aside"
    run.mkdir()
    said, beside = start(run, at, lambda: run.rename(aside))
    assert said is not None and "its folder is gone" in said and str(run) in said and beside == ""
    assert not run.exists()  # no half of a run is left under the name
    if kept:
        aside.rename(run)
    else:
        shutil.rmtree(aside)
    assert start(run)[0] is None and records.read_json(run / records.EVALUATION) == undisturbed


@pytest.mark.parametrize(
    ("number", "words"),
    [
        (errno.EDQUOT, "your quota on this disk is used up"),
        (errno.ENOSPC, "the disk is full"),
        (errno.EROFS, "Make its folder writable"),
        (errno.ESTALE, "Make its folder writable"),  # of a folder that is there
    ],
)
def test_each_fault_has_its_words(tmp_path, number, words):
    def write():
        with records.replacing(tmp_path / "run.json") as temporary:
            temporary.write_text("half")
            raise OSError(number, os.strerror(number))

    with pytest.raises(records.Unwritable, match=words):
        write()
    assert list(tmp_path.iterdir()) == []


def test_seconds_do_not_go_back_with_the_clock(tmp_path, start, monkeypatch):
    import time

    (tmp_path / "run").mkdir()
    now = iter(range(10**9, 0, -3600))
    monkeypatch.setattr(time, "time", lambda: float(next(now)))
    assert start(tmp_path / "run")[0] is None
    found = records.read_json(tmp_path / "run" / records.RUN)
    assert 0 <= found["training_seconds"] <= found["seconds"] < 600
