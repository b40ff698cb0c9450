"""Omniglot, reduced to 28 × 28."""

from __future__ import annotations

import io
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from vem.data.dataset import Data
from vem.data.files import Source, damaged, data_folder, obtain, verify_array, write_bytes
from vem.data.prepare import BINARIZATIONS, grey_levels, prepare, split_rows, take
from vem.errors import choice

HOMES = (
    "https://raw.githubusercontent.com/brendenlake/omniglot/master/python/",
    "https://github.com/brendenlake/omniglot/raw/master/python/",
)
FILES = {
    name: Source(f"omniglot/{name}.zip", tuple(f"{home}{name}.zip" for home in HOMES), f"md5:{digest}")
    for name, digest in {
        "images_background": "68d2efa1b9178cc56df9314c21c6e718",
        "images_evaluation": "6b91aef0f799c5bb55b94e3f2daec811",
    }.items()
}
ARRAY = "omniglot/omniglot_28x28_area.npz"
CHECKSUM = "sha256:8167dffec9d3ee72541f00f4f120b260f19aebf40a2a4c142dfc5a700a187882"
SIZES = (23_045, 1_345, 8_070)
NOTES = (
    "Omniglot is reduced to 28 x 28 by area averaging and split by vem's own seeded permutation: its "
    "nats are not comparable with those on the file of Burda et al. (chardata.mat).",
    "Labels are the 50 alphabets.",
)


def omniglot(binarize: str = "static", root: str | None = None, seed: int = 0, max_train: int | None = None) -> Data:
    """32,460 handwritten characters of 50 alphabets, 23,045 / 1,345 / 8,070 by ``seed``, x [N, 28, 28].

    The sizes are those of Burda et al. as near as can be; the reduction and the rows are not. Labels are
    alphabets. ``static`` and ``stochastic``: x ~ Bernoulli(ink), drawn once from ``seed`` or every epoch.
    ``threshold``: ink ≥ ½. ``none``: the share of ink in [0, 1].

    Raises:
        VemError: a file is missing and cannot be fetched, or has the wrong checksum; a bad option.

    Source: Lake, Salakhutdinov and Tenenbaum, 2015.
    """
    choice(binarize, BINARIZATIONS, "data.binarize")
    images, names = _load(data_folder(root))
    alphabets = np.array([name.split(b"/")[1] for name in names.tolist()])
    labels = torch.from_numpy(np.unique(alphabets, return_inverse=True)[1].astype(np.int64))
    x = grey_levels(images)
    train, valid, test = (take(x, labels, rows) for rows in split_rows(len(x), SIZES, seed))
    data = Data("omniglot", train, valid, test, "real", image_shape=(28, 28), seed=seed, notes=NOTES)
    return prepare(data, binarize, max_train)


def _load(folder: Path) -> tuple[npt.NDArray[Any], npt.NDArray[Any]]:
    """images [32460, 28, 28] uint8 and names, from the packed file or, the first time, from upstream."""
    path = folder / ARRAY
    if not path.exists():
        images, names = build([obtain(source, folder) for source in FILES.values()])
        verify_array(images, CHECKSUM, path)
        packed = io.BytesIO()
        np.savez_compressed(packed, images=images, names=names)
        write_bytes(path, packed.getvalue())
        return images, names
    try:
        with path.open("rb") as file, np.load(file, allow_pickle=False) as content:
            images, names = content["images"], content["names"]
    except Exception as error:  # numpy passes on whatever zipfile and zlib meet in damaged bytes
        raise damaged(path, error) from error
    verify_array(images, CHECKSUM, path)
    return images, names


def build(archives: list[Path]) -> tuple[npt.NDArray[Any], npt.NDArray[Any]]:
    """The drawings of the archives, sorted by name and reduced: images [N, 28, 28] uint8, names [N] bytes.

    Raises:
        VemError: an archive is damaged.
    """
    from PIL import Image  # here, because only the first use of this data set needs it

    reduced: dict[str, npt.NDArray[Any]] = {}
    for path in archives:
        try:
            with zipfile.ZipFile(path) as archive:
                for name in archive.namelist():
                    if name.endswith(".png"):
                        paper = np.asarray(Image.open(io.BytesIO(archive.read(name))).convert("1"))
                        reduced[name] = reduce(~paper)
        except Exception as error:  # zipfile, zlib and the image reader each have their own errors
            raise damaged(path, error) from error
    names = sorted(reduced)
    return np.stack([reduced[name] for name in names]), np.array([name.encode() for name in names])


def _overlap() -> npt.NDArray[np.int64]:
    """How many quarters of each of 105 pixels each of 28 cells covers, [28, 105]; a cell is 15 quarters."""
    quarters = np.arange(105 * 4)
    overlap = np.zeros((28, 105), np.int64)
    np.add.at(overlap, (quarters // 15, quarters // 4), 1)
    return overlap


OVERLAP = _overlap()


def reduce(ink: npt.NDArray[Any]) -> npt.NDArray[np.uint8]:
    """105 × 105 ink as 28 × 28 by exact area averaging, rounded to 0 … 255.

    >>> int(reduce(np.ones((105, 105), bool)).min())
    255
    """
    covered = OVERLAP @ ink.astype(np.int64) @ OVERLAP.T  # of 225 sixteenths of a pixel
    # In whole numbers, since a float would round differently on different machines.
    return ((covered * 255 + 112) // 225).astype(np.uint8)
