"""``python -m vem.run``: one run = one directory; ``-m`` sweeps.

Exit code 0, or 1 after one message that names the value, the place and the remedy.
"""

from __future__ import annotations

import logging
import os
import sys
import traceback
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


class PastHydra(BaseException):
    """Carries a job's error, its ``__cause__``, past Hydra, which prints a line of its own about an Exception."""


@hydra.main(version_base="1.3", config_path=str(command.config_directory()), config_name="config")
def task(config: DictConfig) -> float:
    """One run. In a sweep its failure is recorded, costs only itself, and counts as NaN for a sweeper."""
    hydra_config = HydraConfig.get()
    sweeping = hydra_config.mode == RunMode.MULTIRUN
    directory = Path(hydra_config.runtime.output_dir)
    if sweeping:
        _sweep["directory"] = Path(hydra_config.sweep.dir)
    from vem import execute  # torch: not needed for --help, --cfg and a command that does not compose

    try:
        return execute.execute(command.resolved(config), list(hydra_config.overrides.task), directory)
    except Exception as error:
        if not sweeping or execute.stops_a_sweep(error):
            raise PastHydra from error
        _sweep["failed"] += 1
        log.error("%s: %s", directory.name, command.message(error))
        return float("nan")


def complain(error: BaseException | None) -> int:
    """One message on stderr for an error that the user can mend, else the traceback; returns the exit code."""
    explained = command.explain(error)
    if explained is None:
        traceback.print_exception(error)
        explained = "this error was not foreseen: it is a fault in vem, or in a module of your own."
    print(f"vem: {explained}", file=sys.stderr)
    return 1


def main() -> None:
    """The command line."""
    os.environ["HYDRA_FULL_ERROR"] = "1"  # Hydra then hands every exception over, composition errors too
    _sweep.update(directory=None, failed=0)
    code = 0
    try:
        task()
    except PastHydra as carried:
        code = complain(carried.__cause__)
    except KeyboardInterrupt:
        code = complain(VemError("stopped by Ctrl-C: the same command with the same hydra.run.dir goes on."))
    except Exception as error:  # Hydra's own
        code = complain(command.no_folder(error) if isinstance(error, OSError) else error)
    finally:
        if _sweep["directory"] is not None:
            command.report(_sweep["directory"])
    sys.exit(1 if _sweep["failed"] else code)


if __name__ == "__main__":
    main()
