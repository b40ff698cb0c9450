"""Which settings were swept, and the numbers of every group along them.

Candidates are the keys that were typed (overrides.yaml) and the settings that differ between configs, beyond seed and
strategy. Keys that move together are one axis under the name that was typed first. The value is read from the config,
so a run that leaves a key at its default has its place on the axis too.
"""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd

from vem.report.findings import Axis
from vem.report.frame import Framed
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
Records = tuple[RunRecord, ...]  # of a run, and of its repeats under other typed values


def axes_of(groups: pd.DataFrame, framed: Framed) -> tuple[Axis, ...]:
    """The axes of one table, in the order in which their keys were typed.

    groups: with ``label``, as :func:`vem.report.contenders.grouped` gives them.
    """
    members = [(i, framed.runs[d]) for i, found in enumerate(groups["directories"]) for d in found]
    places, runs = [i for i, _ in members], [run for _, run in members]
    records = [(run, *framed.gathered.repeats.get(run.directory, ())) for run in runs]
    typed = dict.fromkeys(key for own in records for record in own for key in record.typed)
    differ = [key for key, values in values_of([own_settings(run) for run in runs]).items() if len(values) > 1]
    further = (LATENT, *(key for key in differ if not key.endswith(CLASSES)))
    keys = [key for key in dict.fromkeys([*typed, *further]) if _counts(key, runs)]
    values = {key: _values(key, places, records) for key in keys}
    strategies = [run.facts.get("strategy") for run in runs]
    kinds = [(strategy, run.facts.get("model")) for strategy, run in zip(strategies, runs, strict=True)]

    def settles(one: str, other: str) -> bool:
        """Whether within each strategy the value of ``other`` follows from that of ``one``, where both are used."""
        columns = zip(kinds, values[one], values[other], strict=True)
        both = {(kind, a, b) for kind, a, b in columns if a is not None and b is not None}
        return bool(both) and len(both) == len({(kind, a) for kind, a, _ in both})

    alike: dict[str, list[str]] = {}  # keys that divide the runs in the same way, by the first of them
    for key in keys:
        if any(len({*own} - {None}) > 1 for own in by(strategies, values[key]).values()):
            first = next((one for one in alike if settles(one, key) and settles(key, one)), key)
            alike.setdefault(first, []).append(key)
    axes = []
    rows = plain_rows(groups)
    for key, same in alike.items():
        moved = [*same[1:], *(other for other in alike if other != key and settles(key, other))]
        # But for those that changed because it did: not typed, or a part of it.
        together = tuple(o for o in moved if (o in typed or key not in typed) and not _beneath(o, key))
        axes.append(_axis(key, dict(zip(places, values[key], strict=True)), together, rows, dict(members)))
    return tuple(axis for axis in axes if axis is not None)


def _axis(
    key: str, value: Mapping[int, Value | None], together: tuple[str, ...], rows: Sequence[Row],
    runs: Mapping[int, RunRecord],
) -> Axis | None:  # fmt: skip
    """``value``, ``runs``: of each group, by its place in ``rows``."""
    metrics = _metrics(rows)
    series = _series(value, rows, runs)
    used, unused = ([i for i in sorted(value) if (value[i] is None) is absent] for absent in (False, True))
    text = _in_order([v for i in used if (v := value[i]) is not None])
    points = [
        (series[i], text.get(value[i]), column(*metric), *point)
        for i in (*used, *unused)
        for metric in metrics
        if (point := _point(rows[i], *metric)) is not None
    ]
    if not points or len(text) < 2:
        return None
    return Axis(
        key,
        tuple(text.values()),
        numeric=all(isinstance(v, float) for v in text),
        metrics={column(*metric): title for metric, title in metrics.items()},
        points=pd.DataFrame(points, columns=POINT),
        absent=tuple(dict.fromkeys(series[i] for i in unused)),
        places={str(rows[i]["label"]): text[value[i]] for i in used},
        together=together,
    )


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


def _series(value: Mapping[int, Value | None], rows: Sequence[Row], runs: Mapping[int, RunRecord]) -> dict[int, str]:
    """A name for each group without the axis and what follows from it: those on one line have the same.

    With a number where two groups would stand at one place of one line.
    """
    settings = {i: _settings(run, rows[i]) for i, run in runs.items()}
    on_axis = [i for i in settings if value[i] is not None]
    varying = [key for key, found in values_of([settings[i] for i in on_axis]).items() if len(found) > 1]
    pairs = {key: {(value[i], settings[i].get(key)) for i in on_axis} for key in varying}
    follow = [key for key, found in pairs.items() if len(found) == len({v for v, _ in found})]
    left = [{key: v for key, v in sorted(own.items()) if key not in follow} for own in settings.values()]
    strategies = [str(rows[i]["strategy"]) for i in settings]
    texts = shortened(differing(strategies, left))
    names = [", ".join(filter(None, both)) for both in zip(strategies, texts, strict=True)]
    at = [(name, value[i]) for i, name in zip(settings, names, strict=True)]
    numbers = [at[:n].count(place) + 1 for n, place in enumerate(at)]
    return {i: name if number == 1 else f"{name} ({number})"
            for i, name, number in zip(settings, names, numbers, strict=True)}  # fmt: skip


def _settings(run: RunRecord, row: Row) -> dict[str, str]:
    """What tells a group from its kin, as far as it has it; how the group, not the run, was measured."""
    told = settings_of(row["variant"])
    own = own_settings(run) | {k: v for k, v in told.items() if k.startswith(MEASUREMENT)}
    return named(row) | {k: v for k, v in own.items() if k in told and not k.endswith(CLASSES)}


# --- which keys are axes


def _counts(key: str, runs: Sequence[RunRecord]) -> bool:
    """Whether numbers may depend on the key: hashed, a choice of a group, or a top-level value that models read."""
    if key in NOT_AN_AXIS or key.startswith(NO_AXIS_PREFIX):
        return False
    if key.startswith("data") and key != TRAIN_SIZE:
        return False  # other data: another table
    hashed = key == LATENT or key.partition(".")[0].partition("/")[0] in HASHED
    return hashed or any(key in mapping(run.config.get("choices")) for run in runs)


def _values(key: str, places: Sequence[int], records: Sequence[Records]) -> list[Value | None]:
    """The value of each run; None in all runs of a group that does not use the key.

    A run that repeats another under another value shows that it does not.
    """
    found = [{_value_of(record, key) for record in own} for own in records]
    unsized = [key == LATENT and own[0].facts.get(LATENT) is None for own in records]
    one = [None if len(own) > 1 or without else own.pop() for own, without in zip(found, unsized, strict=True)]
    unused = {i for i, value in zip(places, one, strict=True) if value is None}
    values = [None if i in unused else value for i, value in zip(places, one, strict=True)]
    if not key.startswith(MEASUREMENT):
        return values
    most = {i: Counter(own).most_common(1)[0][0] for i, own in by(places, values).items()}
    return [most[i] for i in places]  # a run that was measured again moves no group


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


def _in_order(values: Sequence[Value]) -> dict[Value | None, float | str]:
    """The different values as they are shown: numbers by size, lists by their sum (layers by their units), else text.

    >>> _in_order([10.0, 2.0]), _in_order([(200.0, 200.0), ()]), _in_order(["null", 500.0])
    ({2.0: 2, 10.0: 10}, {(): '[]', (200.0, 200.0): '[200, 200]'}, {'null': 'null', 500.0: '500'})
    """
    found: list[Any] = list(dict.fromkeys(values))
    if all(isinstance(v, float) for v in found):
        return {v: whole(v) for v in sorted(found)}
    if all(isinstance(v, tuple) for v in found):
        found.sort(key=lambda v: (sum(n for n in v if isinstance(n, float)), len(v), str(v)))
    return {v: _text(v) for v in found}


def _text(value: Value) -> str:
    if isinstance(value, tuple):
        return f"[{', '.join(map(_text, value))}]"
    return f"{value:g}" if isinstance(value, float) else str(value)
