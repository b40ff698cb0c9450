"""Checks that gate: right measurements pass, planted faults are caught, and the message names numbers and rows."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from gap_cases import Case, by_hand, case, family, measure

from vem.contracts import LogMarginal
from vem.evaluation.bounds.importance import LogMeanExp
from vem.evaluation.checks import as_json, check, width_check
from vem.evaluation.elbo import joined, prior_scores, scored
from vem.evaluation.gaps import summarize
from vem.evaluation.measured import ESS, MC_VARIANCE, Measured
from vem.evaluation.paired import influence, outliers, sample, shortfall
from vem.evaluation.thresholds import Thresholds, effective
from vem.families.gaussian import DiagonalGaussianPosterior
from vem.noise import generator

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
        "finite", "best_above_q", "richer_family", "best_below_upper", "lower_above_best",
        "lower_bounds_agree", "interval_ordered", "effective_samples", "converged", "outliers",
    ]  # fmt: skip
    assert all(c.passed and c.detail for c in found)
    assert as_json(found)[1] == {"name": "best_above_q", "passed": True, "detail": found[1].detail}
    assert "3.5 nats" in found[1].detail


@pytest.mark.parametrize("off", [0.0, 0.1])
@pytest.mark.parametrize("latent", [1, 10])
def test_no_false_alarm_on_the_real_estimators(off: float, latent: int, dtype: torch.dtype) -> None:
    """10 splits each; with ``off`` 0 q is q* and every inequality is an equality, held against noise alone."""
    for seed in range(10):
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
    assert summarize(bad)["gaps"]["inference"]["mean"] < -1


def test_a_point_mass_as_q_star_is_caught() -> None:
    of = case(latent=4, dims=12)
    of.model.log_noise.fill_(math.log(0.02))
    x = of.data(NUM, 0)
    right = measure(of, x)
    detail = failed(right._replace(families={"diagonal_gaussian": family(point_mass(of, x))}))["best_below_upper"]
    assert "point mass" in detail and "diagonal_gaussian" in detail and "L[q]" not in detail


def changed(values: torch.Tensor, places: Any, to: Any) -> torch.Tensor:
    """A copy with other numbers at some places."""
    out = values.clone()
    out[places] = torch.as_tensor(to, dtype=out.dtype)
    return out


def noisy(variance: float, **fields: torch.Tensor) -> Measured:
    return by_hand(LEVEL, noise=torch.full((NUM,), variance), **fields)


def weighted(ess: Any, num: int | None = None) -> Measured:
    """A bound of so many effective samples, of ``num`` or of very many; Var[log w̄] by the delta method."""
    ess = torch.full((NUM,), ess) if isinstance(ess, float) else ess
    variance = 1 / ess if num is None else (num / ess - 1) / (num - 1)
    return by_hand(LEVEL, low=LEVEL + 5, **{ESS: ess, MC_VARIANCE: variance})


def searched(open_: torch.Tensor, gains: torch.Tensor) -> Measured:
    found = family(HONEST["best"], converged=open_, certificate=gains)
    return by_hand(**HONEST)._replace(families={"diagonal_gaussian": found})


def by_quadrature(best: float, low: float, error: torch.Tensor | None) -> Measured:
    return by_hand(LEVEL, LEVEL + best, LEVEL + low, LEVEL + low, **({} if error is None else {"error": error}))


def bound(low: torch.Tensor, variance: torch.Tensor | float = 0.0, high: torch.Tensor | None = None) -> LogMarginal:
    return LogMarginal(low, high, "by hand", {MC_VARIANCE: torch.zeros_like(low) + variance})


def beside(main: LogMarginal, **others: LogMarginal) -> Measured:
    """The bound that the gaps are taken from, and others beside it."""
    assert main.lower is not None
    return by_hand(main.lower - 5.0, main.lower - 1.0)._replace(log_marginal=main, others=others)


def below_prior(share: float) -> Measured:
    """So many of the data 20 nats below the ELBO of the prior as q, the others 30 nats above it."""
    split = by_hand(changed(LEVEL, slice(int(share * NUM)), LEVEL[: int(share * NUM)] - 50))
    scores = split.scores._replace(prior_elbo=LEVEL - 30, prior_variance=torch.ones(NUM))
    return split._replace(scores=scores)


SMALL, LOST = 3 * normal(NUM, seed=1), [7, 130, 200, 399]
NOISE = 0.02 * normal(NUM)
# Annealing from one mode, and naive Monte Carlo, which reaches them all.
ANNEALED, NAIVE = bound(SMALL[:20] - 3.857, 0.01), bound(SMALL[:20] - 2.502 + 12.5 * NOISE[:20], 0.25**2)
WOBBLE, ERROR = 0.01 * normal(NUM), torch.full((NUM,), 0.004)
OPEN, GAINS = changed(torch.ones(NUM), slice(100, 140), 0), torch.full((NUM,), 0.2)
MISSED = changed(HONEST["best"], [7, 11], LEVEL[[7, 11]] - 5)

# What is planted, the check that catches it, and what it says.
FAULTS: dict[str, tuple[Measured, str, list[str]]] = {
    # The wrong mode for 2 of 400 data: the mean gap is still 3.4 nats.
    "a search that fails on few data": (
        noisy(0.01, best=MISSED), "best_above_q", ["2 of 400 data", "rows 7, 11", "more steps"]
    ),
    "a richer family that comes out worse": (
        by_hand(**HONEST | {"rich": HONEST["best"] - 0.3 + WOBBLE}), "richer_family", ["-0.3", "full_gaussian"]
    ),
    "a little worse, beyond the noise": (
        noisy(0.01, best=HONEST["best"], rich=HONEST["best"] - 0.1), "richer_family", []
    ),
    # The larger of several bounds, taken for each data point, can exceed the upper one.
    "a crossed interval": (by_hand(LEVEL, low=LEVEL + 5, high=LEVEL + 4 + 50 * WOBBLE), "interval_ordered", []),
    "an upper bound below L[q*]": (
        by_hand(LEVEL, LEVEL + 3, LEVEL + 1, LEVEL + 1.5), "best_below_upper", ["-1.5 nats"]
    ),
    # Naive Monte Carlo from the prior lies far below L[q*].
    "a poor estimate of log p": (
        by_hand(LEVEL, LEVEL + 1, LEVEL - 50), "lower_above_best", ["poorer than the ELBO"]
    ),
    # Few chains with nearly equal weights are enough, few effective ones of many samples are not.
    **{f"{ess} of {num} effective samples": (weighted(ess, num), "effective_samples", [])
       for ess, num in ((9.0, 5000), (1.5, 5000), (3.5, 8), (math.nan, 8))},
    "a tail of data with few effective samples": (
        weighted(changed(torch.full((NUM,), 300.0), slice(NUM // 10), 2.0)), "effective_samples",
        ["10.0% of the data have fewer than 10", "rows 0, 1, 2, 3, 4 and 35 more"],
    ),
    "more than quadrature states": (by_quadrature(1, 0.997, None), "best_below_upper", []),
    "more than quadrature states, as a gap": (by_quadrature(1, 0.997, None), "lower_above_best", []),
    "coarse quadrature": (by_quadrature(1, 2, changed(ERROR, 17, 0.2)), "quadrature", ["1 data above 0.01 (row 17)"]),
    "a search that did not converge": (
        searched(OPEN, GAINS), "converged", ["10.0%", "rows 100, 101", "would gain 0.2 nats"]
    ),
    "certificates that are not finite": (
        searched(OPEN, changed(GAINS, slice(3), [-math.inf, math.nan, math.inf])), "converged",
        ["would gain 0.2 nats in the mean (3 data not finite)"],
    ),
    **{f"one datum of {value:g} nats": (by_hand(changed(LEVEL, 13, value)), "outliers", ["elbo: 1 data (row 13)"])
       for value in (-1_628_517.0 * 1000, 1e7, -20_000.0)},
    "a bound that misses modes": (
        beside(ANNEALED, prior=NAIVE), "lower_bounds_agree", ["main − prior = -1.", "start it at the prior"]
    ),
    "whatever the better one is called": (beside(ANNEALED, older=NAIVE), "lower_bounds_agree", ["main − older"]),
    "the best q of a further family above it": (
        by_hand(SMALL - 3, SMALL - 2, SMALL, rich=SMALL + 0.3, noise=torch.full((NUM,), 1e-4)), "lower_bounds_agree",
        ["L[q*] of full_gaussian"],
    ),
    # 1 % of the data lack log 2; their mean of 0.007 nats would pass.
    "a few data with a mode too few": (
        beside(bound(changed(SMALL + NOISE, LOST, (SMALL + NOISE)[LOST] - math.log(2)), 4e-4),
               importance=bound(SMALL, 1e-4)),
        "lower_bounds_agree", ["4 of 400 data", "(rows 7, 130, 200, 399)"],
    ),
    "an exact value that is exceeded": (
        beside(bound(SMALL, high=SMALL), importance=bound(SMALL + 0.5, 1e-3)), "lower_bounds_agree", []
    ),
    "many data below the prior": (below_prior(0.06), "better_than_prior", ["24 of 400 data", "rows 0, 1"]),
    "two that do not hide each other": (by_hand(changed(LEVEL, [3, 5], -1e6)), "outliers", ["rows 3, 5"]),
    "one that differs": (by_hand(changed(torch.full((50,), -3.0), 4, 2000.0)), "outliers", []),
    **{f"best_elbo {value}": (by_hand(**HONEST | {"best": changed(HONEST["best"], 9, value)}), "finite",
                              ["best_elbo.diagonal_gaussian: 1 data (row 9)"])
       for value in (math.nan, -math.inf, math.inf)},
    **{f"elbo {value}": (by_hand(torch.full((4,), value)), "finite", []) for value in (math.nan, math.inf)},
}  # fmt: skip


@pytest.mark.parametrize("fault", FAULTS)
def test_a_planted_fault_is_caught_and_named(fault: str) -> None:
    measured, name, words = FAULTS[fault]
    found = failed(measured)
    assert name in found and [word for word in words if word not in found[name]] == []
    if fault.startswith("best_elbo"):
        assert set(found) == {name}  # the other checks go on without it


HONEST_ENOUGH: dict[str, tuple[Measured, Thresholds | None]] = {
    "one datum below may be chance": (noisy(0.01, best=changed(MISSED, 11, LEVEL[11] + 1)), None),
    # 0.1 nats is within 4 · √2 / √400
    "a little worse, within the noise": (noisy(1.0, best=HONEST["best"], rich=HONEST["best"] - 0.1), None),
    "touching bounds": (
        by_hand(LEVEL, low=LEVEL + 5 + normal(NUM), high=LEVEL + 5.05 + normal(NUM, seed=1)), None
    ),
    **{f"{ess} of {num} effective samples": (weighted(ess, num), None) for ess, num in ((400.0, 5000), (6.0, 8))},
    "what quadrature states of its own error": (by_quadrature(1, 0.997, ERROR), None),
    "as many open searches as are allowed": (searched(OPEN, GAINS), Thresholds(unconverged=0.2)),
    "a poor bound beside a good one": (beside(NAIVE, importance=ANNEALED), None),
    "a further family below the bound": (by_hand(SMALL - 3, SMALL - 2, SMALL, rich=SMALL - 0.01), None),
    "noise about an exact value": (
        beside(bound(SMALL, high=SMALL), importance=bound(SMALL + 1.5 * NOISE, 1e-3)), None
    ),
    "bounds of unknown noise, one not finite": (
        beside(bound(SMALL, math.nan), importance=bound(changed(SMALL - 0.1, 3, -math.inf), math.nan)), None
    ),
    "few data below the prior": (below_prior(0.04), None),
    "equal data": (by_hand(torch.full((50,), -3.0)), None),
}  # fmt: skip


@pytest.mark.parametrize("case", HONEST_ENOUGH)
def test_what_is_within_its_errors_passes(case: str) -> None:
    assert failed(*HONEST_ENOUGH[case]) == {}


def rate_of_failure(chains: int, spread: float, num: int, repeats: int = 200) -> tuple[float, float]:
    """How often the check fails on ``num`` data of ``chains`` lognormal weights, and how low the bound is, nats."""
    total = LogMeanExp(num * repeats, "cpu")
    total.add(spread * normal(chains, num * repeats))
    columns = total.log_mean(), total.ess(), total.variance()
    failed_ = 0
    for mean, ess, variance in zip(*(column.reshape(repeats, num) for column in columns), strict=True):
        found = effective(LogMarginal(mean, None, "", {ESS: ess, MC_VARIANCE: variance}), Thresholds())
        assert found is not None
        failed_ += not found.passed
    return failed_ / repeats, spread**2 / 2 - float(columns[0].mean())


@pytest.mark.parametrize(("chains", "num"), [(4, 100), (8, 20), (8, 100), (16, 20)])
def test_few_chains_are_judged_by_their_bias_not_by_chance(chains: int, num: int) -> None:
    """Below half the allowed bias fewer than 2 % false alarms, above twice of it more than 98 % detected."""
    low = {4: 0.4, 8: 0.6, 16: 0.7}[chains]
    high = {4: 1.1, 8: 1.3, 16: 1.5}[chains]
    alarms, bias = rate_of_failure(chains, low, num)
    assert bias < 0.03 and alarms <= 0.02, (bias, alarms)
    detected, bias = rate_of_failure(chains, high, num)
    assert bias > 0.1 and detected >= 0.98, (bias, detected)


def test_many_samples_of_which_few_are_effective_are_thin_though_the_delta_method_sees_little() -> None:
    """K = 5000 of sd(log w) = 3.2: 0.12 nats low, of which ½ Var[log w̄] tells 0.05, which is allowed."""
    failing, bias = rate_of_failure(5000, 3.2, 20, repeats=20)
    assert bias > 0.1 and failing > 0.9
    alarms, bias = rate_of_failure(5000, 1.5, 20, repeats=20)
    assert bias < 0.01 and alarms == 0


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


@pytest.mark.parametrize("tied", [0.3, 0.55, 0.75])
@pytest.mark.parametrize("wobble", [0.0, 1e-3])
def test_values_that_are_mostly_equal_make_no_outliers_of_the_others(tied: float, wobble: float) -> None:
    """Blank images, or one point many times: the median absolute deviation is 0, or nearly."""
    elbo = -50 + normal(NUM)
    elbo[: int(tied * NUM)] = -50 + wobble * normal(int(tied * NUM), seed=1)
    assert failed(by_hand(elbo)) == {}
    elbo[NUM - 3] = -1e6
    assert "row 397" in failed(by_hand(elbo))["outliers"]


def test_any_limit_finds_an_end() -> None:
    for limit in (0.0, 0.1, 0.6, 1.0, 3.0):
        outliers(torch.cat([torch.zeros(60), normal(40)]), limit)


# --- absolute: better than a q that does not look at x


def test_the_prior_as_q_has_its_closed_form() -> None:
    """E_p(z)[log N(x; Wz + b, Ψ)] = log N(x; b, Ψ) − ½ tr(Wᵀ Ψ⁻¹ W)."""
    of = case(latent=3, dims=6)
    x, model = of.data(50, 0), of.model
    found = prior_scores(model, x, 4000, generator("cpu", 0))
    precision = model.noise_variance().reciprocal()
    at_mean = torch.distributions.Normal(model.bias, model.noise_variance().sqrt()).log_prob(x).sum(-1)
    exact = at_mean - 0.5 * (model.weight.square() * precision[:, None]).sum()
    z = (found["prior_elbo"] - exact) / found["prior_variance"].sqrt()
    assert float(z.abs().max()) < 5 and float(z.std()) == pytest.approx(1.0, abs=0.3)


def of_width(log_scale: float, num: int, draws: int = 10, seed: int = 0) -> Measured:
    """A q around 0, equally wide for every datum, with the floor that the instrument measures beside it."""
    of = case(latent=4, dims=8, seed=seed)
    x = of.data(num, seed)
    q = DiagonalGaussianPosterior(torch.zeros(num, 4).double(), torch.full((num, 4), log_scale).double())
    return Measured(joined(torch.arange(num), [scored(of.model, x, q, draws, seed, "t", 0, 5)], None, None))


@pytest.mark.parametrize(("log_scale", "num", "draws"), [(6.0, 20, 1), (2.0, 1000, 2), (20.0, 1000, 1), (2.0, 20, 10)])
def test_a_q_that_is_absurd_for_every_datum_is_caught(log_scale: float, num: int, draws: int) -> None:
    """No datum is an outlier among others as absurd: only an absolute floor tells."""
    assert set(failed(of_width(log_scale, num, draws))) == {"better_than_prior"}


def test_no_false_alarm_of_a_q_that_is_the_prior_or_better() -> None:
    """A collapsed posterior is the floor itself: an equality, held against noise alone."""
    for seed in range(20):
        assert failed(of_width(0.0, 100, seed=seed)) == {}
    of = case(latent=4, dims=8, off=0.05)
    x = of.data(300, 0)
    part = scored(of.model, x, of.posterior(x), 5, 0, "t", 0, 5)
    assert failed(Measured(joined(torch.arange(300), [part], None, None))) == {}


# --- the interval on simulated data


@pytest.mark.parametrize(
    ("mean", "most", "passes"),
    [(0.03, 0.5, True), (0.06, 0.5, False), (0.03, 1.2, False), ({"value": None}, 0.5, False)],
)
def test_a_wide_interval_on_simulated_data_is_caught(mean: float, most: float, passes: bool) -> None:
    found = width_check(
        {"kind": "ais", "num_data": 200, "width": {"mean": mean, "se": 0.01, "max": most}}, Thresholds()
    )
    assert found is not None and found.name == "simulated_width" and found.passed == passes
    assert "200 simulated data" in found.detail and ("more temperatures" in found.detail) == (not passes)
    assert not width_check({"width": {"mean": 0.03, "se": 0.01, "max": 0.5}}, Thresholds(width=0.02)).passed


def test_an_interval_that_was_not_measured_is_not_checked() -> None:
    assert width_check({"value": None, "reason": "log p(x) is exact here"}, Thresholds()) is None


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


@pytest.mark.parametrize(("width", "draws"), [(0.3, 1000), (0.05, 500), (0.02, 200)])
@pytest.mark.parametrize("spread", [0.1, 0.5])
def test_bounds_that_are_right_raise_no_alarm(width: float, draws: int, spread: float) -> None:
    """60 repeats of 100 data with a known log p(x): annealing's weights are lognormal, the prior's heavy-tailed.

    p(x | z) = N(x; z, width²), z ~ N(0, 1): the naive bound has from thousands of effective samples to two.
    """
    repeats, data = 60, 100
    x = normal(repeats * data, seed=1) * math.sqrt(1 + width**2)
    gaussian = torch.distributions.Normal
    truth = gaussian(0.0, math.sqrt(1 + width**2)).log_prob(x)
    main, naive = LogMeanExp(len(x), "cpu"), LogMeanExp(len(x), "cpu")
    main.add(truth + spread * normal(8, len(x), seed=2) - 0.5 * spread**2)
    for part in range(5):
        z = normal(draws // 5, len(x), seed=3 + part)
        naive.add(gaussian(z, width).log_prob(x))
    alarms = 0
    for i in range(repeats):
        here = slice(i * data, (i + 1) * data)
        ours, its = (bound(t.log_mean()[here], t.variance()[here]) for t in (main, naive))
        alarms += "lower_bounds_agree" in failed(beside(ours, prior=its))
    assert alarms == 0
