"""The user's own code that a config reaches: which modules, and the hashes of their sources.

The user's own is what lies outside the standard library, site-packages and vem: files beside the run, and packages that
were installed editable. What is installed counts by its version. Nothing is imported to find out.
"""

from __future__ import annotations

import ast
import functools
import hashlib
import sys
import sysconfig
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from importlib import metadata
from importlib.machinery import ModuleSpec
from importlib.util import resolve_name
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple

from vem.config.targets import targets
from vem.storage.sealing import mapping

VERSIONS = ("torch", "numpy", "scipy", "hydra-core", "scikit-learn")  # in every run.json, beside vem's own
SAID = ("vem", "torch", "numpy", "scipy", "hydra", "sklearn")  # the modules of these
INSTALLED = ("site-packages", "dist-packages")


class _Source(NamedTuple):
    digest: str
    imports: tuple[str, ...]  # names that may be modules
    everything: tuple[str, ...]  # ``__all__``: what ``from … import *`` imports


def of(config: Mapping[str, Any], objects: Iterable[Any] = ()) -> dict[str, dict[str, str]]:
    """``modules``: the SHA-256 of each source, line ends normalized; ``packages``: the versions of what they import.

    Reached from every ``_target_`` of the config and the classes of ``objects``, through imports in the sources and
    what modules that are loaded hold of others (an import by a name that is computed).
    """
    names = [target for _, target in targets(config)] + [type(part).__module__ for part in objects]
    return _reached(names, loaded=True)


def changed(code: Any) -> list[str]:
    """How the user's own code differs from what run.json says under ``code``: a phrase for each module or package.

    Empty where nothing differs, where it says nothing, and where none of the modules is found from here.

    >>> changed(None), changed({"modules": {"not_there": "0"}, "packages": 1})
    ([], [])
    """
    before, installed = (mapping(mapping(code).get(key)) for key in ("modules", "packages"))
    now = _reached(before, loaded=False)
    if before and not any(name in now["modules"] for name in before):
        return []
    out = [
        f"{name} {'is new' if name not in before else 'has changed' if name in now['modules'] else 'is gone'}"
        for name in sorted({*before, *now["modules"]})
        if before.get(name) != now["modules"].get(name)
    ]
    for name, version in sorted(installed.items()):
        found = _version(name)
        if found != version:
            out.append(f"{name} is {found or 'not installed'}, and was {version}")
    return out


def _reached(names: Iterable[str], loaded: bool) -> dict[str, dict[str, str]]:
    todo, seen = list(names), {"__main__"}
    modules: dict[str, str] = {}
    packages: dict[str, str] = {}
    while todo:
        name = todo.pop()
        top = name.partition(".")[0]
        if name in seen or not top or top in SAID:
            continue
        seen.add(name)
        todo += [name.rpartition(".")[0]]  # the __init__ of a package runs, too
        spec = _spec(name)
        if (path := _file(spec)) is not None and _installed(path):
            packages |= _distributions(top)
        elif (source := _read(name, spec)) is not None:
            modules[name] = source.digest
            todo += [*source.imports, *(_held(name) if loaded else ())]
    return {"modules": dict(sorted(modules.items())), "packages": dict(sorted(packages.items()))}


def _spec(name: str) -> ModuleSpec | None:
    """Where a module is; unlike ``importlib.util.find_spec`` this imports no parent of it."""
    spec: ModuleSpec | None = getattr(sys.modules.get(name), "__spec__", None)
    if spec is not None:
        return spec
    parent, _, _ = name.rpartition(".")
    path = None
    if parent:
        above = _spec(parent)
        if above is None or above.submodule_search_locations is None:
            return None
        path = list(above.submodule_search_locations)
    for finder in sys.meta_path:
        try:
            spec = finder.find_spec(name, path)
        except Exception:  # a finder of somebody else's; an import of the name would tell
            continue
        if spec is not None:
            return spec
    # A folder without __init__ in another one: to find it, Python's own finder would import the other one.
    folders = [str(folder) for place in path or () if (folder := Path(place, name.rpartition(".")[2])).is_dir()]
    if folders:
        spec = ModuleSpec(name, None, is_package=True)
        spec.submodule_search_locations = folders
    return spec


def _file(spec: ModuleSpec | None) -> Path | None:
    """The file of a module; None for what is built in, and for a package without ``__init__``."""
    return Path(spec.origin).resolve() if spec is not None and spec.has_location and spec.origin else None


def _installed(path: Path) -> bool:
    return any(part in INSTALLED for part in path.parts) or _below(path, "purelib", "platlib")


def _standard(path: Path) -> bool:
    return _below(path, "stdlib", "platstdlib")


def _below(path: Path, *homes: str) -> bool:
    return any(path.is_relative_to(Path(sysconfig.get_path(home)).resolve()) for home in homes)


def _read(name: str, spec: ModuleSpec | None) -> _Source | None:
    """The source of a module of the user's own; None of another one, and where it cannot be read."""
    path = _file(spec)
    if spec is None or path is None or _installed(path) or _standard(path):
        return None
    is_package = spec.submodule_search_locations is not None
    try:
        stat = path.stat()
        return _on_disk(name, path, is_package, (stat.st_mtime_ns, stat.st_ctime_ns, stat.st_size, stat.st_ino))
    except OSError:  # in an archive, which its loader reads
        get = getattr(spec.loader, "get_data", None)
    with suppress(OSError):
        return None if get is None else _parsed(name, path, is_package, get(spec.origin))
    return None


@functools.lru_cache(maxsize=4096)
def _on_disk(name: str, path: Path, is_package: bool, version: tuple[int, ...]) -> _Source:
    """A file's source; read once in each ``version`` of the file, for a sweep asks for each of its runs."""
    return _parsed(name, path, is_package, path.read_bytes())


def _parsed(name: str, path: Path, is_package: bool, content: bytes) -> _Source:
    if path.suffix != ".py":  # compiled
        return _Source(hashlib.sha256(content).hexdigest(), (), ())
    content = content.replace(b"\r\n", b"\n").replace(b"\r", b"\n")
    digest = hashlib.sha256(content).hexdigest()
    try:
        tree = ast.parse(content)
    except (SyntaxError, ValueError):
        return _Source(digest, (), ())
    package = name if is_package else name.rpartition(".")[0]
    return _Source(digest, tuple(dict.fromkeys(_imports(tree, package))), tuple(_everything(tree)))


def _imports(tree: ast.AST, package: str) -> Iterator[str]:
    """What a source imports, anywhere in it: modules, and names in them that may be modules."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = _absolute("." * node.level + (node.module or ""), package)
            if base is not None:
                yield base
                yield from (f"{base}.{alias.name}" for alias in node.names if alias.name != "*")
                yield from (f"{base}.{name}" for alias in node.names if alias.name == "*" for name in _star(base))
        elif isinstance(node, ast.Call) and node.args and isinstance(node.args[0], ast.Constant):
            called = getattr(node.func, "attr", getattr(node.func, "id", None))
            if called in ("import_module", "__import__") and isinstance(node.args[0].value, str):
                base = _absolute(node.args[0].value, package)
                if base is not None:
                    yield base


def _absolute(name: str, package: str) -> str | None:
    try:
        return resolve_name(name, package)
    except ImportError:  # a relative import beyond the top
        return None


def _star(base: str) -> tuple[str, ...]:
    spec = _spec(base)
    source = _read(base, spec) if spec is not None and spec.submodule_search_locations is not None else None
    return () if source is None else source.everything


def _everything(tree: ast.Module) -> Iterator[str]:
    for node in tree.body:
        if isinstance(node, ast.Assign) and any(getattr(t, "id", None) == "__all__" for t in node.targets):
            yield from (e.value for e in getattr(node.value, "elts", ()) if isinstance(getattr(e, "value", None), str))


def _held(name: str) -> Iterator[str]:
    """The modules that a loaded module holds, or holds something of."""
    module = sys.modules.get(name)
    for value in list(vars(module).values()) if isinstance(module, ModuleType) else ():
        try:
            home = value.__name__ if isinstance(value, ModuleType) else getattr(value, "__module__", None)
        except Exception:  # an object of the user's that answers to no name
            continue
        if isinstance(home, str):
            yield home


@functools.cache
def _packages() -> Mapping[str, list[str]]:
    return metadata.packages_distributions()


def _distributions(top: str) -> dict[str, str]:
    """What installed a package, with its version."""
    version = _version(top)  # nearly always of the same name; to look through all that is installed takes a second
    found = {top: version} if version else {name: _version(name) for name in _packages().get(top, ())}
    return {name: version for name, version in found.items() if version is not None}


def _version(name: str) -> str | None:
    try:
        return metadata.version(name)
    except (metadata.PackageNotFoundError, ValueError):
        return None
