"""Nobody reads what is printed (``| head``), or it goes to a full disk: the work is done all the same."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from cli_support import CHECKOUT, TINY_GMM
from run_folders import run_directories

from vem.cli import messages
from vem.report import __main__ as report
from vem.storage import records
from vem.storage.streams import outlived

FULL = Path("/dev/full")


@pytest.fixture
def unread(monkeypatch):
    """Make a stream of this process one whose reader has gone."""
    opened = []

    def make(*names):
        for name in names:
            reader, writer = os.pipe()
            os.close(reader)
            opened.append(os.fdopen(writer, "w"))
            monkeypatch.setattr(sys, name, opened[-1])

    yield make
    for stream in opened:
        stream.close()  # raises where something is held back for a reader that is gone


def test_a_run_a_report_and_a_measurement_go_on_to_their_end(here, vem_run, unread, capfd):
    from vem.cli import evaluate

    unread("stdout")
    ended = vem_run(*TINY_GMM, "hydra.run.dir=r").good()
    assert ended.text == "" and records.read_json(here / "r" / records.RUN)["status"] == "done"
    assert report.main(["r"]) == 0 and (here / "r" / "report.html").exists()
    assert evaluate.main(["r", "evaluation.draws=3"]) == 0 and list((here / "r" / records.EARLIER).iterdir())
    for ask in (["--help"], ["--cfg", "job"]):
        assert vem_run(*ask).good().text == ""
    with pytest.raises(SystemExit) as asked:
        report.main(["--help"])
    assert asked.value.code == 0 and capfd.readouterr() == ("", "")


def test_a_sweep_is_done_with_neither_stream_read(here, vem_run, unread, monkeypatch):
    unread("stdout", "stderr")
    monkeypatch.setattr(messages, "report", lambda directory: print("a report" * 999))  # its own is tested above
    ended = vem_run("-m", *TINY_GMM, "evaluation=none", "hydra.sweep.dir=s").good()
    assert ended.text == ""
    (run,) = run_directories([here / "s"])
    assert records.read_json(run / records.RUN)["status"] == "done"


def test_a_failing_command_fails_where_nobody_reads_why(vem_run, unread):
    unread("stdout", "stderr")
    ended = vem_run(*TINY_GMM, "model.components=0")
    assert (ended.code, ended.text) == (1, "")


@pytest.mark.skipif(not FULL.exists(), reason="no /dev/full")
def test_output_that_a_full_disk_does_not_take_costs_one_line(capfd, monkeypatch):
    with FULL.open("w") as stream:
        monkeypatch.setattr(sys, "stdout", stream)
        with outlived():
            for _ in range(3):
                print("a table")
                sys.stdout.flush()
    said = capfd.readouterr().err
    assert said.count("\n") == 1 and "standard output cannot be written (No space left on device)" in said


def test_streams_that_are_closed(here):
    """``>&- 2>&- <&-``: the work is done, and no file of it is given the number of one of them."""
    program = (
        "import sys; from vem.storage.streams import outlived\nwith outlived():\n print(1); print(2, file=sys.stderr)\n"
    )
    program += " sys.stdout.flush(); file = open('kept', 'w'); print(file.fileno(), file=file)"
    done = subprocess.run(
        ["bash", "-c", '"$0" -c "$1" <&- >&- 2>&-', sys.executable, program],
        env={**os.environ, "PYTHONPATH": str(CHECKOUT)},
    )
    assert done.returncode == 0 and int((here / "kept").read_text()) > 2


def test_without_streams_in_python(monkeypatch):
    """As Python has them of a closed descriptor, and under pythonw."""
    monkeypatch.setattr(sys, "stdout", None)
    monkeypatch.setattr(sys, "stderr", None)
    with outlived():
        print("a table")
        sys.stderr.write("a bar")
        assert not sys.stderr.isatty()
    assert sys.stdout is None and sys.stderr is None


def test_in_a_shell(here):
    """With what Python does at the end of a process, and pipefail, which makes the command's own exit code count."""
    command = f"set -o pipefail; {sys.executable} -m vem.run --cfg job | head -1"
    done = subprocess.run(
        ["bash", "-c", command], env={**os.environ, "PYTHONPATH": str(CHECKOUT)}, capture_output=True, text=True
    )
    assert (done.returncode, done.stderr) == (0, "") and done.stdout.count("\n") == 1
