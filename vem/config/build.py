"""Config → objects."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import nn

from vem.config.targets import check_targets, conform, instantiate, takes
from vem.contracts import GenerativeModel, Strategy
from vem.data.dataset import Data, check
from vem.errors import VemError, choice
from vem.evaluation.settings import Evaluation
from vem.models.units import CHOICES, units_of
from vem.noise import generator
from vem.storage import identity, same_data, sealing
from vem.storage.folders import expanded
from vem.training.settings import Training

DTYPES = {"float32": torch.float32, "float64": torch.float64}


@dataclass
class Built:
    """What a config describes."""

    data: Data
    model: GenerativeModel
    strategy: Strategy
    training: Training
    evaluation: Evaluation
    likelihood: str | None
    digests: dict[str, same_data.Digest]  # of the data as stored, before they are cast


def build(config: Mapping[str, Any], stored: Data | None = None) -> Built:
    """Make the objects of a resolved config; ``stored``: its data, where they are read already.

    Raises:
        VemError: a value that does not fit, data that cannot be had, a ``_target_`` outside the allowed
            prefixes.
    """
    config = _with_gradient(identity.settled(config))
    check_targets(config, config.get("allow_targets") or [])
    conform(config["seed"], int, "seed")
    device, dtype = pick_device(config["device"]), DTYPES[choice(config["dtype"], DTYPES, "dtype")]
    # Cheap sections first: a typing error should not wait for a data set to load.
    training: Training = instantiate(config["training"], "training")
    evaluation: Evaluation = instantiate(config["evaluation"], "evaluation")
    with seeded(config["seed"], "strategy"):
        strategy: Strategy = instantiate(config["strategy"], "strategy")
    stored = stored or make_data(config["data"])
    digests = same_data.digests(stored)
    data = stored.to(device, dtype)
    likelihood = resolve_likelihood(config["model"], data)
    model = build_model(config, data, likelihood).to(device, dtype)
    units = units_of(model)
    if units is not None:  # before a strategy that may keep θ as it is
        units.fit(data.train.x)
        data = replace(data, notes=(*data.notes, *model.unit_notes()))
    return Built(data, model, strategy, training, evaluation, likelihood, digests)


def _with_gradient(config: dict[str, Any]) -> dict[str, Any]:
    """The config without the old ``strategy.gradient``, where that is still there; an objective's own word rules."""
    if identity.option(config, "strategy._target_") != identity.LOCAL or "gradient" not in config["strategy"]:
        return config
    strategy = dict(config["strategy"])
    said = choice(strategy.pop("gradient"), identity.GRADIENTS, identity.OF_STRATEGY)
    objective = strategy.get("objective")
    if isinstance(objective, Mapping) and "gradient" not in objective and takes(objective, "gradient", "objective"):
        strategy["objective"] = {**objective, "gradient": "path" if said == "path" else "reparameterized"}
    return {**config, "strategy": strategy}


def parts_of(built: Built) -> list[Any]:
    """The model, the strategy and every network in them: what their classes are is code that made the run."""
    holders = (built.model, *vars(built.strategy).values())
    networks = [part for holder in holders if isinstance(holder, nn.Module) for part in holder.modules()]
    return [built.model, built.strategy, *networks]


def make_data(section: Mapping[str, Any]) -> Data:
    """The data set of a config section, checked.

    Raises:
        VemError: the target made something else, or data that cannot be had or learned from.
    """
    data = instantiate({key: value for key, value in section.items() if key != identity.FILE_HASH}, "data")
    if not isinstance(data, Data):
        raise VemError(
            f"data: {section.get('_target_')} gave a {type(data).__name__}; a data set is a function that returns "
            "vem.data.dataset.Data."
        )
    return check(data)


def identified(config: Mapping[str, Any]) -> dict[str, Any]:
    """The config with the hash of the user's own data file beside its path; path and root become absolute.

    A run's numbers depend on what the file holds, not on where it lies.
    """
    section = dict(config["data"])
    if isinstance(section.get("root"), str):
        section["root"] = str(expanded(section["root"]).absolute())
    if isinstance(section.get("path"), str):
        path = expanded(section["path"])
        if path.is_file():
            section |= {"path": str(path.absolute()), identity.FILE_HASH: sealing.file_hash(path, "data.path=")}
        else:
            section[identity.FILE_HASH] = "no such file"
    return {**config, "data": section}


@contextmanager
def seeded(seed: int, purpose: str) -> Iterator[None]:
    """torch's layers start from its global stream: borrow it, keyed by (seed, purpose), and put it back."""
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(generator("cpu", seed, purpose).initial_seed())
        yield


def build_model(config: Mapping[str, Any], data: Data, likelihood: str | None) -> Any:
    """The model for these data; its first parameters depend on ``seed`` alone."""
    section = dict(config["model"])
    extra: dict[str, Any] = {"event_shape": data.event_shape}
    if likelihood is not None:
        extra["likelihood"] = likelihood
    if "units" in section:
        extra["units"] = resolve_units(config, data, likelihood)
    with seeded(config["seed"], "model"):
        model = instantiate(section, "model", **extra)
    if not isinstance(model, nn.Module):
        raise VemError(
            f"model: {section.get('_target_')} gave a {type(model).__name__}; a model must be a torch.nn.Module."
        )
    return model


def resolve_likelihood(section: Mapping[str, Any], data: Data) -> str | None:
    """The model's likelihood, ``auto`` replaced by the one that fits; None for a model without that option.

    Raises:
        VemError: a Bernoulli likelihood for data that are not 0 or 1.
    """
    if "likelihood" not in section:
        return None
    name = choice(section["likelihood"], ("auto", "bernoulli", "gaussian"), "model.likelihood")
    if name == "auto":
        return "bernoulli" if data.kind == "binary" else "gaussian"
    if name == "bernoulli" and data.kind != "binary":
        raise VemError(
            f"model.likelihood=bernoulli needs data that are 0 or 1, and data={data.name} holds other numbers: set "
            "data.binarize=threshold or data.binarize=stochastic (grey levels are never fed to a Bernoulli as "
            "fractions), or model.likelihood=gaussian."
        )
    return name


def resolve_units(config: Mapping[str, Any], data: Data, likelihood: str | None) -> str:
    """The model's units; ``auto`` where it has none to set: x is not real, or vem builds no network that sees it."""
    name = choice(config["model"]["units"], CHOICES, "model.units")
    idle = data.kind != "real" or likelihood != "gaussian" or not identity.builds_network(identity.hashed_part(config))
    return "none" if name == "auto" and idle else name


def pick_device(name: str) -> torch.device:
    """The device of that name; ``auto`` is a GPU if there is one.

    Raises:
        VemError: it is not known, or not there.
    """
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
    except (RuntimeError, TypeError):
        device = None
    if device is None or device.type not in ("cpu", "cuda"):
        raise VemError(f"device={name} is not known: take auto, cpu or cuda.")
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        found = torch.cuda.device_count()
        seen = f"{found or 'no'} GPU{'s' if found > 1 else ''}"
        raise VemError(f"device={name}: torch sees {seen} here. Take device=cpu or device=auto.")
    return device
