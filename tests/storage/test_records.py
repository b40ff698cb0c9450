"""The run directory: atomic writes, numbers that are not finite, the config hash."""

from __future__ import annotations

import csv
import errno
import json
import math
import os
import pickle
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from vem.errors import BadArgument, VemError, at_least, choice, did_you_mean
from vem.storage import identity, records


def test_a_write_that_fails_leaves_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "run.json"
    records.write_json(path, {"a": 1})

    def full(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(
        VemError, match=r"the disk is full: .*run\.json was not written \(the earlier version is kept\)"
    ):
        records.write_json(path, {"a": 2})
    assert records.read_json(path) == {"a": 1}
    assert [p.name for p in tmp_path.iterdir()] == ["run.json"]
    with pytest.raises(VemError, match="nothing was overwritten"):
        records.write_json(tmp_path / "new.json", {})


def test_an_error_inside_the_block_leaves_no_temporary_file(tmp_path: Path) -> None:
    def half(path: Path) -> None:
        with records.replacing(path) as temporary:
            temporary.write_text("half")
            assert temporary.suffix == ".npz"
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        half(tmp_path / "a.npz")
    assert list(tmp_path.iterdir()) == []


def test_an_unwritable_folder_is_one_message(tmp_path: Path) -> None:
    blocker = tmp_path / "file"
    blocker.write_text("")
    with pytest.raises(VemError, match=r"cannot be written: .*hydra\.run\.dir=DIR"):
        records.write_text(blocker / "x.txt", "a")


def test_json_holds_no_nan(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="Out of range float"):
        records.write_json(tmp_path / "a.json", {"a": math.nan})
    records.write_json(tmp_path / "a.json", {"a": records.number(math.nan), "b": records.number(None, "no density")})
    content = json.loads((tmp_path / "a.json").read_text())
    assert content == {
        "a": {"value": None, "reason": "the number is nan"},
        "b": {"value": None, "reason": "no density"},
    }


@pytest.mark.parametrize(
    ("text", "message"), [(None, "is missing"), ("{half", "not readable JSON"), ("[1]", "holds list")]
)
def test_broken_json_is_one_message(text: str | None, message: str, tmp_path: Path) -> None:
    if text is not None:
        (tmp_path / "run.json").write_text(text)
    with pytest.raises(VemError, match=message):
        records.read_json(tmp_path / "run.json")


def test_csv_takes_the_columns_of_all_rows(tmp_path: Path) -> None:
    records.write_csv(tmp_path / "m.csv", [{"a": 1, "b": 1 / 3}, {"a": 2, "c": math.nan, "d": None}])
    with open(tmp_path / "m.csv", newline="") as f:
        assert list(csv.DictReader(f)) == [
            {"a": "1", "b": "0.333333333", "c": "", "d": ""},
            {"a": "2", "b": "", "c": "", "d": ""},
        ]


def test_the_hash_covers_what_the_numbers_depend_on() -> None:
    config = {
        "data": {"root": "/a", "num": 5}, "model": {"latent_dim": 2}, "strategy": {"e_steps": 1},
        "training": {"epochs": 3, "checkpoint_seconds": 30}, "evaluation": {"draws": 1}, "seed": 0, "dtype": "float32",
        "device": "cpu", "latent_dim": 2, "progress": True, "threads": 1,
    }  # fmt: skip
    digest = identity.config_hash(config)
    same = [
        {"data": {"root": "/b", "num": 5}}, {"device": "cuda"}, {"threads": 2}, {"latent_dim": 9}, {"progress": False},
        {"training": {"epochs": 3, "checkpoint_seconds": 0}},
    ]  # fmt: skip
    other = [
        {"data": {"root": "/a", "num": 6}}, {"model": {"latent_dim": 3}}, {"strategy": {"e_steps": 2}}, {"seed": 1},
        {"dtype": "float64"}, {"training": {"epochs": 4, "checkpoint_seconds": 30}}, {"evaluation": {"draws": 2}},
    ]  # fmt: skip
    assert {identity.config_hash({**config, **change}) for change in same} == {digest}
    assert len({digest, *(identity.config_hash({**config, **change}) for change in other)}) == 1 + len(other)


@pytest.mark.parametrize(
    ("said", "chosen", "before", "expected"),
    [
        ("path", "auto", False, "path"),
        ("objective", "auto", False, "reparameterized"),
        (None, "auto", False, "path"),  # a yaml of one's own without the key trains as it did
        (None, "reparameterized", True, "reparameterized"),  # as a run of now wrote it
        ("path", "reparameterized", False, "reparameterized"),
        ("path", "reparameterized", True, "path"),
        ("objective", "path", True, "path"),
    ],
)
def test_the_gradient_of_local_is_the_one_that_it_was(said, chosen, before, expected) -> None:
    strategy = {"_target_": identity.LOCAL, "objective": {"gradient": chosen}} | ({"gradient": said} if said else {})
    settled = identity.settled({"strategy": strategy}, before)
    kept = {"gradient": said} if chosen == "path" else {}  # for the hash
    assert settled == {"strategy": {"_target_": identity.LOCAL, "objective": {"gradient": expected}} | kept}
    assert identity.settled(settled, before=True) == identity.settled(settled) == settled


@pytest.mark.parametrize("error", [BadArgument("steps", "=0 is too small."), records.Unwritable("no.", full=True)])
def test_an_error_reaches_another_process_whole(error: VemError) -> None:
    copy = pickle.loads(pickle.dumps(error))
    assert type(copy) is type(error) and str(copy) == str(error) and vars(copy) == vars(error)


def test_records_and_errors_need_no_torch() -> None:
    code = "import sys, vem.storage.records; sys.exit('torch' in sys.modules or not {*vem.__all__} <= {*dir(vem)})"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_refusals_name_the_place_and_the_remedy() -> None:
    with pytest.raises(VemError, match=r"training\.epochs=0 is too small: it must be at least 1"):
        at_least(0, 1, "training.epochs")
    with pytest.raises(VemError, match="nan is too small"):
        at_least(math.nan, 1, "training.epochs")
    with pytest.raises(VemError, match=r"did you mean 'local'\? Choose one of: local, gmm"):
        choice("locl", ["local", "gmm"], "strategy")
    assert "local" in did_you_mean("locl", ["local", "gmm"]) and "local" not in did_you_mean("zebra", ["local"])


def test_what_is_not_hashed_names_no_folder():
    """Else a sweep that is typed again with another value of it would begin again, in folders of other names."""
    content = yaml.safe_load((Path(__file__).parents[2] / "conf" / "config.yaml").read_text(encoding="utf-8"))
    naming = content["hydra"]["job"]["config"]["override_dirname"]
    assert set(identity.NOT_HASHED) <= set(naming["exclude_keys"])


def test_what_a_killed_writer_left_is_cleared_away_and_nothing_else(tmp_path):
    kept = (".report.json", ".hidden", "run.json", ".a.b", "metrics.12.csv", ".sweep.json")
    for name in (*kept, ".run.123.json", ".checkpoint.9.pt", ".claim.77", ".x.y.4.png"):
        (tmp_path / name).write_text("")
    (tmp_path / ".report.host.12").mkdir()  # a report that is being written
    records.clear_leftovers(tmp_path, tmp_path / "not there")
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted((*kept, ".report.host.12"))
