"""Does this family fit this model?"""

from __future__ import annotations

from collections.abc import Callable

from vem.contracts import Family, GenerativeModel
from vem.errors import VemError


def matching(make: Callable[[int], Family], model: GenerativeModel) -> Family:
    """The family over the model's latent variable.

    Raises:
        VemError: one of them is continuous and the other discrete.
    """
    family = make(model.latent_size)
    if family.latent != model.latent:
        words = {"index": "an index", "real": "real numbers"}
        remedy = {"index": "family=categorical", "real": "family=diagonal_gaussian"}[model.latent]
        raise VemError(
            f"{type(family).__name__} is a family over {words[family.latent]}, and z of {type(model).__name__} is "
            f"{words[model.latent]}: take {remedy}."
        )
    return family
