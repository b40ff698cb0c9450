"""State that a user's network keeps outside its state_dict is told when the run ends, and nothing else is."""

from __future__ import annotations

import copy
import functools
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

import vem
from vem.cli import messages, reloading
from vem.cli.train import execute
from vem.config.build import Built, build
from vem.storage.records import read_json
from vem.training.fit import fit

SMALL = (
    *("data=blobs", "data.num=40", "data.num_valid=10", "data.num_test=10", "data.dims=3", "latent_dim=2"),
    *("training.epochs=2", "training.batch_size=20", "training.valid_data=0", "evaluation=none", "device=cpu"),
)
OWN_DECODER = ("~model.decoder", "+model.decoder={_target_: keepers.Net, inputs: 2, outputs: 3}")
DECODER = {"_target_": "keepers.Net", "inputs": 2, "outputs": 3}
ENCODER = {"_target_": "keepers.Net", "inputs": 3, "outputs": 4}
AMORTIZED = ("strategy=amortized", "strategy/encoder=mlp", "strategy.encoder.widths=[4]", "model.decoder.widths=[4]")
NETS = """
import torch
from torch import nn

class Net(nn.Module):
    def __init__(self, inputs, outputs):
        super().__init__()
        self.layer = nn.Linear(inputs, outputs)
        self.plain = torch.randn(outputs)  # drawn, and the same when it is drawn again
        {init}

    def forward(self, x):
        y = self.layer(x) + self.plain
        if self.training:
            pass
            {forward}
        return {out}
"""
KEEPERS = (  # each is a kind of its own, and is named
    "self.count = 0; self.seen = []; self.register_buffer('running', torch.zeros(outputs), persistent=False)",
    "self.count += 1; self.seen.append(torch.ones(1)); self.running += 0.1",
)
CHANGES = {"count": "y * (1 + 0.01 * self.count)", "seen": "y + 0.01 * sum(self.seen)", "running": "y + self.running"}
CLEAN: dict[str, tuple[str, str, str]] = {
    "kept": (
        "self.register_buffer('count', torch.zeros(())); self.idle = 0",
        "self.count += 1; self.idle += 1",
        "y * (1 + 0.01 * self.count)",
    ),
    "draws": ("self.lazy = nn.LazyLinear(outputs)", "", "self.lazy(y) + torch.randn_like(y)"),
}


@pytest.fixture
def keeper(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., None]]:
    """Write the module ``keepers`` of the user's."""
    monkeypatch.syspath_prepend(str(tmp_path))

    def write(init: str, forward: str, out: str) -> None:
        (tmp_path / "keepers.py").write_text(NETS.format(init=init, forward=forward or "pass", out=out))

    yield write
    sys.modules.pop("keepers", None)


@functools.cache
def composed(*overrides: str) -> dict[str, Any]:
    return messages.composed([*SMALL, "allow_targets=[keepers]", *overrides])


def trained(directory: Path, *overrides: str, **networks: Any) -> tuple[dict[str, Any], Built]:
    """``decoder`` and ``encoder``: the config of a network of the user's own."""
    config = copy.deepcopy(composed(*overrides))
    for name, network in networks.items():
        config["model" if name == "decoder" else "strategy"][name] = network
    built = build(config)
    fit(built.model, built.strategy, built.data, built.training, seed=0, directory=directory, progress_bar=False)
    return config, built


def noted(directory: Path, *overrides: str, **networks: Any) -> list[str]:
    """The notes, and that neither torch's stream nor what was trained is touched by the search for them."""
    config, built = trained(directory, *overrides, **networks)
    stream = torch.get_rng_state()
    before = {name: value.clone() for name, value in built.model.state_dict().items()}
    found = reloading.unkept(config, built, directory)
    assert torch.equal(torch.get_rng_state(), stream)
    assert all(torch.equal(value, before[name]) for name, value in built.model.state_dict().items())
    return found


@pytest.mark.parametrize(("name", "strategy"), [("count", "amortized"), ("seen", "local"), ("running", "local")])
def test_state_that_is_not_saved_is_named(name: str, strategy: str, keeper: Any, tmp_path: Path) -> None:
    keeper(*KEEPERS, CHANGES[name])
    networks = {"decoder": DECODER} | ({"encoder": ENCODER} if strategy == "amortized" else {})
    (note,) = noted(tmp_path, *(AMORTIZED if strategy == "amortized" else ("strategy=local",)), **networks)
    assert note.startswith("vem.load will not give these numbers: ")
    place = "model.decoder."
    assert f": {place}count, {place}seen, {place}running" in note and "Register it as a buffer" in note
    if strategy == "amortized":  # the encoder's, each once, though the option of the strategy is the same object
        assert ", strategy.encoder.count, strategy.encoder.seen and more" in note


@pytest.mark.parametrize("kind", CLEAN)
def test_what_is_kept_or_changes_nothing_is_not_told(kind: str, keeper: Any, tmp_path: Path) -> None:
    keeper(*CLEAN[kind])
    assert noted(tmp_path, *AMORTIZED, decoder=DECODER) == []


@pytest.mark.parametrize(
    "overrides",
    [
        (*AMORTIZED, "training.keep=best", "training.valid_data=5", "model.units=column", "dtype=float64"),
        ("strategy=local", "model.decoder.widths=[4]", "model.units=common", "strategy.schedule=alternating"),
        ("strategy=gmm", "model.components=2", "strategy.restarts=3"),
        ("strategy=exact_em", "model=linear_gaussian", "model.noise=diagonal", "strategy.start=closed"),
    ],
    ids=lambda overrides: " ".join(overrides),
)
def test_the_options_of_vem_keep_all_they_need(overrides: tuple[str, ...], tmp_path: Path) -> None:
    def refuse(*arguments: Any) -> None:
        raise AssertionError("a second table")

    config, built = trained(tmp_path, *overrides)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("vem.strategies.local.LambdaTable", refuse)
        assert reloading.unkept(config, built, tmp_path) == []


def test_a_constructor_that_fails_the_second_time_is_a_note(keeper: Any, tmp_path: Path) -> None:
    keeper("global CALLS; CALLS += 1; assert CALLS < 2, 'only once'", "", "y")
    (tmp_path / "keepers.py").write_text("CALLS = 0\n" + (tmp_path / "keepers.py").read_text())
    (note,) = noted(tmp_path, "strategy=local", decoder=DECODER)
    assert note.startswith("vem.load will not give this run back: ") and "only once" in note


def test_a_buffer_that_a_fresh_network_has_not_is_named(keeper: Any, tmp_path: Path) -> None:
    keeper("self.register_buffer('late', None)", "self.late = torch.ones(1)", "y")
    (note,) = noted(tmp_path, "strategy=local", decoder=DECODER)
    assert note.startswith("vem.load will not give this run back: ") and "decoder.late" in note


def test_what_is_no_number_in_a_fresh_network_is_said_in_words(keeper: Any, tmp_path: Path) -> None:
    keeper("self.scale = float('nan')", "self.scale = 1.0", "y * (1.0 if self.training else self.scale)")
    (note,) = noted(tmp_path, "strategy=local", decoder=DECODER)
    assert " is no number and not -" in note and "model.decoder.scale" in note and "nan" not in note


def test_what_a_constructor_hands_out_each_time_is_no_harm(keeper: Any, tmp_path: Path) -> None:
    keeper("", "", "y")
    text = (tmp_path / "keepers.py").read_text() + "\nONE = Net(2, 3)\ndef one():\n    return ONE\n"
    (tmp_path / "keepers.py").write_text(text)
    assert noted(tmp_path, "strategy=local", decoder={"_target_": "keepers.one"}) == []


def test_the_note_is_in_the_record_of_the_run_and_is_right(keeper: Any, tmp_path: Path) -> None:
    keeper("self.count = 0", "self.count += 1", "y + 2 * self.count")
    overrides = [*SMALL, "allow_targets=[keepers]", "strategy=local", *OWN_DECODER, "evaluation=quick"]
    execute(messages.composed([*overrides, "progress=false"]), overrides, tmp_path / "r")
    (note,) = (note for note in read_json(tmp_path / "r" / "run.json")["notes"] if "vem.load" in note)
    loaded, measured = (float(note.split(words)[1].split()[0].strip(",")) for words in ("data is ", "and not "))
    assert abs(measured - loaded) > 1
    told = read_json(tmp_path / "r" / "evaluation.json")["train"]["elbo"]["mean"]
    assert measured == pytest.approx(told, abs=1)  # of 32 of the 40 data
    again = vem.load(tmp_path / "r").score("train", num_data=32, draws=50)
    assert float(again.elbo.mean()) == pytest.approx(loaded, abs=1)
