"""analytics/lake.py: which commit it reads, and what it refuses."""

import json
import shutil
import subprocess
import sys
from types import SimpleNamespace

import lake
import pytest
import report

import etl
from tests.analytics.lakes import event, one_play_lake, write_lake
from tests.helpers import KEY, ROOT, upload_folder


def test_a_commit_that_is_not_whole_yet_leaves_the_one_before_it(tmp_path):
    output = one_play_lake(tmp_path / "lake")
    # the next run publishes: its commit and some of its files are there
    first = output / "_etl" / "commits" / "000000001.json"
    second = json.loads(first.read_text()) | {"commit": 2}
    file = next((output / "users").iterdir())
    shutil.copy(file, file.with_name("c000000002-00000000-00000.parquet"))
    second["files"] = {
        "users/c000000002-00000000-00000.parquet": {"bytes": file.stat().st_size},
        "songs/year=1999/c000000002-00000000-00001.parquet": {"bytes": 10},
    }
    first.with_name("000000002.json").write_text(json.dumps(second))
    opened = lake.open_lake(str(output))
    assert opened.commit["commit"] == 1
    assert opened.rows("SELECT count(*) AS users FROM users") == [{"users": 1}]


def test_a_publication_that_ends_while_we_look_is_read(tmp_path, monkeypatch):
    output = one_play_lake(tmp_path / "lake")
    file = next((output / "songs").rglob("*.parquet"))
    staged = file.rename(tmp_path / "staged")
    # not the module's own sleep, which other threads of this process call
    monkeypatch.setattr(lake, "time", SimpleNamespace(sleep=lambda seconds: staged.rename(file)))
    assert lake.open_lake(str(output)).commit["commit"] == 1


def test_a_lost_or_cut_file_is_named(tmp_path, monkeypatch):
    monkeypatch.setattr(lake, "SECONDS_BETWEEN_LOOKS", 0)
    output = one_play_lake(tmp_path / "lake")
    file = next((output / "songs").rglob("*.parquet"))
    for damage in (lambda: file.write_bytes(b"PAR1"), file.unlink):
        damage()
        with pytest.raises(etl.Stop, match=f"commit 1 lacks songs/year=1999/{file.name}") as stop:
            lake.open_lake(str(output))
        assert stop.value.code == 1


def test_songs_by_year_and_artist_are_read_too(tmp_path):
    song = ("SO1", "River", "AR/1", 200.5, 1999)
    output = write_lake(tmp_path / "lake", songs_by=("year", "artist_id"), songs=[song])
    assert lake.open_lake(str(output)).db.execute("SELECT * FROM songs").fetchall() == [song]


@pytest.mark.parametrize(
    ("output", "config", "words"),
    [
        ("nowhere", None, "nowhere: no such folder"),
        (".", None, "no commit found. Run `python etl.py`"),
        ("gs://bucket/lake", None, "--output"),
        (None, "none.cfg", "none.cfg"),
    ],
)
def test_a_wrong_output_or_config_is_named_and_nothing_is_created(
    tmp_path, monkeypatch, output, config, words
):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(etl.Stop, match=words) as stop:
        lake.open_lake(output, config)
    assert stop.value.code == 2
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("code", "said"),
    [
        ("sys.argv = ['report.py', '.']", "report.py: "),
        ("sys.modules['altair'] = None", "Package altair not found. Run: pip install -r "),
    ],
)
def test_a_program_says_what_is_wrong_in_one_line(tmp_path, code, said):
    program = str(ROOT / "analytics" / "report.py")
    code = f"import runpy, sys; {code}; runpy.run_path({program!r}, run_name='__main__')"
    command = [sys.executable, "-c", code]
    environment = {"PYTHONPATH": str(ROOT / "analytics")}
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert done.returncode != 0 and done.stdout == ""
    assert done.stderr.startswith(said) and done.stderr.count("\n") == 1


def test_input_and_output_on_s3_give_the_same_page_but_for_their_names(s3, tmp_path):
    source = tmp_path / "in"
    (source / "log_data").mkdir(parents=True)
    (source / "log_data" / "events.json").write_text(json.dumps(event("River", 1)))
    local = lake.open_lake(str(one_play_lake(tmp_path / "local", source=source)))
    remote = one_play_lake(tmp_path / "remote", source="s3a://charts/in")
    client = s3.bucket("charts")
    upload_folder(client, source, "charts", "in/")
    upload_folder(client, remote, "charts", "lake/")
    config = s3.config(tmp_path, "s3a://charts/in", "s3a://charts/lake")
    page = report.make_report(lake.open_lake(config=str(config))).page
    main = report.make_report(local).page.partition("<main>")[2].partition('<h2 id="sql"')[0]
    assert "River" in main
    assert main.replace(str(source), "s3a://charts/in") in page

    wrong = s3.config(tmp_path, "s3a://charts/in", "s3a://charts/lake", secret="wrong/Secret")
    with pytest.raises(etl.Stop, match="s3a://charts/lake") as stop:
        lake.open_lake(config=str(wrong))
    assert stop.value.code == 2
    assert "wrong/Secret" not in str(stop.value) and KEY not in str(stop.value)
