"""A class is one number wherever it stands: in every split, and however its name was saved."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from vem.data.array import array
from vem.data.labels import classes
from vem.errors import VemError

TRAIN, VALID, TEST = ["cat", "dog", "eel", "dog"], ["eel", "eel", "cat"], ["dog", "eel", "dog"]


def split_file(folder: Path, **labels: object) -> str:
    x = np.random.default_rng(0).normal(size=(10, 2))
    path = folder / "own.npz"
    np.savez(path, train=x[:4], valid=x[4:7], test=x[7:], **labels)  # type: ignore[arg-type]
    return str(path)


def numbered(*parts: object) -> list[list[int]]:
    found = classes({f"part {i}": np.asarray(part) for i, part in enumerate(parts)})
    return [labels.tolist() for labels in found.values()]


@pytest.mark.parametrize("kind", [str, "S3", "U9"])
def test_a_split_that_lacks_a_class_numbers_the_others_alike(tmp_path, kind):
    labels = {"train_labels": TRAIN, "valid_labels": VALID, "test_labels": TEST}
    data = array(split_file(tmp_path, **{name: np.array(part, dtype=kind) for name, part in labels.items()}))
    assert data.train.labels.tolist() == [0, 1, 2, 1]
    assert data.valid.labels.tolist() == [2, 2, 0]
    assert data.test.labels.tolist() == [1, 2, 1]


def test_a_class_that_training_lacks_has_a_number_of_its_own(tmp_path):
    data = array(split_file(tmp_path, train_labels=["b", "d", "b", "d"], test_labels=["a", "c", "d"]))
    assert data.train.labels.tolist() == [1, 3, 1, 3] and data.test.labels.tolist() == [0, 2, 3]
    assert data.valid.labels is None


def test_numbers_stay_as_they_are(tmp_path):
    data = array(split_file(tmp_path, train_labels=[7, 0, -1, 3], valid_labels=[3.0, 3.0, 7.0], test_labels=[True] * 3))
    assert data.train.labels.tolist() == [7, 0, -1, 3] and data.valid.labels.tolist() == [3, 3, 7]
    assert data.test.labels.tolist() == [1, 1, 1]


def test_text_of_several_kinds_is_one_numbering():
    columns = pd.DataFrame({"kind": ["dog", "eel"]})
    assert numbered(
        np.array(["cat", "dog"]),
        np.array([b"dog", b"cat"]),
        np.array(["dog", b"cat"], dtype=object),
        columns["kind"].to_numpy(),
        columns["kind"].astype("category").to_numpy(),
        columns["kind"].astype("string").to_numpy(dtype=object),
    ) == [[0, 1], [1, 0], [1, 0], [1, 2], [1, 2], [1, 2]]


def test_letters_beyond_ascii_and_names_of_different_length():
    assert numbered(np.array(["é".encode(), b"e"]), ["é", "è" * 30]) == [[2, 0], [2, 1]]


def test_text_that_spells_numbers_goes_with_numbers_and_alone_in_the_alphabet():
    assert numbered([2, 10, 3], ["10", "3"], np.array([2, 3], dtype=object)) == [[2, 10, 3], [10, 3], [2, 3]]
    assert numbered(["2", "10"], ["10", "3"]) == [[1, 0], [0, 2]]


@pytest.mark.parametrize(
    ("parts", "says"),
    [
        (([0, 1], ["dog", "eel"]), r"part 1 holds text \('dog'\) and part 0 numbers.*all as numbers"),
        (([0, 1], ["0.5", "1"]), r"part 1 holds text \('0.5'\)"),
        ((["a", "b"], [0.5, 1]), "part 1 holds numbers that are not whole"),
        (([0.0, np.nan],), "part 0: 1 of 2 labels are missing, the first is that of row 1"),
        ((np.array(["a", None, "b"], dtype=object),), "1 of 3 labels are missing"),
        ((np.array(["a", pd.NA, np.nan], dtype=object),), "2 of 3 labels are missing, the first is that of row 1"),
        ((np.array(["2020-01-01"], dtype="M8[D]"),), r"holds datetime64\[D\], not classes: save them as text"),
    ],
)
def test_labels_that_are_no_classes(parts, says):
    with pytest.raises(VemError, match=says):
        numbered(*parts)
