"""How other data would move what several seeds agree on: errors over data of gaps and of what leads."""

from __future__ import annotations

import json

import numpy as np
import pandas as pd
import pytest
from answers import answered
from scipy import stats
from synthetic_runs import NUM, on_both, spread, write_data

from vem.report.read import findings
from vem.report.sentences import in_words
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
    one, three = (answered(tmp_path / name).losses["amortized"] for name in ("one", "three"))
    encoder = one.parts["amortization"]
    assert (encoder.ends, encoder.positive) == (pytest.approx((-0.5, 1.3), abs=0.01), False)
    encoder = three.parts["amortization"]
    assert (encoder.ends, encoder.data) == (
        pytest.approx((0.375, 0.425), abs=1e-3),
        pytest.approx((-0.5, 1.3), abs=0.01),
    )
    assert encoder.positive and not encoder.on_other_data and "on these data 0.400" in in_words(three)
    assert three.parts["approximation"].on_other_data and three.gap.on_other_data  # sure over data as well


def test_the_error_over_data_is_that_of_the_mean_over_seeds(tmp_path):
    """Seeds whose gaps vary independently from datum to datum: averaging takes that noise away."""
    rng = np.random.default_rng(0)
    gaps = [on_both(lambda: rng.exponential(size=NUM)) for _ in range(3)]
    approximation, marginal = on_both(lambda: rng.exponential(size=NUM)), on_both(lambda: rng.normal(-90, 5, NUM))
    for seed, own in enumerate(gaps):
        write_data(tmp_path / f"{seed}", own, approximation, marginal, seed=seed)
    (row,) = findings([tmp_path]).tables[0].groups.to_dict("records")
    mean = {split: np.mean([own[split] for own in gaps], axis=0) for split in ("train", "test")}
    assert row["test_amortization_gap_data_se"] == pytest.approx(stats.sem(mean["test"]))
    expected = {"amortization_gap": stats.ttest_1samp(mean["test"], 0)}
    for name, one, other in (("amortization_generalization", mean["test"], mean["train"]),
                             ("model_generalization_log_marginal", marginal["train"], marginal["test"])):  # fmt: skip
        expected[name] = stats.ttest_ind(one, other, equal_var=False)
    for name, test in expected.items():
        ends = [row[f"test_{name}_data_ci95_{end}"] for end in ("low", "high")]
        assert ends == pytest.approx(list(test.confidence_interval(0.95)))
    total = stats.sem(mean["train"] + approximation["train"])
    assert row["train_inference_gap_data_se"] == pytest.approx(total)


def test_without_the_numbers_of_each_datum_the_error_over_data_is_bounded(tmp_path):
    """The mean over seeds of their own errors: no mean over these seeds can have a larger one."""
    write_few_data(tmp_path, 2, np.random.default_rng(0))
    (tmp_path / "0" / "per_datum.csv").unlink()
    (row,) = findings([tmp_path]).tables[0].groups.to_dict("records")
    own = [json.loads((tmp_path / f"{seed}" / "evaluation.json").read_text())["test"]["gaps"] for seed in range(2)]
    expected = np.mean([gaps["amortization"]["se"] for gaps in own])
    assert row["test_amortization_gap_data_se"] == pytest.approx(expected) == pytest.approx(0.45)


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
    few = answered(tmp_path / "few").losses["amortized"].generalization
    assert few.mean == pytest.approx(0.5) and few.positive and not few.on_other_data
    write_few_data(tmp_path / "many", 3, np.random.default_rng(0), level=3.0, se=0.05, gain=0.5)
    many = answered(tmp_path / "many")
    assert many.losses["amortized"].generalization.on_other_data and "two_samples" in many.cautions
