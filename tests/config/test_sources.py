"""Which modules of the user's own a config reaches, and how a change of them is seen."""

from __future__ import annotations

import hashlib
import importlib
import sys
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from vem.cli import resume
from vem.config import sources
from vem.storage import identity, records

FILES = {
    "mynets.py": "from torch import nn\nimport pandas, yaml, json\nimport nets.deep as deep\nclass Decoder: pass\n",
    "nets/__init__.py": "from .parts import *\n",
    "nets/parts/__init__.py": "__all__ = ['bits', 'NAME']\nNAME = 1\n",
    "nets/parts/bits.py": "",
    "nets/deep.py": "from . import layers\nfrom .. import beyond\n",
    "nets/layers.py": "def lazy():\n    from helpers import tool\n    import not_there\n",
    "helpers/tool.py": "import importlib\nimportlib.import_module('.sub', 'x')\nimportlib.import_module('literal')\n",
    "literal.py": "this is no Python\n",
    "stranger.py": "",
}
REACHED = {
    *("mynets", "nets", "nets.parts", "nets.parts.bits", "nets.deep", "nets.layers", "helpers.tool", "literal"),
}


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A project of the user's own, on the path."""
    monkeypatch.syspath_prepend(str(tmp_path))
    for name, text in FILES.items():
        write(tmp_path / name, text)
    yield tmp_path
    for name, module in list(sys.modules.items()):
        if str(getattr(module, "__file__", None)).startswith(str(tmp_path)):
            del sys.modules[name]


def write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(text.encode())
    importlib.invalidate_caches()


def config(target: str) -> dict[str, Any]:
    return {"model": {"_target_": "vem.models.deep.DeepLatentModel", "decoder": {"_target_": target}}, "seed": 0}


def test_what_is_reached_is_found_without_importing_it(project: Path) -> None:
    found = sources.of(config("mynets.Decoder"))
    assert set(found["modules"]) == REACHED
    assert found["modules"]["mynets"] == hashlib.sha256(FILES["mynets.py"].encode()).hexdigest()
    assert set(found["packages"]) == {"pandas", "PyYAML"}  # torch is in every run.json anyway
    assert not {"mynets", "nets", "helpers"} & set(sys.modules)
    assert sources.changed(found) == []


def test_vem_and_torch_alone_are_nobodys_own() -> None:
    assert sources.of(config("torch.nn.Linear")) == {"modules": {}, "packages": {}}


@pytest.mark.parametrize(
    ("name", "text", "said"),
    [
        ("mynets.py", FILES["mynets.py"] + "# a word\n", ["mynets has changed"]),
        ("helpers/tool.py", "", ["helpers.tool has changed"]),
        ("nets/parts/bits.py", "x = 1\n", ["nets.parts.bits has changed"]),
        ("not_there.py", "", ["not_there is new"]),
        ("stranger.py", "x = 1\n", []),
        ("nets/deep.py", FILES["nets/deep.py"].replace("\n", "\r\n"), []),
        ("nets/deep.py", FILES["nets/deep.py"].replace("\n", "\r"), []),
    ],
)
def test_a_change_is_named(name: str, text: str, said: list[str], project: Path) -> None:
    found = sources.of(config("mynets.Decoder"))
    write(project / name, text)
    assert sources.changed(found) == said


def test_a_module_that_is_gone(project: Path) -> None:
    found = sources.of(config("mynets.Decoder"))
    (project / "helpers" / "tool.py").unlink()
    importlib.invalidate_caches()
    assert sources.changed(found) == ["helpers.tool is gone"]
    for path in sorted(project.rglob("*.py")):
        path.unlink()
    importlib.invalidate_caches()
    assert sources.changed(found) == []  # from another folder nothing can be told


def test_another_version_of_a_package(project: Path) -> None:
    found = sources.of(config("mynets.Decoder"))
    found["packages"] |= {"pandas": "0.1", "nowhere": "2.0"}
    nowhere, pandas = sources.changed(found)
    assert nowhere == "nowhere is not installed, and was 2.0"
    assert pandas.startswith("pandas is ") and pandas.endswith(", and was 0.1")


def test_imports_by_a_computed_name_and_classes_that_a_factory_finds(project: Path) -> None:
    write(project / "computed.py", "class Net: pass\n")
    write(project / "found.py", "class Other: pass\n")
    write(project / "mynets.py", "import importlib\nmodule = importlib.import_module('com' + 'puted')\n")
    target = config("mynets.module.Net")
    assert set(sources.of(target)["modules"]) == {"mynets"}
    importlib.import_module("mynets")
    part = importlib.import_module("found").Other()
    found = sources.of(target, [part])
    assert set(found["modules"]) == {"mynets", "computed", "found"} and sources.changed(found) == []
    write(project / "computed.py", "class Net: x = 1\n")
    assert sources.changed(found) == ["computed has changed"]


def test_folders_without_an_init_are_looked_into_before_anything_is_imported(project: Path) -> None:
    write(project / "open" / "inner" / "net.py", "from ..other import beside\nclass D: pass\n")
    write(project / "open" / "other" / "beside.py", "")
    found = sources.of(config("open.inner.net.D"))
    assert set(found["modules"]) == {"open.inner.net", "open.other.beside"} and sources.changed(found) == []
    write(project / "open" / "other" / "beside.py", "x = 1\n")
    assert sources.changed(found) == ["open.other.beside has changed"]
    write(project / "open" / "__init__.py", "x = 1\n")
    assert "open is new" in sources.changed(found) and "open" not in sys.modules


def test_modules_in_an_archive(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def pack(text: str) -> None:
        with zipfile.ZipFile(project / "nets.zip", "w") as archive:
            archive.writestr("packed/__init__.py", "")
            archive.writestr("packed/net.py", "from . import help\nclass D: pass\n")
            archive.writestr("packed/help.py", text)
        importlib.invalidate_caches()

    pack("x = 1\n")
    monkeypatch.syspath_prepend(str(project / "nets.zip"))
    found = sources.of(config("packed.net.D"))
    assert set(found["modules"]) == {"packed", "packed.net", "packed.help"} and sources.changed(found) == []
    pack("x = 23\n")
    assert sources.changed(found) == ["packed.help has changed"]


def test_a_package_that_is_installed_editable_is_the_users_own(project: Path, tmp_path: Path) -> None:
    # The finder that setuptools leaves in site-packages leads to the checkout.
    from importlib.util import spec_from_file_location

    write(tmp_path / "checkout" / "src" / "edit.py", "x = 1\n")

    class Finder:
        @staticmethod
        def find_spec(name: str, path: Any = None, target: Any = None) -> Any:
            place = tmp_path / "checkout" / "src" / "edit.py"
            return spec_from_file_location(name, place) if name == "edit" else None

    sys.meta_path.append(Finder)  # type: ignore[arg-type]
    try:
        found = sources.of(config("edit.Decoder"))
        assert set(found["modules"]) == {"edit"} and found["packages"] == {}
    finally:
        sys.meta_path.remove(Finder)  # type: ignore[arg-type]


def test_what_lies_in_site_packages_counts_by_its_version(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    place = project / "venv" / "lib" / "site-packages"
    write(place / "lone.py", "")
    write(place / "otherpkg" / "__init__.py", "")
    write(place / "otherpkg-1.2.dist-info" / "METADATA", "Metadata-Version: 2.1\nName: otherpkg\nVersion: 1.2\n")
    monkeypatch.syspath_prepend(str(place))
    write(project / "mynets.py", "import otherpkg.deep, lone\n")
    assert sources.of(config("mynets.D"))["packages"] == {"otherpkg": "1.2"}
    assert set(sources.of(config("mynets.D"))["modules"]) == {"mynets"}


@pytest.mark.parametrize(
    ("status", "sweeping", "aside"),
    [("failed", True, True), ("failed", False, False), ("running", True, False), ("running", False, False)],
)
def test_an_unfinished_run_by_other_code_is_refused_and_a_failed_job_of_a_sweep_begins_again(
    status: str, sweeping: bool, aside: bool, project: Path, tmp_path: Path
) -> None:
    own, place = config("mynets.Decoder"), tmp_path / "r"
    place.mkdir()
    run = {"status": status, "config_hash": identity.config_hash(own), "code": sources.of(own)}
    records.write_json(place / records.RUN, run)
    assert resume.left_behind(place, own, sweeping) == run
    write(project / "nets" / "layers.py", "")
    assert resume.left_behind(place, own, sweeping) == run  # nothing is computed yet
    (place / records.CHECKPOINT).write_bytes(b"")
    if aside:
        assert resume.left_behind(place, own, sweeping) is None
        assert (place / "earlier" / "001" / records.CHECKPOINT).exists()
    else:
        with pytest.raises(resume.OtherCode, match=r"nets\.layers has changed"):
            resume.left_behind(place, own, sweeping)
        assert resume.left_behind(place, {**own, "rerun": "stale"}, sweeping) is None  # the remedy


@pytest.mark.parametrize(
    "code", [3, [], {"modules": 3}, {"modules": {"": 1, "..": None, "mynets": []}, "packages": {"": 2}}]
)
def test_a_damaged_entry_is_no_error(code: Any, project: Path) -> None:
    assert isinstance(sources.changed(code), list)
    assert isinstance(resume.by_other_code({"code": code, "versions": 3}), str)
