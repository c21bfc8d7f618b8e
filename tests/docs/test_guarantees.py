"""The figures of docs/guarantees.md are those of the tests that it speaks of."""

import re

import hostile
import pytest
import test_kill
import test_signals
import test_sim
from helpers import ROOT

TEXT = re.sub(r"\s+", " ", (ROOT / "docs" / "guarantees.md").read_text(encoding="utf-8"))
# What the page says, and where that figure is set.
FIGURES = [
    ("two and five real runs at once", "tests/faults/test_overlap.py", '"together", [2, 5]'),
    ("in 20,000 simulated schedules", "tests/faults/test_sim.py", "SCHEDULES = 20_000"),
    ("500 damaged lakes", "tests/faults/test_losses.py", "DAMAGED_LAKES = 500"),
    ("during 20 publications", "tests/faults/test_readers.py", '"publications", [20,'),
    ("after 120 seconds per request", "etl.py", "ANSWER_SECONDS = 120"),
]


@pytest.mark.parametrize(("said", "path", "setting"), FIGURES)
def test_a_figure_is_what_the_test_sets(said, path, setting):
    source = (ROOT / path).read_text(encoding="utf-8")
    assert said in TEXT
    assert setting in source


def test_the_numbers_of_cases_are_those_of_the_tests():
    assert f"at {len(test_kill.POINTS)} points of a whole run" in TEXT
    assert f"at {len(test_signals.HANGING)} steps while the store hangs" in TEXT
    assert f"Each of {len(test_sim.MUTANTS)} rules of the protocol" in TEXT


def test_over_180_named_lines_records_and_files_are_hostile():
    assert len(hostile.LINES) + len(hostile.RECORDS) + len(hostile.FILES) > 180
    assert "over 180 named hostile lines" in TEXT
