"""Which runs are seeds of one training: they agree in their settings, saw the same data and ran the same code.

What run.json does not say, as in runs from before, is taken from runs that agree with it in all else, as long as these
are of one kind. A finished run can be measured again, with other settings than its kin: it stays a seed of its group,
unless a seed has several measurements.
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Collection, Hashable, Iterable, Mapping, Sequence
from fractions import Fraction
from typing import Any

from vem.report.labels import MEASUREMENT, whole
from vem.report.runs import RunRecord
from vem.storage.records import SPLITS
from vem.storage.same_data import compared
from vem.storage.sealing import mapping

TRAIN_SIZE = "data.max_train"  # the one setting of the data that an axis may run over
NAMED = ("strategy", "model", "family", "latent_dim")  # facts that a group is named by
SHOWN = 8  # hex digits of a digest
ROUNDED = "x ({}) equals that of other runs here to rounding alone, as when it is computed on another processor"
CLASSES = ("._target_", "._partial_")
TWO_VALUED = {"true", "false", "null"}  # in which settings agree by chance
Settings = Sequence[Mapping[str, str]]


# --- what tells groups apart


def variants(runs: Sequence[RunRecord], tables: Sequence[str]) -> list[tuple[str, str]]:
    """What else differs between runs of one strategy, model, family and latent size on the same data.

    First what tells the groups apart: of how they were measured only what stands for the whole group
    (:func:`rows_of`). Then how the run itself was measured, where those of its training differ in it.
    """
    groups, trained = _trained(runs, tables)
    measured = [{k: v for k, v in own_settings(run).items() if k.startswith(MEASUREMENT)} for run in runs]
    kin = _frozen(groups, trained)
    places = rows_of(kin, [frozenset(own.items()) for own in measured], _seeds(runs))
    telling = differing(groups, [own | measured[i] for own, i in zip(trained, places, strict=True)])
    telling = told_once(groups, telling, {key for run in runs for key in run.typed})
    return [(_text(run, own), _text(run, of))
            for run, own, of in zip(runs, telling, differing(kin, measured), strict=True)]  # fmt: skip


def trainings(runs: Sequence[RunRecord], tables: Sequence[str]) -> list[Hashable]:
    """What each run trained: runs of a table that agree in it differ in their seed and in how they were measured."""
    return _frozen(*_trained(runs, tables))


def _frozen(groups: Sequence[Hashable], trained: Settings) -> list[Hashable]:
    return [(g, frozenset(own.items())) for g, own in zip(groups, trained, strict=True)]


def _seeds(runs: Sequence[RunRecord]) -> list[Any]:
    return [run.facts.get("seed") for run in runs]


def _trained(runs: Sequence[RunRecord], tables: Sequence[str]) -> tuple[list[Hashable], list[dict[str, str]]]:
    """What runs are named by, and the settings of their training beside it.

    With ``train_x`` where runs that agree in it saw other data, and ``code`` where a seed was trained by several
    versions of the user's code: it must not count twice.
    """
    groups: list[Hashable] = [(t, *(str(r.facts.get(k)) for k in NAMED)) for t, r in zip(tables, runs, strict=True)]
    trained = [{k: v for k, v in own_settings(run).items() if not k.startswith(MEASUREMENT)} for run in runs]
    for key, values in (("train_x", [x_of(run).get("train") for run in runs]), ("code", [code_key(r) for r in runs])):
        kin = _frozen(groups, trained)
        known = filled(values, kin)
        if key == "code":
            known = [known[i] for i in rows_of(kin, known, _seeds(runs))]
        several = differing(kin, [{} if value is None else {key: str(value)} for value in known])
        trained = [own | more for own, more in zip(trained, several, strict=True)]
    return groups, trained


def own_settings(run: RunRecord) -> dict[str, str]:
    """The settings that may differ within a table: all but the data's, and the number of training data.

    What class holds the evaluation's settings is left out: evaluation.json does not say it, so that measured runs
    would be told from those that are not.
    """
    return {key: value for key, value in run.settings.items()
            if (not key.startswith("data.") or key == TRAIN_SIZE)
            and not (key.startswith(MEASUREMENT) and key.endswith(CLASSES))}  # fmt: skip


def _text(run: RunRecord, settings: Mapping[str, str]) -> str:
    """The settings on one line; for no limit on the training data their number."""
    size = run.facts.get("num_train")
    said = {k: " ".join(v.split()) for k, v in sorted(settings.items())}
    if said.get(TRAIN_SIZE) == "null" and size is not None:
        said[TRAIN_SIZE] = str(whole(size))
    return ", ".join(f"{k}={v}" for k, v in said.items())


def differing(groups: Sequence[Hashable], settings: Settings) -> list[dict[str, str]]:
    """For each run, its settings that are not the same in all runs of its group.

    >>> differing(["a", "a", "b"], [{"k": "1", "m": "1"}, {"k": "2", "m": "1"}, {"k": "3", "m": "1"}])
    [{'k': '1'}, {'k': '2'}, {}]
    """
    sizes = Counter(groups)
    holders: dict[Hashable, Counter[tuple[str, str]]] = {}
    for group, own in zip(groups, settings, strict=True):
        holders.setdefault(group, Counter()).update(own.items())
    return [{k: v for k, v in own.items() if holders[group][k, v] < sizes[group]}
            for group, own in zip(groups, settings, strict=True)]  # fmt: skip


def told_once(groups: Sequence[Hashable], settings: Settings, typed: Collection[str]) -> list[dict[str, str]]:
    """The settings less those that have the value of another one in every run of their group.

    So one value under several keys, because one interpolates the other, is told once. What was typed stays; else the
    key nearest to the top does.

    >>> told_once(["a", "a"], [{"k.rate": "1", "s.o.lr": "1"}, {"k.rate": "2", "s.o.lr": "2"}], ())
    [{'k.rate': '1'}, {'k.rate': '2'}]
    """
    members: dict[Hashable, list[Mapping[str, str]]] = {}
    for group, own in zip(groups, settings, strict=True):
        members.setdefault(group, []).append(own)
    superfluous = {group: _superfluous(found, typed) for group, found in members.items()}
    return [{k: v for k, v in own.items() if k not in superfluous[group]}
            for group, own in zip(groups, settings, strict=True)]  # fmt: skip


def _superfluous(found: Settings, typed: Collection[str]) -> set[str]:
    alike: dict[tuple[str | None, ...], list[str]] = {}
    for key in dict.fromkeys(key for own in found for key in own):
        alike.setdefault(tuple(own.get(key) for own in found), []).append(key)
    out: set[str] = set()
    for values, same in alike.items():
        own = [key for key in same if key in typed]
        if len(same) > 1 and (own or not {str(value).lower() for value in values} & TWO_VALUED):
            out |= set(same) - set(own or [min(same, key=lambda key: (key.count("."), key))])
    return out


# --- which measurements share a row of a table


def rows_of(trainings: Sequence[Hashable], measurements: Sequence[Hashable], seeds: Sequence[Any]) -> list[int]:
    """For each run the place of the run whose measurement stands for its row of the table.

    The measurements of one training share a row unless a seed has several of them; that of the most seeds comes first.

    >>> rows_of(["a"] * 3, ["quick", "quick", "gaps"], [0, 1, 2])  # one seed was measured again
    [0, 0, 0]
    >>> rows_of(["a"] * 4, ["few", "few", "many", "many"], [0, 1, 0, 1])  # each seed was measured twice
    [0, 0, 2, 2]
    """
    classes: dict[Hashable, dict[Hashable, list[int]]] = {}
    for i, (training, measurement) in enumerate(zip(trainings, measurements, strict=True)):
        classes.setdefault(training, {}).setdefault(measurement, []).append(i)
    out = [0] * len(trainings)
    for own in classes.values():
        taken: dict[int, set[Any]] = {}
        for members in sorted(own.values(), key=lambda same: -len({seeds[i] for i in same})):
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
    sets: dict[int, Counter[int]] = {}
    size_of: Counter[int] = Counter()
    for unit, place, size in zip(units, places, sizes, strict=True):
        sets.setdefault(unit, Counter()).update([place] if size else [])
        size_of[place] = size or size_of[place]
    votes: dict[int, Fraction] = {}
    for held in sets.values():
        for place, number in held.items():
            votes[place] = votes.get(place, Fraction(0)) + Fraction(number, held.total())
    chosen = {unit: max(own, key=lambda p: (votes[p], size_of[p]), default=None) for unit, own in sets.items()}
    return [place if (own := chosen[unit]) is None else own for unit, place in zip(units, places, strict=True)]


# --- the same data, the same code


def with_data(runs: Sequence[RunRecord]) -> list[RunRecord]:
    """The runs with ``x``, by split a short digest that is the same wherever the data are, to rounding at least."""
    kinds: dict[str, list[tuple[Mapping[str, Any], str]]] = {split: [] for split in SPLITS}
    known: dict[tuple[str, str], tuple[str, bool]] = {}
    out = []
    for run in runs:
        found, rounded = {}, []
        for split in SPLITS:
            entry = mapping(mapping(run.facts.get("data_digests")).get(split))
            digest = entry.get("x")
            if not isinstance(digest, str) or not digest or entry.get("shape", [1])[:1] == [0]:
                continue
            if (split, digest) not in known:
                known[split, digest] = _kind(entry, kinds[split])
            found[split], other = known[split, digest]
            rounded += [split] if other else []
        notes = [*(run.facts.get("notes") or []), *([ROUNDED.format(", ".join(rounded))] if rounded else [])]
        out.append(run.saying(x=found, notes=notes) if found else run)
    return out


def _kind(entry: Mapping[str, Any], kinds: list[tuple[Mapping[str, Any], str]]) -> tuple[str, bool]:
    """The name of the kind that the data of a split are of, and whether they are equal to rounding alone."""
    for other, kind in kinds:
        if (verdict := compared(entry, other)) in ("same", "rounding"):
            return kind, verdict == "rounding"
    kinds.append((entry, entry["x"][:SHOWN]))
    return kinds[-1][1], False


def x_of(run: RunRecord) -> Mapping[str, str]:
    """By split the short digest of its data; empty where run.json does not say it."""
    return mapping(run.facts.get("x"))


def code_of(run: RunRecord) -> Mapping[str, str]:
    """The user's own modules that a run used, each with a hash of its source, and packages with their versions."""
    said = mapping(run.facts.get("code"))
    return {str(k): str(v) for part in ("modules", "packages") for k, v in mapping(said.get(part)).items()}


def code_key(run: RunRecord) -> str | None:
    """A short hash of that code; None where run.json does not say what it was."""
    if not isinstance(run.facts.get("code"), Mapping):
        return None
    return hashlib.sha256(json.dumps(code_of(run), sort_keys=True).encode()).hexdigest()[:SHOWN]


def differing_code(runs: Iterable[RunRecord]) -> dict[str, dict[str, list[RunRecord]]]:
    """The modules and packages that runs have in different versions: by name and version those runs."""
    found: dict[str, dict[str, list[RunRecord]]] = {}
    for run in runs:
        for what, version in code_of(run).items():
            found.setdefault(what, {}).setdefault(version, []).append(run)
    return {what: versions for what, versions in found.items() if len(versions) > 1}


def one_run(one: RunRecord, other: RunRecord) -> bool:
    """Whether two runs of one config may be the same run: no data and no code of theirs are known to differ."""
    own, others = x_of(one), x_of(other)
    codes = {code_key(one), code_key(other)}
    return all(own[split] == others[split] for split in own if split in others) and (len(codes) == 1 or None in codes)


def filled(values: Sequence[Hashable | None], kin: Sequence[Hashable]) -> list[Hashable | None]:
    """The values; a missing one is that of its kin, where these have one alone.

    >>> filled(["a", None, "a", "b", None], [1, 1, 1, 2, 3]), filled(["a", None, "b"], [1, 1, 1])
    (['a', 'a', 'a', 'b', None], ['a', None, 'b'])
    """
    seen: dict[Hashable, set[Hashable]] = {}
    for value, own in zip(values, kin, strict=True):
        if value is not None:
            seen.setdefault(own, set()).add(value)
    only = {own: next(iter(found)) for own, found in seen.items() if len(found) == 1}
    return [only.get(own) if value is None else value for value, own in zip(values, kin, strict=True)]
