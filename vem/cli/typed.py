"""What is typed in a place where it means nothing, and would be ignored or misread: what to type instead."""

from __future__ import annotations

import re
import shlex
from collections.abc import Sequence

from vem.errors import VemError

SWEEPS = ("-m", "--multirun")
ASKS = ("--help", "-h", "--hydra-help", "--version", "--cfg", "-c", "--info", "-i", "--shell-completion", "-sc")
IDLE = ("launcher=serial", "sweeper=grid")  # what a lone run has anyway


def misplaced(arguments: Sequence[str]) -> VemError | None:
    """What to say of a command line of which something would be misread or ignored; None if nothing would be."""
    for i, argument in enumerate(arguments):
        before = [a for a in arguments[:i] if _is_override(a)]
        if argument in SWEEPS and before and any(map(_is_override, arguments[i + 1 :])):
            return VemError(f"{argument} goes before the overrides: python -m vem.run {argument} KEY=VALUE …")
    if any(argument.partition("=")[0] in ASKS for argument in arguments):
        return None
    typed = {a.lstrip("+").partition("=")[0]: a for a in arguments if _is_override(a)}
    if any(argument in (*SWEEPS, "hydra.mode=MULTIRUN") for argument in arguments):
        return _in_a_sweep(typed.get("hydra.run.dir"))
    return next((_in_a_lone_run(key, argument) for key, argument in typed.items() if _of_a_sweep(key, argument)), None)


def _is_override(argument: str) -> bool:
    return "=" in argument and not argument.startswith("-")


def _in_a_sweep(argument: str | None) -> VemError | None:
    if argument is None:
        return None
    return VemError(
        f"{argument} names the folder of a lone run, and -m makes a sweep: its folder, with one below it for each job, "
        f"is hydra.sweep.dir={argument.partition('=')[2] or 'DIR'}."
    )


def _of_a_sweep(key: str, argument: str) -> bool:
    group = re.match(r"(hydra[./])?(sweep|sweeper|launcher)([./]|$)", key)
    return bool(group) and argument not in IDLE and key != "sweep"


def _in_a_lone_run(key: str, argument: str) -> VemError:
    place = argument.partition("=")[2] if key == "hydra.sweep.dir" else ""
    folder = f" The folder of a lone run is hydra.run.dir={place or 'DIR'}." if "sweep." in key else ""
    return VemError(
        f"{argument} is about a sweep, and this command is one run: -m before the overrides makes it a sweep, if only "
        f"of one job (python -m vem.run -m {argument} …).{folder}"
    )


def several_values(said: str) -> str | None:
    """The message where Hydra, asked for one run, meets ``seed=0,1,2`` or ``range(0,3)``; None of another error."""
    simple = re.search(r"Ambiguous value for argument '(.+)'$", said, re.MULTILINE)
    found = simple or re.search(r"Sweep parameters '(.+)' requires", said)
    if not found:
        return None
    typed = found.group(1)
    key, _, value = typed.partition("=")
    other = f" A list is written '{key}=[{value}]', a text with commas \"{key}='{value}'\"." if simple else ""
    return (
        f"{typed} are several values, and one run has one: -m before the overrides makes a sweep over them "
        f"(python -m vem.run -m {shlex.quote(typed)} …).{other}"
    )
