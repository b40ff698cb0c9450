"""Maximum likelihood of probabilistic PCA and factor analysis, from the covariance of the data alone.

Everything here is float64 on the host. Columns are standardized first, since rounding is relative to the largest
of what is added: a covariance whose columns differ by 1e10 has no correct digit in its small eigenvalues.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from vem.families.gaussian import LOG_2PI

Array = NDArray[np.float64]
Units = Callable[[Tensor], Tensor]  # a part of x [B, D] in the units of the model, float64

CHUNK = 4096
GRADED = 1e3  # largest / smallest standard deviation above which eigenvalues are found by Jacobi's rotations
STARTS = 10  # random starts of factor analysis
HEYWOOD = 20  # and as many where one variance starts small: local maxima differ in which of them run to the floor
LEAST = 1e-8  # of a column's variance: below, the likelihood gains nothing, and its rounding, eps / ψ, hides its slope
FEW = 100  # columns; above, a start costs seconds, and there are fewer of them


class Scatter(NamedTuple):
    """The covariance of data, diag(scale) FᵀF diag(scale), with the unit diagonal of FᵀF."""

    mean: Array  # [D]
    scale: Array  # [D] standard deviations; 0 of a constant column
    factor: Array  # [r, D], a column of zeros where the scale is 0


class Fit(NamedTuple):
    """Parameters of the model and their mean log p(x) over the data, nats."""

    weight: Array  # [D, H]
    bias: Array  # [D]
    noise: Array  # [D] variances
    log_marginal: float


def scatter(x: Tensor, units: Units) -> Scatter:
    """The covariance of the data x [N, D], read in parts: no float64 copy of x is made unless N < D."""
    parts = torch.split(x, CHUNK)
    mean = sum(units(part).sum(0) for part in parts) / len(x)
    assert isinstance(mean, Tensor)
    low, high = torch.aminmax(x, dim=0)
    square = sum((units(part) - mean).square().sum(0) for part in parts) / len(x)
    assert isinstance(square, Tensor)
    scale = torch.where(low < high, square, 0.0).sqrt()
    inverse = torch.where(scale > 0, 1 / scale, 0.0)
    if len(x) < x.shape[1]:
        return Scatter(_host(mean), _host(scale), _host((units(x) - mean) * inverse / len(x) ** 0.5))
    total = torch.zeros(len(scale), len(scale), dtype=torch.float64, device=x.device)
    for part in parts:
        u = (units(part) - mean) * inverse
        total += u.T @ u
    return Scatter(_host(mean), _host(scale), _root(_host(total / len(x))))


def _host(values: Tensor) -> Array:
    return values.double().cpu().numpy()


def _root(matrix: Array) -> Array:
    """F with FᵀF = the positive semidefinite matrix."""
    try:
        return np.asarray(np.linalg.cholesky(matrix).T, dtype=np.float64)
    except np.linalg.LinAlgError:
        values, vectors = np.linalg.eigh(matrix)
        return np.sqrt(values.clip(0))[:, None] * vectors.T


def principal_components(found: Scatter, latent: int, floor: float, noise: float | None = None) -> Fit:
    """Maximum likelihood of probabilistic PCA with a noise variance of at least ``floor``, or of just ``noise``.

    W = U_H (Λ_H − ψ I)^½, ψ = max(floor, the mean of the D − H smallest eigenvalues of the covariance). With H ≥ D
    the noise is not identified: then as with H = D − 1, which gives the same covariance, and columns of zeros.

    Source: Tipping and Bishop, 1999, eq. 7–8.
    """
    size = len(found.scale)
    kept = min(latent, size - 1)
    values, vectors = _spectrum(found.factor * found.scale, found.scale, kept)
    if noise is None:
        noise = max(float(values[kept:].sum()) / (size - kept), floor)
    weight = np.zeros((size, latent))
    top = values[:kept]
    weight[:, : len(top)] = vectors * np.sqrt((top - noise).clip(0))
    fitted = np.concatenate([np.maximum(top, noise), np.full(size - len(top), noise)])
    exponent = (top / fitted[: len(top)]).sum() + values[kept:].sum() / noise
    value = -0.5 * (size * LOG_2PI + np.log(fitted).sum() + exponent)
    return Fit(weight, found.mean, np.full(size, noise), float(value))


def _spectrum(root: Array, scale: Array, kept: int) -> tuple[Array, Array]:
    """Eigenvalues of rootᵀ root, falling, and the eigenvectors [D, kept] of the first of them.

    Where the columns differ much in scale by one-sided Jacobi rotations, which keep the digits of the small ones.
    Source: Demmel and Veselić, 1992; Drmač and Veselić, 2008.
    """
    from scipy.linalg import lapack

    rows, size = root.shape
    positive = scale[scale > 0]
    if len(positive) and positive.max() > GRADED * positive.min():
        tall = root if rows >= size else root.T
        # joba=3 ("G"): both rows and columns may be graded. jobu=jobv=0: all of either side's vectors.
        values, left, right, work, _, info = lapack.dgejsv(np.asfortranarray(tall), joba=3, jobu=0, jobv=0)
        if info == 0:
            values = values * (work[1] / work[0])
            vectors = right if rows >= size else left
            return values**2, vectors[:, : min(kept, vectors.shape[1])]
    if rows >= size:
        values, vectors = np.linalg.eigh(root.T @ root)
        return values[::-1].clip(0), vectors[:, ::-1][:, :kept]
    values, left = np.linalg.eigh(root @ root.T)
    values, left = values[::-1].clip(0), left[:, ::-1][:, :kept]
    vectors = root.T @ left
    norms = np.linalg.norm(vectors, axis=0)
    return values, vectors / np.where(norms > 0, norms, 1)


def factor_analysis(found: Scatter, latent: int, floor: float, rng: np.random.Generator, restarts: int = 1) -> Fit:
    """The best that several starts reach in factor analysis with noise variances of at least ``floor``.

    The likelihood at the best W for given noise is a function of the noise alone; a quasi-Newton method climbs it.

    Source: Jöreskog, 1967, §3–5; Lawley and Maxwell, 1971, ch. 4.
    """
    used = found.scale > 0
    problem = _Profile(found.factor[:, used], latent, np.maximum(floor / found.scale[used] ** 2, LEAST))
    noise = problem.best(rng, restarts) if used.any() else np.zeros(0)
    loadings = problem.weight(noise)
    weight, psi = np.zeros((len(used), latent)), np.full(len(used), floor)
    weight[used] = loadings * found.scale[used, None]
    psi[used] = noise * found.scale[used] ** 2
    constant = -0.5 * (len(used) - int(used.sum())) * (LOG_2PI + np.log(floor))
    value = problem.value(noise) - np.log(found.scale[used]).sum() + constant
    return Fit(weight, found.mean, psi, float(value))


def best_at_noise(found: Scatter, latent: int, noise: Array) -> float:
    """The mean log p(x) of factor analysis at the best W and b for these noise variances [D]."""
    used = found.scale > 0
    problem = _Profile(found.factor[:, used], latent, noise[used] / found.scale[used] ** 2)
    rest = -0.5 * (LOG_2PI + np.log(noise[~used])).sum()
    return float(problem.value(problem.floor) - np.log(found.scale[used]).sum() + rest)


class _Profile:
    """max_W of the mean log-likelihood of factor analysis, for standardized columns, as a function of log ψ.

    −½ (D log 2π + Σ log ψ + tr(Ψ⁻¹ R) + Σ_{h ≤ H} (log λ_h + 1 − λ_h)), λ_h > 1 the eigenvalues of Ψ^−½ R Ψ^−½.
    """

    def __init__(self, factor: Array, latent: int, floor: Array) -> None:
        self.factor, self.latent, self.floor = factor, min(latent, *factor.shape), floor
        self.width = latent
        self.diagonal = np.square(factor).sum(0)
        rows, size = factor.shape
        self.wide = rows < size
        self.matrix = np.zeros((0, 0)) if self.wide else factor.T @ factor

    def _eigen(self, noise: Array) -> tuple[Array, Array]:
        """The H largest eigenvalues and their vectors [D, H]."""
        inverse = 1 / np.sqrt(noise)
        if self.wide:
            scaled = self.factor * inverse
            values, left = _largest(scaled @ scaled.T, self.latent)
            vectors = scaled.T @ left
            return values, vectors / np.linalg.norm(vectors, axis=0).clip(np.finfo(float).tiny)
        return _largest(self.matrix * inverse * inverse[:, None], self.latent)

    def __call__(self, log_noise: Array) -> tuple[float, Array]:
        """Twice minus the likelihood, less its constant, and the gradient."""
        noise = np.exp(log_noise)
        values, vectors = self._eigen(noise)
        over = values > 1
        values, vectors = values[over], vectors[:, over]
        ratio = self.diagonal / noise
        value = log_noise.sum() + ratio.sum() + (np.log(values) + 1 - values).sum()
        return float(value), 1 - ratio + np.square(vectors) @ (values - 1)

    def value(self, noise: Array) -> float:
        """The mean log-likelihood at these noise variances."""
        return -0.5 * (self(np.log(noise))[0] + len(noise) * LOG_2PI) if len(noise) else 0.0

    def weight(self, noise: Array) -> Array:
        """The best W [D, H] at these noise variances."""
        weight = np.zeros((len(noise), self.width))
        if len(noise):
            values, vectors = self._eigen(noise)
            weight[:, : len(values)] = np.sqrt(noise)[:, None] * vectors * np.sqrt((values - 1).clip(0))
        return weight

    def best(self, rng: np.random.Generator, restarts: int) -> Array:
        """The noise variances with the highest likelihood over all starts."""
        climbed = [self._climb(start, 60) for start in self._starts(rng, restarts)]
        climbed.sort(key=lambda pair: pair[0])
        ends = [self._finish(noise) for _, noise in climbed[:5]]
        return np.exp(min(ends, key=lambda pair: pair[0])[1])

    def _climb(self, log_noise: Array, steps: int) -> tuple[float, Array]:
        from scipy import optimize

        bounds = optimize.Bounds(np.log(self.floor), np.maximum(np.log(self.floor), 0.0))
        start = log_noise.clip(bounds.lb, bounds.ub)
        options = {"maxiter": steps, "ftol": 1e-13, "gtol": 1e-9, "maxcor": 20}
        found = optimize.minimize(self, start, jac=True, method="L-BFGS-B", bounds=bounds, options=options)
        return float(found.fun), found.x

    def _finish(self, log_noise: Array) -> tuple[float, Array]:
        """Climb to the end; small variances, where log ψ has hardly a slope, are tried at the floor and above it."""
        best = self._climb(log_noise, 2000)
        small = best[1] < np.log(0.01)
        which = [small, *(np.arange(len(small)) == i for i in np.flatnonzero(small))] if small.any() else []
        for moved in which:
            for value in (np.log(self.floor), np.full(len(small), np.log(0.02))):
                best = min(best, self._climb(np.where(moved, value, best[1]), 2000), key=lambda pair: pair[0])
        return best

    def _starts(self, rng: np.random.Generator, restarts: int) -> list[Array]:
        """Jöreskog's start, all noise, random ones, and ones where a single variance is small."""
        size = len(self.floor)
        rows, _ = self.factor.shape
        gram = self.factor @ self.factor.T if self.wide else self.matrix
        ridge = 1e-6 * np.eye(min(rows, size) if self.wide else size)
        if self.wide:  # (R + εI)⁻¹ by Woodbury's identity
            solved = np.linalg.solve(gram + ridge, self.factor)
            partial = (1 - (self.factor * solved).sum(0)) / 1e-6
        else:
            partial = np.linalg.inv(gram + ridge).diagonal()
        unexplained = np.log(((1 - 0.5 * min(self.latent / size, 1)) / partial).clip(1e-6, 1))
        few = size <= FEW
        out = [unexplained, np.zeros(size)]
        out += [np.log(rng.uniform(1e-3, 1, size)) for _ in range((STARTS if few else 2) * restarts)]
        for i in rng.permutation(size)[: HEYWOOD if few else 0]:
            out.append(np.where(np.arange(size) == i, np.log(1e-3), unexplained))
        return out


def _largest(matrix: Array, number: int) -> tuple[Array, Array]:
    """The largest eigenvalues of a symmetric matrix, falling, and their vectors."""
    from scipy import linalg

    size = len(matrix)
    if size <= 64 or 3 * number > size:
        values, vectors = np.linalg.eigh(matrix)
    else:
        values, vectors = linalg.eigh(matrix, subset_by_index=(size - number, size - 1), check_finite=False)
    return values[::-1][:number].clip(1e-300), vectors[:, ::-1][:, :number]
