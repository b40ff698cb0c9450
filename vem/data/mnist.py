"""MNIST, binarized in the ways of the literature."""

from __future__ import annotations

import gzip
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from vem.data import idx
from vem.data.dataset import Data, Split
from vem.data.files import Source, checked, damaged, data_folder, gunzip, obtain, read_bytes, sources, write_bytes
from vem.data.prepare import BINARIZATIONS, prepare
from vem.errors import choice
from vem.noise import generator

FILES = sources(
    "mnist/{}",
    ("https://ossci-datasets.s3.amazonaws.com/mnist/", "https://storage.googleapis.com/cvdf-datasets/mnist/"),
    {
        idx.TRAIN_IMAGES: "sha256:440fcabf73cc546fa21475e81ea370265605f56be210a4024d2ca8f203523609",
        idx.TRAIN_LABELS: "sha256:3552534a0a558bbed6aed32b30c495cca23d567ec52cac8be1a0730e8010255c",
        idx.TEST_IMAGES: "sha256:8d422c7b0a1c1c79245a5bcf07fe86e33eeafee792b84584aec276f5a2dbc4e6",
        idx.TEST_LABELS: "sha256:f7ae60f92e00ec6debd23a6088c31dbd2371eca3ffa0defaefb259924204aec6",
    },
)
STATIC_FILES = sources(
    "binarized-mnist/binarized_mnist_{}.amat",
    (
        "http://www.cs.toronto.edu/~larocheh/public/datasets/binarized_mnist/",
        "https://raw.githubusercontent.com/riannevdberg/sylvester-flows/master/data/MNIST_static/",
    ),
    {  # of the text, not of a compressed copy
        "train": "sha256:ad693b29f94c14277b095f5238ddefbbdaaae0939789dd2f4f0205278cee3e4d",
        "valid": "sha256:1de3d397c40fe8eeb33dafd4099a1f665ec01e96d9be234aaeeac8a34930e2e2",
        "test": "sha256:e6687bfea3f820c174f33b7865140b2a2dd2930ef786f35d45795fc193b5ab2c",
    },
)
SIDE = 28


def mnist(binarize: str = "static", root: str | None = None, seed: int = 0, max_train: int | None = None) -> Data:
    """MNIST handwritten digits, 50,000 / 10,000 / 10,000 images, x [N, 28, 28].

    ``static``: Larochelle's fixed draws, x ~ Bernoulli(grey) once and for all, without labels.
    ``stochastic``: the training x is drawn again every epoch. ``threshold``: grey ≥ ½. ``none``: the
    grey levels in [0, 1]. All but ``static`` carry labels; their validation split is the last 10,000
    of the 60,000 training images.

    Raises:
        VemError: a file is missing and cannot be fetched, or has the wrong checksum; a bad option.

    Source: LeCun et al., 1998; Salakhutdinov and Murray, 2008; Larochelle and Murray, 2011.
    """
    choice(binarize, BINARIZATIONS, "data.binarize")
    folder = data_folder(root)
    if binarize != "static":
        return prepare(idx.load("mnist", FILES, folder, seed), binarize, max_train)
    train, valid, test = (_amat(source, folder) for source in STATIC_FILES.values())
    # The published test rows stand digit by digit; shuffled, their first n are a fair sample of them.
    order = torch.randperm(len(test), generator=generator("cpu", "order of static MNIST"))
    notes = (
        "Static MNIST carries no labels: pictures by class show one colour.",
        "Its test rows are sorted by digit in the published file; here they stand in a fixed random order.",
    )
    parts = Split(train), Split(valid), Split(test[order])
    return prepare(Data("mnist", *parts, "binary", (SIDE, SIDE), seed=seed, notes=notes), max_train=max_train)


def _amat(source: Source, folder: Path) -> Tensor:
    """A text file of 0s and 1s as [N, 28, 28]; what is downloaded is kept gzipped, 36 times as small."""
    plain = folder / source.path
    packed = plain.with_name(plain.name + ".gz")
    if not packed.exists():
        put_by_hand = plain.exists()
        text = read_bytes(obtain(source, folder))
        if put_by_hand:
            return _values([text], plain)
        write_bytes(packed, gzip.compress(text, mtime=0))
        plain.unlink()
    text_chunks = gunzip(packed)
    return _values(checked(text_chunks, source.checksum, packed) if source.checksum else text_chunks, packed)


def _values(chunks: Iterable[bytes], path: Path) -> Tensor:
    """0s and 1s, each followed by a blank or a line end: two bytes a value, so chunks of even length."""
    # The last bit of "0" is 0 and that of "1" is 1.
    values = np.concatenate([np.frombuffer(chunk, np.uint8)[::2] & 1 for chunk in chunks], dtype=np.float32)
    if len(values) % (SIDE * SIDE):
        raise damaged(path, ValueError(f"its text is not made of lines of {SIDE * SIDE} values"))
    return torch.from_numpy(values).view(-1, SIDE, SIDE)
