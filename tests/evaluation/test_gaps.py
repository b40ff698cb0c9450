"""Gaps against closed forms: means, their two errors, the coverage of their intervals, what is identified."""

from __future__ import annotations

import json

import pytest
import torch
from gap_cases import by_hand, case, family, measure, part, scored
from scipy import stats

from vem.contracts import LogMarginal
from vem.evaluation.checks import Thresholds, check
from vem.evaluation.elbo import SplitScores
from vem.evaluation.gaps import across_splits, per_datum, summarize
from vem.evaluation.measured import ESS, MC_VARIANCE, Measured
from vem.evaluation.paired import between, estimate, gap, raised, sample
from vem.families.gaussian import DiagonalGaussianPosterior
from vem.models.mixture import Mixture

REPEATS, DATA = 400, 80


def normal(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def test_nominal_95_percent_intervals_cover_the_truth() -> None:
    """400 repeats: fresh data from the model, fresh draws of both q, 4 each; every gap and the generalization gap."""
    here, there = case(off=0.1, seed=1), case(off=0.15, seed=1)
    splits = {
        name: measure(of, of.data(REPEATS * DATA * size, seed), draws=4, seed=seed)
        for seed, (name, of, size) in enumerate([("train", here, 1), ("test", there, 2)])
    }
    truth = {
        "approximation": there.approximation(),
        "amortization": there.amortization(),
        "inference": there.approximation() + there.amortization(),
        "generalization": there.amortization() - here.amortization(),
    }
    covered = dict.fromkeys(truth, 0)
    for i in range(REPEATS):  # unequal sizes: Welch's interval is not Student's
        train = part(splits["train"], i * DATA, (i + 1) * DATA)
        test = part(splits["test"], 2 * i * DATA, 2 * (i + 1) * DATA)
        found = summarize(test)["gaps"]
        found["generalization"] = across_splits({"train": train, "test": test})["test"]["amortization_generalization"]
        for name, value in truth.items():
            low, high = found[name]["ci95"]
            covered[name] += low <= value <= high
    shares = {name: count / REPEATS for name, count in covered.items()}
    assert all(0.92 <= share <= 0.98 for share in shares.values()), shares


def test_the_closed_forms_of_the_case_are_right() -> None:
    of = case(off=0.15, seed=3)
    x = of.data(200_000, seed=0)
    q, best = of.posterior(x), of.model.best_diagonal(x)
    exact = torch.distributions.MultivariateNormal(
        of.model.exact_posterior(x[:1]).mean()[0], precision_matrix=of.precision()
    )

    def kl(mean: torch.Tensor, log_scale: torch.Tensor) -> torch.Tensor:
        one = torch.distributions.MultivariateNormal(exact.mean, scale_tril=log_scale[0].exp().diag())
        shift = mean - of.model.exact_posterior(x).mean()
        quadratic = 0.5 * torch.einsum("bi,ij,bj->b", shift, of.precision(), shift)
        return quadratic + torch.distributions.kl_divergence(one, exact)

    assert float(kl(best.location, best.log_scale).mean()) == pytest.approx(of.approximation(), abs=1e-9)
    found = kl(q.location, q.log_scale).mean() - of.approximation()
    assert float(found) == pytest.approx(of.amortization(), rel=0.02)


class SharedNoise(DiagonalGaussianPosterior):
    """The planted fault: one ε for all data of a repeat."""

    def draws(self, noise):
        shared = noise.view(len(noise), REPEATS, -1, noise.shape[-1])[:, :, :1]
        return super().draws(shared.expand(-1, -1, noise.shape[1] // REPEATS, -1).reshape(noise.shape))


@pytest.mark.parametrize("shared", [False, True])
def test_mc_se_is_the_spread_of_repeated_evaluations(shared: bool) -> None:
    """Of L[q] and of a gap, the same 80 data each time; with one ε for all data the stated error is far too small."""
    num, of = 80, case(off=0.2, seed=2)
    x = of.data(num, seed=5).repeat(REPEATS, 1)

    def infer(x: torch.Tensor) -> DiagonalGaussianPosterior:
        q = of.posterior(x)
        return SharedNoise(q.location, q.log_scale) if shared else q

    q = scored(of.model, infer, x, draws=6, seed=0)
    best = scored(of.model, of.model.best_diagonal, x, draws=6, seed=0, name="best")
    both = Measured(q, {"d": family(best.elbo, best.mc_variance)}, "d", "amortization", None, {})
    runs = [summarize(part(both, i * num, (i + 1) * num)) for i in range(REPEATS)]
    for numbers in ([run["elbo"] for run in runs], [run["gaps"]["amortization"] for run in runs]):
        spread = torch.tensor([n["mean"] for n in numbers]).var()
        stated = torch.tensor([n["mc_se"] for n in numbers]).square().mean()
        ratio = float(spread / stated)
        assert ratio > 2 if shared else ratio == pytest.approx(1.0, abs=0.25), ratio


def test_se_holds_the_monte_carlo_noise_already() -> None:
    """On data whose true gap is the same for each, se over data is the Monte Carlo error."""
    of = case(seed=4)
    found = summarize(measure(of, of.data(4000, seed=1), draws=10))["gaps"]["approximation"]
    assert found["se"] == pytest.approx(found["mc_se"], rel=0.1)
    assert abs(found["mean"] - of.approximation()) < 4 * found["mc_se"]


def test_the_intervals_are_those_of_scipy() -> None:
    one, other = 3 * normal(40), normal(25, seed=1) + 1
    paired = gap(sample(one))
    low, high = stats.ttest_1samp(one.numpy(), 0.0).confidence_interval(0.95)
    assert paired["ci95"] == pytest.approx([low, high], abs=1e-9)
    welch = between(sample(one), sample(other))
    low, high = stats.ttest_ind(one.numpy(), other.numpy(), equal_var=False).confidence_interval(0.95)
    assert welch["ci95"] == pytest.approx([low, high], abs=1e-9)
    assert welch["mean"] == pytest.approx(float(one.mean() - other.mean()))


def test_gaps_are_paired() -> None:
    """Data that differ by hundreds of nats, gaps that do not: the error is that of the gaps."""
    level = 100 * normal(50)
    found = summarize(by_hand(level, level + 2.0, level + 3.0))["gaps"]
    for name, value in (("approximation", 1.0), ("amortization", 2.0), ("inference", 3.0)):
        assert found[name]["mean"] == pytest.approx(value) and found[name]["se"] < 1e-12


def test_what_a_bound_identifies() -> None:
    elbo = normal(50)
    best, low, high = elbo + 2.0, elbo + 3.0, elbo + 3.5

    def identified(of: Measured) -> dict[str, list[float | None]]:
        return {name: found["identified"] for name, found in summarize(of)["gaps"].items()}

    lower_only = identified(by_hand(elbo, best, low))
    assert lower_only["approximation"] == [pytest.approx(1.0), None]
    assert lower_only["inference"] == [pytest.approx(3.0), None]
    assert lower_only["amortization"] == pytest.approx([2.0, 2.0])
    both = identified(by_hand(elbo, best, low, high))
    assert both["approximation"] == pytest.approx([1.0, 1.5]) and both["inference"] == pytest.approx([3.0, 3.5])
    exact = identified(by_hand(elbo, best, low, low))
    assert exact["approximation"] == pytest.approx([1.0, 1.0])


def test_what_is_known_from_one_side_has_an_interval_of_one_end() -> None:
    """The end that is left is that of Student's two-sided 95 % interval (scipy)."""
    elbo = normal(50)
    best = elbo + 2.0 + normal(50, seed=1).square()
    low = best + 1.0 + 0.1 * normal(50, seed=2)
    two = stats.ttest_1samp((low - best).numpy(), 0.0).confidence_interval(0.95)
    one_sided = summarize(by_hand(elbo, best, low, rich=best + 0.5))
    assert one_sided["gaps"]["approximation"]["ci95"] == [pytest.approx(two.low), None]
    assert one_sided["gaps"]["inference"]["ci95"][1] is None
    assert None not in one_sided["gaps"]["amortization"]["ci95"]
    families = one_sided["families"]
    assert families["full_gaussian"]["approximation"]["ci95"][1] is None
    assert None not in families["full_gaussian"]["gain_over_own"]["ci95"]
    for high in (low, low + 0.5):  # log p(x) is exact, or lies between two bounds
        assert summarize(by_hand(elbo, best, low, high))["gaps"]["approximation"]["ci95"] == pytest.approx(list(two))
    assert between(sample(low), sample(best), (None, float(low.mean() - best.mean())))["ci95"][0] is None
    alone = summarize(by_hand(elbo[:1], best[:1], low[:1]))["gaps"]["approximation"]
    assert alone["ci95"]["value"] is None and alone["ci95"]["reason"]  # one datum has no interval of any kind


def test_families_tell_the_encoder_from_the_family() -> None:
    level = 10 * normal(60)
    entry = summarize(by_hand(level, level + 2, level + 5, rich=level + 4.5))["families"]
    diagonal, full = entry["diagonal_gaussian"], entry["full_gaussian"]
    assert diagonal["own"] and not full["own"] and "gain_over_own" not in diagonal
    assert diagonal["approximation"]["mean"] == pytest.approx(3.0)
    assert full["approximation"]["mean"] == pytest.approx(0.5) and full["gain_over_own"]["mean"] == pytest.approx(2.5)
    assert full["converged"] == 1.0 and full["steps"] == {"mean": 100.0, "max": 100.0}


def test_certificates_that_are_not_finite_are_counted_and_left_out_of_the_mean() -> None:
    level = normal(6)
    gains = torch.tensor([0.5, -torch.inf, -0.1, torch.nan, 0.3, 0.1], dtype=torch.float64)
    split = by_hand(level, level + 1)
    found = split._replace(families={"diagonal_gaussian": family(level + 1, certificate=gains)})
    entry = summarize(found)["families"]["diagonal_gaussian"]["certificate"]
    assert (entry["mean"], entry["median"], entry["max"]) == pytest.approx((0.2, 0.1, 0.5))
    assert entry["not_finite"] == 2
    none = family(level + 1, certificate=torch.full((6,), -torch.inf, dtype=torch.float64))
    said = summarize(split._replace(families={"diagonal_gaussian": none}))
    json.dumps(said, allow_nan=False)
    assert said["families"]["diagonal_gaussian"]["certificate"]["not_finite"] == 6


def test_the_bounds_beside_it_say_whether_they_can_be_trusted() -> None:
    """Not a check of the run: naive Monte Carlo is shown to fail."""
    level = normal(200)

    def bound(kind: str, ess: float) -> LogMarginal:
        diagnostics = {ESS: torch.full((200,), ess), MC_VARIANCE: torch.full((200,), (5000 / ess - 1) / 4999)}
        return LogMarginal(level - 1, None, kind, diagnostics)

    others = {"importance": bound("importance, K=5000", 800.0), "prior": bound("prior, K=5000", 1.3)}
    split = by_hand(level, level + 0.1, level + 0.2)._replace(others=others)
    found = summarize(split)["others"]
    assert found["importance"]["trustworthy"] is True and found["prior"]["trustworthy"] is False
    assert "median of 1.3 effective samples" in found["prior"]["remark"] and "loose" in found["prior"]["remark"]
    assert all(c.passed for c in check(split))
    assert summarize(split, Thresholds(bias=0.0))["others"]["importance"]["trustworthy"] is False


def test_a_stored_row_has_an_optimization_gap() -> None:
    level = normal(30)
    local = by_hand(level, level + 1, level + 2, gap_name="optimization")
    assert set(summarize(local)["gaps"]) == {"approximation", "optimization", "inference"}
    found = across_splits({"train": local, "test": local})["test"]["amortization_generalization"]
    assert found["value"] is None and "optimization gap" in found["reason"]


def test_across_splits() -> None:
    train, test = 5 * normal(80), 5 * normal(60, seed=1) - 3
    splits = {"train": by_hand(train, train + 1, train + 2), "test": by_hand(test, test + 1.5, test + 2.5)}
    splits["valid"] = splits["test"]
    found = across_splits(splits)
    assert list(found) == ["test", "valid"]
    generalization = found["test"]["amortization_generalization"]
    assert generalization["mean"] == pytest.approx(0.5) and generalization["identified"] == pytest.approx([0.5, 0.5])
    model = found["test"]["model_generalization"]
    assert model["best_elbo"]["mean"] == pytest.approx(float(train.mean() - test.mean()) - 0.5)
    error = (train.var() / 80 + test.var() / 60).sqrt()
    assert model["log_marginal"]["se"] == pytest.approx(float(error))
    assert model["log_marginal"]["identified"] == [None, None]  # two lower bounds
    exact = {"train": by_hand(train, low=train, high=train), "test": by_hand(test, low=test, high=test)}
    both = across_splits(exact)["test"]["model_generalization"]["log_marginal"]
    assert both["identified"] == pytest.approx([both["mean"]] * 2)
    assert across_splits({"test": splits["test"]}) == {}


def test_a_tractable_model_keeps_its_exact_number(device: torch.device) -> None:
    """Without a best q log p(x) is the exact one of the scores; the inference gap of a mixture is 0."""
    mixture, x = Mixture((2,), 3).double(), normal(20, 2)
    exact = scored(mixture, mixture.exact_posterior, x, draws=1, seed=0)
    found = summarize(Measured(exact))
    assert found["log_marginal"]["kind"] == "exact"
    assert found["log_marginal"]["lower"]["mean"] == pytest.approx(float(exact.log_marginal.mean()), abs=1e-12)
    assert found["gaps"]["inference"]["mean"] == pytest.approx(0.0, abs=1e-12)
    assert found["best_elbo"]["reason"] and found["gaps"]["approximation"]["value"] is None


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_what_is_not_finite_is_null_with_a_reason(value: float) -> None:
    level = normal(10)
    best = level.clone()
    best[3] = value
    found = summarize(by_hand(level, best, level + 1))
    json.dumps(found, allow_nan=False)
    assert found["best_elbo"]["mean"]["reason"] == "1 of 10 data have no finite value"
    assert found["gaps"]["amortization"]["ci95"]["value"] is None
    assert found["gaps"]["amortization"]["identified"] == [None, None]
    assert found["gaps"]["inference"]["mean"] == pytest.approx(1.0)


def test_one_draw_has_no_monte_carlo_error_but_one_over_data() -> None:
    level = normal(30)
    nan = torch.full_like(level, torch.nan)
    found = summarize(by_hand(level, level + 1 + 0.1 * normal(30, seed=1), noise=nan))["gaps"]["amortization"]
    assert found["mc_se"]["value"] is None and found["se"] > 0 and len(found["ci95"]) == 2


def test_a_method_without_an_elbo_has_no_gap_of_its_own() -> None:
    best = normal(20)
    found = summarize(by_hand(None, best, best + 1))
    assert found["gaps"]["amortization"] == {"value": None, "reason": "no density"}
    assert found["gaps"]["inference"] == {"value": None, "reason": "no density"}
    assert found["gaps"]["approximation"]["mean"] == pytest.approx(1.0)


def test_rows_of_per_datum_csv() -> None:
    level = normal(4)
    split = by_hand(level, level + 1, level + 3, rich=level + 2, **{ESS: torch.full((4,), 7.0)})
    naive = LogMarginal(level - 5, None, "prior, K=10", {MC_VARIANCE: level.square(), ESS: level.square()})
    rows = per_datum("test", split._replace(others={"prior": naive}), torch.tensor([5, 6, 7, 8]))
    assert [r["label"] for r in rows] == [5, 6, 7, 8] and {r["split"] for r in rows} == {"test"}
    first = rows[0]
    assert list(first)[:8] == ["split", "row", "label", "elbo", "reconstruction", "kl", "elbo_mc_se", "best_elbo"]
    assert first["best_elbo"] == float(level[0] + 1) and first["best_elbo.full_gaussian"] == float(level[0] + 2)
    assert first["log_marginal_lower"] == float(level[0] + 3) and first["ess"] == 7.0 and first["converged"] == 1.0
    assert "log_marginal_upper" not in first  # no upper bound: no column
    assert first["log_marginal_lower.prior"] == float(level[0] - 5)
    assert first["log_marginal_mc_se.prior"] == pytest.approx(float(level[0].abs()))
    exact = SplitScores(torch.tensor([2, 0]), None, None, None, None, level[:2], "no density")
    rows = per_datum("train", Measured(exact, {}, None, "optimization", None, {}), torch.tensor([5, 6, 7]))
    assert [r["label"] for r in rows] == [7, 5] and rows[1]["log_marginal_lower"] == rows[1]["log_marginal_upper"]


def test_no_data_at_all() -> None:
    empty = by_hand(torch.empty(0), torch.empty(0), torch.empty(0))
    assert per_datum("test", empty, None) == []
    assert across_splits({"train": empty, "test": empty}) == {}


def test_a_number_of_some_data_is_raised_to_all() -> None:
    """2000 repeats: M of N fresh data are measured; the mean is unbiased, and its error is that of the repeats."""
    total, measured, noise, repeats = 60, 20, 0.4, 2000
    found = []
    for z, known, error in zip(
        normal(repeats, total, seed=1), normal(repeats, total, seed=2), normal(repeats, measured, seed=3), strict=True
    ):
        a, v = 2 * z - 3, 2.4 * z[:measured].square() + z[:measured] - 1  # E[v] = 1.4, correlated with a
        whole = sample(a + noise * known, torch.full((total,), noise**2))
        values = sample(v + noise * error, torch.full((measured,), noise**2))
        found.append(raised(whole, sample(whole.values[:measured], whole.mc_variance[:measured]), values))
    means, errors, monte_carlo = (
        torch.tensor([numbers[key] for numbers in found], dtype=torch.float64) for key in ("mean", "se", "mc_se")
    )
    assert float(means.mean()) == pytest.approx(1.4, abs=4 * float(means.std()) / repeats**0.5)
    assert float(errors.square().mean()) == pytest.approx(float(means.var()), rel=0.12)  # of which √(2/2000) is 3 %
    weights = [1 / measured - 1 / total] * measured + [1 / total] * (total - measured)
    expected = noise * (sum(w**2 for w in weights) + 1 / measured) ** 0.5
    torch.testing.assert_close(monte_carlo, torch.full_like(monte_carlo, expected))


def test_raised_from_all_data_is_the_mean() -> None:
    a, v = normal(2, 9)
    numbers = estimate(sample(v, torch.ones(9)))
    whole = sample(a, torch.ones(9))
    assert raised(whole, whole, sample(v, torch.ones(9))) == pytest.approx(numbers)
