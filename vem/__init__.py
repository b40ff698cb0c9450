"""vem: the variational-EM bench and instrument.

``import vem`` is cheap: torch is pulled in only when :func:`load` is called.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from os import PathLike

    from vem.build import Run

__version__ = "0.1.0"
__all__ = ["load"]


def load(directory: str | PathLike[str], device: str = "cpu") -> Run:
    """Give back the model, the strategy and the data of a finished run.

    Raises:
        VemError: the directory holds no finished run, or its checkpoint is damaged.
    """
    from vem.build import load

    return load(directory, device)
