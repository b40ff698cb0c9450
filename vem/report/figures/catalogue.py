"""Every figure of a report, as PNG and SVG, with the words that stand below it."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import pandas as pd
from matplotlib.figure import Figure

from vem.errors import VemError
from vem.report.figures import curves, densities, gaps
from vem.report.figures.axes import MOST_SERIES, axis_figure, ranked_series
from vem.report.figures.curves import MOST_TOGETHER, Curve
from vem.report.figures.gaps import MOST_BARS
from vem.report.figures.panels import CELLS, Pictures
from vem.report.figures.style import new_figure, one_line, save_both, say, titled, wrapped
from vem.report.files import read_metrics, read_per_datum, read_pictures
from vem.report.findings import Axis, Findings, Table
from vem.report.prose import worded
from vem.report.quantities import elbo_order, plain_rows
from vem.report.words import named
from vem.storage.records import METRICS, PER_DATUM, PICTURES, make_folder

MOST_CURVES = 60  # of them most are grey
MOST_ROWS = 6
MOST_POSTERIORS = 5
ROW_HEIGHT = 2.7  # inches: of a seed's pictures

Read = TypeVar("Read")


class Drawn(NamedTuple):
    """One figure: the section it belongs to (curves, gaps, pictures, axes), its table, its words and its files."""

    section: str
    table: int
    title: str
    caption: str
    png: Path
    svg: Path
    alt: str


class Sketch(NamedTuple):
    """One figure before it is saved."""

    section: str
    kind: str
    title: str
    caption: str
    figure: Figure


class Group(NamedTuple):
    """One row of a table: its label, its strategy, its numbers, and the directories of its finished seeds."""

    name: str
    strategy: str
    row: dict[str, Any]
    directories: tuple[Path, ...]


def draw(findings: Findings, folder: Path) -> list[Drawn]:
    """Draw every figure that the runs allow into ``folder``, in the page's order.

    A run whose file is damaged is left out, and the caption says so.

    Raises:
        VemError: a figure cannot be written.
    """
    make_folder(folder)
    drawn = []
    for index, table in enumerate(findings.tables):
        suffix = "" if len(findings.tables) == 1 else f"_{index + 1}_{_slug(table.name)}"
        names = named([str(label) for label in table.groups["label"]])
        for sketch in sketches(table, findings.base):
            png, svg = save_both(sketch.figure, folder / f"{sketch.kind}{suffix}.png")
            alt = one_line(f"{sketch.title} ({table.name}). {sketch.caption} Groups: {names}.")
            drawn.append(Drawn(sketch.section, index, sketch.title, sketch.caption, png, svg, alt))
    return drawn


def _slug(name: str) -> str:
    """A table's name as part of a file's name."""
    return re.sub(r"[^A-Za-z0-9.]+", "-", name).strip("-")[:60]


def groups_of(table: Table, base: Path) -> list[Group]:
    """The groups of a table, those of one strategy beside each other, strategies in order of appearance."""
    groups = [
        Group(str(row["label"]), str(row["strategy"]), row, tuple(base / d for d in row.get("directories") or []))
        for row in plain_rows(table.groups)
    ]
    order = list(dict.fromkeys(group.strategy for group in groups))
    return sorted(groups, key=lambda group: order.index(group.strategy))


def ranked(groups: Sequence[Group]) -> list[Group]:
    """The groups by test ELBO, the best first and those without one last."""
    return sorted(groups, key=lambda group: elbo_order(group.row))


def spread_over_strategies(groups: Sequence[Group], most: int) -> list[Group]:
    """At most that many groups: the best of each strategy, then the second of each, …, in the order of ``groups``."""
    best = ranked(groups)
    place = {g.name: [o.name for o in best if o.strategy == g.strategy].index(g.name) for g in best}
    chosen = sorted(best, key=lambda group: place[group.name])[:most]
    return [group for group in groups if group in chosen]


class Reader:
    """Reads files of runs, and remembers those that are damaged instead of giving up.

    ``refused``: by directory of a run and file, why the file is not used.
    """

    def __init__(self, refused: Mapping[Path, Mapping[str, str]] | None = None) -> None:
        self.refused = refused or {}
        self.damaged: dict[str, None] = {}

    def __call__(self, read: Callable[[Path], Read], directory: Path, name: str) -> Read | None:
        """What ``read`` finds there in the file of this name; None where it is damaged or refused."""
        try:
            if (reason := self.refused.get(directory, {}).get(name)) is not None:
                raise VemError(reason)
            return read(directory)
        except VemError as error:
            self.damaged[f"{directory.name} ({error})"] = None
            return None

    def rows(self, directory: Path) -> pd.DataFrame | None:
        """per_datum.csv; None where there is none, or where it cannot be used."""
        rows = self(read_per_datum, directory, PER_DATUM)
        return rows if rows is not None and len(rows) else None

    def left_out(self) -> list[str]:
        """What was left out since the last call, and why."""
        found, self.damaged = list(self.damaged), {}
        return found


def reader_of(table: Table, base: Path) -> Reader:
    """A reader of the runs of one table."""
    return Reader({base / directory: reason for directory, reason in table.refused.items()})


def sketches(table: Table, base: Path) -> Iterator[Sketch]:
    """The figures of one table."""
    groups, read = groups_of(table, base), reader_of(table, base)
    yield from _curves(groups, table.name, read)
    yield from _gaps(table, base, groups, read)
    yield from _pictures(groups, table.name, read)
    for axis in table.axes:
        yield from _axis(axis, table.name)


def _curves(groups: Sequence[Group], table: str, read: Reader) -> Iterator[Sketch]:
    best, shortened = [], []
    drawable = [group for group in ranked(groups) if group.directories]
    for group in drawable[:MOST_CURVES]:
        found = {d: rows for d in group.directories if (rows := read(read_metrics, d, METRICS)) is not None}
        whole = {d: rows for d, rows in found.items() if len(rows)}
        rows = curves.seed_average(list(whole)) if whole else pd.DataFrame()
        if len(rows):
            best.append(Curve(group.name, group.strategy, rows))
            end, longest = int(rows["epoch"].max()), max(int(own["epoch"].max()) for own in whole.values())
            shortened += [f"{group.name} at {end} of {longest}"] if end < longest else []
    if not best:
        return
    order = [group.name for group in groups]
    shown = sorted(best, key=lambda curve: order.index(curve.name))
    several = any((curve.rows["seeds"] > 1).any() for curve in shown)
    by_strategy = len(shown) > MOST_TOGETHER
    strategies, settings = curves.coloured(best)
    grey = [c.name for c in best if by_strategy and (c.strategy not in strategies or c.setting not in ("", *settings))]
    words = worded(
        "captions", "curves", bands=several and curves.BANDS, uncounted=curves.uncounted(shown), shortened=shortened,
        absent=[group.name for group in drawable[MOST_CURVES:]], damaged=read.left_out(), rows=by_strategy, grey=grey,
    )  # fmt: skip
    if not by_strategy:
        yield Sketch("curves", "curves", "ELBO while training", words, curves.comparison_figure(shown, table))
        return
    for split, title in (("valid", "held-out data"), ("train", "training data")):
        if any(len(curve.of(split)) for curve in shown):
            figure = curves.strategies_figure(shown, best, split, table)
            yield Sketch("curves", f"curves_{split}", f"ELBO while training, {title}", words, figure)
            words = worded("captions", "curves_again")


def _gaps(table: Table, base: Path, groups: Sequence[Group], read: Reader) -> Iterator[Sketch]:
    measured = {group.name: every for group in groups if (every := gaps.measured(group.row))}
    own = [group for group in groups if group.name in measured]
    best = ranked(own)[:MOST_BARS]
    shown, absent = [g for g in own if g in best], [g.name for g in own if g not in best]
    figure = gaps.gaps_figure([group.name for group in shown], [group.row for group in shown], table.name)
    if figure is None:
        return
    yield Sketch("gaps", "gaps", "Gaps", worded("captions", "gaps", absent=absent), figure)
    data = []
    for group in shown:
        other = {base / name for name in group.row.get("other_gaps") or ()}  # gaps of another budget
        rows = [found for d in group.directories if d not in other and (found := read.rows(d)) is not None]
        data += [(group.name, pd.concat(rows))] if rows else []
    figure, damaged = gaps.distributions_figure(data, table.name), read.left_out()
    if figure is not None:
        several = any((group.row.get("seeds") or 0) > 1 for group in shown)
        below = any(gap["one_sided"] for g in shown for gap in measured[g.name] if gap["gap"] == "approximation")
        words = worded("captions", "distributions", several=several, below=below, absent=absent, damaged=damaged)
        yield Sketch("gaps", "gap_distributions", "Gaps, data point by data point", words, figure)


def _pictures(groups: Sequence[Group], table: str, read: Reader) -> Iterator[Sketch]:
    drawable = [group for group in groups if group.directories]
    chosen = spread_over_strategies(drawable, MOST_ROWS)
    found = [(g.name, pictures) for g in chosen if (pictures := read(read_pictures, g.directories[0], PICTURES))]
    absent, damaged = [group.name for group in drawable if group not in chosen], read.left_out()
    if found:
        words = worded("captions", "pictures", absent=absent, damaged=damaged)
        yield Sketch("pictures", "side_by_side", "Side by side", words, side_by_side_figure(found, table))
    planes = {}
    for group in drawable:
        plane = group.row.get("latent_dim") == 2
        pictures = read(read_pictures, group.directories[0], PICTURES) if plane else None
        if pictures and all(name in pictures for name in densities.ARRAYS):
            planes[group.name] = pictures
    if planes:
        own = [group for group in drawable if group.name in planes]
        few = [group.name for group in spread_over_strategies(own, MOST_POSTERIORS)]
        words = worded("captions", "posteriors", absent=[name for name in planes if name not in few])
        figure = densities.posteriors_figure([(name, planes[name]) for name in few], table)
        yield Sketch("pictures", "posteriors_by_strategy", "Posteriors in the latent plane", words, figure)


def side_by_side_figure(rows: Sequence[tuple[str, Pictures]], table: str) -> Figure:
    """A row for each group, of one seed: where the data lie in z, what the model makes, reconstructions."""
    figure = new_figure(11, ROW_HEIGHT * len(rows) + 0.7)
    axes = figure.subplots(len(rows), len(CELLS), squeeze=False, width_ratios=(1, 1, 1.5))
    for row, (name, arrays) in zip(axes, rows, strict=True):
        for ax, (absent, pictures) in zip(row, CELLS.items(), strict=True):
            picture = next((picture for picture in pictures if picture.allowed(arrays)), None)
            title = picture.draw(ax, arrays, True) if picture else say(ax, absent)
            ax.set_title(title, fontsize=9, loc="left")
        row[0].set_title(wrapped(name, 36, 3), fontsize=11 if len(name) <= 36 else 8, loc="left", weight="bold")
    titled(figure, "Side by side, one seed each", table)
    return figure


def _axis(axis: Axis, table: str) -> Iterator[Sketch]:
    if (figure := axis_figure(axis, table)) is not None:
        grey, below = ranked_series(axis)[MOST_SERIES:], axis.points["at_least"].any()
        words = worded("captions", "axis", axis=axis, below=below, grey=grey)
        yield Sketch("axes", f"axis_{_slug(axis.key)}", f"Along {axis.key}", words, figure)
