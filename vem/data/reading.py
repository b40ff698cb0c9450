"""What the readers of a user's files share: the options, libraries, messages, and which of several arrays is x."""

from __future__ import annotations

import importlib
import math
import warnings
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from vem.errors import VemError, did_you_mean
from vem.storage.records import SPLITS

Array = npt.NDArray[Any]
Arrays = tuple[dict[str, Array], tuple[str, ...]]  # x and perhaps labels, or train, …; and what to say of the reading
LARGEST_DENSE = 2 * 10**9  # bytes of a sparse array made dense
LABELS = {"x": "labels", **{name: f"{name}_labels" for name in SPLITS}}
Names = Sequence[str | int] | str | int | None

OF_TABLES = ("label_column", "columns", "drop", "categories")
OF_TEXT = ("header", "row_names", "separator", "decimal", "encoding")
OF_ARRAYS = ("array", "label_array")
TEXTS = ".csv, .tsv and .txt files"
TABLES = f"tables with columns ({TEXTS}, .parquet, .feather)"
MEANT_FOR = {
    **dict.fromkeys(OF_TABLES, TABLES),
    **dict.fromkeys(OF_TEXT, TEXTS),
    **dict.fromkeys(OF_ARRAYS, ".npz and .mat files"),
    "label_column": f"{TABLES} and .h5ad",
    "layer": ".h5ad files",
}


@dataclass(frozen=True)
class Wishes:
    """The options of the reading, at the value that leaves it to vem."""

    # of every table with columns
    label_column: str | int | None = None
    columns: Names = None
    drop: Names = None
    categories: str = "refuse"
    # of text
    header: str | bool = "auto"
    row_names: str | bool = "auto"
    separator: str = "auto"
    decimal: str = "auto"
    encoding: str = "auto"
    # of files that hold several arrays
    array: str | None = None
    label_array: str | None = None
    layer: str | None = None

    def none_but(self, meant: Collection[str], path: Path) -> None:
        """VemError if an option is set that this kind of file does not have: one that is not among ``meant``."""
        for field in fields(self):
            value = getattr(self, field.name)
            if field.name not in meant and value != field.default:
                raise VemError(
                    f"data.{field.name}={value} is for {MEANT_FOR[field.name]}, and data.path={path} is not one: "
                    "leave it out; the labels of an .npz stand under the key 'labels'."
                )


def needed(module: str, path: Path) -> Any:
    """The module that reads a file of this kind; VemError, with the commands that install it, if it is missing."""
    package = module.partition(".")[0]
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise VemError(
            f"data.path={path}: reading {path.suffix.lower()} needs the package {package}: pip install {package}, or, "
            "in a checkout of vem, pip install -c constraints.txt -e '.[tables]'."
        ) from error


def unreadable(path: Path, error: Exception | str) -> VemError:
    """The message for a file that its library refuses; ``error`` is the reason."""
    reason = " ".join(str(error).split())[:300] or type(error).__name__  # one line, whatever the library says
    return VemError(f"data.path={path} cannot be read ({reason}): is it whole? Save it again.")


@contextmanager
def legible(path: Path) -> Iterator[None]:
    """Whatever a library raises as a VemError about the file: in damaged bytes numpy, zipfile, h5py … meet anything."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about the version that wrote the file, and names that repeat
            yield
    except VemError:
        raise
    except Exception as error:
        raise unreadable(path, error) from error


def pick(shapes: Mapping[str, tuple[int, ...]], wishes: Wishes, path: Path) -> dict[str, str]:
    """Which array of the file is what: vem's name (x, labels; or train, valid, test, train_labels …) → its own.

    ``shapes`` are those of all arrays of the file. What the names do not settle is asked: several arrays are never
    told apart by their order or their shape.

    Raises:
        VemError: an array that is asked for is not there, or it is not said which one is x.
    """
    names = list(shapes)
    shown = listed([f"{name} ({' x '.join(map(str, shape))})" for name, shape in sorted(shapes.items())])
    for key in OF_ARRAYS:
        wanted = getattr(wishes, key)
        if wanted is not None and wanted not in names:
            raise VemError(
                f"data.{key}={wanted!r} is not in data.path={path}{did_you_mean(str(wanted), names)} It holds {shown}."
            )
    x, label = wishes.array, wishes.label_array
    rest = [name for name in names if name not in (x, label)]
    three = {*SPLITS, *(LABELS[name] for name in SPLITS)}
    if x is None and label is None and set(SPLITS) <= set(names) <= three:
        return {name: name for name in names}
    if x is None and "x" in rest and set(rest) <= {"x", "labels"}:
        x = "x"
    elif x is None and len(rest) == 1 and rest[0] not in {*three, "labels"}:
        x = rest[0]
    if x is not None:
        label = label or ("labels" if "labels" in names and x != "labels" else None)
        return {"x": x} | ({"labels": label} if label else {})
    example = max(names, key=lambda name: math.prod(shapes[name])) if names else "NAME"
    raise VemError(
        f"data.path={path} has the keys {shown}. Save it with x and, if you have them, labels; or with "
        "train, valid and test and, if you have them, train_labels, valid_labels, test_labels; or say which array is x "
        f"(data.array={example}) and, if one is, which holds the labels (data.label_array=NAME)."
    )


def listed(names: Sequence[str]) -> str:
    """The names of columns, layers or arrays, for a message."""
    return ", ".join(names[:20]) + (" …" if len(names) > 20 else "") or "(none)"


def dense(sparse: Any, path: Path) -> Array:
    """A sparse matrix of scipy as an array; VemError if that would take more than two gigabytes."""
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
