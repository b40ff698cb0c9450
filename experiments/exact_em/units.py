"""Exact EM on random units: probabilistic PCA against its closed form, factor analysis against scikit-learn.

``python experiments/exact_em/units.py [--scalings 20] [--part ppca|fa]`` scales the columns of five tables by 10^u, u
uniform on −4 … 6, trains with two seeds in float32 and float64, and prints a table: of probabilistic PCA the largest
distance to the closed form (eigenvalues with 60 digits), of factor analysis the least lead over scikit-learn's best of
ten random noise starts (tol 1e-8, on standardized columns, noise floor 1e-12), and of both the largest difference
between seeds; nats per datum of train log p(x).
"""

from __future__ import annotations

import argparse
import time
import warnings

import mpmath
import numpy as np
import torch
from sklearn import datasets
from sklearn.decomposition import FactorAnalysis
from sklearn.exceptions import ConvergenceWarning

from vem.data.dataset import Data, Split
from vem.models.linear_gaussian import LinearGaussian
from vem.objectives.elbo import ELBO
from vem.strategies.exact_em import ExactEM
from vem.training.fit import fit
from vem.training.schedules import Constant
from vem.training.settings import Training

SEEDS = (0, 1)


def tables() -> dict[str, np.ndarray]:
    """The five tables."""
    r = np.random.default_rng(2)
    return {
        "wine": datasets.load_wine().data,
        "breast cancer": datasets.load_breast_cancer().data,
        "iris": datasets.load_iris().data,
        "diabetes": datasets.load_diabetes(scaled=False).data,
        "example": r.normal(size=(400, 2)) @ r.normal(size=(2, 6)) + 0.3 * r.normal(size=(400, 6)),
    }


def closed_form(x: np.ndarray, latent: int) -> float:
    """Tipping and Bishop, 1999, eq. 7, with 60 digits."""
    with mpmath.workdps(60):
        num, size = x.shape
        columns = [[mpmath.mpf(v) for v in column] for column in x.T.tolist()]
        columns = [[v - mpmath.fsum(column) / num for v in column] for column in columns]
        covariance = mpmath.matrix(size, size)
        for i in range(size):
            for j in range(i + 1):
                covariance[i, j] = covariance[j, i] = mpmath.fdot(columns[i], columns[j]) / num
        values = sorted(mpmath.eigsy(covariance, eigvals_only=True), reverse=True)
        noise = mpmath.fsum(values[latent:]) / (size - latent)
        log_det = mpmath.fsum(map(mpmath.log, values[:latent])) + (size - latent) * mpmath.log(noise)
        return float(-(size * (mpmath.log(2 * mpmath.pi) + 1) + log_det) / 2)


def best_of_scikit_learn(x: np.ndarray, latent: int) -> float:
    """The best mean log p of ten random starts on standardized columns."""
    columns, rng = (x - x.mean(0)) / x.std(0), np.random.default_rng(0)
    starts = [rng.uniform(0.01, 1, x.shape[1]) for _ in range(10)]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        judges = [FactorAnalysis(latent, tol=1e-8, max_iter=5000, svd_method="lapack", noise_variance_init=s)
                  for s in starts]  # fmt: skip
        return float(max(judge.fit(columns).score(columns) for judge in judges))


def trained(x: np.ndarray, latent: int, noise: str, dtype: torch.dtype, seed: int) -> tuple[float, bool]:
    """The mean log p(x) that a run of exact EM ends with, and whether it converged."""
    data = torch.as_tensor(x).to(dtype)
    split = Split(data[:2])
    floor = 1e-12 if noise == "diagonal" else 1e-6
    model = LinearGaussian((x.shape[1],), latent, noise=noise, noise_floor=floor, standardize="auto").to(dtype)
    settings = Training(1000, 100, 1e-3, Constant(), valid_data=0)
    progress = fit(model, ExactEM(ELBO(), start="closed"), Data("table", Split(data), split, split, "real"), settings,
                   seed=seed, progress_bar=False)  # fmt: skip
    with torch.no_grad():
        return float(model.log_marginal(data).double().mean()), progress.converged


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--scalings", type=int, default=20)
    parser.add_argument("--part", choices=("ppca", "fa"), default=None)
    args = parser.parse_args()
    print("| model | table | latent_dim | dtype | runs | to the judge | between seeds | converged | seconds |")
    print("| --- | --- | --- | --- | --- | --- | --- | --- | --- |")
    for noise in ("isotropic", "diagonal"):
        if args.part not in (None, "ppca" if noise == "isotropic" else "fa"):
            continue
        for name, x in tables().items():
            for latent in (2, 3):
                judge = best_of_scikit_learn(x, latent) if noise == "diagonal" else 0.0
                for dtype in (torch.float32, torch.float64):
                    started, worst, apart, ends = time.monotonic(), 0.0, 0.0, []
                    for key in range(args.scalings):
                        scaled = x * 10 ** np.random.default_rng(key).uniform(-4, 6, x.shape[1])
                        found = [trained(scaled, latent, noise, dtype, seed) for seed in SEEDS]
                        values = [value for value, _ in found]
                        ends += [converged for _, converged in found]
                        apart = max(apart, max(values) - min(values))
                        if noise == "isotropic":
                            read = torch.as_tensor(scaled).to(dtype).double().numpy()
                            worst = max(worst, *(abs(v - closed_form(read, latent)) for v in values[:1]))
                        else:
                            leads = [v + float(np.log(scaled.std(0)).sum()) - judge for v in values]
                            worst = min(leads) if key == 0 else min(worst, *leads)
                    kind = "pPCA" if noise == "isotropic" else "factor analysis"
                    print(f"| {kind} | {name} | {latent} | {str(dtype)[6:]} | {len(ends)} | {worst:.1e} | "
                          f"{apart:.1e} | {sum(ends)} | {time.monotonic() - started:.0f} |", flush=True)  # fmt: skip


if __name__ == "__main__":
    main()
