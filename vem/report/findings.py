"""What a report says, before it is written as a page, as Markdown or as text.

:func:`vem.report.read.findings` makes it from run directories; everything that prints or draws takes it from here.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import pandas as pd

from vem.report.intervals import Difference
from vem.report.kin import by

Kind = Literal["finding", "loss", "caution"]


@dataclass(frozen=True)
class Sentence:
    """One sentence of the answer: a finding, what a strategy loses and why, or what cannot be concluded.

    ``about``: the ``Ranking``, ``Lead``, ``Loss`` or ``Caution`` (of :mod:`vem.report.ranking`, ``explain`` and
    ``cautions``) that it puts in words.
    """

    text: str
    kind: Kind
    about: object = None


@dataclass(frozen=True)
class Axis:
    """One swept axis: how numbers move along it.

    ``points``: columns ``series`` (a group's label less this axis), ``value`` (a number, else text, in the order of
    ``values``), ``metric`` (a key of ``metrics``), ``mean``, ``low``, ``high`` (95 %; None where there is one seed and
    no error over data), ``seeds``.
    """

    key: str  # as typed: latent_dim, strategy.encoder.widths
    values: tuple[float | str, ...]
    numeric: bool
    metrics: Mapping[str, str]  # key → title with its unit: {"test_elbo": "test ELBO (nats per data point)"}
    points: pd.DataFrame
    absent: tuple[str, ...] = ()  # series that do not use this axis: drawn as a level line; their `value` is None
    places: Mapping[str, float | str] = field(default_factory=dict)  # label of a group that uses it → its value
    together: tuple[str, ...] = ()  # other keys that changed with this one: what moved the numbers is not known


@dataclass(frozen=True)
class Table:
    """Runs that may be compared: the same data, binarization, likelihood and evaluated rows.

    ``groups``: a row for each strategy × model × settings, over seeds, as
    :func:`vem.report.aggregate.aggregate` gives them, with ``label`` (short, unique here), ``num_parameters``,
    ``num_data`` (evaluated test data) and ``paired_mean``, ``paired_se``, ``paired_ci95_low``,
    ``paired_ci95_high``, ``paired_seeds``, ``paired_reason`` (difference of test ELBOs to ``baseline``, paired), and
    ``paired_data_se``, ``paired_data_ci95_low``, ``paired_data_ci95_high`` (its error over data).
    ``runs``: its single runs. ``name`` holds the data and what tells them from the other tables'. ``refused``: by
    directory of a run and file, why the file is not used. ``differences``: by label, of the baseline's rivals to it.
    """

    name: str
    groups: pd.DataFrame
    runs: pd.DataFrame
    baseline: str | None  # label of the group that the others are compared with
    answer: tuple[Sentence, ...] = ()
    axes: tuple[Axis, ...] = ()
    refused: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    differences: Mapping[str, Difference] = field(default_factory=dict)


@dataclass(frozen=True)
class Unfinished:
    """A run without a result: failed, killed, not begun, running, or unreadable."""

    directory: str
    who: str  # strategy and seed, as far as known
    status: str
    reason: str
    log: str = ""  # the last lines of run.log, for one that failed


def alike(found: Sequence[Unfinished]) -> list[list[Unfinished]]:
    """The same runs, those of one status and one reason together."""
    return list(by(((run.status, run.reason) for run in found), found).values())


@dataclass(frozen=True)
class Provenance:
    """Where the numbers come from, and the command that makes the page again."""

    commands: tuple[str, ...]
    commits: Mapping[str, int]  # commit → number of runs
    versions: Mapping[str, tuple[str, ...]]  # package → its versions among the runs
    machines: Mapping[str, int]  # device, threads and host → number of runs
    differences: pd.DataFrame  # a row for each group: only the settings that differ
    rebuild: str
    written: str  # date and time
    remarks: tuple[str, ...] = ()  # notes of runs, repeats, runs by several versions of the code


@dataclass(frozen=True)
class Findings:
    """The whole report. ``base``: the folder that the runs' ``directory`` are relative to."""

    base: Path
    runs: pd.DataFrame
    tables: tuple[Table, ...]
    apart: tuple[str, ...]  # sentences: which tables are not compared with which, and what differs by name
    unfinished: tuple[Unfinished, ...]
    provenance: Provenance
    title: str
    progress: Mapping[str, int] = field(default_factory=dict)  # of a sweep: done, running, failed, waiting; stopped
