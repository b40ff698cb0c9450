"""One run = one directory: compare, train, evaluate, write, draw. Knows no Hydra."""

from __future__ import annotations

import logging
import os
import platform
import shlex
import socket
import sys
import time
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import Any

import torch

from vem import __version__
from vem.cli import measure, messages, reloading, resume
from vem.config import moved, sources
from vem.config.build import Built, build, identified, make_data, parts_of
from vem.config.targets import check_targets, conform
from vem.errors import VemError, at_least
from vem.evaluation.pictures import pictures
from vem.evaluation.progress import FOLDER as KEPT
from vem.evaluation.progress import drop_pieces
from vem.evaluation.search import snake
from vem.models.units import units_of
from vem.report.figures.run import draw_run
from vem.report.runs import flat_settings
from vem.report.starts import longer, rule
from vem.storage import identity, records, same_data, sealing
from vem.storage.ledger import JobState
from vem.training.fit import Progress, fit
from vem.training.recorder import Recorder
from vem.training.settings import Training
from vem.training.signals import AT_ONCE, InterruptedRun, terminable

log = logging.getLogger("vem")

OTHER_DATA = (
    "A run does not go on with other data: put the old ones back, name a fresh hydra.run.dir (or hydra.sweep.dir), or "
    "say rerun=stale to archive it."
)


def execute(config: dict[str, Any], overrides: list[str], directory: Path, start: str | None = None) -> float:
    """Run what the resolved ``config`` says in ``directory``; returns the validation ELBO (or NaN).

    An unfinished run of the same config goes on from its checkpoint, a finished one is left alone, unless
    ``rerun=stale`` was said and other code made it, or on other data. ``start`` says which start of a sweep this is.

    Raises:
        VemError: bad input, a directory that holds another config or in which another process is at work, an
            interruption.
    """
    try:
        with terminable():
            paths = moved.typed(config["data"], overrides, directory)
            config = identified(config)
            with resume.alone(directory):
                records.clear_leftovers(directory, directory / records.FIGURES, directory / KEPT)
                config = resume.as_begun(directory, config, overrides)
                try:
                    return _execute(config, overrides, directory, start, paths)
                except same_data.OtherData as error:
                    if not resume.stale(config):
                        raise
                    log.warning("%s", error)
                    resume.archive(directory)
                    return _execute(config, overrides, directory, start, paths)
    except KeyboardInterrupt:
        raise InterruptedRun(AT_ONCE) from None


def _execute(
    config: dict[str, Any], overrides: list[str], directory: Path, start: str | None, paths: dict[str, str]
) -> float:
    started = time.monotonic()
    digest = identity.config_hash(config)
    earlier = resume.left_behind(directory, config, sweeping=start is not None)
    if earlier is not None and earlier.get("status") == JobState.DONE:
        _compare_data(config, earlier, directory)
        log.info("%s is finished: left alone. Another hydra.run.dir, or hydra.sweep.dir, runs it again.", directory)
    else:
        status = _status(config, overrides, digest, earlier, resume.has_begun(directory)) | {moved.KEY: paths}
        status |= {"start": start} if start else {}
        written = config if earlier is None else resume.as_written(directory, config)
        records.write_config(directory, written, overrides)
        sealing.write_run(directory, status)
        _train_and_measure(config, directory, status, started - (earlier or {}).get("seconds", 0.0))
    measure.judge(directory, config["evaluation"].get("strict", False))
    return records.valid_elbo(directory)


def _train_and_measure(config: dict[str, Any], directory: Path, status: dict[str, Any], started: float) -> None:
    """The work itself; ``started`` is so far back as the seconds of all starts, but for one that was killed.

    What ends it is recorded. An interrupted run can go on: it stays "running", with the reason beside it.
    """
    try:
        _work(config, directory, status, started)
    except (Exception, KeyboardInterrupt) as error:
        told = InterruptedRun(AT_ONCE) if isinstance(error, KeyboardInterrupt) else error
        interrupted = isinstance(told, InterruptedRun)
        status.update(status=JobState.RUNNING if interrupted else JobState.FAILED, error=messages.message(told))
        status["seconds"] = time.monotonic() - started
        if isinstance(error, Exception):
            log.debug("traceback", exc_info=error)  # for run.log alone
        try:
            sealing.write_run(directory, status)
        except VemError as second:  # the same disk, or folder, mostly: one message is enough
            log.log(logging.DEBUG if isinstance(error, records.Unwritable) else logging.WARNING, "%s", second)
        raise


def set_threads(number: Any) -> None:
    """Let torch use that many CPU threads: with them go the last bits of a float32 sum."""
    number = conform(number, int, "threads")
    at_least(number, 1, "threads")
    torch.set_num_threads(number)


def _compare_data(config: dict[str, Any], earlier: dict[str, Any], directory: Path) -> None:
    """Whether a finished run was trained on what the user's own function gives now. (A file is part of the config.)

    Raises:
        OtherData: it was not, and ``rerun=stale`` was said; else there is a warning.
    """
    target = str(config["data"].get("_target_"))
    if target.startswith("vem.") or same_data.KEY not in earlier:
        return
    remedy = "rerun=stale archives the run and trains on these."
    try:
        check_targets(config, config.get("allow_targets") or [])
        data = make_data(config["data"])
        same_data.require(directory, earlier, same_data.digests(data), data.notes, remedy)
    except VemError as error:
        if isinstance(error, same_data.OtherData) and resume.stale(config):
            raise
        log.warning("%s", error)


def _status(
    config: dict[str, Any], overrides: list[str], digest: str, earlier: dict[str, Any] | None, begun: bool
) -> dict[str, Any]:
    """The first version of run.json. A run that has begun stays one of the data that it began with."""
    started = (earlier or {}).get("started") or datetime.now(UTC).isoformat(timespec="seconds")
    return {
        "status": JobState.RUNNING,
        "error": None,
        "config_hash": digest,
        "seed": config["seed"],
        "pid": os.getpid(),
        "host": socket.gethostname(),
        "started": started,
        "command": shlex.join(["python", "-m", "vem.run", *overrides]),
        "commit": resume.commit(),
        "versions": {"vem": __version__, "python": platform.python_version()}
        | {name: metadata.version(name) for name in sources.VERSIONS},
        **{key: earlier[key] for key in ("num_train", same_data.KEY, "code") if earlier and begun and key in earlier},
    }


def _work(config: dict[str, Any], directory: Path, status: dict[str, Any], started: float) -> None:
    if config.get("threads") is not None:
        set_threads(config["threads"])
    recorder = Recorder(directory, conform(config.get("tensorboard", False), bool, "tensorboard"))
    built = build(config)
    same_data.require(directory, status, built.digests, built.data.notes, OTHER_DATA)
    code = sources.of(config, parts_of(built))
    status.update({same_data.KEY: built.digests} | status | _description(config, built), code=code)
    sealing.write_run(directory, status)
    for note in built.data.notes:
        log.info("%s", note)
    log.info("%s: %s on %s (%d train, %d valid, %d test), %s",
             directory, status["strategy"], built.data.name, *(len(built.data.split(s)) for s in records.SPLITS),
             status["device"])  # fmt: skip
    with recorder:
        done = fit(
            built.model, built.strategy, built.data, built.training,
            seed=config["seed"], directory=directory, progress_bar=config["progress"],
            on_record=recorder, config_hash=status["config_hash"],
        )  # fmt: skip
    status.update(_result(done, built.strategy))
    seed, state = config["seed"], measure.state_of(built)
    found = measure.measure(built, config["evaluation"], built.evaluation, seed, directory, state, config["progress"])
    measure.write(directory, found, pictures(built.model, built.strategy, built.data, seed, found.per_datum))
    status["evaluation_seconds"] = found.seconds
    found_out = [*_not_converged(config, built.training, done), *built.model.notes()]
    found_out += reloading.unkept(config, built, directory)
    notes = [*built.data.notes, *found_out]
    for note in found_out:
        log.warning("%s", note)
    # The figures say what the run is, so run.json is complete before they are drawn.
    status.update(status=JobState.DONE, error=None, notes=notes, seconds=time.monotonic() - started)
    sealing.write_run(directory, {**status, "status": JobState.RUNNING})
    draw_run(directory)
    sealing.write_run(directory, status)
    drop_pieces(directory)
    for line in measure.lines(found.evaluation):
        log.info("%s", line)
    log.info("figures: %s", directory / records.FIGURES)


def _not_converged(config: dict[str, Any], training: Training, done: Progress) -> list[str]:
    """Says so where training ended by its number of epochs although a rule of convergence was set."""
    settings = flat_settings(config)
    if done.converged or (asked := rule(settings)) is None:
        return []
    falls = training.stop.falls(training.watched(done.records))
    remedy = "what it ascends was falling at the end: lower training.rate" if falls else longer(settings)
    return [f"training ended after {done.epoch} epochs, before it had converged ({asked}): {remedy}."]


def _description(config: dict[str, Any], built: Built) -> dict[str, Any]:
    """What the report needs to know of a run without reading its config."""
    model, x = built.model, built.data.train.x
    return {
        "strategy": _choice(config, "strategy"),
        "model": _choice(config, "model"),
        "family": None,  # known once the strategy has seen the model
        "data": built.data.name,
        "binarize": config["data"].get("binarize"),
        "likelihood": getattr(model, "likelihood_name", None) or built.likelihood,
        "units": None if (units := units_of(model)) is None else units.name,
        "latent_dim": model.latent_size if model.latent == "real" else None,
        "components": model.latent_size if model.latent == "index" else None,
        "num_parameters": sum(p.numel() for p in model.parameters()),
        "num_train": len(built.data.train),
        "device": device_name(x.device),
        "threads": torch.get_num_threads(),
        "dtype": config["dtype"],
    }


def _choice(config: dict[str, Any], group: str) -> str:
    """The option that was chosen for a group, or the name of its target."""
    chosen = config.get("choices", {}).get(group)
    return chosen or snake(config[group]["_target_"].rsplit(".", 1)[-1])


def device_name(device: torch.device) -> str:
    """What run.json calls a device: a GPU by its own name, else its kind."""
    return torch.cuda.get_device_name(device) if device.type == "cuda" else device.type


def _result(done: Progress, strategy: Any) -> dict[str, Any]:
    family = getattr(strategy, "family", None)
    return {
        "epochs": done.epoch,
        "steps": done.step,
        "converged": done.converged,
        "training_seconds": done.seconds,
        "decoder_evaluations": done.decoder_evaluations,
        "decoder_gradients": done.decoder_gradients,
        "peak_memory_mib": _peak_memory_mib(),
        "family": None if family is None else snake(type(family).__name__),
    }


def _peak_memory_mib() -> float | None:
    """The most memory this process has held, in MiB; None where the system does not say."""
    try:
        import resource
    except ImportError:  # Windows
        return None
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / (2**20 if sys.platform == "darwin" else 2**10)
