"""NumPyro's SVI, a slice of steps compiled into one ``jax.lax.scan``: its fastest way to train."""

from __future__ import annotations

import time
from typing import Any

import jax
import numpy as np
import numpyro
import numpyro.distributions as dist
from data import SIZE, training_x
from jax import numpy as jnp
from jax.example_libraries import stax
from numpyro.infer import SVI, TraceMeanField_ELBO
from worker import Gate, Task


def mlp(*sizes: int) -> Any:
    """Fully connected layers with ELU between them."""
    layers = [layer for size in sizes for layer in (stax.Dense(size), stax.Elu)]
    return stax.serial(*layers[:-1])


def run(task: Task, gate: Gate) -> None:
    """Train for ever; the compilation is done before the first turn and noted."""
    x = training_x(task.data)
    n, b, h = len(x), task.batch_size, task.latent_dim

    def model(batch: jax.Array) -> None:
        decode = numpyro.module("decoder", mlp(*task.widths, SIZE), (b, h))
        with numpyro.plate("data", b):
            z = numpyro.sample("z", dist.Normal(jnp.zeros((b, h)), 1.0).to_event(1))
            numpyro.sample("x", dist.Bernoulli(logits=decode(z)).to_event(1), obs=batch)

    def guide(batch: jax.Array) -> None:
        encode = numpyro.module("encoder", mlp(*reversed(task.widths), 2 * h), (b, SIZE))
        with numpyro.plate("data", b):
            mean, log_scale = jnp.split(encode(batch), 2, axis=-1)
            numpyro.sample("z", dist.Normal(mean, jnp.exp(log_scale)).to_event(1))

    svi = SVI(model, guide, numpyro.optim.Adam(task.rate), TraceMeanField_ELBO())

    @jax.jit
    def train(state: Any, data: jax.Array, order: jax.Array) -> tuple[Any, jax.Array]:
        return jax.lax.scan(lambda s, index: svi.update(s, data[index]), state, order)

    data = jax.device_put(x)
    del x
    state = svi.init(jax.random.PRNGKey(0), data[:b])
    started = time.perf_counter()
    order = np.zeros((task.steps, b), np.int32)
    compiled = train.lower(state, data, order).compile()
    gate.notes["compile_seconds"] = time.perf_counter() - started
    source, rows = np.random.default_rng(0), n // b * b
    gate.wait()
    left = np.empty((0, b), np.int32)
    while True:
        while len(left) < task.steps:
            left = np.concatenate([left, source.permutation(n)[:rows].reshape(-1, b).astype(np.int32)])
        order, left = left[: task.steps], left[task.steps :]
        state, losses = compiled(state, data, order)
        losses.block_until_ready()
        gate(task.steps)
