"""The meter: means over data, the first step that is not finite, its state."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from vem.contracts import Bound, StepInfo
from vem.training.meter import Meter, NonFiniteError


def info(values: Tensor, **terms: Tensor) -> StepInfo:
    return StepInfo(Bound(values, values, {"kl": 2 * values}), terms, len(values))


def test_means_are_over_data_not_over_batches(device: torch.device) -> None:
    meter = Meter()
    meter.add(info(torch.tensor([1.0, 2.0, 3.0], device=device), norm=torch.tensor(4.0, device=device)), 3)
    meter.add(info(torch.tensor([10.0], device=device), norm=torch.tensor(8.0, device=device)), 1)
    assert meter.flush(1) == pytest.approx({"elbo": 4.0, "kl": 8.0, "norm": 5.0})
    assert meter.flush(3) == {}


def test_a_term_that_only_some_steps_have_is_averaged_over_those(device: torch.device) -> None:
    meter = Meter()
    meter.add(info(torch.tensor([1.0], device=device)), 1)
    meter.add(info(torch.tensor([3.0], device=device), norm=torch.tensor(7.0, device=device)), 1)
    meter.add(StepInfo(None, {"norm": torch.tensor(9.0, device=device)}, 1), 1)
    assert meter.flush(1) == pytest.approx({"elbo": 2.0, "kl": 4.0, "norm": 8.0})


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_the_first_bad_step_and_its_terms_are_named(bad: float, device: torch.device) -> None:
    meter = Meter()
    for step in range(6):
        norm = torch.tensor(bad if step >= 3 else 1.0, device=device)
        values = torch.tensor([1.0, bad if step >= 4 else 2.0], device=device)
        meter.add(info(values, norm=norm), 2)
    with pytest.raises(NonFiniteError, match=r"^step 104: norm became NaN or infinite$"):
        meter.flush(101)


def test_all_bad_terms_of_the_step_are_named(device: torch.device) -> None:
    meter = Meter()
    meter.add(info(torch.tensor([math.nan], device=device)), 1)
    with pytest.raises(NonFiniteError, match="step 7: elbo, kl became"):
        meter.flush(7)


def test_state_goes_back(device: torch.device) -> None:
    meter, other = Meter(), Meter()
    meter.add(info(torch.tensor([1.0, 5.0], device=device)), 2)
    meter.add(info(torch.tensor([3.0], device=device), norm=torch.tensor(7.0, device=device)), 1)
    other.load_state_dict(meter.state_dict())
    for m in (meter, other):
        m.add(info(torch.tensor([3.0], device=device)), 1)
    assert meter.flush(1) == other.flush(1)
    empty = Meter()
    empty.load_state_dict(Meter().state_dict())
    assert empty.flush(1) == {}
