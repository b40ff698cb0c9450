"""A label gives one value once, whatever keys interpolate it."""

from __future__ import annotations

import yaml
from synthetic_runs import write_run

from vem.report.read import findings


def label_of(root):
    return [list(table.groups["label"]) for table in findings([root]).tables]


def write(directory, config, typed=(), **fields):
    run = write_run(directory, config=config, **fields)
    (run / "overrides.yaml").write_text(yaml.safe_dump([f"{key}=1" for key in typed]))


def test_a_rate_that_the_optimizer_interpolates(tmp_path):
    for rate in (0.1, 0.2):
        config = {"strategy": {"optimizer": {"lr": rate}, "rule": {"step": rate}}, "training": {"rate": rate}}
        write(tmp_path / f"{rate}", config, ["training.rate"])
    assert label_of(tmp_path) == [["local, training.rate=0.1", "local, training.rate=0.2"]]


def test_a_top_level_value_under_two_keys(tmp_path):
    for n in (1, 2):
        write(tmp_path / f"{n}", {"x": n, "strategy": {"x": n}, "model": {"decoder": {"x": n}}}, ["x"])
    assert label_of(tmp_path) == [["local, strategy.x=1", "local, strategy.x=2"]]


def test_the_latent_dimension_and_an_encoder_of_its_size(tmp_path):
    for n in (2, 5):
        config = {"latent_dim": n, "model": {"latent_dim": n}, "strategy": {"encoder": {"size": n}}}
        write(tmp_path / f"{n}", config, ["latent_dim"], latent_dim=n)
    assert label_of(tmp_path) == [["local, latent_dim=2", "local, latent_dim=5"]]


def test_what_was_typed_stays_and_switches_that_agree_by_chance_do(tmp_path):
    for n, on in ((1, True), (2, False)):
        config = {"strategy": {"e_steps": n, "m_steps": n, "a": on, "b": on}}
        write(tmp_path / f"{n}", config, ["strategy.e_steps", "strategy.m_steps"])
    ((one, _),) = label_of(tmp_path)
    assert one == "local, strategy.a=True, strategy.b=True, strategy.e_steps=1, strategy.m_steps=1"


def test_values_that_differ_in_one_run_are_both_told(tmp_path):
    for n, other in ((1, 1), (2, 2), (3, 4)):
        write(tmp_path / f"{n}", {"strategy": {"k": n, "l": other}})
    assert label_of(tmp_path)[0][2] == "local, strategy.k=3, strategy.l=4"


def test_the_name_of_a_table(tmp_path):
    for n in (5, 6):
        write(tmp_path / f"{n}", {"data": {"size": n, "shape": {"rows": n}}})
    assert [table.name.count(f"={n}") for n, table in zip((5, 6), findings([tmp_path]).tables, strict=True)] == [1, 1]
