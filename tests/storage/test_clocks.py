"""Signs of life where clocks disagree or are set: a job at work is never taken for dead."""

from __future__ import annotations

import json
import os
import time

import pytest

from vem.report.gather import at_work
from vem.storage import ledger


@pytest.fixture
def clock(monkeypatch):
    """The clock that nobody sets, moved on by hand."""

    class Clock:
        passed = 0.0

    real = time.monotonic
    monkeypatch.setattr(ledger.time, "monotonic", lambda: real() + Clock.passed)
    return Clock


def sign(directory, folder, ahead=0.0):
    """A sign of life from another machine, by a clock that is so many seconds ahead of this one's."""
    path = directory / ledger.FOLDER / "alive" / folder
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps({"host": "another.host", "pid": 1}))
    os.utime(path, (time.time() + ahead,) * 2)


@pytest.fixture
def server(monkeypatch):
    """The clock of the file server, so many seconds ahead of this machine's; it gives the times of files."""

    class Server:
        ahead = 0.0

    monkeypatch.setattr(ledger, "_told_by", lambda folder: time.time() + Server.ahead)
    return Server


@pytest.mark.parametrize("ahead", [-7200.0, -90.0, 0.0, 90.0, 7200.0])
def test_a_reader_whose_clock_differs_sees_who_is_at_work(tmp_path, server, ahead):
    server.ahead = ahead
    sign(tmp_path, "at work", ahead - 5.0)
    sign(tmp_path, "dead", ahead - 2 * ledger.SILENCE)
    assert ledger.is_alive(tmp_path, "at work") and not ledger.is_alive(tmp_path, "dead")


@pytest.mark.parametrize("step", [-7200.0, 7200.0])
def test_a_clock_that_is_set_kills_nobody_and_keeps_nobody_alive(tmp_path, clock, server, step):
    for folder in ("at work", "dead"):
        sign(tmp_path, folder)
        assert ledger.is_alive(tmp_path, folder)
    for _ in range(4):  # the clock is set; one of the two goes on with its signs
        clock.passed += ledger.SILENCE / 3
        server.ahead = step + clock.passed
        sign(tmp_path, "at work", server.ahead)
        assert ledger.is_alive(tmp_path, "at work")
    assert not ledger.is_alive(tmp_path, "dead")


def test_a_sign_from_the_future_counts_until_it_has_been_silent(tmp_path, clock):
    """Written just before the clock was set back, or long before: whoever is at work is left alone."""
    sign(tmp_path, "a", 3600.0)
    assert ledger.is_alive(tmp_path, "a")
    clock.passed = ledger.SILENCE + 1
    assert not ledger.is_alive(tmp_path, "a")


def test_a_sweep_from_the_future_is_not_watched_for_ever(tmp_path, clock):
    sweep = ledger.plan(tmp_path, "", "basic", [ledger.Job("a", ())], "start")
    plan = tmp_path / ledger.FOLDER / "sweep.json"
    os.utime(plan, (time.time() + 3600,) * 2)
    assert at_work(sweep)
    clock.passed = ledger.SILENCE + 1
    assert not at_work(sweep)
    plan.touch()
    assert at_work(sweep)


def test_the_clock_of_a_folder_is_that_of_its_files_and_leaves_nothing_there(tmp_path, monkeypatch):
    (tmp_path / "file").touch()
    assert abs(ledger.now(tmp_path) - (tmp_path / "file").stat().st_mtime) < 2.0
    assert [path.name for path in tmp_path.iterdir()] == ["file"]
    assert abs(ledger.now(tmp_path / "missing") - time.time()) < 2.0
