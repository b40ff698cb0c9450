"""The arrays that the figures of a run are drawn from."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from vem.contracts import Batch, GenerativeModel, Strategy
from vem.data.dataset import Data
from vem.evaluation.elbo import spread
from vem.models.modes import evaluating
from vem.noise import fill, generator

NUM_LATENT = 2000  # points in the latent plane
NUM_CHOSEN = 10  # reconstructions shown
NUM_SAMPLES = 64
NUM_WORST = 12
GRID = 20  # the decoded grid is GRID × GRID
REFERENCES = ("log_marginal_lower", "best_elbo")  # what L[q] is held against, the first that is known
EXACT = 1e-3  # nats; below this q is the posterior, and a gap is rounding
REACH = 2.5  # the plane is shown to ± this many standard deviations of the prior

Arrays = dict[str, NDArray[Any]]


PerDatum = Sequence[Mapping[str, Any]]  # the rows of per_datum.csv


@torch.no_grad()
def pictures(model: GenerativeModel, strategy: Strategy, data: Data, seed: int, per_datum: PerDatum = ()) -> Arrays:
    """Latent means and labels of test data, reconstructions, samples; a decoded grid (H = 2) or components.

    Given what was measured ``per_datum``, also the data on which q does worst.
    """
    device, dtype = data.train.x.device, data.train.x.dtype
    out: Arrays = {}
    with evaluating(model):
        if strategy.no_elbo is None:
            out.update(_latent(model, strategy, data, seed))
            out.update(_worst(model, strategy, data, seed, per_datum))
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


def worst_rows(per_datum: PerDatum) -> list[Mapping[str, Any]]:
    """The rows of the ``NUM_WORST`` data on which q does worst, the worst first: of test, else of train.

    By the inference gap where log p(x) was bounded, else by L[q*] − L[q], else by the lowest L[q]: also where every
    gap is rounding. A datum whose ELBO is not finite is left out: evaluation.json says so, and there is no picture
    of it.
    """
    for split in ("test", "train"):
        rows = [row for row in per_datum if row["split"] == split and row.get("elbo") is not None]
        if rows:
            known = [name for name in REFERENCES if any(row.get(name) is not None for row in rows)]
            # Where the gaps were measured of some of the data alone, the others have no place in their order.
            rows = [row for row in rows if all(row.get(name) is not None for name in known)] or rows
            known = [name for name in known if rows[0].get(name) is not None]
            gaps = [[row[name] - row["elbo"] for row in rows] for name in known]
            lowest = [-row["elbo"] for row in rows]
            losses = next((found for found in gaps if any(abs(gap) >= EXACT for gap in found)), lowest)
            order = sorted((-loss, number) for number, loss in enumerate(losses) if math.isfinite(loss))
            return [rows[number] for _, number in order[:NUM_WORST]]
    return []


def _worst(model: GenerativeModel, strategy: Strategy, data: Data, seed: int, per_datum: PerDatum) -> Arrays:
    """The data on which q does worst, and their reconstructions from the mean of q."""
    rows = worst_rows(per_datum)
    if not rows:
        return {}
    split, index = rows[0]["split"], torch.tensor([row["row"] for row in rows], device=data.train.x.device)
    training = split == "train"
    x = (data.train_x(0) if training else data.split(split).x)[index]
    noise = fill(strategy.noise(len(x), held_out=not training), generator(x.device, seed, "pictures", "worst"), x.dtype)
    mean = strategy.infer(model, Batch(x, index if training else None), noise).mean()
    labels = data.split(split).labels
    named = {} if labels is None else {"worst_label": labels[index].cpu().numpy()}
    return named | {
        "worst_x": _array(x),
        "worst_reconstruction": _array(_reconstruction(model, mean)),
        "worst_split": np.array([split] * len(rows)),
        "worst_row": index.cpu().numpy(),
    }


def _reconstruction(model: GenerativeModel, mean: Tensor) -> Tensor:
    """The decoded mean of q; for a mixture the components' means, weighted by q."""
    if model.latent == "real":
        return model.decode(mean)
    parts = model.decode(torch.arange(model.latent_size, device=mean.device))
    return torch.tensordot(mean, parts, dims=1)


def _array(x: Tensor) -> NDArray[Any]:
    return x.detach().cpu().numpy()  # in the run's own type: data far from zero have no spread in another
