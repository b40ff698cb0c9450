"""How wide the interval for log p(x) is, on data that the model made: what a lower bound on real data may miss."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from vem.contracts import GenerativeModel, LogMarginal, Posterior
from vem.evaluation.bounds.annealing import with_starts
from vem.evaluation.bounds.annealing_path import Annealing
from vem.evaluation.bounds.bidirectional import enclose
from vem.evaluation.kept import Piece, join, plain
from vem.evaluation.paired import estimate, sample
from vem.evaluation.watch import Watch
from vem.noise import fill, generator
from vem.numerics import mean_and_se
from vem.storage.records import number

Start = Callable[[Tensor, int], tuple[Posterior | None, Tensor]]


def simulated(
    model: GenerativeModel,
    num: int,
    dtype: torch.dtype,
    device: torch.device,
    settings: Annealing,
    start: Start,
    *,
    seed: int,
    chunk: int,
    keep: Callable[[str, Callable[[], Piece]], Piece],
    watch: Watch,
) -> dict[str, Any]:
    """Bidirectional Monte Carlo on ``num`` pairs (z, x) from the model, ready for JSON; nats per datum.

    ``start`` gives, for some x and the number of their chunk, the q to anneal from and the decoder gradients
    [B] that its search took. The widths are means of upper − lower; the interval holds for simulated data.
    """
    noise = fill(model.sample_noise(num), generator(device, seed, "simulated"), dtype)
    with torch.no_grad():
        z, x = model.sample(noise)
    pieces = []
    for index, rows in enumerate(torch.arange(num, device=device).split(chunk)):

        def enclosed(index: int = index, rows: Tensor = rows) -> Piece:
            posterior, spent = start(x[rows], index)
            watch.stage("simulated: annealing")
            named = ("pilot", "annealing", "modes")
            pilot, stream, modes = (generator(device, seed, "simulated", name, index) for name in named)
            found = enclose(model, z[rows], x[rows], posterior, settings, pilot, stream, watch.tick, modes)
            gradients = spent.double().cpu() + found.decoder_gradients
            piece: Piece = plain({"bound": found.log_marginal, "gradients": gradients})
            watch.done()
            return piece

        pieces.append(keep(f"simulated-{index:04d}", enclosed))
    joined = join(pieces)
    return _summary(LogMarginal(**joined["bound"]), joined["gradients"])


def _summary(bound: LogMarginal, gradients: Tensor) -> dict[str, Any]:
    assert bound.lower is not None and bound.upper is not None
    width = (bound.upper - bound.lower).double()
    mean, se = mean_and_se(width)
    return {
        "num_data": len(width),
        "kind": with_starts(bound.kind, bound.diagnostics),
        "lower": estimate(sample(bound.lower, bound.diagnostics.get("mc_variance"))),
        "upper": estimate(sample(bound.upper)),
        "width": {"mean": number(mean), "se": number(se, "one datum has no spread"), "max": number(float(width.max()))},
        "decoder_gradients": number(float(gradients.mean())),
    }
