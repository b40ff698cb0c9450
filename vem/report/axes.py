"""Which settings were swept, and the numbers of every group along them.

Candidates are the keys that were typed (overrides.yaml) and the settings that differ between configs, beyond seed and
strategy. Keys that move together are one axis under the name that was typed first. The value is read from the config,
so a run that leaves a key at its default has its place on the axis too.
"""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Hashable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import pandas as pd

from vem.report.findings import Axis
from vem.report.frame import Framed
from vem.report.gather import Gathered
from vem.report.groups import CLASSES, TRAIN_SIZE, own_settings
from vem.report.intervals import interval
from vem.report.kin import by, differing, values_of
from vem.report.labels import MEASUREMENT, named, settings_of, shortened, whole
from vem.report.quantities import GAPS, column, estimate, plain_rows
from vem.report.runs import DONE, RunRecord, finite
from vem.report.words import NATS
from vem.storage.identity import HASHED, NOT_HASHED
from vem.storage.sealing import mapping

NOT_AN_AXIS = ("seed", "strategy", *NOT_HASHED)
NO_AXIS_PREFIX = ("hydra", "evaluation.checks", "allow_targets")
LATENT = "latent_dim"  # the models that have one interpolate it
POINT = ("series", "value", "metric", "mean", "low", "high", "seeds", "at_least")
Value = float | str | tuple[Any, ...]
Row = Mapping[str, Any]


class _Run(NamedTuple):
    """A finished run: its group, its record, and with it those of its repeats under other typed values."""

    group: int
    record: RunRecord
    records: tuple[RunRecord, ...]


class _Candidate(NamedTuple):
    """An axis: its key, and the value of each run; None for all runs of a group that does not use it.

    ``typed``: whether the key was typed. ``same``: keys that divide the runs in the same way.
    """

    key: str
    values: tuple[Value | None, ...]
    typed: bool
    same: tuple[_Candidate, ...] = ()


def axes_of(groups: pd.DataFrame, framed: Framed, gathered: Gathered) -> tuple[Axis, ...]:
    """The axes of one table, in the order in which their keys were typed.

    groups: with ``label``, as :func:`vem.report.contenders.grouped` gives them.
    """
    members = [(i, framed.runs[d]) for i, found in enumerate(groups["directories"]) for d in found]
    runs = [_Run(i, run, (run, *gathered.repeats.get(run.directory, ()))) for i, run in members]
    rows = plain_rows(groups)
    found = _distinct([one for key in _keys(runs) if (one := _candidate(key, runs)) is not None], runs)
    axes = [_axis(one, [other for other in found if other is not one], rows, runs) for one in found]
    return tuple(axis for axis in axes if axis is not None)


def _axis(
    candidate: _Candidate, others: Sequence[_Candidate], rows: Sequence[Row], runs: Sequence[_Run]
) -> Axis | None:
    metrics = _metrics(rows)
    value = {run.group: v for run, v in zip(runs, candidate.values, strict=True)}
    series = _series(value, rows, {run.group: run.record for run in runs})
    used, unused = ([i for i in sorted(value) if (value[i] is None) is absent] for absent in (False, True))
    order = _ordered([value[i] for i in used])
    text = dict(zip(order, _shown(order), strict=True))
    points = [
        (series[i], text.get(value[i]), column(*metric), *point)
        for i in (*used, *unused)
        for metric in metrics
        if (point := _point(rows[i], *metric)) is not None
    ]
    if not points or len(order) < 2:
        return None
    moved = [*candidate.same, *(other for other in others if _settles(candidate, other, runs))]
    return Axis(
        candidate.key,
        tuple(text[v] for v in order),
        numeric=all(isinstance(v, float) for v in order),
        metrics={column(*metric): title for metric, title in metrics.items()},
        points=pd.DataFrame(points, columns=POINT),
        absent=tuple(dict.fromkeys(series[i] for i in unused)),
        places={str(rows[i]["label"]): text[value[i]] for i in used},
        # But for those that changed because it did: not typed, or a part of it.
        together=tuple(other.key for other in moved
                       if (other.typed or not candidate.typed) and not _beneath(other.key, candidate.key)),
    )  # fmt: skip


def _metrics(rows: Sequence[Row]) -> dict[tuple[str, str], str]:
    """The numbers that are followed along an axis, with their titles: bounds, and gaps where they were measured."""
    on_test = any(column("test", gap, field="mean") in row for row in rows for gap in GAPS.values())
    split, told = ("test", "test") if on_test else ("train", "training")
    found = {("test", "elbo"): f"test ELBO ({NATS})", ("train", "elbo"): f"training ELBO ({NATS})"}
    found |= {(split, gap): f"{kind} gap on {told} data ({NATS})" for kind, gap in GAPS.items()}
    found[split, "amortization_generalization"] = f"amortization gap, test − training ({NATS})"
    found[split, "log_marginal_lower"] = f"log p(x) (≥: lower bound), {told} data ({NATS})"
    found[split, "active_units"] = "active units (number)"
    return {key: title for key, title in found.items() if any(estimate(row, *key).mean is not None for row in rows)}


def _point(row: Row, split: str, quantity: str) -> tuple[Any, ...] | None:
    """Mean, 95 % interval and seeds of a group: over seeds (Student's t), else over the data of the one seed.

    The interval of what is known from below alone has no upper end.
    """
    found = estimate(row, split, quantity)
    if found.mean is None:
        return None
    seeds, low, high = found.over or int(row["seeds"]), found.low, found.high
    if low is None or (high is None and not found.one_sided):
        error = (found.se, seeds - 1) if found.se is not None and seeds > 1 else (found.data_se, math.inf)
        low, high = interval(found.mean, *error) or (None, None)
    return found.mean, low, None if found.one_sided else high, seeds, found.one_sided


def _beneath(key: str, other: str) -> bool:
    """Whether one key is a part of the other's choice.

    >>> _beneath("strategy.encoder.widths", "strategy/encoder"), _beneath("training.epochs", "latent_dim")
    (True, False)
    """
    return key.replace("/", ".").startswith(other.replace("/", ".")) or key == f"model.{other}"


def _series(value: Mapping[int, Value | None], rows: Sequence[Row], records: Mapping[int, RunRecord]) -> dict[int, str]:
    """A name for each group without the axis and what follows from it: those on one line have the same.

    With a number where two groups would stand at one place of one line.
    """
    settings = {i: _settings(run, rows[i]) for i, run in records.items()}
    on_axis = [i for i in settings if value[i] is not None]
    varying = [key for key, found in values_of([settings[i] for i in on_axis]).items() if len(found) > 1]
    follow = [key for key in varying if _settled((value[i] for i in on_axis), (settings[i].get(key) for i in on_axis))]
    left = [{key: v for key, v in sorted(own.items()) if key not in follow} for own in settings.values()]
    strategies = [str(rows[i]["strategy"]) for i in settings]
    texts = shortened(differing(strategies, left))
    taken: Counter[tuple[str, Any]] = Counter()
    names = {}
    for i, strategy, text in zip(settings, strategies, texts, strict=True):
        name = ", ".join(filter(None, (strategy, text)))
        taken[name, value[i]] += 1
        number = taken[name, value[i]]
        names[i] = name if number == 1 else f"{name} ({number})"
    return names


def _settings(run: RunRecord, row: Row) -> dict[str, str]:
    """What tells a group from its kin, as far as it has it; how the group, not the run, was measured."""
    told = settings_of(row["variant"])
    own = own_settings(run) | {k: v for k, v in told.items() if k.startswith(MEASUREMENT)}
    return named(row) | {k: v for k, v in own.items() if k in told and not k.endswith(CLASSES)}


# --- which keys are axes


def _keys(runs: Sequence[_Run]) -> list[str]:
    """Typed keys first, then settings that differ; those that no number depends on are left out."""
    typed = [key for run in runs for record in run.records for key in record.typed]
    settings = [own_settings(run.record) for run in runs]
    differ = [k for k, found in values_of(settings).items() if len(found) > 1 and not k.endswith(CLASSES)]
    known = [key for key in dict.fromkeys([*typed, LATENT, *differ]) if key not in NOT_AN_AXIS]
    return [key for key in known if not key.startswith(NO_AXIS_PREFIX) and _counts(key, runs)]


def _counts(key: str, runs: Sequence[_Run]) -> bool:
    """Whether numbers may depend on the key: hashed, a choice of a group, or a top-level value that models read."""
    if key.startswith("data") and key != TRAIN_SIZE:
        return False  # other data: another table
    hashed = key == LATENT or key.partition(".")[0].partition("/")[0] in HASHED
    return hashed or any(key in mapping(run.record.config.get("choices")) for run in runs)


def _candidate(key: str, runs: Sequence[_Run]) -> _Candidate | None:
    """The key as an axis; None where no strategy was run at two of its values."""
    unused = {run.group for run in runs if not _uses(run, key)}
    values = [None if run.group in unused else _value_of(run.record, key) for run in runs]
    if key.startswith(MEASUREMENT):  # one that was measured again moves no group
        most = {group: Counter(own).most_common(1)[0][0] for group, own in by((r.group for r in runs), values).items()}
        values = [most[run.group] for run in runs]
    kin = by((run.record.facts.get("strategy") for run in runs), values).values()
    if all(len({*own} - {None}) < 2 for own in kin):
        return None
    return _Candidate(key, tuple(values), any(key in record.typed for run in runs for record in run.records))


def _uses(run: _Run, key: str) -> bool:
    """Whether the run's numbers depend on the key: one that repeats it under another value shows that they do not."""
    if key == LATENT and run.record.facts.get(LATENT) is None:
        return False
    own = _value_of(run.record, key)
    return own is not None and all(_value_of(other, key) == own for other in run.records)


def _value_of(run: RunRecord, key: str) -> Value | None:
    """The value of a key in a run's config; for the size of the training set the number of data trained on."""
    fact = {TRAIN_SIZE: "num_train", LATENT: LATENT}.get(key)
    if fact is not None and run.status == DONE and (size := finite(run.facts.get(fact))) is not None:
        return size
    if key.startswith(MEASUREMENT) and key in run.settings:  # as it was measured
        try:
            return _value(json.loads(run.settings[key]))
        except ValueError:
            return run.settings[key]
    node: Any = run.config
    for name in ("choices", key) if key in mapping(run.config.get("choices")) else key.split("."):
        if not isinstance(node, Mapping) or name not in node:
            return None
        node = node[name]
    return None if isinstance(node, Mapping) else _value(node)


def _value(found: Any) -> Value:
    if isinstance(found, list | tuple):
        return tuple(_value(item) for item in found)
    if isinstance(found, bool) or found is None:
        return "null" if found is None else str(found).lower()
    return float(found) if isinstance(found, int | float) else str(found)


def _distinct(found: Sequence[_Candidate], runs: Sequence[_Run]) -> list[_Candidate]:
    """Each way of dividing the runs once, under the name that comes first."""
    kept: list[_Candidate] = []
    for one in found:
        same = (i for i, other in enumerate(kept) if _settles(other, one, runs) and _settles(one, other, runs))
        if (i := next(same, None)) is None:
            kept.append(one)
        else:
            kept[i] = kept[i]._replace(same=(*kept[i].same, one))
    return kept


def _settles(one: _Candidate, other: _Candidate, runs: Sequence[_Run]) -> bool:
    """Whether within each strategy the value of ``other`` is settled by that of ``one``, wherever both are used."""
    both = [((run.record.facts.get("strategy"), run.record.facts.get("model"), a), b)
            for run, a, b in zip(runs, one.values, other.values, strict=True) if None not in (a, b)]  # fmt: skip
    return bool(both) and _settled(*zip(*both, strict=True))


def _settled(by: Iterable[Hashable], values: Iterable[Hashable]) -> bool:
    """Whether each key has one value alone."""
    pairs = set(zip(by, values, strict=True))
    return len(pairs) == len({key for key, _ in pairs})


# --- values in order


def _ordered(values: Sequence[Any]) -> list[Any]:
    """Numbers by size, lists by their sum (layers by their units), text as it comes."""
    found = list(dict.fromkeys(values))
    if all(isinstance(v, float) for v in found):
        return sorted(found)
    if all(isinstance(v, tuple) for v in found):
        return sorted(found, key=lambda v: (sum(n for n in v if isinstance(n, float)), len(v), str(v)))
    return found


def _shown(values: Sequence[Any]) -> list[float | str]:
    """Numbers as they are, all else as text.

    >>> _shown([2.0, 10.0]), _shown([(), (200.0, 200.0)]), _shown(["null", 500.0])
    ([2, 10], ['[]', '[200, 200]'], ['null', '500'])
    """
    return [whole(v) for v in values] if all(isinstance(v, float) for v in values) else [_text(v) for v in values]


def _text(value: Any) -> str:
    if isinstance(value, tuple):
        return f"[{', '.join(map(_text, value))}]"
    return f"{value:g}" if isinstance(value, float) else str(value)
