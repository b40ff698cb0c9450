"""The end of a sweep: what is said of runs whose process is gone."""

from __future__ import annotations

import shutil
import socket
import subprocess

import pytest

from vem.storage import ledger, records
from vem.sweep import ending
from vem.sweep.jobs import Jobs


@pytest.mark.parametrize("kept", [True, False])
def test_a_checkpoint_is_promised_where_there_is_one(tmp_path, kept):
    sweep = ledger.plan(tmp_path, "vem", "joblib", [ledger.Job("job", ())], "now")
    with subprocess.Popen(["true"]) as gone:
        pass
    (tmp_path / "job").mkdir()
    status = {"status": "running", "error": None, "start": "now", "pid": gone.pid, "host": socket.gethostname()}
    records.write_json(tmp_path / "job" / records.RUN, status)
    if kept:
        (tmp_path / "job" / records.CHECKPOINT).touch()
    ending.mark_lost_jobs_failed(Jobs(sweep))
    found = records.read_json(tmp_path / "job" / records.RUN)
    assert found["status"] == "failed" and found["error"].startswith("killed: ")
    assert ("goes on from its checkpoint" in found["error"]) == kept
    assert ("begins it again" in found["error"]) != kept


def test_a_run_that_is_removed_once_it_is_done_is_not_done(tmp_path):
    sweep = ledger.plan(tmp_path, "vem", "joblib", [ledger.Job("a", ()), ledger.Job("b", ())], "now")
    for folder in "ab":
        (tmp_path / folder).mkdir()
        records.write_json(tmp_path / folder / records.RUN, {"status": "done", "start": "now", "error": None})
        ledger.write_outcome(tmp_path, folder, "now", ledger.Outcome("done"))
    (tmp_path / "b" / records.RUN).write_text("{")  # by what code it was made is then not known
    jobs = Jobs(sweep)
    assert ending.verdict(jobs) == (0, "")
    shutil.rmtree(tmp_path / "a")
    code, said = ending.verdict(jobs)
    assert code == 1 and "1 of 2 jobs are not done: 1 lost" in said
