"""``python -m vem.evaluate RUN_DIR [overrides]``: measure a finished run again, with another budget.

The new result takes the place of the run's evaluation.json; the earlier one is kept in its ``evaluations/``.
A measurement that was stopped goes on where it stopped. Exit code 0, or 1 after one message.
"""

from __future__ import annotations

import argparse
import logging
import sys
from collections.abc import Sequence
from pathlib import Path

from vem.cli import messages
from vem.errors import VemError
from vem.storage import records, sealing
from vem.storage.identity import key_of
from vem.storage.streams import outlived

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
    messages.only(overrides, ALLOWED, "The rest made the run: to train by other settings use python -m vem.run.")
    overrides, data = _where(overrides)
    asked = messages.composed([*_of_the_run(directory, overrides), *overrides])
    from vem.cli import again as measuring  # torch, and seconds: not needed where the command is not understood

    try:
        measuring.evaluate(directory, asked, data, again, out, other_data)
    except records.Unwritable as error:
        raise error.advising("--out DIR") from error


def _where(overrides: Sequence[str]) -> tuple[list[str], str | None]:
    """The overrides less the one that says where the data lie, and what it says.

    Raises:
        VemError: it says nothing.
    """
    places = [override for override in overrides if key_of(override) in WHERE]
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
    keys = {key_of(override) for override in overrides}
    if "evaluation" in keys or not path.exists():
        return []
    typed = records.read_yaml(path, "say evaluation=quick|brief|gaps|full.")
    own = [str(override) for override in typed or []]
    return [o for o in own if key_of(o).startswith("evaluation") and key_of(o) not in keys]


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
