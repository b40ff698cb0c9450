"""The data on which q does worst: by what they are chosen, with their pictures."""

from __future__ import annotations

import base64
import io

import numpy as np
import pandas as pd
from pages import Page, rows_of
from PIL import Image
from rich_runs import rich_run
from synthetic_runs import write_scored

from vem.report.figures.catalogue import reader_of, sketches
from vem.report.page import render
from vem.report.read import findings
from vem.report.worst import ARRAYS, NUMBERS, worst_cases, worst_rows, worst_table


def worst_of(root):
    """The worst cases of the one table, the titles of their columns, and what is said of them."""
    found = findings([root])
    (table,) = found.tables
    shown = worst_table(table, found.base)
    return worst_cases(table, found.base, reader_of(table, found.base)), [c.title for c in shown.columns], shown.remarks


def test_the_worst_data_are_those_with_the_largest_gap(tmp_path):
    run = rich_run(tmp_path / "a", "amortized", 2, 0)
    cases, titles, (caption, sign) = worst_of(tmp_path)
    assert tuple(titles[-5:]) == NUMBERS and "the largest log p(x) − L[q]" in caption
    assert sign.startswith("≥")
    rows = pd.read_csv(run / "per_datum.csv").query("split == 'test'")
    rows = rows.assign(gap=rows["log_marginal_lower"] - rows["elbo"]).nlargest(3, "gap")
    assert [(case.row, case.split, case.label) for case in cases] == [
        (row, "test", f"{label}") for row, label in zip(rows["row"], rows["label"], strict=True)
    ]
    losses = [case.numbers[-2:] for case in cases]
    np.testing.assert_allclose(losses, np.column_stack([rows["best_elbo"] - rows["elbo"], rows["gap"]]))
    arrays = np.load(run / "pictures.npz")
    at = int(np.flatnonzero(arrays["worst_row"] == cases[0].row)[0])
    shown = Image.open(io.BytesIO(base64.b64decode(cases[0].x.partition(",")[2])))
    size = shown.size[0] // 8
    np.testing.assert_array_equal(np.asarray(shown)[::size, ::size] / 255, arrays["worst_x"][at])
    page = Page(render(findings([tmp_path]), []))
    assert len(page.all("td", class_="picture")) == 6


def test_without_pictures_the_worst_are_listed_all_the_same(tmp_path):
    run = rich_run(tmp_path / "a", "amortized", 2, 0)
    kept = {name: array for name, array in np.load(run / "pictures.npz").items() if name not in ARRAYS}
    np.savez(run / "pictures.npz", **kept)
    page = Page(render(findings([tmp_path]), []))
    assert not page.all("td", class_="picture") and "hold no pictures" in page.all("main")[0]["text"]
    assert len(rows_of(page, "worst")[1]) >= 3


def test_where_no_gap_is_known_the_lowest_elbos_are_the_worst():
    rows = pd.DataFrame({"split": ["train", "train", "train"], "row": [0, 1, 2], "elbo": [-1.0, -3.0, float("nan")]})
    by, worst = worst_rows(rows, 2)
    assert by == "L[q]" and worst["row"].tolist() == [1, 0]
    by, worst = worst_rows(rows.assign(best_elbo=[5.0, -3.0, 0.0]), 1)
    assert by == "L[q*] − L[q]" and worst["row"].tolist() == [0]
    assert not len(worst_rows(rows[:0], 2)[1])


def test_the_worst_of_an_exact_q_are_not_chosen_by_rounding(tmp_path):
    run = rich_run(tmp_path / "a", "gmm", 2, 0)
    cases, titles, (caption,) = worst_of(tmp_path)
    lowest = pd.read_csv(run / "per_datum.csv").query("split == 'test'").nsmallest(3, "elbo")
    assert [case.row for case in cases] == lowest["row"].tolist() and all(case.x for case in cases)
    assert caption == "Of one seed of each group, the data with the lowest L[q], in nats."
    assert "log p(x)" in titles and not any(case.at_least for case in cases)


def test_each_group_says_by_what_its_worst_data_were_chosen(tmp_path):
    for strategy in ("gmm", "local"):
        rich_run(tmp_path / strategy, strategy, 2, 0)
    _, _, (caption, _) = worst_of(tmp_path)
    assert "the lowest L[q], in nats; of local those with the largest log p(x) − L[q]." in caption


def test_without_log_p_nothing_is_said_of_it(tmp_path):
    write_scored(tmp_path / "a", {"test": np.random.default_rng(0).normal(size=9)})
    cases, titles, (caption,) = worst_of(tmp_path)
    assert "log p(x)" not in titles and "log p(x)" not in caption and len(cases) == 3


def test_rows_of_another_measurement_are_used_nowhere(tmp_path):
    for seed in range(2):
        rich_run(tmp_path / f"{seed}", "amortized", 2, seed)
    path = tmp_path / "0" / "per_datum.csv"
    path.write_text("".join(path.read_text().splitlines(keepends=True)[:-1]))
    found = findings([tmp_path])
    cases, _, (caption, _) = worst_of(tmp_path)
    assert {case.seed for case in cases} == {1} and "0 (0/per_datum.csv holds 39 of 40 test data" in caption
    words = {one.kind: one.caption for one in sketches(found.tables[0], found.base)}
    assert "0/per_datum.csv holds 39 of 40 test data" in words["gap_distributions"]
    assert not any("per_datum" in text for kind, text in words.items() if kind != "gap_distributions")
