"""Tables in columns: .parquet and .feather, by pyarrow."""

from __future__ import annotations

import re
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from vem.data.columns import arrays_of, chosen, typed
from vem.data.needed import needed, unreadable
from vem.data.wishes import OF_TABLES, Wishes
from vem.errors import VemError

Array = npt.NDArray[Any]
PARQUET, FEATHER = (".parquet", ".pq"), (".feather", ".arrow")
INDEX = re.compile(r"__index_level_\d+__")  # pandas' name for an index without one


def read_frame(path: Path, wishes: Wishes) -> tuple[dict[str, Array], tuple[str, ...]]:
    """x and perhaps labels of a table in columns, and what to say about the reading.

    The index of pandas names the rows and is left out. A single column of lists, all of one length, is x itself:
    [N, D], or [N, height, width] where they are lists of lists.

    Raises:
        VemError: the file cannot be read, or holds something else than numbers: the message names row and column.
    """
    wishes.none_but(OF_TABLES, path)
    table = _read(path)
    names = [str(name) for name in table.column_names]
    if len(set(names)) < len(names):
        twice = next(name for name in names if names.count(name) > 1)
        raise VemError(f"data.path={path}: two columns are named {twice!r}. Rename one and save it again.")
    index = _index(table, names, path)
    label, kept = chosen(names, wishes, path, index)
    notes = [f"data.path={path}: column {names[j]} names the rows (a pandas index) and is left out."
             for j in index if j not in kept and j != label]  # fmt: skip
    types = needed("pyarrow", path).types
    lists = [j for j in kept if _shape_of(table.field(j).type) is not None]
    if lists and len(kept) > 1:
        raise VemError(
            f"data.path={path}: column {names[lists[0]]} holds lists, beside {len(kept) - 1} other columns. Say which "
            f"is x: data.columns=[{typed(names, lists[0])}] for the lists, or data.drop=[{typed(names, lists[0])}]."
        )
    if lists:
        arrays = {"x": _stacked(table.column(lists[0]), names[lists[0]], path)}
        if label is not None:
            arrays["labels"] = table.column(label).to_pandas().to_numpy()
        return arrays, tuple(notes)
    for j in kept:
        kind = table.field(j).type
        if types.is_temporal(kind) or types.is_nested(kind) or types.is_binary(kind):
            raise VemError(
                f"data.path={path}: column {names[j]} holds {kind}, not numbers. Turn it into numbers, or leave it "
                f"out: data.drop=[{typed(names, j)}]."
            )
    frame = table.to_pandas(ignore_metadata=True)
    arrays, more = arrays_of(frame, wishes, path, lambda row: f"row {row} (counted from 0)", index)
    return arrays, (*notes, *more)


def _read(path: Path) -> Any:
    """The file as a table of Arrow."""
    if path.suffix.lower() in PARQUET:
        parquet = needed("pyarrow.parquet", path)
        try:
            # Not read_table, which takes "a=1" in the name of a folder for one more column.
            return parquet.ParquetFile(path).read()
        except Exception as error:  # pyarrow's own are ValueErrors, OSErrors and NotImplementedErrors
            raise unreadable(path, error) from error
    feather = needed("pyarrow.feather", path)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # that files of version 1 shall be written no more
            return feather.read_table(str(path), memory_map=False)
    except Exception as error:
        raise unreadable(path, error) from error


def _index(table: Any, names: list[str], path: Path) -> list[int]:
    """The columns that hold the index of pandas: those that its metadata name, and any with pandas' own name for one.

    So is a first column without a name, or "Unnamed: 0": row names that were read from a .csv as data.
    """
    metadata = table.schema.pandas_metadata or {}
    said = {name for name in metadata.get("index_columns", []) if isinstance(name, str)}
    found = [j for j, name in enumerate(names) if name in said or INDEX.fullmatch(name)]
    if names and names[0] in ("", "Unnamed: 0") and 0 not in found:
        column = table.column(0)
        if len(column.unique()) < len(column):
            raise VemError(
                f"data.path={path}: column 1 has no name ({names[0]!r}), and its values repeat: row names, or data? "
                "Name the column, or drop it, and save it again."
            )
        found.insert(0, 0)
    return found


def _shape_of(kind: Any) -> tuple[int, ...] | None:
    """The number of axes of a column's cells as a shape of zeros, or None where a cell is no list."""
    import pyarrow as pa

    if isinstance(kind, pa.FixedShapeTensorType):
        return tuple(kind.shape)
    types = pa.types
    if types.is_list(kind) or types.is_large_list(kind) or types.is_fixed_size_list(kind):
        return (0, *(_shape_of(kind.value_type) or ()))
    return None


def _stacked(column: Any, name: str, path: Path) -> Array:
    """A column of lists as [N, D], of lists of lists as [N, height, width]."""
    import pyarrow as pa
    import pyarrow.compute as pc

    if isinstance(column.type, pa.FixedShapeTensorType):
        return np.asarray(column.combine_chunks().to_numpy_ndarray())
    values, shape = column.combine_chunks(), [len(column)]
    while _shape_of(values.type) is not None:
        lengths = np.asarray(pc.list_value_length(values).fill_null(-1))
        first = int(lengths[0]) if len(lengths) else 0
        if (odd := lengths != first).any() or first < 0:
            at = int((odd if first >= 0 else lengths < 0).argmax())
            row = at // max(1, int(np.prod(shape[1:])))
            length = f"a list of {int(lengths[at])}" if lengths[at] >= 0 else "no list"
            raise VemError(
                f"data.path={path}: row {row} (counted from 0), column {name}, holds {length}"
                + (f", and the first row a list of {first}" if first >= 0 else "")
                + ". Give every row a list of one length, or leave the column out."
            )
        shape.append(first)
        values = pc.list_flatten(values)
    return np.asarray(values.to_numpy(zero_copy_only=False)).reshape(shape)
