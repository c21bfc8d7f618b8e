"""The whole run through S3A and obstore against an S3 server that checks signatures."""

import json
import secrets
from unittest.mock import MagicMock

import pytest
from harness import WHOLE, published
from helpers import (
    ENVIRONMENT,
    KEY,
    PROFILE,
    SAMPLE,
    SECRET,
    Result,
    all_tables,
    files_below,
    run_process,
)

import etl


@pytest.fixture(scope="module")
def lake(s3, tmp_path_factory):
    client = s3.bucket("music")
    for path in SAMPLE.rglob("*.json"):
        client.upload_file(str(path), "music", f"_in/{path.relative_to(SAMPLE)}")
    return client


def keys(client, prefix):
    pages = client.get_paginator("list_objects_v2").paginate(Bucket="music", Prefix=prefix)
    return [item["Key"] for page in pages for item in page.get("Contents", [])]


def download(client, prefix, folder):
    """Copies what lies below a prefix of the bucket to a folder."""
    for key in keys(client, prefix):
        path = folder / key
        path.parent.mkdir(parents=True, exist_ok=True)
        client.download_file("music", key, str(path))
    return folder / prefix.rstrip("/")


def long_key(folder):
    """A key of 1,024 bytes, the most that S3 allows; some servers allow 255 in a part of it."""
    key = "/".join([folder, *["é" * 100] * 4])
    return f"{key}/{'x' * (1018 - len(key.encode()))}.json"


def test_the_sample_through_s3_has_the_rows_of_a_local_run_and_no_secret_is_written(
    s3, lake, job, tmp_path
):
    """In an environment that would lead each client astray, from a prefix that begins with `_`."""
    (tmp_path / "aws").write_text(f"[profile wrong]{PROFILE}")
    astray = {**ENVIRONMENT, "AWS_PROFILE": "wrong", "AWS_CONFIG_FILE": str(tmp_path / "aws")}
    config = s3.config(tmp_path, "s3://music/_in", "s3a://music/out")
    longest = {long_key(f"_in/{side}") for side in ("song_data", "log_data")}
    for key in longest:
        lake.put_object(Bucket="music", Key=key, Body=b"not JSON")
    lake.put_object(Bucket="music", Key="_in/log_data/_a=b/hidden.json", Body=b"not JSON")
    for folder in ("song_data/A.json", "log_data/2018.json"):
        lake.put_object(Bucket="music", Key=f"_in/{folder}/", Body=b"")
    log = tmp_path / "events"
    log.mkdir()
    events = f"--conf spark.eventLog.enabled=true --conf spark.eventLog.dir=file://{log}"
    env = {**astray, "PYSPARK_SUBMIT_ARGS": f"{events} pyspark-shell"}
    done = run_process("--config", config, cwd=tmp_path, env=env, timeout=600)
    assert (done.returncode, done.stderr) == (0, "")
    copy = download(lake, "out/", tmp_path / "copy")
    assert all_tables(copy) == all_tables(job(SAMPLE).output)
    rejected = Result(0, "", "", copy).quarantine()
    assert longest <= {f"_in/{row['file']}" for row in rejected}
    assert not list(copy.glob("_etl/staging/*"))
    assert not list(copy.glob("_etl/probes/*"))
    written = [content for content, _ in files_below(copy).values()]
    written += [content for content, _ in files_below(log).values()]
    for text in (*written, done.stdout.encode()):
        assert SECRET.encode() not in text
        assert KEY.encode() not in text

    again = run_process("--config", config, cwd=tmp_path, env=astray)
    assert (again.returncode, again.stderr) == (0, "")
    assert "Nothing to do" in again.stdout


def test_files_that_go_by_way_of_a_local_folder_keep_their_names_and_bytes(s3, lake, tmp_path):
    config = s3.config(tmp_path, "s3://music/in", "s3://music/by")
    settings = etl.read_settings(["--config", str(config)])
    by = etl.open_place(settings.output, settings, etl.connect(settings))
    run = etl.Run(settings, by, by)
    run.scratch = etl.open_place(f"file://{tmp_path}", settings, None)
    names = [
        "artist_id=AR%3A1/part-0.parquet",
        "artist_id=AR 2é#/part-1.parquet",
        "_SUCCESS",
        ".part-0.parquet.crc",
    ]
    for name in names:
        run.scratch.create(f"songs/{name}", b"rows" * 3_000_000)
    etl.write(run, MagicMock(), "parquet", "songs", [])
    assert by.list("songs") == {f"songs/{name}": 12_000_000 for name in names[:2]}


@pytest.fixture
def config(s3, tmp_path):
    def write(source, **changes):
        return s3.config(tmp_path, source, "s3a://music/elsewhere", **changes)

    return write


WRONG = {
    "AWS does not know this KEY": {"key": "AKIAWRONG"},
    "the SECRET does not fit the KEY": {"secret": "wrong/Secret"},
    "no answer; check [AWS] ENDPOINT": {"endpoint": "http://127.0.0.1:9"},
}


@pytest.mark.parametrize("words", WRONG)
@pytest.mark.parametrize("mode", ["--dry-run", "--force"])
def test_a_wrong_key_secret_or_server_is_said_in_one_line(main, lake, config, words, mode):
    result = main("--config", config("s3://music/in", **WRONG[words]), mode)
    assert (result.code, len(result.err.splitlines())) == (2, 1), result.err
    assert words in result.err
    assert "s3a://music/elsewhere" in result.err
    assert "wrong/Secret" not in result.err
    assert keys(lake, "elsewhere") == []


def test_a_bucket_that_is_not_there_is_named(main, lake, config):
    for flag, place in (("--output", "s3a://no-such-lake/out"), ("--input", "s3a://no-such-in/x")):
        result = main("--config", config("s3://music/in"), flag, place)
        assert (result.code, len(result.err.splitlines())) == (2, 1), result.err
        assert "there is no such bucket" in result.err
        assert place in result.err


def pinned(main, config, lake, body=b"{}", **objects):
    """What a dry run says of an input with these objects besides one song and one log file."""
    prefix = f"special-{secrets.token_hex(4)}"
    objects = {"song_data/a.json": body, "log_data/a.json": body, **objects}
    for key, data in objects.items():
        lake.put_object(Bucket="music", Key=f"{prefix}/{key}", Body=data)
    return main("--config", config(f"s3://music/{prefix}"), "--dry-run"), prefix


MARKERS = ("song_data/", "song_data/x/", "song_data/x.json/", "log_data/2018.json/", "log_data/_x/")


@pytest.mark.parametrize("marker", MARKERS)
def test_a_folder_marker_is_no_input(main, config, lake, marker):
    result, _ = pinned(main, config, lake, **{marker: b""})
    assert result.code == 0, result.err
    assert "song_data: 1 files to read" in result.out
    assert "log_data: 1 files to read" in result.out


def test_an_empty_object_is_input(main, config, lake):
    result, _ = pinned(main, config, lake, **{"song_data/empty.json": b""})
    assert result.code == 0, result.err
    assert "song_data: 2 files to read" in result.out


@pytest.fixture(scope="module")
def versions(s3):
    """A bucket that keeps what is overwritten or deleted, as older versions of its objects."""
    client = s3.bucket("versions")
    enabled = {"Status": "Enabled"}
    client.put_bucket_versioning(Bucket="versions", VersioningConfiguration=enabled)

    def change(key, body):
        if body is None:
            client.delete_object(Bucket="versions", Key=key)
        else:
            client.put_object(Bucket="versions", Key=key, Body=body)

    return change


def test_of_a_bucket_with_versions_the_newest_count_and_what_is_deleted_is_gone(
    s3, main, versions, tmp_path
):
    """In the input, in the folders of the tables, and among the job's own records."""
    config = s3.config(tmp_path, "s3://versions/in", "s3://versions/out")
    settings = etl.read_settings(["--config", str(config)])
    out = etl.open_place(settings.output, settings, etl.connect(settings))
    for version in (1, 2, 3):
        for side in ("song_data", "log_data"):
            versions(f"in/{side}/a.json", json.dumps({"version": version}))
            for body in ("no JSON", None):
                versions(f"in/{side}/A/deleted.json", body)
        for body in ("no Parquet", None):
            versions("out/songs/deleted.parquet", body)
        result = main("--config", config)
        assert (result.code, result.err) == (0, "")
        assert "song_data: 1 files to read, 0 others" in result.out
        assert "log_data: 1 files to read, 0 others" in result.out
        assert all(found == {version: WHOLE} for found in published(out).values())
    assert "Nothing to do: commit 3" in main("--config", config).out
    assert out.list("_etl/probes") == out.list("_etl/staging") == {}


def test_an_object_that_is_deleted_while_it_is_read_is_not_read_as_an_older_version(
    s3, main, versions, tmp_path, monkeypatch
):
    config = s3.config(tmp_path, "s3://versions/gone", "s3://versions/elsewhere")
    for side in ("song_data", "log_data"):
        versions(f"gone/{side}/a.json", '{"version": 1}')
    build = etl.build

    def meddle(run):
        versions("gone/song_data/a.json", None)
        build(run)

    monkeypatch.setattr(etl, "build", meddle)
    result = main("--config", config)
    assert (result.code, len(result.err.splitlines())) == (1, 1)
    assert "input changed while it was read: song_data/a.json; run again" in result.err
