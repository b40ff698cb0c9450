"""Figures and tables from run directories: it reads files, knows no model and imports no torch."""

from vem.report.figures import draw_run
from vem.report.summary import summarize, write_report

__all__ = ["draw_run", "summarize", "write_report"]
