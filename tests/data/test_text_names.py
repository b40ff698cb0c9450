"""Whether the first row names the columns, and the first column the rows: each sentence of the rules is a row."""

from __future__ import annotations

import re
from typing import Any

import numpy as np
import pandas as pd
import pytest
from text_support import lines, read, written

from vem.errors import VemError

WHOLE = {d: [[(3 * i + 2 * j) % 5 for j in range(d)] for i in range(3)] for d in range(1, 9)}
HALF = {d: [[value + 0.5 for value in row] for row in WHOLE[d]] for d in WHOLE}


def above(names: str, x: list[list[float]]) -> str:
    """A line above numbers between commas."""
    return lines(names, *(",".join(map(str, row)) for row in x))


# --- item 2: an unquoted first row of numbers. Content, what it holds ("asked", or x), what is said
SAID = r"line 1, .* names the columns.*data\.header=false"
ONE_COLUMN_NOT_WHOLE = [[1, 2, 3.5], [4, 5, 6]]
FIRST_LINES: dict[str, tuple[str, Any, str]] = {
    # constant step and D >= 3 above a column with a cell that is not whole: names, said
    "pandas, D=3": (above("0,1,2", HALF[3]), HALF[3], SAID),
    "pandas, D=8": (above("0,1,2,3,4,5,6,7", HALF[8]), HALF[8], SAID),
    "pandas as floats": (above("0.0,1.0,2.0", HALF[3]), HALF[3], SAID),
    "from 1": (above("1,2,3", HALF[3]), HALF[3], SAID),
    "years": (above("2019,2020,2021", HALF[3]), HALF[3], SAID),
    "wavelengths": (above("400.0,402.5,405.0,407.5", HALF[4]), HALF[4], SAID),
    "falling wavenumbers": (above("4000,3998,3996", HALF[3]), HALF[3], SAID),
    "step with rounding": (above("0.1,0.2,0.30000000000000004,0.4", HALF[4]), HALF[4], SAID),
    "one column not whole": (above("7,8,9", ONE_COLUMN_NOT_WHOLE), ONE_COLUMN_NOT_WHOLE, SAID),
    "one cell not whole": (above("5,3,1", [[1, 2, 3], [4, 5.25, 6]]), [[1, 2, 3], [4, 5.25, 6]], SAID),
    # exactly 0 … D-1 or 1 … D with D >= 6 above whole numbers: names, said
    "0 to 5 above whole": (above("0,1,2,3,4,5", WHOLE[6]), WHOLE[6], SAID),
    "1 to 6 above whole": (above("1,2,3,4,5,6", WHOLE[6]), WHOLE[6], SAID),
    "0 to 7 above whole written 1.0": (above("0,1,2,3,4,5,6,7", np.float64(WHOLE[8]).tolist()), WHOLE[8], SAID),
    # the same with D = 2 … 5: asked
    "0 to 1 above whole": (above("0,1", WHOLE[2]), "asked", ""),
    "1 to 2 above whole": (above("1,2", WHOLE[2]), "asked", ""),
    "0 to 4 above whole": (above("0,1,2,3,4", WHOLE[5]), "asked", ""),
    "1 to 3 above whole": (above("1,2,3", WHOLE[3]), "asked", ""),
    # another strictly increasing line with D >= 5: asked
    "increasing above whole": (above("2,4,6,8,10", WHOLE[5]), "asked", ""),
    "years above whole": (above("2015,2016,2017,2018,2019", WHOLE[5]), "asked", ""),
    "increasing above halves": (above("1,2,4,8,16", HALF[5]), "asked", ""),
    "increasing decimals": (above("0.1,0.5,0.7,0.9,1.5,1.6", HALF[6]), "asked", ""),
    "0 to 5 and one more, above whole": (above("0,1,2,3,4,5,7", WHOLE[7]), "asked", ""),
    # D <= 2 and exactly 0 … D-1 above cells that are not whole: asked
    "0 above halves": (above("0", HALF[1]), "asked", ""),
    "0,1 above halves": (above("0,1", HALF[2]), "asked", ""),
    # everything else is data
    "0 above whole": (above("0", WHOLE[1]), [[0], *WHOLE[1]], ""),
    "1 above halves": (above("1", HALF[1]), [[1], *HALF[1]], ""),
    "1,2 above halves": (above("1,2", HALF[2]), [[1, 2], *HALF[2]], ""),
    "3,5 above halves": (above("3,5", HALF[2]), [[3, 5], *HALF[2]], ""),
    "years above whole, D=3": (above("2019,2020,2021", WHOLE[3]), [[2019, 2020, 2021], *WHOLE[3]], ""),
    "years above whole, D=4": (above("2019,2020,2021,2022", WHOLE[4]), [[2019, 2020, 2021, 2022], *WHOLE[4]], ""),
    "increasing, D=4": (above("1,2,4,9", HALF[4]), [[1, 2, 4, 9], *HALF[4]], ""),
    "falling above whole": (above("5,4,3,2,1,0", WHOLE[6]), [[5, 4, 3, 2, 1, 0], *WHOLE[6]], ""),
    "zeros above halves": (above("0,0,0", HALF[3]), [[0, 0, 0], *HALF[3]], ""),
    "ones above halves": (above("1,1,1,1,1,1", HALF[6]), [[1] * 6, *HALF[6]], ""),
    "not increasing": (above("1,2,2,3,4", HALF[5]), [[1, 2, 2, 3, 4], *HALF[5]], ""),
    "plain data": (above("0.3,-1.5,2", HALF[3]), [[0.3, -1.5, 2], *HALF[3]], ""),
    "zeros and ones": (above("0,1,0", [[1, 0, 1], [1, 1, 1]]), [[0, 1, 0], [1, 0, 1], [1, 1, 1]], ""),
    "a single row": ("0,1,2,3,4,5\n", [[0, 1, 2, 3, 4, 5]], ""),
    # quoted numbers are names only above cells that are not quoted
    "quoted above unquoted": (lines('"0","1"', "3,4", "5,6"), [[3, 4], [5, 6]], ""),
    "quoted above quoted": (
        lines('"7","1"', '"3","4"', '"5","6"'),
        [[7, 1], [3, 4], [5, 6]],
        "line 1.*holds quoted numbers.*a datum",
    ),
    "quoted 1 to 2 above quoted": (
        lines('"1","2"', '"3","4"'),
        [[1, 2], [3, 4]],
        "line 1.*holds quoted numbers.*a datum",
    ),
    "quoted name and number": (lines('"a","7"', "3,4", "5,6"), [[3, 4], [5, 6]], ""),
    "true and false": (lines("TRUE,FALSE", "FALSE,TRUE"), [[1, 0], [0, 1]], "line 1.*true and false.*a datum"),
    "true among numbers": (lines("TRUE,1.5", "FALSE,2"), [[1, 1.5], [0, 2]], ""),
    "beyond all numbers": (lines("0,1,2,3,4,5,6", "1,2,3,4,5,6,7", "1e400,2,3,4,5,6,8"), "refused", ""),
    # the empty first cell is of row names, the rest is judged
    "pandas' index and columns": (lines(",0,1,2", "0,.5,1,2", "1,3.5,4,5"), [[0.5, 1, 2], [3.5, 4, 5]], SAID),
    "index above whole": (
        lines(",0,1,2,3,4,5", "a,1,2,3,4,5,6", "b,1,0,1,0,1,0"),
        [[1, 2, 3, 4, 5, 6], [1, 0] * 3],
        SAID,
    ),
    "index, 0 to 1 above whole": (lines(",0,1", "0,5,6", "1,7,8"), "asked", ""),
    "a series": (lines(",0", "0,1.5", "1,2.5"), "asked", ""),
    # as a datum it would lack a cell, so it is never one without a word
    "a whole series": (lines(",0", "0,1", "1,2"), "asked", ""),
    "index, years above whole": (lines(",2019,2020", "0,5,6", "1,7,8"), "asked", ""),
    # with other separators, decimal signs and labels
    "semicolons": (lines("2019;2020;2021", "1,5;2,5;3", "1;2;3,25"), [[1.5, 2.5, 3], [1, 2, 3.25]], SAID),
    "spaces": (lines("0 1 2", "1.5 2 3", "4 5 6"), [[1.5, 2, 3], [4, 5, 6]], SAID),
    "index and spaces": (lines(" 0 1 2", "u 1.5 2 3", "v 4 5 6"), [[1.5, 2, 3], [4, 5, 6]], SAID),
    "tabs": (lines("0\t1\t2", "1\t2\t3", "4\t5\t6"), "asked", ""),
    "trailing separator": (lines("0,1,2,", "1.5,2,3,", "4,5,6,"), [[1.5, 2, 3], [4, 5, 6]], SAID),
    "after a comment": (lines("# by me", "0,1,2", "1.5,2,3"), [[1.5, 2, 3]], r"line 2, .* names"),
}


@pytest.mark.parametrize("case", FIRST_LINES)
def test_a_first_row_of_numbers(tmp_path, case):
    content, holds, says = FIRST_LINES[case]
    path = written(tmp_path, content)
    if holds == "refused":
        with pytest.raises(VemError, match="line 3, column 0"):
            read(path)
        return
    if holds != "asked":
        x, _, said = read(path)
        assert x == holds
        assert re.search(says, said) if says else not said
        return
    with pytest.raises(VemError, match=r"line 1, '.*', may name.*data\.header=true.*data\.header=false") as caught:
        read(path)
    assert content.splitlines()[0].expandtabs(1) in str(caught.value).replace(r"\t", " ")
    # Both remedies work.
    names, rows = content.splitlines()[0], len(content.splitlines()) - 1
    assert len(read(path, header=True)[0]) == rows
    nameless = names.startswith(",")
    assert ("data.header=false data.drop=[1]" in str(caught.value)) == nameless
    x = read(path, header=False, drop=[1] if nameless else None)[0]
    assert len(x) == rows + 1 and x[0] == [float(cell) for cell in re.split("[,\t]", names) if cell]


# --- item 3: row names. Content, what it holds, what is said
LEFT_OUT = r"first column has no name.*left out.*data\.row_names=false"
FRAME = pd.DataFrame({"a": [1.5, 2.5, 3], "b": [4, 5, 7], "c": [0, 1, 1]})
X = FRAME.to_numpy(dtype=float).tolist()
ROW_NAMES: dict[str, tuple[str, str]] = {
    "write.csv": (lines('"","a","b","c"', '"1",1.5,4,0', '"2",2.5,5,1', '"3",3,7,1'), LEFT_OUT),
    "write.csv2": (lines('"";"a";"b";"c"', '"1";1,5;4;0', '"2";2,5;5;1', '"3";3;7;1'), LEFT_OUT),
    "write.csv of names": (lines('"","a","b","c"', '"Mazda, RX4",1.5,4,0', '"Fiat",2.5,5,1', '"VW",3,7,1'), LEFT_OUT),
    "to_csv": (FRAME.to_csv(), LEFT_OUT),
    "to_csv of names": (FRAME.set_axis(["u", "v", "w"]).to_csv(), LEFT_OUT),
    "to_csv of decimals": (FRAME.set_axis([0.1, 0.2, 0.5]).to_csv(), LEFT_OUT),
    "to_csv of two levels": (
        FRAME.set_axis([[1, 1, 2], [1, 2, 1]]).to_csv(),
        r"first 2 columns have no names.*left out",
    ),
    "write.table": (lines('"a" "b" "c"', '"1" 1.5 4 0', '"2" 2.5 5 1', '"3" 3 7 1'), LEFT_OUT),
    "write.table unquoted": (lines("a b c", "1 1.5 4 0", "2 2.5 5 1", "3 3 7 1"), LEFT_OUT),
    "write.table with tabs": (lines("a\tb\tc", "r1\t1.5\t4\t0", "r2\t2.5\t5\t1", "r3\t3\t7\t1"), LEFT_OUT),
    "write.table, whole, tabs": (lines("a\tb\tc", "1\t1.5\t4\t0", "2\t2.5\t5\t1", "3\t3\t7\t1"), LEFT_OUT),
    "write.table with commas": (lines('"a","b","c"', '"1",1.5,4,0', '"2",2.5,5,1', '"3",3,7,1'), LEFT_OUT),
    "commas, names of text": (lines("a,b,c", "r1,1.5,4,0", "r2,2.5,5,1", "r3,3,7,1"), LEFT_OUT),
    "commas, not whole": (lines("a,b,c", "0.5,1.5,4,0", "1,2.5,5,1", "2,3,7,1"), LEFT_OUT),
    "decimal commas": (lines('"a" "b" "c"', '"1" 1,5 4 0', '"2" 2,5 5 1', '"3" 3 7 1'), LEFT_OUT),
    "trailing separator": (lines("a,b,c,", "1.5,4,0,", "2.5,5,1,", "3,7,1,"), ""),
    "trailing separator, not above": (lines("a,b,c", "1.5,4,0,", "2.5,5,1,", "3,7,1,"), ""),
    "trailing separator, no names": (lines("1.5;4;0;", "2.5;5;1;", "3;7;1;"), ""),
    "trailing tab": (lines("a\tb\tc\t", "1.5\t4\t0\t", "2.5\t5\t1\t", "3\t7\t1\t"), ""),
    "trailing separator and row names": (lines(",a,b,c,", "u,1.5,4,0,", "v,2.5,5,1,", "w,3,7,1,"), LEFT_OUT),
    "trailing blanks": (lines("a b c ", "1.5 4 0 ", "2.5 5 1 ", " 3 7 1"), ""),
    "named first column": (lines("a,b,c", "1.5,4,0", "2.5,5,1", "3,7,1"), ""),
}


@pytest.mark.parametrize("case", ROW_NAMES)
def test_row_names_are_left_out(tmp_path, case):
    content, says = ROW_NAMES[case]
    x, labels, said = read(written(tmp_path, content))
    assert x == X and labels is None
    assert re.search(says, said) if says else not said


def test_row_names_stay_where_they_are_asked_for(tmp_path):
    path = written(tmp_path, FRAME.to_csv())
    with_names = [[i, *row] for i, row in enumerate(X)]
    assert read(path, row_names=False) == (with_names, None, "")
    assert read(path, columns=[1, "a"])[0] == [[i, row[0]] for i, row in enumerate(X)]
    assert read(path, drop=["b"])[0] == [[a, c] for a, _, c in X]  # and the row names
    x, labels, _ = read(path, label_column=1)
    assert x == X and labels == [0, 1, 2]
    assert read(path, label_column="Unnamed: 0")[1] == [0, 1, 2]
    # A column with a name, or a file without names, can be left out so, too.
    assert read(written(tmp_path, "id,a\n7,1\n8,3\n"), row_names=True)[0] == [[1], [3]]
    assert read(written(tmp_path, "7,1\n8,3\n"), row_names=True)[0] == [[1], [3]]
