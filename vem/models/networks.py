"""Multi-layer perceptrons from a config: the default decoder, and the encoder that mirrors it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

from torch import Tensor, nn

from vem.errors import VemError, at_least, did_you_mean

# Names as in torch.nn, lower case; every one of them takes no argument.
ACTIVATIONS: dict[str, type[nn.Module]] = {
    "elu": nn.ELU,
    "relu": nn.ReLU,
    "tanh": nn.Tanh,
    "gelu": nn.GELU,
    "silu": nn.SiLU,
    "softplus": nn.Softplus,
    "leaky_relu": nn.LeakyReLU,
    "sigmoid": nn.Sigmoid,
    "identity": nn.Identity,
}


class MLP(nn.Module):
    """x [..., *in_shape] → [..., *out_shape] through fully connected layers."""

    def __init__(
        self,
        in_shape: Sequence[int],
        out_shape: Sequence[int],
        widths: Sequence[int],
        activation: type[nn.Module],
    ) -> None:
        super().__init__()
        self.in_shape, self.out_shape = tuple(in_shape), tuple(out_shape)
        sizes = [math.prod(self.in_shape), *widths, math.prod(self.out_shape)]
        layers: list[nn.Module] = []
        for i, (a, b) in enumerate(pairwise(sizes)):
            layers += [nn.Linear(a, b)] + ([activation()] if i < len(widths) else [])
        self.layers = nn.Sequential(*layers)

    def forward(self, x: Tensor) -> Tensor:
        """Flatten the event, go through the layers, shape the event."""
        out: Tensor = self.layers(x.flatten(-len(self.in_shape)))
        return out.reshape(*out.shape[:-1], *self.out_shape) if len(self.out_shape) > 1 else out

    @property
    def last(self) -> nn.Linear:
        """The last layer: its bias is where a start that looks at the data goes."""
        layer = self.layers[-1]
        assert isinstance(layer, nn.Linear)
        return layer


@dataclass(frozen=True)
class MLPFactory:
    """Makes an MLP once the shapes are known: ``MLPFactory([200, 200], "elu")(in_shape, out_shape)``.

    ``widths=[]`` is a single linear layer.

    Raises:
        VemError: a width below 1, or an activation that is not known.
    """

    widths: Sequence[int]
    activation: str = "elu"

    def __post_init__(self) -> None:
        for i, width in enumerate(self.widths):
            at_least(width, 1, f"widths[{i}]")
        if self.activation not in ACTIVATIONS:
            hint = did_you_mean(str(self.activation), ACTIVATIONS)
            raise VemError(
                f"activation={self.activation!r} is not known{hint} Choose one of: {', '.join(ACTIVATIONS)}."
            )

    def __call__(self, in_shape: Sequence[int], out_shape: Sequence[int]) -> MLP:
        """The network between these event shapes."""
        return MLP(in_shape, out_shape, self.widths, ACTIVATIONS[self.activation])

    def mirror(self) -> MLPFactory:
        """The same layers in the opposite order."""
        return MLPFactory(tuple(reversed(self.widths)), self.activation)
