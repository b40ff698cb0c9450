"""The one kind of error that a user is expected to meet, and the help that goes with it."""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from numbers import Real


class VemError(Exception):
    """An error the user can mend: its message names the value, the place and the remedy.

    ``python -m vem.run`` shows the message alone, with no traceback, and exits with code 1.
    """


def did_you_mean(name: str, options: Iterable[str]) -> str:
    """The end of a sentence about an unknown name: the option that is nearest to it, if one is near.

    >>> did_you_mean("amortised", ["local", "amortized", "gmm"])
    "; did you mean 'amortized'?"
    >>> did_you_mean("zebra", ["local", "gmm"])
    '.'
    """
    close = difflib.get_close_matches(name, list(options), n=1, cutoff=0.6)
    return f"; did you mean '{close[0]}'?" if close else "."


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
    """Refuse a number that is too small, and what is no number.

    Raises:
        VemError: ``value < smallest``, or ``value`` is NaN, text or a truth value.
    """
    if isinstance(value, bool) or not isinstance(value, Real):
        raise VemError(f"{place}={value!r} is not a number: it must be at least {smallest}.")
    if not value >= smallest:
        raise VemError(f"{place}={value} is too small: it must be at least {smallest}.")
