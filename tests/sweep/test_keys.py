"""A sweep over options that do not share all keys: each job takes those that its own options have."""

from __future__ import annotations

from textwrap import dedent

import pytest
from hydra._internal.hydra import Hydra
from hydra._internal.utils import create_config_search_path
from hydra.core.global_hydra import GlobalHydra
from hydra.errors import ConfigCompositionException
from hydra.types import RunMode

from vem.cli import messages
from vem.sweep import keys, plan

# Options that differ in their keys as vem's do: composing those takes ten times as long.
SMALL = {
    "config": """
        defaults: [model: deep, strategy: amortized, evaluation: none, _self_]
        seed: 0
        hydra:
          sweep: {subdir: "${vem.folder:${hydra.job.override_dirname}}"}
    """,
    "model/deep": "decoder: {widths: [8]}",
    "model/mixture": "components: 10",
    "strategy/amortized": "rate: 1",
    "strategy/exact_em": "restarts: 1",
    "strategy/gmm": "defaults: [exact_em, override /model@_global_.model: mixture, _self_]",
    "strategy/local": "defaults: [rule: natural, _self_]",
    "strategy/rule/adam": "rate: 1",
    "strategy/rule/natural": "trust: 1",
    "evaluation/none": "num_data: 0",
    "evaluation/gaps": "best: {rounds: 9}",
}


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    """A config directory of their kind."""
    place = tmp_path_factory.mktemp("conf")
    for name, text in SMALL.items():
        (place / name).parent.mkdir(parents=True, exist_ok=True)
        (place / f"{name}.yaml").write_text(dedent(text))
    return place


@pytest.fixture
def sweep(small):
    """The sentences, and the config of each job by its folder, of what is typed after ``-m``."""

    def call(*typed, conf=small):
        GlobalHydra.instance().clear()
        with keys.each_its_own():
            hydra = Hydra.create_main_hydra2("run", create_config_search_path(str(conf)))
        loader = hydra.config_loader
        master = loader.load_configuration("config", [*typed, "hydra.sweep.dir=s"], RunMode.MULTIRUN)
        parsed = plan.typed_in(master)
        jobs = plan.jobs_of(master, parsed)
        told = loader.settle(master, parsed)
        configs = {job.folder: loader.load_sweep_config(master, list(job.overrides)) for job in jobs}
        assert [config.hydra.sweep.subdir for config in configs.values()] == list(configs)  # as planned
        return told, configs, loader

    yield call
    GlobalHydra.instance().clear()


def taken(configs, key):
    """What each job was given for a key, None where it was not."""
    return [
        next((o.split("=")[1] for o in config.hydra.overrides.task if o.split("=")[0] == key), None)
        for config in configs.values()
    ]


def test_a_key_that_the_default_option_lacks_is_taken_by_those_that_have_it(sweep):
    conf = messages.config_directory()  # vem's own
    told, configs, _ = sweep("strategy=gmm,exact_em", "model=mixture", "strategy.restarts=3", conf=conf)
    assert [config.strategy.restarts for config in configs.values()] == [3, 3] and told == []
    told, configs, loader = sweep("strategy=gmm,exact_em,amortized", "model=mixture", "strategy.restarts=3")
    assert taken(configs, "strategy.restarts") == ["3", "3", None]
    assert told == [
        "strategy.restarts=3 is taken by strategy=gmm, strategy=exact_em; strategy=amortized has no such key."
    ]
    assert list(configs)[2] == "model=mixture,strategy.restarts=3,strategy=amortized"
    with pytest.raises(ConfigCompositionException, match=r"strategy\.restarts"):  # of a lone run it is a mistake
        loader.load_configuration("config", ["strategy=amortized", "strategy.restarts=3"], RunMode.RUN)


def test_a_key_that_is_swept_and_one_of_another_section(sweep):
    """The strategy brings its model, and so its keys."""
    told, configs, _ = sweep("strategy=gmm,amortized", "model.components=2,3", "model.decoder.widths=[4]")
    assert taken(configs, "model.components") == ["2", "3", None, None]
    assert taken(configs, "model.decoder.widths") == [None, None, "[4]", "[4]"]
    assert told == [
        "model.components=2,3 is taken by strategy=gmm; strategy=amortized has no such key, "
        "and runs once for all of its values.",
        "model.decoder.widths=[4] is taken by strategy=amortized; strategy=gmm has no such key.",
    ]


def test_a_group_within_a_group_and_a_key_below_it(sweep):
    told, configs, _ = sweep("strategy=amortized,local", "strategy/rule=adam", "strategy.rule.rate=0.5,1")
    assert taken(configs, "strategy/rule") == [None, None, "adam", "adam"]
    assert taken(configs, "strategy.rule.rate") == [None, None, "0.5", "1"]
    assert len(told) == 2


def test_a_key_of_one_nested_option_alone(sweep):
    told, configs, _ = sweep("strategy=local", "strategy/rule=adam,natural", "strategy.rule.trust=0.5")
    assert taken(configs, "strategy.rule.trust") == [None, "0.5"]
    assert "strategy.rule.trust=0.5 is taken by strategy/rule=natural; strategy/rule=adam has no such key." in told


def test_two_choices_at_once(sweep):
    told, configs, _ = sweep("evaluation=none,gaps", "strategy=local,gmm", "evaluation.best.rounds=3")
    assert taken(configs, "evaluation.best.rounds") == [None, None, "3", "3"]
    assert told == ["evaluation.best.rounds=3 is taken by evaluation=gaps; evaluation=none has no such key."]


@pytest.mark.parametrize(
    ("typed", "words"),
    [
        (("strategy=gmm,exact_em", "model=mixture", "strategy.restart=3"), "did you mean 'strategy.restarts'"),
        (("strategy=local,amortized", "strategy.restarts=1,3"), "belongs to another choice of strategy"),
        (("seed=0,1", "strategy.restarts=3"), "strategy.restarts cannot be set"),
        (("strategy=gmm,amortized", "+strategy.restarts=3"), "strategy.restarts"),  # adding is not setting
    ],
)
def test_a_key_that_none_has_is_refused(sweep, typed, words):
    with pytest.raises(ConfigCompositionException) as refused:
        sweep(*typed)
    assert words in messages.explain(refused.value)


def test_sweeps_that_worked_before_have_the_folders_they_had(sweep):
    told, configs, loader = sweep("strategy=local,gmm", "seed=1", "+model.odd=1")
    assert told == [] and not loader.may_lack
    assert list(configs) == [f"+model.odd=1,seed=1,strategy={name}" for name in ("local", "gmm")]
