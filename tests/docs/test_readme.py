"""README.md against the code: keys, columns, commands, pictures."""

import re
import runpy

import pytest
from helpers import ROOT

import etl

TEXT = (ROOT / "README.md").read_text()
CELLS = [
    [cell.strip() for cell in line.strip("|").split(" | ")]
    for line in TEXT.splitlines()
    if line.startswith("| ")
]


def test_the_keys_it_lists_are_the_keys_read():
    listed = [(row[0], row[1]) for row in CELLS if row[0] in etl.KNOWN]
    assert listed == [(section, key) for section, keys in etl.KNOWN.items() for key in keys]


def test_the_columns_it_lists_are_the_columns_written():
    listed = {row[0].strip("| "): row[2] for row in CELLS if row[0].strip("| ") in etl.COLUMNS}
    assert listed == etl.COLUMNS


def test_its_two_commands_are_there():
    assert "pip install -r requirements.txt && python etl.py" in TEXT
    assert "pip install -r requirements-dev.txt && pytest" in TEXT


def test_its_pictures_and_files_are_there():
    for path in [
        *re.findall(r"\]\((image/[^)]+)\)", TEXT),
        "dl.cfg",
        "LICENSE",
        "data/generate.py",
        "bench/run.py",
    ]:
        assert (ROOT / path).is_file(), path


@pytest.mark.parametrize(
    ("part", "words"), [("pack", "packed 500 songs"), ("join", "matched 500 plays")]
)
def test_the_parts_of_a_large_run_that_its_estimate_rests_on_can_be_run(spark, capsys, part, words):
    runpy.run_path(str(ROOT / "bench/parts.py"))[part](500)
    assert words in capsys.readouterr().out
