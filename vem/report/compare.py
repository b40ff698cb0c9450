"""The comparison of runs as data: ``vem.compare``, which the report renders."""

from __future__ import annotations

import html
import os
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import product
from pathlib import Path
from typing import Any

import pandas as pd

from vem.report.findings import Findings, Table
from vem.report.intervals import corrected
from vem.report.quantities import GAPS, elbo_order, estimate, families, gaps_of, plain_rows
from vem.report.ranking import Ranking, Verdict
from vem.report.read import findings
from vem.report.summary import comparison_text
from vem.storage.records import SPLITS

GROUP = ("label", "strategy", "model", "family", "latent_dim", "runs", "seeds", "num_parameters", "num_data")
COSTS = ("training_seconds", "decoder_evaluations")
ERROR = ("mean", "se", "low", "high")
OF_GAP = (*ERROR, "data_low", "data_high", "identified_low", "identified_high")
ELBOS = ("test_elbo", "test_elbo_se", "train_elbo", "train_elbo_se")
TABLE = ("data", *GROUP, *ELBOS[:2], "test_elbo_reason", *ELBOS[2:], *COSTS, "checks_failed")
DIFFERENCE = ("data", "label", "baseline", *ERROR, "level", "over", "seeds", "data_se", "data_low", "data_high",
              "reason")  # fmt: skip
GAP = ("data", "label", "split", "quantity", "family", *OF_GAP, "one_sided", "kind", "seeds")
# Numbers also where none is known: else a column of None could not be compared with 0.
NUMBERS = {*ELBOS, *COSTS, "data_se", *OF_GAP}


def compare(dirs: str | os.PathLike[str] | Iterable[str | os.PathLike[str]], baseline: str | None = None) -> Comparison:
    """The runs at or below one folder, or several, compared as ``python -m vem.report`` does; nothing is written.

    baseline: label of the group that the others are compared with, or its strategy where one group has it; by default
    the group with the highest mean test ELBO. Runs that are equal in everything but the seed are one group; runs
    on other data are compared apart, by the column ``data`` of each table.

    >>> import vem
    >>> runs = Path(vem.__file__).parents[1] / "tests" / "golden" / "reports" / "paired"
    >>> found = compare(runs, baseline="local")
    >>> found.table[["label", "seeds", "test_elbo", "test_elbo_se"]].round(3)
           label  seeds  test_elbo  test_elbo_se
    0      local      3   -101.625         0.013
    1      third      3   -101.675         0.013
    2  amortized      3   -102.003         0.011
    >>> found.differences[["label", "mean", "low", "high", "level"]].round(3)
           label   mean    low   high  level
    0  amortized -0.378 -0.501 -0.255  0.975
    1      third -0.050 -0.050 -0.050  0.975
    >>> [(verdict.best, verdict.rival, verdict.kind) for verdict in found.verdicts]
    [('local', 'third', 'ahead'), ('local', 'amortized', 'ahead')]

    Raises:
        VemError: a folder does not exist, no run lies below any of them, or no group is called ``baseline``.
    """
    roots = [dirs] if isinstance(dirs, str | os.PathLike) else list(dirs)
    return Comparison(findings([Path(root) for root in roots], baseline))


@dataclass(frozen=True)
class Comparison:
    """Groups of runs beside each other, in nats per data point where it says nothing else; larger ELBOs are better.

    ``print`` shows it as the terminal does, a notebook its tables. What is not known is missing (None or NaN), and
    ``reason`` says why. ``data`` names the data in every table.
    """

    findings: Findings

    @cached_property
    def table(self) -> pd.DataFrame:
        """A row for each group, the highest test ELBO first.

        ``label`` (short, unique on its data), ``strategy``, ``model``, ``family``, ``latent_dim``; ``runs`` and
        ``seeds``: planned, and with a result; ``num_parameters`` of the model; ``num_data``: evaluated test data;
        ``test_elbo`` and ``train_elbo``: means over seeds, with ``…_se`` over seeds (of one seed over its data);
        ``test_elbo_reason``: why there is none; ``training_seconds`` and ``decoder_evaluations``: means over seeds;
        ``checks_failed``: by any seed.
        """
        return self._frame(_groups, TABLE)

    @cached_property
    def differences(self) -> pd.DataFrame:
        """Test ELBO of each group − that of the baseline, paired data point by data point and seed by seed.

        ``label``, ``baseline``; ``mean``; ``se``, ``low``, ``high``: over the common ``seeds``, with the test data held
        fixed, or over data where there is one (``over``: ``seeds`` or ``data``); ``data_se``, ``data_low``,
        ``data_high``: over data, of the difference averaged over the seeds. Intervals are Student's at ``level`` =
        1 − 0.05/m, corrected for the m differences on these data (Bonferroni): all of them hold together with 95 %.
        ``reason``: why there is no difference, or no interval.
        """
        return self._frame(_differences, DIFFERENCE)

    @cached_property
    def gaps(self) -> pd.DataFrame:
        """A row for each gap of each group on each ``split``, where gaps were measured.

        ``quantity``: ``approximation_gap``, ``amortization_gap``, ``optimization_gap``, ``inference_gap``, or
        ``exact_loss`` of a model whose log p(x) is known and that no q* was sought for (see
        :data:`vem.report.quantities.QUANTITIES`); ``family``: None for the strategy's own, else the other family
        that q* was sought in; ``mean`` over ``seeds`` with ``se``; ``low``, ``high``: 95 % interval over seeds (of one
        seed over its data); ``data_low``, ``data_high``: over data. ``one_sided``: log p(x) is known from below alone,
        so that the gap is at least this and ``high`` is missing; ``identified_low``, ``identified_high``: the mean, if
        log p(x) were known, would lie between these; ``kind``: how log p(x) was found.
        """
        return self._frame(_gaps, GAP)

    def _frame(self, rows: Callable[[Table], Iterable[dict[str, Any]]], columns: tuple[str, ...]) -> pd.DataFrame:
        found = [{"data": table.name, **row} for table in self.findings.tables for row in rows(table)]
        numbers = [column for column in columns if column in NUMBERS]
        return pd.DataFrame(found, columns=list(columns)).astype(dict.fromkeys(numbers, float))

    @cached_property
    def verdicts(self) -> tuple[Verdict, ...]:
        """The lead of the best group over each other one, on each data; then at each value of a swept axis."""
        return tuple(
            replace(verdict, data=table.name)
            for table in self.findings.tables
            for sentence in table.answer
            if isinstance(sentence.about, Ranking)
            for verdict in sentence.about.verdicts.values()
        )

    def __str__(self) -> str:
        return "\n".join(comparison_text(self.findings)).rstrip()

    def _repr_html_(self) -> str:
        shown = {"Comparison": self.table, "Differences to the baseline": self.differences, "Gaps": self.gaps}
        parts = [
            f"<h4>{title}</h4>{rows.to_html(index=False, na_rep='')}" for title, rows in shown.items() if len(rows)
        ]
        said = (s.text for table in self.findings.tables for s in table.answer if s.kind == "finding")
        return "".join([*parts, *(f"<p>{html.escape(text)}</p>" for text in said)])


def _groups(table: Table) -> Iterator[dict[str, Any]]:
    for row in sorted(plain_rows(table.groups), key=elbo_order):
        found = {f"{split}_elbo": estimate(row, split, "elbo") for split in ("test", "train")}
        yield {
            **{name: row.get(name) for name in (*GROUP, "checks_failed")},
            **{name: own.mean for name, own in found.items()},
            **{f"{name}_se": own.data_se if own.se is None else own.se for name, own in found.items()},
            **{cost: estimate(row, None, cost).mean for cost in COSTS},
            "test_elbo_reason": found["test_elbo"].reason,
        }


def _differences(table: Table) -> Iterator[dict[str, Any]]:
    level = corrected(len(table.differences))
    for label, d in table.differences.items():
        (low, high), (data_low, data_high) = d.ends(level)
        ends = {"low": low, "high": high, "level": level, "data_low": data_low, "data_high": data_high}
        yield {"label": label, "baseline": table.baseline, **d._asdict(), **ends}


def _gaps(table: Table) -> Iterator[dict[str, Any]]:
    for row, split in product(plain_rows(table.groups), SPLITS):
        own: list[tuple[str, str | None]] = [(GAPS[kind], None) for kind in gaps_of(row, split)]
        own = own or [(name, None) for name in ("exact_loss",) if estimate(row, split, name).mean is not None]
        for quantity, family in (*own, *((GAPS["approximation"], family) for family in families(row, split))):
            found = estimate(row, split, quantity, family)
            kind = "exact" if quantity == "exact_loss" else estimate(row, split, "log_marginal_lower").kind
            of = {"label": row["label"], "split": split, "quantity": quantity, "family": family}
            yield found._asdict() | of | {"kind": kind, "seeds": found.over or row["seeds"]}
