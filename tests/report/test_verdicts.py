"""What keeps a group from being called the best, and how far a lead that is shown reaches."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats
from synthetic_runs import said, write_gaps, write_run, write_scored, write_seeds

from vem.report.intervals import Scores, paired
from vem.report.ranking import rank as race
from vem.report.read import findings
from vem.storage import ledger

GOOD_SEEDS = [-95.0, -95.1, -95.2]


def bad(name):
    return {"name": name, "passed": False, "detail": "found"}


@pytest.mark.parametrize(
    "check", ["finite", "best_above_q", "best_below_upper", "better_than_prior", "outliers", "converged", "quadrature"]
)
def test_a_bound_in_doubt_is_not_the_best(tmp_path, check):
    """What the check says of L[q] itself counts; what it says of q* or of log p(x) does not."""
    for seed, elbo in enumerate(GOOD_SEEDS):
        write_gaps(tmp_path / f"a{seed}", checks=(bad(check),) if seed == 1 else (), seed=seed, elbo=elbo)
        write_gaps(tmp_path / f"b{seed}", "local", seed=seed, elbo=elbo - 2 + 0.01 * seed)
    (first,) = said(tmp_path, "finding")
    if check in ("converged", "quadrature"):
        assert first.startswith(f"amortized (checks failed: {check}) has the best bound")
    else:
        assert first.startswith(f"amortized (checks failed: {check}) has the highest test ELBO, -95.10")
        assert f"cannot be called the best: its check {check} failed, so that its bound is in doubt. As" in first
        assert "As measured it is 1.990 nats (95 % interval" in first and first.endswith("above the next best, local.")


def test_a_check_that_failed_on_training_data_alone_is_no_doubt_on_test_data(tmp_path):
    (row,) = ({"label": "a", "strategy": "a", "test_elbo_mean": 1.0, "checks_failed": "outliers (train)"},)
    assert race([row], Rivals({"a": [1.0]})).failed == []
    assert race([row | {"checks_failed": "converged (test); outliers (train, test)"}], Rivals({"a": [1.0]})).failed == [
        "outliers"
    ]


def test_a_rival_whose_bound_is_in_doubt_makes_the_lead_doubtful(tmp_path):
    for seed, elbo in enumerate(GOOD_SEEDS):
        write_gaps(tmp_path / f"a{seed}", seed=seed, elbo=elbo)
        write_gaps(tmp_path / f"b{seed}", "local", checks=(bad("outliers"),), seed=seed, elbo=elbo - 2 + 0.01 * seed)
    (first,) = said(tmp_path, "finding")
    assert first.startswith("amortized has the best bound")
    assert first.endswith("In doubt is the lead over local: checks failed there (outliers).")


class Rivals:
    """Groups with these ELBOs by seed, a number or one for each datum: what the race asks of a table's rivals."""

    def __init__(self, elbos):
        self.scores = {
            label: {s: _score(np.asarray(v, float)) for s, v in enumerate(found)} for label, found in elbos.items()
        }
        self.rows = [
            {"label": label, "strategy": label, "test_elbo_mean": np.mean([s.mean for s in found.values()])}
            for label, found in self.scores.items()
        ]

    def difference(self, label, baseline):
        return paired(self.scores[label], self.scores[baseline])


def _score(values):
    return Scores(float(values)) if not values.ndim else Scores(values.mean(), np.arange(len(values)), values)


@pytest.mark.parametrize(
    ("lead", "verdict"),
    [
        ([2e-6, 2e-6, 2e-6], "equal"),
        ([0.0, 0.0, 0.0], "equal"),
        ([0.0009, 0.0008, 0.00085], "equal"),  # sure, and nothing
        ([0.0002, -0.0001, 0.0001], "equal"),
        ([0.0011, 0.00112, 0.00111], "here"),
        ([0.1, -0.1, 0.0003], "open"),
    ],
)
def test_what_is_smaller_than_the_floor_is_no_lead(lead, verdict):
    rivals = Rivals({"a": [-98.0 + d for d in lead], "b": [-98.0] * 3})
    found = race(rivals.rows, rivals)
    label = found.second["label"]
    assert found.verdicts[label].kind == verdict and (found.doubts == []) is (verdict == "here")


def test_a_tie_is_called_one(tmp_path):
    write_seeds(tmp_path, "local", [-98.0, -99.0, -97.0])
    write_seeds(tmp_path, "amortized", [-98.0 + 2e-6, -99.0 + 2e-6, -97.0 + 2e-6])
    (first,) = said(tmp_path, "finding")
    assert first.endswith("but it cannot be called the best: it and local are equal to within 0.001 nats.")
    assert "best bound" not in first and "interval" not in first


def test_those_it_is_above_by_how_far_that_reaches(tmp_path):
    """Over noisy nothing is shown; over near the lead is sure on these data alone; over far on others as well."""
    rng = np.random.default_rng(0)
    base, spread = rng.normal(-100, 10, size=50), 20 * stats.zscore(rng.normal(size=50), ddof=1)
    for seed, (small, large) in enumerate(((0.001, 9.0), (-0.001, -9.0), (0.0, 0.0))):
        groups = {"best": base + small, "near": base - 1.0 + spread, "far": base - 5.0, "noisy": base - 0.5 + large}
        for name, elbo in groups.items():
            write_scored(tmp_path / f"{name}{seed}", {"test": elbo}, strategy=name, seed=seed)
    (first,) = said(tmp_path, "finding")
    assert "cannot be called the best: its lead over noisy" in first
    assert first.endswith(" It is above far; on these test data also above near.")


def test_whose_interval_over_data_is_given(tmp_path):
    rng = np.random.default_rng(0)
    base = rng.normal(-100, 10, size=50)
    one, other = (25 * stats.zscore(rng.normal(size=50), ddof=1) for _ in range(2))
    for seed, d in enumerate((0.001, -0.001, 0.0)):
        for name, elbo in {"best": base + d, "near": base - 1.0 + one, "next": base - 2.0 + other}.items():
            write_scored(tmp_path / f"{name}{seed}", {"test": elbo}, strategy=name, seed=seed)
    (first,) = said(tmp_path, "finding")
    low, high = stats.t.interval(1 - 0.05 / 2, 49, 1.0, 25 / np.sqrt(50))
    low, high = (f"{end:.2f}" for end in (low, high))
    assert first.endswith("On other test data the lead over near and next may be none: over the data the interval of "
                          f"that over near is {low} to {high}.")  # fmt: skip


def test_means_over_other_seeds_than_the_lead(tmp_path):
    """The means say 0.20, the two seeds that both have say 1.15: the sentence says which is over what."""
    for name, first, elbos in (("amortized", 0, (-102.4, -100.0, -100.0)), ("local", 1, (-101.1, -101.2, -100.7))):
        for seed, elbo in enumerate(elbos, start=first):
            write_run(tmp_path / f"{name}{seed}", name, seed=seed, elbo=elbo)
    (first,) = said(tmp_path, "finding")
    assert "-100.80 nats per datum (mean of 3 seeds, " in first
    assert ", on the 2 common seeds 1.15 nats (95 % interval 0.51 to 1.79, paired over 2 common seeds) above" in first
    (caution,) = (text for text in said(tmp_path, "caution") if "do not have the same seeds" in text)
    assert "amortized and local" in caution and "over the seeds that both have" in caution


def test_one_strategy_with_two_settings_has_groups_and_no_strategies(tmp_path):
    rng = np.random.default_rng(0)
    base = rng.normal(-100, 10, size=50)
    for width in (2, 3):
        write_scored(tmp_path / f"{width}", {"test": base + width + 0.1 * rng.normal(size=50)},
                     config={"model": {"width": width}})  # fmt: skip
    first, *_ = said(tmp_path, "finding")
    assert first.endswith("Whether the groups differ is not known from one seed.")


def write_sweep(root, jobs, done, **fields):
    """A sweep with these jobs, by folder their overrides, of which the first ``done`` are finished."""
    planned = [ledger.Job(name, overrides) for name, overrides in jobs.items()]
    ledger.plan(root, "python -m vem.run -m", "serial", planned, "2026-01-01")
    for name in list(jobs)[:done]:
        seed = int(name[-1])
        config = {"data": {"seed": 0, "name": fields.get("data")}}
        write_run(root / name, name[:-1], seed=seed, elbo=-100.0 - seed, config=config, **fields)


def jobs_of(data=None):
    more = () if data is None else (f"data={data}",)
    return {f"{n}{s}": (f"strategy={n}", f"seed={s}", *more) for n in ("local", "amortized") for s in range(2)}


def unfinished(root):
    """By table, what its cautions say of jobs and runs that may yet give a result."""
    return {
        table.name.partition(",")[0]: [s.text for s in table.answer if "may still change" in s.text]
        for table in findings([root]).tables
    }


def test_a_table_hears_of_its_own_jobs_alone(tmp_path):
    write_sweep(tmp_path / "one", jobs_of(), 4, data="mnist")
    write_sweep(tmp_path / "two", jobs_of(), 2, data="digits")
    told = unfinished(tmp_path)
    assert told["mnist"] == []
    (text,) = told["digits"]
    assert text.startswith("2 of 4 planned jobs have no result yet (2 not begun or stopped).")


def test_one_sweep_over_two_sets_of_data(tmp_path):
    jobs = {f"m{k}": v for k, v in jobs_of("mnist").items()} | {f"d{k}": v for k, v in jobs_of("digits").items()}
    ledger.plan(tmp_path, "python -m vem.run -m", "serial", [ledger.Job(*job) for job in jobs.items()], "2026-01-01")
    for name, overrides in jobs.items():
        if name not in ("damortized1", "damortized0"):
            data = overrides[-1].partition("=")[2]
            write_run(tmp_path / name, name[1:-1], seed=int(name[-1]), data=data, elbo=-100.0 - int(name[-1]))
    told = unfinished(tmp_path)
    assert told["mnist"] == [] and told["digits"][0].startswith("2 of 4 planned jobs have no result yet")


def test_a_sweep_with_no_run_yet_may_belong_to_any_table(tmp_path):
    write_sweep(tmp_path / "one", jobs_of(), 4, data="mnist")
    write_sweep(tmp_path / "two", jobs_of(), 0)
    assert unfinished(tmp_path)["mnist"][0].startswith("4 of 8 planned jobs have no result yet")


def test_a_run_beside_a_sweep_that_is_over(tmp_path):
    write_sweep(tmp_path / "sweep", jobs_of(), 4, data="mnist")
    config = {"data": {"seed": 0, "name": "mnist"}}
    write_run(tmp_path / "more", "local", seed=2, status="running", evaluated=False, data="mnist", config=config)
    (text,) = unfinished(tmp_path)["mnist"]
    assert text.startswith("1 run of local is not finished yet")
