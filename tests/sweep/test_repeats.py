"""Which folder runs a config that several jobs of a sweep have."""

from __future__ import annotations

import pytest

from vem.cli.measure import ChecksFailed
from vem.cli.messages import composed
from vem.config.build import identified
from vem.storage import identity, ledger, records
from vem.sweep import child
from vem.sweep.jobs import Work
from vem.sweep.repeats import holder_of

CONFIG = {"seed": 0, "data": {"name": "blobs"}, "rerun": None}
DIGEST = identity.config_hash(CONFIG)


@pytest.mark.parametrize(
    ("status", "digest", "planned", "repeats"),
    [
        ("done", DIGEST, False, True),
        ("failed", DIGEST, False, False),  # nobody of this start will run it
        ("failed", DIGEST, True, True),
        ("done", "0" * 16, False, False),  # it claimed this config once, and holds another run now
        ("done", "0" * 16, True, False),
        (None, None, True, True),  # its turn comes
        (None, None, False, False),
    ],
)
def test_a_holder_counts_only_with_a_run_of_this_config(tmp_path, status, digest, planned, repeats):
    ledger.plan(tmp_path, "", "basic", [ledger.Job("a", ())] if planned else [], "start")
    for folder in "ab":
        (tmp_path / folder).mkdir()
    if status is not None:
        records.write_json(tmp_path / "a" / records.RUN, {"status": status, "config_hash": digest})
    assert ledger.claim(tmp_path, DIGEST, "a") == "a"
    assert holder_of(CONFIG, tmp_path, tmp_path / "b") == (tmp_path / "a" if repeats else None)
    assert ledger.claim(tmp_path, DIGEST, "c") == ("a" if repeats else "b")


def test_two_repeats_of_a_dead_holder_do_not_both_run(tmp_path, monkeypatch):
    """Both have seen that it is dead before either has taken its claim; the faster one is at work by then."""
    ledger.claim(tmp_path, DIGEST, "dead")
    for folder in ("dead", "b", "c"):
        (tmp_path / folder).mkdir()
    take_over = ledger.take_over

    def slower(directory, digest, folder, holder):
        monkeypatch.setattr(ledger, "take_over", take_over)
        take_over(directory, digest, "c", holder)
        records.write_json(tmp_path / "c" / records.RUN, {"status": "done", "config_hash": DIGEST})
        return take_over(directory, digest, folder, holder)

    monkeypatch.setattr(ledger, "take_over", slower)
    assert holder_of(CONFIG, tmp_path, tmp_path / "b") == tmp_path / "c"


@pytest.mark.parametrize("strict", [True, False])
def test_a_repeat_is_judged_by_the_checks_of_its_run(tmp_path, strict):
    """As a finished run is, when a command is typed again with evaluation.strict=true."""
    typed = ("data=blobs", "strategy=gmm", "device=cpu", "threads=1", f"evaluation.strict={str(strict).lower()}")
    config = composed(typed)
    for folder in "ab":
        (tmp_path / folder).mkdir()
    digest = identity.config_hash(identified(config))
    records.write_json(tmp_path / "a" / records.RUN, {"status": "done", "config_hash": digest})
    checks = [{"name": "best_above_q", "passed": False, "detail": "by 3 nats"}]
    records.write_json(tmp_path / "a" / records.EVALUATION, {"test": {"checks": checks}})
    ledger.claim(tmp_path, digest, "a")
    work = Work(config, typed, tmp_path / "b", tmp_path, "start", {})
    if strict:
        with pytest.raises(ChecksFailed, match=r"of .*/a, and evaluation\.strict=true"):
            child._job(work)
    else:
        assert child._job(work).outcome == (records.REPEATS, "a")
    assert records.read_json(tmp_path / "b" / records.RUN)["status"] == records.REPEATS
