"""Means over seeds: a row for each group of runs that differ in their seed alone."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import pandas as pd

from vem.report.alike import OTHER_ROWS, having, measured, measured_alike, on_the_same_rows
from vem.report.intervals import mean_and_se, over_seeds
from vem.report.labels import GROUP, whole
from vem.report.quantities import (
    BOUNDS,
    COSTS,
    ESTIMATES,
    FACTS,
    GAPS,
    KEY,
    LIMITS,
    NUMBERS,
    OF_SOME,
    Estimate,
    Key,
    column,
    estimate,
    fact,
    group_cells,
    keys_of,
    plain_rows,
    present,
    tidy,
)
from vem.storage.records import SPLITS

NOT_EVALUATED = "not evaluated"
OTHER = "evaluated on other data than the table is about"


def aggregate(runs: pd.DataFrame) -> pd.DataFrame:
    """One row for each group of runs that differ in their seed alone, in order of appearance.

    ``NAME_mean`` and ``NAME_se`` are over the finished seeds, those that were not evaluated left out where others
    of the group were, and named in ``status``; ``NAME_data_se`` is the error over data: of one seed its own. If one
    finished seed has no number, the group has none, and ``NAME_reason`` says why. ``NAME_over``: how many of the seeds
    have it measured alike, where not all of them do. Of gaps, and where a best q was sought:

        NAME_ci95_low, …_high                      x̄ ± t_{n−1} s/√n over n seeds, on these data; of one over its data
                                                   (no …_high where NAME_at_least)
        NAME_data_se, NAME_data_ci95_low, …_high   the means over seeds of the runs' own errors and ends over data
        gap_seeds, without_gaps, other_gaps        how many measured gaps alike; which did not, or by other settings

    The error over data of a mean over seeds is not above the mean of the seeds' errors (‖Σ x_s‖ ≤ Σ ‖x_s‖ for standard
    deviations); :func:`vem.report.intervals.with_data_errors` puts a sharper one in its place where it can.
    """
    members: dict[tuple[Any, ...], list[dict[str, Any]]] = {}
    for row in plain_rows(runs[runs["table"].notna()]):  # the others failed before they could say what they are
        members.setdefault(tuple(row[k] for k in GROUP), []).append(row)
    groups = [_Group(found) for found in members.values()]
    keys = sorted(keys_of(runs), key=_place)
    numbers = _over_seeds(groups, keys, tidy(runs)) if groups else []
    return pd.DataFrame([group.row(own) for group, own in zip(groups, numbers, strict=True)])


def _place(key: Key) -> int:
    """Where the columns of a number stand: bounds of every run, gaps, what they add, and those behind the facts."""
    _, name, family = key
    if name in OF_SOME or name in BOUNDS:
        return 3
    return 0 if name in ESTIMATES else 2 - (family is None and name in (*GAPS.values(), *LIMITS))


class _Group:
    """Runs that differ in their seed alone: those that count, and which of them measured their gaps alike."""

    def __init__(self, members: list[dict[str, Any]]) -> None:
        self.members = members
        self.done = [m for m in members if m["status"] == "done"]
        self.states = [m["status"] for m in members]
        if any(m["evaluated"] for m in self.done):
            self.states = [m["status"] if m["evaluated"] or m["status"] != "done" else NOT_EVALUATED for m in members]
            self.done = [m for m in self.done if m["evaluated"]]
        self.alike = measured_alike(self.done)

    def sharing(self, key: Key) -> Sequence[Mapping[Any, Any]]:
        """The runs over which a number is averaged."""
        if key[1] in ESTIMATES:
            return on_the_same_rows(key[0], self.done)
        return self.alike[0] if key[1] == "active_units" else having(self.alike, *key)

    def row(self, numbers: Mapping[Key, Estimate]) -> dict[str, Any]:
        """The columns of the group."""
        row: dict[str, Any] = {name: self.members[0][name] for name in GROUP}
        row |= {"seeds": len(self.done), "runs": len(self.members), "status": _status(self.states)}
        for key, found in numbers.items():
            row |= group_cells(key[0], key[1], found, key[2]) if _place(key) < 3 else {}
        row |= self._gauged()
        for split in SPLITS:
            row |= self._facts(split, numbers)
        row |= {
            c: v for k, e in numbers.items() if k[1] == "converged" for c, v in group_cells(*k[:2], e, k[2]).items()
        }
        row |= {n: _joined(m[n] for m in self.done) for n in ("checks_failed", "not_tested") if n in self.members[0]}
        row |= {c: v for k, e in numbers.items() if k[1] in BOUNDS for c, v in group_cells(*k[:2], e).items()}
        for name in COSTS:
            values = [m[name] for m in self.done if m[name] is not None]
            whole_group = values and len(values) == len(self.done)
            mean, se = mean_and_se(values) if whole_group else (None, None)
            row |= {column(None, name, field="mean"): mean, column(None, name, field="se"): se}
        trained = [m for m in on_the_same_rows("train", self.done) if estimate(m, "train", "elbo").mean is not None]
        return row | {
            "directories": [m["directory"] for m in self.done],
            OTHER_ROWS: [m["directory"] for m in self.done if m.get(OTHER_ROWS)],
            "unconverged": [m["directory"] for m in self.done if m.get("converged") is False],
            "train_elbo_seeds": [f"{whole(m['seed'])}={m['train_elbo']:.9g}" for m in trained],
        }

    def _gauged(self) -> dict[str, Any]:
        """Over how many seeds the gaps are, and of how many data; which runs have none, or otherwise measured ones."""
        gauged, alike = [m for m in self.done if measured(m)], self.alike[0]
        if not gauged:
            return {}
        sizes = (fact(m, "test", "num_evaluated") for m in alike)
        return {
            "gap_seeds": len(alike),
            "gap_rows": next((n for n in sizes if n is not None), None),
            "without_gaps": [m["directory"] for m in self.done if m not in gauged],
            "other_gaps": [m["directory"] for m in gauged if m not in alike],
        }

    def _facts(self, split: str, numbers: Mapping[Key, Estimate]) -> dict[str, Any]:
        """What the gaps of a split are taken from; what a bound may miss is that of any seed, not averaged away."""
        kind = column(split, "log_marginal", field="kind")
        if kind not in self.members[0]:
            return {}
        row: dict[str, Any] = {kind: _joined(m[kind] for m in self.alike[0])}
        row[FACTS["gap_data"].format(split)] = _joined(fact(m, split, "gap_data") for m in self.alike[0])
        row[FACTS["checks"].format(split)] = _joined(fact(m, split, "checks") for m in self.done)
        row |= group_cells(split, "active_units", numbers[split, "active_units", None])
        for name in ("simulated_width", "simulated_worst"):
            widths = [w for m in self.alike[0] if (w := fact(m, split, name)) is not None]
            row[FACTS[name].format(split)] = max(widths, default=None)
        return row


def _over_seeds(groups: Sequence[_Group], keys: Sequence[Key], numbers: pd.DataFrame) -> list[dict[Key, Estimate]]:
    """For each group its numbers: means over the runs that share in each, with errors and intervals."""
    shares = [
        (i, j, m["directory"], m["seed"], *key)
        for i, group in enumerate(groups)
        for j, key in enumerate(keys)
        for m in group.sharing(key)
    ]
    cells = pd.DataFrame(shares, columns=["group", "key", "run", "seed", *KEY]).merge(numbers, on=["run", *KEY])
    by = cells.groupby(["group", "key"])
    size, known, mean = by.size(), by[list(NUMBERS)].count(), by[list(NUMBERS)].mean()
    of_some = [j for j, key in enumerate(keys) if key[1] in OF_SOME]
    own_error = [j for j, key in enumerate(keys) if key[1] in (*ESTIMATES, *BOUNDS)]
    place = mean.index.get_level_values("key")
    found = mean.where(known.eq(size, axis=0))  # one seed that lacks a number leaves the group without
    own = [mean_and_se(values.to_numpy(float)) for _, values in by["mean"]]
    seeds = pd.DataFrame(own, size.index, ["mean", "se"], dtype=float)
    found["mean"] = seeds["mean"].where(~place.isin(of_some), mean["mean"])
    has = found["mean"].notna()
    one, found["mc_se"] = size == 1, math.nan
    found["data_low"], found["data_high"] = found["low"].where(has), found["high"].where(has)
    found["data_se"] = found["se"].where(has & (one | ~place.isin(own_error)))
    found["se"] = seeds["se"].where(has)
    flags = by[["one_sided", "sought", "loose"]].any()
    low, high = over_seeds(found["mean"], found["se"], size)
    found["low"], found["high"] = found["data_low"].where(one, low), found["data_high"].where(one, high)
    found.loc[flags["one_sided"] & ~one, "high"] = math.nan
    found["ess"] = by["ess"].min()  # one loose seed makes a loose mean
    flags["one_sided"] = flags["one_sided"].astype(object).where(has)
    kinds = cells.dropna(subset="kind").drop_duplicates(["group", "key", "kind"]).groupby(["group", "key"])["kind"]
    found = found.join([flags, kinds.agg("; ".join), size.rename("over")])
    missing = cells[cells["mean"].isna()].drop_duplicates(["group", "key"])
    lacking = missing[["group", "key", "seed", "reason"]].itertuples(False, None)
    reasons = {(i, j): (seed, text) for i, j, seed, text in lacking}
    rows = [{str(k): present(v) for k, v in row.items()} for row in found.to_dict("records")]
    values = dict(zip(found.index, rows, strict=True))
    return [
        {key: _estimate(len(group.done), values.get((i, j)), reasons.get((i, j))) for j, key in enumerate(keys)}
        for i, group in enumerate(groups)
    ]


def _estimate(done: int, values: dict[str, Any] | None, missing: tuple[Any, str] | None) -> Estimate:
    """A number of a group of so many finished seeds; why there is none: the first seed that lacks it."""
    if values is None:
        return Estimate(reason=OTHER if done else "no run is finished")
    count = values.pop("over")
    if missing is not None and values["mean"] is None:
        return Estimate(**values, reason=missing[1] if count == 1 else f"seed {missing[0]}: {missing[1]}")
    return Estimate(**values, over=count if count < done and values["mean"] is not None else None)


def _joined(words: Iterable[str | None]) -> str | None:
    """The different words, each once; None where there are none."""
    return "; ".join(dict.fromkeys(word for word in words if word)) or None


def _status(states: Sequence[str]) -> str:
    """``done`` where all are, else how many are not.

    >>> _status(["done", "done"]), _status(["done", "failed"]), _status(["failed"])
    ('done', '1 of 2 failed', 'failed')
    """
    if len(set(states)) == 1:
        return states[0]
    rest = [s for s in dict.fromkeys(states) if s != "done"]
    return ", ".join(f"{states.count(s)} of {len(states)} {s}" for s in rest)
