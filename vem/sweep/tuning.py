"""``sweeper=optuna``: says at the end which values were the best."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import yaml
from hydra.experimental.callback import Callback
from omegaconf import DictConfig, OmegaConf

from vem.command import PastHydra
from vem.errors import VemError

RESULTS = "optimization_results.yaml"  # written by the sweeper


class Best(Callback):
    """Hydra's hook, which Hydra calls once the search has come to its end."""

    def on_multirun_start(self, config: DictConfig, **kwargs: Any) -> None:
        """Raises PastHydra: of an Exception in a callback, Hydra makes a warning and goes on."""
        import optuna

        if OmegaConf.select(config, "evaluation.num_data") == 0:
            raise PastHydra(
                VemError(
                    "sweeper=optuna seeks the best validation ELBO, and no trial has one with evaluation=none "
                    "(evaluation.num_data=0): take evaluation=quick."
                )
            )

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
