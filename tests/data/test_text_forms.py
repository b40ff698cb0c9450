"""Tables as spreadsheets, R and numpy write them, each with the exact numbers."""

from __future__ import annotations

import gzip
import math
import re
from typing import Any

import numpy as np
import pandas as pd
import pytest
from text_support import Options, read, written

from vem.data.array import array

# --- item 11: separators, decimal signs, comments, encodings, cells
FORMS: dict[str, tuple[str | bytes, Options, Any]] = {
    # one of the three fits
    "semicolons": ("a;b\n1;2\n3;4\n", {}, [[1, 2], [3, 4]]),
    "tabs": ("a\tb\n1\t2\n3\t4\n", {}, [[1, 2], [3, 4]]),
    "commas": ("a,b\n1,2\n3,4\n", {}, [[1, 2], [3, 4]]),
    "no names": ("1.5;2\n3;4\n", {}, [[1.5, 2], [3, 4]]),
    "a column named len": ("len;width\n1;2\n3;4\n", {}, [[1, 2], [3, 4]]),
    "one column named len": ("len\n1\n2\n", {}, [[1], [2]]),
    # decimal commas
    "the comma is decimal": ("1,234;2,5\n4;5\n", {}, [[1.234, 2.5], [4, 5]]),
    "decimal commas": ("a;b\n1,5;2\n-,25;+4,0\n", {}, [[1.5, 2], [-0.25, 4]]),
    "decimal commas and powers": ("a;b\n1,5e-3;2\n3;4\n", {}, [[0.0015, 2], [3, 4]]),
    "decimal commas, quoted": ('"a";"b"\n"1,5";"2"\n"3";"4,25"\n', {}, [[1.5, 2], [3, 4.25]]),
    "decimal commas and tabs": ("a\tb\n1,5\t2\n3\t4\n", {}, [[1.5, 2], [3, 4]]),
    "decimal commas and spaces": ("a b\n1,5 2\n3 4\n", {}, [[1.5, 2], [3, 4]]),
    "decimal commas and spaces everywhere": ("a b\n1,5 2,5\n3,5 4,5\n", {}, [[1.5, 2.5], [3.5, 4.5]]),
    "decimal commas far below": ("a;b\n" + "1;2\n" * 20_000 + "1;2,5\n", {"columns": "b"}, [[2]] * 20_000 + [[2.5]]),
    "thousands and one decimal": ("a;b\n1,234;2\n1,5;4\n", {}, [[1.234, 2], [1.5, 4]]),
    "one column, by option": ("x\n1,5\n2\n", {"decimal": "comma"}, [[1.5], [2]]),
    "both commas, quoted": ('a,b\n"1,5",2\n', {"separator": "comma", "decimal": "comma"}, [[1.5, 2]]),
    "thousands, by option": ("a;b\n1,234,567;2\n", {"separator": ";", "decimal": "point"}, [[1234567, 2]]),
    # runs of spaces, where none of the three occurs
    "spaces": ("a  b\n 1 2\n3    4  \n", {}, [[1, 2], [3, 4]]),
    "spaces, no names": ("1.5 2\n3 4\n", {}, [[1.5, 2], [3, 4]]),
    # spaces inside or beside a cell do not count
    "spaces in names": ("sepal length (cm),sepal width (cm)\n5.1,3.5\n4.9,3.0\n", {}, [[5.1, 3.5], [4.9, 3]]),
    "spaces beside cells": ("1.5, 2.5\n3, 4\n", {}, [[1.5, 2.5], [3, 4]]),
    "tabs beside cells": ("1.5,\t2.5\n3,\t4\n", {}, [[1.5, 2.5], [3, 4]]),
    "spaces behind cells": ("a ;b \n1 ;2 \n3 ; 4\n", {"columns": ["b"]}, [[2], [4]]),
    "spaces in labels": ("a;kind\n1;Iris setosa\n3;Iris\n", {"label_column": "kind"}, [[1], [3]]),
    # none fits: a single column
    "one column": ("x\n1\n2\n", {}, [[1], [2]]),
    "one column without a name": ("1.5\n2\n", {}, [[1.5], [2]]),
    "one column, a comma in its name": ("weight, kg\n70\n80\n", {}, [[70], [80]]),
    "one column, a space in its name": ("sepal length\n5.1\n4.9\n", {}, [[5.1], [4.9]]),
    "one column, quoted": ('"x;y"\n1\n2\n', {}, [[1], [2]]),
    # cells in quotes
    "a separator in quotes": ('"a;1","b"\n1,2\n3,4\n', {}, [[1, 2], [3, 4]]),
    "labels with separators": ('a,k\n1,"x;y,z"\n2,"x"\n', {"label_column": "k"}, [[1], [2]]),
    "a line break in quotes": ('"a\nb",c\n1,2\n3,4\n', {}, [[1, 2], [3, 4]]),
    "quotes in quotes": ('"a ""b""",c\n1,2\n3,4\n', {}, [[1, 2], [3, 4]]),
    "inches": ("a,size\n1,5\" pipe\n2,3\n", {"columns": [1]}, [[1], [2]]),
    "all quoted": ('"a","b"\n"1","2"\n"3","4"\n', {}, [[1, 2], [3, 4]]),
    # comments are whole lines before the first row
    "comments": ("# made by R\n# 2024; x, y\na;b\n1;2\n3;4\n", {}, [[1, 2], [3, 4]]),
    "comments with quotes": ("# 5\" screen, it's\na,b\n1,2\n", {}, [[1, 2]]),
    "percent signs": ("% MATLAB\n\n1.5 2\n3 4\n", {}, [[1.5, 2], [3, 4]]),
    "savetxt": ("# a,b\n1.0e+00,2.0e+00\n3.0e+00,4.0e+00\n", {"label_column": "b"}, [[1], [3]]),
    "savetxt with spaces": ("# a b\n0 1\n1 0\n", {}, [[0, 1], [1, 0]]),
    "Excel's first line": ("sep=;\na;b\n1;2\n3;4\n", {}, [[1, 2], [3, 4]]),
    "spaces and tabs, by option": ('1.5  2\t "a b"\n3 4\t"c"\n', {"separator": "space", "drop": 3}, [[1.5, 2], [3, 4]]),
    # what spreadsheets leave at the end of lines, and at the end
    "empty columns behind": ("a;b;;\n1,5;2;;\n3;4;;\n", {}, [[1.5, 2], [3, 4]]),
    "empty columns, no names": ("1.5,2,,,\n3,4,,,\n", {}, [[1.5, 2], [3, 4]]),
    "empty lines behind": ("a,b\n1.5,TRUE\n3,FALSE\n,\n , \n", {}, [[1.5, 1], [3, 0]]),
    "empty lines and row names": (",a\nu,1.5\nv,3\n,\n", {}, [[1.5], [3]]),
    "UCI, air quality": ("D;CO;T;;\nMo;2,6;13,6;;\nTu;2;13;;\n;;;;\n;;;;\n", {"drop": 1}, [[2.6, 13.6], [2, 13]]),
    # quoted commas between commas
    "thousands in quotes": (
        'a,b\n"1,234.50",2\n"12,345,678",3\n', {"decimal": "point"}, [[1234.5, 2], [12345678, 3]],
    ),
    # encodings and packing
    "UTF-32": ("größe;b\n1;2\n3;4\n".encode("utf-32"), {}, [[1, 2], [3, 4]]),
    "UTF-16": ("größe;b\n1;2\n3;4\n".encode("utf-16"), {}, [[1, 2], [3, 4]]),
    "UTF-16, big end first": ("﻿a\tb\n1\t2\n3\t4\n".encode("utf-16-be"), {}, [[1, 2], [3, 4]]),
    "UTF-16 without a mark": ("a\tb\r\n1,5\t2\r\n3\t4\r\n".encode("utf-16-le"), {}, [[1.5, 2], [3, 4]]),
    "UTF-16, named": ("a,b\n1,2\n".encode("utf-16-le"), {"encoding": "utf-16-le"}, [[1, 2]]),
    "UTF-16, marked and named": ("﻿a,b\n1,2\n".encode("utf-16-le"), {"encoding": "utf-16-le"}, [[1, 2]]),
    "a mark of UTF-8": ("﻿a;b\n1;2\n3;4\n", {}, [[1, 2], [3, 4]]),
    "gzip": (gzip.compress(b"a;b\n1;2\n3;4\n"), {}, [[1, 2], [3, 4]]),
    "gzip and UTF-16": (gzip.compress("a;b\n1;2\n3;4\n".encode("utf-16")), {}, [[1, 2], [3, 4]]),
    # lines
    "Windows' lines": ("a,b\r\n1,2\r\n3,4\r\n", {}, [[1, 2], [3, 4]]),
    "old Macintosh lines": ("a;b\r1;2\r3;4\r", {}, [[1, 2], [3, 4]]),
    "blank lines": ("\n\na,b\n\n1,2\n   \n3,4\n\n\n", {}, [[1, 2], [3, 4]]),
    "no last line end": ("a,b\n1,2\n3,4", {}, [[1, 2], [3, 4]]),
    "names alone": ("a,b\n", {}, []),
    # numbers
    "powers and signs": ("a,b\n1e5,+1\n.5,1.\n-3,-.5E-3\n", {}, [[1e5, 1], [0.5, 1], [-3, -0.0005]]),
    "to the last bit": (f"a\n{0.1 + 0.2!r}\n{math.pi!r}\n1e-320\n", {}, [[0.1 + 0.2], [math.pi], [1e-320]]),
    "true and false": ("a,b,c\n1,TRUE,false\n3,FALSE,true\n", {}, [[1, 1, 0], [3, 0, 1]]),
    "whole numbers beyond 64 bits": ("a,b\n99999999999999999999,1\n3,4\n", {}, [[1e20, 1], [3, 4]]),
    # columns
    "columns by name, in that order": ("a,b,c\n1,2,3\n4,5,6\n", {"columns": ["c", "a"]}, [[3, 1], [6, 4]]),
    "columns by number": ("a,b,c\n1,2,3\n4,5,6\n", {"columns": [3, "a"]}, [[3, 1], [6, 4]]),
    "a name before a number": ("3,b,1\n1,2,3\n4,5,6\n", {"columns": [3], "header": True}, [[1], [4]]),
    "columns less one": ("a,b,c\n1,2,3\n4,5,6\n", {"columns": ["c", "a"], "drop": "a"}, [[3], [6]]),
    "dropped text": ("a,b,c\n1,x,3\n4,y,6\n", {"drop": ["b"]}, [[1, 3], [4, 6]]),
    "dropped holes": ("a,b,c\n1,,3\n4,NA,6\n", {"drop": ["b"]}, [[1, 3], [4, 6]]),
    "dropped without names": ("1.5,x,3\n4,y,6\n", {"drop": [2]}, [[1.5, 3], [4, 6]]),
    "two names alike": ("a,a\n1,2\n3,4\n", {"drop": "a.1"}, [[1], [3]]),
    "a name less": ("a,,c\n1,2,3\n4,5,6\n", {}, [[1, 2, 3], [4, 5, 6]]),
    "categories in their place": (
        "a,k,b\n1,y,2\n3,x,4\n5,y,6\n", {"categories": "onehot"}, [[1, 0, 1, 2], [3, 1, 0, 4], [5, 0, 1, 6]],
    ),
    "categories by name": (
        "k,b\ny,2\nx,4\ny,6\n", {"categories": "onehot", "columns": ["b", "k"]}, [[2, 0, 1], [4, 1, 0], [6, 0, 1]],
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", FORMS)
def test_forms_of_tables(tmp_path, case):
    content, options, x = FORMS[case]
    found, _, _ = read(written(tmp_path, content), **options)
    assert found == x


def test_labels_and_what_is_said(tmp_path):
    _, labels, said = read(written(tmp_path, "a;kind\n1,5;Iris setosa\n3;Iris\n"), label_column="kind")
    assert labels == ["Iris setosa", "Iris"] and "the comma is the decimal sign" in said
    assert read(written(tmp_path, 'a,k\n1,"x;y,z"\n2,"x"\n'), label_column="k")[1] == ["x;y,z", "x"]
    assert read(written(tmp_path, "# a,b\n1,2\n3,4\n"), label_column="b")[1] == [2, 4]
    said = read(written(tmp_path, "a,k\n1,y\n3,x\n5,y\n"), categories="onehot")[2]
    assert re.search("column k is 2 of 0 and 1: x, y", said)


@pytest.mark.parametrize("name", ["t.txt", "t.tsv", "t.TSV", "t.csv.gz", "t.txt.gz", "t.data", "t.dat"])
def test_names_of_files_and_the_notes_of_a_data_set(tmp_path, name):
    x = np.random.default_rng(0).normal(size=(40, 3)).round(3)
    content = pd.DataFrame(x).to_csv(sep="\t", index=False).encode()
    path = written(tmp_path, gzip.compress(content) if name.endswith("gz") else content, name)
    data = array(str(path))
    assert sorted(v for s in ("train", "valid", "test") for v in data.split(s).x[:, 0].tolist()) == pytest.approx(
        sorted(x[:, 0].tolist())
    )
    assert len(data.notes) == 1 and "data.header=false" in data.notes[0]
