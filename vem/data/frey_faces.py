"""Frey faces: a film of one face."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from vem.data.dataset import Data
from vem.data.files import Source, damaged, data_folder, load_mat, obtain, verify_array, write_bytes
from vem.data.prepare import grey_levels, prepare, split_rows, take
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
    x = grey_levels(_load(data_folder(root))).view(-1, 28, 20)
    if split == "frames":
        parts, note = split_rows(len(x), (1565, 200, 200), seed), FRAMES_NOTE
    else:
        frames = torch.arange(len(x)).tensor_split(NUM_BLOCKS)
        dealt = split_rows(NUM_BLOCKS, (40, 5, 5), seed)
        parts = [torch.cat([frames[i] for i in blocks.sort().values.tolist()]) for blocks in dealt]
        note = BLOCKS_NOTE
    train, valid, test = (take(x, None, rows) for rows in parts)
    data = Data("frey_faces", train, valid, test, "real", (28, 20), seed=seed, notes=(note,))
    return prepare(data, binarize, max_train)


def _load(folder: Path) -> npt.NDArray[Any]:
    """The frames [1965, 560] uint8, from the packed file or, the first time, from upstream."""
    path = folder / ARRAY
    if path.exists():
        try:
            with path.open("rb") as file:
                faces: npt.NDArray[Any] = np.load(file, allow_pickle=False)
        except (OSError, ValueError, EOFError) as error:
            raise damaged(path, error) from error
        verify_array(faces, CHECKSUM, path)
        return faces
    put_by_hand = (folder / FILE.path).exists()
    upstream = obtain(FILE, folder)
    try:
        faces = np.ascontiguousarray(load_mat(upstream, "ff")["ff"].T)
        verify_array(faces, CHECKSUM, upstream)
    except VemError:
        # No checksum of this file is published, so a bad download is found out only here.
        if not put_by_hand:
            upstream.unlink()
        raise
    packed = io.BytesIO()
    np.save(packed, faces)
    write_bytes(path, packed.getvalue())
    return faces
