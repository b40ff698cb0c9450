"""Which settings were swept: the keys beyond seed and strategy whose values differ between runs.

Candidates are the keys that were typed (overrides.yaml) and the settings that differ between configs. Keys that
move together are one axis under the name that was typed first. The value is read from the config, so a run that
leaves a key at its default has its place on the axis too.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import pandas as pd

from vem.report.frame import Framed
from vem.report.gather import Gathered
from vem.report.groups import TRAIN_SIZE
from vem.report.labels import MEASUREMENT, whole
from vem.report.runs import DONE, RunRecord, finite
from vem.storage.records import HASHED, NOT_HASHED
from vem.storage.sealing import mapping

NOT_AN_AXIS = ("seed", "strategy", *NOT_HASHED)
NO_AXIS_PREFIX = ("hydra", "evaluation.checks", "allow_targets")
LATENT = "latent_dim"  # the models that have one interpolate it
Value = float | str | tuple[Any, ...]


class GroupRun(NamedTuple):
    """A finished run: its group, its record, and those of its repeats under other typed values."""

    group: int
    record: RunRecord
    repeats: tuple[RunRecord, ...]


class Candidate(NamedTuple):
    """An axis: its key, the value of each run (None: it does not use it), and the groups that do not use it.

    ``typed``: whether the key was typed. ``same``: keys that divide the runs in the same way.
    """

    key: str
    values: tuple[Value | None, ...]
    unused: frozenset[int]
    typed: bool
    same: tuple[Candidate, ...] = ()


def runs_of(groups: pd.DataFrame, framed: Framed, gathered: Gathered) -> list[GroupRun]:
    """The finished runs of a table, group by group."""
    return [
        GroupRun(i, framed.runs[d], gathered.repeats.get(framed.runs[d].directory, ()))
        for i, found in enumerate(groups["directories"])
        for d in found
    ]


def candidates(runs: Sequence[GroupRun]) -> list[Candidate]:
    """The axes of these runs, in the order in which their keys were typed."""
    return _distinct([found for key in _keys(runs) if (found := _candidate(key, runs)) is not None], runs)


def _keys(runs: Sequence[GroupRun]) -> list[str]:
    """Typed keys first, then settings that differ; those that no number depends on are left out."""
    typed = [key for run in runs for record in (run.record, *run.repeats) for key in record.typed]
    varying: dict[str, set[str]] = {}
    for run in runs:
        for key, value in run.record.settings.items():
            varying.setdefault(key, set()).add(value)
    settings = [k for k, found in varying.items() if len(found) > 1 and not k.endswith(("._target_", "._partial_"))]
    settings = [k for k in settings if not k.startswith("data.") or k == TRAIN_SIZE]
    known = [key for key in dict.fromkeys([*typed, LATENT, *settings]) if key not in NOT_AN_AXIS]
    return [key for key in known if not key.startswith(NO_AXIS_PREFIX) and _counts(key, runs)]


def _counts(key: str, runs: Sequence[GroupRun]) -> bool:
    """Whether numbers may depend on the key: hashed, a choice of a group, or a top-level value that models read."""
    head = key.partition(".")[0].partition("/")[0]
    if key == LATENT:
        return True
    if key.startswith("data") and key != TRAIN_SIZE:
        return False  # other data: another table
    return head in HASHED or any(key in mapping(run.record.config.get("choices")) for run in runs)


def _candidate(key: str, runs: Sequence[GroupRun]) -> Candidate | None:
    """The key as an axis; None where no strategy was run at two of its values."""
    unused = frozenset(run.group for run in runs if not _uses(run, key))
    typed = any(key in record.typed for run in runs for record in (run.record, *run.repeats))
    values = tuple(None if run.group in unused else value_of(run.record, key) for run in runs)
    if key.startswith(MEASUREMENT):  # one that was measured again moves no group
        own = {
            i: Counter(v for run, v in zip(runs, values, strict=True) if run.group == i)
            for i in {r.group for r in runs}
        }
        values = tuple(own[run.group].most_common(1)[0][0] for run in runs)
    kin: dict[Any, set[Any]] = {}
    for run, value in zip(runs, values, strict=True):
        if value is not None:
            kin.setdefault(run.record.facts.get("strategy"), set()).add(value)
    return Candidate(key, values, unused, typed) if any(len(found) > 1 for found in kin.values()) else None


def _uses(run: GroupRun, key: str) -> bool:
    """Whether the run's numbers depend on the key: one that repeats it under another value shows that they do not."""
    if key == LATENT and run.record.facts.get(LATENT) is None:
        return False
    own = value_of(run.record, key)
    return own is not None and all(value_of(other, key) == own for other in run.repeats)


def value_of(run: RunRecord, key: str) -> Value | None:
    """The value of a key in a run's config; for the size of the training set the number of data trained on."""
    fact = {TRAIN_SIZE: "num_train", LATENT: LATENT}.get(key)
    if fact is not None and run.status == DONE and (size := finite(run.facts.get(fact))) is not None:
        return size
    if key.startswith("evaluation.") and key in run.settings:
        return _value(_parsed(run.settings[key]))  # as it was measured
    choices = mapping(run.config.get("choices"))
    if key in choices:
        return _value(choices[key])
    node: Any = run.config
    for name in key.split("."):
        if not isinstance(node, Mapping) or name not in node:
            return None
        node = node[name]
    return None if isinstance(node, Mapping) else _value(node)


def _parsed(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        return text


def _value(found: Any) -> Value:
    if isinstance(found, list | tuple):
        return tuple(_value(item) for item in found)
    if isinstance(found, bool) or found is None:
        return "null" if found is None else str(found).lower()
    return float(found) if isinstance(found, int | float) else str(found)


def _distinct(found: Sequence[Candidate], runs: Sequence[GroupRun]) -> list[Candidate]:
    """Each way of dividing the runs once, under the name that comes first."""
    kept: list[Candidate] = []
    for candidate in found:
        for i, other in enumerate(kept):
            if follows(candidate, other, runs) and follows(other, candidate, runs):
                kept[i] = other._replace(same=(*other.same, candidate))
                break
        else:
            kept.append(candidate)
    return kept


def follows(one: Candidate, other: Candidate, runs: Sequence[GroupRun]) -> bool:
    """Whether within each strategy the value of ``one`` is settled by that of ``other``, wherever both are used."""
    seen: dict[Any, Value] = {}
    for run, a, b in zip(runs, one.values, other.values, strict=True):
        if a is not None and b is not None:
            place = run.record.facts.get("strategy"), run.record.facts.get("model"), b
            if seen.setdefault(place, a) != a:
                return False
    return bool(seen)


# --- values in order


def ordered(values: Sequence[Any]) -> list[Any]:
    """Numbers by size, lists by their sum (layers by their units), text as it comes."""
    found = list(dict.fromkeys(values))
    if all(isinstance(v, float) for v in found):
        return sorted(found)
    if all(isinstance(v, tuple) for v in found):
        return sorted(found, key=lambda v: (sum(n for n in v if isinstance(n, float)), len(v), str(v)))
    return found


def shown(values: Sequence[Any]) -> list[float | str]:
    """Numbers as they are, all else as text.

    >>> shown([2.0, 10.0]), shown([(), (200.0, 200.0)]), shown(["null", 500.0])
    ([2, 10], ['[]', '[200, 200]'], ['null', '500'])
    """
    if all(isinstance(v, float) for v in values):
        return [whole(v) for v in values]
    return [_text(v) for v in values]


def _text(value: Any) -> str:
    if isinstance(value, tuple):
        return f"[{', '.join(_text(item) for item in value)}]"
    return f"{value:g}" if isinstance(value, float) else str(value)
