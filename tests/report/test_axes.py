"""Which settings count as swept, and the numbers along them."""

from __future__ import annotations

import json

import numpy as np
import pytest
import yaml
from matplotlib.markers import CARETUPBASE
from scipy import stats
from synthetic_runs import write_gaps, write_run

from vem.report.figures.axes import axis_figure
from vem.report.read import findings


def typed(run, *overrides):
    (run / "overrides.yaml").write_text(yaml.safe_dump(list(overrides)))
    return run


def write_swept(root, strategy, size, seed, elbo, **config):
    """A run of a sweep over latent_dim, which the model interpolates."""
    sizes = {"latent_dim": size, "model": {"latent_dim": size, **config}} if strategy != "gmm" else {"latent_dim": size}
    run = write_run(root / f"{strategy}{size}_{seed}", strategy, seed=seed, elbo=elbo, config=sizes,
                    latent_dim=None if strategy == "gmm" else size)  # fmt: skip
    return typed(run, f"strategy={strategy}", f"latent_dim={size}", f"seed={seed}")


def repeat(run, of):
    """A run that another folder of the sweep stands for."""
    run.mkdir()
    (run / "run.json").write_text(json.dumps({"status": "repeats", "repeats": of.name}))
    for name in ("config.yaml", "overrides.yaml"):
        text = (of / name).read_text().replace("latent_dim=2", "latent_dim=10")
        (run / name).write_text(text.replace("latent_dim: 2", "latent_dim: 10"))


def test_the_axis_that_was_typed(tmp_path):
    values = {}
    for strategy in ("local", "amortized"):
        for size in (10, 2, 50):
            values[strategy, size] = [-100 + size / 10 + seed for seed in range(3)]
            for seed, elbo in enumerate(values[strategy, size]):
                write_swept(tmp_path, strategy, size, seed, elbo)
    first = write_swept(tmp_path, "gmm", 2, 0, -120.0)
    repeat(tmp_path / "gmm10_0", first)
    found = findings([tmp_path])
    (axis,) = found.tables[0].axes
    assert (axis.key, axis.values, axis.numeric, axis.absent) == ("latent_dim", (2, 10, 50), True, ("gmm",))
    assert axis.metrics["test_elbo"] == "test ELBO (nats per data point)"
    assert axis.places == {f"{s}, latent_dim={n}": n for s in ("local", "amortized") for n in (2, 10, 50)}
    points = axis.points.query("metric == 'test_elbo'")
    for row in points.dropna(subset="value").itertuples():
        own = values[row.series, row.value]
        low, high = stats.t.interval(0.95, 2, np.mean(own), stats.sem(own))
        assert (row.mean, row.low, row.high, row.seeds) == pytest.approx((np.mean(own), low, high, 3))
    (level,) = points[points["series"] == "gmm"].itertuples()
    assert np.isnan(level.value) and level.mean == -120.0
    half = stats.norm.ppf(0.975) * 0.3
    assert (level.low, level.high) == pytest.approx((-120 - half, -120 + half))
    assert len(found.runs) == 19 and found.runs["repeated_in"].dropna().tolist() == ["gmm10_0"]


SIZE, EPOCHS = "latent_dim", "training.epochs"


@pytest.mark.parametrize(
    ("design", "typed_keys", "axes"),
    [
        # Two that are crossed.
        ([(2, 5), (2, 20), (10, 5), (10, 20)], [SIZE, EPOCHS], [
            (SIZE, (2, 10), (), {"local, training.epochs=5", "local, training.epochs=20"}),
            (EPOCHS, (5, 20), (), {"local, latent_dim=2", "local, latent_dim=10"}),
        ]),
        # Two that changed together are one that says so.
        ([(2, 5), (10, 20)], [SIZE, EPOCHS], [(SIZE, (2, 10), (EPOCHS,), {"local"})]),
        # Without what was typed the configs tell.
        ([(2, 5), (2, 20)], [], [(EPOCHS, (5, 20), (), {"local"})]),
    ],
)  # fmt: skip
def test_keys_that_were_crossed_or_changed_together(tmp_path, design, typed_keys, axes):
    for size, epochs in design:
        config = {"latent_dim": size, "model": {"latent_dim": size}, "training": {"epochs": epochs, "rate": 1}}
        run = write_run(tmp_path / f"{size}_{epochs}", latent_dim=size, elbo=-100.0 + epochs, config=config)
        typed(run, *(f"{key}={value}" for key, value in {SIZE: size, EPOCHS: epochs}.items() if key in typed_keys))
    (table,) = findings([tmp_path]).tables
    assert [(a.key, a.values, a.together, set(a.points["series"])) for a in table.axes] == axes
    together = any("latent_dim and training.epochs changed together" in s.text for s in table.answer)
    assert together == (axes[0][2] != ())


def test_the_title_of_log_p_says_when_it_is_a_bound(tmp_path):
    for size in (2, 10):
        config = {"latent_dim": size, "model": {"latent_dim": size}}
        typed(write_gaps(tmp_path / f"{size}", latent_dim=size, config=config, exact=True), f"latent_dim={size}")
    (axis,) = findings([tmp_path]).tables[0].axes
    assert axis.metrics["test_log_marginal_lower"] == "log p(x) (≥: lower bound), test data (nats per data point)"


def test_layers_are_ordered_by_their_units_and_a_chosen_group_is_an_axis_by_its_name(tmp_path):
    for i, widths in enumerate(([200, 200], [], [500], [50])):
        run = write_run(tmp_path / "a" / f"{i}", "amortized", config={"strategy": {"encoder": {"widths": widths}}})
        typed(run, f"strategy.encoder.widths={widths}")
    write_run(tmp_path / "a" / "local")
    (axis,) = findings([tmp_path / "a"]).tables[0].axes
    assert (axis.key, axis.numeric, axis.absent) == ("strategy.encoder.widths", False, ("local",))
    assert axis.values == ("[]", "[50]", "[200, 200]", "[500]")
    for name, widths in (("linear", None), ("mlp", [200])):
        encoder = {"_target_": f"vem.{name}"} | ({"widths": widths, "activation": "elu"} if widths else {})
        run = write_run(tmp_path / "b" / name, "amortized", config={"strategy": {"encoder": encoder},
                        "choices": {"strategy/encoder": name}})  # fmt: skip
        typed(run, f"strategy/encoder={name}")
    (axis,) = findings([tmp_path / "b"]).tables[0].axes
    assert (axis.key, axis.values, axis.together) == ("strategy/encoder", ("linear", "mlp"), ())
    assert set(axis.points["series"]) == {"amortized"}


@pytest.mark.parametrize("key", ["seed", "strategy", "device", "threads", "data.root", "hydra.sweep.dir", "progress"])
def test_what_no_number_depends_on_is_no_axis(tmp_path, key):
    for i in range(2):
        run = write_run(tmp_path / f"{i}", ["local", "amortized"][i], seed=i, config={"device": f"d{i}", "threads": i})
        typed(run, f"{key}={i}")
    assert findings([tmp_path]).tables[0].axes == ()


def test_gaps_along_an_axis_keep_what_they_cannot_identify(tmp_path):
    for size in (2, 10):
        for seed in range(2):
            run = write_gaps(tmp_path / f"{size}_{seed}", seed=seed, approximation=size / 10 + seed, latent_dim=size,
                             config={"latent_dim": size, "model": {"latent_dim": size}})  # fmt: skip
            typed(run, f"latent_dim={size}")
    (axis,) = findings([tmp_path]).tables[0].axes
    points = axis.points.set_index(["metric", "value"])
    assert points.loc[("test_approximation_gap", 2), "mean"] == pytest.approx(0.7)
    assert points.loc[("test_approximation_gap", 2), "at_least"]
    assert not points.loc[("test_amortization_gap", 10), "at_least"]
    own, encoder, bound = (
        points.loc[(name, 2)] for name in ("test_approximation_gap", "test_amortization_gap", "test_log_marginal_lower")
    )
    assert own["low"] < own["mean"] and np.isnan(own["high"]) and encoder["high"] == encoder["mean"]
    assert bound["at_least"] and np.isfinite(bound["low"]) and np.isnan(bound["high"])
    drawn = {ax.get_title("left").partition(" ")[0]: ax.lines for ax in axis_figure(axis, "t").axes}
    arrows = {
        title: [line.get_xydata().tolist() for line in lines if line.get_marker() == CARETUPBASE]
        for title, lines in drawn.items()
    }
    assert arrows["approximation"] == [[[2, pytest.approx(0.7)], [10, pytest.approx(1.5)]]]
    assert arrows["amortization"] == [] and arrows["log"]
    assert axis.metrics["test_active_units"] == "active units (number)"
