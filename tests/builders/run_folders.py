"""The directories of runs below some folders."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from vem.storage import folders


def run_directories(roots: Iterable[Path]) -> list[Path]:
    """Every one at or below ``roots``, sorted, each once; links are followed."""
    return sorted(folder.path for folder in folders.below(roots) if folder.is_run)
