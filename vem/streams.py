"""Standard output and error whose reader has gone (``| head``) or whose disk is full: the words are lost, no more."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, TextIO, cast


@contextmanager
def outlived() -> Iterator[None]:
    """While the block runs, what is printed may fail to arrive, and the block goes on to its end."""
    before = sys.stdout, sys.stderr
    sys.stdout, sys.stderr = (stream and cast(TextIO, Outlived(stream)) for stream in before)
    try:
        yield
    finally:
        for stream in (sys.stdout, sys.stderr):
            if stream is not None:
                stream.flush()  # at the end of the process Python would complain of what is left
        sys.stdout, sys.stderr = before


class Outlived:
    """A stream that turns to nowhere at the first error; a reader that has gone is no error worth a word."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    def write(self, text: str) -> int:
        """Write, or lose, the text."""
        try:
            return self._stream.write(text)
        except OSError as error:
            self._turn_to_nowhere(error)
            return len(text)

    def flush(self) -> None:
        """Write, or lose, what is still held back."""
        try:
            self._stream.flush()
        except OSError as error:
            self._turn_to_nowhere(error)

    def _turn_to_nowhere(self, error: OSError) -> None:
        """By the file descriptor, so that what the stream holds back goes there, too."""
        nowhere = os.open(os.devnull, os.O_WRONLY)
        try:
            os.dup2(nowhere, self._stream.fileno())
        finally:
            os.close(nowhere)
        if not isinstance(error, BrokenPipeError) and self is not sys.stderr:
            why = error.strerror or error
            print(f"vem: standard output cannot be written ({why}): the command goes on without it.", file=sys.stderr)
