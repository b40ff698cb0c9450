"""The numbers of the report against numpy by hand; failed, half-written and mixed runs."""

import time

import numpy as np
import pandas as pd
import pytest
from pages import cells
from synthetic_runs import image_pictures, mixture_pictures, report_text, write_run

from vem.errors import VemError
from vem.report import summarize, write_report
from vem.report.__main__ import main
from vem.report.aggregate import aggregate
from vem.report.comparison_table import comparison_table
from vem.report.read import findings
from vem.report.summary import MOST_LOSSES


def test_mean_and_standard_error_over_seeds(tmp_path):
    values = [-100.0, -101.5, -99.2]
    for seed, value in enumerate(values):
        write_run(tmp_path / f"{seed}", seed=seed, elbo=value)
    groups = aggregate(summarize([tmp_path]))
    assert len(groups) == 1
    row = groups.iloc[0]
    assert row["seeds"] == 3
    assert row["test_elbo_mean"] == pytest.approx(np.mean(values), abs=1e-12)
    assert row["test_elbo_se"] == pytest.approx(np.std(values, ddof=1) / np.sqrt(3), abs=1e-12)
    assert row["train_elbo_mean"] == pytest.approx(np.mean(values) + 1, abs=1e-12)
    assert row["training_seconds_mean"] == pytest.approx(11.0)
    assert row["training_seconds_se"] == pytest.approx(1 / np.sqrt(3))
    assert pd.isna(row["test_elbo_data_se"])


def test_one_seed_shows_its_error_over_data(tmp_path):
    write_run(tmp_path / "a", elbo=-100.0)
    row = aggregate(summarize([tmp_path])).iloc[0]
    assert row["test_elbo_data_se"] == 0.3 and pd.isna(row["test_elbo_se"])
    assert "-100.00 ± 0.30 " in report_text(tmp_path)


def test_one_seed_is_marked_beside_several(tmp_path):
    for seed in range(2):
        write_run(tmp_path / f"local{seed}", seed=seed, elbo=-100.0 - seed)
    write_run(tmp_path / "amortized", "amortized", elbo=-90.0)
    rows = cells(comparison_table(findings([tmp_path]).tables[0]))
    assert [(row["ELBO: Test"].error, row["ELBO: Test"].detail) for row in rows] == [
        ("± 0.30", "one seed: standard error over data"), ("± 0.50", "standard error over seeds")]  # fmt: skip


def test_rows_columns_and_order(tmp_path):
    for i, strategy in enumerate(["local", "amortized", "gmm"]):
        write_run(tmp_path / f"{9 + i}", strategy)  # 9, 10, 11: in that order, not 10, 11, 9
    runs = summarize([tmp_path])
    assert list(runs["strategy"]) == ["local", "amortized", "gmm"]
    assert list(runs["directory"]) == ["9", "10", "11"]
    gmm = runs.iloc[2]
    assert gmm["test_log_marginal"] == -100.0 and gmm["test_log_marginal_se"] == 0.3
    assert pd.isna(runs.iloc[0]["test_log_marginal"])
    assert gmm["decoder_evaluations"] == 1000 and gmm["decoder_gradients"] == 900 and gmm["training_seconds"] == 10.0


def test_a_bound_on_log_p_is_not_shown_as_exact(tmp_path):
    run = write_run(tmp_path / "a")
    text = (run / "evaluation.json").read_text()
    bound = '"log_marginal": {"lower": {"mean": -98.0, "se": 0.3}, "upper": null, "kind": "ais from q*"}'
    (run / "evaluation.json").write_text(text.replace('"log_marginal": null', bound))
    assert pd.isna(summarize([tmp_path]).iloc[0]["test_log_marginal"])
    assert "-98.00" not in report_text(tmp_path)


@pytest.mark.parametrize(
    ("one", "other", "named"),
    [
        ({"data": "mnist"}, {"data": "omniglot"}, ["Data: mnist", "Data: omniglot"]),
        ({"binarize": "static"}, {"binarize": "stochastic"}, ["binarize=static", "binarize=stochastic"]),
        (
            {"likelihood": "bernoulli"},
            {"likelihood": "gaussian"},
            ["likelihood=bernoulli", "likelihood=gaussian"],
        ),
        (
            {"config": {"data": {"path": "a.npy"}}},
            {"config": {"data": {"path": "b.npy"}}},
            ["data.path=a.npy", "data.path=b.npy"],
        ),
        ({"config": {"data": {"seed": 0}}}, {"config": {"data": {"seed": 7}}}, ["data.seed=0", "data.seed=7"]),
    ],
)
def test_runs_on_different_data_are_not_put_into_one_table(tmp_path, one, other, named):
    write_run(tmp_path / "a", **one)
    write_run(tmp_path / "b", seed=1, **other)
    text = report_text(tmp_path)
    assert text.count("Data: ") == 2 and all(name in text for name in named)
    groups = aggregate(summarize([tmp_path]))
    assert list(groups["seeds"]) == [1, 1]


def test_only_the_seed_may_differ_within_a_mean(tmp_path):
    for i, (batch, seed) in enumerate([(50, 0), (50, 1), (100, 0)]):
        write_run(tmp_path / f"{i}", seed=seed, elbo=-100.0 - i, config={"training": {"batch_size": batch, "lr": 1}})
    groups = aggregate(summarize([tmp_path]))
    assert list(groups["variant"]) == ["training.batch_size=50", "training.batch_size=100"]
    assert list(groups["seeds"]) == [2, 1] and list(groups["test_elbo_mean"]) == [-100.5, -102.0]
    assert "training.batch_size=100" in report_text(tmp_path)


def test_settings_that_the_run_does_not_use_split_no_group(tmp_path):
    for seed, size in enumerate((2, 50)):
        write_run(tmp_path / f"{seed}", "gmm", seed=seed, config={"latent_dim": size, "family": {"name": f"{size}"}})
    assert list(aggregate(summarize([tmp_path]))["seeds"]) == [2]


def test_latent_size_and_family_split_groups_and_are_shown(tmp_path):
    write_run(tmp_path / "a", latent_dim=2)
    write_run(tmp_path / "b", latent_dim=50)
    write_run(tmp_path / "c", latent_dim=50, family="full_gaussian")
    write_run(tmp_path / "d", "gmm")
    assert len(aggregate(summarize([tmp_path]))) == 4
    kinds = [row["Model: Kind"].text for row in cells(comparison_table(findings([tmp_path]).tables[0]))]
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
    write_run(tmp_path / "half", seed=2, status="running", evaluated=False)
    (tmp_path / "half" / "metrics.csv").unlink()
    (write_run(tmp_path / "torn") / "run.json").write_text("{")
    (tmp_path / "early").mkdir()
    (tmp_path / "early" / "run.json").write_text('{"status": "failed", "error": "no such file", "config_hash": "h"}')
    found = findings([tmp_path, tmp_path / "ok"])  # which lies below the first
    assert {run.directory: (run.who, run.status) for run in found.unfinished} == {
        "bad": ("local, seed 1", "failed"), "half": ("local, seed 2", "running"),
        "early": ("unknown", "failed"), "torn": ("unknown", "unreadable")}  # fmt: skip
    reasons = {run.directory: run.reason for run in found.unfinished}
    assert (reasons["bad"], reasons["early"]) == ("step 12: kl is infinite", "no such file")
    (row,) = cells(comparison_table(found.tables[0]))
    assert row["Strategy"].remarks == ("1 of 3 failed, 1 of 3 running",) and row["ELBO: Test"].value == -100.0
    said = report_text(tmp_path)
    assert all(f"{run.directory} ({run.who}): {run.status}: {run.reason}\n" in said for run in found.unfinished)


def test_only_failed_runs_give_a_table_all_the_same(tmp_path):
    write_run(tmp_path / "bad", status="failed", error="no data", evaluated=False)
    found = findings([tmp_path])
    shown = comparison_table(found.tables[0])
    assert shown.reasons == ("no run is finished",) and found.unfinished[0].reason == "no data"
    (tmp_path / "bad" / "run.json").write_text('{"status": "failed", "error": "no data", "config_hash": "h"}')
    found = findings([tmp_path])  # it failed before it could say what it is
    assert not found.tables and found.unfinished[0].reason == "no data" and "Data:" not in report_text(tmp_path)


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
    text = report_text(tmp_path)
    written = [text, *((tmp_path / name).read_text() for name in ("summary.csv", "runs.csv"))]
    for content in written:
        assert not {"nan", "inf", "none", "na", "<na>"} & set(content.lower().replace(",", " ").split())
    assert "local, seed 0: σ is at its floor" in text


def test_written_tables_hold_the_numbers(tmp_path):
    for seed in range(2):
        write_run(tmp_path / f"{seed}", seed=seed, elbo=-100.0 - seed)
    write_report([tmp_path], tmp_path / "out")
    summary = pd.read_csv(tmp_path / "out" / "summary.csv")
    assert summary["test_elbo_mean"].tolist() == [-100.5] and summary["directories"].tolist() == ["0 1"]
    assert pd.read_csv(tmp_path / "out" / "runs.csv")["test_elbo"].tolist() == [-100.0, -101.0]


def test_the_command_line(tmp_path, capsys):
    write_run(tmp_path / "one" / "0", pictures=image_pictures())
    write_run(tmp_path / "two" / "0", "gmm", pictures=mixture_pictures())
    assert main([str(tmp_path / "one")]) == 0
    assert capsys.readouterr().out.rstrip().endswith(str(tmp_path / "one" / "report.html"))
    for name in ("report.html", "report.md", "summary.csv", "runs.csv", "figures/side_by_side.png"):
        assert (tmp_path / "one" / name).stat().st_size
    both = [str(tmp_path / "one"), str(tmp_path / "two")]
    assert main(both) == 1
    error = capsys.readouterr().err
    assert "--out" in error and "Traceback" not in error
    assert main([*both, "--out", str(tmp_path / "out")]) == 0
    assert (tmp_path / "out" / "figures" / "side_by_side.png").exists()


def test_an_unwritable_out_is_one_message(tmp_path):
    write_run(tmp_path / "a")
    (tmp_path / "file").write_text("")
    with pytest.raises(VemError, match="cannot be written"):
        write_report([tmp_path], tmp_path / "file" / "out")


def test_hundreds_of_runs_in_seconds(tmp_path):
    config = {"model": {f"k{i}": [i, i] for i in range(40)}}
    for i in range(300):
        write_run(tmp_path / f"{i}", ["local", "amortized", "gmm"][i % 3], seed=i // 3, config=config)
    start = time.process_time()
    groups = aggregate(summarize([tmp_path]))
    assert time.process_time() - start < 5.0
    assert list(groups["seeds"]) == [100, 100, 100]
