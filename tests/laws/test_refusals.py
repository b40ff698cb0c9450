"""An option out of range is refused where it is given, by its name."""

from __future__ import annotations

import math
from functools import partial
from typing import Any

import pytest
import torch
from parts import adam, local

from vem.ascent.rules import SGD, Adam, Natural
from vem.ascent.starts import PCAStart
from vem.errors import VemError
from vem.families.gaussian import DiagonalGaussian, FullGaussian
from vem.models.deep import DeepLatentModel
from vem.models.likelihoods import make_likelihood
from vem.models.linear_gaussian import LinearGaussian
from vem.models.mixture import Mixture
from vem.models.networks import MLPFactory
from vem.objectives.elbo import ELBO
from vem.strategies.exact_em import ExactEM
from vem.strategies.gradient import AscentOptimizer
from vem.strategies.local import HeldOut
from vem.training.schedules import Constant, Cosine, RobbinsMonro, Stepwise
from vem.training.settings import Stop, Training

LIKELIHOOD = partial(make_likelihood, "gaussian", (2,), scale="learned", scale_floor=0.1)
TRAINING = partial(Training, epochs=1, batch_size=1, rate=1e-3, schedule=Constant())
REFUSED: dict[Any, list[tuple[dict[str, Any], str]]] = {
    partial(DeepLatentModel, (4,), decoder=MLPFactory([5])): [
        ({"latent_dim": 0}, "latent_dim=0"),
        ({"latent_dim": 2, "units": "common"}, "units=common.*0 and 1"),
        ({"latent_dim": 2, "units": "column"}, "units=column.*0 and 1"),
        ({"latent_dim": 2, "units": "columns", "likelihood": "gaussian"}, "units='columns'.*did you mean 'column'"),
    ],
    partial(LinearGaussian, (3,)): [
        ({"latent_dim": 0}, "latent_dim"),
        ({"latent_dim": 1, "noise": "full"}, "noise"),
        ({"latent_dim": 1, "noise_floor": 0.0}, "noise_floor"),
        ({"latent_dim": 1, "standardize": "often"}, "standardize=often"),
    ],
    partial(Mixture, (3,)): [
        ({"components": 0}, "components"),
        ({"components": 2, "likelihood": "poisson"}, "likelihood"),
        ({"components": 2, "covariance": "diag"}, "covariance"),
        ({"components": 2, "variance_floor": 0.0}, "variance_floor"),
        ({"components": 2, "probability_floor": 0.5}, "probability_floor"),
        ({"components": 2, "regularize": -1.0}, "regularize"),
        ({"components": 2, "likelihood": "bernoulli", "regularize": 1e-6}, "regularize"),
    ],
    partial(make_likelihood, "bernouli", (2,), 1.0, 0.1): [({}, "did you mean 'bernoulli'")],
    LIKELIHOOD: [
        ({"scale": "learnt"}, r"scale='learnt' is not known"),
        ({"scale": 0.0}, r"scale=0\.0 must be positive"),
        ({"scale": math.nan}, r"scale=nan must be positive"),
        ({"scale_floor": 0.0}, r"scale_floor=0\.0 must be positive"),
    ],
    MLPFactory: [
        ({"widths": [5, 0]}, r"widths\[1\]=0 is too small"),
        ({"widths": [-3]}, r"widths\[0\]=-3 is too small"),
        ({"widths": [5], "activation": "rellu"}, "did you mean 'relu'"),
    ],
    DiagonalGaussian: [({"size": 0}, "latent_dim=0")],
    FullGaussian: [({"size": 0}, "latent_dim=0")],
    ELBO: [
        ({"kl": "clsd"}, r"kl='clsd' is not known"),
        ({"num_draws": 0}, "num_draws=0"),
        ({"kl_weight": -1.0}, r"kl_weight=-1\.0 is too small"),
        ({"reconstruction_weight": math.nan}, "reconstruction_weight=nan is too small"),
        ({"kl_weight": math.inf}, "kl_weight=inf must be finite"),
        ({"kl_weight": 0.0, "reconstruction_weight": 0.0}, "leave nothing to learn from"),
    ],
    Natural: [({"rate": 0.0}, r"rate=0\.0 must be positive"), ({"trust": math.nan}, r"trust=nan must be positive")],
    SGD: [({"rate": -1.0}, r"rate=-1\.0 must be positive")],
    Adam: [({"beta1": 1.0}, r"beta1=1\.0 must lie in")],
    PCAStart: [({"temper": -1.0}, "temper=-1")],
    AscentOptimizer: [
        ({"factory": adam(), "params": []}, "no parameters"),
        ({"factory": adam(0.0), "params": [torch.nn.Parameter(torch.ones(2))]}, "must be positive"),
    ],
    HeldOut: [
        ({"steps": 0}, "steps=0"), ({"draws": 0}, "draws=0"), ({"rate": -1.0}, "rate=-"), ({"cool": -0.5}, "cool=-"),
    ],
    local: [
        ({"order": "e_them_m"}, "did you mean 'e_then_m'"),
        ({"schedule": "alternate"}, "did you mean 'alternating'"),
        ({"e_steps": -1}, "e_steps=-1"),
        ({"e_steps": 0}, "e_steps=0"),
        ({"m_steps": 2}, "take e_then_m"),
        ({"tolerance": -1.0, "schedule": "alternating"}, "tolerance=-1"),
        ({"max_passes": 0, "schedule": "alternating"}, "max_passes=0"),
        ({"cool": -1.0}, "cool=-"),
    ],
    partial(ExactEM, ELBO()): [
        ({"restarts": 0}, "restarts"),
        ({"restart_epochs": 0}, "restart_epochs"),
        ({"tolerance": -1.0}, "tolerance"),
        ({"start": "kmeans"}, "start"),
        ({"convergence": "never"}, "convergence"),
        ({"accelerate": "much"}, "accelerate"),
        ({"start": "keep", "restarts": 2}, "start=keep"),
    ],
    partial(ExactEM, ELBO(kl_weight=0.0)): [({}, r"kl_weight=0\.0: exact EM maximizes the ELBO itself")],
    RobbinsMonro: [({"power": 0.5}, r"power=0\.5"), ({"half": 0.0}, r"half=0\.0")],
    Stepwise: [({"unit": 0.0}, r"unit=0\.0"), ({"levels": 0}, "levels=0")],
    Cosine: [
        ({"final": -0.1}, "final=.*descend"), ({"final": 1.1}, "final=.*descend"), ({"hold": 1.5}, "hold="),
        ({"hold": -0.5}, "hold="),
    ],
    Stop: [({"tolerance": 0.1, "window": 0}, "window=0")],
    TRAINING: [
        ({"epochs": 0}, "epochs=0"),
        ({"batch_size": -1}, "batch_size=-1"),
        ({"rate": 0.0}, r"rate=0\.0 must be positive"),
        ({"records": 0}, "records=0"),
        ({"valid_data": -1}, "valid_data=-1"),
        ({"kl_warmup": -1.0}, "kl_warmup=-1"),
        ({"checkpoint_seconds": -1.0}, "checkpoint_seconds=-1"),
        ({"keep": "bst"}, "did you mean 'best'"),
        ({"keep": "best", "valid_data": 0}, "keep=best goes by the validation ELBO"),
    ],
}  # fmt: skip


@pytest.mark.parametrize(
    ("make", "options", "message"), [(make, *case) for make, cases in REFUSED.items() for case in cases]
)
def test_an_option_out_of_range_is_refused(make: Any, options: dict[str, Any], message: str) -> None:
    with pytest.raises(VemError, match=message):
        make(**options)
