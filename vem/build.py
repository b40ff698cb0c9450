"""Config → objects: the one wrapper around Hydra's ``instantiate``, and :func:`load`."""

from __future__ import annotations

import inspect
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from os import PathLike
from pathlib import Path
from typing import Any

import hydra
import torch
import yaml
from hydra.errors import InstantiationException
from torch import Tensor, nn

from vem import records
from vem.contracts import Batch, GenerativeModel, Posterior, Strategy
from vem.data.dataset import Data, check
from vem.errors import VemError, choice
from vem.evaluation.elbo import SplitScores, evaluating, score, spread
from vem.evaluation.settings import Evaluation
from vem.noise import fill, generator
from vem.training import checkpoint
from vem.training.settings import Training

ALLOWED = ("vem.", "torch.")
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


def build(config: Mapping[str, Any]) -> Built:
    """Make the objects of a resolved config.

    Raises:
        VemError: a value that does not fit, data that cannot be had, a ``_target_`` outside the allowed
            prefixes.
    """
    check_targets(config, config.get("allow_targets") or [])
    device, dtype = pick_device(config["device"]), pick_dtype(config["dtype"])
    # Cheap sections first: a typing error should not wait for a data set to load.
    training: Training = instantiate(config["training"], "training")
    evaluation: Evaluation = instantiate(config["evaluation"], "evaluation")
    strategy: Strategy = instantiate(config["strategy"], "strategy")
    data = check(instantiate(config["data"], "data")).to(device, dtype)
    likelihood = resolve_likelihood(config["model"], data)
    model = build_model(config, data, likelihood).to(device, dtype)
    return Built(data, model, strategy, training, evaluation, likelihood)


def build_model(config: Mapping[str, Any], data: Data, likelihood: str | None) -> Any:
    """The model for these data; its first parameters depend on ``seed`` alone."""
    section = dict(config["model"])
    extra: dict[str, Any] = {"event_shape": data.event_shape}
    if likelihood is not None:
        extra["likelihood"] = likelihood
    # torch's layers start from its global stream: borrow it, and put it back.
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(generator("cpu", config["seed"], "model").initial_seed())
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


def pick_device(name: str) -> torch.device:
    """The device of that name; ``auto`` is a GPU if there is one.

    Raises:
        VemError: it is not known, or not there.
    """
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
    except RuntimeError:
        raise VemError(f"device={name} is not known: take auto, cpu or cuda.") from None
    if device.type == "cuda" and not torch.cuda.is_available():
        raise VemError(f"device={name}: torch sees no GPU here. Take device=cpu or device=auto.")
    return device


def pick_dtype(name: str) -> torch.dtype:
    """The floating type of that name."""
    return DTYPES[choice(name, DTYPES, "dtype")]


def instantiate(section: Mapping[str, Any], place: str, **extra: Any) -> Any:
    """Hydra's ``instantiate`` with vem's errors: a target that is not there, an argument it does not take.

    Raises:
        VemError: naming the section, the target and the cause.
    """
    target = section.get("_target_")
    if not target:
        raise VemError(f"{place} has no _target_: choose an option of the group, for example {place}=NAME.")
    try:
        return hydra.utils.instantiate(dict(section), _convert_="all", **extra)
    except InstantiationException as error:
        cause = error.__cause__
        while cause is not None and not isinstance(cause, VemError) and cause.__cause__ is not None:
            cause = cause.__cause__
        if isinstance(cause, VemError):
            raise cause from None
        line = next((line for line in str(cause or error).splitlines() if line.strip()), "")
        raise VemError(f"{place}: {target} could not be made: {line}{_known_arguments(target)}") from error


def _known_arguments(target: str) -> str:
    try:
        names = [n for n in inspect.signature(hydra.utils.get_object(target)).parameters if n != "self"]
    except (ValueError, TypeError, ImportError, InstantiationException):
        return ". Is the module in the working directory or installed?"
    return f". It takes: {', '.join(names)}."


def targets(config: Any, path: str = "") -> Iterator[tuple[str, str]]:
    """Every (place, ``_target_``) in a config."""
    if isinstance(config, Mapping):
        if isinstance(config.get("_target_"), str):
            yield path, config["_target_"]
        for key, child in config.items():
            yield from targets(child, f"{path}.{key}" if path else str(key))
    elif isinstance(config, list | tuple):
        for i, child in enumerate(config):
            yield from targets(child, f"{path}[{i}]")


def check_targets(config: Mapping[str, Any], allowed: list[str]) -> None:
    """Refuse a ``_target_`` outside the allowed prefixes: a target runs code.

    Raises:
        VemError: naming the place, the target and how to allow it.
    """
    prefixes = (*ALLOWED, *(p if p.endswith(".") else f"{p}." for p in allowed))
    for place, target in targets({k: v for k, v in config.items() if k != "hydra"}):
        if not target.startswith(prefixes):
            raise VemError(
                f"{place}._target_={target} is not allowed: a target runs code. If you trust it, add "
                f"'allow_targets=[{target.split('.')[0]}]'. Allowed now: {', '.join(prefixes)}"
            )


class Run:
    """A finished run: its config, data, model and strategy, ready to be used from Python."""

    def __init__(self, directory: Path, config: dict[str, Any], built: Built) -> None:
        self.directory, self.config = directory, config
        self.data, self.model, self.strategy = built.data, built.model, built.strategy
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
        return x


def load(directory: str | PathLike[str], device: str = "cpu") -> Run:
    """The model, the strategy and the data of a finished run; see :class:`Run`.

    Raises:
        VemError: the directory holds no finished run, or its checkpoint is damaged.
    """
    path = Path(directory)
    status = records.read_json(path / records.RUN)
    if status.get("status") != "done":
        raise VemError(f"{path} is not finished (status {status.get('status')}): start its command again to finish it.")
    config = yaml.safe_load((path / records.CONFIG).read_text(encoding="utf-8"))
    built = build({**config, "device": device})
    built.strategy.setup(built.model, built.data.training_set(), generator(device, config["seed"], "setup"))
    name = records.BEST_CHECKPOINT if built.training.keep == "best" else records.CHECKPOINT
    state = checkpoint.load(path / name, device)
    built.model.load_state_dict(state["model"])
    built.strategy.load_state_dict(state["strategy"])
    return Run(path, config, built)
