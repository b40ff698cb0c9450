"""Processes of their own that start warm: forked from one that has imported torch, Hydra and matplotlib.

``python -m vem.run`` spends some five seconds of processor time on importing other people's packages before its
own first line. Where a test needs a process (a signal, a working directory, an exit code) and not those imports,
it forks one here; vem itself is imported anew in each, and figures are saved empty. Cold starts are those of
``tests/cli/test_packaging.py``, and of launchers that start processes of their own.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

CHECKOUT = Path(__file__).resolve().parents[1]
COLD = {"launcher=joblib", "launcher=ray"}  # their workers do not start from a process that was itself forked


class Forked:
    """The part of :class:`subprocess.Popen` that the tests use."""

    def __init__(self, server: Warm, command: Sequence[str], files: Path, **job: Any) -> None:
        self._server, self._files = server, (files.with_suffix(".out"), files.with_suffix(".err"))
        job["command"] = list(command)
        self.args, self.returncode = command, None
        self.pid = server.ask({**job, "out": str(self._files[0]), "err": str(self._files[1])})

    def poll(self) -> int | None:
        """The exit code, minus the signal's number if one ended it; None while it runs."""
        if self.returncode is None:
            self.returncode = self._server.ask({"look": self.pid})
        return self.returncode

    def send_signal(self, number: int) -> None:
        if self.poll() is None:
            os.kill(self.pid, number)

    def kill(self) -> None:
        self.send_signal(9)

    def wait(self, timeout: float = 300) -> int:
        deadline = time.monotonic() + timeout
        while self.poll() is None:
            if time.monotonic() > deadline:
                raise subprocess.TimeoutExpired(self.args, timeout)
            time.sleep(0.005)
        return self.returncode

    def communicate(self, timeout: float = 300) -> tuple[str, str]:
        """What it has printed and complained of, once it has ended."""
        self.wait(timeout)
        out, err = (path.read_text(encoding="utf-8") for path in self._files)
        return out, err


class Warm:
    """A server, started at its first command; ``folder`` takes what its children print."""

    def __init__(self, folder: Path) -> None:
        self._folder, self._server, self._started = folder, None, 0

    def ask(self, request: dict[str, Any]) -> Any:
        if self._server is None:
            one = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")
            one["JE_ARROW_MALLOC_CONF"] = "background_thread:false"  # of pyarrow, which pandas imports
            self._server = subprocess.Popen(
                [sys.executable, str(Path(__file__).with_name("warm_server.py"))],
                env={**os.environ, **one, "PYTHONPATH": str(CHECKOUT)},
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                text=True,
            )
        print(json.dumps(request), file=self._server.stdin, flush=True)
        answer = self._server.stdout.readline()
        assert answer, "the server of warm processes has ended"
        return json.loads(answer)

    def start(
        self, *command: str, cwd: Path | None = None, env: Mapping[str, str] | None = None, session: bool = False
    ) -> Any:
        """``python COMMAND`` with this checkout's package, in a session of its own or in the server's."""
        cwd, env = cwd or Path.cwd(), {**os.environ, "PYTHONPATH": str(CHECKOUT), **(env or {})}
        env.pop("PYTHONWARNINGS", None)
        if not hasattr(os, "fork") or COLD & {*command}:
            pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
            return subprocess.Popen([sys.executable, *command], cwd=cwd, env=env, start_new_session=session, **pipes)
        self._started += 1
        files = self._folder / str(self._started)
        return Forked(self, command, files, cwd=str(cwd), env=env, session=session)

    def run(self, *command: str, timeout: float = 300, **options: Any) -> subprocess.CompletedProcess[str]:
        """The same to its end; it is killed when the test gives up."""
        process = self.start(*command, **options)
        try:
            out, err = process.communicate(timeout=timeout)
        finally:
            process.kill()
        return subprocess.CompletedProcess(process.args, process.returncode, out, err)

    def close(self) -> None:
        if self._server is not None:
            self._server.stdin.close()
            self._server.wait(timeout=60)
            self._server.stdout.close()
