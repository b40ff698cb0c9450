"""One row for each run, with every number that its files hold."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pandas as pd

from vem.report import quantities
from vem.report.alike import OTHER_ROWS
from vem.report.comparable import data_names, evaluated_sets, headings
from vem.report.ends import known_ends, sides
from vem.report.files import Evaluated, evaluated
from vem.report.gather import Gathered
from vem.report.groups import NAMED, seeds_of, trainings, variants, x_of
from vem.report.kin import rows_of_tables
from vem.report.quantities import FACTS, GAPS, Estimate, cells, column
from vem.report.runs import DONE, UNREADABLE, RunRecord, finite
from vem.storage.checks import failed_names, not_tested
from vem.storage.records import SPLITS
from vem.storage.sealing import mapping

IDENTITY = ("strategy", "model", "family", "data", "binarize", "likelihood", "latent_dim", "seed", "status")
PASSED = "passed"
MACHINE = ("device", "threads", "host", "commit")


@dataclass(frozen=True)
class Framed:
    """``rows``: one for each run. ``runs`` and ``evaluated``: what they were made from, by directory as shown.

    ``gathered``: what was found, with each seed of a group once.
    """

    rows: pd.DataFrame
    runs: Mapping[str, RunRecord]
    evaluated: Mapping[str, Evaluated]
    gathered: Gathered


# Where a run stands: its table, what tells its group from others, how it was measured, other than its kin, and whether
# on other test rows than those that the table is about.
Place = tuple[str | None, str | None, str | None, bool]
NOWHERE: Place = (None, None, None, False)


def frame(gathered: Gathered) -> Framed:
    """The rows of :func:`vem.report.summary.summarize`."""
    found = {run.directory: evaluated(run) for run in gathered.runs}
    values = {run.directory: (run, own) for run, own in map(_numbered, gathered.runs)}
    runs = tuple(run for run, _ in values.values())
    placed = [run for run in runs if run.placed]
    places = _places(placed, [found[run.directory] for run in placed])
    gathered = _once_a_seed(replace(gathered, runs=runs), places)
    rows, named = [], {}
    for run in gathered.runs:
        named[gathered.relative(run.directory)] = run
        place = places.get(run.directory, NOWHERE)
        rows.append(_row(run, values[run.directory][1], gathered, found[run.directory], place))
    table = pd.DataFrame(rows, columns=None if rows else ["table", "variant", *IDENTITY, "directory"])
    return Framed(table, named, {name: found[run.directory] for name, run in named.items()}, gathered)


def _places(runs: Sequence[RunRecord], found: Sequence[Evaluated]) -> dict[Path, Place]:
    names = data_names(runs)
    sets = evaluated_sets(names, runs, found)
    kept = sets
    if len(set(zip(names, sets, strict=True))) > len(set(names)):
        sizes = [sum(rows.counts.values()) for rows in found]
        kept = rows_of_tables(trainings(runs, names), sets, sizes, seeds_of(runs))
    tables = headings(names, kept, sets, found)
    aside = [bool(own.counts) and one != other for own, one, other in zip(found, kept, sets, strict=True)]
    rows = zip(runs, tables, variants(runs, tables), aside, strict=True)
    return {run.directory: (table, *both, other) for run, table, both, other in rows}


def _once_a_seed(gathered: Gathered, places: Mapping[Path, Place]) -> Gathered:
    """One finished run for each seed of a group, an evaluated one where there is one; the others repeat it.

    Their configs differ, for one was measured again with the settings of the other, but their numbers are about the
    same training: a mean over seeds must not count it twice.
    """
    first: dict[Any, RunRecord] = {}
    repeats = dict(gathered.repeats)
    for run in sorted(gathered.runs, key=lambda run: not run.evaluation):  # stable: else in order of appearance
        if run.status == DONE and run.placed and run.facts.get("seed") is not None:
            key = (*places[run.directory][:2], *(run.facts.get(name) for name in (*NAMED, "seed")))
            kept = first.setdefault(key, run)
            if kept is not run:
                again = (run, *repeats.pop(run.directory, ()))
                repeats[kept.directory] = (*repeats.get(kept.directory, ()), *again)
    again_there = {run.directory for same in repeats.values() for run in same}
    runs = tuple(run for run in gathered.runs if run.directory not in again_there)
    return replace(gathered, runs=runs, repeats=repeats)


def _numbered(run: RunRecord) -> tuple[RunRecord, dict[str, Any]]:
    """The run and its numbers, or why it has none: one file of another schema must not cost the other runs."""
    try:
        return run, numbers(run)
    except Exception as error:  # whatever such a file leads to
        text = f"{run.directory / 'evaluation.json'} is of another schema ({type(error).__name__}: {error})"
        bare = replace(run.saying(status=UNREADABLE, error=text), evaluation={}, settings=run.asked)
        return bare, numbers(bare)


def _row(
    run: RunRecord, values: Mapping[str, Any], gathered: Gathered, rows: Evaluated, place: Place
) -> dict[str, Any]:
    facts, (table, variant, measurement, other_rows) = run.facts, place
    repeats = [gathered.relative(other.directory) for other in gathered.repeats.get(run.directory, ())]
    of_split: dict[str, Mapping[str, Any]] = {
        "num_evaluated": {s: rows.counts.get(s) for s in SPLITS},
                "rows": {s: digest[:8] for s, digest in rows.digests.items()}, "x": x_of(run)}  # fmt: skip
    return {
        "table": table,
        "variant": variant,
        **{name: facts.get(name) for name in IDENTITY},
        **values,
        **{name: facts.get(name) for name in (*quantities.COSTS, "converged", "num_parameters", "num_train")},
        **{FACTS[name].format(s): value for name, own in of_split.items() for s, value in own.items()},
        "measurement": measurement or None,
        OTHER_ROWS: other_rows,
        **{name: facts.get(name) for name in MACHINE},
        "vem": facts.get("versions", {}).get("vem"),
        "config_hash": facts.get("config_hash"),
        "repeated_in": shlex.join(repeats) or None,
        "directory": gathered.relative(run.directory),
        "evaluated": bool(run.evaluation),
        "damaged": " | ".join(relative_damage(rows.damage, gathered.base)) or None,
        "notes": " | ".join(map(str, facts.get("notes") or [])) or None,
        "error": facts.get("error"),
    }


def relative_damage(damage: Sequence[str], base: Path) -> list[str]:
    """The sentences with paths as the report names them."""
    return [text.replace(f"{base}/", "") for text in damage]


# --- what evaluation.json holds


def numbers(run: RunRecord) -> dict[str, Any]:
    """What evaluation.json says: the ELBO and its terms, what the gaps are, and the checks that failed.

    Columns as in :mod:`vem.report.quantities`. Gaps, log p(x) and families are there where a best q was sought;
    ``SPLIT_exact_loss`` where log p(x) is known without. ``SPLIT_checks`` names the checks that failed.
    """
    row: dict[str, Any] = {}
    exact = {split: exact_log_marginal(run, split) for split in SPLITS}
    for split in SPLITS:
        terms = {name: _term(run, split, name) for name in ("elbo", "reconstruction", "kl")}
        row |= cells(split, terms | {"log_marginal": exact[split]})
    for split in SPLITS:
        part, across = run.part(split), mapping(mapping(run.evaluation.get("across_splits")).get(split))
        others, gaps = mapping(part.get("others")), mapping(part.get("gaps"))
        bounds = {name: others.get(name.removesuffix("_bound")) for name in quantities.BOUNDS}
        row |= cells(split, {name: _bound(entry) for name, entry in bounds.items() if isinstance(entry, Mapping)})
        # The inference gap alone, which exact models have for nothing, is no gap run.
        sought = any(_read(gaps.get(kind)).mean is not None for kind in GAPS if kind != "inference")
        row |= _measured(split, part, gaps) if sought else {}
        of_model = {f"model_generalization_{k}": v for k, v in mapping(across.get("model_generalization")).items()}
        between = {name: _read(across.get(name, of_model.get(name))) for name in quantities.GENERALIZATION}
        row |= cells(split, {name: found for name, found in between.items() if found.mean is not None})
        known, elbo = exact[split].mean, _read(part.get("elbo")).mean
        if not sought and known is not None and elbo is not None:
            paired = _read(gaps.get("inference"))
            row |= cells(split, {"exact_loss": paired if paired.mean is not None else _read({"mean": known - elbo})})
    said = {"not_tested": not_tested(run.evaluation), "checks_failed": failed_names(run.evaluation)}
    return row | {name: "; ".join(texts) for name, texts in said.items() if texts}


def _term(run: RunRecord, split: str, name: str) -> Estimate:
    """The ELBO of a split, or one of its terms."""
    if not run.evaluation:
        done = run.facts["status"] == "done"
        return Estimate(reason="not evaluated (evaluation=none)" if done else "the run is not finished")
    if not run.part(split):
        return Estimate(reason=f"there are no {split} data")
    return _read(run.part(split).get(name), f"evaluation.json has no {name} for {split}")


def _read(entry: Any, absent: str = "not measured") -> Estimate:
    """An entry with its interval, or the reason that stands in its place or in that of its mean.

    Of two bounds, each loose, the lower limit is not the difference that is shown.
    """
    content = mapping(entry)
    mean, low, high = map(finite, (content.get("mean"), *known_ends(content)))
    se, mc_se = (None if mean is None else finite(content.get(name)) for name in ("se", "mc_se"))
    limits = content.get("identified")
    ends = limits if isinstance(limits, list) and len(limits) == 2 else (None, None)
    instead = mapping(content.get("mean")) or content
    reason = str(instead.get("reason") or absent) if mean is None else None
    # ``sought``: whether it is a gap of this strategy.
    return Estimate(mean, se, mc_se, low, high, finite(ends[0]), finite(ends[1]), sides(content)[0], reason=reason,
                    sought="mean" in content)  # fmt: skip


def _bound(entry: Mapping[str, Any]) -> Estimate:
    ess, loose = finite(mapping(entry.get("ess")).get("median")), entry.get("trustworthy") is False
    return _read(entry.get("lower"))._replace(kind=_word(entry.get("kind")), ess=ess, loose=loose)


def exact_log_marginal(run: RunRecord, split: str) -> Estimate:
    """log p(x) where it is known: in closed form, or by a method whose lower and upper ends are one (quadrature)."""
    entry = mapping(run.part(split).get("log_marginal"))
    lower, upper = (finite(mapping(entry.get(end)).get("mean")) for end in ("lower", "upper"))
    if entry.get("kind") != "exact" and (lower is None or lower != upper):
        return Estimate(reason="no exact log p(x)")
    return _read(entry.get("lower"), f"evaluation.json has no log p(x) for {split}")


def _measured(split: str, part: Mapping[str, Any], gaps: Mapping[str, Any]) -> dict[str, Any]:
    """The gaps of a split, what they are taken from, its checks, and what each family costs where there are others."""
    marginal = mapping(part.get("log_marginal"))
    width = mapping(marginal.get("simulated_width"))  # of the interval, on data that the model made
    upper = _read(marginal.get("upper"), "no upper bound on log p(x)")
    found = {name: _read(gaps.get(kind)) for kind, name in GAPS.items()}
    found["log_marginal_lower"] = _read(marginal.get("lower"), "log p(x) was not estimated")
    row = cells(split, found | {"log_marginal_upper": upper})
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
    row |= cells(split, {"active_units": Estimate(finite(mapping(part.get("diagnostics")).get("active_units")))})
    known = {name: entry for name, entry in mapping(part.get("families")).items() if isinstance(entry, Mapping)}
    for family, entry in known.items() if not all(entry.get("own") for entry in known.values()) else ():
        there = {name: entry[at] for name, at in quantities.OF_FAMILY.items() if at in entry and name != "converged"}
        share = Estimate(finite(entry.get("converged")))
        row |= cells(split, {name: _read(cost) for name, cost in there.items()} | {"converged": share}, family)
    return row


def gap_name(evaluation: Mapping[str, Any]) -> str:
    """What L[q*] − L[q] is called for this run: ``amortization`` or ``optimization``."""
    gaps = [mapping(mapping(part).get("gaps")) for part in evaluation.values()]
    return "amortization" if any("amortization" in found for found in gaps) else "optimization"


def _word(value: Any) -> str | None:
    return None if value is None else str(value)
