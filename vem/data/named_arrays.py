"""Files that hold several arrays by name: which of them is x, and which the labels. Sparse arrays are made dense."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from vem.data.wishes import Wishes
from vem.errors import VemError, did_you_mean
from vem.storage.records import SPLITS

Array = npt.NDArray[Any]
LARGEST_DENSE = 2 * 10**9  # bytes of a sparse array made dense
LABELS = {"x": "labels", **{name: f"{name}_labels" for name in SPLITS}}


def pick(shapes: Mapping[str, tuple[int, ...]], wishes: Wishes, path: Path) -> dict[str, str]:
    """Which array of the file is what: vem's name (x, labels; or train, valid, test, train_labels …) → its own.

    ``shapes`` are those of all arrays of the file. What the names do not settle is asked: several arrays are never
    told apart by their order or their shape.

    Raises:
        VemError: an array that is asked for is not there, or it is not said which one is x.
    """
    names = list(shapes)
    for key in ("array", "label_array"):
        wanted = getattr(wishes, key)
        if wanted is not None and wanted not in names:
            raise VemError(
                f"data.{key}={wanted!r} is not in data.path={path}{did_you_mean(str(wanted), names)} It holds "
                f"{listed(shapes)}."
            )
    label = wishes.label_array
    if wishes.array is not None:
        label = label or ("labels" if "labels" in names and wishes.array != "labels" else None)
        return {"x": wishes.array} | ({"labels": label} if label else {})
    rest = [name for name in names if name != label]
    if set(rest) <= {"x", "labels"} and "x" in rest:
        return {name: name for name in rest} | ({"labels": label} if label else {})
    three = {*SPLITS, *(LABELS[name] for name in SPLITS)}
    if label is None and set(SPLITS) <= set(names) <= three:
        return {name: name for name in names}
    if len(rest) == 1 and rest[0] not in {*three, "labels"}:
        return {"x": rest[0]} | ({"labels": label} if label else {})
    example = max(names, key=lambda name: math.prod(shapes[name])) if names else "NAME"
    raise VemError(
        f"data.path={path} has the keys {listed(shapes)}. Save it with x and, if you have them, labels; or with train, "
        "valid and test and, if you have them, train_labels, valid_labels, test_labels; or say which array is x "
        f"(data.array={example}) and, if one is, which holds the labels (data.label_array=NAME)."
    )


def listed(shapes: Mapping[str, tuple[int, ...]]) -> str:
    """The arrays of a file with their shapes, for a message."""
    shown = [f"{name} ({' x '.join(map(str, shape))})" for name, shape in sorted(shapes.items())]
    return ", ".join(shown[:20]) + (" …" if len(shown) > 20 else "") or "(none)"


def dense(sparse: Any, path: Path) -> Array:
    """A sparse matrix of scipy as an array.

    Raises:
        VemError: that would take more than two gigabytes.
    """
    width = 4 if np.can_cast(sparse.dtype, np.float32) else 8  # as vem keeps it
    size = math.prod(sparse.shape) * width
    if size > LARGEST_DENSE:
        shape = " x ".join(map(str, sparse.shape))
        raise VemError(
            f"data.path={path} is sparse, and as the dense array that vem works on its {shape} numbers take "
            f"{size / 1e9:.1f} GB, more than {LARGEST_DENSE / 1e9:.0f} GB: keep fewer columns (the most variable ones, "
            "say) or fewer rows, and save it again."
        )
    return np.asarray(sparse.toarray())


def is_sparse(keys: Mapping[str, Any] | list[str]) -> bool:
    """Whether the arrays of an .npz are one matrix of scipy.sparse.save_npz."""
    return {"format", "shape", "data"} <= set(keys)


def read_sparse(path: Path, wishes: Wishes) -> dict[str, Array]:
    """The matrix that scipy.sparse.save_npz wrote, as x.

    Raises:
        VemError: it is damaged or too large, or labels are asked for, of which it has none.
    """
    from scipy import sparse  # here, because it costs the other kinds a tenth of a second

    for key in ("array", "label_array"):
        if getattr(wishes, key) is not None:
            raise VemError(
                f"data.{key}={getattr(wishes, key)}: data.path={path} holds one sparse matrix and no other array. To "
                "give labels too, save np.savez(FILE, x=matrix.toarray(), labels=labels), or an .h5ad."
            )
    try:
        matrix = sparse.load_npz(path)
    except Exception as error:  # as for np.load: whatever zipfile, zlib and numpy meet in damaged bytes
        raise VemError(f"data.path={path} cannot be read ({error}): is it whole? Save it again.") from error
    return {"x": dense(matrix, path)}
