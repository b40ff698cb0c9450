"""``sweeper=optuna``: the step size against the validation ELBO, seeded, resumable, and not ended by a NaN."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
import yaml
from cli_support import TINY, contents
from run_folders import run_directories

from vem.storage import records

pytest.importorskip("hydra_plugins.hydra_optuna_sweeper", reason="the extra optuna is not installed")
SEARCH = ("-m", *TINY, "evaluation.draws=2", "sweeper=optuna", "hydra.sweep.dir=s")
# So wide that the largest steps break training.
WIDE = ("training.rate=tag(log,interval(1.0e-3,10.0))", "hydra.sweeper.n_trials=8", "training.epochs=4")


def trials(sweep: Path) -> dict[str, tuple[float, float]]:
    """folder → the step size and the validation ELBO, NaN for a trial that failed."""
    found = {}
    for run in run_directories([sweep]):
        config = yaml.safe_load((run / records.CONFIG).read_text(encoding="utf-8"))
        elbo = math.nan
        if records.read_json(run / records.RUN)["status"] == "done":
            elbo = records.read_json(run / records.EVALUATION)["valid"]["elbo"]["mean"]
        found[run.name] = config["training"]["rate"], elbo
    return found


@pytest.mark.slow
def test_a_search_finds_the_best_survives_nan_and_goes_on(here, vem_run):
    ended = vem_run(*SEARCH, *WIDE)
    assert ended.code == 1 and "Traceback" not in ended.text
    found = trials(here / "s")
    values = [value for _, value in found.values() if not math.isnan(value)]
    assert len(found) == 8 and 2 <= len(values) < 8
    results = yaml.safe_load((here / "s" / "optimization_results.yaml").read_text(encoding="utf-8"))
    rate, best = results["best_params"]["training.rate"], results["best_value"]
    assert best == max(values) > min(values) + 0.2  # nats
    assert (rate, best) in found.values()
    assert f"The best validation ELBO, {best:.3f} nats per datum, has training.rate={rate}" in ended.out
    for run in run_directories([here / "s"]):
        if math.isnan(found[run.name][1]):
            assert "NaN or infinite" in records.read_json(run / records.RUN)["error"]

    # The same folder again meets the same trials; a longer search begins with them.
    before = {run.name: contents(run) for run in run_directories([here / "s"]) if found[run.name][1] == best}
    vem_run(*SEARCH, *WIDE[:1], "hydra.sweeper.n_trials=9", *WIDE[2:])
    more = trials(here / "s")
    assert len(more) == 9 and {name: more[name] for name, (_, v) in found.items() if v == best}
    assert all(more[name][0] == rate for name, (rate, _) in found.items())
    assert {name: contents(here / "s" / name) for name in before} == before


def test_a_search_in_which_every_trial_fails_says_so(here, vem_run):
    ended = vem_run(*SEARCH, "training.rate=interval(-2.0,-1.0)", "hydra.sweeper.n_trials=2")
    assert ended.code == 1 and "Traceback" not in ended.text
    assert "no trial of this search has a validation ELBO" in ended.err
    assert len(trials(here / "s")) == 2


@pytest.mark.parametrize(("named", "sought"), [((), True), (("training.rate=1e-3",), False)])
def test_the_step_size_is_sought_beside_what_else_is_named_unless_it_has_a_value(here, vem_run, named, sought):
    other = "objective.num_draws=choice(1,2)"
    vem_run(*SEARCH, other, *named, "hydra.sweeper.n_trials=2", "hydra.sweeper.n_jobs=2").good()
    rates = {rate for rate, _ in trials(here / "s").values()}
    best = yaml.safe_load((here / "s" / "optimization_results.yaml").read_text(encoding="utf-8"))["best_params"]
    assert set(best) == {"objective.num_draws"} | ({"training.rate"} if sought else set())
    assert (len(rates) == 2 and 1e-3 not in rates) if sought else rates == {1e-3}


def test_a_search_that_measures_nothing_is_refused_before_it_begins(here, vem_run):
    ended = vem_run(*SEARCH, "evaluation=none", "hydra.sweeper.n_trials=2").bad()
    assert "evaluation=none" in ended.err and "evaluation=quick" in ended.err and "interval" not in ended.err
    assert not list((here / "s").glob("*/run.json"))
