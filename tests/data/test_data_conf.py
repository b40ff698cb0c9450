"""Each data set is one function and one yaml, and the yaml holds every option with its default."""

from __future__ import annotations

import importlib
import inspect
from pathlib import Path

import pytest
import yaml

CONF = Path(__file__).resolve().parents[2] / "conf" / "data"
NAMES = sorted(path.stem for path in CONF.glob("*.yaml"))


def test_every_data_set_of_the_bench_is_there():
    assert {
        *("array", "blobs", "digits", "fashion_mnist", "frey_faces"),
        *("linear_gaussian", "mnist", "omniglot", "silhouettes"),
    } <= set(NAMES)


@pytest.mark.parametrize("name", NAMES)
def test_the_yaml_holds_every_option_and_its_default(name):
    conf = yaml.safe_load((CONF / f"{name}.yaml").read_text())
    module, function = conf.pop("_target_").rsplit(".", 1)
    assert module == f"vem.data.{name}"
    parameters = inspect.signature(getattr(importlib.import_module(module), function)).parameters
    assert conf == {key: parameter.default for key, parameter in parameters.items()}
