"""``python -m vem.evaluate RUN_DIR [overrides]``: measure a finished run again, with another budget.

The new result takes the place of the run's evaluation.json; the earlier one is kept in its ``evaluations/``.
A measurement that was stopped goes on where it stopped. Exit code 0, or 1 after one message.
"""

from __future__ import annotations

import argparse
import logging
import sys
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vem import __version__
from vem.cli import messages
from vem.errors import VemError
from vem.storage import records, sealing
from vem.storage.streams import outlived

if TYPE_CHECKING:
    from vem.config.loaded import Run
    from vem.evaluation.settings import Evaluation

log = logging.getLogger("vem")

WHERE = ("data.path", "data.root")  # where the data lie now, in a project that was moved
# What an override may set: how to measure, and on what. The rest of the config made the run and is its own.
ALLOWED = ("evaluation", "device", "threads", "progress", "hydra.searchpath", *WHERE)
EXAMPLES = """examples:
  python -m vem.evaluate runs/plane evaluation=gaps
  python -m vem.evaluate runs/plane evaluation=full evaluation.num_data=200 evaluation/best=thorough
  python -m vem.evaluate /archive/plane evaluation=gaps --out runs/plane_gaps
  python -m vem.evaluate runs/plane data.path=moved/x.npy
"""


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(
        prog="python -m vem.evaluate", description="Measure a finished run again, with another budget.",
        epilog=EXAMPLES, formatter_class=argparse.RawDescriptionHelpFormatter,
    )  # fmt: skip
    parser.add_argument("run", type=Path, help="the directory of a finished run")
    parser.add_argument(
        "overrides", nargs="*", help="evaluation=brief|gaps|full|quick, evaluation.num_data=1000, device=…, threads=…"
    )
    parser.add_argument(
        "--out", type=Path, metavar="DIR", help="write the result into DIR, as of a run that cannot be written"
    )
    parser.add_argument(
        "--other-data", action="store_true", help="measure on data that the run was not trained on; needs --out"
    )
    parser.add_argument("--again", action="store_true", help="measure anew what was measured by these settings")
    return parser.parse_intermixed_args(arguments)


def evaluate(
    directory: Path,
    overrides: Sequence[str],
    again: bool = False,
    out: Path | None = None,
    other_data: bool = False,
) -> None:
    """Measure the run of this directory by ``overrides``; writes evaluation.json, per_datum.csv and the figures.

    What they leave open is as the run has it, or, after ``evaluation=…``, that option's. The same measurement
    again is left alone, unless ``again``. ``out``: write there, not into the run. ``other_data``: data that the run
    was not trained on will do.

    Raises:
        VemError: no finished run, an override of what made the run, a checkpoint that is missing or of another
            config, data that are not found or others, a folder that cannot be written, numbers that are not finite, an
            interruption, a failed check if evaluation.strict=true.
    """
    if other_data and out is None:
        raise VemError("--other-data needs --out DIR: what is measured on other data is no result of the run.")
    try:
        _evaluate(directory, overrides, again, out, other_data)
    except records.Unwritable as error:
        raise error.advising("--out DIR") from error


def _evaluate(directory: Path, overrides: Sequence[str], again: bool, out: Path | None, other_data: bool) -> None:
    messages.only(overrides, ALLOWED, "The rest made the run: to train by other settings use python -m vem.run.")
    overrides, data = _where(overrides)
    asked = messages.composed([*_of_the_run(directory, overrides), *overrides])
    from vem.cli import beside, measure, train  # torch, and seconds: not needed where the command is not understood
    from vem.config import loaded
    from vem.config.targets import check_targets, instantiate
    from vem.evaluation.progress import FOLDER, drop_pieces
    from vem.report.figures.run import draw_run

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
        config = run.config if other_data else None
        beside.prepare(run.directory, out, records.read_json(run.directory / records.RUN), config)
    made = measure.made_by(directory) == measure.fingerprint(section, run.config["seed"], state)
    # After a kill between two files of the result, they are written again; what was measured is among the pieces.
    written = (directory / records.RUN).exists()
    whole = written and not sealing.damage(directory, records.read_json(directory / records.RUN), sealing.MEASURED)
    if made and whole and not again:
        log.info("%s was measured by these settings already: left alone (--again measures anew).", directory)
        if (directory / FOLDER).exists():  # by a command that was killed after it had written the result
            draw_run(directory)
            drop_pieces(directory)
    else:
        records.try_writing(directory)
        _measure(run, directory, section, settings, state, asked["progress"], keep=whole or not made or again)
    measure.judge(directory, settings.strict)


def _where(overrides: Sequence[str]) -> tuple[list[str], str | None]:
    """The overrides less the one that says where the data lie, and what it says.

    Raises:
        VemError: it says nothing.
    """
    places = [override for override in overrides if _key(override) in WHERE]
    rest = [override for override in overrides if override not in places]
    said = [override.partition("=")[2].strip("'\"") for override in places]
    if "" in said:
        raise VemError(f"{places[said.index('')]!r} names no place: data.path=PATH says where the data lie now.")
    return rest, said[-1] if said else None


def _of_the_run(directory: Path, overrides: Sequence[str]) -> list[str]:
    """What the run's own command said of its evaluation, less what is said anew here."""
    path = directory / records.OVERRIDES
    if (directory / records.RUN).exists():
        sealing.require(directory, records.read_json(directory / records.RUN), [records.OVERRIDES])
    keys = {_key(override) for override in overrides}
    if "evaluation" in keys or not path.exists():
        return []
    typed = records.read_yaml(path, "say evaluation=quick|brief|gaps|full.")
    own = [str(override) for override in typed or []]
    return [o for o in own if _key(o).startswith("evaluation") and _key(o) not in keys]


def _key(override: str) -> str:
    """The key of ``+KEY=VALUE`` or ``~KEY``."""
    return override.lstrip("+~").split("=", 1)[0]


def _measure(
    run: Run, directory: Path, section: Mapping[str, Any], settings: Evaluation, state: str, progress: bool, keep: bool
) -> None:
    """Measure a run into a directory; what was measured before is archived if it is to be kept."""
    from vem.cli import beside, measure, resume, train
    from vem.config import build, sources
    from vem.evaluation.pictures import pictures
    from vem.evaluation.progress import drop_pieces
    from vem.report.figures.run import draw_run

    seed = run.config["seed"]
    found = measure.measure(run.built, section, settings, seed, directory, state, progress)
    place = measure.archive(directory) if keep else None
    if place is not None:
        log.info("the earlier result is kept in %s", place)
    measure.write(directory, found, pictures(run.model, run.strategy, run.data, seed, found.per_datum))
    status = records.read_json(run.directory / records.RUN) | {"evaluation_seconds": found.seconds}
    made: dict[str, Any] = {"commit": resume.commit(), "vem": __version__, "device": train.device_name(run.device)}
    made["at"] = datetime.now(UTC).isoformat(timespec="seconds")
    if sources.changed(status.get("code")):
        made["code"] = sources.of(run.config, build.parts_of(run.built))
    if directory == run.directory:
        sealing.write_run(directory, status | {"evaluated": made}, written=sealing.MEASURED)
    else:
        sealing.write_run(directory, beside.facts(run.directory, status, made, run.built.digests))
    draw_run(directory)
    drop_pieces(directory)
    for line in measure.lines(found.evaluation):
        log.info("%s", line)
    log.info("%s; figures: %s", directory / records.EVALUATION, directory / records.FIGURES)


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line; returns the exit code."""
    with outlived():
        return _main(arguments)


def _main(arguments: Sequence[str] | None) -> int:
    given = parse(arguments)
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stdout)
    logging.captureWarnings(True)
    try:
        evaluate(given.run, given.overrides, given.again, given.out, given.other_data)
    except KeyboardInterrupt:
        print("vem: stopped by Ctrl-C: the same command goes on from the pieces that are kept.", file=sys.stderr)
        return 1
    except Exception as error:
        return messages.complain(error)
    return 0
