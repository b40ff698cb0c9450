"""A finished run measured again: into its own folder, or beside it where it cannot be written or on other data."""

from __future__ import annotations

import hashlib
import json
import logging
import shutil
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from vem import __version__
from vem.cli import measure, resume, train
from vem.config import build, loaded, sources
from vem.config.loaded import Run
from vem.config.targets import check_targets, instantiate
from vem.errors import VemError
from vem.evaluation.pictures import pictures
from vem.evaluation.progress import FOLDER, drop_pieces
from vem.evaluation.settings import Evaluation
from vem.report.figures import run as figures
from vem.storage import records, same_data, sealing

log = logging.getLogger("vem")

COPIED = (records.CONFIG, records.OVERRIDES, records.METRICS)
OWN = (*COPIED, *sealing.MEASURED, records.FIGURES, records.EARLIER, FOLDER)  # that a killed command may have left


def evaluate(
    directory: Path, asked: Mapping[str, Any], data: str | None, again: bool, out: Path | None, other_data: bool
) -> None:
    """Measure the run by the composed config ``asked``; see :func:`vem.cli.evaluate.evaluate`."""
    section = asked["evaluation"]
    run = loaded.load(directory, asked["device"], data, other_data)
    directory = out or run.directory  # of a job that repeats another one's run, that one's
    check_targets({"evaluation": section}, run.config.get("allow_targets") or [])
    settings: Evaluation = instantiate(section, "evaluation")
    if not settings.num_data:
        raise VemError("evaluation.num_data=0 measures nothing: evaluation=quick|brief|gaps|full does.")
    threads = asked["threads"] if asked["threads"] is not None else run.config.get("threads")
    if threads is not None:
        train.set_threads(threads)
    state = measure.state_of(run.built)
    if other_data:
        state = measure.state_hash({"state": state, "data": run.built.digests})
    if out is not None:
        _prepare(run, out, other_data)
    made = measure.made_by(directory) == measure.fingerprint(section, run.config["seed"], state)
    # After a kill between two files of the result, they are written again; what was measured is among the pieces.
    written = (directory / records.RUN).exists()
    whole = written and not sealing.damage(directory, records.read_json(directory / records.RUN), sealing.MEASURED)
    if made and whole and not again:
        log.info("%s was measured by these settings already: left alone (--again measures anew).", directory)
        if (directory / FOLDER).exists():  # by a command that was killed after it had written the result
            figures.draw_run(directory)
            drop_pieces(directory)
    else:
        records.try_writing(directory)
        seed = run.config["seed"]
        found = measure.measure(run.built, section, settings, seed, directory, state, asked["progress"])
        place = measure.archive(directory) if whole or not made or again else None
        if place is not None:
            log.info("the earlier result is kept in %s", place)
        measure.write(directory, found, pictures(run.model, run.strategy, run.data, seed, found.per_datum))
        _seal(run, directory, found.seconds)
        figures.draw_run(directory)
        drop_pieces(directory)
        for line in measure.lines(found.evaluation):
            log.info("%s", line)
        log.info("%s; figures: %s", directory / records.EVALUATION, directory / records.FIGURES)
    measure.judge(directory, settings.strict)


def _prepare(run: Run, out: Path, other_data: bool) -> None:
    """Make the folder for a measurement beside a run and copy to it what a report reads besides.

    Raises:
        VemError: it is a folder of something else, or lies where a report would not find it; a file of the run is
            damaged; it cannot be written.
    """
    status = records.read_json(run.directory / records.RUN)
    inner, outer = out.resolve(), run.directory.resolve()
    if inner == outer or inner in outer.parents or outer in inner.parents:
        raise VemError(f"--out {out}: name a folder beside {run.directory}, neither around nor within it.")
    if below := next((folder for folder in inner.parents if (folder / records.RUN).exists()), None):
        raise VemError(f"--out {out}: that lies within {below}, a run's folder, below which no report looks.")
    if (out / records.RUN).exists():
        there = records.read_json(out / records.RUN)
        if sealing.mapping(there.get("evaluated")).get("hash") != status.get("config_hash"):
            raise VemError(f"--out {out}: that is the folder of another run or measurement. Name another one.")
    elif out.is_dir() and any(path.name not in OWN and not path.name.startswith(".") for path in out.iterdir()):
        raise VemError(f"--out {out}: that folder holds other files. Name one that is empty or new.")
    sealing.require(run.directory, status, COPIED)
    with records.writing(out):
        out.mkdir(parents=True, exist_ok=True)
        for name in COPIED:
            if (run.directory / name).exists():
                with records.replacing(out / name) as temporary:
                    shutil.copyfile(run.directory / name, temporary)
        if other_data:
            records.write_config(out, run.config)


def _seal(run: Run, directory: Path, seconds: dict[str, float]) -> None:
    """Write run.json: the run's own, with what measured it; beside it, also which run it is of.

    A report takes equal config hashes for one run: on other data the measurement is that of another one.
    """
    status = records.read_json(run.directory / records.RUN) | {"evaluation_seconds": seconds}
    made: dict[str, Any] = {"commit": resume.commit(), "vem": __version__, "device": train.device_name(run.device)}
    made["at"] = datetime.now(UTC).isoformat(timespec="seconds")
    if sources.changed(status.get("code")):
        made["code"] = sources.of(run.config, build.parts_of(run.built))
    if directory == run.directory:
        sealing.write_run(directory, status | {"evaluated": made}, written=sealing.MEASURED)
        return
    digest, digests = status.get("config_hash"), run.built.digests
    told = sealing.unsealed(status) | {"evaluated": {**made, "of": str(run.directory.resolve()), "hash": digest}}
    refused, _ = same_data.differences(status.get(same_data.KEY), digests)
    if refused:
        text = json.dumps([digest, [part["x"] for part in digests.values()]])
        told |= {"config_hash": hashlib.sha256(text.encode()).hexdigest()[:16], same_data.KEY: dict(digests)}
        note = f"measured on data that it was not trained on: {'; '.join(refused)}."
        told["notes"] = [*(told.get("notes") or []), note]
    sealing.write_run(directory, told)
