"""What an earlier start left in a run's directory: to go on with, to leave alone, to archive, or to refuse."""

from __future__ import annotations

import difflib
import functools
import hashlib
import itertools
import logging
import os
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from vem import __version__
from vem.config import sources
from vem.errors import VemError, choice
from vem.storage import identity, ledger, locks, records, sealing
from vem.storage.ledger import JobState

log = logging.getLogger("vem")

COMPUTED = (records.METRICS, records.CHECKPOINT)  # the first files of a run that cost something


class OtherConfig(VemError):
    """The directory holds a run of another config."""


class OtherCode(OtherConfig):
    """The directory holds an unfinished run that other code of the user's own began."""


class AtWork(VemError):
    """Another process is at work in the directory."""


@contextmanager
def alone(directory: Path) -> Iterator[None]:
    """Be the only one at work in a run's directory, made if missing. (A sweep's jobs wait in line: see storage/ledger.)

    The lock is on run.log, the one file that is never replaced or moved; a folder cannot be locked on NFS.

    Raises:
        AtWork: another process is; the message names it.
        VemError: the folder cannot be made or written.
    """
    with ExitStack() as stack:
        try:
            with records.writing(directory):
                stack.enter_context(locks.held(records.make_folder(directory) / records.LOG, wait=False))
        except locks.Taken:
            raise AtWork(
                f"{directory}: {_holder(directory)} is at work on this run. Wait for its end, or name another "
                "hydra.run.dir."
            ) from None
        yield


def _holder(directory: Path) -> str:
    """``process 123 on HOST``, as far as run.json tells."""
    found = records.read_run(directory)  # empty where it has not written it yet
    host, pid = found.get("host"), found.get("pid")
    if found.get("status") != JobState.RUNNING or pid is None or ledger.gone(host, pid):
        return "another process"
    return f"process {pid} on {host}"


def as_begun(directory: Path, config: dict[str, Any], overrides: Sequence[str] = ()) -> dict[str, Any]:
    """The config, with the old value of every option that came after the run in the directory was begun.

    An unfinished run goes on as it began; a finished one of binary data is the same run, whatever an option for real
    data says, and one is not measured anew for an option of the measurement that nobody asked for. An option that was
    typed is not touched.
    """
    try:
        run = records.read_json(directory / records.RUN)
        old = records.read_yaml(directory / records.CONFIG)
    except VemError:
        return config  # no run yet, or a damaged one, of which others tell
    begun = has_begun(directory)
    # What failed before it had computed anything has nothing to go on from.
    unfinished = run.get("status") != JobState.DONE and (begun or run.get("status") != JobState.FAILED)
    binary = run.get("likelihood") == "bernoulli"
    typed = set(map(identity.key_of, overrides))
    later = {k: v for k, v in identity.AS_BEFORE.items() if identity.option(old, k) is None}
    for key, (before, now) in identity.MOVED_DEFAULTS.items():
        if identity.option(old, key) == before and identity.option(config, key) == now:
            later[key] = before
    kept = []
    for key, before in later.items():
        idle = key.startswith("evaluation.") or (binary and key in identity.REAL_ONLY)
        if (unfinished or idle) and key not in typed and identity.option(config, key) not in (None, before):
            config = identity.with_option(config, key, before)
            kept.append(f"{key}={before}")
    if kept and unfinished and begun:
        log.info("%s goes on as it was begun, with %s.", directory, ", ".join(kept))
    return config


def as_written(directory: Path, config: dict[str, Any]) -> dict[str, Any]:
    """The config of a run that goes on, without the options that its first start did not know.

    A third start, too, shall take their old values.
    """
    try:
        old = records.read_yaml(directory / records.CONFIG)
    except VemError:
        return config
    return identity.without_later(
        config, keys={k: v for k, v in identity.AS_BEFORE.items() if identity.option(old, k) is None}
    )


def stale(config: Mapping[str, Any]) -> bool:
    """Whether ``rerun=stale`` was said; raises VemError at another word."""
    return choice(config.get("rerun") or "never", ("never", "stale"), "rerun") == "stale"


def has_begun(directory: Path) -> bool:
    """Whether a run in the directory has computed anything."""
    return any((directory / name).exists() for name in COMPUTED)


def left_behind(directory: Path, config: dict[str, Any], sweeping: bool = False) -> dict[str, Any] | None:
    """What an earlier start left; ``rerun=stale`` archives a damaged run, and one by other code or config.

    So is, in a sweep, a run of another config that failed: its config was mended.

    Raises:
        VemError: it holds a run of another config, and the difference is shown; or an unfinished one of other code of
            the user's own; or a file of it is damaged.
    """
    _end_the_move(directory)
    again, run = stale(config), dict[str, Any]()
    if not (directory / records.RUN).exists():
        return None
    try:
        run = records.read_json(directory / records.RUN)
        sealing.require(directory, run)
        earlier = _of_this_config(directory, run, config)
    except VemError as error:
        unlike = isinstance(error, OtherConfig)
        if not (again or (sweeping and unlike and run.get("status") == JobState.FAILED)):
            raise
        if not unlike:
            log.warning("%s", error)
        archive(directory)
        return None
    made = by_other_code(run) if earlier and run.get("status") == JobState.DONE else None
    if made and again:
        archive(directory)
        return None
    if made:
        log.warning("%s %s: it counts as done, and rerun=stale runs it again.", directory, made)
    return earlier


def by_other_code(run: Mapping[str, Any]) -> str | None:
    """``was made by vem 0.1.0, commit …`` if that is not the code that runs now, vem's and the user's own."""
    version, made = sealing.mapping(run.get("versions")).get("vem"), run.get("commit")
    now = commit()
    vem = version == __version__ and (made == now or made is None or now is None)
    parts = [] if vem else [f"vem {version}, commit {made}, and this is {__version__}, {now}"]
    if changes := sources.changed(run.get("code")):
        parts.append(f"other code of your own ({', '.join(changes)})")
    return f"was made by {'; and by '.join(parts)}" if parts else None


def archive(directory: Path) -> None:
    """Move a run's files to ``earlier/001``, ``002``, …: what was computed is kept."""
    parent = directory / records.ASIDE
    place = next(p for n in itertools.count(1) if not (p := parent / f"{n:03d}").exists())
    _move(directory, records.make_folder(place))
    log.info("the earlier run is kept in %s", place)


def _move(directory: Path, place: Path) -> None:
    """Move all but the log and what is there already. run.json goes first: none says "done" where files are gone."""
    with records.writing(place):
        for path in sorted(directory.iterdir(), key=lambda path: (path.name != records.RUN, path.name)):
            if path.name not in (records.ASIDE, records.LOG) and not (place / path.name).exists():
                path.rename(place / path.name)


def _end_the_move(directory: Path) -> None:
    """After a kill between two files: what is left here is of the archived run, and not of the next one."""
    places = sorted((directory / records.ASIDE).glob("[0-9]*"))
    if places and not (directory / records.RUN).exists() and (places[-1] / records.RUN).exists():
        _move(directory, places[-1])


def _of_this_config(directory: Path, run: dict[str, Any], config: dict[str, Any]) -> dict[str, Any] | None:
    """The run in the directory, by its run.json; None for one that the config may replace.

    Raises:
        OtherConfig: it is of another config; the difference is shown.
        OtherCode: it has computed something, is not finished, and its code has changed.
    """
    begun = has_begun(directory)
    if run.get("status") == JobState.REPEATS and not begun:
        return None  # another folder had this job; now it is this one's
    if run.get("config_hash") == identity.config_hash(config):
        changes = sources.changed(run.get("code")) if begun and run.get("status") != JobState.DONE else []
        if not changes:
            return run
        lines = "".join(f"\n  {change}" for change in changes)
        raise OtherCode(
            f"{directory} was begun by other code of your own, and an unfinished run does not go on under it:{lines}\n"
            "Put the old code back to go on with it, say rerun=stale to archive it and begin again, or name a fresh "
            "hydra.run.dir (or hydra.sweep.dir)."
        )
    if run.get("status") == JobState.FAILED and not begun:
        return None  # it failed before it had computed anything: a mended command may take its place
    try:
        old = records.read_yaml(directory / records.CONFIG)
    except VemError:
        old = {}
    changed = difference(old or {}, config)
    key = identity.FILE_HASH
    file = f" (data.{key}: what the file data.path holds has changed.)" if key in changed else ""
    raise OtherConfig(
        f"{directory} holds a run of another config, and a run's config does not change:\n{changed}\n"
        "Give the old values to go on with it, name a fresh hydra.run.dir (or hydra.sweep.dir), or say rerun=stale to "
        f"archive it.{file}"
    )


def difference(old: Mapping[str, Any], new: Mapping[str, Any]) -> str:
    """The lines that differ between two configs, as far as the numbers of a run depend on them."""
    parts = [identity.hashed_part(config) for config in (old, new)]
    later = {k: v for k, v in identity.AS_BEFORE.items() if any(k in part for part in parts)}
    before, after = ([f"{key}={value}" for key, value in sorted({**later, **part}.items())] for part in parts)
    changes = difflib.unified_diff(before, after, lineterm="", n=0)
    return "\n".join(f"  {line}" for line in changes if not line.startswith(("---", "+++", "@@")))


@functools.cache
def commit() -> str | None:
    """The commit of the checkout that this package runs from; None if it runs from none. Asked once in a process.

    Where ``vem`` or ``conf`` were changed since, ``+`` and a hash of the changes are appended.
    """
    checkout = Path(__file__).resolve().parents[2]
    if not (checkout / ".git").exists():
        return None
    try:
        return commit_of(checkout)
    except (OSError, subprocess.SubprocessError):
        return None


def commit_of(checkout: Path) -> str:
    """``abc123``, or ``abc123+1f2e3d`` where the code in ``vem`` and ``conf`` is not the one of that commit.

    Raises:
        OSError, subprocess.SubprocessError: there is no git, or it fails.
    """

    def git(*arguments: str) -> bytes:
        call = ["git", "-C", str(checkout), *arguments]
        return subprocess.run(call, capture_output=True, check=True, timeout=10).stdout

    code = ("--", "vem", "conf")
    changes = hashlib.sha256(changed := git("diff", "--no-ext-diff", "--no-color", "HEAD", *code))
    new = git("ls-files", "-z", "--others", "--exclude-standard", *code).split(b"\0")[:-1]
    for name in new:
        changes.update(name + b"\0" + (checkout / os.fsdecode(name)).read_bytes())
    base = git("rev-parse", "--short=12", "HEAD").decode().strip()
    return f"{base}+{changes.hexdigest()[:6]}" if changed or new else base
