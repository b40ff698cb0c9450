"""Short names: of the groups of one table, of their settings, and of the values of an axis."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import pandas as pd

from vem.report.kin import differing, values_of
from vem.report.quantities import plain_rows

# Runs that are equal in all of these differ in their seed alone.
GROUP = ("table", "strategy", "model", "family", "latent_dim", "variant")
MEASUREMENT = "evaluation."  # settings that say how a trained model was measured
MEASURED = 60  # characters of the evaluation's settings that a label has room for
CUT = "…"  # in a label, for settings left out


def labels(groups: pd.DataFrame) -> list[str]:
    """A short name for each group of one table: its strategy, and what tells it from its kin; with a number where that
    is too long to be shown.
    """
    rows = plain_rows(groups[list(GROUP)])
    telling = differing([row["strategy"] for row in rows], [named(row) for row in rows])
    short = shortened([settings_of(row["variant"]) for row in rows])
    names = [", ".join(filter(None, (str(row["strategy"]), *(f"{k}={v}" for k, v in own.items()), text)))
             for row, own, text in zip(rows, telling, short, strict=True)]  # fmt: skip
    return [f"{name} ({names[:i].count(name) + 1})" if names.count(name) > 1 else name for i, name in enumerate(names)]


def named(row: Mapping[str, Any]) -> dict[str, str]:
    """What a group is, beside its strategy and its settings."""
    return {key: str(whole(row[key])) for key in GROUP[2:5] if row[key] is not None}


def settings_of(text: str | None) -> dict[str, str]:
    """The settings of a variant.

    >>> settings_of("evaluation.draws=10, strategy.rate=0.1"), settings_of(None)
    ({'evaluation.draws': '10', 'strategy.rate': '0.1'}, {})
    """
    return dict(s.partition("=")[::2] for s in re.split(r", (?=[\w.]+=)", text)) if text else {}


def training_of(variant: str | None) -> frozenset[tuple[str, str]]:
    """A variant less its evaluation settings: groups that agree in it differ in their measurement alone."""
    return frozenset(pair for pair in settings_of(variant).items() if not pair[0].startswith(MEASUREMENT))


def shortened(settings: Sequence[Mapping[str, str]]) -> list[str]:
    """Settings as a label has them: numbers in brief, and the evaluation's last, as many as there is room for.

    >>> shortened([{"evaluation.num_data": "5", "strategy.rate": "0.1"}, {}])
    ['strategy.rate=0.1, measured: num_data=5', '']
    >>> shortened([{f"evaluation.{'a' * 80}": "1", "evaluation.draws": "2"}])
    ['measured: draws=2, …']
    """
    texts = {key: brief(v for v in values if v is not None) for key, values in values_of(settings).items()}
    return [_line({key: texts[key][value] for key, value in own.items()}) for own in settings]


def _line(settings: Mapping[str, str]) -> str:
    parts = [f"{key}={value}" for key, value in settings.items() if not key.startswith(MEASUREMENT)]
    measured = {key.removeprefix(MEASUREMENT): value for key, value in settings.items() if key.startswith(MEASUREMENT)}
    kept: list[str] = []
    for key in sorted(measured, key=lambda key: key.count(".")):  # num_data says more than best.rounds
        more = [*kept, f"{key}={measured[key]}"]
        kept = more if len(", ".join(more)) <= MEASURED else kept
    cut = [CUT] if len(kept) < len(measured) else []
    return ", ".join([*parts, *(["measured: " + ", ".join([*kept, *cut])] if measured else [])])


def brief(values: Iterable[str]) -> dict[str, str]:
    """By value, how a label writes it: fractions with four digits, unless two of them would then read the same.

    >>> brief(["0.004210984673528849", "12345"]), brief(["0.123456", "0.123457"])
    ({'0.004210984673528849': '0.004211', '12345': '12345'}, {'0.123456': '0.123456', '0.123457': '0.123457'})
    """
    texts = {value: _rounded(value) for value in values}
    return texts if len(set(texts.values())) == len(texts) else {value: value for value in texts}


def _rounded(value: str) -> str:
    try:
        text = f"{float(value):.4g}" if "." in value else value
    except ValueError:
        return value
    return min(value, text, key=len)


def value_names(values: Sequence[float | str]) -> dict[float | str, str]:
    """How each value of an axis is written.

    >>> value_names([0.004210984673528849, 2])
    {0.004210984673528849: '0.004211', 2: '2'}
    """
    texts = brief(str(value) for value in values)
    return {value: texts[str(value)] for value in values}


def whole(value: Any) -> Any:
    """An integer that pandas made a float, as an integer again."""
    return int(value) if isinstance(value, float) and value.is_integer() else value
