"""Caltech 101 silhouettes."""

from __future__ import annotations

import numpy as np
import torch

from vem.data.dataset import Data, Split
from vem.data.files import Source, data_folder, load_mat, obtain
from vem.data.prepare import dealt, split_rows

FILE = Source(
    "caltech101-silhouettes/caltech101_silhouettes_28.mat",
    ("https://people.cs.umass.edu/~marlin/data/caltech101_silhouettes_28.mat",),
    "sha256:862d0a4b828256d54ad5de7c5066c18c72f355cac5b7cde4c1c3be7c000d180b",
)
SIZES = (4_100, 2_264, 2_307)
NOTES = (
    "Caltech 101 silhouettes are split by vem's own seeded permutation: the nats are not comparable with "
    "those on the published split.",
    "Images are turned upright, and 1 is the object (the published file has 0 there).",
)


def silhouettes(root: str | None = None, seed: int = 0, max_train: int | None = None) -> Data:
    """8671 object outlines of 101 classes, 4100 / 2264 / 2307 at random by ``seed``, x [N, 28, 28], 0 or 1.

    The sizes are the published ones; the rows are not. 1 is the object.

    Raises:
        VemError: the file is missing and cannot be fetched, or has the wrong checksum; a bad option.

    Source: Marlin, Swersky, Chen and de Freitas, 2010.
    """
    content = load_mat(obtain(FILE, data_folder(root)), "X", "Y")
    # Stored column first, 0 = object.
    images = 1 - content["X"].reshape(-1, 28, 28).transpose(0, 2, 1).astype(np.float32)
    labels = content["Y"].reshape(-1).astype(np.int64) - 1
    rows = Split(torch.from_numpy(np.ascontiguousarray(images)), torch.from_numpy(labels))
    parts = split_rows(len(rows), SIZES, seed)
    return dealt("silhouettes", rows, parts, "none", max_train, "binary", (28, 28), seed=seed, notes=NOTES)
