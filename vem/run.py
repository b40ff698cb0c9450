"""``python -m vem.run``: one run = one directory; ``-m`` sweeps.

Exit code 0, or 1 after one message that names the value, the place and the remedy.
"""

from __future__ import annotations

import logging
import os
import sys
from pathlib import Path
from typing import Any

import hydra
from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf

from vem import command
from vem.errors import VemError

log = logging.getLogger("vem")

# What a sweep leaves behind for main(): the task's jobs run inside Hydra, whose return value is lost.
_sweep: dict[str, Any] = {"directory": None, "failed": 0}

OmegaConf.register_new_resolver("vem.folder", command.folder_name, replace=True)


@hydra.main(version_base="1.3", config_path=str(command.config_directory()), config_name="config")
def task(config: DictConfig) -> float | None:
    """One run. In a sweep its failure is recorded, costs only itself, and counts as NaN for a sweeper."""
    from vem import execute

    hydra_config = HydraConfig.get()
    sweeping = hydra_config.mode == RunMode.MULTIRUN
    directory = Path(hydra_config.runtime.output_dir)
    if sweeping:
        _sweep["directory"] = Path(hydra_config.sweep.dir)
    try:
        return execute.execute(command.resolved(config), list(hydra_config.overrides.task), directory)
    except Exception as error:
        if not sweeping or execute.stops_a_sweep(error):
            raise
        _sweep["failed"] += 1
        log.error("%s: %s", directory.name, command.message(error))
        return float("nan")


def main() -> None:
    """The command line."""
    os.environ["HYDRA_FULL_ERROR"] = "1"  # Hydra then hands every exception over, composition errors too
    code = 0
    try:
        task()
    except VemError as error:
        print(f"vem: {error}", file=sys.stderr)
        code = 1
    except KeyboardInterrupt:
        print("vem: stopped by Ctrl-C before training had begun.", file=sys.stderr)
        code = 1
    except Exception as error:
        explained = command.explain(error)
        if explained is None:
            raise
        print(f"vem: {explained}", file=sys.stderr)
        code = 1
    finally:
        if _sweep["directory"] is not None:
            command.report(_sweep["directory"])
    sys.exit(1 if _sweep["failed"] else code)


if __name__ == "__main__":
    main()
