"""Matched draws: what they integrate without error, and what they must not share."""

from __future__ import annotations

import pytest
import torch
from scipy import stats
from torch import Tensor

from vem.ascent.matched import antithetic, matched, spherical
from vem.contracts import NoiseSpec
from vem.errors import VemError
from vem.noise import fill, generator


def stream(*key: int | str) -> torch.Generator:
    return generator("cpu", "matched", *key)


def second_moment(eps: Tensor) -> Tensor:
    """(1/S) Σ_s ε_s ε_sᵀ [B, H, H]."""
    return torch.einsum("sbi,sbj->bij", eps, eps) / len(eps)


@pytest.mark.parametrize(("draws", "size"), [(2, 1), (10, 5), (100, 50), (102, 7)])
def test_two_moments_are_exact_for_every_datum(draws: int, size: int, dtype: torch.dtype) -> None:
    eps = matched(NoiseSpec("normal", (draws, 3, size)), stream(), dtype)
    # The whitening of the fewest pairs there can be, S = 2H, loses digits: it is done in float64.
    assert eps.dtype == dtype and eps.shape == (draws, 3, size)
    tolerance = 1e-5 if dtype == torch.float32 else 1e-9
    torch.testing.assert_close(eps.mean(0), torch.zeros(3, size, dtype=dtype), rtol=0, atol=tolerance)
    eye = torch.eye(size, dtype=dtype).expand(3, size, size)
    torch.testing.assert_close(second_moment(eps), eye, rtol=0, atol=tolerance)


@pytest.mark.parametrize("draw", [matched, antithetic])
def test_the_second_half_mirrors_the_first(draw, dtype: torch.dtype) -> None:
    eps = draw(NoiseSpec("normal", (12, 3, 4)), stream(), dtype)
    assert torch.equal(eps[:6], -eps[6:])


def test_data_do_not_share_their_noise() -> None:
    spec = NoiseSpec("normal", (40, 50, 4))
    for draw in (matched, antithetic):
        half = draw(spec, stream(draw.__name__), torch.float64)[:20].transpose(0, 1).flatten(1)  # [B, S/2 · H]
        correlation = torch.corrcoef(half)
        off = correlation[~torch.eye(50, dtype=torch.bool)]
        # 80 numbers of noise each: correlations of standard deviation 1/√80.
        assert off.abs().max() < 0.5 and off.square().mean().sqrt().item() == pytest.approx(80**-0.5, rel=0.1)


def test_fewer_pairs_than_dimensions_are_orthogonal() -> None:
    eps = matched(NoiseSpec("normal", (10, 3, 8)), stream(), torch.float64)[:5].transpose(0, 1)
    torch.testing.assert_close(eps @ eps.mT, 8 * torch.eye(5, dtype=torch.float64).expand(3, 5, 5))


def test_matched_draws_of_the_fewest_pairs_have_all_one_length() -> None:
    """Why they cannot judge a q: |ε|² scatters with variance 2H where ε is normal."""
    eps = matched(NoiseSpec("normal", (20, 50, 10)), stream("length"), torch.float64)
    torch.testing.assert_close(eps.square().sum(-1), torch.full((20, 50), 10.0, dtype=torch.float64))


@pytest.mark.parametrize("size", [1, 2, 5, 50])
@pytest.mark.parametrize("draws", [4, 20])
def test_spherical_draws_are_normal_one_by_one(draws: int, size: int) -> None:
    """Lengths χ_H and coordinates N(0, 1), by Kolmogorov and Smirnov; of each quarter, whose draws are alike."""
    eps = spherical(NoiseSpec("normal", (draws, 4000, size)), stream("one", draws, size), torch.float64)
    for draw in range(0, draws, draws // 4):
        assert stats.kstest(eps[draw].norm(dim=-1).numpy(), stats.chi(size).cdf).pvalue > 1e-3
        for coordinate in {0, size - 1}:
            assert stats.kstest(eps[draw, :, coordinate].numpy(), stats.norm.cdf).pvalue > 1e-3
    if size > 1:
        # Two coordinates of one draw are independent: so are their squares.
        assert torch.corrcoef(eps[0, :, :2].square().T)[0, 1].abs() < 0.07


def test_spherical_draws_come_in_fours() -> None:
    eps = spherical(NoiseSpec("normal", (24, 3, 4)), stream(), torch.float64).unflatten(0, (4, 6))
    assert torch.equal(eps[0], -eps[1]) and torch.equal(eps[2], -eps[3])
    lengths = eps[[0, 2]].norm(dim=-1)
    torch.testing.assert_close(eps[0] / lengths[0][..., None], eps[2] / lengths[1][..., None])
    below = torch.as_tensor(stats.chi(4).cdf(lengths.numpy()))
    torch.testing.assert_close(below.sum(0), torch.ones(6, 3, dtype=torch.float64))
    # The first four directions are orthogonal, and so are the two that are left.
    products = torch.einsum("sbh,tbh->bst", eps[0], eps[0])
    for block in (products[:, :4, :4], products[:, 4:, 4:]):
        torch.testing.assert_close(block, torch.diag_embed(block.diagonal(dim1=-2, dim2=-1)), rtol=0, atol=1e-9)


def test_spherical_draws_integrate_without_bias_what_matched_ones_do_not() -> None:
    """E (|ε|² − H)² = 2H, and a quadratic with far less scatter than plain draws have."""
    spec = NoiseSpec("normal", (40, 2000, 10))
    found = {
        draw: (draw(spec, stream("mean"), torch.float64).square().sum(-1) - 10).square().mean(0)
        for draw in (spherical, matched)
    }
    mean, error = found[spherical].mean(), found[spherical].std() / 2000**0.5
    assert (mean - 20).abs() < 4 * error and found[matched].mean() < 15
    slope = torch.linspace(-1, 2, 10, dtype=torch.float64)
    scatter = [
        (draw(spec, stream("q"), torch.float64).square() @ slope).mean(0).var() for draw in (spherical, antithetic)
    ]
    assert scatter[0] < 0.1 * scatter[1]


UNIFORM, ODD = NoiseSpec("uniform", (6, 3, 4)), NoiseSpec("normal", (6, 3, 4, 2))


@pytest.mark.parametrize(
    ("draw", "spec"), [(matched, UNIFORM), (spherical, UNIFORM), (antithetic, UNIFORM), (matched, ODD)]
)
def test_other_noise_is_drawn_plainly(draw, spec) -> None:
    assert torch.equal(draw(spec, stream(), torch.float64), fill({"e": spec}, stream(), torch.float64)["e"])


@pytest.mark.parametrize(("draw", "draws", "number"), [(matched, 1, 2), (matched, 101, 2), (spherical, 6, 4)])
def test_draws_that_do_not_divide_are_refused(draw, draws: int, number: int) -> None:
    with pytest.raises(VemError, match=f"{draws} draws do not divide into groups of {number}"):
        draw(NoiseSpec("normal", (draws, 3, 4)), stream(), torch.float64)


def test_antithetic_pairs_are_independent_of_one_another() -> None:
    eps = antithetic(NoiseSpec("normal", (4, 20_000, 1)), stream("pairs"), torch.float64)[:2, :, 0]
    assert torch.corrcoef(eps)[0, 1].abs() < 0.03
    # Its even moments scatter as plain draws do, where matched ones would not.
    assert eps.square().mean(0).var().item() == pytest.approx(2 / 2, rel=0.1)
