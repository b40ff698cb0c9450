"""A report that is kept up to date: it ends by itself, and Ctrl-C leaves it whole."""

from __future__ import annotations

import io
import json
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from synthetic_runs import write_run

from vem.errors import VemError
from vem.report import __main__ as watching
from vem.report.__main__ import INTERRUPTED, main, parse, watch
from vem.storage import ledger


@pytest.fixture(autouse=True)
def _undrawn(monkeypatch):
    """Without figures: what is drawn is not what is tested here."""
    monkeypatch.setattr("vem.report.summary.draw", lambda found, folder: [])


def plan(root: Path, *folders: str) -> None:
    ledger.plan(root, "python -m vem.run -m", "serial", [ledger.Job(f, (f"seed={f}",)) for f in folders], "2026-01-01")


def test_it_follows_a_sweep_and_ends_with_it(tmp_path):
    plan(tmp_path, "0", "1", "2")
    write_run(tmp_path / "0", seed=0)
    stream = io.StringIO()

    def go_on() -> None:
        until = time.monotonic() + 60
        for seed in (1, 2):
            while f"{seed} done" not in stream.getvalue() and time.monotonic() < until:
                time.sleep(0.05)
            write_run(tmp_path / f"{seed}", seed=seed, status="done" if seed == 1 else "failed", evaluated=seed == 1)

    thread = threading.Thread(target=go_on)
    thread.start()
    text = watch([tmp_path], tmp_path / "out", None, 0.1, stream)
    thread.join()
    lines = stream.getvalue().splitlines()
    assert "1 done, 2 waiting" in lines[0] and "2 done, 1 failed" in lines[-1]
    assert "2 of 3" in text and (tmp_path / "out" / "report.html").exists()


def test_it_writes_only_when_something_changed(tmp_path, monkeypatch):
    plan(tmp_path, "0", "1")
    write_run(tmp_path / "0", seed=0)
    written, pauses = [], []
    monkeypatch.setattr("vem.report.summary.write", lambda found, out: written.append(found) or "")

    def pause(seconds: float) -> None:
        pauses.append(seconds)
        if len(pauses) == 4:
            write_run(tmp_path / "1", seed=1)

    monkeypatch.setattr(time, "sleep", pause)
    watch([tmp_path], tmp_path, None, 0.5, io.StringIO())
    assert len(pauses) == 4 and len(written) == 2 and min(pauses) >= 0.5


def test_a_process_that_vanishes_is_a_change(tmp_path):
    plan(tmp_path, "0")
    (tmp_path / "0").mkdir()
    (tmp_path / "0" / "run.json").write_text('{"status": "running"}')
    with ledger.alive(tmp_path, "0"):
        while not ledger.is_alive(tmp_path, "0"):
            time.sleep(0.01)
        before = watching.signature([tmp_path])
    assert watching.signature([tmp_path]) != before


def test_it_ends_with_a_sweep_that_was_given_up(tmp_path, monkeypatch):
    plan(tmp_path, "0", "1")
    write_run(tmp_path / "0", seed=0)
    looks = []

    def pause(seconds: float) -> None:
        looks.append(seconds)
        monkeypatch.setattr(ledger, "SILENCE", 0.0)

    monkeypatch.setattr(time, "sleep", pause)
    stream = io.StringIO()
    watch([tmp_path], tmp_path / "out", None, 0.1, stream)
    assert "1 done, 1 stopped" in stream.getvalue().splitlines()[-1] and len(looks) == 1


def test_what_hinders_it_is_said_once_and_tried_again(tmp_path, monkeypatch):
    looks = []

    def pause(seconds: float) -> None:
        looks.append(seconds)
        if len(looks) == 3:
            write_run(tmp_path / "runs" / "0")

    monkeypatch.setattr(time, "sleep", pause)
    (tmp_path / "runs").mkdir()
    stream = io.StringIO()
    watch([tmp_path / "runs"], tmp_path / "out", None, 0.1, stream)
    first, last = stream.getvalue().splitlines()
    assert "no run below" in first and "1 done" in last


def test_a_missing_folder_is_an_error_at_once(tmp_path):
    with pytest.raises(VemError, match="is not a directory"):
        watch([tmp_path / "nowhere"], tmp_path, None, 0.1, io.StringIO())


@pytest.mark.parametrize(
    ("typed", "seconds"),
    [(["r"], None), (["r", "--watch"], 10.0), (["r", "--watch", "0.5"], 0.5), (["--watch", "r"], 10.0)],
)
def test_how_it_is_typed(typed, seconds):
    options = parse(typed)
    assert options.watch == seconds and options.directories == [Path("r")]


@pytest.mark.parametrize(("typed", "code"), [(["r", "--watch", "0"], 1), (["r", "--watch", "nan"], 1)])
def test_a_pause_of_nothing_is_refused(typed, code, capsys):
    assert main(typed) == code
    assert "--watch=" in capsys.readouterr().err


def test_no_folder_is_one_message(capsys):
    with pytest.raises(SystemExit):
        main(["--watch"])
    assert "name the folder" in capsys.readouterr().err


@pytest.mark.parametrize("when", ["watching", "writing"])
def test_ctrl_c_leaves_a_whole_report(tmp_path, when):
    """A real SIGINT to a real process, while it waits, and while it draws the next report."""
    root, out = tmp_path / "runs", tmp_path / "out"
    plan(root, "0", "1")
    write_run(root / "0", seed=0)
    call = [sys.executable, "-m", "vem.report", str(root), "--watch", "0.1", "--out", str(out)]
    process = subprocess.Popen(call, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=os.environ)
    try:
        assert process.stdout is not None
        assert "1 done, 1 waiting" in process.stdout.readline()
        before = {p.name: p.read_bytes() for p in out.rglob("*") if p.is_file()}
        if when == "writing":
            (root / "1").mkdir()
            (root / "1" / "run.json").write_text(json.dumps({"status": "failed", "error": "x", "seed": 1}))
            write_run(root / "2", seed=2, status="running", evaluated=False)
            until = time.monotonic() + 60
            while not list(out.glob(".report.*/runs.csv")) and time.monotonic() < until:
                time.sleep(0.002)
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate(timeout=60)
    finally:
        process.kill()
    assert process.returncode == INTERRUPTED
    assert errors == f"stopped by Ctrl-C; the report in {out} is whole.\n"
    assert {p.name: p.read_bytes() for p in out.rglob("*") if p.is_file()} == before
    assert [path.name for path in out.glob(".report.*")] == [".report.json"]
