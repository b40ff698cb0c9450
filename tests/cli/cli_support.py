"""What the tests of the command line share."""

from __future__ import annotations

import csv
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vem.storage import records

CHECKOUT = Path(__file__).resolve().parents[2]

# A run of a fraction of a second, on data that need no file.
SMALL = (
    *("data=blobs", "data.num=40", "data.num_valid=10", "data.num_test=10", "data.dims=3"),
    *("latent_dim=2", "training.epochs=2", "training.batch_size=20", "progress=false"),
)
TINY = (*SMALL, "model.decoder.widths=[4]")
TINY_GMM = (*SMALL, "strategy=gmm", "model.components=2")


@dataclass(frozen=True)
class Ended:
    """How a command ended."""

    code: int
    out: str
    err: str

    @property
    def text(self) -> str:
        return self.out + self.err

    def good(self) -> Ended:
        assert self.code == 0, self.text
        assert "Traceback" not in self.text
        return self

    def bad(self) -> Ended:
        """It ended in one clear message: exit code 1, one line that begins with the program's name, no traceback."""
        assert self.code == 1, self.text
        assert "Traceback" not in self.text
        assert self.err.startswith("vem: "), self.text
        assert self.err.count("vem: ") == 1, self.err
        assert "Error" not in self.out, self.out
        return self


def contents(directory: Path) -> dict[str, bytes]:
    """The bytes of every file below a directory, less the log, which every start adds to."""
    return {
        path.relative_to(directory).as_posix(): path.read_bytes()
        for path in sorted(directory.rglob("*"))
        if path.is_file() and path.name != "run.log"
    }


def killed_after(monkeypatch: Any, written: int, counts: Callable[[Path], bool] = lambda path: True) -> None:
    """Let a command write so many files, of those that count, and end it before the next one takes its place."""
    replacing, count = records.replacing, 0

    def killed(path: Path) -> Any:
        nonlocal count
        count += counts(path)
        if count > written:
            raise KeyboardInterrupt
        return replacing(path)

    monkeypatch.setattr(records, "replacing", killed)


def table(path: Path) -> list[dict[str, str]]:
    """The rows of a csv, none of whose cells is NaN or infinite."""
    with path.open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert rows
    for row in rows:
        for cell in row.values():
            assert cell.lower() not in ("nan", "inf", "-inf", "none")
    return rows
