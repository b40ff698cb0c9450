"""A finished run, loaded: :class:`Run` and :func:`load`, which is ``vem.load``."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from os import PathLike
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from vem.config import moved, sources
from vem.config.build import Built, build, make_data
from vem.config.targets import check_targets, takes
from vem.contracts import Batch, Posterior
from vem.errors import VemError, choice
from vem.evaluation.elbo import SplitScores, score, spread
from vem.models.modes import evaluating
from vem.noise import fill, generator
from vem.storage import identity, records, same_data, sealing
from vem.storage.ledger import JobState
from vem.training import checkpoint
from vem.training.settings import Training

log = logging.getLogger("vem")


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
        options: dict[str, Any] = {"training_rows": name == "train", "draws": draws, "seed": seed, "name": name}
        return score(self.model, self.strategy, values, rows, **options)

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
    config = records.read_yaml(path)
    lacking = [key for key in identity.HASHED if not isinstance(config, dict) or key not in config]
    if lacking:
        raise VemError(f"{path} is damaged: it has no {', '.join(lacking)}. Run it again in a fresh hydra.run.dir.")
    return as_before(config)


def as_before(config: Mapping[str, Any]) -> dict[str, Any]:
    """A run's config with the options that it was made without, at the value that means the same."""
    out = dict(config)
    for key, value in identity.AS_BEFORE.items():
        place, _, name = key.rpartition(".")
        section = identity.option(config, place)
        if isinstance(section, Mapping) and name not in section and takes(section, name, place):
            out = identity.with_option(out, key, value)
    return identity.settled(out, before=True)


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
    if status.get("status") == JobState.REPEATS:  # the run is another job's of the sweep
        named, path, digest = path, path.parent / str(status.get("repeats")), status.get("config_hash")
        status = records.read_json(path / records.RUN)
        if status.get("config_hash") != digest:
            raise VemError(
                f"{named} says that {path} holds its run, and that is one of another config: type the sweep's command "
                "again."
            )
    if status.get("status") != JobState.DONE:
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
        remedy = f"Put the old data back. {moved.remedies(path, section)}"
        same_data.require(path, status, built.digests, built.data.notes, remedy)
    place = built.data.train.x.device
    built.strategy.setup(built.model, built.data.training_set(), generator(place, config["seed"], "setup"))
    name = path / checkpoint_name(built.training)
    state = checkpoint.load(name, place, status.get("config_hash"))
    sealing.require(path, status, [name.name], deep=True)
    checkpoint.put(name, state, built.model, built.strategy)
    return Run(path, config, built)
