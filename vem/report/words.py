"""Numbers and names as words of the answer."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from typing import Any

from vem.report.ends import ends_text
from vem.report.intervals import Difference
from vem.report.quantities import present
from vem.report.table import number

NAMES_SHOWN = 4
MOST_DIGITS = 3
NATS = "nats per data point"  # the unit of every bound and gap
EXACT = 1e-3  # nats; what differs by less is called equal
# Checks without which the bounds are no bounds, and a gap is not "at least" anything.
BOUND_CHECKS = {"finite", "best_above_q", "richer_family", "best_below_upper", "lower_above_best", "interval_ordered",
                "quadrature"}  # fmt: skip
Row = Mapping[str, Any]


def digits(half: float | None) -> int:
    """Decimals that show two digits of an error, at least two.

    >>> digits(1.3), digits(0.04), digits(0.0031), digits(1e-9), digits(None)
    (2, 3, 3, 2, 2)
    """
    if not half or not 10**-MOST_DIGITS < half < math.inf:
        return 2
    return min(MOST_DIGITS, max(2, 1 - math.floor(math.log10(abs(half)))))


def name(label: str) -> str:
    """A group's label within a sentence.

    >>> name("local"), name("local, latent_dim=2, training.epochs=5")
    ('local', 'local (latent_dim=2, training.epochs=5)')
    """
    strategy, _, rest = label.partition(", ")
    return f"{strategy} ({rest})" if rest else strategy


def interval(low: float, high: float, limit: str = "") -> str:
    """The ends of an interval; the one that limits a number which is ``at least`` or ``at most`` the one shown.

    >>> interval(1.5157, 1.5608), interval(-0.25, 3.1), interval(-0.25, 3.1, "at least")
    ('1.516 to 1.561', '−0.25 to 3.10', 'at least −0.25 (97.5 %)')
    """
    places = digits((high - low) / 2)
    ends = None if limit == "at most" else low, None if limit == "at least" else high
    return ends_text(*ends, lambda end: number(end, places))


def nats(mean: float, low: float | None = None, high: float | None = None) -> str:
    """A number with as many decimals as its interval has.

    >>> nats(1.54, 1.5157, 1.5608), nats(-98.4)
    ('1.540', '−98.40')
    """
    return number(mean, digits(None if low is None or high is None else (high - low) / 2))


def over(d: Difference) -> str:
    """What a paired interval is over.

    >>> over(Difference(0.0, 0.1, -1.0, 1.0, 3, "seeds", 2, None))
    'paired over 3 common seeds'
    """
    if d.over == "data":
        return f"paired over the {number(d.df + 1, 0)} test data points of the one common seed"
    return f"paired over {d.seeds} common seeds"


def seeds(row: Row) -> str:
    """How many seeds a mean is over, of how many, and its standard error."""
    se, data_se = present(row.get("test_elbo_se")), present(row.get("test_elbo_data_se"))
    count = int(row.get("test_elbo_over") or row["seeds"])
    of = f" of {row['runs']}" if (row.get("runs") or 0) > count else ""
    if se is not None:
        return f"mean of {count}{of} seeds, standard error {number(se, digits(se))}"
    one = f"one{of} seeds" if of else "one seed"
    return one + (f", standard error over data {number(data_se, digits(data_se))}" if data_se else "")


def checks(row: Row) -> dict[str, list[str]]:
    """The checks that a group failed, each with the splits where it did, of any seed.

    >>> checks({"checks_failed": "best_above_q (train, test); finite (test)"})
    {'best_above_q': ['train', 'test'], 'finite': ['test']}
    """
    found: dict[str, list[str]] = {}
    for check, splits in re.findall(r"([^;() ]+) \(([^)]*)\)", row.get("checks_failed") or ""):
        found.setdefault(check, []).extend(splits.split(", "))
    return found


def failed(row: Row) -> str:
    """The checks that a group failed, behind its name."""
    return f" (checks failed: {', '.join(checks(row))})" if row.get("checks_failed") else ""


def failed_on(row: Row, split: str) -> set[str]:
    """The checks that failed there."""
    return {check for check, splits in checks(row).items() if split in splits}


def trusted(row: Row, split: str) -> bool:
    """Whether no check failed without which the bounds there are no bounds."""
    return not BOUND_CHECKS & failed_on(row, split)


def evaluated_data(row: Row, which: str) -> str:
    """The test data with their number: ``the 50 test data points``."""
    if row.get("num_data") == 1:
        return f"{'this' if which == 'these' else which} one test data point"
    return f"{which} {number(row['num_data'], 0)} test data points" if row.get("num_data") else f"{which} test data"


def listed(names: Sequence[str], most: int = NAMES_SHOWN) -> str:
    """Labels in a sentence, the first few of many.

    >>> listed(["a"]), listed(["a, n=1", "b"]), listed(list("abcdef"))
    ('a', 'a (n=1) and b', 'a, b, c, d and 2 more')
    """
    names = [name(label) for label in names]
    if len(names) > most:
        return f"{', '.join(names[:most])} and {len(names) - most} more"
    return " and ".join(filter(None, [", ".join(names[:-1]), names[-1]]))


def named(names: Sequence[str], most: int = 8) -> str:
    """Names one after the other; of very many the first.

    >>> named(["a", "b"]), named(list("abcdef"), 3)
    ('a; b', 'a; b; c and 3 more')
    """
    return "; ".join(names[:most]) + (f" and {len(names) - most} more" if len(names) > most else "")


def plural(count: int, word: str) -> str:
    """A count with its noun.

    >>> plural(1, "seed"), plural(3, "seed")
    ('1 seed', '3 seeds')
    """
    return f"{number(count, 0)} {word}{'' if count == 1 else 's'}"
