"""Runs are paired and pooled where they saw the same data; other data, and other code, are said."""

from __future__ import annotations

import hashlib

import numpy as np
import pytest
from synthetic_runs import report_text, write_scored

from vem.report.gather import gather
from vem.report.read import findings
from vem.report.summary import terminal

OLD, NEW = "test", "other test"


def entry(content, shift=0.0, num=40):
    """A split's part of run.json's data_digests: of data named by ``content``, moved a little."""
    x = np.random.default_rng(len(content)).normal(3, 1, (40, 2)) + shift
    moments = {"mean": x.mean(0).tolist(), "sd": x.std(0).tolist(), "signed": x[::2].mean(0).tolist()}
    moments |= dict(zip(("q25", "q75"), np.quantile(x, (0.25, 0.75), axis=0).tolist(), strict=True))
    found = hashlib.sha256(f"{content}{shift}".encode()).hexdigest()
    return {"x": found, "labels": None, "shape": [num, 2], "dtype": "float32", "moments": moments}


def data(test=OLD, train="train", **more):
    return {"train": entry(train), "valid": entry("valid"), "test": entry(test, **more)}


def code(content):
    return {"modules": {"mynets": hashlib.sha256(content.encode()).hexdigest()}, "packages": {}}


def write(directory, strategy="local", seed=0, mean=-100.0, config=None, **facts):
    rng = np.random.default_rng(seed)
    scores = {split: rng.normal(mean, 1, 40) for split in ("train", "test")}
    facts = {"data": "mine", **facts}
    return write_scored(directory, scores, strategy=strategy, seed=seed, config=config, **facts)


def tables(root):
    return {table.name: table.groups.set_index("label") for table in findings([root]).tables}


def test_other_data_of_one_name_are_never_paired(tmp_path):
    """The user's file was changed between two runs: all of the lead was the units."""
    write(tmp_path / "a", "local", data_digests=data(), mean=-103.0)
    write(tmp_path / "b", "amortized", data_digests=data(NEW))
    found = findings([tmp_path])
    assert [len(table.groups) for table in found.tables] == [1, 1]
    assert "the test data themselves (" in found.apart[0] and not found.provenance.remarks
    short = [entry(content)["x"][:8] for content in (OLD, NEW)]
    assert all(x in found.apart[0] for x in short) and all(
        x in t.name for x, t in zip(short, found.tables, strict=True)
    )
    assert "are paired" not in "\n".join(terminal(found, tmp_path))


def test_fewer_training_data_still_allow_test_comparisons(tmp_path):
    for n, strategy in ((100, "local"), (200, "amortized")):
        content = {"data": {"seed": 0, "max_train": n}}
        write(tmp_path / f"{n}", strategy, data_digests=data(train=f"first {n}"), config=content, num_train=n)
    ((_, groups),) = tables(tmp_path).items()
    assert groups["paired_mean"].notna().sum() == 1


def test_seeds_trained_on_other_data_are_not_averaged(tmp_path):
    for seed, train in enumerate(("x", "x", "another")):
        write(tmp_path / f"{seed}", seed=seed, data_digests=data(train=train))
    ((_, groups),) = tables(tmp_path).items()
    assert sorted(groups["seeds"]) == [1, 2] and all("train_x=" in label for label in groups.index)


def test_equal_to_rounding_is_a_note(tmp_path):
    write(tmp_path / "a", "local", data_digests=data())
    write(tmp_path / "b", "amortized", data_digests=data(shift=1e-8))
    found = findings([tmp_path])
    assert len(found.tables) == 1 and len(found.tables[0].groups) == 2
    (note,) = found.provenance.remarks
    assert "x (test) equals that of other runs here to rounding alone" in note
    write(tmp_path / "c", "exact_em", data_digests=data(shift=1e-2))  # that is no rounding
    assert len(findings([tmp_path]).tables) == 2


def test_runs_from_before_go_as_before_with_one_note(tmp_path):
    for seed in range(3):
        write(tmp_path / f"old{seed}", "local", seed=seed)
        write(tmp_path / f"new{seed}", "amortized", seed=seed, data_digests=data())
    found = findings([tmp_path])
    ((_, groups),) = tables(tmp_path).items()
    assert list(groups["seeds"]) == [3, 3] and groups["paired_seeds"].max() == 3
    (note,) = found.provenance.remarks
    assert note.startswith("local, seed 0; local, seed 1; local, seed 2: run.json holds no digest of the data")
    # Which of two data they saw, nobody knows.
    write(tmp_path / "newer", "amortized", seed=9, data_digests=data(NEW))
    assert sorted(len(groups) for groups in tables(tmp_path).values()) == [1, 1, 1]


def own(target, **arguments):
    return {"data": {"_target_": target, "seed": 0, **arguments}}


def test_what_makes_the_data_is_a_setting(tmp_path):
    """Two data sets of the user's under one display name: half of the runs vanished."""
    for i, target in enumerate(("mine.one", "mine.two")):
        for seed in range(2):
            write(tmp_path / f"{i}{seed}", seed=seed, config=own(target))
    found = findings([tmp_path])
    assert [table.groups["seeds"].tolist() for table in found.tables] == [[2], [2]]
    assert "data._target_ (mine.one | mine.two)" in found.apart[0] and "Counted once" not in report_text(tmp_path)
    write(tmp_path / "args", seed=5, config=own("mine.one", noise=0.5))
    assert len(tables(tmp_path)) == 3


def test_a_run_that_does_not_say_what_made_its_data_goes_with_the_others(tmp_path):
    write(tmp_path / "old", "local", config={"data": {"seed": 0}})
    write(tmp_path / "new", "amortized", config=own("vem.data.digits.digits"))
    assert len(tables(tmp_path)) == 1


@pytest.mark.parametrize(
    ("one", "other", "runs"),
    [
        ({"data_digests": data()}, {"data_digests": data(NEW)}, 2),
        ({"data_digests": data()}, {"data_digests": data(train="another")}, 2),
        ({"code": code("a")}, {"code": code("b")}, 2),
        ({"code": code("a")}, {"code": code("a")}, 1),
        ({"code": code("a")}, {}, 1),  # from before
        ({"data_digests": data()}, {"data_digests": data(shift=1e-8)}, 1),
        ({}, {}, 1),
    ],
)
def test_runs_of_one_hash_are_one_run_if_nothing_tells_them_apart(tmp_path, one, other, runs):
    write(tmp_path / "a", config_hash="same", **one)
    write(tmp_path / "b", config_hash="same", **other)
    assert len(gather([tmp_path]).runs) == runs
    found = findings([tmp_path])
    assert sum(len(table.groups) for table in found.tables) == runs  # nor is a seed of theirs counted twice
    assert len(found.runs) == runs


def test_seeds_of_different_code_are_said(tmp_path):
    for seed, content in enumerate(("old", "old", "new")):
        write(tmp_path / f"{seed}", seed=seed, code=code(content))
    found = findings([tmp_path])
    said = "The seeds of local were made by different code (0, 1 | 2): mynets changed in between."
    assert any(said in text for text in found.provenance.remarks) and said in report_text(tmp_path)
    assert any(said in s.text for s in found.tables[0].answer if s.kind == "caution")
    assert found.tables[0].groups["seeds"].tolist() == [3]


def test_groups_of_different_code_are_said(tmp_path):
    write(tmp_path / "a", "local", code=code("old"))
    write(tmp_path / "b", "amortized", code=code("new"))
    assert any(
        "groups of this table were made by different code: mynets" in t for t in findings([tmp_path]).provenance.remarks
    )
    write(tmp_path / "c/a", "local", code=code("old"))
    write(tmp_path / "c/b", "amortized", code={"modules": {"others": "1"}, "packages": {}})  # nothing in common
    write(tmp_path / "c/c", "exact_em")
    assert not any("different code" in text for text in findings([tmp_path / "c"]).provenance.remarks)
