"""The figures of docs/guarantees.md are those of the tests that it speaks of."""

import re

import pytest
from helpers import ROOT

TEXT = re.sub(r"\s+", " ", (ROOT / "docs" / "guarantees.md").read_text(encoding="utf-8"))
# What the page says, and where that figure is set.
FIGURES = [
    ("at 14 points of a whole run", "tests/faults/test_kill.py", None),
    ("two and five at once", "tests/faults/test_overlap.py", '"together", [2, 5]'),
    ("in 25,000 orders of events", "tests/faults/test_model.py", "INTERLEAVINGS = 25_000"),
    ("during 20 publications", "tests/faults/test_readers.py", '"publications", [20,'),
    ("after 120 seconds per request", "etl.py", "ANSWER_SECONDS = 120"),
]


@pytest.mark.parametrize(("said", "path", "setting"), FIGURES)
def test_a_figure_is_what_the_test_sets(said, path, setting):
    source = (ROOT / path).read_text(encoding="utf-8")
    assert said in TEXT
    if setting:
        assert setting in source
    else:
        points = re.search(r"^POINTS = \{(.*?)^\}", source, re.DOTALL | re.MULTILINE)[1]
        assert points.count('": (') == int(re.search(r"\d+", said)[0])


def test_over_180_named_lines_records_and_files_are_hostile():
    import hostile

    assert len(hostile.LINES) + len(hostile.RECORDS) + len(hostile.FILES) > 180
    assert "over 180 named hostile lines" in TEXT
