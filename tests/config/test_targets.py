"""A config section becomes an object, or one message that names the key."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

import pytest

from vem.config.targets import check_targets, conform, instantiate, locate
from vem.errors import VemError, at_least


class Part:
    def __init__(self, size: int, rate: float = 0.5, widths: Sequence[int] = (), name: str | None = None, free=None):
        self.all = (size, rate, widths, name, free)


class Whole:
    def __init__(self, part: Part, **more: Any):
        self.part, self.more = part, more


HERE = __name__


def part(**arguments: Any) -> dict[str, Any]:
    return {"_target_": f"{HERE}.Part", **arguments}


def test_a_whole_float_becomes_an_int_and_nested_sections_are_made():
    whole = instantiate({"_target_": f"{HERE}.Whole", "part": part(size=1e3, rate=1, widths=[8.0, 4]), "extra": 1}, "w")
    assert whole.part.all == (1000, 1, [8, 4], None, None) and isinstance(whole.part.all[0], int)
    assert all(isinstance(width, int) for width in whole.part.all[2]) and whole.more == {"extra": 1}


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"size": "abc"}, "w.part.size='abc' is of the wrong kind: give a whole number"),
        ({"size": 1.5}, "w.part.size=1.5"),
        ({"size": True}, "w.part.size=True"),
        ({"size": None}, "w.part.size=null"),
        ({"size": 1, "rate": "fast"}, "w.part.rate='fast' is of the wrong kind: give a number"),
        ({"size": 1, "rate": None}, "w.part.rate=null"),
        ({"size": 1, "widths": 8}, "w.part.widths=8 is of the wrong kind: give a list, each entry a whole number"),
        ({"size": 1, "widths": [8, "x"]}, r"w.part.widths=\[8, 'x'\]"),
        ({"size": 1, "name": 3}, "w.part.name=3 is of the wrong kind: give text or null"),
        ({"size": 1, "siz": 3}, "takes no 'siz'; did you mean 'size'"),
        ({}, "could not be made: .*size"),
    ],
)
def test_an_argument_is_held_against_its_annotation(arguments, words):
    with pytest.raises(VemError, match=words):
        instantiate({"_target_": f"{HERE}.Whole", "part": part(**arguments)}, "w")


def test_what_has_no_plain_annotation_is_let_through():
    assert instantiate(part(size=1, free="anything"), "w").all[-1] == "anything"
    assert conform("x", Any, "k") == "x" and conform({"a": 1}, dict[str, int], "k") == {"a": 1}


def test_partial_and_torch_targets():
    import torch

    factory = instantiate({"_target_": "torch.optim.Adam", "_partial_": True, "lr": 0.1}, "optimizer")
    optimizer = factory([torch.zeros(2, requires_grad=True)])
    assert optimizer.defaults["lr"] == 0.1


@pytest.mark.parametrize("target", ["os.system", "vemx.Model", "torchvision.models.resnet18", "builtins.eval"])
def test_a_target_outside_the_allowed_prefixes(target):
    with pytest.raises(VemError, match=r"model\.parts\[1\]\._target_=.* is not allowed"):
        check_targets({"model": {"parts": [1, {"_target_": target}]}}, ["mymodule"])


@pytest.mark.parametrize("target", ["torch.os.system", "vem.cli.messages.sys.exit", "vem.storage.records.os.system"])
def test_a_target_that_is_only_reached_through_an_allowed_module(target):
    with pytest.raises(VemError, match="is not allowed"):
        instantiate({"_target_": target}, "model")


def test_locate_tells_a_missing_module_from_one_that_lacks_its_own(tmp_path, monkeypatch):
    (tmp_path / "lacks_its_own.py").write_text("import no_such_thing_anywhere\n")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(ModuleNotFoundError, match="no_such_thing_anywhere"):
        locate("lacks_its_own.Thing")
    with pytest.raises(ImportError, match="there is no module 'nowhere'"):
        locate("nowhere.at.all")


@pytest.mark.parametrize("value", ["3", True, None, [3]])
def test_at_least_refuses_what_is_no_number(value):
    with pytest.raises(VemError, match=r"training\.epochs=.* is not a number: it must be at least 1"):
        at_least(value, 1, "training.epochs")


@pytest.mark.parametrize("value", [0, -1, float("nan"), 0.999])
def test_at_least_refuses_what_is_too_small(value):
    with pytest.raises(VemError, match="is too small: it must be at least 1"):
        at_least(value, 1, "training.epochs")


ELBO_0 = {"_target_": "vem.objectives.elbo.ELBO", "num_draws": 0}
HELD_OUT_0 = {"_target_": "vem.strategies.local.HeldOut", "steps": 0}


@pytest.mark.parametrize(
    ("section", "said"),
    [
        (HELD_OUT_0, "place.steps=0 is too small"),
        ({"_target_": "builtins.dict", "held_out": HELD_OUT_0}, "place.held_out.steps=0 is too small"),
        ({"_target_": "vem.strategies.exact_em.ExactEM", "objective": ELBO_0}, "objective.num_draws=0 is too small"),
    ],
)
def test_a_class_names_its_argument_and_the_config_adds_the_place(section, said, monkeypatch):
    monkeypatch.setattr("vem.config.targets.typed", lambda section, place: section)
    with pytest.raises(VemError, match=f"^{re.escape(said)}"):
        instantiate(section, "place")
