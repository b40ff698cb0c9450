"""Omniglot, reduced to 28 × 28."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from vem.data.dataset import Data, Split
from vem.data.files import damaged, data_folder, obtain, packed, sources
from vem.data.prepare import BINARIZATIONS, dealt, grey_levels, split_rows
from vem.errors import choice

FILES = sources(
    "omniglot/{}.zip",
    (
        "https://raw.githubusercontent.com/brendenlake/omniglot/master/python/",
        "https://github.com/brendenlake/omniglot/raw/master/python/",
    ),
    {
        "images_background": "md5:68d2efa1b9178cc56df9314c21c6e718",
        "images_evaluation": "md5:6b91aef0f799c5bb55b94e3f2daec811",
    },
)
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
    folder = data_folder(root)

    def upstream() -> Mapping[str, npt.NDArray[Any]]:
        return build([obtain(source, folder) for source in FILES.values()])

    content = packed(folder / ARRAY, "images", CHECKSUM, upstream)
    alphabets = np.array([name.split(b"/")[1] for name in content["names"].tolist()])
    labels = np.unique(alphabets, return_inverse=True)[1].astype(np.int64)
    rows = Split(grey_levels(content["images"]), torch.from_numpy(labels))
    parts = split_rows(len(rows), SIZES, seed)
    return dealt("omniglot", rows, parts, binarize, max_train, "real", (28, 28), seed=seed, notes=NOTES)


def build(archives: list[Path]) -> dict[str, npt.NDArray[Any]]:
    """The drawings of the archives, sorted by name and reduced: images [N, 28, 28] uint8, names [N] bytes."""
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
    return {"images": np.stack([reduced[name] for name in names]), "names": np.array([n.encode() for n in names])}


# How many quarters of each of 105 pixels each of 28 cells covers, [28, 105]; a cell is 15 quarters.
OVERLAP = np.eye(28, dtype=np.int64).repeat(15, 1).reshape(28, 105, 4).sum(2)


def reduce(ink: npt.NDArray[Any]) -> npt.NDArray[np.uint8]:
    """105 × 105 ink as 28 × 28 by exact area averaging, rounded to 0 … 255.

    >>> int(reduce(np.ones((105, 105), bool)).min())
    255
    """
    covered = OVERLAP @ ink.astype(np.int64) @ OVERLAP.T  # of 225 sixteenths of a pixel
    # In whole numbers, since a float would round differently on different machines.
    return ((covered * 255 + 112) // 225).astype(np.uint8)
