"""The command line under SIGKILL, SIGTERM and a file size limit; saved → loaded → the same ELBO."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import torch
from bit_for_bit import final, same
from warm import Warm

import vem
from vem.storage.records import CHECKPOINT, EVALUATION, METRICS, RUN

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="signals of POSIX")

SMALL = [
    "model.decoder.widths=[20]", "latent_dim=4", "evaluation.num_data=50", "evaluation.draws=2",
    "training.valid_data=20", "progress=false", "device=cpu", "data.max_train=300",
]  # fmt: skip
STRATEGIES = {
    "local": ["strategy=local", "strategy/rule=adam", "strategy.held_out.steps=5", *SMALL],
    "amortized": ["strategy=amortized", *SMALL],
    "gmm": ["strategy=gmm", "model.components=5", "strategy.tolerance=0", *SMALL[2:]],
}
# The mixture has no decoder to size and no latent_dim; everything else is as for the others.


def command(directory: Path, *overrides: str) -> list[str]:
    return ["-m", "vem.run", f"hydra.run.dir={directory}", *overrides]


def wait_for(condition: Any, process: Any) -> None:
    deadline = time.monotonic() + 300
    while not condition():
        assert process.poll() is None, "the run ended before it could be stopped"
        assert time.monotonic() < deadline
        time.sleep(0.002)


def start_and_stop(
    warm: Warm, directory: Path, overrides: list[str], number: int, epochs_done: int
) -> subprocess.CompletedProcess[str]:
    """Start a run, send a signal a moment after the checkpoint of some epoch, wait for its end."""
    process = warm.start(*command(directory, *overrides))
    try:
        metrics = directory / METRICS
        wait_for(lambda: metrics.exists() and metrics.read_text().count("\n") > 2 * epochs_done, process)
        process.send_signal(number)
        out, err = process.communicate(timeout=300)
    finally:
        process.kill()
        process.wait()
    return subprocess.CompletedProcess(process.args, process.returncode, out, err)


def evaluation(directory: Path) -> dict[str, Any]:
    return json.loads((directory / EVALUATION).read_text())


@pytest.mark.slow
@pytest.mark.parametrize("name", STRATEGIES)
def test_a_killed_run_resumed_equals_the_uninterrupted_one(name: str, tmp_path: Path, warm: Warm) -> None:
    overrides = [*STRATEGIES[name], "training.epochs=40", "training.records=40", "training.checkpoint_seconds=0"]
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    done = warm.run(*command(whole, *overrides))
    assert done.returncode == 0, done.stderr
    stopped = start_and_stop(warm, killed, overrides, signal.SIGKILL, epochs_done=4)
    assert stopped.returncode == -signal.SIGKILL
    assert json.loads((killed / RUN).read_text())["status"] == "running"
    before = torch.load(killed / CHECKPOINT, weights_only=True)["progress"]["epoch"]
    assert 0 < before < 40
    again = warm.run(*command(killed, *overrides))
    assert again.returncode == 0, again.stderr
    same(final(killed, torch.device("cpu")), final(whole, torch.device("cpu")))
    assert evaluation(killed) == evaluation(whole)
    loaded = vem.load(killed)
    for split in ("train", "test"):
        scores = loaded.score(split, num_data=50, draws=2)
        assert scores.elbo is not None
        assert float(scores.elbo.mean()) == pytest.approx(evaluation(whole)[split]["elbo"]["mean"], rel=1e-12)


@pytest.mark.slow
def test_sigterm_writes_a_checkpoint_and_exits_with_one_message(tmp_path: Path, warm: Warm) -> None:
    overrides = [*STRATEGIES["amortized"], "training.epochs=60", "training.records=60"]
    stopped = start_and_stop(warm, tmp_path / "run", overrides, signal.SIGTERM, epochs_done=3)
    assert stopped.returncode == 1
    assert stopped.stderr.strip().splitlines()[-1].startswith("vem: stopped by SIGTERM in epoch ")
    assert "Traceback" not in stopped.stderr
    progress = torch.load(tmp_path / "run" / CHECKPOINT, weights_only=True)["progress"]
    assert progress["step"] == progress["epoch"] * 3 + progress["batch"] > 0
    status = json.loads((tmp_path / "run" / RUN).read_text())
    assert status["status"] == "running" and status["error"].startswith("stopped by SIGTERM")
    again = warm.run(*command(tmp_path / "run", *overrides))
    whole = warm.run(*command(tmp_path / "whole", *overrides))
    assert again.returncode == whole.returncode == 0, again.stderr
    same(final(tmp_path / "run", torch.device("cpu")), final(tmp_path / "whole", torch.device("cpu")))
    assert evaluation(tmp_path / "run") == evaluation(tmp_path / "whole")


def limited() -> None:
    """In the child: files of 60 kB at the most, and the write fails instead of the process."""
    import resource

    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (60_000, 60_000))


def test_a_disk_that_fills_during_a_checkpoint_is_one_message(tmp_path: Path) -> None:
    """The checkpoint grows with the records: the first ones fit, a later one does not."""
    overrides = [
        "strategy=gmm", "model.components=10", "strategy.tolerance=0", *SMALL[2:], "training.epochs=2000",
        "training.records=2000", "training.checkpoint_seconds=0",
    ]  # fmt: skip
    done = subprocess.run(  # a process whose own limits are set before it starts
        [sys.executable, *command(tmp_path, *overrides)],
        preexec_fn=limited,
        env={**os.environ, "PYTHONDONTWRITEBYTECODE": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1
    last = done.stderr.strip().splitlines()[-1]
    assert last.startswith("vem: ") and "cannot be written: File too large" in last and "Traceback" not in done.stderr
    assert torch.load(tmp_path / CHECKPOINT, weights_only=True)["progress"]["epoch"] > 0
    assert not [p for p in tmp_path.iterdir() if p.name.startswith(".")]
