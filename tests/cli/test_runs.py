"""One run is one directory: what is written there, and what happens when it is started again."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pytest
import yaml
from cli_support import SMALL, TINY, TINY_GMM, contents, table

STRATEGIES = {
    "amortized": TINY,
    "local": (*TINY, "strategy=local", "strategy.held_out.steps=3"),
    "gmm": TINY_GMM,
    "exact_em": (*SMALL, "strategy=exact_em", "model=linear_gaussian"),
}
WRITTEN = {
    *("config.yaml", "overrides.yaml", "run.json", "metrics.csv", "evaluation.json"),
    *("per_datum.csv", "pictures.npz", "checkpoint.pt", "run.log"),
}
RUN_FIELDS = {
    *("status", "error", "config_hash", "seed", "started", "command", "commit", "versions", "threads"),
    *("strategy", "model", "family", "data", "binarize", "likelihood", "latent_dim", "components"),
    *("num_parameters", "num_train", "device", "dtype", "epochs", "steps", "converged", "training_seconds"),
    *("decoder_evaluations", "decoder_gradients", "peak_memory_mib", "notes", "seconds"),
}


def strict_json(path: Path):
    """JSON as the standard has it: no NaN, no Infinity."""

    def refuse(name: str) -> None:
        raise AssertionError(f"{path} holds {name}")

    return json.loads(path.read_text(encoding="utf-8"), parse_constant=refuse)


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_the_run_directory(strategy, here, vem_run, drawn):
    vem_run(*STRATEGIES[strategy], "hydra.run.dir=r").good()
    directory = here / "r"
    assert {path.name for path in directory.iterdir() if path.is_file()} == WRITTEN
    assert list((directory / "figures").glob("*.png"))

    run = strict_json(directory / "run.json")
    assert set(run) >= RUN_FIELDS
    assert run["status"] == "done" and run["error"] is None
    assert (run["strategy"], run["data"], run["num_train"], run["epochs"]) == (strategy, "blobs", 40, 2)
    continuous = strategy != "gmm"
    assert (run["latent_dim"], run["components"]) == ((2, None) if continuous else (None, 2))
    assert 0 < run["training_seconds"] < run["seconds"]

    config = yaml.safe_load((directory / "config.yaml").read_text())
    assert config["training"]["epochs"] == 2 and config["choices"]["strategy"] == strategy
    assert "training.epochs=2" in yaml.safe_load((directory / "overrides.yaml").read_text())

    metrics = table(directory / "metrics.csv")
    assert [f"{row['split']} {row['epoch']}" for row in metrics] == ["train 1", "valid 1", "train 2", "valid 2"]
    assert set(metrics[0]) >= {
        *("epoch", "step", "seconds", "decoder_evaluations", "decoder_gradients"),
        *("split", "elbo", "reconstruction", "kl"),
    }
    assert int(metrics[-1]["decoder_evaluations"]) == run["decoder_evaluations"] > 0

    _check_evaluation(directory, exact=strategy in ("gmm", "exact_em"))
    pictures = np.load(directory / "pictures.npz")
    assert {"samples", "latent_means", "labels", "chosen_x", "reconstructions"} <= set(pictures.files)
    assert set(pictures.files) & ({"decoded_grid"} if continuous else {"component_means"})
    arrays = {name: pictures[name] for name in pictures.files}
    assert all(np.isfinite(array).all() for array in arrays.values() if array.dtype.kind != "U")
    assert {name for name, array in arrays.items() if array.dtype.kind == "U"} <= {"worst_split"}


def _check_evaluation(directory: Path, exact: bool) -> None:
    """evaluation.json is the mean of per_datum.csv, and an exact log p(x) is not below the ELBO."""
    evaluation = strict_json(directory / "evaluation.json")
    rows = table(directory / "per_datum.csv")
    assert list(evaluation) == ["train", "valid", "test", "across_splits", "settings", "fingerprint"]
    for split, num in (("train", 40), ("valid", 10), ("test", 10)):
        numbers, own = evaluation[split], [row for row in rows if row["split"] == split]
        assert numbers["num_data"] == len(own) == num
        assert len({row["row"] for row in own}) == num and all(row["label"].isdigit() for row in own)
        for name in ("elbo", "reconstruction", "kl"):
            values = np.array([float(row[name]) for row in own])
            assert numbers[name]["mean"] == pytest.approx(values.mean(), abs=1e-5)
            assert numbers[name]["se"] == pytest.approx(values.std(ddof=1) / math.sqrt(num), abs=1e-5)
        elbo, parts = numbers["elbo"]["mean"], numbers["reconstruction"]["mean"] - numbers["kl"]["mean"]
        assert elbo == pytest.approx(parts, abs=1e-4) and numbers["elbo"]["mc_se"] >= 0
        assert (numbers["log_marginal"] is not None) == exact
        if exact:
            assert numbers["log_marginal"]["kind"] == "exact"
            assert numbers["log_marginal"]["lower"]["mean"] >= elbo - 1e-4
            assert {"log_marginal_lower", "log_marginal_upper"} <= set(own[0])


def test_a_finished_run_is_left_alone(here, vem_run):
    vem_run(*TINY_GMM, "hydra.run.dir=r").good()
    before = contents(here / "r")
    again = vem_run(*TINY_GMM, "hydra.run.dir=r", "device=cpu", "progress=true", "threads=1").good()
    assert "finished" in again.out and "left alone" in again.out
    assert contents(here / "r") == before


def test_an_unfinished_run_goes_on(here, vem_run, monkeypatch):
    """Training is stopped by an error after the first epoch; the same command ends as if nothing had happened."""
    from vem.training.fit import Loop

    record = Loop._record

    def stops(self, *arguments):
        record(self, *arguments)
        if self.at.epoch == 1:
            raise OSError("the power failed")

    command = [*TINY, "training.checkpoint_seconds=0", "training.epochs=3"]
    with monkeypatch.context() as patch:
        patch.setattr(Loop, "_record", stops)
        assert vem_run(*command, "hydra.run.dir=r").code == 1
    failed = strict_json(here / "r" / "run.json")
    assert failed["status"] == "failed" and "OSError: the power failed" in failed["error"]
    vem_run(*command, "hydra.run.dir=r").good()
    vem_run(*command, "hydra.run.dir=whole").good()
    one, two = (strict_json(here / name / "evaluation.json") for name in ("r", "whole"))
    assert one == two
    run = strict_json(here / "r" / "run.json")
    assert run["status"] == "done" and run["error"] is None and run["started"] == failed["started"]


def test_an_unforeseen_error_leaves_its_traceback(here, vem_run, monkeypatch):
    """A fault in code shows the traceback on the terminal of a single run, and keeps it in run.log."""
    from vem.training.fit import Loop

    def fails(self, *arguments):
        raise ZeroDivisionError("a fault in a strategy")

    monkeypatch.setattr(Loop, "_step", fails)
    ended = vem_run(*TINY, "hydra.run.dir=r")
    assert ended.code == 1 and ended.err.count("Traceback") == 1 and "Error executing" not in ended.text
    assert ended.err.splitlines()[-1].startswith("vem: this error was not foreseen")
    log = (here / "r" / "run.log").read_text()
    assert "Traceback" in log and "ZeroDivisionError: a fault in a strategy" in log


def test_no_evaluation(here, vem_run):
    vem_run(*TINY, "evaluation=none", "hydra.run.dir=r").good()
    assert strict_json(here / "r" / "evaluation.json") == {}
    assert strict_json(here / "r" / "run.json")["status"] == "done"
    assert not (here / "r" / "per_datum.csv").exists()


def test_the_best_state_is_kept(here, vem_run):
    import vem

    vem_run(*TINY, "training.keep=best", "training.epochs=4", "training.rate=0.05", "hydra.run.dir=r").good()
    valid = [float(row["elbo"]) for row in table(here / "r" / "metrics.csv") if row["split"] == "valid"]
    assert (here / "r" / "best.pt").exists()
    run = vem.load(here / "r")
    scores = run.score("valid")
    written = strict_json(here / "r" / "evaluation.json")["valid"]["elbo"]["mean"]
    assert float(scores.elbo.mean()) == pytest.approx(written, abs=1e-6)
    assert max(valid) == pytest.approx(written, abs=1.0)  # one draw against ten


# --- which configs are one run


def hash_of(vem_run, *overrides: str) -> str:
    """The hash of what would run, from ``--cfg job`` alone."""
    from vem.storage.identity import config_hash

    shown = vem_run(*overrides, "--cfg", "job", "--resolve").good()
    return config_hash(yaml.safe_load(shown.out))


@pytest.fixture(scope="module")
def kept() -> dict[str, str]:
    return {}


@pytest.fixture
def mnist_hash(vem_run, kept: dict[str, str]) -> str:
    """The hash that the others are compared with; composed once."""
    if not kept:
        kept["data=mnist"] = hash_of(vem_run, "data=mnist")
    return kept["data=mnist"]


@pytest.mark.parametrize(
    "same",
    [
        *("device=cuda", "threads=1", "progress=false", "data.root=/elsewhere"),
        *("training.checkpoint_seconds=5", "allow_targets=[m]"),
    ],
)
def test_the_hash_does_not_depend_on_where_a_run_is_made(same, vem_run, mnist_hash):
    assert mnist_hash == hash_of(vem_run, "data=mnist", same)


@pytest.mark.parametrize(
    "other",
    [
        *("seed=1", "dtype=float64", "latent_dim=3", "data.binarize=threshold", "data.max_train=100"),
        *(
            "training.epochs=3",
            "training.rate=0.01",
            "strategy=local",
            "model.decoder.widths=[3]",
            "objective.num_draws=2",
        ),
        *("family=full_gaussian", "evaluation.draws=3", "training/schedule=cosine"),
    ],
)
def test_the_hash_depends_on_what_the_numbers_depend_on(other, vem_run, mnist_hash):
    assert mnist_hash != hash_of(vem_run, "data=mnist", other)


def test_the_hash_does_not_depend_on_values_that_the_model_does_not_use(vem_run):
    assert hash_of(vem_run, "strategy=gmm") == hash_of(vem_run, "strategy=gmm", "latent_dim=7")


def test_the_hash_does_not_depend_on_the_order_of_overrides(vem_run):
    one = hash_of(vem_run, "strategy=local", "seed=1", "training.epochs=3")
    assert one == hash_of(vem_run, "training.epochs=3", "seed=1", "strategy=local")


# --- help


def test_help_is_a_page_that_a_person_can_use(vem_run):
    from vem.cli.messages import config_directory

    page = vem_run("--help").good().out
    for group in ("data", "model", "family", "strategy", "objective", "training", "evaluation", "experiment"):
        line = next(line for line in page.splitlines() if line.strip().startswith(f"{group}:"))
        for path in (config_directory() / group).glob("*.yaml"):
            assert path.stem in line
    commands = [line.split("python -m ")[1] for line in page.splitlines() if line.startswith("  python -m ")]
    assert len(commands) == 6
    for command in commands:
        module, *arguments = command.split()
        if module == "vem.report":
            assert not [a for a in arguments if a.startswith("-")]
            continue
        if module == "vem.evaluate":  # its overrides are those of a run
            arguments = arguments[1:]
        else:
            assert module == "vem.run"
        if arguments[0] == "-m":
            key, values = arguments[1].split("=")
            for value in values.split(","):
                vem_run(f"{key}={value}", "--cfg", "job", "--resolve").good()
        else:
            vem_run(*arguments, "--cfg", "job", "--resolve").good()


def test_cfg_shows_what_would_run(here, vem_run):
    shown = yaml.safe_load(vem_run("strategy=local", "latent_dim=7", "--cfg", "job", "--resolve").good().out)
    assert shown["model"]["latent_dim"] == 7 and shown["strategy"]["_target_"] == "vem.strategies.local.Local"
    assert list(here.iterdir()) == []
