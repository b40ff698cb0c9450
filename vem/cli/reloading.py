"""Whether a finished run is what its checkpoint holds: its parameters in fresh networks, against the trained ones."""

from __future__ import annotations

import math
import textwrap
from collections.abc import Iterator, Mapping
from numbers import Number
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from vem.config.build import Built, build_model, seeded
from vem.config.loaded import checkpoint_name
from vem.config.targets import instantiate
from vem.evaluation.elbo import SplitScores, score, spread
from vem.models.units import units_of
from vem.noise import generator
from vem.training import checkpoint

DATA = 32  # data whose ELBO is compared
NAMED = 5  # attributes
WIDTH = 300  # characters of an error
OF_TORCH = frozenset(vars(nn.Module()))


def unkept(config: Mapping[str, Any], built: Built, directory: Path) -> list[str]:
    """A note where :func:`vem.load` will not give the numbers of this run, and the likely cause; else nothing.

    The networks are made a second time, as it makes them, and given what the checkpoint holds. A table of λ_n is not:
    its rows are plain tensors. Nothing is raised: a constructor that fails the second time is a note. The trained
    networks may be written over, where a constructor hands out one object each time: to be called last.
    """
    device = built.data.train.x.device
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        try:
            trained = _scores(built, built.model, built.strategy, config["seed"])
            model, strategy = _again(config, built, directory)
            fresh = _scores(built, model, strategy, config["seed"])
        except Exception as error:  # whatever a network of the user's own raises
            why = textwrap.shorten(str(error) or type(error).__name__, WIDTH)
            return [f"vem.load will not give this run back: its networks could not be made a second time ({why})."]
    if _same(trained, fresh):
        return []
    places = {"model": (built.model, model)} | {
        f"strategy.{name}": (part, vars(strategy).get(name)) for name, part in _networks(built.strategy).items()
    }
    found = [name for place, pair in places.items() for name in _differing(place, *pair)]
    cause = "Something outside their state_dict changed in training: register what it is as a buffer"
    if found:
        named = ", ".join(found[:NAMED]) + (" and more" if len(found) > NAMED else "")
        cause = (
            f"Not in their state_dict, and changed in training or drawn by another generator than torch's: {named}. "
            "Register it as a buffer, a persistent one"
        )
    old, new = (_of(scores) for scores in (trained, fresh))
    apart, mean = float((new - old).abs().max()), float(new.mean())
    finite = math.isfinite(apart)
    return [
        "vem.load will not give these numbers: with the parameters of the checkpoint in fresh networks the ELBO of "
        f"{len(old)} data is {f'{mean:.5g}' if finite else 'no number'} and not {float(old.mean()):.5g}, as in the "
        f"trained ones{f' (for a datum they differ by up to {apart:.2g})' if finite else ''}. {cause}."
    ]


def _again(config: Mapping[str, Any], built: Built, directory: Path) -> tuple[Any, Any]:
    """The model and the strategy as a loaded run has them, but for a table, which is the trained one."""
    x, seed = built.data.train.x, config["seed"]
    # The file is mapped, so that a table in it is not read.
    state = checkpoint.load(directory / checkpoint_name(built.training), "cpu", mapped=True)
    model = build_model(config, built.data, built.likelihood).to(x.device, x.dtype)
    if (units := units_of(model)) is not None:
        units.fit(x)
    start = generator(x.device, seed, "setup")
    strategy = built.strategy
    if _networks(strategy):
        with seeded(seed, "strategy"):
            strategy = instantiate(config["strategy"], "strategy")
        strategy.setup(model, built.data.training_set(), start)
    elif not type(model).__module__.startswith("vem."):
        model.start(x, start)  # it may keep what it sees there; a search for the best start is left out
    model.load_state_dict(state["model"])
    if strategy is not built.strategy:
        strategy.load_state_dict(state["strategy"])
    return model, strategy


def _networks(strategy: Any) -> dict[str, nn.Module]:
    """Each once, under its last name: an encoder of the user's is what makes it, too."""
    names = {id(part): name for name, part in vars(strategy).items() if isinstance(part, nn.Module)}
    return {name: vars(strategy)[name] for name in names.values()}


def _scores(built: Built, model: Any, strategy: Any, seed: int) -> SplitScores:
    """The ELBO and log p(x) of a few data, with the same noise each time."""
    data = built.data
    x = data.valid.x if data.redrawn else data.train.x  # to draw all anew for a few of them takes its time
    torch.manual_seed(0)  # for a network that draws
    options: dict[str, Any] = {"training_rows": not data.redrawn, "draws": 1, "seed": seed, "name": "loaded"}
    return score(model, strategy, x, spread(DATA, len(x)), **options)


def _of(scores: SplitScores) -> Tensor:
    found = scores.elbo if scores.elbo is not None else scores.log_marginal
    return torch.zeros(1) if found is None else found


def _same(one: SplitScores, other: SplitScores) -> bool:
    """Whether they are equal up to float32's rounding of their parts."""
    size = 1 + sum(v.abs() for v in (one.reconstruction, one.kl, one.log_marginal) if v is not None)
    pairs = ((getattr(one, name), getattr(other, name)) for name in ("elbo", "reconstruction", "kl", "log_marginal"))
    limit = 100 * torch.finfo(torch.float32).eps * size
    return all(bool(((a == b) | ((a - b).abs() <= limit)).all()) for a, b in pairs if a is not None and b is not None)


def _differing(place: str, trained: Any, fresh: Any) -> Iterator[str]:
    """The attributes of modules, outside their state_dict, that are not as they were made."""
    others = dict(fresh.named_modules()) if isinstance(fresh, nn.Module) else {}
    for name, part in trained.named_modules():
        if name in others:
            mine, other = _plain(part), _plain(others[name])
            for key in mine:
                if key not in other or not _equal(mine[key], other[key]):
                    yield ".".join(filter(None, (place, name, key)))


def _plain(part: nn.Module) -> dict[str, Any]:
    """What a module holds that its state_dict does not."""
    own = {name: value for name, value in vars(part).items() if name not in OF_TORCH}
    return own | {name: part._buffers[name] for name in sorted(part._non_persistent_buffers_set)}


def _equal(one: Any, other: Any) -> bool:
    """Whether two plain values are equal; what is neither a number, text, a tensor nor made of these passes."""
    if isinstance(one, Tensor) and isinstance(other, Tensor):
        return one.shape == other.shape and bool(torch.equal(one, other))
    if isinstance(one, Mapping) and isinstance(other, Mapping):
        return one.keys() == other.keys() and all(_equal(value, other[key]) for key, value in one.items())
    if isinstance(one, list | tuple) and isinstance(other, list | tuple):
        return len(one) == len(other) and all(map(_equal, one, other))
    if isinstance(one, Number | str | None) and isinstance(other, Number | str | None):
        return one == other
    return type(one) is type(other)
