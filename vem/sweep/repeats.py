"""Two jobs of a sweep with the same config hash are one run: it runs once, the other folder points to it.

So a value that the chosen model does not use (``latent_dim`` of a mixture) can be swept beside models that use it.
"""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from vem.cli.resume import by_other_code
from vem.storage import identity, ledger, records, sealing
from vem.storage.ledger import JobState


def holder_of(config: Mapping[str, Any], sweep: Path, directory: Path) -> Path | None:
    """The folder of the run that another job of this sweep has for the same config; None if it is this job's own."""
    digest, folder = identity.config_hash(config), directory.name
    own = records.read_run(directory)
    if own.get("config_hash") == digest and own.get("status") == JobState.DONE:
        return None  # from a time before the claims
    holder = ledger.claim(sweep, digest, folder)
    while holder != folder:
        if _will_have_run(sweep, holder, digest, config.get("rerun") == "stale"):
            return sweep / holder
        holder = ledger.take_over(sweep, digest, folder, holder)
    return None


def _will_have_run(sweep: Path, folder: str, digest: str, stale: bool) -> bool:
    """Whether the holder has, or will have, a run of this config: it is among this start's jobs, at work, or done.

    One that is done counts only if no run by newer code is asked for.
    """
    plan, found = ledger.read(sweep), records.read_run(sweep / folder)
    coming = ledger.is_alive(sweep, folder) or (plan is not None and folder in plan.current)
    if not found:
        return coming
    if found.get("config_hash") != digest:
        return False  # it was claimed, and refused, for the folder holds another run
    return coming or (found.get("status") == JobState.DONE and not (stale and by_other_code(found)))


def write_repeat(
    config: Mapping[str, Any], overrides: Sequence[str], directory: Path, holder: Path, start: str
) -> None:
    """The files of a job that another one does: its config, what was typed, and run.json, which names the other."""
    records.write_config(directory, config, overrides)
    status = {
        "status": JobState.REPEATS,
        "repeats": holder.name,
        "error": None,
        "config_hash": identity.config_hash(config),
        "seed": config["seed"],
        "start": start,
        "command": shlex.join(["python", "-m", "vem.run", *overrides]),
    }
    sealing.write_run(directory, status)
