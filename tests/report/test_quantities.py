"""Numbers by name: every kind of cell of a run's and of a group's row, and no misspelt name that reads as a gap."""

from __future__ import annotations

from itertools import product
from pathlib import Path

import numpy as np
import pytest
from scipy import stats
from synthetic_runs import write_run

from vem.errors import VemError
from vem.report.frame import numbers
from vem.report.quantities import (
    BOUNDS,
    GAPS,
    OF_SOME,
    QUANTITIES,
    Estimate,
    estimate,
    fact,
    families,
    gaps_of,
    keys_of,
    plain_rows,
)
from vem.report.read import findings
from vem.report.runs import RunRecord


def found(mean, low=None, high=None, identified=None):
    entry = {"mean": mean, "se": 0.1, "mc_se": 0.01}
    return entry if identified is None else {**entry, "ci95": [low, high], "identified": identified}


EVALUATION = {
    "test": {
        "num_data": 250,
        "gap_data": 100,
        "gaps": {
            "approximation": found(1.0, 0.8, 1.2, [1.0, None]),
            "amortization": {"mean": {"value": None, "reason": "2 of 100 data have no finite value"}},
            "inference": found(3.0, 2.8, 3.2, [2.5, 3.5]),
        },
        "log_marginal": {"lower": found(-90.0), "upper": None, "kind": "annealing",
                         "simulated_width": {"mean": 0.02, "max": 0.2}},
        "others": {"importance": {"lower": found(-91.0), "kind": "IWAE, K=64", "ess": {"median": 1.5},
                                  "trustworthy": False}},
        "families": {"full": {"best_elbo": found(-90.5, -90.7, -90.3, [-90.5, -90.5]), "converged": 0.9},
                     "own": {"best_elbo": found(-91.0), "own": True}},
        "diagnostics": {"active_units": 2},
        "checks": [{"name": "finite", "passed": False, "detail": "…"}],
    }
}  # fmt: skip
RUN = numbers(RunRecord(Path("run"), {"status": "done"}, EVALUATION))
GROUP = {
    "test_elbo_mean": -95.0, "test_elbo_se": 0.5, "test_elbo_over": 2.0, "test_elbo_data_se": float("nan"),
    "test_kl_mean": None, "test_kl_reason": "seed 0: not measured",
    "test_inference_gap_mean": 3.0, "test_inference_gap_ci95_low": 2.0, "test_inference_gap_ci95_high": float("nan"),
    "test_inference_gap_at_least": True, "test_inference_gap_data_ci95_low": 2.5, "test_inference_gap_sought": True,
    "test_log_marginal_kind": "annealing", "test_log_marginal_lower_mean": -92.0,
    "paired_mean": -1.0, "paired_seeds": 3, "paired_data_ci95_high": 0.5, "training_seconds_mean": 12.0,
}  # fmt: skip


@pytest.mark.parametrize(
    ("row", "asked", "expected"),
    [
        (RUN, ("test", "approximation_gap"), Estimate(1.0, 0.1, 0.01, 0.8, None, 1.0, None, True, sought=True)),
        (RUN, ("test", "inference_gap"), Estimate(3.0, 0.1, 0.01, 2.8, 3.2, 2.5, 3.5, sought=True)),
        (RUN, ("test", "amortization_gap"), Estimate(reason="2 of 100 data have no finite value", sought=True)),
        (RUN, ("test", "optimization_gap"), Estimate(reason="not measured")),
        (RUN, ("train", "inference_gap"), Estimate(reason="not measured")),
        (RUN, ("test", "log_marginal_lower"), Estimate(-90.0, 0.1, 0.01, kind="annealing", one_sided=True)),
        (RUN, ("test", "log_marginal_upper"), Estimate(kind="annealing", reason="no upper bound on log p(x)")),
        (RUN, ("test", "importance_bound"), Estimate(-91.0, 0.1, 0.01, kind="IWAE, K=64", ess=1.5, loose=True)),
        (RUN, ("test", "best_elbo", "full"), Estimate(-90.5, 0.1, 0.01, -90.7, -90.3, -90.5, -90.5, sought=True)),
        (RUN, ("test", "converged", "full"), Estimate(0.9)),
        (RUN, ("test", "active_units"), Estimate(2.0)),
        (GROUP, ("test", "elbo"), Estimate(-95.0, 0.5, over=2)),
        (GROUP, ("test", "kl"), Estimate(reason="seed 0: not measured")),
        (GROUP, ("test", "inference_gap"), Estimate(3.0, low=2.0, one_sided=True, sought=True, data_low=2.5)),
        (GROUP, ("test", "log_marginal_lower"), Estimate(-92.0, kind="annealing")),
        (GROUP, (None, "paired"), Estimate(-1.0, data_high=0.5, over=3)),
        (GROUP, (None, "training_seconds"), Estimate(12.0)),
        (GROUP, (None, "epochs"), Estimate(reason="not measured")),
    ],
)
def test_a_number_by_its_name(row, asked, expected):
    assert estimate(row, *asked) == expected


@pytest.mark.parametrize(
    "asked",
    [("test", "aproximation_gap"), ("test", "elboo"), ("tset", "elbo"), (None, "elbo"), ("test", "training_seconds"),
     ("test", "elbo", "full")],
)  # fmt: skip
def test_a_misspelt_number_is_an_error(asked):
    with pytest.raises(VemError, match=r"did you mean|There are|of no split") as raised:
        estimate(RUN, *asked)
    assert isinstance(raised.value, KeyError)


def test_what_a_row_holds_is_listed():
    assert gaps_of(RUN, "test") == ["approximation", "inference"] and gaps_of(RUN, "train") == []
    assert families(RUN, "test") == ["full", "own"] and families(RUN, "valid") == []
    assert {*GAPS.values(), *BOUNDS} <= set(QUANTITIES)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("checks", "finite"),
        ("gap_data", "100 of 250"),
        ("simulated_width", 0.02),
        ("simulated_worst", 0.2),
        ("x", None),
    ],
)
def test_a_fact_by_its_name(name, value):
    assert fact(RUN, "test", name) == value
    with pytest.raises(VemError, match="There are: checks"):
        fact(RUN, "test", name + "_")


@pytest.mark.parametrize("tree", ["gaps", "measured", "exact", "rich", "single"])
def test_means_over_seeds_by_hand(tree):
    found = findings([Path(__file__).parents[1] / "golden" / "reports" / tree])
    runs = {row["directory"]: row for row in plain_rows(found.runs)}
    rows = [row for table in found.tables for row in plain_rows(table.groups)]
    compared = 0
    for row, key in product(rows, keys_of(found.runs)):
        own, members = estimate(row, *key), [estimate(runs[d], *key) for d in row["directories"]]
        means = [one.mean for one in members]
        if own.mean is None or own.over is not None or key[1] in OF_SOME:
            continue
        compared += 1
        assert own.mean == pytest.approx(np.mean(means)) and len(means) == row["seeds"]
        if len(means) > 1:
            assert own.se == pytest.approx(stats.sem(means))
            low = np.mean(means) - stats.t.ppf(0.975, len(means) - 1) * own.se
            assert own.low is None or own.low == pytest.approx(low)
            assert own.one_sided == any(one.one_sided for one in members) and (not own.one_sided or own.high is None)
        else:
            assert (own.se, own.low, own.high, own.data_se) == (None, members[0].low, members[0].high, members[0].se)
        for end in ("identified_low", "identified_high"):
            ends = [getattr(one, end) for one in members]
            assert getattr(own, end) == (None if None in ends else pytest.approx(np.mean(ends)))
    assert compared > 5


@pytest.mark.parametrize(
    ("status", "why"), [("failed", "no run is finished"), ("done", "not evaluated (evaluation=none)")]
)
def test_a_group_without_a_result_says_why(tmp_path, status, why):
    for seed in range(2):
        write_run(tmp_path / f"{seed}", seed=seed, status=status, evaluated=False)
    (row,) = plain_rows(findings([tmp_path]).tables[0].groups)
    assert (row["seeds"], row["runs"]) == (2 * (status == "done"), 2)
    found = estimate(row, "test", "elbo")
    assert found.mean is None and found.reason.endswith(why)
    assert (estimate(row, None, "training_seconds").mean is None) == (status == "failed")
