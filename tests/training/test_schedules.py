"""Step-size schedules and the stopping rule against numbers worked out by hand."""

from __future__ import annotations

import math
import random
from dataclasses import dataclass
from typing import Any

import pytest

from vem.cli.messages import composed
from vem.config.targets import instantiate
from vem.storage.identity import config_hash
from vem.training.schedules import Constant, Cosine, RobbinsMonro, Stepwise
from vem.training.settings import Stop, Training


@pytest.mark.parametrize(
    ("schedule", "epochs", "expected"),
    [
        (Constant(), 10, {0: 1.0, 3.3: 1.0, 10: 1.0}),
        (
            Cosine(final=0.1, hold=0.2), 100,
            {0: 1.0, 20: 1.0, 40: 0.1 + 0.45 * (1 + math.cos(math.pi / 4)), 60: 0.55, 100: 0.1, 150: 0.1},
        ),
        (Cosine(hold=1.0), 10, {9.9: 1.0, 10: 1.0}),
        (RobbinsMonro(half=4.0, power=0.75), 7, {0: 1.0, 4: 2**-0.75, 12: 4**-0.75, 60: 16**-0.75}),
        (Stepwise(unit=0.5), 1, {0.49: 1.0, 0.5: 10 ** (-1 / 7)}),
    ],
    ids=lambda value: type(value).__name__,
)  # fmt: skip
def test_schedules_by_hand(schedule: Any, epochs: int, expected: dict[float, float]) -> None:
    assert {epoch: schedule(epoch, epochs) for epoch in expected} == pytest.approx(expected)


def test_robbins_monro_sums() -> None:
    rates = [RobbinsMonro(half=1.0, power=0.6)(e, 0) for e in range(100_000)]
    assert sum(rates) > 200 and sum(r * r for r in rates) < 6


def test_iwae_levels_last_three_to_the_i() -> None:
    # Burda et al., 2016: 3^i passes at 0.001 · 10^(−i/7), i = 0 … 7, 3280 passes in all.
    schedule, epoch = Stepwise(), 0
    for i in range(8):
        for at in (epoch, epoch + 3**i - 0.5):
            assert schedule(at, 3280) == pytest.approx(10 ** (-i / 7))
        epoch += 3**i
    assert epoch == 3280
    assert schedule(5000, 3280) == pytest.approx(0.1)


@pytest.mark.parametrize(
    ("elbos", "reached"),
    [
        ([-5.0, -4.0, -3.0], False),  # too short for two windows
        ([-9.0, -5.0, -3.0, -3.0], False),  # −7 → −3
        ([-3.0, -3.0, -3.0, -2.95], True),  # −3 → −2.975
        ([-3.0, -3.0, -3.0, -2.8], False),  # −3 → −2.9, exactly the tolerance
        ([-3.0, -3.0, -4.0, -4.0], False),  # falling, and surely so
        ([-3.0, -4.2, -4.0, -3.4], True),  # −3.6 → −3.7, and the error of that is 0.67
        ([-3.0, -3.2, -4.0, -4.2], False),  # −3.1 → −4.1, and the error of that is 0.14
        ([-3.0, -3.0, -3.0 - 1e-8, -3.0 - 1e-8], True),  # a fall that is rounding
    ],
)
def test_stop_compares_two_windows(elbos: list[float], reached: bool) -> None:
    stop = Stop(0.0999, window=2)
    assert stop.reached(elbos) is reached
    assert stop.falls(elbos) is (elbos[-1] <= -4.0 and not reached)
    assert Stop(None, window=2).reached(elbos) is False and Stop(None, window=2).falls(elbos) is False


def test_a_window_of_one_epoch_has_no_scatter_and_takes_a_fall_within_the_tolerance() -> None:
    stop = Stop(0.1, window=1)
    assert [stop.reached([-3.0, last]) for last in (-2.8, -2.95, -3.05, -3.2)] == [False, True, True, False]


def test_noise_at_a_plateau_converges_about_as_soon_as_ever() -> None:
    # Where every gain but a sure fall counts, 500 noisy plateaus hardly wait: the t with 8 degrees of freedom lies
    # below −2 in 4 % of them.
    noise = random.Random(0)
    plateaus = [[noise.gauss(-3.0, 0.2) for _ in range(10)] for _ in range(500)]
    stop = Stop(1.0)
    assert 0.94 < sum(map(stop.reached, plateaus)) / 500 < 0.98
    assert sum(stop.reached([v - 0.2 * i for i, v in enumerate(values)]) for values in plateaus) < 5


def rows(values: list[float], **more: float) -> list[dict[str, Any]]:
    """What the loop records: a row for the training data and one for the validation data of each epoch."""
    return [
        row
        for epoch, value in enumerate(values, 1)
        for row in ({"split": "train", "epoch": epoch, "elbo": value, **more}, {"split": "valid", "elbo": 0.0})
    ]


def training(**options: Any) -> Training:
    return Training(**{"epochs": 400, "batch_size": 10, "rate": 1e-3, "schedule": Constant(), **options})


@pytest.mark.parametrize(
    ("warmup", "first"), [(0.0, 1), (1.0, 2), (2.5, 4), (4.0, 5), (100.0, None)], ids=lambda value: str(value)
)
def test_epochs_count_after_the_warm_up(warmup: float, first: int | None) -> None:
    elbos = [float(-epoch) for epoch in range(1, 9)]
    watched = training(kl_warmup=warmup).watched(rows(elbos))
    assert watched == ([] if first is None else elbos[first - 1 :])


def test_no_more_epochs_are_read_than_the_rule_needs() -> None:
    assert training(stop=Stop(0.1, window=2)).watched(rows([-5.0, -4.0, -3.0, -2.0, -1.0])) == [-4.0, -3.0, -2.0, -1.0]


def test_what_is_ascended_is_watched_and_never_mixed_with_the_elbo() -> None:
    # A run that was begun before there was such a column goes on with it.
    old, new = rows([-5.0, -4.0]), [{**row, "epoch": row.get("epoch", 0) + 2} for row in rows([-3.0], objective=-1.0)]
    assert training().watched(new) == [-1.0] and training().watched(old + new) == [-1.0]
    assert training().watched([]) == [] and training().watched([{"split": "train", "epoch": 1}]) == []


def test_a_schedule_to_come_takes_part_by_the_objective_alone() -> None:
    @dataclass(frozen=True)
    class FreeBits(Training):
        def objective(self, epoch: float) -> tuple[float, ...]:
            return (*super().objective(epoch), 2.0 if epoch < 3 else 0.5)

    elbos = [float(-epoch) for epoch in range(1, 7)]
    settings = FreeBits(400, 10, 1e-3, Constant(), kl_warmup=1.0)
    assert settings.watched(rows(elbos)) == elbos[3:] and settings.watched(rows(elbos[:3])) == []


def test_a_rate_that_rises_is_a_warm_up_and_one_that_falls_is_none() -> None:
    def warm(epoch: float, epochs: int) -> float:
        return min(1.0, (epoch + 1) / 5)

    elbos = [float(-epoch) for epoch in range(1, 9)]
    assert training(schedule=warm).watched(rows(elbos)) == elbos[4:]
    for schedule in (Cosine(), Cosine(hold=0.5), RobbinsMonro(), Stepwise()):
        assert training(schedule=schedule).watched(rows(elbos)) == elbos


def test_kl_warmup_and_records() -> None:
    training = Training(100, 10, 1e-3, Constant(), kl_warmup=4.0, records=30)
    assert [training.kl_weight(e) for e in (0, 1, 4, 50)] == [0.0, 0.25, 1.0, 1.0]
    assert Training(100, 10, 1e-3, Constant()).kl_weight(0) == 1.0
    assert training.record_every == 4 and Training(5, 10, 1e-3, Constant(), records=30).record_every == 1


def test_the_old_name_of_a_schedule_is_the_same_run() -> None:
    stepwise, old = (composed([f"training/schedule={name}"]) for name in ("stepwise", "iwae"))
    assert stepwise["training"] == old["training"]
    old["training"]["schedule"]["_target_"] = "vem.training.schedules.IWAE"  # as an old config.yaml says it
    assert config_hash(old) == config_hash(stepwise)
    assert instantiate(old["training"]["schedule"], "training.schedule") == Stepwise()
