"""One datum: what can be said is said, what cannot be judged is neither passed nor failed, and nothing is NaN."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest
import torch
from gap_cases import by_hand

import vem
from vem.evaluation.checks import as_json, check, not_judged
from vem.evaluation.gaps import across_splits, summarize
from vem.evaluation.measured import ESS
from vem.evaluation.paired import Sample, between, gap, overshoot, raised, sample, shortfall
from vem.evaluation.surgery import surgery_terms
from vem.evaluation.thresholds import Thresholds
from vem.report.figures.panels import principal_plane

ONE = torch.tensor([-90.0], dtype=torch.float64)
UNKNOWN = torch.full((1,), torch.nan, dtype=torch.float64)


def numbers(node):
    if isinstance(node, dict | list):
        for child in node.values() if isinstance(node, dict) else node:
            yield from numbers(child)
    else:
        yield node


def test_two_bounds_that_agree_are_not_called_wrong():
    """The upper bound's noise is not stated, and one datum has no spread: what is not exact cannot be judged."""
    found = {c.name: c for c in check(by_hand(ONE, ONE + 3.5, ONE + 5, ONE + 5, ONE + 4))}
    assert found["interval_ordered"].passed is True  # one exact number
    found = {c.name: c for c in check(by_hand(ONE, ONE + 3.5, ONE + 5, ONE + 4.99, ONE + 4))}
    assert found["interval_ordered"].passed is None
    said = not_judged(list(found.values()))
    assert "interval_ordered (one datum, whose error is not known)" in said
    assert "outliers (one datum has no others beside it)" in said
    written = as_json(list(found.values()))
    assert all(entry["passed"] is True for entry in written) and "nan" not in json.dumps(written)
    assert not {entry["name"] for entry in written} & {"interval_ordered", "outliers"}


def test_what_can_be_judged_of_one_datum_still_fails():
    found = {c.name: c.passed for c in check(by_hand(ONE, ONE - 3.5, ONE - 5, ONE - 5.1, ONE - 4))}
    assert found["best_above_q"] is False and found["lower_above_best"] is False
    assert found["finite"] is True


def test_two_data_are_judged():
    two = torch.tensor([-90.0, -80.0], dtype=torch.float64)
    found = check(by_hand(two, two + 3.5, two + 5, two + 5.1, two + 4, **{ESS: torch.full((2,), 50.0)}))
    assert all(c.passed is True for c in found) and not not_judged(found)


@pytest.mark.parametrize("held", [shortfall, lambda d, limits: overshoot(d, Sample(0 * ONE, UNKNOWN), limits)])
@pytest.mark.parametrize("mean", [-5.0, 0.0, 5.0])
def test_an_error_that_is_not_known_judges_nothing(held, mean):
    found = held(Sample(ONE * 0 + mean, UNKNOWN), Thresholds())
    assert not found.judged and not found.beyond
    sure = shortfall(sample(ONE * 0 + mean), Thresholds())  # without Monte Carlo noise
    assert sure.judged and sure.beyond == (mean < 0)


def test_paired_answers_are_there_without_their_errors():
    one = by_hand(ONE, ONE + 1, ONE + 2)
    for found in (summarize(one), across_splits({"train": one, "test": one})):
        json.dumps(found, allow_nan=False)
    pair = sample(ONE + 2).minus(sample(ONE))
    for found in (gap(pair), between(sample(ONE + 2), sample(ONE)), raised(sample(ONE), sample(ONE), sample(ONE + 2))):
        assert found["mean"] == pytest.approx(2.0 if "ci95" in found else -88.0)
        for missing in (found["se"], found.get("ci95", found["se"])):
            assert missing["value"] is None and "one datum" in missing["reason"]
        assert all(math.isfinite(v) for v in numbers(found) if isinstance(v, float))


def test_one_datum_is_not_told_from_others():
    assert surgery_terms(1, 9, mutual_information=(0.0, 0.0))["near_cap"] is None
    assert surgery_terms(2, 9, mutual_information=(0.6, 0.0))["near_cap"] is True
    plane, share = principal_plane(np.ones((1, 3)))
    assert plane.shape == (1, 2) and share.tolist() == [0.0, 0.0]


@pytest.mark.parametrize("encoder", [True, False])
def test_one_row_from_elsewhere_with_every_check_gating(encoder):
    torch.manual_seed(0)
    decoder, inward = torch.nn.Linear(1, 3), torch.nn.Linear(3, 2)
    found = vem.measure(
        decoder, x=torch.randn(1, 3), likelihood="gaussian", scale=1.0, latent_dim=1, progress=False,
        encoder=(lambda x: inward(x).split(1, dim=1)) if encoder else None,
        evaluation=["evaluation=gaps", "evaluation.strict=true", "evaluation.best.rounds=3"],
    )  # fmt: skip
    test = found.evaluation["test"]
    assert "outliers (one datum has no others beside it)" in test["not_tested"]
    assert all(math.isfinite(v) for v in numbers(found.evaluation) if isinstance(v, float))
    assert "nan" not in json.dumps(found.evaluation).lower() and " nan" not in str(found).lower()
    assert "not tested: outliers" in str(found)
    if encoder:
        assert isinstance(test["gaps"]["inference"]["mean"], float) and test["gaps"]["inference"]["se"]["value"] is None
        assert test["diagnostics"]["active_units"]["reason"] == "one datum has no variance over data"


def test_one_datum_of_a_run(tmp_path, monkeypatch):
    """``evaluation.num_data=1``, strict: the command ends well, and its last lines say what was not tested."""
    from vem.cli import measure, messages, train
    from vem.storage.checks import not_tested

    monkeypatch.setattr(train, "draw_run", lambda directory: [])
    config = messages.composed([
        "data=blobs", "data.num=20", "data.num_valid=1", "data.num_test=5", "data.dims=3", "latent_dim=2",
        "training.epochs=1", "model.decoder.widths=[4]", "device=cpu", "progress=false", "evaluation.strict=true",
    ])  # fmt: skip
    train.execute(config, [], tmp_path / "run")
    evaluation = json.loads((tmp_path / "run" / "evaluation.json").read_text())
    assert [evaluation[split]["num_data"] for split in ("train", "valid", "test")] == [20, 1, 5]
    assert all("nan" not in str(v).lower().split() for v in numbers(evaluation))
    lines = list(measure.lines(evaluation))
    assert "± unknown nats per datum (± over 1 data)" in lines[1] and lines[-1].startswith("not tested: outliers")
    assert not_tested(evaluation) == ["outliers (one datum has no others beside it)"]
