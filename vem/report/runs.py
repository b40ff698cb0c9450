"""Reading run directories: finished, failed or half written."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import yaml

from vem.errors import VemError
from vem.records import CONFIG, EVALUATION, FILE_HASH, METRICS, PER_DATUM, PICTURES, RUN, hashed_part, read_json

# libyaml's loader is ten times faster; a build without it reads the same.
_Loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


@dataclass(frozen=True)
class RunRecord:
    """What a run directory says of itself: run.json, evaluation.json and the flattened config."""

    directory: Path
    facts: Mapping[str, Any]
    evaluation: Mapping[str, Any] = field(default_factory=dict)
    settings: Mapping[str, str] = field(default_factory=dict)

    @property
    def placed(self) -> bool:
        """Whether it got far enough to say what it trains on what; else it belongs in no table."""
        return self.facts.get("strategy") is not None and self.facts.get("data") is not None


def read_run(directory: Path) -> RunRecord:
    """Read a run's small files; where one cannot be read the status is ``unreadable``, with the reason."""
    try:
        facts = read_json(directory / RUN)
        if not isinstance(facts.get("status"), str):
            raise VemError(f"{directory / RUN} has no status: it was not written by vem.run.")
        evaluation = read_json(directory / EVALUATION) if (directory / EVALUATION).exists() else {}
        settings = as_evaluated(read_settings(directory / CONFIG), evaluation.get("settings"))
        return RunRecord(directory, facts, evaluation, settings)
    except VemError as error:
        return RunRecord(directory, {"status": "unreadable", "error": str(error)})


def read_settings(path: Path) -> dict[str, str]:
    """The config's values that its hash covers, under dotted keys, less the run's seed.

    So what no number depends on (device, threads, where a file lies) tells no two runs apart. The user's own
    file goes by its name and the first digits of its hash.

    Raises:
        VemError: the file is not readable YAML.
    """
    if not path.exists():
        return {}
    try:
        config = yaml.load(path.read_text(encoding="utf-8"), Loader=_Loader)
    except (OSError, yaml.YAMLError, UnicodeDecodeError) as error:
        raise VemError(f"{path} is not readable YAML ({error}): delete the run and start it again.") from None
    flat = hashed_part(config) if isinstance(config, dict) else {}
    digest = flat.pop(f"data.{FILE_HASH}", None)
    if digest is not None:
        flat["data.path"] = f"{Path(config['data']['path']).name} ({digest[:8]})"
    return {key: "null" if value is None else str(value) for key, value in flat.items() if key != "seed"}


def as_evaluated(settings: dict[str, str], found: Any) -> dict[str, str]:
    """The settings with those that the numbers in evaluation.json were really measured with.

    A finished run can be measured again with another budget: then its config says what was asked for first.

    >>> as_evaluated({"evaluation.draws": "10", "seed": "0"}, {"draws": 100})
    {'seed': '0', 'evaluation.draws': '100'}
    """
    if not isinstance(found, dict):
        return settings
    flat = hashed_part({"evaluation": found})
    renewed = tuple(f"evaluation.{key}" for key in found)
    kept = {k: v for k, v in settings.items() if k not in renewed and not k.startswith(tuple(f"{r}." for r in renewed))}
    return kept | {key: "null" if value is None else str(value) for key, value in flat.items()}


def read_per_datum(directory: Path) -> pd.DataFrame:
    """The rows of per_datum.csv: split, and numbers; no rows where there is no such file.

    Raises:
        VemError: the file is damaged.
    """
    path = directory / PER_DATUM
    if not path.exists():
        return pd.DataFrame(columns=["split"])
    try:
        table = pd.read_csv(path)
    except pd.errors.EmptyDataError:
        return pd.DataFrame(columns=["split"])
    except (OSError, ValueError) as error:
        raise VemError(f"{path} is damaged ({error}): measure the run again.") from None
    return table if "split" in table else pd.DataFrame(columns=["split"])


def read_metrics(directory: Path) -> pd.DataFrame:
    """The finite ELBO records of a run: epoch, seconds, split, elbo; no rows where there are none.

    Raises:
        VemError: metrics.csv lacks a column or is not a table.
    """
    path, columns = directory / METRICS, ["epoch", "seconds", "split", "elbo"]
    if not path.exists():
        return pd.DataFrame(columns=columns)
    try:
        table = pd.read_csv(path, usecols=columns)
    except pd.errors.EmptyDataError:
        return pd.DataFrame(columns=columns)
    except (OSError, ValueError) as error:
        raise VemError(f"{path} is not a run's record ({error}): delete the run and start it again.") from None
    for name in ("epoch", "seconds", "elbo"):
        table[name] = pd.to_numeric(table[name], errors="coerce")
    finite = np.isfinite(table[["epoch", "seconds", "elbo"]].to_numpy(dtype=float)).all(axis=1)
    return table[finite].drop_duplicates(["epoch", "split"], keep="last").sort_values(["split", "epoch"])


def read_pictures(directory: Path) -> dict[str, np.ndarray]:
    """The arrays of pictures.npz; none where there is no such file.

    Raises:
        VemError: the file is damaged.
    """
    path = directory / PICTURES
    if not path.exists():
        return {}
    try:
        # Opened here: numpy forgets to close a file that turns out to be damaged.
        with open(path, "rb") as file, np.load(file, allow_pickle=False) as arrays:
            return {name: arrays[name] for name in arrays.files}
    except Exception as error:  # numpy passes on whatever zipfile and zlib meet in damaged bytes
        raise VemError(f"{path} is damaged ({error}): delete it and run the same command again.") from None
