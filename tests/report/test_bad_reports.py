"""What a report does with folders that hold no runs, other programs' runs, damaged files and hostile labels."""

from __future__ import annotations

import csv
import errno
import json
import os
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import pytest
from read_only import refusing
from synthetic_runs import image_pictures, report_text, write_run, write_scored

from vem import __version__
from vem.errors import VemError
from vem.report import write_report
from vem.report.__main__ import main
from vem.report.findings import Findings
from vem.report.page import markdown
from vem.report.read import findings
from vem.report.runs import read_config
from vem.report.summary import terminal
from vem.storage.identity import config_hash

ELBO = {"mean": -90.0, "se": 0.1, "mc_se": 0.01}


def write(root: Path, name: str = "good", strategy: str = "local", seed: int = 0) -> Path:
    """A run as vem.run leaves it, under a name."""
    rng = np.random.default_rng(seed)
    scores = {split: rng.normal(-100, 5, size=20) for split in ("train", "test")}
    run = write_scored(root / name, scores, strategy=strategy, seed=seed, pictures=image_pictures())
    config = config_hash(read_config(run / "config.yaml"))
    say(run, config_hash=config, versions={"vem": __version__}, command="python -m vem.run")
    return run


def say(run: Path, **facts) -> None:
    content = json.loads((run / "run.json").read_text())
    (run / "run.json").write_text(json.dumps(content | facts))


def good_mean(found: Findings) -> float:
    """The mean test ELBO of the good run, whose group has no other."""
    (row,) = (row for table in found.tables for row in table.groups.to_dict("records") if row["label"] == "local")
    assert row["seeds"] == 1
    return row["test_elbo_mean"]


GOOD_MEAN = np.random.default_rng(0).normal(-100, 5, size=(2, 20))[1].mean()


def has_rows(root: Path, labels: Iterable[str]) -> bool:
    lines = report_text(root).splitlines()
    return all(any(line.startswith(label) for line in lines) for label in labels)


@pytest.mark.parametrize("missing", ["nowhere", "empty", "file"])
def test_no_runs_is_one_message(tmp_path, capsys, missing):
    (tmp_path / "empty").mkdir()
    (tmp_path / "file").write_text("")
    assert main([str(tmp_path / missing)]) == 1
    captured = capsys.readouterr()
    assert captured.err.startswith("error: ") and captured.err.count("\n") == 1 and not captured.out
    assert list((tmp_path / "empty").iterdir()) == []


FOREIGN = {
    "no status": {"seed": 1},
    "another tool's status": {"status": "FINISHED", "run_id": "0a1b", "metrics": {"loss": 0.1}},
    "a number as status": {"status": 3},
    "lightning": {"epoch": 3, "global_step": 12, "pytorch-lightning_version": "2.4", "state_dict": {}},
    "done, and says nothing": {"status": "done"},
    "done, strategy is a mapping": {"status": "done", "strategy": {"_target_": "x"}, "data": ["mnist"], "seed": "zero"},
}


def test_a_run_json_of_another_schema_is_named(tmp_path):
    write(tmp_path)
    for name, content in FOREIGN.items():
        (write(tmp_path, name, "amortized") / "run.json").write_text(json.dumps(content))
    found = findings([tmp_path])
    assert {run.directory: run.status for run in found.unfinished} == dict.fromkeys(FOREIGN, "unreadable")
    assert all(run.directory in run.reason for run in found.unfinished)
    assert list(found.tables[0].groups["label"]) == ["local"] and good_mean(found) == pytest.approx(GOOD_MEAN)
    text = "\n".join(terminal(found, tmp_path))
    assert all(f"{name} (unknown): unreadable" in text for name in FOREIGN)


ODD_FACTS = {
    "seed": "zero", "latent_dim": [2], "num_parameters": "many", "training_seconds": {"value": None}, "notes": "a note",
    "versions": ["torch"], "epochs": "all", "commit": 5, "threads": None, "error": ["x"], "config_hash": 12,
}  # fmt: skip


def test_a_fact_of_another_kind_is_as_if_it_were_missing(tmp_path):
    write(tmp_path)
    for key, value in ODD_FACTS.items():
        say(write(tmp_path, key, f"odd_{key}"), **{key: value})
    text = report_text(tmp_path)
    assert all(
        any(line.startswith(s) for line in text.splitlines()) for s in ("local", *map("odd_{}".format, ODD_FACTS))
    )


EVALUATIONS = {
    "a number for the test data": {"test": 5},
    "a list for the test data": {"test": [1, 2]},
    "numbers without errors": {"test": {"elbo": -90.0}},
    "a list as the ELBO": {"test": {"elbo": [-90.0, 0.1]}},
    "text as the ELBO": {"test": {"elbo": {"mean": "-90", "se": "0.1"}}},
    "flat": {"test_elbo": -90.0, "log_likelihood": -88.0},
    "text as gaps": {"test": {"elbo": ELBO, "gaps": "none"}},
    "numbers as gaps": {"test": {"elbo": ELBO, "gaps": {"approximation": 1.5}}},
    "odd ends": {"test": {"elbo": ELBO, "gaps": {"approximation": {"mean": 1.0, "ci95": "wide", "identified": [1]}}}},
    "odd bounds": {"test": {"elbo": ELBO, "gaps": {"approximation": ELBO}, "log_marginal": {"lower": 3, "upper": 4}}},
    "odd families": {"test": {"elbo": ELBO, "gaps": {"approximation": ELBO}, "families": {"full": 3, "x": {"own": 0}}}},
    "odd further bounds": {"test": {"elbo": ELBO, "others": {"prior": {"lower": [], "kind": 3, "ess": 2}}}},
    "odd checks": {"test": {"elbo": ELBO, "checks": {"finite": True}}, "train": {"checks": ["finite", None]}},
    "odd diagnostics": {"test": {"elbo": ELBO, "gaps": {"approximation": ELBO}, "diagnostics": [1]}},
    "odd settings": {"test": {"elbo": ELBO}, "settings": {"num_data": {"a": [1]}, "b": None}},
    "odd counts": {"test": {"elbo": ELBO, "num_data": "all"}, "across_splits": {"test": 4}},
}


def test_an_evaluation_of_another_schema_costs_at_most_its_run(tmp_path):
    write(tmp_path)
    for i, content in enumerate(EVALUATIONS.values()):
        (write(tmp_path, f"{i}", f"odd_{i}.") / "evaluation.json").write_text(json.dumps(content))
    found = findings([tmp_path])
    assert good_mean(found) == pytest.approx(GOOD_MEAN)
    assert has_rows(tmp_path, map("odd_{}.".format, range(len(EVALUATIONS))))
    assert not {"nan", "none"} & set((tmp_path / "summary.csv").read_text().lower().replace(",", " ").split())


LARGER = ("metrics.csv", "per_datum.csv", "pictures.npz")  # without them a run keeps its numbers


@pytest.mark.parametrize("name", ["run.json", "evaluation.json", "config.yaml", *LARGER])
def test_a_file_cut_off_anywhere_costs_at_most_its_run_and_is_named(tmp_path, name):
    size = len((write(tmp_path) / name).read_bytes())
    cuts = [*range(0, size - 2, max(1, size // 9)), 1, -2, -1]
    runs = {f"bad{i:02d}": write(tmp_path, f"bad{i:02d}", "amortized", i) / name for i in range(len(cuts))}
    for path, cut in zip(runs.values(), cuts, strict=True):
        path.write_bytes(path.read_bytes()[:cut])
    found = findings([tmp_path])
    assert good_mean(found) == pytest.approx(GOOD_MEAN)
    said = [*found.provenance.remarks, *(run.reason for run in found.unfinished)]
    # One that is empty has recorded nothing.
    named = [bad for bad, cut in zip(runs, cuts, strict=True) if cut or not name.endswith(".csv")]
    assert all(any(name in sentence and bad in sentence for sentence in said) for bad in named), said
    assert name in "\n".join(terminal(found, tmp_path))
    if name in LARGER:
        assert found.unfinished == () and found.tables[0].groups["seeds"].tolist() == [len(cuts), 1]


@pytest.mark.parametrize("facts", [{"versions": {"vem": "0.0.1"}}, {"command": None}])
def test_a_hash_of_another_kind_is_no_damage(tmp_path, facts):
    """That of another version, or of a model that was measured without vem.run."""
    say(write(tmp_path), config_hash="0" * 16, **facts)
    assert not [text for text in findings([tmp_path]).provenance.remarks if "another hash" in text]


def test_the_whole_report_is_written_beside_damaged_files(tmp_path):
    names = (*LARGER, "evaluation.json", "run.json")
    for i, name in enumerate(names):
        path = write(tmp_path / "runs", f"bad{i}", "amortized", i) / name
        path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    write(tmp_path / "runs")
    out = tmp_path / "out"
    write_report([tmp_path / "runs"], out)
    for page in ("report.html", "report.md"):
        text = (out / page).read_text()
        assert all(f"bad{i}" in text for i in range(len(names)))
        assert all(name.replace("_", r"\_" if page == "report.md" else "_") in text for name in names)
    assert (out / "figures" / "curves.png").exists()


LABELS = [
    "<script>alert(1)</script>", "a,b;c", "two\nlines", "a|b", "`code` *bold* _it_", "Ünïcode 漢字 ε", "'; DROP",
    "=1+1",
]  # fmt: skip


def test_hostile_names_are_shown_as_they_are(tmp_path):
    for i, label in enumerate(LABELS):
        write_run(tmp_path / f"a{i}", strategy=label, notes=[label], data=label)
        write_run(tmp_path / f"b{i}", elbo=-90.0, data=label)
        write_run(tmp_path / f"c{i}", "gmm", data=label, status="failed", error=label, evaluated=False)
    report_text(tmp_path)
    for name in ("runs.csv", "summary.csv"):
        with open(tmp_path / name, newline="", encoding="utf-8") as file:
            rows = list(csv.DictReader(file))
        assert {*LABELS} <= {row["strategy"] for row in rows} and None not in {k for row in rows for k in row}
        assert {len(row) for row in rows} == {len(rows[0])}
    text = markdown(findings([tmp_path]), [], tmp_path)
    assert "<script" not in text.replace(r"\<script", "")
    tables = [line for line in text.splitlines() if line.startswith("|")]
    bars = [line.replace(r"\|", "").count("|") for line in tables]
    widths = {line.replace(r"\|", "").count("|") for line in tables if set(line) <= set("| -")}
    assert set(bars) == widths and len(tables) >= 4


def test_a_label_with_commas_is_one_baseline(tmp_path):
    write_run(tmp_path / "a", strategy="x, y=1")
    write_run(tmp_path / "b", elbo=-90.0)
    assert findings([tmp_path], baseline="x, y=1").tables[0].baseline == "x, y=1"


@pytest.mark.parametrize(
    ("place", "number"),
    [("runs", errno.EROFS), ("runs", errno.ENOSPC), ("runs/figures", errno.EACCES), ("new/out", errno.EACCES)],
)
def test_a_folder_that_takes_no_report(tmp_path, capsys, place, number):
    """A colleague's runs, their figures alone, the parent of --out: the remedy is --out, and it works."""
    write_run(tmp_path / "runs" / "a")
    (tmp_path / "runs" / "figures").mkdir()
    out = ["--out", str(tmp_path / place)] if place.startswith("new") else []
    with refusing(tmp_path / Path(place).parts[0] if out else tmp_path / place, number):
        assert main([str(tmp_path / "runs"), *out]) == 1
        err = capsys.readouterr().err
        assert err.startswith("error: ") and err.count("\n") == 1 and "--out DIR" in err and "hydra" not in err
        assert ("the disk is full" in err) is (number == errno.ENOSPC) and ".report." not in err
        assert main([str(tmp_path / "runs"), "--out", str(tmp_path / "mine")]) == 0
    assert (tmp_path / "mine" / "report.html").exists()


@pytest.mark.parametrize("place", ["file", "file/out", "out"])
def test_a_file_in_the_way_of_a_report(tmp_path, place):
    write_run(tmp_path / "a")
    (tmp_path / "file").write_text("")
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "figures").write_text("")
    with pytest.raises(VemError, match=r"cannot be written.*--out DIR"):
        write_report([tmp_path / "a"], tmp_path / place)


def test_no_torch_anywhere(tmp_path):
    """In a fresh process, with everything imported that a report needs."""
    write_run(tmp_path / "runs" / "a", pictures=image_pictures())
    code = (
        "import sys\n"
        "from vem.report.__main__ import main\n"
        f"assert main([{str(tmp_path / 'runs')!r}, '--watch', '0.1', '--out', {str(tmp_path / 'out')!r}]) == 0\n"
        "assert not [name for name in sys.modules if name.partition('.')[0] in ('torch', 'hydra', 'omegaconf')]\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, env=os.environ)
    assert (tmp_path / "out" / "report.html").stat().st_size
