"""What a user may ask of the reading of a file: the keys of data=array that not every kind of file has."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, fields
from pathlib import Path

from vem.errors import VemError


@dataclass(frozen=True)
class Wishes:
    """The options of the reading, at the value that leaves it to vem."""

    label_column: str | int | None = None
    header: str | bool = "auto"

    def none_but(self, meant: Collection[str], path: Path) -> None:
        """Refuse an option that this kind of file does not have.

        Raises:
            VemError: one is set that is not among ``meant``.
        """
        for field in fields(self):
            if field.name not in meant and getattr(self, field.name) != field.default:
                kinds = KINDS[field.name]
                raise VemError(
                    f"data.{field.name}={getattr(self, field.name)} is for {kinds}, and data.path={path} is not one: "
                    "leave it out; the labels of an .npz stand under the key 'labels'."
                )


# For which files an option is there.
KINDS = {"label_column": ".csv files", "header": ".csv files"}
