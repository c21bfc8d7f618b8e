"""The charts in image/ and the notebook's outputs are those of the sample, by the code as it is."""

import re

import lake
import pytest
from helpers import ROOT

pytest.importorskip("nbclient")
import examples
import nbformat


def test_the_charts_in_image_are_current(sample_tables):
    for name, svg in examples.draw_charts(lake.open_lake(str(sample_tables))).items():
        assert (ROOT / "image" / name).read_text() == svg, (
            f"image/{name}: run python analytics/examples.py"
        )
        assert f"](../image/{name})" in (ROOT / "docs" / "analytics.md").read_text()


def test_the_notebook_runs_and_its_outputs_are_current(sample_tables, monkeypatch):
    monkeypatch.setenv("OUTPUT", "")  # so that it is set back after
    committed = nbformat.read(examples.NOTEBOOK, as_version=4)
    executed = examples.execute_notebook(str(sample_tables))
    assert sum(len(cell.get("outputs", [])) for cell in executed.cells) > 10
    for was, now in zip(committed.cells, executed.cells):
        assert was == now, f"analytics.ipynb, {now.id}: run python analytics/examples.py"
    text = examples.NOTEBOOK.read_text()
    assert str(sample_tables) not in text and not re.search(r'"/(home|tmp|root|Users)/', text)
