"""``vem.measure``: the instrument for a model that was trained elsewhere."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from os import PathLike
from pathlib import Path
from typing import Any

import torch
import yaml
from numpy.typing import NDArray
from torch import Tensor

from vem import assess, command, records
from vem.contracts import Batch, GenerativeModel
from vem.errors import VemError, choice
from vem.evaluation.foreign.borrowed import as_data, can_sample, module_of, name_of, prior_draws
from vem.evaluation.foreign.encoder import ForeignEncoder
from vem.evaluation.foreign.model import foreign_model
from vem.evaluation.foreign.normalization import check_likelihood
from vem.evaluation.instrument import Result, SplitData, snake
from vem.evaluation.settings import Evaluation
from vem.noise import fill, generator
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
            VemError: a result lies there already and ``overwrite`` is False, a run of ``python -m vem.run``, or
                the folder cannot be written.
        """
        path = _folder(directory)
        if (path / records.RUN).exists() and not overwrite:
            raise VemError(f"{path} holds a result already: name another folder, or save(…, overwrite=True).")
        config = {"evaluation": self.section, "seed": self.facts["seed"]}
        records.write_text(path / records.CONFIG, yaml.safe_dump(config, sort_keys=False, allow_unicode=True))
        assess.write(path, Result(self.evaluation, self.per_datum, self.arrays, {}, {}), {})
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
        known = "log p(x)" if bound.get("upper") else "log p(x) from below"
        named = {"ELBO L[q]": numbers["elbo"]}
        for name, found in numbers.get("families", {}).items():
            named[f"best ELBO L[q*], {name}"] = found["best_elbo"]
        named[f"{known}, {bound.get('kind')}"] = bound.get("lower")
        named |= {f"{name} gap": gap for name, gap in numbers.get("gaps", {}).items()}
        for name, found in numbers.get("families", {}).items():
            if not found["own"]:
                named[f"approximation gap, {name}"] = found["approximation"]
        return [[split, name, *_cells(entry)] for name, entry in named.items() if entry]


def _folder(directory: str | PathLike[str]) -> Path:
    """The directory, made if it is not there.

    Raises:
        VemError: it cannot be made, or it is that of a run, whose record must not be lost.
    """
    path = Path(directory)
    if any((path / name).exists() for name in (records.CHECKPOINT, records.OVERRIDES)):
        raise VemError(f"{path} is the directory of a run of python -m vem.run: name another one.")
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise records.unwritable(path, error) from error
    return path


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
    section = _section(evaluation)
    place = None if directory is None else _folder(directory)
    data = _data(x, likelihood if module_of(likelihood) else decoder)
    first = next(iter(data.values()))
    strategy: Any = NoEncoder() if encoder is None else ForeignEncoder(encoder, first)
    size = latent_dim if latent_dim is not None else getattr(strategy, "latent_dim", None)
    model = foreign_model(decoder, likelihood, first, latent_dim=size, scale=scale, log_prior=log_prior)
    for part in data.values():
        _normalized(model, part, likelihood)
    section = _fitting(section, evaluation, model, strategy, data)
    settings: Evaluation = instantiate(section, "evaluation")
    state = _state(model, strategy, data)
    found = _measured(model, strategy, section, settings, seed, place, state, data, progress)
    facts = {
        "status": "done", "error": None, "config_hash": state[:16], "seed": seed, "family": _family(strategy),
        "strategy": "no encoder" if encoder is None else table_name(encoder, "encoder"),
        "model": table_name(decoder, "decoder"), "data": f"own ({len(first)} data)",
        "likelihood": likelihood if isinstance(likelihood, str) else None, "latent_dim": model.latent_size,
        "versions": {"vem": VERSION}, "evaluation_seconds": found.seconds,
    }  # fmt: skip
    out = Measurement(found.evaluation, found.per_datum, found.arrays, facts, section)
    if place is not None:
        if assess.made_by(place) != found.evaluation["fingerprint"]:
            assess.set_aside(place)
        out.save(place, overwrite=True)
        assess.clear(place)
    if settings.strict:
        assess.refuse(found.evaluation, place)
    return out


def _measured(
    model: GenerativeModel, strategy: Any, section: Mapping[str, Any], settings: Evaluation, seed: int,
    place: Path | None, state: str, data: Mapping[str, Tensor], progress: bool,
) -> Result:  # fmt: skip
    remedy = assess.GOES_ON if place is not None else "nothing is kept without directory="
    splits = {name: SplitData(part, False) for name, part in data.items()}
    with stop_requests() as asked, assess.watching(progress, asked, remedy) as watch:
        return assess.instrument(model, strategy, section, settings, seed, place, state, watch, splits)


def _data(x: Any, source: Any) -> dict[str, Tensor]:
    """x by split, where ``source`` lies and in its type.

    Raises:
        VemError: no data, a split that is not known, or data of several shapes.
    """
    parts = dict(x) if isinstance(x, Mapping) else {"test": x}
    for name in parts:
        choice(name, records.SPLITS, "the split of x")
    data = {name: as_data(parts[name], source) for name in records.SPLITS if name in parts}
    shapes = {name: list(part.shape[1:]) for name, part in data.items()}
    if not shapes or any(shape != next(iter(shapes.values())) for shape in shapes.values()):
        raise VemError(f"x holds {shapes or 'nothing'}: give data [N, *X], of one shape in all splits.")
    return data


def table_name(source: Any, otherwise: str) -> str:
    """What it is called in tables: a lambda has no name of its own.

    >>> table_name(lambda x: x, "encoder"), table_name(torch.nn.Linear(1, 1), "encoder")
    ('encoder', 'Linear')
    """
    name = name_of(source).rsplit(".", 1)[-1]
    return otherwise if name == "<lambda>" else name


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


def _section(evaluation: str | Sequence[str]) -> dict[str, Any]:
    """The ``evaluation`` section of the config for these overrides.

    Raises:
        VemError: an override that is not understood or sets something else, or a section that measures nothing.
    """
    overrides = _overrides(evaluation)
    command.only(overrides, ("evaluation",), "A model that is trained elsewhere has no other settings.")
    section: dict[str, Any] = command.composed(overrides)["evaluation"]
    settings: Evaluation = instantiate(section, "evaluation")
    if not settings.num_data:
        raise VemError("evaluation.num_data=0 measures nothing: evaluation=quick|gaps|full does.")
    return section


def _overrides(evaluation: str | Sequence[str]) -> list[str]:
    return [f"evaluation={evaluation}"] if isinstance(evaluation, str) else list(evaluation)


def _fitting(
    section: Mapping[str, Any], evaluation: str | Sequence[str], model: Any, strategy: Any, splits: Iterable[str]
) -> dict[str, Any]:
    """The section less what this model cannot do, for the splits that there are."""
    out = dict(section)
    if not any(override.startswith("evaluation.splits") for override in _overrides(evaluation)):
        out["splits"] = list(splits)
    if out.get("simulated") is not None and not can_sample(model):
        log.info("no bidirectional Monte Carlo: this model cannot sample.")
        out["simulated"] = None
    if out.get("best") is not None and not out["families"] and getattr(strategy, "family", None) is None:
        # q of no family of vem's, or no q: the plainest family stands in.
        family = {"_target_": "vem.families.gaussian.DiagonalGaussian", "_partial_": True}
        out["families"] = {"diagonal_gaussian": family}
    return out


@torch.no_grad()
def _state(model: Any, strategy: Any, data: Mapping[str, Tensor]) -> str:
    """A hash of the data, of parameters, and of what the functions say of a few data: a closure hides the rest."""
    encoder = module_of(getattr(strategy, "encoder", None))
    parts: list[Any] = [dict(data), model.state_dict(), {} if encoder is None else encoder.state_dict()]
    for x in data.values():
        some = x[:8]
        z = prior_draws(2 * len(some), model.latent_size, some).reshape(2, len(some), -1)
        parts += [model.log_likelihood(some, z), model.log_prior(z)]
        if strategy.no_elbo is None:
            q = strategy.infer(model, Batch(some, None), {})
            parts += q.draws(fill({"z": q.noise(2)}, generator(x.device, "state"), x.dtype)["z"])
    return assess.state_hash(*parts)
