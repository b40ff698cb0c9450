"""scikit-learn's handwritten digits: real data that need no download."""

from __future__ import annotations

import numpy as np
import torch

from vem.data.dataset import Data, Split
from vem.data.prepare import dealt, grey_levels, split_rows

SIZES = (1297, 250, 250)


def digits(binarize: str = "threshold", seed: int = 0, max_train: int | None = None) -> Data:
    """8 × 8 handwritten digits in 17 grey levels, 1297 / 250 / 250 at random by ``seed``, x [N, 8, 8].

    ``threshold``: grey ≥ ½ (8 of 16). ``static`` and ``stochastic``: x ~ Bernoulli(grey), once or every
    epoch. ``none``: the grey levels in [0, 1].

    Raises:
        VemError: a bad option.

    Source: Alpaydin and Kaynak, 1998 (the test part of the UCI optical digits).

    >>> digits().train.x.shape, digits().kind
    (torch.Size([1297, 8, 8]), 'binary')
    """
    from sklearn.datasets import load_digits  # here, because scikit-learn takes a second to import

    bunch = load_digits()
    rows = Split(grey_levels(bunch.images, white=16), torch.from_numpy(bunch.target.astype(np.int64)))
    parts = split_rows(len(rows), SIZES, seed)
    return dealt("digits", rows, parts, binarize, max_train, "real", (8, 8), seed=seed)
