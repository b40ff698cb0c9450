"""The comparison tables: groups with their labels, and paired differences to the baseline."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd

from vem.errors import VemError, did_you_mean
from vem.report.aggregate import aggregate, labels, present
from vem.report.frame import Framed
from vem.report.paired import Difference, Scores, paired

TEST = "test"


class Rivals:
    """The groups of one table, to be compared pair by pair."""

    def __init__(self, groups: pd.DataFrame, runs: pd.DataFrame, framed: Framed) -> None:
        rows = {row["directory"]: row for row in runs.to_dict("records")}
        self.rows: dict[str, dict[int, Mapping[Any, Any]]] = {}
        self.labels = [str(label) for label in groups["label"]]
        self.scores: dict[str, dict[int, Scores]] = {}
        for label, directories in zip(self.labels, groups["directories"], strict=True):
            by_seed = {present(rows[d]["seed"]): rows[d] for d in reversed(directories)}
            self.rows[label] = {int(seed): row for seed, row in by_seed.items() if seed is not None}
            self.scores[label] = {seed: _scores(row, framed) for seed, row in self.rows[label].items()}

    def number(self, label: str, seed: int, name: str) -> float | None:
        """A number of one run."""
        return present(self.rows[label][seed].get(name))

    def difference(self, label: str, baseline: str) -> Difference:
        """Test ELBO of ``label`` − that of ``baseline``."""
        return paired(self.scores[label], self.scores[baseline])


def _scores(row: Mapping[Any, Any], framed: Framed) -> Scores:
    rows, elbo = framed.evaluated[row["directory"]].elbo.get(TEST, (None, None))
    return Scores(present(row["test_elbo"]), rows, elbo)


def grouped(framed: Framed) -> dict[str, pd.DataFrame]:
    """By table, its groups with ``label``, ``num_parameters``, ``num_train`` and ``num_data``."""
    groups = aggregate(framed.rows)
    out: dict[str, pd.DataFrame] = {}
    rows = {row["directory"]: row for row in framed.rows.to_dict("records")}
    for table in dict.fromkeys(groups["table"]) if len(groups) else ():
        part = groups[groups["table"] == table].reset_index(drop=True)
        part.insert(0, "label", labels(part))
        for name, column in (("num_parameters",) * 2, ("num_train",) * 2, ("num_data", "num_test_evaluated")):
            part[name] = [_common(rows[d][column] for d in found) for found in part["directories"]]
        out[str(table)] = part
    return out


def _common(values: Any) -> int | None:
    """The number that the runs of a group have in common, the smallest where they differ."""
    found = [int(v) for v in map(present, values) if v is not None]
    return min(found) if found else None


def best_label(groups: pd.DataFrame) -> str | None:
    """The group with the highest mean test ELBO; None where no group has one."""
    known = groups[groups["test_elbo_mean"].notna()]
    return None if known.empty else str(known["label"].iloc[int(known["test_elbo_mean"].astype(float).argmax())])


def chosen_baseline(groups: pd.DataFrame, wanted: str | None) -> str | None:
    """The label of the baseline: the one that is wanted, if the table has it, by its label or its strategy alone."""
    names = list(groups["label"])
    if wanted in names:
        return wanted
    of_strategy = list(groups.loc[groups["strategy"] == wanted, "label"]) if wanted is not None else []
    return str(of_strategy[0]) if len(of_strategy) == 1 else best_label(groups)


def check_baseline(tables: Sequence[pd.DataFrame], wanted: str | None) -> None:
    """Refuse a baseline that no table has.

    Raises:
        VemError: no group is called so, or several are.
    """
    if wanted is None or any(chosen_baseline(g, wanted) is not None and _has(g, wanted) for g in tables):
        return
    names = list(dict.fromkeys(str(label) for groups in tables for label in groups["label"]))
    shown = "; ".join(names[:12]) + (f"; and {len(names) - 12} more" if len(names) > 12 else "")
    if any((groups["strategy"] == wanted).any() for groups in tables):
        raise VemError(f"--baseline {wanted!r} is the strategy of several groups: name one of them. They are: {shown}.")
    near = did_you_mean(wanted, names)
    raise VemError(f"--baseline {wanted!r}: no group is called so{near} The groups are: {shown}.")


def _has(groups: pd.DataFrame, wanted: str) -> bool:
    return wanted in set(groups["label"]) or int((groups["strategy"] == wanted).sum()) == 1


def with_differences(groups: pd.DataFrame, rivals: Rivals, baseline: str | None) -> pd.DataFrame:
    """The groups with ``paired_mean``, ``_se``, ``_ci95_low``, ``_ci95_high``, ``_seeds``, ``_reason``."""
    rows: list[tuple[Any, ...]] = []
    for label in groups["label"]:
        if baseline is None:
            rows.append((None, None, None, None, None, "no group has a test ELBO"))
        elif label == baseline:
            rows.append((None, None, None, None, None, "the baseline"))
        else:
            d = rivals.difference(str(label), baseline)
            rows.append((d.mean, d.se, d.low, d.high, d.seeds, d.reason))
    names = [f"paired_{end}" for end in ("mean", "se", "ci95_low", "ci95_high", "seeds", "reason")]
    return pd.concat([groups, pd.DataFrame(rows, columns=names, index=groups.index)], axis="columns")
