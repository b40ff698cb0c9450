"""Data sets in the form of MNIST: four gzipped idx files, 60,000 training and 10,000 test images."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from vem.data.dataset import Data, Split
from vem.data.files import Source, damaged, gunzip, obtain
from vem.data.prepare import grey_levels

TRAIN_IMAGES = "train-images-idx3-ubyte.gz"
TRAIN_LABELS = "train-labels-idx1-ubyte.gz"
TEST_IMAGES = "t10k-images-idx3-ubyte.gz"
TEST_LABELS = "t10k-labels-idx1-ubyte.gz"
NUM_VALID = 10_000


def sources(folder: str, homes: tuple[str, ...], sha256: Mapping[str, str]) -> dict[str, Source]:
    """The four files, each to be had from every home."""
    return {
        name: Source(f"{folder}/{name}", tuple(home + name for home in homes), f"sha256:{digest}")
        for name, digest in sha256.items()
    }


def load(name: str, files: Mapping[str, Source], folder: Path, seed: int) -> Data:
    """Grey levels and labels; the last 10,000 training images are the validation split.

    x [N, 28, 28] in [0, 1], labels [N].

    Raises:
        VemError: a file is missing and cannot be fetched, damaged, or has the wrong checksum.
    """

    def images(key: str) -> Tensor:
        return grey_levels(read(obtain(files[key], folder)))

    def labels(key: str) -> Tensor:
        return torch.from_numpy(read(obtain(files[key], folder)).astype(np.int64))

    x, y = images(TRAIN_IMAGES), labels(TRAIN_LABELS)
    train, valid = Split(x[:-NUM_VALID], y[:-NUM_VALID]), Split(x[-NUM_VALID:], y[-NUM_VALID:])
    test = Split(images(TEST_IMAGES), labels(TEST_LABELS))
    height, width = x.shape[1:]
    return Data(name, train, valid, test, kind="real", image_shape=(height, width), seed=seed)


def read(path: Path) -> npt.NDArray[Any]:
    """An idx file of bytes: 0, 0, 8 (unsigned byte), rank, the sizes as big-endian int32, the values.

    Raises:
        VemError: the file is damaged, cut short, or not an idx file of bytes.
    """
    content = b"".join(gunzip(path))
    rank = content[3] if content[:3] == b"\0\0\x08" else 0
    shape = tuple(np.frombuffer(content[4 : 4 + 4 * rank], dtype=">i4").tolist())
    if rank == 0 or len(content) != 4 + 4 * rank + math.prod(shape):
        raise damaged(path, ValueError("it is not an idx file of bytes"))
    return np.frombuffer(content, np.uint8, offset=4 + 4 * rank).reshape(shape)
