"""A first look at a model trained elsewhere: shapes, axes, randomness, numbers that are not finite."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from vem.errors import VemError
from vem.external.borrowed import called, can_sample, few, point, prior_draws

BATCH_NORM = (
    "Is there a batch norm in training mode? Call eval() on the module behind it, or pass that module as decoder=."
)
CUT = (
    "The best q and annealing follow this gradient. Is there a z.detach(), .data, torch.no_grad or numpy in the "
    "decoder or the log-likelihood? Take it out: torch operations all the way from z to log p(x | z)."
)
PROBES = 64  # prior draws at which a model is looked at
DRAWS, DATA = 2, 3  # S and B that differ, so that swapped axes show
# Rounding of the same numbers in a batch of another size, on a device that may use another kernel for it.
ROUNDING = (1e-2, 3e-3)  # absolute, nats, and relative
SLOPES = 8  # prior draws at which the gradient in z is compared with differences of log p
STEPS = (1e-2, 1e-1)  # of z; the longer one for a decoder that computes in half precision


@torch.no_grad()
def outputs_of(decoder: Callable[[Tensor], Any], name: str, z: Tensor) -> Tensor:
    """The decoder's output at z [N, H]; VemError if it does not take z, or is not one tensor with a row for each."""
    size = z.shape[-1]
    must = f"It must map [N, latent_dim] to [N, *event shape of x]; latent_dim={size}."
    output = called(decoder, z, failed=(f"decoder={name} does not take z [N, {size}]", must))
    if not isinstance(output, Tensor):
        raise VemError(
            f"decoder={name} gives a {type(output).__name__}, and a named likelihood needs one tensor [N, *event shape "
            "of x]: pass likelihood= a callable log p(x | z) instead, (x [B, *X], z [S, B, H]) → [S, B]."
        )
    if output.dim() < 2 or len(output) != len(z):
        raise VemError(
            f"decoder={name} maps {list(z.shape)} to {list(output.shape)}: [{len(z)}, *event shape of x] was expected."
        )
    bad = (~output.isfinite()).flatten(1).any(1).nonzero().flatten()
    if len(bad):
        raise VemError(
            f"decoder={name} gives NaN or infinite outputs for {len(bad)} of {len(z)} draws of z from the prior (such "
            f"as z = {point(z[bad[0]])}): mend the decoder, or clamp what overflows in it."
        )
    return output


def check_outputs(outputs: Tensor, name: str, likelihood: str) -> None:
    """VemError if these outputs [N, *X] do not look like what the likelihood takes: logits, probabilities."""
    low, high = float(outputs.min()), float(outputs.max())
    came = f"decoder={name} gives numbers from {low:.3g} to {high:.3g} on {len(outputs)} draws from the prior"
    # A decoder that gives the same number everywhere (0 before training) says nothing.
    if likelihood == "bernoulli" and 0 <= low < high <= 1:
        raise VemError(
            f"{came}: these are probabilities (does it end in a sigmoid?), and likelihood='bernoulli' takes logits. "
            "Say likelihood='bernoulli_probs'."
        )
    if likelihood == "bernoulli_probs" and not 0 <= low <= high <= 1:
        raise VemError(
            f"{came}, and likelihood='bernoulli_probs' takes probabilities. If they are logits, say "
            "likelihood='bernoulli'."
        )


@torch.no_grad()
def probe(model: Any, x: Tensor) -> None:
    """Look at log p(x | z), log p(z) and the sampler of a model in evaluation mode; x [N, *X].

    VemError for a shape that was not expected; values that are random, that depend on what else is in the batch,
    or that are NaN or +∞ for some z from the prior; a gradient in z that is cut or wrong.
    """
    size = model.latent_size
    rows = torch.arange(DATA, device=x.device) % len(x)
    z = prior_draws(DRAWS * DATA, size, x).reshape(DRAWS, DATA, size)
    value = _density(model.log_likelihood, "log_likelihood(x, z)", x.shape[1:], x=x[rows], z=z)
    _check_steady(model, x[rows], z, value)
    _density(model.log_prior, "log_prior(z)", z.shape[2:], z=z)
    data = x[:8]
    z = prior_draws(PROBES, size, x)[:, None].expand(-1, len(data), -1)
    for name, found in (("log p(x | z)", model.log_likelihood(data, z)), ("log p(z)", model.log_prior(z))):
        bad = (found.isnan() | (found == torch.inf)).any(1).nonzero().flatten()
        if len(bad):
            raise VemError(
                f"{name} is NaN or +∞ for {len(bad)} of {PROBES} draws of z from the prior (such as z = "
                f"{point(z[bad[0], 0])}), in data {few(found.isfinite().logical_not().any(0).nonzero().flatten())}: "
                "mend the decoder, or clamp what overflows in it."
            )
    _check_gradient(model, x[rows])
    if can_sample(model):
        _check_sample(model, x)


def _density(function: Callable[..., Any], name: str, event: torch.Size, **arguments: Tensor) -> Tensor:
    """What it gives, which must be of shape [S, B]; summed over the ``event``."""
    shapes = [f"{key} {list(a.shape)}" for key, a in arguments.items()]
    must = (
        "It must take x [B, *X] and z [S, B, H], S draws for each datum, and give [S, B]; a decoder that takes [N, H] "
        "gets z.flatten(0, 1)."
    )
    fails = f"{name} fails on tensors of shape {' and '.join(str(list(a.shape)) for a in arguments.values())}"
    value = called(function, *arguments.values(), failed=(fails, must))
    if not isinstance(value, Tensor):
        raise VemError(f"{name} gives a {type(value).__name__}: a tensor [S, B] was expected.")
    s, b = DRAWS, DATA
    shape = tuple(value.shape)
    if shape == (s, b):
        return value
    known = {
        (b, s): "[B, S] came, [S, B] was expected: transpose it.",
        (s, b, *event): "one number for each entry of the event came: sum over the event.",
        (s, b, event.numel()): "one number for each entry of the event came: sum over the event.",
        (b,): "[B] came: keep the axis of the draws, do not sum or average over it.",
        (s,): "[S] came: keep the axis of the data, do not sum or average over it.",
        (s * b,): "[S · B] came: reshape it to [S, B].",
        (): "one number came: keep one for each draw and datum, do not sum or average over them.",
    }
    raise VemError(
        f"{name} gives shape {list(shape)}, and [S, B] = {[s, b]} was expected for {', '.join(shapes)}"
        + (f": {known[shape]}" if shape in known else ".")
    )


def _check_steady(model: Any, x: Tensor, z: Tensor, value: Tensor) -> None:
    """The same value again, and alone: nothing random, no mixed axes, no batch statistics."""
    again = (model.log_likelihood(x, z) - value).abs().nan_to_num(0)
    if bool((again > 1e-4 * (1 + value.abs())).any()):
        raise VemError(
            f"log p(x | z) is random: two evaluations at the same x and z differ by {float(again.max()):.3g} nats. Is "
            "there dropout in training mode? Call eval() on the module behind it, or pass that module as decoder=."
        )
    absolute, relative = ROUNDING
    for s in range(DRAWS):
        for b in range(DATA):
            try:
                alone = model.log_likelihood(x[b : b + 1], z[s : s + 1, b : b + 1]).reshape(())
            except (RuntimeError, ValueError, VemError) as error:
                raise VemError(f"log p(x | z) fails on one datum and one draw: {error}. {BATCH_NORM}") from error
            off = float((alone - value[s, b]).abs())
            if off > absolute + relative * float(value[s, b].abs()):
                raise VemError(
                    f"log p(x | z) of a datum alone and in a batch differ by {off:.3g} nats: entry [s, b] must be of "
                    f"x[b] and z[s, b] and nothing else. Are the axes mixed up? {BATCH_NORM}"
                )


def _check_gradient(model: Any, x: Tensor) -> None:
    """∇_z log p(x | z) along a random direction is what differences of log p say, at most z.

    A q* that follows a gradient with a part cut off is no best q, and nothing later would show it.
    """
    z, direction = prior_draws(2 * SLOPES, model.latent_size, x)[:, None].expand(-1, len(x), -1).chunk(2)
    direction = direction / direction.norm(dim=-1, keepdim=True)
    value, gradient = _value_and_gradient(model, x, z)
    slope = (gradient * direction).sum(-1)
    known, wrong, moved = value.isfinite(), torch.ones_like(value, dtype=torch.bool), torch.zeros_like(value)
    for step in STEPS:
        change = model.log_likelihood(x, z + step * direction) - model.log_likelihood(x, z - step * direction)
        known &= change.isfinite()
        rounding = 100 * torch.finfo(x.dtype).eps * (1 + value.abs())
        largest = torch.maximum(change.abs(), (2 * step * slope).abs())
        wrong &= (change - 2 * step * slope).abs() > rounding + 0.25 * largest  # loose: a kink is no fault
        moved = torch.maximum(moved, change.abs() - rounding)
    if not bool(known.any()) or 2 * int((wrong & known).sum()) <= int(known.sum()):
        return
    cut = bool((gradient[known] == 0).all())
    no_gradient = "log p(x | z) changes with z and has no gradient in z"
    fault = no_gradient if cut else "the gradient of log p(x | z) in z is wrong"
    share = f"{int((wrong & known).sum())} of {int(known.sum())}"
    raise VemError(
        f"{fault}, at {share} pairs of x and a z from the prior (log p changes by up to "
        f"{float(moved[known].max()):.3g} nats over a step of {2 * STEPS[-1]:g}). {CUT}"
    )


@torch.enable_grad()  # type: ignore[untyped-decorator, unused-ignore]  # torch leaves it untyped in some versions
def _value_and_gradient(model: Any, x: Tensor, z: Tensor) -> tuple[Tensor, Tensor]:
    """log p(x | z) [S, B] and its gradient in z [S, B, H]; zero where it does not depend on z."""
    z = z.detach().clone().requires_grad_()
    try:
        value: Tensor = model.log_likelihood(x, z)
        if not value.requires_grad:
            return value, torch.zeros_like(z)
        (gradient,) = torch.autograd.grad(value.sum(), z, allow_unused=True)
    except Exception as error:  # a user's function may raise anything here
        said = str(error).rstrip(".")
        raise VemError(f"log p(x | z) fails where its gradient in z is asked for: {said}. {CUT}") from error
    return value.detach(), torch.zeros_like(z) if gradient is None else gradient


def _check_sample(model: Any, x: Tensor) -> None:
    def shapes_of_two(like: Tensor) -> list[list[int]]:
        noise = {name: torch.full(spec.shape, 0.5).to(like) for name, spec in model.sample_noise(2).items()}
        return [list(part.shape) for part in model.sample(noise)]

    shapes = called(shapes_of_two, x[:1], failed=("sample(2) fails", "It must give (z [2, H], x [2, *X])."))
    if shapes != [[2, model.latent_size], [2, *x.shape[1:]]]:
        raise VemError(
            f"sample(2) gives shapes {shapes[0]} and {shapes[1]}: z [2, {model.latent_size}] and x "
            f"{[2, *x.shape[1:]]} were expected."
        )
