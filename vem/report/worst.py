"""The data on which each group's q does worst, with their pictures."""

from __future__ import annotations

import base64
import io
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from PIL import Image

from vem.report import findings
from vem.report.figures.catalogue import Group, Reader, groups_of, reader_of, spread_over_strategies
from vem.report.figures.cells import is_image, is_point, value_limits
from vem.report.files import read_pictures
from vem.report.table import EMPTY, Cell, Column, Table, number, table
from vem.report.words import EXACT, named
from vem.storage.records import PICTURES

MOST_CASES = 18  # in one table
MOST_OF_A_GROUP = 3
LOWEST = "L[q]"
# What L[q] is held against, and what the difference is called; the lowest L[q] where there is neither.
REFERENCES = {"log_marginal_lower": "log p(x) − L[q]", "best_elbo": "L[q*] − L[q]"}
ORDERS = {**{gap: f"the largest {gap}" for gap in REFERENCES.values()}, LOWEST: f"the lowest {LOWEST}"}
ARRAYS = tuple(f"worst_{name}" for name in ("x", "reconstruction", "split", "row"))
SIZE = 56  # pixels of a picture's longer side, at least
NUMBERS = ("L[q]", "L[q*]", "log p(x)", "L[q*] − L[q]", "log p(x) − L[q]")
COLUMNS = (
    Column("Strategy", numeric=False),
    *(Column(title, numeric=False, pictures=True) for title in ("x", "Reconstruction")),
    *(Column(title, numeric=False) for title in ("Datum", "Class")),
    *(Column(title, larger_first=True) for title in NUMBERS),
)


class Case(NamedTuple):
    """One datum of one run: ``numbers`` in nats as in ``NUMBERS``, None where not measured; pictures as data: URIs.

    ``at_least``: log p(x) is its lower bound. ``by``: what makes the datum one of the worst, a key of ``ORDERS``.
    """

    group: str
    seed: int | None
    split: str
    row: int
    label: str
    numbers: tuple[float | None, ...]
    at_least: bool
    by: str
    x: str
    reconstruction: str

    def cells(self) -> list[Cell]:
        """Its row of the table."""
        pictures = {f"x, row {self.row} of {self.split}": self.x,
                    f"its reconstruction by {self.group}": self.reconstruction}  # fmt: skip
        signs = ["≥ " if self.at_least and "log p(x)" in title else "" for title in NUMBERS]
        return [
            Cell(self.group, value=self.group, remarks=() if self.seed is None else (f"seed {self.seed}",)),
            *(Cell(text, picture=uri) if uri else EMPTY for text, uri in pictures.items()),
            Cell(f"{self.split}, row {self.row}", value=f"{self.split} {self.row}"),
            Cell(self.label or EMPTY.text, value=self.label),
            *(EMPTY if value is None else Cell(sign + number(value), value=value)
              for sign, value in zip(signs, self.numbers, strict=True)),
        ]  # fmt: skip


def worst_table(compared: findings.Table, base: Path, pictures: bool = True) -> Table | None:
    """The worst cases of a table's groups, where there are some; without their pictures where these are not wanted."""
    read = reader_of(compared, base)
    cases = worst_cases(compared, base, read, pictures)
    if not cases:
        return None
    caption = _caption(cases) + read.note()
    caption += " These runs hold no pictures of them." if pictures and not any(case.x for case in cases) else ""
    return table("The worst cases", COLUMNS, [case.cells() for case in cases], [caption], look="worst", sortable=True)


def _caption(cases: Sequence[Case]) -> str:
    """By what the data were chosen, which may differ between groups."""
    groups: dict[str, dict[str, None]] = {}
    for case in cases:
        groups.setdefault(case.by, {})[case.group] = None
    most, *others = sorted(groups, key=lambda by: -len(groups[by]))
    words = f"Of one seed of each group, the data with {ORDERS[most]}, in nats"
    words += "".join(f"; of {named(list(groups[by]))} those with {ORDERS[by]}" for by in others) + "."
    if others and LOWEST in groups:
        words += f" {LOWEST} counts where no gap was measured, or where q is the posterior and each gap is rounding."
    return words


def worst_cases(table: findings.Table, base: Path, read: Reader, pictures: bool = True) -> list[Case]:
    """The worst data of each group, of the first of its seeds whose rows can be used: the largest gap first."""
    groups = [group for group in groups_of(table, base) if group.directories]
    chosen = spread_over_strategies(groups, MOST_CASES)
    each = max(1, min(MOST_OF_A_GROUP, MOST_CASES // max(1, len(chosen))))
    return [case for group in chosen for case in _of_group(group, table.runs, base, each, read, pictures)]


def _of_group(group: Group, runs: pd.DataFrame, base: Path, num: int, read: Reader, pictures: bool) -> Iterator[Case]:
    usable = ((directory, rows) for directory in group.directories if (rows := read.rows(directory)) is not None)
    directory, rows = next(usable, (base, pd.DataFrame({"split": []})))
    by, worst = worst_rows(rows, num)
    shown = read(_pictures, directory, PICTURES) if pictures and len(worst) else None
    same = [base / str(found) == directory for found in runs["directory"]]
    seeds = runs.loc[same, "seed"].dropna()
    for row in worst.to_dict("records"):
        yield _case(row, group.name, int(seeds.iloc[0]) if len(seeds) else None, by, shown or {})


def worst_rows(rows: pd.DataFrame, num: int) -> tuple[str, pd.DataFrame]:
    """The rows of per_datum.csv with the largest gap, the worst first: of test, else of train; and by which gap.

    The inference gap where log p(x) was bounded, else L[q*] − L[q], else the lowest L[q]: also where every gap is
    rounding.
    """
    for split in ("test", "train"):
        part = rows[rows["split"] == split]
        if len(part) and "elbo" in part:
            numbers = {n: pd.to_numeric(part[n], errors="coerce") for n in ("elbo", *REFERENCES) if n in part}
            losses = {REFERENCES[n]: numbers[n] - numbers["elbo"] for n in REFERENCES if n in numbers}
            by = next((name for name, loss in losses.items() if (loss.abs() >= EXACT).any()), LOWEST)
            loss = losses.get(by, -numbers["elbo"])
            finite = loss[np.isfinite(loss)].sort_values(ascending=False, kind="stable")
            return by, part.loc[finite.index[:num]]
    return LOWEST, rows[:0]


def _case(
    row: Mapping[Any, Any], group: str, seed: int | None, by: str, pictures: Mapping[Any, tuple[str, str]]
) -> Case:
    key = str(row["split"]), int(row.get("row", -1))
    label = row.get("label")
    name = "" if label is None or pd.isna(label) else f"{label:g}" if isinstance(label, float) else str(label)
    best, lower, upper = (_finite(row.get(k)) for k in ("best_elbo", "log_marginal_lower", "log_marginal_upper"))
    elbo = float(row["elbo"])
    gaps = (None if value is None else value - elbo for value in (best, lower))
    at_least = lower is not None and (upper is None or upper - lower >= EXACT)
    return Case(group, seed, *key, name, (elbo, best, lower, *gaps), at_least, by, *pictures.get(key, ("", "")))


def _finite(value: Any) -> float | None:
    try:
        return float(value) if np.isfinite(float(value)) else None
    except (TypeError, ValueError):
        return None


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
