"""``sweeper=optuna``: says at the end which values were the best."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from decimal import Decimal
from pathlib import Path
from typing import Any

import yaml
from hydra.core.override_parser.types import Override, RangeSweep
from hydra.experimental.callback import Callback
from omegaconf import DictConfig, OmegaConf

from vem.cli.messages import PastHydra
from vem.errors import VemError
from vem.sweep.plan import typed_in

RESULTS = "optimization_results.yaml"  # written by the sweeper


class Best(Callback):
    """Hydra's hook, which Hydra calls once the search has come to its end."""

    def on_multirun_start(self, config: DictConfig, **kwargs: Any) -> None:
        """Raises PastHydra: of an Exception in a callback, Hydra makes a warning and goes on."""
        import optuna

        try:
            if OmegaConf.select(config, "evaluation.num_data") == 0:
                raise VemError(
                    "sweeper=optuna seeks the best validation ELBO, and no trial has one with evaluation=none "
                    "(evaluation.num_data=0): take evaluation=quick."
                )
            refuse(typed_in(config), grid=str(config.hydra.sweeper.sampler._target_).endswith("GridSampler"))
        except VemError as error:
            raise PastHydra(error) from error
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


def refuse(typed: Sequence[Override], grid: bool = False) -> None:
    """A search is over parameters, and a range means what it means in any other sweep: its end is not tried.

    ``grid``: the sampler is Optuna's grid, which leaves the end out.

    Raises:
        VemError: the seed is sought, or a range whose end Hydra's Optuna sweeper would try.
    """
    for override in typed:
        if not override.is_sweep_override():
            continue
        if override.key_or_group == "seed":
            raise VemError(
                f"{override.input_line}: a seed is no parameter to tune, for the search would prefer a lucky one. Give "
                "one seed here (seed=0), and run the best values under several in a sweep: python -m vem.run -m "
                "KEY=BEST seed=0,1,2."
            )
        value = override.value()
        if isinstance(value, RangeSweep) and not value.shuffle and not grid:
            _refuse_its_end(override.key_or_group, value)


def _refuse_its_end(key: str, values: RangeSweep) -> None:
    start, stop, step = (Decimal(str(number)) for number in (values.start, values.stop, values.step))
    if step <= 0 or stop <= start or (stop - start) % step:
        return
    whole = all(isinstance(number, int) for number in (values.start, values.stop, values.step))
    if whole and step == 1:
        without, including = (f"int(interval({start},{end}))" for end in (stop - 1, stop))
    else:
        part = 1 if whole else step / 2
        without, including = (f"range({start},{end},{step})" for end in (stop - part, stop + part))
    raise VemError(
        f"{key}=range({start},{stop}{'' if step == 1 else f',{step}'}): in a sweep a range ends before {stop}, but "
        f"Hydra's Optuna sweeper would try it. Write '{key}={without}' without it, '{key}={including}' with it."
    )
