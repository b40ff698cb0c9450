"""``python -m vem.report DIR… [--out DIR] [--baseline LABEL] [--watch [SECONDS]]``: what the runs below DIR say."""

from __future__ import annotations

import argparse
import sys
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, TextIO

from vem.errors import VemError, at_least
from vem.storage import folders, ledger
from vem.storage.records import CONFIG, EVALUATION, METRICS, PER_DATUM, PICTURES, RUN
from vem.storage.streams import outlived

if TYPE_CHECKING:
    from vem.report.findings import Findings

SECONDS = 10.0
SHARE = 5.0  # pauses are at least so many times as long as the report took: the runs need the machine
OPEN = ("running", "waiting")
WATCHED = (RUN, CONFIG, METRICS, EVALUATION, PER_DATUM, PICTURES)
INTERRUPTED = 130  # what a shell says of a command that Ctrl-C ended: who waits for the sweep's end must not go on

EXAMPLES = """examples:
  python -m vem.report runs/dims
  python -m vem.report runs/dims runs/plane --out runs/both --baseline amortized
  python -m vem.report runs/dims --watch
"""


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    """The command line.

    Raises:
        VemError: SECONDS is below 0.1.
    """
    parser = argparse.ArgumentParser(
        prog="python -m vem.report",
        description="Compare runs: a table on the terminal, report.html, report.md, summary.csv, runs.csv, figures.",
        epilog=EXAMPLES, formatter_class=argparse.RawDescriptionHelpFormatter,
    )  # fmt: skip
    parser.add_argument("directories", nargs="*", type=Path, metavar="DIR", help="a run, or a folder of runs")
    parser.add_argument("--out", type=Path, metavar="DIR", help="where to write (default: the one DIR named)")
    parser.add_argument(
        "--baseline", metavar="LABEL",
        help="the group, by its label or its strategy, that the others are compared with (default: the best one)",
    )  # fmt: skip
    parser.add_argument(
        "--watch", nargs="?", const=str(SECONDS), metavar="SECONDS",
        help=f"write it again when runs have changed, every {SECONDS:g} seconds at most, until all are finished; "
        "Ctrl-C ends it with exit code 130",
    )  # fmt: skip
    options = parser.parse_args(arguments)
    if options.watch is not None:
        try:
            options.watch = float(options.watch)
        except ValueError:  # --watch DIR
            options.directories.append(Path(options.watch))
            options.watch = SECONDS
        at_least(options.watch, 0.1, "--watch")
    if not options.directories:
        parser.error("name the folder of a run or of a sweep")
    return options


def main(arguments: Sequence[str] | None = None) -> int:
    """Print the comparison; returns the exit code: 0, 130 after Ctrl-C, or 1 with one message on stderr."""
    out = None
    with outlived():
        try:
            options = parse(arguments)
            # Imported here, for Ctrl-C may come in the seconds that it takes.
            from vem.report.summary import report_folder, write_report

            out = report_folder(options.directories, options.out)
            if options.watch is None:
                print(write_report(options.directories, out, options.baseline))
            else:
                print(watch(options.directories, out, options.baseline, options.watch, sys.stdout))
        except VemError as error:
            print(f"error: {error}", file=sys.stderr)
            return 1
        except KeyboardInterrupt:
            whole = f"; the report in {out} is whole" if out is not None and (out / "report.html").exists() else ""
            print(f"stopped by Ctrl-C{whole}.", file=sys.stderr)
            return INTERRUPTED
    return 0


def watch(roots: Sequence[Path], out: Path, baseline: str | None, seconds: float, stream: TextIO) -> str:
    """Keep the report in ``out`` up to date, a line on ``stream`` for each time; returns the text of the last one.

    It looks every ``seconds``, and less often where writing takes long. It ends when no run is at work, and none
    waits in a sweep that goes on. Errors (no run yet, a full disk) are told once, and it tries again.

    Raises:
        VemError: a root does not exist.
    """
    from vem.report import summary
    from vem.report.gather import check_root
    from vem.report.read import findings

    for root in roots:
        check_root(root)
    seen: object = None
    told = ""
    while True:
        started = time.monotonic()
        now = signature(roots)
        if now != seen:
            line, text = "", None
            try:
                found = findings(roots, baseline, out)
                text = summary.write(found, out)
                seen, told, line = now, "", f"{counts(found)}  {out / summary.PAGE}"
            except VemError as error:
                line, told = (str(error), str(error)) if str(error) != told else ("", told)
            if line:
                print(f"{time.strftime('%H:%M:%S')}  {line}", file=stream, flush=True)
            if text is not None and not any(run.status in OPEN for run in found.unfinished):
                return text
        time.sleep(max(seconds, SHARE * (time.monotonic() - started)))


def signature(roots: Sequence[Path]) -> tuple[object, ...]:
    """What changes when a run has got further, or is known to be lost."""
    from vem.report.gather import at_work

    below = folders.below(roots)
    files = sorted(folder.path / name for folder in below for name in WATCHED if name in folder.names)
    plans = sorted(folder.path for folder in below if ledger.FOLDER in folder.names)
    sweeps = [sweep for plan in plans if (sweep := ledger.read(plan)) is not None]
    states = [ledger.state(sweep.directory, job.folder) for sweep in sweeps for job in sweep.jobs]
    return tuple(map(_stamp, files)), tuple(states), tuple(map(at_work, sweeps))


def _stamp(path: Path) -> tuple[str, int, int]:
    try:
        found = path.stat()
        return str(path), found.st_mtime_ns, found.st_size
    except OSError:  # it went away between two looks
        return str(path), 0, 0


def counts(found: Findings) -> str:
    """How many runs are in which state: a sweep's jobs as they were planned, else what was found."""
    states = dict(found.progress) or {
        "done": int((found.runs["status"] == "done").sum()), **Counter(run.status for run in found.unfinished)
    }  # fmt: skip
    return ", ".join(f"{count} {state}" for state, count in states.items() if count)


if __name__ == "__main__":
    sys.exit(main())
