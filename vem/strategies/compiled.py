"""torch.compile around the bound and its gradient, where the user asks for it."""

from __future__ import annotations

import copy
import os
import shutil
from collections.abc import Callable
from typing import Any, TypeVar, cast

import torch

from vem.errors import VemError

F = TypeVar("F", bound=Callable[..., Any])


def compiled(function: F, wanted: bool, device: torch.device) -> F:
    """``torch.compile(function)`` if ``wanted``, else the function itself.

    Compilation takes some ten to thirty seconds once for each batch size, so it pays on long runs only.

    Raises:
        VemError: there is no C++ compiler to compile for a CPU with.
    """
    if not wanted:
        return function
    if device.type == "cpu" and not (shutil.which(os.environ.get("CXX", "g++")) or shutil.which("clang++")):
        raise VemError(
            "strategy.compile=true needs a C++ compiler (g++ or clang++) on the PATH: take strategy.compile=false."
        )
    import torch._dynamo  # slow to import, so only where it is needed

    # torch 2.13 can take the gradient into the graph too; where it cannot, the gradient stays outside.
    options: dict[str, Any] = (
        {"trace_autograd_ops": True} if hasattr(torch._dynamo.config, "trace_autograd_ops") else {}
    )
    return cast(F, _Compiled(function, options))


class _Compiled:
    """The compiled function; a copy of it, as of a strategy on which a step is tried out, is the copy's plain one."""

    def __init__(self, function: Callable[..., Any], options: dict[str, Any]) -> None:
        self.function, self.options = function, options
        # One graph for each shape: a last, smaller batch compiles a second one instead of a slower general one.
        self.fast = torch.compile(function, dynamic=False)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        with torch._dynamo.config.patch(self.options):
            return self.fast(*args, **kwargs)

    def __deepcopy__(self, memo: dict[int, Any]) -> Any:
        return copy.deepcopy(self.function, memo)
