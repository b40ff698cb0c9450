"""A table of any scale from the command line to the report: what is said, kept, loaded, measured and hashed."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
import yaml
from cli_support import contents
from sklearn.datasets import load_wine

from vem.cli import evaluate
from vem.config import loaded
from vem.report.page import markdown
from vem.report.read import findings
from vem.report.summary import terminal
from vem.storage import records, sealing

WINE = load_wine().data
SHORT = ("training.epochs=2", "training.batch_size=50", "latent_dim=2", "model.decoder.widths=[6]", "progress=false")


@pytest.fixture
def wine(here) -> tuple[str, ...]:
    np.save(here / "wine.npy", WINE)
    np.save(here / "large.npy", WINE * 255)
    return ("data=array", *SHORT)


def test_a_table_and_255_times_it(wine, vem_run, here):
    """At the default units; the gaps are the same, and so is the run's encode, while decode is of the file."""
    for name in ("wine", "large"):
        ended = vem_run(
            *wine, f"data.path={name}.npy", f"hydra.run.dir={name}", "evaluation=gaps", "evaluation.num_data=4",
            "evaluation.splits=[test]", "evaluation.annealing.temperatures=10",
        ).good()  # fmt: skip
        assert "model.units=column" in ended.text  # wine's spreads differ by 2,600
    one, other = (records.read_json(here / name / records.EVALUATION)["test"] for name in ("wine", "large"))
    shift = 13 * math.log(255)
    assert other["elbo"]["mean"] + shift == pytest.approx(one["elbo"]["mean"], abs=0.02)
    assert other["log_marginal"]["lower"]["mean"] + shift == pytest.approx(
        one["log_marginal"]["lower"]["mean"], abs=0.1
    )
    for gap in ("approximation", "amortization"):
        assert other["gaps"][gap]["mean"] == pytest.approx(one["gaps"][gap]["mean"], abs=0.1)
    small, large = loaded.load(here / "wine"), loaded.load(here / "large")
    assert records.read_json(here / "wine" / records.RUN)["units"] == "common"
    x = small.data.test.x
    torch.testing.assert_close(large.encode(255 * x), small.encode(x), rtol=1e-3, atol=1e-3)
    z = torch.zeros(1, 2)
    torch.testing.assert_close(large.decode(z), 255 * small.decode(z), rtol=1e-3, atol=1)
    before = contents(here / "wine")[records.EVALUATION]
    evaluate.evaluate(here / "wine", ["evaluation=quick", "evaluation.num_data=5", "progress=false"])
    assert contents(here / "wine")[records.EVALUATION] != before


def test_by_column_is_named_in_every_table(wine, vem_run, here):
    command = (*wine, "data.path=wine.npy", "strategy=local")
    for units in ("common", "column", "none"):
        ended = vem_run(*command, f"model.units={units}", f"hydra.run.dir=runs/{units}").good()
        assert ("another likelihood than one σ" in ended.text) is (units == "column")
    # One that ended before it had resolved its likelihood belongs to the table of its kind.
    vem_run(*command, "model.units=column", "strategy.e_steps=-1", "hydra.run.dir=runs/failed").bad()
    found = findings([here / "runs"])
    said = "\n".join(terminal(found, here))
    assert f"Data: array, binarize=none, likelihood={records.BY_COLUMN}\n" in said
    assert "Data: array, binarize=none, likelihood=gaussian\n" in said and said.count("Data: ") == 2
    assert "model.units=none" in said and "model.units=common" in said  # of one table, told apart
    assert "not compared with each other: they differ in likelihood" in said
    assert f"### array, binarize=none, likelihood={records.BY_COLUMN}" in markdown(found, [], here)


def test_a_finished_run_without_units_is_another_one(wine, vem_run, here):
    """Real data: today's default moves the numbers, so an old directory is not taken for the new run."""
    command = (*wine, "data.path=wine.npy", "strategy=local", "hydra.run.dir=old")
    vem_run(*command, "model.units=none").good()
    path = here / "old"
    config = yaml.safe_load((path / records.CONFIG).read_text(encoding="utf-8"))
    del config["model"]["units"]  # as older code wrote it
    (path / records.CONFIG).write_text(yaml.safe_dump(config), encoding="utf-8")
    sealing.write_run(path, records.read_json(path / records.RUN))
    before = contents(path)
    refused = vem_run(*command).bad()
    assert "-model.units=none" in refused.err.replace(" ", "") and "+model.units=auto" in refused.err.replace(" ", "")
    assert "left alone" in vem_run(*command, "model.units=none").good().text
    assert contents(path) == before and loaded.load(path).model.units is None


def test_what_failed_before_it_had_computed_anything_takes_the_units_of_today(wine, vem_run, here):
    """The NaN of an encoder on a raw table, mended by typing the same command again."""
    command = (*wine, "data.path=large.npy", "strategy=amortized", "hydra.run.dir=old")
    assert "model.units=common" in vem_run(*command, "model.units=none").bad().err
    path = here / "old"
    config = yaml.safe_load((path / records.CONFIG).read_text(encoding="utf-8"))
    del config["model"]["units"]
    (path / records.CONFIG).write_text(yaml.safe_dump(config), encoding="utf-8")
    vem_run(*command).good()
    assert records.read_json(path / records.RUN)["units"] == "common"
