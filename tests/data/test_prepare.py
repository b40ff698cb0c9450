"""Binarization, training subsets and the checks that every data set goes through."""

from __future__ import annotations

from inspect import signature
from pathlib import Path

import pytest
import torch
import yaml
from hydra.utils import get_object

from vem.data.dataset import Data, Split, check
from vem.data.prepare import prepare, split_rows
from vem.errors import VemError

CONF = Path(__file__).parents[2] / "conf" / "data"
GREY = torch.rand(400, 6, generator=torch.Generator().manual_seed(0))


def grey(train: torch.Tensor = GREY, **changes) -> Data:
    fields = {"valid": Split(GREY[:50]), "test": Split(GREY[50:100]), "kind": "real", **changes}
    return Data("grey", Split(train, torch.arange(len(train))), **fields)


def test_threshold_is_one_from_a_half_up():
    x = torch.tensor([[0.0, 0.49, 0.5, 1.0], [1.0, 1.0, 0.0, 0.0]])
    data = prepare(grey(x, valid=Split(x), test=Split(x)), "threshold")
    assert data.train.x.tolist() == [[0, 0, 1, 1], [1, 1, 0, 0]]
    assert data.kind == "binary" and not data.redrawn


@pytest.mark.parametrize("how", ["static", "stochastic"])
def test_draws_have_the_grey_level_as_their_mean(how):
    level = 0.3
    levels = torch.full((20_001, 5), level)
    levels[-1] = 0  # data that are all equal are refused
    data = prepare(grey(levels), how)
    assert not data.train_x(0)[-1].any()
    mean = data.train_x(0)[:-1].mean()
    assert abs(float(mean) - level) < 5 * (level * (1 - level) / 100_000) ** 0.5
    assert set(data.train_x(0).unique().tolist()) == {0.0, 1.0}
    assert set(data.valid.x.unique().tolist()) == {0.0, 1.0} == set(data.test.x.unique().tolist())


def test_stochastic_training_data_are_redrawn_each_epoch_and_can_be_drawn_again():
    data = prepare(grey(), "stochastic")
    assert data.redrawn and data.kind == "binary"
    assert torch.equal(data.train.x, GREY)
    assert torch.equal(data.train_x(3), data.train_x(3))
    assert not torch.equal(data.train_x(3), data.train_x(4))
    other = prepare(grey(seed=1), "stochastic")
    assert not torch.equal(data.train_x(3), other.train_x(3))


def test_static_data_are_drawn_once_by_seed():
    first, again, other = (prepare(grey(seed=seed), "static") for seed in (0, 0, 1))
    assert torch.equal(first.train.x, again.train.x) and torch.equal(first.test.x, again.test.x)
    assert not torch.equal(first.train.x, other.train.x) and not torch.equal(first.test.x, other.test.x)
    assert torch.equal(first.train_x(0), first.train_x(1))


def test_stochastic_binarization_of_binary_data_redraws_nothing():
    binary = (GREY > 0.5).float()
    data = prepare(grey(binary), "stochastic")
    assert not data.redrawn and torch.equal(data.train_x(5), binary)


def test_kind_is_binary_only_if_every_split_is():
    binary = (GREY > 0.5).float()
    assert prepare(grey(binary, valid=Split(binary), test=Split(binary))).kind == "binary"
    assert prepare(grey(binary, valid=Split(binary), test=Split(GREY))).kind == "real"
    assert prepare(grey()).kind == "real"


def test_smaller_training_sets_lie_within_larger_ones_and_keep_their_draws():
    small, large, all_rows = (prepare(grey(), "static", n) for n in (30, 100, None))
    rows = small.train.labels
    assert len(rows) == 30 and set(rows.tolist()) < set(large.train.labels.tolist())
    assert torch.equal(small.train.x, all_rows.train.x[rows])
    assert torch.equal(small.test.x, all_rows.test.x)
    assert set(rows.tolist()) != set(range(30))


def test_per_datum_truth_follows_the_training_rows():
    data = prepare(grey(truth={"W": GREY[:3], "z_train": GREY}), max_train=10)
    assert torch.equal(data.truth["z_train"], data.train.x) and len(data.truth["W"]) == 3


def test_splits_are_disjoint_and_pinned():
    parts = split_rows(1000, (700, 200, 100), seed=0)
    assert torch.cat(parts).sort().values.tolist() == list(range(1000))
    assert not torch.equal(parts[0], split_rows(1000, (700, 200, 100), seed=1)[0])
    # A permutation that changed with a library would quietly change every published split.
    assert split_rows(1000, (5, 1, 1), seed=0)[0].tolist() == [601, 591, 749, 885, 104]


def with_hole(value: float) -> torch.Tensor:
    x = GREY.clone()
    x[7, 2] = value
    return x


@pytest.mark.parametrize(
    ("data", "options", "says"),
    [
        (grey(with_hole(float("nan"))), {}, r"1 of 400 train rows hold NaN.*first is row 7"),
        (grey(with_hole(float("inf"))), {}, r"infinite values, the first is row 7"),
        (grey(with_hole(float("nan"))), {"binarize": "threshold"}, r"NaN"),
        (grey(torch.full((400, 6), 0.3)), {}, r"all 400 training data are equal"),
        (grey(torch.full((400, 6), 0.3)), {"binarize": "threshold"}, r"equal"),
        (grey(0.4 * GREY), {"binarize": "threshold"}, r"equal"),
        (grey(), {"max_train": 1}, r"all 1 training data are equal"),
        (grey(GREY[:0]), {}, r"train split is empty"),
        (grey(test=Split(GREY[:0])), {}, r"test split is empty"),
        (grey(GREY[:, 0]), {}, r"must be \[N, D\]"),
        (grey(valid=Split(GREY, torch.arange(399))), {}, r"400 rows and labels of shape \(399,\)"),
        (grey(), {"binarize": "treshold"}, r"data.binarize='treshold'.*did you mean 'threshold'"),
        (grey(255 * GREY), {"binarize": "stochastic"}, r"grey levels in \[0, 1\].*x / 255"),
        (grey(GREY - 0.5), {"binarize": "static"}, r"grey levels in \[0, 1\]"),
        (grey(valid=Split(2 * GREY)), {"binarize": "threshold"}, r"grey levels in \[0, 1\].*valid"),
        (grey(), {"max_train": 0}, r"data.max_train=0"),
        (grey(), {"max_train": 2.5}, r"data.max_train=2.5"),
        (grey(), {"max_train": 401}, r"data.max_train=401.*400 training rows"),
    ],
)
def test_bad_data_and_options(data, options, says):
    with pytest.raises(VemError, match=says):
        prepare(data, **options)


def test_check_returns_good_data():
    data = grey()
    assert check(data) is data


@pytest.mark.parametrize("path", sorted(CONF.glob("*.yaml")), ids=lambda path: path.stem)
def test_the_yaml_of_a_data_set_holds_every_option(path):
    conf = yaml.safe_load(path.read_text())
    target = conf.pop("_target_")
    assert target.startswith(f"vem.data.{path.stem}.") and set(conf) == set(signature(get_object(target)).parameters)
