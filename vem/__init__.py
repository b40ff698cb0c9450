"""vem: the variational-EM bench and instrument.

``import vem`` is cheap: torch is pulled in only when :func:`load` or :func:`measure` is called.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from vem.errors import VemError
from vem.version import VERSION

if TYPE_CHECKING:
    from collections.abc import Sequence
    from os import PathLike

    from vem.build import Run
    from vem.measurement import Measurement

__version__ = VERSION
__all__ = ["VemError", "load", "measure"]


def load(
    directory: str | PathLike[str],
    device: str = "cpu",
    data: str | PathLike[str] | None = None,
    other_data: bool = False,
) -> Run:
    """Give back the model, the strategy and the data of a finished run.

    ``data``: where its file or folder of data lies now, if it was moved; else it is looked for below the parent folders
    of the run. ``other_data``: take data that are not those that it was trained on.

    Raises:
        VemError: the directory holds no finished run, its checkpoint is damaged, or its data are not found or others.
    """
    from vem.build import load

    return load(directory, device, data, other_data)


def measure(
    decoder: Any,
    *,
    x: Any,
    encoder: Any = None,
    likelihood: Any = None,
    scale: Any = None,
    latent_dim: int | None = None,
    log_prior: Any = None,
    evaluation: str | Sequence[str] = "gaps",
    seed: int = 0,
    directory: str | PathLike[str] | None = None,
    name: str | None = None,
    progress: bool = True,
) -> Measurement:
    """Measure a model that was trained elsewhere; :func:`vem.elsewhere.measure` says what each argument is.

    Raises:
        VemError: the model, the data and the settings do not fit.
    """
    from vem.elsewhere import measure

    return measure(
        decoder, x=x, encoder=encoder, likelihood=likelihood, scale=scale, latent_dim=latent_dim,
        log_prior=log_prior, evaluation=evaluation, seed=seed, directory=directory, name=name, progress=progress,
    )  # fmt: skip
