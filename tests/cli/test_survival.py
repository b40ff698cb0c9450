"""Four runs of which one raises, one is SIGKILLed and one yields NaN, under each launcher of this machine."""

from __future__ import annotations

import pytest
from survival import survives

NEEDS = {"serial": "hydra", "joblib": "hydra_plugins.hydra_joblib_launcher", "submitit_local": "submitit"}


@pytest.mark.slow
@pytest.mark.parametrize("launcher", NEEDS)
def test_a_sweep_survives(launcher, here, vem_process):
    """What one launcher has left, another goes on with."""
    pytest.importorskip(NEEDS[launcher], reason="its extra is not installed")
    survives(here, [f"launcher={launcher}"], vem_process, again=["launcher=serial"])
