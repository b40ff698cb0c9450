"""MATLAB's files: versions 4 to 7.2 by scipy, 7.3 (HDF5) by h5py; Octave's, too."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from vem.data.named_arrays import dense, pick
from vem.data.needed import needed, unreadable
from vem.data.wishes import Wishes
from vem.errors import VemError

Array = npt.NDArray[Any]
HDF5 = b"\x89HDF\r\n\x1a\n"
USER_BLOCK = 512  # bytes that MATLAB puts before the HDF5 of a 7.3 file
NUMBERS = ("double", "single", "logical", *(f"{sign}int{bits}" for sign in ("", "u") for bits in (8, 16, 32, 64)))
TEXT = ("char", "cell")  # labels may be rows of letters, or cells of text


def read_matlab(path: Path, wishes: Wishes) -> dict[str, Array]:
    """The variables that :func:`vem.data.named_arrays.pick` finds; labels, a row or a column, as [N].

    Raises:
        VemError: the file cannot be read, it is not said which variable is x, or that one holds no numbers.
    """
    wishes.none_but(("array", "label_array"), path)
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
