"""The numbers of the report against numpy by hand; failed, half-written and mixed runs."""

import numpy as np
import pandas as pd
import pytest
from pages import cells
from synthetic_runs import editing, estimate, report_text, write_gaps, write_run

from vem.errors import VemError
from vem.report import summarize, write_report
from vem.report.__main__ import main
from vem.report.aggregate import aggregate
from vem.report.comparison_table import comparison_table
from vem.report.read import findings
from vem.report.summary import MOST_LOSSES, PAGE, RUNS, SUMMARY, TEXT


def test_one_seed_is_marked_beside_several(tmp_path):
    for seed in range(2):
        write_run(tmp_path / f"local{seed}", seed=seed, elbo=-100.0 - seed)
    write_run(tmp_path / "amortized", "amortized", elbo=-90.0)
    rows = cells(comparison_table(findings([tmp_path]).tables[0]))
    assert [(row["ELBO: Test"].error, row["ELBO: Test"].detail) for row in rows] == [
        ("± 0.30", "one seed: standard error over data"), ("± 0.50", "standard error over seeds")]  # fmt: skip


def test_runs_are_in_the_order_of_their_numbers_and_costs_are_means(tmp_path):
    for i, seed in enumerate(range(3)):
        write_run(tmp_path / f"{9 + i}", seed=seed)  # 9, 10, 11: in that order, not 10, 11, 9
    runs = summarize([tmp_path])
    assert list(runs["directory"]) == ["9", "10", "11"]
    (row,) = aggregate(runs).to_dict("records")
    costs = [row[f"training_seconds_{end}"] for end in ("mean", "se")]
    assert costs == pytest.approx([11.0, 1 / np.sqrt(3)]) and pd.isna(row["test_elbo_data_se"])


def test_a_bound_on_log_p_is_not_shown_as_exact(tmp_path):
    with editing(write_run(tmp_path / "a")) as content:
        content["test"]["log_marginal"] = {"lower": estimate(-98.0), "upper": None, "kind": "ais from q*"}
    assert pd.isna(summarize([tmp_path]).iloc[0]["test_log_marginal"])
    assert "-98.00" not in report_text(tmp_path)


@pytest.mark.parametrize(
    ("one", "other", "named"),
    [
        ({"data": "mnist"}, {"data": "omniglot"}, ["Data: mnist", "Data: omniglot"]),
        ({"binarize": "static"}, {"binarize": "stochastic"}, ["binarize=static", "binarize=stochastic"]),
        ({"likelihood": "bernoulli"}, {"likelihood": "gaussian"}, ["likelihood=bernoulli", "likelihood=gaussian"]),
        ({"config": {"data": {"path": "a"}}}, {"config": {"data": {"path": "b"}}}, ["data.path=a", "data.path=b"]),
        ({"config": {"data": {"seed": 0}}}, {"config": {"data": {"seed": 7}}}, ["data.seed=0", "data.seed=7"]),
    ],
)
def test_runs_on_different_data_are_not_put_into_one_table(tmp_path, one, other, named):
    write_run(tmp_path / "a", **one)
    write_run(tmp_path / "b", seed=1, **other)
    text = report_text(tmp_path)
    assert text.count("Data: ") == 2 and all(name in text for name in named)
    assert list(aggregate(summarize([tmp_path]))["seeds"]) == [1, 1]


def test_only_the_seed_may_differ_within_a_mean(tmp_path):
    for i, (batch, seed) in enumerate([(50, 0), (50, 1), (100, 0)]):
        write_run(tmp_path / f"{i}", seed=seed, elbo=-100.0 - i, config={"training": {"batch_size": batch, "lr": 1}})
    groups = aggregate(summarize([tmp_path]))
    assert list(groups["variant"]) == ["training.batch_size=50", "training.batch_size=100"]
    assert list(groups["seeds"]) == [2, 1] and list(groups["test_elbo_mean"]) == [-100.5, -102.0]
    assert "training.batch_size=100" in report_text(tmp_path)


def test_latent_size_and_family_split_groups_and_are_shown_but_not_settings_that_a_run_does_not_use(tmp_path):
    write_run(tmp_path / "a", latent_dim=2)
    write_run(tmp_path / "b", latent_dim=50)
    write_run(tmp_path / "c", latent_dim=50, family="full_gaussian")
    for seed, size in enumerate((2, 50)):
        config = {"latent_dim": size, "family": {"name": f"{size}"}}
        write_run(tmp_path / f"gmm{seed}", "gmm", seed=seed, config=config)
    (table,) = findings([tmp_path]).tables
    assert sorted(table.groups["seeds"]) == [1, 1, 1, 2]
    kinds = [row["Model: Kind"].text for row in cells(comparison_table(table))]
    assert "deep, full gaussian, 50-D z" in kinds and "mixture" in kinds


def test_the_same_config_counts_once_and_the_finished_run_is_taken(tmp_path):
    write_run(tmp_path / "a", status="failed", error="stopped", evaluated=False, config_hash="h")
    write_run(tmp_path / "b", elbo=-90.0, config_hash="h")
    runs = summarize([tmp_path])
    assert len(runs) == 1 and runs.iloc[0]["status"] == "done" and runs.iloc[0]["repeated_in"] == "a"
    assert "a repeats b" in report_text(tmp_path)


def test_failed_and_unfinished_runs_are_named_and_not_averaged(tmp_path):
    write_run(tmp_path / "ok", seed=0, elbo=-100.0)
    write_run(tmp_path / "bad", seed=1, elbo=-7.0, status="failed", error="step 12:\n  kl is infinite")
    (write_run(tmp_path / "half", seed=2, status="running", evaluated=False) / "metrics.csv").unlink()
    (tmp_path / "early").mkdir()
    (tmp_path / "early" / "run.json").write_text('{"status": "failed", "error": "no such file", "config_hash": "h"}')
    found = findings([tmp_path, tmp_path / "ok"])  # which lies below the first
    assert {run.directory: (run.who, run.status, run.reason) for run in found.unfinished} == {
        "bad": ("local, seed 1", "failed", "step 12: kl is infinite"), "half": ("local, seed 2", "running", "at work"),
        "early": ("unknown", "failed", "no such file")}  # fmt: skip
    (row,) = cells(comparison_table(found.tables[0]))
    assert row["Strategy"].remarks == ("1 of 3 failed, 1 of 3 running",) and row["ELBO: Test"].value == -100.0


@pytest.mark.parametrize(
    ("strategy", "groups", "losses", "cautions"),
    [("local", 1, 0, 2), ("gmm", 1, 1, 1), ("gmm", MOST_LOSSES + 1, MOST_LOSSES + 1, 2)],
)
def test_the_terminal_tells_few_losses_and_counts_the_cautions(tmp_path, strategy, groups, losses, cautions):
    for size in range(groups):
        write_run(tmp_path / f"r{size}", strategy, config={"model": {"components": size}})
    answer = findings([tmp_path]).tables[0].answer
    assert [sum(s.kind == kind for s in answer) for kind in ("loss", "caution")] == [losses, cautions]
    text = " ".join(report_text(tmp_path).split())
    assert f" {cautions} reason" in text and not any(s.text in text for s in answer if s.kind == "caution")
    assert all((s.text in text) == (losses <= MOST_LOSSES) for s in answer if s.kind == "loss")


def test_nan_is_never_written(tmp_path):
    write_run(tmp_path / "a", elbo={"value": None, "reason": "no ELBO"}, notes=["σ is at its floor"])
    write_run(tmp_path / "b", "gmm", elbo=float("nan"), training_seconds=None)
    write_gaps(tmp_path / "c")
    text = report_text(tmp_path)
    assert text.count("\ngmm") == 1  # one without gaps stands in the table of ELBOs alone
    written = [text, *((tmp_path / name).read_text() for name in ("summary.csv", "runs.csv"))]
    for content in written:
        assert not {"nan", "inf", "none", "na", "<na>"} & set(content.lower().replace(",", " ").split())
    assert "local, seed 0: σ is at its floor" in text


def test_the_command_line(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr("vem.report.summary.draw", lambda found, folder: [])
    write_run(tmp_path / "one" / "0")
    write_run(tmp_path / "two" / "0", "gmm")
    assert main([str(tmp_path / "one")]) == 0
    assert capsys.readouterr().out.rstrip().endswith(str(tmp_path / "one" / "report.html"))
    assert all((tmp_path / "one" / name).stat().st_size for name in (PAGE, TEXT, SUMMARY, RUNS))
    both = [str(tmp_path / "one"), str(tmp_path / "two")]
    assert main(both) == 1
    error = capsys.readouterr().err
    assert "--out" in error and "Traceback" not in error
    assert main([*both, "--out", str(tmp_path / "out")]) == 0 and (tmp_path / "out" / PAGE).exists()


def test_an_unwritable_out_is_one_message(tmp_path):
    write_run(tmp_path / "a")
    (tmp_path / "file").write_text("")
    with pytest.raises(VemError, match="cannot be written"):
        write_report([tmp_path], tmp_path / "file" / "out")
