"""Which folder runs a config that several jobs of a sweep have."""

from __future__ import annotations

import pytest

from vem import ledger, records
from vem.sweep.repeats import holder_of

CONFIG = {"seed": 0, "data": {"name": "blobs"}, "rerun": None}
DIGEST = records.config_hash(CONFIG)


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
