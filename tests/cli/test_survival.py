"""Twelve runs of which one raises, one is SIGKILLed and one yields NaN, under each launcher of this machine."""

from __future__ import annotations

import os

import pytest
from survival import in_a_process, survives

NEEDS = {"serial": "hydra", "joblib": "hydra_plugins.hydra_joblib_launcher", "submitit_local": "submitit"}


# Twelve processes at once that each import torch, twice; test_launchers.py has two jobs under the same launcher.
LONG = pytest.mark.skipif(not os.environ.get("VEM_LONG"), reason="takes minutes: set VEM_LONG=1 to run it")


@pytest.mark.slow
@pytest.mark.parametrize("launcher", [n if n != "submitit_local" else pytest.param(n, marks=LONG) for n in NEEDS])
def test_a_sweep_survives(launcher, here):
    pytest.importorskip(NEEDS[launcher], reason="its extra is not installed")
    survives(here, [f"launcher={launcher}"], in_a_process(here))
