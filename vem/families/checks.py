"""Does this family fit this model?"""

from __future__ import annotations

from collections.abc import Callable

from vem.contracts import Family, Generator
from vem.errors import VemError


def matching(make: Callable[[int], Family], model: Generator) -> Family:
    """The family over the model's latent variable.

    Raises:
        VemError: one of them is continuous and the other discrete.
    """
    family = make(model.latent_size)
    if family.latent != model.latent:
        remedy = "family=categorical" if model.latent == "index" else "family=diagonal_gaussian"
        raise VemError(
            f"{type(family).__name__} is a family over {'an index' if family.latent == 'index' else 'real numbers'}, "
            f"and z of {type(model).__name__} is {'an index' if model.latent == 'index' else 'continuous'}: take {remedy}."
        )
    return family
