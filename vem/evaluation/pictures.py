"""The arrays that the figures of a run are drawn from."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from vem.contracts import Batch, GenerativeModel, Strategy
from vem.data.dataset import Data
from vem.evaluation.elbo import evaluating, spread
from vem.noise import fill, generator

NUM_LATENT = 2000  # points in the latent plane
NUM_CHOSEN = 10  # reconstructions shown
NUM_SAMPLES = 64
GRID = 20  # the decoded grid is GRID × GRID
REACH = 2.5  # the plane is shown to ± this many standard deviations of the prior

Arrays = dict[str, NDArray[Any]]


@torch.no_grad()
def pictures(model: GenerativeModel, strategy: Strategy, data: Data, seed: int) -> Arrays:
    """Latent means and labels of test data, reconstructions, samples; a decoded grid (H = 2) or components."""
    device, dtype = data.train.x.device, data.train.x.dtype
    out: Arrays = {}
    with evaluating(model):
        if strategy.no_elbo is None:
            out.update(_latent(model, strategy, data, seed))
        noise = fill(model.sample_noise(NUM_SAMPLES), generator(device, seed, "pictures"), dtype)
        out["samples"] = _array(model.sample(noise)[1])
        if model.latent == "index":
            components = torch.arange(model.latent_size, device=device)
            out["component_means"] = _array(model.decode(components))
            out["component_weights"] = _array(model.log_prior(components[:, None]).exp()[:, 0])
        elif model.latent_size == 2:
            axis = torch.linspace(-REACH, REACH, GRID, device=device, dtype=dtype)
            # Row 0 is the top of the picture: z_2 falls from row to row, z_1 rises from column to column.
            z = torch.stack([axis.expand(GRID, GRID), axis.flip(0)[:, None].expand(GRID, GRID)], -1)
            out["decoded_grid"], out["grid_axis"] = _array(model.decode(z)), _array(axis)
    return out


def _latent(model: GenerativeModel, strategy: Strategy, data: Data, seed: int) -> Arrays:
    split = data.test
    rows = spread(NUM_LATENT, len(split)).to(split.x.device)
    x = split.x[rows]
    stream = generator(x.device, seed, "pictures", "latent")
    means, shown = [], []
    chosen = set(spread(NUM_CHOSEN, len(rows)).tolist())
    low = 0
    for part in x.split(500):
        noise = fill(strategy.noise(len(part), held_out=True), stream, x.dtype)
        posterior = strategy.infer(model, Batch(part, None), noise)
        mean = posterior.mean()
        means.append(mean)
        index = [i for i in range(len(part)) if low + i in chosen]
        if index:
            shown.append(_reconstruction(model, mean[index]))
        low += len(part)
    if not bool(torch.cat(means).isfinite().all()):
        return {}  # held-out rows that diverged: evaluation.json says so, and a plane of NaN cannot be drawn
    out = {
        "latent_means": _array(torch.cat(means)),
        "chosen_x": _array(x[sorted(chosen)]),
        "reconstructions": _array(torch.cat(shown)),
    }
    if split.labels is not None:
        out["labels"] = split.labels[rows].cpu().numpy()
    return out


def _reconstruction(model: GenerativeModel, mean: Tensor) -> Tensor:
    """The decoded mean of q; for a mixture the components' means, weighted by q."""
    if model.latent == "real":
        return model.decode(mean)
    parts = model.decode(torch.arange(model.latent_size, device=mean.device))
    return torch.tensordot(mean, parts, dims=1)


def _array(x: Tensor) -> NDArray[Any]:
    return x.detach().cpu().numpy().astype(np.float32)
