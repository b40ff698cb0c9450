"""``python -m vem.evaluate`` and the gaps at the end of ``vem.run``: nothing lost, nothing overwritten silently."""

from __future__ import annotations

import errno
import json
import logging
import os
import shutil
import signal
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from cli_support import TINY, TINY_GMM, Ended, contents, table
from run_folders import run_directories
from warm import Warm

from vem.cli import messages
from vem.evaluation.progress import FOLDER
from vem.storage import records, sealing
from vem.storage.checks import failed

# Budgets of a fraction of a second.
CHEAP = (
    *("evaluation.num_data=8", "evaluation.draws=20", "evaluation.best.draws=10", "evaluation.best.evaluations=20"),
    *("evaluation.best.rounds=6", "evaluation.best.score_draws=20", "evaluation.annealing.temperatures=8"),
    *("evaluation.annealing.chains=4", "evaluation.annealing.pilot_temperatures=4"),
    *("evaluation.annealing.pilot_chains=4", "evaluation.diagnostics.points=20"),
)
GAPS = ("evaluation=gaps", *CHEAP)
FULL = ("evaluation=full", *CHEAP, "evaluation.importance.samples=20", "evaluation.simulated.num_data=6")
MADE = (*TINY, "latent_dim=3", "evaluation.num_data=10")


def made(directory: Path, *overrides: str) -> Path:
    """A finished run, without the detour over a terminal."""
    from vem.cli import train

    config = messages.composed([*MADE, *overrides])
    threads = torch.get_num_threads()
    train.execute(config, list(MADE), directory)
    torch.set_num_threads(threads)
    return directory


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return made(tmp_path_factory.mktemp("original") / "run")


@pytest.fixture
def run(original: Path, here: Path) -> Path:
    """A finished run of the test's own, in the working directory."""
    return Path(shutil.copytree(original, here / "run"))


@pytest.fixture
def evaluate(here: Path, capfd: pytest.CaptureFixture[str]) -> Iterator[Callable[..., Ended]]:
    """``python -m vem.evaluate run …`` in this process."""
    from vem.cli import evaluate

    root = logging.getLogger()
    before, level, threads = root.handlers[:], root.level, torch.get_num_threads()

    def call(*overrides: str, run: str = "run") -> Ended:
        capfd.readouterr()
        root.handlers[:] = []
        code = evaluate.main([run, *overrides, "progress=false"])
        return Ended(code, *capfd.readouterr())

    yield call
    root.handlers[:] = before
    root.setLevel(level)
    logging.captureWarnings(False)
    torch.set_num_threads(threads)


def evaluation(directory: Path) -> dict[str, Any]:
    return json.loads((directory / records.EVALUATION).read_text())


def test_gaps_at_the_end_of_a_run(here, vem_run, drawn):
    ended = vem_run(
        "data=digits", "training.epochs=1", "latent_dim=2", "model.decoder.widths=[10]", "hydra.run.dir=r",
        "evaluation.diagnostics.num_data=40", "evaluation.num_data=20", *(o for o in GAPS if "num_data" not in o),
    ).good()  # fmt: skip
    for split in ("train", "test"):
        (line,) = (line for line in ended.out.splitlines() if line.startswith(f"{split}: ELBO"))
        assert "log p(x)" in line and "approximation gap" in line and "amortization gap" in line
        numbers = evaluation(here / "r")[split]
        assert numbers["num_data"] == 20 and numbers["log_marginal"]["kind"].startswith("quadrature")
        assert list(numbers["gaps"]) == ["approximation", "amortization", "inference"]
    run = records.read_json(here / "r" / "run.json")
    assert run["status"] == "done" and run["family"] == "diagonal_gaussian"
    assert {"q", "best diagonal_gaussian", "quadrature"} <= set(run["evaluation_seconds"])
    assert {"gaps_per_datum.png", "posteriors.png"} <= {p.name for p in (here / "r" / "figures").iterdir()}
    assert {"best_elbo", "log_marginal_lower", "converged"} <= set(table(here / "r" / "per_datum.csv")[0])
    assert not (here / "r" / FOLDER).exists()


def test_measured_again(run, evaluate, drawn):
    """The earlier result is kept byte for byte, the new one takes its place, and the figures are those of it."""
    before = contents(run)
    evaluate(*GAPS).good()
    after = contents(run)
    for name in (records.EVALUATION, records.PER_DATUM):
        assert after[f"evaluations/001/{name}"] == before[name] != after[name]
    assert after["checkpoint.pt"] == before["checkpoint.pt"] and after["config.yaml"] == before["config.yaml"]
    assert evaluation(run)["settings"]["best"]["evaluations"] == 20
    assert "figures/annealing_path.png" in after and f"{FOLDER}/" not in "".join(after)

    # The same again is left alone, in words and in every byte; strict is no other measurement.
    times = {path: path.stat().st_mtime_ns for path in run.rglob("*") if path.is_file()}
    again = evaluate(*GAPS, "evaluation.strict=true", "threads=1").good()
    assert "left alone" in again.out
    assert {path: path.stat().st_mtime_ns for path in run.rglob("*") if path.is_file()} == times

    # Another budget, and what it does not draw is gone.
    evaluate("evaluation=quick", "evaluation.num_data=10").good()
    last = contents(run)
    assert last[f"evaluations/002/{records.EVALUATION}"] == after[records.EVALUATION]
    assert last[f"evaluations/001/{records.EVALUATION}"] == before[records.EVALUATION]
    assert last[records.EVALUATION] == before[records.EVALUATION]  # the measurement that the run was made with
    assert "figures/annealing_path.png" not in last and "figures/elbo.png" in last


OTHERS = {
    "local": [*MADE, "strategy=local", "strategy.held_out.steps=3", "training.keep=best"],
    "gmm": [*TINY_GMM, "evaluation.num_data=10"],
}


@pytest.mark.parametrize("name", ["amortized", *OTHERS])
def test_the_settings_of_the_run_itself_are_left_alone(name, run, evaluate, vem_run):
    """What is loaded is what was measured when training was over."""
    if name in OTHERS:
        vem_run(*OTHERS[name], f"hydra.run.dir={name}").good()
        run = Path(name)
    before = contents(run)
    assert "left alone" in evaluate("evaluation.num_data=10", run=str(run)).good().out
    assert contents(run) == before
    evaluate(*GAPS, run=str(run)).good()
    assert evaluation(run)["test"]["gaps"]["inference"]["mean"] > -1e-3


NEVER_ENOUGH = ("evaluation.checks.bias=0",)


def test_other_thresholds_judge_anew(run, evaluate):
    evaluate(*GAPS).good()
    assert "left alone" not in evaluate(*GAPS, *NEVER_ENOUGH, "evaluation.strict=true").bad().out
    assert "evaluation.strict=true" not in evaluate(*GAPS, "evaluation.strict=true").good().text


def test_full(run, evaluate):
    evaluate(*FULL).good()
    found = evaluation(run)
    assert set(found["test"]["families"]) == {"diagonal_gaussian", "full_gaussian"}
    assert found["test"]["others"]["importance"]["kind"] == "importance, K=20"
    assert found["simulated"]["num_data"] == 6
    assert found["valid"]["log_marginal"] is None  # evaluation.splits


def test_a_run_that_measured_nothing(here, evaluate):
    made(here / "run", "evaluation=none", "evaluation.num_data=0")
    assert evaluation(here / "run") == {}
    assert "measures nothing" in evaluate("evaluation=none").bad().err
    evaluate("evaluation=quick").good()
    assert "mean" in evaluation(here / "run")["test"]["elbo"]
    assert not (here / "run" / records.EARLIER).exists()  # nothing stood there


def test_options_of_ones_own(run, evaluate, here):
    (here / "own" / "evaluation").mkdir(parents=True)
    (here / "own" / "evaluation" / "mine.yaml").write_text("defaults: [gaps, _self_]\ndraws: 7\n")
    evaluate("evaluation=mine", *CHEAP[:1], *CHEAP[2:], f"hydra.searchpath=[file://{here}/own]").good()
    assert evaluation(run)["settings"]["draws"] == 7
    evaluate(*GAPS, "evaluation/prior=default", "evaluation.prior.samples=9", "evaluation/best=thorough").good()
    found = evaluation(run)
    assert found["settings"]["best"]["tolerance"] == 0.001
    assert found["test"]["others"]["prior"]["kind"] == "prior, K=9"


# --- checks


STRICT = (
    *GAPS, "evaluation.best.evaluations=2", "evaluation.best.rounds=1", "evaluation.checks.unconverged=0",
    "evaluation.strict=true",
)  # fmt: skip


def test_a_failed_check_is_an_exit_code_and_the_result_is_written(here, run, evaluate, vem_run):
    ended = evaluate(*STRICT).bad()
    assert "converged" in ended.err and "the result is written" in ended.err
    assert any("converged" in sentence for sentence in failed(evaluation(run)))
    assert "left alone" in evaluate(*STRICT).out  # and judged again
    assert evaluate(*STRICT).code == 1
    warned = evaluate(*STRICT[:-1]).good()
    assert "check failed: train converged" in warned.out

    # At the end of a run: the run is done, and says so.
    command = (*TINY, "latent_dim=3", *STRICT, "hydra.run.dir=r")
    for _ in range(2):
        assert "converged" in vem_run(*command).bad().err
        assert records.read_json(here / "r" / "run.json")["status"] == "done"


def test_a_failed_check_in_a_sweep(here, vem_run):
    """The jobs are done and shown in the table; the sweep ends with exit code 1."""
    ended = vem_run("-m", *TINY, *STRICT, "seed=0,1", "hydra.sweep.dir=s")
    assert ended.code == 1 and "Traceback" not in ended.text
    found = [records.read_json(path / records.RUN) for path in run_directories([here / "s"])]
    assert [run["status"] for run in found] == ["done", "done"]
    assert ended.err.count("evaluation.strict=true") == 2 and "Gaps in numbers" in ended.out


# --- bad input


@pytest.mark.parametrize(
    ("overrides", "words"),
    [
        (["evaluaton=gaps"], ["evaluaton=gaps", "did you mean 'evaluation'?"]),
        (["evaluation=gasp"], ["evaluation=gasp", "did you mean 'gaps'?", "Options of evaluation"]),
        (["evaluation.num_dat=3"], ["evaluation.num_dat", "did you mean 'evaluation.num_data'?"]),
        (["evaluation/best=throrough"], ["did you mean 'thorough'?"]),
        (["training.epochs=3"], ["training.epochs=3", "what can be set here", "python -m vem.run"]),
        (["strategy=local"], ["strategy=local", "python -m vem.run"]),
        (["seed=3"], ["seed=3", "python -m vem.run"]),
        (["evaluation"], ["key=value"]),
        (["evaluation.num_data=abc"], ["evaluation.num_data='abc'", "whole number"]),
        (["evaluation.splits=[tset]"], ["evaluation.splits='tset'", "did you mean 'test'?"]),
        (["evaluation=gaps", "evaluation.best=null"], ["evaluation.best is null", "evaluation/best=default"]),
        (["evaluation=gaps", "evaluation/best=null"], ["evaluation.best=null"]),
        (["threads=0"], ["threads=0", "at least 1"]),
        (["device=nonsense"], ["device=nonsense", "auto, cpu or cuda"]),
    ],
)
def test_one_message(run, evaluate, overrides, words):
    before = contents(run)
    ended = evaluate(*overrides).bad()
    for word in words:
        assert word in ended.err, ended.err
    assert contents(run) == before


@pytest.mark.parametrize(
    "zero",
    [
        *("importance.samples", "simulated.num_data", "annealing.temperatures", "annealing.chains"),
        *("annealing.leapfrog", "annealing.pilot_temperatures", "best.draws", "best.evaluations", "draws"),
        *("diagnostics.points", "prior.samples"),
    ],
)
def test_no_samples_temperatures_or_chains(zero, here, vem_run):
    """Said before anything is trained."""
    more = ("evaluation/prior=default",) if zero.startswith("prior") else ()
    ended = vem_run(*TINY, "evaluation=full", *more, f"evaluation.{zero}=0", "hydra.run.dir=r").bad()
    assert f"evaluation.{zero}=0 is too small" in ended.err and "at least" in ended.err
    assert not (here / "r" / records.METRICS).exists() and not (here / "r" / records.CHECKPOINT).exists()


def test_no_run(here, evaluate):
    assert "is missing: is nowhere the directory of a run?" in evaluate(run="nowhere").bad().err


def test_overrides_of_a_run_of_before_that_cannot_be_read(here, evaluate):
    here.joinpath("old").mkdir()
    here.joinpath("old", records.OVERRIDES).write_text("[")
    assert "say evaluation=quick|brief|gaps|full" in evaluate(run="old").bad().err


def test_an_unfinished_run(run, evaluate):
    status = records.read_json(run / records.RUN)
    sealing.write_run(run, {**status, "status": "running"})
    assert "not finished (status running)" in evaluate(*GAPS).bad().err


def test_a_missing_checkpoint(run, evaluate):
    (run / records.CHECKPOINT).unlink()
    before = contents(run)
    err = evaluate(*GAPS).bad().err
    assert "checkpoint.pt is missing" in err and "put it back" in err
    assert contents(run) == before


def test_a_checkpoint_of_another_config(here, run, evaluate):
    """Of the same shapes: the hash in it tells. Written before it or run.json held a hash: the shapes tell."""
    other = made(here / "other", "seed=1")
    shutil.copy(other / records.CHECKPOINT, run / records.CHECKPOINT)
    before = contents(run)
    err = evaluate(*GAPS).bad().err
    hashes = [records.read_json(path / records.RUN)["config_hash"] for path in (run, other)]
    assert hashes[0] != hashes[1] and all(h in err for h in hashes) and "another config" in err

    state = torch.load(made(here / "wider", "latent_dim=4") / records.CHECKPOINT, weights_only=True)
    torch.save({key: value for key, value in state.items() if key != "config_hash"}, run / records.CHECKPOINT)
    records.write_json(run / records.RUN, sealing.unsealed(records.read_json(run / records.RUN)))
    before |= {name: (run / name).read_bytes() for name in (records.CHECKPOINT, records.RUN)}
    err = evaluate(*GAPS).bad().err
    assert "does not fit this model" in err and "the run's own checkpoint" in err
    assert contents(run) == before


def test_a_damaged_result_is_replaced(run, evaluate):
    (run / records.EVALUATION).write_text('{"train": ')
    evaluate(*GAPS).good()
    assert (run / "evaluations" / "001" / records.EVALUATION).read_text() == '{"train": '
    assert "gaps" in evaluation(run)["test"]


# --- nothing lost


def fills(calls: list[Any], save: Callable[..., Any]) -> Callable[..., None]:
    def write(state: Any, file: Any) -> None:
        calls.append(file)
        if len(calls) == 2:
            file.write(b"half of a piece")
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        save(state, file)

    return write


def test_a_disk_that_fills_during_the_pieces(here, run, evaluate, monkeypatch):
    before = contents(run)
    with monkeypatch.context() as patch:
        patch.setattr(torch, "save", fills([], torch.save))
        ended = evaluate(*GAPS).bad()
    assert "disk is full" in ended.err and "valid-0000.pt" in ended.err
    kept = contents(run)
    assert kept.pop(f"{FOLDER}/train-0000.pt") and kept == before
    evaluate(*GAPS).good()
    assert not (run / FOLDER).exists()


def test_a_disk_that_fills_during_the_result(run, evaluate, monkeypatch):
    """The old result stays, the pieces as well, and the earlier one is not put aside twice."""
    before = contents(run)

    def full(*args: Any, **arrays: Any) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patch:
        patch.setattr(np, "savez_compressed", full)
        assert "disk is full" in evaluate(*GAPS).bad().err
    after = contents(run)
    assert {name: after[name] for name in before} == before
    assert sum(name.startswith(f"{FOLDER}/") for name in after) == 3
    evaluate(*GAPS).good()
    assert [path.name for path in (run / records.EARLIER).iterdir()] == ["001"]
    assert contents(run)[f"evaluations/001/{records.EVALUATION}"] == before[records.EVALUATION]


def test_a_folder_that_cannot_be_written(run, evaluate):
    (run / FOLDER).write_text("a file in the place of the folder")
    before = contents(run)
    assert f"{FOLDER} cannot be written" in evaluate(*GAPS).bad().err
    assert contents(run) == before


SLOW = (
    *(*GAPS, "evaluation/simulated=default", "evaluation.simulated.num_data=6"),
    *("evaluation.annealing.temperatures=120", "progress=false", "threads=1"),
)


@pytest.fixture
def start_and_stop(here: Path, warm: Warm) -> Callable[..., Ended]:
    """Start a command, send a signal as soon as the file ``until`` is there, wait for its end."""

    def call(*arguments: str, until: Path, number: int) -> Ended:
        process = warm.start("-m", *arguments, cwd=here)
        try:
            deadline = time.monotonic() + 300
            while not until.exists():
                assert process.poll() is None, process.communicate()
                assert time.monotonic() < deadline
                time.sleep(0.002)
            process.send_signal(number)
            out, err = process.communicate()
        finally:
            process.kill()
        return Ended(process.returncode, out, err)

    return call


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="signals of POSIX")
def test_a_measurement_goes_on_after_sigterm_and_sigkill(run, evaluate, start_and_stop):
    """SIGTERM while test is measured, SIGKILL at the simulated data: the result is that of the uninterrupted one."""
    shutil.copytree(run, "whole")
    evaluate(*SLOW, run="whole").good()
    whole, before = contents(Path("whole")), contents(run)

    pieces, command = run / FOLDER, ("vem.evaluate", "run", *SLOW)
    stopped = start_and_stop(*command, until=pieces / "train-0000.pt", number=signal.SIGTERM).bad()
    assert stopped.err.startswith("vem: stopped by SIGTERM while measuring: the same command goes on")
    killed = start_and_stop(*command, until=pieces / "test-0000.pt", number=signal.SIGKILL)
    assert killed.code == -signal.SIGKILL
    assert {name: text for name, text in contents(run).items() if not name.startswith(FOLDER)} == before

    assert len(list(pieces.glob("[!.]*"))) == 3  # train, valid, test
    evaluate(*SLOW).good()
    assert not pieces.exists()
    after = contents(run)
    for name in (records.EVALUATION, records.PER_DATUM, f"evaluations/001/{records.EVALUATION}"):
        assert after[name] == whole[name]


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="signals of POSIX")
def test_a_run_goes_on_after_sigterm_in_its_measurement(here, vem_run, start_and_stop):
    command = [*TINY, "latent_dim=3", "device=cpu", *SLOW]
    vem_run(*command, "hydra.run.dir=whole").good()
    until = here / "r" / FOLDER / "train-0000.pt"
    stopped = start_and_stop("vem.run", *command, "hydra.run.dir=r", until=until, number=signal.SIGTERM).bad()
    assert stopped.err.startswith("vem: stopped by SIGTERM while measuring")
    status = records.read_json(here / "r" / records.RUN)
    assert status["status"] == "running" and status["error"].startswith("stopped by SIGTERM")
    assert not (here / "r" / records.EVALUATION).exists()
    vem_run(*command, "hydra.run.dir=r").good()
    assert evaluation(here / "r") == evaluation(here / "whole") and not (here / "r" / FOLDER).exists()
