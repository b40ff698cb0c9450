"""The digits of a file: kept until the run's dtype rounds them, and what that costs is said."""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
import pytest
import torch
from oracles import maximum_likelihood_ppca
from scipy.special import logsumexp
from scipy.stats import multivariate_normal

from vem.data.array import array
from vem.data.dataset import Data
from vem.errors import VemError
from vem.models.deep import DeepLatentModel
from vem.models.linear_gaussian import LinearGaussian
from vem.models.mixture import Mixture
from vem.models.networks import MLPFactory
from vem.objectives.elbo import ELBO
from vem.storage import identity, records
from vem.strategies.exact_em import ExactEM
from vem.training.fit import fit
from vem.training.schedules import Constant
from vem.training.settings import Training

# --- with dtype=float32 nothing moved

_RNG = np.random.default_rng(15)
WIDE = _RNG.normal(size=(50, 5)) * [1e-3, 1, 50, 1e4, 1e6] + [0, 3, -7, 1e5, 1e6]
GREY = np.random.default_rng(15).random((50, 6))


def text(x: np.ndarray) -> str:
    return "".join(",".join(map(repr, row)) + "\n" for row in x.tolist())


def read(folder: Path, content: object, **options: object) -> Data:
    """What vem makes of that content in a file."""
    if isinstance(content, str):
        path = folder / "x.csv"
        path.write_text(content)
    elif isinstance(content, dict):
        path = folder / "x.npz"
        np.savez(path, **content)
    else:
        path = folder / "x.npy"
        np.save(path, content)
    return array(str(path), **options)  # type: ignore[arg-type]


def digest(data: Data) -> str:
    """Of every number that a run sees."""
    data = data.to("cpu", torch.float32)
    out = hashlib.sha256()
    for x in (data.train.x, data.valid.x, data.test.x, data.train_x(1)):
        out.update(f"{x.dtype}{tuple(x.shape)}".encode())
        out.update(x.contiguous().numpy().tobytes())
    out.update(f"{data.kind} {data.redrawn} {data.image_shape}".encode())
    return out.hexdigest()[:16]


# Recorded with the reader of version 0.1.0, which rounded to float32 at once.
OF_0_1_0 = {
    "float64": (WIDE, {}, "80bdd341b3134f35"),
    "float32": (WIDE.astype(np.float32), {}, "80bdd341b3134f35"),
    "float16": (GREY.astype(np.float16), {}, "21f4b2ba74472844"),
    "big-endian": (WIDE.astype(">f8"), {}, "80bdd341b3134f35"),
    "big-endian float32": (WIDE.astype(">f4"), {}, "80bdd341b3134f35"),
    "longdouble": (WIDE.astype(np.longdouble), {}, "80bdd341b3134f35"),
    "int64": ((WIDE * 1e6).astype(np.int64), {}, "c8d82950421afd3d"),
    "uint8": ((GREY * 255).astype(np.uint8), {}, "ec36dac1e7bfafa4"),
    "bool": (GREY > 0.5, {}, "a9a5218b011f584d"),
    "csv": (text(WIDE), {"header": False}, "80bdd341b3134f35"),
    "threshold": (GREY, {"binarize": "threshold"}, "a9a5218b011f584d"),
    "just below ½": (np.where(GREY > 0.5, 0.5 - 1e-12, GREY), {"binarize": "threshold"}, "a9a5218b011f584d"),
    "static": (GREY, {"binarize": "static"}, "ae1b09733bed61f5"),
    "stochastic": (GREY, {"binarize": "stochastic", "max_train": 20}, "0d2136a30bdaaa0e"),
    "static csv": (text(GREY), {"binarize": "static", "seed": 3}, "f07ad0a8941d3309"),
    "nearly 0 and 1": (np.where(GREY > 0.5, 1 + 1e-9 * GREY, 0), {}, "a9a5218b011f584d"),
    "images": (GREY.reshape(50, 2, 3), {"max_train": 7}, "596fd8b2193a8a19"),
    "split": ({"train": WIDE[:30], "valid": WIDE[30:40], "test": WIDE[40:]}, {}, "e9efa026ec84bf13"),
}


@pytest.mark.parametrize("precision", ["file", "single"])
@pytest.mark.parametrize("case", OF_0_1_0)
def test_float32_runs_see_the_numbers_that_they_saw(tmp_path, case, precision):
    content, options, expected = OF_0_1_0[case]
    assert digest(read(tmp_path, content, precision=precision, **options)) == expected


def test_the_option_is_no_part_of_the_hash_where_it_moves_nothing():
    def hashed(**config: object) -> str:
        return identity.config_hash({"data": {"name": "own", **config.pop("data", {})}, **config})  # type: ignore[dict-item]

    for dtype in ("float32", "float64"):
        assert hashed(dtype=dtype, data={"precision": "single"}) == hashed(dtype=dtype)
    assert hashed(dtype="float32", data={"precision": "file"}) == hashed(dtype="float32")
    assert hashed(dtype="float64", data={"precision": "file"}) != hashed(dtype="float64")


# --- with dtype=float64 every digit counts


@pytest.mark.parametrize(
    "x",
    [
        1.7e9 + 0.05 * GREY,
        (2**40 + (GREY * 1e6)).astype(np.int64),
        (2**31 * GREY).astype(np.uint32),
        (GREY * 255).astype(np.uint8),
        GREY.astype(np.float32),
        WIDE.astype(">f8"),
        1e-60 * GREY,
    ],
    ids=["near 1.7e9", "int64", "uint32", "uint8", "float32", "big-endian", "tiny"],
)
def test_float64_keeps_what_the_file_holds(tmp_path, x):
    data = read(tmp_path, {"train": x[:30], "valid": x[30:40], "test": x[40:]}).to("cpu", torch.float64)
    assert data.train.x.dtype == torch.float64 and data.notes == ()
    assert np.array_equal(np.concatenate([data.split(name).x.numpy() for name in records.SPLITS]), x.astype("f8"))
    if not isinstance(x[0, 0], np.floating):
        assert np.array_equal(data.train.x.numpy().astype(x.dtype), x[:30])


def test_float64_reads_the_digits_of_a_csv(tmp_path):
    data = read(tmp_path, text(1.7e9 + 0.05 * GREY)).to("cpu", torch.float64)
    x = np.concatenate([data.split(name).x.numpy() for name in records.SPLITS])
    assert np.array_equal(np.sort(x, axis=None), np.sort(1.7e9 + 0.05 * GREY, axis=None))


# --- what float32 costs


def share(x: np.ndarray) -> np.ndarray:
    return (x.astype(np.float32).astype(np.float64) - x).std(0) / x.std(0)


@pytest.mark.parametrize("column", [0, 3])
@pytest.mark.parametrize(("shift", "scale"), [(1e6, 0.5), (-3e4, 1e-2), (0, 1e-44)])
def test_the_note_names_the_column_that_loses_most(tmp_path, column, shift, scale):
    x = GREY.copy()
    x[:, column] = shift + scale * GREY[:, column]
    data = read(tmp_path, {"train": x, "valid": x, "test": x})
    (note,) = data.to("cpu", torch.float32).notes
    assert f"column {column + 1} of 6" in note and "dtype=float64" in note
    assert f"rounds away {share(x)[column]:.1%} of the spread" in note
    assert share(x)[column] > 0.01 and "other" not in note
    assert data.to("cpu", torch.float64).notes == ()


def test_the_note_counts_the_other_columns_and_names_pixels(tmp_path):
    x = GREY.copy()
    x[:, [1, 2, 4]] += [1e6, 1e5, 2e4]
    assert (share(x) > 1e-3).sum() == 3 == 1 + (share(x) > 1e-3)[[2, 4]].sum()
    (note,) = read(tmp_path, {"train": x, "valid": x, "test": x}).to("cpu", torch.float32).notes
    assert "column 2 of 6 (and more than 0.1% of that of 2 others)" in note
    images = x.reshape(50, 2, 3)
    (note,) = read(tmp_path, {"train": images, "valid": images, "test": images}).to("cpu", torch.float32).notes
    assert "pixel [0, 1]" in note


@pytest.mark.parametrize("x", [WIDE, 2000 + 10 * GREY, GREY * 1e6, np.where(GREY > 0.5, 0.1, 7)])
def test_usual_data_get_no_note(tmp_path, x):
    assert read(tmp_path, x).to("cpu", torch.float32).notes == ()


@pytest.mark.parametrize("x", [1.7e9 + 0.05 * GREY, 1e-60 * GREY], ids=["far", "tiny"])
def test_data_that_float32_makes_equal_are_refused_and_the_remedy_works(tmp_path, x):
    data = read(tmp_path, x)
    with pytest.raises(VemError, match=r"dtype=float32, all 40 training data are equal.*dtype=float64"):
        data.to("cpu", torch.float32)
    assert data.to("cpu", torch.float64).train.x.std() > 0


@pytest.mark.parametrize(("size", "remedy"), [(1e40, "set dtype=float64, or divide"), (1e300, "3.4e.38: divide")])
def test_numbers_beyond_float32_are_refused_and_the_remedy_works(tmp_path, size, remedy):
    data = read(tmp_path, GREY * size)
    with pytest.raises(VemError, match=f"float32 ends at.*{remedy} the data by a power of ten"):
        data.to("cpu", torch.float32)
    assert data.to("cpu", torch.float64).notes == ()


@pytest.mark.parametrize("kind", [np.int64, np.uint64])
def test_whole_numbers_that_float64_cannot_tell_apart_are_refused(tmp_path, kind):
    near = 1_700_000_000_000_000_000 + (GREY * 1000).astype(kind)  # times in nanoseconds, within a microsecond
    with pytest.raises(VemError, match=r"column 1 holds whole numbers near 1.7e.18.*subtract its smallest value"):
        read(tmp_path, near)
    kept = read(tmp_path, near - near.min(0)).to("cpu", torch.float64)
    assert kept.train.x.max() < 1000 and kept.train.x.std() > 200
    # Where they lie far apart the digits that are lost do not matter.
    assert read(tmp_path, (GREY * 2**62).astype(kind)).train.x.dtype == torch.float64


# --- the models: log p does not change under a shift

FAR = [1e6, 1.7e9]
BASE = 0.05 * (
    np.random.default_rng(0).normal(size=(200, 2)) @ np.random.default_rng(1).normal(size=(2, 4))
    + 0.3 * np.random.default_rng(2).normal(size=(200, 4))
)
BASE[100:] += 0.3


def far(folder: Path, shift: float) -> tuple[Data, np.ndarray]:
    """Data near ``shift`` in float64, and the training rows less that shift, which is exact."""
    data = read(folder, BASE + shift).to("cpu", torch.float64)
    return data, data.train.x.numpy() - shift


def trained(model: torch.nn.Module, data: Data, epochs: int = 30) -> None:
    settings = Training(epochs, 200, 0.01, Constant(), valid_data=0)
    fit(model, ExactEM(ELBO(), tolerance=0), data, settings, progress_bar=False)  # type: ignore[arg-type]


def log_density(x: np.ndarray, mean: np.ndarray, covariance: np.ndarray) -> np.ndarray:
    return np.asarray(multivariate_normal(mean, covariance).logpdf(x))


@pytest.mark.parametrize("noise", ["isotropic", "diagonal"])
@pytest.mark.parametrize("shift", FAR)
def test_linear_gaussian_far_from_zero(tmp_path, shift, noise):
    data, centered = far(tmp_path, shift)
    model = LinearGaussian((4,), 2, noise=noise).double()
    trained(model, data, 150)
    weight, bias, psi = (v.detach().numpy() for v in (model.weight, model.bias, model.noise_variance()))
    truth = log_density(centered, bias - shift, weight @ weight.T + np.diag(psi))
    x = data.train.x
    np.testing.assert_allclose(model.log_marginal(x).detach().numpy(), truth, atol=1e-8)
    if noise == "isotropic":  # the maximum, by numpy on centred data
        values = np.linalg.eigvalsh(np.cov(centered.T, bias=True))
        best = -0.5 * (4 * np.log(2 * np.pi) + np.log(values[2:]).sum() + 2 * np.log(values[:2].mean()) + 4)
        assert model.log_marginal(x).mean().item() == pytest.approx(best, abs=1e-5)
        assert maximum_likelihood_ppca(x, 2).log_marginal.item() == pytest.approx(best, abs=1e-5)
    # The best factorized q: log p less the gap that its precision gives.
    precision = np.eye(2) + weight.T @ (weight / psi[:, None])
    gap = 0.5 * (np.log(np.diag(precision)).sum() - np.linalg.slogdet(precision)[1])
    np.testing.assert_allclose(model.best_diagonal_bound(x).detach().numpy(), truth - gap, atol=1e-8)


@pytest.mark.parametrize("covariance", ["full", "diagonal", "tied", "spherical"])
@pytest.mark.parametrize("shift", FAR)
def test_mixtures_far_from_zero(tmp_path, shift, covariance):
    data, centered = far(tmp_path, shift)
    model = Mixture((4,), 2, covariance=covariance).double()
    trained(model, data)
    parts = model.components
    if covariance in ("full", "tied"):
        tril = parts.scale_tril().detach().numpy()  # type: ignore[operator]
        matrices = np.broadcast_to(tril @ tril.swapaxes(1, 2), (2, 4, 4))
    else:
        matrices = np.stack([np.diag(v) for v in parts.variance().detach().numpy()])  # type: ignore[operator]
    means, weights = parts.means().detach().numpy() - shift, model.log_weights().detach().numpy()
    joint = np.stack([log_density(centered, means[k], matrices[k]) for k in range(2)], 1) + weights
    x = data.train.x
    np.testing.assert_allclose(model.log_marginal(x).detach().numpy(), logsumexp(joint, axis=1), atol=1e-8)
    np.testing.assert_allclose(
        model.exact_posterior(x).mean().detach().numpy(), np.exp(joint - logsumexp(joint, axis=1)[:, None]), atol=1e-8
    )
    # And they reach what the same data reach about zero.
    near = Mixture((4,), 2, covariance=covariance).double()
    about_zero, _ = far(tmp_path, 0)
    trained(near, about_zero)
    reached, expected = model.log_marginal(x).mean().item(), near.log_marginal(about_zero.train.x).mean().item()
    assert reached == pytest.approx(expected, abs=2e-6)


@pytest.mark.parametrize("shift", FAR)
def test_the_deep_model_far_from_zero(tmp_path, shift):
    data, centered = far(tmp_path, shift)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = DeepLatentModel((4,), 2, MLPFactory([5]), likelihood="gaussian").double()
    model.start(data.train.x, torch.Generator())
    z = torch.randn(3, len(centered), 2, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        mean, scale = model.decode(z).numpy() - shift, float(model.likelihood.scale())  # type: ignore[arg-type]
        found = model.log_likelihood(data.train.x, z).numpy()
    truth = -0.5 * (((centered - mean) / scale) ** 2).sum(-1) - 4 * np.log(scale * np.sqrt(2 * np.pi))
    np.testing.assert_allclose(found, truth, atol=1e-8)
    assert scale == pytest.approx(np.sqrt(((centered - centered.mean(0)) ** 2).mean()), abs=1e-6)
