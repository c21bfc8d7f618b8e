"""Publishing: stage, commit, roll forward; any run may finish what another left."""

import re

import pytest
from helpers import files_below, play, song, write_input

import etl


@pytest.fixture
def lake(tmp_path):
    return etl.open_place(f"file://{tmp_path}", None, None)


def staged(lake, number, content=b"rows"):
    """A run that has staged one file a table, and the record that it would commit."""
    run = etl.Run(None, etl.run_id(etl.datetime.now(etl.timezone.utc)), lake, lake, number=number)
    tables = {}
    for table in etl.COLUMNS:
        key = f"{run.staging}/{table}/part-0.parquet"
        lake.create(key, content)
        name = f"c{number:09d}-{run.id[-8:]}-00000.parquet"
        tables[table] = {"rows": 1, "files": {name: {"staged": key, "bytes": len(content)}}}
    return run, {"commit": number, "run": run.id, "tables": tables}


def published(lake, number, content=b"rows"):
    run, record = staged(lake, number, content)
    etl.commit(run, record)
    etl.publish(lake, number)
    return run, record


def tables_of(lake):
    return {key for table in etl.COLUMNS for key in lake.list(table)}


def test_a_commit_number_is_taken_once(lake):
    published(lake, 1)
    run, record = staged(lake, 1, b"other")
    before = tables_of(lake)
    with pytest.raises(etl.Stop) as stop:
        etl.commit(run, record)
    assert stop.value.code == 75 and "another run made commit 1 first" in str(stop.value)
    assert tables_of(lake) == before


def test_the_files_of_the_next_commit_replace_those_of_the_last(lake):
    published(lake, 1)
    _, record = published(lake, 2)
    etl.clean(lake)
    assert tables_of(lake) == set(etl.live_files(record))
    assert lake.list("_etl/staging") == {}
    assert all(
        re.fullmatch(r"\w+/c\d{9}-[0-9a-f]{8}-\d{5}\.parquet", key) for key in tables_of(lake)
    )


@pytest.mark.parametrize("count", range(1, 13))
def test_a_publication_that_broke_off_anywhere_is_finished_by_the_next_run(
    lake, monkeypatch, count
):
    published(lake, 1)
    run, record = staged(lake, 2, b"new rows")
    etl.commit(run, record)
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
    assert tables_of(lake) == set(etl.live_files(record))
    assert etl.newest(lake, "done") == 2


def test_publishing_again_is_harmless(lake):
    _, record = published(lake, 1)
    etl.publish(lake, 1)
    assert tables_of(lake) == set(etl.live_files(record))


def test_a_publisher_that_slept_through_a_newer_commit_changes_nothing(lake):
    published(lake, 1)
    _, record = published(lake, 2)
    etl.clean(lake)
    etl.publish(lake, 1)
    assert tables_of(lake) == set(etl.live_files(record))


def test_a_publisher_that_slept_while_another_finished_its_commit_is_done(lake, monkeypatch):
    _, record = published(lake, 1)
    etl.clean(lake)
    listings, real = iter([{}]), etl.list_tables  # what it saw before it slept
    monkeypatch.setattr(etl, "list_tables", lambda lake: next(listings, real(lake)))
    etl.publish(lake, 1)
    assert tables_of(lake) == set(etl.live_files(record))


def test_a_publisher_whose_staging_is_gone_leaves_it_to_the_newer_commit(lake):
    first, record = staged(lake, 1)
    etl.commit(first, record)
    lake.delete_tree(first.staging)
    with pytest.raises(etl.Stop, match="publication unfinished"):
        etl.publish(lake, 1)
    etl.commit(*staged(lake, 2))
    etl.publish(lake, 1)
    etl.recover(lake)
    assert etl.newest(lake, "done") == 2


def test_a_file_of_another_size_than_the_commit_lists_is_no_publication(lake):
    run, record = staged(lake, 1)
    etl.commit(run, record)
    lake.create(min(etl.live_files(record)), b"cut")
    with pytest.raises(etl.Stop, match="is not as the commit lists it") as stop:
        etl.publish(lake, 1)
    assert stop.value.code == 1 and etl.newest(lake, "done") == 0


def test_staging_that_is_gone_before_the_commit_means_that_another_run_won(lake):
    run, record = staged(lake, 1)
    published(lake, 1)
    etl.clean(lake)
    with pytest.raises(etl.Stop) as stop:
        etl.commit(run, record)
    assert stop.value.code == 75


def test_staging_that_is_gone_makes_no_commit(lake):
    run, record = staged(lake, 1)
    lake.delete_tree(f"{run.staging}/songs")
    with pytest.raises(etl.Stop, match="its staging is gone") as stop:
        etl.commit(run, record)
    assert stop.value.code == 1 and run.committed is False and etl.newest(lake, "commits") == 0


def test_a_lost_answer_is_settled_by_reading_it_back(lake, monkeypatch):
    run, record = staged(lake, 1)
    real = etl.Place.create

    def lossy(self, key, data):
        real(self, key, data)
        raise etl.BaseError("connection reset")

    monkeypatch.setattr(etl.Place, "create", lossy)
    etl.commit(run, record)
    assert etl.newest(lake, "commits") == 1


def test_clean_leaves_what_a_later_commit_may_want(lake):
    published(lake, 1)
    later, _ = staged(lake, 2)
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
    young = f"_etl/probes/{etl.run_id(etl.datetime.now(etl.timezone.utc))}"
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
    etl.commit(*staged(lake, 2))
    with monkeypatch.context() as broken:
        broken.setattr(etl.Place, "delete", lambda self, key: None)
        with pytest.raises(etl.Stop, match=r"c000000001-.* is not as the commit lists it"):
            etl.publish(lake, 2)
    assert etl.newest(lake, "done") == 1


def test_a_store_that_overwrites_is_refused_and_the_probe_is_gone(lake, monkeypatch):
    real = etl.obstore.put
    monkeypatch.setattr(etl.obstore, "put", lambda store, key, data, **_: real(store, key, data))
    with pytest.raises(etl.Stop, match="overwrites where it should only create") as stop:
        etl.prove_create_if_absent(etl.Run(None, "20180101T000000Z-00000000", lake, lake))
    assert stop.value.code == 2 and lake.list("_etl") == {}


def test_a_changed_layout_is_refused_and_force_rebuilds_under_new_names(job, tmp_path):
    write_input(tmp_path / "in", [song()], [[play()]])
    before = files_below(job(tmp_path / "in").output)
    changed = job(tmp_path / "in", "--songs-partition-by", "year,artist_id")
    assert (changed.code, "is laid out by year" in changed.err) == (2, True)
    assert files_below(changed.output) == before
    forced = job(tmp_path / "in", "--force")
    tables = {name for name in files_below(forced.output) if not name.startswith("_etl")}
    assert forced.code == 0 and len(tables) == 5 and not tables & set(before)
