"""Trainings under several names or measurements: each counts once, is no rival of itself, and a seed that was measured
again stays with its kin; each number is over the seeds that have it measured alike.
"""

from __future__ import annotations

import shutil

import numpy as np
import pandas as pd
import pytest
from synthetic_runs import NUM, QUICK, editing, on_both, report_text, say, spread, write_data, write_run, write_scored

from vem.report.alike import having, measured_alike
from vem.report.kin import rows_of
from vem.report.read import findings
from vem.report.summary import terminal

MEASURED = {"draws": 100, "best": {"rounds": 7}}


def measured(directory, draws=100, asked=None, **fields):
    """A run whose evaluation.json says how it was measured; its config what was asked for, with the classes' names."""
    wanted = {"_target_": "vem.Evaluation", "draws": asked or draws, "best": {"_target_": "vem.Best", "rounds": 7}}
    config = {"evaluation": wanted, "training": {"epochs": 6}}
    run = write_run(directory, config=config, **fields)
    with editing(run) as content:
        content["settings"] = {**MEASURED, "draws": draws}
    return run


def test_a_seed_that_was_measured_again_counts_once(tmp_path):
    """Asked with 10 draws and measured again with 100, beside the same seed that was asked with 100."""
    for seed, elbo in enumerate((-100.0, -102.0, -101.0)):
        measured(tmp_path / f"{seed}", seed=seed, elbo=elbo)
    measured(tmp_path / "quick0", seed=0, elbo=-100.0, asked=10)
    found = findings([tmp_path])
    (group,) = found.tables[0].groups.to_dict("records")
    assert (group["seeds"], group["runs"], group["test_elbo_mean"]) == (3, 3, pytest.approx(-101.0))
    assert "quick0 repeats 0" in found.provenance.remarks and "quick0 repeats 0" in report_text(tmp_path)
    assert group["directories"] == ["0", "1", "2"] and found.unfinished == ()


def test_a_repeat_of_a_run_that_is_counted_elsewhere_goes_with_it(tmp_path):
    measured(tmp_path / "a", config_hash="one")
    for name in ("b", "my own run"):
        measured(tmp_path / name, config_hash="two")
    found = findings([tmp_path])
    assert found.runs["repeated_in"].tolist() == ["b 'my own run'"] and len(found.tables[0].runs) == 1
    assert "b 'my own run' repeat a" in found.provenance.remarks


def test_two_measurements_of_one_training_are_no_rivals(tmp_path):
    for seed in range(2):
        measured(tmp_path / f"a{seed}", seed=seed, elbo=-100.0 - seed)
        measured(tmp_path / f"b{seed}", strategy="amortized", seed=seed, elbo=-105.0 - seed)
    measured(tmp_path / "again", seed=0, draws=1000, elbo=-99.0)
    (table,) = findings([tmp_path]).tables
    one, other, again = "local, measured: draws=100", "amortized", "local, measured: draws=1000"
    assert table.baseline == one and set(table.groups["label"]) == {one, other, again}
    (reason,) = table.groups.loc[table.groups["label"] == again, "paired_reason"]
    assert reason == "another measurement of what the baseline trained"
    said = [s.text for s in table.answer if s.kind == "finding"]
    assert not any("1000" in text for text in said) and any("amortized" in text for text in said)
    (caution,) = [s.text for s in table.answer if "1000" in s.text]
    assert "measurements of the same training" in caution and "the answer takes local (measured: draws=100)" in caution


@pytest.mark.parametrize("how", ["gone", "damaged", "never asked for"])
def test_a_run_without_its_evaluation_stays_with_its_kin(tmp_path, how):
    for seed in range(3):
        run = measured(tmp_path / f"{seed}", seed=seed, elbo=-100.0 - seed)
    measured(tmp_path / "other", strategy="amortized", elbo=-110.0)
    if how == "damaged":
        (run / "evaluation.json").write_text("{")
    else:
        (run / "evaluation.json").unlink()
    if how == "never asked for":
        (run / "config.yaml").write_text((run / "config.yaml").read_text().replace("draws: 100", "num_data: 0"))
    (table,) = findings([tmp_path]).tables
    group = table.groups.set_index("label").loc["local"]
    assert len(table.groups) == 2 and (group["seeds"], group["runs"]) == (2, 3)
    assert group["test_elbo_mean"] == -100.5 and table.axes == ()
    told = [s.text for s in table.answer if "not evaluated, which no mean counts: 2." in s.text]
    assert len(told) == (how != "damaged")  # that one is named among those without a result
    assert group["status"] == f"1 of 3 {'unreadable' if how == 'damaged' else 'not evaluated'}"


# --- one seed of a group was measured again

BRIEF = {"num_data": 10000, "draws": 20, "best": {"steps": 8}, "annealing": {"temperatures": 20}}
GAPS = {"num_data": 10000, "draws": 100, "best": {"steps": 30}, "annealing": {"temperatures": 100}}


def quick(directory, strategy, seed, scores):
    run = write_scored(directory, scores, strategy=strategy, seed=seed, config={"evaluation": QUICK})
    return say(run, QUICK)


def gaps(directory, seed, loss=1.0, settings=GAPS, elbo=-100.0, **fields):
    """A run of an encoder with an amortization gap of ``loss`` and an approximation gap of 0.5."""
    rng = np.random.default_rng(seed)
    parts = [on_both(lambda mean=mean: spread(rng, mean, 0.01)) for mean in (loss, 0.5)]
    marginal = {s: spread(rng, elbo, 0.1) + parts[0][s] + parts[1][s] for s in ("train", "test")}
    run = write_data(directory, *parts, marginal, seed=seed, config={"evaluation": QUICK}, **fields)
    return say(run, settings)


@pytest.fixture
def three(tmp_path):
    """Three seeds each of amortized and local; the lead of amortized differs from seed to seed."""
    rng = np.random.default_rng(0)
    for seed, lead in enumerate((0.02, 0.08, 0.15)):
        base = {split: rng.normal(-100, 1, NUM) for split in ("train", "test")}
        quick(tmp_path / f"l{seed}", "local", seed, base)
        ahead = {split: own + lead + 0.01 * rng.normal(size=NUM) for split, own in base.items()}
        quick(tmp_path / f"a{seed}", "amortized", seed, ahead)
    return tmp_path


def measure_again(run, seed):
    """What ``vem.evaluate`` does to a run: the same ELBO of each datum, and gaps."""
    elbo = {s: part["elbo"].to_numpy() for s, part in pd.read_csv(run / "per_datum.csv").groupby("split")}
    rng = np.random.default_rng(seed)
    lost, family = (on_both(lambda mean=mean: spread(rng, mean, 0.01)) for mean in (1.0, 0.5))
    shutil.rmtree(run)
    marginal = {s: elbo[s] + lost[s] + family[s] for s in elbo}
    return say(write_data(run, lost, family, marginal, seed=seed, config={"evaluation": QUICK}), GAPS)


def lead(table):
    row = table.groups.set_index("label").loc["local"]
    return [row[f"paired_{end}"] for end in ("mean", "ci95_low", "ci95_high", "seeds")]


def test_measuring_one_seed_tears_nothing(three):
    before = findings([three]).tables[0]
    measure_again(three / "a1", 1)
    found = findings([three])
    (table,) = found.tables
    assert list(table.groups["label"]) == list(before.groups["label"]) == ["amortized", "local"]
    assert list(table.groups["seeds"]) == [3, 3] and lead(table) == pytest.approx(lead(before), abs=1e-6)
    row = table.groups.set_index("label").loc["amortized"]
    assert (row["gap_seeds"], row["without_gaps"]) == (1, ["a0", "a2"]) and row["test_amortization_gap_over"] == 1
    assert row["test_amortization_gap_mean"] == pytest.approx(1.0)
    said = " ".join(sentence.text for sentence in table.answer)
    assert "No other group" not in said and "same training" not in said and table.axes == ()
    assert "The gaps of amortized are over 1 of 3 seeds: they were not measured in a0, a2." in said
    text = "\n".join(terminal(found, three))
    assert "(1 of 3 seeds)" in text and "measured:" not in text
    for run in three.glob("l*"):  # with one strategy too
        shutil.rmtree(run)
    assert list(findings([three]).tables[0].groups["seeds"]) == [3]


def test_gaps_of_two_budgets_are_two_numbers(tmp_path):
    for seed, (settings, loss) in enumerate(((BRIEF, 1.0), (BRIEF, 1.2), (GAPS, 9.0))):
        gaps(tmp_path / f"a{seed}", seed, loss, settings)
    found = findings([tmp_path])
    (table,) = found.tables
    (row,) = table.groups.to_dict("records")
    assert row["seeds"] == 3 and row["test_elbo_over"] is None
    assert (row["gap_seeds"], row["without_gaps"], row["other_gaps"]) == (2, [], ["a2"])
    assert row["test_amortization_gap_mean"] == pytest.approx(1.1)
    assert row["test_amortization_gap_data_se"] < 0.1  # of the two, datum by datum
    said = [s.text for s in table.answer if s.kind == "caution"]
    assert any("over 2 of 3 seeds: they were measured by other settings in a2" in text for text in said)
    assert "(2 of 3 seeds)" in "\n".join(terminal(found, tmp_path))


def test_more_draws_make_no_other_number(tmp_path):
    for seed, draws in enumerate((20, 50)):
        gaps(tmp_path / f"a{seed}", seed, 1.0 + seed, GAPS | {"draws": draws})
    (row,) = findings([tmp_path]).tables[0].groups.to_dict("records")
    assert row["gap_seeds"] == row["seeds"] == 2 and row["test_amortization_gap_mean"] == pytest.approx(1.5)


def test_training_numbers_are_over_the_seeds_with_the_same_rows(three):
    run = three / "a1"
    say(run, QUICK | {"num_data": NUM}, train={"num_data": NUM // 2, "elbo": {"mean": -999.0, "se": 0.1, "mc_se": 0.0}})
    rows = (run / "per_datum.csv").read_text().splitlines(keepends=True)
    (run / "per_datum.csv").unlink()
    (run / "per_datum.csv").write_text("".join(line for line in rows if not line.startswith("train")))
    found = findings([three])
    row = found.tables[0].groups.set_index("label").loc["amortized"]
    assert (row["seeds"], row["train_elbo_over"]) == (3, 2) and row["train_elbo_mean"] > -101
    assert "(2 of 3 seeds)" in "\n".join(terminal(found, three))


def test_a_seed_with_two_measurements_keeps_them_apart(tmp_path):
    """Draws swept over two seeds, of which one was then measured by another budget."""
    for seed in range(2):
        gaps(tmp_path / f"few{seed}", seed, settings=BRIEF)
        gaps(tmp_path / f"many{seed}", seed, settings=GAPS if seed else BRIEF | {"draws": 1000})
    assert [len(table.groups) for table in findings([tmp_path]).tables] == [2]


@pytest.mark.parametrize(
    ("measurements", "seeds", "rows"),
    [
        ("gqq", [0, 1, 2], [1, 1, 1]),  # that of the most seeds stands for all
        ("aabbbc", [1, 2, 0, 1, 2, 0], [0, 0, 2, 2, 2, 0]),
        ("qg", [None, None], [0, 1]),  # who knows whether they are one
    ],
)
def test_which_measurements_share_a_row(measurements, seeds, rows):
    assert rows_of(["t"] * len(seeds), measurements, seeds) == rows


def test_the_kin_of_most_seeds_come_first():
    run = {"test_inference_gap_sought": True, "num_test_evaluated": 5}
    done = [run | {"measurement": f"evaluation.best.steps={n}", "test_exact_loss": n} for n in (8, 30, 30)]
    alike = measured_alike(done)
    assert alike == [done[1:], done[:1]] and having(alike, "test", "exact_loss") == done[1:]
    assert having(alike, "train", "exact_loss") == done[1:]  # none has it
    only = measured_alike([done[0], *({**m, "test_exact_loss": None} for m in done[1:])])
    assert having(only, "test", "exact_loss") == done[:1]
    assert having(measured_alike([{}, {}]), "test", "elbo") == [{}, {}]
