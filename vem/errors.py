"""The one kind of error that a user is expected to meet, and the help that goes with it."""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from numbers import Real


class VemError(Exception):
    """An error the user can mend: its message names the value, the place and the remedy.

    ``python -m vem.run`` shows the message alone, with no traceback, and exits with code 1.
    """


class BadArgument(VemError):
    """An argument that a class or a function refuses, by the name that the argument has there.

    Whoever made the call from a config adds the place: :meth:`at`.
    """

    def __init__(self, name: str, rest: str) -> None:
        super().__init__(name, rest)  # both, for the copy that another process gets
        self.name, self.rest = name, rest

    def __str__(self) -> str:
        return f"{self.name}{self.rest}"

    def at(self, place: str) -> VemError:
        """The same error of ``place.name``.

        >>> print(BadArgument("steps", "=0 is too small.").at("strategy.held_out"))
        strategy.held_out.steps=0 is too small.
        """
        return VemError(f"{place}.{self.name}{self.rest}")


def did_you_mean(name: str, options: Iterable[str]) -> str:
    """The end of a sentence about an unknown name: the option that is nearest to it, if one is near.

    >>> did_you_mean("amortised", ["local", "amortized", "gmm"])
    "; did you mean 'amortized'?"
    >>> did_you_mean("zebra", ["local", "gmm"])
    '.'
    """
    close = difflib.get_close_matches(name, list(options), n=1, cutoff=0.6)
    return f"; did you mean '{close[0]}'?" if close else "."


def choice(value: str, options: Iterable[str], name: str) -> str:
    """Return ``value`` if it is one of ``options``, else raise with the argument and the options named.

    Raises:
        BadArgument: ``value`` is not an option.

    >>> choice("closed", ["closed", "sampled"], "kl")
    'closed'
    """
    options = list(options)
    if value not in options:
        raise BadArgument(
            name, f"={value!r} is not known{did_you_mean(str(value), options)} Choose one of: {', '.join(options)}."
        )
    return value


def at_least(value: float, smallest: float, name: str) -> None:
    """Refuse a number that is too small, and what is no number.

    Raises:
        BadArgument: ``value < smallest``, or ``value`` is NaN, text or a truth value.
    """
    if isinstance(value, bool) or not isinstance(value, Real):
        raise BadArgument(name, f"={value!r} is not a number: it must be at least {smallest}.")
    if not value >= smallest:
        raise BadArgument(name, f"={value} is too small: it must be at least {smallest}.")


def positive(value: float, name: str, why: str = "") -> None:
    """Refuse a number that is not above 0; ``why`` ends the sentence.

    Raises:
        BadArgument: it is 0, below it, or NaN.
    """
    if not value > 0:
        raise BadArgument(name, f"={value} must be positive{why or '.'}")
