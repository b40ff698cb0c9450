"""``sweeper=optuna``: says at the end which values were the best."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import yaml
from hydra.experimental.callback import Callback
from omegaconf import DictConfig

RESULTS = "optimization_results.yaml"  # written by the sweeper


class Best(Callback):
    """Hydra's hook, which Hydra calls once the search has come to its end."""

    def on_multirun_start(self, config: DictConfig, **kwargs: Any) -> None:
        import optuna

        # The sweep has its one line, a trial that fails is told there, and the end says the best.
        optuna.logging.set_verbosity(optuna.logging.WARNING)
        logging.getLogger("hydra_plugins.hydra_optuna_sweeper").setLevel(logging.ERROR)

    def on_multirun_end(self, config: DictConfig, **kwargs: Any) -> None:
        print(best(Path(config.hydra.sweep.dir)))


def best(sweep: Path) -> str:
    """The best values of a search and their validation ELBO, in a sentence."""
    found = yaml.safe_load((sweep / RESULTS).read_text(encoding="utf-8"))
    values = ", ".join(f"{key}={value}" for key, value in found["best_params"].items())
    return f"The best validation ELBO, {found['best_value']:.3f} nats per datum, has {values} ({sweep / RESULTS})."
