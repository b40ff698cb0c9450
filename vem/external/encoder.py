"""An encoder trained elsewhere: what it gives for a batch, as a q that vem can measure."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.distributions import Distribution

from vem.contracts import Batch, Family, GenerativeModel, Noise, NoiseSpec, PathPosterior, Posterior
from vem.errors import VemError
from vem.external.borrowed import as_data, called, few, frozen, name_of, noise_of, place
from vem.external.claims import check_claims
from vem.external.fields import pair_of
from vem.external.posteriors import TransportedPosterior, check_rows, from_distribution
from vem.families.gaussian import DiagonalGaussian, DiagonalGaussianPosterior, FullGaussian, FullGaussianPosterior

PROBES = 4  # data that are encoded at once and one by one
# Of log q at the same z, in nats: rounding in a batch of another size, magnified by a narrow q.
ROUNDING = (5e-2, 1e-2)  # absolute and relative
MEANT = (
    "an encoder maps x [B, *X] to (mean, log variance), each [B, H], to an object with fields of such names (loc and "
    "scale, mean and logvar, …), or to a torch.distributions object over [B, H]"
)


class ForeignEncoder:
    """q(z | x) of an encoder trained elsewhere, for the instrument, which only infers.

    ``encoder`` is a callable x [B, *X] → (mean, log variance), each [B, H], → an object whose fields name them
    (:mod:`vem.external.fields`), or → a torch.distributions object over [B, H]: Normal or
    Independent(Normal), which become vem's diagonal Gaussian; MultivariateNormal (also
    low-rank), the full Gaussian; a TransformedDistribution of one of them, kept as a transport of its noise; any
    other continuous distribution with log_prob, whose draws are seeded from the noise. A module, or a method of
    one, is copied and used in evaluation mode. x [N, *X]: data it is tried on.

    ``latent_dim`` is H; ``family`` the family of q, or None where it is none of vem's.

    Raises:
        VemError: an output of another shape or kind, with no variance or an infinite one, random, or dependent on
            which other data are in the batch.
    """

    no_elbo: str | None = None
    gap_name = "amortization"

    def __init__(self, encoder: Any, x: Any) -> None:
        self.name = name_of(encoder)
        if not callable(encoder):
            raise VemError(f"encoder={encoder!r} cannot be called: {MEANT}.")
        self.encoder = frozen(encoder)
        x = as_data(x, self.encoder)[:PROBES]
        q = self._posterior(x, None)
        # The mean stands for every kind of q: it has one row of H numbers for each data point.
        self.latent_dim = int(q.mean().shape[-1])
        kinds = ((DiagonalGaussianPosterior, DiagonalGaussian), (FullGaussianPosterior, FullGaussian))
        self.family: Family | None = next((make(self.latent_dim) for kind, make in kinds if isinstance(q, kind)), None)
        self._check_steady(x, q)
        check_claims(q, self.name, x)

    @torch.no_grad()
    def infer(self, model: GenerativeModel, batch: Batch, noise: Noise) -> Posterior:
        """The encoder's q for these data."""
        if model.latent_size != self.latent_dim:
            raise VemError(
                f"encoder={self.name} gives q over {self.latent_dim} latent dimensions, and the model has "
                f"latent_dim={model.latent_size}: do they belong together?"
            )
        return self._posterior(batch.x, batch.rows)

    def noise(self, batch_size: int, held_out: bool = False) -> dict[str, NoiseSpec]:
        """None is needed: an encoder answers at once."""
        return {}

    @torch.no_grad()
    def _posterior(self, x: Tensor, rows: Tensor | None) -> Posterior:
        failed = f"encoder={self.name} fails on x of shape {list(x.shape)}", f"Note: {MEANT}."
        output = called(self.encoder, x.to(*place(self.encoder, x)), failed=failed)
        named = pair_of(output, self.name)
        output = output if named is None else named
        known: Any = from_distribution if isinstance(output, Distribution) else _from_pair
        q: Posterior = known(output, x, self.name)
        _check_width(q, rows, self.name)
        return q

    def _check_steady(self, x: Tensor, q: Posterior) -> None:
        """The same q again, and for each data point alone: nothing random, no batch statistics."""
        z = q.draws(noise_of(q, 2, x, "encoder")).z
        value = _fingerprint(q, z)
        absolute, relative = ROUNDING

        def compare(other: Tensor, fault: str) -> None:
            if not bool(((other - value).abs() <= absolute + relative * value.abs()).all()):
                raise VemError(
                    f"encoder={self.name} {fault} in training mode? One λ for each datum is expected, which depends on "
                    "it alone: call eval() on the module behind it, or pass that module or a method of it as encoder=."
                )

        again = _fingerprint(self._posterior(x, None), z)
        compare(again, "is random: two calls on the same x give two q. Is there dropout")
        alone = [_fingerprint(self._posterior(x[[i]], None), z[:, [i]]) for i in range(len(x))]
        mixed = "gives a datum another q alone than in a batch. Are rows mixed up, or is there a batch norm"
        compare(torch.cat(alone, 1), mixed)


def _from_pair(output: Any, x: Tensor, name: str) -> DiagonalGaussianPosterior:
    if not isinstance(output, tuple | list) or len(output) != 2 or not all(isinstance(t, Tensor) for t in output):
        came = f"a {type(output).__name__}"
        if isinstance(output, Tensor):
            came = f"one tensor {list(output.shape)}. If it holds both, split it: lambda x: encoder(x).chunk(2, -1)"
        elif isinstance(output, tuple | list):
            kinds = ", ".join(str(list(t.shape)) if isinstance(t, Tensor) else type(t).__name__ for t in output)
            came = f"{len(output)} things ({kinds}). Pick the two: lambda x: encoder(x)[-2:], say"
        raise VemError(f"encoder={name} gives {came}; {MEANT}.")
    mean, log_variance = output
    if mean.shape != log_variance.shape:
        raise VemError(
            f"encoder={name} gives a mean {list(mean.shape)} and a log variance {list(log_variance.shape)}: both must "
            f"be [B, H], here [{len(x)}, H]."
        )
    check_rows(tuple(mean.shape), len(x), name)
    return DiagonalGaussianPosterior(mean.to(x), 0.5 * log_variance.to(x))


def _check_width(q: Posterior, rows: Tensor | None, name: str) -> None:
    """Raise where q is a point, flat or nowhere."""
    inner = q.base if isinstance(q, TransportedPosterior) else q
    if isinstance(inner, DiagonalGaussianPosterior):
        scale = inner.log_scale.exp()
    elif isinstance(inner, FullGaussianPosterior):
        scale = inner.scale_tril.diagonal(dim1=-2, dim2=-1)
    else:
        return  # looked at through its draws
    ends = torch.finfo(scale.dtype)
    wide = (scale >= ends.tiny) & (scale <= ends.max)  # false for NaN as well
    bad = ~(wide.all(-1) & q.mean().isfinite().all(-1))
    if bool(bad.any()):
        found = bad.nonzero().flatten() if rows is None else rows[bad]
        raise VemError(
            f"encoder={name} gives a q with zero, infinite or NaN variance, or no finite mean, for {int(bad.sum())} of "
            f"{len(bad)} data (rows {few(found)} of {'the batch' if rows is None else 'x'}): it has no ELBO. If the "
            "encoder gives the variance, take its log; clamp the log variance, to [-20, 20] say."
        )


def _fingerprint(q: Posterior, z: Tensor) -> Tensor:
    """log q(z) [S, B], or where q cannot tell, the sum of its mean."""
    return q.frozen_log_q(z) if isinstance(q, PathPosterior) else q.mean().sum(-1).expand(z.shape[:-1])
