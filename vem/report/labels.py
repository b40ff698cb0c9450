"""Short names: of the groups of one table, of their settings, and of the values of an axis."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import Any

import pandas as pd

from vem.report.quantities import plain_rows

# Runs that are equal in all of these differ in their seed alone.
GROUP = ("table", "strategy", "model", "family", "latent_dim", "variant")
MEASUREMENT = "evaluation."  # settings that say how a trained model was measured
MEASURED = 60  # characters of the evaluation's settings that a label has room for
CUT = "…"  # in a label, for settings left out


def labels(groups: pd.DataFrame) -> list[str]:
    """A short name for each group of one table: its strategy, and what tells it from its kin."""
    rows = plain_rows(groups[list(GROUP)])
    names = []
    for row in rows:
        kin = [other for other in rows if other["strategy"] == row["strategy"]]
        telling = [key for key in ("model", "family", "latent_dim") if len({other[key] for other in kin}) > 1]
        facts = [f"{key}={whole(row[key])}" for key in telling if row[key] is not None]
        names.append(", ".join([str(row["strategy"]), *facts]))
    short = short_variants([row["variant"] or "" for row in rows])
    return [", ".join(filter(None, both)) for both in zip(names, short, strict=True)]


def settings_of(text: str | None) -> list[str]:
    """The settings of a variant.

    >>> settings_of("evaluation.draws=10, strategy.rate=0.1"), settings_of(None)
    (['evaluation.draws=10', 'strategy.rate=0.1'], [])
    """
    return re.split(r", (?=[\w.]+=)", text) if text else []


def training_of(variant: str | None) -> str:
    """A variant less its evaluation settings: groups that agree in it differ in their measurement alone.

    >>> training_of("evaluation.draws=10, strategy.rate=0.1"), training_of("")
    ('strategy.rate=0.1', '')
    """
    return ", ".join(s for s in settings_of(variant) if not s.startswith(MEASUREMENT))


def short_variants(found: Sequence[str]) -> list[str]:
    """The variants of one table with their evaluation settings cut short, and still told apart.

    >>> short_variants(["evaluation.num_data=5, strategy.rate=0.1", ""])
    ['strategy.rate=0.1, measured: num_data=5', '']
    >>> short_variants([f"evaluation.{'a' * 80}=1, evaluation.draws={n}" for n in (1, 2)])
    ['measured: draws=1, …', 'measured: draws=2, …']
    """
    settings = [[tuple(s.partition("=")[::2]) for s in settings_of(variant)] for variant in found]
    known: dict[str, list[str]] = {}
    for key, value in (pair for own in settings for pair in own):
        known.setdefault(key, []).append(value)
    texts = {key: brief(values) for key, values in known.items()}
    short = [shortened(", ".join(f"{key}={texts[key][value]}" for key, value in own)) for own in settings]
    out = []
    for variant, text in zip(found, short, strict=True):
        same = list(dict.fromkeys(v for v, s in zip(found, short, strict=True) if s == text))
        out.append(f"{text} ({same.index(variant) + 1})" if len(same) > 1 else text)
    return out


def shortened(variant: str) -> str:
    """A variant with its evaluation settings behind the others, as many of them as a label has room for."""
    settings = settings_of(variant)
    measured = [s.removeprefix(MEASUREMENT) for s in settings if s.startswith(MEASUREMENT)]
    parts = [s for s in settings if not s.startswith(MEASUREMENT)]
    if measured:
        measured.sort(key=lambda s: s.partition("=")[0].count("."))  # num_data says more than best.rounds
        kept: list[str] = []
        for setting in measured:
            kept += [setting] if len(", ".join([*kept, setting])) <= MEASURED else []
        parts.append("measured: " + ", ".join([*kept, *([CUT] if len(kept) < len(measured) else [])]))
    return ", ".join(parts)


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
    return text if len(text) < len(value) else value


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
