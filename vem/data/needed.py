"""Libraries that only some kinds of files need: the extra ``tables``."""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import Any

from vem.errors import VemError


def needed(module: str, path: Path) -> Any:
    """The module that reads a file of this kind.

    Raises:
        VemError: its package is not installed; the message has the commands that install it.
    """
    package = module.partition(".")[0]
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise VemError(
            f"data.path={path}: reading {path.suffix.lower()} needs the package {package}: pip install {package}, or, "
            "in a checkout of vem, pip install -c constraints.txt -e '.[tables]'."
        ) from error


def unreadable(path: Path, error: Exception) -> VemError:
    """The message for a file that its library refuses."""
    reason = " ".join(str(error).split())[:300] or type(error).__name__  # one line, whatever the library says
    return VemError(f"data.path={path} cannot be read ({reason}): is it whole? Save it again.")
