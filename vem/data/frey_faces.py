"""Frey faces: a film of one face."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from vem.data.dataset import Data, Split
from vem.data.files import Source, data_folder, load_mat, obtain, packed, verify
from vem.data.prepare import dealt, grey_levels, split_rows
from vem.errors import VemError, choice

FILE = Source(
    "frey-faces/frey_rawface.mat",
    (
        "https://cs.nyu.edu/~roweis/data/frey_rawface.mat",
        "http://www.cs.nyu.edu/~roweis/data/frey_rawface.mat",
    ),
    checksum=None,
)
ARRAY = "frey-faces/freyfaces.npy"
CHECKSUM = "sha256:2438ba4f0d2a6bd8bac43de756141eaa33c8d248dd613d464bdb1210d9b7af78"
NUM_BLOCKS = 50
BLOCKS_NOTE = (
    "Frey faces are consecutive frames of a film: blocks of about 40 frames are dealt to the splits "
    "(vem's own), since frames split one by one have near copies of themselves in training."
)
FRAMES_NOTE = (
    "Frey faces are consecutive frames of a film: with data.split=frames nearly every test frame has a "
    "near copy in training, so the test ELBO says little of new faces."
)


def frey_faces(
    binarize: str = "none",
    split: str = "blocks",
    root: str | None = None,
    seed: int = 0,
    max_train: int | None = None,
) -> Data:
    """1965 film frames of one face, about 1570 / 200 / 200, x [N, 28, 20] in [0, 1], no labels.

    ``split``: ``blocks`` deals blocks of 40 consecutive frames by ``seed``; ``frames`` deals single frames
    as papers do, which leaks. ``binarize``: ``none``, or threshold, static, stochastic.

    Raises:
        VemError: a file is missing and cannot be fetched, or has the wrong checksum; a bad option.

    Source: B. Frey; Roweis' collection of data for MATLAB.
    """
    choice(split, ("blocks", "frames"), "data.split")
    folder = data_folder(root)
    x = grey_levels(packed(folder / ARRAY, "x", CHECKSUM, lambda: _upstream(folder))["x"]).view(-1, 28, 20)
    if split == "frames":
        parts, note = split_rows(len(x), (1565, 200, 200), seed), FRAMES_NOTE
    else:
        frames = torch.arange(len(x)).tensor_split(NUM_BLOCKS)
        split_blocks = split_rows(NUM_BLOCKS, (40, 5, 5), seed)
        parts = [torch.cat([frames[i] for i in blocks.sort().values.tolist()]) for blocks in split_blocks]
        note = BLOCKS_NOTE
    return dealt("frey_faces", Split(x), parts, binarize, max_train, "real", (28, 20), seed=seed, notes=(note,))


def _upstream(folder: Path) -> Mapping[str, npt.NDArray[Any]]:
    """The frames [1965, 560] uint8."""
    put_by_hand = (folder / FILE.path).exists()
    upstream = obtain(FILE, folder)
    try:
        faces = np.ascontiguousarray(load_mat(upstream, "ff")["ff"].T)
        verify(faces.tobytes(), CHECKSUM, upstream)
    except VemError:
        # No checksum of this file is published, so a bad download is found out only here.
        if not put_by_hand:
            upstream.unlink()
        raise
    return {"x": faces}
