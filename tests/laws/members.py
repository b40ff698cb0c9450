"""Every strategy, family, objective and model that a yaml names, made from its yaml: a new one joins by existing."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
import yaml
from hydra.utils import get_class
from torch import Tensor

from vem.cli.messages import composed
from vem.config.build import Built, build
from vem.contracts import Batch, Bound, Schedule
from vem.data.dataset import Data, Split
from vem.errors import VemError
from vem.noise import generator
from vem.numerics import weighted_sum

CONF = Path(__file__).resolve().parents[2] / "conf"
NUM, DIMS, LATENT = 24, 3, 2
KINDS = {"binary": "bernoulli", "real": "gaussian"}
# What a strategy may need beside a model: the first that is not refused.
PARTNERS: tuple[tuple[str, ...], ...] = ((), ("strategy/start=prior",), ("strategy/encoder=mlp",))


def options(group: str) -> list[str]:
    """The options of a group of the config."""
    return sorted(path.stem for path in (CONF / group).glob("*.yaml"))


def target(group: str, name: str) -> Any:
    """The class that an option names; that of the option it builds on, where it names none."""
    content = yaml.safe_load((CONF / group / f"{name}.yaml").read_text())
    return get_class(content["_target_"]) if "_target_" in content else target(group, content["defaults"][0])


def fits(model: str, family: str) -> bool:
    return bool(target("model", model).latent == target("family", family).latent)


MODELS = [
    (model, kind)
    for model in options("model")
    for kind in KINDS
    if kind == "real" or "\nlikelihood:" in (CONF / "model" / f"{model}.yaml").read_text()
]
PAIRS = [(model, kind, family) for model, kind in MODELS for family in options("family") if fits(model, family)]


def strategies() -> list[tuple[str, ...]]:
    """(strategy, model, kind, family, further override): every strategy with every model, and its own options."""
    found: list[tuple[str, ...]] = []
    for name in options("strategy"):
        own = "override /model" in (CONF / "strategy" / f"{name}.yaml").read_text()
        exact = target("strategy", name).__name__ == "ExactEM"
        for model, kind, family in PAIRS:
            tractable = hasattr(target("model", model), "exact_posterior")
            if (exact and not tractable) or (own and model != "mixture") or (exact and family == "full_gaussian"):
                continue
            found.append((name, model, kind, family, ""))
        defaults = yaml.safe_load((CONF / "strategy" / f"{name}.yaml").read_text()).get("defaults", [])
        for group in (next(iter(entry)) for entry in defaults if isinstance(entry, dict)):
            if (CONF / "strategy" / group).is_dir():
                more = [f"strategy/{group}={option}" for option in options(f"strategy/{group}")]
                found += [(name, "deep", "real", "diagonal_gaussian", option) for option in more]
    return found


STRATEGIES = strategies()


def data(kind: str) -> Data:
    """Three clusters in a plane; their signs where x is binary."""
    g = generator("cpu", "laws")
    x = 2 * torch.randn(3, DIMS, generator=g)[torch.arange(NUM) % 3] + torch.randn(NUM, DIMS, generator=g)
    x = (x > 0).to(x) if kind == "binary" else x
    return Data("made", Split(x), Split(x[:5]), Split(x[:5]), kind)


@cache
def config(*overrides: str) -> dict[str, Any]:
    return composed([*overrides, f"latent_dim={LATENT}", "device=cpu"])


def made(
    strategy: str, model: str, kind: str, family: str, further: str = "", dtype: str = "float64", device: str = "cpu"
) -> Built:
    """The model and the strategy, set up on the data; a mixture of three."""
    size = ("model.components=3",) if model == "mixture" else ()
    small = ("model.decoder.widths=[8]",) if model == "deep" else ()
    for partner in PARTNERS:
        typed = (f"strategy={strategy}", f"model={model}", f"family={family}", *size, *small, *partner, further)
        try:
            built = build({**config(*filter(None, typed)), "dtype": dtype, "device": device}, data(kind))
            x = built.data.train.x
            built.strategy.setup(built.model, built.data.training_set(), generator(x.device, "setup"))
            return built
        except VemError as error:
            refused = error
    raise refused


def schedule(x: Tensor, rate: float = 1.0, kl_weight: float = 1.0, progress: float = 0.3) -> Schedule:
    return Schedule(*(torch.tensor(value, device=x.device, dtype=x.dtype) for value in (rate, kl_weight, progress)))


def batch_of(built: Built, rows: Tensor) -> Batch:
    return Batch(built.data.train.x[rows], rows)


class ContractOnly:
    """The importance-weighted bound L_K, written with nothing but what the contract of an objective promises."""

    def __init__(self, num_draws: int = 2) -> None:
        self.num_draws = num_draws

    def __call__(self, model: Any, x: Tensor, posterior: Any, noise: Tensor | None, kl_weight: Tensor) -> Bound:
        z, log_q, log_weight = posterior.draws(noise)
        ratio = model.log_likelihood(x, z) + kl_weight * (model.log_prior(z) - log_q)
        elbo = weighted_sum(log_weight, model.log_likelihood(x, z) + model.log_prior(z) - log_q).detach()
        bound = torch.logsumexp(log_weight + ratio, 0)
        return Bound(elbo, bound, {"iw_bound": bound.detach()})

    def cost(self, family: Any, batch_size: int) -> int:
        return batch_size * (self.num_draws if family.latent == "real" else family.size)


def hermite(order: int = 24) -> tuple[Tensor, Tensor]:
    """Nodes [Q, 2] and weights [Q] of E over N(0, I) in the plane."""
    x, w = np.polynomial.hermite_e.hermegauss(order)
    nodes, weights = torch.from_numpy(x), torch.from_numpy(w / w.sum())
    return torch.cartesian_prod(nodes, nodes), torch.outer(weights, weights).flatten()
