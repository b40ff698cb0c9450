"""Writing and reading a table as text, for the tests of its reading."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from vem.data.arrays import read_table
from vem.data.reading import Wishes

Options = dict[str, Any]


def written(folder: Path, content: str | bytes, name: str = "t.csv") -> Path:
    path = folder / name
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


def read(path: Path, **options: Any) -> tuple[list[list[float]], list[Any] | None, str]:
    """x, labels and what is said."""
    arrays, notes = read_table(path, Wishes(**options))
    assert arrays["x"].dtype == np.float64
    labels = arrays.get("labels")
    return arrays["x"].tolist(), None if labels is None else labels.tolist(), "\n".join(notes)


def lines(*rows: str) -> str:
    return "\n".join(rows) + "\n"
