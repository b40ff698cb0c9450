"""The report of fixed run directories says what it said: a step that changes it does so on purpose.

Where this fails and the change is meant: ``python tests/golden/golden.py``, and list the change in the commit.
"""

from __future__ import annotations

import pytest
from golden import CASES, MANY, differences, render


@pytest.mark.parametrize("case", [pytest.param(c, marks=pytest.mark.slow) if c == MANY else c for c in CASES])
def test_the_report_says_what_was_accepted(case, tmp_path):
    if changed := differences(case, render(case, tmp_path)):
        pytest.fail(changed, pytrace=False)
