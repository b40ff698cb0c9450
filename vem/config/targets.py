"""Objects from config sections: the one wrapper around Hydra's ``instantiate``.

A ``_target_`` runs code, so its prefix must be allowed. Its arguments come from a command line, so each is
held against the annotation of the parameter that takes it: text where a number belongs is refused here, once
for all targets, with the config key named.
"""

from __future__ import annotations

import importlib
import inspect
import re
import types
from collections.abc import Callable, Iterator, Mapping, Sequence
from numbers import Real
from typing import Any, Union, get_args, get_origin, get_type_hints

import hydra
from hydra.errors import InstantiationException

from vem.errors import BadArgument, VemError, did_you_mean

SHARED = ("objective", "family")  # groups of their own, which a strategy's section refers to
TOP = ("latent_dim",)  # a key of its own, which a model's section refers to
OWN = ("vem", "torch")
ALLOWED = tuple(f"{name}." for name in OWN)
NULL = type(None)
UNIONS = (Union, types.UnionType)
UNFIT = object()
NAMES: dict[Any, str] = {int: "a whole number", float: "a number", bool: "true or false", str: "text", NULL: "null"}


def instantiate(section: Mapping[str, Any], place: str, **extra: Any) -> Any:
    """Hydra's ``instantiate`` with vem's errors.

    Raises:
        VemError: a target that is not there, an argument that it does not take or whose type is another.
    """
    target = section.get("_target_")
    if not target:
        raise VemError(f"{place} has no _target_: choose an option of the group, for example {place}=NAME.")
    try:
        return hydra.utils.instantiate(typed(section, place), _convert_="all", **extra)
    except InstantiationException as error:
        cause = error.__cause__
        while cause is not None and not isinstance(cause, VemError) and cause.__cause__ is not None:
            cause = cause.__cause__
        if isinstance(cause, BadArgument) and "." not in cause.name and cause.name not in TOP:
            raise cause.at(_place_of(error, place)) from None
        if isinstance(cause, VemError):
            raise cause from None
        line = next((line for line in str(cause or error).splitlines() if line.strip()), "")
        raise VemError(f"{place}: {target} could not be made: {line}") from error


def _place_of(error: InstantiationException, place: str) -> str:
    """Where in the config the target stands that failed, as Hydra says it."""
    found = re.search(r"^full_key: (\S+)", str(error), re.MULTILINE)
    below = found.group(1) if found else ""
    return below if below.split(".")[0] in SHARED else ".".join(filter(None, (place, below)))


def typed(section: Mapping[str, Any], place: str) -> dict[str, Any]:
    """The section, each argument held against its parameter; a whole float (1e5) becomes an int where one is due.

    Raises:
        VemError: a target that cannot be imported, an argument that it does not take or whose type is another.
    """
    out = dict(section)
    parameters = _parameters(str(section["_target_"]), place) if "_target_" in section else None
    for key, value in section.items():
        where = f"{place}.{key}"
        if isinstance(value, Mapping):
            out[str(key)] = typed(value, where)
        elif isinstance(value, list | tuple) and any(isinstance(v, Mapping) for v in value):
            out[str(key)] = [typed(v, f"{where}[{i}]") if isinstance(v, Mapping) else v for i, v in enumerate(value)]
        elif parameters is not None and not (key.startswith("_") and key.endswith("_")):
            if key not in parameters and "**" not in parameters:
                raise VemError(
                    f"{where}: {section['_target_']} takes no {key!r}{did_you_mean(key, parameters)} "
                    f"It takes: {', '.join(parameters)}."
                )
            out[key] = conform(value, parameters.get(key, Any), where)
    return out


def _parameters(target: str, place: str) -> dict[str, Any] | None:
    """The parameters of a target with their annotations, ``**`` among them if it takes any; None if unknown."""
    found = _find(target, place)
    try:
        signature = inspect.signature(found).parameters.values()
    except (TypeError, ValueError):  # some builtins have none
        return None
    try:
        hints = get_type_hints(inspect.getattr_static(found, "__init__") if isinstance(found, type) else found)
    except Exception:  # an annotation of the user's that only a type checker can read is no error
        hints = {}
    named = {"**" if p.kind is p.VAR_KEYWORD else p.name: p for p in signature if p.kind is not p.VAR_POSITIONAL}
    return {name: hints.get(p.name, Any) for name, p in named.items()}


def takes(section: Mapping[str, Any], name: str, place: str) -> bool:
    """Whether the section's target is one of vem's own that has a parameter of this name.

    >>> takes({"_target_": "vem.data.array.array"}, "header", "data"), takes({}, "header", "data")
    (True, False)
    """
    target = str(section.get("_target_", ""))
    return target.startswith("vem.") and name in (_parameters(target, place) or {})


def _find(target: str, place: str) -> Callable[..., Any]:
    try:
        found = locate(target)
    except Exception as error:  # whatever an import raises
        line = next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)
        raise VemError(
            f"{place}._target_={target} cannot be imported ({line}): is the name right, and the module in the "
            "working directory or installed?"
        ) from error
    home = str(getattr(found, "__module__", None) or target).split(".")[0]
    if target.startswith(ALLOWED) and home not in OWN:
        raise VemError(
            f"{place}._target_={target} is not allowed: it is {home}'s, reached through {target.split('.')[0]}. A "
            "target runs code: name it by its own module, and add that to allow_targets if you trust it."
        )
    if not callable(found):
        raise VemError(f"{place}._target_={target} is a {type(found).__name__}: name a class or a function.")
    return found


def locate(target: str) -> Any:
    """The object of a dotted name. (Hydra's own look-up prints what it meets.)

    Raises:
        ImportError: neither a module nor a name in one, or whatever its module raises when it is imported.

    >>> locate("vem.errors.VemError").__name__
    'VemError'
    """
    parts = target.split(".")
    for cut in range(len(parts) - 1, 0, -1):
        name = ".".join(parts[:cut])
        try:
            found: Any = importlib.import_module(name)
        except ModuleNotFoundError as error:
            if error.name is None or not f"{name}.".startswith(f"{error.name}."):
                raise  # the module is there, and itself lacks one
            continue
        for part in parts[cut:]:
            if not hasattr(found, part):
                raise ImportError(f"{name} has no {part!r}")
            found, name = getattr(found, part), f"{name}.{part}"
        return found
    raise ImportError(f"there is no module {parts[0]!r}")


def conform(value: Any, hint: Any, place: str) -> Any:
    """The value as its annotation wants it; annotations beyond plain values and lists of them are let through.

    Raises:
        VemError: it is of another type.

    >>> conform(1e5, int, "data.num"), conform([200, 100.0], list[int], "widths"), conform(3, float, "rate")
    (100000, [200, 100], 3)
    """
    out = _conformed(value, hint)
    if out is UNFIT:
        raise VemError(f"{place}={'null' if value is None else repr(value)} is of the wrong kind: give {_name(hint)}.")
    return out


def _conformed(value: Any, hint: Any) -> Any:
    """The value as ``hint`` wants it; UNFIT where it is of another type."""
    origin, of = get_origin(hint), get_args(hint)
    if origin in UNIONS:  # a number that may be a float stays one
        tried = (_conformed(value, option) for option in sorted(of, key=lambda option: option is int))
        return next((out for out in tried if out is not UNFIT), UNFIT)
    if hint in (int, float):
        if not isinstance(value, Real) or isinstance(value, bool) or (hint is int and not float(value).is_integer()):
            return UNFIT
        return int(value) if hint is int and isinstance(value, float) else value
    if hint in (bool, str, NULL):
        return value if isinstance(value, hint) else UNFIT
    if isinstance(origin, type) and issubclass(origin, Sequence):
        out = [_conformed(entry, of[0]) for entry in value] if isinstance(value, list | tuple) else [UNFIT]
        return UNFIT if any(entry is UNFIT for entry in out) else out
    return list(value) if isinstance(value, tuple) else value


def _name(hint: Any) -> str:
    origin = get_origin(hint)
    if origin in UNIONS:
        return " or ".join(_name(option) for option in get_args(hint))
    if isinstance(origin, type) and issubclass(origin, Sequence):
        return f"a list, each entry {_name(get_args(hint)[0])}"
    return NAMES.get(hint, getattr(hint, "__name__", str(hint)))


def targets(config: Any, path: str = "") -> Iterator[tuple[str, str]]:
    """Every (place, ``_target_``) in a config."""
    if isinstance(config, Mapping):
        if "_target_" in config:
            yield path, str(config["_target_"])
        for key, child in config.items():
            yield from targets(child, f"{path}.{key}" if path else str(key))
    elif isinstance(config, list | tuple):
        for i, child in enumerate(config):
            yield from targets(child, f"{path}[{i}]")


def check_targets(config: Mapping[str, Any], allowed: Sequence[str]) -> None:
    """Refuse a ``_target_`` outside the allowed prefixes: a target runs code.

    Raises:
        VemError: naming the place, the target and how to allow it.
    """
    if isinstance(allowed, str) or not all(isinstance(p, str) for p in allowed):
        raise VemError(f"allow_targets={allowed!r} must be a list of prefixes, for example 'allow_targets=[mymodule]'.")
    prefixes = (*ALLOWED, *(p if p.endswith(".") else f"{p}." for p in allowed))
    for place, target in targets({k: v for k, v in config.items() if k != "hydra"}):
        if not target.startswith(prefixes):
            raise VemError(
                f"{place}._target_={target} is not allowed: a target runs code. If you trust it, add "
                f"'allow_targets=[{target.split('.')[0]}]'. Allowed now: {', '.join(prefixes)}"
            )
