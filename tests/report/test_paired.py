"""Paired differences against scipy and pandas, on designs with unequal seeds and failed runs."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from scipy import stats
from synthetic_runs import write_run, write_scored

from vem.errors import VemError
from vem.report.intervals import ONE_DATUM, Scores, paired
from vem.report.read import findings

DATA = 30
STRATEGIES = ("local", "amortized", "gmm", "exact_em")


def write_design(root, seeds: dict[str, list[int]], rng) -> None:
    """A run for each strategy and seed; data and seeds have effects of their own, as in real runs."""
    datum, seed_effect = rng.normal(-95, 12, size=DATA), rng.normal(0, 2, size=20)
    for level, strategy in enumerate(STRATEGIES):
        for seed in seeds.get(strategy, []):
            elbo = datum + seed_effect[seed] - 0.8 * level + rng.normal(size=DATA)
            write_scored(root / f"{strategy}{seed}", {"train": elbo + 1, "test": elbo}, strategy=strategy, seed=seed)


def oracle(root, own: str, base: str) -> dict[str, float]:
    """From the files alone: pandas joins the rows, scipy tests them."""
    rows = [
        pd.read_csv(path).query("split == 'test'").assign(run=path.parent.name) for path in root.glob("*/per_datum.csv")
    ]
    table = pd.concat(rows)
    table = table.assign(strategy=table["run"].str.rstrip("0123456789"), seed=table["run"].str.extract(r"(\d+)$")[0])
    both = table[table["strategy"] == own].merge(
        table[table["strategy"] == base], on=["seed", "row"], suffixes=("_own", "_base")
    )
    if both.empty:
        return {"seeds": 0}
    by_seed = both.groupby("seed")[["elbo_own", "elbo_base"]].mean()
    pairs = by_seed if len(by_seed) > 1 else both[["elbo_own", "elbo_base"]]
    test = stats.ttest_rel(pairs["elbo_own"], pairs["elbo_base"])
    low, high = test.confidence_interval(0.95)
    difference = pairs["elbo_own"] - pairs["elbo_base"]
    assert (low, high) == pytest.approx(
        stats.t.interval(0.95, len(pairs) - 1, loc=difference.mean(), scale=stats.sem(difference))
    )
    return {"seeds": len(by_seed), "mean": difference.mean(), "se": stats.sem(difference), "low": low, "high": high}


def designs():
    rng = np.random.default_rng(5)
    for _ in range(6):
        yield {name: sorted(rng.choice(7, size=rng.integers(1, 7), replace=False).tolist()) for name in STRATEGIES}
    yield {"local": [0], "amortized": [0], "gmm": [1]}  # one common seed; none
    yield {"local": [0, 1, 2], "amortized": [2, 3, 4], "gmm": [0, 1, 2, 3, 4]}
    yield {"local": [3], "amortized": [0, 1, 2, 3, 4]}


@pytest.mark.parametrize("seeds", list(designs()), ids=str)
def test_against_an_independent_computation(tmp_path, seeds):
    write_design(tmp_path, seeds, np.random.default_rng(sum(map(sum, seeds.values()))))
    for i, status in enumerate(("failed", "running")):  # runs without a result change nothing
        write_run(tmp_path / f"missing{i}", "local", seed=15 + i, status=status, evaluated=False)
    for baseline in list(seeds)[:2]:
        (table,) = findings([tmp_path], baseline=baseline).tables
        assert table.baseline == baseline
        for row in table.groups.to_dict("records"):
            if row["label"] == baseline:
                assert pd.isna(row["paired_mean"]) and row["paired_reason"] == "the baseline"
                continue
            expected = oracle(tmp_path, row["label"], baseline)
            if not expected["seeds"]:
                assert pd.isna(row["paired_mean"]) and row["paired_reason"] == "no seed in common"
                continue
            found = {"seeds": row["paired_seeds"], "mean": row["paired_mean"], "se": row["paired_se"],
                     "low": row["paired_ci95_low"], "high": row["paired_ci95_high"]}  # fmt: skip
            assert found == pytest.approx(expected, rel=1e-6, abs=1e-8)


def test_means_over_seeds_against_pandas(tmp_path):
    seeds = {"local": [0, 2, 5], "amortized": [1], "gmm": [0, 1, 2, 3]}
    write_design(tmp_path, seeds, np.random.default_rng(3))
    found = findings([tmp_path]).tables[0].groups.set_index("label")
    for strategy, own in seeds.items():
        means = pd.Series([pd.read_csv(tmp_path / f"{strategy}{s}" / "per_datum.csv").query("split == 'test'")
                           ["elbo"].mean() for s in own])  # fmt: skip
        assert found.loc[strategy, "test_elbo_mean"] == pytest.approx(means.mean())
        assert found.loc[strategy, "seeds"] == len(own) and found.loc[strategy, "num_data"] == DATA
        if len(own) > 1:
            assert found.loc[strategy, "test_elbo_se"] == pytest.approx(means.sem())
        else:
            assert pd.isna(found.loc[strategy, "test_elbo_se"])


def test_the_default_baseline_is_the_best_and_another_is_taken_by_strategy_or_label(tmp_path):
    rng = np.random.default_rng(0)
    write_design(tmp_path, {"local": [0, 1], "gmm": [0, 1]}, rng)
    assert findings([tmp_path]).tables[0].baseline == "local"
    assert findings([tmp_path], baseline="gmm").tables[0].baseline == "gmm"
    with pytest.raises(VemError, match=r"no group is called so; did you mean 'local'.*The groups are: gmm; local"):
        findings([tmp_path], baseline="locl")


def test_a_strategy_that_names_several_groups_is_no_baseline(tmp_path):
    for size in (2, 50):
        write_run(tmp_path / f"{size}", latent_dim=size)
    with pytest.raises(VemError, match=r"strategy of several groups.*latent_dim=2; local, latent_dim=50"):
        findings([tmp_path], baseline="local")
    assert findings([tmp_path], baseline="local, latent_dim=2").tables[0].baseline == "local, latent_dim=2"


def scores(*values: float) -> Scores:
    x = np.array(values)
    return Scores(float(x.mean()), np.arange(len(x), dtype=float), x)


def test_the_error_over_data_is_that_of_the_seed_average():
    rng = np.random.default_rng(0)
    own, base = rng.normal(size=(3, 20)), rng.normal(size=(3, 20))
    found = paired({s: scores(*own[s]) for s in range(3)}, {s: scores(*base[s]) for s in range(3)})
    d = (own - base).mean(axis=0)
    assert found.data_se == pytest.approx(stats.sem(d)) and found.mean == pytest.approx(d.mean())
    assert found.data_interval(0.99) == pytest.approx(stats.t.interval(0.99, 19, d.mean(), stats.sem(d)))


def test_without_the_same_data_in_all_seeds_there_is_no_error_over_data():
    shifted = scores(1.0, 2.0)._replace(rows=np.array([5.0, 6.0]))
    found = paired({0: scores(1.0, 2.0), 1: shifted}, {0: scores(0.0, 0.0), 1: shifted})
    assert found.se is not None and found.data_se is None and found.data_interval(0.95) is None


def test_errors_over_data_stand_in_the_summary(tmp_path):
    write_design(tmp_path, {"local": [0, 1, 2], "amortized": [0, 1, 2]}, np.random.default_rng(0))
    (table,) = findings([tmp_path], baseline="local").tables
    rows = table.groups.set_index("label")
    elbo = {s: np.mean([pd.read_csv(tmp_path / f"{s}{k}" / "per_datum.csv").query("split == 'test'")["elbo"].to_numpy()
                        for k in range(3)], axis=0) for s in ("local", "amortized")}  # fmt: skip
    assert rows.loc["local", "test_elbo_data_se"] == pytest.approx(stats.sem(elbo["local"]))
    d = elbo["amortized"] - elbo["local"]
    low, high = stats.t.interval(0.95, DATA - 1, d.mean(), stats.sem(d))
    assert rows.loc["amortized", "paired_data_se"] == pytest.approx(stats.sem(d))
    assert tuple(rows.loc["amortized", ["paired_data_ci95_low", "paired_data_ci95_high"]]) == pytest.approx((low, high))


def test_a_seed_without_an_elbo_leaves_no_difference():
    found = paired({0: scores(1.0, 2.0), 1: Scores(None)}, {0: scores(0.0, 0.0), 1: scores(1.0, 1.0)})
    assert found.mean is None and found.reason == "seed 1 has no test ELBO" and found.seeds == 2


def test_other_rows_are_never_compared():
    shifted = scores(0.0, 1.0)._replace(rows=np.array([5.0, 6.0]))
    found = paired({0: scores(1.0, 2.0)}, {0: shifted})
    assert found.mean is None and found.reason == "no seed in common, evaluated on the same data"
    found = paired({0: scores(1.0, 2.0), 1: scores(5.0, 7.0)}, {0: shifted, 1: scores(4.0, 5.0)})
    assert (found.mean, found.seeds, found.over) == (1.5, 1, "data")


def test_one_seed_without_rows_to_pair_has_a_mean_and_no_interval():
    found = paired({0: scores(1.0, 2.0)}, {0: Scores(0.5)})
    assert found.mean == 1.0 and found.se is None and found.interval(0.95) is None and "paired" in found.reason


def test_another_level_is_students_t():
    found = paired({s: Scores(float(s)) for s in range(4)}, {s: Scores(float(s**2)) for s in range(4)})
    d = np.array([0.0, 0.0, -2.0, -6.0])
    assert found.interval(0.99) == pytest.approx(stats.t.interval(0.99, 3, d.mean(), stats.sem(d)))


@pytest.mark.parametrize("seeds", [1, 2])
def test_one_datum_is_paired_and_its_error_is_not_known(tmp_path, seeds):
    for seed in range(seeds):
        for strategy, elbo in (("local", -3.0), ("amortized", -5.0 - 0.01 * seed)):
            write_scored(tmp_path / f"{strategy}{seed}", {"test": np.array([elbo])}, strategy=strategy, seed=seed)
    found = findings([tmp_path], baseline="local")
    row = found.tables[0].groups.set_index("label").loc["amortized"]
    assert row["paired_mean"] == pytest.approx(-2.0 - 0.005 * (seeds - 1)) and row["paired_reason"] == ONE_DATUM
    assert pd.isna(row["paired_data_se"]) and pd.isna(row["paired_se"]) == (seeds == 1)
    said = " ".join(sentence.text for sentence in found.tables[0].answer)
    assert ("one test datum" in said) and "could be paired" not in said and "is missing" not in said


def test_one_datum_whose_elbo_is_not_known_is_not_paired():
    found = paired({0: Scores(-3.0)}, {0: scores(-5.0)})
    assert found.mean == 2.0 and not found.alone and found.reason is not None and "could be paired" in found.reason
