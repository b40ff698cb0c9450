"""What passes between the rooms of the instrument, from the settings to what is written.

======================  ======================================================================================
``Evaluation``          the settings (:mod:`vem.evaluation.settings`)
``SplitScores``         L[q] of each data point of a split (:mod:`vem.evaluation.elbo`)
``FamilyScores``        the best q of one family, for each data point
``Measured``            all of one split: its ``SplitScores``, ``FamilyScores`` and bounds on log p(x)
``Result``              what is written of all splits; ``vem.measure`` gives it back as a ``Measurement``
======================  ======================================================================================
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import torch
from numpy.typing import NDArray
from torch import Tensor

from vem.contracts import LogMarginal
from vem.evaluation.elbo import SplitScores
from vem.evaluation.progress import Piece

Streams = Callable[[str], torch.Generator]  # a stream of noise of its own for each purpose
MC_VARIANCE = "mc_variance"  # in LogMarginal.diagnostics: [N] Monte Carlo variance of its lower bound
START = "start"  # in LogMarginal.diagnostics of annealing: [N] where it started, a place in
STARTS = ("q*", "modes", "prior")
MODES = "modes"  # in LogMarginal.diagnostics of annealing: [N] modes of p(z | x) that were found
MORE = "more_modes"  # in LogMarginal.diagnostics of annealing: [N] 1 where the search ended while it found more
ESS = "ess"  # in LogMarginal.diagnostics: [N] effective samples behind it


class FamilyScores(NamedTuple):
    """The best q of one family for each data point at frozen θ; every field [N], nats where it is a bound."""

    elbo: Tensor  # L[q*], on noise that neither found nor picked it
    mc_variance: Tensor  # of elbo
    certificate: Tensor  # what as many steps again, on fresh noise, still gained
    certificate_variance: Tensor  # Monte Carlo variance of that gain
    start_spread: Tensor  # best less worst screened start after the screening
    gradient_norm: Tensor  # of L in λ at q*, in the units of the family's natural coordinates where it has them
    steps: Tensor  # ascent steps taken
    converged: Tensor  # 1 where the certificate, with its error, is below the tolerance, else 0
    decoder_gradients: Tensor | None = None  # spent on the search


class Measured(NamedTuple):
    """One split, measured; on the host, float64, rows in the order of ``scores.rows``."""

    scores: SplitScores
    families: Mapping[str, FamilyScores] = {}  # by the family's name; empty where no q* was searched for
    own: str | None = None  # the name of the strategy's own family, if it is among them
    gap_name: str = "optimization"  # "amortization" for an encoder, "optimization" for stored or ascended λ
    log_marginal: LogMarginal | None = None  # the one that the gaps are taken from, by a rule fixed beforehand
    others: Mapping[str, LogMarginal] = {}  # further ones shown beside it: "importance", "prior"
    everything: SplitScores | None = None  # L[q] of more data than the rest is about, those of ``scores`` included


@dataclass(frozen=True)
class Result:
    """What is written."""

    evaluation: dict[str, Any]  # evaluation.json
    per_datum: list[dict[str, Any]]  # per_datum.csv, a row for each data point
    arrays: dict[str, NDArray[Any]]  # further arrays for pictures.npz
    seconds: dict[str, float] = field(default_factory=dict, kw_only=True)  # of each stage


def as_piece(value: Any) -> Any:
    """What was measured as nested dicts of tensors on the host."""
    if isinstance(value, Tensor):
        return value.detach().cpu()
    if isinstance(value, tuple) and hasattr(value, "_asdict"):
        value = value._asdict()
    return {key: as_piece(part) for key, part in value.items()} if isinstance(value, Mapping) else value


def from_pieces(pieces: Sequence[Piece]) -> Measured:
    """The way back from :func:`as_piece`, of pieces of consecutive data."""
    whole = join(pieces)
    bound = whole["log_marginal"]
    return Measured(**whole | {
        "scores": SplitScores(**whole["scores"]),
        "families": {name: FamilyScores(**part) for name, part in whole["families"].items()},
        "log_marginal": None if bound is None else LogMarginal(**bound),
        "others": {name: LogMarginal(**part) for name, part in whole["others"].items()},
    })  # fmt: skip


def join(pieces: Sequence[Any]) -> Any:
    """Pieces of consecutive data as one: [B] and [T, B] along the data, a scalar's mean, a text's first."""
    first = pieces[0]
    if isinstance(first, Mapping):
        return {key: join([piece[key] for piece in pieces]) for key in first}
    if not isinstance(first, Tensor):
        return first
    return torch.stack(list(pieces)).double().mean() if first.dim() == 0 else torch.cat(list(pieces), -1)
