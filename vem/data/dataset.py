"""What a data set is to the rest of vem: three splits, each one tensor on the device."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Literal

import torch
from torch import Tensor

from vem.contracts import TrainingSet
from vem.data.rounding import narrowed
from vem.data.rounding import notes as lost_by_rounding
from vem.errors import VemError
from vem.noise import generator
from vem.storage.records import SPLITS


@dataclass(frozen=True)
class Split:
    """One part of a data set: x [N, *X], labels [N] (int64) or None."""

    x: Tensor
    labels: Tensor | None = None

    def __len__(self) -> int:
        return self.x.shape[0]

    def take(self, rows: Tensor | slice) -> Split:
        """These rows of it."""
        return Split(self.x[rows], None if self.labels is None else self.labels[rows])


@dataclass(frozen=True)
class Data:
    """A data set: a batch is an index into one tensor.

    ``kind`` says what x is: ``binary`` (0 or 1, the Bernoulli unit) or ``real``. With ``redrawn`` the
    training x is a Bernoulli draw from the grey levels kept in ``train.x``, made anew each epoch from
    ``seed``; valid and test are drawn once. ``truth`` holds what a synthetic set was made from; what it
    holds per datum is named z_train, z_valid, z_test.
    """

    name: str
    train: Split
    valid: Split
    test: Split
    kind: Literal["binary", "real"]
    image_shape: tuple[int, int] | None = None
    redrawn: bool = False
    seed: int = 0
    truth: Mapping[str, Tensor] = field(default_factory=dict)
    notes: tuple[str, ...] = ()

    @property
    def event_shape(self) -> tuple[int, ...]:
        """*X."""
        return tuple(self.train.x.shape[1:])

    def split(self, name: str) -> Split:
        """The split of that name."""
        return {"train": self.train, "valid": self.valid, "test": self.test}[name]

    def with_x(self, change: Callable[[str, Tensor], Tensor], **fields: Any) -> Data:
        """The same data with another x of every split (its name and x → x), and other ``fields``."""
        parts = {name: self.split(name) for name in SPLITS}
        fields |= {name: replace(part, x=change(name, part.x)) for name, part in parts.items()}
        return replace(self, **fields)

    def train_x(self, epoch: int) -> Tensor:
        """The training x of an epoch [N, *X]: the same tensor each time unless the data are redrawn."""
        if not self.redrawn:
            return self.train.x
        return torch.bernoulli(self.train.x, generator=generator(self.train.x.device, self.seed, "binarize", epoch))

    def training_set(self) -> TrainingSet:
        """What a strategy sees when it is set up."""
        return TrainingSet(self.train_x(0), self.redrawn)

    def to(self, device: torch.device | str, dtype: torch.dtype) -> Data:
        """The same data elsewhere, x in another floating type; ``notes`` say what that rounds away.

        Raises:
            VemError: a number is too large for the type, or rounding makes all training data equal.
        """
        narrow = self.with_x(lambda name, x: narrowed(x, dtype, f"data={self.name}: the {name} split"))
        parts = [narrow.split(name) for name in SPLITS]
        # Numbers within rounding of 0 and 1 are no others once they are rounded.
        rounded = self.kind == "real" and any(narrow.split(n).x.dtype != self.split(n).x.dtype for n in SPLITS)
        train, valid, test = (
            Split(part.x.to(device), None if part.labels is None else part.labels.to(device)) for part in parts
        )
        return replace(
            self,
            train=train,
            valid=valid,
            test=test,
            kind="binary" if rounded and all(is_binary(part.x) for part in parts) else self.kind,
            notes=(*self.notes, *lost_by_rounding(self.train.x, narrow.train.x, self.name)),
            truth={k: v.to(device, dtype) if v.is_floating_point() else v.to(device) for k, v in self.truth.items()},
        )


def is_binary(x: Tensor) -> bool:
    """Whether x holds 0 and 1 alone."""
    # Real data are told by their first row, without a pass over all of them.
    return bool(((x[0] == 0) | (x[0] == 1)).all()) and bool(((x == 0) | (x == 1)).all())


def check(data: Data) -> Data:
    """The data, with VemError for what no strategy can learn from.

    That is a split that is empty, not finite or without a label for each datum, and constant training data.
    """
    for name in SPLITS:
        x = data.split(name).x
        if x.dim() < 2:
            raise VemError(
                f"data={data.name}: the {name} split has shape {tuple(x.shape)}; x must be [N, D] or [N, "
                "height, width]. One number per datum: reshape it to [N, 1]."
            )
        if x.numel() == 0:
            raise VemError(f"data={data.name}: the {name} split is empty (shape {tuple(x.shape)}).")
        # The extremes are NaN or infinite if any number is: ten times as fast as looking at each.
        if not torch.isfinite(torch.stack(torch.aminmax(x))).all():
            bad = ~torch.isfinite(x).flatten(1).all(1)
            raise VemError(
                f"data={data.name}: {int(bad.sum())} of {len(x)} {name} rows hold NaN or infinite values, "
                f"the first is row {int(bad.nonzero()[0])}. Remove or impute them."
            )
        labels = data.split(name).labels
        if labels is not None and labels.shape != (len(x),):
            raise VemError(
                f"data={data.name}: the {name} split has {len(x)} rows and labels of shape "
                f"{tuple(labels.shape)}; give one label per row."
            )
    first = data.train.x[:1]
    # Nearly always the first few differ, and the pass over all of them is spared.
    if bool((data.train.x[:9] == first).all() and (data.train.x == first).all()):
        raise VemError(
            f"data={data.name}: all {len(data.train)} training data are equal, so there is nothing to learn. "
            "Look at the file, at data.binarize and at data.max_train."
        )
    return data
