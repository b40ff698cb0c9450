"""What is known of each evaluated datum of a split: the tuples that the rooms of the instrument pass on."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from torch import Tensor

from vem.contracts import LogMarginal
from vem.evaluation.elbo import SplitScores

MC_VARIANCE = "mc_variance"  # in LogMarginal.diagnostics: [N] Monte Carlo variance of its lower bound
START = "start"  # in LogMarginal.diagnostics of annealing: [N] where it started, a place in
STARTS = ("q*", "modes", "prior")
MODES = "modes"  # in LogMarginal.diagnostics of annealing: [N] modes of p(z | x) that were found
MORE = "more_modes"  # in LogMarginal.diagnostics of annealing: [N] 1 where the search ended while it found more
ESS = "ess"  # in LogMarginal.diagnostics: [N] effective samples behind it


class FamilyScores(NamedTuple):
    """The best q of one family for each datum at frozen θ; every field [N], nats where it is a bound."""

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
    families: Mapping[str, FamilyScores] = {}  # by the family's name; empty where no best q was sought
    own: str | None = None  # the name of the strategy's own family, if it is among them
    gap_name: str = "optimization"  # "amortization" for an encoder, "optimization" for stored or ascended rows
    log_marginal: LogMarginal | None = None  # the one that the gaps are taken from, by a rule fixed beforehand
    others: Mapping[str, LogMarginal] = {}  # further ones shown beside it: "importance", "prior"
    everything: SplitScores | None = None  # L[q] of more data than the rest is about, those of ``scores`` included
