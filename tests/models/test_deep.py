"""The deep latent model: densities against torch, users' decoders, its start, its samples."""

from __future__ import annotations

import pytest
import torch
from parts import ConvDecoder
from torch import nn
from torch.distributions import Bernoulli, Independent, Normal

from vem.errors import VemError
from vem.models.deep import DeepLatentModel
from vem.models.networks import MLPFactory
from vem.noise import generator


@pytest.mark.parametrize("likelihood", ["bernoulli", "gaussian"])
def test_log_joint_against_torch(likelihood: str, device: torch.device, dtype: torch.dtype) -> None:
    model = DeepLatentModel((2, 3), 4, MLPFactory([5]), likelihood, scale=0.7).to(device, dtype)
    z = torch.randn(3, 6, 4, device=device, dtype=dtype)
    x = torch.randn(6, 2, 3, device=device, dtype=dtype)
    x = (x > 0).to(dtype) if likelihood == "bernoulli" else x
    output = model.decoder(z)
    judge = Bernoulli(logits=output) if likelihood == "bernoulli" else Normal(output, 0.7)
    torch.testing.assert_close(model.log_likelihood(x, z), Independent(judge, 2).log_prob(x.expand_as(output)))
    torch.testing.assert_close(model.log_prior(z), Normal(0.0, 1.0).log_prob(z).sum(-1))
    torch.testing.assert_close(model.decode(z), judge.mean)
    assert model.decode(z[0, 0]).shape == (2, 3)


def test_a_convolutional_decoder_sees_one_batch_axis(device: torch.device) -> None:
    model = DeepLatentModel((8, 8), 3, ConvDecoder(3)).to(device).eval()
    z, x = torch.randn(2, 5, 3, device=device), (torch.rand(5, 8, 8, device=device) > 0.5).float()
    assert model.log_likelihood(x, z).shape == (2, 5)
    assert model.decode(z).shape == (2, 5, 8, 8)
    assert {len(shape) for shape in model.decoder.seen} == {2}
    torch.testing.assert_close(model.decode(z)[1, 2], model.decode(z[1, 2:3])[0], rtol=1e-4, atol=1e-5)


def test_the_shape_check_leaves_a_decoder_as_it_was() -> None:
    decoder = ConvDecoder(3)
    before = {k: v.clone() for k, v in decoder.state_dict().items()}
    DeepLatentModel((8, 8), 3, decoder)
    assert decoder.training
    assert all(torch.equal(v, before[k]) for k, v in decoder.state_dict().items())


def test_lazy_layers_are_made_by_the_shape_check() -> None:
    decoder = nn.Sequential(nn.LazyLinear(5), nn.LazyBatchNorm1d(), nn.Tanh(), nn.LazyLinear(3))
    model = DeepLatentModel((3,), 2, decoder)
    assert sum(p.numel() for p in model.parameters()) == 2 * 5 + 5 + 10 + 5 * 3 + 3
    assert model.output(torch.zeros(4, 2)).shape == (4, 3)


def test_decoders_of_the_wrong_shape_are_refused() -> None:
    with pytest.raises(VemError, match=r"ConvDecoder gives events of shape \(8, 8\), the data have \(9, 8\)"):
        DeepLatentModel((9, 8), 3, ConvDecoder(3))
    with pytest.raises(VemError, match=r"ConvDecoder does not take z \[N, 4\]"):
        DeepLatentModel((8, 8), 4, ConvDecoder(3))


@pytest.mark.parametrize("likelihood", ["bernoulli", "gaussian"])
def test_the_start_has_the_mean_and_spread_of_the_data(likelihood: str, device: torch.device) -> None:
    x = 2 + 0.5 * torch.randn(4000, 5, generator=generator(device, 0), device=device)
    x = (x > 2.3).float() if likelihood == "bernoulli" else x
    model = DeepLatentModel((5,), 2, MLPFactory([4]), likelihood).to(device)
    with torch.no_grad():
        model.decoder.last.weight.zero_()  # what is left is the bias
    model.start(x, generator(device, 1))
    torch.testing.assert_close(model.decode(torch.zeros(1, 2, device=device))[0], x.mean(0), rtol=1e-4, atol=1e-4)
    if likelihood == "gaussian":
        assert model.likelihood.scale().item() == pytest.approx(0.5, abs=0.02)
    kept = DeepLatentModel((5,), 2, MLPFactory([4]), likelihood, data_start=False).to(device)
    before = kept.decoder.last.bias.clone()
    kept.start(x, generator(device, 1))
    assert torch.equal(kept.decoder.last.bias, before)
