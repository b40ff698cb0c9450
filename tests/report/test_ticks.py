"""The values of a swept axis: which of them are written, so that all can be read."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from figures_drawn import assert_nothing_is_cut_off

from vem.report.figures.axes import axis_figure
from vem.report.findings import Axis


def swept(values, numeric=True, metrics=3, key="training.rate"):
    rows = [
        {"series": "a", "value": v, "metric": f"m{m}", "mean": -100.0 - i, "low": None, "high": None, "seeds": 1}
        for i, v in enumerate(values)
        for m in range(metrics)
    ]
    points = pd.DataFrame(rows).assign(at_least=False)
    return Axis(key, tuple(values), numeric, {f"m{m}": "test ELBO" for m in range(metrics)}, points)


RATES = sorted(10 ** np.random.default_rng(0).uniform(-4, -1, size=20))


@pytest.mark.parametrize(
    ("values", "scale", "label", "written"),
    [
        ((0, 0.001, 0.01, 0.1, 1), "symlog", " (log scale, linear below 0.001)", ["0", "0.001", "0.01", "0.1", "1"]),
        (RATES, "log", " (log scale)", ["0.001", "0.01"]),
        ((2, 5, 10, 20, 50, 100, 200, 500), "log", " (log scale)", ["2", "5", "10", "20", "50", "100", "200", "500"]),
        (tuple(range(1, 8)), "linear", "", [str(n) for n in range(1, 8)]),
        (tuple(range(40)), "symlog", " (log scale, linear below 1)", None),
        ((0.004210984673528849, 0.005), "linear", "", ["0.004211", "0.005"]),
        ((-1, 0, 100), "linear", "", None),
        ((0.123456, 0.123457), "linear", "", ["0.123456", "0.123457"]),
    ],
)
@pytest.mark.parametrize("metrics", [1, 3])
def test_the_ticks_of_an_axis_can_be_read(values, scale, label, written, metrics, tmp_path):
    figure = axis_figure(swept(values, metrics=metrics), "t")
    for ax in figure.axes:
        assert ax.get_xscale() == scale and ax.get_xlabel() == f"training.rate{label}"
        texts = [text.get_text() for text in ax.get_xticklabels()]
        assert len(texts) >= 2 and (written is None or texts == written)
        marked = set(ax.get_xticks()) | set(ax.get_xticks(minor=True))
        assert marked >= set(map(float, values))  # what is not written has its mark
    assert_nothing_is_cut_off(figure, tmp_path / "a.png")


@pytest.mark.parametrize("count", [3, 9, 40])
def test_words_along_an_axis_do_not_run_into_each_other(count, tmp_path):
    figure = axis_figure(swept([f"[{n}00, {n}00, 200]" for n in range(count)], numeric=False), "t")
    assert_nothing_is_cut_off(figure, tmp_path / "a.png")
