"""Noise: kinds, shapes, streams that depend on their key alone."""

from __future__ import annotations

import torch

from vem.contracts import NoiseSpec
from vem.noise import fill, generator


def test_fill_draws_what_was_asked_for(device: torch.device, dtype: torch.dtype) -> None:
    specs = {"a": NoiseSpec("normal", (4000, 3)), "b": NoiseSpec("uniform", (4000,))}
    noise = fill(specs, generator(device, 0), dtype)
    assert {k: (v.shape, v.dtype, v.device.type) for k, v in noise.items()} == {
        k: (spec.shape, dtype, device.type) for k, spec in specs.items()
    }
    assert abs(noise["a"].mean().item()) < 0.05 and abs(noise["a"].std().item() - 1) < 0.05
    assert 0 <= noise["b"].min().item() < 0.01 and 0.99 < noise["b"].max().item() < 1
    # Independent across data: no draw is shared by two rows.
    assert len(noise["a"].flatten().unique()) > 11_900


def test_a_stream_depends_on_its_key_and_on_nothing_else(device: torch.device) -> None:
    def draw(*key: int | str) -> torch.Tensor:
        return torch.rand(4, generator=generator(device, *key), device=device)

    first = draw(1, "shuffle", 2)
    torch.rand(10)  # torch's global stream moves on
    assert torch.equal(first, draw(1, "shuffle", 2))
    others = [
        draw(2, "shuffle", 2),
        draw(1, "noise", 2),
        draw(1, "shuffle", 3),
        draw(1, "shuffle", "2"),
        draw(12, "shuffle"),
    ]
    assert not any(torch.equal(first, other) for other in others)


def test_the_global_stream_is_left_alone(device: torch.device) -> None:
    before = torch.get_rng_state()
    fill({"a": NoiseSpec("normal", (3,))}, generator(device, 0))
    assert torch.equal(before, torch.get_rng_state())
