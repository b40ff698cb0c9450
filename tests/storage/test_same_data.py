"""Digests of data: other data are other, rounding is rounding, and each change that a file can undergo is seen."""

from __future__ import annotations

import json
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor

from vem.data.blobs import blobs
from vem.storage import same_data


def entry(x: Tensor, labels: Tensor | None = None) -> dict[str, Any]:
    """As run.json holds it."""
    data = SimpleNamespace(split=lambda name: SimpleNamespace(x=x, labels=labels))
    return json.loads(json.dumps(same_data.digests(data), allow_nan=False))["test"]


def values(num: int = 50, *shape: int, dtype: torch.dtype = torch.float32) -> Tensor:
    return torch.randn(num, *(shape or (3,)), generator=torch.Generator().manual_seed(0), dtype=torch.float64).to(dtype)


@pytest.mark.parametrize("shape", [(3,), (5, 6)], ids=["columns", "projections"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_the_same_and_to_rounding(shape, dtype):
    x = values(50, *shape, dtype=dtype)
    assert same_data.compared(entry(x), entry(x.clone())) == "same"
    turned = x.transpose(0, 1).contiguous().transpose(0, 1)  # another layout in memory
    assert same_data.compared(entry(x), entry(turned)) == "same"
    last_bits = torch.nextafter(x, torch.ones(()).to(dtype))
    assert same_data.compared(entry(x), entry(last_bits)) == "rounding"
    assert same_data.compared(entry(x), entry(x.double() + 1e-9)) == "rounding"


@pytest.mark.parametrize("shape", [(3,), (5, 6)], ids=["columns", "projections"])
def test_other_data(shape):
    x = values(200, *shape)
    one = entry(x)
    swapped, changed, units = x.clone(), x.clone(), x.clone()
    swapped[[3, 150]] = x[[150, 3]]
    changed.view(200, -1)[17, 1] += 0.1
    units.view(200, -1)[:, 0] *= 1.001
    others = [x.flip(0), swapped, changed, units, x + 1e-3, x[:-1], x.flip(1), x.abs(), x.half()]
    for other in others:
        assert same_data.compared(one, entry(other)) == "other"


def test_one_datum_of_a_thousand_in_wide_data():
    x = torch.bernoulli(torch.full((1000, 784), 0.2), generator=torch.Generator().manual_seed(0))
    other = x.clone()
    other[500, 300] = 1 - other[500, 300]
    assert same_data.compared(entry(x), entry(other)) == "other"


@pytest.mark.parametrize("dtype", [torch.uint8, torch.bool, torch.int64, torch.bfloat16, torch.float16])
def test_any_type_that_torch_stores(dtype):
    x = (values() > 0).to(dtype)
    assert same_data.compared(entry(x), entry(x)) == "same"
    assert same_data.compared(entry(x), entry(x.float())) == "rounding"
    assert same_data.compared(entry(x), entry((~x.bool()).to(dtype))) == "other"


def test_columns_far_from_zero_and_columns_that_do_not_vary():
    x = values(50, 3, dtype=torch.float64)
    far = torch.stack([x[:, 0] + 1e6, torch.full((50,), 3.0, dtype=torch.float64), x[:, 2]], 1)
    shifted = far + torch.tensor([0.3, 0.0, 0.0])
    assert same_data.compared(entry(far), entry(shifted)) == "other"  # 3e-7 of the mean, a third of the spread
    assert same_data.compared(entry(far), entry(far * (1 + 1e-15))) == "rounding"
    assert same_data.compared(entry(far.float()), entry(far.float() * (1 + 1e-7))) == "rounding"
    assert same_data.compared(entry(far), entry(far + torch.tensor([0.0, 1e-3, 0.0]))) == "other"


@pytest.mark.parametrize("shape", [(3,), (40,)])
def test_beside_one_datum_far_out(shape):
    """Its value is most of every moment: the others in other units are other data all the same."""
    x = values(50, *shape)
    x[0] = 1e7
    other = x.clone()
    other[1:] *= 2
    assert same_data.compared(entry(x), entry(other)) == "other"
    assert same_data.compared(entry(x), entry(torch.nextafter(x, torch.tensor(1e9)))) == "rounding"


def test_numbers_so_large_that_their_squares_overflow():
    x = values(dtype=torch.float64) * 1e300
    assert entry(x)["moments"] is None
    assert same_data.compared(entry(x), entry(x)) == "same"
    assert same_data.compared(entry(x), entry(x * (1 + 1e-15))) == "other"


def test_labels_are_apart_from_x():
    x, labels = values(), torch.arange(50)
    one, other = entry(x, labels), entry(x, labels.flip(0))
    assert one["x"] == other["x"] and one["labels"] != other["labels"] and entry(x)["labels"] is None
    assert same_data.compared(one, other) == "same"


@pytest.mark.parametrize("old", [None, {}, "text", {"x": None}, {"labels": None}])
def test_what_recorded_nothing_is_unknown(old):
    assert same_data.compared(old, entry(values())) == "unknown"


def test_differences_name_the_split_and_both_digests():
    data = blobs(num=40, num_valid=10, num_test=10, dims=3)
    recorded = json.loads(json.dumps(same_data.digests(data)))
    found = same_data.digests(data)
    assert same_data.differences(recorded, found) == ([], [])
    assert same_data.differences(None, found) == ([], [])
    for split, part in (("test", "x"), ("train", "labels")):
        other = {**found, split: {**found[split], part: "f" * 64, "moments": None}}
        ((sentence,), notes) = same_data.differences(recorded, other)
        assert sentence.startswith(f"{split} {part}") and not notes
        assert "f" * 12 in sentence and str(recorded[split][part] or "none")[:12] in sentence
    rounded = {**found, "valid": {**found["valid"], "x": "f" * 64}}
    refused, (note,) = same_data.differences(recorded, rounded)
    assert not refused and "valid" in note and "rounding" in note


def test_the_chunks_do_not_matter(monkeypatch):
    x = values(500, 40)
    whole = entry(x)
    monkeypatch.setattr(same_data, "CHUNK", 1000)
    found = entry(x)["moments"]
    for name in same_data.MOMENTS:  # the quartiles are those of the first chunk
        assert found[name] == pytest.approx(whole["moments"][name], rel=1e-5, abs=1e-9)
