"""One job in a child process: what comes back, what is written when nothing comes back."""

from __future__ import annotations

import itertools
import math
import os
import signal
import threading
import time
from pathlib import Path

import pytest
from run_folders import run_directories

from vem.cli.messages import composed
from vem.storage import ledger, records, sealing
from vem.sweep import isolated, stopping
from vem.sweep.jobs import Work

TINY = (
    *("data=blobs", "data.num=40", "data.num_valid=10", "data.num_test=10", "data.dims=3", "latent_dim=2"),
    *("training.epochs=2", "training.batch_size=20", "evaluation.draws=2", "threads=1"),
    "progress=false",
)
MODULE = """
import os, signal, sys, time
from pathlib import Path
from vem.strategies.amortized import Amortized

class Odd(Amortized):
    def __init__(self, how, **options):
        super().__init__(**options)
        self.how = how

    def step(self, model, batch, noise, schedule):
        if self.how == "raise":
            raise ZeroDivisionError("an odd number")
        if self.how == "exit":
            sys.exit(3)
        if self.how == "not a number":
            for parameter in model.parameters():
                parameter.data.fill_(float("nan"))
        if self.how == "slow":
            Path("job", "begun").touch()
            time.sleep(3)
        if isinstance(self.how, int):
            os.kill(os.getpid(), self.how)
        return super().step(model, batch, noise, schedule)
"""


STARTS = itertools.count(1)  # every job here is of a start of its own, unless it is given another's


def work(root: Path, how=None, *further: str, name: str = "job") -> Work:
    overrides = [*TINY, *further]
    if "strategy=gmm" not in further:
        overrides.append("model.decoder.widths=[4]")
    if how is not None:
        overrides += ["allow_targets=[odd_strategy]", "strategy._target_=odd_strategy.Odd", f"+strategy.how={how!r}"]
    directory = root / name
    directory.mkdir(exist_ok=True)
    log = {"class": "logging.FileHandler", "filename": str(directory / "run.log"), "delay": True}
    logs = {
        "version": 1,
        "disable_existing_loggers": False,
        "handlers": {"file": log},
        "root": {"level": "DEBUG", "handlers": ["file"]},
    }
    return Work(composed(overrides) | {"choices": {}}, tuple(overrides), directory, root, f"start {next(STARTS)}", logs)


def run_json(root: Path, name: str = "job") -> dict:
    return records.read_json(root / name / records.RUN)


@pytest.fixture
def here(tmp_path, monkeypatch):
    (tmp_path / "odd_strategy.py").write_text(MODULE)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    return tmp_path


def test_a_job_is_done_by_a_process_of_its_own(here):
    job = work(here, None, "threads=2")
    outcome, value, asked = isolated.run(job)
    found = run_json(here)
    assert outcome.status == found["status"] == "done" and found["start"] == job.start and asked is None
    assert found["pid"] != os.getpid() and found["threads"] == 2
    evaluation = records.read_json(here / "job" / records.EVALUATION)
    assert value == evaluation["valid"]["elbo"]["mean"]
    assert not ledger.is_alive(here, "job")


@pytest.mark.parametrize(
    ("how", "said"),
    [
        ("raise", "ZeroDivisionError: an odd number"),
        ("not a number", "nan"),
        ("exit", "SystemExit"),
        (int(signal.SIGKILL), "killed: the process of this run ended by SIGKILL"),
        (int(signal.SIGSEGV), "killed: the process of this run ended by SIGSEGV"),
    ],
)
def test_a_job_that_breaks_is_written_down(here, how, said):
    job = work(here, how)
    outcome, value, asked = isolated.run(job)
    found = run_json(here)
    assert outcome.status == found["status"] == "failed" and math.isnan(value) and asked is None
    assert ledger.outcome(here, "job", job.start) == outcome and ledger.outcome(here, "job", "another") is None
    assert said.lower() in outcome.message.lower()
    assert found["error"] in outcome.message and found["start"] == job.start and found["seed"] == 0
    if how == "raise":
        log = (here / "job" / records.LOG).read_text()
        assert log.count("Traceback") == 1 and "in step" in log


def test_a_signal_is_handed_on_and_the_run_goes_on_later(here):
    endless = work(here, None, "training.epochs=100000", "training.records=1000")
    done = []

    def interrupt() -> None:
        deadline = time.monotonic() + 60
        while not (here / "job" / records.METRICS).exists() and time.monotonic() < deadline:
            time.sleep(0.02)
        os.kill(os.getpid(), signal.SIGTERM)
        done.append(True)

    thread = threading.Thread(target=interrupt)
    thread.start()
    outcome, _, asked = isolated.run(endless)
    thread.join()
    assert done and outcome.status == "stopped" and "SIGTERM" in outcome.message and asked == "SIGTERM"
    assert run_json(here)["status"] == "running" and (here / "job" / records.CHECKPOINT).exists()
    assert ledger.state(here, "job") == "stopped"


def test_a_cluster_that_takes_the_time_away_leaves_it_for_a_checkpoint(here, monkeypatch):
    """submitit leaves by SystemExit; a step may take longer than a user who presses Ctrl-C twice will wait."""
    monkeypatch.setattr(isolated, "HASTE", 0.5)

    def leave(work, process, receiver, asked):
        deadline = time.monotonic() + 60
        while not (here / "job" / "begun").exists() and time.monotonic() < deadline:
            time.sleep(0.02)
        raise SystemExit(-1)

    monkeypatch.setattr(isolated, "_wait", leave)
    with pytest.raises(SystemExit):
        isolated.run(work(here, "slow", "training.epochs=100000"))
    assert (here / "job" / records.CHECKPOINT).exists()
    assert "stopped by SIGTERM" in run_json(here)["error"]


def test_a_job_begins_no_more_once_the_sweep_was_told_to_stop(here):
    job = work(here)
    stopping._tell(ledger.plan(here, "vem", "joblib", [], job.start), "SIGINT")
    outcome, value, asked = isolated.run(job)
    assert outcome.status == "stopped" and math.isnan(value) and asked == "SIGINT"
    assert not (here / "job" / records.RUN).exists() and ledger.outcome(here, "job", job.start) is None
    assert isolated.run(work(here)).outcome.status == "done"  # that is another start


def test_the_same_config_in_another_folder_runs_once(here):
    first = isolated.run(work(here, None, "strategy=gmm", "model.components=2", "latent_dim=2", name="a"))
    second = isolated.run(work(here, None, "strategy=gmm", "model.components=2", "latent_dim=3", name="b"))
    assert first.value == second.value and second.outcome == (records.REPEATS, "a")
    found = run_json(here, "b")
    assert (found["status"], found["repeats"]) == (records.REPEATS, "a")
    assert found["config_hash"] == run_json(here, "a")["config_hash"]
    files = {path.name for path in (here / "b").iterdir()}
    assert files - {records.LOG} == {records.CONFIG, records.OVERRIDES, records.RUN}
    # A third, whose original has failed and is not among the jobs of this start, runs it itself.
    records.write_json(here / "a" / records.RUN, {**run_json(here, "a"), "status": "failed", "error": "why"})
    third = isolated.run(work(here, None, "strategy=gmm", "model.components=2", "latent_dim=4", name="c"))
    assert run_json(here, "c")["status"] == "done" and third.value == first.value


def test_a_repeat_never_replaces_a_run_of_another_config(here):
    isolated.run(work(here, None, "strategy=gmm", "model.components=2", name="a"))
    isolated.run(work(here, None, "seed=5", name="b"))
    before = run_json(here, "b")
    outcome, _, _ = isolated.run(work(here, None, "strategy=gmm", "model.components=2", name="b"))
    assert outcome.status == "failed" and "another config" in outcome.message
    assert run_json(here, "b") == before


def test_a_finished_run_of_other_code_counts_and_can_be_run_again(here):
    isolated.run(work(here))
    made = {**run_json(here), "commit": "0123456789ab", "versions": {**run_json(here)["versions"], "vem": "0.0.1"}}
    sealing.write_run(here / "job", made)
    made = run_json(here)
    assert isolated.run(work(here)).outcome.status == "done"
    assert run_json(here) == made
    log = (here / "job" / records.LOG).read_text()
    assert "was made by vem 0.0.1, commit 0123456789ab" in log and "rerun=stale" in log
    assert isolated.run(work(here, None, "rerun=stale")).outcome.status == "done"
    assert run_json(here)["versions"]["vem"] != "0.0.1"
    assert records.read_json(here / "job" / records.ASIDE / "001" / records.RUN) == made
    assert run_directories([here]) == [here / "job"]


def test_a_refused_job_has_failed_and_changes_nothing(here):
    """The folder holds a finished run of another config, and the claim on the new one is no promise to anyone."""
    isolated.run(work(here, name="a"))
    before = run_json(here, "a")
    refused = isolated.run(work(here, None, "training.epochs=3", name="a"))
    assert refused.outcome.status == "failed" and "another config" in refused.outcome.message
    assert run_json(here, "a") == before
    assert "another config" in (here / "a" / records.LOG).read_text()
    other = isolated.run(work(here, None, "training.epochs=3", name="b"))
    assert other.outcome.status == "done" and run_json(here, "b")["status"] == "done"


def test_a_failed_run_of_another_config_makes_room(here):
    isolated.run(work(here, "raise"))
    records.write_csv(here / "job" / records.METRICS, [{"epoch": 1}])  # it had begun
    assert isolated.run(work(here)).outcome.status == "done"
    assert records.read_json(here / "job" / records.ASIDE / "001" / records.RUN)["status"] == "failed"


def test_what_is_done_stays_done(here):
    """The process that looks at a finished run is killed: the run has not failed."""
    isolated.run(work(here))
    before = run_json(here)
    told = isolated._killed(work(here), -signal.SIGKILL, None)
    assert told.outcome.status == "failed" and "SIGKILL" in told.outcome.message
    assert run_json(here) == before


def test_a_trial_whose_values_came_up_before_has_their_value(here):
    """A search asks again for a run that has ended, and for one that another folder holds."""
    gmm = ("strategy=gmm", "model.components=2")
    job, twin = work(here, None, *gmm, "latent_dim=2"), work(here, None, *gmm, "latent_dim=3", name="twin")
    first = isolated.run(job)
    assert math.isfinite(first.value) and isolated.run(job) == first
    assert isolated.run(twin).value == isolated.run(twin).value == first.value
    # Its process was killed after the last word was written.
    told = isolated._killed(job, -signal.SIGKILL, None)
    assert told.outcome.status == "done" and told.value == first.value


def test_a_job_that_ended_in_this_start_is_not_tried_again(here):
    job = work(here, "raise")
    first = isolated.run(job)
    started = run_json(here)["started"]
    again = isolated.run(job)
    assert again.outcome == first.outcome and math.isnan(again.value) and run_json(here)["started"] == started


def test_a_strict_run_fails_its_job_although_it_is_done(here):
    strict = ("evaluation.strict=true", "evaluation.checks.bias=0", "evaluation=gaps", "evaluation.num_data=4")
    fast = ("evaluation.best.draws=10", "evaluation.best.rounds=1", "evaluation.annealing.temperatures=3")
    job = work(here, None, "evaluation=gaps", *strict[:2], *strict[3:], *fast, "evaluation.diagnostics=null")
    outcome, _, _ = isolated.run(job)
    assert outcome.status == "failed" and "check" in outcome.message
    assert run_json(here)["status"] == "done"


def test_console_handlers_are_dropped():
    content = {
        "handlers": {"console": {"class": "logging.StreamHandler"}, "file": {"class": "logging.FileHandler"}},
        "loggers": {"vem": {"level": "DEBUG"}, "x": {"handlers": ["console", "file"]}},
        "root": {"handlers": ["console", "file"], "level": "INFO"},
    }
    assert isolated.without_console(content) == {
        "handlers": {"file": {"class": "logging.FileHandler"}},
        "loggers": {"vem": {"level": "DEBUG"}, "x": {"handlers": ["file"]}},
        "root": {"handlers": ["file"], "level": "INFO"},
    }
