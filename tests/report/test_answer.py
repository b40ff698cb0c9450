"""The answer's words: who is best, by how much, what is lost and why, and what stays open."""

from __future__ import annotations

import json

import numpy as np
import pytest
from scipy import stats
from synthetic_runs import BAD, add_families, editing, estimate, said, write_gaps, write_run, write_scored, write_seeds

from vem.report.intervals import Scores, paired
from vem.report.ranking import rank as race
from vem.report.read import findings
from vem.storage import ledger
from vem.storage.records import write_csv


def test_a_clear_lead_with_its_interval(tmp_path):
    write_seeds(tmp_path, "local", [-100.0, -101.0, -102.0])
    write_seeds(tmp_path, "amortized", [-98.0, -99.1, -99.9])
    d = np.array([2.0, 1.9, 2.1])
    low, high = stats.t.interval(0.95, 2, d.mean(), stats.sem(d))
    (first,) = said(tmp_path, "finding")
    assert first.startswith("amortized has the best bound on these 50 test data: its test ELBO is -99.00 nats per "
                            "datum (mean of 3 seeds, standard error 0.55), 2.00 nats (95 % interval "
                            f"{low:.2f} to {high:.2f}, paired over 3 common seeds) above the next best, "
                            "local.")  # fmt: skip
    assert first.endswith("What it would be on other test data is not known: the ELBO of each datum is missing.")


def write_paired(root, differences, noise, num=50, **fields):
    """local, and amortized with these differences by seed; ``noise``: their spread over data, the same in all seeds."""
    rng = np.random.default_rng(0)
    base, spread = rng.normal(-100, 10, size=num), noise * stats.zscore(rng.normal(size=num), ddof=1)
    for seed, d in enumerate(differences):
        write_scored(root / f"local{seed}", {"test": base}, strategy="local", seed=seed, **fields)
        write_scored(root / f"amortized{seed}", {"test": base + d + spread}, strategy="amortized", seed=seed, **fields)


def test_a_lead_that_other_seeds_keep_and_other_data_may_not(tmp_path):
    """Seeds agree to 0.001 nats, the data to 0.25: the best on these data, and of others nothing is known."""
    write_paired(tmp_path, [0.019, 0.020, 0.021], noise=0.25 * np.sqrt(50))
    (first,) = said(tmp_path, "finding")
    assert first.startswith("amortized has the best bound on these 50 test data:")
    low, high = stats.t.interval(0.95, 49, 0.02, 0.25)
    assert first.endswith("On other test data the lead over local may be none: over the data its interval is "
                          f"{low:.2f} to {high:.2f}.")  # fmt: skip


def test_a_lead_over_seeds_and_over_data(tmp_path):
    write_paired(tmp_path, [0.9, 1.0, 1.1], noise=1.0)
    (first,) = said(tmp_path, "finding")
    low, high = stats.t.interval(0.95, 49, 1.0, 1 / np.sqrt(50))
    assert first.startswith("amortized has the best bound: its test ELBO is")
    assert first.endswith(f"Over the 50 test data the interval is {low:.2f} to {high:.2f}.")


def test_no_winner_where_the_interval_covers_0(tmp_path):
    write_seeds(tmp_path, "local", [-100.0, -101.0, -102.0])
    write_seeds(tmp_path, "amortized", [-99.0, -101.5, -101.0])
    (first,) = said(tmp_path, "finding")
    assert first.startswith("amortized has the highest test ELBO, -100.5") and "cannot be called the best" in first
    assert first.endswith("which covers 0.") and "best bound" not in first


def write_six(root, d):
    """One group above a second by ``d``, seed by seed, and four far below."""
    rng = np.random.default_rng(1)
    write_seeds(root, "best", (-98 + d).tolist())
    write_seeds(root, "second", [-98.0, -98.0, -98.0])
    for name in ("a", "b", "c", "d"):
        write_seeds(root, name, (-120 + rng.normal(size=3)).tolist())


def test_the_best_of_many_must_outlast_the_correction(tmp_path):
    """A lead that counts for its pair alone, and not when the five leads over the others are allowed for."""
    d = np.array([1.0, 1.6, 1.3])
    write_six(tmp_path, d)
    assert stats.ttest_1samp(d, 0).pvalue < 0.05 < 5 * stats.ttest_1samp(d, 0).pvalue
    (first,) = said(tmp_path, "finding")
    low, high = stats.ttest_1samp(d, 0).confidence_interval(1 - 0.05 / 5)
    assert "cannot be called the best: its lead over second" in first
    assert f"corrected 95 % interval {low:.2f} to {high:.2f}, paired over 3 common seeds, which covers 0" in first
    caution = next(text for text in said(tmp_path, "caution") if "Bonferroni" in text)
    assert caution.startswith("6 groups were compared, and the best") and "all 5 leads" in caution
    assert "Without the correction the lead over second would count." in caution


def test_to_be_the_best_five_leads_count_and_not_all_fifteen_pairs(tmp_path):
    """Hsu (1984): of comparisons with the best there are k − 1."""
    d = np.array([1.1, 1.4, 1.25])
    write_six(tmp_path, d)
    assert 5 * stats.ttest_1samp(d, 0).pvalue < 0.05 < 15 * stats.ttest_1samp(d, 0).pvalue
    (first,) = said(tmp_path, "finding")
    low, high = stats.ttest_1samp(d, 0).confidence_interval(1 - 0.05 / 5)
    assert first.startswith("best has the best bound on these 50 test data")
    assert f"1.25 nats (corrected 95 % interval {low:.2f} to {high:.2f}" in first


def test_one_that_is_not_the_best_leads_others_at_the_level_for_all_pairs(tmp_path):
    """A lead that is enough for the best, of a group that another keeps from being it, and 15 pairs to allow for."""
    write_six(tmp_path, np.array([1.1, 1.4, 1.25]))
    write_seeds(tmp_path, "noisy", [-90.0, -110.0, -92.5])
    (first,) = said(tmp_path, "finding")
    assert "cannot be called the best: its lead over noisy" in first
    assert "second" not in first and first.endswith("On these test data it is above a, d, c and b.")


class Simulated:
    """Groups with true means, their runs drawn: what the race asks of the rivals of a table."""

    def __init__(self, means, seeds, rng):
        runs = np.asarray(means) + rng.normal(size=(seeds, 1)) + rng.normal(size=(seeds, len(means)))
        self.scores = {str(k): {s: Scores(float(v)) for s, v in enumerate(runs[:, k])} for k in range(len(means))}
        self.rows = [{"label": str(k), "test_elbo_mean": float(runs[:, k].mean())} for k in range(len(means))]

    def difference(self, label, baseline):
        return paired(self.scores[label], self.scores[baseline])


@pytest.mark.parametrize("means", [[0.0] * 6, [0.0, 0.0, 0.0, -9.0, -9.0, -9.0], [0.3, 0.0, 0.0, 0.0, 0.0, 0.0]])
@pytest.mark.parametrize("seeds", [3, 8])
def test_a_wrong_group_is_called_the_best_in_one_table_of_twenty_at_most(means, seeds):
    """600 tables: the error over the whole table, near ties of several groups included."""
    rng, wrong, num_tables = np.random.default_rng(0), 0, 600
    for _ in range(num_tables):
        simulated = Simulated(means, seeds, rng)
        found = race(simulated.rows, simulated)
        best_of_all = means[int(found.best["label"])] == max(means) and means.count(max(means)) == 1
        wrong += not found.doubts and not best_of_all
    assert wrong / num_tables < 0.05 + 2 * np.sqrt(0.05 * 0.95 / num_tables)


def test_a_real_lead_is_found_with_eight_seeds():
    """Power: 3 nats above five others with noise 1 in each run; the level for all pairs finds it less often."""
    rng = np.random.default_rng(0)
    tables = [Simulated([3.0, 0.0, 0.0, 0.0, 0.0, 0.0], 8, rng) for _ in range(200)]
    races = [race(table.rows, table) for table in tables]
    found = sum(not r.doubts and r.best["label"] == "0" for r in races)
    strict = sum(len(r.won[1]) == 5 and r.best["label"] == "0" for r in races)
    assert found > 100 and found > 1.2 * strict


def test_along_an_axis_the_level_is_that_of_the_headline(tmp_path):
    """A lead at one value that counts for its pair alone, and not where 3 of all groups and 1 at each value do."""
    d = np.array([1.0, 1.6, 1.3])
    for size, level in ((2, -98.0), (10, -110.0)):
        config = {"latent_dim": size, "model": {"latent_dim": size}}
        write_seeds(tmp_path, "local", [level] * 3, latent_dim=size, config=config)
        write_seeds(tmp_path, "amortized", (level + d).tolist(), latent_dim=size, config=config)
    first, two, ten = said(tmp_path, "finding")
    low, high = stats.ttest_1samp(d, 0).confidence_interval(1 - 0.05 / 5)
    assert low < 0 < stats.ttest_1samp(d, 0).confidence_interval(0.95)[0]
    assert "cannot be called the best" in first
    for text, size in ((two, 2), (ten, 10)):
        assert text.startswith(f"At latent_dim={size} none can be called the best: amortized has the highest mean")
        assert f"has the corrected 95 % interval {low:.2f} to {high:.2f}, paired over 3 common seeds, which" in text


def test_those_that_are_not_told_apart_are_named(tmp_path):
    write_seeds(tmp_path, "best", [-98.0, -98.1, -97.9, -98.0])
    write_seeds(tmp_path, "near", [-98.5, -98.6, -98.4, -98.5])
    write_seeds(tmp_path, "noisy", [-90.0, -110.0, -89.0, -120.0])
    (first,) = said(tmp_path, "finding")
    assert first.startswith("best has the highest test ELBO, -98.0")
    assert "but it cannot be called the best: its lead over noisy" in first
    assert first.endswith("On these test data it is above near.")


def test_one_seed_is_over_data_and_says_so(tmp_path):
    rng = np.random.default_rng(0)
    base = rng.normal(-100, 10, size=50)
    write_scored(tmp_path / "a", {"test": base}, strategy="local")
    write_scored(tmp_path / "b", {"test": base + 1 + 0.1 * rng.normal(size=50)}, strategy="amortized")
    first, *_ = said(tmp_path, "finding")
    assert first.startswith("Of these trained models, amortized has the highest test ELBO")
    assert "paired over the 50 test data of the one common seed" in first
    assert first.endswith("Whether the strategies differ is not known from one seed.")
    assert any(text.startswith("Every group has one seed alone") for text in said(tmp_path, "caution"))


def test_one_seed_at_each_value_of_an_axis(tmp_path):
    rng = np.random.default_rng(0)
    for size in (2, 10):
        base, config = rng.normal(-100, 10, size=50), {"latent_dim": size, "model": {"latent_dim": size}}
        for strategy, more in (("local", 0.0), ("amortized", 1.0)):
            write_scored(tmp_path / f"{strategy}{size}", {"test": base + more + 0.1 * rng.normal(size=50)},
                         strategy=strategy, latent_dim=size, config=config)  # fmt: skip
    _, *along = said(tmp_path, "finding")
    assert len(along) == 2
    for text in along:
        assert "the trained model of amortized is the best" in text
        assert text.endswith("; whether the strategies differ is not known from one seed.")


def test_one_seed_with_one_rival_and_several_with_another(tmp_path):
    """What is known from one common seed alone keeps the first from being called the best strategy."""
    write_paired(tmp_path, [0.9, 1.0, 1.1], noise=0.1)
    base = np.random.default_rng(0).normal(-100, 10, size=50)
    write_scored(tmp_path / "gmm", {"test": base - 5}, strategy="gmm", seed=0)
    (first,) = said(tmp_path, "finding")
    assert "cannot be called the best: its lead over gmm" in first
    assert first.endswith("is that of one trained model over another. It is above local.")


def test_on_the_common_seeds_the_other_one_is_above(tmp_path):
    """The highest mean comes from easy seeds of its own; where both ran it lies 2.35 below."""
    for seed, elbo in enumerate([-100.0, -101.0, -90.0, -90.0]):
        write_run(tmp_path / f"a{seed}", "amortized", seed=seed, elbo=elbo)
    for seed, elbo in enumerate([-97.6, -98.7]):
        write_run(tmp_path / f"l{seed}", "local", seed=seed, elbo=elbo)
    (first,) = said(tmp_path, "finding")
    assert first.startswith("amortized has the highest test ELBO, -95.2") and "covers 0" not in first
    assert "cannot be called the best: on the 2 common seeds local is above it by 2.35 nats (95 % interval 1.7" in first


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
    assert two.startswith("At latent_dim=2 the best on these 50 test data is amortized")
    assert "above local by 0.99" in two
    assert ten.startswith("At latent_dim=10 none can be called the best") and ten.endswith("which covers 0.")
    assert any("differ in model and latent_dim have different models" in text for text in said(tmp_path, "caution"))


def test_losses_with_intervals_and_what_cannot_be_identified(tmp_path):
    add_families(write_gaps(tmp_path / "a"))
    write_gaps(tmp_path / "b", "local", approximation=1.2, middle=-0.7)
    losses = said(tmp_path, "loss")
    own = next(text for text in losses if text.startswith("amortized loses"))
    assert own.startswith("amortized loses at least 6.00 nats per datum (at least 5.80 (97.5 %), over the data of "
                          "one seed) on test data: at least 1.50 (at least 1.30 (97.5 %)) to its family")  # fmt: skip
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
            with editing(run) as content:
                content["test"]["gaps"]["inference"]["mean"] = gap
                content["test"]["log_marginal"]["lower"] = estimate(elbo + gap)
    why = said(tmp_path, "loss")[0]
    assert why.startswith("Each strategy trained a model of its own. Against local, paired over 3 common seeds, "
                          "amortized stands so on these data: its inference gap is 3.97 nats (")  # fmt: skip
    assert "larger, the log p(x) of its model is 5.93 nats (" in why and "higher, as far as" in why


def test_gaps_that_were_not_measured_come_with_the_command(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_seeds(tmp_path / "it's", "local", [-100.0, -101.0])
    (text,) = (t for t in said(tmp_path, "caution") if "is not measured" in t)
    command = "python -m vem.evaluate 'it'\"'\"'s/local0_' evaluation=gaps"
    assert f"{command} measures the first of 2 runs, and likewise the other 1" in text


def test_a_gap_whose_interval_covers_0_has_no_cause(tmp_path):
    write_gaps(tmp_path / "a", "local", approximation=0.05, middle=-0.9)
    (text,) = (t for t in said(tmp_path, "loss") if t.startswith("local"))
    assert text.startswith(
        "local: no loss is shown on test data, its inference gap is at least 0.15 nats per datum (at least -0.05 (97.5"
    )
    assert "no approximation gap is found (at least 0.05, at least -0.15 (97.5 %))" in text
    assert "no optimization gap is found (0.10, -0.10 to 0.30)" in text and "to its family" not in text


def test_a_gap_below_0_blames_the_measurement(tmp_path):
    write_gaps(tmp_path / "a", "local", approximation=3.0, middle=-1.6)
    (text,) = (t for t in said(tmp_path, "loss") if t.startswith("local"))
    assert "its optimization gap is below 0, -0.60 (-0.80 to -0.40): the measurement missed the best q" in text


def write_marginals(run, rows, elbo, gap, kind):
    """Of each test datum log p(x) = elbo + gap; exact, or a lower bound."""
    table = [{"split": "test", "row": int(r), "elbo": float(e), "log_marginal_lower": float(e + g)}
             for r, e, g in zip(rows, elbo, gap, strict=True)]  # fmt: skip
    write_csv(run / "per_datum.csv", table)
    content, exact = json.loads((run / "evaluation.json").read_text()), kind == "exact"
    low = estimate(float((elbo + gap).mean()))
    limits = [float(gap.mean()), float(gap.mean()) if exact else None]
    content["test"] |= {
        "num_data": len(rows),
        "elbo": estimate(float(elbo.mean())),
        "log_marginal": {"lower": low, "upper": low if exact else None, "kind": kind},
    }
    content["test"]["gaps"]["inference"] |= {"mean": float(gap.mean()), "identified": limits}
    content |= {"train": {"num_data": 0}, "valid": {"num_data": 0}}
    (run / "evaluation.json").write_text(json.dumps(content))


@pytest.mark.parametrize("kind", ["exact", "ais from q*"])
def test_why_the_best_leads_on_one_seed_is_over_data(tmp_path, kind):
    rng = np.random.default_rng(0)
    elbo, gap = rng.normal(-90, 5, size=40), rng.exponential(size=40)
    more, less = 1 + 0.1 * rng.normal(size=40), 0.5 + 0.1 * rng.normal(size=40)
    write_marginals(write_gaps(tmp_path / "a", "amortized"), range(40), elbo + more, gap - less, "ais from q*")
    write_marginals(write_gaps(tmp_path / "b", "local"), range(40), elbo, gap, kind)
    why = said(tmp_path, "loss")[0]
    d = stats.t.interval(0.95, 39, -less.mean(), stats.sem(less))
    at_most, at_least = ("at most ", "at least ") if kind == "exact" else ("", "")
    assert "paired over the 40 test data of the one common seed" in why
    ends = f"at most {-d[0]:.3f} (97.5 %)" if kind == "exact" else f"{-d[1]:.3f} to {-d[0]:.3f}"
    assert f"its inference gap is {at_most}{less.mean():.3f} nats ({ends}) smaller" in why
    assert f"the log p(x) of its model is {at_least}{(more - less).mean():.3f} nats (" in why and "higher" in why
    assert ("as far as the lower bounds" in why) is (kind != "exact")


def test_why_the_best_leads_gives_no_direction_that_is_not_shown(tmp_path):
    for strategy, gaps, better in (("amortized", [2.0, 2.4, 1.9], 1.0), ("local", [2.1, 2.1, 2.2], 0.0)):
        for seed, own in enumerate(gaps):
            run = write_gaps(tmp_path / f"{strategy}{seed}", strategy, seed=seed, elbo=-95.0 + better)
            with editing(run) as content:
                content["test"]["gaps"]["inference"]["mean"] = own
                content["test"]["log_marginal"]["lower"] = estimate(-93.0 + better + 0.01 * seed * better)
    why = said(tmp_path, "loss")[0]
    assert "the two inference gaps are not told apart (-0.03 nats, " in why
    assert "smaller" not in why and "the log p(x) of its model is 1.01" in why


def test_failed_checks_stand_in_the_verdict_and_take_at_least_away(tmp_path):
    for seed, elbo in enumerate([-95.0, -95.1, -95.2]):
        write_gaps(tmp_path / f"a{seed}", checks=(BAD,), seed=seed, elbo=elbo)
        write_gaps(tmp_path / f"b{seed}", "local", seed=seed, elbo=elbo - 2 + 0.01 * seed)
    (first,) = said(tmp_path, "finding")
    assert first.startswith("amortized (checks failed: best_above_q) has the highest test ELBO")
    assert "cannot be called the best: its check best_above_q failed, so that its bound is in doubt" in first
    own, other = (next(t for t in said(tmp_path, "loss") if t.startswith(s)) for s in ("amortized", "local"))
    assert own.startswith("amortized (checks failed: best_above_q) loses 6.00 nats") and "at least" not in own
    assert "at least" in other and "checks" not in other


def test_a_sweep_that_is_not_over_says_so_first(tmp_path):
    config = {"model": {"width": 3}}
    jobs = [ledger.Job(f"{name}{seed}", (f"strategy={name}", f"seed={seed}"))
            for name in ("local", "amortized") for seed in range(3)]  # fmt: skip
    ledger.plan(tmp_path, "python -m vem.run -m", "serial", jobs, "2026-01-01")
    for name in ("local", "amortized"):
        write_run(tmp_path / f"{name}0", name, elbo=-100.0 if name == "local" else -99.0, config=config)
    (table,) = findings([tmp_path]).tables
    assert list(table.groups["runs"]) == [3, 3] and set(table.groups["status"]) == {"2 of 3 not begun"}
    assert "(one of 3 seeds, " in said(tmp_path, "finding")[0]
    first, *rest = said(tmp_path, "caution")
    assert first.startswith("4 of 6 planned jobs have no result yet (4 not begun or stopped).")
    assert "the order may still change" in first and not any("gave no result" in text for text in rest)


def test_a_run_at_work_has_not_failed(tmp_path):
    write_seeds(tmp_path, "local", [-100.0, -101.0])
    write_run(tmp_path / "at_work", "local", seed=2, status="running", evaluated=False)
    cautions = " ".join(said(tmp_path, "caution"))
    assert "1 run of local is not finished yet" in cautions and "gave no result" not in cautions


def test_ascent_on_test_data_is_a_cost_that_no_column_counts(tmp_path):
    config = {"strategy": {"_target_": "vem.local", "held_out": {"steps": 100}}}
    write_seeds(tmp_path, "local", [-100.0, -101.0], config=config)
    write_seeds(tmp_path, "amortized", [-98.0, -99.0])
    (text,) = (t for t in said(tmp_path, "caution") if "ascent steps" in t)
    assert text.startswith("The test ELBO of local includes 100 ascent steps for each test datum")


def test_decoder_evaluations_are_not_compared_across_decoders(tmp_path):
    write_seeds(tmp_path, "local", [-100.0, -101.0], decoder_evaluations=90_000)
    write_seeds(tmp_path, "gmm", [-98.0, -99.0], decoder_evaluations=10_000)
    cautions = " ".join(said(tmp_path, "caution"))
    assert "equal compute" not in cautions and "decoder evaluations do not cost the same" in cautions


def test_unequal_compute_of_every_pair_that_is_named(tmp_path):
    for size, level in ((2, -120.0), (10, -100.0)):
        config = {"latent_dim": size, "model": {"latent_dim": size}}
        spent = {"local": 90_000 if size == 2 else 10_000, "amortized": 10_000}
        for name, more in (("local", 0.0), ("amortized", 1.0)):
            write_seeds(tmp_path, name, [level + more, level + more - 0.1], latent_dim=size, config=config,
                        decoder_evaluations=spent[name])  # fmt: skip
    (text,) = (t for t in said(tmp_path, "caution") if "equal compute" in t)
    assert "amortized (latent_dim=2) 10,000 decoder evaluations, local (latent_dim=2) 90,000" in text


def test_failed_checks_missing_runs_and_unequal_seeds_are_cautions(tmp_path):
    write_gaps(tmp_path / "a", checks=(BAD,), config_hash="a")
    write_seeds(tmp_path, "local", [-100.0, -101.0, -102.0], num_data=30)
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
