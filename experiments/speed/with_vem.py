"""vem as a user runs it: the config composed from overrides, the real loop, no directory, no validation."""

from __future__ import annotations

from typing import Any

import torch
from data import training_x
from worker import Gate, Task

from vem.cli.messages import composed
from vem.config.build import build_model, resolve_likelihood
from vem.config.targets import instantiate
from vem.contracts import StepInfo, Strategy
from vem.data.dataset import Data, Split
from vem.training.fit import fit


class Gated:
    """A strategy that lets the gate count its steps; the loop between two steps belongs to the time."""

    def __init__(self, strategy: Strategy, gate: Gate) -> None:
        self.strategy, self.gate, self.ready = strategy, gate, False

    def __getattr__(self, name: str) -> Any:
        return getattr(self.strategy, name)

    def step(self, *args: Any) -> StepInfo:
        """One step; the first waits for the turn, for everything before it was set up."""
        if self.ready:
            self.gate()
        else:
            self.gate.notes.update(memory(self.strategy))
            self.ready = True
            self.gate.wait()
        info = self.strategy.step(*args)
        self.gate.notes.setdefault("decoder_passes", info.decoder_evaluations / len(args[1].x))
        return info


def memory(strategy: Strategy) -> dict[str, int]:
    """The size of the table of λ with its moments, where there is one."""
    table = getattr(strategy, "table", None)
    if table is None:
        return {}
    tensors = [table.rows.params, *table.rows.moments.values(), table.rows.steps]
    return {"table_bytes": sum(t.numel() * t.element_size() for t in tensors)}


def run(task: Task, gate: Gate, overrides: list[str]) -> None:
    """Train for ever; ``overrides`` are what a user would type after ``python -m vem.run``."""
    torch.set_num_threads(task.threads)
    settings = [
        f"device={task.device}", f"latent_dim={task.latent_dim}", f"model.decoder.widths={list(task.widths)}",
        f"training.batch_size={task.batch_size}", f"training.rate={task.rate}", "training.valid_data=0",
        # As many records as epochs: a record's cost is in every epoch, which is more often than by default.
        "training.epochs=1000000", "training.records=1000000",
    ]  # fmt: skip
    config = composed(settings + overrides)
    x = torch.from_numpy(training_x(task.data))
    gate.notes["data_bytes"] = x.numel() * x.element_size()
    data = Data("benchmark", Split(x), Split(x[:1]), Split(x[:1]), "binary").to(task.device, torch.float32)
    del x
    if task.device == "cuda":
        gate.finish_device = torch.cuda.synchronize
    model = build_model(config, data, resolve_likelihood(config["model"], data)).to(task.device)
    strategy = Gated(instantiate(config["strategy"], "strategy"), gate)
    fit(model, strategy, data, instantiate(config["training"], "training"), progress_bar=False)
