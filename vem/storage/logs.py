"""run.log, on a disk that may be full."""

from __future__ import annotations

import logging
import os
import sys
from contextlib import suppress


class RunLog(logging.FileHandler):
    """A log file that cannot be written costs one sentence on stderr, and the run nothing: no traceback a line."""

    told = False

    def emit(self, record: logging.LogRecord) -> None:
        """Write one line."""
        try:
            super().emit(record)
        except OSError:  # the file could not be opened
            self.handleError(record)

    def handleError(self, record: logging.LogRecord) -> None:
        """Say once that lines are lost; a fault in the line itself is shown as ever."""
        error = sys.exc_info()[1]
        if not isinstance(error, OSError):
            super().handleError(record)
        # A run that ends for a full disk, or a folder that is gone, says so: its traceback is not worth another word.
        elif not self.told and record.levelno > logging.DEBUG and os.path.isdir(os.path.dirname(self.baseFilename)):
            self.told = True
            why = error.strerror or error
            print(f"vem: {self.baseFilename} cannot be written ({why}): the run goes on without it.", file=sys.stderr)

    def close(self) -> None:
        """Close the file; what it could not take is lost."""
        with suppress(OSError):
            super().close()
