"""What is refused before a search begins."""

from __future__ import annotations

from contextlib import nullcontext

import pytest
from hydra.core.override_parser.overrides_parser import OverridesParser

from vem.errors import VemError
from vem.sweep.tuning import refuse


def parsed(*typed):
    return OverridesParser.create().parse_overrides(list(typed))


@pytest.mark.parametrize("seeds", ["range(0,3)", "0,1,2", "choice(0,1)", "int(interval(0,9))", "shuffle(range(3))"])
def test_a_seed_is_no_parameter_to_tune(seeds):
    with pytest.raises(VemError, match=r"seed=.*no parameter to tune.*seed=0\).*-m KEY=BEST seed=0,1,2"):
        refuse(parsed("training.rate=interval(1e-4,1e-2)", f"seed={seeds}"), grid=seeds == "0,1,2")


@pytest.mark.parametrize(
    ("typed", "stop", "written"),
    [
        ("range(2,5)", 5, ["int(interval(2,4))", "int(interval(2,5))"]),
        ("range(3)", 3, ["int(interval(0,2))", "int(interval(0,3))"]),
        ("range(0,10,2)", 10, ["range(0,9,2)", "range(0,11,2)"]),
        ("range(0.1,0.5,0.1)", 0.5, ["range(0.1,0.45,0.1)", "range(0.1,0.55,0.1)"]),
    ],
)
def test_a_range_does_not_try_its_end_in_silence(typed, stop, written):
    with pytest.raises(VemError, match="sweeper would try it") as refused:
        refuse(parsed(f"latent_dim={typed}"))
    refuse(parsed(f"latent_dim={typed}"), grid=True)
    implementation = pytest.importorskip("hydra_plugins.hydra_optuna_sweeper._impl", reason="the extra optuna")
    for text, upper in zip(written, [False, True], strict=True):
        assert f"'latent_dim={text}'" in str(refused.value)
        (override,) = parsed(f"latent_dim={text}")
        refuse([override])
        with pytest.warns(UserWarning, match="not divisible") if text.startswith("range") else nullcontext():
            sought = implementation.create_optuna_distribution_from_override(override)
        assert (sought.high == pytest.approx(stop)) == upper


@pytest.mark.parametrize("typed", ["range(0,9,2)", "shuffle(range(0,3))", "choice(1,2)", "2,3", "interval(0,1)", "3"])
def test_what_means_the_same_in_any_sweep_is_sought(typed):
    refuse(parsed(f"latent_dim={typed}", "seed=0"))
