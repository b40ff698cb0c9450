"""Step-size schedules and the stopping rule against numbers worked out by hand."""

from __future__ import annotations

import math
from typing import Any

import pytest

from vem.errors import VemError
from vem.training.schedules import IWAE, Constant, Cosine, RobbinsMonro
from vem.training.settings import Stop, Training


def test_constant() -> None:
    assert [Constant()(e, 10) for e in (0, 3.3, 10)] == [1.0] * 3


@pytest.mark.parametrize(
    ("epoch", "expected"),
    [(0, 1.0), (20, 1.0), (40, 0.1 + 0.9 * 0.5 * (1 + math.cos(math.pi / 4))), (60, 0.55), (100, 0.1), (150, 0.1)],
)
def test_cosine_with_a_hold(epoch: float, expected: float) -> None:
    assert Cosine(final=0.1, hold=0.2)(epoch, 100) == pytest.approx(expected)


def test_cosine_that_holds_to_the_end() -> None:
    assert Cosine(hold=1.0)(9.9, 10) == 1.0 and Cosine(hold=1.0)(10, 10) == 1.0


@pytest.mark.parametrize(("epoch", "expected"), [(0, 1.0), (4, 2**-0.75), (12, 4**-0.75), (60, 16**-0.75)])
def test_robbins_monro(epoch: float, expected: float) -> None:
    assert RobbinsMonro(half=4.0, power=0.75)(epoch, 7) == pytest.approx(expected)


def test_robbins_monro_sums() -> None:
    rates = [RobbinsMonro(half=1.0, power=0.6)(e, 0) for e in range(100_000)]
    assert sum(rates) > 200 and sum(r * r for r in rates) < 6


def test_iwae_levels_last_three_to_the_i() -> None:
    # Burda et al., 2016: 3^i passes at 0.001 · 10^(−i/7), i = 0 … 7, 3280 passes in all.
    schedule, epoch = IWAE(), 0
    for i in range(8):
        for at in (epoch, epoch + 3**i - 0.5):
            assert schedule(at, 3280) == pytest.approx(10 ** (-i / 7))
        epoch += 3**i
    assert epoch == 3280
    assert schedule(5000, 3280) == pytest.approx(0.1)
    assert IWAE(unit=0.5)(0.49, 1) == 1.0 and IWAE(unit=0.5)(0.5, 1) == pytest.approx(10 ** (-1 / 7))


@pytest.mark.parametrize(
    ("elbos", "reached"),
    [
        ([-5.0, -4.0, -3.0], False),  # too short for two windows
        ([-9.0, -5.0, -3.0, -3.0], False),  # −7 → −3
        ([-3.0, -3.0, -3.0, -2.95], True),  # −3 → −2.975
        ([-3.0, -3.0, -3.0, -2.8], False),  # −3 → −2.9, exactly the tolerance
        ([-3.0, -3.0, -4.0, -4.0], True),  # falling: there is nothing to wait for
    ],
)
def test_stop_compares_two_windows(elbos: list[float], reached: bool) -> None:
    assert Stop(0.0999, window=2).reached(elbos) is reached
    assert Stop(None, window=2).reached(elbos) is False


def test_kl_warmup_and_records() -> None:
    training = Training(100, 10, 1e-3, Constant(), kl_warmup=4.0, records=30)
    assert [training.kl_weight(e) for e in (0, 1, 4, 50)] == [0.0, 0.25, 1.0, 1.0]
    assert Training(100, 10, 1e-3, Constant()).kl_weight(0) == 1.0
    assert training.record_every == 4 and Training(5, 10, 1e-3, Constant(), records=30).record_every == 1


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: RobbinsMonro(power=0.5), r"training\.schedule\.power=0\.5"),
        (lambda: RobbinsMonro(half=0.0), r"training\.schedule\.half=0\.0"),
        (lambda: IWAE(unit=0.0), r"training\.schedule\.unit=0\.0"),
        (lambda: IWAE(levels=0), r"training\.schedule\.levels=0"),
        (lambda: Stop(0.1, window=0), r"training\.stop\.window=0"),
    ],
)
def test_bad_schedules_are_refused(make: Any, message: str) -> None:
    with pytest.raises(VemError, match=message):
        make()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"epochs": 0}, r"training\.epochs=0"),
        ({"batch_size": -1}, r"training\.batch_size=-1"),
        ({"rate": 0.0}, r"training\.rate=0\.0 must be positive"),
        ({"records": 0}, r"training\.records=0"),
        ({"valid_data": -1}, r"training\.valid_data=-1"),
        ({"kl_warmup": -1.0}, r"training\.kl_warmup=-1"),
        ({"checkpoint_seconds": -1.0}, r"training\.checkpoint_seconds=-1"),
        ({"keep": "bst"}, "did you mean 'best'"),
        ({"keep": "best", "valid_data": 0}, r"training\.keep=best goes by the validation ELBO"),
    ],
)
def test_bad_training_settings_are_refused(change: dict[str, Any], message: str) -> None:
    with pytest.raises(VemError, match=message):
        Training(**{"epochs": 1, "batch_size": 1, "rate": 1e-3, "schedule": Constant(), **change})


@pytest.mark.parametrize("options", [{"final": -0.1}, {"final": 1.1}, {"hold": 1.5}, {"hold": -0.5}])
def test_a_cosine_that_would_descend_or_never_start_is_refused(options: dict[str, float]) -> None:
    with pytest.raises(VemError, match=r"training\.schedule"):
        Cosine(**options)
