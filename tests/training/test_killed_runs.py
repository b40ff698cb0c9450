"""The command line under SIGKILL, SIGTERM and a file size limit; saved → loaded → the same ELBO."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch
from bit_for_bit import final, same
from warm import Warm

import vem
from vem.storage.records import CHECKPOINT, EVALUATION, METRICS, RUN

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="signals of POSIX")

# The mixture has no decoder to size and no latent_dim.
BOTH = [
    "evaluation.num_data=50", "evaluation.draws=2", "training.valid_data=20", "progress=false", "device=cpu",
    "data.max_train=300", "training.epochs=40", "training.records=40",
]  # fmt: skip
DEEP = ["model.decoder.widths=[20]", "latent_dim=4", *BOTH]
STRATEGIES = {
    "local": ["strategy=local", "strategy/rule=adam", "strategy.held_out.steps=5", *DEEP],
    "amortized": ["strategy=amortized", *DEEP],
    "gmm": ["strategy=gmm", "model.components=5", "strategy.tolerance=0", *BOTH],
}


def command(directory: Path, *overrides: str) -> list[str]:
    return ["-m", "vem.run", f"hydra.run.dir={directory}", *overrides]


def finished(warm: Warm, directory: Path, *overrides: str) -> Path:
    done = warm.run(*command(directory, *overrides))
    assert done.returncode == 0, done.stderr
    return directory


@pytest.fixture(scope="module")
def whole(warm: Warm, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """The run of a strategy that nobody has stopped."""
    return cache(lambda name: finished(warm, tmp_path_factory.mktemp("whole"), *STRATEGIES[name]))


def start_and_stop(
    warm: Warm, directory: Path, overrides: list[str], number: int, epochs_done: int
) -> subprocess.CompletedProcess[str]:
    """Start a run, send a signal a moment after the record of some epoch, wait for its end."""
    process, metrics = warm.start(*command(directory, *overrides)), directory / METRICS
    deadline = time.monotonic() + 300
    try:
        while not metrics.exists() or metrics.read_text().count("\n") <= 2 * epochs_done:
            assert process.poll() is None, "the run ended before it could be stopped"
            assert time.monotonic() < deadline
            time.sleep(0.002)
        process.send_signal(number)
        out, err = process.communicate(timeout=300)
    finally:
        process.kill()
        process.wait()
    return subprocess.CompletedProcess(process.args, process.returncode, out, err)


def evaluation(directory: Path) -> dict[str, Any]:
    return json.loads((directory / EVALUATION).read_text())


def equal(one: Path, other: Path) -> None:
    same(final(one, torch.device("cpu")), final(other, torch.device("cpu")))
    assert evaluation(one) == evaluation(other)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["local", "gmm"])
def test_a_killed_run_resumed_equals_the_uninterrupted_one(name: str, tmp_path: Path, warm: Warm, whole: Any) -> None:
    overrides = [*STRATEGIES[name], "training.checkpoint_seconds=0"]
    stopped = start_and_stop(warm, tmp_path, overrides, signal.SIGKILL, epochs_done=4)
    assert stopped.returncode == -signal.SIGKILL
    assert json.loads((tmp_path / RUN).read_text())["status"] == "running"
    before = torch.load(tmp_path / CHECKPOINT, weights_only=True)["progress"]["epoch"]
    assert 0 < before < 40
    equal(finished(warm, tmp_path, *overrides), whole(name))
    loaded = vem.load(tmp_path)
    for split in ("train", "test"):
        scores = loaded.score(split, num_data=50, draws=2)
        assert scores.elbo is not None
        assert float(scores.elbo.mean()) == pytest.approx(evaluation(tmp_path)[split]["elbo"]["mean"], rel=1e-12)


@pytest.mark.slow
def test_sigterm_writes_a_checkpoint_and_exits_with_one_message(tmp_path: Path, warm: Warm, whole: Any) -> None:
    overrides = STRATEGIES["amortized"]
    stopped = start_and_stop(warm, tmp_path, overrides, signal.SIGTERM, epochs_done=3)
    assert stopped.returncode == 1
    assert stopped.stderr.strip().splitlines()[-1].startswith("vem: stopped by SIGTERM in epoch ")
    assert "Traceback" not in stopped.stderr
    progress = torch.load(tmp_path / CHECKPOINT, weights_only=True)["progress"]
    assert progress["step"] == progress["epoch"] * 3 + progress["batch"] > 0
    status = json.loads((tmp_path / RUN).read_text())
    assert status["status"] == "running" and status["error"].startswith("stopped by SIGTERM")
    equal(finished(warm, tmp_path, *overrides), whole("amortized"))


# Files of 60 kB at the most, and the write fails instead of the process.
LIMITED = """
import resource, runpy, signal
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (60_000, 60_000))
runpy.run_module("vem.run", run_name="__main__", alter_sys=True)
"""


def test_a_disk_that_fills_during_a_checkpoint_is_one_message(tmp_path: Path, warm: Warm) -> None:
    """The checkpoint grows with the records: the first ones fit, a later one does not."""
    overrides = [
        *STRATEGIES["gmm"], "model.components=10", "training.epochs=2000", "training.records=2000",
        "training.checkpoint_seconds=0",
    ]  # fmt: skip
    done = warm.run("-c", LIMITED, *command(tmp_path, *overrides)[2:])
    assert done.returncode == 1
    last = done.stderr.strip().splitlines()[-1]
    assert last.startswith("vem: ") and "cannot be written: File too large" in last and "Traceback" not in done.stderr
    assert torch.load(tmp_path / CHECKPOINT, weights_only=True)["progress"]["epoch"] > 0
    assert not [p for p in tmp_path.iterdir() if p.name.startswith(".")]
