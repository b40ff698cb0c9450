"""The user's modules: copied before use and named in messages; device, dtype and RNG state are preserved."""

from __future__ import annotations

import copy
import hashlib
import re
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import chain
from typing import Any

import torch
from torch import Tensor, nn

from vem.contracts import Posterior
from vem.errors import VemError
from vem.noise import fill, generator


def name_of(source: Any) -> str:
    """What to call it in a message."""
    return getattr(source, "__qualname__", type(source).__name__)


def module_of(source: Any) -> nn.Module | None:
    """The module that a callable is, or is a method of."""
    owner = source if isinstance(source, nn.Module) else getattr(source, "__self__", None)
    return owner if isinstance(owner, nn.Module) else None


def _evaluated(module: nn.Module) -> nn.Module:
    try:
        return module.eval()
    except NotImplementedError:  # of torch.export: its mode was fixed when it was exported, and to change it raises
        vars(module).update(train=lambda mode=True: module, eval=lambda: module)
        return module


FIXED = re.compile(r"Guard failed|is invalid for input of size|Got invalid dimensions|INVALID_ARGUMENT", re.IGNORECASE)


def called(function: Callable[..., Any], *arguments: Tensor, failed: tuple[str, str]) -> Any:
    """What the user's function gives for these tensors; VemError if it raises, with ``failed`` before and after it."""
    try:
        return function(*arguments)
    except VemError:
        raise
    except Exception as error:  # a user's module, or the checks of a distribution, may raise anything here
        fixed = ""
        if FIXED.search(str(error)):
            sizes = ", ".join(map(str, (2, *arguments[-1].shape[1 if len(arguments) == 1 else -1 :])))
            fixed = (
                " If it was exported or traced with a fixed batch size, vem needs other ones: export it with a dynamic "
                f"batch, torch.export.export(module.eval(), (torch.zeros({sizes}),), dynamic_shapes=({{0: torch.export."
                "Dim('batch')},)).module(); TorchScript: torch.jit.script in the place of trace; ONNX: dynamic_axes."
            )
        raise VemError(f"{failed[0]}: {error}. {failed[1]}{fixed}") from error


def frozen(source: Any) -> Any:
    """A copy in evaluation mode whose parameters need no gradient; a method of a module becomes the copy's.

    What is neither is given back as it is: a function's closure cannot be copied. VemError if the module cannot be.
    """
    owner = module_of(source)
    if owner is None:
        return source
    try:
        # Without no_grad the parameters of a copied ScriptModule are no leaves; a copy of an exported module warns.
        with torch.no_grad(), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            twin = _evaluated(copy.deepcopy(owner))
        for parameter in twin.parameters():  # one by one: a ScriptModule has no requires_grad_ of its own
            parameter.requires_grad_(False)
    except Exception as error:  # a user's module may raise anything here
        raise VemError(
            f"{name_of(owner)} cannot be copied ({error}), and vem measures a copy so that yours stays as it is: "
            + (
                "pass the module that the script was made from."
                if isinstance(owner, torch.jit.ScriptModule)
                else "if it is weight_norm, torch.nn.utils.parametrizations.weight_norm can be copied."
            )
        ) from error
    return twin if owner is source else getattr(twin, source.__name__)


def place(source: Any, x: Tensor) -> tuple[torch.device, torch.dtype]:
    """The device and floating type of a module's parameters; of x where it has none."""
    owner = module_of(source)
    tensors = chain(owner.parameters(), owner.buffers()) if owner is not None else iter(())
    found = next((t for t in tensors if t.is_floating_point()), x)
    return found.device, found.dtype if found.is_floating_point() else torch.get_default_dtype()


def as_data(x: Any, source: Any) -> Tensor:
    """x [N, *X] (a tensor or an array) where ``source``'s parameters are; VemError if it is no finite data."""
    try:
        x = torch.as_tensor(x).detach()
    except (TypeError, ValueError, RuntimeError) as error:
        raise VemError(f"x={type(x).__name__} is not a tensor or an array of numbers: {error}.") from error
    if x.dim() < 2 or not x.numel() or x.is_complex():
        raise VemError(f"x has shape {list(x.shape)} and type {x.dtype}: at least one datum, [N, *X], is expected.")
    bad = (~x.isfinite()).flatten(1).any(1).nonzero().flatten()
    if len(bad):
        raise VemError(f"x is not finite in {len(bad)} of {len(x)} data (rows {few(bad)}): remove or fill them.")
    return x.to(*place(source, x))


def few(rows: Tensor) -> str:
    """The first row numbers, for a message: 0, 1, 2, 3, 4, …"""
    return ", ".join(map(str, rows[:5].tolist())) + (", …" if len(rows) > 5 else "")


def point(z: Tensor) -> str:
    """A z [H] for a message: [0.50, -1.00]."""
    return "[" + ", ".join(f"{v:.2f}" for v in z[:4].tolist()) + (", …]" if len(z) > 4 else "]")


def can_sample(model: Any) -> bool:
    """Whether the model makes pairs (z, x), which bidirectional Monte Carlo needs."""
    return bool(getattr(model, "can_sample", True))


def prior_draws(num: int, size: int, x: Tensor) -> Tensor:
    """Standard normal z [num, H] for looking at a model, in the place of x; the same at every call."""
    stream = generator("cpu", "foreign", "prior")
    return torch.randn(num, size, generator=stream, dtype=torch.float64).to(x)


def noise_of(q: Posterior, num: int, x: Tensor, purpose: str) -> Tensor:
    """The noise of ``num`` draws of a continuous q, in the place of x; the same at every call."""
    spec = q.noise(num)
    assert spec is not None
    return fill({"z": spec}, generator(x.device, "foreign", purpose), x.dtype)["z"]


@contextmanager
def seeded(noise: Tensor) -> Iterator[None]:
    """Torch's global stream, seeded from the noise handed in, and put back.

    For a user's sampler, which takes no noise: the same noise gives the same draws.
    """
    head = noise.detach().flatten()[:64].double().cpu().numpy().tobytes()
    seed = int.from_bytes(hashlib.sha256(head).digest()[:8], "little") >> 1
    on_gpu = noise.device.type == "cuda"
    with torch.random.fork_rng(devices=[noise.device] if on_gpu else []):
        torch.default_generator.manual_seed(seed)
        if on_gpu:
            with torch.cuda.device(noise.device):
                torch.cuda.manual_seed(seed)
        yield
