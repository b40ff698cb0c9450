"""What stands between the command line and a run: where configs lie, folder names, readable errors."""

from __future__ import annotations

import errno
import hashlib
import re
import sys
import traceback
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from hydra import compose, initialize_config_dir
from hydra.core.hydra_config import HydraConfig
from hydra.errors import (
    ConfigCompositionException,
    HydraException,
    MissingConfigException,
    OverrideParseException,
)
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from vem.cli.typed import several_values
from vem.errors import VemError, did_you_mean
from vem.storage import records
from vem.storage.folders import expanded

LONGEST_FOLDER = 100

# Plugins of Hydra's that are extras of vem's: (group, option) → the extra.
EXTRAS = {
    ("hydra/launcher", "joblib"): "joblib",
    ("hydra/launcher", "submitit_local"): "slurm",
    ("hydra/launcher", "submitit_slurm"): "slurm",
    ("hydra/launcher", "ray"): "ray",
    ("hydra/sweeper", "optuna"): "optuna",
}


class PastHydra(BaseException):
    """Carries a job's error past Hydra, which prints a line of its own about an Exception."""


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


def folder_name(overrides: str) -> str:
    """A folder name for a job of a sweep, from its overrides alone, so that extending a sweep moves nothing.

    Different overrides have different names: where a character had to go, or the name would be too long, a
    hash of them all stands at the end. A slash alone becomes a tilde, which no plain name holds.

    >>> folder_name("strategy=local,strategy/rule=adam")
    'strategy=local,strategy~rule=adam'
    >>> folder_name("widths=[8]")
    'widths=-8--21899d15'
    >>> folder_name("")
    'default'
    """
    if len(overrides) <= LONGEST_FOLDER and re.fullmatch(r"[\w=.,+\-/]*", overrides, re.ASCII):
        return overrides.replace("/", "~") or "default"
    name = re.sub(r"[^\w=.,+\-]", "-", overrides, flags=re.ASCII)
    return f"{name[: LONGEST_FOLDER - 9]}-{hashlib.sha256(overrides.encode()).hexdigest()[:8]}"


def threads_of_a_job(threads: int | None) -> int:
    """The CPU threads of one job of a sweep: one, unless ``threads`` says otherwise.

    n jobs on n cores then do not fight, and the last bits of a run's numbers do not depend on the launcher.

    >>> threads_of_a_job(None), threads_of_a_job(4)
    (1, 4)
    """
    return threads if isinstance(threads, int) and threads > 0 else 1  # what else it may be, the job refuses


def jobs_at_once(threads: int | None) -> int:
    """The jobs that share the cores of this process: those that it may use, of a container or a queue, not all."""
    import joblib  # half a tenth of a second, for launcher=joblib alone

    return max(1, joblib.cpu_count() // threads_of_a_job(threads))


def handed_out(jobs: int) -> int | str:
    """How many jobs joblib is given at a time: as many as run at once; all for −1, its word for every core.

    >>> handed_out(4), handed_out(-1)
    (4, 'all')
    """
    return jobs if jobs > 0 else "all"


# Registered here, not where the program starts: a launcher's worker imports this module, and never that one.
OmegaConf.register_new_resolver("vem.folder", folder_name, replace=True)
OmegaConf.register_new_resolver("vem.threads_of_a_job", threads_of_a_job, replace=True)
OmegaConf.register_new_resolver("vem.jobs_at_once", jobs_at_once, replace=True)
OmegaConf.register_new_resolver("vem.handed_out", handed_out, replace=True)


def resolved(config: DictConfig) -> dict[str, Any]:
    """The config as plain values, with the groups' chosen options under ``choices``.

    Raises:
        VemError: a key that every run needs was taken out.
    """
    content = OmegaConf.to_container(config, resolve=True, throw_on_missing=True)
    assert isinstance(content, dict)
    lacking = [key for key in (*records.NEEDED, "device", "threads", "progress") if key not in content]
    if lacking:
        raise VemError(f"the config has no {', '.join(lacking)}, which every run needs: leave out ~{lacking[0]}.")
    find_data(content.get("data"), Path(HydraConfig.get().runtime.cwd))
    chosen = HydraConfig.get().runtime.choices
    content["choices"] = {str(k): v for k, v in chosen.items() if not str(k).startswith("hydra/") and v}
    return records.settled({str(k): v for k, v in content.items()})


def find_data(section: Any, typed_in: Path) -> None:
    """A relative path means the folder that the command was typed in: a launcher's worker may stand elsewhere."""
    if not isinstance(section, dict) or typed_in == Path.cwd():
        return
    for key in ("path", "root"):
        if isinstance(section.get(key), str):
            section[key] = str(typed_in / expanded(section[key]))


def composed(overrides: Sequence[str]) -> dict[str, Any]:
    """The default config under these overrides, as plain values: for commands that are not Hydra's own.

    Raises:
        VemError: an override that is not understood.
    """
    try:
        with initialize_config_dir(version_base="1.3", config_dir=str(config_directory())):
            config = compose("config", overrides=list(overrides))
        content = OmegaConf.to_container(config, resolve=True, throw_on_missing=True)
    except (HydraException, OmegaConfBaseException, ValueError) as error:
        raise VemError(message(error)) from error
    assert isinstance(content, dict)
    return records.settled({str(k): v for k, v in content.items()})


def only(overrides: Sequence[str], allowed: Sequence[str], remedy: str) -> None:
    """Refuse an override of anything else than the keys ``allowed``, what stands below them among it.

    Raises:
        VemError: the override, and what can be set; ``remedy`` where it is a key that the rest of a config has.
    """
    for override in overrides:
        key = override.lstrip("+~").split("=")[0].split("@")[0]
        if any(key == name or key.startswith((f"{name}.", f"{name}/")) for name in allowed):
            continue
        known = set(known_keys())
        if key in known or key.split(".")[0].split("/")[0] in known:
            raise VemError(f"{override!r}: what can be set here begins with {', '.join(allowed)}. {remedy}")
        near = did_you_mean(key, [*(k for k in known if k.startswith(tuple(allowed))), *allowed])
        raise VemError(f"{override!r} is not understood{near} What can be set here begins with {', '.join(allowed)}.")


def message(error: BaseException) -> str:
    """One line or paragraph for any error."""
    return explain(error) or f"{type(error).__name__}: {error} (the traceback is in {records.LOG})"


def explain(error: BaseException | None) -> str | None:
    """A message with a remedy for an error that the user can mend; None for one that is not the user's."""
    if isinstance(error, VemError):
        return str(error)
    if isinstance(error, MissingConfigException):
        return _missing_option(error)
    if isinstance(error, OverrideParseException):
        return _malformed(error)
    if isinstance(error, ConfigCompositionException | OmegaConfBaseException):
        return several_values(str(error)) or _unknown_key(error)
    if isinstance(error, HydraException):
        return _first_line(error)
    if isinstance(error, ValueError) and str(error).startswith("No trials are completed yet"):
        return "no trial of this search has a validation ELBO: each run's run.log says why; seek in another interval."
    if isinstance(error, ConnectionError) and "ray" in str(error).lower():
        return (
            f"launcher=ray finds no cluster ({_first_line(error)}): start one with `ray start --head`, or leave "
            "hydra.launcher.ray.init.address=null for one of this machine alone."
        )
    if isinstance(error, ValueError) and str(error).startswith("Config group override must be"):
        return "a group cannot be null: what it holds can, with a dot, as in evaluation.best=null."
    return None


def complain(error: BaseException | None) -> int:
    """One message on stderr for an error that the user can mend, else the traceback; returns the exit code."""
    explained = explain(error)
    if explained is None:
        traceback.print_exception(error)
        explained = "this error was not foreseen: it is a fault in vem, or in a module of your own."
    print(f"vem: {explained}", file=sys.stderr)
    return 1


def no_folder(error: OSError) -> Exception:
    """The error to show where Hydra, which makes the folder of a run before the run begins, could not make it."""
    if error.errno in (errno.ENOSPC, errno.EDQUOT):  # that of Hydra's multirun.yaml names no file
        what = error.filename or "the sweep's multirun.yaml"
        return VemError(f"{what} was not written ({error.strerror}). {records.FREE_SPACE}")
    # An unknown option of a group is an OSError too, and so is what a launcher meets that finds no cluster.
    if isinstance(error, HydraException | ConnectionError) or error.filename is None:
        return error
    return VemError(
        f"{error.filename} cannot be made ({error.strerror or error}): name another folder "
        "with hydra.run.dir=DIR, or hydra.sweep.dir=DIR for a sweep."
    )


def _first_line(error: BaseException) -> str:
    return next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)


def _malformed(error: OverrideParseException) -> str:
    """``epochs``, ``training.epochs=[1``: what the parser met, and how to write it."""
    if "=" not in str(error.override):
        return f"{error.override!r} is not understood: write key=value, for example training.epochs=10."
    lines = [line.strip() for line in str(error).splitlines()]
    met = next((line for line in lines if line and not line.startswith(("See ", "Error pars"))), "a syntax error")
    return (
        f"{error.override!r} is not understood ({met}). Lists are written [1,2]; quote "
        "values with spaces or brackets in them: 'key=\"a b\"'."
    )


def _missing_option(error: MissingConfigException) -> str:
    """``Could not find 'data/minst'``: the group's options, and the nearest."""
    found = re.search(r"Could not find '([\w/]+)/([^'/]+)'", str(error))
    if not found:
        return _first_line(error)
    group, name = found.groups()
    if (group, name) in EXTRAS:
        return _missing_extra(group.removeprefix("hydra/"), name, EXTRAS[group, name])
    options = _options(str(error))
    return (
        f"{group}={name} is not known{did_you_mean(name, options)} Options of {group}: {', '.join(options) or 'none'}."
    )


def _missing_extra(group: str, name: str, extra: str) -> str:
    option = extra if name == "submitit_slurm" else name
    return (
        f"{group}={option} needs a package that is not installed: pip install 'vem[{extra}]', or, in a checkout, "
        f"pip install -c constraints.txt -e '.[{extra}]'."
    )


def _options(text: str) -> list[str]:
    after = text.split("Available options in", 1)[-1]
    return [line.strip() for line in after.splitlines()[1:] if re.fullmatch(r"\s+[\w.-]+", line)]


def _unknown_key(error: BaseException) -> str:
    """``Could not override 'trainig.epochs'``: the nearest key of the default config."""
    text = f"{error}\n{error.__cause__ or ''}"
    found = re.search(r"Could not override '([^']+)'", text) or re.search(r"Key '([^']+)' is not in struct", text)
    nowhere = re.search(r"Interpolation key '([^']+)' not found", text)
    if nowhere:
        place, key = getattr(error, "full_key", None) or "a value", nowhere.group(1)
        return f"{place} refers to ${{{key}}}, and there is no such key{did_you_mean(key, known_keys())}"
    missing = re.search(r"Missing mandatory value: (\S+)", text)
    if missing:
        return f"{missing.group(1)} has no default: set {missing.group(1)}=VALUE."
    if not found:
        return _first_line(error)
    typed = found.group(1).split("@")[0]
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
    cause = re.search(r"Value '[^\n]+", text)
    return (
        f"{typed} cannot be set{': ' + cause.group() if cause else ' (no such key or group)'}{near} "
        "`python -m vem.run --cfg job` prints every key, `--help` the groups."
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
        content = OmegaConf.to_container(OmegaConf.load(path), resolve=False)
        prefix = "" if group == "." else group.replace("/", ".") + "."
        if isinstance(content, Mapping):
            yield from _flat({str(k): v for k, v in content.items()}, prefix)


def _flat(node: Mapping[str, Any], prefix: str) -> Iterator[str]:
    for key, child in node.items():
        if key in ("defaults", "_target_", "_partial_", "hydra"):
            continue
        yield f"{prefix}{key}"
        if isinstance(child, Mapping):
            yield from _flat({str(k): v for k, v in child.items()}, f"{prefix}{key}.")


def report(directory: Path) -> None:
    """Write and print the report of a sweep; a report that fails must not hide the runs."""
    from vem.report.summary import write_report

    try:
        print(write_report([directory], directory, ended=True))
    except VemError as error:
        print(f"vem: no report: {error}", file=sys.stderr)
