"""Pyro's SVI: its amortized auto-encoder, and its guide with a table of per-datum parameters.

Argument checks are off, as in Pyro's own timings: they would cost it a third of its speed.
"""

from __future__ import annotations

import pyro
import pyro.distributions as dist
import torch
from pyro.infer import SVI, Trace_ELBO, TraceMeanField_ELBO
from pyro.poutine import block
from torch import Tensor
from with_torch import batches, begin, networks
from worker import Gate, Task

ELBOS = {"TraceMeanField_ELBO": TraceMeanField_ELBO, "Trace_ELBO": Trace_ELBO}


def amortized(task: Task, gate: Gate, elbo: str) -> None:
    """A guide with an encoder, as in Pyro's tutorial on variational auto-encoders."""
    x = begin(task, gate)
    encoder, decoder = networks(task)

    def model(batch: Tensor) -> None:
        pyro.module("decoder", decoder)
        with pyro.plate("data", len(batch)):
            zeros = batch.new_zeros(len(batch), task.latent_dim)
            z = pyro.sample("z", dist.Normal(zeros, torch.ones_like(zeros)).to_event(1))
            pyro.sample("x", dist.Bernoulli(logits=decoder(z)).to_event(1), obs=batch)

    def guide(batch: Tensor) -> None:
        pyro.module("encoder", encoder)
        with pyro.plate("data", len(batch)):
            mean, log_scale = encoder(batch).chunk(2, -1)
            pyro.sample("z", dist.Normal(mean, log_scale.exp()).to_event(1))

    svi = SVI(model, guide, pyro.optim.Adam({"lr": task.rate}), ELBOS[elbo]())
    gate.wait()
    for index in batches(x, task.batch_size):
        svi.step(x[index])
        gate()


def table(task: Task, gate: Gate, joint: bool) -> None:
    """``pyro.param`` of shape [N, H] in a subsampled plate; Pyro's Adam is dense over all N rows."""
    x = begin(task, gate)
    decoder = networks(task)[1].eval()  # in training mode Pyro warns of parameters that are frozen
    n, h = len(x), task.latent_dim
    names = ["mean", "log_scale"]

    def model(batch: Tensor, index: Tensor) -> None:
        pyro.module("decoder", decoder)
        with pyro.plate("data", n, subsample=index):
            zeros = batch.new_zeros(len(batch), h)
            z = pyro.sample("z", dist.Normal(zeros, torch.ones_like(zeros)).to_event(1))
            pyro.sample("x", dist.Bernoulli(logits=decoder(z)).to_event(1), obs=batch)

    def guide(batch: Tensor, index: Tensor) -> None:
        with pyro.plate("data", n, subsample=index):
            # Inside a subsampled plate Pyro takes the batch's rows of a parameter itself.
            mean, log_scale = (pyro.param(name, x.new_zeros(n, h), event_dim=1) for name in names)
            pyro.sample("z", dist.Normal(mean, log_scale.exp()).to_event(1))

    rates = {"lr": task.rate} if not joint else lambda name: {"lr": 0.1 if name in names else task.rate}
    m_or_joint = SVI(model, guide if joint else block(guide, hide=names), pyro.optim.Adam(rates), TraceMeanField_ELBO())
    e_step = SVI(model, guide, pyro.optim.Adam({"lr": 0.1}), TraceMeanField_ELBO())
    gate.wait()
    for index in batches(x, task.batch_size):
        batch = x[index]
        if not joint:
            decoder.requires_grad_(False)  # Pyro leaves such parameters out
            e_step.step(batch, index)
            decoder.requires_grad_(True)
        m_or_joint.step(batch, index)
        gate()


def run(task: Task, gate: Gate, contender: str, **options: object) -> None:
    """Run the contender of that name for ever."""
    pyro.enable_validation(False)
    pyro.set_rng_seed(0)
    {"amortized": amortized, "table": table}[contender](task, gate, **options)
