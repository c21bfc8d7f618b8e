"""An AWS account in this process, and one run of the job on S3 with every request written down."""

import aws
import botocore.session
import pytest
from fake_aws import BUCKET, INPUT, OUTPUT, REGION, Recorded, Recorder, shared_loader
from helpers import play, run_process, song, write_input
from moto import mock_aws


@pytest.fixture(scope="session")
def recorded(s3, tmp_path_factory):
    client = s3.bucket("source")
    s3.bucket(BUCKET)
    folder, recorder = tmp_path_factory.mktemp("recorded"), Recorder(s3.endpoint)
    songs = [song(), song(song_id="SO2", title="Home", year=0, artist_latitude=None)]
    plays = [
        play(itemInSession=number, ts=1541106106796 + number * 86_400_000) for number in range(40)
    ]
    write_input(folder, songs, [[*plays, b"cut off"]])
    for path in folder.rglob("*.json"):
        client.upload_file(str(path), "source", f"in/{path.relative_to(folder)}")
    config = s3.config(tmp_path_factory.mktemp("config"), INPUT, OUTPUT, endpoint=recorder.endpoint)
    # executors of their own, as on EMR, write to S3 themselves
    env = {
        "PYSPARK_SUBMIT_ARGS": "--master local-cluster[1,2,1024] pyspark-shell",
        "SPARK_LOCAL_IP": "127.0.0.1",
    }
    for _ in range(2):  # the second run finds nothing to do
        done = run_process(
            "--config", config, "--max-rejected", "0.1", cwd=folder, timeout=400, env=env
        )
        assert done.returncode == 0, done.stderr[-3000:]
    listed = client.get_paginator("list_objects_v2").paginate(Bucket=BUCKET)
    keys = [
        item["Key"] for page in listed for item in page["Contents"] if not item["Key"].endswith("/")
    ]
    objects = {key: client.get_object(Bucket=BUCKET, Key=key)["Body"].read() for key in keys}
    return Recorded(recorder.calls, objects, recorder.endpoint)


@pytest.fixture
def account(monkeypatch):
    """An AWS account in this process; nothing is paused for."""
    for name in ("AWS_PROFILE", "AWS_REGION", "AWS_DEFAULT_REGION", "AWS_SESSION_TOKEN"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "testing")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "testing")
    monkeypatch.setenv("AWS_REGION", REGION)
    monkeypatch.setattr(aws, "pause", lambda seconds: None)
    monkeypatch.setattr(botocore.session, "create_loader", shared_loader)
    with mock_aws(config={"iam": {"load_aws_managed_policies": True}}):
        yield
