"""Files of MATLAB and Octave (.mat) of every version: whole arrays by the names of their variables."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from vem.data.reading import Array, Arrays, Wishes, dense, legible, needed, pick
from vem.errors import VemError

HDF5 = b"\x89HDF\r\n\x1a\n"
USER_BLOCK = 512  # bytes that MATLAB puts before the HDF5 of a 7.3 file
NUMBERS = ("double", "single", "logical", *(f"{sign}int{bits}" for sign in ("", "u") for bits in (8, 16, 32, 64)))
TEXT = ("char", "cell")  # labels may be rows of letters, or cells of text
Variable = tuple[tuple[int, ...], str, Callable[[], Any]]  # shape as MATLAB shows it, class, how to read it


def read_matlab(path: Path, wishes: Wishes) -> Arrays:
    """The variables that :func:`vem.data.reading.pick` finds; labels, a row or a column, as [N]."""
    with path.open("rb") as file:
        head = file.read(USER_BLOCK + len(HDF5))
    if HDF5 in (head[: len(HDF5)], head[USER_BLOCK:]):
        h5py = needed("h5py", path)
        with legible(path), h5py.File(path, "r") as content:
            nodes = {name: node for name, node in content.items() if not name.startswith("#")}
            return _picked({name: _of_hdf5(node, name, path) for name, node in nodes.items()}, wishes, path)
    from scipy import io  # here, because it costs the other kinds a tenth of a second

    def variable(name: str, shape: tuple[int, ...], kind: str) -> Variable:
        return shape, kind, lambda: io.loadmat(path, variable_names=[name])[name]

    with legible(path):
        variables = {name: variable(name, shape, kind) for name, shape, kind in io.whosmat(path)}
        return _picked(variables, wishes, path)


def _picked(variables: dict[str, Variable], wishes: Wishes, path: Path) -> Arrays:
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
        values = dense(read(), path) if kind == "sparse" else read()
        if not labels:
            _check_images(values, name, path)
        arrays[role] = _vector(values) if labels else values
    return arrays, ()


def _check_images(values: Array, name: str, path: Path) -> None:
    """Refuse images in MATLAB's own order [height, width, N], or what may be: square ones behind N are meant as such.

    The message has the line of MATLAB that puts one image in each row.
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
        kind, node = node["type"][()].decode().replace(" matrix", ""), node["value"]
        kind = {"matrix": "double", "scalar": "double", "row vector": "double", "bool": "logical"}.get(kind, kind)
    if "MATLAB_sparse" in node.attrs:
        from scipy import sparse

        size = (int(node.attrs["MATLAB_sparse"]), len(node["jc"]) - 1)

        def of_columns() -> Any:  # of zeros alone there is only jc
            return sparse.csc_matrix(
                tuple(node[key][()] if key in node else [] for key in ("data", "ir", "jc")), shape=size
            )

        return size, "sparse", of_columns
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
    values: Any = np.asarray(node[()].T)
    if kind == "cell":
        values = [np.asarray(node.file[reference][()]).T.ravel() for reference in values.ravel()]
    return np.array(["".join(map(chr, letters)) for letters in values], dtype=str) if kind in TEXT else values
