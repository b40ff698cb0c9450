"""Where log p(x) is known from below alone, an interval has one end: a gap is "at least" so much, on every page."""

from __future__ import annotations

import re

import numpy as np
import pandas as pd
import pytest
import torch
from answers import answered
from pages import text_of
from synthetic_runs import add_families, editing, report_text, write_gaps

from vem.cli import measure
from vem.evaluation.paired import gap as paired_gap
from vem.evaluation.paired import sample
from vem.external.measurement import Measurement
from vem.report.page import markdown, render
from vem.report.read import findings


def modern(run):
    """The run with intervals as they are written today: one end where the other limits nothing."""
    with editing(run) as content:

        def walk(node):
            if isinstance(node, dict):
                if node.get("identified", [0, 0])[1] is None and "ci95" in node:
                    node["ci95"] = [node["ci95"][0], None]
                for child in node.values():
                    walk(child)

        walk(content)
    return run


def shown(root):
    """Everything that a report says, on the terminal, in Markdown and on the page, less the time."""
    terminal = report_text(root)
    found = findings([root])
    texts = [terminal, markdown(found, [], root), text_of(render(found, []))]
    texts += [(root / name).read_text() for name in ("summary.csv", "runs.csv")]
    return [re.sub(r"\d{4}-\d\d-\d\d \d\d:\d\d UTC", "", text.replace(str(root), "ROOT")) for text in texts]


@pytest.mark.parametrize("seeds", [1, 3])
def test_an_old_directory_with_two_ends_reads_as_one_of_today(tmp_path, seeds):
    for name in ("old", "new"):
        for seed in range(seeds):
            run = write_gaps(tmp_path / name / "sweep" / f"{seed}", seed=seed, approximation=1.5 + 0.1 * seed)
            add_families(run)
            if name == "new":
                modern(run)
    old, new = (shown(tmp_path / name / "sweep") for name in ("old", "new"))
    assert old == new
    terminal, text, page, *_ = new
    low = {1: "1.30", 3: "1.35"}[seeds]  # 1.5 − 0.2, and 1.6 − t_2 · 0.1 / √3 = 1.3516
    phrase = f"at least {low} (97.5 %)"
    assert phrase in terminal and phrase in text.replace("\\", "") and phrase in page
    both = re.search(r"≥(?:(?!  )[^|–\n])*\d to \d", terminal + text)  # in one cell
    assert both is None, both


def test_an_empty_cell_and_the_flag_where_some_seed_is_known_from_below_alone(tmp_path):
    for name, exact in (("below", False), ("mixed", True)):
        modern(write_gaps(tmp_path / name / "0", seed=0))
        write_gaps(tmp_path / name / "1", seed=1, approximation=1.6, exact=exact)
        report_text(tmp_path / name)
        summary, runs = (pd.read_csv(tmp_path / name / file).iloc[0] for file in ("summary.csv", "runs.csv"))
        for row in (summary, runs):
            assert row["test_approximation_gap_ci95_low"] < 1.55 and pd.isna(row["test_approximation_gap_ci95_high"])
            assert row["test_approximation_gap_at_least"] and not row["test_amortization_gap_at_least"]
            assert row["test_amortization_gap_ci95_high"] > 4
        assert summary["test_approximation_gap_data_ci95_low"] > 1
        assert pd.isna(summary["test_approximation_gap_data_ci95_high"])


def evaluation():
    """One split whose gaps come from vem's own estimator."""
    rng = np.random.default_rng(0)
    differences = sample(torch.tensor(0.2 + 0.05 * rng.normal(size=50)))
    mean = float(differences.values.mean())
    number = {"mean": -3.0, "se": 0.1, "mc_se": 0.01}
    gaps = {"approximation": paired_gap(differences, (mean, None)), "amortization": paired_gap(differences)}
    return {"test": {"num_data": 50, "elbo": number, "gaps": gaps, "families": {}, "checks": [],
                     "log_marginal": {"lower": number, "upper": None, "kind": "annealing"}}}  # fmt: skip


def test_the_terminal_and_a_printed_measurement_say_at_least():
    content = evaluation()
    low, none = content["test"]["gaps"]["approximation"]["ci95"]
    both = content["test"]["gaps"]["amortization"]["ci95"]
    assert none is None and both[0] == low
    (line,) = measure.lines(content)
    assert f"approximation gap ≥ 0.21 [at least {low:.2f} (97.5 %)]" in line
    assert f"amortization gap 0.21 [{low:.2f} to {both[1]:.2f}]" in line
    printed = str(Measurement(content, [], {}, {}, {}))
    own, other = (next(p for p in printed.splitlines() if f"{n} gap" in p) for n in ("approximation", "amortization"))
    assert own.endswith(f"at least {low:.3f} (97.5 %)") and other.endswith(f"[{low:.3f}, {both[1]:.3f}]")


@pytest.mark.parametrize(("check", "at_least"), [("best_above_q", False), ("lower_bounds_agree", True)])
def test_bounds_that_failed_their_checks_are_at_least_nothing_and_loose_ones_are_bounds(tmp_path, check, at_least):
    """The answer then gives the error of the mean that was measured, to both sides."""
    modern(write_gaps(tmp_path / "a", checks=({"name": check, "passed": False, "detail": ""},)))
    found = answered(tmp_path)
    gap = found.losses["amortized"].gap
    assert (gap.mean, gap.ends, gap.at_least) == (6.0, pytest.approx((5.8, 6.2)), at_least)
    assert found.cautions["checks_failed"].facts == {"what": f"{check} (test)"}


def test_odd_ends_are_no_interval(tmp_path):
    run = write_gaps(tmp_path / "a")
    with editing(run) as content:
        content["test"]["gaps"]["approximation"] |= {"ci95": [None, None]}
        content["test"]["gaps"]["inference"] |= {"ci95": ["wide", {}], "identified": "open"}
    text = report_text(tmp_path)
    assert "≥ 1.50 ± 0.10" in text and "None" not in text
