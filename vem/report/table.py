"""The comparison table as text."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pandas as pd

from vem.report.aggregate import present, whole

UNDEFINED = "undefined"
COLUMNS = {"train_elbo": "train ELBO", "test_elbo": "test ELBO", "test_log_marginal": "test log p(x)"}


def number(value: float, digits: int = 2) -> str:
    """A number with thousands set apart.

    >>> number(-98.4, 2), number(1234567, 0)
    ('-98.40', '1,234,567')
    """
    return f"{value:,.{digits}f}"


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
    widths = [max(len(row[i]) for row in [header, *rows]) for i in range(len(header))]

    def line(row: Sequence[str]) -> str:
        places = zip(row, widths, right, strict=True)
        return "  ".join(t.rjust(w) if r else t.ljust(w) for t, w, r in places).rstrip()

    return [line(header), "  ".join("─" * w for w in widths), *(line(row) for row in rows)]


def comparison_table(groups: pd.DataFrame) -> list[str]:
    """The lines of one table of groups on the same data, with footnotes and why a number is undefined."""
    rows = [{str(k): present(v) for k, v in row.items()} for row in groups.to_dict("records")]
    several = any(row["seeds"] > 1 for row in rows)
    mark = "*" if several else ""
    facts = ["strategy", "model"]
    facts += [name for name in ("family", "latent_dim") if len({r[name] for r in rows} - {None}) > 1]
    facts += ["variant"] if any(row["variant"] for row in rows) else []
    shown = [n for n in COLUMNS if n != "test_log_marginal" or any(r[f"{n}_mean"] is not None for r in rows)]
    header = [
        *({"variant": "settings"}.get(f, f) for f in facts),
        "seeds",
        *(COLUMNS[n] for n in shown),
        "training s",
        "decoder evaluations",
        "status",
    ]
    body = [
        [
            *(_text(row[f]) for f in facts),
            f"{row['seeds']}" if row["seeds"] == row["runs"] else f"{row['seeds']} of {row['runs']}",
            *("–" if n == "test_log_marginal" and row[f"{n}_mean"] is None else estimate(row, n, mark) for n in shown),
            _cost(row["training_seconds_mean"], 1),
            _cost(row["decoder_evaluations_mean"], 0),
            row["status"],
        ]
        for row in rows
    ]
    right = [False] * len(facts) + [True] * (len(header) - len(facts) - 1) + [False]
    return [
        *align(header, body, right),
        *_footnotes(several, any(r["seeds"] == 1 for r in rows)),
        *_reasons(rows),
    ]


def _text(value: Any) -> str:
    return "–" if value in (None, "") else str(whole(value))


def _cost(value: float | None, digits: int) -> str:
    return "–" if value is None else number(value, digits)


def _footnotes(several: bool, single: bool) -> list[str]:
    over = "over seeds" if several else "over data"
    lines = [f"ELBO and exact log p(x) in nats per datum, larger is better; ± one standard error {over}."]
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
