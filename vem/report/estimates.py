"""The numbers of evaluation.json, with their errors or why there are none, as columns of a run's row."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from vem.report.ends import known_ends, sides
from vem.report.quantities import BOUNDS, FACTS, GAPS, OF_FAMILY, Estimate, cells, column
from vem.report.runs import RunRecord, finite
from vem.storage.checks import failed_names, not_tested
from vem.storage.records import SPLITS
from vem.storage.sealing import mapping

PASSED = "passed"
PARTS = {name: part for name, part in OF_FAMILY.items() if name != "converged"}  # of a family, with an error


def numbers(run: RunRecord) -> dict[str, Any]:
    """What evaluation.json says: the ELBO and its terms, what the gaps are, and the checks that failed.

    Columns as in :mod:`vem.report.quantities`. Gaps, log p(x) and families are there where a best q was sought;
    ``SPLIT_exact_loss`` where log p(x) is known without. ``SPLIT_checks`` names the checks that failed.
    """
    row: dict[str, Any] = {}
    for split in SPLITS:
        for name in ("elbo", "reconstruction", "kl"):
            row |= cells(split, name, _estimate(run, split, name))
        row |= cells(split, "log_marginal", exact_log_marginal(run, split))
    for split in SPLITS:
        part = run.part(split)
        for name in BOUNDS:
            entry = mapping(part.get("others")).get(name.removesuffix("_bound"))
            row |= cells(split, name, _bound(entry)) if isinstance(entry, Mapping) else {}
        gaps = mapping(part.get("gaps"))
        row |= _measured(split, part, gaps) if measured(gaps) else {}
        row |= _generalization(split, mapping(mapping(run.evaluation.get("across_splits")).get(split)))
        row |= {} if measured(gaps) else _exact_loss(run, split, gaps.get("inference"))
    said = {"not_tested": not_tested(run.evaluation), "checks_failed": failed_names(run.evaluation)}
    return row | {name: "; ".join(texts) for name, texts in said.items() if texts}


def _estimate(run: RunRecord, split: str, name: str) -> Estimate:
    """One number of a split."""
    if not run.evaluation:
        done = run.facts["status"] == "done"
        return Estimate(reason="not evaluated (evaluation=none)" if done else "the run is not finished")
    if not run.part(split):
        return Estimate(reason=f"there are no {split} data")
    return read_estimate(run.part(split).get(name), f"evaluation.json has no {name} for {split}")


def read_estimate(entry: Any, absent: str = "not measured") -> Estimate:
    """An entry with a mean, or the reason that stands in its place."""
    if isinstance(entry, Mapping) and isinstance(entry.get("mean"), Mapping):
        entry = entry["mean"]  # {"value": null, "reason": …} in the place of the number
    entry = mapping(entry)
    mean = finite(entry.get("mean"))
    if mean is None:
        return Estimate(reason=str(entry.get("reason") or absent))
    return Estimate(mean, finite(entry.get("se")), finite(entry.get("mc_se")))


def _gap(entry: Any) -> Estimate:
    """A number with its interval; of two bounds, each loose, the lower limit is not the difference that is shown."""
    low, high = (finite(end) for end in known_ends(mapping(entry)))
    limits = mapping(entry).get("identified")
    ends = limits if isinstance(limits, list) and len(limits) == 2 else (None, None)
    return read_estimate(entry)._replace(
        low=low, high=high, identified_low=finite(ends[0]), identified_high=finite(ends[1]),
        one_sided=sides(mapping(entry))[0],
        sought=isinstance(entry, Mapping) and "mean" in entry,  # whether it is a gap of this strategy
    )  # fmt: skip


def _bound(entry: Mapping[str, Any]) -> Estimate:
    ess, loose = finite(mapping(entry.get("ess")).get("median")), entry.get("trustworthy") is False
    return read_estimate(entry.get("lower"))._replace(kind=_word(entry.get("kind")), ess=ess, loose=loose)


def exact_log_marginal(run: RunRecord, split: str) -> Estimate:
    """log p(x) where it is known: in closed form, or by a method whose lower and upper ends are one (quadrature)."""
    entry = mapping(run.part(split).get("log_marginal"))
    lower, upper = (finite(mapping(entry.get(end)).get("mean")) for end in ("lower", "upper"))
    if entry.get("kind") != "exact" and (lower is None or lower != upper):
        return Estimate(reason="no exact log p(x)")
    return read_estimate(entry.get("lower"), f"evaluation.json has no log p(x) for {split}")


def measured(gaps: Mapping[str, Any]) -> bool:
    """Whether a best q was sought: the inference gap alone, which exact models have for nothing, is no gap run."""
    return any(read_estimate(gaps.get(kind)).mean is not None for kind in GAPS if kind != "inference")


def _measured(split: str, part: Mapping[str, Any], gaps: Mapping[str, Any]) -> dict[str, Any]:
    """The gaps of a split, what they are taken from, its checks, and what each family costs where there are others."""
    row: dict[str, Any] = {}
    for kind, name in GAPS.items():
        row |= cells(split, name, _gap(gaps.get(kind)))
    marginal = mapping(part.get("log_marginal"))
    width = mapping(marginal.get("simulated_width"))  # of the interval, on data that the model made
    upper = read_estimate(marginal.get("upper"), "no upper bound on log p(x)")
    row |= cells(split, "log_marginal_lower", read_estimate(marginal.get("lower"), "log p(x) was not estimated"))
    row |= cells(split, "log_marginal_upper", upper)
    row[column(split, "log_marginal_lower", field="one_sided")] = upper.mean is None
    row[column(split, "log_marginal", field="kind")] = _word(marginal.get("kind"))
    few, num = finite(part.get("gap_data")), finite(part.get("num_data"))
    facts = {
        "simulated_width": finite(width.get("mean")),
        "simulated_worst": finite(width.get("max")),
        "checks": "; ".join(failed_names({split: part}, places=False)) or (PASSED if part.get("checks") else None),
        "gap_data": None if few is None or num is None else f"{few:.0f} of {num:.0f}",
    }
    row |= {FACTS[name].format(split): value for name, value in facts.items()}
    row[column(split, "active_units")] = finite(mapping(part.get("diagnostics")).get("active_units"))
    known = {name: found for name, found in mapping(part.get("families")).items() if isinstance(found, Mapping)}
    for family, found in known.items() if not all(found.get("own") for found in known.values()) else ():
        for name, place in PARTS.items():
            row |= cells(split, name, _gap(found[place]), family) if place in found else {}
        row[column(split, "converged", family)] = finite(found.get("converged"))
    return row


def _generalization(split: str, found: Mapping[str, Any]) -> dict[str, Any]:
    """What differs between held-out and training data: of the encoder, and of the model."""
    of_model = mapping(found.get("model_generalization"))
    entries = {"amortization_generalization": found.get("amortization_generalization")}
    entries |= {f"model_generalization_{name}": of_model.get(name) for name in ("best_elbo", "log_marginal")}
    known = {name: gap for name, entry in entries.items() if (gap := _gap(entry)).mean is not None}
    return {key: value for name, gap in known.items() for key, value in cells(split, name, gap).items()}


def _exact_loss(run: RunRecord, split: str, inference: Any) -> dict[str, Any]:
    """log p(x) − L[q] where log p(x) is known, paired where evaluation.json has it so."""
    marginal, elbo = exact_log_marginal(run, split).mean, read_estimate(run.part(split).get("elbo")).mean
    if marginal is None or elbo is None:
        return {}
    entry = {"mean": marginal - elbo} if read_estimate(inference).mean is None else inference
    return cells(split, "exact_loss", _gap(entry))


def gap_name(evaluation: Mapping[str, Any]) -> str:
    """What L[q*] − L[q] is called for this run: ``amortization`` or ``optimization``."""
    gaps = [mapping(mapping(part).get("gaps")) for part in evaluation.values()]
    return "amortization" if any("amortization" in found for found in gaps) else "optimization"


def _word(value: Any) -> str | None:
    return None if value is None else str(value)
