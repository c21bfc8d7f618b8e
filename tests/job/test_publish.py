"""Publishing: stage, commit, roll forward; any run may finish what another left."""

import gzip
import hashlib
import json
import os
import re
import shutil

import pytest
from helpers import files_below, run_process

import etl


@pytest.fixture
def lake(tmp_path):
    return etl.open_place(f"file://{tmp_path}", None, None)


def staged(lake, number, content=b"rows"):
    """A run that has staged one file per table."""
    run = etl.Run(etl.read_settings([]), lake, lake, number=number)
    for table in etl.COLUMNS:
        lake.create(f"{run.staging}/{table}/part-0.parquet", content)
        run.tables[table] = {"rows": 1, "files": etl.staged_files(run)[table]}
    return run


def committed(lake, number, content=b"rows"):
    run = staged(lake, number, content)
    etl.commit(run)
    return run


def published(lake, number, content=b"rows"):
    run = committed(lake, number, content)
    etl.publish(lake, number)
    return run


def live(lake, number):
    return set(etl.live_files(etl.read_commit(lake, number)))


def tables_of(lake):
    return {key for table in etl.COLUMNS for key in lake.list(table)}


def test_a_commit_number_is_taken_once(lake):
    published(lake, 1)
    run = staged(lake, 1, b"other")
    before = tables_of(lake)
    with pytest.raises(etl.Stop) as stop:
        etl.commit(run)
    assert stop.value.code == 75 and "another run made commit 1 first" in str(stop.value)
    assert tables_of(lake) == before


def test_the_files_of_the_next_commit_replace_those_of_the_last(lake):
    published(lake, 1)
    published(lake, 2)
    etl.clean(lake)
    assert tables_of(lake) == live(lake, 2)
    assert lake.list("_etl/staging") == {}
    assert all(
        re.fullmatch(r"\w+/c\d{9}-[0-9a-f]{8}-\d{5}\.parquet", key) for key in tables_of(lake)
    )


@pytest.mark.parametrize("count", range(1, 13))
def test_a_publication_that_broke_off_anywhere_is_finished_by_the_next_run(
    lake, monkeypatch, count
):
    published(lake, 1)
    committed(lake, 2, b"new rows")
    calls = []

    def breaks(name):
        real = getattr(etl.Place, name)

        def act(self, *arguments):
            calls.append(name)
            if len(calls) == count:
                raise OSError("the store went away")
            return real(self, *arguments)

        return act

    with monkeypatch.context() as broken:
        for name in ("copy", "delete", "create"):
            broken.setattr(etl.Place, name, breaks(name))
        if count <= 11:
            with pytest.raises(
                etl.Stop, match="commit 2 is made, publication unfinished; run again"
            ):
                etl.publish(lake, 2)
        else:
            etl.publish(lake, 2)
    etl.recover(lake)
    assert tables_of(lake) == live(lake, 2)
    assert etl.newest(lake, "done") == 2


def test_publishing_again_is_harmless(lake):
    published(lake, 1)
    etl.publish(lake, 1)
    assert tables_of(lake) == live(lake, 1)


def test_a_publisher_that_slept_through_a_newer_commit_changes_nothing(lake):
    published(lake, 1)
    published(lake, 2)
    etl.clean(lake)
    etl.publish(lake, 1)
    assert tables_of(lake) == live(lake, 2)


def test_a_publisher_that_slept_while_another_finished_its_commit_is_done(lake, monkeypatch):
    published(lake, 1)
    etl.clean(lake)
    real = etl.list_tables
    # what it saw before it slept
    listings = iter([{}])
    monkeypatch.setattr(etl, "list_tables", lambda lake: next(listings, real(lake)))
    etl.publish(lake, 1)
    assert tables_of(lake) == live(lake, 1)


def test_a_publisher_whose_staging_is_gone_leaves_it_to_the_newer_commit(lake):
    first = committed(lake, 1)
    lake.delete_tree(first.staging)
    with pytest.raises(etl.Stop, match="publication unfinished"):
        etl.publish(lake, 1)
    committed(lake, 2)
    etl.publish(lake, 1)
    etl.recover(lake)
    assert etl.newest(lake, "done") == 2


def test_a_file_of_another_size_than_the_commit_lists_is_no_publication(lake):
    committed(lake, 1)
    lake.create(min(live(lake, 1)), b"cut")
    with pytest.raises(etl.Stop, match="is not as the commit lists it") as stop:
        etl.publish(lake, 1)
    assert stop.value.code == 1 and etl.newest(lake, "done") == 0


def test_staging_that_is_gone_before_the_commit_means_that_another_run_won(lake):
    run = staged(lake, 1)
    published(lake, 1)
    etl.clean(lake)
    with pytest.raises(etl.Stop) as stop:
        etl.commit(run)
    assert stop.value.code == 75


def test_staging_that_is_gone_makes_no_commit(lake):
    run = staged(lake, 1)
    lake.delete_tree(f"{run.staging}/songs")
    with pytest.raises(etl.Stop, match="its staging is gone") as stop:
        etl.commit(run)
    assert (stop.value.code, run.published) == (1, "nothing is published")
    assert etl.newest(lake, "commits") == 0


def test_a_lost_answer_is_settled_by_reading_it_back(lake, monkeypatch):
    run = staged(lake, 1)
    real = etl.Place.create

    def lossy(self, key, data):
        real(self, key, data)
        raise etl.BaseError("connection reset")

    monkeypatch.setattr(etl.Place, "create", lossy)
    etl.commit(run)
    assert etl.newest(lake, "commits") == 1


def test_clean_leaves_what_a_later_commit_may_want(lake):
    published(lake, 1)
    later = staged(lake, 2)
    lake.create("songs/c000000002-aaaaaaaa-00000.parquet", b"later")
    lake.create("songs/c000000001-aaaaaaaa-00000.parquet", b"orphan")
    etl.clean(lake)
    assert "songs/c000000002-aaaaaaaa-00000.parquet" in tables_of(lake)
    assert "songs/c000000001-aaaaaaaa-00000.parquet" not in tables_of(lake)
    assert len(lake.list(later.staging)) == len(etl.COLUMNS)


@pytest.mark.parametrize(
    "name",
    ["part-0.parquet", "_x/part-0.parquet", "_part-0.parquet", "year=1/rows", "c1-x.parquet"],
)
def test_somebody_elses_file_in_a_table_folder_is_named_and_refused(lake, name):
    lake.create(f"songs/{name}", b"rows")
    with pytest.raises(etl.Stop, match=re.escape(name)) as stop:
        etl.list_tables(lake)
    assert stop.value.code == 2


def test_recovery_removes_staging_that_nobody_can_want(lake):
    published(lake, 1)
    etl.recover(lake)
    assert lake.list("_etl/staging") == {}


def test_a_copy_onto_itself_leaves_no_other_name(lake):
    lake.create("a", b"rows")
    for _ in range(2):
        lake.copy("a", "songs/b")
    assert lake.list("songs").keys() == {"songs/b"}


def test_clean_removes_old_probes_and_leaves_those_of_running_runs(lake):
    young = f"_etl/probes/{etl.run_id(etl.datetime.now(etl.UTC))}"
    for key in (young, "_etl/probes/20180101T000000Z-00000000"):
        lake.create(key, b"")
    etl.clean(lake)
    assert set(lake.list("_etl/probes")) == {young}


def test_files_that_readers_ignore_are_ignored(lake):
    for name in ("_SUCCESS", ".part-0.parquet.crc", ".DS_Store"):
        lake.create(f"songs/{name}", b"x")
    assert etl.list_tables(lake) == {}


def test_a_folder_marker_is_no_file_of_somebody_elses(lake):
    lake.create("songs/year=1", b"")
    assert etl.list_tables(lake) == {}


def test_the_hundred_thousandth_file_of_a_table_is_one_of_the_jobs_own(lake):
    name = "songplays/year=2018/month=11/c000000001-aaaaaaaa-100000.parquet"
    lake.create(name, b"rows")
    assert etl.list_tables(lake) == {name: 4}


def test_a_file_of_an_earlier_commit_that_stays_is_no_publication(lake, monkeypatch):
    published(lake, 1)
    committed(lake, 2)
    with monkeypatch.context() as broken:
        broken.setattr(etl.Place, "delete", lambda self, key: None)
        with pytest.raises(etl.Stop, match=r"c000000001-.* is not as the commit lists it"):
            etl.publish(lake, 2)
    assert etl.newest(lake, "done") == 1


def test_a_store_that_overwrites_is_refused_and_the_probe_is_gone(lake, monkeypatch):
    real = etl.obstore.put
    monkeypatch.setattr(etl.obstore, "put", lambda store, key, data, **_: real(store, key, data))
    with pytest.raises(etl.Stop, match="overwrites what it should only create") as stop:
        etl.prove_create_if_absent(etl.Run(None, lake, lake))
    assert stop.value.code == 2 and lake.list("_etl") == {}


def test_a_changed_layout_is_a_changed_setting_and_all_is_published_in_it(quick):
    before = files_below(quick().output)
    changed = quick("--songs-partition-by", "year,artist_id")
    tables = {name for name in files_below(changed.output) if not name.startswith("_etl")}
    assert changed.code == 0 and tables and not tables & set(before)


def test_tables_whose_etl_folder_is_lost_are_replaced_and_no_row_is_doubled(quick, tmp_path):
    """Also if the newest commit of a restored copy is older than the tables."""
    quick()
    kept = shutil.copytree(tmp_path / "output" / "_etl", tmp_path / "yesterday")
    quick("--force")
    for restored in (None, kept):
        shutil.rmtree(tmp_path / "output" / "_etl")
        if restored:
            shutil.copytree(restored, tmp_path / "output" / "_etl")
        result = quick("--force")
        assert (result.code, result.err) == (0, "")
        assert result.versions() == {1}


@pytest.mark.parametrize("is_whole", [False, True])
def test_a_commit_that_nobody_can_publish_is_named_and_replaced(quick, monkeypatch, is_whole):
    """Its staging is gone; if all its files are there, only its `done` is missing."""
    quick()
    first = quick("--force")
    (first.output / "_etl" / "done" / "000000002").unlink()
    if not is_whole:
        min(first.output.glob("songs/*.parquet")).unlink()
    again = quick()
    assert again.code == 0
    assert ("commit 2 can no longer be published" in again.err) != is_whole
    assert again.versions() == {1}
    assert quick().err == ""


DAMAGES = {
    "cut off": lambda text: text[:-100],
    "empty": lambda text: "",
    "of other JSON": lambda text: "[1]",
    "without its tables": lambda text: '{"commit": 1}',
    "written by a newer version of the job": lambda text: text.replace('"staged"', '"from"'),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_commit_is_named_and_the_next_run_builds_all_anew(quick, damage):
    record = quick().output / "_etl" / "commits" / "000000001.json"
    record.write_text(DAMAGES[damage](record.read_text()))
    again = quick()
    assert (again.code, "_etl/commits/000000001.json: damaged" in again.err) == (0, True)
    assert again.versions() == {1}
    assert "Nothing to do" in quick().out


def test_a_done_that_is_newer_than_the_commits_is_passed(quick):
    (quick().output / "_etl" / "done" / "000000099").touch()
    again = quick("--force")
    assert (again.code, again.versions()) == (0, {1})
    assert "(commit 100)" in again.out
    assert "Nothing to do" in quick().out


def test_a_commit_of_a_newer_version_of_the_job_may_say_more(quick):
    """Keys that this version does not know, and a table, whose folder is not its to judge."""
    output = quick().output
    path = output / "_etl" / "commits" / "000000001.json"
    record = json.loads(path.read_text())
    record["tables"]["genres"] = {"rows": 1, "files": {"a.parquet": {"from": "b", "bytes": 3}}}
    for known in (record, record["tables"]["songs"]):
        known["newer"] = {"x": None}
    path.write_text(json.dumps(record))
    (output / "genres").mkdir()
    (output / "genres" / "a.parquet").write_bytes(b"new")
    assert "Nothing to do" in quick().out
    again = quick("--force")
    assert (again.code, again.err, again.versions()) == (0, "", {1})
    assert (output / "genres" / "a.parquet").read_bytes() == b"new"


@pytest.mark.parametrize("number", [1, 2])
def test_a_damaged_listing_of_the_input_harms_no_run_and_no_later_commit(quick, number):
    """That of the newest commit, or one that a run left which did not live to commit."""
    inputs = quick().output / "_etl" / "inputs"
    whole = (inputs / "000000001.json.gz").read_bytes()
    (inputs / f"{number:09d}.json.gz").write_bytes(whole[:20])
    assert "Nothing to do" in quick().out
    again = quick("--force")
    assert (again.code, again.err, again.versions()) == (0, "", {1})
    listing = gzip.decompress((inputs / "000000002.json.gz").read_bytes())
    record = json.loads((again.output / "_etl" / "commits" / "000000002.json").read_text())
    assert hashlib.sha256(listing).hexdigest() == record["input_sha256"]


@pytest.mark.parametrize("table", etl.COLUMNS)
def test_a_table_folder_that_is_a_file_stops_the_run_before_it_changes_anything(
    quick, tmp_path, table
):
    (tmp_path / "output").mkdir()
    (tmp_path / "output" / table).touch()
    for arguments in ([], ["--dry-run"]):
        result = quick(*arguments)
        assert result.code == 2
        assert f"output/{table}: a file stands where a folder should be" in result.err
    assert [path.name for path in (tmp_path / "output").iterdir()] == [table]


@pytest.mark.parametrize(
    ("name", "printed"),
    [
        (b"\x1b]0;title\x07x.parquet", "?]0;title?x.parquet"),
        ("\u202ex\u2028.parquet".encode(), "?x?.parquet"),
        (b"caf\xe9.parquet", "caf?.parquet"),
    ],
)
def test_names_are_printed_without_control_characters(quick, name, printed):
    os.close(os.open(os.fsencode(quick().output / "songs") + b"/" + name, os.O_CREAT))
    refused = quick()
    assert (refused.code, len(refused.err.splitlines())) == (2, 1)
    assert f"output/songs/{printed}: not written by this job" in refused.err


@pytest.mark.skipif(os.name != "posix" or os.geteuid() != 0, reason="changes the user")
def test_another_user_can_finish_a_publication(lake, tmp_path):
    """A local copy is a hard link, which Linux forbids on files of other users."""
    run = committed(lake, 1)
    for path in tmp_path.rglob("*"):
        path.chmod(0o777 if path.is_dir() else 0o644)
    for folder in (tmp_path, *tmp_path.parents[:3]):
        folder.chmod(folder.stat().st_mode | 0o055)
    tmp_path.chmod(0o777)
    code = "import os, sys, etl; os.setuid(65534); "
    code += "etl.publish(etl.open_place(sys.argv[1], None, None), 1)"
    done = run_process(run.lake.uri, cwd=tmp_path, code=code)
    assert (done.returncode, done.stderr) == (0, "")
    assert tables_of(lake) == live(lake, 1)
