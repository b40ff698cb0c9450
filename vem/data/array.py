"""The user's own data: an array in a .npy or .npz file, or a table."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from vem.data.arrays import numbers, read_table
from vem.data.dataset import Data, Split, check
from vem.data.labels import classes
from vem.data.prepare import prepare, split_rows
from vem.data.reading import Array, Names, Wishes
from vem.errors import VemError, choice
from vem.storage.folders import expanded
from vem.storage.records import SPLITS

FRACTIONS = (0.8, 0.1, 0.1)
PRECISIONS = ("file", "single")


def array(
    path: str | None = None,
    binarize: str = "none",
    fractions: Sequence[float] | None = None,
    image_shape: Sequence[int] | None = None,
    label_column: str | int | None = None,
    columns: Names = None,
    drop: Names = None,
    categories: str = "refuse",
    header: str | bool = "auto",
    row_names: str | bool = "auto",
    separator: str = "auto",
    decimal: str = "auto",
    encoding: str = "auto",
    array: str | None = None,
    label_array: str | None = None,
    layer: str | None = None,
    seed: int = 0,
    max_train: int | None = None,
    precision: str = "file",
) -> Data:
    """Your own data, x [N, D] or images [N, height, width], not rescaled.

    ``path``: a .npy (x); an .npz with x and optionally labels, or with train, valid, test and optionally
    train_labels and so on; or a table written as text (.csv, .tsv, .txt, with .gz too). Of its columns, each
    given by name or else by number from 1, ``label_column`` is the labels, ``columns`` are kept in that order
    (null: all), ``drop`` are left out, and those of text become columns of 0 and 1 with ``categories=onehot``.
    ``header`` says whether the first row names the columns, ``row_names`` whether the first column names the
    rows; ``separator`` (auto, comma, semicolon, tab, space or a character), ``decimal`` (auto, point, comma)
    and ``encoding`` (auto: UTF-8, UTF-16) how it is written.
    A table in columns (.parquet, .feather) has the first four options; a single column of lists is x itself. Of a
    MATLAB file (.mat), and of an .npz, ``array`` names what is x and ``label_array`` the labels, where their own
    names do not say. Of an .h5ad x is X or a ``layer``, and ``label_column`` a column of obs. A sparse .npz of
    scipy is made dense.
    ``fractions`` of a random split by ``seed`` into train, valid and test (null: 0.8, 0.1, 0.1).
    ``image_shape`` turns [N, D] into images. ``binarize``: ``none``, or for x in [0, 1] ``threshold``
    (x ≥ ½), ``static``, ``stochastic`` (Bernoulli(x) once or every epoch). Data of 0 and 1 alone are
    binary, others real. ``precision``: ``file`` keeps the digits that the file holds (the run's dtype decides
    which are used), ``single`` rounds them to float32.

    Raises:
        VemError: the file, its content or an option does not fit; the message says which.
    """
    if path is None:
        raise VemError("data=array needs the path of your data: data.path=FILE.npy (or .npz, .csv).")
    choice(precision, PRECISIONS, "data.precision")
    wishes = Wishes(label_column, columns, drop, categories, header, row_names, separator, decimal, encoding,
                    array, label_array, layer)  # fmt: skip
    arrays, notes = read_table(expanded(path), wishes)
    split_already = "x" not in arrays
    if split_already and fractions is not None:
        raise VemError(
            f"data.fractions={list(fractions)}, but data.path={path} is split already: leave fractions null."
        )
    parts = _parts(arrays, SPLITS if split_already else ("x",), path, precision == "single")
    if not split_already:
        (rows,) = parts
        sizes = _sizes(len(rows), FRACTIONS if fractions is None else fractions)
        parts = list(map(rows.take, split_rows(len(rows), sizes, seed)))
    train, valid, test = parts
    shapes = [tuple(split.x.shape[1:]) for split in parts]
    if len(set(shapes)) > 1:
        raise VemError(
            f"data.path={path}: a datum has shape {shapes[0]} in train, {shapes[1]} in valid and "
            f"{shapes[2]} in test. Save the three with the same columns."
        )
    data = check(Data("array", train, valid, test, kind="real", seed=seed, notes=notes))
    return prepare(_as_images(data, image_shape), binarize, max_train)


def _parts(arrays: Mapping[str, Array], names: Sequence[str], path: str, single: bool) -> list[Split]:
    """The arrays of these names with their labels, which are numbered once for all of them."""
    place = {name: f"data.path={path}: {name}" for name in arrays}
    x = {name: numbers(arrays[name], place[name], single) for name in names}
    keys = {name: key for name in names if (key := "labels" if name == "x" else f"{name}_labels") in arrays}
    for name, key in keys.items():
        if arrays[key].shape != (len(x[name]),):
            raise VemError(
                f"{place[key]} has shape {arrays[key].shape} and {name} has {len(x[name])} rows: give one label per "
                f"row, shape ({len(x[name])},)."
            )
    labels = classes({place[key]: arrays[key] for key in keys.values()})
    return [Split(x[name], labels[place[keys[name]]] if name in keys else None) for name in names]


def _sizes(num: int, fractions: Sequence[float]) -> tuple[int, int, int]:
    """Whole numbers of rows; training takes what rounding leaves."""
    shares = [float(f) for f in fractions]
    if len(shares) != 3 or not all(f > 0 for f in shares) or not math.isclose(sum(shares), 1, abs_tol=1e-6):
        raise VemError(
            f"data.fractions={shares} is not a split: give three positive numbers that sum to 1, for "
            "train, valid and test."
        )
    valid, test = round(num * shares[1]), round(num * shares[2])
    train = num - valid - test
    if min(train, valid, test) < 1:
        raise VemError(
            f"data.fractions={shares} of {num} rows leave {train} / {valid} / {test} for train, valid and "
            "test: each needs a row. Change the fractions or give more data."
        )
    return train, valid, test


def _as_images(data: Data, image_shape: Sequence[int] | None) -> Data:
    """Rows of h · w numbers as images [N, h, w]; data that are images already keep their shape."""
    event = data.event_shape
    if image_shape is None and len(event) == 1:
        return data
    shape = tuple(int(side) for side in image_shape or event)
    fits = event == shape if len(event) == 2 else math.prod(shape) == event[0]
    if len(shape) != 2 or min(shape) < 1 or not fits:
        raise VemError(
            f"data.image_shape={list(shape)} does not fit data of shape {list(event)}: give [height, "
            "width] with height x width equal to the number of columns, or null."
        )
    return data.with_x(lambda _, x: x.reshape(-1, *shape), image_shape=shape)
