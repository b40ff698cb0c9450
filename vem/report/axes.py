"""How each swept axis matters: the numbers of every group along it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd
from scipy.special import ndtri, stdtrit

from vem.report.estimates import GAPS, GENERALIZATION
from vem.report.findings import Axis
from vem.report.frame import Framed
from vem.report.gather import Gathered
from vem.report.groups import TRAIN_SIZE
from vem.report.intervals import LEVEL
from vem.report.labels import GROUP, MEASUREMENT, brief, settings_of, shortened, whole
from vem.report.quantities import present
from vem.report.swept import Candidate, GroupRun, candidates, follows, ordered, runs_of, shown

UNITS = "nats per datum"


def axes_of(groups: pd.DataFrame, framed: Framed, gathered: Gathered) -> tuple[Axis, ...]:
    """The axes of one table, in the order in which their keys were typed.

    groups: with ``label``, as :func:`vem.report.contenders.grouped` gives them.
    """
    runs = runs_of(groups, framed, gathered)
    found = candidates(runs)
    axes = [_axis(one, [other for other in found if other is not one], groups, runs) for one in found]
    return tuple(axis for axis in axes if axis is not None)


def _axis(
    candidate: Candidate, others: Sequence[Candidate], groups: pd.DataFrame, runs: Sequence[GroupRun]
) -> Axis | None:
    metrics = metrics_of(groups)
    rows = [{str(k): present(v) for k, v in row.items()} for row in groups.to_dict("records")]
    value = {run.group: v for run, v in zip(runs, candidate.values, strict=True)}
    series = _series(candidate, groups, runs)
    used = [i for i in range(len(rows)) if value.get(i) is not None]
    order = ordered([value[i] for i in used])
    text = dict(zip(order, shown(order), strict=True))
    points = [
        {"series": series[i], "value": text.get(value.get(i)), "metric": metric, **point}
        for i in (*used, *sorted(candidate.unused & set(value)))
        for metric in metrics
        if (point := _point(rows[i], metric)) is not None
    ]
    if not points or len(order) < 2:
        return None
    frame = pd.DataFrame(points, columns=["series", "value", "metric", "mean", "low", "high", "seeds", "at_least"])
    absent = tuple(dict.fromkeys(series[i] for i in sorted(candidate.unused & set(value))))
    numeric = all(isinstance(v, float) for v in order)
    together = _together(candidate, [o for o in others if follows(o, candidate, runs)])
    places = {str(rows[i]["label"]): text[value[i]] for i in used}
    return Axis(candidate.key, tuple(text[v] for v in order), numeric, metrics, frame, absent, places, together)


def _together(candidate: Candidate, followers: Sequence[Candidate]) -> tuple[str, ...]:
    """The keys that changed with this one, but for those that changed because it did: not typed, or a part of it."""
    moved = [other for other in (*candidate.same, *followers) if other.typed or not candidate.typed]
    return tuple(other.key for other in moved if not _beneath(other.key, candidate.key))


def _beneath(key: str, other: str) -> bool:
    """Whether one key is a part of the other's choice.

    >>> _beneath("strategy.encoder.widths", "strategy/encoder"), _beneath("training.epochs", "latent_dim")
    (True, False)
    """
    return key.replace("/", ".").startswith(other.replace("/", ".")) or key == f"model.{other}"


def metrics_of(groups: pd.DataFrame) -> dict[str, str]:
    """The numbers that are followed along an axis, with their titles: bounds, and gaps where they were measured."""
    found = {"test_elbo": f"test ELBO ({UNITS})", "train_elbo": f"training ELBO ({UNITS})"}
    split = "test" if any(f"test_{gap}_gap_mean" in groups for gap in GAPS) else "train"
    told = "test" if split == "test" else "training"
    found |= {f"{split}_{gap}_gap": f"{gap} gap on {told} data ({UNITS})" for gap in GAPS}
    found[f"{split}_{GENERALIZATION}"] = f"amortization gap, test − training ({UNITS})"
    found[f"{split}_log_marginal_lower"] = f"log p(x) (≥: lower bound), {told} data ({UNITS})"
    found[f"{split}_active_units"] = "active units (number)"
    known = [key for key in found if f"{key}_mean" in groups and groups[f"{key}_mean"].notna().any()]
    return {key: found[key] for key in known}


def _series(candidate: Candidate, groups: pd.DataFrame, runs: Sequence[GroupRun]) -> dict[int, str]:
    """A name for each group without the axis and what follows from it: groups on one line have the same."""
    rows = groups[[*GROUP]].to_dict("records")
    settings = {run.group: _settings(run, rows[run.group]) for run in {run.group: run for run in runs}.values()}
    value = {run.group: v for run, v in zip(runs, candidate.values, strict=True)}
    dropped = {key for key in {k for s in settings.values() for k in s} if _settled(key, settings, value)}
    left = {i: {k: v for k, v in s.items() if k not in dropped} for i, s in settings.items()}
    strategy = list(groups["strategy"])
    names = {}
    for i, own in left.items():
        kin = [left[j] for j in left if strategy[j] == strategy[i]]
        telling = {k: v for k, v in own.items() if any(other.get(k) != v for other in kin)}
        texts = {k: brief(o[k] for o in left.values() if k in o) for k in telling}
        names[i] = ", ".join(f"{k}={texts[k][v]}" for k, v in sorted(telling.items()))
    told = {i: ", ".join(filter(None, (str(strategy[i]), shortened(text)))) for i, text in names.items()}
    return _apart(told, value)


def _apart(names: Mapping[int, str], value: Mapping[int, Any]) -> dict[int, str]:
    """The names, with a number where two groups would stand at one place of one line."""
    taken: dict[tuple[str, Any], int] = {}
    out = {}
    for i, name in names.items():
        number = taken[name, value[i]] = taken.get((name, value[i]), 0) + 1
        out[i] = name if number == 1 else f"{name} ({number})"
    return out


def _settings(run: GroupRun, group: Mapping[Any, Any]) -> dict[str, str]:
    """What tells a group from its kin, as far as it has it."""
    row = {k: present(group[k]) for k in GROUP}
    named = {k: str(whole(row[k])) for k in ("model", "family", "latent_dim") if row[k] is not None}
    own = {k: v for k, v in run.record.settings.items() if not k.startswith("data.") or k == TRAIN_SIZE}
    told = dict(text.partition("=")[::2] for text in settings_of(row["variant"]))
    own |= {k: v for k, v in told.items() if k.startswith(MEASUREMENT)}  # of the group, not of this run
    varying = set(told)
    return named | {k: v for k, v in own.items() if k in varying and not k.endswith(("._target_", "._partial_"))}


def _settled(key: str, settings: Mapping[int, Mapping[str, str]], value: Mapping[int, Any]) -> bool:
    """Whether the key varies, and only as the axis does."""
    seen: dict[Any, str | None] = {}
    for group, own in settings.items():
        if value[group] is not None and seen.setdefault(value[group], own.get(key)) != own.get(key):
            return False
    return len(set(seen.values())) > 1


def _point(row: Mapping[str, Any], metric: str) -> dict[str, Any] | None:
    """Mean and 95 % interval of a group: over seeds (Student's t), else over the data of the one seed.

    The interval of what is known from below alone has no upper end.
    """
    mean, se, data_se = (row.get(f"{metric}_{end}") for end in ("mean", "se", "data_se"))
    if mean is None:
        return None
    at_least, seeds = bool(row.get(f"{metric}_at_least")), int(row.get(f"{metric}_over") or row["seeds"])
    low, high = row.get(f"{metric}_ci95_low"), row.get(f"{metric}_ci95_high")
    if low is None or (high is None and not at_least):
        low, high = interval(mean, se, data_se, seeds)
    high = None if at_least else high
    return {"mean": mean, "low": low, "high": high, "seeds": seeds, "at_least": at_least}


def interval(mean: float, se: float | None, data_se: float | None, seeds: int) -> tuple[float | None, float | None]:
    """mean ± t_{n−1} se over n seeds, or mean ± 1.96 se over the data of one."""
    if se is not None and seeds > 1:
        half = float(stdtrit(seeds - 1, (1 + LEVEL) / 2)) * se
    elif data_se is not None:
        half = float(ndtri((1 + LEVEL) / 2)) * data_se
    else:
        return None, None
    return mean - half, mean + half
