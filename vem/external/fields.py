"""Mean and log variance of an encoder's output by the names of its fields, where these say plainly what they are."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from functools import reduce
from typing import Any

import torch
from torch import Tensor
from torch.distributions import Distribution

from vem.errors import VemError

MEANS = ("loc", "mean", "mu", "embedding")
LOG_VARIANCES = ("log_variance", "log_var", "logvar", "logvariance", "log_covariance", "logcovariance")
LOG_SCALES = ("log_scale", "logscale", "log_std", "logstd", "log_stddev", "log_sigma", "logsigma")
SCALES = ("scale", "std", "stddev", "sigma")
VARIANCES = ("variance", "var")
WIDTHS = (*LOG_VARIANCES, *LOG_SCALES, *SCALES, *VARIANCES)
POSTERIORS = ("qz", "q_z", "q", "latent_dist", "posterior")  # where q is one of several distributions
PREFIXES = ("qz_", "q_", "z_", "latent_", "posterior_")


def pair_of(output: Any, name: str) -> tuple[Tensor, Tensor] | Distribution | None:
    """(mean, log variance), or the distribution, that an object's fields name; None where it has no fields.

    A mapping, a NamedTuple, a dataclass, or an object with attributes. Whether a width is a variance, a standard
    deviation or the log of one is told by its name alone; VemError if that does not say it, or says it twice.
    """
    fields = _fields(output)
    if fields is None:
        return None
    found = {key: value for key, value in fields.items() if isinstance(value, Distribution)}
    if found:
        named = [value for key, value in found.items() if key in POSTERIORS]
        if len(found) > 1 and len(named) != 1:
            raise VemError(
                f"{_came(output, fields, name)} Several of them are distributions, and none is plainly q(z)."
            )
        return named[0] if named else next(iter(found.values()))
    tensors = {_plain(key): value for key, value in fields.items() if isinstance(value, Tensor)}
    means = [key for key in tensors if key in MEANS]
    widths = [log_variance for key in tensors if (log_variance := _log_variance(key, tensors[key], name)) is not None]
    if not means or not widths:
        nested = {id(value): {_plain(key) for key in _fields(value) or {}} for value in fields.values()}
        inner = [v for v in fields.values() if nested[id(v)] & {*MEANS} and nested[id(v)] & {*WIDTHS}]
        if len(inner) == 1 and not means:
            return pair_of(inner[0], name)
        if isinstance(output, tuple) and not means and not widths:
            return None  # names that say nothing: the order does
        raise VemError(f"{_came(output, fields, name)} A mean and a width are not plain from these names.")
    for kind, (one, *others) in (("mean", [tensors[key] for key in means]), ("width", widths)):
        for other in others:
            if one.shape != other.shape or not torch.allclose(one, other, rtol=1e-3, atol=1e-4, equal_nan=True):
                raise VemError(f"{_came(output, fields, name)} More than one is a {kind}, and they differ.")
    return tensors[means[0]], widths[0]


def _fields(output: Any) -> dict[str, Any] | None:
    if isinstance(output, Tensor | list | Distribution | str | int | float) or output is None:
        return None
    if isinstance(output, Mapping):
        return {str(key): value for key, value in output.items()}
    if isinstance(output, tuple):
        return dict(zip(output._fields, output, strict=True)) if hasattr(output, "_fields") else None
    if dataclasses.is_dataclass(output) and not isinstance(output, type):
        return {field.name: getattr(output, field.name) for field in dataclasses.fields(output)}
    return dict(getattr(output, "__dict__", {})) or None


def _plain(key: str) -> str:
    return reduce(str.removeprefix, PREFIXES, key.lower())


def _log_variance(key: str, value: Tensor, name: str) -> Tensor | None:
    if key in (*LOG_VARIANCES, *LOG_SCALES):
        return value if key in LOG_VARIANCES else 2 * value
    if key not in WIDTHS:
        return None
    if not bool((value > 0).all()):
        raise VemError(
            f"encoder={name} gives {key}, and it is not positive for {int((~(value > 0)).sum())} of {value.numel()} "
            f"numbers (the least is {float(value.min()):.3g}): a width must be. If it is the log of one, name it so."
        )
    return value.log() if key in VARIANCES else 2 * value.log()


def _came(output: Any, fields: Mapping[str, Any], name: str) -> str:
    shown = ", ".join(f"{k} {list(v.shape)}" if isinstance(v, Tensor) else f"{k}: {type(v).__name__}"
                      for k, v in list(fields.items())[:12])  # fmt: skip
    first = next(iter(fields), "mean")
    pick = f'encoder(x)["{first}"], …' if isinstance(output, Mapping) else f"encoder(x).{first}, …"
    return (
        f"encoder={name} gives a {type(output).__name__} with the fields {shown or 'of no name'}: pick (mean, log "
        f"variance), each [B, H], yourself, as in lambda x: ({pick})."
    )
