"""Labels of any kind as whole numbers, the same class the same number in every split."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor

from vem.data.reading import Array
from vem.errors import VemError


def classes(labels: Mapping[str, Array]) -> dict[str, Tensor]:
    """The labels [N] of each part as int64; ``labels`` holds them by the place that a message names.

    Numbers stay as they are. Text, whether of str or of bytes, is numbered in alphabetical order, once over all
    parts: a class that a part lacks keeps its number. VemError for what is missing, not whole, or text here and
    numbers there.
    """
    known = {place: _known(values, place) for place, values in labels.items()}
    text = [place for place, values in known.items() if values.dtype.kind == "U"]
    if text and len(text) == len(known):
        names = np.unique(np.concatenate([np.unique(values) for values in known.values()]))
        return {place: torch.from_numpy(np.searchsorted(names, values)) for place, values in known.items()}
    for place in text:
        known[place] = _numbers_as_text(known[place], place, next(other for other in known if other not in text))
    return {place: torch.from_numpy(values.astype(np.int64)) for place, values in known.items()}


def _known(values: Array, place: str) -> Array:
    """Labels as an array of str or of whole numbers; objects, as a table of pandas has them, as text or numbers."""
    if values.dtype.kind in "Of":
        import pandas as pd  # here, because pandas takes half a second to import

        if (missing := np.asarray(pd.isna(values))).any():
            raise VemError(
                f"{place}: {int(missing.sum())} of {len(missing)} labels are missing, the first is that of row "
                f"{int(missing.argmax())} (counted from 0). Name a class for them, or leave the labels out."
            )
    number = bool | int | float | np.number | np.bool_
    if values.dtype.kind == "O" and all(isinstance(label, number) for label in values):
        values = np.array(values.tolist())
    if values.dtype.kind in "OS":
        # Not numpy's own conversion, which knows ASCII alone.
        texts = [v.decode("utf-8", "backslashreplace") if isinstance(v, bytes) else str(v) for v in values.tolist()]
        return np.array(texts, dtype=str)
    if values.dtype.kind not in "Ubuif":
        raise VemError(f"{place} holds {values.dtype}, not classes: save them as text or as whole numbers.")
    if values.dtype.kind != "U" and not np.all(np.isfinite(values) & (values == np.floor(values))):
        raise VemError(f"{place} holds numbers that are not whole: labels are classes. Leave them out or number them.")
    return values


def _numbers_as_text(values: Array, place: str, other: str) -> Array:
    """Text that spells whole numbers, as those numbers, for ``other`` holds numbers."""
    try:
        numbers = values.astype(np.float64)
        if np.array_equal(numbers, np.floor(numbers)):
            return numbers
    except ValueError:
        pass
    raise VemError(
        f"{place} holds text ({str(values[0])!r}) and {other} numbers, so no class can be told to be the same in both: "
        "save the labels of every part as text, or all as numbers."
    )
