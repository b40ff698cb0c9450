"""The comparison table as text."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pandas as pd

from vem.report.alike import fewer
from vem.report.ends import AT_LEAST, ONE_END, ends_text
from vem.report.estimates import FAMILY_PARTS, GAPS, GENERALIZATION, OTHERS, PASSED
from vem.report.labels import CUT, labels, short_variants, whole
from vem.report.quantities import present
from vem.storage.records import SPLITS

UNDEFINED = "undefined"
BASELINE = "To baseline"
PAIRED = "paired over common seeds (over data where there is one), 95 % interval."
COLUMNS = {"train_elbo": "train ELBO", "test_elbo": "test ELBO", "test_log_marginal": "test log p(x)"}

CHECKS_FAILED = ", CHECKS FAILED"
CUT_NOTE = f"{CUT}: further settings of the measurement differ; in full in runs.csv (variant) and evaluation.json."
GAP_NOTES = {
    "approximation": "approximation log p(x) − L[q*]",
    "amortization": "amortization L[q*] − L[q] of an encoder",
    "optimization": "optimization L[q*] − L[q] of stored rows",
    "inference": "inference log p(x) − L[q]",
}


def number(value: float, digits: int = 2) -> str:
    """A number with thousands set apart.

    >>> number(-98.4, 2), number(1234567, 0), number(-0.001)
    ('-98.40', '1,234,567', '0.00')
    """
    return f"{round(value, digits) + 0.0:,.{digits}f}"  # −0.0 + 0.0 is 0.0


def estimate(row: dict[str, Any], name: str, mark: str) -> str:
    """``mean ± se`` over seeds, or over the data of one seed with ``mark``; else ``undefined``."""
    mean, se, data_se = (present(row[f"{name}_{part}"]) for part in ("mean", "se", "data_se"))
    if mean is None:
        return UNDEFINED
    error = se if se is not None else data_se
    digits = 2 if error is None or error < 100 else 0
    if error is None:
        return number(mean, digits)
    return f"{number(mean, digits)} ± {number(error, digits)}{mark if se is None else ''}"


def align(header: Sequence[str], rows: Sequence[Sequence[str]], right: Sequence[bool]) -> list[str]:
    """Lines of equal columns.

    >>> align(["a", "n"], [["xx", "1"], ["y", "10"]], [False, True])
    ['a    n', '──  ──', 'xx   1', 'y   10']
    """
    rows = [[" ".join(text.split("\n")) for text in row] for row in rows]  # a line break would tear the columns
    widths = [max(len(row[i]) for row in [header, *rows]) for i in range(len(header))]

    def line(row: Sequence[str]) -> str:
        places = zip(row, widths, right, strict=True)
        return "  ".join(t.rjust(w) if r else t.ljust(w) for t, w, r in places).rstrip()

    return [line(header), "  ".join("─" * w for w in widths), *(line(row) for row in rows)]


def comparison_table(groups: pd.DataFrame, baseline: str | None = None) -> list[str]:
    """The lines of one table of groups on the same data, with footnotes and why a number is undefined.

    ``baseline``: label of the group that the paired differences are taken to.
    """
    rows = [{str(k): present(v) for k, v in row.items()} for row in groups.to_dict("records")]
    several = any(row["seeds"] > 1 for row in rows)
    mark = "*" if several else ""
    for row, short in zip(rows, short_variants([row["variant"] or "" for row in rows]), strict=True):
        row["variant"] = short
    facts = ["strategy", "model"]
    facts += [name for name in ("family", "latent_dim") if len({r[name] for r in rows} - {None}) > 1]
    facts += ["variant"] if any(row["variant"] for row in rows) else []
    shown = [n for n in COLUMNS if n != "test_log_marginal" or any(r[f"{n}_mean"] is not None for r in rows)]
    differs = any(row.get("paired_mean") is not None for row in rows)
    sized = any(row.get("num_train") is not None for row in rows)
    header = [
        *({"variant": "settings"}.get(f, f) for f in facts),
        "seeds",
        *(COLUMNS[n] for n in shown),
        *(["test, to baseline"] if differs else []),
        *(["trained on"] if sized else []),
        "training s",
        "decoder evaluations",
        "status",
    ]
    body = [
        [
            *(_text(row[f]) for f in facts),
            f"{row['seeds']}" if row["seeds"] == row["runs"] else f"{row['seeds']} of {row['runs']}",
            *(
                "–" if n == "test_log_marginal" and row[f"{n}_mean"] is None else estimate(row, n, mark) + fewer(row, n)
                for n in shown
            ),
            *([_paired(row)] if differs else []),
            *([_cost(row.get("num_train"), 0)] if sized else []),
            _cost(row["training_seconds_mean"], 1),
            _cost(row["decoder_evaluations_mean"], 0),
            row["status"] + (CHECKS_FAILED if row.get("checks_failed") else ""),
        ]
        for row in rows
    ]
    right = [False] * len(facts) + [True] * (len(header) - len(facts) - 1) + [False]
    return [
        *align(header, body, right),
        *_footnotes(several, any(r["seeds"] == 1 or _of_one(r) for r in rows)),
        *([f"{BASELINE} {baseline}: difference of test ELBOs, {PAIRED}"] if differs else []),
        *_reasons(rows),
        *([CUT_NOTE] if any(CUT in row["variant"] for row in rows) else []),
        *gap_table(rows, labels(groups), mark),
        *family_table(rows, labels(groups), mark),
        *generalization(rows, labels(groups), mark),
        *further_bounds(rows, labels(groups), mark),
    ]


def _of_one(row: dict[str, Any]) -> bool:
    """Whether one seed of several alone has a number."""
    return any(count == 1 for name, count in row.items() if name.endswith("_over"))


def _paired(row: dict[str, Any]) -> str:
    """The difference to the baseline with its interval."""
    mean, low, high = (row[f"paired_{end}"] for end in ("mean", "ci95_low", "ci95_high"))
    if mean is None:
        return "–"
    return f"{number(mean)}" + (f" ({number(low)} to {number(high)})" if low is not None and high is not None else "")


def gap_table(rows: Sequence[dict[str, Any]], names: Sequence[str], mark: str) -> list[str]:
    """The lines of the table of gaps, a row for each group and split; none where no gap was measured.

    rows, names: one for each group.
    """
    places = [
        (name, row, split)
        for name, row in zip(names, rows, strict=True)
        for split in SPLITS
        if any(row.get(f"{split}_{gap}_gap_mean") is not None for gap in GAPS)
    ]
    if not places:
        return []
    gaps = [g for g in GAPS if any(row.get(f"{split}_{g}_gap_mean") is not None for _, row, split in places)]
    units = any(row.get(f"{split}_active_units_mean") is not None for _, row, split in places)
    header = ["gaps of", "on", *gaps, "log p(x)", "log p(x) by", *(["active units"] if units else []), "checks"]
    body = [
        [
            name + next((text for gap in gaps if (text := fewer(row, f"{split}_{gap}_gap"))), ""),
            f"{split}, {row[f'{split}_gap_data']} data" if row.get(f"{split}_gap_data") else split,
            *(_bounded(row, f"{split}_{gap}_gap", mark) for gap in gaps),
            _between_bounds(row, f"{split}_log_marginal", mark),
            _text(row.get(f"{split}_log_marginal_kind")),
            *([_units(row.get(f"{split}_active_units_mean"))] if units else []),
            _checks(row.get(f"{split}_checks")),
        ]
        for name, row, split in places
    ]
    right = [False, False, *(True for _ in gaps), True, False, *([True] if units else []), False]
    named = [GAP_NOTES[gap] for gap in gaps]
    lines = [f"Gaps in nats per datum, paired: {', '.join(named)}."]
    if any("≥" in cell for row in body for cell in row):
        lines.append("≥: log p(x) is known from below alone, so the truth is at least this.")
    if any(AT_LEAST in cell for row in body for cell in row):
        lines.append(ONE_END.capitalize())
    return ["", *align(header, body, right), *lines, *_widths(places)]


def family_table(rows: Sequence[dict[str, Any]], names: Sequence[str], mark: str) -> list[str]:
    """The lines of the table of families, where more than the strategy's own was measured.

    rows, names: one for each group.
    """
    body = []
    for who, row in zip(names, rows, strict=True):
        for split in SPLITS:
            start, end = f"{split}_family_", "_converged_mean"
            for family in (c.removeprefix(start).removesuffix(end) for c in row if c.startswith(start) and end in c):
                name = f"{start}{family}"
                if row.get(f"{name}_best_elbo_mean") is not None:
                    share = row[f"{name}{end}"]
                    costs = [_bounded(row, f"{name}_{part}", mark) for part in FAMILY_PARTS]
                    body.append(
                        [
                            who + fewer(row, f"{name}_best_elbo"),
                            split,
                            family,
                            *costs,
                            "–" if share is None else f"{share:.0%}",
                        ]
                    )
    if not body:
        return []
    header = ["families of", "on", "family", "L[q*]", "approximation", "gain over own", "converged"]
    note = "Gain over own: L[q*] of this family − L[q*] of the strategy's own; converged: share of the data."
    return ["", *align(header, body, [False] * 3 + [True] * 4), note]


def generalization(rows: Sequence[dict[str, Any]], names: Sequence[str], mark: str) -> list[str]:
    """How much larger the amortization gap is on held-out data, a line for each group and split.

    rows, names: one for each group.
    """
    found = []
    for who, row in zip(names, rows, strict=True):
        for name, split in ((f"{split}_{GENERALIZATION}", split) for split in SPLITS):
            if row.get(f"{name}_mean") is not None:
                ends = ends_text(row.get(f"{name}_ci95_low"), row.get(f"{name}_ci95_high"), number)
                ends = ends if not ends or ends.startswith(AT_LEAST) else f"95 % interval {ends}"
                found.append(f"  {who}{fewer(row, name)}, {split}: {estimate(row, name, mark)}{ends and f', {ends}'}")
    title = "Generalization of amortized inference: amortization gap on held-out data − on training data, in nats."
    return ["", title, *found] if found else []


def further_bounds(rows: Sequence[dict[str, Any]], names: Sequence[str], mark: str) -> list[str]:
    """The lower bounds beside the one that the gaps are taken from, a line each; they gate nothing.

    rows, names: one for each group.
    """
    found = []
    for who, row in zip(names, rows, strict=True):
        for bound in (f"{split}_{other}_bound" for split in SPLITS for other in OTHERS):
            kind = row.get(f"{bound}_kind")
            if kind is None or row.get(f"{bound}_mean") is None:
                continue
            samples, drawn = row.get(f"{bound}_ess"), str(kind).rpartition("K=")[2]
            text = "" if samples is None else f", {number(samples, 0 if samples >= 10 else 1)} effective samples"
            text += f" of {drawn}" if text and drawn.isdigit() else ""
            text += "  ! LOOSE" if row.get(f"{bound}_loose") else ""
            found.append(
                f"  {who}{fewer(row, bound)}, {bound.partition('_')[0]}: {kind}: {estimate(row, bound, mark)}{text}"
            )
    if not found:
        return []
    lines = [
        "",
        "Further lower bounds on log p(x), which the gaps are not taken from; effective samples: median over data.",
    ]
    if any(line.endswith("LOOSE") for line in found):
        lines.append("! LOOSE: too few effective samples, so that the bound is too low by an unknown amount.")
    return [*lines, *found]


def _widths(places: Sequence[tuple[str, dict[str, Any], str]]) -> list[str]:
    """What the lower bounds may still miss, a line for each group: the interval's width on simulated data."""
    found = {}
    for name, row, split in places:
        width, worst = (row.get(f"{split}_log_marginal_simulated_{end}") for end in ("width", "worst"))
        if width is not None and worst is not None:
            found[name] = f"{number(width, 3)} nats wide in the mean, {number(worst, 3)} at worst"
    if not found:
        return []
    lines = ["On data that the model itself made, log p(x) lies in an interval that tells what the bound may miss;"]
    lines += ["real data may differ from those:", *(f"  {name}: {text}" for name, text in found.items())]
    return lines


def _bounded(row: dict[str, Any], name: str, mark: str) -> str:
    """The estimate, with ≥ before what is known from below alone, and the one end of its interval behind it."""
    if row.get(f"{name}_mean") is None:
        return "–"
    if not row.get(f"{name}_at_least"):
        return estimate(row, name, mark)
    end = ends_text(row.get(f"{name}_ci95_low"), None, number)
    return f"≥ {estimate(row, name, mark)}" + (f", {end}" if end else "")


def _between_bounds(row: dict[str, Any], name: str, mark: str) -> str:
    """log p(x), or the two bounds that it lies between."""
    lower, upper = (row.get(f"{name}_{end}_mean") for end in ("lower", "upper"))
    if lower is None or upper is None or number(upper) == number(lower):
        return _bounded(row, f"{name}_lower", mark)
    return f"{number(lower)} to {number(upper)}"


def _checks(names: str | None) -> str:
    """The checks that failed in some seed, else that they passed."""
    failed = [name for name in (names or "").split("; ") if name and name != PASSED]
    return f"FAILED: {', '.join(dict.fromkeys(failed))}" if failed else names or "–"


def _units(value: float | None) -> str:
    return "–" if value is None else f"{value:g}" if value == round(value) else f"{value:.1f}"


def _text(value: Any) -> str:
    return "–" if value in (None, "") else str(whole(value))


def _cost(value: float | None, digits: int) -> str:
    return "–" if value is None else number(value, digits)


def _footnotes(several: bool, single: bool) -> list[str]:
    over = "over seeds" if several else "over data"
    lines = [f"ELBO and known log p(x) in nats per datum, larger is better; ± one standard error {over}."]
    if several and single:
        lines.append("* one seed: ± is over data.")
    return lines


def _reasons(rows: Sequence[dict[str, Any]]) -> list[str]:
    """Why the ELBOs that read "undefined" do."""
    lines: dict[str, list[str]] = {}
    for row in rows:
        for name in ("train_elbo", "test_elbo"):
            if row[f"{name}_mean"] is None:
                lines.setdefault(f"{row['strategy']}: {row[f'{name}_reason']}", []).append(COLUMNS[name])
    return [f"undefined: {' and '.join(dict.fromkeys(names))} of {who}" for who, names in lines.items()]
