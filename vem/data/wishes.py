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
    # of files that hold several arrays
    array: str | None = None
    label_array: str | None = None
    layer: str | None = None

    def none_but(self, meant: Collection[str], path: Path) -> None:
        """Refuse an option that this kind of file does not have.

        Raises:
            VemError: one is set that is not among ``meant``.
        """
        for field in fields(self):
            value = getattr(self, field.name)
            if field.name not in meant and value != field.default:
                raise VemError(
                    f"data.{field.name}={value} is for {_kinds(field.name)}, and data.path={path} is not one: "
                    "leave it out; the labels of an .npz stand under the key 'labels'."
                )


OF_TABLES = ("label_column", "columns", "drop", "categories")
OF_TEXT = ("header", "row_names", "separator", "decimal", "encoding")
OF_ARRAYS = ("array", "label_array")
TEXTS = ".csv, .tsv and .txt files"
TABLES = f"tables with columns ({TEXTS}, .parquet, .feather)"


def _kinds(key: str) -> str:
    """The files that an option is for."""
    if key == "label_column":
        return f"{TABLES} and .h5ad"
    if key in OF_ARRAYS:
        return ".npz and .mat files"
    return TABLES if key in OF_TABLES else ".h5ad files" if key == "layer" else TEXTS
