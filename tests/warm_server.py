"""The process that :mod:`warm` forks: it has imported what vem imports, and nothing of vem itself.

It reads one JSON request a line: a job to start, answered by its pid, or a pid to look at, answered by its
exit code, or null while it runs. A child leaves the loop and runs its job as ``python`` would; the server that the jobs
of its sweep are forked from is forked as well.
"""

from __future__ import annotations

import atexit
import contextlib
import gc
import json
import os
import runpy
import sys
import traceback
import types
from collections.abc import Sequence
from multiprocessing import forkserver, util
from typing import IO, Any, NoReturn


def import_what_vem_imports() -> None:
    """A fork has torch, Hydra and matplotlib in memory; vem's own modules it imports for itself."""
    import torch._dynamo  # the first optimizer imports it
    from matplotlib.figure import Figure

    import vem.cli.train  # which the command line imports late, and with it pandas and scipy
    import vem.evaluate
    import vem.report.__main__
    import vem.report.summary
    import vem.run  # noqa: F401

    for name in [name for name in sys.modules if name.split(".")[0] == "vem"]:
        del sys.modules[name]
    import torch

    Figure.draw = lambda self, renderer: None  # figures are made and saved, and empty: painting takes longer than a run
    torch.set_num_threads(1)
    gc.collect()
    gc.freeze()  # a collection in a child would copy every page
    tasks = "/proc/self/task"
    assert not os.path.isdir(tasks) or len(os.listdir(tasks)) == 1, "a fork would lose the other threads"


def serve(requests: IO[str], answers: IO[str]) -> dict[str, Any] | None:
    """The job, in the child that runs it; None in the server, once nobody asks any more."""
    ended: dict[int, int] = {}
    for line in requests:
        request = json.loads(line)
        if "look" in request:
            pid = request["look"]
            if pid not in ended:
                found, status = os.waitpid(pid, os.WNOHANG)
                if found:
                    ended[pid] = os.waitstatus_to_exitcode(status)
            answer = ended.get(pid)
        else:
            answer = os.fork()
            if answer == 0:
                return request
        print(json.dumps(answer), file=answers, flush=True)
    return None


spawn = util.spawnv_passfds


def fork_instead(path: bytes, arguments: Sequence[str], kept: Sequence[int]) -> int:
    """What :mod:`multiprocessing` starts: its fork server from this process, anything else as ever."""
    if "forkserver import main" not in str(arguments[-1]):
        return spawn(path, arguments, kept)
    pid = os.fork()
    if pid == 0:
        for fd in map(int, os.listdir("/proc/self/fd")):
            if fd > 2 and fd not in kept:
                with contextlib.suppress(OSError):  # the one that the list was read from
                    os.close(fd)
        try:
            exec(arguments[-1], {})
        finally:
            os._exit(0)  # the jobs themselves end elsewhere
    return pid


def start_the_server_of_jobs() -> None:
    """Before the sweep has threads, whose locks a fork would copy."""
    from vem.sweep import isolated

    forkserver.set_forkserver_preload(isolated.PRELOADED)
    forkserver.ensure_running()


def run(job: dict[str, Any]) -> None:
    """As ``python -m MODULE …`` or ``python -c CODE …`` in ``job["cwd"]``."""
    if job["session"]:
        os.setsid()
    for number, path in ((1, job["out"]), (2, job["err"])):
        file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        os.dup2(file, number)
        os.close(file)
    os.chdir(job["cwd"])
    os.environ.clear()
    os.environ.update(job["env"])
    kind, what, *arguments = job["command"]
    sys.path[0] = job["cwd"] if kind == "-m" else ""
    sys.argv = ["-c" if kind == "-c" else what, *arguments]
    if what == "vem.run" and "-m" in arguments and os.path.isdir("/proc/self/fd"):
        util.spawnv_passfds = fork_instead
        start_the_server_of_jobs()
    if kind == "-m":
        runpy.run_module(what, run_name="__main__", alter_sys=True)
    else:
        sys.modules["__main__"] = main = types.ModuleType("__main__")
        exec(compile(what, "<string>", "exec"), vars(main))


def end(job: dict[str, Any]) -> NoReturn:
    """Run it and end with its exit code, less the interpreter's second of taking every module apart."""
    code = 0
    try:
        run(job)
    except SystemExit as left:
        code = left.code if isinstance(left.code, int) else int(left.code is not None)
        if isinstance(left.code, str):
            print(left.code, file=sys.stderr)
    except BaseException:
        code = 1
        traceback.print_exc()
    atexit._run_exitfuncs()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


if __name__ == "__main__":
    import_what_vem_imports()
    # The pipes get numbers of their own: 0, 1 and 2 are the children's.
    pipes = os.fdopen(os.dup(0)), os.fdopen(os.dup(1), "w")
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    os.dup2(2, 1)
    job = serve(*pipes)
    if job is not None:
        for pipe in pipes:
            pipe.close()
        end(job)
