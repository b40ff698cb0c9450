"""Which data a run was evaluated on, and the ELBO of each: per_datum.csv."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
import pandas as pd

from vem import __version__
from vem.errors import VemError
from vem.report.files import read_metrics, read_per_datum
from vem.report.runs import DONE, RunRecord, finite
from vem.storage.records import CONFIG, METRICS, PER_DATUM, PICTURES, SPLITS, config_hash
from vem.storage.sealing import mapping

TOLERANCE = 1e-5  # relative: per_datum.csv holds nine digits of numbers in single precision
Numbers = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Evaluated:
    """The evaluated rows of a run. ``digests`` is empty where only their number is known, ``counts`` if nothing is.

    ``elbo``: split → (row numbers, sorted; ELBO of each).
    """

    counts: Mapping[str, int] = field(default_factory=dict)
    digests: Mapping[str, str] = field(default_factory=dict)
    elbo: Mapping[str, tuple[Numbers, Numbers]] = field(default_factory=dict)
    damage: tuple[str, ...] = ()  # one sentence for each file of the run that cannot be used
    refused: str = ""  # the one on per_datum.csv


def evaluated(run: RunRecord) -> Evaluated:
    """What a run's rows are, and which of its larger files are damaged."""
    if run.status != DONE:
        return Evaluated(damage=_damaged_curve(run))
    counts = {s: int(n) for s in SPLITS if (n := finite(run.part(s).get("num_data"))) is not None}
    damage = [*_other_config(run), *_damaged_curve(run), *_damaged_pictures(run)]
    damage += [text for name, text in run.broken.items() if name not in (METRICS, PICTURES, PER_DATUM)]
    try:
        if PER_DATUM in run.broken:
            raise VemError(run.broken[PER_DATUM])
        table = read_per_datum(run.directory, ("split", "row", "elbo"))
        digests, elbo = _rows(table)
        _check(run, elbo, counts if digests else {})
    except VemError as error:
        return Evaluated(counts, damage=(*damage, str(error)), refused=str(error))
    return Evaluated({s: len(rows) for s, (rows, _) in elbo.items()} or counts, digests, elbo, tuple(damage))


def _rows(table: pd.DataFrame) -> tuple[dict[str, str], dict[str, tuple[Numbers, Numbers]]]:
    digests: dict[str, str] = {}
    elbo: dict[str, tuple[Numbers, Numbers]] = {}
    if "row" not in table:
        return digests, elbo
    rows = pd.to_numeric(table["row"], errors="coerce").to_numpy(float)
    scores = (
        pd.to_numeric(table["elbo"], errors="coerce").to_numpy(float) if "elbo" in table else np.full(len(rows), np.nan)
    )
    split_of = table["split"].to_numpy()
    for split in SPLITS:
        mine = np.flatnonzero(split_of == split)
        if len(mine):
            mine = mine[np.argsort(rows[mine], kind="stable")]
            elbo[split] = rows[mine], scores[mine]
            digests[split] = hashlib.sha256(rows[mine].tobytes()).hexdigest()[:16]
    return digests, elbo


def _check(run: RunRecord, found: Mapping[str, tuple[Numbers, Numbers]], counts: Mapping[str, int]) -> None:
    """Refuse a file that was cut off between two lines, or that is not about what evaluation.json is about.

    Raises:
        VemError: it does not hold each datum once, as many as evaluation.json speaks of, or their mean is another.
    """
    nothing = (np.empty(0), np.empty(0))
    for split in dict.fromkeys((*counts, *(found if counts else ()))):
        rows, elbo = found.get(split, nothing)
        num = counts.get(split, 0)
        told = finite(mapping(run.part(split).get("elbo")).get("mean"))
        if len(rows) < num:
            _refuse(run, f"holds {len(rows)} of {num} {split} data")
        if len(np.unique(rows)) < len(rows):
            _refuse(run, f"holds {len(rows) - len(np.unique(rows))} {split} data twice")
        if len(rows) > num:
            _refuse(run, f"holds {len(rows)} {split} data, evaluation.json speaks of {num}")
        if told is None or np.isnan(elbo).all():
            continue
        if not np.isfinite(elbo).all():
            _refuse(run, f"lacks the ELBO of {int((~np.isfinite(elbo)).sum())} of {num} {split} data")
        if abs(elbo.mean() - told) > TOLERANCE * max(1.0, abs(told)):
            _refuse(run, f"has a mean {split} ELBO of {elbo.mean():.6g}, evaluation.json one of {told:.6g}")


def _refuse(run: RunRecord, what: str) -> None:
    again = f"python -m vem.evaluate {run.directory} --again measures the run again"
    raise VemError(f"{run.directory / 'per_datum.csv'} {what}: it is damaged or of another measurement, and nothing is "
                   f"paired with it; {again}.")  # fmt: skip


def _other_config(run: RunRecord) -> tuple[str, ...]:
    """A config.yaml that is not the one that ran: cut off between two lines, or edited."""
    # Other versions may hash otherwise, and what vem.measure saved has no command and another hash.
    known = run.facts["versions"].get("vem") == __version__ and run.facts.get("command") is not None
    if not known or config_hash(run.config) == run.facts.get("config_hash"):
        return ()
    return (f"{run.directory / CONFIG} is not the config that ran (run.json has another hash): it was cut off or "
            "edited, so the settings that are shown may be wrong.",)  # fmt: skip


def _damaged_curve(run: RunRecord) -> tuple[str, ...]:
    if METRICS in run.broken:
        return (run.broken[METRICS],)
    try:
        curve = read_metrics(run.directory)
    except VemError as error:
        return (str(error),)
    epochs = finite(run.facts.get("epochs"))
    if run.status == DONE and epochs and len(curve) and curve["epoch"].max() < epochs:
        last = int(curve["epoch"].max())
        return (f"{run.directory / METRICS} ends at epoch {last} of {int(epochs)}: its curve is cut short.",)
    return ()


def _damaged_pictures(run: RunRecord) -> tuple[str, ...]:
    """A cheap look: a zip file that was cut off has lost the directory at its end."""
    path = run.directory / PICTURES
    if PICTURES in run.broken:
        return (run.broken[PICTURES],)
    try:
        with open(path, "rb") as file:
            size = file.seek(0, 2)
            file.seek(max(0, size - 22))
            whole = file.read(4) == b"PK\x05\x06"
    except OSError:
        return ()
    return () if whole else (f"{path} is damaged: its end is missing, so the run shows no pictures.",)
