"""analytics/lake.py: which commit it reads, and what it refuses."""

import json
import shutil
import subprocess
import sys

import duckdb
import lake
import pytest
import report
from helpers import KEY, ROOT
from lakes import event, one_play_lake, write_commit, write_lake

import etl


def run(*arguments, cwd):
    command = [sys.executable, str(ROOT / "analytics" / "report.py"), *map(str, arguments)]
    return subprocess.run(command, cwd=cwd, capture_output=True, text=True)


@pytest.fixture
def impatient(monkeypatch):
    monkeypatch.setattr(lake, "SECONDS_BETWEEN_LOOKS", 0)


def test_a_commit_that_is_not_whole_yet_leaves_the_one_before_it(tmp_path):
    output = one_play_lake(tmp_path / "lake")
    tables = lake.open_lake(str(output)).tables
    second = write_commit(output, 2, tables)
    second["files"]["users/c000000002-00000.parquet"] = {"bytes": 10}
    (output / "_etl" / "commits" / "000000002.json").write_text(json.dumps(second))
    assert lake.open_lake(str(output)).commit["commit"] == 1


def test_files_of_another_run_beside_those_of_the_commit_are_not_read(tmp_path):
    output = one_play_lake(tmp_path / "lake")
    file = next((output / "users").iterdir())
    shutil.copy(file, file.with_name("c000000002-00000000-00000.parquet"))
    opened = lake.open_lake(str(output))
    assert opened.rows("SELECT count(*) AS users FROM users") == [{"users": 1}]


def test_a_publication_that_ends_while_we_look_is_read(tmp_path, monkeypatch):
    output = one_play_lake(tmp_path / "lake")
    file = next((output / "songs").rglob("*.parquet"))
    staged = file.rename(tmp_path / "staged")
    monkeypatch.setattr(lake.time, "sleep", lambda seconds: staged.rename(file))
    assert lake.open_lake(str(output)).commit["commit"] == 1


def test_a_lost_or_cut_file_is_named(tmp_path, impatient):
    output = one_play_lake(tmp_path / "lake")
    file = next((output / "songs").rglob("*.parquet"))
    file.write_bytes(b"PAR1")
    with pytest.raises(etl.Stop, match=f"commit 1 lacks songs/year=1999/{file.name}"):
        lake.open_lake(str(output))
    file.unlink()
    with pytest.raises(etl.Stop, match="again") as stop:
        lake.open_lake(str(output))
    assert stop.value.code == 1


def test_songs_by_year_and_artist_are_read_too(tmp_path):
    output = one_play_lake(tmp_path / "lake")
    tables = lake.open_lake(str(output)).tables
    shutil.rmtree(output / "songs")
    folder = output / "songs" / "year=1999" / "artist_id=AR%2F1"
    folder.mkdir(parents=True)
    with duckdb.connect() as db:
        row = "SELECT 'SO1' AS song_id, 'River' AS title, 200.5::DOUBLE AS duration"
        db.execute(f"COPY ({row}) TO '{folder}/data.parquet'")
    tables["songs"]["partitioned_by"] = ["year", "artist_id"]
    write_commit(output, 2, tables)
    found = lake.open_lake(str(output)).db.execute("SELECT * FROM songs").fetchall()
    assert found == [("SO1", "River", "AR/1", 200.5, 1999)]


def test_a_table_without_files_has_its_columns(tmp_path):
    opened = lake.open_lake(str(write_lake(tmp_path / "lake")))
    for table, described in opened.tables.items():
        names = [column["name"] for column in described["columns"]]
        assert [row["column_name"] for row in opened.rows(f"DESCRIBE {table}")] == names


@pytest.mark.parametrize(
    ("output", "config", "words"),
    [
        ("nowhere", None, "nowhere: no such folder"),
        (".", None, "no commit found. Run `python etl.py`"),
        ("gs://bucket/lake", None, "--output"),
        (None, "none.cfg", "none.cfg"),
    ],
)
def test_a_wrong_output_or_config_is_a_stop_and_creates_nothing(
    tmp_path, monkeypatch, output, config, words
):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(etl.Stop, match=words) as stop:
        lake.open_lake(output, config)
    assert stop.value.code == 2
    assert list(tmp_path.iterdir()) == []


def test_a_program_says_what_is_wrong_in_one_line(tmp_path):
    output = one_play_lake(tmp_path / "lake")
    done = run(tmp_path, cwd=tmp_path)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("report.py: ") and done.stderr.count("\n") == 1
    done = run(output, "--timezone", "Mars/Base", cwd=tmp_path)
    assert (done.returncode, done.stdout) == (1, "")
    assert "Unknown TimeZone 'Mars/Base'" in done.stderr and done.stderr.count("\n") == 1


def test_a_missing_package_is_named_with_the_command_that_installs_it(tmp_path):
    program = ROOT / "analytics" / "report.py"
    code = f"import runpy, sys; sys.modules['altair'] = None; runpy.run_path({str(program)!r})"
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=tmp_path,
        env={"PYTHONPATH": str(ROOT / "analytics")},
        capture_output=True,
        text=True,
    )
    wanted = "Package altair not found. Run: pip install -r analytics/requirements.txt\n"
    assert done.stderr == wanted


def test_input_and_output_on_s3_give_the_same_page(s3, tmp_path):
    """But for the names of both."""
    source = tmp_path / "in"
    (source / "log_data").mkdir(parents=True)
    (source / "log_data" / "events.json").write_text(json.dumps(event("River", "Foxes")))
    local = report.make_report(
        lake.open_lake(str(one_play_lake(tmp_path / "local", source=source)))
    )
    output = one_play_lake(tmp_path / "remote", source="s3a://charts/in")
    client = s3.bucket("charts")
    client.upload_file(
        str(source / "log_data" / "events.json"), "charts", "in/log_data/events.json"
    )
    for path in output.rglob("*"):
        if path.is_file():
            client.upload_file(str(path), "charts", f"lake/{path.relative_to(output)}")
    config = s3.config(tmp_path, "s3a://charts/in", "s3a://charts/lake")
    remote = report.make_report(lake.open_lake(config=str(config)))
    main = local.page.partition("<main>")[2].partition('<h2 id="sql"')[0]
    assert main.count("River") > 1
    assert main.replace(str(source), "s3a://charts/in") in remote.page

    wrong = s3.config(tmp_path, "s3a://charts/in", "s3a://charts/lake", secret="wrong/Secret")
    with pytest.raises(etl.Stop, match="s3a://charts/lake") as stop:
        lake.open_lake(config=str(wrong))
    assert stop.value.code == 2
    assert "wrong/Secret" not in str(stop.value) and KEY not in str(stop.value)
