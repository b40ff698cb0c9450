"""The data on which each group's q does worst, with their pictures."""

from __future__ import annotations

import base64
import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from PIL import Image

from vem.report import findings, kin
from vem.report.figures.catalogue import Reader, groups_of, reader_of, spread_over_strategies
from vem.report.figures.cells import is_image, is_point, value_limits
from vem.report.files import read_pictures
from vem.report.prose import worded
from vem.report.quantities import present
from vem.report.runs import finite
from vem.report.table import EMPTY, Cell, Column, Table, number, table
from vem.report.words import EXACT
from vem.storage.records import PICTURES

MOST_CASES = 18  # in one table
MOST_OF_A_GROUP = 3
LOWEST = "L[q]"
# What L[q] is held against, and what the difference is called; the lowest L[q] where there is neither.
REFERENCES = {"log_marginal_lower": "log p(x) − L[q]", "best_elbo": "L[q*] − L[q]"}
ORDERS = {**{gap: f"the largest {gap}" for gap in REFERENCES.values()}, LOWEST: f"the lowest {LOWEST}"}
ARRAYS = tuple(f"worst_{name}" for name in ("x", "reconstruction", "split", "row"))
SIZE = 56  # pixels of a profile
NUMBERS = ("L[q]", "L[q*]", "log p(x)", "L[q*] − L[q]", "log p(x) − L[q]")
COLUMNS = (
    Column("Strategy", numeric=False),
    *(Column(title, numeric=False, pictures=True) for title in ("x", "Reconstruction")),
    *(Column(title, numeric=False) for title in ("Datum", "Class")),
    *(Column(title, larger_first=True) for title in NUMBERS),
)


class Case(NamedTuple):
    """One datum of one run."""

    group: str
    seed: int | None
    split: str
    row: int
    label: str
    numbers: tuple[float | None, ...]  # in nats, as in ``NUMBERS``; None where not measured
    at_least: bool  # log p(x) is its lower bound
    by: str  # what makes the datum one of the worst, a key of ``ORDERS``
    x: str = ""  # pictures as data: URIs
    reconstruction: str = ""

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
    words = [_caption(cases) if cases else "", worded("captions", "left_out", damaged=read.left_out())]
    caption = " ".join(words).strip()
    caption += " These runs hold no pictures of them." if pictures and not any(case.x for case in cases) else ""
    shown = table("The worst cases", COLUMNS, [c.cells() for c in cases], [caption], look="worst", sortable=True)
    return shown if cases else None


def _caption(cases: Sequence[Case]) -> str:
    """By what the data were chosen, which may differ between groups."""
    pairs = dict.fromkeys((case.by, case.group) for case in cases)
    groups = kin.by((order for order, _ in pairs), (group for _, group in pairs))
    most, *others = sorted(groups, key=lambda order: -len(groups[order]))
    also = {ORDERS[order]: groups[order] for order in others}
    return worded("captions", "worst", most=ORDERS[most], others=also, rounding=bool(others) and LOWEST in groups)


def worst_cases(table: findings.Table, base: Path, read: Reader, pictures: bool = True) -> list[Case]:
    """The worst data of each group, of the first of its seeds whose rows can be used: the largest gap first."""
    chosen = spread_over_strategies([group for group in groups_of(table, base) if group.directories], MOST_CASES)
    each = max(1, min(MOST_OF_A_GROUP, MOST_CASES // max(1, len(chosen))))
    seeds = {
        base / directory: seed for directory, seed in zip(table.runs["directory"], table.runs["seed"], strict=True)
    }
    cases = []
    for group in chosen:
        usable = ((place, rows) for place in group.directories if (rows := read.rows(place)) is not None)
        directory, rows = next(usable, (base, pd.DataFrame({"split": []})))
        by, worst = worst_rows(rows, each)
        shown = (read(_pictures, directory, PICTURES) if pictures and len(worst) else None) or {}
        seed = present(seeds.get(directory))
        for row in worst.to_dict("records"):
            cases.append(_case(row, group.name, None if seed is None else int(seed), by, shown))
    return cases


def worst_rows(rows: pd.DataFrame, num: int) -> tuple[str, pd.DataFrame]:
    """The rows of per_datum.csv with the largest gap, the worst first: of test, else of train; and by which gap.

    The inference gap where log p(x) was bounded, else L[q*] − L[q], else the lowest L[q]: also where every gap is
    rounding.
    """
    for split in ("test", "train"):
        part = rows[rows["split"] == split]
        if len(part) and "elbo" in part:
            numbers = part.reindex(columns=["elbo", *REFERENCES]).apply(pd.to_numeric, errors="coerce")
            losses = numbers[[*REFERENCES]].sub(numbers["elbo"], axis=0).rename(columns=REFERENCES)
            by = next((name for name in losses if (losses[name].abs() >= EXACT).any()), LOWEST)
            loss = losses.get(by, -numbers["elbo"])
            return str(by), part.loc[loss[np.isfinite(loss)].nlargest(num).index]
    return LOWEST, rows[:0]


def _case(
    row: Mapping[Any, Any], group: str, seed: int | None, by: str, pictures: Mapping[Any, tuple[str, str]]
) -> Case:
    key = str(row["split"]), int(row.get("row", -1))
    label = present(row.get("label"))
    name = "" if label is None else f"{label:g}" if isinstance(label, float) else str(label)
    best, lower, upper = (finite(row.get(k)) for k in ("best_elbo", "log_marginal_lower", "log_marginal_upper"))
    elbo = float(row["elbo"])
    gaps = (None if value is None else value - elbo for value in (best, lower))
    at_least = lower is not None and (upper is None or upper - lower >= EXACT)
    return Case(group, seed, *key, name, (elbo, best, lower, *gaps), at_least, by, *pictures.get(key, ()))


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
        return f"data:image/svg+xml;base64,{base64.b64encode(_profile(shares.reshape(-1))).decode()}"
    file = io.BytesIO()  # of a pixel for each value: the style sheet enlarges it
    Image.fromarray((255 * shares).astype(np.uint8), mode="L").save(file, format="PNG", optimize=True)
    return f"data:image/png;base64,{base64.b64encode(file.getvalue()).decode()}"


def _profile(shares: np.ndarray) -> bytes:
    across = np.linspace(2, SIZE - 2, len(shares)) if len(shares) > 1 else np.array([SIZE / 2])
    places = " ".join(f"{x:.1f},{SIZE - 3 - (SIZE - 6) * y:.1f}" for x, y in zip(across, shares, strict=True))
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{SIZE}" height="{SIZE}"><rect width="100%" height="100%" '
        f'fill="white"/><polyline points="{places}" fill="none" stroke="black" stroke-width="1.2"/></svg>'
    ).encode()
