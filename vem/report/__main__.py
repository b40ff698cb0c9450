"""``python -m vem.report DIR… [--out DIR]``: compare the runs below DIR."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from vem.errors import VemError
from vem.report.summary import report_folder, write_report


def main(arguments: Sequence[str] | None = None) -> int:
    """Print the comparison; returns the exit code: 0, or 1 with one message on stderr."""
    parser = argparse.ArgumentParser(
        prog="python -m vem.report",
        description="Compare runs: a table on the terminal, summary.csv, runs.csv and figures.",
    )
    parser.add_argument("directories", nargs="+", type=Path, metavar="DIR", help="a run, or a folder of runs")
    parser.add_argument("--out", type=Path, metavar="DIR", help="where to write (default: the one DIR named)")
    options = parser.parse_args(arguments)
    try:
        print(write_report(options.directories, report_folder(options.directories, options.out)))
    except VemError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
