"""A seed that was measured again on other rows stays with its kin; no number is over different rows."""

from __future__ import annotations

import itertools
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from synthetic_runs import QUICK, say, write_run, write_scored

from vem.report.kin import rows_of_tables
from vem.report.read import findings
from vem.report.summary import terminal
from vem.report.unlike import measured_unlike

NUM, LEADS = 40, (0.02, 0.08, 0.15)
ALL, HALF = np.arange(NUM), np.arange(0, NUM, 2)


def elbo_of(strategy, seed, rows):
    """The ELBO of each datum: those of even rows are better, so that a mean over others is another number."""
    rng = np.random.default_rng(seed)
    base = rng.normal(-100, 1, NUM) + 5 * (np.arange(NUM) % 2 == 0)
    return (base + (LEADS[seed] + 0.01 * rng.normal(size=NUM) if strategy == "amortized" else 0))[rows]


def write(root, strategy, seed, rows=ALL, name=None, **fields):
    """A run that was asked for all rows, and measured last on these."""
    scores = {"test": elbo_of(strategy, seed, rows)}
    run = write_scored(root / (name or f"{strategy[0]}{seed}"), scores, rows, strategy=strategy, seed=seed,
                       config={"evaluation": QUICK}, **fields)  # fmt: skip
    return say(run, QUICK | {"num_data": len(rows)} if len(rows) < NUM else QUICK)


def sweep(root, half):
    """Three seeds of two strategies; those named in ``half`` were measured again on half of the rows."""
    for strategy, seed in itertools.product(("local", "amortized"), range(3)):
        write(root, strategy, seed, HALF if f"{strategy[0]}{seed}" in half else ALL)
    return findings([root])


@pytest.mark.parametrize(
    ("half", "sets", "seeds"),
    [
        (["a1"], {"local": (ALL, [0, 1, 2]), "amortized": (ALL, [0, 2])}, 2),
        (["a0", "a2"], {"local": (ALL, [0, 1, 2]), "amortized": (ALL, [1])}, 1),
        (["a1", "l2"], {"local": (ALL, [0, 1]), "amortized": (ALL, [0, 2])}, 1),
        (["a0", "a1", "l0", "l1"], {"local": (HALF, [0, 1]), "amortized": (HALF, [0, 1])}, 2),
        (["a0", "a1", "a2", "l1"], {"local": (HALF, [1]), "amortized": (HALF, [0, 1, 2])}, 1),
    ],
)
def test_one_group_over_all_seeds_and_each_number_over_the_same_rows(tmp_path, half, sets, seeds):
    (table,) = sweep(tmp_path, half).tables
    rows = table.groups.set_index("label")
    assert table.name == "digits, binarize=threshold, likelihood=bernoulli"
    assert set(rows.index) == {"local", "amortized"} and list(rows["seeds"]) == [3, 3] and table.axes == ()
    for strategy, (own, kept) in sets.items():
        row = rows.loc[strategy]
        assert row["test_elbo_mean"] == pytest.approx(np.mean([elbo_of(strategy, s, own).mean() for s in kept]))
        assert row["num_data"] == len(own)
        assert pd.isna(row["test_elbo_over"]) if len(kept) == 3 else row["test_elbo_over"] == len(kept)
    ((own, one), (_, other)) = sets["amortized"], sets["local"]
    both = sorted({*one} & {*other})
    lead = [(elbo_of("amortized", s, own) - elbo_of("local", s, own)).mean() for s in both]
    paired = rows.loc[next(label for label in rows.index if label != table.baseline)]
    assert paired["paired_seeds"] == len(both) == seeds
    assert abs(paired["paired_mean"]) == pytest.approx(abs(np.mean(lead)))
    said = " ".join(s.text for s in table.answer)
    assert "No other group" not in said and "same training" not in said and "had other test data" in said
    assert f"evaluation.num_data={len(own) if len(own) < NUM else 10000} measures" in said


def test_different_rows_throughout_are_tables_of_their_own(tmp_path):
    found = {table.name.rpartition(", ")[2]: table.groups for table in sweep(tmp_path, ["a0", "a1", "a2"]).tables}
    assert set(found) == {"40 test rows", "20 test rows"}
    assert all(list(groups["seeds"]) == [3] for groups in found.values())


def test_a_sweep_over_rows_is_two_tables_though_one_job_failed(tmp_path):
    for seed in range(2):
        write(tmp_path, "local", seed, ALL, f"all{seed}")
        asked = {"evaluation": QUICK | {"num_data": len(HALF)}}
        if seed:
            fields = {"config": asked, "status": "failed", "error": "x", "evaluated": False}
            write_run(tmp_path / f"half{seed}", seed=seed, **fields)
        else:
            write(tmp_path, "local", seed, HALF, f"half{seed}")
    assert [list(table.groups["seeds"]) for table in findings([tmp_path]).tables] == [[2], [1]]


def test_a_failed_seed_and_one_that_was_not_evaluated_stay(tmp_path):
    write(tmp_path, "local", 0)
    write(tmp_path, "local", 1, HALF)
    write(tmp_path, "local", 2, status="failed", error="x")
    (table,) = findings([tmp_path]).tables
    (row,) = table.groups.to_dict("records")
    assert (row["seeds"], row["runs"], row["test_elbo_over"], row["num_data"]) == (2, 3, 1, NUM)
    assert "one of 3 seeds" in " ".join(s.text for s in table.answer)


def test_three_seeds_on_three_sets_of_rows(tmp_path):
    for seed, rows in enumerate((HALF, ALL, np.arange(0, NUM, 4))):
        write(tmp_path, "local", seed, rows)
    found = findings([tmp_path])
    (row,) = found.tables[0].groups.to_dict("records")
    assert (row["seeds"], row["test_elbo_over"], row["other_rows"]) == (3, 1, ["l0", "l2"])
    assert row["test_elbo_mean"] == pytest.approx(elbo_of("local", 1, ALL).mean())
    assert "(1 of 3 seeds)" in "\n".join(terminal(found, tmp_path))


def test_where_only_their_number_is_known_rows_go_by_it(tmp_path):
    for seed, num in enumerate((1000, 100)):
        write_run(tmp_path / f"{seed}", seed=seed, elbo=-100.0 - seed, num_data=num)
    (row,) = findings([tmp_path]).tables[0].groups.to_dict("records")
    assert (row["seeds"], row["test_elbo_over"], row["other_rows"], row["test_elbo_mean"]) == (2, 1, ["1"], -100.0)


@pytest.mark.parametrize(
    ("other", "said"),
    [
        ({"evaluation.best.steps": "8"}, "a and b were not all measured alike (best.steps 30 | 8)"),
        ({"evaluation.best.steps": "30", "evaluation.draws": "20"}, None),
    ],
)
def test_gaps_of_groups_by_other_budgets_are_said(other, said):
    settings = {"0": {"evaluation.best.steps": "30", "evaluation.draws": "100"}, "1": other}
    rows = [{"label": label, "seeds": 1, "gap_seeds": 1, "directories": [place], "gap_rows": 5.0,
             "test_elbo_mean": 1.0} for label, place in (("a", "0"), ("b", "1"))]  # fmt: skip
    told = [text for text in measured_unlike(rows, Path(), settings) if "alike" in text]
    assert len(told) == (said is not None) and all(said in text for text in told)
    told = measured_unlike([rows[0], rows[0] | {"gap_rows": 4.0, "label": "b"}], Path(), settings)
    assert any("(test data 5 | 4)" in text for text in told)


def test_the_set_that_most_trainings_share():
    trainings = [*"aaa", *"bbb", *"ccc"]
    assert rows_of_tables(trainings, [0, 1, 1, 0, 1, 1, 0, 0, 0], [9, 5, 5] * 3, [0, 1, 2] * 3) == [0] * 9
    assert rows_of_tables("aaa", [0, 1, 1], [0, 5, 5], [0, 1, 2]) == [1, 1, 1]  # one that is not evaluated follows
    assert rows_of_tables("ab", [0, 1], [9, 5], [0, 0]) == [0, 1]


def test_of_a_measurement_beside_a_run_the_run_is_named():
    row = {"label": "a", "seeds": 2, "directories": ["0", "at"], "other_rows": ["at"], "gap_seeds": 1,
           "test_elbo_mean": 1.0}  # fmt: skip
    settings = {"0": {"evaluation.num_data": "40"}}
    told = " ".join(measured_unlike([row], Path("runs"), settings, {"at": "/my runs/1"}))
    assert "vem.evaluate '/my runs/1' evaluation=gaps evaluation.num_data=40 --out runs/at measures it" in told
