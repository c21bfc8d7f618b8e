"""The whole run through S3A and obstore against an S3 server that checks signatures."""

import json
from unittest.mock import MagicMock

import duckdb
import pytest
from helpers import KEY, SAMPLE, SECRET, all_tables, files_below, run_process

import etl


@pytest.fixture(scope="module")
def lake(s3, tmp_path_factory):
    client = s3.bucket("music")
    for path in SAMPLE.rglob("*.json"):
        client.upload_file(str(path), "music", f"in/{path.relative_to(SAMPLE)}")
    return client


def keys(client, prefix):
    pages = client.get_paginator("list_objects_v2").paginate(Bucket="music", Prefix=prefix)
    return [item["Key"] for page in pages for item in page.get("Contents", [])]


def test_the_sample_through_s3_has_the_rows_of_a_local_run_and_no_secret_is_written(
    s3, lake, job, tmp_path
):
    config = s3.config(tmp_path, "s3://music/in", "s3a://music/out")
    log = tmp_path / "events"
    log.mkdir()
    arguments = (
        f"--conf spark.eventLog.enabled=true --conf spark.eventLog.dir=file://{log} pyspark-shell"
    )
    done = run_process(
        "--config", config, cwd=tmp_path, env={"PYSPARK_SUBMIT_ARGS": arguments}, timeout=400
    )
    assert done.returncode == 0, done.stderr[-3000:]
    for key in keys(lake, "out/"):
        path = tmp_path / "copy" / key
        path.parent.mkdir(parents=True, exist_ok=True)
        lake.download_file("music", key, str(path))
    copy = tmp_path / "copy" / "out"
    assert all_tables(copy) == all_tables(job(SAMPLE).output)
    assert not list((copy / "_etl").glob("staging/*")) and not list(
        (copy / "_etl").glob("probes/*")
    )
    written = b"".join(content for content, _ in {**files_below(copy), **files_below(log)}.values())
    for text in (written, done.stdout.encode(), done.stderr.encode()):
        assert SECRET.encode() not in text and KEY.encode() not in text

    again = run_process("--config", config, cwd=tmp_path)
    assert again.returncode == 0 and "Nothing to do" in again.stdout
    count = duckdb.sql(f"SELECT count(*) FROM '{copy}/songplays/**/*.parquet'").fetchall()
    assert count == [
        (json.loads(next(copy.glob("_etl/runs/*")).read_text())["events"]["songplays"],)
    ]


def test_files_that_go_by_way_of_a_local_folder_keep_their_names_and_bytes(s3, lake, tmp_path):
    settings = etl.read_settings(
        ["--config", str(s3.config(tmp_path, "s3://music/in", "s3://music/by"))]
    )
    spool = etl.open_place(f"file://{tmp_path}", settings, None)
    names = [
        "artist_id=AR%3A1/part-0.parquet",
        "artist_id=AR 2é#/part-1.parquet",
        "_SUCCESS",
        ".part-0.parquet.crc",
    ]
    for name in names:
        spool.create(f"songs/{name}", b"rows" * 3_000_000)
    run = etl.Run(
        settings,
        "run",
        spool,
        etl.open_place(settings.output, settings, etl.connect(settings)),
        spool,
    )
    etl.write(run, MagicMock(), "parquet", "songs")
    assert run.lake.list("songs") == {f"songs/{name}": 12_000_000 for name in names[:2]}


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"key": "AKIAWRONG"}, "AWS does not know this KEY"),
        ({"secret": "wrong/Secret"}, "the SECRET does not fit the KEY"),
        ({"endpoint": "http://127.0.0.1:9"}, "no answer; check [AWS] ENDPOINT"),
    ],
)
def test_a_wrong_key_secret_or_server_is_said_in_one_line(s3, lake, tmp_path, change, words):
    config = s3.config(tmp_path, "s3://music/in", "s3a://music/elsewhere", **change)
    done = run_process("--config", config, cwd=tmp_path)
    assert (done.returncode, len(done.stderr.splitlines())) == (2, 1), done.stderr
    assert words in done.stderr and "s3a://music/elsewhere" in done.stderr
    assert "wrong/Secret" not in done.stderr and keys(lake, "elsewhere") == []


def test_a_bucket_that_is_not_there(s3, lake, tmp_path):
    done = run_process(
        "--config", s3.config(tmp_path, "s3://music/in", "s3a://no-such-lake/out"), cwd=tmp_path
    )
    assert (done.returncode, len(done.stderr.splitlines())) == (2, 1), done.stderr
    assert "there is no such bucket" in done.stderr and "no-such-lake" in done.stderr
