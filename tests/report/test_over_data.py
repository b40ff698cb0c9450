"""How other data would move what several seeds agree on: errors over data of gaps and of what leads."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from scipy import stats
from synthetic_runs import NUM, loss, on_both, report_text, said, spread, write_data

from vem.report.read import findings
from vem.storage.records import write_csv


def write_few_data(root, seeds, rng, level=0.4, se=0.45, gain=0.0):
    """Encoders whose gaps agree between seeds, and are known to ±0.9 over data; ``gain``: test above train."""
    amortization = {"train": spread(rng, level - gain, se), "test": spread(rng, level, se)}
    approximation, marginal = on_both(lambda: spread(rng, 1.0, 0.05)), on_both(lambda: spread(rng, -90.0, 0.5))
    for seed in range(seeds):
        own = {split: values + 0.01 * (seed - (seeds - 1) / 2) for split, values in amortization.items()}
        write_data(root / f"{seed}", own, approximation, marginal, seed=seed, elbo=-91.4 + 0.01 * seed)


def test_more_seeds_on_the_same_data_name_no_cause_that_one_seed_does_not(tmp_path):
    write_few_data(tmp_path / "one", 1, np.random.default_rng(0))
    write_few_data(tmp_path / "three", 3, np.random.default_rng(0))
    assert "no amortization gap is found (0.40, -0.50 to 1.30)" in loss(tmp_path / "one")
    text = loss(tmp_path / "three")
    assert "; on these data 0.400 (0.375 to 0.425; over data -0.50 to 1.30) to its encoder" in text
    assert ": 1.00 (1.00 to 1.00; over data 0.90 to 1.10) to its family" in text  # sure over data as well
    assert "(95 % interval 1.375 to 1.425, over 3 seeds; over data 0.50 to 2.30) on test data:" in text


def test_the_error_over_data_is_that_of_the_mean_over_seeds(tmp_path):
    """Seeds whose gaps vary independently from datum to datum: averaging takes that noise away."""
    rng = np.random.default_rng(0)
    gaps = [on_both(lambda: rng.exponential(size=NUM)) for _ in range(3)]
    approximation, marginal = on_both(lambda: rng.exponential(size=NUM)), on_both(lambda: rng.normal(-90, 5, NUM))
    for seed, own in enumerate(gaps):
        write_data(tmp_path / f"{seed}", own, approximation, marginal, seed=seed)
    report_text(tmp_path)
    row = pd.read_csv(tmp_path / "summary.csv").iloc[0]
    mean = {split: np.mean([own[split] for own in gaps], axis=0) for split in ("train", "test")}
    assert row["test_amortization_gap_data_se"] == pytest.approx(stats.sem(mean["test"]))
    low, high = stats.ttest_1samp(mean["test"], 0).confidence_interval(0.95)
    assert row["test_amortization_gap_data_ci95_low"] == pytest.approx(low)
    assert row["test_amortization_gap_data_ci95_high"] == pytest.approx(high)
    total = stats.sem(mean["train"] + approximation["train"])
    assert row["train_inference_gap_data_se"] == pytest.approx(total)
    test = stats.ttest_ind(mean["test"], mean["train"], equal_var=False).confidence_interval(0.95)
    ends = [row[f"test_amortization_generalization_data_ci95_{end}"] for end in ("low", "high")]
    assert ends == pytest.approx([test.low, test.high])
    test = stats.ttest_ind(marginal["train"], marginal["test"], equal_var=False).confidence_interval(0.95)
    ends = [row[f"test_model_generalization_log_marginal_data_ci95_{end}"] for end in ("low", "high")]
    assert ends == pytest.approx([test.low, test.high])


def test_without_the_numbers_of_each_datum_the_error_over_data_is_bounded(tmp_path):
    """The mean over seeds of their own errors: no mean over these seeds can have a larger one."""
    rng = np.random.default_rng(0)
    gaps = [on_both(lambda: rng.exponential(size=NUM)) for _ in range(3)]
    approximation, marginal = on_both(lambda: rng.exponential(size=NUM)), on_both(lambda: rng.normal(-90, 5, NUM))
    for seed, own in enumerate(gaps):
        run = write_data(tmp_path / f"{seed}", own, approximation, marginal, seed=seed)
        (run / "per_datum.csv").unlink()
    (row,) = findings([tmp_path]).tables[0].groups.to_dict("records")
    own = [stats.sem(g["test"]) for g in gaps]
    assert row["test_amortization_gap_data_se"] == pytest.approx(np.mean(own))
    assert np.mean(own) > stats.sem(np.mean([g["test"] for g in gaps], axis=0))


def test_numbers_of_another_measurement_are_not_taken(tmp_path):
    """per_datum.csv and evaluation.json that do not agree."""
    write_few_data(tmp_path, 2, np.random.default_rng(0))
    table = pd.read_csv(tmp_path / "0" / "per_datum.csv")
    table["best_elbo"] = table["best_elbo"] + 1.0 * (table["row"] % 2)
    write_csv(tmp_path / "0" / "per_datum.csv", table.to_dict("records"))
    (row,) = findings([tmp_path]).tables[0].groups.to_dict("records")
    assert row["test_amortization_gap_data_se"] == pytest.approx(0.45)  # not the 0.48 of the file


def test_generalization_needs_the_error_over_data(tmp_path):
    """Train and test are two samples: that seeds agree on a difference of 0.5 shows nothing of new data."""
    write_few_data(tmp_path / "few", 3, np.random.default_rng(0), level=3.0, gain=0.5)
    not_shown = "That the encoder does worse on new data than on training data is not shown (difference 0.50"
    assert not_shown in loss(tmp_path / "few")
    write_few_data(tmp_path / "many", 3, np.random.default_rng(0), level=3.0, se=0.05, gain=0.5)
    assert "of its amortization gap is there on new data alone" in loss(tmp_path / "many")
    assert any("Training and test data are different samples" in text for text in said(tmp_path / "many", "caution"))


@pytest.mark.parametrize("noise", [0.1, 3.0])
def test_why_the_best_leads_says_how_far_that_reaches(tmp_path, noise):
    """Encoders that differ by 0.5 in every seed, which over data may be nothing."""
    rng = np.random.default_rng(0)
    gaps, marginal = on_both(lambda: spread(rng, 2.0, 0.2)), on_both(lambda: spread(rng, -90.0, 0.2))
    more = on_both(lambda: spread(rng, 0.5, noise))
    larger = {split: gaps[split] + more[split] for split in gaps}
    for seed in range(3):
        for strategy, own, level in (("amortized", gaps, 0.02), ("slow", larger, -0.02)):
            moved = {split: values + level + 0.001 * seed * level for split, values in marginal.items()}
            write_data(tmp_path / f"{strategy}{seed}", own, gaps, moved, strategy, seed=seed)
    why = said(tmp_path, "loss")[0]
    low, high = stats.ttest_1samp(more["test"], 0).confidence_interval(0.95)
    assert f"its inference gap is 0.50 nats (0.50 to 0.50; over data {low:.2f} to {high:.2f}) smaller" in why
    assert ("stands so on these data:" in why) is (noise == 3.0)
