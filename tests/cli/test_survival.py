"""Six runs of which one raises, one is SIGKILLed and one yields NaN, under each launcher of this machine."""

from __future__ import annotations

import pytest
from survival import in_a_process, survives

NEEDS = {"serial": "hydra", "joblib": "hydra_plugins.hydra_joblib_launcher", "submitit_local": "submitit"}


@pytest.mark.slow
@pytest.mark.parametrize("launcher", NEEDS)
def test_a_sweep_survives(launcher, here):
    pytest.importorskip(NEEDS[launcher], reason="its extra is not installed")
    survives(here, [f"launcher={launcher}"], in_a_process(here))
