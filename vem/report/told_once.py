"""One value under several keys, because one interpolates the other, is told once in a label."""

from __future__ import annotations

from collections.abc import Collection, Hashable, Mapping, Sequence

TWO_VALUED = {"true", "false", "null"}  # in which settings agree by chance


def told_once(
    groups: Sequence[Hashable], settings: Sequence[Mapping[str, str]], typed: Collection[str]
) -> list[dict[str, str]]:
    """The settings less those that have the value of another one in every run of their group.

    What was typed stays; else the key nearest to the top does.

    >>> told_once(["a", "a"], [{"k.rate": "1", "s.o.lr": "1"}, {"k.rate": "2", "s.o.lr": "2"}], ())
    [{'k.rate': '1'}, {'k.rate': '2'}]
    """
    members: dict[Hashable, list[Mapping[str, str]]] = {}
    for group, own in zip(groups, settings, strict=True):
        members.setdefault(group, []).append(own)
    superfluous = {group: _superfluous(found, typed) for group, found in members.items()}
    return [{k: v for k, v in own.items() if k not in superfluous[group]}
            for group, own in zip(groups, settings, strict=True)]  # fmt: skip


def _superfluous(found: Sequence[Mapping[str, str]], typed: Collection[str]) -> set[str]:
    keys = dict.fromkeys(key for own in found for key in own)
    alike: dict[tuple[str | None, ...], list[str]] = {}
    for key in keys:
        alike.setdefault(tuple(own.get(key) for own in found), []).append(key)
    out: set[str] = set()
    for values, same in alike.items():
        own = [key for key in same if key in typed]
        if len(same) > 1 and (own or not {str(value).lower() for value in values} & TWO_VALUED):
            out |= set(same) - set(own or [min(same, key=lambda key: (key.count("."), key))])
    return out
