"""Config → objects: the one wrapper around Hydra's ``instantiate``, and :func:`load`."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from os import PathLike
from pathlib import Path
from typing import Any

import torch
import yaml
from torch import Tensor, nn

from vem.config import moved, sources
from vem.config.targets import check_targets, conform, instantiate, takes
from vem.contracts import Batch, GenerativeModel, Posterior, Strategy
from vem.data.dataset import Data, check
from vem.errors import VemError, choice
from vem.evaluation.elbo import SplitScores, score, spread
from vem.evaluation.settings import Evaluation
from vem.models.modes import evaluating
from vem.models.units import CHOICES, units_of
from vem.noise import fill, generator
from vem.storage import records, same_data, sealing
from vem.storage.folders import expanded
from vem.training import checkpoint
from vem.training.settings import Training

log = logging.getLogger("vem")

FILE_HASH = records.FILE_HASH
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
    config = records.settled(config)
    if records.option(config, "strategy._target_") == records.LOCAL and "gradient" in config["strategy"]:
        choice(config["strategy"]["gradient"], records.GRADIENTS, records.OF_STRATEGY)
    check_targets(config, config.get("allow_targets") or [])
    conform(config["seed"], int, "seed")
    device, dtype = pick_device(config["device"]), pick_dtype(config["dtype"])
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
    data = instantiate({key: value for key, value in section.items() if key != FILE_HASH}, "data")
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
            section |= {"path": str(path.absolute()), FILE_HASH: sealing.file_hash(path, "data.path=")}
        else:
            section[FILE_HASH] = "no such file"
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
    idle = data.kind != "real" or likelihood != "gaussian" or not records.builds_network(records.hashed_part(config))
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


def pick_dtype(name: str) -> torch.dtype:
    """The floating type of that name."""
    return DTYPES[choice(name, DTYPES, "dtype")]


class Run:
    """A finished run: its config, data, model and strategy, ready to be used from Python."""

    def __init__(self, directory: Path, config: dict[str, Any], built: Built) -> None:
        self.directory, self.config, self.built = directory, config, built
        self.data, self.model, self.strategy = built.data, built.model, built.strategy
        self.likelihood = built.likelihood
        self.device, self.dtype = self.data.train.x.device, self.data.train.x.dtype

    def posterior(self, x: Any, seed: int = 0) -> Posterior:
        """q(z) for new data x [B, *X] (a tensor or an array). Local rows are raised with the held-out budget."""
        x = self._data(x)
        noise = fill(self.strategy.noise(len(x), held_out=True), generator(self.device, seed, "posterior"), self.dtype)
        with evaluating(self.model):
            return self.strategy.infer(self.model, Batch(x, None), noise)

    def encode(self, x: Any, seed: int = 0) -> Tensor:
        """E_q[z] [B, H] for new data x [B, *X]; for a mixture the component probabilities [B, K]."""
        return self.posterior(x, seed).mean()

    @torch.no_grad()
    def decode(self, z: Any) -> Tensor:
        """E[x | z] [..., *X] for z [..., H], or for component numbers z [...]."""
        z = torch.as_tensor(z, device=self.device)
        with evaluating(self.model):
            return self.model.decode(z if self.model.latent == "index" else z.to(self.dtype))

    @torch.no_grad()
    def sample(self, num: int, seed: int = 0) -> tuple[Tensor, Tensor]:
        """``num`` pairs (z, x) from p(x, z)."""
        noise = fill(self.model.sample_noise(num), generator(self.device, seed, "sample"), self.dtype)
        with evaluating(self.model):
            return self.model.sample(noise)

    def score(self, x: Any = "test", num_data: int | None = None, draws: int = 10, seed: int = 0) -> SplitScores:
        """The ELBO of each datum (and log p(x) where it is exact), for a split by name or new data [B, *X]."""
        name = x if isinstance(x, str) else "new"
        if isinstance(x, str):
            choice(x, records.SPLITS, "split")
        values = (
            self.data.train_x(0) if name == "train" else self.data.split(x).x if isinstance(x, str) else self._data(x)
        )
        rows = spread(num_data or len(values), len(values))
        return score(
            self.model,
            self.strategy,
            values,
            rows,
            training_rows=name == "train",
            draws=draws,
            seed=seed,
            name=name,
        )

    def _data(self, x: Any) -> Tensor:
        x = torch.as_tensor(x, device=self.device).to(self.dtype)
        if tuple(x.shape[1:]) != self.data.event_shape:
            raise VemError(
                f"x has shape {tuple(x.shape)}; this model takes [B, {', '.join(map(str, self.data.event_shape))}]."
            )
        if self.likelihood == "bernoulli" and not bool(((x == 0) | (x == 1)).all()):
            raise VemError("x holds other numbers than 0 and 1, and this model's likelihood is Bernoulli: binarize it.")
        return x


def read_config(path: Path) -> dict[str, Any]:
    """The config of a run.

    Raises:
        VemError: the file is missing or damaged.
    """
    try:
        config = yaml.safe_load(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise VemError(f"{path} is missing: is {path.parent} the directory of a run?") from None
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise VemError(f"{path} cannot be read ({error}): run it again in a fresh hydra.run.dir.") from None
    lacking = [key for key in records.NEEDED if not isinstance(config, dict) or key not in config]
    if lacking:
        raise VemError(f"{path} is damaged: it has no {', '.join(lacking)}. Run it again in a fresh hydra.run.dir.")
    return as_before(config)


def as_before(config: Mapping[str, Any]) -> dict[str, Any]:
    """A run's config with the options that it was made without, at the value that means the same."""
    out = dict(config)
    for key, value in records.AS_BEFORE.items():
        place, _, name = key.rpartition(".")
        section = records.option(config, place)
        if isinstance(section, Mapping) and name not in section and takes(section, name, place):
            out = records.with_option(out, key, value)
    return records.settled(out, before=True)


def checkpoint_name(training: Training) -> str:
    """The file of a finished run's parameters."""
    return records.BEST_CHECKPOINT if training.keep == "best" else records.CHECKPOINT


def load(
    directory: str | PathLike[str],
    device: str = "cpu",
    data: str | PathLike[str] | None = None,
    other_data: bool = False,
) -> Run:
    """The model, the strategy and the data of a finished run; see :class:`Run`.

    ``data``: where its file or folder of data lies now, if it was moved; else it is looked for below the parent folders
    of the run. ``other_data``: take data that are not those that it was trained on.

    Raises:
        VemError: the directory holds no finished run, its checkpoint is missing, damaged or another run's, or its data
            are not found or others.
    """
    path = Path(directory)
    status = records.read_json(path / records.RUN)
    if status.get("status") == records.REPEATS:  # the run is another job's of the sweep
        named, path, digest = path, path.parent / str(status.get("repeats")), status.get("config_hash")
        status = records.read_json(path / records.RUN)
        if status.get("config_hash") != digest:
            raise VemError(
                f"{named} says that {path} holds its run, and that is one of another config: type the sweep's command "
                "again."
            )
    if status.get("status") != "done":
        raise VemError(f"{path} is not finished (status {status.get('status')}): start its command again to finish it.")
    if of := sealing.measured_of(status):
        raise VemError(f"{path} holds a measurement of {of}, and no model: name that run.")
    sealing.require(path, status, [records.CONFIG])
    config = read_config(path / records.CONFIG)
    check_targets(config, config.get("allow_targets") or [])
    if changes := sources.changed(status.get("code")):
        said = ", ".join(changes)
        log.warning("%s was made by other code of your own (%s): its numbers may be others now.", path, said)
    section, stored = moved.found(config["data"], status, path, data, other_data, make_data)
    config["data"] = dict(section)
    built = build({**config, "device": device}, stored)
    if not status.get(same_data.KEY):
        log.info("%s is of an older version: it has no digests that its data could be compared by.", path)
    if not other_data:
        remedy = f"Put the old data back. {moved.say_where(path, section)} {moved.or_other_data(path)}"
        same_data.require(path, status, built.digests, built.data.notes, remedy)
    place = built.data.train.x.device
    built.strategy.setup(built.model, built.data.training_set(), generator(place, config["seed"], "setup"))
    name = path / checkpoint_name(built.training)
    state = checkpoint.load(name, place, status.get("config_hash"))
    sealing.require(path, status, [name.name], deep=True)
    checkpoint.put(name, state, built.model, built.strategy)
    return Run(path, config, built)
