"""Paired differences against scipy and pandas, on designs with unequal seeds and failed runs."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from answers import about
from scipy import stats
from synthetic_runs import write_run, write_scored

from vem.errors import VemError
from vem.report.intervals import ONE_DATUM, Scores, paired
from vem.report.read import findings
from vem.report.sentences import in_words

DATA = 30
STRATEGIES = ("local", "amortized", "gmm", "exact_em")


def write_design(root, seeds: dict[str, list[int]], rng) -> None:
    """A run for each strategy and seed; data and seeds have effects of their own, as in real runs."""
    datum, seed_effect = rng.normal(-95, 12, size=DATA), rng.normal(0, 2, size=20)
    for level, strategy in enumerate(STRATEGIES):
        for seed in seeds.get(strategy, []):
            elbo = datum + seed_effect[seed] - 0.8 * level + rng.normal(size=DATA)
            write_scored(root / f"{strategy}{seed}", {"train": elbo + 1, "test": elbo}, strategy=strategy, seed=seed)


def elbos(root) -> pd.DataFrame:
    """The test ELBO of each run (strategy and seed) and row, from the files alone."""
    found = {path.parent.name: pd.read_csv(path).query("split == 'test'") for path in root.glob("*/per_datum.csv")}
    table = pd.concat(found, names=["run", None]).reset_index("run")
    return table.assign(strategy=table["run"].str.rstrip("0123456789"), seed=table["run"].str.extract(r"(\d+)$")[0])


def oracle(table: pd.DataFrame, own: str, base: str) -> dict[str, float]:
    """pandas joins the rows, scipy tests them."""
    sides = [table[table["strategy"] == name] for name in (own, base)]
    both = sides[0].merge(sides[1], on=["seed", "row"], suffixes=("_own", "_base"))
    if both.empty:
        return {"seeds": 0}
    by_seed = both.groupby("seed")[["elbo_own", "elbo_base"]].mean()
    pairs = by_seed if len(by_seed) > 1 else both[["elbo_own", "elbo_base"]]
    low, high = stats.ttest_rel(pairs["elbo_own"], pairs["elbo_base"]).confidence_interval(0.95)
    d = pairs["elbo_own"] - pairs["elbo_base"]
    assert (low, high) == pytest.approx(stats.t.interval(0.95, len(pairs) - 1, loc=d.mean(), scale=stats.sem(d)))
    return {"seeds": len(by_seed), "mean": d.mean(), "se": stats.sem(d), "ci95_low": low, "ci95_high": high}


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
    table = elbos(tmp_path)
    for baseline in list(seeds)[:2]:
        groups = findings([tmp_path], baseline=baseline).tables[0].groups.set_index("label")
        for label, row in groups.iterrows():
            expected = {"seeds": 0} if label == baseline else oracle(table, label, baseline)
            if not expected["seeds"]:
                reason = "the baseline" if label == baseline else "no seed in common"
                assert pd.isna(row["paired_mean"]) and row["paired_reason"] == reason
                continue
            assert {end: row[f"paired_{end}"] for end in expected} == pytest.approx(expected, rel=1e-6, abs=1e-8)


def test_means_and_errors_over_seeds_and_over_data_against_pandas(tmp_path):
    seeds = {"local": [0, 2, 5], "amortized": [1], "gmm": [0, 1, 2, 5]}
    write_design(tmp_path, seeds, np.random.default_rng(3))
    (table,) = findings([tmp_path], baseline="local").tables
    found, single = table.groups.set_index("label"), elbos(tmp_path)
    by_run = single.groupby(["strategy", "seed"])["elbo"].mean().groupby("strategy")
    over_data = single.groupby(["strategy", "row"])["elbo"].mean().groupby("strategy").sem()
    expected = pd.DataFrame({"test_elbo_mean": by_run.mean(), "test_elbo_se": by_run.sem(), "seeds": by_run.size(),
                             "test_elbo_data_se": over_data})  # fmt: skip
    columns = list(expected)
    pd.testing.assert_frame_equal(
        found[columns].astype(float), expected.loc[found.index, columns].astype(float), check_names=False, rtol=1e-6
    )
    assert set(found["num_data"]) == {DATA}
    common = single[single["seed"].isin(["0", "2", "5"])].pivot_table(index="row", columns="strategy", values="elbo")
    d = common["gmm"] - common["local"]
    ends = stats.t.interval(0.95, DATA - 1, d.mean(), stats.sem(d))
    assert found.loc["gmm", "paired_data_se"] == pytest.approx(stats.sem(d))
    assert tuple(found.loc["gmm", ["paired_data_ci95_low", "paired_data_ci95_high"]]) == pytest.approx(ends)


def test_the_baseline_is_the_best_or_the_one_that_is_named(tmp_path):
    write_design(tmp_path / "a", {"local": [0, 1], "gmm": [0, 1]}, np.random.default_rng(0))
    assert findings([tmp_path / "a"]).tables[0].baseline == "local"
    assert findings([tmp_path / "a"], baseline="gmm").tables[0].baseline == "gmm"
    with pytest.raises(VemError, match=r"no group is called so; did you mean 'local'.*The groups are: gmm; local"):
        findings([tmp_path / "a"], baseline="locl")
    for size in (2, 50):
        write_run(tmp_path / "b" / f"{size}", latent_dim=size)
    with pytest.raises(VemError, match=r"strategy of several groups.*latent_dim=2; local, latent_dim=50"):
        findings([tmp_path / "b"], baseline="local")
    assert findings([tmp_path / "b"], baseline="local, latent_dim=2").tables[0].baseline == "local, latent_dim=2"


# --- what cannot be paired


def scores(*values: float) -> Scores:
    x = np.array(values)
    return Scores(float(x.mean()), np.arange(len(x), dtype=float), x)


OTHER = scores(0.0, 1.0)._replace(rows=np.array([5.0, 6.0]))
TWO = scores(1.0, 2.0)


@pytest.mark.parametrize(
    ("own", "base", "mean", "seeds", "over", "reason"),
    [
        ([TWO, Scores(None)], [scores(0.0, 0.0), TWO], None, 2, "seeds", "seed 1 has no test ELBO"),
        ([TWO], [OTHER], None, 0, "seeds", "no seed in common, evaluated on the same data"),
        ([TWO, scores(5.0, 7.0)], [OTHER, scores(4.0, 5.0)], 1.5, 1, "data", None),  # other rows are never compared
        ([TWO], [Scores(0.5)], 1.0, 1, "data", "could be paired"),
        ([Scores(-3.0)], [scores(-5.0)], 2.0, 1, "data", "could be paired"),  # one datum, which is not known
        ([scores(-3.0)], [scores(-5.0)], 2.0, 1, "data", ONE_DATUM),
    ],
)
def test_what_cannot_be_paired_says_why(own, base, mean, seeds, over, reason):
    found = paired(dict(enumerate(own)), dict(enumerate(base)))
    assert (found.mean, found.seeds, found.over) == (mean, seeds, over)
    assert (found.reason is None) if reason is None else (reason in found.reason and found.interval(0.95) is None)
    assert found.alone == (reason == ONE_DATUM)


def test_intervals_at_another_level_and_over_data():
    rng = np.random.default_rng(0)
    own, base = rng.normal(size=(3, 20)), rng.normal(size=(3, 20))
    found = paired({s: scores(*own[s]) for s in range(3)}, {s: scores(*base[s]) for s in range(3)})
    seeds, data = (own - base).mean(axis=1), (own - base).mean(axis=0)
    assert found.data_se == pytest.approx(stats.sem(data)) and found.mean == pytest.approx(data.mean())
    assert found.interval(0.99) == pytest.approx(stats.t.interval(0.99, 2, seeds.mean(), stats.sem(seeds)))
    assert found.data_interval(0.99) == pytest.approx(stats.t.interval(0.99, 19, data.mean(), stats.sem(data)))
    found = paired({0: TWO, 1: OTHER}, {0: scores(0.0, 0.0), 1: OTHER})  # not the same data in all seeds
    assert found.se is not None and found.data_se is None and found.data_interval(0.95) is None


@pytest.mark.parametrize("seeds", [1, 2])
def test_one_datum_is_paired_and_its_error_is_not_known(tmp_path, seeds):
    for seed in range(seeds):
        for strategy, elbo in (("local", -3.0), ("amortized", -5.0 - 0.01 * seed)):
            write_scored(tmp_path / f"{strategy}{seed}", {"test": np.array([elbo])}, strategy=strategy, seed=seed)
    found = findings([tmp_path], baseline="local")
    row = found.tables[0].groups.set_index("label").loc["amortized"]
    assert row["paired_mean"] == pytest.approx(-2.0 - 0.005 * (seeds - 1)) and row["paired_reason"] == ONE_DATUM
    assert pd.isna(row["paired_data_se"]) and pd.isna(row["paired_se"]) == (seeds == 1)
    (ranking,) = about(found.tables[0]).rankings
    (verdict,) = ranking.verdicts.values()
    assert verdict.data_low is None and ranking.leads["amortized"].alone and "one test data point" in in_words(ranking)
    assert (verdict.kind, verdict.reason) == (("unknown", ONE_DATUM) if seeds == 1 else ("here", None))
