"""metrics.csv as TensorBoard scalars, read back with TensorBoard's own reader."""

from __future__ import annotations

import csv
import warnings
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from parts import amortized, deep

from vem.cli import messages
from vem.cli.train import execute
from vem.data.blobs import blobs
from vem.errors import VemError
from vem.models.networks import MLPFactory
from vem.storage import identity, records
from vem.strategies.amortized import Mirror
from vem.training import recorder
from vem.training.fit import fit
from vem.training.recorder import FOLDER, PLACES, Recorder
from vem.training.schedules import Constant
from vem.training.settings import Training

needs_tensorboard = pytest.mark.skipif(find_spec("tensorboard") is None, reason="tensorboard is not installed")


def scalars(directory: Path) -> dict[tuple[str, str, int], float]:
    """{(quantity, split, step): value}; fails if a step stands there twice."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of tensorboard's own dependencies
        from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

        found = EventAccumulator(str(directory / FOLDER), size_guidance={"scalars": 0}).Reload()
    out: dict[tuple[str, str, int], float] = {}
    for tag in found.Tags()["scalars"]:
        name, split = tag.rsplit("/", 1)
        for event in found.Scalars(tag):
            assert (name, split, event.step) not in out, f"{tag} twice at step {event.step}"
            out[name, split, event.step] = event.value
    return out


def metrics(directory: Path) -> dict[tuple[str, str, int], float]:
    with (directory / records.METRICS).open(newline="") as file:
        rows = list(csv.DictReader(file))
    return {
        (name, row["split"], int(row["step"])): float(cell)
        for row in rows
        for name, cell in row.items()
        if name not in PLACES and cell
    }


def check_same(directory: Path) -> None:
    found, wanted = scalars(directory), metrics(directory)
    assert found.keys() == wanted.keys()
    assert {name for name, _, _ in found} >= {"elbo", "reconstruction", "kl", "rate", "seconds", "decoder_evaluations"}
    assert {split for _, split, _ in found} == {"train", "valid"}
    for key, value in wanted.items():  # the csv was rounded to nine digits, the event to a float32
        assert abs(found[key] - value) <= 0.5 * float(np.spacing(np.float32(abs(value)))) + 0.51e-8 * abs(value), key


class Dies(Recorder):
    """Ends the process, as far as the loop can tell, after the record of epoch 4 and before its checkpoint."""

    def __call__(self, rows: list[dict[str, Any]]) -> None:
        super().__call__(rows)
        if rows[-1]["epoch"] == 4:
            raise KeyboardInterrupt


def train(directory: Path, kind: type[Recorder]) -> list[dict[str, Any]]:
    """Six epochs of two steps each, a record and a checkpoint in each; returns the records."""
    data = blobs(num=40, num_valid=10, num_test=10, dims=3).to(torch.device("cpu"), torch.float32)
    model = deep((3,), 2, MLPFactory([4]), "gaussian")
    settings = Training(6, 20, 0.01, Constant(), valid_data=10, checkpoint_seconds=0)
    directory.mkdir(exist_ok=True)
    with kind(directory, True) as record:
        return fit(
            model, amortized(Mirror()), data, settings, directory=directory, on_record=record, progress_bar=False
        ).records


@needs_tensorboard
def test_a_killed_run_resumed_writes_no_step_twice(tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt):
        train(tmp_path, Dies)
    assert {step for _, _, step in scalars(tmp_path)} == {2, 4, 6, 8}
    rows = train(tmp_path, Recorder)  # goes on from the checkpoint of epoch 3
    exact = {(k, row["split"], row["step"]): v for row in rows for k, v in row.items() if k not in PLACES}
    assert scalars(tmp_path) == {key: float(np.float32(value)) for key, value in exact.items()}
    assert {step for _, _, step in scalars(tmp_path)} == {2, 4, 6, 8, 10, 12}
    check_same(tmp_path)
    assert len(list((tmp_path / FOLDER).iterdir())) == 1


@needs_tensorboard
def test_the_events_of_a_run_are_its_metrics(tmp_path: Path) -> None:
    small = [
        *("data=blobs", "data.num=40", "data.num_valid=10", "data.num_test=10", "data.dims=3", "latent_dim=2"),
        *("model.decoder.widths=[4]", "training.epochs=3", "progress=false", "tensorboard=true"),
    ]
    config = messages.composed(small)
    execute(config, small, tmp_path / "run")
    check_same(tmp_path / "run")
    plain = messages.composed([*small[:-1], "tensorboard=false"])
    assert identity.config_hash(plain) == identity.config_hash(config)  # no number depends on it
    with pytest.raises(VemError, match=r"tensorboard='on' is of the wrong kind"):
        execute(messages.composed([*small[:-1], "tensorboard='on'"]), small, tmp_path / "other")


def test_a_missing_package_is_met_before_training(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(recorder, "find_spec", lambda name: None)
    with pytest.raises(VemError, match=r"tensorboard=true needs .*pip install 'vem\[tensorboard\]'"):
        Recorder(tmp_path, tensorboard=True)
    rows: list[dict[str, Any]] = [{"epoch": 1, "step": 3, "split": "train", "elbo": -1.5, "seconds": 0.1}]
    with Recorder(tmp_path) as record:
        record(rows)
    assert metrics(tmp_path) == {("elbo", "train", 3): -1.5, ("seconds", "train", 3): 0.1}
