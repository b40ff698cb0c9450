"""A default is said twice, in a yaml and in a signature: they agree."""

from __future__ import annotations

import inspect
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml
from hydra.utils import get_object

CONF = Path(__file__).resolve().parents[2] / "conf"
# Another value is better from the command line than from Python, and so is ``auto``, which the data decide.
MEANT = {"vem.strategies.exact_em.ExactEM.start", "vem.evaluation.bounds.annealing_path.Annealing.modes"}


def sections(node: Any) -> Iterator[Mapping[str, Any]]:
    """Every mapping in a yaml that names a class or a function of vem."""
    if isinstance(node, Mapping):
        if str(node.get("_target_")).startswith("vem."):
            yield node
        for child in node.values():
            yield from sections(child)


PRESETS = CONF / "evaluation"  # its own options are budgets; what they refer to has defaults
FILES = [
    path
    for path in sorted(CONF.rglob("*.yaml"))
    if path.parent != PRESETS and any(sections(yaml.safe_load(path.read_text())))
]


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.relative_to(CONF).as_posix())
def test_the_yaml_says_what_the_signature_says(path: Path) -> None:
    for section in sections(yaml.safe_load(path.read_text())):
        parameters = inspect.signature(get_object(section["_target_"])).parameters
        for name, value in section.items():
            default = parameters[name].default if name in parameters else inspect.Parameter.empty
            said_elsewhere = isinstance(value, Mapping) or "${" in str(value) or value == "auto"
            if default is inspect.Parameter.empty or said_elsewhere or f"{section['_target_']}.{name}" in MEANT:
                continue
            default = list(default) if isinstance(default, tuple) else default
            assert value == default, f"{name}: {value!r} in the yaml, {default!r} in the signature"
