"""A number out of range and a name that is not known are refused, and called by their key."""

from __future__ import annotations

import math
import re
from typing import Any

import pytest

from vem.ascent.best import BestSettings
from vem.errors import VemError
from vem.evaluation.bounds.annealing_path import Annealing
from vem.evaluation.settings import Diagnostics, Evaluation, Importance, Prior, SimulatedData
from vem.evaluation.thresholds import Thresholds

REFUSED: list[tuple[type, str, Any]] = [
    *((Evaluation, key, value) for key, value in (("num_data", -1), ("draws", 0), ("gap_data", 0))),
    *((BestSettings, key, 0) for key in ("draws", "rounds")),
    *((BestSettings, key, value) for key, value in (("evaluations", 1), ("tolerance", 0.0), ("rate", math.nan))),
    *((Annealing, key, 0) for key in ("temperatures", "chains", "leapfrog", "pilot_temperatures", "modes")),
    *((Annealing, key, value) for key, value in (("curvature", -1), ("pilot_chains", 1), ("acceptance", 1.0))),
    *((Annealing, key, value) for key, value in (("schedule", "cosine"), ("start", "posterior"))),
    *((kind, "samples", 0) for kind in (Importance, Prior)),
    *((kind, "num_data", 0) for kind in (SimulatedData, Diagnostics)),
    (Diagnostics, "points", 0),
    (Thresholds, "thin", -1),
]


@pytest.mark.parametrize(("kind", "key", "value"), REFUSED)
def test_what_is_out_of_range_is_refused_by_its_key(kind: type, key: str, value: Any) -> None:
    with pytest.raises(VemError, match=rf"\b{key}={re.escape(repr(value))}"):
        kind(**{key: value})
