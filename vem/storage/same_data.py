"""Which data a run was trained on: digests of each split, and moments that tell rounding from other data."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from vem.errors import VemError
from vem.storage.records import SPLITS
from vem.storage.sealing import mapping

log = logging.getLogger("vem")

KEY = "data_digests"  # of run.json
COLUMNS = 16  # of more columns, as many projections are kept
CHUNK = 1 << 19  # numbers in double precision at a time; the first ones tell the quartiles
TOLERANCE = 1e-5  # of a moment, in standard deviations of its column
EPS = {"bfloat16": 2.0**-7, "float16": 2.0**-10, "float32": 2.0**-23}  # of others the digits that are kept, 1e-11
SHOWN = 12  # hex digits in a message

MOMENTS = ("mean", "sd", "signed")
QUARTILES = ("q25", "q75")  # beside one value of 1e6 the others move no moment
Digest = dict[str, Any]
Verdict = Literal["same", "rounding", "other", "unknown"]


class OtherData(VemError):
    """The data are not those of the run."""


def digests(data: Any) -> dict[str, Digest]:
    """What ``run.json`` says of a :class:`vem.data.dataset.Data`, by split: hashes of x and of the labels as stored,
    shape, dtype, moments of x."""
    return {name: _digest(data.split(name)) for name in SPLITS}


def _digest(split: Any) -> Digest:
    x, digest = _stored(split.x)
    return {
        "x": digest,
        "labels": None if split.labels is None else _stored(split.labels)[1],
        "shape": list(x.shape),
        "dtype": _dtype(split.x),
        "moments": _moments(x.reshape(len(x), -1)),
    }


def _stored(tensor: Any) -> tuple[NDArray[Any], str]:
    """A tensor as an array, and the hash of its type, shape and content."""
    found = tensor.detach().cpu()
    try:
        array = np.ascontiguousarray(found.numpy())
    except TypeError:  # bfloat16, which numpy does not know
        array = np.ascontiguousarray(found.float().numpy())
    digest = hashlib.sha256(f"{_dtype(tensor)} {list(array.shape)}\n".encode())
    digest.update(array.reshape(-1).view(np.uint8).data)
    return array, digest.hexdigest()


def _dtype(tensor: Any) -> str:
    return str(tensor.dtype).removeprefix("torch.")


def _moments(x: NDArray[Any]) -> dict[str, Any] | None:
    """Mean, standard deviation, a signed sum and quartiles of x [N, D]; of 16 projections (±1/√D) where D > 16.

    The signed sum is N^-½ Σ_n s_n (x_n − mean) with fixed random s_n in [−1, 1]: it tells rows in another order apart,
    and one datum among many. The quartiles are those of the first rows. None where a number overflows.
    """
    num, size = x.shape
    # The legacy generator's stream is frozen: it is the same under every numpy.
    fixed = np.random.RandomState(0)
    mix = fixed.randint(0, 2, (size, COLUMNS)) * 2.0 - 1.0 if size > COLUMNS else None
    weights: NDArray[Any] = np.asarray(fixed.uniform(-1, 1, num))
    sums: NDArray[Any] = np.zeros((3, size if mix is None else COLUMNS))
    first, quartiles = None, sums[:2]
    with np.errstate(all="ignore"):
        step = max(1, CHUNK // size)
        for start in range(0, num, step):
            part = x[start : start + step].astype(np.float64)
            part = part if mix is None else part @ mix / size**0.5
            if first is None:
                first, quartiles = part[0].copy(), np.quantile(part, (0.25, 0.75), axis=0)
            part -= first  # sums of squares lose digits where the mean is large
            sums += np.stack([part.sum(0), (part**2).sum(0), weights[start : start + step] @ part])
        mean = sums[0] / num
        sd = np.sqrt(np.maximum(sums[1] / num - mean**2, 0))
        signed = (sums[2] - mean * weights.sum()) / num**0.5
        found = np.stack([first + mean, sd, signed, *quartiles])
    if not np.isfinite(found).all():
        return None
    # Of a mean and of quartiles more digits: the standard deviation may be small beside them.
    return {name: [float(f"{value:.{6 if name in ('sd', 'signed') else 12}g}") for value in values]
            for name, values in zip((*MOMENTS, *QUARTILES), found, strict=True)}  # fmt: skip


def compared(one: Any, other: Any) -> Verdict:
    """Whether the x of two splits, by their entries in ``run.json``, are the same data.

    ``rounding``: of one shape, and all moments are equal to 1e-5 standard deviations of their column, or to the digits
    of its numbers, as when they are computed on another processor. ``unknown``: one of the two is missing.
    """
    a, b = mapping(one), mapping(other)
    if not a.get("x") or not b.get("x"):
        return "unknown"
    if a["x"] == b["x"]:
        return "same"
    return "rounding" if a.get("shape") == b.get("shape") and _close(a, b) else "other"


def _close(one: Mapping[str, Any], other: Mapping[str, Any]) -> bool:
    try:
        a, b = (np.array([part["moments"][name] for name in (*MOMENTS, *QUARTILES)], float) for part in (one, other))
    except (TypeError, KeyError, ValueError):
        return False
    if a.shape != b.shape:
        return False
    eps = max(EPS.get(str(part.get("dtype")), 0) for part in (one, other))
    digits, sd = max(4 * eps, 1e-11), np.maximum(a[1], b[1])
    between = np.maximum(a[4] - a[3], b[4] - b[3])  # the quartiles
    spread = np.where(between > digits * sd, between, sd)  # of a column that is one value mostly
    means = np.abs(a[:3] - b[:3]) <= TOLERANCE * sd + digits * np.abs(a[0])
    quartiles = np.abs(a[3:] - b[3:]) <= TOLERANCE * spread + digits * np.maximum(np.abs(a[0]), np.abs(a[3:]))
    return bool(means.all() and quartiles.all())


def differences(recorded: Any, found: Mapping[str, Digest]) -> tuple[list[str], list[str]]:
    """What differs between the data of a run, by its ``run.json``, and those found now: refusals, and notes.

    Nothing is said where a run from before recorded nothing.
    """
    refused, noted = [], []
    for name in SPLITS:
        old, new = mapping(mapping(recorded).get(name)), found[name]
        now, then = ({key: _short(part.get(key)) for key in ("x", "labels")} for part in (new, old))
        verdict = compared(old, new)
        if verdict == "other":
            shapes = "" if old.get("shape") == new["shape"] else f" (shape {new['shape']}, was {old.get('shape')})"
            refused.append(f"{name} x has the digest {now['x']}, and had {then['x']}{shapes}")
        elif verdict == "rounding":
            noted.append(name)
        if verdict != "unknown" and old.get("labels") != new["labels"]:
            refused.append(f"{name} labels have the digest {now['labels']}, and had {then['labels']}")
    notes = [f"x ({', '.join(noted)}) is equal to rounding alone to what the run was trained on."] if noted else []
    return refused, notes


def require(
    directory: Path, status: Mapping[str, Any], found: Mapping[str, Digest], notes: Sequence[str], remedy: str
) -> None:
    """Refuse other data than those of the run; what is equal to rounding is said on the log.

    A run from before knows only how many training data it had. Where this version of vem reads another table from its
    file, the split would be another one, too: what was trained on would be tested on.

    Raises:
        OtherData: the data differ, with both digests, or their number does.
    """
    refused, noted = differences(status.get(KEY), found)
    if refused:
        raise OtherData(f"{directory}: these are not the data of this run: {'; '.join(refused)}. {remedy}")
    for note in noted:
        log.warning("%s: %s", directory, note)
    num = found["train"]["shape"][0]
    if not status.get(KEY) and status.get("num_train", num) != num:
        raise OtherData(
            f"{directory} was begun with {status['num_train']} training data, and this version of vem reads {num} "
            f"from the same file.{' '.join(('', *notes))} Run again in a fresh hydra.run.dir."
        )


def _short(digest: Any) -> str:
    return str(digest)[:SHOWN] if digest else "none"
