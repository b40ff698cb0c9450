"""One training under several names or measurements: counted once, and no rival of itself."""

from __future__ import annotations

import pytest
from synthetic_runs import editing, report_text, write_run

from vem.report.read import findings

MEASURED = {"draws": 100, "best": {"rounds": 7}}


def measured(directory, draws=100, asked=None, **fields):
    """A run whose evaluation.json says how it was measured; its config what was asked for, with the classes' names."""
    wanted = {"_target_": "vem.Evaluation", "draws": asked or draws, "best": {"_target_": "vem.Best", "rounds": 7}}
    config = {"evaluation": wanted, "training": {"epochs": 6}}
    run = write_run(directory, config=config, **fields)
    with editing(run) as content:
        content["settings"] = {**MEASURED, "draws": draws}
    return run


def test_a_seed_that_was_measured_again_counts_once(tmp_path):
    """Asked with 10 draws and measured again with 100, beside the same seed that was asked with 100."""
    for seed, elbo in enumerate((-100.0, -102.0, -101.0)):
        measured(tmp_path / f"{seed}", seed=seed, elbo=elbo)
    measured(tmp_path / "quick0", seed=0, elbo=-100.0, asked=10)
    found = findings([tmp_path])
    (group,) = found.tables[0].groups.to_dict("records")
    assert (group["seeds"], group["runs"], group["test_elbo_mean"]) == (3, 3, pytest.approx(-101.0))
    assert "quick0 repeats 0" in found.provenance.remarks and "quick0 repeats 0" in report_text(tmp_path)
    assert group["directories"] == ["0", "1", "2"] and found.unfinished == ()


def test_a_repeat_of_a_run_that_is_counted_elsewhere_goes_with_it(tmp_path):
    measured(tmp_path / "a", config_hash="one")
    for name in ("b", "my own run"):
        measured(tmp_path / name, config_hash="two")
    found = findings([tmp_path])
    assert found.runs["repeated_in"].tolist() == ["b 'my own run'"] and len(found.tables[0].runs) == 1
    assert "b 'my own run' repeat a" in found.provenance.remarks


def test_other_seeds_and_other_settings_stay(tmp_path):
    for i, facts in enumerate(({}, {"seed": 1}, {"strategy": "amortized"}, {"latent_dim": 50})):
        measured(tmp_path / f"{i}", **facts)
    assert len(findings([tmp_path]).runs) == 4


def test_two_measurements_of_one_training_are_no_rivals(tmp_path):
    for seed in range(2):
        measured(tmp_path / f"a{seed}", seed=seed, elbo=-100.0 - seed)
        measured(tmp_path / f"b{seed}", strategy="amortized", seed=seed, elbo=-105.0 - seed)
    measured(tmp_path / "again", seed=0, draws=1000, elbo=-99.0)
    (table,) = findings([tmp_path]).tables
    one, other, again = "local, measured: draws=100", "amortized", "local, measured: draws=1000"
    assert table.baseline == one and set(table.groups["label"]) == {one, other, again}
    (reason,) = table.groups.loc[table.groups["label"] == again, "paired_reason"]
    assert reason == "another measurement of what the baseline trained"
    said = [s.text for s in table.answer if s.kind == "finding"]
    assert not any("1000" in text for text in said) and any("amortized" in text for text in said)
    (caution,) = [s.text for s in table.answer if "1000" in s.text]
    assert "measurements of the same training" in caution and "the answer takes local (measured: draws=100)" in caution


@pytest.mark.parametrize("how", ["gone", "damaged", "never asked for"])
def test_a_run_without_its_evaluation_stays_with_its_kin(tmp_path, how):
    for seed in range(3):
        run = measured(tmp_path / f"{seed}", seed=seed, elbo=-100.0 - seed)
    measured(tmp_path / "other", strategy="amortized", elbo=-110.0)
    if how == "damaged":
        (run / "evaluation.json").write_text("{")
    else:
        (run / "evaluation.json").unlink()
    if how == "never asked for":
        (run / "config.yaml").write_text((run / "config.yaml").read_text().replace("draws: 100", "num_data: 0"))
    (table,) = findings([tmp_path]).tables
    group = table.groups.set_index("label").loc["local"]
    assert len(table.groups) == 2 and (group["seeds"], group["runs"]) == (2, 3)
    assert group["test_elbo_mean"] == -100.5 and table.axes == ()
    told = [s.text for s in table.answer if "not evaluated, which no mean counts: 2." in s.text]
    assert len(told) == (how != "damaged")  # that one is named among those without a result
    assert group["status"] == f"1 of 3 {'unreadable' if how == 'damaged' else 'not evaluated'}"


def test_runs_that_nobody_evaluated_are_one_group(tmp_path):
    for seed in range(2):
        write_run(tmp_path / f"{seed}", seed=seed, evaluated=False)
    (group,) = findings([tmp_path]).tables[0].groups.to_dict("records")
    assert (group["seeds"], group["status"]) == (2, "done") and "not evaluated" in group["test_elbo_reason"]
