"""The report's tables: what stands in their cells, and that the terminal, the page and Markdown have the same."""

from __future__ import annotations

import re

import numpy as np
import pandas as pd
import pytest
from matplotlib.figure import Figure
from pages import TITLES, cells, text_of, texts
from synthetic_runs import (
    BAD,
    add_bounds,
    add_families,
    doctored,
    editing,
    estimate,
    image_pictures,
    report_text,
    write_gaps,
    write_run,
    write_scored,
)

from vem.report import write_report
from vem.report.comparison_table import comparison_table, gap_tables
from vem.report.findings import Unfinished, alike
from vem.report.page import markdown, render
from vem.report.read import findings
from vem.report.table import Cell, Column, table

GAPS, LOG, END = "Gaps on test data: ", "log p(x): Test", "(97.5 %))"


def compared(root):
    """The comparison of the one table below a folder."""
    (found,) = findings([root]).tables
    return comparison_table(found)


def further(root):
    (found,) = findings([root]).tables
    return {own.title: own for own in gap_tables(found)}


def marginal(lower, upper, kind):
    ends = {"lower": estimate(lower, 0.08), "upper": estimate(upper, 0.08), "kind": kind}
    return lambda test: test.update(log_marginal=ends)


def lost(test):
    test["gaps"]["approximation"].update(mean={"value": None, "reason": "3 data have no finite value"}, se=None)


@pytest.mark.parametrize(
    ("options", "change", "expected"),
    [
        ({}, None, {GAPS + "Approximation": f"≥ 1.50 ± 0.10 (at least 1.30 {END}", LOG: "≥ −88.00 ± 0.30",
                    GAPS + "Amortization": "4.50 ± 0.10 (4.30 to 4.70)", "ELBO: Test": "−100.00 ± 0.30",
                    GAPS + "Inference": f"≥ 6.00 ± 0.10 (at least 5.80 {END}", GAPS + "Optimization": None,
                    "Model: Active units": "21", "Training: Seeds": "1"}),
        ({"exact": True}, None, {GAPS + "Approximation": "1.50 ± 0.10 (1.30 to 1.70)", LOG: "−88.00 ± 0.30"}),
        ({"exact": True}, marginal(-20.84, -20.84, "quadrature"), {LOG: "−20.84 ± 0.08"}),
        ({}, marginal(-90.0, -85.0, "two-sided annealing"), {LOG: "−90.00 to −85.00"}),
        ({"approximation": -0.001, "middle": -1.002}, None, {
            GAPS + "Approximation": f"≥ 0.00 ± 0.10 (at least −0.20 {END}",
            GAPS + "Amortization": "0.00 ± 0.10 (−0.20 to 0.20)"}),
        ({}, lost, {GAPS + "Approximation": "undefined (1)"}),
        ({"strategy": "local"}, None, {GAPS + "Amortization": None,
                                       GAPS + "Optimization": "4.50 ± 0.10 (4.30 to 4.70)"}),
        ({"checks": (BAD,)}, None, {"Strategy": "amortized · CHECKS FAILED: best_above_q (test)"}),
    ],
)  # fmt: skip
def test_cells_of_the_comparison(tmp_path, options, change, expected):
    run = write_gaps(tmp_path / "a", **options)
    if change:
        doctored(run, change)
    shown = compared(tmp_path)
    (row,) = texts(shown)
    assert {title: row.get(title) for title in expected} == expected
    assert shown.reasons == (("3 data have no finite value",) if change is lost else ())
    assert any("≥" in remark for remark in shown.remarks) == any("≥" in text for text in row.values())


def test_gaps_of_training_data_alone_have_their_columns(tmp_path):
    with editing(write_gaps(tmp_path / "a")) as content:
        content["valid"]["gaps"] = content["test"]["gaps"] = {}
    (row,) = texts(compared(tmp_path))
    assert {"Gaps on training data: Approximation", "Gaps on training data: Amortization", "log p(x): Train"} <= set(
        row
    )
    assert [row["Data"] for row in texts(further(tmp_path)["Gaps in numbers"])] == ["training"]


def test_a_difference_over_fewer_seeds_or_of_means_says_so(tmp_path):
    for seed in range(3):
        scores = np.arange(20.0) + seed
        write_scored(tmp_path / f"a{seed}", {"test": scores}, seed=seed)
        write_scored(tmp_path / f"b{seed}", {"test": 0.9 * scores - 3}, seed=seed + 1, strategy="amortized")
    first, other = cells(compared(tmp_path))
    assert first["ELBO: Test, to baseline"].text == "baseline"
    assert other["ELBO: Test, to baseline"].ends[0].endswith(", 2 common seeds")
    (tmp_path / "b1" / "per_datum.csv").unlink()
    assert any(remark.startswith("amortized: a difference of means") for remark in compared(tmp_path).remarks)


def test_a_missing_elbo_is_undefined_with_its_reason(tmp_path):
    missing = {"value": None, "reason": "q has no density"}
    for name, value in {"one": missing, "other": {"mean": missing}}.items():
        write_run(tmp_path / name / "a", seed=0, elbo=-100.0)
        write_run(tmp_path / name / "b", seed=1, elbo=value)
        shown = compared(tmp_path / name)
        assert [cell.text for cell in shown.rows[0][1:3]] == ["undefined"] * 2  # no mean over the seeds that have one
        assert shown.reasons[0] == "seed 1: q has no density"
        assert "undefined (1): seed 1: q has no density" in report_text(tmp_path / name).splitlines()


def test_models_and_sizes_stand_in_the_table(tmp_path):
    for i, limit in enumerate((None, 500)):
        config = {"data": {"seed": 0, "max_train": limit}, "training": {"note": "two\nlines" if limit else "one"}}
        write_run(tmp_path / f"{i}", num_train=limit or 1297, config=config)
    rows = texts(compared(tmp_path))
    assert [row["Data: Trained on"] for row in rows] == ["1,297", "500"]
    assert [row["Model: Kind"] for row in rows] == ["deep, diagonal gaussian, 2-D z"] * 2
    assert "data.max_train=1297" in rows[0]["Strategy"] and "training.note=two lines" in rows[1]["Strategy"]
    assert not any("null" in row["Strategy"] or "\n" in row["Strategy"] for row in rows)


# --- tables beside it


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    root = tmp_path_factory.mktemp("runs")
    for seed in range(2):
        run = write_gaps(root / f"amortized{seed}", seed=seed, elbo=-100.0 + 0.1 * seed)
        add_families(run, gain=0.4 + 0.4 * seed)
        add_bounds(run, importance_ess=(400.0, 4.0)[seed])
        write_gaps(root / f"local{seed}", "local", seed=seed, elbo=-99.0 + 0.3 * seed, checks=(BAD,))
    return root


def test_each_table_has_the_numbers_with_their_ends(root):
    gaps, families, generalization, bounds = further(root).values()
    own = next(row for row in cells(gaps) if (row["Group"].text, row["Data"].text) == ("amortized", "test"))
    assert (own["Amortization"].text, own["Amortization"].error) == ("4.50", "± 0.00")
    assert own["Amortization"].ends == ("seeds 4.50 to 4.50", "data 4.30 to 4.70")
    assert own["Approximation"].text == "≥ 1.50" and own["Optimization"].text == "–"
    assert {row["Data"] + ": " + row["Checks"] for row in texts(gaps) if row["Group"] == "local"} == {
        "training: passed", "validation: passed", "test: FAILED: best_above_q"}  # fmt: skip
    assert "log p(x) by: ais from q*." in gaps.notes  # the same in every row
    one, other = texts(families)
    assert (one["Family"], one["Gain over own"], one["Converged"]) == ("diagonal gaussian", "–", "100%")
    assert (other["Family"], other["Converged"]) == ("full gaussian", "98%")
    assert other["Gain over own"].startswith("0.60 ± 0.20 (seeds −1.94 to 3.14; data ")
    assert [cell.text for cell in generalization.rows[0]] == ["amortized", "test", "0.70"]
    # Of the seeds' effective samples the fewest.
    assert [[row["Bound"], row["Effective samples"], row[""]] for row in texts(bounds)] == [
        ["importance, K=5000", "4", "LOOSE"], ["prior, K=5000", "1.2", "LOOSE"]]  # fmt: skip


def test_all_three_show_the_same_tables(root):
    found = findings([root])
    page, text, terminal = render(found, []), markdown(found, [], root).replace("\\", ""), report_text(root)
    words = text_of(page).replace("\N{NO-BREAK SPACE}", " ")
    for own in further(root).values():
        assert own.title in text and own.title in words and f"{own.title}:\n" in terminal
        assert all(remark in text and remark in words for remark in own.remarks)
    assert "4.50 ± 0.00 (seeds 4.50 to 4.50; data 4.30 to 4.70)" in text and "4.50 ± 0.00 (4.50 to 4.50)" in terminal
    (row,) = [r for r in found.tables[0].groups.to_dict("records") if r["label"] == "amortized"]
    ends = f"{row['paired_ci95_low']:.2f} to {row['paired_ci95_high']:.2f}"
    assert ends.replace("-", "−") in words and f"({ends.replace('-', '−')})" in text and f"({ends})" in terminal


def test_a_split_without_gaps_has_no_row_and_the_own_family_alone_no_table(tmp_path):
    run = write_gaps(tmp_path / "a")
    add_families(run)
    with editing(run) as content:
        del content["test"]["families"]["full_gaussian"], content["across_splits"]
        content["test"]["gaps"] = {}
    (shown,) = further(tmp_path).values()
    assert shown.title == "Gaps in numbers" and [row["Data"] for row in texts(shown)] == ["training", "validation"]
    with editing(run) as content:
        content["train"]["gaps"] = content["valid"]["gaps"] = {}
    assert further(tmp_path) == {}


def test_further_bounds_need_no_gaps_and_gate_nothing(tmp_path):
    add_bounds(write_run(tmp_path / "a"))
    (bounds,) = further(tmp_path).values()
    assert [row[""] for row in texts(bounds)] == ["", "LOOSE"]
    assert compared(tmp_path).rows[0][0].failed == ""


def test_a_long_label_is_told_in_full_elsewhere():
    shown = table("t", [Column("Group", numeric=False), Column("n"), Column("none")],
                  [[Cell("a, measured: …"), Cell("−1.00", ends=("−2.00 to 1.00", "x")), Cell("–")]])  # fmt: skip
    assert [column.title for column in shown.columns] == ["Group", "n"]
    assert shown.lines()[2] == "a, measured: …  -1.00 (-2.00 to 1.00)" and "runs.csv" in shown.lines()[-1]


# --- Markdown


def test_seven_sections_and_links_to_the_figures(tmp_path, monkeypatch):
    monkeypatch.setattr(Figure, "draw", lambda self, renderer: None)  # figures are saved, and empty
    for size in (2, 10):
        for strategy in ("local", "amortized"):
            write_gaps(
                tmp_path / "runs" / f"{strategy}{size}", strategy, latent_dim=size, pictures=image_pictures(),
                config={"latent_dim": size, "model": {"latent_dim": size}},
            )  # fmt: skip
    write_run(tmp_path / "runs" / "bad", "gmm", status="failed", error="a | b\nc", evaluated=False)
    (tmp_path / "runs" / "bad" / "run.log").write_text("Traceback\n```\nboom\n")
    write_report([tmp_path / "runs"], tmp_path / "out")
    text = (tmp_path / "out" / "report.md").read_text()
    assert re.findall(r"^## \d\. (.*)$", text, flags=re.M) == TITLES
    links = re.findall(r"^!\[.*\]\((.*)\)$", text, flags=re.M)
    assert {"figures/curves.png", "figures/gaps.png", "figures/side_by_side.png"} <= set(links)
    assert all((tmp_path / "out" / link).exists() for link in links)
    assert r"- failed: gmm, seed 0, bad: a \| b c" in text and "````\n  Traceback\n  ```\n  boom\n  ````" in text
    assert "| test ELBO (nats per data point) | latent\\_dim=2 | latent\\_dim=10 |" in text
    assert "| amortized, latent\\_dim=2 · seed 0 | test, row " in text.partition("### The worst cases")[2]
    widths = {line.replace(r"\|", "").count("|") for line in text.splitlines() if line.startswith("|")}
    assert min(widths) > 2 and not re.search(r"\n\n\n|[^ ] +\n", text)


def test_fractions_are_written_short_and_settings_in_full(tmp_path):
    for i, rate in enumerate((0.004210984673528849, 0.0171)):
        write_run(tmp_path / f"{i}", config={"training": {"rate": rate}}, commit=f"c{i}")
    text = markdown(findings([tmp_path]), [], tmp_path)
    body, _, differences = text.partition("### Settings that differ")
    assert "training.rate=0.004211" in body and "0.0042109846" not in body and "0.004210984673528849" in differences
    assert "c0 (1 run), c1 (1 run)" in text


def test_only_runs_without_a_name(tmp_path):
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "run.json").write_text('{"status": "failed", "error": "no such file"}')
    found = findings([tmp_path])
    assert "- failed: unknown, a: no such file" in markdown(found, [], tmp_path)
    assert re.findall(r"^## \d\. (.*)$", markdown(found, [], tmp_path), flags=re.M) == [
        TITLES[i] for i in (0, 1, 6)]  # fmt: skip


# --- runs without a result


def test_runs_of_the_very_same_error_are_told_once(tmp_path):
    write_run(tmp_path / "a")
    for seed in range(9):
        write_run(tmp_path / f"b{seed}", seed=seed + 1, status="failed", error="no such\nfile", evaluated=False)
    found = findings([tmp_path])
    page, text, terminal = render(found, []), markdown(found, [], tmp_path), report_text(tmp_path)
    assert page.count("no such file") == text.count("no such file") == terminal.count("no such file") == 1
    assert all(f"<code>b{n}</code>" in page and f"b{n} (local, seed {n + 1})" in text for n in range(9))
    assert "  b0 (local, seed 1); b1 (local, seed 2); b2 (local, seed 3) and 6 more\n" in terminal


def test_other_reasons_stay_apart():
    runs = [Unfinished(f"{n}", "x", status, reason) for n, (status, reason) in enumerate(
        [("failed", "a"), ("lost", "a"), ("failed", "b"), ("failed", "a")])]  # fmt: skip
    assert [[run.directory for run in group] for group in alike(runs)] == [["0", "3"], ["1"], ["2"]]


def test_what_runs_csv_has_of_families_and_bounds(root):
    report_text(root)
    runs = pd.read_csv(root / "runs.csv").set_index(["strategy", "seed"])
    assert runs.loc[("amortized", 0), "test_family_full_gaussian_gain_over_own"] == 0.4
    assert runs.loc[("amortized", 0), "test_amortization_generalization_ci95_high"] == pytest.approx(0.9)
    assert runs.loc[("amortized", 0), "test_prior_bound"] == -140.0 and "train_prior_bound" not in runs
    assert runs.loc["local"].filter(like="_family_").isna().all(axis=None)
    assert runs["test_prior_bound_loose"].map(str).to_dict()["local", 0] == "nan"
    row = pd.read_csv(root / "summary.csv").set_index("strategy").loc["amortized"]
    assert row["test_family_full_gaussian_gain_over_own_mean"] == pytest.approx(0.6)
    assert (row["test_importance_bound_mean"], row["test_importance_bound_ess"]) == (-88.5, 4.0)
