"""vem.compare, against pandas and scipy on what the run directories of the golden gate hold."""

from __future__ import annotations

import json
from itertools import product
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy import stats
from synthetic_runs import write_run

import vem
from vem.report.summary import write_report
from vem.report.words import interval

GOLDEN = Path(__file__).parents[1] / "golden"
CASES = {name: GOLDEN / "reports" / name for name in ("paired", "measured", "gaps", "rich")}
CASES["sweep"] = GOLDEN / "sweep"
GROUP = ["strategy", "family", "latent_dim"]


@pytest.fixture(scope="module", params=CASES)
def case(request):
    """The comparison, and by hand a row for each finished run with its evaluation and its data points."""
    rows = []
    for path in sorted(CASES[request.param].rglob("evaluation.json")):
        facts = json.loads((path.parent / "run.json").read_text())
        points = pd.read_csv(path.parent / "per_datum.csv").query("split == 'test'").set_index("row")["elbo"]
        rows.append({key: facts[key] for key in (*GROUP, "seed")}
                    | {"evaluation": json.loads(path.read_text()), "points": points})  # fmt: skip
    return vem.compare(CASES[request.param]), pd.DataFrame(rows)


def runs_of(found, label, runs):
    """By seed, the runs of a group."""
    row = found.table.set_index("label").loc[label]
    same = [all(row[key] == run[key] or pd.isna([row[key], run[key]]).all() for key in GROUP)
            for run in runs.to_dict("records")]  # fmt: skip
    return runs[same].set_index("seed").sort_index()


def over_seeds(values, level=0.95):
    """Mean, standard error and Student's interval."""
    mean, se = np.mean(values), stats.sem(values)
    half = stats.t.ppf((1 + level) / 2, len(values) - 1) * se
    return mean, se, mean - half, mean + half


def test_the_table_holds_means_over_seeds(case):
    found, runs = case
    assert list(found.table["test_elbo"]) == sorted(found.table["test_elbo"], reverse=True)
    assert found.table["seeds"].sum() == len(runs)
    for row in found.table.to_dict("records"):
        own = runs_of(found, row["label"], runs)["evaluation"]
        assert row["seeds"] == len(own) > 1
        for split in ("test", "train"):
            expected = over_seeds([content[split]["elbo"]["mean"] for content in own])[:2]
            assert (row[f"{split}_elbo"], row[f"{split}_elbo_se"]) == pytest.approx(expected, abs=1e-12)


def test_differences_are_paired_with_corrected_intervals(case):
    found, runs = case
    best, level = found.table["label"][0], 1 - 0.05 / (len(found.table) - 1)
    assert set(found.differences["label"]) == set(found.table["label"][1:])
    for row in found.differences.to_dict("records"):
        own, base = (runs_of(found, label, runs)["points"] for label in (row["label"], best))
        d = pd.DataFrame({seed: own[seed] - base[seed] for seed in own.index.intersection(base.index)})
        assert (row["baseline"], row["level"], row["over"], row["seeds"]) == (best, level, "seeds", d.shape[1])
        shown = [row[key] for key in ("mean", "se", "low", "high")]
        assert shown == pytest.approx(over_seeds(d.mean(), level), abs=1e-9)
        shown = [row[key] for key in ("mean", "data_se", "data_low", "data_high")]
        assert shown == pytest.approx(over_seeds(d.mean(axis=1), level), abs=1e-9)


def test_gaps_are_means_over_seeds_with_their_limits(case):
    found, runs = case
    expected = 0
    for label, split in product(found.table["label"], ("train", "valid", "test")):
        gaps = runs_of(found, label, runs)["evaluation"].iloc[0][split].get("gaps") or {}
        expected += sum(entry.get("mean") is not None for entry in gaps.values())
    own = found.gaps[found.gaps["family"].isna() & (found.gaps["quantity"] != "exact_loss")]
    assert len(own) == expected
    for row in own.to_dict("records"):
        name = row["quantity"].removesuffix("_gap")
        entries = [content[row["split"]]["gaps"][name] for content in runs_of(found, row["label"], runs)["evaluation"]]
        mean, se, low, high = over_seeds([entry["mean"] for entry in entries])
        assert [row[key] for key in ("mean", "se", "low")] == pytest.approx([mean, se, low], abs=1e-9)
        assert row["one_sided"] is any(entry["identified"][1] is None for entry in entries)
        assert pd.isna(row["high"]) if row["one_sided"] else row["high"] == pytest.approx(high, abs=1e-9)


def test_verdicts_are_what_the_terminal_says(case):
    found, _ = case
    whole = [verdict for verdict in found.verdicts if verdict.place is None]
    best, *others = found.table["label"]
    assert [(v.best, v.rival) for v in whole] == [(best, label) for label in others]
    said = " ".join(str(found).split()).partition("The answer")[2]
    sure = all(verdict.kind in ("ahead", "here") for verdict in whole)
    assert ("has the best bound" in said.partition(". ")[0]) is sure
    first = whole[0] if sure else next(v for v in whole if v.kind not in ("ahead", "here"))
    assert first.kind == "equal" or interval(first.low, first.high) in said
    by_baseline = found.differences.set_index("label")["mean"]
    assert [-verdict.mean for verdict in whole] == pytest.approx([by_baseline[v.rival] for v in whole])


def test_the_report_prints_the_same_comparison_and_numbers_are_numbers_where_none_is_known(tmp_path, monkeypatch):
    monkeypatch.setattr("vem.report.summary.draw", lambda found, folder: [])
    write_run(tmp_path / "a", elbo=-100.0)
    write_run(tmp_path / "b", "amortized", elbo=-99.0)
    before = sorted(tmp_path.rglob("*"))
    found = vem.compare(tmp_path, baseline="local")
    assert sorted(tmp_path.rglob("*")) == before  # nothing is written
    assert write_report([tmp_path], tmp_path / "out", baseline="local").startswith(str(found))
    again = vem.compare([tmp_path / "b", str(tmp_path / "a")], "local")
    pd.testing.assert_frame_equal(again.table, found.table)
    assert found.differences[["label", "baseline"]].to_numpy().tolist() == [["amortized", "local"]]
    assert found.differences["reason"].notna().all()  # no data points
    assert found.differences["low"].isna().all() and not (found.differences["low"] > 0).any()
    assert found.gaps.empty and found.gaps["mean"].dtype == found.table["train_elbo_se"].dtype == float


def test_a_loss_to_an_exact_marginal_says_so():
    gaps = vem.compare(CASES["rich"]).gaps
    assert set(gaps.loc[gaps["quantity"] == "exact_loss", "kind"]) == {"exact"}


def test_a_notebook_shows_names_as_text(tmp_path):
    write_run(tmp_path / "a", "<b>bold</b>")
    shown = vem.compare(tmp_path)._repr_html_()
    assert "<table" in shown and "&lt;b&gt;bold" in shown and "<b>" not in shown


@pytest.mark.parametrize(
    ("folder", "baseline", "remedy"),
    [("nowhere", None, "nowhere"), ("empty", None, "empty"), ("runs", "loca", "local; amortized|amortized; local")],
)
def test_what_cannot_be_compared_is_named(tmp_path, folder, baseline, remedy):
    (tmp_path / "empty").mkdir()
    write_run(tmp_path / "runs" / "a")
    write_run(tmp_path / "runs" / "b", "amortized")
    with pytest.raises(vem.VemError, match=remedy):
        vem.compare(tmp_path / folder, baseline)
    with pytest.raises(vem.VemError, match="no folder was named"):
        vem.compare([])
