"""``vem.measure``: the instrument for a model that was trained elsewhere."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Mapping, Sequence
from os import PathLike
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from vem import __version__
from vem.cli import measure as measuring
from vem.cli import messages
from vem.config.targets import check_targets, conform, instantiate
from vem.contracts import Batch, Family, GenerativeModel, Inference, Noise, NoiseSpec, Posterior
from vem.errors import VemError, choice
from vem.evaluation.instrument import SplitData
from vem.evaluation.measured import Result
from vem.evaluation.progress import drop_pieces
from vem.evaluation.search import snake
from vem.evaluation.settings import Evaluation
from vem.external.borrowed import as_data, can_sample, module_of, name_of, prior_draws
from vem.external.encoder import ForeignEncoder
from vem.external.measurement import Measurement, own_folder, read_measurement
from vem.external.model import foreign_model
from vem.external.normalization import check_likelihood, check_prior
from vem.external.raising import RAISED, raised
from vem.noise import fill, generator
from vem.storage import records, sealing
from vem.training.signals import stop_requests

log = logging.getLogger("vem")

KINDS = {"bernoulli": "binary", "bernoulli_probs": "binary", "gaussian": "real"}


class NoEncoder:
    """In the place of a strategy where no q was given: what can be had is the best q and log p(x)."""

    no_elbo: str | None = "no encoder was given"
    gap_name = "amortization"
    family: Family | None = None

    def noise(self, batch_size: int, held_out: bool = False) -> dict[str, NoiseSpec]:
        """None: there is nothing to infer with."""
        return {}

    def infer(self, model: GenerativeModel, batch: Batch, noise: Noise) -> Posterior:
        """There is no q."""
        raise VemError(f"{self.no_elbo}: there is no q to infer.")


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
    name: str | None = None,
    progress: bool = True,
) -> Measurement:
    """Bounds, gaps, checks and diagnostics of a model that was trained elsewhere, in nats per data point.

    - ``decoder``: a module z [N, H] → [N, *X] with ``likelihood`` "bernoulli" (logits), "bernoulli_probs" or
      "gaussian" (with ``scale``); or an object with log_likelihood(x, z); or ``likelihood`` is a function
      (x [B, *X], z [S, B, H]) → log p(x | z) [S, B].
    - ``encoder``: x [B, *X] → (mean, log variance), each [B, H], or a torch.distributions object; None where
      only the best q and log p(x) are wanted.
    - ``x`` [N, *X], or {"train": …, "test": …}: then the gaps of both are compared.
    - ``evaluation``: quick, brief, gaps or full, or overrides: ["evaluation=gaps", "evaluation.num_data=200"].
    - ``directory``: where finished pieces of long work are kept, so that the same call goes on from them; the
      result is saved there. Where it lies there already, it is read and given back.
    - ``name``: what the model is called in tables; else its class and the first digits of a hash.

    The user's modules stay as they are: vem measures copies, in evaluation mode.

    Raises:
        VemError: shapes that do not fit (what came, what was expected), a log-likelihood that does not
            normalize, numbers that are not finite, a q without variance, an unknown setting.
    """
    overrides = [f"evaluation={evaluation}"] if isinstance(evaluation, str) else list(evaluation)
    section = _section(overrides)
    conform(seed, int, "seed")
    place = None if directory is None else own_folder(directory)
    data = _data(x, likelihood if module_of(likelihood) else decoder)
    first = next(iter(data.values()))
    strategy = NoEncoder() if encoder is None else ForeignEncoder(encoder, first)
    size = latent_dim
    if size is None and isinstance(strategy, ForeignEncoder):
        size = strategy.latent_dim
    model = foreign_model(decoder, likelihood, first, latent_dim=size, scale=scale, log_prior=log_prior)
    not_tested = {name: _not_tested(model, part, likelihood) for name, part in data.items()}
    section = _fitting(section, overrides, model, strategy, data)
    settings: Evaluation = instantiate(section, "evaluation")
    state = _state(model, strategy, data)
    made = measuring.fingerprint(section, seed, state)
    if place is not None and measuring.made_by(place) == made and _whole(place):
        return read_measurement(place, section)
    found = _measured(model, strategy, section, settings, seed, place, state, data, progress)
    for name, said in not_tested.items():
        if name in found.evaluation and said:
            found.evaluation[name]["not_tested"] = said + found.evaluation[name].get("not_tested", [])
    facts = {
        "status": "done", "error": None, "config_hash": made[:16], "seed": seed,
        "family": None if strategy.family is None else snake(type(strategy.family).__name__),
        "strategy": "no encoder" if encoder is None else table_name(encoder, "encoder"),
        # The hash keeps two models apart that have a class in common: a report takes equal names for seeds of one.
        "model": name or f"{table_name(decoder, 'decoder')} {state[:6]}",
        "data": f"own {tuple(first.shape)} {measuring.state_hash(data)[:6]}", "device": first.device.type,
        "dtype": str(first.dtype).removeprefix("torch."), "threads": torch.get_num_threads(),
        "likelihood": likelihood if isinstance(likelihood, str) else None, "latent_dim": model.latent_size,
        "versions": {"vem": __version__, "torch": torch.__version__}, "evaluation_seconds": found.seconds,
        "raised": raised(model),
    }  # fmt: skip
    out = Measurement(found.evaluation, found.per_datum, found.arrays, facts, section)
    if place is not None:
        if measuring.made_by(place) != found.evaluation["fingerprint"]:
            measuring.archive(place)
        out.save(place, overwrite=True)
        drop_pieces(place)
    if settings.strict:
        measuring.refuse(found.evaluation, place)
    return out


def _whole(place: Path) -> bool:
    """Whether a complete result is there: no file is missing, or of another call that was killed."""
    path = place / records.RUN
    return path.exists() and not sealing.damage(place, records.read_json(path))


def _measured(
    model: GenerativeModel, strategy: Inference, section: Mapping[str, Any], settings: Evaluation, seed: int,
    place: Path | None, state: str, data: Mapping[str, Tensor], progress: bool,
) -> Result:  # fmt: skip
    remedy = measuring.GOES_ON if place is not None else "nothing is kept without directory="
    splits = {name: SplitData(part, False) for name, part in data.items()}
    try:
        with stop_requests() as asked, measuring.progressing(progress, asked, remedy) as work:
            return measuring.instrument(model, strategy, section, settings, seed, place, state, work, splits)
    except VemError as error:
        notes = raised(model)
        if type(error) is not VemError or not notes:  # a stop is one too
            raise
        raise VemError(f"{error} Note: {'; '.join(notes)}.") from error
    except RAISED as error:  # of the user's decoder, where no value of log p is asked
        raise VemError(
            f"the model raises while it is measured: {error}. The search and quadrature look at z far from the prior's "
            "bulk: clamp what over- or underflows in the decoder."
        ) from error


def _data(x: Any, source: Any) -> dict[str, Tensor]:
    """x by split, on the device of ``source`` and in its type; of one shape in all splits."""
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


def _not_tested(model: GenerativeModel, x: Tensor, likelihood: Any) -> list[str]:
    """What the cheap tests of ∫ p(x | z) dx = 1 and ∫ p(z) dz = 1, of a prior of the user's, could not tell.

    One that fails is a VemError, which says by how much.
    """
    kind: Any = KINDS.get(likelihood) if isinstance(likelihood, str) else None
    found, out = check_likelihood(model, x, kind), []
    if found.passed is False:
        raise VemError(f"log p(x | z) is no normalized log-density of x: {found.detail}")
    if not found.passed:
        why = found.detail.split(": ", maxsplit=1)[-1].rstrip(".")
        out.append(f"whether p(x | z) normalizes ({why})")
    if model.prior_kind != "standard_normal":
        prior = check_prior(model, x)
        if prior.passed is False:
            raise VemError(f"log p(z) is no normalized log-density of z: {prior.detail.replace('x', 'z')}")
        out += [] if prior.passed else ["whether p(z) normalizes"]
    return out


def _section(overrides: Sequence[str]) -> dict[str, Any]:
    """The ``evaluation`` section of the config for these overrides, which may set nothing else."""
    messages.only(overrides, ("evaluation",), "A model that is trained elsewhere has no other settings.")
    section: dict[str, Any] = messages.composed(overrides)["evaluation"]
    check_targets({"evaluation": section}, [])
    settings: Evaluation = instantiate(section, "evaluation")
    if not settings.num_data:
        raise VemError("evaluation.num_data=0 measures nothing: evaluation=quick|brief|gaps|full does.")
    return section


def _fitting(
    section: Mapping[str, Any], overrides: Sequence[str], model: Any, strategy: Inference, splits: Iterable[str]
) -> dict[str, Any]:
    """The section less what this model cannot do, for the splits that there are."""
    out = dict(section)
    if not any(override.startswith("evaluation.splits") for override in overrides):
        out["splits"] = list(splits)
    if out.get("simulated") is not None and not can_sample(model):
        log.info("no bidirectional Monte Carlo: this model cannot sample.")
        out["simulated"] = None
    if out.get("best") is not None and not out["families"] and strategy.family is None:
        # q of no family of vem's, or no q: the plainest family is used instead.
        family = {"_target_": "vem.families.gaussian.DiagonalGaussian", "_partial_": True}
        out["families"] = {"diagonal_gaussian": family}
    return out


@torch.no_grad()
def _state(model: Any, strategy: Inference, data: Mapping[str, Tensor]) -> str:
    """A hash of the data, of parameters, and of what the functions say of a few data: a closure hides the rest."""
    encoder = module_of(getattr(strategy, "encoder", None))
    parts: list[Any] = [dict(data), model.state_dict(), {} if encoder is None else encoder.state_dict()]
    for x in data.values():
        some = x[:8]
        z = prior_draws(2 * len(some), model.latent_size, some).reshape(2, len(some), -1)
        parts += [model.log_likelihood(some, z), model.log_prior(z)]
        if strategy.no_elbo is None:
            q = strategy.infer(model, Batch(some, None), {})
            spec = q.noise(2)
            assert spec is not None
            parts += q.draws(fill({"z": spec}, generator(x.device, "state"), x.dtype)["z"])
    return measuring.state_hash(*parts)
