"""Units of x: densities by torch, what a change of units of the data does, what is refused and said."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from parts import amortized, deep, local, train
from sklearn.datasets import load_digits, load_wine
from torch import Tensor, nn
from torch.distributions import MultivariateNormal, Normal

from vem.data.dataset import Data, Split
from vem.evaluation.bounds.quadrature import quadrature
from vem.evaluation.elbo import score
from vem.models.deep import DeepLatentModel
from vem.models.networks import MLPFactory
from vem.models.units import Units, column_moments
from vem.noise import fill, generator
from vem.storage.identity import config_hash
from vem.storage.records import BY_COLUMN
from vem.strategies.amortized import Mirror
from vem.strategies.local import HeldOut

WINE = load_wine().data
STRATEGIES = ("local", "amortized")
# Training ELBOs of three epochs of `trained(WINE[:, FEW], units="none")`, by the code before there were units.
FEW = [0, 2, 5, 7]
BEFORE = {
    "local": [-5.148930178595788, -4.398943281838215, -4.041706978086714],
    "amortized": [-4.947532222989095, -4.0035032754360005, -3.624010707743092],
}


def made(units: str, event: tuple[int, ...], decoder: Any = None, latent: int = 2, **options: Any) -> DeepLatentModel:
    return deep(event, latent, decoder or MLPFactory([5], "tanh"), "gaussian", units=units, **options)


def strategy_of(name: str, encoder: Any = None) -> Any:
    return local(held_out=HeldOut(steps=3)) if name == "local" else amortized(encoder or Mirror())


def as_data(x: Tensor) -> Data:
    return Data("wine", Split(x[::2]), Split(x[1::4]), Split(x[3::4]), "real")


def trained(
    values: Any, units: str, name: str, dtype: torch.dtype = torch.float64, epochs: int = 3, encoder: Any = None,
    decoder: Any = None, **options: Any,
) -> tuple[list[float], DeepLatentModel, Any, Data]:  # fmt: skip
    """A short training, batches of 30; the training ELBO of each epoch and what was trained."""
    data = as_data(torch.as_tensor(np.asarray(values)).to(dtype))
    model = made(units, data.event_shape, decoder, **options).to(dtype)
    strategy = strategy_of(name, encoder)
    return train(model, strategy, data, epochs, 30, records=epochs).epoch_elbos, model, strategy, data


def held_out(model: DeepLatentModel, strategy: Any, data: Data) -> Tensor:
    x = data.test.x
    elbo = score(model, strategy, x, torch.arange(len(x)), training_rows=False, draws=5, seed=0, name="test").elbo
    assert elbo is not None
    return elbo


# --- the density


@pytest.mark.parametrize("units", ["auto", "common", "column"])
@pytest.mark.parametrize("own", [False, True], ids=["vem's decoder", "user's decoder"])
@pytest.mark.parametrize("scale", ["learned", 2.5])
def test_densities_means_and_samples_are_of_x(units: str, own: bool, scale: Any, device: torch.device) -> None:
    """Against torch's Normal in the units of x, its mean and scale written out here."""
    x = torch.as_tensor(WINE[:40, FEW], device=device)
    decoder = nn.Linear(2, 4) if own else None
    model = made(units, (4,), decoder, scale=scale).to(device, torch.float64)
    model.start(x, generator(device, 0))
    z = torch.randn(3, 40, 2, device=device, dtype=torch.float64)
    mean, spread = x.mean(0), x.var(0, correction=0)
    s = spread.sqrt() if units == "column" else spread.mean().sqrt()
    speaks_x = own and units == "auto"
    expected = model.decoder(z) if speaks_x else mean + s * model.decoder(z)
    sigma = 2.5 if scale == 2.5 else (0.01 + nn.functional.softplus(model.likelihood.raw_scale)) * s
    judge = Normal(expected, sigma)
    torch.testing.assert_close(model.log_likelihood(x, z), judge.log_prob(x).sum(-1))
    torch.testing.assert_close(model.decode(z), expected)
    noise = fill(model.sample_noise(7), generator(device, 1), torch.float64)
    drawn, seen = model.sample(noise)
    middle = model.decoder(drawn) if speaks_x else mean + s * model.decoder(drawn)
    torch.testing.assert_close(seen, middle + sigma * noise["x"])


def test_log_p_by_quadrature_is_of_x(device: torch.device) -> None:
    """x = A z + b + σ ε, its log p(x) in closed form; the quadrature sees each z once for all of the data."""
    x = torch.as_tensor(WINE[:40, FEW], device=device)
    model = made("common", (4,), MLPFactory([])).to(device, torch.float64)
    model.start(x, generator(device, 0))
    a, b = model.decoder.last.weight * model.units.scale, x.mean(0)
    covariance = a @ a.T + model.likelihood.scale() ** 2 * torch.eye(4, device=device)
    found = quadrature(model, x[:5]).lower
    torch.testing.assert_close(found, MultivariateNormal(b, covariance).log_prob(x[:5]).detach(), atol=1e-3, rtol=0)


def test_the_start_is_the_mean_and_the_spread_of_the_data(device: torch.device) -> None:
    x = torch.as_tensor(WINE, device=device)
    model = made("common", (13,)).to(device, torch.float64)
    with torch.no_grad():
        model.decoder.last.weight.zero_()
    model.start(x, generator(device, 0))
    torch.testing.assert_close(model.decode(torch.zeros(1, 2, device=device, dtype=torch.float64))[0], x.mean(0))
    assert model.likelihood.scale().item() == pytest.approx(math.sqrt(WINE.var(0).mean()), rel=1e-12)
    by_column = made("column", (13,)).to(device, torch.float64)
    by_column.start(x, generator(device, 0))
    np.testing.assert_allclose(by_column.likelihood.scale().detach().cpu().numpy(), WINE.std(0), rtol=1e-12)


def test_moments_of_hard_columns(device: torch.device) -> None:
    """A column near 1e6 with spread 1, a constant one, one of tiny and one of huge numbers, more data than a chunk."""
    rng = np.random.default_rng(0)
    x = rng.normal(size=(9000, 4)) * [1, 0, 1e-170, 1e8] + [1e6, 0.1, 0, -3e8]
    mean, spread = column_moments(torch.as_tensor(x, device=device))
    np.testing.assert_allclose(mean.cpu(), x.mean(0), rtol=1e-12)
    np.testing.assert_allclose(spread.cpu()[[0, 3]], x[:, [0, 3]].std(0), rtol=1e-9)
    assert float(spread[1]) == 0
    units = Units((4,), by_column=True).double().to(device)
    units.fit(torch.as_tensor(x, device=device)[:, :])
    assert float(units.scale[1]) == pytest.approx(math.sqrt((x.std(0) ** 2).mean()), rel=1e-9)
    alone = torch.full((5, 2), 3.0)
    assert float(Units((2,)).fit(alone)) == 0 and Units((2,)).scale == 1


@pytest.mark.parametrize("name", STRATEGIES)
def test_a_column_far_from_0_and_a_constant_one_train(name: str) -> None:
    rng = np.random.default_rng(0)
    small = rng.normal(size=(120, 2)) @ rng.normal(size=(2, 3)) + 0.3 * rng.normal(size=(120, 3))
    # To quarters, so that float32 holds the shifted table exactly: nothing but the units differs.
    small = np.round(small * 4) / 4
    both = [np.column_stack([small, np.full(120, 5.0)]) + offset for offset in (0, [2.0**20, 0, -(2.0**19), 7])]
    near, far = (trained(x, "column", name, torch.float32)[0] for x in both)
    np.testing.assert_allclose(far, near, atol=2e-3)


# --- a change of units


@pytest.mark.parametrize("name", STRATEGIES)
@pytest.mark.parametrize(
    ("values", "units", "k"),
    [(WINE, "common", 0.01), (load_digits().images[:300] / 16, "auto", 255.0)],
    ids=["wine", "grey levels"],
)
def test_x_times_k_gives_log_p_less_d_log_k(values: Any, units: str, k: float, name: str) -> None:
    """Real data of several spreads and pictures, in single precision; held-out data too."""
    one, *rest = trained(values, units, name, torch.float32, epochs=5)
    other, *others = trained(values * k, units, name, torch.float32, epochs=5)
    shift = values[0].size * math.log(k)
    np.testing.assert_allclose(np.array(other) + shift, one, atol=0.05)
    torch.testing.assert_close(held_out(*others) + shift, held_out(*rest), atol=0.1, rtol=0)


@pytest.mark.parametrize("name", STRATEGIES)
def test_a_power_of_two_changes_no_bit_of_the_networks(name: str) -> None:
    _, one, first, _ = trained(WINE, "common", name, torch.float32)
    _, other, second, _ = trained(WINE * 2.0**7, "common", name, torch.float32)
    for a, b in zip(one.parameters(), other.parameters(), strict=True):
        assert torch.equal(a, b)
    if name == "local":
        assert torch.equal(first.table.params, second.table.params)


@pytest.mark.parametrize("name", STRATEGIES)
@pytest.mark.parametrize("units", ["common", "column"])
def test_units_are_those_of_a_table_divided_by_hand(units: str, name: str) -> None:
    """What the code without units gives on (x − mean) / spread, less the log of the spreads."""
    seen = WINE[::2]
    spread = seen.std(0) if units == "column" else np.full(13, math.sqrt(seen.var(0).mean()))
    by_hand, *rest = trained((WINE - seen.mean(0)) / spread, "none", name)
    found, *others = trained(WINE, units, name)
    constant = float(np.log(spread).sum())
    np.testing.assert_allclose(np.array(found) + constant, by_hand, atol=1e-6)
    torch.testing.assert_close(held_out(*others) + constant, held_out(*rest), atol=1e-5, rtol=0)


def test_a_number_for_scale_is_in_the_units_of_x() -> None:
    """σ = 30 on x is σ = 30 k on k x, in common units and by column, where it is the same likelihood."""
    for units in ("common", "column"):
        one, model, *_ = trained(WINE, units, "amortized", scale=30.0)
        other, *_ = trained(WINE * 8, units, "amortized", scale=240.0)
        np.testing.assert_allclose(np.array(other) + 13 * math.log(8), one, atol=1e-6)
        assert model.likelihood.scale() == 30.0 and model.likelihood_name is None and model.unit_notes() == []


@pytest.mark.parametrize("name", STRATEGIES)
def test_none_is_the_code_before_there_were_units(name: str) -> None:
    elbos, model, *_ = trained(WINE[:, FEW], "none", name)
    np.testing.assert_allclose(elbos, BEFORE[name], rtol=1e-9)
    assert "units" not in " ".join(model.state_dict())  # and so does an old checkpoint fit
    for likelihood, chosen in (("gaussian", {}), ("bernoulli", {"units": "auto"})):
        assert deep(likelihood=likelihood, **chosen).units is None


def test_one_latent_dimension_one_column_and_max_train() -> None:
    x = WINE[:60, 12:]
    elbos, model, *_ = trained(x, "common", "amortized", latent=1)
    assert np.isfinite(elbos).all()
    assert float(model.units.shift[0]) == pytest.approx(x[::2].mean())  # of the training split alone
    assert float(model.units.scale) == pytest.approx(x[::2].std())


# --- networks that vem did not build


class Scaled(nn.Module):
    """A user's encoder that divides by 255 itself."""

    def __init__(self) -> None:
        super().__init__()
        self.last = nn.Linear(64, 4)
        self.largest = 0.0

    def forward(self, x: Tensor) -> Tensor:
        self.largest = max(self.largest, float(x.detach().abs().max()))
        return self.last(x.flatten(1) / 255)


class Decoder(nn.Module):
    """A user's decoder of pictures."""

    def __init__(self) -> None:
        super().__init__()
        self.last = nn.Linear(2, 64)

    def forward(self, z: Tensor) -> Tensor:
        return self.last(z).reshape(-1, 8, 8)


PICTURES = load_digits().images[:120] * 16


def test_an_own_encoder_sees_x_and_its_decoder_of_vem_trains() -> None:
    encoder = Scaled()
    elbos, *_ = trained(PICTURES, "auto", "amortized", torch.float32, encoder=encoder)
    assert np.isfinite(elbos).all() and encoder.largest == 256
    seen = Scaled()
    trained(PICTURES, "common", "amortized", torch.float32, encoder=seen)
    assert 1 < seen.largest < 10


def test_an_encoder_of_vem_trains_before_an_own_decoder() -> None:
    elbos, model, *_ = trained(
        PICTURES, "auto", "amortized", torch.float32, encoder=MLPFactory([8]), decoder=Decoder(), epochs=5
    )
    assert np.isfinite(elbos).all() and elbos[-1] > elbos[0]
    z = torch.randn(3, 2)
    assert torch.equal(model.decode(z), model.decoder(z))  # its output is x


# --- what is refused, and what is said


def test_notes() -> None:
    """`column` is said to be another likelihood; uneven columns are pointed to it, even ones and pixels are not."""
    by_column, common = (trained(WINE, units, "amortized", epochs=1)[1] for units in ("column", "common"))
    assert "another likelihood" in by_column.unit_notes()[0] and by_column.likelihood_name == BY_COLUMN
    ratio = WINE[::2].std(0).max() / WINE[::2].std(0).min()
    assert f"a factor of {ratio:.3g}" in common.unit_notes()[0] and "model.units=column" in common.unit_notes()[0]
    assert common.likelihood_name is None
    even = trained(WINE[:, FEW], "common", "amortized", epochs=1)[1]
    assert even.unit_notes() == []
    edges = PICTURES.copy()
    edges[:, 0, 0] = 0.01 * np.arange(120) / 120
    assert trained(edges, "common", "amortized", epochs=1)[1].unit_notes() == []


def test_the_floor_of_a_learned_scale_is_named_in_the_units_of_x() -> None:
    x = torch.as_tensor(WINE)
    spread = math.sqrt(WINE.var(0).mean())
    model = made("common", (13,), scale_floor=2.0).double()
    model.start(x, generator("cpu", 0))
    with torch.no_grad():
        model.likelihood.raw_scale.fill_(-9)
    assert model.likelihood.scale().item() == pytest.approx(2 * spread, rel=1e-3)
    assert f"its floor {2 * spread:.4g} (model.scale_floor=2.0" in model.notes()[0]


# --- the hash


def config(likelihood: str = "auto", decoder: str = "vem.MLP", encoder: str | None = "vem.Mirror", **data: Any) -> Any:
    strategy = {"_target_": "vem.strategies.local.Local"} if encoder is None else {"encoder": {"_target_": encoder}}
    return {
        "data": {"_target_": "vem.data.digits.digits", "binarize": "none", **data},
        "model": {"likelihood": likelihood, "decoder": {"_target_": decoder}},
        "strategy": strategy,
    }


def with_units(config: Any, units: str) -> str:
    return config_hash({**config, "model": {**config["model"], "units": units}})


def test_the_hash_tells_units_where_they_move_numbers() -> None:
    own = {"decoder": "mine.Decoder", "encoder": "mine.Encoder"}
    as_before = [
        config(binarize="static"), config("bernoulli"), config("gaussian", binarize="threshold"), config(**own),
        config(decoder="mine.Decoder", encoder=None), config(_target_="vem.data.silhouettes.silhouettes"),
    ]  # fmt: skip
    for old in as_before:
        assert with_units(old, "auto") == with_units(old, "none") == config_hash(old)
    for real in (config(), config("gaussian"), config(**{**own, "encoder": "vem.Mirror"}), config(encoder=None)):
        assert with_units(real, "none") == config_hash(real) != with_units(real, "auto")
    assert with_units(config(**own), "column") != config_hash(config(**own))
