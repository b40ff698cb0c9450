"""The encoder: users' networks, shapes, dropout, one joint step."""

from __future__ import annotations

from functools import partial
from typing import Any

import pytest
import torch
from parts import ConvDecoder, amortized, deep, schedule
from torch import Tensor, nn

from vem.contracts import Batch, TrainingSet
from vem.errors import VemError
from vem.evaluation.elbo import score
from vem.families.categorical import Categorical
from vem.families.gaussian import DiagonalGaussian, FullGaussian
from vem.models.deep import DeepLatentModel
from vem.models.linear_gaussian import LinearGaussian
from vem.models.mixture import Mixture
from vem.models.networks import MLPFactory
from vem.noise import fill, generator
from vem.objectives.elbo import ELBO
from vem.strategies.amortized import Amortized, Mirror


class ConvEncoder(nn.Module):
    """A user's encoder for 8 × 8 pictures, with dropout."""

    def __init__(self, outputs: int) -> None:
        super().__init__()
        self.conv, self.drop, self.last = nn.Conv2d(1, 4, 3, stride=2), nn.Dropout(0.5), nn.Linear(36, outputs)

    def forward(self, x: Tensor) -> Tensor:
        return self.last(self.drop(self.conv(x[:, None]).relu().flatten(1)))


def ready(
    encoder: Any, device: torch.device, decoder: Any = None, family: Any = DiagonalGaussian, optimizer: Any = None
) -> tuple[Amortized, DeepLatentModel, Tensor]:
    model = deep((8, 8), 3, decoder or MLPFactory([10, 12])).to(device)
    x = (torch.rand(20, 8, 8, generator=generator("cpu", 1)) > 0.5).float().to(device)
    strategy = Amortized(family, ELBO(2), optimizer or partial(torch.optim.Adam, lr=0.01), encoder)
    strategy.setup(model, TrainingSet(x, False), generator(device, 2))
    return strategy, model, x


@pytest.mark.parametrize(("family", "outputs"), [(DiagonalGaussian, 6), (FullGaussian, 9)])
def test_the_mirror_has_the_decoders_layers_backwards(family: Any, outputs: int, device: torch.device) -> None:
    strategy, model, x = ready(Mirror(), device, family=family)
    linear = [(m.in_features, m.out_features) for m in strategy.encoder.modules() if isinstance(m, nn.Linear)]
    assert linear == [(64, 12), (12, 10), (10, outputs)]
    assert strategy.infer(model, Batch(x, None), {}).mean().shape == (20, 3)


def test_the_mirror_needs_an_mlp_decoder(device: torch.device) -> None:
    with pytest.raises(VemError, match=r"mirrors an MLP decoder, and DeepLatentModel has none.*strategy/encoder=mlp"):
        ready(Mirror(), device, ConvDecoder(3))
    with pytest.raises(VemError, match="LinearGaussian has none"):
        amortized(Mirror()).setup(LinearGaussian((4,), 2), TrainingSet(torch.randn(5, 4), False), generator("cpu", 0))


def test_users_convolutional_networks(device: torch.device) -> None:
    strategy, model, x = ready(ConvEncoder(6), device, ConvDecoder(3))
    before = {k: v.clone() for k, v in (*model.state_dict().items(), *strategy.encoder.state_dict().items())}
    info = strategy.step(
        model, Batch(x, torch.arange(20)), fill(strategy.noise(20), generator(device, 0)), schedule(device)
    )
    assert info.bound is not None and info.bound.value.shape == (20,)
    assert info.decoder_evaluations == 40
    after = {**model.state_dict(), **strategy.encoder.state_dict()}
    assert all(not torch.equal(after[k], v) for k, v in before.items())


@pytest.mark.parametrize("encoder", [ConvEncoder(5), nn.Flatten(0), lambda a, b: ConvEncoder(7)])
def test_encoders_of_the_wrong_shape_are_refused(encoder: Any, device: torch.device) -> None:
    with pytest.raises(VemError, match=r"encoder=\w+ maps \(2, 8, 8\) to .*DiagonalGaussian needs \[B, 6\]"):
        ready(encoder, device)


def test_an_encoder_that_does_not_take_x_is_refused(device: torch.device) -> None:
    with pytest.raises(VemError, match=r"encoder=Linear does not take x of shape \(2, 8, 8\)"):
        ready(nn.Linear(64, 6), device)


def test_dropout_is_off_in_evaluation_and_on_in_training(device: torch.device) -> None:
    strategy, model, x = ready(ConvEncoder(6), device)
    model.train()
    rows = torch.arange(20)
    scores = [score(model, strategy, x, rows, training_rows=True, draws=2, seed=0, name="train").elbo for _ in range(2)]
    assert scores[0] is not None and scores[1] is not None and torch.equal(*scores)
    a, b = (strategy.infer(model, Batch(x, None), {}).mean() for _ in range(2))
    assert torch.equal(a, b) and strategy.encoder.training and model.training
    noise = fill(strategy.noise(20), generator(device, 0))
    a, b = (strategy.gradient(model, Batch(x, None), noise, schedule(device)).bound.value for _ in range(2))
    assert not torch.equal(a, b)


def test_one_step_is_the_gradient_of_the_mean_bound(device: torch.device) -> None:
    strategy, model, x = ready(Mirror(), device, optimizer=partial(torch.optim.SGD, lr=0.2))
    params = [*model.parameters(), *strategy.encoder.parameters()]
    noise = fill(strategy.noise(8), generator(device, 0))
    batch, at = Batch(x[:8], torch.arange(8)), schedule(device, rate=0.5, kl_weight=0.3)
    location, log_scale = strategy.encoder(x[:8]).chunk(2, -1)
    z = location + log_scale.exp() * noise["z"]
    likelihood = torch.distributions.Bernoulli(logits=model.decoder(z)).log_prob(x[:8]).sum((-2, -1)).mean(0)
    q = torch.distributions.Normal(location, log_scale.exp())
    kl = torch.distributions.kl_divergence(q, torch.distributions.Normal(torch.zeros_like(location), 1.0)).sum(-1)
    gradient = torch.autograd.grad((likelihood - 0.3 * kl).mean(), params)
    expected = [(p + 0.2 * 0.5 * g).detach() for p, g in zip(params, gradient, strict=True)]
    info = strategy.step(model, batch, noise, at)
    for found, value in zip(params, expected, strict=True):
        torch.testing.assert_close(found.detach(), value)
    assert info.bound is not None
    torch.testing.assert_close(info.bound.value, (likelihood - kl).detach())
    norm = torch.cat([g.flatten() for g in gradient]).norm()
    torch.testing.assert_close(info.terms["gradient_norm"], norm)


def test_an_encoder_learns_the_components_of_a_mixture(device: torch.device) -> None:
    """A finite q: one enumerated bound, no noise at all."""
    g = generator("cpu", 4)
    x = (6 * torch.randint(2, (200, 1), generator=g) + torch.randn(200, 2, generator=g)).to(device)
    model = Mixture((2,), 2).to(device)
    strategy = amortized(family=Categorical, rate=0.05)
    strategy.setup(model, TrainingSet(x, False), generator(device, 5))
    assert strategy.noise(200) == {}
    for _ in range(300):
        strategy.step(model, Batch(x, torch.arange(200)), {}, schedule(device))
    with torch.no_grad():
        gap = model.log_marginal(x) - ELBO()(model, x, strategy.infer(model, Batch(x, None), {}), None).value
    assert gap.min().item() > -1e-4 and gap.mean().item() < 0.02
