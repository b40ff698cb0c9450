"""A report replaces the one before as a whole, or leaves it as it was."""

from __future__ import annotations

import errno
import os
import socket
import threading
from pathlib import Path

import pytest
from figures_drawn import unpainted
from synthetic_runs import image_pictures, write_run

from vem.errors import VemError
from vem.report import write_report
from vem.report.read import findings
from vem.report.summary import write, write_tables
from vem.report.writing import FILES, STAGING, staged
from vem.storage.records import write_text


def contents(folder: Path) -> dict[str, bytes]:
    return {p.relative_to(folder).as_posix(): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


def refuse(patch: pytest.MonkeyPatch, name: str, at: int, number: int = errno.ENOSPC) -> list[int]:
    """Let call ``at`` of os.NAME fail; returns the count of calls."""
    calls, real = [0], getattr(os, name)

    def call(*arguments, **keywords):
        calls[0] += 1
        if calls[0] == at + 1:
            raise OSError(number, os.strerror(number))
        return real(*arguments, **keywords)

    patch.setattr(os, name, call)
    return calls


def write_some(out: Path, *names: str) -> None:
    with staged(out) as folder:
        for name in names:
            (folder / name).parent.mkdir(exist_ok=True)
            write_text(folder / name, f"{name} of {len(names)} files")


@pytest.mark.parametrize("name", ["fsync", "replace", "unlink"])
def test_whichever_write_fails_the_files_before_are_whole(tmp_path, monkeypatch, name):
    """Every file is synced and renamed in the staging folder, then renamed to its place; what is old is unlinked."""
    write_some(tmp_path, "report.html", "figures/a.png", "figures/old.png")
    (tmp_path / "figures" / "of_a_run.png").write_text("not the report's")
    before = contents(tmp_path)
    at = 0
    while True:
        with monkeypatch.context() as patch:
            calls = refuse(patch, name, at)
            message = None
            try:
                write_some(tmp_path, "report.html", "figures/a.png", "runs.csv", "figures/new.png")
            except VemError as error:
                message = str(error)
        if message is not None:
            assert "disk is full" in message and STAGING not in message.replace(FILES, "")
            assert contents(tmp_path) == before, at
        elif calls[0] <= at:
            break
        else:
            assert name == "unlink"  # of a temporary file that is gone already
        at += 1
    assert at >= {"fsync": 5, "replace": 10, "unlink": 1}[name]
    assert set(contents(tmp_path)) == {"report.html", "figures/a.png", "runs.csv", "figures/new.png",
                                       "figures/of_a_run.png", FILES}  # fmt: skip


def test_a_full_disk_leaves_the_report_before(tmp_path, monkeypatch):
    write_run(tmp_path / "runs" / "0", pictures=image_pictures())
    out = tmp_path / "out"
    with unpainted():
        write_report([tmp_path / "runs"], out)
        before = contents(out)
        assert {"report.html", "report.md", "summary.csv", "runs.csv", "figures/side_by_side.png"} <= set(before)
        write_run(tmp_path / "runs" / "1", "amortized", elbo=-90.0, pictures=image_pictures())
        found = findings([tmp_path / "runs"])
        for at in (0, 1, 3, 6):
            with monkeypatch.context() as patch:
                refuse(patch, "fsync", at)
                with pytest.raises(VemError, match=r"disk is full: .* was not written \(the earlier report is kept\)"):
                    write(found, out)
            assert contents(out) == before


def test_ctrl_c_between_two_renames_puts_the_files_back(tmp_path, monkeypatch):
    write_some(tmp_path, "report.html", "runs.csv")
    before, real = contents(tmp_path), os.replace

    def replace(source, target):
        if Path(target) == tmp_path / "runs.csv" and STAGING in str(source) and "before" not in str(source):
            raise KeyboardInterrupt
        real(source, target)

    monkeypatch.setattr(os, "replace", replace)
    with pytest.raises(KeyboardInterrupt):
        write_some(tmp_path, "report.html", "runs.csv", "report.md")
    assert contents(tmp_path) == before


def test_without_hard_links_it_copies(tmp_path, monkeypatch):
    write_some(tmp_path, "report.html", "runs.csv")
    before = contents(tmp_path)
    with monkeypatch.context() as patch:
        refuse(patch, "link", 0, errno.EPERM)
        refuse(patch, "replace", 4)
        with pytest.raises(VemError):
            write_some(tmp_path, "report.html", "runs.csv", "report.md")
    assert contents(tmp_path) == before


def test_nothing_is_left_of_a_report_that_was_killed(tmp_path):
    host = socket.gethostname()
    dead = tmp_path / f"{STAGING}{host}.4194304999"
    at_work = tmp_path / f"{STAGING}{host}.{os.getppid()}"
    elsewhere = tmp_path / f"{STAGING}other.machine.4194304999"  # which of its processes are there is not known here
    for folder in (dead, at_work, elsewhere):
        folder.mkdir()
    write_some(tmp_path, "report.html")
    assert not dead.exists() and at_work.exists() and elsewhere.exists()


def test_two_that_publish_at_once_do_it_one_after_the_other(tmp_path):
    """While another process has the folder, nothing of it is replaced; when that one ends, everything is."""
    fcntl = pytest.importorskip("fcntl", reason="no file locks on this system")
    write_some(tmp_path, "report.html")
    before = contents(tmp_path)
    other = os.open(tmp_path, os.O_RDONLY)
    fcntl.flock(other, fcntl.LOCK_EX)
    thread = threading.Thread(target=write_some, args=(tmp_path, "report.html", "runs.csv"))
    thread.start()
    thread.join(0.5)
    staging = f"{STAGING}{socket.gethostname()}.{os.getpid()}"
    assert thread.is_alive() and (tmp_path / staging / FILES).exists()
    assert {name: data for name, data in contents(tmp_path).items() if not name.startswith(staging)} == before
    os.close(other)
    thread.join(10)
    assert not thread.is_alive() and set(contents(tmp_path)) == {"report.html", "runs.csv", FILES}


@pytest.mark.parametrize("damage", ["{", "[]", '{"files": 3}', '{"files": ["../outside", "/etc/hosts", 7]}'])
def test_a_damaged_list_of_files_removes_nothing(tmp_path, damage):
    (tmp_path / "outside").write_text("x")
    out = tmp_path / "out"
    write_some(out, "report.html")
    (out / FILES).write_text(damage)
    write_some(out, "report.html", "runs.csv")
    assert (tmp_path / "outside").exists() and (out / "runs.csv").exists()


def test_tables_of_a_report_without_groups_do_not_stay(tmp_path):
    run = write_run(tmp_path / "runs" / "0")
    out = tmp_path / "out"
    with staged(out) as folder:
        write_tables(findings([tmp_path / "runs"]), folder)
    assert (out / "summary.csv").exists()
    (run / "run.json").write_text("{")
    with staged(out) as folder:
        write_tables(findings([tmp_path / "runs"]), folder)
    assert not (out / "summary.csv").exists() and (out / "runs.csv").exists()
