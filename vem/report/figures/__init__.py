"""Figures of a run and of a report: they know no model, and read files of run directories alone."""
