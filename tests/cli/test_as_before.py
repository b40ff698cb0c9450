"""Runs of the first release (``as_before/``), met by the code of today: what is done is done, what is begun goes on.

The folders were written by 0.1.0 at commit 6d21ef0: a sweep of digits, a sweep and a run of a 0/1 table, and runs
stopped by SIGTERM in their third epoch of four, beside the metrics of the same runs that were not stopped.

``tests/golden/sweep`` was written at commit 6369a86, with checkpoints, gaps and seals; its figures, and the larger part
of its pictures, were left out.
"""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import yaml
from cli_support import contents, table
from run_folders import run_directories

import vem
from vem.cli import messages, resume
from vem.config import loaded
from vem.errors import VemError
from vem.report import summarize
from vem.storage import identity, records, sealing

OLD = Path(__file__).parent / "as_before"
SEALED = Path(__file__).parents[1] / "golden" / "sweep"
BLOBS = ("data=blobs", "data.num=40", "data.num_valid=10", "data.num_test=10", "data.dims=3", "latent_dim=2",
         "model.decoder.widths=[4]", "training.epochs=2", "training.batch_size=20", "evaluation=brief",
         "progress=false", "hydra.sweep.dir=sweep")  # fmt: skip
DIGITS = ("-m", "strategy=local,amortized,gmm", "seed=0", "training.epochs=2", "training.batch_size=64", "latent_dim=2",
          "evaluation.num_data=20", "data.max_train=100", "hydra.sweep.dir=sweep")  # fmt: skip
BINARY = ("data=array", "data.path=binary.csv", "training.epochs=2")
UNFINISHED = sorted(path.name for path in (OLD / "unfinished").iterdir())


@pytest.fixture
def old(here) -> Path:
    shutil.copytree(OLD, here, dirs_exist_ok=True)
    return here


def of_runs(folder: Path) -> dict[str, bytes]:
    found = {}
    for run in run_directories([folder]):
        found |= {f"{run.name}/{name}": content for name, content in contents(run).items()}
    return found


def test_a_finished_sweep_reruns_nothing(old, vem_run):
    before = of_runs(old / "sweep")
    ended = vem_run(*DIGITS).good()
    assert "3 of 3 done" in ended.err
    assert of_runs(old / "sweep") == before


def test_a_finished_sweep_of_a_table_of_0_and_1_reruns_nothing(old, vem_run):
    before = of_runs(old / "binary")
    vem_run("-m", "strategy=amortized,gmm", *BINARY, "latent_dim=2", "hydra.sweep.dir=binary").good()
    assert of_runs(old / "binary") == before


def test_a_finished_run_of_a_bernoulli_mixture_is_left_alone(old, vem_run):
    before = contents(old / "em")
    command = ("strategy=exact_em", "model=mixture", *BINARY, "model.components=3", "hydra.run.dir=em")
    assert "left alone" in vem_run(*command).good().text
    assert contents(old / "em") == before


@pytest.mark.parametrize("name", UNFINISHED)
def test_an_unfinished_run_goes_on_as_it_was_begun(old, vem_run, name):
    path = old / "unfinished" / name
    typed = yaml.safe_load((path / records.OVERRIDES).read_text())
    vem_run(*typed, f"hydra.run.dir=unfinished/{name}").good()
    made, expected = table(path / records.METRICS), table(old / "whole" / f"{name}.csv")
    assert len(made) == len(expected) == 8
    for row, other in zip(made, expected, strict=True):
        # Another processor rounds otherwise; the start of today would be whole nats away.
        assert float(row["elbo"]) == pytest.approx(float(other["elbo"]), abs=1e-4)
    run = loaded.load(path)
    assert run.score("test").elbo.isfinite().all()


def test_a_file_that_is_now_read_as_another_table_is_no_run_to_go_on_with(old, vem_run):
    """Its header was taken for a datum: with a row more the split was another, and training data would be test data."""
    path = old / "unfinished" / "gmm"
    typed = yaml.safe_load((path / records.OVERRIDES).read_text())
    run = records.read_json(path / records.RUN)
    more = run["num_train"] + 1
    records.write_json(path / records.RUN, run | {"num_train": more})
    for _ in range(2):  # a second start still knows how the run was begun
        failed = vem_run(*typed, "hydra.run.dir=unfinished/gmm")
        assert failed.code == 1
        assert f"begun with {more} training data" in failed.text and "fresh hydra.run.dir" in failed.text
    path = next(iter(run_directories([old / "sweep"])))
    records.write_json(path / records.RUN, records.read_json(path / records.RUN) | {"num_train": more})
    with pytest.raises(VemError, match=f"begun with {more} training data"):
        loaded.load(path)


@pytest.fixture
def sealed(here) -> Path:
    return Path(shutil.copytree(SEALED, here / "sweep"))


def test_a_sealed_sweep_reruns_nothing(sealed, vem_run):
    before = of_runs(sealed)
    assert "4 of 4 done" in vem_run("-m", "strategy=amortized,local", "seed=0,1", *BLOBS).good().err
    assert of_runs(sealed) == before


@pytest.mark.parametrize("strategy", ["amortized", "local"])
def test_a_further_seed_of_a_sealed_sweep_joins_its_group(sealed, strategy):
    """A run of seed 2 as it would be written today; of a run its numbers are another seed's, which does not matter."""
    config = {seed: messages.composed((f"strategy={strategy}", f"seed={seed}", *BLOBS[:-1])) for seed in (0, 1, 2)}
    hashes = {seed: identity.config_hash(content) for seed, content in config.items()}
    facts = {run: records.read_json(run / records.RUN) for run in run_directories([sealed])}
    own = {run: f for run, f in facts.items() if f["strategy"] == strategy}
    assert {f["seed"]: f["config_hash"] for f in own.values()} == {seed: hashes[seed] for seed in (0, 1)}
    new = Path(shutil.copytree(min(own), sealed / "further"))
    (new / records.CONFIG).write_text(yaml.safe_dump(loaded.read_config(new / records.CONFIG) | config[2]))
    sealing.write_run(new, {**own[min(own)], "seed": 2, "config_hash": hashes[2]})
    assert hashes[2] not in {f["config_hash"] for f in own.values()}
    rows = summarize([sealed])
    assert not rows["damaged"].any()
    groups = rows.groupby(["table", "strategy", "variant"], dropna=False).size()
    assert sorted(groups) == [2, 3] and groups[:, strategy].tolist() == [3]


@pytest.mark.parametrize("run", run_directories([SEALED]), ids=lambda run: run.name[-8:])
def test_a_sealed_run_scores_what_its_evaluation_says(run):
    evaluation, loaded = records.read_json(run / records.EVALUATION), vem.load(run)
    for split in records.SPLITS:
        scores = loaded.score(split, draws=evaluation["settings"]["draws"], seed=loaded.config["seed"])
        # Another processor rounds otherwise.
        assert float(scores.elbo.mean()) == pytest.approx(evaluation[split]["elbo"]["mean"], abs=1e-4)


@pytest.mark.parametrize("path", [OLD / "unfinished" / name for name in UNFINISHED] + run_directories([SEALED]),
                         ids=lambda path: path.name[-9:])  # fmt: skip
def test_the_hash_of_an_old_config_is_what_it_was(path):
    config = loaded.read_config(path / records.CONFIG)
    assert identity.config_hash(config) == records.read_json(path / records.RUN)["config_hash"]


def test_a_finished_run_is_not_measured_anew_for_an_option_that_nobody_asked_for(old, vem_run):
    """A run with gaps, as 0.1.0 wrote it: its config knows of no modes."""
    command = ("strategy=amortized", "data=blobs", "data.num=40", "model.decoder.widths=[4]", "latent_dim=3",
               "training.epochs=1", "evaluation=gaps", "evaluation.num_data=4", "evaluation.best.draws=10",
               "evaluation.best.rounds=1", "progress=false", "hydra.run.dir=gaps")  # fmt: skip
    vem_run(*command, "evaluation.annealing.modes=1").good()
    path = old / "gaps" / records.CONFIG
    path.write_text(path.read_text().replace("    modes: 1\n", ""))
    sealing.write_run(path.parent, records.read_json(path.parent / records.RUN))
    before = contents(old / "gaps")
    assert b"modes" not in before[records.CONFIG]
    assert "left alone" in vem_run(*command).good().text
    assert contents(old / "gaps") == before
    assert "evaluation.annealing.modes=64" in vem_run(*command, "evaluation.annealing.modes=64").bad().err


def test_an_option_that_was_typed_is_refused_and_shown(old, vem_run, monkeypatch):
    """Not taken back in silence: here an option that no run of the first release had."""
    monkeypatch.setitem(identity.AS_BEFORE, "objective.novel", "no")
    old_config = yaml.safe_load((old / "unfinished" / "gmm" / records.CONFIG).read_text())
    config = identity.with_option(old_config, "objective.novel", "yes")
    path = old / "unfinished" / "gmm"
    assert identity.option(resume.as_begun(path, config), "objective.novel") == "no"
    assert resume.as_begun(path, config, ["objective.novel=yes"]) == config
    with_model = identity.with_option(old_config, "model.novel", "yes")
    monkeypatch.setitem(identity.AS_BEFORE, "model.novel", "no")
    assert resume.difference(old_config, with_model).split() == ["-model.novel=no", "+model.novel=yes"]
