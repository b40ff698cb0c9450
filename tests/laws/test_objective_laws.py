"""What holds of every objective, in all its gradients, with every family and model."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from members import CONF, PAIRS, ContractOnly, config, data, hermite, made, options, target
from omegaconf import OmegaConf
from parts import amortized, local
from torch import Tensor, nn

from vem.config.build import build
from vem.contracts import PathPosterior
from vem.errors import VemError
from vem.noise import fill, generator
from vem.numerics import weighted_sum
from vem.objectives.elbo import ELBO
from vem.storage import identity

PAIR = pytest.mark.parametrize("pair", PAIRS, ids="-".join)
ONE = torch.ones((), dtype=torch.float64)
B = 3


def objectives() -> dict[str, Any]:
    """Every objective that a yaml names, in each of its gradients, and one that is written from the contract alone."""
    found: dict[str, Any] = {"contract_only": ContractOnly}
    for name in options("objective"):
        content = OmegaConf.to_container(OmegaConf.load(CONF / "objective" / f"{name}.yaml"))
        plain = {k: v for k, v in content.items() if k != "_target_"}
        make = target("objective", name)
        for gradient in ("reparameterized", "path") if "gradient" in plain else ("",):
            own = {"gradient": gradient} if gradient else {}
            found["-".join(filter(None, (name, gradient)))] = lambda draws=2, m=make, o=plain | own, **more: m(
                **{**o, "num_draws": draws, **more}
            )
        if "kl_weight" in plain:
            found[f"{name}-weighed"] = lambda draws=2, m=make, o=plain, **more: m(
                **{**o, "num_draws": draws, "reconstruction_weight": 0.5, "kl_weight": 4.0, **more}
            )
    return found


OBJECTIVES = objectives()
EVERY = pytest.mark.parametrize("name", OBJECTIVES)


def case(pair: tuple[str, ...]) -> tuple[Any, Any, Tensor, Tensor, Tensor | None]:
    """Model, family, x, λ and noise of two draws."""
    model, kind, family_name = pair
    model = made("local", model, kind, family_name).model
    family = target("family", family_name)(model.latent_size)
    params = 0.4 * torch.randn(B, family.num_params, generator=generator("cpu", *pair), dtype=torch.float64)
    spec = family.noise(2, B)
    noise = None if spec is None else fill({"z": spec}, generator("cpu", "eps"), torch.float64)["z"]
    return model, family, data(kind).train.x[:B].double(), params, noise


def elbo(model: Any, x: Tensor, q: Any, noise: Tensor | None) -> Tensor:
    z, log_q, log_weight = q.draws(noise)
    return weighted_sum(log_weight, model.log_likelihood(x, z) + model.log_prior(z) - log_q)


@EVERY
@PAIR
def test_the_value_is_the_elbo_of_the_draws_and_the_weight_is_the_surrogate_s(pair: Any, name: str) -> None:
    model, family, x, params, noise = case(pair)
    params.requires_grad_()
    objective = OBJECTIVES[name](2, kl="sampled") if "elbo" in name else OBJECTIVES[name](2)
    bound, warm = (objective(model, x, family(params), noise, weight) for weight in (ONE, 0.3 * ONE))
    torch.testing.assert_close(bound.value, elbo(model, x, family(params), noise).detach())
    assert torch.equal(warm.value, bound.value) and not torch.equal(warm.surrogate, bound.surrogate)
    assert bound.surrogate.requires_grad and not bound.value.requires_grad and bound.value.shape == (B,)
    assert objective.cost(family, 10) == 10 * (2 if noise is not None else family.size)


def leaves(model: nn.Module) -> list[Tensor]:
    """θ, with a gradient although exact EM moves it otherwise."""
    return [p.requires_grad_() for p in model.parameters()]


@EVERY
@PAIR
def test_the_gradient_is_that_of_finite_differences_at_what_is_held(pair: Any, name: str) -> None:
    """In λ and θ, along a random direction; the path gradient holds λ in log q, which stays that of the base point."""
    model, family, x, params, noise = case(pair)
    theta, objective = leaves(model), OBJECTIVES[name](2)
    start = [params.clone(), *(p.detach().clone() for p in theta)]
    free = params.clone().requires_grad_()
    path = name.endswith("path") and isinstance(family(params), PathPosterior)
    base = family(params)

    def ascended(values: list[Tensor]) -> Tensor:
        with torch.no_grad():
            for p, value in zip(theta, values[1:], strict=True):
                p.copy_(value)
            q = family(values[0])
            if not path:
                return objective(model, x, q, noise, ONE).surrogate.sum()
            z, _, log_weight = q.draws(noise)
            held = model.log_likelihood(x, z) + model.log_prior(z) - base.frozen_log_q(z)
            return weighted_sum(log_weight, held).sum()

    surrogate = objective(model, x, family(free), noise, ONE).surrogate.sum()
    found = torch.autograd.grad(surrogate, [free, *theta], allow_unused=True)
    g, step = generator("cpu", "direction"), 1e-6
    direction = [torch.randn(p.shape, generator=g, dtype=torch.float64) for p in start]
    slope = sum(float((a * d).sum()) for a, d in zip(found, direction, strict=True) if a is not None)
    high, low = (ascended([p + s * d for p, d in zip(start, direction, strict=True)]) for s in (step, -step))
    ascended(start)
    assert slope == pytest.approx(float(high - low) / (2 * step), rel=1e-5, abs=1e-5)


@pytest.mark.parametrize("name", [n for n in OBJECTIVES if n.endswith("path")])
@pytest.mark.parametrize("pair", [p for p in PAIRS if p[2] != "categorical"], ids="-".join)
def test_the_expected_path_gradient_is_that_of_the_bound(pair: Any, name: str) -> None:
    """By quadrature over ε: each node is a datum of its own, with one draw."""
    model, family, x, params, _ = case(pair)
    if model.latent_size != 2:
        pytest.skip("the quadrature is of the plane")
    nodes, weights = hermite(40)
    many = params[:1].expand(len(nodes), -1).clone().requires_grad_()
    found = []
    for objective in (OBJECTIVES[name](1), OBJECTIVES["elbo-reparameterized"](1, kl="sampled")):
        same = x[:1].expand(len(nodes), *x.shape[1:])
        surrogate = objective(model, same, family(many), nodes[None], ONE).surrogate
        (gradient,) = torch.autograd.grad(surrogate.sum(), many)
        found.append((weights[:, None] * gradient).sum(0))
    torch.testing.assert_close(*found, rtol=2e-4, atol=2e-4)


class Unweighed(ELBO):
    """An ELBO of one's own that has forgotten the weight of the KL term."""

    def __call__(self, model: Any, x: Tensor, posterior: Any, noise: Tensor | None) -> Any:  # type: ignore[override]
        return super().__call__(model, x, posterior, noise)


@pytest.mark.parametrize("make", [local, amortized])
def test_an_objective_that_a_step_cannot_call_is_refused_before_the_first_one(make: Any) -> None:
    with pytest.raises(VemError, match=r"objective=Unweighed .*\(model, x, posterior, noise, kl_weight\)"):
        make(objective=Unweighed())


def test_the_yaml_of_local_rows_says_what_auto_means() -> None:
    said = {name: config(f"strategy={name}")["strategy"]["objective"] for name in ("local", "amortized")}
    assert {name: objective["gradient"] for name, objective in said.items()} == {"local": "path", "amortized": "auto"}
    typed = config("strategy=local", "strategy.gradient=objective")["strategy"]  # as it was called
    assert typed["objective"]["gradient"] == "reparameterized" and "gradient" not in typed


@pytest.mark.parametrize(
    ("typed", "before", "gradient"),
    [
        ([], ("path", "reparameterized"), "path"),
        (["objective.gradient=path"], ("path", "path"), "path"),
        (["strategy.gradient=objective"], ("objective", "reparameterized"), "reparameterized"),
        (["strategy.gradient=objective", "objective.gradient=path"], ("objective", "path"), "path"),
        (["~objective.gradient"], ("path", None), "path"),  # as in a yaml of one's own
    ],
)
def test_local_runs_of_before_are_those_of_the_same_words(typed: list[str], before: Any, gradient: str) -> None:
    """By the hash of the two options as they stood in config.yaml."""
    now = config("strategy=local", *typed)
    old = identity.with_option(now, identity.OF_STRATEGY, before[0])
    old = identity.with_option(old, identity.OF_OBJECTIVE, before[1]) if before[1] else old
    assert identity.config_hash(now) == identity.config_hash(old)
    for content in (now, identity.settled(old, before=True)):
        assert build({**content, "device": "cpu"}, data("real")).strategy.objective.gradient == gradient
