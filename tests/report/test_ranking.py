"""Which group is the best, what its leads show, and how far they reach."""

from __future__ import annotations

import numpy as np
import pytest
from answers import Rivals, about, answered
from scipy import stats
from synthetic_runs import write_gaps, write_run, write_seeds

from vem.report.ranking import rank
from vem.report.read import findings
from vem.report.sentences import in_words

RNG = np.random.default_rng(0)
BASE = RNG.normal(-100, 10, size=50)
SPREAD = stats.zscore(RNG.normal(size=50), ddof=1)
LEAD = np.array([1.1, 1.4, 1.25])


def points(*means, noise=0.0):
    """By seed, an ELBO of each data point: ``BASE`` and this mean, with the same noise in all seeds."""
    return [BASE + mean + noise * SPREAD for mean in means]


def six(lead):
    """One group above a second by ``lead``, seed by seed, and four far below."""
    rng = np.random.default_rng(1)
    far = {name: -120 + rng.normal(size=3) for name in "abcd"}
    return {"best": -98 + np.asarray(lead), "second": [-98.0] * 3, **far}


def by_hand(best, rival, level):
    """The paired interval over common seeds, or over the data of the one; and that over data of their mean."""
    d = np.array([best[seed] - rival[seed] for seed in sorted({*best} & {*rival})])
    own, data = (d.mean(axis=1), d.mean(axis=0)) if d.ndim > 1 else (d, None)
    over_data = (None, None) if data is None else ends(data, level)
    return own.mean(), *(ends(own, level) if len(d) > 1 else over_data), *over_data


def ends(values, level):
    half = stats.t.ppf((1 + level) / 2, len(values) - 1) * stats.sem(values)
    return values.mean() - half, values.mean() + half


CASES = {
    "clear": ({"a": [-98.0, -99.1, -99.9], "b": [-100.0, -101.0, -102.0]}, {"b": "here"}),
    "over seeds and data": ({"a": points(0.9, 1.0, 1.1, noise=1.0), "b": points(0, 0, 0)}, {"b": "ahead"}),
    "seeds agree, data do not": (
        {"a": points(0.019, 0.020, 0.021, noise=0.25 * 50**0.5), "b": points(0, 0, 0)}, {"b": "here"}),
    "includes zero": ({"a": [-99.0, -101.5, -101.0], "b": [-100.0, -101.0, -102.0]}, {"b": "open"}),
    "one seed": ({"a": points(1.0, noise=0.1), "b": points(0.0)}, {"b": "models"}),
    "one seed in common with one": (
        {"a": points(0.9, 1.0, 1.1, noise=0.1), "b": points(0, 0, 0), "c": points(-5)}, {"b": "ahead", "c": "models"}),
    "other seeds are easier": ({"a": [-100.0, -101.0, -90.0, -90.0], "b": [-97.6, -98.7]}, {"b": "behind"}),
    "no common seed": ({"a": {0: -90.0}, "b": {1: -100.0}}, {"b": "unknown"}),
    "no data points": ({"a": {0: -90.0}, "b": {0: -100.0}}, {"b": "unknown"}),
    "rounding": ({"a": [-98.0 + 2e-6, -99.0 + 2e-6], "b": [-98.0, -99.0]}, {"b": "equal"}),
    "the same": ({"a": [-98.0, -99.0], "b": [-98.0, -99.0]}, {"b": "equal"}),
    "sure, and nothing": ({"a": [-98.0 + d for d in (0.0009, 0.0008, 0.00085)], "b": [-98.0] * 3}, {"b": "equal"}),
    "within the floor": ({"a": [-98.0 + d for d in (0.0002, -0.0001, 0.0001)], "b": [-98.0] * 3}, {"b": "equal"}),
    "above the floor": ({"a": [-98.0 + d for d in (0.0011, 0.00112, 0.00111)], "b": [-98.0] * 3}, {"b": "here"}),
    "wide": ({"a": [-98.0 + d for d in (0.1, -0.1, 0.0003)], "b": [-98.0] * 3}, {"b": "open"}),
    "five leads": (six(LEAD), dict.fromkeys(("second", *"abcd"), "here")),
    "of five leads one does not outlast the correction": (
        six([1.0, 1.6, 1.3]), {"second": "open"} | dict.fromkeys("abcd", "here")),
}  # fmt: skip


@pytest.mark.parametrize("case", CASES)
def test_what_a_lead_shows(case):
    groups, kinds = CASES[case]
    rivals = Rivals(groups)
    found = rank(rivals.rows, rivals)
    assert {label: verdict.kind for label, verdict in found.verdicts.items()} == kinds
    for label, v in found.verdicts.items():
        assert v.level == pytest.approx(1 - 0.05 / len(kinds)) and v.best == found.best["label"]
        if v.kind == "unknown":
            assert v.low is None and v.reason and v.mean in (None, 10.0)
        else:
            expected = by_hand(rivals.values[v.best], rivals.values[label], v.level)
            shown = (v.mean, v.low, v.high, v.data_low, v.data_high)
            assert [n for n in shown if n is not None] == pytest.approx([n for n in expected if n is not None])
            assert [n is None for n in shown] == [n is None for n in expected]
        assert v.seeds == len(set(rivals.values[v.best]) & set(rivals.values[label]))
    assert found.best["label"] in in_words(found).replace(",", "").split()


def test_to_be_the_best_five_leads_count_and_not_all_fifteen_pairs():
    """Hsu (1984): of comparisons with the best there are k − 1; of one that is not the best all pairs are judged."""
    assert 5 * stats.ttest_1samp(LEAD, 0).pvalue < 0.05 < 15 * stats.ttest_1samp(LEAD, 0).pvalue
    rivals = Rivals(six(LEAD))
    assert rank(rivals.rows, rivals).doubts == []
    rivals = Rivals(six(LEAD) | {"noisy": [-90.0, -110.0, -92.5]})
    found = rank(rivals.rows, rivals)
    assert found.doubts == ["noisy"] and found.won == ([], ["a", "d", "c", "b"])


def test_those_it_is_above_by_how_far_that_reaches():
    """Over noisy nothing is shown; over near the lead is sure on these data alone; over far on others as well."""
    rivals = Rivals({"best": points(0.001, -0.001, 0.0), "near": points(-1, -1, -1, noise=20),
                     "far": points(-5, -5, -5), "noisy": points(8.5, -9.5, -0.5)})  # fmt: skip
    found = rank(rivals.rows, rivals)
    assert found.doubts == ["noisy"] and found.won == (["far"], ["near"])


class Simulated(Rivals):
    """Groups with true means, their runs drawn."""

    def __init__(self, means, seeds, rng):
        runs = np.asarray(means) + rng.normal(size=(seeds, 1)) + rng.normal(size=(seeds, len(means)))
        super().__init__({str(k): runs[:, k] for k in range(len(means))})


@pytest.mark.parametrize("means", [[0.0] * 6, [0.0, 0.0, 0.0, -9.0, -9.0, -9.0], [0.3, 0.0, 0.0, 0.0, 0.0, 0.0]])
@pytest.mark.parametrize("seeds", [3, 8])
def test_a_wrong_group_is_called_the_best_in_one_table_of_twenty_at_most(means, seeds):
    """600 tables: the error over the whole table, near ties of several groups included."""
    rng, wrong, num_tables = np.random.default_rng(0), 0, 600
    for _ in range(num_tables):
        simulated = Simulated(means, seeds, rng)
        found = rank(simulated.rows, simulated)
        best_of_all = means[int(found.best["label"])] == max(means) and means.count(max(means)) == 1
        wrong += not found.doubts and not best_of_all
    assert wrong / num_tables < 0.05 + 2 * np.sqrt(0.05 * 0.95 / num_tables)


def test_a_real_lead_is_found_with_eight_seeds():
    """Power: 3 nats above five others with noise 1 in each run; the level for all pairs finds it less often."""
    rng = np.random.default_rng(0)
    tables = [Simulated([3.0, 0.0, 0.0, 0.0, 0.0, 0.0], 8, rng) for _ in range(200)]
    ranked = [rank(table.rows, table) for table in tables]
    found = sum(not r.doubts and r.best["label"] == "0" for r in ranked)
    strict = sum(len(r.won[1]) == 5 and r.best["label"] == "0" for r in ranked)
    assert found > 100 and found > 1.2 * strict


@pytest.mark.parametrize("check", ["finite", "best_above_q", "best_below_upper", "better_than_prior", "outliers"])
@pytest.mark.parametrize(("where", "counts"), [("test", True), ("train, test", True), ("train", False)])
def test_a_check_of_the_bound_itself_puts_it_in_doubt(check, where, counts):
    rivals = Rivals({"a": [1.0]})
    (row,) = rivals.rows
    found = rank([row | {"checks_failed": f"converged (test); quadrature (test); {check} ({where})"}], rivals)
    assert found.failed == ([check] if counts else [])


OUTLIERS = {"name": "outliers", "passed": False, "detail": "found"}


@pytest.mark.parametrize(("own", "other"), [((OUTLIERS,), ()), ((), (OUTLIERS,))])
def test_checks_that_a_seed_failed_reach_the_ranking(tmp_path, own, other):
    for seed, elbo in enumerate([-95.0, -95.1, -95.2]):
        write_gaps(tmp_path / f"a{seed}", checks=own if seed == 1 else (), seed=seed, elbo=elbo)
        write_gaps(tmp_path / f"b{seed}", "local", checks=other, seed=seed, elbo=elbo - 2 + 0.01 * seed)
    (found,) = answered(tmp_path).rankings
    assert found.best["label"] == "amortized" and found.doubts == []
    assert found.failed == (["outliers"] if own else [])
    assert ("outliers" in in_words(found).partition("above the next best")[2]) is bool(other)


def write_sizes(root, groups):
    """label → size of z → ELBOs by seed."""
    for label, sizes in groups.items():
        for size, elbos in sizes.items():
            config = {"latent_dim": size, "model": {"latent_dim": size}}
            write_seeds(root, label, elbos, latent_dim=size, config=config)


def test_along_an_axis_the_level_is_that_of_the_whole_answer(tmp_path):
    """A lead at one value that counts for its pair alone, and not where 3 of all groups and 1 at each value do."""
    d = np.array([1.0, 1.6, 1.3])
    write_sizes(tmp_path, {"local": {2: [-98.0] * 3, 10: [-110.0] * 3},
                           "amortized": {2: (-98 + d).tolist(), 10: (-110 + d).tolist()}})  # fmt: skip
    whole, *along = answered(tmp_path).rankings
    assert whole.place is None and len(whole.verdicts) == 3 and whole.doubts
    assert [found.place for found in along] == ["latent_dim=2", "latent_dim=10"]
    for found in along:
        (verdict,) = found.verdicts.values()
        low, high = stats.ttest_1samp(d, 0).confidence_interval(1 - 0.05 / 5)
        assert low < 0 < stats.ttest_1samp(d, 0).confidence_interval(0.95)[0]
        assert (verdict.kind, verdict.low, verdict.high) == ("open", pytest.approx(low), pytest.approx(high))


def test_along_one_axis_the_best_at_each_value(tmp_path):
    write_sizes(tmp_path, {"local": {2: [-98.0, -99.0], 10: [-90.0, -91.0]},
                           "amortized": {2: [-97.0, -98.01], 10: [-90.0, -91.01]}})  # fmt: skip
    write_seeds(tmp_path, "gmm", [-120.0, -121.0])  # it has no z, and is compared at every value
    _, two, ten = answered(tmp_path).rankings
    assert len(two.verdicts) == len(ten.verdicts) == 2
    assert two.best["strategy"] == "amortized" and two.doubts == [] and two.second["strategy"] == "local"
    assert two.verdicts[two.second["label"]].mean == pytest.approx(0.995)
    assert ten.doubts == ["amortized, latent_dim=10"]


@pytest.mark.parametrize(
    ("firsts", "common"), [({"amortized": 0, "local": 0}, None), ({"amortized": 0, "local": 1}, 2)]
)
def test_means_over_other_seeds_than_the_lead(tmp_path, firsts, common):
    """The means may say 0.20 where the two seeds that both have say 1.15."""
    elbos = {"amortized": (-102.4, -100.0, -100.0), "local": (-101.1, -101.2, -100.7)}
    for name, first in firsts.items():
        for seed, elbo in enumerate(elbos[name], start=first):
            write_run(tmp_path / f"{name}{seed}", name, seed=seed, elbo=elbo)
    found = answered(tmp_path)
    (ranking,) = found.rankings
    (verdict,) = ranking.verdicts.values()
    assert ranking.common(verdict.rival) == common and ("other_seeds" in found.cautions) is (common is not None)
    assert verdict.mean == pytest.approx(0.2 if common is None else 1.15)


def test_a_single_group_is_compared_with_nothing_and_one_without_an_elbo_is_not_ranked(tmp_path):
    write_run(tmp_path / "hmc", "hmc", elbo={"value": None, "reason": "draws without a density"})
    alone = answered(tmp_path)
    assert alone.rankings == [] and alone.cautions["no_elbo"].labels == ("hmc",)
    assert alone.cautions["no_elbo"].facts == {"reason": "draws without a density"} and alone.cautions["no_elbo_at_all"]
    write_run(tmp_path / "a")
    (table,) = findings([tmp_path]).tables
    (found,) = about(table).rankings
    assert [row["label"] for row in found.rows] == ["local"] and found.verdicts == {}
    assert "no_elbo_at_all" not in about(table).cautions
