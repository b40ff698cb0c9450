"""The phases of Algorithm 7: what ends one, and when all has converged."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from vem.strategies.phases import Alternation


def ended(bounds: Sequence[float], weights: Sequence[float] | None = None, max_passes: int = 3) -> list[bool]:
    """What each pass with this mean bound, under this KL weight, says of convergence."""
    phases = Alternation(0.01, max_passes)
    out = []
    for number, bound in enumerate(bounds):
        for share in (0.5, 1.5):  # two batches
            weight = 1.0 if weights is None else weights[number] + 0.01 * (weights[number] < 1) * share
            phases.add(torch.full((10,), bound), torch.tensor(weight))
        saved = phases.state_dict()
        phases = Alternation(0.01, max_passes)
        phases.load_state_dict(saved)
        out.append(phases.end_pass())
    return out


def test_a_level_bound_has_converged_after_a_cycle() -> None:
    assert ended([-3.0] * 8) == [False] * 7 + [True]  # two passes a phase, two phases a cycle, two cycles


def test_a_bound_that_falls_has_not() -> None:
    assert not any(ended([-3.0 - 0.1 * n for n in range(60)]))


def test_noise_at_a_plateau_converges_as_ever() -> None:
    noise = torch.Generator().manual_seed(0)
    runs = [(-3.0 + 0.1 * torch.randn(60, generator=noise, dtype=torch.float64)).tolist() for _ in range(50)]
    first = [ended(run).index(True) for run in runs]
    assert sum(first) / len(first) < 16  # one cycle in two gains less than the tolerance: a few passes are enough


def test_nothing_converges_while_the_weight_of_the_kl_term_rises() -> None:
    weights = [min(1.0, n / 20) for n in range(40)]
    falling = [-3.0 - 0.1 * min(n, 20) for n in range(40)]
    found = ended(falling, weights)
    assert not any(found[:25]) and any(found)
    assert not any(ended([-3.0] * 20, weights[:20]))


def test_the_state_of_a_run_from_before_is_read() -> None:
    phases, old = Alternation(0.01, 3), Alternation(0.01, 3).state_dict()
    phases.load_state_dict({k: v for k, v in old.items() if k not in ("weight", "weights", "steps", "falls")})
    for _ in range(8):
        phases.add(torch.full((10,), -3.0), torch.ones(()))
        converged = phases.end_pass()
    assert converged
