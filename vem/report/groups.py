"""Which runs are seeds of one training: they agree in their settings, saw the same data and ran the same code.

What runs from before do not say is taken from those that agree with them in all else. A finished run can be measured
again, with other settings than its kin: it stays a seed of its group, unless a seed has several measurements.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Hashable, Iterable, Mapping, Sequence
from typing import Any

from vem.report.kin import agree, by, differing, filled, rows_of, told_once
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
Training = tuple[tuple[Hashable, ...], frozenset[tuple[str, str]]]


# --- what tells groups apart


def variants(runs: Sequence[RunRecord], tables: Sequence[str]) -> list[tuple[str, str]]:
    """What else differs between runs of one strategy, model, family and latent size on the same data.

    First what tells the groups apart: of how they were measured only what stands for the whole group
    (:func:`vem.report.kin.rows_of`). Then how the run itself was measured, where those of its training differ in it.
    """
    trained = trainings(runs, tables)
    measured = [{k: v for k, v in own_settings(run).items() if k.startswith(MEASUREMENT)} for run in runs]
    places = rows_of(trained, [frozenset(own.items()) for own in measured], seeds_of(runs))
    groups, settings = [name for name, _ in trained], [dict(own) for _, own in trained]
    telling = differing(groups, [own | measured[i] for own, i in zip(settings, places, strict=True)])
    telling = told_once(groups, telling, {key for run in runs for key in run.typed})
    return [(_text(run, own), _text(run, of))
            for run, own, of in zip(runs, telling, differing(trained, measured), strict=True)]  # fmt: skip


def trainings(runs: Sequence[RunRecord], tables: Sequence[str]) -> list[Training]:
    """What each run trained, by name and settings: runs that agree in it differ in their seed and their measurement.

    With ``train_x`` where runs that agree in it saw other data, and ``code`` where a seed was trained by several
    versions of the user's code: it must not count twice.
    """
    found: list[Training] = [
        ((table, *(str(run.facts.get(name)) for name in NAMED)),
         frozenset(pair for pair in own_settings(run).items() if not pair[0].startswith(MEASUREMENT)))
        for run, table in zip(runs, tables, strict=True)
    ]  # fmt: skip
    for key, values in (("train_x", [x_of(run).get("train") for run in runs]), ("code", list(map(code_key, runs)))):
        known = filled(values, found)
        if key == "code":
            known = [known[i] for i in rows_of(found, known, seeds_of(runs))]
        several = differing(found, [{} if value is None else {key: value} for value in known])
        found = [(name, own.union(more.items())) for (name, own), more in zip(found, several, strict=True)]
    return found


def seeds_of(runs: Iterable[RunRecord]) -> list[Any]:
    """The seed of each run."""
    return [run.facts.get("seed") for run in runs]


def own_settings(run: RunRecord) -> dict[str, str]:
    """The settings that may differ within a table: all but the data's, and the number of training data."""
    return {
        key: value
        for key, value in run.settings.items()
        if (not key.startswith("data.") or key == TRAIN_SIZE)
        and not (key.startswith(MEASUREMENT) and key.endswith(CLASSES))
    }  # which evaluation.json does not say


def _text(run: RunRecord, settings: Mapping[str, str]) -> str:
    """The settings on one line; for no limit on the training data their number."""
    size = run.facts.get("num_train")
    said = {k: " ".join(v.split()) for k, v in sorted(settings.items())}
    if said.get(TRAIN_SIZE) == "null" and size is not None:
        said[TRAIN_SIZE] = str(whole(size))
    return ", ".join(f"{k}={v}" for k, v in said.items())


# --- the same data, the same code


def with_data(runs: Sequence[RunRecord]) -> list[RunRecord]:
    """The runs with ``x``, by split a short digest that is the same wherever the data are, to rounding at least."""
    kinds: dict[str, dict[str, Mapping[str, Any]]] = {split: {} for split in SPLITS}  # name → the first entry
    known: dict[tuple[str, str], tuple[str, bool]] = {}
    out = []
    for run in runs:
        digests = mapping(run.facts.get("data_digests"))
        entries = {split: mapping(digests.get(split)) for split in SPLITS}
        told = {split: entry for split, entry in entries.items() if entry.get("shape", [1])[:1] != [0]
                and isinstance(entry.get("x"), str) and entry["x"]}  # fmt: skip
        for split, entry in told.items():
            if (split, entry["x"]) not in known:
                known[split, entry["x"]] = _kind(entry, kinds[split])
        found = {split: known[split, entry["x"]] for split, entry in told.items()}
        rounded = ", ".join(split for split, (_, rounding) in found.items() if rounding)
        notes = [*(run.facts.get("notes") or []), *([ROUNDED.format(rounded)] if rounded else [])]
        out.append(run.saying(x={split: kind for split, (kind, _) in found.items()}, notes=notes) if found else run)
    return out


def _kind(entry: Mapping[str, Any], kinds: dict[str, Mapping[str, Any]]) -> tuple[str, bool]:
    """The name of the kind that the data of a split are of, and whether they are equal to rounding alone."""
    for kind, other in kinds.items():
        if (verdict := compared(entry, other)) in ("same", "rounding"):
            return kind, verdict == "rounding"
    kinds[entry["x"][:SHOWN]] = entry
    return entry["x"][:SHOWN], False


def x_of(run: RunRecord) -> Mapping[str, str]:
    """By split the short digest of its data; empty where run.json does not say it."""
    return mapping(run.facts.get("x"))


def code_of(run: RunRecord) -> dict[str, str]:
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
    used = [(what, version, run) for run in runs for what, version in code_of(run).items()]
    found = by((what for what, *_ in used), used)
    versions = {what: by((v for _, v, _ in own), (run for *_, run in own)) for what, own in found.items()}
    return {what: own for what, own in versions.items() if len(own) > 1}


def one_run(one: RunRecord, other: RunRecord) -> bool:
    """Whether two runs of one config may be the same run: no data and no code of theirs are known to differ."""
    own, others = ({**x_of(run), "code": code_key(run)} for run in (one, other))
    return agree(own, others)
