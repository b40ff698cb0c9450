"""What ``vem.measure`` gives back: a table to print, a directory to save."""

from __future__ import annotations

import csv
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from os import PathLike
from pathlib import Path
from typing import Any

import yaml

from vem.cli import measure
from vem.errors import VemError
from vem.evaluation.measured import Result
from vem.report.ends import ends_text, known_ends
from vem.report.figures.run import draw_run
from vem.report.files import read_pictures
from vem.report.table import align
from vem.storage import records, sealing
from vem.storage.checks import failed as failed_checks
from vem.storage.checks import not_tested


@dataclass(frozen=True)
class Measurement(Result):
    """What :func:`measure` found; ``print`` shows it as a table."""

    facts: dict[str, Any]  # what was measured
    section: dict[str, Any]  # the settings, as the config has them

    def save(self, directory: str | PathLike[str], overwrite: bool = False) -> Path:
        """Write a directory that ``python -m vem.report`` reads: the files of a run, less its training.

        Raises:
            VemError: a result lies there already and ``overwrite`` is False, a run of ``python -m vem.run``, or
                the folder cannot be written.
        """
        path = own_folder(directory)
        if (path / records.RUN).exists() and not overwrite:
            raise VemError(f"{path} holds a result already: name another folder, or save(…, overwrite=True).")
        config = {"evaluation": self.section, "seed": self.facts["seed"]}
        records.write_text(path / records.CONFIG, yaml.safe_dump(config, sort_keys=False, allow_unicode=True))
        measure.write(path, self, {})
        sealing.write_run(path, self.facts)
        draw_run(path)
        return path

    def __str__(self) -> str:
        """A line for each number: mean, standard error over data, Monte Carlo error, 95 % interval, nats."""
        rows = [row for split in records.SPLITS if split in self.evaluation for row in self._rows(split)]
        header = ["of", "nats per datum", "mean", "± data", "± Monte Carlo", "95 % interval"]
        lines = align(header, rows, [False, False, True, True, True, True])
        lines += [f"check failed: {sentence}" for sentence in failed_checks(self.evaluation)] or ["all checks passed"]
        untested = not_tested(self.evaluation)
        if untested:
            lines[-1] += f"; not tested: {'; '.join(untested)}"
        lines += [f"note: {sentence}" for sentence in self.facts.get("raised") or []]
        return "\n".join(lines)

    def _rows(self, split: str) -> list[list[str]]:
        numbers = self.evaluation[split]
        bound = numbers.get("log_marginal") or {}
        known = "log p(x)" if bound.get("upper") else "log p(x) from below"
        named: dict[str, Any] = {"ELBO L[q]": numbers["elbo"]}
        for name, found in numbers.get("families", {}).items():
            named[f"best ELBO L[q*], {name}"] = found["best_elbo"]
        named[f"{known}, {bound.get('kind')}"] = bound.get("lower")
        for name, other in numbers.get("others", {}).items():
            named[f"{name}, {other.get('kind')}"] = other.get("lower")
        named |= {f"{name} gap": gap for name, gap in numbers.get("gaps", {}).items()}
        for name, found in numbers.get("families", {}).items():
            if not found["own"]:
                named[f"approximation gap, {name}"] = found["approximation"]
        across = self.evaluation.get("across_splits", {}).get(split, {})
        named["generalization of amortization"] = across.get("amortization_generalization")
        named["width on simulated data"] = bound.get("simulated_width")
        of = f"{split} ({numbers['num_data']} data)"
        # What was not asked for has no line; an ELBO that is not there has one that says why.
        shown = {k: v for k, v in named.items() if v and (k.startswith("ELBO") or isinstance(v.get("mean"), float))}
        return [[of, name, *_cells(entry)] for name, entry in shown.items()]


def own_folder(directory: str | PathLike[str]) -> Path:
    """The directory, made if it is not there; VemError if it is that of a run, whose record must not be lost."""
    path = Path(directory)
    if any((path / name).exists() for name in (records.CHECKPOINT, records.OVERRIDES)):
        raise VemError(f"{path} is the directory of a run of python -m vem.run: name another one.")
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise records.unwritable(path, error) from error
    return path


def _cells(entry: Mapping[str, Any]) -> list[str]:
    numbers = [entry.get(key) for key in ("mean", "se", "mc_se")]
    if not isinstance(numbers[0], float):
        return [f"undefined: {entry.get('reason') or (entry.get('mean') or {}).get('reason')}", "", "", ""]
    low, high = known_ends(entry)
    both = low is not None and high is not None
    shown = f"[{low:.3f}, {high:.3f}]" if both else ends_text(low, high, "{:.3f}".format)
    cells = [f"{n:.3f}" if isinstance(n, float) else "–" for n in numbers]
    return [f"{measure.bounded(entry)}{cells[0]}", *cells[1:], shown]


def read_measurement(place: Path, section: dict[str, Any]) -> Measurement:
    """The saved result."""
    with open(place / records.PER_DATUM, encoding="utf-8", newline="") as file:
        per_datum = [{key: _number(cell) for key, cell in row.items()} for row in csv.DictReader(file)]
    evaluation, facts = (records.read_json(place / name) for name in (records.EVALUATION, records.RUN))
    return Measurement(evaluation, per_datum, read_pictures(place), sealing.unsealed(facts), section)


def _number(cell: str) -> Any:
    """A cell of per_datum.csv as what it was.

    >>> _number("3"), _number("0.5"), _number("test"), _number("")
    (3, 0.5, 'test', None)
    """
    for kind in (int, float):
        with suppress(ValueError):
            return kind(cell)
    return cell or None
