"""Who is measured against whom, and what is asked of the ratios."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

MANY = 60_000
GROWTH = (6_000, 60_000, 600_000)
QUICK_GROWTH = (600, 6_000, 60_000)


@dataclass(frozen=True)
class Contender:
    """One line of the table. ``divisor``: a slow one does a fraction of the steps in its slice."""

    group: str
    name: str
    module: str
    options: Mapping[str, Any]
    passes: str  # what passes through the decoder there are at each visit of a batch
    needs: str | None = None  # the library it needs beside vem's own
    divisor: int = 1
    num_data: int | None = None  # random data of this size instead of the shared data


@dataclass(frozen=True)
class Ratio:
    """Steps per second of ``above`` over those of ``below``, slice by slice, and the value asked for."""

    group: str
    above: str
    below: str
    at_least: float | None = None
    at_most: float | None = None


JOINT = "one pass moves λ and θ"
E_THEN_M = "one E-pass, one M-pass"
DEFAULT = "as in conf/strategy/local.yaml"
# Algorithm 8 as the notes write it: the plain gradient, a constant rate, Adam like the others' rows.
PLAIN = [
    "strategy=local", "strategy/rule=adam", "strategy/start=prior", "strategy.gradient=objective", "strategy.cool=1.0",
]  # fmt: skip
VEM_JOINT = [*PLAIN, "strategy.e_steps=1", "strategy.order=joint"]
VEM_E_THEN_M = [*PLAIN, "strategy.e_steps=1", "strategy.m_steps=1", "strategy.order=e_then_m"]
VEM_DEFAULT = ["strategy=local"]
COMPILED = ["strategy.compile=true"]


def _pyro(elbo: str) -> Contender:
    options = {"contender": "amortized", "elbo": elbo}
    return Contender("amortized", f"Pyro SVI, {elbo}", "with_pyro", options, "one", "pyro")


def _local(
    name: str, module: str, passes: str, needs: str | None = None, divisor: int = 1, **options: Any
) -> Contender:
    return Contender("local", name, module, options, passes, needs, divisor)


AMORTIZED = [
    Contender("amortized", "vem amortized", "with_vem", {"overrides": ["strategy=amortized"]}, "one"),
    Contender(
        "amortized", "vem amortized, compiled", "with_vem", {"overrides": ["strategy=amortized", *COMPILED]}, "one"
    ),
    Contender("amortized", "NumPyro SVI in lax.scan", "with_numpyro", {}, "one", "numpyro"),
    _pyro("TraceMeanField_ELBO"),
    _pyro("Trace_ELBO"),
    Contender("amortized", "PyTorch eager, fused Adam", "with_torch", {"contender": "amortized"}, "one"),
    Contender("amortized", "matrix products alone", "with_torch", {"contender": "matrix_products"}, "floor"),
]

LOCAL = [
    _local("vem local, joint", "with_vem", JOINT, overrides=VEM_JOINT),
    _local("vem local, joint, compiled", "with_vem", JOINT, overrides=[*VEM_JOINT, *COMPILED]),
    _local("Embedding + SparseAdam, joint", "with_torch", JOINT, contender="embedding", joint=True),
    _local("Pyro table, joint", "with_pyro", JOINT, "pyro", 10, contender="table", joint=True),
    _local("vem local, E then M", "with_vem", E_THEN_M, overrides=VEM_E_THEN_M),
    _local("vem local, E then M, compiled", "with_vem", E_THEN_M, overrides=[*VEM_E_THEN_M, *COMPILED]),
    _local("Embedding + SparseAdam, E then M", "with_torch", E_THEN_M, contender="embedding", joint=False),
    _local("Pyro table, E then M", "with_pyro", E_THEN_M, "pyro", 10, contender="table", joint=False),
    _local("vem local, default", "with_vem", DEFAULT, overrides=VEM_DEFAULT),
    _local("vem local, default, compiled", "with_vem", DEFAULT, overrides=[*VEM_DEFAULT, *COMPILED]),
]

RATIOS = [
    *(
        Ratio("amortized", vem, other, at_least)
        for vem in ("vem amortized", "vem amortized, compiled")
        for other, at_least in (
            ("NumPyro SVI in lax.scan", 1.0),
            ("Pyro SVI, TraceMeanField_ELBO", 2.0),
            ("Pyro SVI, Trace_ELBO", 2.0),
        )
    ),
    Ratio("amortized", "vem amortized", "PyTorch eager, fused Adam"),
    Ratio("amortized", "matrix products alone", "vem amortized"),
    *(
        Ratio("local", f"vem local, {steps}{how}", f"{other}, {steps}", at_least)
        for steps in ("joint", "E then M")
        for how in ("", ", compiled")
        for other, at_least in (("Pyro table", 15.0), ("Embedding + SparseAdam", 1.0))
    ),
]


@dataclass(frozen=True)
class Plan:
    """The contenders of one group, which run side by side, and the ratios asked of them."""

    contenders: list[Contender]
    ratios: list[Ratio] = field(default_factory=list)


def plans(quick: bool) -> dict[str, Plan]:
    """All groups by name."""
    return {
        "amortized": Plan(AMORTIZED, [r for r in RATIOS if r.group == "amortized"]),
        "local": Plan(LOCAL, [r for r in RATIOS if r.group == "local"]),
        "growth": growth(QUICK_GROWTH if quick else GROWTH),
    }


def growth(sizes: tuple[int, ...]) -> Plan:
    """The same step on random data of growing N; the cost of a step is the inverse of its speed."""
    kinds = {"default": (VEM_DEFAULT, DEFAULT), "E then M": (VEM_E_THEN_M, E_THEN_M)}
    name = "vem local, {}, N = {:,}".format
    contenders = [
        Contender("growth", name(kind, n), "with_vem", {"overrides": overrides}, passes, num_data=n)
        for kind, (overrides, passes) in kinds.items()
        for n in sizes
    ]
    # Speed at the smallest N over speed at the largest = cost at the largest over cost at the smallest.
    ratios = [Ratio("growth", name(kind, sizes[0]), name(kind, sizes[-1]), at_most=1.15) for kind in kinds]
    return Plan(contenders, ratios)
