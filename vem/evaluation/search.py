"""The best q of each family for some data, the poorest family first."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import NamedTuple

import torch
from torch import Tensor

from vem.ascent.best import BestSettings, best_q
from vem.ascent.starting import mode_params, params_of, prior_params
from vem.contracts import Family, GenerativeModel, Posterior, Transported
from vem.errors import VemError
from vem.evaluation.measured import FamilyScores, Streams
from vem.evaluation.progress import Progress
from vem.evaluation.settings import Evaluation
from vem.families.gaussian import DiagonalGaussian, DiagonalGaussianPosterior, FullGaussian, FullGaussianPosterior

FAMILY_OF: tuple[tuple[type, Callable[[int], Family]], ...] = (
    (DiagonalGaussianPosterior, DiagonalGaussian),
    (FullGaussianPosterior, FullGaussian),
)


class Searched(NamedTuple):
    """The best q's of some data."""

    scores: dict[str, FamilyScores]
    posteriors: dict[str, Posterior]  # by family, the poorest first

    @property
    def richest(self) -> Transported | None:
        """The best q of the largest family that transports ε: where annealing and importance sampling start."""
        return next((q for q in reversed(self.posteriors.values()) if isinstance(q, Transported)), None)


def search(
    model: GenerativeModel, x: Tensor, posterior: Posterior | None, families: Mapping[str, Family],
    settings: BestSettings | None, streams: Streams, progress: Progress, stages: bool = True,
) -> Searched:  # fmt: skip
    """The best q of every family for x [B, *X]; ``posterior`` is the strategy's q, None where it has none.

    The poorest family starts at the strategy's q, at the prior and at a mode; a richer one at what was found before it:
    exactly there if it contains the poorer one, below which it then cannot end, up to noise, else at a q of its own
    with the same mean and spread. ``stages``: each family is a stage of the progress.
    """
    out = Searched({}, {})
    if settings is None:
        return out
    for name, family in sorted(families.items(), key=lambda item: item[1].num_params):
        if stages:
            progress.stage(f"best {name}")
        stream = streams(f"best {name}")
        # Where the best q of the strategy's own kind is known, its q has nothing to add.
        surpassed = any(type(best) is type(posterior) for best in out.posteriors.values())
        known = {**({} if posterior is None or surpassed else {"q": posterior}), **out.posteriors}
        starts = {key: params_of(family, q, stream, x.dtype) for key, q in known.items()}
        spent = torch.zeros(len(x), device=x.device)
        if not out.posteriors:
            starts["prior"] = prior_params(family, x)
            starts["mode"], raised = mode_params(model, family, x, stream)
            spent = spent + raised
        found = best_q(model, family, x, starts, settings, stream, progress.tick)
        scores = FamilyScores(**{name: getattr(found, name) for name in FamilyScores._fields})
        out.scores[name] = scores._replace(
            steps=found.steps.double(), converged=found.converged.double(),
            decoder_gradients=found.decoder_gradients + spent,
        )  # fmt: skip
        out.posteriors[name] = family(found.params)
    return out


def snake(name: str) -> str:
    """The name of a class as a config writes it.

    >>> snake("DiagonalGaussian")
    'diagonal_gaussian'
    """
    return "".join(f"_{c.lower()}" if c.isupper() and i else c.lower() for i, c in enumerate(name))


def families_of(
    posterior: Posterior | None, own: Family | None, size: int, settings: Evaluation
) -> tuple[dict[str, Family], str | None]:
    """The families in which q* is searched, by name, and the name of the strategy's own: the one it names, or q's."""
    out = {name: make(size) for name, make in settings.families.items()}
    if own is None:
        own = next((make(size) for kind, make in FAMILY_OF if isinstance(posterior, kind)), None)
    if own is None or settings.best is None:
        return out, None
    name = snake(type(own).__name__)
    return {**out, name: own}, name


def check_families(families: Mapping[str, Family], x: Tensor, settings: Evaluation) -> None:
    """Whether annealing can start at one of these families, said before the long search for their best q.

    Raises:
        VemError: none of them transports ε, which the whitened coordinates of annealing need.
    """
    if settings.annealing is None or settings.annealing.start != "best" or not families or not len(x):
        return
    if not any(isinstance(family(prior_params(family, x[:1])), Transported) for family in families.values()):
        raise VemError(
            f"annealing from q* moves in the coordinates ε of q, and {', '.join(families)} has no transport(ε): write "
            "that method, add a family that has one (+evaluation.families.NAME=…), or set evaluation.annealing=null."
        )
