"""Synthetic data against the truth they carry."""

from __future__ import annotations

import pytest
import torch

from vem.data.blobs import blobs
from vem.data.linear_gaussian import linear_gaussian
from vem.errors import VemError


def has_moments(x, mean, covariance):
    """A sample covariance of Gaussians has variance (C_ij² + C_ii C_jj) / n."""
    x, variances = x.double(), covariance.diagonal()
    error = ((covariance**2 + variances.outer(variances)) / len(x)).sqrt()
    fits = ((x.T.cov() - covariance).abs() < 5 * error).all()
    return bool(fits and ((x.mean(0) - mean).abs() < 5 * (variances / len(x)).sqrt()).all())


@pytest.mark.parametrize("spread", [1.0, 9.0])
def test_linear_gaussian_moments_match_the_truth(spread):
    data = linear_gaussian(num=200_000, dims=6, latent=2, noise=0.7, noise_spread=spread)
    truth = data.truth
    covariance = truth["W"] @ truth["W"].T + torch.diag(truth["noise_variance"])
    assert has_moments(data.train.x, truth["b"], covariance)
    assert (len(truth["noise_variance"].unique()) == 1) == (spread == 1)
    assert data.kind == "real" and data.image_shape is None and data.train.x.dtype == torch.float32


@pytest.mark.parametrize("split", ["train", "valid", "test"])
def test_linear_gaussian_residuals_are_the_noise(split):
    data = linear_gaussian(num=4000, num_valid=4000, num_test=4000, max_train=3000, noise=0.5)
    z = data.truth[f"z_{split}"]
    residual = data.split(split).x - (z @ data.truth["W"].T + data.truth["b"])
    assert len(z) == len(data.split(split))
    assert float(residual.std()) == pytest.approx(0.5, rel=0.02)


def test_more_training_data_leave_the_test_data_as_they_are():
    for make in (linear_gaussian, blobs):
        small, large, other = make(num=50), make(num=500), make(num=50, seed=1)
        assert torch.equal(small.test.x, large.test.x)
        assert not torch.equal(small.test.x, other.test.x)


@pytest.mark.parametrize("covariance", ["spherical", "diagonal", "full"])
def test_blobs_moments_match_the_truth(covariance):
    data = blobs(num=60_000, dims=3, components=2, weights=[1, 3], covariance=covariance)
    assert data.truth["weights"].tolist() == [0.25, 0.75]
    for k in range(2):
        cluster = data.train.x[data.train.labels == k]
        assert len(cluster) / 60_000 == pytest.approx([0.25, 0.75][k], abs=0.01)
        assert has_moments(cluster, data.truth["means"][k], data.truth["covariances"][k])
    off_diagonal = data.truth["covariances"] - torch.diag_embed(data.truth["covariances"].diagonal(dim1=1, dim2=2))
    assert bool(off_diagonal.any()) == (covariance == "full")
    assert (len(data.truth["covariances"][0].diagonal().unique()) == 1) == (covariance == "spherical")


def test_counts_may_be_written_as_powers_of_ten():
    assert len(linear_gaussian(num=1e3).train) == 1000


@pytest.mark.parametrize(
    ("make", "options", "says"),
    [
        (linear_gaussian, {"num": 0}, "data.num=0"),
        (linear_gaussian, {"dims": 1.5}, "data.dims=1.5"),
        (linear_gaussian, {"latent": -1}, "data.latent=-1"),
        (linear_gaussian, {"noise": 0}, "data.noise=0"),
        (linear_gaussian, {"noise_spread": 0.5}, "data.noise_spread=0.5"),
        (linear_gaussian, {"num_test": float("nan")}, "data.num_test=nan"),
        (blobs, {"components": 0}, "data.components=0"),
        (blobs, {"separation": -1}, "data.separation=-1"),
        (blobs, {"covariance": "tied"}, "data.covariance='tied'"),
        (blobs, {"weights": [1, 2]}, "data.components=5"),
        (blobs, {"weights": [1, 1, 1, 1, 0]}, "positive"),
        (blobs, {"max_train": 5000}, "data.max_train=5000"),
    ],
)
def test_bad_options(make, options, says):
    with pytest.raises(VemError, match=says):
        make(**options)
