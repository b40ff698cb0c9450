"""The instrument from end to end: known gaps come out, gaps add up, cut-off work goes on bit for bit."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from gap_cases import Fixed, diagonal
from oracle_models import double_best_diagonal_bound, double_log_marginal, factorized_bernoulli, rotation
from torch import Tensor

from vem.ascent.best import BestSettings
from vem.cli import measure, messages
from vem.config.build import Built, build
from vem.errors import VemError
from vem.evaluation import instrument
from vem.evaluation.bounds.annealing_path import Annealing
from vem.evaluation.checks import Thresholds
from vem.evaluation.instrument import Instrument, SplitData
from vem.evaluation.measured import Result
from vem.evaluation.progress import FOLDER, Progress, drop_pieces
from vem.evaluation.settings import Diagnostics, Evaluation, Importance, Prior, SimulatedData
from vem.families.gaussian import DiagonalGaussian, FullGaussian
from vem.storage.checks import failed
from vem.training.fit import fit

BEST = BestSettings(draws=20, evaluations=40, rounds=4, score_draws=200)
ANNEALING = Annealing(temperatures=12, chains=4, pilot_temperatures=6, pilot_chains=4)
GAPS = Evaluation(num_data=8, draws=40, best=BEST, annealing=ANNEALING)
BLOBS = (
    *("data=blobs", "data.num=40", "data.num_valid=10", "data.num_test=10", "data.dims=5"),
    *("training.epochs=8", "training.batch_size=20"),
)
STRATEGIES = {
    "amortized": ("strategy=amortized", "model.decoder.widths=[8]"),
    "local": ("strategy=local", "model.decoder.widths=[8]", "strategy.held_out.steps=5"),
    "exact_em": ("strategy=exact_em", "model=linear_gaussian"),
    "gmm": ("strategy=gmm", "model.components=2"),
}


@cache
def trained(strategy: str, latent_dim: int, device: torch.device, dtype: torch.dtype) -> Built:
    size = () if strategy == "gmm" else (f"latent_dim={latent_dim}",)
    place = (f"device={device}", f"dtype={str(dtype).removeprefix('torch.')}")
    built = build(messages.composed([*BLOBS, *STRATEGIES[strategy], *size, *place]))
    fit(built.model, built.strategy, built.data, built.training, progress_bar=False)
    return built


def run(built: Built, settings: Evaluation = GAPS, seed: int = 0, **options: Any) -> Result:
    return Instrument(built.model, built.strategy, settings, seed=seed, **options).run(measure.splits_of(built.data))


def column(result: Result, split: str, name: str) -> np.ndarray:
    return np.array([row[name] for row in result.per_datum if row["split"] == split], dtype=float)


# --- known answers


def given(mean: float, scale: float, **options: Any) -> Fixed:
    """q = N(mean, scale²) for every data point, in the place of an encoder."""
    return Fixed(lambda x: diagonal(mean * torch.ones_like(x), scale), **options)


def measure_given(model: Any, x: Tensor, strategy: Any, settings: Evaluation, seed: int = 0) -> Result:
    return Instrument(model, strategy, settings, seed=seed).run({"test": SplitData(x, False)})


@pytest.mark.parametrize(  # a quadrature, and annealing; the best q is diagonal, or full
    ("size", "turned", "dtype"), [(2, False, torch.float32), (4, False, torch.float64), (4, True, torch.float32)]
)
def test_the_gaps_of_a_factorized_posterior(size: int, turned: bool, dtype: torch.dtype, device: torch.device) -> None:
    """Every term is known: log p(x) and L[q*] by 1-D integrals, L[q] of a given q as well."""
    turn = rotation(size) if turned else None
    model, x = factorized_bernoulli(3.0, size, dtype, turn, num=8, bias_scale=0.3)
    log_p, best = model.log_marginal_exact(x), model.best_bound(x)
    covariance = 0.49 * torch.eye(size).double().expand(len(x), size, size)
    q = model.bound_of(x, torch.full((len(x), size), 0.2), covariance)
    family = "full_gaussian" if turned else "diagonal_gaussian"
    settings = Evaluation(
        num_data=8, draws=400, best=BEST, annealing=ANNEALING, families={"full_gaussian": FullGaussian}
    )
    result = measure_given(model.to(device), x.to(device), given(0.2, 0.7), settings)
    numbers = result.evaluation["test"]
    # Of two binary pixels there are four x: most data are the same one, and the others stand out.
    assert [check for check in failed(result.evaluation) if size > 2 or "outliers" not in check] == []
    assert numbers["log_marginal"]["kind"].startswith("quadrature" if size == 2 else "annealing")
    found = numbers["families"][family]["best_elbo"]
    assert found["mean"] == pytest.approx(float(best.mean()), abs=0.01 + 4 * found["mc_se"])
    bound = numbers["log_marginal"]["lower"]
    assert bound["mean"] == pytest.approx(float(log_p.mean()), abs=0.01 + 4 * bound["mc_se"])
    inference = numbers["gaps"]["inference"]
    assert inference["mean"] == pytest.approx(float((log_p - q).mean()), abs=0.01 + 4 * inference["mc_se"])
    if not turned:
        gap = numbers["gaps"]["amortization"]
        assert gap["mean"] == pytest.approx(float((best - q).mean()), abs=0.01 + 4 * gap["mc_se"])
        assert gap["ci95"][0] < gap["mean"] < gap["ci95"][1]
    upper = inference["identified"][1]
    assert (upper is not None) == (size == 2)  # real data have no upper bound from annealing


def test_gaps_of_some_data_beside_the_elbo_of_all() -> None:
    """Every term is known by 1-D integrals; the means keep the gaps, which are paired over the data that have them."""
    size, model, x = 4, *factorized_bernoulli(3.0, 4, torch.float64, None, num=40, bias_scale=0.3)
    log_p, best = model.log_marginal_exact(x), model.best_bound(x)
    q = model.bound_of(x, torch.full((len(x), size), 0.2), 0.49 * torch.eye(size).double().expand(len(x), size, size))
    settings = Evaluation(num_data=40, draws=400, best=BEST, annealing=ANNEALING, gap_data=10)
    result = measure_given(model, x, given(0.2, 0.7), settings)
    numbers, chosen = result.evaluation["test"], torch.arange(0, 40, 4)
    assert (numbers["num_data"], numbers["gap_data"]) == (40, 10)
    elbo, gaps = numbers["elbo"], numbers["gaps"]
    assert elbo["mean"] == pytest.approx(float(q.mean()), abs=4 * elbo["mc_se"])
    for name, truth in {"amortization": best - q, "approximation": log_p - best, "inference": log_p - q}.items():
        assert gaps[name]["mean"] == pytest.approx(float(truth[chosen].mean()), abs=0.01 + 4 * gaps[name]["mc_se"])
    lower, found = numbers["log_marginal"]["lower"], numbers["best_elbo"]
    assert lower["mean"] - elbo["mean"] == pytest.approx(gaps["inference"]["mean"])
    assert found["mean"] - elbo["mean"] == pytest.approx(gaps["amortization"]["mean"])
    assert lower["mean"] == pytest.approx(float(q.mean() + (log_p - q)[chosen].mean()), abs=0.01 + 4 * lower["mc_se"])
    measured = [row["row"] for row in result.per_datum if row["best_elbo"] is not None]
    assert measured == chosen.tolist() and [row["row"] for row in result.per_datum] == list(range(40))
    assert failed(result.evaluation) == []


def test_exact_em_loses_nothing(device: torch.device) -> None:
    """The exact posterior of a linear-Gaussian model is a full Gaussian; the best diagonal one is known."""
    built = trained("exact_em", 3, device, torch.float64)
    settings = Evaluation(num_data=8, draws=4, best=BEST, families={"diagonal_gaussian": DiagonalGaussian})
    result = run(built, settings)
    assert failed(result.evaluation) == []
    for split in ("train", "test"):
        numbers = result.evaluation[split]
        assert numbers["log_marginal"]["kind"] == "exact"
        assert set(numbers["families"]) == {"full_gaussian", "diagonal_gaussian"}
        for gap in numbers["gaps"].values():
            assert abs(gap["mean"]) < 2e-3
        x = built.data.split(split).x[column(result, split, "row").astype(int)].cpu()
        model = copy.deepcopy(built.model).cpu()
        truth = double_log_marginal(model, x) - double_best_diagonal_bound(model, x)
        diagonal = numbers["families"]["diagonal_gaussian"]["approximation"]
        assert diagonal["mean"] == pytest.approx(float(truth.mean()), abs=5e-3 + 4 * diagonal["mc_se"])


def test_a_mixture_is_exact(device: torch.device) -> None:
    built = trained("gmm", 0, device, torch.float32)
    result = run(built)
    assert failed(result.evaluation) == []
    for split in ("train", "valid", "test"):
        assert set(result.evaluation[split]["families"]) == {"categorical"}
        np.testing.assert_array_equal(column(result, split, "best_elbo"), column(result, split, "log_marginal_lower"))
        for name in ("approximation", "optimization", "inference"):
            assert abs(result.evaluation[split]["gaps"][name]["mean"]) < 1e-4


# --- any strategy


@pytest.mark.parametrize(
    ("strategy", "latent_dim", "dtype"),
    [("amortized", 2, torch.float64), ("amortized", 3, torch.float32), ("local", 2, torch.float32)],
)
def test_gaps_are_named_and_add_up(strategy: str, latent_dim: int, dtype: torch.dtype, device: torch.device) -> None:
    gap = "amortization" if strategy == "amortized" else "optimization"
    built = trained(strategy, latent_dim, device, dtype)
    settings = Evaluation(
        num_data=8, draws=40, best=BEST, annealing=ANNEALING, families={"full_gaussian": FullGaussian},
        importance=Importance(60), prior=Prior(60), diagnostics=Diagnostics(50, 10), splits=("train", "test"),
        checks=Thresholds(unconverged=0.5),
    )  # fmt: skip
    before = measure.state_hash(built.model.state_dict(), built.strategy.state_dict())
    result = run(built, settings)
    assert measure.state_hash(built.model.state_dict(), built.strategy.state_dict()) == before
    assert failed(result.evaluation) == []
    for split in ("train", "test"):
        numbers = result.evaluation[split]
        assert list(numbers["gaps"]) == ["approximation", gap, "inference"]
        assert list(numbers["families"]) == ["diagonal_gaussian", "full_gaussian"]
        assert numbers["families"]["diagonal_gaussian"]["own"] and numbers["others"].keys() == {"importance", "prior"}
        assert numbers["gaps"][gap]["mean"] > 0 and numbers["diagnostics"]["num_data"] == 10
        q, best, log_p = (column(result, split, n) for n in ("elbo", "best_elbo", "log_marginal_lower"))
        assert len(q) == 8
        parts = {"approximation": log_p - best, gap: best - q, "inference": log_p - q}
        np.testing.assert_allclose(parts["inference"], parts["approximation"] + parts[gap], rtol=0, atol=1e-12)
        for name, values in parts.items():
            assert numbers["gaps"][name]["mean"] == pytest.approx(values.mean(), abs=1e-9)
    valid = result.evaluation["valid"]
    assert valid["log_marginal"] is None and not valid["families"] and "diagnostics" not in valid
    assert ("posterior_truth" in result.arrays) == (latent_dim == 2)
    assert ("path_ess" in result.arrays) == (latent_dim == 3)
    across = result.evaluation["across_splits"]["test"]["amortization_generalization"]
    assert ("mean" in across) == (strategy == "amortized")


def test_the_seed_decides(device: torch.device) -> None:
    built = trained("amortized", 3, device, torch.float32)
    settings = replace(GAPS, splits=("test",), best=replace(BEST, rounds=1))
    one, again, other = run(built, settings), run(built, settings), run(built, settings, seed=1)
    assert one.evaluation == again.evaluation and one.per_datum == again.per_datum
    assert one.evaluation != other.evaluation
    first, second = (found.evaluation["test"]["log_marginal"]["lower"] for found in (one, other))
    assert second["mean"] == pytest.approx(first["mean"], abs=6 * first["mc_se"] + 0.01)


def test_a_method_without_an_elbo(device: torch.device) -> None:
    """What can be had is had: the best q of the families asked for, and log p(x)."""
    model, x = factorized_bernoulli(2.0, 3, num=6)
    settings = Evaluation(num_data=6, best=BEST, annealing=ANNEALING, families={"diagonal_gaussian": DiagonalGaussian})
    undefined = given(0, 1, no_elbo="draws without a density")
    result = measure_given(model.to(device), x.to(device), undefined, settings)
    numbers = result.evaluation["test"]
    assert numbers["elbo"] == {"value": None, "reason": "draws without a density"}
    truth = float((model.log_marginal_exact(x) - model.best_bound(x)).mean())
    gap = numbers["families"]["diagonal_gaussian"]["approximation"]
    assert gap["mean"] == pytest.approx(truth, abs=0.01 + 4 * gap["mc_se"])
    assert numbers["gaps"]["inference"]["reason"] == "draws without a density"


def test_a_strategy_from_before_gap_name_and_family_were_declared() -> None:
    """They were optional, and README's own strategy had neither."""
    model, x = factorized_bernoulli(3.0, 2, torch.float64, None, num=4)
    whole, older = given(0.0, 1.0, gap_name="optimization"), given(0.0, 1.0)
    del older.gap_name, older.family
    found = [measure_given(model, x, strategy, GAPS).evaluation["test"] for strategy in (whole, older)]
    assert found[0] == found[1] and "optimization" in found[1]["gaps"]


def test_the_width_on_simulated_data(device: torch.device) -> None:
    model, x = factorized_bernoulli(2.0, 3, num=6)
    settings = Evaluation(num_data=6, draws=5, best=BEST, annealing=ANNEALING, simulated=SimulatedData(12))
    result = measure_given(model.to(device), x.to(device), given(0, 1), settings)
    found = result.evaluation["simulated"]
    assert found["num_data"] == 12 and found["kind"].startswith("bidirectional")
    assert found["upper"]["mean"] - found["lower"]["mean"] == pytest.approx(found["width"]["mean"], abs=1e-9)
    assert -0.01 < found["width"]["mean"] < 0.2
    assert found["decoder_gradients"] > 2 * 4 * (1 + 11 * 3) + 40  # of both directions; of the pilot and q*'s search
    assert result.evaluation["test"]["log_marginal"]["simulated_width"] == found["width"]
    two, y = factorized_bernoulli(2.0, 2, num=6)
    reason = measure_given(two.to(device), y.to(device), given(0, 1), settings).evaluation["simulated"]
    assert reason == {"value": None, "reason": instrument.NOT_NEEDED}


def test_a_split_without_data_and_a_measurement_of_none(device: torch.device) -> None:
    built = trained("amortized", 3, device, torch.float32)
    x = built.data.train.x
    splits = {"train": SplitData(x, True), "test": SplitData(x[:0], False)}
    result = Instrument(built.model, built.strategy, GAPS, seed=0).run(splits)
    assert result.evaluation["test"]["num_data"] == 0 and failed(result.evaluation) == []
    assert result.evaluation["test"]["elbo"]["reason"] == "there are no data"
    assert "path_ess" in result.arrays  # of the split that has some
    found = run(built, Evaluation(num_data=0, best=BEST))
    assert found.evaluation == {} and found.per_datum == [] and found.arrays == {}


def test_a_decoder_that_is_not_finite_is_named(device: torch.device) -> None:
    model, x = factorized_bernoulli(2.0, 3, num=6)
    model = model.to(device)
    log_likelihood = model.log_likelihood
    model.log_likelihood = lambda x, z: torch.where(x[:, 0] > 0, torch.nan, log_likelihood(x, z))  # type: ignore[method-assign]
    with pytest.raises(VemError, match=r"test, rows 0 to 5: .*\d of 6 data.*NaN"):
        measure_given(model, x.to(device), given(0, 1), Evaluation(num_data=6, best=BEST, annealing=ANNEALING))


# --- work that was cut off


class Stopped(Exception):
    """A stop that was asked for."""


def stopping_after(ticks: int) -> Callable[[], None]:
    left = iter(range(ticks))

    def stop() -> None:
        if next(left, None) is None:
            raise Stopped

    return stop


@pytest.fixture
def small_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(instrument, "CHUNK", 3)


CUT = Evaluation(
    num_data=7, draws=5, best=BestSettings(draws=10, evaluations=4, steps=2, rounds=1, score_draws=20),
    annealing=Annealing(temperatures=4, chains=2, pilot_temperatures=2, pilot_chains=2), simulated=SimulatedData(4),
    diagnostics=Diagnostics(20, 10), splits=("train", "test"),
)  # fmt: skip


@cache
def uninterrupted(strategy: str, device: torch.device) -> Result:
    return run(trained(strategy, 3, device, torch.float32), CUT)


def same(one: Result, other: Result) -> None:
    assert one.evaluation == other.evaluation
    assert repr(one.per_datum) == repr(other.per_datum)
    assert one.arrays.keys() == other.arrays.keys()
    for name, values in one.arrays.items():
        np.testing.assert_array_equal(values, other.arrays[name])


@pytest.mark.parametrize(("strategy", "ticks"), [("amortized", 1), ("local", 150), ("amortized", 400)])
@pytest.mark.usefixtures("small_pieces")
def test_cut_off_work_goes_on(strategy: str, ticks: int, device: torch.device, tmp_path: Path) -> None:
    built = trained(strategy, 3, device, torch.float32)
    whole = uninterrupted(strategy, device)
    with pytest.raises(Stopped):
        run(built, CUT, progress=Progress(stop=stopping_after(ticks)).keep(tmp_path, "f"))
    kept = sorted(path.name for path in (tmp_path / FOLDER).glob("*.pt"))
    assert bool(kept) == (ticks > 1)
    progress = Progress().keep(tmp_path, "f")
    same(run(built, CUT, progress=progress), whole)
    assert progress.found == len(kept)
    assert len(list((tmp_path / FOLDER).iterdir())) == 3 * 3 + 2  # three splits, and the simulated data
    drop_pieces(tmp_path)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.usefixtures("small_pieces")
def test_pieces_of_another_measurement_and_damaged_ones_are_made_again(device: torch.device, tmp_path: Path) -> None:
    built = trained("amortized", 3, device, torch.float32)
    whole = uninterrupted("amortized", device)
    run(built, CUT, seed=1, progress=Progress().keep(tmp_path, "another"))
    progress = Progress().keep(tmp_path, "f")
    same(run(built, CUT, progress=progress), whole)
    assert progress.found == 0
    pieces = sorted((tmp_path / FOLDER).iterdir())
    pieces[0].write_bytes(pieces[0].read_bytes()[:100])
    pieces[1].write_bytes(b"")
    torch.save([1, 2], pieces[2])
    same(run(built, CUT, progress=progress), whole)
    assert progress.found == len(pieces) - 3


@pytest.mark.usefixtures("small_pieces")
def test_the_bar_counts_every_piece(device: torch.device, tmp_path: Path) -> None:
    built = trained("amortized", 3, device, torch.float32)
    splits = measure.splits_of(built.data)

    def counted() -> tuple[int, int, int]:
        progress = Progress().keep(tmp_path, "f")
        tool = Instrument(built.model, built.strategy, CUT, seed=0, progress=progress)
        seconds = tool.run(splits).seconds
        assert {"q", "diagnostics"} <= set(seconds) and all(s >= 0 for s in seconds.values())
        return tool.pieces(splits), progress.made, progress.found

    assert counted() == (11, 11, 0)
    (tmp_path / FOLDER / "train-0001.pt").unlink()
    assert counted() == (11, 1, 10)
