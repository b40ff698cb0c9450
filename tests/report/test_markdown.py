"""report.md: the sections of the page, links that lead somewhere, text that stays text."""

from __future__ import annotations

import re

from synthetic_runs import image_pictures, write_gaps, write_run

from vem.report import write_report
from vem.report.markdown import markdown
from vem.report.page import TITLES
from vem.report.read import findings


def test_seven_sections_and_links_to_the_figures(tmp_path):
    for size in (2, 10):
        for strategy in ("local", "amortized"):
            write_gaps(
                tmp_path / "runs" / f"{strategy}{size}", strategy, latent_dim=size, pictures=image_pictures(),
                config={"latent_dim": size, "model": {"latent_dim": size}},
            )  # fmt: skip
    write_run(tmp_path / "runs" / "bad", "gmm", status="failed", error="a | b\nc", evaluated=False)
    (tmp_path / "runs" / "bad" / "run.log").write_text("Traceback\n```\nboom\n")
    write_report([tmp_path / "runs"], tmp_path / "out")
    text = (tmp_path / "out" / "report.md").read_text()
    heads = re.findall(r"^## \d\. (.*)$", text, flags=re.M)
    assert heads == list(TITLES.values()) and len(heads) == 7
    links = re.findall(r"^!\[.*\]\((.*)\)$", text, flags=re.M)
    assert {"figures/curves.png", "figures/gaps.png", "figures/side_by_side.png"} <= set(links)
    assert all((tmp_path / "out" / link).exists() for link in links)
    assert r"- failed: gmm, seed 0, bad: a \| b c" in text and "````\n  Traceback\n  ```\n  boom\n  ````" in text
    assert "| test ELBO (nats per datum) | latent\\_dim=2 | latent\\_dim=10 |" in text
    assert "What cannot be concluded:" in text and "python -m vem.report" in text
    assert "| amortized, latent\\_dim=2 | 0 | test, row " in text.partition("### The worst cases")[2]


def test_one_run_is_one_run(tmp_path):
    write_run(tmp_path / "a", commit="abc")
    write_run(tmp_path / "b", "amortized", commit="def")
    text = markdown(findings([tmp_path]), [], tmp_path)
    assert "Commits: abc (1 run), def (1 run)" in text and "(1 runs)" not in text


def test_fractions_are_written_short(tmp_path):
    for i, rate in enumerate((0.004210984673528849, 0.0171)):
        write_run(tmp_path / f"{i}", config={"training": {"rate": rate}})
    text = markdown(findings([tmp_path]), [], tmp_path)
    body, _, differences = text.partition("### Settings that differ")
    assert "training.rate=0.004211" in body and "0.0042109846" not in body and "0.004210984673528849" in differences


def test_what_is_absent_says_why(tmp_path):
    write_run(tmp_path / "a")
    text = markdown(findings([tmp_path]), [], tmp_path)
    assert "No gap was measured." in text and "Nothing but the strategy and the seed was swept." in text


def test_only_runs_without_a_name(tmp_path):
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "run.json").write_text('{"status": "failed", "error": "no such file"}')
    text = markdown(findings([tmp_path]), [], tmp_path)
    assert "No run got far enough to be compared" in text and "- failed: unknown, a: no such file" in text
