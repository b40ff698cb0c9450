"""Figures and tables from run directories: it reads files, knows no model and imports no torch."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from vem.report.figures.run import draw_run
    from vem.report.summary import summarize, write_report

__all__ = ["draw_run", "summarize", "write_report"]


def __getattr__(name: str) -> Any:
    """The functions above, imported when they are first asked for: drawing takes seconds to import."""
    if name == "draw_run":
        from vem.report.figures import run

        return run.draw_run
    if name in ("summarize", "write_report"):
        from vem.report import summary

        return getattr(summary, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
