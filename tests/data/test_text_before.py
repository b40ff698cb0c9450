"""Tables that were read before are read alike."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import sklearn.datasets
from text_support import Options, read, written

from vem.errors import VemError

# --- what was read before is read alike


def before(path: Path, label_column: str | int | None = None, header: str | bool = "auto") -> Any:
    """The table as vem 0.1.0 read it; None where it refused."""
    try:
        named = bool(header)
        if header == "auto":
            cells = path.read_text("utf-8-sig").partition("\n")[0].strip().split(",")
            numbers = [bool(re.fullmatch(r"\s*|nan|inf", cell) or is_float(cell)) for cell in cells]
            if any(numbers) and not all(numbers):
                return None
            named = not any(numbers)
        table = pd.read_csv(path, header=0 if named else None, skipinitialspace=True, low_memory=False)
    except ValueError:
        return None
    table.columns = pd.Index([str(name) if named else str(i) for i, name in enumerate(table.columns, 1)])
    if not isinstance(table.index, pd.RangeIndex) or (label_column is not None and str(label_column) not in table):
        return None
    labels = None if label_column is None else table.pop(str(label_column)).tolist()
    if not all(pd.api.types.is_numeric_dtype(kind) for kind in table.dtypes):
        return None
    x = table.to_numpy(np.float64)
    return (x.tolist(), labels) if np.isfinite(x).all() and x.size else None


def is_float(cell: str) -> bool:
    try:
        float(cell)
    except ValueError:
        return False
    return True


# Forms of the tests of 0.1.0 and relatives; what 0.1.0 misread (items 2 and 3) is above.
AS_BEFORE: dict[str, tuple[str, Options]] = {
    "labels by name": ("kind,a\ncat,1\ndog,2\n", {"label_column": "kind"}),
    "labels by number": ("0,1.5\n1,2.5\n0,3.5\n", {"label_column": 1, "header": False}),
    "labels of text without names": ("cat,1\ndog,2\n", {"label_column": "1", "header": False}),
    "numbers as names, declared": ("0,1,2\n5,6,7\n8,9,9\n", {"header": True}),
    "numbers as data, declared": ("0,1,2\n5,6,7\n8,9,9\n", {"header": False}),
    "names with other separators": ("a;b,c d\n1,2\n3,4\n", {}),
    "labels with semicolons": ("1.5,x;y\n2.5,u;v\n", {"label_column": 2, "header": False}),
    "labels with some semicolons": ("a,k\n1,x;y\n2,u\n3,u;v;w\n", {"label_column": "k"}),
    "labels with tabs": ("a,k\n1,x\ty\n2,u\tv\n", {"label_column": "k"}),
    "labels that begin with numbers": ("1,2 cats\n3,4 dogs\n", {"label_column": 2, "header": False}),
    "one column, a semicolon in its name": ("a;b\n1\n2\n", {}),
    "two columns that look like decimal commas": ("1,5\n2,25\n", {}),
    "two columns of three digits": ("1,234\n2,345\n", {}),
    "a first line with a hash": ("#id,a\n1,2\n3,4\n", {}),
    "a hash above labels": ("#id,kind\n1,cat\n3,dog\n", {"label_column": "kind"}),
    "a hash above one column": ("#x\n1\n3\n", {}),
    "a hash above 0,1": ("# x,y\n0,1\n3,4\n", {}),
    "names in quotes": ('"a","b"\n1,2\n3,4\n', {}),
    "years in quotes": ('"2019","2020"\n1,2\n3,4\n', {}),
    "quoted numbers": ('a,b\n"1",2\n"3",4\n', {}),
    "an unnamed column, declared": (",a,b\n1,2,3\n1,5,6\n", {"header": True, "label_column": "Unnamed: 0"}),
    "a tab beside one cell": ("\t30\n\t2.5\n", {}),
    "a hash, and numbers declared names": ("#h,2,2\n30,30,2.5\n30,1,30\n", {"header": True}),
    "a hash above true and false": ("#h\nFALSE\nTRUE\n", {}),
    "UCI's wine.data": ("1,14.23,1.71,127\n1,13.2,1.78,100\n2,13.16,2.36,101\n", {"label_column": 1}),
}


@pytest.mark.parametrize("case", AS_BEFORE)
def test_what_was_read_before_is_read_alike(tmp_path, case):
    content, options = AS_BEFORE[case]
    path = written(tmp_path, content)
    was = before(path, **options)
    assert was is not None, "the row is about what was read"
    x, labels, _ = read(path, **options)
    assert x == was[0]
    assert repr(labels) == repr(was[1])  # nan is not equal to itself


def test_random_tables_of_commas_are_read_as_before(tmp_path):
    """Random small files, those apart that items 2 and 3 are about."""
    rng = np.random.default_rng(0)
    cells = ["1", "-2.5", "3e2", " 7", "TRUE", "a", "b c", "x;y", '"q"', '"1,5"', "4 ", "0.125"]
    seen = 0
    for _ in range(150):
        rows, columns = int(rng.integers(2, 5)), int(rng.integers(1, 4))
        names = rng.random() < 0.5
        kinds = rng.choice(cells, columns)
        body = [
            [kinds[j] if rng.random() < 0.7 else rng.choice(["5", "6.5", kinds[j]]) for j in range(columns)]
            for _ in range(rows)
        ]
        if not names:
            body[0] = ["9", "4.5", "9"][:columns]
        top = [[f"n{j}{rng.choice(['', ' m', ';', '#'])}" for j in range(columns)]] if names else []
        content = "\n".join(",".join(row) for row in top + body) + "\n"
        options: Options = (
            {"label_column": top[0][-1] if names else columns} if columns > 1 and rng.random() < 0.5 else {}
        )
        path = written(tmp_path, content)
        was = before(path, **options)
        if was is None:
            continue
        seen += 1
        x, labels, _ = read(path, **options)
        assert x == was[0] and repr(labels) == repr(was[1]), (content, options)
    assert seen > 20


# --- scikit-learn's files, and UCI's


def test_files_of_scikit_learn(tmp_path):
    folder = Path(sklearn.datasets.__file__).parent / "data"
    iris, wine = sklearn.datasets.load_iris(), sklearn.datasets.load_wine()
    x, labels, _ = read(folder / "iris.csv", header=True, label_column="virginica")
    assert x == iris.data.tolist() and labels == iris.target.tolist()
    with pytest.raises(VemError, match=r"'setosa' among numbers.*data\.header=true"):
        read(folder / "iris.csv")
    for name, frame in (("exercise", "data"), ("physiological", "target")):
        x, _, _ = read(folder / f"linnerud_{name}.csv")  # spaces
        assert x == sklearn.datasets.load_linnerud()[frame].tolist()
    digits = sklearn.datasets.load_digits()
    x, labels, _ = read(folder / "digits.csv.gz", label_column=65)
    assert x == digits.data.tolist() and labels == digits.target.tolist()
    x, _, _ = read(folder / "diabetes_data_raw.csv.gz")  # spaces
    assert x == sklearn.datasets.load_diabetes(scaled=False).data.tolist()
    # A first line of counts and names of classes, of another length than the others: the remedy works.
    with pytest.raises(VemError, match=r"line 1 has 5.*alone differs.*put # before it"):
        read(folder / "wine_data.csv")
    path = written(tmp_path, "#" + (folder / "wine_data.csv").read_text())
    x, labels, said = read(path, label_column=14)
    assert x == wine.data.tolist() and labels == wine.target.tolist() and not said
