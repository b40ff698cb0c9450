"""Plain PyTorch: the loops a practitioner writes by hand, and the matrix products alone."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise

import torch
from data import SIZE, training_x
from torch import Tensor, nn
from torch.nn import functional as F
from worker import Gate, Task


def mlp(*sizes: int) -> nn.Sequential:
    """Fully connected layers with ELU between them."""
    layers: list[nn.Module] = []
    for a, b in pairwise(sizes):
        layers += [nn.Linear(a, b), nn.ELU()]
    return nn.Sequential(*layers[:-1])


def networks(task: Task) -> tuple[nn.Sequential, nn.Sequential]:
    """The encoder to (μ, log σ) and the decoder to logits."""
    encoder = mlp(SIZE, *reversed(task.widths), 2 * task.latent_dim)
    decoder = mlp(task.latent_dim, *task.widths, SIZE)
    return encoder.to(task.device), decoder.to(task.device)


def elbo(decoder: nn.Module, x: Tensor, params: Tensor) -> Tensor:
    """Σ_b L_b with one draw and the closed-form KL; params = (μ, log σ) [B, 2H]."""
    mean, log_scale = params.chunk(2, -1)
    z = mean + log_scale.exp() * torch.randn_like(mean)
    reconstruction = -F.binary_cross_entropy_with_logits(decoder(z), x, reduction="sum")
    kl = 0.5 * (mean.square() + (2 * log_scale).exp() - 1 - 2 * log_scale).sum()
    return reconstruction - kl


def batches(x: Tensor, batch_size: int) -> Iterator[Tensor]:
    """Row numbers of one batch after another, for ever, shuffled each epoch."""
    while True:
        yield from torch.randperm(len(x), device=x.device).split(batch_size)


def begin(task: Task, gate: Gate) -> Tensor:
    """Threads, seed and data."""
    torch.set_num_threads(task.threads)
    torch.manual_seed(0)
    if task.device == "cuda":
        gate.finish_device = torch.cuda.synchronize
    return torch.from_numpy(training_x(task.data)).to(task.device)


def amortized(task: Task, gate: Gate) -> None:
    """Eager PyTorch, data in memory, fused Adam."""
    x = begin(task, gate)
    encoder, decoder = networks(task)
    adam = torch.optim.Adam([*encoder.parameters(), *decoder.parameters()], lr=task.rate, fused=True)
    gate.wait()
    for index in batches(x, task.batch_size):
        batch = x[index]
        adam.zero_grad()
        (-elbo(decoder, batch, encoder(batch)) / len(batch)).backward()
        adam.step()
        gate()


def embedding(task: Task, gate: Gate, joint: bool) -> None:
    """The table as ``nn.Embedding(sparse=True)`` with SparseAdam; one backward pass for both, or one each."""
    x = begin(task, gate)
    decoder = networks(task)[1]
    table = nn.Embedding(len(x), 2 * task.latent_dim, sparse=True, device=task.device)
    nn.init.zeros_(table.weight)
    e_step = torch.optim.SparseAdam(table.parameters(), lr=0.1)
    m_step = torch.optim.Adam(decoder.parameters(), lr=task.rate, fused=True)
    gate.wait()
    for index in batches(x, task.batch_size):
        batch = x[index]
        e_step.zero_grad()
        decoder.requires_grad_(joint)  # an E-step needs no gradient of the decoder
        (-elbo(decoder, batch, table(index))).backward()
        e_step.step()
        if not joint:
            decoder.requires_grad_(True)
            with torch.no_grad():
                params = table(index)
            (-elbo(decoder, batch, params)).backward()
        m_step.step()
        m_step.zero_grad()
        gate()


@torch.no_grad()
def matrix_products(task: Task, gate: Gate) -> None:
    """The matrix products of one forward and one backward pass, and nothing else: the floor of a step."""
    begin(task, gate)
    layers = [layer for network in networks(task) for layer in network if isinstance(layer, nn.Linear)]
    sizes = [(layer.in_features, layer.out_features) for layer in layers]
    x, weights, outs, inputs, gradients = (
        [torch.randn(shape(a, b), device=task.device) for a, b in sizes]
        for shape in (
            lambda a, b: (task.batch_size, a), lambda a, b: (a, b), lambda a, b: (task.batch_size, b),
            lambda a, b: (task.batch_size, a), lambda a, b: (b, a),
        )
    )  # fmt: skip
    gate.wait()
    while True:
        for i in range(len(sizes)):
            torch.mm(x[i], weights[i], out=outs[i])
        for i in reversed(range(len(sizes))):
            torch.mm(outs[i].T, x[i], out=gradients[i])
            if i:  # nothing asks for the gradient of the data
                torch.mm(outs[i], weights[i].T, out=inputs[i])
        gate()


def run(task: Task, gate: Gate, contender: str, **options: bool) -> None:
    """Run the contender of that name for ever."""
    contenders = {"amortized": amortized, "embedding": embedding, "matrix_products": matrix_products}
    contenders[contender](task, gate, **options)
