"""Which runs saw the same data, and were made by the same code, by what run.json says of both.

A run from before says nothing of it: it goes with those that agree with it in all else, as long as these are of one
kind.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Hashable, Mapping, Sequence
from typing import Any

from vem.report.runs import RunRecord
from vem.storage.records import SPLITS
from vem.storage.same_data import compared
from vem.storage.sealing import mapping

SHOWN = 8  # hex digits of a digest
ROUNDED = "x ({}) equals that of other runs here to rounding alone, as when it is computed on another processor"


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


def one_run(one: RunRecord, other: RunRecord) -> bool:
    """Whether two runs of one config may be the same run: no data and no code of theirs are known to differ."""
    own, others = x_of(one), x_of(other)
    if any(own[split] != others[split] for split in own if split in others):
        return False
    codes = {code_key(one), code_key(other)}
    return len(codes) == 1 or None in codes


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
