"""Which jobs a sweep's command means, and in which folders: known before the first one begins."""

from __future__ import annotations

import os
import shlex
import shutil
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from itertools import takewhile
from pathlib import Path
from typing import Any

from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
from hydra.core.global_hydra import GlobalHydra
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override, Quote, QuotedString
from hydra.experimental.callback import Callback
from omegaconf import DictConfig, OmegaConf, read_write

from vem.cli.messages import PastHydra, folder_name
from vem.errors import VemError
from vem.storage import ledger
from vem.sweep import keys

START = "VEM_START"  # the environment variable that tells a job which start of a sweep it belongs to
SUBDIR = "${vem.folder:${hydra.job.override_dirname}}"  # as in conf/config.yaml

Files = dict[Path, int]  # and their times


@dataclass
class Start:
    """The start of a sweep that this command is; a launcher that broke is started again within it.

    ``name`` tells it from others: its time, and the process, for a clock may be set back. ``listener`` is told of the
    sweep once it is planned: what Hydra's own main returns, and its callbacks, are its own.
    """

    listener: Callable[[ledger.Sweep], object] | None = None
    name: str = field(default_factory=lambda: f"{datetime.now(UTC):%Y%m%dT%H%M%S%f}-{os.getpid()}")
    sweep: ledger.Sweep | None = None
    before: ledger.Sweep | None = None  # the plan that stood in its directory
    queue: tuple[Path, Files] | None = None  # submitit's folder, and what it had submitted before

    def undo(self) -> None:
        """Put the plan back that stood there, for a start that came to nothing, such as one that does not compose."""
        if self.before is not None:
            ledger.write(self.before)
        elif self.sweep is not None:
            shutil.rmtree(self.sweep.directory / ledger.FOLDER, ignore_errors=True)

    def submitted(self) -> bool:
        """Whether submitit has handed a job of this start to its queue."""
        return self.queue is not None and _submissions(self.queue[0]) != self.queue[1]


current = Start()  # each command has its own: see vem.sweep.progress.watched


def _submissions(folder: Path) -> Files:
    """The files that submitit names so once a job is in the queue: a job's number may come again at another time."""
    return {path: path.stat().st_mtime_ns for path in folder.rglob("*_submitted.pkl")}


class Plan(Callback):
    """Hydra's hook: writes the plan into the sweep directory and tells the listener."""

    def on_multirun_start(self, config: DictConfig, **kwargs: Any) -> None:
        """Raises PastHydra: of an Exception in a callback, Hydra makes a warning and goes on."""
        try:
            self._plan(config)
        except Exception as error:
            raise PastHydra(error) from error

    def _plan(self, config: DictConfig) -> None:
        subdir = str(OmegaConf.to_container(config.hydra.sweep, resolve=False)["subdir"])  # type: ignore[index,call-overload]
        if subdir != SUBDIR:
            raise VemError(
                f"hydra.sweep.subdir={subdir}: a sweep's folders are named by its overrides, so that extending it "
                "moves nothing. Leave hydra.sweep.subdir alone; hydra.sweep.dir=DIR names the folder of the sweep."
            )
        here, again = Path(config.hydra.runtime.cwd), current.sweep is not None
        # ${now:…} is another directory when a launcher is started again.
        directory = here / config.hydra.sweep.dir if current.sweep is None else current.sweep.directory
        typed = typed_in(config)
        jobs = jobs_of(config, typed)
        _refuse_shared_folders(jobs)
        _tell_the_jobs(config, directory)
        told = _loader().settle(config, typed)
        _no_idle_workers(config, len(jobs) or config.hydra.sweeper.get("n_jobs", 0))  # trials at a time
        command = shlex.join(["python", "-m", "vem.run", *sys.argv[1:]])
        launcher = str(config.hydra.runtime.choices.get("hydra/launcher"))
        if not again:
            current.before = ledger.read(directory)
        if launcher in ledger.DETACHED:
            parts = (here / Path(config.hydra.launcher.submitit_folder).expanduser()).parts
            folder = Path(*takewhile(lambda part: "%" not in part, parts))  # %j is a job's number
            current.queue = folder, _submissions(folder)
        current.sweep = ledger.plan(directory, command, launcher, jobs, current.name)
        for line in [] if again else told:
            print(f"sweep: {line}", file=sys.stderr, flush=True)
        if current.listener is not None:
            current.listener(current.sweep)


def _refuse_shared_folders(jobs: Sequence[ledger.Job]) -> None:
    """Folders are named by what numbers depend on: jobs that differ in nothing else would work in one folder.

    Raises:
        VemError: two jobs of that kind.
    """
    seen: dict[str, ledger.Job] = {}
    for job in jobs:
        other = seen.setdefault(job.folder, job)
        if other is not job:
            differ = sorted(set(other.overrides) ^ set(job.overrides))
            what = f"differ in {', '.join(differ)} alone, on which no number depends" if differ else "are the same"
            raise VemError(f"two jobs of this sweep {what}: {' '.join(job.overrides)}. Name each once.")


def _tell_the_jobs(config: DictConfig, directory: Path) -> None:
    """What every job must know, wherever it runs: the sweep's folder, absolute, and which start this is.

    A worker may stand elsewhere (Ray's stand where their node was started). A job's config is composed anew, under the
    overrides that the command line gave.
    """
    said = {"hydra.sweep.dir": str(directory), f"++hydra.job.env_set.{START}": current.name}
    if os.environ.get("VEM_DATA"):
        said["++hydra.job.env_set.VEM_DATA"] = str(Path(os.environ["VEM_DATA"]).expanduser().absolute())
    with read_write(config.hydra):
        config.hydra.sweep.dir = str(directory)
        for key, text in said.items():
            config.hydra.overrides.hydra.append(f"{key}={QuotedString(text, Quote.single).with_quotes()}")


def _no_idle_workers(config: DictConfig, jobs: int) -> None:
    """Of more workers than jobs some never work; Ctrl-C kills these, and joblib then kills the others."""
    launcher = config.hydra.launcher
    if 0 < jobs < launcher.get("n_jobs", 0):
        with read_write(config.hydra):
            launcher.n_jobs = jobs


def _loader() -> keys.Loader:
    loader = GlobalHydra.instance().config_loader()
    assert isinstance(loader, keys.Loader)
    return loader


def typed_in(config: DictConfig) -> list[Override]:
    """The overrides of a sweep's jobs, those of ``hydra.sweeper.params`` among them."""
    fixed = [f"{key}={value}" for key, value in (config.hydra.sweeper.params or {}).items()]
    typed: Any = OmegaConf.to_container(config.hydra.overrides.task, resolve=False)  # ${…} is the job's to resolve
    return OverridesParser.create(config_loader=_loader()).parse_overrides([*fixed, *typed])


def jobs_of(config: DictConfig, typed: list[Override]) -> list[ledger.Job]:
    """The jobs of the default sweeper; none where another one finds them as it goes."""
    if not str(config.hydra.sweeper._target_).endswith(BasicSweeper.__name__):
        return []
    (batch,) = BasicSweeper.split_arguments(typed, max_batch_size=None)
    parser = OverridesParser.create(config_loader=_loader())
    known: dict[str, Override] = {}  # the parser takes a hundredth of a second for each string
    for text in dict.fromkeys(text for job in batch for text in job):
        (known[text],) = parser.parse_overrides([text])
    names = [keys.override_dirname(config, [known[text] for text in job]) for job in batch]
    return [ledger.Job(folder_name(name), tuple(job)) for name, job in zip(names, batch, strict=True)]
