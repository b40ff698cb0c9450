"""The answer's words: who is best, by how much, what is lost and why, and what stays open."""

from __future__ import annotations

import json

import numpy as np
import pytest
from scipy import stats
from synthetic_runs import estimate, write_run, write_scored
from test_gap_report import BAD, add_families, write_gaps

from vem.report.read import findings


def said(root, kind=None, **options):
    (table,) = findings([root], **options).tables
    return [s.text.replace("−", "-") for s in table.answer if kind in (None, s.kind)]


def write_seeds(root, strategy, elbos, **fields):
    for seed, elbo in enumerate(elbos):
        write_run(root / f"{strategy}{seed}_{fields.get('latent_dim', '')}", strategy, seed=seed, elbo=elbo, **fields)


def test_a_clear_lead_with_its_interval(tmp_path):
    write_seeds(tmp_path, "local", [-100.0, -101.0, -102.0])
    write_seeds(tmp_path, "amortized", [-98.0, -99.1, -99.9])
    d = np.array([2.0, 1.9, 2.1])
    low, high = stats.t.interval(0.95, 2, d.mean(), stats.sem(d))
    (first,) = said(tmp_path, "finding")
    assert first.startswith("amortized has the best bound: its test ELBO is -99.00 nats per datum (mean of 3 seeds, "
                            "standard error 0.55), 2.00 nats above the next best, local (95 % interval "
                            f"{low:.2f} to {high:.2f}, paired over 3 common seeds)")  # fmt: skip


def test_no_winner_where_the_interval_covers_0(tmp_path):
    write_seeds(tmp_path, "local", [-100.0, -101.0, -102.0])
    write_seeds(tmp_path, "amortized", [-99.0, -101.5, -101.0])
    (first,) = said(tmp_path, "finding")
    assert first.startswith("amortized has the highest test ELBO, -100.5") and "cannot be called the best" in first
    assert first.endswith("which covers 0.") and "best bound" not in first


def test_the_best_of_many_must_outlast_the_correction_for_all_pairs(tmp_path):
    """A lead that counts for its pair alone, and not when 15 pairs are allowed for."""
    rng = np.random.default_rng(1)
    d = np.array([1.0, 1.6, 1.3])
    write_seeds(tmp_path, "best", (-98 + d).tolist())
    write_seeds(tmp_path, "second", [-98.0, -98.0, -98.0])
    for name in ("a", "b", "c", "d"):
        write_seeds(tmp_path, name, (-120 + rng.normal(size=3)).tolist())
    assert stats.ttest_1samp(d, 0).pvalue < 0.05 < 15 * stats.ttest_1samp(d, 0).pvalue
    (first,) = said(tmp_path, "finding")
    low, high = stats.ttest_1samp(d, 0).confidence_interval(1 - 0.05 / 15)
    assert "cannot be called the best" in first and "correction for all 15 pairs" in first
    assert f"{low:.2f} to {high:.2f}, which covers 0" in first
    caution = next(text for text in said(tmp_path, "caution") if "Bonferroni" in text)
    assert caution.startswith("6 groups were compared, in 15 pairs.")
    assert "its lead over second no longer counts" in caution


def test_those_that_are_not_told_apart_are_named(tmp_path):
    write_seeds(tmp_path, "best", [-98.0, -98.1, -97.9, -98.0])
    write_seeds(tmp_path, "near", [-98.5, -98.6, -98.4, -98.5])
    write_seeds(tmp_path, "noisy", [-90.0, -110.0, -89.0, -120.0])
    (first,) = said(tmp_path, "finding")
    assert first.startswith("best has the best bound") and first.endswith(" It is not told apart from noisy.")


def test_one_seed_is_over_data_and_says_so(tmp_path):
    rng = np.random.default_rng(0)
    base = rng.normal(-100, 10, size=50)
    write_scored(tmp_path / "a", {"test": base}, strategy="local")
    write_scored(tmp_path / "b", {"test": base + 1 + 0.1 * rng.normal(size=50)}, strategy="amortized")
    first, *_ = said(tmp_path, "finding")
    assert first.startswith("amortized has the best bound on the one seed compared")
    assert "paired over the 50 test data of the one common seed" in first
    assert any(text.startswith("Every group has one seed alone") for text in said(tmp_path, "caution"))


def test_no_interval_no_winner(tmp_path):
    write_run(tmp_path / "a", elbo=-100.0)
    write_run(tmp_path / "b", "amortized", elbo=-90.0, seed=1)
    (first,) = said(tmp_path, "finding")
    assert "cannot be called the best" in first and "no seed in common" in first


def test_a_single_group_is_compared_with_nothing(tmp_path):
    write_run(tmp_path / "a")
    (text,) = said(tmp_path, "finding")
    assert text == ("local has a test ELBO of -100.00 nats per datum (one seed, standard error over data 0.30). No "
                    "other group has one, so nothing is compared.")  # fmt: skip


def test_an_undefined_elbo_is_named_with_its_reason(tmp_path):
    write_run(tmp_path / "a", "hmc", elbo={"value": None, "reason": "draws without a density"})
    assert said(tmp_path, "finding") == []
    cautions = said(tmp_path, "caution")
    assert "hmc has no test ELBO (draws without a density), so it is not compared." in cautions
    assert "No group has a test ELBO, so no strategy can be called the best." in cautions


def test_along_one_axis_the_best_at_each_value(tmp_path):
    sizes = {size: {"latent_dim": size, "model": {"latent_dim": size}} for size in (2, 10)}
    for size, config in sizes.items():
        write_seeds(tmp_path, "local", [-100.0 + size, -101.0 + size], latent_dim=size, config=config)
        more = 1.0 if size == 2 else 0.0
        elbos = [-100.0 + size + more, -101.01 + size + more]
        write_seeds(tmp_path, "amortized", elbos, latent_dim=size, config=config)
    write_seeds(tmp_path, "gmm", [-120.0, -121.0])  # stands at every value
    _, two, ten = said(tmp_path, "finding")
    assert two.startswith("At latent_dim=2 the best is amortized") and "above local by 0.99" in two
    assert ten.startswith("At latent_dim=10 no strategy is the best") and ten.endswith("which covers 0.")
    assert any("differ in model and latent_dim have different models" in text for text in said(tmp_path, "caution"))


def test_losses_with_intervals_and_what_cannot_be_identified(tmp_path):
    add_families(write_gaps(tmp_path / "a"))
    write_gaps(tmp_path / "b", "local", approximation=1.2, middle=-0.7)
    losses = said(tmp_path, "loss")
    own = next(text for text in losses if text.startswith("amortized loses"))
    assert own.startswith("amortized loses at least 6.00 nats per datum (95 % interval 5.80 to 6.20) on test data: at "
                          "least 1.50 (1.30 to 1.70) to its family")  # fmt: skip
    assert "; 4.50 (4.30 to 4.70) to its encoder, which does not find the best q for each datum" in own
    assert own.endswith("0.70 (0.50 to 0.90) of its amortization gap is there on new data alone: so much smaller is "
                        "the gap on training data (generalization).")  # fmt: skip
    local = next(text for text in losses if text.startswith("local loses"))
    assert "to rows that are not at their optimum (optimization gap)" in local and "at least 0.30" not in local
    assert any(text.startswith("“At least”: log p(x) is known from below alone") for text in said(tmp_path, "caution"))


def test_exact_gaps_are_not_at_least(tmp_path):
    write_gaps(tmp_path / "a", exact=True)
    assert "at least" not in " ".join(said(tmp_path)).lower()


@pytest.mark.parametrize("gap", [0.1, -0.3])
def test_generalization_that_is_not_shown(tmp_path, gap):
    add_families(write_gaps(tmp_path / "a"), generalization=gap)
    (text,) = (t for t in said(tmp_path, "loss") if t.startswith("amortized loses"))
    if gap == 0.1:
        assert "is not shown (difference 0.10, -0.10 to 0.30)" in text
    else:
        assert "its amortization gap is 0.30 (0.10 to 0.50) smaller than on training data" in text


def test_an_exact_posterior_loses_nothing(tmp_path):
    write_run(tmp_path / "a", "gmm")
    assert said(tmp_path, "loss") == [
        "gmm loses nothing on test data: its q is the exact posterior, so its ELBO is log p(x)."
    ]
    assert not any("is not measured" in text for text in said(tmp_path, "caution"))


def test_why_the_best_leads_splits_the_lead_exactly(tmp_path):
    """ΔELBO = Δ log p(x) − Δ inference gap, over the same seeds."""
    numbers = {"amortized": ([-95.0, -95.5, -94.9], [6.0, 6.1, 5.9]), "local": ([-97.0, -97.2, -97.1], [2.0, 2.2, 1.9])}
    for strategy, (elbos, gaps) in numbers.items():
        for seed, (elbo, gap) in enumerate(zip(elbos, gaps, strict=True)):
            run = write_gaps(tmp_path / f"{strategy}{seed}", strategy, seed=seed, elbo=elbo)
            content = json.loads((run / "evaluation.json").read_text())
            content["test"]["gaps"]["inference"]["mean"] = gap
            content["test"]["log_marginal"]["lower"] = estimate(elbo + gap)
            (run / "evaluation.json").write_text(json.dumps(content))
    why = said(tmp_path, "loss")[0]
    assert why.startswith("Each strategy trained a model of its own. Against local, amortized stands so: its inference "
                          "gap is 3.97 nats (")  # fmt: skip
    assert "larger, the log p(x) of its model 5.93 nats (" in why
    assert "higher (paired over 3 common seeds), as far as" in why


def test_gaps_that_were_not_measured_come_with_the_command(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_seeds(tmp_path / "it's", "local", [-100.0, -101.0])
    (text,) = (t for t in said(tmp_path, "caution") if "is not measured" in t)
    command = "python -m vem.evaluate 'it'\"'\"'s/local0_' evaluation=gaps"
    assert f"{command} measures the first of 2 runs, and likewise the other 1" in text


def test_failed_checks_missing_runs_and_unequal_seeds_are_cautions(tmp_path):
    write_gaps(tmp_path / "a", checks=(BAD,), config_hash="a")
    write_seeds(tmp_path, "local", [-100.0, -101.0, -102.0])
    write_run(tmp_path / "failed", "amortized", seed=1, status="failed", error="NaN", evaluated=False)
    cautions = " ".join(said(tmp_path, "caution"))
    assert "amortized: checks failed (best_above_q (test))" in cautions
    assert "1 run of amortized gave no result" in cautions
    assert "unequal numbers of seeds (1 to 3)" in cautions


def test_unequal_compute_is_a_caution(tmp_path):
    write_seeds(tmp_path, "local", [-100.0, -101.0], decoder_evaluations=90_000)
    write_seeds(tmp_path, "amortized", [-98.0, -99.0], decoder_evaluations=10_000)
    (text,) = (t for t in said(tmp_path, "caution") if "equal compute" in t)
    assert "amortized 10,000 decoder evaluations, local 90,000" in text


def test_many_groups_are_told_in_few_sentences(tmp_path):
    for i in range(30):
        write_gaps(tmp_path / f"{i}", f"strategy{i}", approximation=1.0 + i, elbo=-100.0 - i)
    assert len(said(tmp_path, "loss")) == 10  # why, eight of them, and where the others stand
    assert all(len(text) < 900 for text in said(tmp_path))
