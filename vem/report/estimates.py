"""Numbers of evaluation.json as columns of a table: the mean, its errors, or why there is none."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from vem.report.checks import failed_names, not_tested
from vem.report.ends import known_ends, sides
from vem.report.runs import RunRecord, finite
from vem.storage.records import SPLITS
from vem.storage.sealing import mapping

Estimate = tuple[float | None, float | None, float | None, str | None]  # mean, se, mc_se, or why there is none
PASSED = "passed"
GAPS = ("approximation", "amortization", "optimization", "inference")
FAMILY_PARTS = ("best_elbo", "approximation", "gain_over_own")
GENERALIZATION = "amortization_generalization"
MODEL_GENERALIZATION = {name: f"model_generalization_{name}" for name in ("best_elbo", "log_marginal")}
EXACT_LOSS = "exact_loss"  # the inference gap of a model whose log p(x) is known, where no best q was sought
OTHERS = ("importance", "prior")  # lower bounds on log p(x) beside the one that the gaps are taken from


def columns(name: str, found: Estimate) -> dict[str, Any]:
    """The four columns of one number."""
    return dict(zip((name, f"{name}_se", f"{name}_mc_se", f"{name}_reason"), found, strict=True))


def estimate(run: RunRecord, split: str, name: str) -> Estimate:
    """One number of a split."""
    if not run.evaluation:
        done = run.facts["status"] == "done"
        return None, None, None, "not evaluated (evaluation=none)" if done else "the run is not finished"
    part = run.part(split)
    if not part:
        return None, None, None, f"there are no {split} data"
    return read_estimate(part.get(name), f"evaluation.json has no {name} for {split}")


def read_estimate(entry: Any, absent: str) -> Estimate:
    """An entry with a mean, or the reason that stands in its place."""
    if isinstance(entry, Mapping) and isinstance(entry.get("mean"), Mapping):
        entry = entry["mean"]  # {"value": null, "reason": …} in the place of the number
    if not isinstance(entry, Mapping):
        return None, None, None, absent
    mean, se, mc_se = (finite(entry.get(key)) for key in ("mean", "se", "mc_se"))
    if mean is None:
        return None, None, None, str(entry.get("reason") or absent)
    return mean, se, mc_se, None


def exact_log_marginal(run: RunRecord, split: str) -> Estimate:
    """log p(x) where it is known: in closed form, or by a method whose lower and upper ends are one (quadrature)."""
    entry = run.part(split).get("log_marginal")
    if not isinstance(entry, Mapping) or not (entry.get("kind") == "exact" or _closed(entry)):
        return None, None, None, "no exact log p(x)"
    return read_estimate(entry.get("lower"), f"evaluation.json has no log p(x) for {split}")


def _closed(entry: Mapping[str, Any]) -> bool:
    """Whether the upper bound is the lower one."""
    lower, upper = (finite(mapping(entry.get(end)).get("mean")) for end in ("lower", "upper"))
    return lower is not None and lower == upper


def gap_columns(run: RunRecord) -> dict[str, Any]:
    """The gaps of a run, what they are taken from, and the checks that failed; no gap where none was measured.

    ``SPLIT_NAME_gap`` in nats per datum with the ends of its 95 % interval, and ``_at_least`` where log p(x) is known
    from below alone, so that the interval has no upper end; ``SPLIT_log_marginal_lower``, ``_upper`` and ``_kind``;
    ``SPLIT_active_units``; ``SPLIT_gap_data``, such as ``100 of 250``, where L[q] is of more data than the gaps;
    ``SPLIT_checks`` names those that failed. ``SPLIT_importance_bound`` and ``SPLIT_prior_bound``, where they were
    taken, with ``_kind``, ``_ess`` (median of effective samples) and ``_loose`` where those are too few.
    ``SPLIT_family_NAME_best_elbo``, ``_approximation``, ``_gain_over_own`` and ``_converged`` where another family
    than the strategy's own was measured; ``SPLIT_amortization_generalization``, held out minus training;
    ``SPLIT_model_generalization_best_elbo`` and ``_log_marginal``, training minus held out;
    ``SPLIT_exact_loss``.
    """
    row: dict[str, Any] = {}
    for split in SPLITS:
        part = run.part(split)
        for name in OTHERS:
            entry = mapping(part.get("others")).get(name)
            row |= _other(f"{split}_{name}_bound", entry) if isinstance(entry, Mapping) else {}
        gaps = mapping(part.get("gaps"))
        if measured(gaps):
            for name in GAPS:
                row |= _gap(f"{split}_{name}_gap", gaps.get(name))
            row |= _marginal(f"{split}_log_marginal", part.get("log_marginal"))
            row[f"{split}_checks"] = "; ".join(failed_names({split: part}, places=False)) or _made(part)
            row[f"{split}_gap_data"] = _gap_data(part)
            row[f"{split}_active_units"] = finite(mapping(part.get("diagnostics")).get("active_units"))
            row |= _families(split, part.get("families"))
        row |= _generalization(split, run.evaluation.get("across_splits"))
        row |= {} if measured(gaps) else _exact_loss(run, split, gaps.get("inference"))
    names, untested = failed_names(run.evaluation), not_tested(run.evaluation)
    row |= {"not_tested": "; ".join(untested)} if untested else {}
    return row | ({"checks_failed": "; ".join(names)} if names else {})


def _families(split: str, families: Any) -> dict[str, Any]:
    """What each family costs, where there are others than the strategy's own."""
    row: dict[str, Any] = {}
    known = {family: found for family, found in mapping(families).items() if isinstance(found, Mapping)}
    if all(found.get("own") for found in known.values()):
        return row
    for family, found in known.items():
        name = f"{split}_family_{family}"
        for part in FAMILY_PARTS:
            row |= _gap(f"{name}_{part}", found.get(part)) if part in found else {}
        row[f"{name}_converged"] = finite(found.get("converged"))
    return row


def _generalization(split: str, across: Any) -> dict[str, Any]:
    """What differs between held-out and training data: of the encoder, and of the model."""
    found = mapping(mapping(across).get(split))
    entries = {f"{split}_{GENERALIZATION}": found.get(GENERALIZATION)}
    of_model = mapping(found.get("model_generalization"))
    entries |= {f"{split}_{name}": of_model.get(part) for part, name in MODEL_GENERALIZATION.items()}
    row: dict[str, Any] = {}
    for name, entry in entries.items():
        if read_estimate(entry, "")[0] is not None:
            row |= _gap(name, entry)
    return row


def _exact_loss(run: RunRecord, split: str, inference: Any) -> dict[str, Any]:
    """log p(x) − L[q] where log p(x) is known, paired where evaluation.json has it so."""
    marginal, elbo = exact_log_marginal(run, split)[0], read_estimate(run.part(split).get("elbo"), "")[0]
    if marginal is None or elbo is None:
        return {}
    entry = {"mean": marginal - elbo} if read_estimate(inference, "")[0] is None else inference
    return _gap(f"{split}_{EXACT_LOSS}", entry)


def _gap_data(part: Mapping[str, Any]) -> str | None:
    """Of how many of the evaluated data the gaps are; None where they are of all."""
    few, num = finite(part.get("gap_data")), finite(part.get("num_data"))
    return None if few is None or num is None else f"{few:.0f} of {num:.0f}"


def _made(part: Mapping[str, Any]) -> str | None:
    """The word for a split whose checks all passed; None where none was made."""
    return PASSED if part.get("checks") else None


def measured(gaps: Mapping[str, Any]) -> bool:
    """Whether a best q was sought: the inference gap alone, which exact models have for nothing, is no gap run."""
    return any(read_estimate(gaps.get(name), "")[0] is not None for name in GAPS[:3])


def gap_name(evaluation: Mapping[str, Any]) -> str:
    """What L[q*] − L[q] is called for this run: ``amortization`` or ``optimization``."""
    gaps = [mapping(mapping(part).get("gaps")) for part in evaluation.values()]
    return "amortization" if any("amortization" in found for found in gaps) else "optimization"


def _gap(name: str, entry: Any) -> dict[str, Any]:
    low, high = (finite(end) for end in known_ends(mapping(entry)))
    limits = mapping(entry).get("identified")
    found = columns(name, read_estimate(entry, "not measured"))
    ends = limits if isinstance(limits, list) and len(limits) == 2 else (None, None)
    return found | {
        f"{name}_ci95_low": low,
        f"{name}_ci95_high": high,
        # Of two bounds, each loose, the lower limit of a difference is not the difference that is shown.
        f"{name}_at_least": sides(mapping(entry))[0],
        f"{name}_sought": isinstance(entry, Mapping) and "mean" in entry,  # whether it is a gap of this strategy
        f"{name}_identified_low": finite(ends[0]),
        f"{name}_identified_high": finite(ends[1]),
    }


def _other(name: str, entry: Mapping[str, Any]) -> dict[str, Any]:
    return columns(name, read_estimate(entry.get("lower"), "not measured")) | {
        f"{name}_kind": _word(entry.get("kind")),
        f"{name}_ess": finite(mapping(entry.get("ess")).get("median")),
        f"{name}_loose": entry.get("trustworthy") is False,
    }


def _marginal(name: str, entry: Any) -> dict[str, Any]:
    entry = mapping(entry)
    found = columns(f"{name}_lower", read_estimate(entry.get("lower"), "log p(x) was not estimated"))
    found |= columns(f"{name}_upper", read_estimate(entry.get("upper"), "no upper bound on log p(x)"))
    open_end = found[f"{name}_upper"] is None
    width = mapping(entry.get("simulated_width"))  # of the interval, on data that the model made
    return found | {
        f"{name}_lower_at_least": open_end,
        f"{name}_kind": _word(entry.get("kind")),
        f"{name}_simulated_width": finite(width.get("mean")),
        f"{name}_simulated_worst": finite(width.get("max")),
    }


def _word(value: Any) -> str | None:
    return None if value is None else str(value)
