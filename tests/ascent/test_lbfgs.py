"""Batched L-BFGS: scipy's, run on each row alone, is the judge."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise

import numpy as np
import pytest
import torch
from scipy.optimize import minimize
from torch import Tensor

from vem.ascent.lbfgs import CHECKED, Climbable, Climbed, climb, no_history
from vem.noise import generator

SIZE, ROWS = 20, 6


def quadratics(condition: float, dtype: torch.dtype) -> tuple[Callable[[Tensor, Tensor], Tensor], Tensor, Tensor]:
    """−½ (λ − m_n)ᵀ A_n (λ − m_n) with axes of its own for every row: the function, the maxima, a start."""
    g = generator("cpu", "quadratics")
    turn = torch.linalg.qr(torch.randn(ROWS, SIZE, SIZE, generator=g, dtype=torch.float64))[0]
    eigenvalues = condition ** torch.linspace(0, 1, SIZE, dtype=torch.float64)
    matrix = ((turn * eigenvalues) @ turn.mT).to(dtype)
    top = torch.randn(ROWS, SIZE, generator=g, dtype=torch.float64).to(dtype)

    def function(params: Tensor, rows: Tensor) -> Tensor:
        away = params - top[rows]
        return -0.5 * (away * torch.einsum("bij,bj->bi", matrix[rows], away)).sum(-1)

    return function, top, torch.zeros_like(top)


def rosenbrock(params: Tensor, rows: Tensor) -> Tensor:
    """−Rosenbrock with a valley of the row's own steepness; the maximum is 0 at (1, …, 1)."""
    steepness = (10.0 ** (1 + rows % 3)).to(params)[:, None]
    x, y = params[:, :-1], params[:, 1:]
    return -(steepness * (y - x.square()).square() + (1 - x).square()).sum(-1)


def climbable(function: Callable[[Tensor, Tensor], Tensor], seen: list[Tensor] | None = None) -> Climbable:
    """The function with its gradient; ``seen`` collects the rows of every call."""

    def value_and_gradient(params: Tensor, rows: Tensor) -> tuple[Tensor, Tensor]:
        if seen is not None:
            seen.append(rows.clone())
        leaf = params.detach().requires_grad_()
        value = function(leaf, rows)
        (gradient,) = torch.autograd.grad(value.sum(), leaf)
        return value.detach(), gradient

    return value_and_gradient


def scipy_alone(function: Callable[[Tensor, Tensor], Tensor], start: Tensor, row: int) -> tuple[float, int]:
    """The best value and the evaluations of scipy's L-BFGS-B, with as many pairs in its history."""

    def negative(params: np.ndarray) -> tuple[float, np.ndarray]:
        value, gradient = climbable(function)(torch.tensor(params)[None], torch.tensor([row]))
        return -value.item(), -gradient[0].numpy()

    options = {"maxcor": 20, "maxiter": 2000, "ftol": 1e-14, "gtol": 1e-10}
    found = minimize(negative, start[row].numpy(), jac=True, method="L-BFGS-B", options=options)
    return -found.fun, found.nfev


def rosenbrock_start() -> Tensor:
    return 0.5 * torch.randn(ROWS, 4, generator=generator("cpu", "rosenbrock"), dtype=torch.float64)


@pytest.mark.parametrize("condition", [1.0, 1e2, 1e4])
def test_quadratics_as_well_as_scipy(condition: float) -> None:
    function, top, start = quadratics(condition, torch.float64)
    found = climb(climbable(function), start, 400, 1e-10)
    assert bool(found.finished.all())
    judged = [scipy_alone(function, start, row) for row in range(ROWS)]
    assert found.value.min() > -1e-8 and min(value for value, _ in judged) > -1e-8
    torch.testing.assert_close(found.params, top, rtol=0, atol=2e-4)
    assert found.evaluations.double().mean() < 1.5 * np.mean([count for _, count in judged]) + 2 * CHECKED


def test_rosenbrock_as_well_as_scipy() -> None:
    start = rosenbrock_start()
    found = climb(climbable(rosenbrock), start, 600, 1e-10)
    assert bool(found.finished.all())
    for row in range(ROWS):
        value, count = scipy_alone(rosenbrock, start, row)
        # Rosenbrock in four dimensions has a second, lower maximum: both must come to one of the two.
        assert min(abs(found.value[row].item() - v) for v in (0.0, value)) < 1e-6
        assert found.evaluations[row] < 2 * count + 2 * CHECKED


def test_a_row_does_not_depend_on_its_neighbours() -> None:
    start = rosenbrock_start()
    together = climb(climbable(rosenbrock), start, 60, 1e-8)
    for row in range(ROWS):

        def alone(params: Tensor, rows: Tensor, row: int = row) -> Tensor:
            return rosenbrock(params, rows + row)

        found = climb(climbable(alone), start[row : row + 1], 60, 1e-8)
        assert found.evaluations[0] == together.evaluations[row]
        torch.testing.assert_close(found.params[0], together.params[row], rtol=1e-9, atol=1e-9)
        torch.testing.assert_close(found.history.steps[:, 0], together.history.steps[:, row], rtol=1e-6, atol=1e-9)


def test_finished_rows_cost_no_more_evaluations() -> None:
    start = rosenbrock_start()
    start[0] = 1.0  # at the maximum
    seen: list[Tensor] = []
    found = climb(climbable(rosenbrock, seen), start, 500, 1e-8)
    counted = torch.zeros(ROWS, dtype=torch.long).index_add_(0, torch.cat(seen), torch.ones_like(torch.cat(seen)))
    assert torch.equal(found.evaluations, counted)
    assert found.evaluations[0] == CHECKED + 1 and found.evaluations.max() > 5 * CHECKED


@pytest.mark.parametrize("name", ["quadratics", "rosenbrock"])
def test_more_evaluations_never_lose(name: str, dtype: torch.dtype) -> None:
    function, _, start = quadratics(1e4, dtype) if name == "quadratics" else (rosenbrock, None, rosenbrock_start())
    start = start.to(dtype)
    values = [climb(climbable(function), start, count, 0.0).value for count in range(2, 60, 6)]
    rounding = 8 * torch.finfo(dtype).eps * climbable(function)(start, torch.arange(ROWS))[0].abs()
    for before, after in pairwise(values):
        assert bool((after >= before - rounding).all())
    assert values[0].dtype == dtype


def test_float32_comes_as_far_as_its_rounding_lets_it() -> None:
    function, top, start = quadratics(1e4, torch.float32)
    found = climb(climbable(function), start, 400, 1e-4)
    assert bool(found.finished.all()) and found.value.min() > -1e-2
    torch.testing.assert_close(found.params, top, rtol=0, atol=0.15)


def test_proposals_that_are_not_finite_are_shortened() -> None:
    def walled(params: Tensor, rows: Tensor) -> Tensor:
        """The maximum 0 at 1 lies before a wall at 1.05, behind which there are no numbers."""
        value = -50 * (params - 1).square().sum(-1)
        bad = torch.tensor([torch.nan, torch.inf, -torch.inf], dtype=params.dtype)[rows % 3]
        return torch.where((params < 1.05).all(-1), value, bad)

    found = climb(climbable(walled), torch.full((3, 2), -3.0, dtype=torch.float64), 200, 1e-9)
    assert bool(found.params.isfinite().all()) and bool(found.finished.all())
    torch.testing.assert_close(found.params, torch.ones(3, 2, dtype=torch.float64), rtol=0, atol=1e-4)


def test_a_row_that_finds_no_step_does_not_say_that_it_has_finished() -> None:
    def cliff(params: Tensor, rows: Tensor) -> Tensor:
        """Uphill only within a hair of the start: all five first proposals are too long."""
        value = 3 * params.sum(-1)
        return torch.where((params < 1e-9).all(-1), value, torch.nan)

    found = climb(climbable(cliff), torch.zeros(1, 2, dtype=torch.float64), CHECKED + 1, 1e-3)
    assert found.value == 0 and not bool(found.finished)


@pytest.mark.parametrize("evaluations", range(2, CHECKED + 1))
def test_starved_of_evaluations_no_row_says_that_it_has_finished(evaluations: int) -> None:
    function, _, start = quadratics(1e4, torch.float64)
    found = climb(climbable(function), start, evaluations, 1e-3)
    assert not bool(found.finished.any()) and found.evaluations.tolist() == [evaluations] * ROWS


def test_the_history_is_the_inverse_hessian_once_it_spans_the_space() -> None:
    def function(params: Tensor, rows: Tensor) -> Tensor:
        curvature = torch.tensor([1.0, 30.0, 900.0], dtype=params.dtype)
        return -0.5 * (curvature * params.square()).sum(-1)

    found: Climbed = climb(climbable(function), torch.ones(1, 3, dtype=torch.float64), 40, 1e-12)
    gradient = torch.tensor([[1.0, -2.0, 3.0]], dtype=torch.float64)
    newton = gradient / torch.tensor([1.0, 30.0, 900.0])
    torch.testing.assert_close(found.history.precondition(gradient), newton, rtol=0.02, atol=1e-4)
    assert torch.equal(no_history(gradient, 4).precondition(gradient), gradient)
