"""analytics/lake.py: which files it takes for the tables, and what it refuses."""

import json
import shutil
import subprocess
import sys

import common
import duckdb
import lake
import pytest
from helpers import KEY, ROOT, SECRET
from lakes import one_play_lake, write_lake


def run(*arguments, cwd):
    command = [sys.executable, str(ROOT / "analytics" / "report.py"), *map(str, arguments)]
    return subprocess.run(command, cwd=cwd, capture_output=True, text=True, timeout=120)


def refused(*arguments, cwd, code):
    """What the program says in its one line."""
    done = run(*arguments, cwd=cwd)
    assert (done.returncode, done.stdout, len(done.stderr.splitlines())) == (code, "", 1), (
        done.stderr
    )
    return done.stderr


def test_a_missing_file_is_said_with_its_table(tmp_path):
    output = one_play_lake(tmp_path / "lake")
    lost = next((output / "songs").rglob("*.parquet"))
    whole = lost.read_bytes()
    lost.unlink()
    said = refused(output, cwd=tmp_path, code=1)
    assert "table songs is not whole" in said and lost.name in said
    lost.write_bytes(b"PAR1")
    assert "table songs is not whole" in refused(output, cwd=tmp_path, code=1)
    lost.write_bytes(whole)
    shutil.rmtree(output / "artists")
    said = refused(output, cwd=tmp_path, code=1)
    assert "table artists is not whole: 1 of the 1 files of commit 1" in said


def test_a_damaged_commit_cannot_be_read(tmp_path):
    output = one_play_lake(tmp_path / "lake")
    (output / "_etl" / "commits" / "000000001.json").write_text("{")
    assert "cannot be read" in refused(output, cwd=tmp_path, code=2)


def test_a_publication_under_way_is_not_read(tmp_path):
    output = one_play_lake(tmp_path / "lake")
    (output / "_etl" / "commits" / "000000002.json").write_text("{}")
    extra = next((output / "users").iterdir())
    shutil.copy(extra, extra.with_name("c000000002-00000000-00000.parquet"))
    opened = lake.open_lake(str(output))
    assert opened.rows("SELECT count(*) AS users FROM users") == [{"users": 1}]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["nowhere"], "nowhere: no such folder"),
        (["."], "no run has finished publishing here"),
        (["gs://bucket/lake"], "name a folder or s3a://bucket/prefix"),
        (["s3a://"], "name a folder or s3a://bucket/prefix"),
        (["--config", "broken.cfg"], "broken.cfg: cannot be read"),
        (["--config", "none.cfg"], "none.cfg: No such file"),
        ([], "dl.cfg: [DATA] has no OUTPUT"),
    ],
)
def test_what_is_wrong_is_said_in_one_line(tmp_path, arguments, words):
    (tmp_path / "dl.cfg").write_text("[DATA]\n")
    (tmp_path / "broken.cfg").write_text(f"{SECRET}\n[AWS]\n")
    said = refused(*arguments, cwd=tmp_path, code=2)
    assert words in said and SECRET not in said


def test_songs_by_year_and_artist_are_read_too(tmp_path):
    output = one_play_lake(tmp_path / "lake")
    file = next((output / "songs").rglob("*.parquet"))
    name = f"year=1999/artist_id=AR%2F1/{file.name}"
    (output / "songs" / name).parent.mkdir()
    with duckdb.connect() as db:
        row = "SELECT 'SO1' AS song_id, 'River' AS title, 200.5::DOUBLE AS duration"
        db.execute(f"COPY ({row}) TO '{output}/songs/{name}'")
    path = output / "_etl" / "commits" / "000000001.json"
    commit = json.loads(path.read_text())
    commit["tables"]["songs"]["files"] = {name: {"bytes": (output / "songs" / name).stat().st_size}}
    path.write_text(json.dumps(commit))
    found = lake.open_lake(str(output)).db.execute("SELECT * FROM songs").fetchall()
    assert found == [("SO1", "River", "AR/1", 200.5, 1999)]


def test_a_table_without_files_has_its_columns(tmp_path):
    opened = lake.open_lake(str(write_lake(tmp_path / "lake")))
    for table in common.tables():
        described = opened.db.execute(f'DESCRIBE "{table}"').fetchall()
        assert [row[0] for row in described] == list(lake.columns(table))


def test_an_output_on_s3_gives_the_same_page(s3, tmp_path):
    output = one_play_lake(tmp_path / "lake")
    client = s3.bucket("charts")
    for path in output.rglob("*"):
        if path.is_file():
            client.upload_file(str(path), "charts", f"lake/{path.relative_to(output)}")
    config = s3.config(tmp_path, "s3://charts/in", "s3a://charts/lake")
    done = run("--config", config, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    local = run(output, "--to", "local", cwd=tmp_path)
    assert local.returncode == 0, local.stderr
    page = (tmp_path / "report" / "report.html").read_text()
    expected = (tmp_path / "local" / "report.html").read_text()
    assert page == expected.replace(str(output), "s3a://charts/lake")

    lost = client.list_objects_v2(Bucket="charts", Prefix="lake/time/")["Contents"][0]["Key"]
    client.delete_object(Bucket="charts", Key=lost)
    assert "table time is not whole" in refused("--config", config, cwd=tmp_path, code=1)
    wrong = s3.config(tmp_path, "s3://a", "s3a://charts/lake", secret="wrong/Secret")
    said = refused("--config", wrong, cwd=tmp_path, code=2)
    assert "s3a://charts/lake: cannot be read" in said
    assert "wrong/Secret" not in said and KEY not in said


def test_logs_on_s3_are_read_from_there(s3, tmp_path):
    event = {"page": "NextSong", "userId": "8", "song": "River", "artist": "Foxes"}
    output = one_play_lake(tmp_path / "lake", logs=[event])
    client = s3.bucket("logs")
    log = tmp_path / "lake-input" / "log_data" / "events.json"
    client.upload_file(str(log), "logs", "in/log_data/events.json")
    config = s3.config(tmp_path, "s3://logs/in", str(output))
    done = run("--config", config, "--input", "s3://logs/in", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    page = (tmp_path / "report" / "report.html").read_text()
    assert "Too few plays for a ranking: 1" in page
    assert (
        "cannot be ranked"
        not in page.partition('id="top_songs"')[0].partition('id="logged_songs"')[2]
    )
