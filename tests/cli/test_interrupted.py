"""Single runs that meet another process, a signal outside training, a full disk or an older half-moved run."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from cli_support import TINY, TINY_GMM, contents

from vem.cli import resume, train
from vem.storage import locks, records, sealing
from vem.training.signals import AT_ONCE

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="locks and signals of POSIX")


def run_json(directory: Path) -> dict:
    return json.loads((directory / records.RUN).read_text())


def test_one_command_typed_twice_is_refused_while_the_first_is_at_work(here, vem_run, monkeypatch):
    """Here it is typed again while the first draws its figures; the refused one touches nothing."""
    seen = []

    def draws(directory):
        before = contents(directory)
        with pytest.raises(resume.AtWork) as refused:
            train.execute(yaml.safe_load((directory / records.CONFIG).read_text()), list(TINY_GMM), directory)
        seen.append(str(refused.value))
        assert contents(directory) == before

    monkeypatch.setattr(train, "draw_run", draws)
    vem_run(*TINY_GMM, "hydra.run.dir=r").good()
    (said,) = seen
    host = run_json(here / "r")["host"]
    assert f"process {os.getpid()} on {host}" in said and str(here / "r") in said and "hydra.run.dir" in said
    vem_run(*TINY_GMM, "hydra.run.dir=r").good()  # the lock has ended


def test_a_run_that_another_has_just_begun_is_refused_with_one_message(here, vem_run):
    (here / "r").mkdir()
    with locks.held(here / "r" / records.LOG):
        ended = vem_run(*TINY_GMM, "hydra.run.dir=r").bad()
    assert "another process is at work" in ended.err
    assert not contents(here / "r")


def test_a_job_of_a_sweep_leaves_a_single_run_alone_that_is_at_work_in_its_folder(here, vem_run):
    folder = here / "s" / "data=blobs,model.components=2,strategy=gmm,training.epochs=2"
    folder.mkdir(parents=True)
    with locks.held(folder / records.LOG):
        ended = vem_run("-m", *folder.name.split(","), "hydra.sweep.dir=s")
    assert ended.code == 1 and "is at work on this run" in ended.err and "Traceback" not in ended.text
    assert not contents(folder)


@pytest.mark.parametrize("part", ["build", "pictures", "draw_run"])
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_outside_training_is_one_message_and_the_run_goes_on(here, vem_run, monkeypatch, part, number):
    handler = signal.getsignal(signal.SIGTERM)

    def asks(*arguments):
        os.kill(os.getpid(), number)
        raise AssertionError("the signal was not met")

    with monkeypatch.context() as patch:
        patch.setattr(train, part, asks)
        ended = vem_run(*TINY_GMM, "hydra.run.dir=r").bad()
    assert AT_ONCE in ended.err and "KeyboardInterrupt" not in ended.text
    status = run_json(here / "r")
    assert (status["status"], status["error"]) == ("running", AT_ONCE)
    assert signal.getsignal(signal.SIGTERM) is handler
    vem_run(*TINY_GMM, "hydra.run.dir=r").good()
    assert run_json(here / "r")["status"] == "done"


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
def test_a_log_that_cannot_be_written_is_one_line(here, vem_run):
    (here / "r").mkdir()
    (here / "r" / records.LOG).symlink_to("/dev/full")
    ended = vem_run(*TINY_GMM, "hydra.run.dir=r")
    assert ended.code == 0 and "Traceback" not in ended.text and "Logging error" not in ended.text
    assert ended.err.count("run.log cannot be written (No space left on device)") == 1


@pytest.mark.parametrize("moved", [1, 3])
def test_a_kill_while_a_run_is_put_aside_loses_nothing(here, vem_run, monkeypatch, moved):
    """A kill after so many files: no finished run is told of whose files are gone, and the rest follows later."""
    vem_run(*TINY_GMM, "hydra.run.dir=r").good()
    made = run_json(here / "r") | {"commit": "0123456789ab"}
    sealing.write_run(here / "r", made)
    before = contents(here / "r")
    rename, count = Path.rename, 0

    def killed(self, target):
        nonlocal count
        count += 1
        if count > moved:
            raise KeyboardInterrupt
        return rename(self, target)

    with monkeypatch.context() as patch:
        patch.setattr(resume, "commit", lambda: "ba9876543210")
        patch.setattr(Path, "rename", killed)
        vem_run(*TINY_GMM, "hydra.run.dir=r", "rerun=stale").bad()
    assert not (here / "r" / records.RUN).exists()
    vem_run(*TINY_GMM, "hydra.run.dir=r").good()
    assert contents(here / "r" / records.ASIDE / "001") == before
    assert run_json(here / "r")["started"] >= made["started"] and run_json(here / "r")["commit"] != made["commit"]


@pytest.mark.parametrize("flag", ["-m", "--multirun"])
def test_a_flag_among_the_overrides_is_one_message(here, vem_run, flag):
    ended = vem_run("strategy=gmm", flag, "seed=0,1").bad()
    assert f"{flag} goes before the overrides" in ended.err and not list(here.iterdir())


# --- which code a run was made by


@pytest.fixture
def checkout(tmp_path):
    def git(*arguments):
        who = ("-c", "user.name=n", "-c", "user.email=e@e")
        subprocess.run(["git", "-C", str(tmp_path), *who, *arguments], check=True, capture_output=True)

    for name in ("vem/a.py", "conf/a.yaml", "README.md"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("one\n")
    git("init", "-q")
    git("add", ".")
    git("commit", "-q", "-m", "one")
    return tmp_path


def test_every_edit_of_the_code_is_another_version_and_no_edit_of_the_rest(checkout):
    clean = resume.commit_of(checkout)
    assert "+" not in clean and len(clean) == 12
    (checkout / "README.md").write_text("two\n")
    assert resume.commit_of(checkout) == clean
    found = [clean]
    for name, text in (("vem/a.py", "two\n"), ("vem/a.py", "three\n"), ("conf/a.yaml", "two\n"),
                       ("vem/new.py", "one\n"), ("vem/new.py", "two\n")):  # fmt: skip
        (checkout / name).write_text(text)
        found.append(resume.commit_of(checkout))
        assert found[-1] == resume.commit_of(checkout) and found[-1].startswith(f"{clean}+")
    assert len(set(found)) == len(found)
    (checkout / "vem/new.py").unlink()
    for name in ("vem/a.py", "conf/a.yaml"):
        (checkout / name).write_text("one\n")
    assert resume.commit_of(checkout) == clean


def test_git_is_asked_once(monkeypatch):
    resume.commit.cache_clear()
    asked = []
    monkeypatch.setattr(resume, "commit_of", lambda checkout: asked.append(checkout) or "abc")
    monkeypatch.setattr(Path, "exists", lambda self: True)
    assert (resume.commit(), resume.commit()) == ("abc", "abc") and len(asked) == 1
    resume.commit.cache_clear()


def test_a_second_signal_ends_training_at_once(here, vem_run, monkeypatch):
    from vem.training.fit import Loop

    def asks(self, *arguments):
        for _ in range(2):
            os.kill(os.getpid(), signal.SIGTERM)
        raise AssertionError("the signal was not met")

    monkeypatch.setattr(Loop, "_step", asks)
    assert AT_ONCE in vem_run(*TINY, "hydra.run.dir=r").bad().err
