"""What a report does with folders that hold no runs, other programs' runs, damaged files and hostile labels."""

from __future__ import annotations

import csv
import errno
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from read_only import refusing
from synthetic_runs import image_pictures, report_text, write_run, write_scored

from vem import __version__
from vem.errors import VemError
from vem.report import write_report
from vem.report.__main__ import main
from vem.report.page import markdown
from vem.report.read import findings
from vem.report.runs import read_config
from vem.report.summary import terminal
from vem.storage.records import config_hash

ELBO = {"mean": -90.0, "se": 0.1, "mc_se": 0.01}


def two_runs(root: Path) -> Path:
    """A good run, and one that the test is about to damage."""
    rng = np.random.default_rng(0)
    for name, strategy in (("good", "local"), ("bad", "amortized")):
        scores = {split: rng.normal(-100, 5, size=20) for split in ("train", "test")}
        run = write_scored(root / name, scores, strategy=strategy, pictures=image_pictures())
        facts = json.loads((run / "run.json").read_text())
        facts |= {"config_hash": config_hash(read_config(run / "config.yaml")), "versions": {"vem": __version__}}
        facts |= {"command": "python -m vem.run"}
        (run / "run.json").write_text(json.dumps(facts))
    return root / "bad"


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


@pytest.mark.parametrize("content", FOREIGN.values(), ids=FOREIGN)
def test_a_run_json_of_another_schema_is_named(tmp_path, content):
    bad = two_runs(tmp_path)
    (bad / "run.json").write_text(json.dumps(content))
    found = findings([tmp_path])
    (run,) = found.unfinished
    assert (run.directory, run.status) == ("bad", "unreadable") and "bad" in run.reason
    assert list(found.tables[0].groups["label"]) == ["local"]
    assert "bad (unknown): unreadable" in report_text(tmp_path)


ODD_FACTS = {
    "seed": "zero", "latent_dim": [2], "num_parameters": "many", "training_seconds": {"value": None}, "notes": "a note",
    "versions": ["torch"], "epochs": "all", "commit": 5, "threads": None, "error": ["x"], "config_hash": 12,
}  # fmt: skip


@pytest.mark.parametrize(("key", "value"), ODD_FACTS.items())
def test_a_fact_of_another_kind_is_as_if_it_were_missing(tmp_path, key, value):
    bad = two_runs(tmp_path)
    content = json.loads((bad / "run.json").read_text()) | {key: value}
    (bad / "run.json").write_text(json.dumps(content))
    text = report_text(tmp_path)
    assert "local" in text and "amortized" in text


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


@pytest.mark.parametrize("content", EVALUATIONS.values(), ids=EVALUATIONS)
def test_an_evaluation_of_another_schema_costs_at_most_its_run(tmp_path, content):
    bad = two_runs(tmp_path)
    (bad / "evaluation.json").write_text(json.dumps(content))
    text = report_text(tmp_path)
    good = next(line for line in text.splitlines() if line.startswith("local"))
    assert "-100" in good or "-101" in good or "-9" in good
    assert any(line.startswith("amortized") for line in text.splitlines())
    assert not {"nan", "none"} & set((tmp_path / "summary.csv").read_text().lower().replace(",", " ").split())


def cuts(content: bytes) -> list[int]:
    return sorted({*range(0, len(content), max(1, len(content) // 9)), 1, len(content) - 1, len(content) - 2})


@pytest.mark.parametrize("name", ["run.json", "evaluation.json", "config.yaml", "metrics.csv", "per_datum.csv",
                                  "pictures.npz"])  # fmt: skip
def test_a_file_cut_off_anywhere_costs_at_most_its_run_and_is_named(tmp_path, name):
    bad = two_runs(tmp_path)
    whole = (bad / name).read_bytes()
    for cut in cuts(whole):
        (bad / name).write_bytes(whole[:cut])
        found = findings([tmp_path])
        text = "\n".join(terminal(found, tmp_path))
        (good,) = (row for table in found.tables for row in table.groups.to_dict("records") if row["label"] == "local")
        assert good["test_elbo_mean"] == pytest.approx(np.mean(scores_of(tmp_path / "good")), rel=1e-6)
        if cut == 0 and name.endswith(".csv"):
            continue  # a run that has recorded nothing
        said = [*found.provenance.remarks, *(run.reason for run in found.unfinished)]
        assert any(name in sentence and "bad" in sentence for sentence in said), (cut, said)
        assert name in text
        if name in ("metrics.csv", "per_datum.csv", "pictures.npz"):  # the run keeps its numbers
            assert found.unfinished == () and set(found.tables[0].groups["label"]) == {"local", "amortized"}


@pytest.mark.parametrize("facts", [{"versions": {"vem": "0.0.1"}}, {"command": None}])
def test_a_hash_of_another_kind_is_no_damage(tmp_path, facts):
    """That of another version, or of a model that was measured without vem.run."""
    run = two_runs(tmp_path)
    content = json.loads((run / "run.json").read_text()) | facts
    (run / "run.json").write_text(json.dumps(content | {"config_hash": "0" * 16}))
    assert not [text for text in findings([tmp_path]).provenance.remarks if "another hash" in text]


def scores_of(run: Path) -> list[float]:
    with open(run / "per_datum.csv", newline="") as file:
        return [float(row["elbo"]) for row in csv.DictReader(file) if row["split"] == "test"]


@pytest.mark.parametrize("name", ["metrics.csv", "per_datum.csv", "pictures.npz", "evaluation.json", "run.json"])
def test_the_whole_report_is_written_beside_a_damaged_file(tmp_path, name):
    bad = two_runs(tmp_path / "runs")
    whole = (bad / name).read_bytes()
    (bad / name).write_bytes(whole[: len(whole) // 2])
    out = tmp_path / "out"
    write_report([tmp_path / "runs"], out)
    for page in ("report.html", "report.md"):
        text = (out / page).read_text()
        assert "bad" in text and name.replace("_", r"\_" if page == "report.md" else "_") in text
    assert (out / "figures" / "curves.png").exists()


LABELS = [
    "<script>alert(1)</script>", "a,b;c", "two\nlines", "a|b", "`code` *bold* _it_", "Ünïcode 漢字 ε", "'; DROP",
    "=1+1",
]  # fmt: skip


@pytest.mark.parametrize("label", LABELS)
def test_hostile_names_are_shown_as_they_are(tmp_path, label):
    write_run(tmp_path / "a", strategy=label, notes=[label], data=label)
    write_run(tmp_path / "b", elbo=-90.0, data=label)
    write_run(tmp_path / "c", "gmm", data=label, status="failed", error=label, evaluated=False)
    report_text(tmp_path)
    for name in ("runs.csv", "summary.csv"):
        with open(tmp_path / name, newline="", encoding="utf-8") as file:
            rows = list(csv.DictReader(file))
        assert label in {row["strategy"] for row in rows} and None not in {k for row in rows for k in row}
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


@pytest.mark.parametrize("number", [errno.EROFS, errno.EACCES, errno.ENOSPC])
@pytest.mark.parametrize("place", ["runs", "runs/figures", "new/out"])
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
