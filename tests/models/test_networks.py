"""Multi-layer perceptrons: shapes, layers, mirrors, refusals."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from vem.models.networks import ACTIVATIONS, MLPFactory


def widths(network: nn.Module) -> list[tuple[int, int]]:
    return [(layer.in_features, layer.out_features) for layer in network.modules() if isinstance(layer, nn.Linear)]


@pytest.mark.parametrize("event", [(6,), (2, 3)])
def test_events_keep_their_shape_behind_any_batch_axes(
    event: tuple[int, ...], device: torch.device, dtype: torch.dtype
) -> None:
    decoder = MLPFactory([5, 7])((3,), event).to(device, dtype)
    z = torch.randn(4, 2, 3, device=device, dtype=dtype)
    assert decoder(z).shape == (4, 2, *event)
    torch.testing.assert_close(decoder(z)[1, 1], decoder(z[1, 1]))
    encoder = MLPFactory([5, 7]).mirror()(event, (6,)).to(device, dtype)
    assert encoder(torch.randn(4, 2, *event, device=device, dtype=dtype)).shape == (4, 2, 6)


def test_a_mirror_has_the_widths_in_the_opposite_order() -> None:
    factory = MLPFactory([5, 7], "tanh")
    assert widths(factory((3,), (8,))) == [(3, 5), (5, 7), (7, 8)]
    assert widths(factory.mirror()((8,), (6,))) == [(8, 7), (7, 5), (5, 6)]
    assert factory.mirror().activation == "tanh"


def test_no_widths_is_one_linear_layer() -> None:
    network = MLPFactory([])((2, 2), (3,))
    assert widths(network) == [(4, 3)] and network.last is network.layers[0]


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_an_activation_stands_between_all_layers_and_not_after_the_last(name: str) -> None:
    layers = list(MLPFactory([4, 4], name)((2,), (2,)).layers)
    assert [type(layer) for layer in layers[1::2]] == [ACTIVATIONS[name]] * 2
    assert isinstance(layers[-1], nn.Linear) and len(layers) == 5
