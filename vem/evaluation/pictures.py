"""The arrays that the figures of a run are drawn from."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from vem.contracts import Batch, GenerativeModel, Inference, PathPosterior, Posterior, Transported
from vem.data.dataset import Data
from vem.evaluation.bounds.quadrature import joint_on_grid, posterior_boxes
from vem.evaluation.elbo import BATCH, spread
from vem.families.gaussian import log_standard_normal
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
NUM_SHOWN = 4  # data in the figure
FINE = 121  # points along each axis of a density
NODES = 40  # of the Gauss–Hermite rule, along each axis
SHOWN_NATS = 5.0  # below its peak the truth's density ends in the picture: 3.2 standard deviations of a Gaussian
RING = math.sqrt(-2 * math.log(0.01))  # the circle that holds 99 % of N(0, I) in the plane
FARTHEST = 20.0  # no picture reaches beyond this
NO_WEIGHT = 1e-14  # nodes below this weigh nothing, and lie where a decoder may overflow
AT_ONCE = 250  # points of one pass through the decoder, for each data point

Arrays = dict[str, NDArray[Any]]
PerDatum = Sequence[Mapping[str, Any]]  # the rows of per_datum.csv


@torch.no_grad()
def pictures(model: GenerativeModel, strategy: Inference, data: Data, seed: int, per_datum: PerDatum = ()) -> Arrays:
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


def _latent(model: GenerativeModel, strategy: Inference, data: Data, seed: int) -> Arrays:
    split = data.test
    rows = spread(NUM_LATENT, len(split)).to(split.x.device)
    x, chosen = split.x[rows], spread(NUM_CHOSEN, len(rows)).to(rows.device)
    stream = generator(x.device, seed, "pictures", "latent")
    means, shown = [], []
    for low, part in zip(range(0, len(x), BATCH), x.split(BATCH), strict=True):
        noise = fill(strategy.noise(len(part), held_out=True), stream, x.dtype)
        mean = strategy.infer(model, Batch(part, None), noise).mean()
        means.append(mean)
        here = chosen[(chosen >= low) & (chosen < low + len(part))] - low
        if len(here):
            shown.append(_reconstruction(model, mean[here]))
    if not bool(torch.cat(means).isfinite().all()):
        return {}  # held-out λ that diverged: evaluation.json says so, and a plane of NaN cannot be drawn
    out = {
        "latent_means": _array(torch.cat(means)),
        "chosen_x": _array(x[chosen]),
        "reconstructions": _array(torch.cat(shown)),
    }
    if split.labels is not None:
        out["labels"] = split.labels[rows].cpu().numpy()
    return out


def worst_rows(per_datum: PerDatum) -> list[Mapping[str, Any]]:
    """The rows of the ``NUM_WORST`` data on which q does worst, the worst first: of test, else of train.

    By the inference gap where log p(x) was bounded, else by L[q*] − L[q], else, and where every gap is rounding, by the
    lowest L[q]. A data point whose ELBO is not finite is left out.
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


def _worst(model: GenerativeModel, strategy: Inference, data: Data, seed: int, per_datum: PerDatum) -> Arrays:
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


# --- densities in the plane


@torch.no_grad()
def planes(model: GenerativeModel, x: Tensor, rows: Tensor, posteriors: Mapping[str, Posterior]) -> Arrays:
    """The posterior of a two-dimensional z against its approximations; nothing unless H = 2.

    For the n data x [n, *X], in these ``rows`` [n] of their split, Q approximations by the name to show (those with
    ``frozen_log_q``) and a grid of g × g points that fits each data point:

    - ``posterior_x`` [n, *X], ``posterior_rows`` [n], ``posterior_names`` [Q];
    - ``posterior_axes`` [n, 2, g]: z_1 and z_2, ascending; densities have z_2 along rows and z_1 along columns;
    - ``posterior_truth`` [n, g, g]: p(z | x); ``posterior_q`` [Q, n, g, g]: q(z), 0 where q is not finite;
    - ``posterior_gaps`` [Q, n]: KL(q ‖ p(z | x)) = log p(x) − L[q] in nats, NaN where q is not finite: log p(x) by
      quadrature and L[q] by a Gauss–Hermite rule in the ε that q is transported from.

    Raises:
        VemError: what :func:`vem.evaluation.bounds.quadrature.quadrature` raises.

    Source: Cremer, Li and Duvenaud, 2018, fig. 1 and 2.
    """
    shown = {name: q for name, q in posteriors.items() if isinstance(q, Transported) and isinstance(q, PathPosterior)}
    if model.latent != "real" or model.latent_size != 2 or not shown:
        return {}
    # A q that points at the posterior, so that quadrature finds one that is very narrow.
    centre = next((q for q in shown.values() if bool(q.mean().isfinite().all())), None)
    with evaluating(model):
        boxes, log_marginal = posterior_boxes(model, x, centre=centre, nats=SHOWN_NATS)
        axes, log_joint = joint_on_grid(model, x, _views(boxes, shown.values()), FINE)
        gaps = [log_marginal - _elbo(model, x, q) for q in shown.values()]
    densities = [_density(q, axes.to(x.dtype)) for q in shown.values()]
    return {
        "posterior_x": _float32(x),
        "posterior_rows": rows.cpu().numpy(),
        "posterior_axes": _float32(axes),
        "posterior_truth": _float32((log_joint - log_marginal[:, None, None]).exp()),
        "posterior_q": _float32(torch.stack(densities)),
        "posterior_names": np.array(list(shown)),
        "posterior_gaps": _float32(torch.stack(gaps)),
    }


def _views(truth: Tensor, posteriors: Iterable[Transported]) -> Tensor:
    """A square box [n, 2, 2] around the truth's and 99 % of each q that is finite, with a margin."""
    angle = torch.linspace(0, 2 * math.pi, 65, device=truth.device, dtype=truth.dtype)[:-1]
    ring = RING * torch.stack([angle.cos(), angle.sin()], -1)[:, None].expand(-1, len(truth), -1)
    points = torch.cat([q.transport(ring.to(q.mean()))[0].to(truth) for q in posteriors])  # [S, n, 2]
    finite = points.isfinite().all(-1, keepdim=True)
    points = torch.where(finite, points, truth.mean(-1)).clamp(-FARTHEST, FARTHEST)
    low, high = torch.minimum(truth[..., 0], points.amin(0)), torch.maximum(truth[..., 1], points.amax(0))
    half = 0.53 * (high - low).amax(-1, keepdim=True)
    middle = (low + high) / 2
    return torch.stack([middle - half, middle + half], -1)


def _elbo(model: GenerativeModel, x: Tensor, q: Transported) -> Tensor:
    """L[q] [n] = E_ε[log p(x, z) + log|dz/dε| − log N(ε; 0, I)], z = transport(ε), by a Gauss–Hermite rule."""
    node, weight = np.polynomial.hermite_e.hermegauss(NODES)
    weight = np.outer(weight, weight).ravel() / weight.sum() ** 2
    kept = weight > NO_WEIGHT
    eps = torch.as_tensor(np.stack(np.meshgrid(node, node), -1).reshape(-1, 2)[kept]).to(x)
    total = torch.zeros(len(x), device=x.device, dtype=torch.float64)
    for part, w in zip(eps.split(AT_ONCE), torch.as_tensor(weight[kept]).to(x.device).split(AT_ONCE), strict=True):
        part = part[:, None].expand(-1, len(x), -1)
        z, log_det = q.transport(part)
        log_ratio = model.log_likelihood(x, z) + model.log_prior(z) + log_det - log_standard_normal(part)
        total += (w[:, None] * log_ratio.double()).sum(0)
    return total


def _density(q: PathPosterior, axes: Tensor) -> Tensor:
    """q(z) [n, g, g] on the grid, 0 where it is not a number."""
    n, _, size = axes.shape
    z = torch.stack([axes[:, 0, None, :].expand(n, size, size), axes[:, 1, :, None].expand(n, size, size)], -1)
    log_q = q.frozen_log_q(z.flatten(1, 2).transpose(0, 1))
    return log_q.T.reshape(n, size, size).exp().nan_to_num(0.0, posinf=0.0)


def _float32(x: Tensor) -> NDArray[Any]:
    return _array(x).astype(np.float32)
