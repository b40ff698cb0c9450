"""Matched draws: what they integrate without error, and what they must not share."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from vem.ascent.matched import antithetic, matched
from vem.contracts import NoiseSpec
from vem.noise import fill, generator


def stream(*key: int | str) -> torch.Generator:
    return generator("cpu", "matched", *key)


def second_moment(eps: Tensor) -> Tensor:
    """(1/S) Σ_s ε_s ε_sᵀ [B, H, H]."""
    return torch.einsum("sbi,sbj->bij", eps, eps) / len(eps)


@pytest.mark.parametrize(("draws", "size"), [(2, 1), (10, 5), (100, 50), (101, 7)])
def test_two_moments_are_exact_for_every_datum(draws: int, size: int, dtype: torch.dtype) -> None:
    eps = matched(NoiseSpec("normal", (draws, 3, size)), stream(), dtype)
    # The whitening of the fewest pairs there can be, S = 2H, loses digits: it is done in float64.
    assert eps.dtype == dtype and eps.shape == (draws - draws % 2, 3, size)
    tolerance = 1e-5 if dtype == torch.float32 else 1e-9
    torch.testing.assert_close(eps.mean(0), torch.zeros(3, size, dtype=dtype), rtol=0, atol=tolerance)
    eye = torch.eye(size, dtype=dtype).expand(3, size, size)
    torch.testing.assert_close(second_moment(eps), eye, rtol=0, atol=tolerance)


def test_a_quadratic_is_integrated_without_error() -> None:
    g = stream("quadratic")
    matrix, slope = (torch.randn(*s, generator=g, dtype=torch.float64) for s in ((6, 6), (6,)))

    def mean(eps: Tensor) -> Tensor:
        return ((eps @ matrix * eps).sum(-1) + eps @ slope).mean(0)

    spec = NoiseSpec("normal", (20, 4, 6))
    truth = matrix.trace().expand(4)
    torch.testing.assert_close(mean(matched(spec, stream(), torch.float64)), truth, rtol=0, atol=1e-9)
    plain = fill({"eps": spec}, stream(), torch.float64)["eps"]
    assert (mean(plain) - truth).abs().max() > 0.5


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


def test_each_draw_is_still_normal() -> None:
    eps = matched(NoiseSpec("normal", (40, 2000, 3)), stream("normal"), torch.float64)[:20]
    fourth = eps.pow(4).mean((0, 1))
    # E ε⁴ = 3 for a normal; the whitening of 20 pairs takes a tenth of it.
    assert bool(((fourth > 2.5) & (fourth < 3.1)).all())


@pytest.mark.parametrize("draw", [matched, antithetic])
def test_other_noise_is_drawn_plainly(draw) -> None:
    uniform = NoiseSpec("uniform", (6, 3, 4))
    assert torch.equal(draw(uniform, stream(), torch.float64), fill({"e": uniform}, stream(), torch.float64)["e"])
    one = NoiseSpec("normal", (1, 3, 4))
    assert torch.equal(draw(one, stream(), torch.float64), fill({"e": one}, stream(), torch.float64)["e"])


def test_an_odd_shape_is_drawn_plainly() -> None:
    spec = NoiseSpec("normal", (6, 3, 4, 2))
    assert torch.equal(matched(spec, stream(), torch.float64), fill({"e": spec}, stream(), torch.float64)["e"])


def test_antithetic_pairs_are_independent_of_one_another() -> None:
    eps = antithetic(NoiseSpec("normal", (4, 20_000, 1)), stream("pairs"), torch.float64)[:2, :, 0]
    assert torch.corrcoef(eps)[0, 1].abs() < 0.03
    # Its even moments scatter as plain draws do, where matched ones would not.
    assert eps.square().mean(0).var().item() == pytest.approx(2 / 2, rel=0.1)
