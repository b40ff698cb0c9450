"""Files of other programs: x is what the program that wrote them shows, and what is not told by name is asked."""

from __future__ import annotations

import datetime
import sys
from pathlib import Path

import anndata
import h5py
import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
import torch
from pyarrow import feather, parquet
from scipy import io, sparse

from vem.data import reading
from vem.data.array import array
from vem.data.dataset import Data
from vem.errors import VemError

OCTAVE = Path(__file__).parent / "matlab"  # written by GNU Octave 7.3, save -v4, -v6, -v7 and -hdf5
RNG = np.random.default_rng(0)
X = RNG.normal(size=(30, 4))
X[:, 0] = np.arange(30)  # by which a row is known again
NUMBERED = np.arange(30) % 3
KINDS = np.array(["ape", "bee", "cat"])[NUMBERED]


def in_order(data: Data) -> tuple[np.ndarray, np.ndarray | None]:
    """x and labels in the order of the file, which the first column gives."""
    parts = [data.split(name) for name in ("train", "valid", "test")]
    x = torch.cat([part.x for part in parts]).numpy()
    order = x.reshape(len(x), -1)[:, 0].argsort()
    labelled = all(part.labels is not None for part in parts)
    return x[order], torch.cat([part.labels for part in parts]).numpy()[order] if labelled else None


def holds(data: Data, x: np.ndarray, labels: np.ndarray | None = None) -> bool:
    """Whether these are the data, and their labels if any are given."""
    found, numbers = in_order(data)
    return np.array_equal(found, x) and (labels is None or np.array_equal(numbers, labels))


def frame() -> pd.DataFrame:
    return pd.DataFrame(X, columns=["a", "b", "c", "d"])


def save_frame(table: pd.DataFrame | pa.Table, path: Path) -> str:
    table = pa.Table.from_pandas(table) if isinstance(table, pd.DataFrame) else table
    if path.suffix == ".parquet":
        parquet.write_table(table, path)
    else:
        feather.write_feather(table, path)
    return str(path)


BOTH = pytest.mark.parametrize("suffix", [".parquet", ".feather"])


# --- tables in columns


@BOTH
@pytest.mark.parametrize(
    ("index", "told"),
    [
        (None, None),
        (pd.Index([f"row {i}" for i in range(30)]), "__index_level_0__"),
        (pd.Index(range(100, 130)), None),
        (pd.Index([i * i for i in range(30)]), "__index_level_0__"),
        (pd.Index(range(30, 0, -1), name="id").astype(float), "id"),
        (pd.MultiIndex.from_product([range(5), range(6)], names=["k", "l"]), "k"),
    ],
    ids=["none", "text", "range", "numbers", "named", "two levels"],
)
def test_the_index_of_pandas_is_no_column(tmp_path, suffix, index, told):
    table = frame() if index is None else frame().set_index(index)
    data = array(save_frame(table, tmp_path / f"x{suffix}"))
    assert holds(data, X)
    assert (told is None) == (data.notes == ()) and all(told in note for note in data.notes[:1])


@BOTH
def test_pandas_writes_what_vem_reads(tmp_path, suffix):
    table = frame().assign(kind=KINDS)
    path = tmp_path / f"x{suffix}"
    (table.to_parquet if suffix == ".parquet" else table.to_feather)(path)
    data = array(str(path), label_column="kind")
    assert holds(data, X, NUMBERED)


@BOTH
def test_an_index_without_the_metadata_of_pandas(tmp_path, suffix):
    """polars and duckdb read the file of pandas and write it again: the index is then a column like others."""
    table = pa.Table.from_pandas(frame().set_index(pd.Index(list("abcdefghijklmnopqrstuvwxyzABCD"))))
    data = array(save_frame(table.replace_schema_metadata(None), tmp_path / f"x{suffix}"))
    assert holds(data, X) and "__index_level_0__" in data.notes[0]


def test_row_names_that_came_in_as_data(tmp_path):
    table = frame()
    table.insert(0, "Unnamed: 0", np.arange(30) * 2)
    assert holds(array(save_frame(table, tmp_path / "x.parquet")), X)
    table["Unnamed: 0"] = 1
    with pytest.raises(VemError, match="its values repeat: row names, or data"):
        array(save_frame(table, tmp_path / "y.parquet"))


def test_an_index_may_be_the_labels(tmp_path):
    table = frame().set_index(pd.Index(KINDS, name="kind"))
    data = array(save_frame(table, tmp_path / "x.parquet"), label_column="kind")
    assert holds(data, X, NUMBERED) and data.notes == ()


@BOTH
@pytest.mark.parametrize("kind", ["list", "large", "fixed", "images", "tensor"])
def test_a_column_of_lists_is_x(tmp_path, suffix, kind):
    values = X.astype(np.float32)
    flat = pa.array(values.ravel())
    fixed = pa.FixedSizeListArray.from_arrays(flat, 4)
    columns = {
        "list": pa.array(values.tolist(), pa.list_(pa.float32())),
        "large": pa.array(values.tolist(), pa.large_list(pa.float32())),
        "fixed": fixed,
        "images": pa.array(values.reshape(30, 2, 2).tolist(), pa.list_(pa.list_(pa.float32()))),
        "tensor": pa.FixedShapeTensorArray.from_numpy_ndarray(values.reshape(30, 2, 2)),
    }
    table = pa.table({"embedding": columns[kind], "kind": pa.array(KINDS).dictionary_encode()})
    data = array(save_frame(table, tmp_path / f"x{suffix}"), label_column="kind")
    assert data.image_shape == ((2, 2) if kind in ("images", "tensor") else None)
    assert data.train.x.dtype == torch.float32
    x, labels = in_order(data)
    assert np.array_equal(x.reshape(30, 4), values) and np.array_equal(labels, NUMBERED)


def test_a_sliced_and_chunked_table(tmp_path):
    table = pa.table({"x": pa.array(X.tolist())})
    path = tmp_path / "x.parquet"
    parquet.write_table(pa.concat_tables([table[:7], table[7:]]), path, row_group_size=5)
    assert holds(array(str(path)), X)


def test_columns_of_other_types(tmp_path):
    table = pa.table({
        "row": pa.array(np.arange(30, dtype=np.int16)),
        "flag": pa.array([True, False, False] * 10),
        "code": pa.array([10, 30, 20] * 10).dictionary_encode(),
        "half": pa.array(X[:, 1].astype(np.float16)),
        "price": pa.array([100 * i for i in range(30)], pa.int64()).cast(pa.decimal128(20, 0)),
    })  # fmt: skip
    x, _ = in_order(array(save_frame(table, tmp_path / "x.parquet")))
    assert np.array_equal(x[:, 1], [1, 0, 0] * 10) and np.array_equal(x[:, 2], [10, 30, 20] * 10)
    assert np.array_equal(x[:, 3], X[:, 1].astype(np.float16)) and np.array_equal(x[:, 4], 100 * np.arange(30))
    with pytest.raises(VemError, match=r"column kind, holds 'ape'.*data.label_column"):
        array(save_frame(frame().assign(kind=pd.Categorical(KINDS)), tmp_path / "y.parquet"))
    assert array(str(tmp_path / "y.parquet"), categories="onehot").train.x.shape == (24, 7)


def test_a_folder_named_like_a_key_is_no_column(tmp_path):
    (tmp_path / "seed=3").mkdir()
    assert array(save_frame(frame(), tmp_path / "seed=3" / "x.parquet")).train.x.shape == (24, 4)


WITH_A_HOLE = pa.table({"a": pa.array([1.0, None, 3.0]), "b": pa.array([1, 2, 3])})
BAD_TABLES = {
    "null": (WITH_A_HOLE, {}, r"row 1 \(counted from 0\), column a"),
    "null label": (
        pa.table({"a": [1.0, 2.0], "k": ["x", None]}),
        {"label_column": "k"},
        r"1 of 2 labels are missing, the first .*row 1",
    ),
    "unequal lists": (
        pa.table({"v": [[1.0, 2], [3.0], [4.0, 5]]}),
        {},
        "row 1 .*column v, holds a list of 1, and the first",
    ),
    "no list": (pa.table({"v": [[1.0, 2], None]}), {}, "row 1 .*column v, holds no list"),
    "unequal pictures": (pa.table({"v": [[[1.0, 2], [3, 4]], [[1.0, 2], [3]]]}), {}, r"row 1 .*holds a list of 1"),
    "lists beside numbers": (
        pa.table({"id": [1, 2], "v": [[1.0, 2], [3, 4]]}),
        {},
        r"column v holds lists, beside 1 other columns.*data.columns=\[2\].*data.drop=\[2\]",
    ),
    "times": (
        pa.table({"a": [1.0], "t": [datetime.datetime(2020, 1, 1)]}),
        {},
        r"t holds timestamp\[us\].*data.drop=\[2\]",
    ),
    "structs": (pa.table({"s": [{"a": 1}]}), {}, "column s holds struct<a: int64>, not numbers"),
    "nanoseconds": (
        pa.table({"ns": 17 * 10**17 + np.arange(50), "b": np.arange(50)}),
        {},
        r"column ns holds whole numbers near 1.7e\+18.*subtract its smallest value",
    ),
    "bytes": (pa.table({"s": [b"12"]}), {}, "column s holds binary, not numbers"),
    "one name twice": (pa.table([[1.0], [2.0]], names=["a", "a"]), {}, "two columns are named 'a'"),
    "label column": (WITH_A_HOLE, {"label_column": "bb"}, "did you mean 'b'"),
    "header": (WITH_A_HOLE, {"header": True}, "data.header=True is for .csv"),
    "layer": (WITH_A_HOLE, {"layer": "counts"}, "data.layer=counts is for .h5ad files"),
    "array": (WITH_A_HOLE, {"array": "a"}, r"data.array=a is for .npz and .mat files"),
}  # fmt: skip


@BOTH
@pytest.mark.parametrize("case", BAD_TABLES)
def test_tables_that_are_refused(tmp_path, suffix, case):
    table, options, says = BAD_TABLES[case]
    path = save_frame(table, tmp_path / f"x{suffix}")
    with pytest.raises(VemError, match=says) as caught:
        array(path, **options)
    assert "\n" not in str(caught.value)


def test_the_remedies_for_lists_beside_numbers_work(tmp_path):
    path = save_frame(pa.table({"id": np.arange(30), "v": X.tolist()}), tmp_path / "x.parquet")
    assert holds(array(path, columns=[2]), X)
    assert holds(array(path, drop=[2]), np.arange(30)[:, None])


# --- sparse matrices


@pytest.mark.parametrize("form", ["csr", "csc", "coo", "bsr", "dia"])
@pytest.mark.parametrize("kind", ["f4", "f8", "i8", "?"])
def test_a_sparse_matrix_is_its_dense_self(tmp_path, form, kind):
    x = np.where(RNG.random((30, 6)) < 0.3, 7, 0).astype(kind)
    x[:, 0] = np.arange(30) if kind != "?" else 1
    sparse.save_npz(tmp_path / "x.npz", sparse.csr_matrix(x).asformat(form))
    data = array(str(tmp_path / "x.npz"))
    found, _ = in_order(data)
    assert np.array_equal(found[np.lexsort(found.T)], x[np.lexsort(x.T)].astype(found.dtype))
    assert data.kind == ("binary" if kind == "?" else "real")


def test_a_sparse_matrix_has_no_labels_and_a_limit(tmp_path, monkeypatch):
    path = tmp_path / "x.npz"
    sparse.save_npz(path, sparse.csr_matrix(X))
    with pytest.raises(VemError, match=r"one sparse matrix.*np.savez\(FILE, x=matrix.toarray\(\), labels=labels\)"):
        array(str(path), label_array="y")
    monkeypatch.setattr(reading, "LARGEST_DENSE", 900)
    with pytest.raises(VemError, match=r"is sparse, and.*its 30 x 4 numbers take.*keep fewer columns"):
        array(str(path))
    sparse.save_npz(path, sparse.csr_matrix((10**6, 10**6)))  # is refused before it is made
    with pytest.raises(VemError, match=r"8000.0 GB"):
        array(str(path))


# --- several arrays in one file


def test_several_arrays_are_asked_for_by_name(tmp_path):
    path = str(tmp_path / "x.npz")
    np.savez(path, pixels=X, pixels2=X + 1, target=KINDS)
    with pytest.raises(VemError, match=r"pixels \(30 x 4\), pixels2 \(30 x 4\), target \(30\).*data.array=pixels\)"):
        array(path)
    data = array(path, array="pixels", label_array="target")
    assert holds(data, X, NUMBERED)
    assert array(path, array="pixels").train.labels is None
    for options, says in (
        ({"array": "pixel"}, r"data.array='pixel' is not in .*did you mean 'pixels'\? It holds"),
        ({"array": "pixels", "label_array": "y"}, "data.label_array='y' is not in"),
    ):
        with pytest.raises(VemError, match=says):
            array(path, **options)


def test_an_array_of_objects_beside_x_is_no_obstacle(tmp_path):
    path = tmp_path / "x.npz"
    np.savez(path, x=X, meta=np.array({"by": "me"}))
    with pytest.raises(VemError, match=r"has the keys meta .*data\.array=x"):
        array(str(path))
    assert holds(array(str(path), array="x"), X)


def test_one_array_is_x_whatever_its_name(tmp_path):
    np.savez(tmp_path / "x.npz", X)
    assert holds(array(str(tmp_path / "x.npz")), X)
    np.savez(tmp_path / "y.npz", data=X, target=KINDS)
    assert holds(array(str(tmp_path / "y.npz"), label_array="target"), X, NUMBERED)


# --- MATLAB and Octave

MX = np.arange(1, 25).reshape(4, 6).T / 7  # reshape(1:24, 6, 4) / 7
SPLIT = {"fractions": [0.34, 0.33, 0.33]}


def octave(name: str, **options: object) -> Data:
    return array(str(OCTAVE / f"octave_{name}.mat"), **SPLIT, **options)  # type: ignore[arg-type]


@pytest.mark.parametrize("name", ["v4", "v7_only"])
def test_the_only_variable_is_x(name):
    assert holds(octave(name), MX)


@pytest.mark.parametrize("name", ["v6", "many", "hdf5"])
def test_variables_are_named(name):
    with pytest.raises(VemError, match=r"X \(6 x 4\).* y \(6 x 1\).*data.array=X.*data.label_array=NAME"):
        octave(name)
    assert holds(octave(name, array="X", label_array="y"), MX, [1, 2, 3, 1, 2, 3])


@pytest.mark.parametrize("label", ["yr", "name", "kinds"])
def test_labels_are_rows_letters_and_cells_of_text(label):
    _, found = in_order(octave("many", array="X", label_array=label))
    assert (found - found.min()).tolist() == [0, 1, 2, 0, 1, 2]


@pytest.mark.parametrize(
    ("variable", "expected"),
    [("u", np.arange(24).reshape(4, 6).T), ("b", MX > 1), ("S", MX * (MX > 1))],
    ids=["uint8", "logical", "sparse"],
)
def test_integers_truths_and_sparse_matrices(variable, expected):
    found, _ = in_order(octave("many", array=variable))
    assert np.array_equal(found[np.lexsort(found.T)], expected[np.lexsort(expected.T)].astype(found.dtype))
    if variable != "S":
        found = in_order(octave("hdf5", array=variable))[0]
        assert np.array_equal(np.sort(found, 0), np.sort(expected.astype("f4"), 0))


@pytest.mark.parametrize(
    ("variable", "says"),
    [("c", "c is a cell of shape 1 x 2"), ("st", "st is a struct"), ("name", "name is a char"), ("z", "complex128")],
)
def test_variables_that_hold_no_numbers(variable, says):
    with pytest.raises(VemError, match=says):
        octave("many", array=variable)


def test_splits_of_a_mat_file():
    data = array(str(OCTAVE / "octave_split.mat"))
    assert np.array_equal(data.train.x.numpy(), MX) and np.array_equal(data.test.x.numpy(), MX + 2)
    assert data.train.labels.tolist() == data.test.labels.tolist() == [1, 2, 3, 1, 2, 3] and data.valid.labels is None


def matlab_7_3(path: Path, **variables: np.ndarray | list[str] | sparse.csc_matrix) -> str:
    """A file laid out as MATLAB's save -v7.3: axes in reverse, classes as attributes, 512 bytes before the HDF5."""
    with h5py.File(path, "w", userblock_size=512) as file:
        for name, values in variables.items():
            if isinstance(values, list):
                cells = []
                for i, text in enumerate(values):
                    cell = file.create_dataset(f"#refs#/{name}{i}", data=np.array([[ord(c)] for c in text], np.uint16))
                    cell.attrs["MATLAB_class"] = np.bytes_("char")
                    cells.append(cell.ref)
                node = file.create_dataset(name, data=np.array([cells], dtype=h5py.ref_dtype))
                node.attrs["MATLAB_class"] = np.bytes_("cell")
            elif sparse.issparse(values):
                node = file.create_group(name)
                node["data"], node["ir"], node["jc"] = values.data, values.indices, values.indptr
                node.attrs["MATLAB_sparse"] = np.uint64(values.shape[0])
                node.attrs["MATLAB_class"] = np.bytes_("double")
            else:
                node = file.create_dataset(name, data=values.T, chunks=True, compression="gzip")
                kind = {"f": "double", "u": "uint8", "i": "int64", "U": "char"}[values.dtype.kind]
                node.attrs["MATLAB_class"] = np.bytes_(kind)
    with path.open("r+b") as file:
        file.write(b"MATLAB 7.3 MAT-file, Platform: GLNXA64, Created on: Sun Nov 29 2026 HDF5 schema 1.00 .".ljust(116))
        file.write(bytes(8) + b"\x00\x02IM")
    return str(path)


def test_7_3_arrays_are_not_transposed(tmp_path):
    assert holds(array(matlab_7_3(tmp_path / "x.mat", X=X)), X)
    images = X.reshape(30, 2, 2)
    data = array(matlab_7_3(tmp_path / "i.mat", images=images))
    assert data.image_shape == (2, 2) and holds(data, images)
    square = RNG.normal(size=(30, 30))
    square[:, 0] = np.arange(30)
    assert holds(array(matlab_7_3(tmp_path / "s.mat", square=square)), square)


def test_7_3_labels_and_other_classes(tmp_path):
    y = (np.arange(30) % 3).astype(np.float64)
    given = {"X": X, "y": y[:, None], "yr": y[None], "kinds": KINDS.tolist(), "S": sparse.csc_matrix(X)}
    path = matlab_7_3(tmp_path / "x.mat", u=X.astype(np.uint8), **given)
    with pytest.raises(VemError, match=r"S \(30 x 4\), X \(30 x 4\), kinds \(30 x 1\).*y \(30 x 1\), yr \(1 x 30\)"):
        array(path)
    for label in ("y", "yr", "kinds"):
        data = array(path, array="X", label_array=label)
        assert holds(data, X, NUMBERED)
    assert holds(array(path, array="S"), X)
    assert array(path, array="u").train.x.dtype == torch.float32
    with pytest.raises(VemError, match="kinds is a cell"):
        array(path, array="kinds")


@pytest.mark.parametrize("images_last", [True, False])
def test_images_in_matlabs_own_order_are_asked_about(tmp_path, images_last):
    """Both remedies, as MATLAB computes them: its reshape runs along columns."""
    images = RNG.normal(size=(30, 3, 2))
    images[:, 0, 0] = np.arange(30)
    held = images.transpose(1, 2, 0) if images_last else images
    io.savemat(tmp_path / "x.mat", {"x": held})
    with pytest.raises(VemError, match=r"x is .* last is not known") as caught:
        array(str(tmp_path / "x.mat"), **SPLIT)
    order = [3, 2, 1] if images_last else [1, 3, 2]
    line = f"reshape(permute(x, [{' '.join(map(str, order))}]), 30, []) with data.image_shape=[3,2]"
    assert line in str(caught.value)
    flat = held.transpose([axis - 1 for axis in order]).reshape(30, -1, order="F")
    io.savemat(tmp_path / "flat.mat", {"x": flat})
    assert holds(array(str(tmp_path / "flat.mat"), image_shape=[3, 2], **SPLIT), images)


def test_hdf5_that_no_matlab_wrote_is_refused(tmp_path):
    with h5py.File(tmp_path / "x.mat", "w") as file:
        file["X"] = X
    with pytest.raises(VemError, match=r"does not say that MATLAB wrote it.*save -v7, or as an .npz"):
        array(str(tmp_path / "x.mat"))


# --- annotated data


# Objects, because anndata 0.12 cannot write the strings of pandas 3.
CELLS = pd.Index([f"cell{i}" for i in range(30)], dtype=object)
KIND = pd.Categorical.from_codes(np.arange(30) % 3, pd.Index(["ape", "bee", "cat"], dtype=object))
OBS = pd.DataFrame({"cell_type": KIND, "batch": np.arange(30) % 3}, index=CELLS)


def annotated(path: Path, **options: object) -> str:
    genes = pd.DataFrame(index=pd.Index(list("abcd"), dtype=object))
    anndata.AnnData(obs=OBS, var=genes, **options).write_h5ad(path)  # type: ignore[arg-type]
    return str(path)


@pytest.mark.parametrize("form", [np.asarray, sparse.csr_matrix, sparse.csc_matrix])
def test_annotated_data(tmp_path, form):
    path = annotated(tmp_path / "x.h5ad", X=form(X), layers={"counts": form(np.round(X) + 2)})
    data = array(path, label_column="cell_type")
    assert holds(data, X, NUMBERED)
    counts = array(path, layer="counts", label_column="batch")
    assert holds(counts, np.round(X) + 2)
    for options, says in (
        ({"layer": "count"}, r"data.layer='count' is not a layer.*did you mean 'counts'"),
        ({"label_column": "cell"}, "data.label_column='cell' is not a column of obs.*cell_type, batch"),
        ({"array": "X"}, "data.array=X is for .npz and .mat files"),
    ):
        with pytest.raises(VemError, match=says):
            array(path, **options)


def test_annotated_data_without_x_ask_for_a_layer(tmp_path):
    path = annotated(tmp_path / "x.h5ad", layers={"counts": X, "scaled": X})
    with pytest.raises(VemError, match=r"has no X. Its layers: counts, scaled. Say which is x: data.layer=NAME"):
        array(path)
    assert holds(array(path, layer="scaled"), X)


# --- files that are not what they say, and libraries that are not there

SUFFIXES = [".parquet", ".feather", ".mat", ".h5ad"]


@pytest.mark.parametrize("content", [b"", b"1,2\n3,4\n", b"\x89HDF\r\n\x1a\n" + bytes(600), bytes(600)])
@pytest.mark.parametrize("suffix", SUFFIXES)
def test_damaged_files_are_one_message(tmp_path, suffix, content):
    (tmp_path / f"x{suffix}").write_bytes(content)
    with pytest.raises(VemError, match=r"cannot be read|has the keys \(none\)") as caught:
        array(str(tmp_path / f"x{suffix}"))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_half_a_file_is_one_message(tmp_path, suffix):
    path = tmp_path / f"x{suffix}"
    if suffix == ".mat":
        matlab_7_3(path, X=X)
    elif suffix == ".h5ad":
        annotated(path, X=X)
    else:
        save_frame(frame(), path)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with pytest.raises(VemError, match=r"cannot be read.*is it whole"):
        array(str(path))


@pytest.mark.parametrize(
    ("suffix", "package"), [(".parquet", "pyarrow"), (".feather", "pyarrow"), (".mat", "h5py"), (".h5ad", "anndata")]
)
def test_a_missing_library_is_one_message_with_the_command(tmp_path, monkeypatch, suffix, package):
    path = tmp_path / f"x{suffix}"
    path.write_bytes(b"\x89HDF\r\n\x1a\n" + bytes(600))
    for module in [name for name in sys.modules if name.partition(".")[0] == package] + [package]:
        monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(VemError, match=rf"needs the package {package}: pip install {package}.*-e '\.\[tables\]'"):
        array(str(path))
