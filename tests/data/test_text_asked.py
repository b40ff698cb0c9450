"""What is not certain about a table is asked, and each answer works."""

from __future__ import annotations

import pytest
from text_support import Options, lines, read, written

from vem.errors import VemError

# content, what is asked, each remedy and what it gives
ASKED: dict[str, tuple[str, list[str], list[tuple[Options, list[list[float]]]]]] = {
    "row names that repeat": (
        lines(",a,b", "1,2,3", "1,5,6"),
        ["first column has no name", "',a,b'", "data.row_names=true", "data.row_names=false"],
        [({"row_names": True}, [[2, 3], [5, 6]]), ({"row_names": False}, [[1, 2, 3], [1, 5, 6]])],
    ),
    "names of text that repeat": (
        lines('"","a"', '"u",2', '"u",5', '"v",5'),
        ["'u'", "data.row_names=true"],
        [({"row_names": True}, [[2], [5], [5]])],
    ),
    "one name too few, and repeated": (
        lines("a b", "1 2 3", "1 5 6"),
        ["data.row_names=true", "data.row_names=false"],
        [({"row_names": True}, [[2, 3], [5, 6]])],
    ),
    "a decimal comma below one name": (
        lines("x", "1,5", "2,25"),
        ["'x' above '1, 5'", "data.decimal=comma", "data.row_names=true"],
        [({"decimal": "comma"}, [[1.5], [2.25]]), ({"row_names": True}, [[5], [25]])],
    ),
    "one name too few, whole": (
        lines("a,b", "1,2,3", "2,5,6"),
        ["more cells than line 1 has names", "data.row_names=true", "name every column"],
        [({"row_names": True}, [[2, 3], [5, 6]])],
    ),
    "thousands or decimals": (
        lines("1,234;5,678", "2,345;6,789"),
        ["'1,234'", "line 1: '1,234;5,678'", "data.decimal=comma", "data.decimal=point"],
        [
            ({"decimal": "comma"}, [[1.234, 5.678], [2.345, 6.789]]),
            ({"decimal": "point"}, [[1234, 5678], [2345, 6789]]),
        ],
    ),
    "thousands or decimals between tabs": (
        lines("a\tb", "0,125\t3", "2\t6"),
        ["'0,125'", "line 1: 'a", "data.decimal=comma"],
        [({"decimal": "comma"}, [[0.125, 3], [2, 6]])],
    ),
    "commas and spaces": (
        lines("1,5 2,5", "3,25 4,75"),
        ["line 1, '1,5 2,5'", "comma and by space", "data.separator=comma", "data.separator=space data.decimal=comma"],
        [
            ({"separator": "space", "decimal": "comma"}, [[1.5, 2.5], [3.25, 4.75]]),
            ({"separator": "comma", "drop": [2]}, [[1, 5], [3, 75]]),
        ],
    ),
    "nothing fits": (
        lines("weight, kg;height", "70;180", "80;190"),
        ["no separator gives", "'weight, kg;height'", "holds a comma", "data.separator"],
        [({"separator": "semicolon"}, [[70, 180], [80, 190]]), ({"separator": ";"}, [[70, 180], [80, 190]])],
    ),
    "a separator of its own": (
        lines("a|b", "1|2", "3|4"),
        ["line 2, column a|b, holds '1|2'", "data.separator"],
        [({"separator": "|"}, [[1, 2], [3, 4]])],
    ),
    "names among numbers": (
        lines("id,2019,2020", "1,2,3", "4,5,6"),
        ["holds 'id' among numbers", "data.header=true", "data.header=false", "data.label_column=1"],
        [({"header": True}, [[1, 2, 3], [4, 5, 6]])],
    ),
    "UCI's iris.data": (
        lines("5.1,3.5,1.4,0.2,Iris-setosa", "7.0,3.2,4.7,1.4,Iris-versicolor", ""),
        ["holds 'Iris-setosa' among numbers", "data.header=false", "data.label_column=5", "data.drop=[5]"],
        [
            ({"header": False, "label_column": 5}, [[5.1, 3.5, 1.4, 0.2], [7, 3.2, 4.7, 1.4]]),
            ({"header": False, "drop": [5]}, [[5.1, 3.5, 1.4, 0.2], [7, 3.2, 4.7, 1.4]]),
            ({"label_column": 5}, [[5.1, 3.5, 1.4, 0.2], [7, 3.2, 4.7, 1.4]]),
        ],
    ),
    "a column of text": (
        lines("a,kind", "1,cat", "2,dog", "3,cat"),
        ["line 2, column kind, holds 'cat'", "data.label_column", "data.categories=onehot", "data.drop=[2]"],
        [
            ({"label_column": "kind"}, [[1], [2], [3]]),
            ({"categories": "onehot"}, [[1, 1, 0], [2, 0, 1], [3, 1, 0]]),
            ({"drop": [2]}, [[1], [2], [3]]),
        ],
    ),
    "a missing cell": (
        lines("a,b", "1,2", "3,", "5,6"),
        ["1 of 3 rows", "line 3, column b", "data.drop=[2]"],
        [({"drop": [2]}, [[1], [3], [5]])],
    ),
    "a missing cell among names that are numbers": (
        lines("0,1,2", "1.5,2,3", "4,5,"),
        ["line 3, column 2", "data.drop=[3]"],
        [({"drop": [3]}, [[1.5, 2], [4, 5]]), ({"drop": [2]}, [[1.5, 2], [4, 5]])],
    ),
    "an index and columns, all in quotes": (
        lines('"","0","1"', '"0","1.5","2"', '"1","3","4"'),
        ["may name the columns or be a datum", "data.header=true", "data.header=false data.drop=[1]"],
        [({"header": True}, [[1.5, 2], [3, 4]]), ({"header": False, "drop": [1]}, [[0, 1], [1.5, 2], [3, 4]])],
    ),
    "points that may mark thousands": (
        lines("a;b", "1.234;2,5", "2.345;3,5"),
        ["holds '1.234'", "comma is the decimal sign", "a point may mark thousands", "data.drop=[1]"],
        [({"drop": [1]}, [[2.5], [3.5]])],
    ),
    "points that mark thousands": (
        lines("a;b", "1.234,5;2", "2.345,25;3"),
        ["holds '1.234,5'", "save the numbers without such marks", "data.drop=[1]"],
        [({"drop": [1]}, [[2], [3]])],
    ),
    "both signs in a column": (lines("a;b", "1,5;2", "2.5;3"), ["line 3, column a, holds '2.5'"], []),
    "a decimal comma in quotes": (
        lines("a,b", '"1,5",2', '"2,25",3'),
        ["'1,5'", "data.separator=comma data.decimal=comma"],
        [({"separator": "comma", "decimal": "comma"}, [[1.5, 2], [2.25, 3]])],
    ),
    "decimals or thousands in quotes": (
        lines("a,b", '"1,234",2', '"2,345",3'),
        ["'1,234'", "data.separator=comma data.decimal=comma", "data.decimal=point"],
        [
            ({"separator": "comma", "decimal": "comma"}, [[1.234, 2], [2.345, 3]]),
            ({"decimal": "point"}, [[1234, 2], [2345, 3]]),
        ],
    ),
    "many thousands": (
        lines("a;b", "12,345,678;1", "2,345,678;2"),
        ["'12,345,678'", "data.decimal=point"],
        [({"decimal": "point"}, [[12345678, 1], [2345678, 2]])],
    ),
    "a line of units": (lines("a,b", "m,s", "1,2", "3,4"), ["line 2, column a, holds 'm'", "holds units or"], []),
    "whole numbers that doubles do not tell apart": (
        lines("a,b", "9007199254740993,1", "9007199254740995,3"),
        ["column a holds whole numbers near 9.01e+15", "subtract its smallest value"],
        [({"drop": ["a"]}, [[1], [3]])],
    ),
    "an empty line in between": (lines("a,b", "1,2", ",", "3,4"), ["1 of 3 rows", "line 3"], []),
    "missing, not empty": (lines("a,b", "1,2", "NA,NA"), ["1 of 2 rows", "line 3"], []),
    "a quote left open": (lines("a,b", "1,2", '3,"4'), ["a quote in it is not closed"], []),
    "a quote left open at once": (lines("a,b", '"1,2', "3,4"), ["a quote in it is not closed"], []),
    "a question mark": (
        lines("a,b", "1,2", "?,4"),
        ["line 3, column a, holds '?', a missing value", "data.drop=[1]"],
        [({"drop": [1]}, [[2], [4]])],
    ),
    "Windows' letters": (
        "größe,b\n1,2\n3,4\n".encode("cp1252"),
        ["not written in utf-8 (byte 0xf6 in line 1)", "data.encoding=cp1252", "latin-1"],
        [({"encoding": "cp1252"}, [[1, 2], [3, 4]]), ({"encoding": "latin-1"}, [[1, 2], [3, 4]])],
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", ASKED)
def test_what_is_not_certain_is_asked_and_each_answer_works(tmp_path, case):
    content, words, remedies = ASKED[case]
    path = written(tmp_path, content)
    with pytest.raises(VemError) as caught:
        read(path)
    message = str(caught.value)
    assert "\n" not in message and str(path) in message
    for word in words:
        assert word in message, message
    for options, x in remedies:
        assert read(path, **options)[0] == x
