"""Measuring a run: its splits through the instrument, the result into its directory, nothing overwritten silently."""

from __future__ import annotations

import filecmp
import hashlib
import json
import logging
import os
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch

from vem import __version__
from vem.config.build import Built
from vem.data.dataset import Data
from vem.errors import VemError
from vem.evaluation.instrument import Instrument, SplitData
from vem.evaluation.measured import Result
from vem.evaluation.progress import Progress
from vem.evaluation.settings import Evaluation
from vem.report.ends import ends_text, known_ends, sides
from vem.storage import identity, records
from vem.storage.checks import failed, not_tested
from vem.training.signals import Asked, InterruptedRun, stop_requests

log = logging.getLogger("vem")

FORMAT = 1  # of measurements: raised when the same settings come to mean other numbers
GOES_ON = "the same command goes on from what is finished"


class ChecksFailed(VemError):
    """evaluation.strict=true, and a check failed; the result is written."""


def splits_of(data: Data) -> dict[str, SplitData]:
    """The three splits; the strategy sees the row numbers of the training data."""
    out = {"train": SplitData(data.train_x(0), True, data.train.labels)}
    return out | {name: SplitData(data.split(name).x, False, data.split(name).labels) for name in ("valid", "test")}


def measure(
    built: Built, section: Mapping[str, Any], settings: Evaluation, seed: int, directory: Path, state: str,
    progress: bool,
) -> Result:  # fmt: skip
    """Measure the built model by ``settings``, made from the config ``section``; goes on where it was stopped.

    ``state`` identifies what was trained. The result is not written yet: see :func:`write`.

    Raises:
        InterruptedRun: SIGTERM or Ctrl-C; the pieces that are finished are kept in the directory.
        VemError: the model or q gives numbers that are not finite.
    """
    splits = splits_of(built.data)
    with stop_requests() as asked, progressing(progress, asked) as work:
        return instrument(built.model, built.strategy, section, settings, seed, directory, state, work, splits)


def instrument(
    model: Any, strategy: Any, section: Mapping[str, Any], settings: Evaluation, seed: int, directory: Path | None,
    state: str, progress: Progress, splits: Mapping[str, SplitData],
) -> Result:  # fmt: skip
    """Run the instrument; pieces of long work are kept in ``directory`` until the result is written."""
    tool = Instrument(model, strategy, settings, seed=seed, progress=progress)
    progress.total(tool.pieces(splits))
    made = fingerprint(section, seed, state)
    if settings.long and directory is not None:
        progress.keep(directory, made)
    result = tool.run(splits)
    if not settings.num_data:
        return result  # nothing was measured, and nothing is said of it
    told = {key: value for key, value in without_targets(section).items() if key != "strict"}
    result.evaluation.update(settings=told, fingerprint=made)
    return result


@contextmanager
def progressing(shown: bool, asked: Asked, remedy: str = GOES_ON) -> Iterator[Progress]:
    """A progress that ends the work where a signal has asked for it; ``remedy`` says how to go on."""

    def stop() -> None:
        if asked.name is not None:
            raise InterruptedRun(f"stopped by {asked.name} while measuring: {remedy}.")

    progress = Progress(shown, stop)
    try:
        yield progress
    finally:
        progress.close()


def state_of(built: Built) -> str:
    """A hash of what was trained, and of the kind of device that it lies on: other devices round otherwise."""
    device = built.data.train.x.device.type
    return state_hash(built.model.state_dict(), built.strategy.state_dict(), {"device": device})


def state_hash(*parts: Any) -> str:
    """A hash of state dicts: every tensor, every number, and where it stands.

    >>> state_hash({"a": 1}) == state_hash({"a": 1}), state_hash({"a": 1}) == state_hash({"b": 1})
    (True, False)
    """
    digest = hashlib.sha256()

    def walk(node: Any, path: str) -> None:
        if isinstance(node, Mapping):
            for key, child in node.items():
                walk(child, f"{path}.{key}")
        elif isinstance(node, list | tuple):
            for number, child in enumerate(node):
                walk(child, f"{path}[{number}]")
        elif isinstance(node, torch.Tensor):
            plain = node.detach().cpu().contiguous()
            digest.update(f"{path} {plain.dtype} {tuple(plain.shape)}".encode())
            digest.update(plain.reshape(-1).view(torch.uint8).numpy().tobytes())
        else:
            digest.update(f"{path}={node!r}".encode())

    for number, part in enumerate(parts):
        walk(part, str(number))
    return digest.hexdigest()


def fingerprint(section: Mapping[str, Any], seed: int, state: str) -> str:
    """What a result depends on: the settings, less ``strict``, the seed, what was trained, the version, the format."""
    relevant = identity.without_later({key: value for key, value in section.items() if key != "strict"}, "evaluation")
    text = json.dumps([relevant, seed, state, __version__, FORMAT], sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()


def without_targets(section: Mapping[str, Any]) -> dict[str, Any]:
    """The settings as the config nests them; a family by its name alone."""
    out: dict[str, Any] = {}
    for key, value in section.items():
        if isinstance(value, Mapping):
            rest = without_targets(value)
            out[key] = rest if rest or "_target_" not in value else value["_target_"].rsplit(".", 1)[-1]
        elif key not in ("_target_", "_partial_"):
            out[key] = value
    return out


def write(directory: Path, result: Result, pictures: Mapping[str, Any] | None = None) -> None:
    """Write evaluation.json, per_datum.csv and, given the other pictures, pictures.npz.

    Raises:
        VemError: the disk is full or the folder cannot be written; the pieces stay, so that nothing is lost.
    """
    if pictures is not None:
        with records.replacing(directory / records.PICTURES) as temporary:
            np.savez_compressed(temporary, **pictures, **result.arrays)  # type: ignore[arg-type]  # numpy's stub takes the names for its own
    if result.per_datum:
        records.write_csv(directory / records.PER_DATUM, result.per_datum)
    records.write_json(directory / records.EVALUATION, result.evaluation)


def made_by(directory: Path) -> str | None:
    """The fingerprint of the result that lies in the directory; None where there is none, or one that is damaged."""
    try:
        found: str | None = records.read_json(directory / records.EVALUATION).get("fingerprint")
    except VemError:
        return None
    return found


def archive(directory: Path) -> Path | None:
    """Copy the earlier result into ``evaluations/001`` (002, …) of the run; None where nothing was measured.

    One that was archived just before, by a command that was then killed, is not archived twice.

    Raises:
        VemError: it cannot be copied: then nothing has changed.
    """
    result, folder = directory / records.EVALUATION, directory / records.EARLIER
    if not result.exists() or result.read_bytes().strip() == b"{}":
        return None
    kept = max((int(path.name) for path in folder.glob("[0-9]*") if path.name.isdigit()), default=0)
    last, place = folder / f"{kept:03d}", folder / f"{kept + 1:03d}"
    if (last / result.name).is_file() and filecmp.cmp(last / result.name, result, shallow=False):
        return last
    temporary = folder / f".{place.name}.{os.getpid()}"
    try:
        with records.writing(place):
            temporary.mkdir(parents=True)
            for path in (result, directory / records.PER_DATUM):
                if path.exists():
                    shutil.copy2(path, temporary / path.name)
            os.replace(temporary, place)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    return place


def judge(directory: Path, strict: bool) -> None:
    """Say which checks failed.

    Raises:
        ChecksFailed: some did, and ``strict``.
    """
    if not (directory / records.EVALUATION).exists():
        return
    evaluation = records.read_json(directory / records.EVALUATION)
    if strict:
        refuse(evaluation, directory)
    for sentence in failed(evaluation):
        log.warning("check failed: %s", sentence)


def refuse(evaluation: Mapping[str, Any], written: Path | None) -> None:
    """What evaluation.strict=true does; ``written`` is where the result lies.

    Raises:
        ChecksFailed: a check failed.
    """
    sentences = failed(evaluation)
    if sentences:
        what = "a check failed" if len(sentences) == 1 else f"{len(sentences)} checks failed"
        where = f" of {written}" if written is not None else ""
        rest = "; the result is written" if written is not None else ""
        raise ChecksFailed(f"{what}{where}, and evaluation.strict=true{rest}: {'; '.join(sentences)}")


def lines(evaluation: Mapping[str, Any]) -> Iterator[str]:
    """The result on a terminal, a line for each split, and one for what could not be tested."""
    for split in records.SPLITS:
        if split in evaluation:
            yield _line(split, evaluation[split])
    if untested := not_tested(evaluation):
        yield f"not tested: {'; '.join(untested)}"


def _line(split: str, numbers: Mapping[str, Any]) -> str:
    elbo = numbers["elbo"]
    if "mean" not in elbo:
        return f"{split}: ELBO undefined ({elbo.get('reason')})"
    if isinstance(elbo["mean"], dict):
        return f"{split}: ELBO not finite ({elbo['mean']['reason']})"
    se = "unknown" if isinstance(elbo["se"], dict) else f"{elbo['se']:.2f}"
    text = f"{split}: ELBO {elbo['mean']:.2f} ± {se} nats per datum (± over {numbers['num_data']} data)"
    marginal = numbers.get("log_marginal") or {}
    lower, upper = marginal.get("lower"), marginal.get("upper")
    if lower and isinstance(lower.get("mean"), float):
        text += f", log p(x) {'' if upper else '≥ '}{lower['mean']:.2f}"
    for name, gap in numbers.get("gaps", {}).items():
        if name != "inference" and isinstance(gap.get("mean"), float):
            ends = ends_text(*known_ends(gap), "{:.2f}".format)
            text += f", {name} gap {bounded(gap)}{gap['mean']:.2f}{ends and f' [{ends}]'}"
    for name, found in numbers.get("families", {}).items():
        gain = found.get("gain_over_own") or {}
        if isinstance(gain.get("mean"), float):
            text += f", best {name} {gain['mean']:+.2f}"
    width = (marginal.get("simulated_width") or {}).get("mean")
    return text + (f", interval {width:.3f} wide on simulated data" if isinstance(width, float) else "")


def bounded(entry: Mapping[str, Any]) -> str:
    """``≥`` before a gap that is known from below alone, because log p(x) is.

    >>> bounded({"mean": 1.0, "identified": [1.0, None]}), bounded({"mean": 1.0, "identified": [1.0, 1.0]})
    ('≥ ', '')
    """
    return "≥ " if sides(entry)[0] else ""
