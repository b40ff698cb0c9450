"""The instrument: from a model, a strategy and data to the content of evaluation.json."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from vem.contracts import Family, GenerativeModel, LogMarginal, Posterior, Strategy, TractableModel
from vem.errors import VemError
from vem.evaluation import gaps, kept
from vem.evaluation.bounds.annealing import with_starts
from vem.evaluation.bounds.simulated import simulated
from vem.evaluation.checks import as_json, check_all, not_judged, width_check
from vem.evaluation.diagnostics import diagnose
from vem.evaluation.elbo import BATCH, Inferred, inferred, joined, merged, score, scored, spread
from vem.evaluation.measured import FamilyScores, Measured
from vem.evaluation.pieces import QUADRATURE, Searched, check_families, log_marginal, others, richest, search
from vem.evaluation.planes import NUM_SHOWN, planes
from vem.evaluation.settings import Evaluation
from vem.evaluation.watch import Watch
from vem.families.gaussian import (
    DiagonalGaussian,
    DiagonalGaussianPosterior,
    FullGaussian,
    FullGaussianPosterior,
)
from vem.models.modes import evaluating
from vem.noise import generator

PRIOR_DRAWS = 5  # of the check that q is no worse than the prior, for each datum
CHUNK = 100  # data of long work that are kept together: what a stop can cost
FAMILY_OF: tuple[tuple[type, Callable[[int], Family]], ...] = (
    (DiagonalGaussianPosterior, DiagonalGaussian),
    (FullGaussianPosterior, FullGaussian),
)
NOT_NEEDED = "log p(x) is exact here, or a quadrature with an error of its own"


class SplitData(NamedTuple):
    """The data of one split."""

    x: Tensor  # [N, *X]
    training_rows: bool  # the strategy sees the row numbers
    labels: Tensor | None = None  # [N]


class Result(NamedTuple):
    """What is written."""

    evaluation: dict[str, Any]  # evaluation.json
    per_datum: list[dict[str, Any]]  # per_datum.csv
    arrays: dict[str, NDArray[Any]]  # further arrays for pictures.npz
    measured: dict[str, Measured]  # by split
    seconds: dict[str, float]  # of each stage


def snake(name: str) -> str:
    """The name of a class as a config writes it.

    >>> snake("DiagonalGaussian")
    'diagonal_gaussian'
    """
    return "".join(f"_{c.lower()}" if c.isupper() and i else c.lower() for i, c in enumerate(name))


class Instrument:
    """Measures q, the best q and log p(x) of every split, by the budget of ``settings``.

    All noise is keyed by (seed, split, purpose, number of the chunk): the same call gives the same numbers,
    and a measurement that was cut off goes on from the pieces that ``keep`` has. θ and the strategy's state
    do not change.
    """

    def __init__(
        self,
        model: GenerativeModel,
        strategy: Strategy,
        settings: Evaluation,
        *,
        seed: int,
        watch: Watch | None = None,
        keep: Callable[[str, Callable[[], kept.Piece]], kept.Piece] = kept.make_always,
    ) -> None:
        self.model, self.strategy, self.settings, self.seed = model, strategy, settings, seed
        self.watch, self.keep = watch or Watch(), keep
        self.chunk = CHUNK if settings.long else BATCH

    def pieces(self, splits: Mapping[str, SplitData]) -> int:
        """How many pieces of work there are: what a progress bar counts."""
        sizes = [len(self._rows(name, data)[1]) for name, data in splits.items()]
        if self.settings.simulated is not None and self._simulates() is None:
            sizes.append(self.settings.simulated.num_data)
        return sum(-(-size // self.chunk) for size in sizes)

    @torch.no_grad()
    def run(self, splits: Mapping[str, SplitData]) -> Result:
        """Measure every split.

        Raises:
            VemError: the decoder or q gives numbers that are not finite, or what ``watch.stop`` raises.
        """
        measured: dict[str, Measured] = {}
        out: dict[str, Any] = {}
        per_datum: list[dict[str, Any]] = []
        with evaluating(self.model):
            if self.settings.num_data:
                for name, data in splits.items():
                    measured[name] = self.split(name, data)
                    out[name] = self._summary(name, data, measured[name])
                    per_datum += gaps.per_datum(name, measured[name], data.labels)
                out["across_splits"] = gaps.across_splits(measured)
                self._simulated(out, splits)
            arrays = self._arrays(splits, measured)
        self.watch.stage("")
        seconds = {name: round(spent, 2) for name, spent in self.watch.seconds.items()}
        return Result(out, per_datum, arrays, measured, seconds)

    # --- one split

    def split(self, name: str, data: SplitData) -> Measured:
        """What is known of each of ``num_data`` data of a split, spread evenly over it; of some of them, L[q] alone."""
        rows, chosen = self._rows(name, data)
        if not len(rows):
            return Measured(joined(rows, [], None, "there are no data"), gap_name=self._gap_name())
        found = [
            self.keep(f"{name}-{number:04d}", partial(self._piece, name, data, part, number))
            for number, part in enumerate(torch.split(chosen, self.chunk))
        ]
        measured = kept.measured(kept.join(found))
        if (bound := measured.log_marginal) is not None:
            named = with_starts(bound.kind, bound.diagnostics)
            measured = measured._replace(log_marginal=bound._replace(kind=named))
        if len(chosen) == len(rows):
            return measured
        self.watch.stage("q")
        rest = score(
            self.model, self.strategy, data.x, rows[~torch.isin(rows, chosen)], training_rows=data.training_rows,
            draws=self.settings.draws, seed=self.seed, name=f"{name}, L[q] alone",
        )  # fmt: skip
        return measured._replace(everything=merged(measured.scores, rest))

    def _rows(self, name: str, data: SplitData) -> tuple[Tensor, Tensor]:
        """The rows of a split that are scored, and those of them of which more is measured."""
        settings = self.settings.of(name)
        rows = spread(settings.num_data, len(data.x))
        # What is exact costs nothing, and is known of all.
        if settings.gap_data is None or not settings.long or isinstance(self.model, TractableModel):
            return rows, rows
        return rows, rows[spread(settings.gap_data, len(rows))]

    def _piece(self, split: str, data: SplitData, rows: Tensor, number: int) -> kept.Piece:
        """One chunk of a split, measured."""
        try:
            piece: kept.Piece = kept.plain(self._measure(split, data, rows, number))
        except VemError as error:
            if type(error) is not VemError:  # a stop
                raise
            first, last = int(rows[0]), int(rows[-1])
            raise VemError(f"{split}, rows {first} to {last}: {error}") from error
        self.watch.done()
        return piece

    def _measure(self, split: str, data: SplitData, rows: Tensor, number: int) -> Measured:
        def streams(purpose: str) -> torch.Generator:
            return generator(data.x.device, self.seed, split, purpose, number)

        settings, stage, tick = self.settings.of(split), self.watch.stage, self.watch.tick
        stage("q")
        x = data.x[rows.to(data.x.device)]
        q = self._infer(data.x, rows, data.training_rows, split, number)
        scores = None if q is None else scored(self.model, x, q, settings.draws, self.seed, split, number, PRIOR_DRAWS)
        tick()
        exact = self.model.log_marginal(x).double().cpu() if isinstance(self.model, TractableModel) else None
        split_scores = joined(rows, [] if scores is None else [scores], exact, self.strategy.no_elbo)
        if self.model.latent == "index":
            return self._of_index(split_scores, exact, settings)
        families, own = self._families(q, settings)
        check_families(families, x, settings)
        searched = search(self.model, x, q, families, settings, streams, stage, tick)
        marginal = log_marginal(self.model, x, searched, settings, streams, stage, tick)
        further = others(self.model, x, searched, settings, streams, stage)
        return Measured(split_scores, searched.scores, own, self._gap_name(), marginal, further)

    def _infer(self, x: Tensor, rows: Tensor, training_rows: bool, name: str, number: int) -> Posterior | None:
        """q of one chunk, on the noise of that chunk; None for a method that has no ELBO."""
        if self.strategy.no_elbo is not None:
            return None
        found: Inferred = next(
            inferred(
                self.model, self.strategy, x, rows, training_rows=training_rows, seed=self.seed, name=name,
                batch_size=max(1, len(rows)), first=number,
            )
        )  # fmt: skip
        return found.posterior

    def _families(self, q: Posterior | None, settings: Evaluation) -> tuple[dict[str, Family], str | None]:
        """The families whose best q is sought, by name, and the name of the strategy's own."""
        size = self.model.latent_size
        out = {name: make(size) for name, make in settings.families.items()}
        own: Family | None = getattr(self.strategy, "family", None)
        if own is None:
            own = next((make(size) for kind, make in FAMILY_OF if isinstance(q, kind)), None)
        if own is None or settings.best is None:
            return out, None
        name = snake(type(own).__name__)
        return {**out, name: own}, name

    def _of_index(self, scores: Any, exact: Tensor | None, settings: Evaluation) -> Measured:
        """An index is enumerated: the best q is the exact posterior, and L[q*] = log p(x)."""
        families, own = {}, None
        if exact is not None and settings.best is not None:
            zeros, own = torch.zeros_like(exact), "categorical"
            families[own] = FamilyScores(exact, zeros, zeros, zeros, zeros, zeros, zeros, zeros + 1, zeros)
        marginal = None if exact is None else LogMarginal(exact, exact, "exact", {})
        return Measured(scores, families, own, self._gap_name(), marginal, {})

    def _gap_name(self) -> str:
        # A strategy of the user's own need not say; only an encoder's gap is one of amortization.
        return getattr(self.strategy, "gap_name", "optimization")

    # --- what is said about all of them

    def _summary(self, name: str, data: SplitData, measured: Measured) -> dict[str, Any]:
        out = gaps.summarize(measured, self.settings.checks)
        found = check_all(measured, self.settings.checks)
        out["checks"] = as_json(found)
        if said := not_judged(found):
            out["not_tested"] = said
        diagnostics = self.settings.of(name).diagnostics
        if diagnostics is not None and len(data.x):
            self.watch.tick()
            self.watch.stage("diagnostics")
            out["diagnostics"] = diagnose(
                self.model, self.strategy, data.x, training_rows=data.training_rows,
                points=diagnostics.points, num_data=diagnostics.num_data,
                seed=self.seed, name=name,
            )  # fmt: skip
        return out

    def _simulates(self) -> str | None:
        """Why bidirectional Monte Carlo is not possible or not needed; None where it can be done."""
        if self.model.latent == "index" or isinstance(self.model, TractableModel):
            return NOT_NEEDED
        if self.model.latent_size <= QUADRATURE:
            return NOT_NEEDED
        return getattr(self.model, "no_sample", None)  # a model from elsewhere may not know how to sample

    def _simulated(self, out: dict[str, Any], splits: Mapping[str, SplitData]) -> None:
        """The width of the interval on simulated data, beside every lower bound on real data."""
        settings = self.settings
        if settings.simulated is None or settings.annealing is None or not splits:
            return
        reason = self._simulates()
        if reason is not None:
            out["simulated"] = {"value": None, "reason": reason}
            return
        real = next(iter(splits.values())).x
        out["simulated"] = simulated(
            self.model, settings.simulated.num_data, real.dtype, real.device, settings.annealing,
            self._start_of_simulated, seed=self.seed, chunk=self.chunk, keep=self.keep, watch=self.watch,
        )  # fmt: skip
        for name in splits:
            if out[name]["log_marginal"] is not None:
                out[name]["log_marginal"]["simulated_width"] = out["simulated"]["width"]
                found = width_check(out["simulated"], settings.checks)
                out[name]["checks"] += as_json([] if found is None else [found])

    def _start_of_simulated(self, x: Tensor, number: int) -> tuple[Posterior | None, Tensor]:
        spent = torch.zeros(len(x))
        if self.settings.annealing is None or self.settings.annealing.start == "prior":
            return None, spent

        def streams(purpose: str) -> torch.Generator:
            return generator(x.device, self.seed, "simulated", purpose, number)

        self.watch.stage("simulated: best q")
        rows = torch.arange(len(x))
        q = self._infer(x, rows, False, "simulated", number)
        families, _ = self._families(q, self.settings)
        found = self._search(x, q, families, streams)
        for scores in found.scores.values():
            assert scores.decoder_gradients is not None
            spent = spent + scores.decoder_gradients.cpu()
        return richest(found), spent

    def _search(self, x: Tensor, q: Posterior | None, families: Any, streams: Any) -> Searched:
        return search(self.model, x, q, families, self.settings, streams, lambda name: None, self.watch.tick)

    def _arrays(self, splits: Mapping[str, SplitData], measured: Mapping[str, Measured]) -> dict[str, NDArray[Any]]:
        """Densities in the plane (H = 2), and the annealing path, of the last split that these are measured of."""
        named = [name for name in measured if name in self.settings.splits and len(splits[name].x)]
        if not named or self.model.latent == "index":
            return {}
        split, data = named[-1], splits[named[-1]]
        out: dict[str, NDArray[Any]] = {}
        if self.model.latent_size == 2 and self.settings.best is not None:
            self.watch.stage("pictures")
            rows = spread(NUM_SHOWN, len(data.x))
            q = self._infer(data.x, rows, data.training_rows, split, -1)
            families, _ = self._families(q, self.settings)
            x = data.x[rows.to(data.x.device)]
            best = self._search(x, q, families, lambda purpose: generator(x.device, self.seed, "pictures", purpose))
            shown = {} if q is None or not _transports(q) else {"q": q}
            out |= planes(self.model, x, rows, {**shown, **{f"best_{k}": v for k, v in best.posteriors.items()}})
        marginal = measured[split].log_marginal
        if marginal is not None and "path_ess" in marginal.diagnostics:
            out["path_betas"] = marginal.diagnostics["beta"].numpy().astype(np.float32)
            out["path_ess"] = marginal.diagnostics["path_ess"].numpy().astype(np.float32)
        return out


def _transports(q: Posterior) -> bool:
    """Whether this q is a map of noise: one from elsewhere may have draws alone."""
    if not callable(getattr(q, "transport", None)):
        return False
    try:
        q.transport(torch.zeros_like(q.mean())[None])
    except VemError:
        return False
    return True
