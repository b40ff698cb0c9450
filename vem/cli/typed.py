"""What is typed and not understood, or would be ignored or misread: what to type instead."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from hydra.errors import (
    ConfigCompositionException,
    HydraException,
    MissingConfigException,
    OverrideParseException,
)
from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException

from vem.errors import VemError, did_you_mean
from vem.storage.identity import key_of

SWEEPS = ("-m", "--multirun")
ASKS = ("--help", "-h", "--hydra-help", "--version", "--cfg", "-c", "--info", "-i", "--shell-completion", "-sc")
IDLE = ("launcher=serial", "sweeper=grid")  # what a lone run has anyway


# Plugins of Hydra's that are extras of vem's: (group, option) → the extra.
EXTRAS = {
    ("hydra/launcher", "joblib"): "joblib",
    ("hydra/launcher", "submitit_local"): "slurm",
    ("hydra/launcher", "submitit_slurm"): "slurm",
    ("hydra/launcher", "ray"): "ray",
    ("hydra/sweeper", "optuna"): "optuna",
}


def misplaced(arguments: Sequence[str]) -> VemError | None:
    """What to say of a command line of which something would be misread or ignored; None if nothing would be."""
    overrides = ["=" in argument and not argument.startswith("-") for argument in arguments]
    for i, argument in enumerate(arguments):
        if argument in SWEEPS and any(overrides[:i]) and any(overrides[i + 1 :]):
            return VemError(f"{argument} goes before the overrides: python -m vem.run {argument} KEY=VALUE …")
    if any(argument.partition("=")[0] in ASKS for argument in arguments):
        return None
    typed = {key_of(argument): argument for argument, is_one in zip(arguments, overrides, strict=True) if is_one}
    if any(argument in (*SWEEPS, "hydra.mode=MULTIRUN") for argument in arguments):
        if (argument := typed.get("hydra.run.dir", "")) == "":
            return None
        return VemError(
            f"{argument} names the folder of a lone run, and -m makes a sweep: its folder, with one below it for each "
            f"job, is hydra.sweep.dir={argument.partition('=')[2] or 'DIR'}."
        )
    for key, argument in typed.items():
        if key != "sweep" and argument not in IDLE and re.match(r"(hydra[./])?(sweep|sweeper|launcher)([./]|$)", key):
            place = argument.partition("=")[2] if key == "hydra.sweep.dir" else ""
            folder = f" The folder of a lone run is hydra.run.dir={place or 'DIR'}." if "sweep." in key else ""
            return VemError(
                f"{argument} is about a sweep, and this command is one run: -m before the overrides makes it a sweep, "
                f"if only of one job (python -m vem.run -m {argument} …).{folder}"
            )
    return None


def explain(error: BaseException | None) -> str | None:
    """A message with a remedy for an error that the user can mend; None for one that is not the user's."""
    if isinstance(error, VemError):
        return str(error)
    text = f"{error}\n{getattr(error, '__cause__', None) or ''}"
    for kind, pattern, say in KNOWN:
        if isinstance(error, kind) and (found := re.search(pattern, text)):
            return say(found, error) if callable(say) else say.format(*found.groups(), line=_first_line(error))
    return _first_line(error) if isinstance(error, HydraException | OmegaConfBaseException) else None


def _first_line(error: BaseException) -> str:
    return next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)


def several_values(found: re.Match[str], error: BaseException) -> str:
    """The message where Hydra, asked for one run, meets ``seed=0,1,2`` or ``range(0,3)``."""
    ambiguous, typed = found[1], found[2] or found[3]
    key, _, value = typed.partition("=")
    other = f" A list is written '{key}=[{value}]', a text with commas \"{key}='{value}'\"." if ambiguous else ""
    return (
        f"{typed} are several values, and one run has one: -m before the overrides makes a sweep over them "
        f"(python -m vem.run -m {shlex.quote(typed)} …).{other}"
    )


def _malformed(found: re.Match[str], error: OverrideParseException) -> str:
    """``epochs``, ``training.epochs=[1``: what the parser met, and how to write it."""
    if "=" not in str(error.override):
        return f"{error.override!r} is not understood: write key=value, for example training.epochs=10."
    lines = [line.strip() for line in str(error).splitlines()]
    met = next((line for line in lines if line and not line.startswith(("See ", "Error pars"))), "a syntax error")
    return (
        f"{error.override!r} is not understood ({met}). Lists are written [1,2]; quote "
        "values with spaces or brackets in them: 'key=\"a b\"'."
    )


def _missing_option(found: re.Match[str], error: BaseException) -> str:
    """The group's options, and the nearest."""
    group, name = found.groups()
    if extra := EXTRAS.get((group, name)):
        option = extra if name == "submitit_slurm" else name
        return (
            f"{group.removeprefix('hydra/')}={option} needs a package that is not installed: pip install "
            f"'vem[{extra}]', or, in a checkout, pip install -c constraints.txt -e '.[{extra}]'."
        )
    listed = str(error).partition("Available options in")[2].splitlines()[1:]
    options = [line.strip() for line in listed if re.fullmatch(r"\s+[\w.-]+", line)]
    return (
        f"{group}={name} is not known{did_you_mean(name, options)} Options of {group}: {', '.join(options) or 'none'}."
    )


def _unknown_reference(found: re.Match[str], error: BaseException) -> str:
    place, key = getattr(error, "full_key", None) or "a value", found[1]
    return f"{place} refers to ${{{key}}}, and there is no such key{did_you_mean(key, known_keys())}"


def _unknown_key(found: re.Match[str], error: BaseException) -> str:
    """The nearest key of the default config."""
    typed = (found[1] or found[2]).split("@")[0]
    keys = list(known_keys())
    group = re.split("[./]", typed)[0]
    if typed in keys and group != typed:
        return (
            f"{typed} cannot be set: it belongs to another choice of {group}, or of a group within it, than the one "
            "taken here. Leave it out, or make that choice."
        )
    near = did_you_mean(typed, keys)
    if near == ".":
        near = did_you_mean(typed.rsplit(".", 1)[-1], keys)
    cause = re.search(r"Value '[^\n]+", found.string)
    return (
        f"{typed} cannot be set{': ' + cause.group() if cause else ' (no such key or group)'}{near} "
        "`python -m vem.run --cfg job` prints every key, `--help` the groups."
    )


COMPOSED = (ConfigCompositionException, OmegaConfBaseException)
# What others raise: the kind of error, a pattern of its text, and the message: a template for the groups of the pattern
# and the first line of the text, or what makes it. The first that fits is said.
KNOWN: tuple[tuple[Any, str, Any], ...] = (
    (MissingConfigException, r"Could not find '([\w/]+)/([^'/]+)'", _missing_option),
    (OverrideParseException, "", _malformed),
    (COMPOSED, r"(Ambiguous value for argument) '(.+)'\n|Sweep parameters '(.+)' requires", several_values),
    (COMPOSED, r"Interpolation key '([^']+)' not found", _unknown_reference),
    (COMPOSED, r"Missing mandatory value: (\S+)", "{0} has no default: set {0}=VALUE."),
    (COMPOSED, r"Could not override '([^']+)'|Key '([^']+)' is not in struct", _unknown_key),
    (
        ValueError,
        r"\ANo trials are completed yet",
        "no trial of this search has a validation ELBO: each run's run.log says why; seek in another interval.",
    ),
    (
        ConnectionError,
        "(?i:ray)",
        "launcher=ray finds no cluster ({line}): start one with `ray start --head`, or leave "
        "hydra.launcher.ray.init.address=null for one of this machine alone.",
    ),
    (
        ValueError,
        r"\AConfig group override must be",
        "a group cannot be null: what it holds can, with a dot, as in evaluation.best=null.",
    ),
)


def known_keys() -> Iterator[str]:
    """Every group and dotted key that the config files mention."""
    root = config_directory()
    for path in sorted(root.rglob("*.yaml")):
        group = path.parent.relative_to(root).as_posix()
        if group.startswith("hydra"):
            continue
        if group != ".":
            yield group
        yield from _keys(OmegaConf.to_container(OmegaConf.load(path)), "" if group == "." else f"{group}/")


def _keys(node: Any, prefix: str) -> Iterator[str]:
    for key, child in node.items() if isinstance(node, Mapping) else ():
        if key not in ("defaults", "_target_", "_partial_", "hydra"):
            place = f"{prefix}{key}".replace("/", ".")
            yield place
            yield from _keys(child, f"{place}.")


def config_directory() -> Path:
    """``vem/conf`` of an installed wheel, or ``conf`` beside the package in a checkout.

    Raises:
        VemError: neither is there.
    """
    here = Path(__file__).resolve().parents[1]
    for candidate in (here / "conf", here.parent / "conf"):
        if (candidate / "config.yaml").is_file():
            return candidate
    raise VemError(f"no configs beside {here}: the installation is incomplete, install vem again.")
