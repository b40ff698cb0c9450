"""A label gives one value once, whatever keys interpolate it."""

from __future__ import annotations

import pytest
import yaml
from synthetic_runs import write_run

from vem.report.read import findings


def rate(n):
    return {"strategy": {"optimizer": {"lr": n / 10}, "rule": {"step": n / 10}}, "training": {"rate": n / 10}}


def top(n):
    return {"x": n, "strategy": {"x": n}, "model": {"decoder": {"x": n}}}


def latent(n):
    return {"latent_dim": n, "model": {"latent_dim": n}, "strategy": {"encoder": {"size": n}}}


def by_chance(n):
    return {"strategy": {"e_steps": n, "m_steps": n, "a": n == 1, "b": n == 1}}


@pytest.mark.parametrize(
    ("config", "typed", "values", "labels"),
    [
        (rate, ["training.rate"], (1, 2), ["training.rate=0.1", "training.rate=0.2"]),
        (top, ["x"], (1, 2), ["strategy.x=1", "strategy.x=2"]),
        (latent, ["latent_dim"], (2, 5), ["latent_dim=2", "latent_dim=5"]),
        # What was typed stays, and so do switches that agree by chance.
        (by_chance, ["strategy.e_steps", "strategy.m_steps"], (1, 2), [
            f"strategy.a={on}, strategy.b={on}, strategy.e_steps={n}, strategy.m_steps={n}"
            for n, on in ((1, True), (2, False))
        ]),
        # Values that differ in one run are both told.
        (lambda n: {"strategy": {"k": n, "l": min(n, 3) if n < 3 else 4}}, [], (1, 2, 3),
         [f"strategy.k={n}, strategy.l={m}" for n, m in ((1, 1), (2, 2), (3, 4))]),
    ],
)  # fmt: skip
def test_one_value_under_several_keys(tmp_path, config, typed, values, labels):
    for n in values:
        run = write_run(tmp_path / f"{n}", config=config(n), **({"latent_dim": n} if "latent_dim" in typed else {}))
        (run / "overrides.yaml").write_text(yaml.safe_dump([f"{key}=1" for key in typed]))
    (table,) = findings([tmp_path]).tables
    assert list(table.groups["label"]) == [f"local, {label}" for label in labels]


def test_the_name_of_a_table(tmp_path):
    for n in (5, 6):
        write_run(tmp_path / f"{n}", config={"data": {"size": n, "shape": {"rows": n}}})
    assert [table.name.count(f"={n}") for n, table in zip((5, 6), findings([tmp_path]).tables, strict=True)] == [1, 1]
