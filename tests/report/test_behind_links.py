"""Sweeps and runs on another disk, behind symbolic links, in the report and its watch."""

from __future__ import annotations

import pytest
from synthetic_runs import write_run

from vem.report.__main__ import signature
from vem.report.gather import gather
from vem.report.read import findings
from vem.report.summary import terminal
from vem.storage import ledger


@pytest.fixture
def disks(tmp_path):
    """A sweep of three jobs at home, of which one lies on a scratch disk, and a whole sweep there."""
    for where, jobs in (("home/one", "01"), ("scratch/two", "345")):
        sweep = tmp_path / where
        planned = [ledger.Job(job, (f"seed={job}",)) for job in (*jobs, "9")]
        ledger.plan(sweep, "python -m vem.run -m", "serial", planned, "2026-01-01")
        for job in jobs:
            write_run(sweep / job, seed=int(job))
    write_run(tmp_path / "scratch/far", seed=9)
    (tmp_path / "home/one/9").symlink_to(tmp_path / "scratch/far")
    (tmp_path / "home/two").symlink_to(tmp_path / "scratch/two")
    (tmp_path / "home/again").symlink_to(tmp_path / "home/one/0")
    return tmp_path


def test_they_stand_where_they_were_planned(disks):
    gathered = gather([disks / "home"])
    assert [gathered.relative(run.directory) for run in gathered.runs] == [
        "one/0", "one/1", "one/9", "two/3", "two/4", "two/5"]  # fmt: skip
    assert gathered.repeats == {} and [gathered.relative(path) for path in gathered.waiting] == ["two/9"]
    found = findings([disks / "home"])
    assert found.progress["done"] == 6
    (group,) = found.tables[0].groups.to_dict("records")
    assert (group["seeds"], group["runs"]) == (6, 6)  # seed 9, which waits in two, is there
    assert "Counted once" not in "\n".join(terminal(found, disks))


def test_two_jobs_that_are_links_to_one_run(disks):
    (disks / "scratch/two/9").symlink_to(disks / "scratch/far")
    gathered = gather([disks / "home"])
    assert len(gathered.runs) == 6 and gathered.waiting == []


def test_the_watch_sees_what_changes_behind_a_link(disks):
    before = signature([disks / "home"])
    assert signature([disks / "home"]) == before
    (disks / "scratch/far/metrics.csv").write_text("epoch\n")
    between = signature([disks / "home"])
    assert between != before
    (disks / "scratch/two/3/run.json").write_text("{}")
    assert signature([disks / "home"]) != between
