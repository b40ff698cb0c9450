"""Tables in columns (pyarrow) and annotated data (anndata)."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np

from vem.data.columns import Source, arrays_of, chosen, typed
from vem.data.reading import Array, Arrays, Wishes, dense, legible, listed, needed
from vem.errors import VemError, did_you_mean

INDEX = re.compile(r"__index_level_\d+__")  # pandas' name for an index without one


def read_frame(path: Path, wishes: Wishes) -> Arrays:
    """x and perhaps labels of a table in columns; the index of pandas, which names the rows, is left out.

    A single column of lists, all of one length, is x itself: [N, D], or [N, height, width] for lists of lists.
    VemError, with row and column, where the file holds something else than numbers.
    """
    if path.suffix.lower() in (".parquet", ".pq"):
        parquet = needed("pyarrow.parquet", path)
        with legible(path):
            # Not read_table, which takes "a=1" in the name of a folder for one more column.
            table = parquet.ParquetFile(path).read()
    else:
        feather = needed("pyarrow.feather", path)
        with legible(path):
            table = feather.read_table(str(path), memory_map=False)
    names = [str(name) for name in table.column_names]
    if len(set(names)) < len(names):
        twice = next(name for name in names if names.count(name) > 1)
        raise VemError(f"data.path={path}: two columns are named {twice!r}. Rename one and save it again.")
    index = _index(table, names, path)
    label, kept = chosen(names, wishes, path, index)
    notes = [f"data.path={path}: column {names[j]} names the rows (a pandas index) and is left out."
             for j in index if j not in kept and j != label]  # fmt: skip
    types = needed("pyarrow", path).types
    for j in kept:
        kind = table.field(j).type
        if _axes(kind):
            if len(kept) > 1:
                raise VemError(
                    f"data.path={path}: column {names[j]} holds lists, beside {len(kept) - 1} other columns. Say which "
                    f"is x: data.columns=[{typed(names, j)}] for the lists, or data.drop=[{typed(names, j)}]."
                )
            labels = {} if label is None else {"labels": table.column(label).to_pandas().to_numpy()}
            return {"x": _stacked(table.column(j), names[j], path), **labels}, tuple(notes)
    for j in kept:
        kind = table.field(j).type
        if types.is_temporal(kind) or types.is_nested(kind) or types.is_binary(kind):
            raise VemError(
                f"data.path={path}: column {names[j]} holds {kind}, not numbers. Turn it into numbers, or leave it "
                f"out: data.drop=[{typed(names, j)}]."
            )
    frame = table.to_pandas(ignore_metadata=True)
    arrays, more = arrays_of(frame, wishes, Source(path, lambda row: f"row {row} (counted from 0)"), index)
    return arrays, (*notes, *more)


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


def _axes(kind: Any) -> int:
    """How many axes a cell of this type has: 0 where it is no list."""
    import pyarrow as pa

    if isinstance(kind, pa.FixedShapeTensorType):
        return len(kind.shape)
    lists = (pa.types.is_list, pa.types.is_large_list, pa.types.is_fixed_size_list)
    return 1 + _axes(kind.value_type) if any(is_one(kind) for is_one in lists) else 0


def _stacked(column: Any, name: str, path: Path) -> Array:
    """A column of lists as [N, D], of lists of lists as [N, height, width]."""
    import pyarrow as pa
    import pyarrow.compute as pc

    values, shape = column.combine_chunks(), [len(column)]
    if isinstance(column.type, pa.FixedShapeTensorType):
        return np.asarray(values.to_numpy_ndarray())
    while _axes(values.type):
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


def read_annotated(path: Path, wishes: Wishes) -> Arrays:
    """x [cells, genes] and perhaps labels; VemError if there is no such layer or column of obs."""
    anndata = needed("anndata", path)
    with legible(path):
        found = anndata.read_h5ad(path)
    layers, columns = ([str(name) for name in names] for names in (found.layers, found.obs.columns))
    if wishes.layer is None and found.X is None:
        raise VemError(f"data.path={path} has no X. Its layers: {listed(layers)}. Say which is x: data.layer=NAME.")
    if wishes.layer is not None and wishes.layer not in layers:
        raise VemError(
            f"data.layer={wishes.layer!r} is not a layer of data.path={path}{did_you_mean(str(wishes.layer), layers)} "
            f"Its layers: {listed(layers)}; without data.layer, x is X."
        )
    values = found.X if wishes.layer is None else found.layers[wishes.layer]
    arrays = {"x": dense(values, path) if hasattr(values, "toarray") else np.asarray(values)}
    if wishes.label_column is not None:
        wanted = str(wishes.label_column)
        if wanted not in columns:
            raise VemError(
                f"data.label_column={wanted!r} is not a column of obs in data.path={path}"
                f"{did_you_mean(wanted, columns)} Its columns: {listed(columns)}."
            )
        arrays["labels"] = found.obs.iloc[:, columns.index(wanted)].to_numpy()
    return arrays, ()
