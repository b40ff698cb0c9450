"""Data sets in the form of MNIST: four gzipped idx files, 60,000 training and 10,000 test images."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from vem.data.dataset import Data, Split
from vem.data.files import Source, damaged, gunzip, obtain
from vem.data.prepare import grey_levels

TRAIN_IMAGES = "train-images-idx3-ubyte.gz"
TRAIN_LABELS = "train-labels-idx1-ubyte.gz"
TEST_IMAGES = "t10k-images-idx3-ubyte.gz"
TEST_LABELS = "t10k-labels-idx1-ubyte.gz"
NUM_VALID = 10_000


def load(name: str, files: Mapping[str, Source], folder: Path, seed: int) -> Data:
    """x [N, 28, 28] in [0, 1] and labels [N]; the last 10,000 training images are the validation split."""

    def part(images: str, labels: str) -> Split:
        x, y = (read(obtain(files[key], folder)) for key in (images, labels))
        return Split(grey_levels(x), torch.from_numpy(y.astype(np.int64)))

    both, test = part(TRAIN_IMAGES, TRAIN_LABELS), part(TEST_IMAGES, TEST_LABELS)
    train, valid = map(both.take, (slice(-NUM_VALID), slice(-NUM_VALID, None)))
    height, width = both.x.shape[1:]
    return Data(name, train, valid, test, kind="real", image_shape=(height, width), seed=seed)


def read(path: Path) -> npt.NDArray[Any]:
    """An idx file of bytes: 0, 0, 8 (unsigned byte), rank, the sizes as big-endian int32, the values."""
    content = b"".join(gunzip(path))
    rank = content[3] if content[:3] == b"\0\0\x08" else 0
    shape = tuple(np.frombuffer(content[4 : 4 + 4 * rank], dtype=">i4").tolist())
    if rank == 0 or len(content) != 4 + 4 * rank + math.prod(shape):
        raise damaged(path, ValueError("it is not an idx file of bytes"))
    return np.frombuffer(content, np.uint8, offset=4 + 4 * rank).reshape(shape)
