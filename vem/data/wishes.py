"""What a user may ask of the reading of a file: the keys of data=array that not every kind of file has."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, fields
from pathlib import Path

from vem.errors import VemError

Names = Sequence[str | int] | str | int | None


@dataclass(frozen=True)
class Wishes:
    """The options of the reading, at the value that leaves it to vem."""

    # of every table with columns
    label_column: str | int | None = None
    columns: Names = None
    drop: Names = None
    categories: str = "refuse"
    # of text
    header: str | bool = "auto"
    row_names: str | bool = "auto"
    separator: str = "auto"
    decimal: str = "auto"
    encoding: str = "auto"

    def none_but(self, meant: Collection[str], path: Path) -> None:
        """Refuse an option that this kind of file does not have.

        Raises:
            VemError: one is set that is not among ``meant``.
        """
        for field in fields(self):
            value = getattr(self, field.name)
            if field.name not in meant and value != field.default:
                kinds = TABLES if field.name in OF_TABLES else TEXTS
                raise VemError(
                    f"data.{field.name}={value} is for {kinds}, and data.path={path} is not one: "
                    "leave it out; the labels of an .npz stand under the key 'labels'."
                )


OF_TABLES = ("label_column", "columns", "drop", "categories")
OF_TEXT = ("header", "row_names", "separator", "decimal", "encoding")
TEXTS = ".csv, .tsv and .txt files"
TABLES = f"tables with columns ({TEXTS})"
