"""``python -m vem.evaluate RUN --out DIR``: a run that cannot be written, or other data, measured beside it."""

from __future__ import annotations

import errno
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from cli_support import contents, killed_after
from read_only import refusing

import vem
from vem.cli import messages
from vem.cli.evaluate import evaluate, parse
from vem.errors import VemError
from vem.report.summary import summarize, write_report
from vem.storage import records, sealing

pytestmark = pytest.mark.usefixtures("composed_once")

COMMAND = ("data=array", "data.path=x.npy", "latent_dim=2", "model.decoder.widths=[4]", "training.epochs=2",
           "training.batch_size=20", "progress=false", "evaluation.num_data=5", "device=cpu")  # fmt: skip
OTHER = ("evaluation=quick", "evaluation.num_data=6", "progress=false")


def values(scale: float = 1.0) -> Any:
    return (scale * np.random.default_rng(0).normal(size=(60, 3))).astype(np.float32)


@pytest.fixture(scope="module")
def originals(tmp_path_factory: pytest.TempPathFactory, composed_once: None) -> Path:
    """Runs of two seeds, and their data."""
    from vem.cli import train

    folder = tmp_path_factory.mktemp("originals")
    np.save(folder / "x.npy", values())
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setattr(train, "draw_run", lambda directory: [])
        for seed in (0, 1):
            train.execute(messages.composed([*COMMAND, f"seed={seed}"]), [*COMMAND], folder / "runs" / str(seed))
    return folder


@pytest.fixture
def run(originals: Path, here: Path) -> Path:
    shutil.copytree(originals, here, dirs_exist_ok=True)
    return Path("runs/0")


@pytest.mark.parametrize("number", [errno.EROFS, errno.EACCES, errno.ENOSPC])
def test_a_run_that_cannot_be_written(run, number, monkeypatch):
    """Said before anything is measured; written beside it, the numbers are those that would stand in it."""
    from vem.cli import measure

    shutil.copytree(run, "expected")
    evaluate(Path("expected"), OTHER)
    before = contents(run)
    with refusing(run, number):
        with monkeypatch.context() as patch:
            patch.setattr(measure, "measure", lambda *given: pytest.fail("measured first"))
            with pytest.raises(VemError, match="--out DIR") as error:
                evaluate(run, OTHER)
        assert str(run) in str(error.value) and "hydra.run.dir" not in str(error.value)
        assert ("disk is full" in str(error.value)) is (number == errno.ENOSPC)
        evaluate(run, ["evaluation.num_data=5", "progress=false"])  # as it is measured: nothing is written
        evaluate(run, OTHER, out=Path("beside"))
        assert contents(run) == before
        assert (Path("beside") / records.EVALUATION).read_bytes() == (
            Path("expected") / records.EVALUATION
        ).read_bytes()
        made = contents(Path("beside"))
        evaluate(run, OTHER, out=Path("beside"))
        assert contents(Path("beside")) == made
    status = records.read_json(Path("beside") / records.RUN)
    assert status["status"] == "done" and not sealing.damage(Path("beside"), status, deep=True)
    assert not (Path("beside") / records.CHECKPOINT).exists()


def test_it_is_no_second_seed(run):
    """One row for each seed; the number is that of the later measurement. So it is without the run's own folder."""
    own = summarize([Path("runs")]).set_index("seed")
    evaluate(run, ["evaluation.draws=20", "evaluation.num_data=5", "progress=false"], out=Path("beside"))
    rows = summarize([Path("runs"), Path("beside")]).set_index("seed")
    assert list(rows.index) == [0, 1] and list(rows["directory"]) == ["beside", "runs/1"]
    measured = records.read_json(Path("beside") / records.EVALUATION)["test"]["elbo"]["mean"]
    assert rows.loc[0, "test_elbo"] == measured != own.loc[0, "test_elbo"]
    assert rows.loc[1, "test_elbo"] == own.loc[1, "test_elbo"]
    alone = summarize([Path("beside"), Path("runs/1")])
    assert list(alone["seed"]) == [0, 1] and alone["table"].nunique() == 1 and alone["variant"].nunique() == 1
    assert "2 seeds" in write_report([Path("runs"), Path("beside")], Path("out"))


@pytest.mark.parametrize("out", ["runs/0", "runs/0/beside", "runs", ".", "full", "runs/1", "runs/1/beside"])
def test_folders_that_it_does_not_take(run, here, out):
    (here / "full").mkdir()
    (here / "full" / "thesis.tex").write_text("")
    before = contents(here)
    with pytest.raises(VemError, match=f"--out {out}: "):
        evaluate(run, OTHER, out=Path(out))
    assert contents(here) == before


def test_a_measurement_beside_is_no_run_to_load(run):
    evaluate(run, OTHER, out=Path("beside"))
    with pytest.raises(VemError, match=r"beside holds a measurement of .*runs/0, and no model"):
        vem.load("beside")
    with pytest.raises(VemError, match="that is the folder of another run"):
        evaluate(Path("runs/1"), OTHER, out=Path("beside"))
    (Path("beside") / records.EVALUATION).write_text("{}")
    (sentence,) = sealing.damage(Path("beside"), records.read_json(Path("beside") / records.RUN))
    assert "vem.evaluate" in sentence and "--out beside" in sentence


@pytest.mark.parametrize("written", [1, 4, 6])
def test_one_that_was_killed_is_mended_by_the_same_command(run, monkeypatch, written):
    evaluate(run, OTHER, out=Path("expected"))
    with monkeypatch.context() as patch:
        killed_after(patch, written)
        with pytest.raises(KeyboardInterrupt):
            evaluate(run, OTHER, out=Path("beside"))
    assert not (Path("beside") / records.RUN).exists()
    evaluate(run, OTHER, out=Path("beside"))
    expected, made = contents(Path("expected")), contents(Path("beside"))
    assert expected.keys() == made.keys() and expected[records.EVALUATION] == made[records.EVALUATION]


@pytest.mark.parametrize(
    "words", ["r a=1 b=2 --out d --again", "r --out d a=1 --again b=2", "--again r --out d a=1 b=2"]
)
def test_flags_stand_anywhere(words):
    given = parse(words.split())
    assert (given.run, given.overrides, given.again, given.out) == (Path("r"), ["a=1", "b=2"], True, Path("d"))


def test_other_data(run):
    before = contents(run)
    np.save("x.npy", values(2))
    with pytest.raises(VemError, match="--other-data needs --out"):
        evaluate(run, OTHER, other_data=True)
    here = (*OTHER, "evaluation.num_data=5", "data.path=x.npy")
    with pytest.raises(VemError, match=r"has changed since.*--other-data --out DIR"):
        evaluate(run, here, out=Path("beside"))
    given = parse([str(run), *here, "--other-data", "--out", "beside"])
    evaluate(given.run, given.overrides, given.again, given.out, given.other_data)
    first = records.read_json(Path("beside") / records.EVALUATION)
    np.save("x.npy", values(3))
    evaluate(run, here, out=Path("beside"), other_data=True)  # not left alone
    assert first["test"]["elbo"] != records.read_json(Path("beside") / records.EVALUATION)["test"]["elbo"]
    assert contents(run) == before
    rows = summarize([Path("runs"), Path("beside")])
    assert len(rows) == 3 and rows["table"].nunique() == 2  # it takes no run's place, and stands in no table of theirs
    status = records.read_json(Path("beside") / records.RUN)
    assert "not trained on" in status["notes"][-1]
    assert status["data_digests"] != records.read_json(run / records.RUN)["data_digests"]
