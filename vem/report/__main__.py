"""``python -m vem.report DIR… [--out DIR] [--baseline LABEL] [--watch [SECONDS]]``: what the runs below DIR say."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from vem.errors import VemError, at_least
from vem.storage.streams import outlived

SECONDS = 10.0
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
    with outlived():
        return _main(arguments)


def _main(arguments: Sequence[str] | None) -> int:
    out = None
    try:
        options = parse(arguments)
        # Imported here, for Ctrl-C may come in the seconds that it takes.
        from vem.report.summary import report_folder, write_report

        out = report_folder(options.directories, options.out)
        if options.watch is None:
            print(write_report(options.directories, out, options.baseline))
        else:
            from vem.report.watch import watch

            print(watch(options.directories, out, options.baseline, options.watch, sys.stdout))
    except VemError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        whole = f"; the report in {out} is whole" if out is not None and (out / "report.html").exists() else ""
        print(f"stopped by Ctrl-C{whole}.", file=sys.stderr)
        return INTERRUPTED
    return 0


if __name__ == "__main__":
    sys.exit(main())
