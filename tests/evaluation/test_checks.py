"""Checks that gate: right measurements pass, planted faults are caught, and the message names numbers and rows."""

from __future__ import annotations

import math

import pytest
import torch
from gap_cases import Case, by_hand, case, family, measure

from vem.errors import VemError
from vem.evaluation.checks import Thresholds, as_json, check, shortfall
from vem.evaluation.gaps import summarize
from vem.evaluation.measured import ESS, MC_VARIANCE
from vem.evaluation.paired import influence, outliers, sample

NUM = 400


def normal(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def failed(*arguments: object, **fields: object) -> dict[str, str]:
    """The details of the checks that fail, by name."""
    return {c.name: c.detail for c in check(*arguments, **fields) if not c.passed}  # type: ignore[arg-type]


LEVEL = -90 + 20 * normal(NUM)
HONEST = {"elbo": LEVEL, "best": LEVEL + 3.5, "low": LEVEL + 5, "high": LEVEL + 5.1, "rich": LEVEL + 4}


def test_right_measurements_pass() -> None:
    found = check(by_hand(**HONEST, **{ESS: torch.full((NUM,), 50.0)}))
    assert [c.name for c in found] == [
        "finite", "best_above_q", "richer_family", "best_below_upper", "lower_above_best", "interval_ordered",
        "effective_samples", "converged", "outliers",
    ]  # fmt: skip
    assert all(c.passed and c.detail for c in found)
    assert as_json(found)[1] == {"name": "best_above_q", "passed": True, "detail": found[1].detail}
    assert "3.5 nats" in found[1].detail


@pytest.mark.parametrize("off", [0.0, 0.1])
@pytest.mark.parametrize("latent", [1, 10])
def test_no_false_alarm_on_the_real_estimators(off: float, latent: int, dtype: torch.dtype) -> None:
    """20 splits each; with ``off`` 0 q is q* and every inequality is an equality, held against noise alone."""
    for seed in range(20):
        of = case(latent, dims=latent + 4, off=off, seed=seed, dtype=dtype)
        assert failed(measure(of, of.data(300, seed), draws=5, seed=seed)) == {}


def test_the_exact_posterior_passes_within_rounding() -> None:
    """q, q* and log p(x) are the same number: float32 rounding alone decides who is larger."""
    level = LEVEL.float()
    wobble = 1 + 2e-7 * normal(NUM).float()
    assert failed(by_hand(level * wobble, level * wobble.flip(0), level, level)) == {}


def test_numbers_that_are_not_there_are_not_checked() -> None:
    assert [c.name for c in check(by_hand(LEVEL))] == ["finite", "outliers"]
    assert [c.name for c in check(by_hand(None, LEVEL))] == ["finite", "converged", "outliers"]
    assert check(by_hand(torch.empty(0))) == []


# --- planted faults


def test_a_flipped_sign_is_caught() -> None:
    of = case()
    right = measure(of, of.data(NUM, 0))
    flipped = right._replace(scores=right.scores._replace(elbo=-right.scores.elbo))
    assert {"best_above_q", "best_below_upper", "lower_above_best"} <= set(failed(flipped))
    # Of q* alone:
    found = right.families["diagonal_gaussian"]
    both = right._replace(families={"diagonal_gaussian": found._replace(elbo=-found.elbo)})
    assert "best_below_upper" in failed(both)


def point_mass(of: Case, x: torch.Tensor) -> torch.Tensor:
    """log p(x, z_MAP), which is no ELBO: a point mass on continuous z has none."""
    z = of.model.exact_posterior(x).mean()[None]
    return (of.model.log_likelihood(x, z) + of.model.log_prior(z))[0]


@pytest.mark.parametrize("known", ["exact", "lower"])
def test_a_point_mass_that_claims_an_elbo_is_caught(known: str) -> None:
    of = case(latent=4, dims=12)
    of.model.log_noise.fill_(math.log(0.02))
    x = of.data(NUM, 0)
    right = measure(of, x)
    claim = point_mass(of, x)
    assert float((claim - of.model.log_marginal(x)).mean()) > 1  # it exceeds log p(x) by nats
    scores = right.scores._replace(elbo=claim, mc_variance=torch.zeros(NUM))
    bad = right._replace(scores=scores)
    if known == "lower":
        exact = right.scores.log_marginal
        low = by_hand(LEVEL, low=exact).log_marginal
        bad = bad._replace(scores=scores._replace(log_marginal=None), log_marginal=low)
    names = failed(bad)
    assert {"best_above_q", "lower_above_best"} <= set(names) and ("best_below_upper" in names) == (known == "exact")
    assert summarize(bad)["gaps"]["inference"]["ci95"][1] < 0


def test_a_point_mass_as_q_star_is_caught() -> None:
    of = case(latent=4, dims=12)
    of.model.log_noise.fill_(math.log(0.02))
    x = of.data(NUM, 0)
    right = measure(of, x)
    detail = failed(right._replace(families={"diagonal_gaussian": family(point_mass(of, x))}))["best_below_upper"]
    assert "point mass" in detail and "diagonal_gaussian" in detail and "L[q]" not in detail


def test_a_search_that_fails_on_few_data_is_caught_though_the_mean_looks_right() -> None:
    """The wrong mode for 2 of 400 data: the mean gap is still 3.4 nats."""
    best = HONEST["best"].clone()
    best[[7, 11]] = LEVEL[[7, 11]] - 5
    noise = torch.full((NUM,), 0.01)
    detail = failed(by_hand(LEVEL, best, noise=noise))["best_above_q"]
    assert "2 of 400 data" in detail and "rows 7, 11" in detail and "more steps" in detail
    best[11] = LEVEL[11] + 1
    assert failed(by_hand(LEVEL, best, noise=noise)) == {}  # one datum may be chance


def test_a_richer_family_that_comes_out_worse_is_caught() -> None:
    detail = failed(by_hand(**HONEST | {"rich": HONEST["best"] - 0.3 + 0.01 * normal(NUM)}))["richer_family"]
    assert "-0.3" in detail and "full_gaussian" in detail
    noise = torch.full((NUM,), 1.0)  # 0.1 nats is within 4 · √2 / √400
    close = HONEST | {"rich": HONEST["best"] - 0.1}
    assert "richer_family" not in failed(by_hand(**close, noise=noise))
    assert "richer_family" in failed(by_hand(**close, noise=noise / 100))


def test_a_crossed_interval_is_caught() -> None:
    """The larger of several bounds, datum by datum, can exceed the upper one."""
    crossed = by_hand(LEVEL, low=LEVEL + 5, high=LEVEL + 4 + 0.5 * normal(NUM))
    assert "interval_ordered" in failed(crossed)
    touching = by_hand(LEVEL, low=LEVEL + 5 + normal(NUM), high=LEVEL + 5.05 + normal(NUM, seed=1))
    assert "interval_ordered" not in failed(touching)


def test_an_upper_bound_below_the_best_q_is_caught() -> None:
    detail = failed(by_hand(LEVEL, LEVEL + 3, LEVEL + 1, LEVEL + 1.5))["best_below_upper"]
    assert "-1.5 nats" in detail


def test_a_poor_estimate_of_log_p_makes_no_negative_gap() -> None:
    """Naive Monte Carlo from the prior lies far below L[q*]."""
    assert "poorer than the ELBO" in failed(by_hand(LEVEL, LEVEL + 1, LEVEL - 50))["lower_above_best"]


@pytest.mark.parametrize(
    ("ess", "num", "passes"),
    [
        (400.0, 5000, True),
        (9.0, 5000, False),
        (1.5, 5000, False),
        (6.0, 8, True),
        (3.5, 8, False),
        (math.nan, 8, False),
    ],
)
def test_too_few_effective_samples_are_caught(ess: float, num: int, passes: bool) -> None:
    """Few chains with nearly equal weights are enough, few effective ones of many samples are not."""
    variance = torch.full((NUM,), (num / ess - 1) / (num - 1))  # of log w̄, by the delta method
    low = by_hand(LEVEL, low=LEVEL + 5, **{ESS: torch.full((NUM,), ess), MC_VARIANCE: variance})
    assert ("effective_samples" not in failed(low)) == passes


def test_a_tail_of_data_with_few_effective_samples_is_caught() -> None:
    ess = torch.full((NUM,), 300.0)
    ess[: NUM // 10] = 2.0
    low = by_hand(LEVEL, low=LEVEL + 5, **{ESS: ess, MC_VARIANCE: 1 / ess})
    detail = failed(low)["effective_samples"]
    assert "10.0% of the data have fewer than 10" in detail and "rows 0, 1, 2, 3, 4 and 35 more" in detail


def test_quadrature_that_is_too_coarse_says_so() -> None:
    """What it states of its own error is forgiven to the inequalities, and is a check of its own."""
    error = torch.full((NUM,), 0.004)
    fine = by_hand(LEVEL, LEVEL + 1, LEVEL + 0.997, LEVEL + 0.997, error=error)
    assert failed(fine) == {}
    assert {"best_below_upper", "lower_above_best"} == set(
        failed(by_hand(LEVEL, LEVEL + 1, LEVEL + 0.997, LEVEL + 0.997))
    )
    error[17] = 0.2
    coarse = by_hand(LEVEL, LEVEL + 1, LEVEL + 2, LEVEL + 2, error=error)
    assert "1 data above 0.01 (row 17)" in failed(coarse)["quadrature"]
    assert summarize(coarse)["log_marginal"]["error"]["max"] == pytest.approx(0.2)


def test_a_search_that_did_not_converge_says_so() -> None:
    open_ = torch.ones(NUM)
    open_[100:140] = 0
    starved = by_hand(**HONEST)
    found = family(HONEST["best"], converged=open_, certificate=torch.full((NUM,), 0.2))
    starved = starved._replace(families={"diagonal_gaussian": found})
    detail = failed(starved)["converged"]
    assert "10.0%" in detail and "rows 100, 101" in detail and "0.2 nats" in detail
    assert failed(starved, Thresholds(unconverged=0.2)) == {}


@pytest.mark.parametrize("value", [-1_628_517.0 * 1000, 1e7, -20_000.0])
def test_one_datum_that_carries_the_mean_is_caught(value: float) -> None:
    elbo = LEVEL.clone()
    elbo[13] = value
    detail = failed(by_hand(elbo))["outliers"]
    assert "elbo: 1 data (row 13)" in detail


def test_two_such_data_do_not_hide_each_other() -> None:
    elbo = LEVEL.clone()
    elbo[[3, 5]] = -1e6
    assert "rows 3, 5" in failed(by_hand(elbo))["outliers"]


@pytest.mark.parametrize("name", ["normal", "laplace", "lognormal", "minus_lognormal"])
def test_ordinary_tails_are_no_outliers(name: str) -> None:
    """Fewer than 1 % false alarms among samples of 1000."""
    torch.manual_seed(0)
    base = torch.randn(1000, 1000, dtype=torch.float64)
    values = {
        "normal": base,
        "laplace": torch.distributions.Laplace(0.0, 1.0).sample((1000, 1000)).double(),
        "lognormal": base.exp(),
        "minus_lognormal": -90 - 20 * base.exp(),
    }[name]
    limits = Thresholds()
    alarms = 0
    for row in values:
        moved, error = influence(row, outliers(row, limits.outlier))
        alarms += abs(moved) > limits.influence * error
    assert alarms < 10


def test_equal_data_have_no_outlier_and_one_that_differs_is_one() -> None:
    assert failed(by_hand(torch.full((50,), -3.0))) == {}
    differs = torch.full((50,), -3.0)
    differs[4] = 2000.0
    assert "outliers" in failed(by_hand(differs))


@pytest.mark.parametrize("value", [math.nan, -math.inf, math.inf])
def test_what_is_not_finite_is_caught_and_the_other_checks_go_on(value: float) -> None:
    best = HONEST["best"].clone()
    best[9] = value
    names = failed(by_hand(**HONEST | {"best": best}))
    assert set(names) == {"finite"} and "best_elbo.diagonal_gaussian: 1 data (row 9)" in names["finite"]
    assert "finite" in failed(by_hand(torch.full((4,), value)))


# --- the rule


def test_a_difference_is_held_against_monte_carlo_error_alone() -> None:
    """True gaps of 0 … 100 nats are no excuse: −0.5 ± 0.05 must fail, though ± 1.4 over data would let it pass."""
    gap = torch.linspace(0, 100, NUM, dtype=torch.float64)
    low = sample(gap - gap.mean() - 0.5, torch.full((NUM,), 1.0))
    found = shortfall(low, Thresholds())
    assert found.beyond and found.error == pytest.approx(0.05) and found.source == "Monte Carlo"
    unknown = shortfall(sample(low.values, torch.full((NUM,), math.nan)), Thresholds())
    assert not unknown.beyond and unknown.source == "over data" and not len(unknown.rows)


def test_the_rule_fires_at_its_number_of_standard_errors() -> None:
    fires = []
    for z in (3.9, 4.1):
        mean = -z / NUM**0.5 - 1e-3  # the slack comes on top
        fires.append(shortfall(sample(torch.full((NUM,), mean), torch.ones(NUM)), Thresholds()).beyond)
    assert fires == [False, True]


def test_thresholds_are_refused_by_name() -> None:
    with pytest.raises(VemError, match=r"evaluation\.checks\.thin=-1"):
        Thresholds(thin=-1)
