"""log p(x, z) and its gradient in z: what annealing and the search for the best q spend their time on."""

from __future__ import annotations

import torch
from torch import Tensor

from vem.contracts import GenerativeModel

# Floats of x that one block of draws may take: 800 draws of 784 pixels, which the processor's cache still holds.
# With 25 times as many a gradient took two to three times as long.
BLOCK = 5 << 17


def log_joint(model: GenerativeModel, x: Tensor, z: Tensor) -> Tensor:
    """log p(x, z) = log p(z) + log p(x | z) [S, B]; x [B, *X], z [S, B, H]."""
    return model.log_prior(z) + model.log_likelihood(x, z)


def draws_per_block(x: Tensor, z: Tensor) -> int:
    """How many of the S draws z [S, B, H] go through the decoder together."""
    return max(1, BLOCK // max(1, max(x.numel(), z[:1].numel())))


@torch.no_grad()
def log_joint_in_blocks(model: GenerativeModel, x: Tensor, z: Tensor) -> Tensor:
    """:func:`log_joint` without a graph, for any number of draws in bounded memory."""
    return torch.cat([log_joint(model, x, part) for part in torch.split(z, draws_per_block(x, z))])


def log_joint_gradient(model: GenerativeModel, x: Tensor, z: Tensor) -> tuple[Tensor, Tensor]:
    """log p(x, z) [S, B] and ∇_z log p(x, z) [S, B, H]; θ gets no gradient."""
    values, gradients = [], []
    for part in torch.split(z.detach(), draws_per_block(x, z)):
        part = part.requires_grad_()
        with torch.enable_grad():
            value = log_joint(model, x, part)
            (gradient,) = torch.autograd.grad(value.sum(), part)
        values.append(value.detach())
        gradients.append(gradient)
    return torch.cat(values), torch.cat(gradients)
