"""What each strategy loses: errors over seeds and over data, what no interval covers, and what a failed check takes."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from pages import cells
from scipy import stats
from synthetic_runs import (
    doctored,
    editing,
    estimate,
    gap,
    loss,
    on_both,
    report_text,
    said,
    spread,
    write_data,
    write_gaps,
    write_run,
)

from vem.report.comparison_table import comparison_table
from vem.report.explain import Lead
from vem.report.intervals import Scores, paired
from vem.report.read import findings


@pytest.mark.parametrize(("train", "overfit"), [(-88.0, True), (-89.9, False), (-92.0, False)])
@pytest.mark.parametrize("seeds", [1, 3])
def test_an_overfit_model_is_named(tmp_path, train, overfit, seeds):
    rng = np.random.default_rng(0)
    marginal = {"train": spread(rng, train, 0.3), "test": spread(rng, -90.0, 0.3)}
    amortization, approximation = (on_both(lambda: spread(rng, 1.0, 0.05)) for _ in range(2))
    for seed in range(seeds):
        moved = {split: values + 0.01 * (seed if split == "test" else 0) for split, values in marginal.items()}
        write_data(tmp_path / f"{seed}", amortization, approximation, moved, seed=seed, elbo=-92.0 + 0.01 * seed)
    text = loss(tmp_path)
    if overfit:
        mean = "2.00" if seeds == 1 else "1.990"
        assert f" Its model is overfit: log p(x) is {mean} nats per datum (95 % interval " in text
        assert text.endswith("higher on training data than on test data.")
        assert ("nats per datum (95 % interval 1.965 to 2.015, over 3 seeds; over data 1." in text) is (seeds == 3)
    else:
        assert " Overfitting is not shown (log p(x), training - test data: " in text and "is overfit" not in text


def test_of_a_bounded_log_p_the_best_bounds_tell_of_overfitting(tmp_path):
    """Two lower bounds limit their difference from neither side."""
    run = write_gaps(tmp_path / "a")
    with editing(run) as content:
        loose = {**gap(9.0), "identified": [None, None]}
        model = {"best_elbo": gap(3.0, exact=True), "log_marginal": loose}
        content["across_splits"] = {"test": {"model_generalization": model}}
    assert " Its model is overfit: L[q*] is 3.00 nats per datum (95 % interval 2.80 to 3.20, " in loss(tmp_path)
    doctored(run, lambda test: test.update(checks=[{"name": "converged", "passed": False, "detail": "30 %"}]))
    assert "overfit" not in loss(tmp_path)
    report_text(tmp_path)
    assert pd.read_csv(tmp_path / "runs.csv")["test_model_generalization_best_elbo"].tolist() == [3.0]
    assert pd.read_csv(tmp_path / "summary.csv")["test_model_generalization_log_marginal_mean"].tolist() == [9.0]


@pytest.mark.parametrize(("low", "at_least"), [(9.0, True), (4.0, False)])
def test_a_difference_of_bounds_is_at_least_what_is_shown_only_where_it_is_its_own_limit(tmp_path, low, at_least):
    """Training data known from below alone; test data exactly, or between two bounds that are 5 nats apart."""
    run = write_gaps(tmp_path / "a")
    with editing(run) as content:
        entry = {**gap(9.0), "identified": [low, None]}
        content["across_splits"] = {"test": {"model_generalization": {"log_marginal": entry}}}
    (row,) = findings([tmp_path]).tables[0].groups.to_dict("records")
    assert row["test_model_generalization_log_marginal_at_least"] is at_least


def test_a_search_that_did_not_converge_splits_nothing(tmp_path):
    """L[q*] too low inflates one gap and shrinks the other; the inference gap does not need it."""
    write_gaps(tmp_path / "a", checks=({"name": "converged", "passed": False, "detail": "30 %"},))
    text = loss(tmp_path)
    assert text.startswith("amortized (checks failed: converged) loses at least 6.00 nats per datum")
    assert "to its family" not in text and "to its encoder" not in text and "1.50" not in text
    assert "How it divides into its causes is not told: the search for the best q did not reach it" in text


def write_hard(root, losses, strategy="hard_em", entries=True):
    """Exact models whose q is not the posterior, by seed."""
    for seed, own in enumerate(losses):
        run = write_run(root / f"{strategy}{seed}", "gmm", seed=seed, elbo=-90.0 - own)
        with editing(run) as content:
            bound = estimate(-90.0)
            nothing = {"value": None, "reason": "not sought"}
            for split in ("train", "valid", "test"):
                content[split]["elbo"] = estimate(-90.0 - own)
                content[split]["log_marginal"] = {"lower": bound, "upper": bound, "kind": "exact"}
                if entries:
                    content[split]["gaps"] = {"approximation": nothing, "inference": gap(own, 0.1, exact=True)}


@pytest.mark.parametrize("entries", [True, False])
def test_the_loss_against_an_exact_log_p_has_its_interval(tmp_path, entries):
    write_hard(tmp_path, [0.65, 0.70, 0.75], entries=entries)
    low, high = stats.ttest_1samp([0.65, 0.70, 0.75], 0).confidence_interval(0.95)
    text = loss(tmp_path, "gmm")
    over = "0.60 to 0.80) on test data" if entries else "not known) on these test data"
    assert text.startswith(f"gmm loses 0.70 nats per datum (95 % interval {low:.2f} to {high:.2f}, over 3 seeds; "
                           f"over data {over}, where log p(x) is exact.")  # fmt: skip


def test_the_loss_against_an_exact_log_p_stands_in_the_table(tmp_path):
    write_hard(tmp_path, [0.65, 0.70, 0.75])
    (row,) = cells(comparison_table(findings([tmp_path]).tables[0]))
    cell = row["Gaps on test data: Inference"]
    assert (cell.text, cell.error) == ("0.70", "± 0.03")


def test_a_loss_against_an_exact_log_p_that_is_not_shown(tmp_path):
    write_hard(tmp_path, [0.05])
    assert loss(tmp_path, "gmm").startswith("gmm: no loss is shown on test data, its inference gap is 0.05 nats per")


def test_gaps_that_two_of_three_seeds_have(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for seed, own in ((0, 1.4), (1, 1.6)):
        write_gaps(tmp_path / f"a{seed}", approximation=own, seed=seed)
    write_run(tmp_path / "a2", "amortized", seed=2, num_data=30)
    write_run(tmp_path / "b0", "local", seed=0, num_data=30)  # not measured at all
    row, _ = findings([tmp_path]).tables[0].groups.to_dict("records")
    assert (row["seeds"], row["gap_seeds"], row["without_gaps"]) == (3, 2, ["a2"])
    assert [row[f"test_approximation_gap_{end}"] for end in ("mean", "se")] == pytest.approx([1.5, 0.1])
    assert "over 2 seeds; over data" in loss(tmp_path)
    cautions = said(tmp_path, "caution")
    assert ("The gaps of amortized are over 2 of 3 seeds: they were not measured in a2. python -m vem.evaluate a2 "
            "evaluation=gaps measures it.") in cautions  # fmt: skip
    (text,) = (text for text in cautions if "is not measured" in text)
    assert text == "Where local loses is not measured. python -m vem.evaluate b0 evaluation=gaps measures it."
    report_text(tmp_path)
    assert pd.read_csv(tmp_path / "summary.csv")["without_gaps"][0] == "a2"


def test_a_negative_inference_gap_blames_the_measurement(tmp_path):
    write_gaps(tmp_path / "a", "local", approximation=-1.0, middle=-0.7)
    text = loss(tmp_path, "local")
    assert text.startswith("local: its inference gap on test data is below 0, -0.70 nats per datum (95 % interval "
                           "-0.90 to -0.50, over the data of one seed): the measurement missed log p(x)")  # fmt: skip
    assert "loses" not in text and "at least" not in text.partition("log p(x)")[0]
    assert "its approximation gap is below 0, -1.00 (-1.20 to -0.80): the measurement missed log p(x)" in text


def test_what_lies_between_two_bounds_says_so(tmp_path):
    def change(test):
        test["log_marginal"]["upper"] = estimate(-83.0)
        test["gaps"]["approximation"]["identified"] = [1.5, 6.5]
        test["gaps"]["inference"]["identified"] = [6.0, 11.0]

    run = doctored(write_gaps(tmp_path / "a"), change)
    text = loss(tmp_path)
    assert text.startswith("amortized loses 6.00 to 11.00 nats per datum (log p(x) lies between two bounds; 95 % "
                           "interval of the lower end 5.80 to 6.20, over the data of one seed) on test data: "
                           "1.50 to 6.50 (lower end 1.30 to 1.70) to its family")  # fmt: skip
    doctored(run, lambda test: test.update(checks=[{"name": "interval_ordered", "passed": False, "detail": ""}]))
    assert "loses 6.00 nats" in loss(tmp_path)  # bounds that failed their check limit nothing


def test_a_limit_from_the_other_side_leaves_the_sign_open():
    """The gap of the first is bounded from below: 1.03 smaller at most, and no limit upward."""
    own = {seed: Scores(2.0) for seed in range(3)}
    gaps = paired(own, {seed: Scores(gap) for seed, gap in enumerate((2.93, 3.03, 3.13))})
    assert Lead("a", "b", gaps, gaps, (True, False), False, True).limit(gaps) == "at most"
    assert Lead("a", "b", gaps, gaps, (False, True), False, True).limit(gaps) == "at least"
