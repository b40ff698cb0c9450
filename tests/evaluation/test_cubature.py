"""The pieces of the adaptive rule: exact where Gauss–Legendre is, and the slack that keeps narrow modes from hiding."""

import pytest
import torch

from vem.evaluation.bounds.cubature import halved, joined, measured, points


def tile(f, low, width):
    low, width = torch.tensor([low]).double(), torch.tensor([width]).double()
    datum = torch.zeros(1, dtype=torch.long)
    return measured(f(points(low, width), datum), datum, low, width)


def test_rule_is_exact_for_polynomials_of_degree_15():
    one = tile(lambda z, _: 15 * z[..., 0].log(), [1.0], [1.0])
    assert one.log_mass.exp().item() == pytest.approx((2**16 - 1) / 16, rel=1e-13)
    two = tile(lambda z, _: 15 * z[..., 0].log() + 3 * z[..., 1].log(), [1.0, 0.0], [1.0, 0.5])
    assert two.log_mass.exp().item() == pytest.approx((2**16 - 1) / 16 * 0.5**4 / 4, rel=1e-13)


@pytest.mark.parametrize("size", [1, 2])
def test_halves_fill_their_tile(size):
    low, width = torch.randn(3, size).double(), torch.rand(3, size).double() + 1
    datum = torch.tensor([4, 0, 4])

    def f(z, _):
        return -z.square().sum(-1)

    parents = measured(f(points(low, width), datum), datum, low, width)
    children = halved(f, parents, 100)
    assert children.datum.tolist() == [d for d in (4, 0, 4) for _ in range(2**size)]
    torch.testing.assert_close(children.width.prod(-1).view(3, -1).sum(1), width.prod(-1))
    mass = children.log_mass.view(3, -1).logsumexp(1)
    torch.testing.assert_close(mass, parents.log_mass, rtol=0, atol=1e-9)
    torch.testing.assert_close(children.low.view(3, -1, size).amin(1), low)


@pytest.mark.parametrize("scale", [0.002, 0.05, 1.0])
def test_slack_covers_a_peak_between_the_nodes(scale):
    """Slanted ridges of every direction and place: the peak, 0, is at most slack above the best node."""
    stream = torch.Generator().manual_seed(0)
    for _ in range(50):
        turn = torch.linalg.qr(torch.randn(2, 2, generator=stream).double())[0]
        root = torch.diag(torch.tensor([1 / scale, 1.0]).double()) @ turn
        top = torch.rand(2, generator=stream).double()

        def f(z, _, root=root, top=top):
            return -0.5 * ((z - top) @ root.T).square().sum(-1)

        found = tile(f, [0.0, 0.0], [1.0, 1.0])
        assert found.peak + found.slack >= 0
        assert found.slack < 1.5 / scale**2 * 0.2**2 + 0.1  # no more than its formula for this curvature


def test_blank_tiles():
    blank = tile(lambda z, _: torch.full(z.shape[:-1], -torch.inf).double(), [0.0], [1.0])
    assert blank.log_mass == -torch.inf and blank.bound(torch.zeros(1).double()) == 0
    edge = tile(lambda z, _: torch.where(z[..., 0] > 0.5, 0.0, -torch.inf).double(), [0.0], [1.0])
    assert edge.slack > 3  # a jump is not smooth
    assert len(joined([blank, edge]).datum) == 2
