"""The user's own arrays: what goes in comes out, and what does not fit is said once, with the remedy."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from vem.data.array import array
from vem.errors import VemError

RNG = np.random.default_rng(0)
REAL = RNG.normal(size=(60, 6)).astype(np.float32)
BINARY = (REAL > 0).astype(np.uint8)
LABELS = np.arange(60) % 3


def everything(data):
    """All rows of a data set in an order of their own, so that a shuffle does not matter."""
    x = torch.cat([data.to("cpu", torch.float32).split(name).x for name in ("train", "valid", "test")])
    return x[np.lexsort(x.flatten(1).numpy().T)]


def in_order(x):
    return torch.from_numpy(x[np.lexsort(x.T)].astype(np.float32))


def save(folder: Path, name: str, content) -> str:
    path = folder / name
    if isinstance(content, str):
        path.write_text(content)
    elif isinstance(content, bytes):
        path.write_bytes(content)
    elif isinstance(content, dict):
        np.savez(path, **content)
    else:
        np.save(path, content)
    return str(path)


def csv_text(x, header=None):
    lines = [",".join(map(repr, row)) for row in x.tolist()]
    return "\n".join(([header] if header else []) + lines) + "\n"


@pytest.mark.parametrize("form", ["npy", "npz", "csv", "csv with names"])
def test_real_data_come_back_as_they_went_in(tmp_path, form):
    content = {
        "npy": REAL,
        "npz": {"x": REAL},
        "csv": csv_text(REAL),
        "csv with names": csv_text(REAL, "a,b,c,d,e,f"),
    }[form]
    data = array(save(tmp_path, f"own.{form[:3]}", content))
    assert torch.equal(everything(data), in_order(REAL))
    assert (len(data.train), len(data.valid), len(data.test)) == (48, 6, 6)
    assert data.kind == "real" and data.image_shape is None
    assert data.train.x.dtype == (torch.float64 if "csv" in form else torch.float32)  # text has digits of its own
    assert data.train.labels is None


def test_labels_stay_with_their_rows(tmp_path):
    x = np.column_stack([LABELS, REAL]).astype(np.float32)
    names = np.array(["ape", "bee", "cat"])[LABELS]
    text = "kind," + csv_text(x, "l,a,b,c,d,e,f")
    lines = text.splitlines()
    labelled = "\n".join([lines[0], *(f"{n},{line}" for n, line in zip(names, lines[1:], strict=True))])
    lines_of_numbers = [f"{k},{line}" for k, line in zip(LABELS, lines[1:], strict=True)]
    for data in (
        array(save(tmp_path, "own.npz", {"x": x, "labels": LABELS})),
        array(save(tmp_path, "named.npz", {"x": x, "labels": names})),
        array(save(tmp_path, "own.csv", labelled), label_column="kind"),
        array(save(tmp_path, "bare.csv", "\n".join(lines_of_numbers)), label_column=1),
    ):
        for name in ("train", "valid", "test"):
            split = data.split(name)
            assert split.x.shape[1] == 7 and torch.equal(split.x[:, 0].long(), split.labels)
        assert torch.equal(everything(data), in_order(x))


def test_splits_made_by_the_user_are_kept_in_order(tmp_path):
    content = {"train": REAL[:30], "valid": REAL[30:40], "test": REAL[40:], "train_labels": LABELS[:30]}
    data = array(save(tmp_path, "own.npz", content))
    assert torch.equal(data.train.x, torch.from_numpy(REAL[:30]))
    assert torch.equal(data.test.x, torch.from_numpy(REAL[40:]))
    assert data.train.labels.tolist() == LABELS[:30].tolist() and data.test.labels is None


def test_images_binary_data_and_fractions(tmp_path):
    path = save(tmp_path, "own.npy", BINARY)
    data = array(path, image_shape=[2, 3], fractions=[0.5, 0.25, 0.25])
    assert data.kind == "binary" and data.image_shape == (2, 3) and data.event_shape == (2, 3)
    assert (len(data.train), len(data.valid), len(data.test)) == (30, 15, 15)
    assert torch.equal(data.train.x.flatten(1), array(path, fractions=[0.5, 0.25, 0.25]).train.x)
    images = array(save(tmp_path, "images.npy", BINARY.reshape(60, 2, 3)))
    assert images.image_shape == (2, 3)
    assert torch.equal(images.train.x.flatten(1), array(path).train.x)
    assert not torch.equal(array(path, seed=1).train.x, array(path).train.x)


def test_grey_data_can_be_binarized_and_cut_down(tmp_path):
    path = save(tmp_path, "own.npy", RNG.random((60, 6)))
    assert array(path).kind == "real"
    assert array(path, binarize="threshold").kind == "binary"
    assert array(path, binarize="stochastic", max_train=20).train_x(0).shape == (20, 6)


def holes(value):
    x = REAL.copy()
    x[3, 1] = value
    return x


BAD = {
    "no path": (None, {}, r"data.path=FILE"),
    "no file": ("missing.npy", {}, r"missing.npy is not a file"),
    "kind of file": (("own.xls", b""), {}, r"\.xls is not a kind.*\.mat"),
    "truncated npy": (("own.npy", b"\x93NUMPY\x01\x00v\x00{'descr'"), {}, r"cannot be read"),
    "empty file": (("own.npy", b""), {}, r"cannot be read"),
    "broken npz": (("own.npz", b"PK\x03\x04 and no more"), {}, r"cannot be read"),
    "text as npy": (("own.npy", b"1,2,3\n"), {}, r"it is not a NumPy file"),
    "objects": (("own.npy", np.array([[1, "a"], [2, None]], dtype=object)), {}, r"objects, not numbers"),
    "objects in npz": (("own.npz", {"x": np.array([None, 1], dtype=object)}), {}, r"x holds .*dtype=float\)"),
    "labels of objects": (
        ("own.npz", {"x": np.zeros((2, 1)), "labels": np.array(["a", 1], dtype=object)}),
        {},
        r"labels holds .*dtype=str",
    ),
    "strings": (("own.npy", np.array([["a", "b"]])), {}, r"not real numbers"),
    "complex": (("own.npy", REAL + 1j), {}, r"complex64, not real numbers"),
    "rank 1": (("own.npy", REAL[:, 0]), {}, r"shape \(60,\); vem takes \[N, D\]"),
    "rank 4": (("own.npy", REAL.reshape(60, 1, 2, 3)), {}, r"shape \(60, 1, 2, 3\)"),
    "NaN": (("own.npy", holes(np.nan)), {}, r"1 of 60 rows hold NaN.*is row 3 "),
    "infinite": (("own.npy", holes(np.inf)), {}, r"1 of 60 rows hold NaN, infinite"),
    "beyond float32": (
        ("own.npy", holes(0).astype(np.float64) * 1e300),
        {"precision": "single"},
        r"rows hold NaN, infinite",
    ),
    "precision": (("own.npy", REAL), {"precision": "double"}, r"data.precision='double'.*file, single"),
    "constant": (("own.npy", np.ones((60, 6))), {}, r"equal"),
    "no rows": (("own.npy", REAL[:0]), {}, r"0 rows leave 0 / 0 / 0"),
    "no columns": (("own.npy", REAL[:, :0]), {}, r"empty"),
    "too few rows": (("own.npy", REAL[:4]), {}, r"4 rows leave 4 / 0 / 0"),
    "two fractions": (("own.npy", REAL), {"fractions": [0.9, 0.1]}, r"three positive numbers"),
    "sum of fractions": (("own.npy", REAL), {"fractions": [0.9, 0.1, 0.1]}, r"sum to 1"),
    "empty split": (("own.npy", REAL), {"fractions": [0.5, 0.5, 0]}, r"three positive numbers"),
    "small split": (("own.npy", REAL), {"fractions": [0.99, 0.005, 0.005]}, r"60 rows leave 60 / 0 / 0"),
    "image shape": (("own.npy", REAL), {"image_shape": [4, 4]}, r"image_shape=\[4, 4\] does not fit"),
    "rank of image shape": (("own.npy", REAL), {"image_shape": [6]}, r"image_shape=\[6\] does not fit"),
    "negative image shape": (("own.npy", REAL), {"image_shape": [-2, -3]}, r"does not fit"),
    "other image shape": (("own.npy", REAL.reshape(60, 2, 3)), {"image_shape": [3, 2]}, r"does not fit"),
    "keys": (("own.npz", {"data": REAL, "more": REAL}), {}, r"has the keys data \(60 x 6\).*data.array=data"),
    "split missing": (("own.npz", {"train": REAL, "test": REAL}), {}, r"has the keys test .*, train"),
    "number of labels": (
        ("own.npz", {"x": REAL, "labels": LABELS[:59]}),
        {},
        r"shape \(59,\) and x has 60 rows",
    ),
    "fractional labels": (("own.npz", {"x": REAL, "labels": LABELS + 0.5}), {}, r"not whole"),
    "split twice": (
        ("own.npz", {"train": REAL, "valid": REAL, "test": REAL}),
        {"fractions": [0.8, 0.1, 0.1]},
        r"split already",
    ),
    "unequal columns": (
        ("own.npz", {"train": REAL, "valid": REAL[:, :5], "test": REAL}),
        {},
        r"\(5,\) in valid",
    ),
    "label column of npy": (("own.npy", REAL), {"label_column": "y"}, r"is for tables.*\.csv"),
    "unknown binarize": (("own.npy", REAL), {"binarize": "stochastc"}, r"did you mean 'stochastic'"),
    "not grey": (("own.npy", REAL), {"binarize": "stochastic"}, r"grey levels in \[0, 1\]"),
    "max_train": (("own.npy", REAL), {"max_train": 0}, r"data.max_train=0"),
    "text cell without names": (("own.csv", "1,2\n3,4\n5,x\n"), {}, r"line 3, column 2, holds 'x'"),
    "ragged line": (("own.csv", "1,2\n3,4,5\n"), {}, r"own.csv cannot be read.*line 2"),
    "empty csv": (("own.csv", ""), {}, r"own.csv cannot be read"),
    "label column": (
        ("own.csv", csv_text(REAL, "a,b,c,d,e,kind")),
        {"label_column": "kinds"},
        r"did you mean 'kind'",
    ),
    "header": (("own.csv", csv_text(REAL)), {"header": "yes"}, r"auto, true, false"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_input_is_one_message(tmp_path, case):
    file, options, says = BAD[case]
    path = save(tmp_path, *file) if isinstance(file, tuple) else file and str(tmp_path / file)
    with pytest.raises(VemError, match=says) as caught:
        array(path, **options)
    assert "\n" not in str(caught.value)
