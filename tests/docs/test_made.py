"""What docs/make.py makes is what the repository holds."""

import subprocess
import sys

import make
import pytest
from helpers import ROOT

MADE = (
    "docs/tables.md",
    "docs/how-it-works.md",
    "README.md",
    "image/schema.svg",
    "image/log_dataset.svg",
)


@pytest.fixture(scope="module")
def made(project):
    return make.make_pages(project.output)


def test_it_makes_these_files(made):
    assert set(made) == {ROOT / name for name in MADE}


@pytest.mark.parametrize("name", MADE)
def test_the_committed_file_is_what_a_run_makes_now(made, name):
    assert (ROOT / name).read_text(encoding="utf-8") == made[ROOT / name], "run docs/make.py"


def test_without_tables_it_names_the_folder_and_the_remedy(tmp_path):
    result = subprocess.run(
        [sys.executable, ROOT / "docs" / "make.py", tmp_path], capture_output=True, text=True
    )
    assert result.returncode == 2
    assert str(tmp_path) in result.stderr
    assert "python etl.py" in result.stderr


def test_a_missing_package_is_one_line_with_the_command(tmp_path):
    (tmp_path / "duckdb.py").write_text("raise ModuleNotFoundError(name='duckdb')")
    result = subprocess.run(
        [sys.executable, ROOT / "docs" / "make.py"],
        env={"PYTHONPATH": str(tmp_path)},
        capture_output=True,
        text=True,
    )
    assert result.returncode == 2
    assert result.stderr.splitlines() == [
        "make.py: the package duckdb is missing; run `pip install -r requirements-dev.txt`"
    ]


def test_a_block_is_replaced_up_to_the_next_blank_line():
    page = "a\n\n<!-- made: tree -->\nold\nolder\n\nb\n"
    assert make.fill(page, {"tree": "new"}) == "a\n\n<!-- made: tree -->\nnew\n\nb\n"
