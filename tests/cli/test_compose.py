"""Every option of every group composes with the rest and makes what it names, given its data.

Nothing is listed here: an option is found by its yaml, and its partners (a family needs a model over the
same kind of z) by trying.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import pytest
import yaml
from cli_support import CHECKOUT
from hydra import compose, initialize_config_dir
from hydra.errors import HydraException
from omegaconf import OmegaConf

from vem.cli import messages
from vem.cli.messages import explain
from vem.config.build import Built, build
from vem.errors import VemError
from vem.noise import generator
from vem.sweep import plan

CONF = CHECKOUT / "conf"
OPTIONS = sorted(
    (path.parent.relative_to(CONF).as_posix(), path.stem)
    for path in CONF.rglob("*.yaml")
    if path.parent != CONF and "hydra" not in path.relative_to(CONF).parts
)
STRATEGIES = [name for group, name in OPTIONS if group == "strategy"]
BLOBS = ("data=blobs", "data.num=40", "data.num_valid=10", "data.num_test=10", "data.dims=3", "latent_dim=2")
PARTNERS: list[tuple[str, ...]] = [
    (),
    ("strategy=local",),
    ("strategy=amortized", "strategy/encoder=mlp"),
    ("strategy=exact_em", "model=linear_gaussian"),
    ("strategy=gmm",),
    ("evaluation=full",),
    ("strategy=amortized", "strategy/encoder=mlp", "model=mixture", "family=categorical"),
    ("strategy=local", "strategy/start=prior", "strategy/rule=adam", "model=mixture", "family=categorical"),
]


@pytest.fixture(scope="module", autouse=True)
def _configs() -> Iterator[None]:
    with initialize_config_dir(str(CONF), version_base="1.3"):
        yield


def composed(*overrides: str) -> dict[str, Any]:
    config = OmegaConf.to_container(compose("config", overrides=list(overrides)), resolve=True)
    assert isinstance(config, dict)
    return {str(key): value for key, value in config.items()}


def made(config: dict[str, Any]) -> Built:
    """The objects, the strategy set up on its data."""
    built = build({**config, "device": "cpu"})
    built.strategy.setup(built.model, built.data.training_set(), generator("cpu", 0, "setup"))
    return built


def first_fit(option: str, base: Sequence[str], partners: Sequence[Sequence[str]]) -> Built:
    """What the first partners that fit make of it."""
    refused = []
    for partner in partners:
        own = [p for p in partner if p.split("=")[0] != option.split("=")[0]]
        try:
            return made(composed(*base, *own, option))
        except (VemError, HydraException) as error:
            refused.append(f"{' '.join(own)}: {str(error).splitlines()[0]}")
    raise AssertionError(f"{option} fits nothing:\n" + "\n".join(refused))


def _skip_without_its_extra(group: str, name: str) -> None:
    if group not in ("launcher", "sweeper"):
        return
    try:
        composed(f"{group}={name}")
    except HydraException as error:
        if "pip install" in (explain(error) or ""):
            pytest.skip(f"the extra of {group}={name} is not installed")
        raise


@pytest.mark.parametrize(("group", "name"), [o for o in OPTIONS if o[0] not in ("data", "experiment")])
def test_an_option_makes_what_it_names(group, name):
    _skip_without_its_extra(group, name)
    built = first_fit(f"{group}={name}", BLOBS, PARTNERS)
    path = CONF / group / f"{name}.yaml"
    target = yaml.safe_load(path.read_text()).get("_target_")
    if target and group in ("model", "strategy", "training", "evaluation"):
        assert type(getattr(built, group)).__name__ == target.rsplit(".", 1)[-1]


@pytest.mark.parametrize("name", [name for group, name in OPTIONS if group == "data"])
def test_a_data_set_comes(name, request, tmp_path, monkeypatch):
    overrides = [f"data={name}", "data.max_train=50", "strategy=gmm", "model.components=2"]
    if "root" in yaml.safe_load((CONF / "data" / f"{name}.yaml").read_text()):
        overrides.append(f"data.root={request.getfixturevalue('data_root')}")
    if name == "array":
        np.save(tmp_path / "x.npy", np.random.default_rng(0).random((80, 3)))
        overrides.append(f"data.path={tmp_path / 'x.npy'}")
    built = made(composed(*overrides))
    assert built.data.name == name and len(built.data.train) == 50


@pytest.mark.parametrize("name", [name for group, name in OPTIONS if group == "experiment"])
def test_an_experiment_is_headed_by_its_command_and_overrides_the_rest(name, data_root):
    path = CONF / "experiment" / f"{name}.yaml"
    head = path.read_text().splitlines()
    assert head[0] == "# @package _global_" and head[1] == f"# python -m vem.run experiment={name}"
    config = composed(f"experiment={name}")
    _holds(config, {k: v for k, v in yaml.safe_load(path.read_text()).items() if k != "defaults"})
    small = composed(f"experiment={name}", "data.max_train=60", "training.epochs=1")
    if "root" in small["data"]:
        small["data"]["root"] = str(data_root)
    assert small["training"]["epochs"] == 1  # the command line overrides the experiment
    assert len(made(small).data.train) == 60


def test_exact_em_is_not_handed_the_maximum_where_it_is_compared_with_learning():
    """In the experiment alone, whichever strategy is swept beside it, and not against what was typed."""
    experiment = "experiment=em_to_vae_tractable"
    for typed in ((), ("strategy=exact_em",)):
        config = composed(experiment, *typed)
        assert config["strategy"]["start"] == "model" and config["model"]["standardize"] is False
    assert composed(experiment, "strategy.start=closed")["strategy"]["start"] == "closed"
    assert composed("strategy=exact_em", "model=linear_gaussian")["strategy"]["start"] == "closed"
    for strategy in ("local", "amortized"):
        assert "closed" not in str(composed(experiment, f"strategy={strategy}")["strategy"])


def _holds(config: dict[str, Any], part: dict[str, Any]) -> None:
    for key, value in part.items():
        if isinstance(value, dict):
            _holds(config[key], value)
        else:
            assert config[key] == value


@pytest.mark.parametrize(("group", "name"), [o for o in OPTIONS if "/" not in o[0]])
def test_an_option_composes_with_every_strategy(group, name):
    _skip_without_its_extra(group, name)
    brings_its_own = group == "strategy" or "override /strategy" in (CONF / group / f"{name}.yaml").read_text()
    for strategy in [] if brings_its_own else STRATEGIES:
        assert composed(f"strategy={strategy}", f"{group}={name}")["strategy"] is not None
    composed(f"{group}={name}")


@pytest.mark.parametrize(("jobs", "handed"), [(3, "3"), (-1, "all")])
def test_joblib_is_handed_as_many_jobs_as_run_at_once_and_all_where_it_counts_the_cores(jobs, handed):
    _skip_without_its_extra("launcher", "joblib")
    overrides = ["launcher=joblib", f"hydra.launcher.n_jobs={jobs}"]
    assert compose("config", overrides=overrides, return_hydra_config=True).hydra.launcher.pre_dispatch == handed


def test_a_worker_that_stands_elsewhere_finds_the_data(tmp_path, monkeypatch):
    """A relative path means the folder that the command was typed in."""
    section = {"path": "x.npy", "root": "data", "num": 3}
    messages.find_data(section, tmp_path)
    assert section == {"path": str(tmp_path / "x.npy"), "root": str(tmp_path / "data"), "num": 3}
    absolute = {"path": "/x.npy", "root": None}
    messages.find_data(absolute, tmp_path)
    assert absolute == {"path": "/x.npy", "root": None}
    monkeypatch.chdir(tmp_path)
    here = {"path": "x.npy"}
    messages.find_data(here, tmp_path)
    assert here == {"path": "x.npy"}  # as it was typed, for messages

    monkeypatch.setenv("VEM_DATA", "my data")
    config = compose("config", overrides=["hydra.runtime.cwd=."], return_hydra_config=True)
    plan._tell_the_jobs(config, tmp_path / "sweep")
    told = compose("config", overrides=list(config.hydra.overrides.hydra), return_hydra_config=True)
    assert told.hydra.job.env_set["VEM_DATA"] == str(tmp_path / "my data")


def test_every_yaml_is_reached():
    """A folder that no defaults list names would never be read."""
    for group in {group for group, _ in OPTIONS}:
        parent, _, last = group.rpartition("/")
        lists = [yaml.safe_load(path.read_text()).get("defaults", []) for path in (CONF / parent).glob("*.yaml")]
        assert any(last in entry for entries in lists for entry in entries if isinstance(entry, dict)), group
