"""How figures look and are saved: no pyplot, no change of matplotlib's settings, the same bytes each time."""

from __future__ import annotations

import textwrap
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import matplotlib
import numpy as np
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure

from vem.storage.records import make_folder, replacing

DPI = 150
CHARACTERS_PER_INCH = 11.5  # of a title
QUIET = "0.35"  # grey of what must be legible without drawing the eye
BEHIND = "0.78"  # grey of lines behind those in colour
DASHES: tuple[Any, ...] = ("-", (0, (5, 1.5)), (0, (1.2, 1.2)), (0, (7, 1.5, 1.5, 1.5)))
MARKERS = ("o", "s", "^", "D", "v", "P", "X", "<", ">", "*")
COLOURS: list[Any] = sns.color_palette("colorblind", 10)


class Look(NamedTuple):
    """One curve's colour, dash and end marker: any one of the three tells it from its neighbours."""

    colour: tuple[float, float, float]
    dash: Any
    marker: str

    @property
    def line(self) -> dict[str, Any]:
        """As keywords of :meth:`matplotlib.axes.Axes.plot`."""
        return {"color": self.colour, "linestyle": self.dash, "marker": self.marker}


def looks(num: int) -> list[Look]:
    """``num`` looks, for colour-blind readers and for print in grey.

    Dashes and markers cycle with other periods than colours, so that a combination returns late.
    """
    markers = MARKERS[: len(COLOURS) - 1]
    return [Look(COLOURS[i % len(COLOURS)], DASHES[i % len(DASHES)], markers[i % len(markers)]) for i in range(num)]


def new_figure(width: float, height: float) -> Figure:
    """A figure of that many inches that keeps its texts apart."""
    return Figure(figsize=(width, height), layout="constrained", facecolor="white")


def save(figure: Figure, png: Path) -> Path:
    """Write a PNG atomically, without a date or a program's name in it.

    The canvas prints directly: ``savefig`` would draw each figure twice over to find its layout.

    Raises:
        VemError: the folder cannot be written, or the disk is full.
    """
    make_folder(png.parent)
    figure.set_dpi(DPI)
    if any(ax.get_adjustable() == "datalim" for ax in figure.axes):
        figure.draw_without_rendering()  # equal scales change the limits, and with them the room that ticks need
    with replacing(png) as temporary, _any_script():
        FigureCanvasAgg(figure).print_png(temporary, metadata={"Software": None})
    return png


def save_both(figure: Figure, png: Path) -> tuple[Path, Path]:
    """Write a PNG and, beside it, an SVG of the same layout.

    Raises:
        VemError: the folder cannot be written, or the disk is full.
    """
    save(figure, png)
    figure.set_layout_engine("none")  # the layout that the PNG has found is kept, not sought again
    svg = png.with_suffix(".svg")
    fixed: Any = {"svg.hashsalt": "vem", "svg.fonttype": "path"}  # names of clip paths; letters that need no font
    with replacing(svg) as temporary, _any_script(), matplotlib.rc_context(fixed):
        FigureCanvasSVG(figure).print_svg(temporary, metadata={"Date": None, "Creator": None})
    return png, svg


@contextmanager
def _any_script() -> Iterator[None]:
    """Labels are the user's: letters that the font lacks become boxes, without a warning about each."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", r"Glyph \d+ .* missing from", UserWarning)
        yield


def tidy(ax: Axes) -> None:
    """Small ticks and names, no box."""
    ax.tick_params(labelsize=8, length=3, color=QUIET)
    sns.despine(ax=ax)
    ax.xaxis.label.set_fontsize(9)
    ax.yaxis.label.set_fontsize(9)


def grid(ax: Axes, zero: bool = False) -> None:
    """A grid behind the curves; behind horizontal bars, which have a line at ``zero``, upright lines alone."""
    ax.grid(True, axis="x" if zero else "both", color="0.9", linewidth=0.7)
    ax.set_axisbelow(True)
    if zero:
        ax.axvline(0.0, color=QUIET, linewidth=0.8)


def robust_limits(curves: Sequence[np.ndarray]) -> tuple[float, float, bool]:
    """Limits (low, high, cut) that the first epochs of the curves do not stretch.

    A curve counts from its lower quintile upwards. Where that would hide little, nothing is cut.

    >>> low, high, cut = robust_limits([np.array([-5000.0, -110, -105, -102, -101, -100, -100, -100, -100])])
    >>> low > -120, high > -100, cut
    (True, True, True)
    >>> robust_limits([np.array([-2.0, -1.0])])
    (-2.05, -0.95, False)
    """
    lowest = min(float(curve.min()) for curve in curves)
    highest = max(float(curve.max()) for curve in curves)
    kept = min(float(np.quantile(curve, 0.2)) for curve in curves)
    cut = highest - lowest > 2.5 * (highest - kept) > 0
    low = kept - 0.15 * (highest - kept) if cut else lowest
    pad = 0.05 * (highest - low) or 0.05 * max(1.0, abs(highest))
    return low - pad, highest + pad, cut


def one_line(text: str) -> str:
    """Text without line breaks, and without characters that neither a figure nor XML can hold.

    >>> one_line("a\\n b\\x00c")
    'a b c'
    """
    return " ".join("".join(c if c.isprintable() else " " for c in text).split())


def wrapped(name: str, width: int = 32, lines: int = 4) -> str:
    """A name in a few lines that a figure has room for; nothing in it is taken for mathematics.

    >>> wrapped("amortized, latent_dim=2, costs=$5", width=24)
    'amortized, latent_dim=2,\\ncosts=\\\\$5'
    """
    return textwrap.fill(one_line(name), width, max_lines=lines, placeholder=" …").replace("$", r"\$")


def titled(figure: Figure, title: str, of: str) -> None:
    """A figure's title: what it shows, and on which data or of which run; in as many lines as its width asks for."""
    room = int(CHARACTERS_PER_INCH * figure.get_size_inches()[0])
    figure.suptitle(wrapped(f"{title}: {of}", room, 4), fontsize=10.5, x=0.01, ha="left")


def legend_below(figure: Figure, handle_length: float = 3.5) -> None:
    """A legend of all panels below them, in as many columns as the figure's width has room for."""
    found = {name: handle for ax in figure.axes for handle, name in zip(*ax.get_legend_handles_labels(), strict=True)}
    longest = max((len(line) for name in found for line in name.split("\n")), default=0)
    room = int((figure.get_size_inches()[0] - 0.3) / (0.075 * longest + 0.125 * handle_length + 0.4))  # inches at 9 pt
    if found:
        figure.legend(list(found.values()), list(found), loc="outside lower center", fontsize=9, frameon=False,
                      ncols=max(1, min(len(found), room, 4)), handlelength=handle_length)  # fmt: skip


def say(ax: Axes, text: str) -> str:
    """A sentence in place of a picture, which has no title."""
    ax.set_axis_off()
    ax.text(0.5, 0.5, text, ha="center", va="center", fontsize=9, color=QUIET, transform=ax.transAxes, wrap=True)
    return ""
