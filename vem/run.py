"""``python -m vem.run``: one run = one directory; ``-m`` sweeps.

Exit code 0, or 1 after one message that names the value, the place and the remedy.
"""

from __future__ import annotations

import math
import os
import sys
from pathlib import Path
from typing import Any

import hydra
from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf

from vem.cli import messages, typed
from vem.storage import streams
from vem.sweep import ending, isolated, keys, plan, stopping
from vem.sweep.jobs import Jobs, Work
from vem.sweep.progress import watched
from vem.training.signals import InterruptedRun, stop_requests, terminable

STOPPED = "stopped: the same command with the same hydra.run.dir, or hydra.sweep.dir, goes on."


@hydra.main(version_base="1.3", config_path=str(messages.config_directory()), config_name="config")
def task(config: DictConfig) -> float | None:
    """One run. In a sweep it has a process of its own; its failure is recorded, and has no value for a sweeper."""
    found = HydraConfig.get()
    given: Any = OmegaConf.to_container(found.overrides.task, resolve=False)  # as it was typed, ${…} and all
    overrides, directory = list(map(str, given)), Path(found.runtime.output_dir)
    if found.mode == RunMode.MULTIRUN:
        return _job(messages.resolved(config), overrides, directory)
    with stop_requests() as asked:  # an import that breaks off halfway is met again in odd places
        from vem.cli import train  # torch: not needed for --help, --cfg and a command that does not compose
    if asked.name:
        raise messages.PastHydra(InterruptedRun(STOPPED))
    try:
        return train.execute(messages.resolved(config), overrides, directory)
    except Exception as error:
        raise messages.PastHydra(error) from error


def _job(config: dict[str, Any], overrides: list[str], directory: Path) -> float | None:
    """One job of a sweep, wherever the launcher put it.

    A job has one thread unless ``threads`` says otherwise: n jobs on n cores do not fight, and the last bits of its
    numbers do not depend on the launcher.
    """
    if plan.current.listener is None and HydraConfig.get().runtime.choices.get("hydra/launcher") == "joblib":
        stopping.leave_the_terminal_to_the_command()
    content = OmegaConf.to_container(HydraConfig.get().job_logging, resolve=True)
    assert isinstance(content, dict)
    work = Work(
        config={**config, "threads": 1 if config["threads"] is None else config["threads"], "progress": False},
        overrides=tuple(overrides),
        directory=directory,
        sweep=directory.parent,
        start=os.environ.get(plan.START, ""),
        logging=isolated.without_console({str(k): v for k, v in content.items()}),
    )
    ended = isolated.run(work)
    if ended.signal is not None:  # to the sweep, or its worker; one that was sent to the job alone costs the job alone
        said = ended.outcome.message or f"stopped by {ended.signal}: the same command goes on."
        raise messages.PastHydra(InterruptedRun(said))
    return None if math.isnan(ended.value) else ended.value


def main() -> None:
    """The command line; it goes on where nobody reads what it prints."""
    with streams.outlived():
        _main()


def _main() -> None:
    misplaced = typed.misplaced(sys.argv[1:])
    if misplaced:
        sys.exit(messages.complain(misplaced))
    os.environ["HYDRA_FULL_ERROR"] = "1"  # Hydra then hands every exception over, composition errors too
    with terminable(), keys.each_its_own(), watched() as sweeps:
        error = _error_of_task(sweeps)
    if sweeps:
        sys.exit(ending.end(sweeps[0], error, messages.complain))
    sys.exit(0 if error is None else messages.complain(error))


def _error_of_task(sweeps: list[Jobs]) -> BaseException | None:
    """Run, or sweep; returns what went wrong. A launcher that breaks is started again for the jobs that are left."""
    error, ended = _once(), -1
    try:
        while (more := ending.worth_another_go(sweeps, error, ended)) is not None:
            error, ended = _once(), more
    except KeyboardInterrupt:
        error = InterruptedRun(STOPPED)
    return error


def _once() -> BaseException | None:
    try:
        task()
    except messages.PastHydra as carried:
        return carried.args[0] if isinstance(carried.args[0], BaseException) else carried
    except KeyboardInterrupt:
        return InterruptedRun(STOPPED)
    except Exception as error:  # Hydra's own
        return messages.no_folder(error) if isinstance(error, OSError) else error
    return None


if __name__ == "__main__":
    main()
