"""Files of other programs: tables in columns (pyarrow), MATLAB and Octave, annotated data, sparse matrices of scipy."""

from __future__ import annotations

import re
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from vem.data.columns import Source, arrays_of, chosen, typed
from vem.data.reading import OF_ARRAYS, OF_TABLES, Array, Wishes, dense, listed, needed, pick, unreadable
from vem.errors import VemError, did_you_mean

PARQUET, FEATHER = (".parquet", ".pq"), (".feather", ".arrow")
INDEX = re.compile(r"__index_level_\d+__")  # pandas' name for an index without one
HDF5 = b"\x89HDF\r\n\x1a\n"
USER_BLOCK = 512  # bytes that MATLAB puts before the HDF5 of a 7.3 file
NUMBERS = ("double", "single", "logical", *(f"{sign}int{bits}" for sign in ("", "u") for bits in (8, 16, 32, 64)))
TEXT = ("char", "cell")  # labels may be rows of letters, or cells of text


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
    arrays, more = arrays_of(frame, wishes, Source(path, lambda row: f"row {row} (counted from 0)"), index)
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


def read_annotated(path: Path, wishes: Wishes) -> dict[str, Array]:
    """x [cells, genes] and perhaps labels.

    Raises:
        VemError: the file cannot be read, or has no such layer or column of obs.
    """
    wishes.none_but(("layer", "label_column"), path)
    anndata = needed("anndata", path)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about the version that wrote the file, and names that repeat
            found = anndata.read_h5ad(path)
    except Exception as error:  # h5py's and anndata's are of many kinds
        raise unreadable(path, error) from error
    layers = [str(name) for name in found.layers]
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
        names, wanted = [str(name) for name in found.obs.columns], str(wishes.label_column)
        if wanted not in names:
            raise VemError(
                f"data.label_column={wanted!r} is not a column of obs in data.path={path}{did_you_mean(wanted, names)} "
                f"Its columns: {listed(names)}."
            )
        arrays["labels"] = found.obs.iloc[:, names.index(wanted)].to_numpy()
    return arrays


def read_matlab(path: Path, wishes: Wishes) -> dict[str, Array]:
    """The variables that :func:`vem.data.reading.pick` finds; labels, a row or a column, as [N].

    Raises:
        VemError: the file cannot be read, it is not said which variable is x, or that one holds no numbers.
    """
    wishes.none_but(OF_ARRAYS, path)
    with path.open("rb") as file:
        head = file.read(USER_BLOCK + len(HDF5))
    if HDF5 in (head[: len(HDF5)], head[USER_BLOCK:]):
        h5py = needed("h5py", path)
        try:
            with h5py.File(path, "r") as content:
                return _picked({name: _of_hdf5(node, name, path) for name, node in content.items()
                                if not name.startswith("#")}, wishes, path)  # fmt: skip
        except (OSError, KeyError, RuntimeError, ValueError) as error:
            raise unreadable(path, error) from error
    from scipy import io  # here, because it costs the other kinds a tenth of a second

    try:
        kinds = {name: (shape, kind) for name, shape, kind in io.whosmat(path)}
    except Exception as error:  # scipy raises bare TypeError, ValueError, MatReadError, … on damaged bytes
        raise unreadable(path, error) from error

    def reader(name: str) -> Callable[[], Any]:
        def read() -> Any:
            try:
                return io.loadmat(path, variable_names=[name])[name]
            except Exception as error:
                raise unreadable(path, error) from error

        return read

    return _picked({name: (shape, kind, reader(name)) for name, (shape, kind) in kinds.items()}, wishes, path)


Variable = tuple[tuple[int, ...], str, Callable[[], Any]]  # shape as MATLAB shows it, class, how to read it


def _picked(variables: dict[str, Variable], wishes: Wishes, path: Path) -> dict[str, Array]:
    """Read the variables that are asked for, and no other."""
    arrays = {}
    for role, name in pick({name: variable[0] for name, variable in variables.items()}, wishes, path).items():
        shape, kind, read = variables[name]
        labels = role.endswith("labels")
        if kind not in (*NUMBERS, "sparse", *(TEXT if labels else ())):
            raise VemError(
                f"data.path={path}: {name} is a {kind} of shape {' x '.join(map(str, shape))}, not an array of "
                f"numbers. Save {'the labels' if labels else 'x'} as a plain matrix"
                + ("." if labels else ", or name another variable: data.array=NAME.")
            )
        values = read()
        if kind == "sparse":
            values = dense(values, path)
        if not labels:
            _check_images(values, name, path)
        arrays[role] = _vector(values) if labels else values
    return arrays


def _check_images(values: Array, name: str, path: Path) -> None:
    """Refuse images in MATLAB's own order [height, width, N], or what may be: square ones behind N are meant as such.

    Raises:
        VemError: with the line of MATLAB that puts one image in each row.
    """
    if values.ndim != 3 or values.shape[0] != values.shape[1] == values.shape[2]:
        return
    first, middle, last = values.shape
    raise VemError(
        f"data.path={path}: {name} is {first} x {middle} x {last}, and whether the data run along its first axis or, "
        f"as is usual in MATLAB, along its last is not known. Save one datum a row: "
        f"reshape(permute({name}, [3 2 1]), {last}, []) with data.image_shape=[{first},{middle}] if it is "
        "[height, width, N], or "
        f"reshape(permute({name}, [1 3 2]), {first}, []) with data.image_shape=[{middle},{last}] if it is "
        "[N, height, width]."
    )


def _vector(values: Array) -> Array:
    """Labels as [N]: a row, a column, rows of letters or cells of text, whose padding goes."""
    if values.dtype.kind == "O":
        values = np.array([str(np.squeeze(cell)) if np.size(cell) else "" for cell in values.ravel()], dtype=str)
    if values.ndim == 2 and 1 in values.shape:
        values = values.ravel()
    return np.char.rstrip(values) if values.dtype.kind == "U" else values


def _of_hdf5(node: Any, name: str, path: Path) -> Variable:
    """A variable of a 7.3 file, whose axes HDF5 shows in reverse; of Octave's, which writes a group for each."""
    kind = node.attrs.get("MATLAB_class", b"")
    kind = kind.decode() if isinstance(kind, bytes) else str(kind)
    if "OCTAVE_NEW_FORMAT" in node.attrs:
        octave, node = node["type"][()].decode(), node["value"]
        kind = "double" if octave in ("matrix", "scalar", "row vector") else octave.replace(" matrix", "")
        if octave == "bool matrix":
            kind = "logical"
    if "MATLAB_sparse" in node.attrs:
        return (int(node.attrs["MATLAB_sparse"]), len(node["jc"]) - 1), "sparse", lambda: _sparse_of(node)
    if not hasattr(node, "shape"):
        return (), kind or "struct", lambda: node
    if not kind:
        raise VemError(
            f"data.path={path}: {name} does not say that MATLAB wrote it, so that its rows could be its columns. Save "
            "it from MATLAB with save -v7, or as an .npz."
        )
    if "MATLAB_empty" in node.attrs:
        shape = tuple(int(side) for side in node[()])
        return shape, kind, lambda: np.zeros(shape)
    return tuple(node.shape[::-1]), kind, lambda: _values_of(node, kind)


def _values_of(node: Any, kind: str) -> Array:
    if kind == "char":
        return np.array(["".join(map(chr, row)) for row in node[()].T], dtype=str)
    if kind == "cell":
        cells = [node.file[reference][()] for reference in node[()].T.ravel()]
        return np.array(["".join(map(chr, np.asarray(cell).T.ravel())) for cell in cells], dtype=str)
    return np.asarray(node[()].T)


def _sparse_of(node: Any) -> Any:
    from scipy import sparse

    shape = (int(node.attrs["MATLAB_sparse"]), len(node["jc"]) - 1)
    parts = (node["data"][()], node["ir"][()], node["jc"][()]) if "data" in node else ([], [], node["jc"][()])
    return sparse.csc_matrix(parts, shape=shape)


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
        raise unreadable(path, error) from error
    return {"x": dense(matrix, path)}
