"""run.json says which files are its own: one that was cut, swapped or lost is seen, and named with a remedy."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from vem.storage import records, sealing

STATUS = {"status": "done", "command": "python -m vem.run", "seed": 0, "notes": ("a", "é"), "seconds": 0.1}


@pytest.fixture
def run(tmp_path: Path) -> Path:
    for name in sealing.SEALED:
        if name != records.BEST_CHECKPOINT:
            (tmp_path / name).write_bytes(f"the content of {name}\n".encode())
    sealing.write_run(tmp_path, STATUS)
    return tmp_path


def wrong(run: Path, deep: bool = False) -> list[str]:
    return sealing.damage(run, records.read_json(run / records.RUN), deep=deep)


def test_a_whole_run(run):
    written = records.read_json(run / records.RUN)
    assert wrong(run, deep=True) == []
    assert set(written["files"]) == set(sealing.SEALED) - {records.BEST_CHECKPOINT}
    assert written["files"]["config.yaml"]["bytes"] == len("the content of config.yaml\n")
    assert sealing.unsealed(written) == STATUS | {"notes": ["a", "é"]}


@pytest.mark.parametrize("name", [name for name in sealing.SEALED if name != records.BEST_CHECKPOINT])
@pytest.mark.parametrize("how", ["cut", "emptied", "lost", "swapped"])
def test_each_file(run, name, how):
    content = (run / name).read_bytes()
    if how == "lost":
        (run / name).unlink()
    else:
        new = {"cut": content[: len(content) // 2], "emptied": b"", "swapped": content[::-1]}[how]
        (run / name).write_bytes(new)
    found = wrong(run)
    if how == "swapped" and name == records.CHECKPOINT:  # gigabytes, perhaps: hashed where it is read
        assert found == []
        found = wrong(run, deep=True)
    (sentence,) = found
    assert str(run / name) in sentence
    remedy = f"vem.evaluate {run} --again" if name in sealing.MEASURED else "fresh hydra.run.dir"
    assert remedy in sentence
    others = [other for other in sealing.SEALED if other != name]
    assert sealing.damage(run, records.read_json(run / records.RUN), others, deep=True) == []


def test_a_file_of_another_run(run):
    (run / records.BEST_CHECKPOINT).write_text("of another run")
    (sentence,) = wrong(run)
    assert "best.pt is no file of this run" in sentence


@pytest.mark.parametrize("change", [{"seed": 1}, {"files": None}, {"seed": None}, {"new": 0}, {"status": "running"}])
def test_run_json_itself(run, change):
    written = records.read_json(run / records.RUN)
    left = {key: value for key, value in (written | change).items() if value is not None}
    (run / records.RUN).write_text(json.dumps(left))
    (sentence,) = wrong(run)
    assert f"{run / records.RUN} is not as it was written" in sentence and "rerun=stale" in sentence


def test_another_layout_of_the_same_is_no_damage(run):
    written = records.read_json(run / records.RUN)
    (run / records.RUN).write_text(json.dumps(dict(sorted(written.items()))))
    assert wrong(run) == []


def test_a_run_from_before_says_nothing_of_its_files(run):
    (run / records.RUN).write_text(json.dumps(STATUS))
    (run / records.METRICS).unlink()
    assert wrong(run, deep=True) == []


def test_an_unfinished_run_speaks_of_no_file(run):
    sealing.write_run(run, records.read_json(run / records.RUN) | {"status": "running"})
    assert "files" not in records.read_json(run / records.RUN)
    (run / records.METRICS).unlink()
    assert wrong(run) == []


def test_what_is_measured_anew_does_not_bless_the_other_files(run):
    (run / records.METRICS).write_text("damaged")
    for name in sealing.MEASURED:
        (run / name).write_text("new")
    sealing.write_run(run, records.read_json(run / records.RUN), written=sealing.MEASURED)
    (sentence,) = wrong(run)
    assert records.METRICS in sentence


def test_what_vem_measure_wrote_has_its_own_remedy(tmp_path):
    sealing.write_run(tmp_path, {"status": "done", "seed": 0})
    (tmp_path / records.EVALUATION).write_text("{}")
    (sentence,) = wrong(tmp_path)
    assert "vem.measure" in sentence
