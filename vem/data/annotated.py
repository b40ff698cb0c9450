"""Annotated data, .h5ad, by anndata: x is X or a layer, labels are a column of obs."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from vem.data.named_arrays import dense
from vem.data.needed import needed, unreadable
from vem.data.wishes import Wishes
from vem.errors import VemError, did_you_mean

Array = npt.NDArray[Any]


def read_annotated(path: Path, wishes: Wishes) -> dict[str, Array]:
    """x [cells, genes] and perhaps labels.

    Raises:
        VemError: the file cannot be read, or has no such layer or column of obs.
    """
    wishes.none_but(("layer", "label_column"), path)
    anndata = needed("anndata", path)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about the version that wrote the file, and names that repeat
            found = anndata.read_h5ad(path)
    except Exception as error:  # h5py's and anndata's are of many kinds
        raise unreadable(path, error) from error
    layers = [str(name) for name in found.layers]
    if wishes.layer is None and found.X is None:
        raise VemError(f"data.path={path} has no X. Its layers: {_listed(layers)}. Say which is x: data.layer=NAME.")
    if wishes.layer is not None and wishes.layer not in layers:
        raise VemError(
            f"data.layer={wishes.layer!r} is not a layer of data.path={path}{did_you_mean(str(wishes.layer), layers)} "
            f"Its layers: {_listed(layers)}; without data.layer, x is X."
        )
    values = found.X if wishes.layer is None else found.layers[wishes.layer]
    arrays = {"x": dense(values, path) if hasattr(values, "toarray") else np.asarray(values)}
    if wishes.label_column is not None:
        names, wanted = [str(name) for name in found.obs.columns], str(wishes.label_column)
        if wanted not in names:
            raise VemError(
                f"data.label_column={wanted!r} is not a column of obs in data.path={path}{did_you_mean(wanted, names)} "
                f"Its columns: {_listed(names)}."
            )
        arrays["labels"] = found.obs.iloc[:, names.index(wanted)].to_numpy()
    return arrays


def _listed(names: list[str]) -> str:
    return ", ".join(names[:20]) + (" …" if len(names) > 20 else "") or "(none)"
