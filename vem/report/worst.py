"""The data on which each group's q does worst, with their pictures."""

from __future__ import annotations

import base64
import io
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from PIL import Image

from vem.errors import VemError
from vem.report.figure_set import Group, groups_of, spread_over_strategies
from vem.report.files import read_per_datum, read_pictures
from vem.report.findings import Table
from vem.report.panels import is_image, is_point, value_limits

MOST_CASES = 18  # in one table
MOST_OF_A_GROUP = 3
REFERENCES = ("log_marginal_lower", "best_elbo")  # what L[q] is held against; the lowest L[q] where there is neither
ARRAYS = tuple(f"worst_{name}" for name in ("x", "reconstruction", "split", "row"))
SIZE = 56  # pixels of a picture's longer side, at least


class Case(NamedTuple):
    """One datum of one run: numbers in nats, None where they were not measured; pictures as data: URIs."""

    group: str
    seed: int | None
    split: str
    row: int
    label: str
    elbo: float
    best_elbo: float | None
    log_marginal: float | None
    x: str
    reconstruction: str

    @property
    def inference_gap(self) -> float | None:
        """log p(x) − L[q]."""
        return None if self.log_marginal is None else self.log_marginal - self.elbo

    @property
    def gap_to_best(self) -> float | None:
        """L[q*] − L[q]."""
        return None if self.best_elbo is None else self.best_elbo - self.elbo


def worst_cases(table: Table, base: Path) -> list[Case]:
    """The worst data of each group, of the first of its finished seeds: the largest gap first."""
    groups = [group for group in groups_of(table, base) if group.directories]
    chosen = spread_over_strategies(groups, MOST_CASES)
    each = max(1, min(MOST_OF_A_GROUP, MOST_CASES // max(1, len(chosen))))
    return [case for group in chosen for case in _of_group(group, table.runs, base, each)]


def _of_group(group: Group, runs: pd.DataFrame, base: Path, num: int) -> list[Case]:
    directory = group.directories[0]
    try:
        rows = worst_rows(read_per_datum(directory), num)
        pictures = _pictures(directory) if len(rows) else {}
    except VemError:  # the caption of the gaps names the damaged file
        return []
    same = [base / str(found) == directory for found in runs["directory"]]
    seeds = runs.loc[same, "seed"].dropna()
    seed = int(seeds.iloc[0]) if len(seeds) else None
    return [_case(row, group.name, seed, pictures) for row in rows.to_dict("records")]


def worst_rows(rows: pd.DataFrame, num: int) -> pd.DataFrame:
    """The rows of per_datum.csv with the largest gap, the worst first: of test, else of train.

    The inference gap where log p(x) was bounded, else L[q*] − L[q], else the lowest L[q].
    """
    for split in ("test", "train"):
        part = rows[rows["split"] == split]
        if len(part) and "elbo" in part:
            numbers = {n: pd.to_numeric(part[n], errors="coerce") for n in ("elbo", *REFERENCES) if n in part}
            reference = next((numbers[n] for n in REFERENCES if n in numbers and numbers[n].notna().any()), 0.0)
            loss = reference - numbers["elbo"]
            finite = loss[np.isfinite(loss)].sort_values(ascending=False, kind="stable")
            return part.loc[finite.index[:num]]
    return rows[:0]


def _case(row: Mapping[Any, Any], group: str, seed: int | None, pictures: Mapping[Any, tuple[str, str]]) -> Case:
    key = str(row["split"]), int(row.get("row", -1))
    label = row.get("label")
    x, again = pictures.get(key, ("", ""))
    named = "" if label is None or pd.isna(label) else f"{label:g}" if isinstance(label, float) else str(label)
    best, marginal = _number(row.get("best_elbo")), _number(row.get("log_marginal_lower"))
    return Case(group, seed, *key, named, float(row["elbo"]), best, marginal, x, again)


def _number(value: Any) -> float | None:
    try:
        number = float(value)
    except (TypeError, ValueError):
        return None
    return number if np.isfinite(number) else None


def _pictures(directory: Path) -> dict[tuple[str, int], tuple[str, str]]:
    """By split and row, the pictures of x and of its reconstruction."""
    arrays = read_pictures(directory)
    if not all(name in arrays for name in ARRAYS):
        return {}
    x, again, splits, rows = (arrays[name] for name in ARRAYS)
    limits = value_limits(x, again)
    keys = zip(map(str, splits), map(int, rows), strict=True)
    return {key: (picture(a, limits), picture(b, limits)) for key, a, b in zip(keys, x, again, strict=True)}


def picture(event: np.ndarray, limits: tuple[float, float]) -> str:
    """A small picture of one event as a data: URI: an image in grey, anything else as a profile of its values."""
    if is_point(event.shape) or not event.size:
        return ""  # two numbers are no picture
    low, high = limits
    shares = np.clip((np.nan_to_num(event.astype(float), nan=low) - low) / (high - low), 0.0, 1.0)
    if not is_image(event.shape):
        return _profile(shares.reshape(-1))
    times = -(-SIZE // max(event.shape))
    pixels = np.kron((255 * shares).astype(np.uint8), np.ones((times, times), dtype=np.uint8))
    file = io.BytesIO()
    Image.fromarray(pixels, mode="L").save(file, format="PNG", optimize=True)
    return "data:image/png;base64," + base64.b64encode(file.getvalue()).decode()


def _profile(shares: np.ndarray) -> str:
    across = np.linspace(2, SIZE - 2, len(shares)) if len(shares) > 1 else np.array([SIZE / 2])
    places = " ".join(f"{x:.1f},{SIZE - 3 - (SIZE - 6) * y:.1f}" for x, y in zip(across, shares, strict=True))
    svg = (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{SIZE}" height="{SIZE}"><rect width="100%" height="100%" '
        f'fill="white"/><polyline points="{places}" fill="none" stroke="black" stroke-width="1.2"/></svg>'
    )
    return "data:image/svg+xml;base64," + base64.b64encode(svg.encode()).decode()
