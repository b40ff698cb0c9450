"""How other data would move a gap that is averaged over seeds: its error over data, datum by datum."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from scipy.special import stdtrit

from vem.errors import VemError
from vem.report.aggregate import present
from vem.report.alike import having
from vem.report.estimates import EXACT_LOSS, GENERALIZATION, MODEL_GENERALIZATION
from vem.report.files import read_per_datum
from vem.report.paired import LEVEL, data_error
from vem.report.rows import Numbers
from vem.storage.records import SPLITS

COLUMNS = ("split", "row", "elbo", "best_elbo", "log_marginal_lower")
# Columns of per_datum.csv: a number of each datum is the first less the second, or the first alone.
OF_DATUM = {
    "approximation_gap": ("log_marginal_lower", "best_elbo"),
    "amortization_gap": ("best_elbo", "elbo"),
    "optimization_gap": ("best_elbo", "elbo"),
    "inference_gap": ("log_marginal_lower", "elbo"),
    EXACT_LOSS: ("log_marginal_lower", "elbo"),
}
# Differences between training and held-out data, up to their sign.
BETWEEN = {
    GENERALIZATION: ("best_elbo", "elbo"),
    MODEL_GENERALIZATION["best_elbo"]: ("best_elbo",),
    MODEL_GENERALIZATION["log_marginal"]: ("log_marginal_lower",),
}
AGREE = 1e-4  # relative, and nats: how well per_datum.csv must agree with evaluation.json

Run = Mapping[Any, Any]
Error = tuple[float, float]  # standard error and degrees of freedom


class _OfData(NamedTuple):
    """A number of some data, in the order of their rows."""

    rows: Numbers
    values: Numbers


class _Seed(NamedTuple):
    """The evaluated data of one run, sorted by row, and its numbers as evaluation.json has them."""

    splits: Mapping[str, pd.DataFrame]
    told: Run


def with_data_errors(
    groups: pd.DataFrame, runs: pd.DataFrame, base: Path, refused: Collection[str] = ()
) -> pd.DataFrame:
    """The groups with the error over data of the gaps of several seeds, after averaging over the seeds.

        ``NAME_data_se``                      s(D) / √N,  D_n = (1/S) Σ_s gap_s,n
        ``NAME_data_ci95_low``, ``…_high``    mean ± t_{N−1} s(D) / √N; no ``…_high`` where ``NAME_at_least``

    Of a difference between two sets of data the squared errors add, with Welch's degrees of freedom. Where not every
    seed has each number of the same data, the upper bounds stay that :func:`gaps_over_seeds` has put there.

    groups, runs: of one table; base: the folder that ``directory`` is relative to; refused: runs whose rows are not
    used.
    Source: Welch, 1947, eq. 28 (Satterthwaite, 1946).
    """
    told = {row["directory"]: {str(k): present(v) for k, v in row.items()} for row in runs.to_dict("records")}
    out = groups.copy()
    for place, row in zip(groups.index, groups.to_dict("records"), strict=True):
        names = [name for name in _names() if f"{name}_mean" in row and _wanted(row, name)]
        if not names:
            continue
        members = [told[d] for d in row["directories"]]
        seeds: dict[str, _Seed] = {}  # by directory, read when a number asks for it
        for name in names:
            alike = having(name, members)
            seeds |= {m["directory"]: _seed(base, m, refused) for m in alike if m["directory"] not in seeds}
            if (found := _error(name, [seeds[m["directory"]] for m in alike])) is not None:
                half = float(stdtrit(found[1], (1 + LEVEL) / 2)) * found[0] if found[0] > 0 else 0.0
                mean = float(row[f"{name}_mean"])
                ends: dict[str, float | None] = {"data_se": found[0], "data_ci95_low": mean - half}
                ends["data_ci95_high"] = None if present(row.get(f"{name}_at_least")) else mean + half
                for end, value in ends.items():
                    out.loc[place, f"{name}_{end}"] = value
    return out


def _names() -> list[str]:
    return [f"{split}_{name}" for split in SPLITS for name in (*OF_DATUM, *BETWEEN)]


def _wanted(row: Run, name: str) -> bool:
    """Of several seeds; of one where its run does not say it. No error where q is the posterior of every datum."""
    mean, se = present(row[f"{name}_mean"]), present(row[f"{name}_data_se"])
    return mean is not None and abs(mean) > AGREE and (present(row[f"{name}_se"]) is not None or se is None)


def _seed(base: Path, run: Run, refused: Collection[str]) -> _Seed:
    if run["directory"] in refused:
        return _Seed({}, run)
    try:
        table = read_per_datum(base / run["directory"], COLUMNS)
        splits = {str(name): part.sort_values("row") for name, part in table.groupby("split")}
    except (VemError, KeyError, TypeError):
        splits = {}
    return _Seed(splits, run)


def _error(name: str, seeds: Sequence[_Seed]) -> Error | None:
    """The error over data of one number; None where it cannot be known datum by datum."""
    split, _, kind = name.partition("_")
    if kind in OF_DATUM:
        found = [_values(seed, split, OF_DATUM[kind]) for seed in seeds]
        return _over_data(found) if _agree(name, seeds, found) else None
    here, there = ([_values(seed, where, BETWEEN[kind]) for seed in seeds] for where in (split, "train"))
    if not _agree(name, seeds, here, there):
        return None
    parts = [_over_data(here), _over_data(there)]
    if parts[0] is None or parts[1] is None:
        return None
    (one, n), (other, m) = parts[0], parts[1]
    below = one**4 / n + other**4 / m
    return math.hypot(one, other), (one**2 + other**2) ** 2 / below if below > 0 else 1.0


def _agree(name: str, seeds: Sequence[_Seed], *found: Sequence[_OfData | None]) -> bool:
    """Whether the files hold the numbers of evaluation.json, in each seed; of a difference up to its sign."""
    for i, seed in enumerate(seeds):
        means = [math.nan if (own := values[i]) is None else float(own.values.mean()) for values in found]
        told = present(seed.told.get(name))
        mean, told = (means[0], told) if len(means) == 1 else (abs(means[0] - means[1]), abs(told or math.nan))
        if told is None or not np.isclose(mean, told, rtol=AGREE, atol=AGREE):
            return False
    return True


def _over_data(found: Sequence[_OfData | None]) -> Error | None:
    return data_error([own and own.values for own in found], [own and own.rows for own in found])


def _values(seed: _Seed, split: str, columns: Sequence[str]) -> _OfData | None:
    """A number of each datum of one run that has it; None where its file does not have it."""
    table = seed.splits.get(split)
    if table is None or not len(table) or not {"row", *columns} <= set(table.columns):
        return None
    numbers = [pd.to_numeric(table[column], errors="coerce").to_numpy(float) for column in columns]
    values = numbers[0] - numbers[1] if len(numbers) > 1 else numbers[0]
    known = ~np.isnan(values)  # gaps may be measured of some data alone
    return _OfData(table["row"].to_numpy(float)[known], values[known]) if known.any() else None
