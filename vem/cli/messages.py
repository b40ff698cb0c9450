"""What stands between the command line and a run: folder names, composed configs, one message for any error."""

from __future__ import annotations

import errno
import hashlib
import re
import sys
import traceback
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from hydra import compose, initialize_config_dir
from hydra.core.hydra_config import HydraConfig
from hydra.errors import HydraException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from vem.cli.typed import config_directory, explain, known_keys
from vem.errors import VemError, did_you_mean
from vem.storage import identity, records
from vem.storage.folders import expanded

LONGEST_FOLDER = 100


class PastHydra(BaseException):
    """Carries a job's error past Hydra, which prints a line of its own about an Exception."""


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
    content = _plain(config)
    lacking = [key for key in (*identity.HASHED, "device", "threads", "progress") if key not in content]
    if lacking:
        raise VemError(f"the config has no {', '.join(lacking)}, which every run needs: leave out ~{lacking[0]}.")
    find_data(content.get("data"), Path(HydraConfig.get().runtime.cwd))
    chosen = HydraConfig.get().runtime.choices
    content["choices"] = {str(k): v for k, v in chosen.items() if not str(k).startswith("hydra/") and v}
    return identity.settled(content)


def _plain(config: DictConfig) -> dict[str, Any]:
    content = OmegaConf.to_container(config, resolve=True, throw_on_missing=True)
    assert isinstance(content, dict)
    return {str(k): v for k, v in content.items()}


def find_data(section: Any, typed_in: Path) -> None:
    """A relative path means the folder that the command was typed in: a launcher's worker may stand elsewhere."""
    for key in ("path", "root") if isinstance(section, dict) and typed_in != Path.cwd() else ():
        if isinstance(section.get(key), str):
            section[key] = str(typed_in / expanded(section[key]))


def composed(overrides: Sequence[str]) -> dict[str, Any]:
    """The default config under these overrides, as plain values: for commands that are not Hydra's own.

    Raises:
        VemError: an override that is not understood.
    """
    try:
        with initialize_config_dir(version_base="1.3", config_dir=str(config_directory())):
            return identity.settled(_plain(compose("config", overrides=list(overrides))))
    except (HydraException, OmegaConfBaseException, ValueError) as error:
        raise VemError(message(error)) from error


def only(overrides: Sequence[str], allowed: Sequence[str], remedy: str) -> None:
    """Refuse an override of anything else than the keys ``allowed``, what stands below them among it.

    Raises:
        VemError: the override, and what can be set; ``remedy`` where it is a key that the rest of a config has.
    """
    for override in overrides:
        key = identity.key_of(override).split("@")[0]
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


def report(directory: Path) -> None:
    """Write and print the report of a sweep."""
    from vem.report.summary import write_report

    print(write_report([directory], directory, ended=True))
