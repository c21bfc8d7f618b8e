"""Whole runs through S3A, obstore and boto3 against an S3 server that checks signatures."""

import json

import pytest

import etl
from tests import reference
from tests.helpers import (
    ASTRAY,
    KEY,
    SAMPLE,
    SECRET,
    check_tables,
    download_folder,
    files_below,
    play,
    run_process,
    song,
    upload_folder,
)

# runs the job once for each group of flags, with one Java; the last one without credentials
RUNS = """
import json, os, sys, etl
signed, again, public = json.loads(sys.argv[1])
codes = [etl.main(signed), etl.main(again)]
for name in [name for name in os.environ if name.startswith("AWS_")]:
    del os.environ[name]
os.environ.update(json.loads(sys.argv[2]))
codes.append(etl.main(public))
sys.exit(0 if codes == [0, 0, 0] else f"exit codes: {codes}")
"""


@pytest.fixture(scope="module")
def lake(s3):
    client = s3.bucket("music")
    upload_folder(client, SAMPLE, "music", "_in/")
    return client


def test_the_sample_through_s3_has_its_right_rows_and_no_secret_is_kept(s3, lake, tmp_path):
    """And an equal run does nothing, and a public bucket is read without any credentials.

    The environment would lead each client astray, and the prefix begins with `_`.
    """
    config = s3.config(tmp_path, "s3://music/_in", "s3a://music/out")
    odd = json.dumps(song(artist_id="AR:2 é#")).encode()
    lake.put_object(Bucket="music", Key="_in/song_data/odd.json", Body=odd)
    longest = "/".join(["_in/log_data", *["é" * 100] * 4, "x" * 200 + ".json"])
    lake.put_object(Bucket="music", Key=longest, Body=b"not JSON")
    lake.put_object(Bucket="music", Key="_in/log_data/_a=b/hidden.json", Body=b"not JSON")
    for folder in ("song_data/A.json", "log_data/2018.json"):
        lake.put_object(Bucket="music", Key=f"_in/{folder}/", Body=b"")
    public = s3.bucket("public")
    for key, record in {"song_data/a.json": song(), "log_data/a.json": play()}.items():
        public.put_object(Bucket="public", Key=f"x/{key}", Body=json.dumps(record))
    (tmp_path / "public.cfg").write_text(f"[AWS]\nENDPOINT = {s3.endpoint}\n")
    log = tmp_path / "events"
    log.mkdir()
    events = f"--conf spark.eventLog.enabled=true --conf spark.eventLog.dir=file://{log}"
    nobody = {"AWS_EC2_METADATA_DISABLED": "true", "HOME": str(tmp_path)}
    flags = ["--config", str(config), "--songs-partition-by", "year,artist_id"]
    runs = [
        flags,
        flags,
        ["--config", "public.cfg", "--input", "s3://public/x", "--output", "local"],
    ]
    done = run_process(
        json.dumps(runs),
        json.dumps(nobody),
        cwd=tmp_path,
        env={**ASTRAY, "PYSPARK_SUBMIT_ARGS": f"{events} pyspark-shell"},
        code=RUNS,
        timeout=600,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "Nothing to do: commit 1" in done.stdout
    assert "not a JSON object, first in log_data/éé" in done.stderr
    copy = download_folder(lake, "music", "out", tmp_path / "copy")
    songs, logs = [reference.read_dataset(SAMPLE, name)[0] for name in ("song_data", "log_data")]
    check_tables(copy, reference.derive([*songs, odd], [*logs, b"not JSON"]))
    assert not list(copy.glob("_etl/staging/*"))
    written = [content for content, _ in files_below(copy).values()]
    written += [content for content, _ in files_below(log).values()]
    for text in (*written, done.stdout.encode(), done.stderr.encode()):
        assert SECRET.encode() not in text
        assert KEY.encode() not in text
    check_tables(
        tmp_path / "local",
        reference.derive([json.dumps(song()).encode()], [json.dumps(play()).encode()]),
    )


def test_folder_markers_are_no_input_and_only_the_newest_version_of_an_object_is(
    main, s3, tmp_path
):
    """Of a bucket with versions, what is deleted is gone: in the input, tables and records."""
    client = s3.bucket("versions")
    enabled = {"Status": "Enabled"}
    client.put_bucket_versioning(Bucket="versions", VersioningConfiguration=enabled)
    config = s3.config(tmp_path, "s3://versions/in", "s3://versions/out")
    settings = etl.read_settings(["--config", str(config)])
    out = etl.open_location(settings.output, settings)
    for version in (b"version 1", b"version 2"):
        for dataset in ("song_data", "log_data"):
            client.put_object(Bucket="versions", Key=f"in/{dataset}/a.json", Body=version)
            for marker in (f"in/{dataset}/", f"in/{dataset}/x.json/", f"in/{dataset}/_x/"):
                client.put_object(Bucket="versions", Key=marker, Body=b"")
        for key in ("in/song_data/deleted.json", "out/songs/deleted.parquet"):
            client.put_object(Bucket="versions", Key=key, Body=b"x")
            client.delete_object(Bucket="versions", Key=key)
        result = main("--config", config)
        assert (result.code, result.err) == (0, "")
        assert "song_data: 1 files" in result.out
        [file] = out.list("songs")
        assert out.read(file) == version
    assert "Nothing to do: commit 2" in main("--config", config).out
    assert out.list("_etl/staging") == {}
