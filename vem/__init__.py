"""vem: the variational-EM bench and instrument.

``import vem`` is cheap: torch is pulled in only when :func:`load` or :func:`measure` is called.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from vem.version import VERSION

if TYPE_CHECKING:
    from os import PathLike

    from vem.build import Run
    from vem.measurement import Measurement

__version__ = VERSION
__all__ = ["load", "measure"]


def load(directory: str | PathLike[str], device: str = "cpu") -> Run:
    """Give back the model, the strategy and the data of a finished run.

    Raises:
        VemError: the directory holds no finished run, or its checkpoint is damaged.
    """
    from vem.build import load

    return load(directory, device)


def measure(decoder: Any, **settings: Any) -> Measurement:
    """Measure a model that was trained elsewhere; see :func:`vem.measurement.measure` for what it takes.

    Raises:
        VemError: the model, the data and the settings do not fit.
    """
    from vem.measurement import measure

    return measure(decoder, **settings)
