"""Gaps, their errors and failed checks in tables and figures; runs without them look as before."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from matplotlib.markers import CARETRIGHTBASE
from synthetic_runs import (
    BAD,
    GOOD,
    editing,
    gap,
    report_text,
    write_gaps,
    write_run,
)

from vem.report import draw_run, summarize, write_report
from vem.report.aggregate import aggregate
from vem.report.figures.catalogue import sketches
from vem.report.figures.gaps import gaps_figure, per_datum_figure
from vem.report.frame import numbers
from vem.report.labels import labels
from vem.report.quantities import plain_rows
from vem.report.read import findings
from vem.report.runs import as_evaluated, read_run
from vem.storage.checks import failed, failed_names


def test_the_spread_of_gaps_says_what_it_is(tmp_path):
    for seed in range(2):
        write_gaps(tmp_path / f"lower{seed}", seed=seed)
    write_gaps(tmp_path / "exact" / "a", exact=True)
    lower, exact = (
        next(s.caption for s in sketches(findings([path]).tables[-1], path) if s.kind == "gap_distributions")
        for path in (tmp_path, tmp_path / "exact")
    )
    assert "counted once for each seed" in lower and "≥: approximation gaps" in lower
    assert "seed" not in exact and "≥" not in exact


def test_runs_without_gaps_have_no_gap_columns(tmp_path):
    run = write_run(tmp_path / "a", "gmm")
    with editing(run) as content:
        # An exact model has its inference gap for nothing; no best q was sought.
        nothing = {"value": None, "reason": "not sought"}
        content["test"]["gaps"] = {"approximation": nothing, "optimization": nothing, "inference": gap(0.0, exact=True)}
    assert not any("gap" in name for name in numbers(read_run(run)))
    assert not any("gap" in name or "checks" in name for name in summarize([tmp_path]).columns)
    text = write_report([tmp_path], tmp_path)
    assert "Gaps in numbers" not in text and not (tmp_path / "figures" / "gaps.png").exists()


def test_failed_checks_mark_the_row_and_are_named(tmp_path):
    write_gaps(tmp_path / "a", checks=(BAD, GOOD))
    write_gaps(tmp_path / "b", "local")
    with editing(write_run(tmp_path / "c", "gmm")) as content:  # one that fails without gaps
        content["test"]["checks"] = [{"name": "outliers", "passed": False, "detail": "row 3"}]
    text = report_text(tmp_path)
    assert "a (amortized, seed 0): best_above_q (test); read evaluation.json" in text
    marked = [line.split()[:3] for line in text.splitlines() if "FAILED: best_above_q" in line]
    assert marked == [["amortized", "·", "CHECKS"], ["amortized", "test", "≥"]]
    assert "CHECKS FAILED: outliers (test)" in text and "outliers (test); read evaluation.json" in text
    checks = pd.read_csv(tmp_path / "runs.csv")["checks_failed"].dropna()
    assert checks.tolist() == ["best_above_q (test)", "outliers (test)"]


def test_failed_reads_evaluation_json():
    evaluation = {"train": {"checks": [GOOD]}, "test": {"checks": [BAD, {"name": "odd"}]}, "settings": {"draws": 3}}
    assert failed(evaluation) == ["test best_above_q: mean L[q*] − L[q] = -1 nats", "test odd: "]
    assert failed_names(evaluation) == ["best_above_q (test)", "odd (test)"]
    assert failed({}) == failed({"test": {"num_data": 3}, "across_splits": {}}) == []


def test_a_gap_that_is_missing_in_one_seed_is_missing_in_the_mean(tmp_path):
    write_gaps(tmp_path / "0", seed=0)
    with editing(write_gaps(tmp_path / "1", seed=1)) as content:
        reason = "3 of 50 data have no finite value"
        content["test"]["gaps"]["approximation"]["mean"] = {"value": None, "reason": reason}
        content["test"]["gaps"]["approximation"]["ci95"] = {"value": None, "reason": "not known"}
    row = aggregate(summarize([tmp_path])).iloc[0]
    assert row["test_approximation_gap_mean"] is None and row["test_approximation_gap_reason"] == f"seed 1: {reason}"
    report_text(tmp_path)


def test_many_settings_of_the_measurement_are_cut_short_and_kept_apart(tmp_path):
    """Labels have room for a few words; the CSV files hold all."""
    for n in (5, 10, 20):
        with editing(write_gaps(tmp_path / f"{n}", config={"model": {"width": n}})) as content:
            deep = {f"setting_{i}_of_the_measurement": i + n for i in range(30)}
            content["settings"] = {"num_data": 5 if n == 5 else 10, "annealing": deep}
    text = report_text(tmp_path)
    lines = [line for line in text.splitlines() if line.startswith("amortized")]
    assert all("measured: num_data=" in line and "…" in line for line in lines) and max(map(len, lines)) < 280
    assert "…: further settings of the measurement differ" in text and "runs.csv (variant)" in text
    groups = aggregate(summarize([tmp_path]))
    assert groups["variant"].str.len().min() > 700 and groups["variant"].is_unique
    assert len(set(labels(groups))) == 3 and max(map(len, labels(groups))) < 110


def test_no_negative_zero(tmp_path):
    write_gaps(tmp_path / "a", approximation=-0.001, middle=-0.002)
    assert "-0.00" not in report_text(tmp_path)
    train = gaps_figure(["A"], plain_rows(aggregate(summarize([tmp_path]))), "t").axes[0]
    assert [t.get_text() for t in train.texts] == ["≥ 0.00", "0.00", "≥ 0.00"]


def test_settings_of_a_second_measurement_take_the_place_of_the_first():
    first = {"evaluation.annealing": "null", "evaluation.annealed": "1", "evaluation.best.steps": "5", "data.seed": "0"}
    found = as_evaluated(first, {"annealing": {"chains": 8}, "best": None})
    assert found == {"evaluation.annealed": "1", "data.seed": "0", "evaluation.annealing.chains": "8",
                     "evaluation.best": "null"}  # fmt: skip
    assert as_evaluated(first, None) == first


def test_bars_are_where_the_numbers_are(tmp_path):
    write_gaps(tmp_path / "a", checks=(BAD,))
    write_gaps(tmp_path / "b", "local", approximation=1.2, middle=-0.3)
    groups = plain_rows(aggregate(summarize([tmp_path])))
    train, valid, test = gaps_figure(["A", "B"], groups, "t").axes
    assert valid.get_title("left") == "Validation data" and len(valid.patches) == 6
    widths = [[round(bar.get_width(), 6) for bar in sorted(ax.patches, key=lambda bar: bar.get_y())]
              for ax in (test, train)]  # fmt: skip
    assert widths == [[1.5, 4.5, 6.0, 1.2, 0.7, 1.9], [1.5, 3.5, 5.0, 1.2, -0.3, 0.9]]
    lines = [collection.get_segments()[0][:, 0] for collection in test.collections]
    assert lines[0] == pytest.approx([1.3, 1.5]) and lines[1] == pytest.approx([4.3, 4.7])
    arrows = [list(line.get_xdata()) for line in test.lines if line.get_marker() == CARETRIGHTBASE]
    arrows = [places for places in arrows if places]
    assert arrows == [[1.5, 1.2], [6.0, pytest.approx(1.9)]]  # in the place of an upper end
    assert [label.get_text() for label in train.get_yticklabels()] == ["A\nCHECKS FAILED", "B"]
    assert [t.get_text() for t in test.texts][:3] == ["≥ 1.50", "≥ 1.20", "4.50"]
    without = [{name: value for name, value in row.items() if not name.startswith("valid_")} for row in groups]
    panels = gaps_figure(["A", "B"], without, "t").axes
    assert [ax.get_title("left") for ax in panels] == ["Training data", "Test data"]


def test_the_distribution_over_data(tmp_path):
    run = write_gaps(tmp_path / "a")
    assert "gaps_per_datum.png" in {path.name for path in draw_run(run)}
    rows = pd.read_csv(run / "per_datum.csv")
    figure = per_datum_figure(rows, "amortization", "t")
    assert [ax.get_title("left") for ax in figure.axes] == ["approximation gap", "amortization gap"]
    assert "lower bound" in figure.axes[0].get_xlabel()
    line = figure.axes[1].lines[0]
    train = rows[rows["split"] == "train"]
    assert np.array_equal(line.get_xdata()[1:], np.sort(train["best_elbo"] - train["elbo"]))
    rows.loc[3, "elbo"] = -1.6e6  # one datum does not stretch the axis
    far = per_datum_figure(rows, "optimization", "t").axes[1]
    assert far.get_xlim()[1] < 100 and far.get_title("right").startswith("outside: ")


def test_rows_without_a_best_q_have_no_such_figure(tmp_path):
    rows = pd.DataFrame({"split": ["train"], "elbo": [-1.0]})
    assert per_datum_figure(rows, "amortization", "t") is None
    empty = pd.DataFrame({"split": ["train", "test"], "elbo": [np.nan] * 2, "best_elbo": [-1.0, np.nan]})
    assert per_datum_figure(empty, "amortization", "t") is not None  # drawn, though nothing is finite
