"""Every row of the table of faults has a test that says so."""

from __future__ import annotations

import re
from pathlib import Path

from tests.faults.rows import ROWS


def test_every_row_is_covered_by_a_test_that_is_marked_with_it() -> None:
    tests = Path(__file__).parents[1].rglob("test_*.py")
    marked = {int(row) for path in tests for row in re.findall(r"mark\.fault\((\d+)\)", path.read_text("utf-8"))}
    assert marked == set(ROWS)
