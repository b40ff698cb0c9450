"""The instrument: from a model, a strategy and data to the content of evaluation.json."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from vem.contracts import GenerativeModel, Inference, LogMarginal, Posterior, TractableModel
from vem.errors import VemError
from vem.evaluation import gaps
from vem.evaluation.bounds.annealing import anneal, with_starts
from vem.evaluation.bounds.importance import importance_bound, prior_monte_carlo
from vem.evaluation.bounds.quadrature import quadrature
from vem.evaluation.checks import as_json, check, not_judged, width_check
from vem.evaluation.diagnostics import diagnose
from vem.evaluation.elbo import BATCH, inferred, joined, merged, score, scored, spread
from vem.evaluation.measured import MC_VARIANCE, FamilyScores, Measured, Result, Streams, as_piece, from_pieces, join
from vem.evaluation.pictures import NUM_SHOWN, planes
from vem.evaluation.progress import Piece, Progress
from vem.evaluation.search import Searched, check_families, families_of, search
from vem.evaluation.settings import Evaluation
from vem.models.modes import evaluating
from vem.noise import fill, generator

PRIOR_DRAWS = 5  # of the check that q is no worse than the prior, for each data point
CHUNK = 100  # data of long work that are kept together: what a stop can cost
QUADRATURE = 2  # largest H for which log p(x) is a quadrature
NOT_NEEDED = "log p(x) is exact here, or a quadrature with an error of its own"


class SplitData(NamedTuple):
    """The data of one split."""

    x: Tensor  # [N, *X]
    training_rows: bool  # the strategy sees the row numbers
    labels: Tensor | None = None  # [N]


class Instrument:
    """Measures q, the best q and log p(x) of every split, by the budget of ``settings``.

    All noise is keyed by (seed, split, purpose, number of the chunk): the same call gives the same numbers,
    and a measurement that was cut off goes on from the pieces that ``progress`` keeps. θ and the strategy's state
    do not change.
    """

    def __init__(
        self, model: GenerativeModel, strategy: Inference, settings: Evaluation, *, seed: int,
        progress: Progress | None = None,
    ) -> None:  # fmt: skip
        self.model, self.strategy, self.settings, self.seed = model, strategy, settings, seed
        self.progress = progress or Progress()
        # A strategy of the user's own from before these were declared, as README's was, has neither.
        self.gap_name, self.family = getattr(strategy, "gap_name", "optimization"), getattr(strategy, "family", None)
        self.chunk = CHUNK if settings.long else BATCH

    def pieces(self, splits: Mapping[str, SplitData]) -> int:
        """How many pieces of work there are: what a progress bar counts."""
        sizes = [len(self._rows(name, data)[1]) for name, data in splits.items()]
        if self.settings.simulated is not None and self._not_simulated() is None:
            sizes.append(self.settings.simulated.num_data)
        return sum(-(-size // self.chunk) for size in sizes)

    @torch.no_grad()
    def run(self, splits: Mapping[str, SplitData]) -> Result:
        """Measure every split.

        Raises:
            VemError: the decoder or q gives numbers that are not finite, or what ``progress.stop`` raises.
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
                self._add_simulated(out, splits)
            arrays = self._arrays(splits, measured)
        self.progress.stage("")
        seconds = {name: round(spent, 2) for name, spent in self.progress.seconds.items()}
        return Result(out, per_datum, arrays, seconds=seconds)

    # --- one split

    def split(self, name: str, data: SplitData) -> Measured:
        """What is known of each of ``num_data`` data of a split, spread evenly over it; of some of them, L[q] alone."""
        rows, chosen = self._rows(name, data)
        if not len(rows):
            return Measured(joined(rows, [], None, "there are no data"), gap_name=self.gap_name)
        measured = from_pieces(self._pieces(name, chosen, partial(self._piece, name, data)))
        if (bound := measured.log_marginal) is not None:
            named = with_starts(bound.kind, bound.diagnostics)
            measured = measured._replace(log_marginal=bound._replace(kind=named))
        if len(chosen) == len(rows):
            return measured
        self.progress.stage("q")
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

    def _pieces(self, name: str, rows: Tensor, work: Callable[[Tensor, int], Piece]) -> list[Piece]:
        """The work on each chunk of the rows, done or read."""
        chunks = enumerate(rows.split(self.chunk))
        return [self.progress.piece(f"{name}-{n:04d}", partial(work, part, n)) for n, part in chunks]

    def _piece(self, split: str, data: SplitData, rows: Tensor, number: int) -> Piece:
        """One chunk of a split, measured."""
        try:
            piece: Piece = as_piece(self._measure(split, data, rows, number))
        except VemError as error:
            if type(error) is not VemError:  # a stop
                raise
            raise VemError(f"{split}, rows {int(rows[0])} to {int(rows[-1])}: {error}") from error
        return piece

    def _measure(self, split: str, data: SplitData, rows: Tensor, number: int) -> Measured:
        settings = self.settings.of(split)
        self.progress.stage("q")
        x = data.x[rows.to(data.x.device)]
        q = self._infer(split, data, rows, number)
        scores = [] if q is None else [scored(self.model, x, q, settings.draws, self.seed, split, number, PRIOR_DRAWS)]
        self.progress.tick()
        truth = self.model.log_marginal(x).double().cpu() if isinstance(self.model, TractableModel) else None
        found = Measured(joined(rows, scores, truth, self.strategy.no_elbo), gap_name=self.gap_name)
        if self.model.latent == "index":
            if truth is None or settings.best is None:
                return found
            # A discrete z is enumerated: the best q is the exact posterior, and L[q*] = log p(x).
            zero = torch.zeros_like(truth)
            best_q = FamilyScores(truth, zero, zero, zero, zero, zero, zero, zero + 1, zero)
            return found._replace(families={"categorical": best_q}, own="categorical")
        families, own = families_of(q, self.family, self.model.latent_size, settings)
        check_families(families, x, settings)
        streams = self._streams(x.device, split, number)
        best = search(self.model, x, q, families, settings.best, streams, self.progress)
        marginal = self._log_marginal(x, truth, best, settings, streams)
        further = self._others(x, best, settings, streams)
        return found._replace(families=best.scores, own=own, log_marginal=marginal, others=further)

    def _streams(self, device: torch.device, *where: str | int) -> Streams:
        """A stream of noise of its own for each purpose."""
        name, *number = where
        return lambda purpose: generator(device, self.seed, name, purpose, *number)

    def _infer(self, name: str, data: SplitData, rows: Tensor, number: int) -> Posterior | None:
        """q of one chunk, on the noise of that chunk; None for a method that has no ELBO."""
        found = inferred(
            self.model, self.strategy, data.x, rows, training_rows=data.training_rows, seed=self.seed, name=name,
            batch_size=max(1, len(rows)), first=number,
        )  # fmt: skip
        return next((q.posterior for q in found), None)

    def _log_marginal(
        self, x: Tensor, truth: Tensor | None, best: Searched, settings: Evaluation, streams: Streams
    ) -> LogMarginal | None:
        """What is known of log p(x), by a rule fixed beforehand: exact, else quadrature (H ≤ 2), else annealing."""
        if truth is not None:
            return LogMarginal(truth, truth, "exact", {MC_VARIANCE: torch.zeros_like(truth)})
        if settings.annealing is None:
            return None
        if self.model.latent_size <= QUADRATURE:
            self.progress.stage("quadrature")
            return quadrature(self.model, x, centre=best.richest)
        self.progress.stage("annealing")
        start = best.richest if settings.annealing.start == "best" else None
        return anneal(self.model, x, start, settings.annealing, streams, self.progress.tick)

    def _others(self, x: Tensor, best: Searched, settings: Evaluation, streams: Streams) -> dict[str, LogMarginal]:
        """The bounds that are shown beside it, never mixed with it: importance-weighted, and from the prior."""
        out: dict[str, LogMarginal] = {}
        start, budget = best.richest, settings.importance
        if budget is not None and start is not None:
            self.progress.stage("importance")
            stream = streams("importance")
            out["importance"] = importance_bound(self.model, x, start, samples=budget.samples, stream=stream)
        if settings.prior is not None:
            self.progress.stage("prior")
            out["prior"] = prior_monte_carlo(self.model, x, samples=settings.prior.samples, stream=streams("prior"))
        return out

    # --- what is said about all of them

    def _summary(self, name: str, data: SplitData, measured: Measured) -> dict[str, Any]:
        out = gaps.summarize(measured, self.settings.checks)
        found = check(measured, self.settings.checks)
        out["checks"] = as_json(found)
        if said := not_judged(found):
            out["not_tested"] = said
        diagnostics = self.settings.of(name).diagnostics
        if diagnostics is not None and len(data.x):
            self.progress.tick()
            self.progress.stage("diagnostics")
            out["diagnostics"] = diagnose(
                self.model, self.strategy, data.x, training_rows=data.training_rows,
                points=diagnostics.points, num_data=diagnostics.num_data, seed=self.seed, name=name,
            )  # fmt: skip
        return out

    def _not_simulated(self) -> str | None:
        """Why bidirectional Monte Carlo is not possible or not needed; None where it can be done."""
        tractable = self.model.latent == "index" or isinstance(self.model, TractableModel)
        if tractable or self.model.latent_size <= QUADRATURE:
            return NOT_NEEDED
        return getattr(self.model, "no_sample", None)  # a model from elsewhere may not know how to sample

    def _add_simulated(self, out: dict[str, Any], splits: Mapping[str, SplitData]) -> None:
        """The width of the interval on simulated data, beside every lower bound on real data."""
        settings = self.settings
        if settings.simulated is None or settings.annealing is None or not splits:
            return
        reason = self._not_simulated()
        if reason is not None:
            out["simulated"] = {"value": None, "reason": reason}
            return
        x = next(iter(splits.values())).x
        noise = fill(
            self.model.sample_noise(settings.simulated.num_data), generator(x.device, self.seed, "simulated"), x.dtype
        )
        z, x = self.model.sample(noise)
        found = join(self._pieces("simulated", torch.arange(len(x), device=x.device), partial(self._enclosed, z, x)))
        out["simulated"] = gaps.simulated(LogMarginal(**found["bound"]), found["gradients"])
        for name in splits:
            if out[name]["log_marginal"] is not None:
                out[name]["log_marginal"]["simulated_width"] = out["simulated"]["width"]
                checked = width_check(out["simulated"], settings.checks)
                out[name]["checks"] += as_json([] if checked is None else [checked])

    def _enclosed(self, z: Tensor, x: Tensor, rows: Tensor, number: int) -> Piece:
        """Bidirectional Monte Carlo on pairs (z, x) from the model, and what it cost with the search for q*."""
        assert self.settings.annealing is not None
        z, x = z[rows], x[rows]
        streams, posterior, spent = self._streams(x.device, "simulated", number), None, torch.zeros(len(x))
        if self.settings.annealing.start == "best":
            self.progress.stage("simulated: best q")
            best = self._best(self._infer("simulated", SplitData(x, False), torch.arange(len(x)), number), x, streams)
            posterior = best.richest
            for scores in best.scores.values():
                assert scores.decoder_gradients is not None
                spent = spent + scores.decoder_gradients.cpu()
        self.progress.stage("simulated: annealing")
        found = anneal(self.model, x, posterior, self.settings.annealing, streams, self.progress.tick, z)
        gradients = spent.double().cpu() + found.diagnostics["decoder_gradients"]
        piece: Piece = as_piece({"bound": found, "gradients": gradients})
        return piece

    def _best(self, q: Posterior | None, x: Tensor, streams: Streams) -> Searched:
        families, _ = families_of(q, self.family, self.model.latent_size, self.settings)
        return search(self.model, x, q, families, self.settings.best, streams, self.progress, stages=False)

    def _arrays(self, splits: Mapping[str, SplitData], measured: Mapping[str, Measured]) -> dict[str, NDArray[Any]]:
        """Densities in the plane (H = 2), and the annealing path, of the last split that these are measured of.

        ``path_betas``, ``path_ess`` [T] or [T, N]: the temperature that each step ends at, and its conditional
        effective sample size as a share of the chains.
        """
        named = [name for name in measured if name in self.settings.splits and len(splits[name].x)]
        if not named or self.model.latent == "index":
            return {}
        split, data = named[-1], splits[named[-1]]
        out: dict[str, NDArray[Any]] = {}
        if self.model.latent_size == 2 and self.settings.best is not None:
            self.progress.stage("pictures")
            rows = spread(NUM_SHOWN, len(data.x))
            q, x = self._infer(split, data, rows, -1), data.x[rows.to(data.x.device)]
            best = self._best(q, x, self._streams(x.device, "pictures"))
            shown = {} if q is None else {"q": q}
            out |= planes(self.model, x, rows, {**shown, **{f"best_{k}": v for k, v in best.posteriors.items()}})
        marginal = measured[split].log_marginal
        if marginal is not None and "path_ess" in marginal.diagnostics:
            for name, key in (("path_betas", "beta"), ("path_ess", "path_ess")):
                out[name] = marginal.diagnostics[key].numpy().astype(np.float32)
        return out
