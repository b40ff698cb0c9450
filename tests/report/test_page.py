"""The page: what it says, that it fetches nothing, and that no label can become part of it."""

from __future__ import annotations

import base64
import hashlib
import re
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from figures_drawn import unpainted
from pages import TITLES, Page, rows_of
from rich_runs import NUM_DATA, fail, rich_run, rich_sweep
from synthetic_runs import write_run

from vem.report.comparison_table import comparison_table
from vem.report.figures.catalogue import draw
from vem.report.findings import Sentence, Unfinished
from vem.report.page import render
from vem.report.read import findings
from vem.report.worst import picture

HOSTILE = "<script>alert(1)</script><img src=x onerror=alert(2)> \"quoted\" 'single' & 漢字\nline"


@pytest.fixture(scope="module")
def sweep(tmp_path_factory):
    root = rich_sweep(tmp_path_factory.mktemp("runs") / "sweep", seeds=2)
    fail(rich_run(root / "bad", "amortized", 10, 7), "step 12: kl is infinite")
    write_run(root / "none", "hmc", elbo={"value": None, "reason": "q has no density"}, num_data=NUM_DATA)
    found = findings([root])
    with unpainted():
        drawn = draw(found, tmp_path_factory.mktemp("figures"))
    return found, drawn, Page(render(found, drawn))


def test_seven_sections_in_order(sweep):
    _, drawn, page = sweep
    titles = [re.sub(r"\s+", " ", h["text"]).strip() for h in page.all("h2")]
    assert titles == [f"{i} {title}" for i, title in enumerate(TITLES, 1)]
    assert [a["@href"] for a in page.all("a")[1:8]] == [f"#{s['@id']}" for s in page.all("section")]
    assert len(page.all("figure")) == len(drawn) == 6
    assert {img["@alt"] for img in page.all("img")} > {one.alt for one in drawn}


def test_nothing_is_fetched_and_nothing_else_may_run(sweep):
    page = sweep[2]
    (policy,) = [m["@content"] for m in page.all("meta") if m.get("@http-equiv") == "Content-Security-Policy"]
    rules = dict(rule.split(" ", 1) for rule in policy.split("; "))
    assert rules["default-src"] == "'none'" and rules["img-src"] == "data:"
    for tag in ("style", "script"):
        (element,) = page.all(tag)
        digest = base64.b64encode(hashlib.sha256(element["text"].encode()).digest()).decode()
        assert rules[f"{tag}-src"] == f"'sha256-{digest}'"
    for element in page.elements:
        for name, value in element.items():
            assert not name.startswith("@on") and name != "@style"
            if name in ("@src", "@href"):
                assert value.startswith(("data:", "#"))
    assert "url(" not in page.all("style")[0]["text"] and "@import" not in page.all("style")[0]["text"]


def test_the_table_holds_the_numbers_best_first(sweep):
    found, _, page = sweep
    heads, rows = rows_of(page, "comparison")
    assert heads[:4] == ["Strategy", "Test", "Test, to baseline", "Train"]
    assert heads.index("Inference") > heads.index("Approximation") and {"Seeds", "Parameters"} < set(heads)
    groups = found.tables[0].groups.set_index("label")
    order = groups["test_elbo_mean"].astype(float).sort_values(ascending=False, na_position="last")
    rows = rows[: len(groups)]
    assert [row[0]["@data-value"] for row in rows] == list(order.index)
    for row in rows[:-1]:
        group = groups.loc[row[0]["@data-value"]]
        assert float(row[1]["@data-value"]) == group["test_elbo_mean"]
        assert row[1]["text"] == f"{group['test_elbo_mean']:.2f} ± {group['test_elbo_se']:.2f}".replace("-", "−")
        assert float(row[3]["@data-value"]) == group["train_elbo_mean"]
    assert rows[0][2]["text"] == "baseline"
    assert [b["@aria-sort"] for b in page.all("th") if b.get("@aria-sort") == "descending"] == ["descending"]


def test_what_is_undefined_says_why_and_points_to_its_footnote(sweep):
    page = sweep[2]
    shown = page.all("a", class_="undefined")
    assert shown and {a["@data-tip"] for a in shown} >= {"q has no density"}
    notes = {e["@id"]: e["text"] for e in page.all("li") if e.get("@id", "").startswith("why-")}
    for a in shown:
        assert notes[a["@href"][1:]] == f"undefined: {a['@data-tip']}"
    cell = next(td for td in page.all("td") if td["text"].startswith("undefined"))
    assert "@data-value" not in cell


@pytest.mark.parametrize(
    ("progress", "running"),
    [({"done": 3, "running": 1, "waiting": 2}, True), ({"done": 3, "failed": 1}, False), ({}, False)],
)
def test_the_page_comes_anew_only_while_runs_are_missing(sweep, progress, running):
    found, _, _ = sweep
    page = Page(render(replace(found, progress=progress), []))
    assert [m for m in page.all("meta") if m.get("@http-equiv") == "refresh"] == page.all("meta", content="20")
    assert bool(page.all("meta", content="20")) == running
    text = page.all("header")[0]["text"]
    assert all(f"{num} {state}" in text for state, num in progress.items()) and ("is running" in text) == running


def test_labels_stay_labels(sweep):
    found, drawn, _ = sweep
    table, plan = found.tables[0], found.provenance
    groups = table.groups.assign(
        label=[HOSTILE + str(i) for i in range(len(table.groups))],
        test_elbo_mean=None,
        **dict.fromkeys(("checks_failed", "status", "model", "test_elbo_reason"), HOSTILE),
    )
    answer = tuple(Sentence(HOSTILE, kind) for kind in ("finding", "loss", "caution"))
    table = replace(table, name=HOSTILE, groups=groups, baseline=HOSTILE, answer=answer)
    counts, settings = {HOSTILE: 1}, pd.DataFrame({"label": [HOSTILE], HOSTILE: [HOSTILE]})
    plan = replace(
        plan,
        commands=(HOSTILE,),
        commits=counts,
        versions={HOSTILE: (HOSTILE,)},
        machines=counts,
        differences=settings,
        rebuild=HOSTILE,
        written=HOSTILE,
        remarks=(HOSTILE,),
    )
    bad = Unfinished(HOSTILE, HOSTILE, HOSTILE, HOSTILE, HOSTILE)
    drawn = [one._replace(title=HOSTILE, caption=HOSTILE, alt=HOSTILE) for one in drawn]
    text = render(
        replace(found, tables=(table,), provenance=plan, unfinished=(bad,), title=HOSTILE, apart=(HOSTILE,),
                progress={HOSTILE: 2}), drawn,
    )  # fmt: skip
    page = Page(text)
    assert len(page.all("script")) == 1 and "alert(1)" not in page.all("script")[0]["text"]
    assert not any("@onerror" in e for e in page.elements)
    assert page.all("h1")[0]["text"] == HOSTILE and page.all("img")[0]["@alt"] == HOSTILE
    assert "漢字" in page.all("title")[0]["text"]


def test_what_is_missing_is_said_with_the_command_that_fills_it(tmp_path):
    write_run(tmp_path / "a")
    found = findings([tmp_path])
    page = Page(render(found, []))
    texts = [p["text"] for p in page.all("p", class_="absent")]
    assert len(texts) == 4 and any("No gap was measured" in text for text in texts)
    assert "evaluation=gaps" in page.all("main")[0]["text"] and not page.all("figure")


def test_runs_that_all_failed_have_a_page_too(tmp_path):
    (tmp_path / "b").mkdir()
    (tmp_path / "b" / "run.json").write_text('{"status": "failed", "error": "no such file", "config_hash": "h"}')
    page = Page(render(findings([tmp_path]), []))
    assert "no such file" in page.all("main")[0]["text"]
    assert [s["@id"] for s in page.all("section")] == ["answer", "comparison", "provenance"]


@pytest.mark.parametrize(("groups", "settings"), [(2, 5), (5, 2)])
def test_settings_that_differ_stand_the_shorter_way_across(sweep, groups, settings):
    found = sweep[0]
    frame = pd.DataFrame(
        {"label": [f"g{g}" for g in range(groups)], **{f"s{s}": range(groups) for s in range(settings)}}
    )
    frame.loc[0, "s1"] = None
    page = Page(render(replace(found, provenance=replace(found.provenance, differences=frame)), []))
    _, rows = rows_of(page, "plain")
    assert [row[0]["text"] for row in rows] == [f"{'sg'[settings == 2]}{i}" for i in range(5)]
    texts = np.array([[cell["text"] for cell in row[1:]] for row in rows])
    expected = frame.drop(columns="label").to_numpy()
    expected = expected.T if settings == 5 else expected
    assert texts.tolist() == [["" if pd.isna(v) else str(int(v)) for v in row] for row in expected]


def test_the_runs_of_these_tests_have_rows_that_count(sweep):
    """Else what is shown of them would be shown of runs that a report refuses."""
    found, drawn, _ = sweep
    assert found.tables[0].refused == {} and not any("Left out" in one.caption for one in drawn)
    assert found.tables[0].groups["paired_data_se"].notna().any()


@pytest.mark.parametrize(
    ("shape", "kind"), [((8, 8), "image/png"), ((12,), "image/svg+xml"), ((1,), "image/svg+xml"), ((2,), "")]
)
def test_events_of_every_shape_have_a_picture(shape, kind):
    found = picture(np.linspace(0, 1, int(np.prod(shape))).reshape(shape), (0.0, 1.0))
    assert found.startswith(f"data:{kind}") if kind else found == ""


def test_every_row_has_a_cell_for_every_column(sweep):
    shown = comparison_table(sweep[0].tables[0])
    assert sum(span for _, span in shown.parts) == len(shown.columns)
    assert all(len(row) == len(shown.columns) for row in shown.rows)
    assert sum(column.sorted for column in shown.columns) == 1
    assert any("paired" in remark for remark in shown.remarks)
