"""vem: the variational-EM bench and instrument.

Importing this package is cheap: torch comes in only when a function of it is asked for.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from vem.errors import VemError

if TYPE_CHECKING:
    from vem.config.loaded import load
    from vem.external.measure import measure
    from vem.report.compare import compare

__version__ = "0.1.0"
__all__ = ["VemError", "compare", "load", "measure"]
_HOMES = {"compare": "vem.report.compare", "load": "vem.config.loaded", "measure": "vem.external.measure"}


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        return getattr(import_module(_HOMES[name]), name)
    raise AttributeError(f"module 'vem' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
