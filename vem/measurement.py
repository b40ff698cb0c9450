"""``vem.measure``: the instrument for a model that was trained elsewhere."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np
import torch
import yaml
from numpy.typing import NDArray
from torch import Tensor

from vem import assess, command, records
from vem.contracts import Batch, GenerativeModel
from vem.errors import VemError, choice
from vem.evaluation.foreign.borrowed import as_data, can_sample, name_of
from vem.evaluation.foreign.encoder import ForeignEncoder
from vem.evaluation.foreign.model import foreign_model
from vem.evaluation.foreign.normalization import check_likelihood
from vem.evaluation.instrument import Result, SplitData, snake
from vem.evaluation.settings import Evaluation
from vem.noise import generator
from vem.report.checks import failed as failed_checks
from vem.report.figures import draw_run
from vem.report.table import align
from vem.targets import instantiate
from vem.training.signals import stop_requests
from vem.version import VERSION

log = logging.getLogger("vem")

KINDS = {"bernoulli": "binary", "bernoulli_probs": "binary", "gaussian": "real"}


class NoEncoder:
    """In the place of a strategy where no q was given: what can be had is the best q and log p(x)."""

    no_elbo = "no encoder was given"
    gap_name = "amortization"


@dataclass(frozen=True)
class Measurement:
    """What :func:`measure` found; ``print`` shows it as a table."""

    evaluation: dict[str, Any]  # the content of evaluation.json
    per_datum: list[dict[str, Any]]  # a row for each datum
    arrays: dict[str, NDArray[Any]]  # for the figures
    facts: dict[str, Any]  # what was measured
    section: dict[str, Any]  # the settings, as the config has them

    def save(self, directory: str | PathLike[str], overwrite: bool = False) -> Path:
        """Write a directory that ``python -m vem.report`` reads: the files of a run, less its training.

        Raises:
            VemError: a result lies there already and ``overwrite`` is False, or the folder cannot be written.
        """
        path = Path(directory)
        if (path / records.RUN).exists() and not overwrite:
            raise VemError(f"{path} holds a result already: name another folder, or save(…, overwrite=True).")
        try:
            path.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise records.unwritable(path, error) from error
        config = {"evaluation": self.section, "seed": self.facts["seed"]}
        records.write_text(path / records.CONFIG, yaml.safe_dump(config, sort_keys=False, allow_unicode=True))
        result = Result(self.evaluation, self.per_datum, self.arrays, {}, {})
        assess.write(path, result, {} if self.arrays else None)
        records.write_json(path / records.RUN, self.facts)
        draw_run(path)
        return path

    def __str__(self) -> str:
        """A line for each number: mean, standard error over data, Monte Carlo error, 95 % interval, nats."""
        rows = [row for split in records.SPLITS if split in self.evaluation for row in self._rows(split)]
        header = ["split", "nats per datum", "mean", "± data", "± Monte Carlo", "95 % interval"]
        lines = align(header, rows, [False, False, True, True, True, True])
        lines += [f"check failed: {sentence}" for sentence in failed_checks(self.evaluation)] or ["all checks passed"]
        return "\n".join(lines)

    def _rows(self, split: str) -> list[list[str]]:
        numbers = self.evaluation[split]
        bound = numbers.get("log_marginal") or {}
        named = {"ELBO L[q]": numbers["elbo"], "best ELBO L[q*]": numbers.get("best_elbo")}
        named[f"log p(x), {bound.get('kind', '')}"] = bound.get("lower")
        named |= {f"{name} gap": gap for name, gap in numbers.get("gaps", {}).items()}
        return [[split, name, *_cells(entry)] for name, entry in named.items() if entry]


def _cells(entry: Mapping[str, Any]) -> list[str]:
    numbers = [entry.get(key) for key in ("mean", "se", "mc_se")]
    if not isinstance(numbers[0], float):
        return ["undefined", "", "", ""]
    interval = entry.get("ci95")
    shown = f"[{interval[0]:.3f}, {interval[1]:.3f}]" if isinstance(interval, list) else ""
    return [*(f"{n:.3f}" if isinstance(n, float) else "–" for n in numbers), shown]


def measure(
    decoder: Any,
    *,
    x: Any,
    encoder: Any = None,
    likelihood: Any = None,
    scale: float | Tensor | None = None,
    latent_dim: int | None = None,
    log_prior: Callable[[Tensor], Tensor] | None = None,
    evaluation: str | Sequence[str] = "gaps",
    seed: int = 0,
    directory: str | PathLike[str] | None = None,
    progress: bool = True,
) -> Measurement:
    """Bounds, gaps, checks and diagnostics of a model that was trained elsewhere, in nats per datum.

    - ``decoder``: a module z [N, H] → [N, *X] with ``likelihood`` "bernoulli" (logits), "bernoulli_probs" or
      "gaussian" (with ``scale``); or an object with log_likelihood(x, z); or ``likelihood`` is a function
      (x [B, *X], z [S, B, H]) → log p(x | z) [S, B].
    - ``encoder``: x [B, *X] → (mean, log variance), each [B, H], or a torch.distributions object; None where
      only the best q and log p(x) are wanted.
    - ``x`` [N, *X], or {"train": …, "test": …}: then the gaps of both are compared.
    - ``evaluation``: quick, gaps or full, or a list of overrides: ["evaluation=gaps", "evaluation.num_data=200"].
    - ``directory``: where finished pieces of long work are kept, so that the same call goes on from them; the
      result is saved there.

    The user's modules stay as they are: vem measures copies, in evaluation mode.

    Raises:
        VemError: shapes that do not fit (what came, what was expected), a log-likelihood that does not
            normalize, numbers that are not finite, a q without variance, an unknown setting.
    """
    splits_x = dict(x) if isinstance(x, Mapping) else {"test": x}
    for name in splits_x:
        choice(name, records.SPLITS, "the split of x")
    source = likelihood if isinstance(likelihood, torch.nn.Module) else decoder
    data = {name: as_data(part, source) for name, part in splits_x.items()}
    first = next(iter(data.values()))
    strategy: Any = NoEncoder() if encoder is None else ForeignEncoder(encoder, first)
    size = latent_dim if latent_dim is not None else getattr(strategy, "latent_dim", None)
    model = foreign_model(decoder, likelihood, first, latent_dim=size, scale=scale, log_prior=log_prior)
    for part in data.values():
        _normalized(model, part, likelihood)
    section = _section(evaluation, model, strategy)
    settings: Evaluation = instantiate(section, "evaluation")
    splits = {name: SplitData(part, False) for name, part in data.items()}
    place = None if directory is None else Path(directory)
    state = _state(model, strategy, data)
    with stop_requests() as asked, assess.watching(progress, asked) as watch:
        if place is not None:
            place.mkdir(parents=True, exist_ok=True)
        found = assess.instrument(model, strategy, section, settings, seed, place, state, watch, splits)
    facts = {
        "status": "done", "error": None, "config_hash": state[:16], "seed": seed, "strategy": strategy_name(encoder),
        "model": name_of(decoder), "data": f"own ({len(first)} data)", "family": _family(strategy),
        "likelihood": likelihood if isinstance(likelihood, str) else None, "latent_dim": model.latent_size,
        "versions": {"vem": VERSION}, "evaluation_seconds": found.seconds,
    }  # fmt: skip
    out = Measurement(found.evaluation, found.per_datum, found.arrays, facts, section)
    if place is not None:
        out.save(place, overwrite=True)
    if settings.strict and failed_checks(found.evaluation):
        raise assess.ChecksFailed("; ".join(failed_checks(found.evaluation)))
    return out


def strategy_name(encoder: Any) -> str:
    """What the encoder is called in tables."""
    return "no encoder" if encoder is None else name_of(encoder)


def _family(strategy: Any) -> str | None:
    family = getattr(strategy, "family", None)
    return None if family is None else snake(type(family).__name__)


def _normalized(model: GenerativeModel, x: Tensor, likelihood: Any) -> None:
    """The cheap test of ∫ p(x | z) dx = 1.

    Raises:
        VemError: it fails, and by how much.
    """
    found = check_likelihood(model, x, KINDS.get(likelihood) if isinstance(likelihood, str) else None)  # type: ignore[arg-type]  # the kinds of KINDS
    if found.passed is False:
        raise VemError(f"log p(x | z) is no normalized log-density of x: {found.detail}")
    if found.passed is None:
        log.info("whether p(x | z) normalizes was not tested: %s", found.detail)


def _section(evaluation: str | Sequence[str], model: Any, strategy: Any) -> dict[str, Any]:
    """The ``evaluation`` section of the config for these overrides, less what this model cannot do.

    Raises:
        VemError: an override that is not understood.
    """
    overrides = [f"evaluation={evaluation}"] if isinstance(evaluation, str) else list(evaluation)
    section: dict[str, Any] = command.composed(overrides)["evaluation"]
    if section.get("simulated") is not None and not can_sample(model):
        log.info("no bidirectional Monte Carlo: this model cannot sample.")
        section["simulated"] = None
    if section.get("best") is not None and not section["families"] and getattr(strategy, "family", None) is None:
        # q of no family of vem's, or no q: the plainest family stands in.
        family = {"_target_": "vem.families.gaussian.DiagonalGaussian", "_partial_": True}
        section["families"] = {"diagonal_gaussian": family}
    return section


def _state(model: GenerativeModel, strategy: Any, data: Mapping[str, Tensor]) -> str:
    """A hash of the data, and of what the model and the encoder say of a few of them."""
    digest = hashlib.sha256()
    for name, x in data.items():
        digest.update(name.encode() + np.ascontiguousarray(x.cpu().numpy()).tobytes())
        some = x[:8]
        stream = generator(x.device, "state")
        z = torch.randn(2, len(some), model.latent_size, generator=stream, device=x.device, dtype=x.dtype)
        with torch.no_grad():
            digest.update(model.log_likelihood(some, z).cpu().numpy().tobytes())
            if strategy.no_elbo is None:
                q = strategy.infer(model, Batch(some, None), {})
                digest.update(q.mean().cpu().numpy().tobytes())
    return digest.hexdigest()
