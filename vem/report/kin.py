"""What differs, and what is missing, among runs that have a key in common: lists that hold an entry for each run."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Hashable, Iterable, Mapping, Sequence
from fractions import Fraction
from typing import Any, TypeVar

TWO_VALUED = {"true", "false", "null"}  # in which settings agree by chance
Settings = Sequence[Mapping[str, str]]
Key = TypeVar("Key", bound=Hashable)
Item = TypeVar("Item")


def by(keys: Iterable[Key], items: Iterable[Item]) -> dict[Key, list[Item]]:
    """The items of each key, in order of appearance.

    >>> by("aba", [1, 2, 3])
    {'a': [1, 3], 'b': [2]}
    """
    out: dict[Key, list[Item]] = {}
    for key, item in zip(keys, items, strict=True):
        out.setdefault(key, []).append(item)
    return out


def agree(one: Mapping[Any, Any], other: Mapping[Any, Any]) -> bool:
    """Whether nothing differs that both of them know.

    >>> agree({"data": "digits"}, {"data": "digits", "n": 5}), agree({"n": None}, {"n": 5}), agree({"n": 4}, {"n": 5})
    (True, True, False)
    """
    return all(other.get(key) in (None, value) for key, value in one.items() if value is not None)


def differing(groups: Sequence[Hashable], settings: Settings) -> list[dict[str, str]]:
    """For each run, its settings that are not the same in all runs of its group.

    >>> differing(["a", "a", "b"], [{"k": "1", "m": "1"}, {"k": "2", "m": "1"}, {"k": "3", "m": "1"}])
    [{'k': '1'}, {'k': '2'}, {}]
    """
    sizes = Counter(groups)
    held = Counter((group, *pair) for group, own in zip(groups, settings, strict=True) for pair in own.items())
    return [{k: v for k, v in own.items() if held[group, k, v] < sizes[group]}
            for group, own in zip(groups, settings, strict=True)]  # fmt: skip


def values_of(settings: Settings) -> dict[str, list[str | None]]:
    """By key its different values, in order of appearance; None is that of those which lack it.

    >>> values_of([{"k": "1"}, {"k": "1", "m": "2"}])
    {'k': ['1'], 'm': [None, '2']}
    """
    keys = dict.fromkeys(key for own in settings for key in own)
    return {key: list(dict.fromkeys(own.get(key) for own in settings)) for key in keys}


def told_once(groups: Sequence[Hashable], settings: Settings, typed: Collection[str]) -> list[dict[str, str]]:
    """The settings less those that have the value of another one in every run of their group.

    So one value under several keys, because one interpolates the other, is told once. What was typed stays; else the
    key nearest to the top does.

    >>> told_once(["a", "a"], [{"k.rate": "1", "s.o.lr": "1"}, {"k.rate": "2", "s.o.lr": "2"}], ())
    [{'k.rate': '1'}, {'k.rate': '2'}]
    """
    superfluous = {group: _superfluous(found, typed) for group, found in by(groups, settings).items()}
    return [{k: v for k, v in own.items() if k not in superfluous[group]}
            for group, own in zip(groups, settings, strict=True)]  # fmt: skip


def _superfluous(found: Settings, typed: Collection[str]) -> set[str]:
    keys = dict.fromkeys(key for own in found for key in own)
    out: set[str] = set()
    for values, same in by((tuple(own.get(key) for own in found) for key in keys), keys).items():
        own = [key for key in same if key in typed]
        if len(same) > 1 and (own or not {str(value).lower() for value in values} & TWO_VALUED):
            out |= set(same) - set(own or [min(same, key=lambda key: (key.count("."), key))])
    return out


def filled(values: Sequence[Any], kin: Sequence[Hashable], first: bool = False) -> list[Any]:
    """The values; a missing one is that of its kin, where these have one alone, or with ``first`` their first.

    >>> filled(["a", None, "a", "b", None], [1, 1, 1, 2, 3]), filled(["a", None, "b"], [1, 1, 1])
    (['a', 'a', 'a', 'b', None], ['a', None, 'b'])
    >>> filled(["a", None, "b"], [1, 1, 1], first=True)
    ['a', 'a', 'b']
    """
    known = {own: [v for v in dict.fromkeys(found) if v is not None] for own, found in by(kin, values).items()}
    told = {own: found[0] for own, found in known.items() if len(found) == 1 or (first and found)}
    return [told.get(own) if value is None else value for value, own in zip(values, kin, strict=True)]


# --- which measurements share a row of a table


def rows_of(trainings: Sequence[Hashable], measurements: Sequence[Hashable], seeds: Sequence[Any]) -> list[int]:
    """For each run the place of the run whose measurement stands for its row of the table.

    The measurements of one training share a row unless a seed has several of them; that of the most seeds comes first.

    >>> rows_of(["a"] * 3, ["quick", "quick", "gaps"], [0, 1, 2])  # one seed was measured again
    [0, 0, 0]
    >>> rows_of(["a"] * 4, ["few", "few", "many", "many"], [0, 1, 0, 1])  # each seed was measured twice
    [0, 0, 2, 2]
    """
    out = [0] * len(trainings)
    for runs in by(trainings, range(len(trainings))).values():
        taken: dict[int, set[Any]] = {}
        classes = by((measurements[i] for i in runs), runs).values()
        for members in sorted(classes, key=lambda same: -len({seeds[i] for i in same})):
            these = {seeds[i] for i in members}
            row = next((first for first, held in taken.items() if not held & these), members[0])
            taken.setdefault(row, set()).update(these)
            for i in members:
                out[i] = row
    return out


def rows_of_tables(
    trainings: Sequence[Hashable], places: Sequence[int], sizes: Sequence[int], seeds: Sequence[Any]
) -> list[int]:
    """For each run on one data set the set of rows that its table is about.

    A training whose seeds were evaluated on several sets stays in one table, unless a seed has several of them: that
    about the set that most trainings share, each counted by the part of its seeds that has it, else the larger one.

    places: which set of rows each run was evaluated on; sizes: how many rows it was, 0 where it was not.

    >>> rows_of_tables("aaabbb", [0, 0, 1, 0, 0, 0], [9, 9, 5, 9, 9, 9], [0, 1, 2] * 2)  # one seed was measured again
    [0, 0, 0, 0, 0, 0]
    >>> rows_of_tables("aabb", [0, 1, 0, 1], [9, 5, 9, 5], [0, 0, 0, 0])  # each seed was measured on both
    [0, 1, 0, 1]
    """
    units = rows_of(trainings, places, seeds)
    evaluated = [(unit, place, size) for unit, place, size in zip(units, places, sizes, strict=True) if size]
    size_of = {place: size for _, place, size in evaluated}
    votes: dict[int, Fraction] = dict.fromkeys(size_of, Fraction(0))
    held = by((unit for unit, *_ in evaluated), (place for _, place, _ in evaluated))
    for own in held.values():
        for place in own:
            votes[place] += Fraction(1, len(own))
    chosen = {unit: max(dict.fromkeys(own), key=lambda p: (votes[p], size_of[p])) for unit, own in held.items()}
    return [chosen.get(unit, place) for unit, place in zip(units, places, strict=True)]
