"""A file that is not the one that run.json speaks of is named once, and none of its numbers are used."""

from __future__ import annotations

import json
import shutil

import numpy as np
import pandas as pd
import pytest
from synthetic_runs import image_pictures, write_scored

from vem.report.read import findings
from vem.report.summary import terminal
from vem.storage import sealing

MEANS = {"good": -100.0, "bad": -90.0, "other": -110.0}
WHOLE = ("local", "wake_sleep")
COSTS_A_RUN = ("run.json", "config.yaml", "evaluation.json")


def seal(run, **facts):
    """run.json as a run of today leaves it."""
    status = sealing.unsealed(json.loads((run / "run.json").read_text()))
    sealing.write_run(run, {"command": "python -m vem.run", **status, **facts})
    return run


@pytest.fixture
def runs(tmp_path):
    rng = np.random.default_rng(0)
    for strategy, (name, mean) in zip(("local", "amortized", "wake_sleep"), MEANS.items(), strict=True):
        scores = {split: rng.normal(mean, 1, 40) for split in ("train", "test")}
        pictures = {**image_pictures(), "of": np.array(name)}
        run = write_scored(tmp_path / name, scores, strategy=strategy, pictures=pictures, config={"n": name})
        (run / "overrides.yaml").write_text(f"[seed=0, +n={name}]\n")
        (run / "checkpoint.pt").write_bytes(name.encode() * 20)
        seal(run)
    return tmp_path


def checked(root, name, file):
    """The report names the file once, and says nothing false of the runs that are whole."""
    found = findings([root])
    text = "\n".join(terminal(found, root))
    said = [*found.provenance.remarks, *(run.reason for run in found.unfinished)]
    assert sum(f"{name}/{file}" in sentence for sentence in said) == 1, said
    groups = {row["label"]: row for table in found.tables for row in table.groups.to_dict("records")}
    elbo = found.runs.set_index("strategy")["test_elbo"]
    assert all(groups[own]["seeds"] == 1 and groups[own]["test_elbo_mean"] == elbo[own] for own in WHOLE)
    assert not {"nan", "none"} & set(text.lower().replace(",", " ").split())
    return found, groups


# Of run.json the next test; a folder without one is no run.
FILES = [(file, how) for file in (*sealing.SEALED[:6], "checkpoint.pt") for how in ("swapped", "edited", "gone")]


@pytest.mark.parametrize(("file", "how"), [*FILES, ("run.json", "edited")])
def test_a_file_that_is_not_the_runs_own(runs, file, how):
    path = runs / "bad" / file
    if how == "swapped":
        shutil.copy(runs / "other" / file, path)
    elif how == "edited":
        content = path.read_bytes()
        if file == "checkpoint.pt":  # of which the size is compared
            content += b"0"
        digit = next(i for i, c in enumerate(content) if chr(c).isdigit() and chr(c) != "7")
        path.write_bytes(content[:digit] + b"7" + content[digit + 1 :])
    else:
        path.unlink()
    found, groups = checked(runs, "bad", file)
    if file in COSTS_A_RUN:
        assert groups.get("amortized", {"seeds": 0})["seeds"] == 0 and len(found.unfinished) == 1
    else:
        assert found.unfinished == () and groups["amortized"]["test_elbo_mean"] == pytest.approx(-90, abs=1)
    if file == "per_datum.csv":
        assert pd.isna(groups["wake_sleep"]["paired_se"])


def test_a_run_json_of_another_run(runs):
    shutil.copy(runs / "other/run.json", runs / "bad/run.json")
    found = findings([runs])
    (bad,) = found.unfinished
    assert bad.directory == "bad" and "bad/config.yaml is not this run's" in bad.reason
    assert set(found.tables[0].groups["label"]) == {*WHOLE}


def test_what_nothing_is_said_of_is_as_before(runs):
    run = runs / "bad"
    (run / "run.json").write_text(json.dumps(sealing.unsealed(json.loads((run / "run.json").read_text()))))
    (run / "config.yaml").write_text((run / "config.yaml").read_text() + "# a remark\n")
    found = findings([runs])
    assert found.unfinished == () and not any("bad/" in text for text in found.provenance.remarks)


def test_rows_and_curves_of_another_run_are_drawn_nowhere(runs):
    from vem.report.figures.catalogue import reader_of
    from vem.report.files import read_metrics

    shutil.copy(runs / "other/metrics.csv", runs / "bad/metrics.csv")
    shutil.copy(runs / "other/per_datum.csv", runs / "bad/per_datum.csv")
    (table,) = findings([runs]).tables
    read = reader_of(table, runs)
    assert read.rows(runs / "bad") is None and read(read_metrics, runs / "bad", "metrics.csv") is None
    assert "bad/metrics.csv" in (note := str(read.left_out())) and "bad/per_datum.csv" in note
    assert read.rows(runs / "good") is not None


@pytest.mark.parametrize(
    ("key", "value"),
    [
        *((key, "dropped") for key in ("seed", "model", "family", "latent_dim", "likelihood", "binarize")),
        ("seed", 10**400),
        ("latent_dim", float("inf")),
        ("data_digests", [1]),
    ],
    ids=lambda value: str(value)[:12],
)
def test_a_run_from_before_whose_run_json_leaves_something_out(tmp_path, key, value):
    """Its kin say it, or its config: no number changes, and no seed is torn out of its group."""
    rng = np.random.default_rng(0)
    for seed in range(3):
        config = {"seed": seed, "choices": {"strategy": "local", "model": "deep"}, "model": {"latent_dim": 2}}
        scores = {split: rng.normal(-100, 1, 20) for split in ("train", "test")}
        write_scored(tmp_path / f"{seed}", scores, seed=seed, config=config)
    means = [json.loads((tmp_path / f"{s}/evaluation.json").read_text())["test"]["elbo"]["mean"] for s in range(3)]
    path = tmp_path / "1/run.json"
    content = json.loads(path.read_text())
    content = {k: v for k, v in content.items() if k != key} | ({} if value == "dropped" else {key: value})
    path.write_text(json.dumps(content))
    (table,) = findings([tmp_path]).tables
    (group,) = table.groups.to_dict("records")
    assert (group["label"], group["seeds"]) == ("local", 3) and group["test_elbo_mean"] == pytest.approx(np.mean(means))
    assert sorted(table.runs["seed"]) == [0, 1, 2]


def test_a_cost_that_one_seed_does_not_say_is_none_of_the_group(tmp_path):
    for seed in range(2):
        more = {"training_seconds": "long"} if seed else {}
        write_scored(tmp_path / f"{seed}", {"test": np.arange(5.0)}, seed=seed, **more)
    (row,) = findings([tmp_path]).tables[0].groups.to_dict("records")
    assert row["training_seconds_mean"] is None and row["seconds_mean"] == 12.0


@pytest.mark.parametrize("content", ["9" * 5000, "[" * 100_000, '{"a": ' * 100_000, "\ufeff{}", "null"])
def test_json_that_no_reader_takes(runs, content):
    (runs / "bad/run.json").write_text(content)
    checked(runs, "bad", "run.json")
