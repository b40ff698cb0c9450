"""A measurement of a run in a folder of its own: of one that cannot be written, or on other data."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from vem.errors import VemError
from vem.evaluation.progress import FOLDER
from vem.storage import records, same_data, sealing

COPIED = (records.CONFIG, records.OVERRIDES, records.METRICS)
OWN = (*COPIED, *sealing.MEASURED, records.FIGURES, records.EARLIER, FOLDER)  # that a killed command may have left


def prepare(run: Path, out: Path, status: Mapping[str, Any], config: Mapping[str, Any] | None = None) -> None:
    """Make the folder for a measurement of ``run`` and copy to it what a report reads besides.

    ``config``: what takes the place of the run's own, which names other data.

    Raises:
        VemError: it is a folder of something else, or lies where a report would not find it; a file of the run is
            damaged; it cannot be written.
    """
    inner, outer = out.resolve(), run.resolve()
    if inner == outer or inner in outer.parents or outer in inner.parents:
        raise VemError(f"--out {out}: name a folder beside {run}, neither around nor within it.")
    if below := next((folder for folder in inner.parents if (folder / records.RUN).exists()), None):
        raise VemError(f"--out {out}: that lies within {below}, a run's folder, below which no report looks.")
    if (out / records.RUN).exists():
        there = records.read_json(out / records.RUN)
        if sealing.mapping(there.get("evaluated")).get("hash") != status.get("config_hash"):
            raise VemError(f"--out {out}: that is the folder of another run or measurement. Name another one.")
    elif out.is_dir() and any(path.name not in OWN and not path.name.startswith(".") for path in out.iterdir()):
        raise VemError(f"--out {out}: that folder holds other files. Name one that is empty or new.")
    sealing.require(run, status, COPIED)
    try:
        out.mkdir(parents=True, exist_ok=True)
        for name in COPIED:
            if (run / name).exists():
                with records.replacing(out / name) as temporary:
                    shutil.copyfile(run / name, temporary)
        if config is not None:
            records.write_config(out, config)
    except OSError as error:
        raise records.unwritable(out, error) from error


def facts(
    run: Path, status: Mapping[str, Any], evaluated: Mapping[str, Any], digests: Mapping[str, same_data.Digest]
) -> dict[str, Any]:
    """What run.json says beside a run: what the run's own says; of other data, that it is another run.

    A report takes equal config hashes for one run.
    """
    made = {**evaluated, "of": str(run.resolve()), "hash": status.get("config_hash")}
    out = {**sealing.unsealed(status), "evaluated": made}
    refused, _ = same_data.differences(status.get(same_data.KEY), digests)
    if refused:
        text = json.dumps([status.get("config_hash"), [part["x"] for part in digests.values()]])
        out |= {"config_hash": hashlib.sha256(text.encode()).hexdigest()[:16], same_data.KEY: dict(digests)}
        out["notes"] = [
            *(out.get("notes") or []),
            f"measured on data that it was not trained on: {'; '.join(refused)}.",
        ]
    return out
