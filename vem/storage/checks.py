"""Which checks of an evaluation failed: reads evaluation.json, for tables and for ``evaluation.strict``."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any


def failed(evaluation: Mapping[str, Any]) -> list[str]:
    """The checks that failed, one sentence each; none where nothing was checked.

    >>> check = {"name": "converged", "passed": False, "detail": "9.0% of the data not converged"}
    >>> failed({"test": {"num_data": 10, "checks": [check]}})
    ['test converged: 9.0% of the data not converged']
    """
    return [f"{part} {name}: {detail}" for part, name, detail in _failed(evaluation)]


def failed_names(evaluation: Mapping[str, Any], places: bool = True) -> list[str]:
    """The same without the details: each check once and, with ``places``, the parts that it failed in.

    >>> bad, good = {"name": "finite", "passed": False}, {"name": "converged", "passed": True}
    >>> failed_names({"train": {"checks": [bad, good]}, "test": {"checks": [bad]}})
    ['finite (train, test)']
    """
    parts: dict[str, list[str]] = {}
    for part, name, _ in _failed(evaluation):
        parts.setdefault(name, []).append(part)
    return [f"{name} ({', '.join(where)})" if places else name for name, where in parts.items()]


def not_tested(evaluation: Mapping[str, Any]) -> list[str]:
    """What was not tested in any part, each once; nothing in files of before.

    >>> not_tested({"test": {"not_tested": ["whether p(x | z) normalizes"]}, "train": {}})
    ['whether p(x | z) normalizes']
    """
    parts = [part.get("not_tested") for part in evaluation.values() if isinstance(part, Mapping)]
    return list(dict.fromkeys(str(said) for part in parts if isinstance(part, list) for said in part))


def _failed(evaluation: Mapping[str, Any]) -> Iterator[tuple[str, str, str]]:
    """Part, name and detail of each check that does not say that it passed."""
    for part, content in evaluation.items():
        checks = content.get("checks") if isinstance(content, Mapping) else None
        for check in checks if isinstance(checks, list) else ():
            if isinstance(check, Mapping) and check.get("passed") is not True:
                yield part, str(check.get("name")), str(check.get("detail", ""))
