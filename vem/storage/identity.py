"""Which configs are one run: the hash of what its numbers depend on, by the oldest names of the options."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from typing import Any

# What a run's numbers depend on, and every config has. A top-level value such as latent_dim counts through the sections
# that interpolate it, so a value that the chosen model does not use does not count.
HASHED = ("data", "model", "strategy", "training", "evaluation", "seed", "dtype")
FILE_HASH = "sha256"  # data.sha256, beside data.path: what the user's own file holds
NOT_HASHED = ("data.root", "training.checkpoint_seconds", "evaluation.strict")

# Options that came after the first release, each with the value that means what runs without it did. At that value,
# and where it changes nothing, an option is no part of the hash: an old run and a new one are then the same run.
AS_BEFORE: dict[str, Any] = {
    "model.units": "none",
    "evaluation.annealing.modes": 1,
    "evaluation.gap_data": None,
    **{f"data.{key}": None for key in ("columns", "drop", "array", "label_array", "layer")},
    **{f"data.{key}": "auto" for key in ("row_names", "separator", "decimal", "encoding")},
    "data.categories": "refuse",
    "data.precision": "single",
    "model.standardize": False,
    "strategy.convergence": "auto",  # as before where no columns are standardized, and so is the next
    "strategy.accelerate": "auto",
}
# Options whose default was another one: (the old, the new).
MOVED_DEFAULTS: dict[str, tuple[Any, Any]] = {"strategy.start": ("data", "closed")}
# Of all these, the ones that change nothing for binary data.
REAL_ONLY = ("model.units", "model.standardize", "strategy.start")

MIXTURE = "vem.models.mixture.Mixture"
EXACT = (MIXTURE, "vem.models.linear_gaussian.LinearGaussian")
LOCAL = "vem.strategies.local.Local"
NOT_EXACT = (LOCAL, "vem.strategies.amortized.Amortized")  # under them model.standardize=auto means false
OLD_TARGETS = {"vem.training.schedules.Stepwise": "vem.training.schedules.IWAE"}  # classes by their oldest names
GRADIENTS = ("path", "reparameterized", "objective")
OF_STRATEGY, OF_OBJECTIVE = "strategy.gradient", "strategy.objective.gradient"


def config_hash(config: Mapping[str, Any]) -> str:
    """A hash of what a run's numbers depend on, and of nothing else: not of paths, device or threads.

    >>> config_hash({"seed": 0, "device": "cpu"}) == config_hash({"seed": 0, "device": "cuda"})
    True
    >>> config_hash({"seed": 0}) == config_hash({"seed": 1})
    False
    """
    text = json.dumps(hashed_part(config), sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def hashed_part(config: Mapping[str, Any]) -> dict[str, Any]:
    """The part of a resolved config that :func:`config_hash` reads, as flat dotted keys."""
    flat = {key: value for key, value in _flat({k: config[k] for k in HASHED if k in config}) if key not in NOT_HASHED}
    if f"data.{FILE_HASH}" in flat:
        del flat["data.path"]  # what the file holds counts, not where it lies
    flat |= _same_start(flat) | _same_gradient(flat)
    flat = {k: OLD_TARGETS.get(v, v) if k.endswith("._target_") else v for k, v in flat.items()}
    idle = _idle(flat)
    return {k: v for k, v in flat.items() if k not in AS_BEFORE or not (k in idle or v == AS_BEFORE[k])}


def _flat(node: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for key, child in node.items():
        if isinstance(child, Mapping) and child:
            yield from _flat(child, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", list(child) if isinstance(child, tuple) else child


def _idle(flat: Mapping[str, Any]) -> set[str]:
    """The keys of ``AS_BEFORE`` that change no number under this config, as far as the config alone tells."""
    drawn = flat.get("data.binarize") not in (None, "none") or "silhouettes" in str(flat.get("data._target_"))
    likelihood, model = flat.get("model.likelihood"), flat.get("model._target_")
    binary = likelihood == "bernoulli" or (likelihood == "auto" and drawn)  # x is surely 0 or 1
    changes_nothing = {
        "model.units": binary or (flat.get("model.units") == "auto" and (drawn or not builds_network(flat))),
        "data.precision": flat.get("dtype") == "float32",  # x is rounded to that anyway
        "model.standardize": binary
        or (flat.get("model.standardize") == "auto" and flat.get("strategy._target_") in NOT_EXACT),
        "evaluation.annealing.modes": model in EXACT,  # there log p(x) needs no annealing
    }
    return {key for key, idle in changes_nothing.items() if idle}


def _same_start(flat: Mapping[str, Any]) -> dict[str, Any]:
    """The start of exact EM by its oldest name: ``model`` was ``data``, and so is ``closed`` without a closed form.

    >>> _same_start({"strategy.start": "closed", "model._target_": MIXTURE})
    {'strategy.start': 'data'}
    """
    start = flat.get("strategy.start")
    old = start == "model" or (start == "closed" and flat.get("model._target_") == MIXTURE)
    return {"strategy.start": "data"} if old else {}


def _same_gradient(flat: Mapping[str, Any]) -> dict[str, Any]:
    """The gradient by its oldest names: ``strategy.gradient`` of local rows ruled over that of the objective.

    >>> _same_gradient({"strategy._target_": LOCAL, OF_OBJECTIVE: "path"})
    {'strategy.gradient': 'path', 'strategy.objective.gradient': 'reparameterized'}
    """
    chosen = flat.get(OF_OBJECTIVE)
    plain = {} if chosen is None else {OF_OBJECTIVE: "reparameterized"}
    if flat.get("strategy._target_") != LOCAL or OF_STRATEGY in flat:
        return plain if chosen == "auto" else {}
    return {OF_STRATEGY: "path" if chosen == "path" else "objective"} | plain


def settled(config: Mapping[str, Any], before: bool = False) -> dict[str, Any]:
    """The config with the gradient where it belongs, in the objective's options, and ``auto`` replaced.

    ``strategy.gradient`` of local rows is what ``auto`` means, ``path`` where a yaml of one's own has none; in a config
    from ``before`` there was no ``auto``, and its ``path`` ruled over the objective's own. Beside
    ``objective.gradient=path``, or none, nothing is changed: both words are part of the hash, as they were.

    >>> settled({"strategy": {"_target_": LOCAL, "gradient": "path", "objective": {"gradient": "auto"}}})["strategy"]
    {'_target_': 'vem.strategies.local.Local', 'objective': {'gradient': 'path'}}
    """
    chosen = option(config, OF_OBJECTIVE)
    if option(config, "strategy._target_") != LOCAL:
        return dict(config)
    said = config["strategy"].get("gradient", "path" if chosen == "auto" else None)
    if said not in GRADIENTS or chosen in (None, "path"):
        return dict(config)
    out = with_option(config, "strategy", {k: v for k, v in config["strategy"].items() if k != "gradient"})
    if chosen == "auto" or (before and said == "path"):
        return with_option(out, OF_OBJECTIVE, "path" if said == "path" else "reparameterized")
    return out


def builds_network(flat: Mapping[str, Any]) -> bool:
    """Whether the decoder or the encoder is one that vem builds: ``model.units=auto`` is about those.

    >>> builds_network({"model.decoder._target_": "mynets.Decoder", "strategy.encoder._target_": "mynets.Encoder"})
    False
    """
    return any(str(flat.get(f"{place}._target_")).startswith("vem.") for place in ("model.decoder", "strategy.encoder"))


def option(config: Mapping[str, Any], key: str) -> Any:
    """The value under a dotted key; None where a config does not have it.

    >>> option({"model": {"units": "none"}}, "model.units"), option({}, "model.units")
    ('none', None)
    """
    node: Any = config
    for part in key.split("."):
        node = node.get(part) if isinstance(node, Mapping) else None
    return node


def with_option(config: Mapping[str, Any], key: str, value: Any) -> dict[str, Any]:
    """The config with another value under a dotted key.

    >>> with_option({"model": {"units": "auto"}, "seed": 0}, "model.units", "none")
    {'model': {'units': 'none'}, 'seed': 0}
    """
    head, _, rest = key.partition(".")
    return {**config, head: with_option(config.get(head) or {}, rest, value) if rest else value}


def without_later(config: Mapping[str, Any], path: str = "", keys: Mapping[str, Any] = AS_BEFORE) -> dict[str, Any]:
    """The config without the ``keys`` that stand at the value that means the same as their absence."""
    out = {}
    for name, child in config.items():
        key = f"{path}.{name}" if path else str(name)
        if not (key in keys and child == keys[key]):
            out[name] = without_later(child, key, keys) if isinstance(child, Mapping) else child
    return out


def key_of(override: str) -> str:
    """The key of an override.

    >>> key_of("latent_dim=2"), key_of("+evaluation.odd=true"), key_of("~strategy/encoder")
    ('latent_dim', 'evaluation.odd', 'strategy/encoder')
    """
    return override.partition("=")[0].lstrip("+~")
