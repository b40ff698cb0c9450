"""What a command prints and logs, where it can be lost without ending the command.

Standard output and error whose reader has gone (``| head``), that are closed (``2>&-``), or whose disk is full; run.log
on a disk that is full.
"""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from typing import Any, TextIO, cast


@contextmanager
def outlived() -> Iterator[None]:
    """While the block runs, what is printed may fail to arrive, and the block goes on to its end."""
    before = sys.stdout, sys.stderr
    _open_what_is_closed()
    with ExitStack() as stack:
        streams = [stream or stack.enter_context(open(os.devnull, "w", encoding="utf-8")) for stream in before]
        sys.stdout, sys.stderr = (cast(TextIO, Outlived(stream)) for stream in streams)
        try:
            yield
        finally:
            for stream in (sys.stdout, sys.stderr):
                stream.flush()  # at the end of the process Python would complain of what is left
            sys.stdout, sys.stderr = before


def _open_what_is_closed() -> None:
    """A command started with ``2>&-`` would give that number to the next file, and libraries would write into it."""
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            nowhere = os.open(os.devnull, os.O_RDWR)  # the lowest number that is free
            os.set_inheritable(nowhere, True)


class Outlived:
    """A stream that turns to nowhere at the first error; a reader that has gone is no error worth a word."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    def write(self, text: str) -> int:
        """Write, or lose, the text."""
        self._or_lose(self._stream.write, text)
        return len(text)

    def flush(self) -> None:
        """Write, or lose, what is still held back."""
        self._or_lose(self._stream.flush)

    def _or_lose(self, act: Callable[..., object], *given: str) -> None:
        try:
            act(*given)
        except OSError as error:
            # By the file descriptor, so that what the stream holds back goes to nowhere, too.
            nowhere = os.open(os.devnull, os.O_WRONLY)
            try:
                os.dup2(nowhere, self._stream.fileno())
            finally:
                os.close(nowhere)
            if not isinstance(error, BrokenPipeError) and self is not sys.stderr:
                _say(f"standard output cannot be written ({error.strerror or error}): the command goes on without it.")


def _say(text: str) -> None:
    print(f"vem: {text}", file=sys.stderr)


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
            _say(f"{self.baseFilename} cannot be written ({error.strerror or error}): the run goes on without it.")

    def close(self) -> None:
        """Close the file; what it could not take is lost."""
        with suppress(OSError):
            super().close()
