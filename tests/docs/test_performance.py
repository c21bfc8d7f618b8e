"""What docs/performance.md estimates from can be run."""

import runpy

import pytest
from helpers import ROOT


@pytest.mark.parametrize(
    ("part", "words"), [("pack", "packed 500 songs"), ("join", "matched 500 plays")]
)
def test_the_parts_of_a_large_run_that_its_estimate_rests_on_can_be_run(spark, capsys, part, words):
    runpy.run_path(str(ROOT / "bench/parts.py"))[part](500)
    assert words in capsys.readouterr().out
