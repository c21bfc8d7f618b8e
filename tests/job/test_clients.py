"""One identity, endpoint and region for every client, whatever the environment says."""

import os
import re

import pytest
from helpers import ENVIRONMENT, KEY, NOWHERE, PROFILE, SECRET
from proxy import bad_store

import etl


@pytest.fixture(scope="module")
def store(s3):
    """A server that keeps the headers of each request, and does what it asks for."""
    asked = []
    with bad_store(s3.endpoint, lambda _, __, headers, ___: asked.append(headers)) as server:
        server.asked = asked
        yield server


@pytest.fixture(scope="module")
def config(s3, store, tmp_path_factory):
    s3.bucket("clients")
    folder = tmp_path_factory.mktemp("clients")
    return s3.config(folder, "s3://clients/in", "s3://clients/lake", endpoint=store.endpoint)


@pytest.fixture
def place(config, store, monkeypatch):
    """Opens OUTPUT of the settings with a changed environment."""
    store.asked.clear()
    for name in [*ENVIRONMENT, "AWS_PROFILE"]:
        monkeypatch.delenv(name, raising=False)

    def open_output(environment):
        for name, value in environment.items():
            monkeypatch.setenv(name, value)
        settings = etl.read_settings(["--config", str(config)])
        session = etl.connect(settings)
        return etl.open_place(settings.output, settings, session), session

    return open_output


def check_clients(store, lake, name):
    """obstore lists, reads, creates and copies, boto3 deletes, at the place of dl.cfg."""
    key = f"{name}/a"
    assert lake.create(key, b"rows")
    assert not lake.create(key, b"other")
    lake.copy(key, f"{name}/b")
    assert lake.list(name) == {key: 4, f"{name}/b": 4}
    assert lake.read(key) == lake.read(f"{name}/b") == b"rows"
    lake.delete(key)
    lake.delete_tree(name)
    assert lake.list(name) == {}
    assert len(store.asked) >= 10
    for headers in store.asked:
        assert re.search(rf"={KEY}/\d+/us-east-1/s3/", headers["Authorization"]), str(headers)
        assert "X-Amz-Security-Token" not in headers


@pytest.mark.parametrize("name", [*ENVIRONMENT, "all of them"])
def test_no_variable_leads_a_client_astray(store, place, name):
    given = ENVIRONMENT if name == "all of them" else {name: ENVIRONMENT[name]}
    lake, _ = place(given)
    check_clients(store, lake, name)


@pytest.mark.parametrize("section", ["default", "profile wrong"])
def test_no_profile_of_the_aws_programs_leads_a_client_astray(store, place, tmp_path, section):
    (tmp_path / "aws").write_text(f"[{section}]{PROFILE}")
    given = {"AWS_CONFIG_FILE": str(tmp_path / "aws")}
    if section != "default":
        given["AWS_PROFILE"] = "wrong"
    lake, _ = place(given)
    check_clients(store, lake, section)


def test_hadoop_is_told_the_same_identity_endpoint_and_region(store, place):
    lake, session = place(ENVIRONMENT)
    options = etl.s3a_options([lake], session)
    assert options["fs.s3a.access.key"] == KEY
    assert options["fs.s3a.secret.key"] == SECRET
    assert options["fs.s3a.session.token"] == ""
    assert options["fs.s3a.bucket.clients.endpoint"] == store.endpoint
    assert options["fs.s3a.bucket.clients.endpoint.region"] == "us-east-1"
    assert options["fs.s3a.bucket.clients.path.style.access"] == "true"


@pytest.mark.parametrize(
    "name", ["AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN"]
)
def test_a_key_with_a_line_end_is_refused_and_not_printed(quick, monkeypatch, name):
    """As a Kubernetes secret has it that was made with `echo`."""
    given = {
        "AWS_ACCESS_KEY_ID": KEY,
        "AWS_SECRET_ACCESS_KEY": "canary-secret",
        "AWS_SESSION_TOKEN": "canary-token",
    }
    for other, value in given.items():
        monkeypatch.setenv(other, f"{value}\n" if other == name else value)
    result = quick("--output", "s3://bucket/lake")
    assert result.code == 2
    assert result.err == (
        "etl.py: AWS credentials: a key or token holds a blank or a line end; correct it\n"
    )


def without_credentials(monkeypatch, folder):
    for name in [name for name in os.environ if name.startswith("AWS_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("AWS_CONFIG_FILE", str(folder / "aws"))
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(folder / "aws"))


def test_no_credentials_anywhere(quick, monkeypatch, tmp_path):
    without_credentials(monkeypatch, tmp_path)
    result = quick("--input", "s3://bucket/in")
    assert result.code == 2
    assert result.err.startswith("etl.py: no AWS credentials in dl.cfg, the environment")
    assert len(result.err.splitlines()) == 1


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "~/.aws has no such profile; correct [AWS] PROFILE, or AWS_PROFILE"),
        ("[profile p]\nsso_start_url = https://x\nsso_region = us-east-1\n", "sign in"),
        ("[profile p]\ncredential_process = /nonexistent\n", "AWS credentials: "),
        ("[profile p]\ncredential_process = echo no JSON\n", "AWS credentials: "),
        ("[profile p]\nrole_arn = arn:aws:iam::1:role/x\n", "AWS credentials: "),
        ("[profile p]\nsource_profile = gone\nrole_arn = arn:aws:iam::1:role/x\n", "credentials"),
        ("no section\n", "AWS credentials: "),
    ],
)
def test_a_profile_that_gives_no_credentials_is_said_in_one_line(
    quick, monkeypatch, tmp_path, text, words
):
    without_credentials(monkeypatch, tmp_path)
    (tmp_path / "aws").write_text(text)
    (tmp_path / "dl.cfg").write_text("[AWS]\nPROFILE = p\n")
    result = quick("--input", "s3://bucket/in")
    assert (result.code, len(result.err.splitlines())) == (2, 1), result.err
    assert words in result.err


def test_an_error_inside_boto3_is_not_taken_for_missing_credentials(quick, monkeypatch):
    import boto3

    def broken(*_, **__):
        raise AttributeError("a bug of boto3's own")

    monkeypatch.setattr(boto3, "Session", broken)
    result = quick("--input", "s3://bucket/in")
    assert (result.code, "a bug of boto3's own" in result.err) == (1, True)
    assert "credentials" not in result.err


def test_a_store_out_of_reach_is_blamed_on_its_own_place(quick, monkeypatch, tmp_path):
    without_credentials(monkeypatch, tmp_path)
    text = f"[AWS]\nKEY = {KEY}\nSECRET = {SECRET}\n"
    monkeypatch.setenv("HTTPS_PROXY", NOWHERE)
    for more in ("", "REGION = us-east-1\n", f"ENDPOINT = {NOWHERE}\n"):
        (tmp_path / "dl.cfg").write_text(text + more)
        result = quick("--input", "s3://udacity-dend")
        assert (result.code, len(result.err.splitlines())) == (2, 1), result.err
        assert "s3a://udacity-dend: no answer; check [AWS] ENDPOINT, REGION" in result.err
