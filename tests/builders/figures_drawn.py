"""Whether a figure has room for what it says."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from itertools import combinations

from matplotlib.figure import Figure
from matplotlib.text import Text

from vem.report.figures.style import save_both


@contextmanager
def unpainted() -> Iterator[None]:
    """Figures are made and saved, and empty: painting them is most of a report's time."""
    paint = Figure.draw
    Figure.draw = lambda self, renderer: None
    try:
        yield
    finally:
        Figure.draw = paint


def beyond_limits(axis):
    """Labels that matplotlib holds ready for ticks that it does not draw."""
    low, high = sorted(axis.get_view_interval())
    ticks = [*axis.get_major_ticks(), *axis.get_minor_ticks()]
    return [t for tick in ticks if not low <= tick.get_loc() <= high for t in (tick.label1, tick.label2)]


def assert_nothing_is_cut_off(figure, path):
    """As it is saved, every text lies inside the figure, and the legends outside the panels."""
    save_both(figure, path)
    figure.draw_without_rendering()
    renderer = figure._get_renderer()
    low, high = figure.bbox.extents[:2], figure.bbox.extents[2:]
    unseen = {label for ax in figure.axes for axis in (ax.xaxis, ax.yaxis) for label in beyond_limits(axis)}
    for text in figure.findobj(Text):
        if not text.get_text() or not text.get_visible() or text in unseen:
            continue
        box = text.get_window_extent(renderer).extents
        assert (box[:2] >= low - 1).all() and (box[2:] <= high + 1).all(), text.get_text()
    for axis in (axis for ax in figure.axes if ax.get_visible() for axis in (ax.xaxis, ax.yaxis)):
        labels = [t for t in axis.get_ticklabels() if t.get_text() and t.get_visible() and t not in unseen]
        for one, other in combinations(labels if axis.get_visible() else [], 2):
            boxes = [text.get_window_extent(renderer) for text in (one, other)]
            assert not boxes[0].overlaps(boxes[1]), (one.get_text(), other.get_text())
    for legend in figure.legends:
        box = legend.get_window_extent(renderer)
        assert not any(ax.get_window_extent(renderer).overlaps(box) for ax in figure.axes)
