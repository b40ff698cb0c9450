"""A run and its data: other ones are refused with both digests, and those of a project that was moved are found."""

from __future__ import annotations

import logging
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from cli_support import contents

import vem
from vem.cli import messages
from vem.config import moved
from vem.errors import VemError
from vem.storage import records, same_data, sealing
from vem.training.signals import InterruptedRun

pytestmark = pytest.mark.usefixtures("composed_once")

MODULE = """
import numpy as np
import torch
from vem.data.dataset import Data, Split

def measured(path="values.npy", labelled=False):
    x = torch.from_numpy(np.load(path))
    labels = torch.from_numpy(np.load("labels.npy")) if labelled else None
    parts = [Split(x[a:b], None if labels is None else labels[a:b]) for a, b in ((0, 40), (40, 50), (50, 60))]
    return Data("measured", *parts, "real")

def of_folder(root="."):
    return measured(f"{root}/values.npy")
"""
NETWORK = ("latent_dim=2", "model.decoder.widths=[4]", "training.epochs=2", "training.batch_size=20", "progress=false",
           "evaluation.num_data=5", "device=cpu")  # fmt: skip
OWN = ("data._target_=measured_module.measured", "allow_targets=[measured_module]", *NETWORK)
ARRAY = ("data=array", "data.path=data/x.npy", *NETWORK)


def values(scale: float = 1.0) -> Any:
    return (scale * np.random.default_rng(0).normal(size=(60, 3))).astype(np.float32)


def start(directory: str, *overrides: str) -> None:
    from vem.cli import train

    config = messages.composed([o for o in overrides if not o.startswith("data.") or o.startswith("data.path")])
    if any(o.startswith("data._target_") for o in overrides):  # its section has no default to be composed from
        given = dict(o.removeprefix("data.").split("=") for o in overrides if o.startswith("data."))
        config["data"] = {key: yaml.safe_load(value) for key, value in given.items()}
    train.execute(config, list(overrides), Path(directory).absolute())


def measure(directory: str, *overrides: str) -> None:
    from vem.cli.evaluate import evaluate

    evaluate(Path(directory), [*overrides, "evaluation=quick", "evaluation.num_data=6", "progress=false"])


@pytest.fixture
def own(here: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.syspath_prepend(str(here))
    (here / "measured_module.py").write_text(MODULE)
    np.save("values.npy", values())
    np.save("labels.npy", np.arange(60) % 4)
    return here


@pytest.fixture(autouse=True)
def told(caplog: pytest.LogCaptureFixture) -> pytest.LogCaptureFixture:
    caplog.set_level(logging.INFO, "vem")
    return caplog


def status(directory: str) -> dict[str, Any]:
    return records.read_json(Path(directory) / records.RUN)


# --- other data


def test_the_file_of_an_own_data_set_changes(own, told):
    """The issue's example: x in other units under the same name."""
    start("r", *OWN)
    recorded = status("r")[same_data.KEY]
    assert recorded["test"]["shape"] == [10, 3] and recorded["train"]["labels"] is None
    assert len(recorded["train"]["moments"]["mean"]) == 3
    before = contents(own / "r")
    elbo = vem.load("r").score("test").elbo
    np.save("values.npy", values(10))
    x = {"test": vem.config.build.make_data({"_target_": "measured_module.measured"}).test.x}
    now = same_data.digests(vem.config.build.make_data({"_target_": "measured_module.measured"}))["test"]["x"]
    for call in (lambda: vem.load("r"), lambda: measure("r")):
        with pytest.raises(VemError, match="not the data of this run") as error:
            call()
        assert recorded["test"]["x"][:12] in str(error.value) and now[:12] in str(error.value)
        assert "other_data=True" in str(error.value) and "data=PATH" not in str(error.value)  # it takes none
    assert contents(own / "r") == before
    assert vem.load("r", other_data=True).data.test.x.equal(x["test"])
    told.clear()
    start("r", *OWN)  # it is finished, and stays so
    assert "not the data of this run" in told.text and "rerun=stale" in told.text and "left alone" in told.text
    assert contents(own / "r") == before
    start("r", *OWN, "rerun=stale")
    assert status("r")[same_data.KEY]["test"]["x"] == now and (own / "r" / records.ASIDE / "001").is_dir()
    np.save("values.npy", values())
    assert vem.load("r/earlier/001").score("test").elbo.equal(elbo)


def test_labels_alone_and_order_alone(own):
    start("r", *OWN, "data.labelled=true")
    np.save("labels.npy", np.arange(60) % 3)
    with pytest.raises(VemError, match="train labels have the digest") as error:
        vem.load("r")
    assert "train x" not in str(error.value)
    np.save("labels.npy", np.arange(60) % 4)
    np.save("values.npy", values()[::-1].copy())
    with pytest.raises(VemError, match="train x has the digest"):
        vem.load("r")


def test_data_that_are_equal_to_rounding_are_a_note(own, told):
    start("r", *OWN)
    np.save("values.npy", np.nextafter(values(), np.float32(9)))
    assert vem.load("r").score("test").elbo.isfinite().all()
    assert "x (train, valid, test) is equal to rounding" in told.text
    np.save("values.npy", values().astype(np.float64))
    vem.load("r")


def stopped(directory: str, *overrides: str) -> None:
    """A run that was interrupted after its training."""
    from vem.cli import measure

    def stop(*given: Any) -> Any:
        raise InterruptedRun("stopped by SIGTERM")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(measure, "measure", stop)
        with pytest.raises(InterruptedRun):
            start(directory, *overrides)


def test_an_unfinished_run_goes_on_on_its_data_alone(own):
    stopped("r", *OWN)
    assert status("r")["status"] == "running" and status("r")[same_data.KEY]["test"]["shape"] == [10, 3]
    recorded = status("r")[same_data.KEY]
    np.save("values.npy", values(2))
    for _ in range(2):  # a second start still knows
        with pytest.raises(VemError, match=r"train x has the digest \w+, and had \w+.*rerun=stale"):
            start("r", *OWN)
        assert status("r")[same_data.KEY] == recorded
    shutil.copytree("r", "again")
    np.save("values.npy", values())
    start("r", *OWN)
    np.save("values.npy", values(2))
    start("again", *OWN, "rerun=stale")
    assert [status(r)["status"] for r in ("r", "again")] == ["done", "done"]
    assert status("r")[same_data.KEY] == recorded != status("again")[same_data.KEY]


def test_what_failed_before_it_had_computed_anything_takes_other_data(own):
    np.save("values.npy", np.full((60, 3), np.nan, np.float32))
    with pytest.raises(VemError, match="NaN"):
        start("r", *OWN)
    np.save("values.npy", values())
    start("r", *OWN)
    assert status("r")["status"] == "done"


def test_a_run_from_before_loads_as_it_did(own):
    start("r", *OWN)
    old = {key: value for key, value in sealing.unsealed(status("r")).items() if key not in ("paths", same_data.KEY)}
    records.write_json(own / "r" / records.RUN, old)
    vem.load("r")
    np.save("values.npy", values(2))
    vem.load("r")
    start("r", *OWN)


def test_arguments_of_an_own_data_set_are_settings(own):
    start("r", *OWN)
    with pytest.raises(VemError, match=r"\+data.labelled=True"):
        start("r", *OWN, "data.labelled=true")


# --- moved projects


@pytest.fixture
def project(here: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A run of a file below a project that has since moved; the working directory is another one."""
    old = here / "old" / "project"
    (old / "data").mkdir(parents=True)
    monkeypatch.chdir(old)
    np.save("data/x.npy", values())
    start("runs/r", *ARRAY)
    assert status("runs/r")[moved.KEY] == {"data.path": "data/x.npy", "run": "runs/r"}
    (here / "new").mkdir()
    (here / "elsewhere").mkdir()
    monkeypatch.chdir(here / "elsewhere")
    return Path(shutil.move(here / "old" / "project", here / "new" / "project"))


def test_paths_are_recorded_as_typed(here):
    """Also of a job of a sweep, which is given absolute ones; quotes of the command line are none of the path's."""
    section = {"path": str(here / "my data" / "x.npy"), "root": None}
    overrides = ["data=array", "data.path='my data/x.npy'", "seed=0"]
    assert moved.typed(section, overrides, here / "runs" / "r") == {"data.path": "my data/x.npy", "run": "runs/r"}
    assert moved.typed(section, [], here)["data.path"] == section["path"]


def test_where_data_are_looked_for(here):
    found = [str(path) for path in moved.candidates("/home/me/p/data/x.npy", "data/x.npy", Path("/new/p/runs/r"))]
    assert found[0] == "/home/me/p/data/x.npy" and found[1] == str(here / "data" / "x.npy")
    assert found[2:6] == ["/new/p/runs/data/x.npy", "/new/p/data/x.npy", "/new/data/x.npy", "/data/x.npy"]
    assert {"/new/p/x.npy", "/new/me/p/data/x.npy"} <= set(found) and len(found) == len(set(found))


def test_paths_of_another_machine(here, monkeypatch):
    """Another user's home, the own one elsewhere, and Windows."""
    monkeypatch.setenv("HOME", "/Users/me")

    def found(recorded: str, typed: str) -> list[str]:
        return [str(path) for path in moved.candidates(recorded, typed, Path("/new/p/runs/r"))]

    assert found("/home/me/d/x.npy", "~/d/x.npy")[:2] == ["/home/me/d/x.npy", "/Users/me/d/x.npy"]
    assert "/new/p/d/x.npy" in found("/home/her/d/x.npy", "~nobody_of_here/d/x.npy")
    assert "/new/p/data/x.npy" in found(r"C:\Users\me\p\data\x.npy", r"data\x.npy")


@pytest.mark.parametrize("override", ["~data.path", "data.path=", "data.path='~nobody_of_here/x.npy'"])
def test_no_place_at_all(project, override):
    with pytest.raises(VemError, match=r"names no place|no such file or folder"):
        measure(str(project / "runs" / "r"), override)


def test_a_project_that_moved(project, monkeypatch):
    run = vem.load(project / "runs" / "r")
    assert run.config["data"]["path"] == str(project / "data" / "x.npy")
    measure(str(project / "runs" / "r"))
    before = contents(project / "runs" / "r")
    monkeypatch.chdir(project)
    start("runs/r", *ARRAY)  # the same command again finds it finished
    assert contents(project / "runs" / "r") == before


def test_a_run_that_came_home_without_its_project(project, here):
    """The part of the path that fits, below a parent folder of the run; a file of another content is passed over."""
    home = here / "home"
    (home / "data").mkdir(parents=True)
    (home / "cluster" / "data").mkdir(parents=True)
    shutil.move(project / "runs", home / "cluster" / "runs")
    shutil.move(project / "data" / "x.npy", home / "data" / "x.npy")
    np.save(home / "cluster" / "data" / "x.npy", values(2))
    assert vem.load(home / "cluster" / "runs" / "r").config["data"]["path"] == str(home / "data" / "x.npy")


def test_a_file_that_is_told(project, here):
    shutil.move(project / "data" / "x.npy", here / "renamed.npy")
    with pytest.raises(VemError, match="not found") as error:
        vem.load(project / "runs" / "r")
    said = str(error.value)
    assert str(here / "old" / "project" / "data" / "x.npy") in said and str(project / "data" / "x.npy") in said
    assert "data=PATH" in said and "data.path=PATH" in said
    assert vem.load(project / "runs" / "r", data=here / "renamed.npy").score("test").elbo.isfinite().all()
    measure(str(project / "runs" / "r"), f"data.path={here / 'renamed.npy'}")
    measure(str(project / "runs" / "r"), "data.path=../renamed.npy")
    np.save("other.npy", values(2))
    with pytest.raises(VemError, match=r"other\.npy has changed") as error:
        vem.load(project / "runs" / "r", data="other.npy")
    assert status(str(project / "runs" / "r"))[same_data.KEY]["test"]["x"]
    assert vem.load(project / "runs" / "r", data="other.npy", other_data=True).data.test.x.shape == (6, 3)
    with pytest.raises(VemError, match="no such file or folder"):
        vem.load(project / "runs" / "r", data="nowhere.npy")


def test_an_older_run_by_the_hash_of_its_file(project):
    path = project / "runs" / "r"
    old = {k: v for k, v in sealing.unsealed(status(str(path))).items() if k not in (moved.KEY, same_data.KEY)}
    records.write_json(path / records.RUN, old)
    assert vem.load(path).config["data"]["path"] == str(project / "data" / "x.npy")


def test_a_folder_of_data(own, monkeypatch):
    """data.root has no hash of its own: the digests of what is read from it tell."""
    command_line = ("data._target_=measured_module.of_folder", "data.root=sets", *OWN[1:])
    (own / "old" / "sets").mkdir(parents=True)
    shutil.copy("values.npy", "old/sets/values.npy")
    monkeypatch.chdir(own / "old")
    start("runs/r", *command_line)
    (own / "new" / "sets").mkdir(parents=True)
    shutil.move(own / "old", own / "new" / "project")
    np.save(own / "new" / "sets" / "values.npy", values(2))  # of other content: passed over
    monkeypatch.chdir(own / "new")
    (own / "sets").mkdir()  # empty, and passed over
    run = vem.load("project/runs/r")
    assert run.config["data"]["root"] == str(own / "new" / "project" / "sets")
    shutil.move(own / "new" / "project" / "sets", own / "renamed")
    measure("project/runs/r", "data.root=../renamed")
    assert vem.load("project/runs/r", data="../renamed").data.test.x.equal(run.data.test.x)
    with pytest.raises(VemError, match="not the data of this run"):
        vem.load("project/runs/r", data="sets")
    monkeypatch.chdir(own)
    shutil.move(own / "renamed", own / "new" / "project" / "sets")
    monkeypatch.chdir(own / "new" / "project")
    before = contents(Path("runs/r"))
    start("runs/r", *command_line)
    assert contents(Path("runs/r")) == before


def test_an_own_module_that_cannot_be_imported_from_here(own, monkeypatch, tmp_path_factory):
    import sys

    start("r", *OWN)
    monkeypatch.chdir(tmp_path_factory.mktemp("elsewhere"))
    monkeypatch.setattr(sys, "path", [place for place in sys.path if place not in ("", str(own))])
    monkeypatch.delitem(sys.modules, "measured_module")
    with pytest.raises(VemError, match=r"measured_module.*cannot be imported.*working directory"):
        vem.load(own / "r")
