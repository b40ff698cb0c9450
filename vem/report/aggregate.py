"""Means over seeds: which runs belong together."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from scipy.special import stdtrit

from vem.records import SPLITS
from vem.report.comparable import TRAIN_SIZE, differing
from vem.report.estimates import GAPS, OTHERS
from vem.report.runs import RunRecord

# Runs that are equal in all of these differ in their seed alone.
GROUP = ("table", "strategy", "model", "family", "latent_dim", "variant")
NUMBERS = ("elbo", "reconstruction", "kl", "log_marginal")
ESTIMATES = tuple(f"{split}_{name}" for split in SPLITS for name in NUMBERS)
# Where a run measured its gaps.
GAP_ESTIMATES = tuple(
    f"{split}_{name}"
    for split in SPLITS
    for name in (*(f"{g}_gap" for g in GAPS), "log_marginal_lower", "log_marginal_upper")
)
# What the other families and the generalization add to them, where it was measured.
FURTHER = r"^[a-z]+_(family_.+|amortization_generalization)_at_least$"
CONVERGED = r"^[a-z]+_family_.+_converged$"
MEASUREMENT = "evaluation."  # settings that say how a trained model was measured
BOUNDS = tuple(f"{split}_{name}_bound" for split in SPLITS for name in OTHERS)
MEASURED = 60  # characters of the evaluation's settings that a label has room for
NOT_EVALUATED = "not evaluated"
CUT = "…"  # in a label, for settings left out
COSTS = ("training_seconds", "seconds", "decoder_evaluations", "decoder_gradients", "epochs")


def variants(runs: Sequence[RunRecord], tables: Sequence[str]) -> list[str]:
    """What else differs between runs of one strategy, model, family and latent size on the same data."""
    named = ("strategy", "model", "family", "latent_dim")
    groups = [(t, *(str(r.facts.get(k)) for k in named)) for t, r in zip(tables, runs, strict=True)]
    return [
        ", ".join(f"{k}={_shown(k, v, run)}" for k, v in sorted(own.items()))
        for run, own in zip(runs, differing(groups, [own_settings(run) for run in runs]), strict=True)
    ]


def _shown(key: str, value: str, run: RunRecord) -> str:
    """A setting's value on one line; for no limit on the training data their number."""
    size = run.facts.get("num_train")
    return str(whole(size)) if key == TRAIN_SIZE and value == "null" and size is not None else " ".join(value.split())


def training_of(variant: str | None) -> str:
    """A variant less its evaluation settings: groups that agree in it differ in their measurement alone.

    >>> training_of("evaluation.draws=10, strategy.rate=0.1"), training_of("")
    ('strategy.rate=0.1', '')
    """
    return ", ".join(s for s in _settings(variant) if not s.startswith(MEASUREMENT))


def _settings(variant: str | None) -> list[str]:
    return re.split(r", (?=[\w.]+=)", variant) if variant else []


def own_settings(run: RunRecord) -> dict[str, str]:
    """The settings that may differ within a table: all but the data's, and the number of training data.

    What class holds the evaluation's settings is left out: evaluation.json does not say it, so that measured runs
    would be told from those that are not.
    """
    return {
        key: value
        for key, value in run.settings.items()
        if (not key.startswith("data.") or key == TRAIN_SIZE)
        and not (key.startswith(MEASUREMENT) and key.endswith(("._target_", "._partial_")))
    }


def present(value: Any) -> Any:
    """The value, or None where it is missing (pandas has several ways to say so)."""
    if value is None or value is pd.NA or value is pd.NaT:
        return None
    return None if isinstance(value, float) and math.isnan(value) else value


def mean_and_se(values: Sequence[float]) -> tuple[float, float | None]:
    """Mean over seeds, and its standard error s/√n with s² = Σ(x − x̄)²/(n − 1); no error for one seed.

    >>> mean_and_se([1.0, 3.0])
    (2.0, 1.0)
    """
    x = np.asarray(values, dtype=float)
    return float(x.mean()), float(x.std(ddof=1) / math.sqrt(len(x))) if len(x) > 1 else None


def aggregate(runs: pd.DataFrame) -> pd.DataFrame:
    """One row for each group of runs that differ in their seed alone, in order of appearance.

    ``NAME_mean`` and ``NAME_se`` are over the finished seeds, those that were not evaluated left out where others
    of the group were, and named in ``status``; ``NAME_data_se`` (one seed only) is that
    run's own standard error over data. If one finished seed has no number, the group has none, and
    ``NAME_reason`` says why.
    """
    placed = runs[runs["table"].notna()]  # the others failed before they could say what they are
    groups: dict[tuple[Any, ...], list[dict[str, Any]]] = {}
    for row in placed.to_dict("records"):
        clean = {str(k): present(v) for k, v in row.items()}
        groups.setdefault(tuple(clean[k] for k in GROUP), []).append(clean)
    return pd.DataFrame([_group_row(key, members) for key, members in groups.items()])


def _group_row(key: tuple[Any, ...], members: list[dict[str, Any]]) -> dict[str, Any]:
    done = [m for m in members if m["status"] == "done"]
    states = [m["status"] for m in members]
    if any(m["evaluated"] for m in done):
        states = [m["status"] if m["evaluated"] or m["status"] != "done" else NOT_EVALUATED for m in members]
        done = [m for m in done if m["evaluated"]]
    row: dict[str, Any] = {
        **dict(zip(GROUP, key, strict=True)),
        "seeds": len(done),
        "runs": len(members),
        "status": _status(states),
    }
    for name in ESTIMATES:
        row |= _estimate_over_seeds(name, done)
    row |= _gaps_over_seeds(done, members[0]) | _bounds_over_seeds(done, members[0])
    for name in COSTS:
        values = [m[name] for m in done if m[name] is not None]
        row[f"{name}_mean"], row[f"{name}_se"] = mean_and_se(values) if values else (None, None)
    row["directories"] = [m["directory"] for m in done]
    return row


def _status(states: Sequence[str]) -> str:
    """``done`` where all are, else how many are not.

    >>> _status(["done", "done"]), _status(["done", "failed"]), _status(["failed"])
    ('done', '1 of 2 failed', 'failed')
    """
    if len(set(states)) == 1:
        return states[0]
    rest = [s for s in dict.fromkeys(states) if s != "done"]
    return ", ".join(f"{states.count(s)} of {len(states)} {s}" for s in rest)


def _estimate_over_seeds(name: str, done: list[dict[str, Any]]) -> dict[str, Any]:
    missing = [m for m in done if m[name] is None]
    row: dict[str, Any] = dict.fromkeys(f"{name}_{part}" for part in ("mean", "se", "data_se", "reason"))
    if missing:
        which = "" if len(done) == 1 else f"seed {missing[0]['seed']}: "
        row[f"{name}_reason"] = f"{which}{missing[0][f'{name}_reason'] or 'not measured'}"
    elif not done:
        row[f"{name}_reason"] = "no run is finished"
    else:
        row[f"{name}_mean"], row[f"{name}_se"] = mean_and_se([m[name] for m in done])
        row[f"{name}_data_se"] = done[0][f"{name}_se"] if len(done) == 1 else None
    return row


def _gaps_over_seeds(done: list[dict[str, Any]], columns: Mapping[str, Any]) -> dict[str, Any]:
    """The gaps, the kinds of log p(x) they are taken from, active units, and which checks some seed failed.

    The 95 % interval is that of the one seed, over its data, or over seeds x̄ ± t_{n−1} s/√n.
    """
    row: dict[str, Any] = {}
    further = [c.removesuffix("_at_least") for c in columns if re.search(FURTHER, c)]
    for name in (*(n for n in GAP_ESTIMATES if n in columns), *further):
        row |= _estimate_over_seeds(name, done)
        ends = [done[0].get(f"{name}_ci95_{end}") for end in ("low", "high")] if len(done) == 1 else [None, None]
        mean, se = row[f"{name}_mean"], row[f"{name}_se"]
        if se is not None:
            half = float(stdtrit(len(done) - 1, 0.975)) * se
            ends = [mean - half, mean + half]
        row[f"{name}_ci95_low"], row[f"{name}_ci95_high"] = ends
        row[f"{name}_at_least"] = None if mean is None else any(m.get(f"{name}_at_least") for m in done)
        row |= _identified(name, done)
    for split in SPLITS:
        if f"{split}_log_marginal_kind" in columns:
            row[f"{split}_log_marginal_kind"] = _joined(m[f"{split}_log_marginal_kind"] for m in done)
            row[f"{split}_checks"] = _joined(m[f"{split}_checks"] for m in done)
            units = [m[f"{split}_active_units"] for m in done if m[f"{split}_active_units"] is not None]
            row[f"{split}_active_units_mean"] = mean_and_se(units)[0] if units else None
            for end in ("width", "worst"):  # of any seed: what a bound may miss is not averaged away
                name = f"{split}_log_marginal_simulated_{end}"
                found = [m[name] for m in done if m.get(name) is not None]
                row[name] = max(found) if found else None
    for name in (c for c in columns if re.search(CONVERGED, c)):
        shares = [m[name] for m in done if m[name] is not None]
        row[f"{name}_mean"] = mean_and_se(shares)[0] if shares else None
    if "checks_failed" in columns:
        row["checks_failed"] = _joined(m["checks_failed"] for m in done)
    return row


def _identified(name: str, done: list[dict[str, Any]]) -> dict[str, Any]:
    """What the mean could be if log p(x) were known: the ends' means over seeds, None where one has no limit.

    ``_sought``: whether it was, in some seed, so that a missing mean is undefined and not inapplicable.
    """
    row: dict[str, Any] = {f"{name}_sought": any(m.get(f"{name}_sought") for m in done)}
    for end in ("low", "high"):
        found = [value for m in done if (value := m.get(f"{name}_identified_{end}")) is not None]
        row[f"{name}_identified_{end}"] = mean_and_se(found)[0] if found and len(found) == len(done) else None
    return row


def _bounds_over_seeds(done: list[dict[str, Any]], columns: Mapping[str, Any]) -> dict[str, Any]:
    """The lower bounds beside it; the fewest effective samples of any seed, for one loose seed makes a loose mean."""
    row: dict[str, Any] = {}
    for name in (n for n in BOUNDS if n in columns):
        row |= _estimate_over_seeds(name, done)
        row[f"{name}_kind"] = _joined(m[f"{name}_kind"] for m in done)
        samples = [m[f"{name}_ess"] for m in done if m[f"{name}_ess"] is not None]
        row[f"{name}_ess"] = min(samples) if samples else None
        row[f"{name}_loose"] = any(m[f"{name}_loose"] for m in done)
    return row


def _joined(words: Iterable[str | None]) -> str | None:
    """The different words, each once; None where there are none."""
    return "; ".join(dict.fromkeys(word for word in words if word)) or None


def labels(groups: pd.DataFrame) -> list[str]:
    """A short name for each group of one table: its strategy, and what tells it from its kin."""
    rows = [{k: present(v) for k, v in row.items()} for row in groups[list(GROUP)].to_dict("records")]
    names = []
    for row in rows:
        kin = [other for other in rows if other["strategy"] == row["strategy"]]
        parts = [str(row["strategy"])]
        for key in ("model", "family", "latent_dim"):
            if len({other[key] for other in kin}) > 1 and row[key] is not None:
                parts.append(f"{key}={whole(row[key])}")
        names.append(", ".join(parts))
    short = short_variants([row["variant"] or "" for row in rows])
    return [", ".join(filter(None, both)) for both in zip(names, short, strict=True)]


def short_variants(found: Sequence[str]) -> list[str]:
    """The variants of one table with their evaluation settings cut short, and still told apart.

    >>> short_variants(["evaluation.num_data=5, strategy.rate=0.1", ""])
    ['strategy.rate=0.1, measured: num_data=5', '']
    >>> short_variants([f"evaluation.{'a' * 80}=1, evaluation.draws={n}" for n in (1, 2)])
    ['measured: draws=1, …', 'measured: draws=2, …']
    """
    short = [shortened(variant) for variant in found]
    out = []
    for variant, text in zip(found, short, strict=True):
        same = list(dict.fromkeys(v for v, s in zip(found, short, strict=True) if s == text))
        out.append(f"{text} ({same.index(variant) + 1})" if len(same) > 1 else text)
    return out


def shortened(variant: str) -> str:
    """A variant with its evaluation settings behind the others, as many of them as a label has room for."""
    settings = _settings(variant)
    measured = [s.removeprefix(MEASUREMENT) for s in settings if s.startswith(MEASUREMENT)]
    parts = [s for s in settings if not s.startswith(MEASUREMENT)]
    if measured:
        measured.sort(key=lambda s: s.partition("=")[0].count("."))  # num_data says more than best.rounds
        kept: list[str] = []
        for setting in measured:
            kept += [setting] if len(", ".join([*kept, setting])) <= MEASURED else []
        parts.append("measured: " + ", ".join([*kept, *([CUT] if len(kept) < len(measured) else [])]))
    return ", ".join(parts)


def whole(value: Any) -> Any:
    """An integer that pandas made a float, as an integer again."""
    return int(value) if isinstance(value, float) and value.is_integer() else value
