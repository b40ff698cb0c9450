"""The report's figures: what is drawn where, in which words, from which numbers, and that nothing is cut off."""

from __future__ import annotations

import json
import warnings
import xml.etree.ElementTree as ET
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from figures_drawn import assert_nothing_is_cut_off
from rich_runs import rich_run, rich_sweep
from synthetic_runs import write_run

from vem.report.figures.axes import axis_figure
from vem.report.figures.catalogue import Group, draw, ranked, sketches, spread_over_strategies
from vem.report.figures.curves import Curve, coloured, comparison_figure, seed_average, strategies_figure
from vem.report.figures.gaps import MIDDLE, PAIRS, distributions_figure, gap_of_each
from vem.report.findings import Axis
from vem.report.read import findings

HOSTILE = "q <script>alert(1)</script> \"x\" & $a_b$ $c --> 漢字\x07\n'end'"


@pytest.fixture(scope="module")
def found(tmp_path_factory):
    return findings([rich_sweep(tmp_path_factory.mktemp("runs"), seeds=2)])


@pytest.fixture(scope="module")
def many(tmp_path_factory):
    root = tmp_path_factory.mktemp("many")
    return findings([rich_sweep(root, ("local", "amortized", "semi_amortized", "gmm"), (2, 50), seeds=1)])


def test_every_figure_of_a_sweep(found, tmp_path):
    drawn = draw(found, tmp_path)
    kinds = [(one.section, one.png.name) for one in drawn]
    assert kinds == [
        ("curves", "curves.png"), ("gaps", "gaps.png"), ("gaps", "gap_distributions.png"),
        ("pictures", "side_by_side.png"), ("pictures", "posteriors_by_strategy.png"), ("axes", "axis_latent-dim.png"),
    ]  # fmt: skip
    for one in drawn:
        assert one.png.stat().st_size > 5000 and one.table == 0 and one.caption.endswith(".")
        assert one.title in one.alt and "local, latent_dim=10" in one.alt
        text = one.svg.read_text()
        assert ET.fromstring(text).tag.endswith("svg") and "<dc:date" not in text and "<script" not in text


def test_no_text_is_cut_off_and_no_legend_lies_on_data(found, many, tmp_path):
    """Curves of few groups are drawn otherwise than those of many; all else is the same."""
    few, lot = ([sketch.figure for sketch in sketches(whole.tables[0], whole.base)] for whole in (found, many))
    assert (len(few), len(lot)) == (6, 7)
    for figure in (few[0], *lot):
        assert_nothing_is_cut_off(figure, tmp_path / "a.png")


def test_labels_of_any_kind_are_drawn_as_they_stand(tmp_path):
    write_run(tmp_path / "runs" / "a")
    write_run(tmp_path / "runs" / "b", "amortized")
    whole = findings([tmp_path / "runs"])
    table = whole.tables[0]
    named = table.groups.assign(label=[HOSTILE, "$\\frac{$"], strategy=[HOSTILE, "b"])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        (one,) = draw(replace(whole, tables=(replace(table, name=HOSTILE, groups=named),)), tmp_path / "figures")
    text = one.svg.read_text()
    ET.fromstring(text)
    assert "<script" not in text and "\x07" not in text
    assert HOSTILE.split("\x07")[0] in one.alt and "\n" not in one.alt


def test_a_damaged_file_costs_its_own_run_alone(tmp_path):
    for seed in range(2):
        rich_run(tmp_path / f"{seed}", "amortized", 2, seed)
    (tmp_path / "1" / "metrics.csv").write_text("a,b\n1,2\n")
    (tmp_path / "0" / "pictures.npz").write_bytes(b"x")
    whole = findings([tmp_path])
    kinds = {sketch.kind: sketch for sketch in sketches(whole.tables[0], whole.base)}
    assert f"1 ({tmp_path / '1' / 'metrics.csv'}" in kinds["curves"].caption
    assert "side_by_side" not in kinds and "gaps" in kinds


def test_the_best_groups_of_every_strategy_are_chosen():
    rows = [("a", "1", -3.0), ("a", "2", -1.0), ("a", "3", None), ("b", "4", -9.0), ("b", "5", -8.0)]
    groups = [Group(name, strategy, {"test_elbo_mean": elbo}, ()) for strategy, name, elbo in rows]
    assert [group.name for group in ranked(groups)] == ["2", "1", "5", "4", "3"]
    assert [group.name for group in spread_over_strategies(groups, 2)] == ["2", "5"]
    assert [group.name for group in spread_over_strategies(groups, 4)] == ["1", "2", "4", "5"]


def test_what_is_not_drawn_is_named(many, monkeypatch):
    monkeypatch.setattr("vem.report.figures.catalogue.MOST_BARS", 4)
    monkeypatch.setattr("vem.report.figures.catalogue.MOST_ROWS", 4)
    words = {sketch.kind: sketch.caption for sketch in sketches(many.tables[0], many.base)}
    assert all("latent_dim=2" in words[kind] for kind in ("gaps", "gap_distributions", "side_by_side"))


def test_of_many_strategies_the_best_have_rows_and_the_others_are_named(tmp_path):
    for i in range(8):
        for seed in range(2):
            write_run(tmp_path / f"{i}_{seed}", f"s{i}", seed, elbo=-100.0 + i, epochs=6 + 4 * seed * (i == 7))
    whole = findings([tmp_path])
    (sketch, _) = [one for one in sketches(whole.tables[0], whole.base) if one.section == "curves"]
    titles = [ax.get_title("left") for ax in sketch.figure.axes if ax.get_title("left")]
    assert titles == ["s2", "s3", "s4", "s5", "s6", "s7"]
    assert "others are better: s1; s0." in sketch.caption and ": s7 at 6 of 10." in sketch.caption


def test_curves_beyond_the_most_that_are_drawn_are_named(many, monkeypatch):
    monkeypatch.setattr("vem.report.figures.catalogue.MOST_CURVES", 4)
    words = next(one.caption for one in sketches(many.tables[0], many.base) if one.section == "curves")
    _, _, rest = words.partition("Not drawn, with a lower test ELBO: ")
    assert "gmm" in rest and rest.count(";") == 2 and "unequal" not in words


def curve(pace=1.0, evaluations=100, level=-100.0):
    epochs = np.arange(1, 6)
    costs = {"epoch": epochs, "seconds": pace * epochs, "decoder_evaluations": evaluations * epochs}
    return pd.DataFrame({"split": "valid", **costs, "elbo": level - 9.0 / epochs, "se": 0.5, "seeds": 3})


def test_curves_stand_at_their_costs():
    figure = comparison_figure([Curve("a", "a", curve(2.0)), Curve("b", "b", curve(evaluations=0))], "t")
    epochs, seconds, evaluations = figure.axes
    assert [ax.get_xlabel() for ax in figure.axes] == ["epoch", "training time (seconds)", "decoder evaluations"]
    assert list(seconds.lines[0].get_xdata()) == [2, 4, 6, 8, 10]
    assert len(epochs.lines) == 2 and len(evaluations.lines) == 1  # b has none to count
    assert list(evaluations.lines[0].get_xdata()) == [100, 200, 300, 400, 500]
    band = epochs.collections[0].get_paths()[0].vertices
    assert band[:, 1].max() == pytest.approx(-100 - 9 / 5 + 0.5)


def test_a_cost_that_differs_much_is_logarithmic():
    figure = comparison_figure([Curve("a", "a", curve(20.0)), Curve("b", "b", curve(1.0))], "t")
    assert [ax.get_xscale() for ax in figure.axes] == ["linear", "log", "linear"]
    assert figure.axes[1].get_xlabel().endswith("log scale")


def test_of_many_curves_each_strategy_has_a_row_before_the_others_in_grey(monkeypatch):
    monkeypatch.setattr("vem.report.figures.curves.MOST_SETTINGS", 2)
    found = [Curve(f"{s}, n={n}", s, curve(level=-100.0 - n)) for s in ("a", "b") for n in range(3)]
    found.append(Curve("c", "c", curve()))
    figure = strategies_figure(found, found, "valid", "t")
    assert [ax.get_title("left") for ax in figure.axes[::3]] == ["a", "b", "c"]
    first, second, third = figure.axes[::3]
    assert [line.get_label() for line in first.lines] == [line.get_label() for line in second.lines] == ["n=0", "n=1"]
    assert first.lines[1].get_color() == second.lines[1].get_color()  # the same setting
    assert len(third.lines) == 1 and third.lines[0].get_color() == (0.1, 0.1, 0.1)
    assert [len(ax.collections[0].get_segments()) for ax in (first, second, third)] == [5, 5, 6]
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["n=0", "n=1"]


def test_long_labels_have_room(tmp_path):
    rows = curve(evaluations=0)
    settings = [f"latent_dim={n}, model.decoder.widths=[{n}, 200], rate=0.00{n}" for n in range(8)]
    found = [Curve(f"{s}, {setting}", s, rows) for s in ("amortized", "local") for setting in settings]
    figure = strategies_figure(found, found, "valid", "t" * 300)
    assert_nothing_is_cut_off(figure, tmp_path / "a.png")
    assert_nothing_is_cut_off(comparison_figure(found[:6], " ".join("table" for _ in range(60))), tmp_path / "b.png")


def test_settings_in_colour_are_the_best_of_each_strategy_first():
    ranks = ["a, n=1", "a, n=2", "a, n=3", "a, n=4", "b, n=9", "a, n=5", "c"]
    found = [Curve(name, name[0], curve()) for name in ranks]
    assert coloured(found) == (["a", "b", "c"], ["n=1", "n=9", "n=2", "n=3", "n=4", "n=5"])
    many = [Curve(f"a, n={n}", "a", curve()) for n in range(20)] + [Curve("b, n=99", "b", curve())]
    assert coloured(many)[1] == ["n=0", "n=99", *(f"n={n}" for n in range(1, 7))]


def test_decoder_evaluations_are_averaged_where_every_seed_counted(tmp_path):
    for seed in range(2):
        rich_run(tmp_path / f"{seed}", "amortized", 2, seed)
    both = seed_average([tmp_path / "0", tmp_path / "1"])
    assert both.loc[both["split"] == "valid", "decoder_evaluations"].tolist() == [1500.0 * e for e in range(1, 31)]
    write_run(tmp_path / "2", "amortized", 2)  # counts none
    assert seed_average([tmp_path / f"{seed}" for seed in range(3)])["decoder_evaluations"].isna().all()


def test_lines_are_quantiles_over_data():
    rng = np.random.default_rng(0)
    rows = pd.DataFrame({"split": "test", "best_elbo": rng.normal(size=99), "elbo": -5.0, "log_marginal_lower": 3.0})
    rows.loc[0, "best_elbo"] = np.nan
    gaps = (rows["best_elbo"] + 5.0).dropna()
    np.testing.assert_allclose(gap_of_each(rows, "test", MIDDLE), gaps)
    assert len(gap_of_each(rows, "train", MIDDLE)) == 0
    figure = distributions_figure([("a", rows), ("b", rows[:0])], "t")
    assert [ax.get_title("left") for ax in figure.axes] == list(PAIRS)
    ax = figure.axes[1]
    drawn = [value for line in ax.lines for value in line.get_xdata() if np.isfinite(value)]
    expected = [*gaps.quantile([0.05, 0.25, 0.5, 0.75, 0.95]), gaps.mean()]
    assert sorted(set(np.round(drawn, 9)) - {0.0}) == pytest.approx(sorted(np.round(expected, 9)))
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["test data"]  # there are no others
    training = distributions_figure([("a", rows.assign(split="train"))], "t")
    (mark,) = training.legends[0].legend_handles
    assert training.legends[0].get_texts()[0].get_text() == "training data" and mark.get_marker() == "s"
    assert distributions_figure([("b", rows[:0])], "t") is None


def test_one_group_far_off_does_not_hide_the_others():
    rows = [
        pd.DataFrame({"split": "test", "best_elbo": scale * np.linspace(0, 1, 50), "elbo": 0.0})
        for scale in (1, 1, 900)
    ]
    ax = distributions_figure(list(zip("abc", rows, strict=True)), "t").axes[0]
    assert ax.get_xlim()[1] < 10 and [text.get_text() for text in ax.texts] == ["to 855.0 →"]


def axis(values=(2.0, 20.0), numeric=True):
    rows = [
        {"series": s, "value": v, "metric": "test_elbo", "mean": m, "low": m - 1, "high": m + 1, "seeds": 3}
        for s, means in (("a", (-9.0, -7.0)), ("b", (-8.0, -5.0)))
        for v, m in zip(values, means, strict=True)
    ]
    level = {"series": "c", "value": None, "metric": "test_elbo", "mean": -6.0, "low": None, "high": None, "seeds": 1}
    metrics = {"test_elbo": "test ELBO (nats per data point)", "never": "never measured"}
    points = pd.DataFrame([*rows, level]).assign(at_least=False)
    return Axis("size", tuple(values), numeric, metrics, points, ("c",))


def test_lines_along_an_axis():
    (ax,) = axis_figure(axis(), "t").axes
    a, b, level = ax.lines
    assert list(b.get_xdata()) == [2, 20] and list(b.get_ydata()) == [-8, -5] and ax.get_xscale() == "log"
    assert list(level.get_ydata()) == [-6, -6] and level.get_label() == "c (not swept)" and a.get_label() == "a"
    assert ax.get_title("left") == "test ELBO (nats per data point)" and ax.get_xlabel() == "size (log scale)"
    assert [label.get_text() for label in ax.get_xticklabels()] == ["2", "20"]
    band = ax.collections[1].get_paths()[0].vertices
    assert (band[:, 1].min(), band[:, 1].max()) == (-9, -4)


def test_values_that_are_words_stand_in_their_order():
    (ax,) = axis_figure(axis(("[200, 200]", "[50]"), numeric=False), "t").axes
    assert [label.get_text() for label in ax.get_xticklabels()] == ["[200, 200]", "[50]"]
    assert list(ax.lines[1].get_ydata()) == [-8, -5]
    empty = axis()
    assert axis_figure(replace(empty, points=empty.points.assign(mean=None)), "t") is None


def test_a_run_that_has_only_begun_draws_nothing(tmp_path):
    run = write_run(tmp_path / "a", status="running", evaluated=False)
    (run / "metrics.csv").unlink()
    (run / "run.json").write_text(json.dumps({"status": "running", "pid": 1}))
    assert draw(findings([tmp_path]), Path(tmp_path / "figures")) == []
