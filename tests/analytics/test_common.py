"""analytics/common.py: what a program says when it ends, and the tables as etl.py defines them."""

import subprocess
import sys

import common
import pytest
from helpers import ROOT

import etl


def run(code, cwd):
    """Runs code in a process of its own that finds the modules of analytics/."""
    prepared = f"import sys; sys.path.insert(0, {str(ROOT / 'analytics')!r})\n{code}"
    return subprocess.run(
        [sys.executable, "-c", prepared],
        cwd=cwd,
        capture_output=True,
        text=True,
        timeout=60,
    )


def test_the_columns_are_those_that_the_job_writes():
    found = common.tables()
    assert list(found) == list(etl.COLUMNS)
    for table, columns in found.items():
        for column in columns:
            assert f"{column.name} " in etl.COLUMNS[table]
    assert [column.name for column in found["users"]] == [
        "user_id",
        "first_name",
        "last_name",
        "gender",
        "level",
    ]
    assert found["songs"][3][:2] == ("duration", "DOUBLE")


def test_a_column_may_carry_a_comment():
    ddl = r"""
        user_id BIGINT COMMENT 'the app\'s own number, not ours',
        level   STRING
    """
    assert common.read_columns(ddl) == [
        ("user_id", "BIGINT", "the app's own number, not ours"),
        ("level", "STRING", ""),
    ]


def test_every_table_has_its_grain_in_words():
    for table, words in common.grains().items():
        assert "one row per" in words, table


def test_the_newest_commit_that_is_published_counts():
    names = ["_etl/done/000000009", "lake/_etl/done/000000010", "_etl/done/x"]
    assert common.newest_done(names) == "_etl/commits/000000010.json"
    assert common.newest_done([]) is None


@pytest.mark.parametrize(
    ("body", "code", "words"),
    [
        ("raise common.Stop(2, 'x: no such folder')", 2, "job.py: x: no such folder\n"),
        ("raise KeyboardInterrupt", 130, "job.py: interrupted\n"),
        ("return 3", 3, ""),
        ("pass", 0, ""),
    ],
)
def test_a_program_ends_with_its_code_and_at_most_one_line(tmp_path, body, code, words):
    done = run(
        f"import common\ndef main():\n    {body}\nsys.exit(common.run_main('job.py', main))",
        tmp_path,
    )
    assert (done.returncode, done.stdout, done.stderr) == (code, "", words)


def test_an_error_of_another_kind_is_explained_or_shown_whole(tmp_path):
    code = """import common
def main():
    raise ValueError("odd")
def explain(error):
    return common.Stop(1, f"it is {error}") if EXPLAINED else None
sys.exit(common.run_main("job.py", main, explain))"""
    explained = run(f"EXPLAINED = True\n{code}", tmp_path)
    assert (explained.returncode, explained.stderr) == (1, "job.py: it is odd\n")
    assert "Traceback" in run(f"EXPLAINED = False\n{code}", tmp_path).stderr


def test_a_missing_package_is_named_with_the_command_that_installs_it(tmp_path):
    code = """from common import needed_packages
sys.argv[0] = "analytics/report.py"
with needed_packages("analytics/requirements.txt"):
    import no_such_package"""
    done = run(code, ROOT)
    assert (done.returncode, done.stderr) == (
        2,
        "report.py: the package no_such_package is missing; "
        "run `pip install -r analytics/requirements.txt`\n",
    )
