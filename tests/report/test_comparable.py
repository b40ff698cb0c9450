"""What may stand in one table, what tells tables apart, and the names of both and of groups."""

from __future__ import annotations

import json

import numpy as np
import pytest
import yaml
from answers import about
from synthetic_runs import editing, write_run, write_scored

from vem.report.read import findings


def scored(path, num=20, first=0, train=20, **fields):
    rng = np.random.default_rng(num + first)
    run = write_scored(path, {"test": rng.normal(-90, 3, size=num)}, rows=np.arange(first, first + num), **fields)
    add_rows(run, "train", train)
    return run


def add_rows(run, split, num):
    """Rows of another split, 0 … num − 1."""
    with editing(run) as content:
        content[split] = {"num_data": num, "elbo": {"mean": -91.0, "se": 0.3, "mc_se": 0.01}}
    with open(run / "per_datum.csv", "a") as file:
        file.writelines(f"{split},{row},-91.0\n" for row in range(num))


def rewritten(run, change):
    """per_datum.csv with its lines changed."""
    head, *rows = (run / "per_datum.csv").read_text().splitlines()
    (run / "per_datum.csv").write_text("\n".join([head, *change(rows)]) + "\n")


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda rows: [*rows[:-1], rows[-2]], "holds 1 train data twice"),
        (lambda rows: [*rows, rows[-1]], "holds 1 train data twice"),
        (lambda rows: [*rows, "test,99,-90.0"], "holds 21 test data, evaluation.json speaks of 20"),
        (lambda rows: [*rows, "valid,0,-90.0"], "holds 1 valid data, evaluation.json speaks of 0"),
        (lambda rows: [f"test,{i},-87.0" if row.startswith("test") else row for i, row in enumerate(rows)],
         "has a mean test ELBO of -87, evaluation.json one of "),
        (lambda rows: [rows[0].rpartition(",")[0] + ",", *rows[1:]], "lacks the ELBO of 1 of 20 test data"),
    ],
)  # fmt: skip
def test_rows_that_do_not_fit_evaluation_json_are_damage_and_no_other_data_set(tmp_path, change, said):
    scored(tmp_path / "a")
    rewritten(scored(tmp_path / "b", strategy="amortized"), change)
    found = findings([tmp_path])
    assert names(tmp_path) == [""]
    (told,) = [text for text in found.provenance.remarks if "per_datum.csv" in text]
    assert f"b/per_datum.csv {said}" in told and "nothing is paired with it" in told


def test_a_difference_of_means_says_that_it_is_not_paired(tmp_path):
    for seed in range(2):
        scored(tmp_path / f"a{seed}", seed=seed)
        scored(tmp_path / f"b{seed}", seed=seed, strategy="amortized")
    assert not findings([tmp_path]).tables[0].groups["paired_reason"].str.contains("means").any()
    (tmp_path / "b1" / "per_datum.csv").unlink()
    groups = findings([tmp_path]).tables[0].groups
    (other,) = [row for row in groups.to_dict("records") if row["paired_reason"] != "the baseline"]
    assert other["paired_seeds"] == 2 and other["paired_reason"].startswith("a difference of means")


def names(root):
    return [table.name.partition("bernoulli")[2].strip(", ") for table in findings([root]).tables]


@pytest.mark.parametrize(
    ("other", "expected"),
    [
        ({}, [""]),
        ({"num": 10}, ["20 test rows", "10 test rows"]),
        ({"first": 7}, ["set 1 of evaluated test rows", "set 2 of evaluated test rows"]),
    ],
)
def test_the_same_test_rows_are_one_table_and_others_another(tmp_path, other, expected):
    scored(tmp_path / "a")
    rewritten(scored(tmp_path / "b", strategy="amortized", **other), reversed)  # in any order
    found = findings([tmp_path])
    assert names(tmp_path) == expected
    told = "The 2 tables on digits are not compared with each other: they differ in the evaluated test rows."
    assert found.apart == ((told,) if other else ())
    assert all(table.groups["paired_mean"].isna().all() == bool(other) for table in found.tables)


def test_test_elbos_are_compared_whatever_the_other_rows_are(tmp_path):
    scored(tmp_path / "a", num_train=100)
    told = "Not all runs were evaluated on the same training rows"
    assert not any(told in s.text for s in findings([tmp_path]).tables[0].answer)
    scored(tmp_path / "b", train=10, strategy="amortized", num_train=100)
    (table,) = findings([tmp_path]).tables
    assert table.groups["paired_mean"].notna().sum() == 1
    assert any(told in s.text for s in table.answer)
    assert not any("validation" in s.text for s in table.answer)


def test_runs_without_test_data_go_by_the_rows_they_have(tmp_path):
    for name, num, strategy in (("a", 20, "local"), ("b", 20, "gmm"), ("c", 10, "amortized")):
        scores = np.random.default_rng(0).normal(-90, 3, size=num)
        run = write_scored(tmp_path / name, {"test": scores}, strategy=strategy)
        text = (run / "per_datum.csv").read_text().replace("test", "train")
        (run / "per_datum.csv").write_text(text)
        with editing(run) as content:
            content["train"], content["test"] = content["test"], {"num_data": 0}
    assert names(tmp_path) == ["20 train rows", "10 train rows"]


def test_training_sets_of_different_size_are_one_table_and_an_axis(tmp_path):
    """The test data are the same whatever data.max_train is; training rows are not, and the answer says so."""
    for size, level in ((10, -110.0), (20, -100.0), (40, -95.0)):
        for seed in range(2):
            limit = None if size == 40 else size
            run = write_scored(
                tmp_path / f"{size}_{seed}", {"test": np.full(20, level) + np.arange(20) + seed}, seed=seed,
                num_train=size, config={"data": {"seed": 0, "max_train": limit}},
            )  # fmt: skip
            add_rows(run, "train", size)
    (table,) = findings([tmp_path]).tables
    (axis,) = table.axes
    assert axis.key == "data.max_train" and axis.values == (10, 20, 40) and axis.numeric
    means = axis.points.query("metric == 'test_elbo'").set_index("value")["mean"]
    assert means.to_dict() == pytest.approx({10: -100.0, 20: -90.0, 40: -85.0})
    assert list(table.groups["num_train"]) == [10, 20, 40]
    assert set(table.groups["label"]) == {f"local, data.max_train={n}" for n in (10, 20, 40)}
    assert "train_size" in about(table).cautions


def test_an_unfinished_run_goes_where_its_num_data_is(tmp_path):
    for name, num in (("a", 20), ("b", 10)):
        run = scored(tmp_path / name, num=num, config={"evaluation": {"num_data": num}})
        content = json.loads((run / "evaluation.json").read_text())
        (run / "evaluation.json").write_text(json.dumps(content | {"settings": {"num_data": num}}))
    scored_config = {"evaluation": {"num_data": 10}}
    write_run(tmp_path / "c", seed=1, status="failed", error="x", evaluated=False, config=scored_config)
    twenty, ten = (table.groups.iloc[0] for table in findings([tmp_path]).tables)
    assert (twenty["seeds"], twenty["runs"], ten["seeds"], ten["runs"]) == (1, 1, 1, 2)


def test_a_run_without_rows_goes_by_their_number(tmp_path):
    scored(tmp_path / "a", num=20)
    scored(tmp_path / "b", num=10, strategy="amortized")
    run = scored(tmp_path / "c", num=10, strategy="gmm")
    (run / "per_datum.csv").unlink()
    _, ten = findings([tmp_path]).tables
    assert list(ten.groups["label"]) == ["amortized", "gmm"]


# --- one value under several keys, told once


@pytest.mark.parametrize(
    ("config", "typed", "values", "labels"),
    [
        (lambda n: {"strategy": {"optimizer": {"lr": n / 10}, "rule": {"step": n / 10}}, "training": {"rate": n / 10}},
         ["training.rate"], (1, 2), ["training.rate=0.1", "training.rate=0.2"]),
        (lambda n: {"x": n, "strategy": {"x": n}, "model": {"decoder": {"x": n}}},
         ["x"], (1, 2), ["strategy.x=1", "strategy.x=2"]),
        (lambda n: {"latent_dim": n, "model": {"latent_dim": n}, "strategy": {"encoder": {"size": n}}}, ["latent_dim"],
         (2, 5), ["latent_dim=2", "latent_dim=5"]),
        # What was typed stays, and so do switches that agree by chance.
        (lambda n: {"strategy": {"e_steps": n, "m_steps": n, "a": n == 1, "b": n == 1}},
         ["strategy.e_steps", "strategy.m_steps"], (1, 2), [
            f"strategy.a={on}, strategy.b={on}, strategy.e_steps={n}, strategy.m_steps={n}"
            for n, on in ((1, True), (2, False))
        ]),
        # Values that differ in one run are both told.
        (lambda n: {"strategy": {"k": n, "l": min(n, 3) if n < 3 else 4}}, [], (1, 2, 3),
         [f"strategy.k={n}, strategy.l={m}" for n, m in ((1, 1), (2, 2), (3, 4))]),
    ],
)  # fmt: skip
def test_one_value_under_several_keys(tmp_path, config, typed, values, labels):
    for n in values:
        run = write_run(tmp_path / f"{n}", config=config(n), **({"latent_dim": n} if "latent_dim" in typed else {}))
        (run / "overrides.yaml").write_text(yaml.safe_dump([f"{key}=1" for key in typed]))
    (table,) = findings([tmp_path]).tables
    assert list(table.groups["label"]) == [f"local, {label}" for label in labels]


def test_the_name_of_a_table(tmp_path):
    for n in (5, 6):
        write_run(tmp_path / f"{n}", config={"data": {"size": n, "shape": {"rows": n}}})
    assert [table.name.count(f"={n}") for n, table in zip((5, 6), findings([tmp_path]).tables, strict=True)] == [1, 1]
