"""Publishing: stage, commit, reconcile; any run may finish what another left."""

import contextlib
import json
import re
import shutil
import subprocess
import sys

import pytest

import etl
from tests.helpers import ROOT, files_below, run_process

NEW = {table: [b"version 2"] for table in etl.COLUMNS}
OLD = {table: [b"version 1"] for table in etl.COLUMNS}


def publish_version_2(quick):
    (quick.source / "song_data" / "A" / "TR00000.json").write_bytes(b"version 2")
    return quick()


def test_the_files_of_a_commit_replace_those_of_the_last(quick, contents):
    assert quick().code == 0
    assert contents() == OLD
    result = publish_version_2(quick)
    assert (result.code, contents()) == (0, NEW)
    assert not list(result.output.glob("_etl/staging/*"))
    files = [path.relative_to(result.output) for path in result.output.rglob("*.parquet")]
    assert {str(path) for path in files} == result.commit["files"].keys()
    for path in files:
        assert re.fullmatch(r"c000000002-[0-9a-f]{8}-\d{5}\.parquet", path.name)


def test_an_equal_run_does_nothing_and_starts_no_spark(quick, monkeypatch):
    before = files_below(quick().output)
    monkeypatch.setattr(etl, "start_spark", None)
    result = quick()
    assert (result.code, result.err) == (0, "")
    assert "Nothing to do: commit 1" in result.out
    assert f"The tables are in {result.output}" in result.out
    assert files_below(result.output) == before


@pytest.mark.parametrize("change", ["input", "setting", "code", "force"])
def test_a_changed_input_setting_or_code_makes_a_new_commit(quick, monkeypatch, tmp_path, change):
    quick()
    flags = {
        "setting": ["--max-rejected", "0.5"],
        "force": ["--force"],
    }
    if change == "input":
        (quick.source / "log_data" / "new.json").write_text("{}")
    if change == "code":
        (tmp_path / "etl.py").write_bytes((ROOT / "etl.py").read_bytes() + b"#")
        monkeypatch.setattr(etl, "__file__", str(tmp_path / "etl.py"))
    assert quick(*flags.get(change, [])).commit["commit"] == 2


def test_a_run_that_is_overtaken_publishes_nothing(quick, contents, monkeypatch):
    """Another run commits while this one stages."""
    quick()
    codes = []

    def audit(spark, run):
        if run.settings.force:
            codes.append(quick("--max-rejected", "0.5").code)

    monkeypatch.setattr(etl, "audit", audit)
    result = quick("--force")
    assert (codes, result.code) == ([0], 75)
    assert "another run made commit 2 first; nothing is published" in result.error
    assert result.commit["settings"]["max_rejected"] == "0.5"
    assert contents() == OLD


def test_tables_whose_etl_folder_is_that_of_yesterday_are_replaced_and_no_row_is_doubled(
    quick, contents, tmp_path
):
    """The newest commit is older than the tables, whose names keep the number right."""
    quick()
    kept = shutil.copytree(tmp_path / "output" / "_etl", tmp_path / "yesterday")
    publish_version_2(quick)
    shutil.rmtree(tmp_path / "output" / "_etl")
    shutil.copytree(kept, tmp_path / "output" / "_etl")
    result = quick("--force")
    assert (result.code, contents()) == (0, NEW)
    assert result.commit["commit"] == 3


def lose(path):
    shutil.rmtree(path) if path.is_dir() else path.unlink()


def cut(path):
    files = [file for file in (path, *path.rglob("*")) if file.is_file()]
    for number, file in enumerate(files, start=2):
        content = file.read_bytes()
        file.write_bytes(content[: len(content) // number])


@pytest.mark.parametrize("damage", [lose, cut])
@pytest.mark.parametrize("is_published", [True, False])
def test_whatever_file_or_folder_is_damaged_the_next_run_makes_the_tables_right(
    quick, contents, tmp_path, monkeypatch, damage, is_published
):
    """The newest commit is published, or its run was killed just before that."""
    output = quick().output
    with monkeypatch.context() as patch, contextlib.suppress(SystemExit):
        patch.setattr(etl, "publish", etl.publish if is_published else sys.exit)
        publish_version_2(quick)
    yesterday = output.rename(tmp_path / "yesterday")
    for path in sorted(yesterday.rglob("*")):
        shutil.copytree(yesterday, output)
        damage(output / path.relative_to(yesterday))
        result = quick()
        assert (result.code, contents()) == (0, NEW), f"{path}: {result.err}"
        assert "Nothing to do" in quick().out
        shutil.rmtree(output)


@pytest.mark.parametrize("damage", [lose, cut])
def test_a_lost_or_damaged_file_is_named(quick, damage):
    path = next(quick().output.glob("songs/*.parquet"))
    damage(path)
    assert f"songs/{path.name} is lost or damaged; this run replaces it" in quick().err


DAMAGES = {
    "cut off": lambda text: text[:-100],
    "empty": lambda text: "",
    "of other JSON": lambda text: "[1]",
    "without files": lambda text: '{"commit": 1}',
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_commit_is_named_and_the_next_run_builds_all_anew(quick, contents, damage):
    record = quick().output / "_etl" / "commits" / "000000001.json"
    record.write_text(DAMAGES[damage](record.read_text()))
    result = quick()
    assert (result.code, contents()) == (0, OLD), result.err
    assert "_etl/commits/000000001.json is lost or damaged" in result.err
    assert "Nothing to do" in quick().out


@pytest.mark.parametrize(
    ("name", "printed"),
    [
        ("part-0.parquet", "part-0.parquet"),
        ("year=1/rows.parquet", "year=1/rows.parquet"),
        ("c1-x.parquet", "c1-x.parquet"),
        # as a program leaves it that syncs folders
        ("c000000001-0123abcd-00000 (1).parquet", "c000000001-0123abcd-00000 (1).parquet"),
        ("\u202ex.parquet", "?x.parquet"),
    ],
)
def test_somebody_elses_parquet_is_named_and_stops_the_run(quick, contents, name, printed):
    other = quick().output / "songs" / name
    other.parent.mkdir(exist_ok=True)
    other.write_bytes(b"rows")
    result = publish_version_2(quick)
    assert result.code == 2
    assert f"/output/songs/{printed}: this job did not write it" in result.error
    assert other.read_bytes() == b"rows"
    other.unlink()
    assert contents() == OLD


def test_files_that_readers_ignore_and_the_hundred_thousandth_are_no_reason_to_stop(quick):
    songs = quick().output / "songs"
    for name in ("_SUCCESS", ".part-0.parquet.crc", "README.md"):
        (songs / name).write_bytes(b"x")
    (songs / "c000000001-aaaaaaaa-100000.parquet").write_bytes(b"rows")
    assert publish_version_2(quick).code == 0
    assert len(list(songs.glob("*.parquet"))) == 1


NO_LINKS = """
#include <errno.h>
int link(const char *a, const char *b) { errno = EPERM; return -1; }
int linkat(int a, const char *b, int c, const char *d, int e) { errno = EPERM; return -1; }
"""
RUN = "import sys, etl; from tests import helpers; helpers.without_spark(); sys.exit(etl.main())"


@pytest.mark.skipif(not shutil.which("cc"), reason="takes a C compiler")
def test_a_file_system_without_hard_links_will_do(quick, contents, tmp_path):
    """As exFAT, SMB and many mounted stores are."""
    (tmp_path / "no_links.c").write_text(NO_LINKS)
    library = tmp_path / "no_links.so"
    subprocess.run(["cc", "-shared", "-fPIC", "-o", library, tmp_path / "no_links.c"], check=True)
    flags = ["--input", quick.source, "--output", tmp_path / "output"]
    done = run_process(*flags, cwd=tmp_path, code=RUN, env={"LD_PRELOAD": str(library)})
    assert (done.returncode, done.stderr) == (0, "")
    assert contents() == OLD


def test_a_commit_says_what_the_tables_are(sample_tables):
    """So that a reader of the lake need not know etl.py."""
    commit = json.loads((sample_tables / "_etl" / "commits" / "000000001.json").read_text())
    assert commit["tables"].keys() == etl.COLUMNS.keys()
    for table, found in commit["tables"].items():
        declared = [line.split()[:2] for line in etl.COLUMNS[table].strip().splitlines()]
        assert [[column["name"], column["type"]] for column in found["columns"]] == declared
        assert all(column["comment"] for column in found["columns"])
        assert found["rows"] > 0 and found["grain"]
    songplays = commit["tables"]["songplays"]
    assert songplays["partitioned_by"] == ["year", "month"]
    assert "one row per NextSong event" in songplays["grain"]
    sizes = {key: file["bytes"] for key, file in commit["files"].items()}
    assert sizes == {key: (sample_tables / key).stat().st_size for key in sizes}
    assert sum(sizes.values()) == sum(found["bytes"] for found in commit["tables"].values())
