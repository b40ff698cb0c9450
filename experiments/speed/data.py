"""The data that all contenders share: static MNIST where it lies on the disk, else random binary x."""

from __future__ import annotations

import os
from multiprocessing.connection import Connection
from pathlib import Path

import numpy as np
import numpy.typing as npt

SIZE = 784
SHARE_OF_ONES = 0.13  # about that of binarized MNIST


def digits_folder() -> Path | None:
    """The folder with Larochelle's static MNIST: VEM_DATA, or ``../shared/data`` seen from the checkout."""
    beside = Path(__file__).resolve().parents[3] / "shared" / "data"
    for root in (os.environ.get("VEM_DATA"), beside):
        if root and list(Path(root).glob("binarized-mnist/binarized_mnist_train.amat*")):
            return Path(root)
    return None


def prepare(folder: str | None, num_data: int, path: str, pipe: Connection) -> None:
    """Write x [N, 784] (uint8) to ``path`` and send what it is; in a process of its own, as it needs torch."""
    if folder is None:
        x, name = random_binary(num_data), "random binary data (no static MNIST in VEM_DATA or ../shared/data)"
    else:
        from vem.data.mnist import mnist

        digits = mnist("static", folder)
        # The field's 60,000 are the training and the validation images together.
        images = np.concatenate([digits.train.x.numpy(), digits.valid.x.numpy()])[:num_data]
        x, name = images.reshape(len(images), SIZE).astype(np.uint8), "static MNIST, train and valid"
    np.save(path, x)
    pipe.send(f"{name}, N = {len(x):,}")


def random_binary(num_data: int) -> npt.NDArray[np.uint8]:
    """Independent Bernoulli numbers [N, 784]."""
    return (np.random.default_rng(0).random((num_data, SIZE), np.float32) < SHARE_OF_ONES).astype(np.uint8)


def training_x(data: str | int) -> npt.NDArray[np.float32]:
    """x [N, 784] as float32, from the file, or N random rows, made in place: nothing is held twice."""
    if isinstance(data, str):
        return np.load(data).astype(np.float32)
    x, source = np.empty((data, SIZE), np.float32), np.random.default_rng(0)
    for rows in np.array_split(x, max(data // 1000, 1)):
        source.random(out=rows, dtype=np.float32)
        np.less(rows, SHARE_OF_ONES, out=rows, casting="unsafe")
    return x
