"""A model trained elsewhere gives the numbers that plain torch gives, and what is wrong with it is said."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.distributions import Bernoulli, Independent, Normal

from vem.errors import VemError
from vem.evaluation.elbo import score, spread
from vem.external.borrowed import as_data, can_sample
from vem.external.encoder import ForeignEncoder
from vem.external.model import ForeignModel, foreign_model
from vem.models.linear_gaussian import LinearGaussian
from vem.models.mixture import Mixture
from vem.models.modes import evaluating
from vem.noise import fill, generator

H, D = 3, 12


def seeded(make: Callable[[], nn.Module], device: torch.device, dtype: torch.dtype = torch.float64) -> Any:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return make().to(device, dtype)


@pytest.fixture
def decoder(device: torch.device, dtype: torch.dtype) -> nn.Module:
    return seeded(lambda: nn.Sequential(nn.Linear(H, 16), nn.Tanh(), nn.Linear(16, D)), device, dtype)


@pytest.fixture
def x(device: torch.device, dtype: torch.dtype) -> Tensor:
    return torch.rand(7, D, generator=generator("cpu", "x"), dtype=dtype).round().to(device)


def some_z(like: Tensor, s: int = 2, b: int = 7) -> Tensor:
    return torch.randn(s, b, H, generator=generator("cpu", "z"), dtype=torch.float64).to(like)


def test_named_likelihoods_are_those_of_torch(decoder: nn.Module, x: Tensor) -> None:
    z = some_z(x)
    out = decoder(z)
    sigma = torch.linspace(0.1, 2, D).to(x)
    probabilities = nn.Sequential(decoder, nn.Sigmoid())
    for model, truth in (
        (foreign_model(decoder, "bernoulli", x, H), Bernoulli(logits=out)),
        (foreign_model(probabilities, "bernoulli_probs", x, H), Bernoulli(probs=out.sigmoid())),
        (foreign_model(decoder, "gaussian", x, H, scale=0.3), Normal(out, 0.3)),
        (foreign_model(decoder, "gaussian", x, H, scale=sigma), Normal(out, sigma)),
        (foreign_model(lambda z: decoder(z), "bernoulli", x, H), Bernoulli(logits=out)),
    ):
        torch.testing.assert_close(model.log_likelihood(x, z), truth.log_prob(x.expand_as(out)).sum(-1))
        torch.testing.assert_close(model.log_prior(z), Normal(0.0, 1.0).log_prob(z).sum(-1))
        torch.testing.assert_close(model.decode(z), truth.mean)
        drawn = model.sample(fill(model.sample_noise(5), generator(x.device, 0), x.dtype))
        assert [tuple(t.shape) for t in drawn] == [(5, H), (5, D)] and can_sample(model)


def test_certain_probabilities_stay_finite(device: torch.device, dtype: torch.dtype) -> None:
    """A sigmoid that rounds to 0 or 1 costs −log ε for a pixel that is wrong, as in torch.distributions."""
    decoder = seeded(lambda: nn.Sequential(nn.Linear(1, 2), nn.Sigmoid()), device, dtype)
    with torch.no_grad():
        decoder[0].weight.zero_()
        decoder[0].bias.copy_(torch.tensor([200.0, -200.0]))
    x = torch.tensor([[0.0, 0.0], [1.0, 0.0]], device=device, dtype=dtype)
    model = foreign_model(decoder, "bernoulli_probs", x, 1)
    found = model.log_likelihood(x, torch.zeros(1, 2, 1, device=device, dtype=dtype))[0]
    truth = Bernoulli(probs=decoder(x[:, :1])).log_prob(x).sum(-1)
    torch.testing.assert_close(found, truth)
    assert float(found[0]) == pytest.approx(math.log(torch.finfo(dtype).eps), rel=0.01)


def test_the_users_module_comes_back_as_it_was(x: Tensor, device: torch.device, dtype: torch.dtype) -> None:
    decoder = seeded(lambda: nn.Sequential(nn.Linear(H, D), nn.BatchNorm1d(D), nn.Dropout()), device, dtype)
    decoder.train()
    decoder[1].eval()  # frozen by hand
    decoder[0].bias.requires_grad_(False)
    before = {k: v.clone() for k, v in decoder.state_dict().items()}
    storage = decoder[0].weight.data_ptr()

    def own(x: Tensor, z: Tensor) -> Tensor:
        return Bernoulli(logits=decoder(z.flatten(0, 1)).view(*z.shape[:2], D)).log_prob(x).sum(-1)

    for model in (foreign_model(decoder, "bernoulli", x, H), foreign_model(decoder, own, x, H)):
        with evaluating(model):
            model.log_likelihood(x, some_z(x).requires_grad_()).sum().backward()
        assert [m.training for m in decoder.modules()] == [True, True, False, True]
        assert [p.requires_grad for p in decoder.parameters()] == [True, False, True, True]
        assert decoder[0].weight.data_ptr() == storage and decoder[0].weight.device == x.device
        assert all(torch.equal(before[k], v) for k, v in decoder.state_dict().items())
        decoder.zero_grad(set_to_none=True)
    named = foreign_model(decoder, "bernoulli", x, H)
    named.log_likelihood(x, some_z(x).requires_grad_()).sum().backward()
    assert all(p.grad is None for p in decoder.parameters())
    assert not any(p.requires_grad for p in named.parameters())


def test_dropout_in_training_mode_does_not_reach_the_numbers(x: Tensor, device: torch.device) -> None:
    """The planted fault: called as it is the decoder is random and worse; through vem it is neither."""
    decoder = seeded(lambda: nn.Sequential(nn.Linear(H, 64), nn.Dropout(0.5), nn.Linear(64, D)), device, x.dtype)
    decoder.train()
    z = some_z(x)

    def own(x: Tensor, z: Tensor) -> Tensor:
        return Bernoulli(logits=decoder(z)).log_prob(x).sum(-1)

    assert not torch.equal(own(x, z), own(x, z))
    model, through = foreign_model(decoder, "bernoulli", x, H), foreign_model(decoder, own, x, H)
    assert torch.equal(model.log_likelihood(x, z), model.log_likelihood(x, z))
    with evaluating(through):
        torch.testing.assert_close(through.log_likelihood(x, z), model.log_likelihood(x, z))
    with torch.no_grad():  # Jensen: the mean over masks of a concave log p is below log p of the mean
        masked = torch.stack([own(x, z).mean() for _ in range(50)]).mean()
    assert masked < model.log_likelihood(x, z).mean()
    with pytest.raises(VemError, match=r"is random.*dropout in training mode.*eval\(\)"):
        foreign_model(None, own, x, H)


def test_batch_norm_in_training_mode_is_seen(x: Tensor, device: torch.device) -> None:
    flat = seeded(lambda: nn.Sequential(nn.Linear(H, D), nn.BatchNorm1d(D)), device, x.dtype)
    image = nn.Sequential(nn.Linear(H, D), nn.Unflatten(1, (1, D)), nn.BatchNorm1d(1), nn.Flatten()).to(x)
    for decoder, words in ((flat, r"fails on one datum and one draw"), (image, r"alone and in a batch differ")):

        def own(x: Tensor, z: Tensor, decoder: nn.Module = decoder) -> Tensor:
            return Bernoulli(logits=decoder(z.flatten(0, 1)).view(*z.shape[:2], D)).log_prob(x).sum(-1)

        with pytest.raises(VemError, match=words + r".*batch norm in training mode\? Call eval\(\)"):
            foreign_model(None, own, x, H)
        foreign_model(decoder, own, x, H)


class Own:
    """A user's object: a decoder, its density, and a sampler on torch's global stream."""

    latent_dim = H

    def __init__(self, decoder: nn.Module) -> None:
        self.decoder = decoder

    def log_likelihood(self, x: Tensor, z: Tensor) -> Tensor:
        return Bernoulli(logits=self.decoder(z)).log_prob(x).sum(-1)

    def log_prior(self, z: Tensor) -> Tensor:
        return Normal(0.5, 2.0).log_prob(z).sum(-1)

    def sample(self, num: int) -> tuple[Tensor, Tensor]:
        like = next(self.decoder.parameters())
        z = 0.5 + 2.0 * torch.randn(num, H).to(like)
        return z, Bernoulli(logits=self.decoder(z)).sample()


def test_an_object_of_the_users(decoder: nn.Module, x: Tensor) -> None:
    model = foreign_model(Own(decoder), None, x)
    z = some_z(x)
    torch.testing.assert_close(model.log_prior(z), Normal(0.5, 2.0).log_prob(z).sum(-1))
    assert model.latent_size == H and model.prior_kind == "foreign" and can_sample(model)
    noise = fill(model.sample_noise(2000), generator(x.device, 0), x.dtype)
    state = torch.get_rng_state()
    drawn, pictures = model.sample(noise)
    assert torch.equal(state, torch.get_rng_state())  # borrowed and put back
    assert torch.equal(drawn, model.sample(noise)[0]) and pictures.shape == (2000, D)
    other = fill(model.sample_noise(2000), generator(x.device, 1), x.dtype)
    assert not torch.equal(drawn, model.sample(other)[0])
    assert float(drawn.mean()) == pytest.approx(0.5, abs=0.15) and float(drawn.std()) == pytest.approx(2.0, abs=0.15)
    with pytest.raises(VemError, match=r"no decode"):
        model.decode(z)


def test_without_a_sampler_bidirectional_is_refused(decoder: nn.Module, x: Tensor) -> None:
    model = foreign_model(decoder, "bernoulli", x, H, log_prior=Own(decoder).log_prior)
    assert not can_sample(model) and model.prior_kind == "foreign"
    torch.testing.assert_close(model.decode(some_z(x)), decoder(some_z(x)).sigmoid())
    with pytest.raises(VemError, match=r"bidirectional Monte Carlo is not possible"):
        model.sample({"z": some_z(x)[0]})


def test_a_model_of_vem_goes_through_as_it_is(device: torch.device) -> None:
    mine = LinearGaussian((D,), H).to(device, torch.float64)
    x = torch.randn(6, D, generator=generator("cpu", "x"), dtype=torch.float64)
    model = foreign_model(mine, None, x)
    assert isinstance(model, LinearGaussian) and model is not mine
    torch.testing.assert_close(model.log_marginal(x.to(device)), mine.log_marginal(x.to(device)))


# --- what is refused


def overflowing(z: Tensor) -> Tensor:
    return torch.sqrt(1.5 - z[:, :1]).expand(-1, D)


class Locked(nn.Module):
    def __deepcopy__(self, memo: Any) -> nn.Module:
        raise RuntimeError("no")


class BadSampler(Own):
    def sample(self, num: int) -> tuple[Tensor, Tensor]:
        z, x = super().sample(num)
        return x, z


GAUSSIAN = {"likelihood": "gaussian", "scale": 1.0}
# A change of foreign_model(decoder, "bernoulli", x, H), made of its decoder and x, and what is said.
REFUSED: list[tuple[Callable[[nn.Module, Tensor], dict[str, Any]], str]] = [
    (lambda d, x: {"decoder": nn.Sequential(d, nn.Sigmoid())}, r"probabilities .*sigmoid.*='bernoulli_probs'"),
    (lambda d, x: {"likelihood": "bernoulli_probs"}, r"takes probabilities. If they are logits, say .*='bernoulli'"),
    (lambda d, x: {"x": 0.3 * x}, r"other numbers than 0 and 1 \(from 0 to 0.3\).*binarize"),
    (lambda d, x: {"likelihood": "bernouli"}, r"did you mean 'bernoulli'"),
    (lambda d, x: {"likelihood": "gaussian"}, r"needs scale=σ.*its mean over pixels σ² = 6"),
    (lambda d, x: GAUSSIAN | {"scale": 0.0}, r"scale=0.0 must be positive"),
    (lambda d, x: GAUSSIAN | {"scale": -torch.ones(D)}, r"^scale=Tensor of shape \[12\] must be positive"),
    (lambda d, x: GAUSSIAN | {"scale": torch.ones(5)}, r"broadcasts to \(12,\)"),
    (lambda d, x: GAUSSIAN | {"scale": "learned"}, r"scale='learned' is not a number"),
    (lambda d, x: {"scale": 1.0}, r"belongs to likelihood='gaussian'"),
    (lambda d, x: {"latent_dim": None}, r"latent_dim is not known: pass latent_dim=H, or an encoder"),
    (lambda d, x: {"latent_dim": 0}, r"latent_dim=0 is too small"),
    (lambda d, x: {"latent_dim": 4}, r"does not take z \[N, 4\]"),
    (lambda d, x: {"decoder": lambda z: (z, z)}, r"gives a tuple.*callable log p"),
    (lambda d, x: {"decoder": 3}, r"decoder=3 cannot be called"),
    (lambda d, x: {"decoder": lambda z: z.sum()}, r"\[64, 3\] to \[\]"),
    (lambda d, x: {"decoder": Locked()}, r"Locked cannot be copied \(no\)"),
    (lambda d, x: GAUSSIAN | {"decoder": overflowing}, r"overflowing gives NaN or infinite outputs for \d+ of 64"),
    (lambda d, x: {"x": x[:, :5]}, r"gives events of shape \(12,\), the data have \(5,\)"),
    (lambda d, x: {"x": x[0]}, r"x has shape \[12\].*\[N, \*X\], is expected"),
    (lambda d, x: {"x": x[:0]}, r"at least one datum"),
    (lambda d, x: {"x": x / 0}, r"x is not finite in 7 of 7 data \(rows 0, 1, 2, 3, 4, …\)"),
    (lambda d, x: {"x": "mnist"}, r"x=str is not a tensor"),
    (lambda d, x: {"likelihood": None}, r"Sequential has no log_likelihood.*likelihood= one of"),
    (lambda d, x: {"likelihood": lambda x, z: x @ z}, r"\(x, z\) fails on tensors of .* \[3, 12\] and \[2, 3, 3\]"),
    (lambda d, x: {"likelihood": lambda x, z: x.sum(), "scale": 1.0}, r"scale=1.0 belongs"),
    (lambda d, x: {"log_prior": lambda z: z}, r"log_prior\(z\) gives shape \[2, 3, 3\].*sum over the event"),
    (lambda d, x: {"decoder": Mixture((D,), 2).to(x), "likelihood": None}, r"z of Mixture is an index"),
    (lambda d, x: {"decoder": BadSampler(d), "likelihood": None},
     r"sample\(2\) gives shapes \[2, 12\] and \[2, 3\]: z \[2, 3\] and x \[2, 12\]"),
]  # fmt: skip


@pytest.mark.parametrize(("change", "words"), REFUSED)
def test_what_does_not_fit_is_said(
    change: Callable[[nn.Module, Tensor], dict[str, Any]], words: str, decoder: nn.Module, x: Tensor
) -> None:
    with pytest.raises(VemError, match=words):
        foreign_model(**{"decoder": decoder, "likelihood": "bernoulli", "x": x, "latent_dim": H} | change(decoder, x))


# What is made of the right log p of each entry, [S, B, D], and of z.
WRONG: list[tuple[Callable[[Tensor, Tensor], Any], str]] = [
    (lambda v, z: v.sum(-1).T, r"shape \[3, 2\], and \[S, B\] = \[2, 3\] was expected.*\[B, S\] came.*transpose"),
    (lambda v, z: v, r"shape \[2, 3, 12\].*sum over the event"),
    (lambda v, z: v.sum(-1).mean(0), r"shape \[3\].*\[B\] came"),
    (lambda v, z: v.sum(-1).mean(1), r"shape \[2\].*\[S\] came"),
    (lambda v, z: v.sum(-1).flatten(), r"shape \[6\].*reshape it"),
    (lambda v, z: v.mean(), r"shape \[\].*one number came"),
    (lambda v, z: v.sum(-1)[..., None, None], r"shape \[2, 3, 1, 1\], and \[S, B\] = \[2, 3\] was expected"),
    (lambda v, z: v.sum(-1).T.reshape(v.shape[:2]), r"alone and in a batch differ.*axes mixed up"),
    (lambda v, z: v.sum(-1).flip(0), r"alone and in a batch differ"),
    (lambda v, z: v.sum(-1).tolist(), r"gives a list"),
    (lambda v, z: torch.where(z[..., 0] > 1.5, torch.nan, v.sum(-1)),
     r"NaN or \+∞ for \d+ of 64 draws of z from the prior \(such as z = \[1\.[5-9]"),
]  # fmt: skip


@pytest.mark.parametrize(("wrong", "words"), WRONG)
def test_a_wrong_density_is_named(
    wrong: Callable[[Tensor, Tensor], Any], words: str, decoder: nn.Module, x: Tensor
) -> None:
    def own(x: Tensor, z: Tensor) -> Any:
        return wrong(Bernoulli(logits=decoder(z)).log_prob(x), z)

    with pytest.raises(VemError, match=words):
        foreign_model(None, own, x, H)


# TorchScript is deprecated, and models saved that way are still about.
@pytest.mark.filterwarnings("ignore:.*torch.jit:DeprecationWarning")
def test_a_script_is_copied_like_any_module(decoder: nn.Module, x: Tensor) -> None:
    script = torch.jit.trace(decoder.train(), some_z(x)[0])  # type: ignore[no-untyped-call, unused-ignore]
    model = foreign_model(script, "bernoulli", x, H)
    z = some_z(x)
    torch.testing.assert_close(
        model.log_likelihood(x, z), foreign_model(decoder, "bernoulli", x, H).log_likelihood(x, z)
    )
    assert all(p.requires_grad for p in script.parameters()) and not any(p.requires_grad for p in model.parameters())


class Cut(nn.Module):
    """A decoder that no gradient, or a part of it, comes through."""

    def __init__(self, decoder: nn.Module, how: str) -> None:
        super().__init__()
        self.decoder, self.how = decoder, how

    def forward(self, z: Tensor) -> Tensor:
        if self.how == "no_grad":
            with torch.no_grad():
                return self.decoder(z)
        if self.how == "numpy":
            return self.decoder(torch.as_tensor(z.cpu().numpy(), device=z.device))
        kept = {"detach": 0, "part": 1}[self.how]
        return self.decoder(torch.cat([z[:, :kept], z[:, kept:].detach()], 1))


@pytest.mark.parametrize(
    ("how", "words"),
    [
        ("detach", "has no gradient in z"),
        ("no_grad", "has no gradient in z"),
        ("part", "gradient .* in z is wrong"),
        ("numpy", "fails where its gradient in z is asked for"),
    ],
)
def test_a_cut_gradient_is_seen(how: str, words: str, decoder: nn.Module, x: Tensor) -> None:
    with pytest.raises(VemError, match=words + r".*z\.detach\(\).*numpy.*Take it out"):
        foreign_model(Cut(decoder, how), "bernoulli", x, H)


@pytest.mark.parametrize("scale", [0.0, 1.0, 50.0])
def test_kinks_and_a_decoder_that_ignores_z_are_no_cut(
    scale: float, x: Tensor, device: torch.device, dtype: torch.dtype
) -> None:
    decoder = seeded(lambda: nn.Sequential(nn.Linear(H, 64), nn.ReLU(), nn.Linear(64, D)), device, dtype)
    for likelihood, sigma in (("bernoulli", None), ("gaussian", 1e-2)):
        foreign_model(lambda z: decoder(scale * z), likelihood, x, H, scale=sigma)
    foreign_model(lambda z: x.new_ones(len(z), D), "bernoulli", x, H)


def test_one_datum_and_arrays_will_do(decoder: nn.Module, x: Tensor, dtype: torch.dtype) -> None:
    assert foreign_model(decoder, "bernoulli", x[:1].cpu().numpy(), H).latent_size == H
    placed = as_data(x.bool().cpu().numpy(), decoder)
    assert placed.dtype == dtype and torch.equal(placed, x)


def test_a_foreign_vae_scores_its_elbo(decoder: nn.Module, x: Tensor) -> None:
    """Decoder and encoder by hand, the ELBO by hand on many draws, against vem's score of the wrapped pair."""
    encoder = seeded(lambda: nn.Linear(D, 2 * H), x.device, x.dtype)
    model = foreign_model(decoder, "bernoulli", x, H)
    strategy = ForeignEncoder(lambda x: encoder(x).chunk(2, -1), x)
    scores = score(model, strategy, x, spread(7, 7), training_rows=False, draws=400, seed=0, name="test")
    assert scores.elbo is not None and scores.mc_variance is not None
    with torch.no_grad():
        mean, log_variance = encoder(x).chunk(2, -1)
        q = Independent(Normal(mean, (log_variance / 2).exp()), 1)
        z = q.sample((2000,))
        log_p = Bernoulli(logits=decoder(z)).log_prob(x).sum(-1) + Normal(0.0, 1.0).log_prob(z).sum(-1)
        hand = log_p - q.log_prob(z)
    error = (scores.mc_variance + hand.var(0).double().cpu() / 2000).sqrt()
    assert bool(((scores.elbo - hand.mean(0).double().cpu()).abs() < 5 * error).all())


def test_the_adapter_is_a_module_without_the_users_parameters_twice(decoder: nn.Module, x: Tensor) -> None:
    model = foreign_model(decoder, Own(decoder).log_likelihood, x, H)
    assert isinstance(model, ForeignModel)
    assert len(list(model.parameters())) == len(list(decoder.parameters()))
    assert model.notes() == [] and model.start(x, generator(x.device, 0)) is None
