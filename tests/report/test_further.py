"""What the terminal says in tables stands on both pages too: gaps by split, families, generalization, bounds."""

from __future__ import annotations

import numpy as np
import pytest
from pages import text_of
from synthetic_runs import add_bounds, add_families, editing, write_gaps, write_run, write_scored

from vem.report.comparison_cells import comparison_cells
from vem.report.findings import Unfinished, alike
from vem.report.further import further_tables
from vem.report.markdown import markdown
from vem.report.page import render
from vem.report.read import findings


def cells_of(own):
    return [[" ".join([cell.text, cell.error, *cell.ends]).split() for cell in row] for row in own.rows]


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    root = tmp_path_factory.mktemp("runs")
    for seed in range(2):
        run = write_gaps(root / f"amortized{seed}", seed=seed, elbo=-100.0 + 0.1 * seed)
        add_families(run)
        add_bounds(run, importance_ess=4.0)
        write_gaps(root / f"local{seed}", "local", seed=seed, elbo=-99.0 + 0.3 * seed)
    return root


def test_each_table_has_the_numbers_with_their_ends(root):
    found = findings([root])
    gaps, families, generalization, bounds = further_tables(found.tables[0])
    assert gaps.columns == ("Group", "Data", "Approximation", "Amortization", "Optimization", "Inference", "log p(x)",
                            "Active units")  # fmt: skip
    cells = next(row for row in cells_of(gaps) if row[:2] == [["amortized"], ["test"]])
    row = dict(zip(gaps.columns, cells, strict=True))
    assert row["Amortization"][:3] == ["4.50", "±", "0.00"] and row["Amortization"][3:7] == [
        "seeds",
        "4.50",
        "to",
        "4.50",
    ]
    assert row["Amortization"][7] == "data" and row["Approximation"][:2] == ["≥", "1.50"]
    assert row["Optimization"] == ["–"] and {"log p(x) by: ais from q*.", "Checks: passed."} <= set(gaps.notes)
    assert [row[2][:2] for row in cells_of(families)] == [["diagonal", "gaussian"], ["full", "gaussian"]]
    assert cells_of(families)[1][5][:3] == ["0.40", "±", "0.00"]
    assert cells_of(generalization)[0][2][:3] == ["0.70", "±", "0.00"]
    assert any("LOOSE: too few effective samples" in note for note in bounds.notes)


def test_they_stand_on_both_pages(root):
    found = findings([root])
    for text in (text_of(render(found, [])), markdown(found, [], root).replace("\\", "")):
        assert all(own.title in text for own in further_tables(found.tables[0]))
        assert "full gaussian" in text and "LOOSE" in text and "4.50 ± 0.00" in text


def test_differences_and_gaps_have_their_intervals_in_print(root):
    found = findings([root])
    (row,) = [r for r in found.tables[0].groups.to_dict("records") if r["label"] == "amortized"]
    ends = f"{row['paired_ci95_low']:.2f} to {row['paired_ci95_high']:.2f}".replace("-", "−")
    page, text = text_of(render(found, [])), markdown(found, [], root)
    assert ends in page and f"({ends})" in text
    assert page.count("4.50 to 4.50") >= 2 and "≥ 1.50 ± 0.00 (at least 1.50 (97.5 %))" in text


def test_a_difference_over_fewer_seeds_or_of_means_says_so(tmp_path):
    for seed in range(3):
        scores = np.arange(20.0) + seed
        write_scored(tmp_path / f"a{seed}", {"test": scores}, seed=seed)
        write_scored(tmp_path / f"b{seed}", {"test": 0.9 * scores - 3}, seed=seed + 1, strategy="amortized")
    shown = comparison_cells(findings([tmp_path]).tables[0])
    (cell,) = [row.cells[1] for row in shown.rows if row.label == "amortized"]
    assert cell.ends[0].endswith(", 2 common seeds")
    (tmp_path / "b1" / "per_datum.csv").unlink()
    shown = comparison_cells(findings([tmp_path]).tables[0])
    assert any(remark.startswith("amortized: a difference of means") for remark in shown.remarks)


def test_gaps_of_training_data_alone_have_their_columns(tmp_path):
    run = write_gaps(tmp_path / "a")
    with editing(run) as content:
        for split in ("valid", "test"):
            content[split]["gaps"] = {}
    shown = comparison_cells(findings([tmp_path]).tables[0])
    places = {(column.part, column.title) for column in shown.columns}
    part = "Gaps on training data, nats per datum"
    assert {(part, "Approximation"), (part, "Amortization"), ("log p(x), nats per datum", "Train")} <= places


def test_without_gaps_there_is_no_such_table(tmp_path):
    write_run(tmp_path / "a")
    assert further_tables(findings([tmp_path]).tables[0]) == []


def test_runs_of_the_very_same_error_are_told_once(tmp_path):
    write_run(tmp_path / "a")
    for seed in range(9):
        write_run(tmp_path / f"b{seed}", seed=seed + 1, status="failed", error="no such file", evaluated=False)
    found = findings([tmp_path])
    page, text = render(found, []), markdown(found, [], tmp_path)
    assert page.count("no such file") == 1 and all(f"<code>b{n}</code>" in page for n in range(9))
    assert text.count("no such file") == 1 and all(f"b{n} (local, seed {n + 1})" in text for n in range(9))


def test_other_reasons_stay_apart():
    runs = [Unfinished(f"{n}", "x", status, reason) for n, (status, reason) in enumerate(
        [("failed", "a"), ("lost", "a"), ("failed", "b"), ("failed", "a")])]  # fmt: skip
    assert [[run.directory for run in group] for group in alike(runs)] == [["0", "3"], ["1"], ["2"]]


def test_the_data_are_named_below_the_title(tmp_path):
    write_run(tmp_path / "runs" / "a")
    head, _, _ = render(findings([tmp_path / "runs"]), []).partition("</header>")
    assert "Data: digits, binarize=threshold, likelihood=bernoulli" in text_of(head)
