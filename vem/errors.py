"""The one kind of error that a user is expected to meet, and the help that goes with it."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class VemError(Exception):
    """An error the user can mend: its message names the value, the place and the remedy.

    ``python -m vem.run`` shows the message alone, with no traceback, and exits with code 1.
    """


def did_you_mean(name: str, options: Iterable[str]) -> str:
    """A suggestion to append to a message about an unknown name, or an empty string.

    >>> did_you_mean("amortised", ["local", "amortized", "gmm"])
    "; did you mean 'amortized'?"
    >>> did_you_mean("zebra", ["local", "gmm"])
    ''
    """
    close = difflib.get_close_matches(name, list(options), n=1, cutoff=0.6)
    return f"; did you mean '{close[0]}'?" if close else ""


def choice(value: str, options: Iterable[str], place: str) -> str:
    """Return ``value`` if it is one of ``options``, else raise with the place and the options named.

    Raises:
        VemError: ``value`` is not an option.

    >>> choice("closed", ["closed", "sampled"], "objective.kl")
    'closed'
    """
    options = list(options)
    if value not in options:
        raise VemError(
            f"{place}={value!r} is not known{did_you_mean(str(value), options)} Choose one of: {', '.join(options)}."
        )
    return value


def at_least(value: float, smallest: float, place: str) -> None:
    """Refuse a number that is too small (or not a number).

    Raises:
        VemError: ``value < smallest``, or ``value`` is NaN.
    """
    if not value >= smallest:
        raise VemError(f"{place}={value} is too small: it must be at least {smallest}.")
