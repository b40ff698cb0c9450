"""Runs with a file that was cut, swapped or lost: no number of it is used, and the message's remedy mends it."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import torch
import yaml
from cli_support import TINY, contents, killed_after

import vem
from vem.cli import messages
from vem.errors import VemError
from vem.storage import records, sealing

pytestmark = pytest.mark.usefixtures("composed_once")

COMMAND = (*TINY, "latent_dim=3", "evaluation.num_data=5")


def start(directory: Path, *overrides: str) -> None:
    """``python -m vem.run``, without the detour over a terminal."""
    from vem.cli import train

    train.execute(messages.composed([*COMMAND, *overrides]), [*COMMAND], directory)


def measure(directory: Path, *overrides: str, again: bool = False) -> None:
    from vem.cli.evaluate import evaluate

    evaluate(directory, [*overrides, "progress=false"], again)


@pytest.fixture(scope="module")
def originals(tmp_path_factory: pytest.TempPathFactory, composed_once: None) -> dict[str, Path]:
    """Two runs of two seeds."""
    folder = tmp_path_factory.mktemp("originals")
    with pytest.MonkeyPatch.context() as patch:
        from vem.cli import train

        patch.setattr(train, "draw_run", lambda directory: [])
        for seed in (0, 1):
            start(folder / str(seed), f"seed={seed}")
    return {name: folder / name for name in ("0", "1")}


@pytest.fixture
def run(originals: dict[str, Path], here: Path) -> Path:
    return Path(shutil.copytree(originals["0"], here / "run"))


def whole(run: Path) -> bool:
    return not sealing.damage(run, records.read_json(run / records.RUN), deep=True)


@pytest.mark.parametrize("name", [records.CONFIG, records.METRICS, records.EVALUATION, records.RUN, records.CHECKPOINT])
def test_a_finished_run_is_left_alone_only_where_it_is_whole(run, originals, name):
    """Swapped with the file of another seed: a plausible file, and other numbers. Both remedies work."""
    before = contents(run)
    start(run)
    assert contents(run) == before
    shutil.copy(originals["1"] / name, run / name)
    if name == records.CHECKPOINT:  # a run that is left alone reads none: the size tells
        (run / name).write_bytes((run / name).read_bytes() + b"\0")
    swapped = contents(run)
    with pytest.raises(VemError, match="is not this run's any more") as error:
        start(run)
    assert contents(run) == swapped
    named = records.CONFIG if name == records.RUN else name  # whose files are another's
    assert str(run / named) in str(error.value)
    if name == records.EVALUATION:
        assert f"python -m vem.evaluate {run} --again" in str(error.value)
        measure(run, again=True)
        assert (run / name).read_bytes() == before[name]
    else:
        assert "rerun=stale" in str(error.value)
        start(run, "rerun=stale")
        assert (run / records.ASIDE / "001" / name).read_bytes() == swapped[name]
    assert whole(run)
    start(run)


def test_a_damaged_run_json_is_put_aside(run):
    text = (run / records.RUN).read_text()
    for broken in (text[: len(text) // 2], "", text.replace('"seed": 0', '"seed": 1'), "[]"):
        (run / records.RUN).write_text(broken)
        with pytest.raises(VemError, match=r"run\.json"):
            start(run)
        with pytest.raises(VemError, match=r"run\.json"):
            vem.load(run)
    start(run, "rerun=stale")
    assert whole(run)


def test_a_swapped_checkpoint_of_the_same_config_is_seen(run):
    """The hash of the config in it is the right one, and so is its size."""
    state = torch.load(run / records.CHECKPOINT, weights_only=True)
    next(iter(state["model"].values())).add_(1.0)
    torch.save(state, run / records.CHECKPOINT)
    with pytest.raises(VemError, match=r"checkpoint\.pt is not this run's any more"):
        vem.load(run)
    with pytest.raises(VemError, match=r"checkpoint\.pt is not this run's any more"):
        measure(run, "evaluation.num_data=6")


def test_a_repeat_of_a_run_that_was_swapped(run, originals):
    """Its folder was renamed, or another one put in its place: the numbers would be another run's."""
    (run.parent / "job").mkdir()
    status = {
        "status": records.REPEATS,
        "repeats": "run",
        "config_hash": records.read_json(run / records.RUN)["config_hash"],
    }
    sealing.write_run(run.parent / "job", status)
    assert vem.load(run.parent / "job").directory == run
    shutil.rmtree(run)
    shutil.copytree(originals["1"], run)
    with pytest.raises(VemError, match="that is one of another config"):
        vem.load(run.parent / "job")


def test_what_load_does_not_read_does_not_matter(run):
    for name in (records.EVALUATION, records.METRICS, records.PER_DATUM):
        (run / name).unlink()
    assert vem.load(run).score("test").elbo.isfinite().all()


def test_overrides_of_another_run_are_not_obeyed(run):
    (run / records.OVERRIDES).write_text(yaml.safe_dump(["evaluation=full"]))
    with pytest.raises(VemError, match=r"overrides\.yaml is not this run's any more"):
        measure(run)


@pytest.mark.parametrize("written", [1, 3])
def test_a_measurement_killed_between_its_files_is_mended_by_the_same_command(run, monkeypatch, written):
    """After pictures.npz, per_datum.csv or evaluation.json: the same command typed again, or any other one."""
    other = ("evaluation.num_data=6",)
    shutil.copytree(run, "expected")
    measure(Path("expected"), *other)
    expected, before = contents(Path("expected")), contents(run)
    with monkeypatch.context() as patch:
        killed_after(patch, written, lambda path: path.name in sealing.MEASURED or path.name == records.RUN)
        with pytest.raises(KeyboardInterrupt):
            measure(run, *other)
    assert not whole(run)
    shutil.copytree(run, "back")
    measure(run, *other)
    after = contents(run)
    for name in (records.EVALUATION, records.PER_DATUM, f"{records.EARLIER}/001/{records.EVALUATION}"):
        assert after[name] == expected[name]
    assert whole(run) and [path.name for path in (run / records.EARLIER).iterdir()] == ["001"]
    # The earlier settings again: they are not taken for measured, because two files are of the new ones.
    measure(Path("back"))
    assert (Path("back") / records.EVALUATION).read_bytes() == before[records.EVALUATION] and whole(Path("back"))


def test_a_call_of_vem_measure_that_was_killed(here, monkeypatch):
    monkeypatch.setattr("vem.external.measurement.draw_run", lambda directory: None)
    decoder = torch.nn.Linear(2, 3)
    x = torch.arange(12.0).reshape(4, 3)

    def call(num: int) -> vem.external.measurement.Measurement:
        return vem.measure(decoder, x=x, likelihood="gaussian", scale=1.0, latent_dim=2, directory="d", progress=False,
                           evaluation=["evaluation=quick", f"evaluation.num_data={num}"])  # fmt: skip

    def stop(*given: object) -> None:
        raise KeyboardInterrupt

    first = call(2)
    assert call(2).facts == first.facts and whole(Path("d"))
    with monkeypatch.context() as patch:
        patch.setattr(sealing, "write_run", stop)
        with pytest.raises(KeyboardInterrupt):
            call(3)
    assert not whole(Path("d"))
    again = call(3)
    assert again.facts["config_hash"] != first.facts["config_hash"] and whole(Path("d"))
    assert again.evaluation == records.read_json(Path("d") / records.EVALUATION)
