"""Means over seeds: a row for each group of runs that differ in their seed alone."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import cache
from typing import Any

import pandas as pd

from vem.report import quantities
from vem.report.alike import OTHER_ROWS, TEST, Run, having, measured, measured_alike, on_the_same_rows
from vem.report.intervals import AGREE, BETWEEN, OF_DATUM, interval, mean_and_se, over_data
from vem.report.kin import by
from vem.report.labels import GROUP, whole
from vem.report.quantities import Estimate, Key, column, estimate, fact, group_cells, keys_of, plain_rows
from vem.storage.records import SPLITS

NOT_EVALUATED = "not evaluated"
# What the runs of a group have in common, the smallest where they differ.
COMMON = {"num_parameters": "num_parameters", "num_train": "num_train", "num_data": "num_test_evaluated"}
OTHER = "evaluated on other data than the table is about"
Read = Callable[[str], Mapping[str, pd.DataFrame]]  # by directory, the numbers of each datum by split


def aggregate(runs: pd.DataFrame, read: Read = lambda directory: {}) -> pd.DataFrame:
    """One row for each group of runs that differ in their seed alone, in order of appearance.

    ``NAME_mean`` and ``NAME_se`` are over the finished seeds, those that were not evaluated left out where others
    of the group were, and named in ``status``; ``NAME_data_se`` is the error over data: of one seed its own. If one
    finished seed has no number, the group has none, and ``NAME_reason`` says why. ``NAME_over``: how many of the seeds
    have it measured alike, where not all of them do. Of gaps, and where a best q was sought:

        NAME_ci95_low, …_high                      x̄ ± t_{n−1} s/√n over n seeds, on these data; of one over its data
                                                   (no …_high where NAME_at_least)
        NAME_data_se, NAME_data_ci95_low, …_high   over data, of the mean over seeds: of the numbers of each datum where
                                                   ``read`` gives them, else the means of the runs' own, which are not
                                                   below it (‖Σ x_s‖ ≤ Σ ‖x_s‖ for standard deviations)
        gap_seeds, without_gaps, other_gaps        how many measured gaps alike; which did not, or by other settings
    """
    rows = plain_rows(runs[runs["table"].notna()])  # the others failed before they could say what they are
    groups = by((tuple(row[k] for k in GROUP) for row in rows), rows)
    keys = [*keys_of(runs), *((None, name, None) for name in quantities.COSTS)]
    return pd.DataFrame([_Group(found, cache(read)).row(keys) for found in groups.values()])


def over_seeds(name: str, found: Sequence[Estimate], seeds: Sequence[Any]) -> Estimate:
    """The mean of a quantity with its error and interval over seeds, and those over data; or why there is none."""
    lacking = [f"seed {seed}: {own.reason}" for own, seed in zip(found, seeds, strict=True) if own.mean is None]
    have, one = [own.mean for own in found if own.mean is not None], len(found) == 1
    mean, se = mean_and_se(have) if have and (not lacking or name in quantities.OF_SOME) else (None, None)
    one_sided = any(own.one_sided for own in found)

    def every(field: str, known: bool = True) -> float | None:
        """The mean of a field that every seed has."""
        values = [getattr(own, field) for own in found]
        return None if not known or None in values else mean_and_se(values)[0]

    data_low, data_high = (every(end, mean is not None) for end in ("low", "high"))
    low, high = interval(mean, se, len(found) - 1) or (None, None)
    return Estimate(
        mean=mean,
        se=se,
        low=data_low if one else low,
        high=data_high if one else None if one_sided else high,
        identified_low=every("identified_low"),
        identified_high=every("identified_high"),
        one_sided=one_sided if mean is not None else None,  # type: ignore[arg-type]  # an empty cell
        kind=_joined(own.kind for own in found),
        reason=None if mean is not None else found[0].reason if one else lacking[0],
        data_se=every("se", mean is not None and (one or name not in (*quantities.ESTIMATES, *quantities.BOUNDS))),
        data_low=data_low,
        data_high=data_high,
        sought=any(own.sought for own in found),
        ess=min((own.ess for own in found if own.ess is not None), default=None),
        loose=any(own.loose for own in found),  # one loose seed makes a loose mean
    )


class _Group:
    """Runs that differ in their seed alone: those that count, and which of them measured their gaps alike."""

    def __init__(self, members: list[dict[str, Any]], read: Read) -> None:
        self.members, self.read = members, read
        self.done = [m for m in members if m["status"] == "done"]
        self.done = [m for m in self.done if m["evaluated"]] or self.done
        self.alike = measured_alike(self.done)

    def cells(self, key: Key) -> dict[str, Any]:
        """The columns of a number."""
        split, name, family = key
        sharing: Sequence[Run] = self.done
        if name in quantities.ESTIMATES:
            sharing = on_the_same_rows(str(split), self.done)
        elif split is not None:
            sharing = self.alike[0] if name == "active_units" else having(self.alike, split, name, family)
        if not sharing:
            return group_cells(key, Estimate(reason=OTHER if self.done else "no run is finished"))
        found = [estimate(m, *key) for m in sharing]
        number = over_seeds(name, found, [m["seed"] for m in sharing])
        mean, over = number.mean, len(sharing) if len(sharing) < len(self.done) else None
        number = number._replace(over=None if mean is None else over)
        of_data = family is None and name in (*OF_DATUM, *BETWEEN) and (split == TEST or name != "elbo")
        unsaid = number.se is not None or number.data_se is None  # of one seed its run says it
        if of_data and unsaid and mean is not None and abs(mean) > AGREE:  # else q is the posterior of every datum
            files = [self.read(m["directory"]) for m in sharing]
            if (error := over_data(str(split), name, [own.mean for own in found], files)) is not None:
                low, high = interval(mean, *error) or (None, None)
                high = None if number.one_sided else high
                number = number._replace(data_se=error[0], data_low=low, data_high=high)
        return group_cells(key, number)

    def row(self, keys: Sequence[Key]) -> dict[str, Any]:
        """The columns of the group."""
        parts: dict[str, dict[str, Any]] = defaultdict(dict)
        for key in keys:
            part = quantities.part(key)
            if key[1] != "active_units":  # which stands among the facts
                parts["gaps" if part == "limits" else part] |= self.cells(key)
        trained = [m for m in on_the_same_rows("train", self.done) if estimate(m, "train", "elbo").mean is not None]
        here = [m for m in self.done if not m.get(OTHER_ROWS)]
        return {
            **{name: self.members[0][name] for name in GROUP},
            "seeds": len(self.done),
            "runs": len(self.members),
            "status": _status([NOT_EVALUATED if m["status"] == "done" and m not in self.done else m["status"]
                               for m in self.members]),
            **parts["estimates"],
            **parts["gaps"],
            **parts["others"],
            **self._gauged(),
            **{column: value for split in SPLITS for column, value in self._facts(split).items()},
            **parts["some"],
            **{n: _joined(m[n] for m in self.done) for n in ("checks_failed", "not_tested") if n in self.members[0]},
            **parts["bounds"],
            **parts["costs"],
            "directories": [m["directory"] for m in self.done],
            OTHER_ROWS: [m["directory"] for m in self.done if m not in here],
            "unconverged": [m["directory"] for m in self.done if m.get("converged") is False],
            "train_elbo_seeds": [f"{whole(m['seed'])}={m['train_elbo']:.9g}" for m in trained],
            **{name: min((int(m[of]) for m in here if m[of] is not None), default=None) for name, of in COMMON.items()},
        }  # fmt: skip

    def _gauged(self) -> dict[str, Any]:
        """Over how many seeds the gaps are, and of how many data; which runs have none, or otherwise measured ones."""
        gauged, alike = [m for m in self.done if measured(m)], self.alike[0]
        sizes = (fact(m, "test", "num_evaluated") for m in alike)
        found = {
            "gap_seeds": len(alike),
            "gap_rows": next((n for n in sizes if n is not None), None),
            "without_gaps": [m["directory"] for m in self.done if m not in gauged],
            "other_gaps": [m["directory"] for m in gauged if m not in alike],
        }
        return found if gauged else {}

    def _facts(self, split: str) -> dict[str, Any]:
        """What the gaps of a split are taken from; what a bound may miss is that of any seed, not averaged away."""
        kind = column(split, "log_marginal", field="kind")
        if kind not in self.members[0]:
            return {}
        alike = self.alike[0]
        widths = {name: [w for m in alike if (w := fact(m, split, name)) is not None]
                  for name in ("simulated_width", "simulated_worst")}  # fmt: skip
        said = {"gap_data": _joined(fact(m, split, "gap_data") for m in alike),
                "checks": _joined(fact(m, split, "checks") for m in self.done)}  # fmt: skip
        worst = {name: max(found, default=None) for name, found in widths.items()}
        of_split = {name: quantities.FACTS[name].format(split) for name in (*said, *worst)}
        return {
            kind: _joined(m[kind] for m in alike),
            **{of_split[name]: text for name, text in said.items()},
            **self.cells((split, "active_units", None)),
            **{of_split[name]: width for name, width in worst.items()},
        }


def _joined(words: Iterable[str | None]) -> str | None:
    """The different words, each once; None where there are none."""
    return "; ".join(dict.fromkeys(word for word in words if word)) or None


def _status(states: Sequence[str]) -> str:
    """``done`` where all are, else how many are not.

    >>> _status(["done", "done"]), _status(["done", "failed"]), _status(["failed"])
    ('done', '1 of 2 failed', 'failed')
    """
    if len(set(states)) == 1:
        return states[0]
    rest = [s for s in dict.fromkeys(states) if s != "done"]
    return ", ".join(f"{states.count(s)} of {len(states)} {s}" for s in rest)
