"""Noise is drawn outside the step and handed in as tensors.

That keeps a step pure, testable against finite differences, and capturable in a CUDA graph; common
noise makes two estimates comparable pair by pair. Noise is independent across data.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping

import torch
from torch import Tensor

from vem.contracts import NoiseSpec


def fill(
    specs: Mapping[str, NoiseSpec], generator: torch.Generator, dtype: torch.dtype = torch.float32
) -> dict[str, Tensor]:
    """Draw every tensor that ``specs`` asks for, on the generator's device.

    >>> g = torch.Generator().manual_seed(0)
    >>> fill({"eps": NoiseSpec("normal", (2, 3))}, g)["eps"].shape
    torch.Size([2, 3])
    """
    out = {}
    for name, spec in specs.items():
        draw = torch.randn if spec.kind == "normal" else torch.rand
        out[name] = draw(spec.shape, generator=generator, device=generator.device, dtype=dtype)
    return out


def generator(device: torch.device | str, *key: int | str) -> torch.Generator:
    """A generator whose stream depends only on ``key``, so that it can be made again after a restart.

    >>> a, b = generator("cpu", 0, "shuffle", 7), generator("cpu", 0, "shuffle", 7)
    >>> bool((torch.rand(3, generator=a) == torch.rand(3, generator=b)).all())
    True
    """
    digest = hashlib.sha256(repr(key).encode()).digest()
    return torch.Generator(device=device).manual_seed(int.from_bytes(digest[:8], "little") >> 1)
