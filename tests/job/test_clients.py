"""One identity, endpoint and region for every client, whatever the environment says."""

import re

import pytest

import etl
from tests.helpers import ASTRAY, KEY, NOWHERE, SECRET
from tests.proxy import proxy

PROFILE = f"""
aws_access_key_id = AKIAWRONG
aws_secret_access_key = wrong
aws_session_token = wrong
region = eu-north-1
endpoint_url = {NOWHERE}
use_fips_endpoint = true
use_dualstack_endpoint = true
s3 =
    addressing_style = virtual
    use_accelerate_endpoint = true
"""


@pytest.fixture(scope="module")
def store(s3):
    """A server that keeps the headers of each request, and does what it asks for."""
    s3.bucket("clients")
    asked = []
    with proxy(s3.endpoint, lambda _, __, headers, ___: asked.append(headers)) as server:
        server.asked = asked
        yield server


@pytest.fixture
def lake(s3, store, tmp_path):
    """Opens OUTPUT of a dl.cfg."""

    def open_output(endpoint=store.endpoint):
        config = s3.config(tmp_path, "s3://clients/in", "s3://clients/lake", endpoint)
        settings = etl.read_settings(["--config", str(config)])
        return etl.open_location(settings.output, settings), settings

    return open_output


@pytest.mark.parametrize("profile", ["default", "profile wrong"])
def test_no_variable_and_no_profile_leads_a_client_astray(
    main, s3, store, lake, monkeypatch, tmp_path, profile
):
    """obstore lists, reads and writes, boto3 deletes, and Hadoop is told the same."""
    (tmp_path / "aws").write_text(f"[{profile}]{PROFILE}")
    for name, value in ASTRAY.items():
        monkeypatch.setenv(name, value)
    if profile != "default":
        monkeypatch.setenv("AWS_PROFILE", "wrong")
    store.asked.clear()
    location, settings = lake()
    location.create("a", b"rows")
    location.create("a", b"other")
    assert location.read("a") == b"rows"
    assert location.list("") == {"a": 4}
    assert location.read("a") == b"rows"
    location.delete("a")
    # more than goes into one request
    location.write("b/c", b"rows" * 3_000_000)
    assert location.list("b") == {"b/c": 12_000_000}
    location.delete_tree("b")
    assert location.list("") == {}
    assert len(store.asked) >= 8
    for headers in store.asked:
        assert re.search(rf"={KEY}/\d+/us-east-1/s3/", headers["Authorization"]), str(headers)
        assert "X-Amz-Security-Token" not in headers
    options = etl.s3a_options([location.bucket], settings)
    assert options["fs.s3a.access.key"] == KEY
    assert options["fs.s3a.secret.key"] == SECRET
    assert options["fs.s3a.session.token"] == ""
    assert options["fs.s3a.bucket.clients.endpoint"] == store.endpoint
    assert options["fs.s3a.bucket.clients.endpoint.region"] == "us-east-1"


def test_on_emr_the_clusters_role_decides_and_not_a_key(main, monkeypatch, tmp_path):
    monkeypatch.setattr(etl, "ON_EMR", True)
    (tmp_path / "dl.cfg").write_text(f"[AWS]\nKEY = {KEY}\nSECRET = {SECRET}\n")
    settings = etl.read_settings(["--input", "in", "--output", "s3://bucket/lake"])
    assert settings.output == "s3://bucket/lake"
    with pytest.raises(etl.Stop, match="AWS credentials: none"):
        etl.open_location(settings.output, settings)


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
    assert (result.code, result.error.startswith("etl.py: AWS credentials: ")) == (2, True)
    assert "canary" not in result.err


def test_without_credentials_no_table_is_written_to_s3(quick):
    result = quick("--output", "s3://bucket/lake")
    assert (result.code, result.error.startswith("etl.py: AWS credentials: none")) == (2, True)


PROFILES = {
    "gone": "",
    "signed out": "[profile p]\nsso_start_url = https://x\nsso_region = us-east-1\n",
    "a program that fails": "[profile p]\ncredential_process = /nonexistent\n",
    "a program of other words": "[profile p]\ncredential_process = echo no JSON\n",
    "a role of nobody": "[profile p]\nsource_profile = gone\nrole_arn = arn:aws:iam::1:role/x\n",
    "no sections": "no section\n",
    "half a pair": "[profile p]\naws_access_key_id = AKIAHALF\n",
}


@pytest.mark.parametrize("name", [*PROFILES, "KEY = AKIAHALF", "SECRET = half"])
def test_credentials_that_are_not_whole_are_said_in_one_line(main, tmp_path, name):
    (tmp_path / "aws").write_text(PROFILES.get(name, ""))
    (tmp_path / "dl.cfg").write_text(f"[AWS]\n{'PROFILE = p' if name in PROFILES else name}\n")
    result = main("--input", "s3://bucket/in", "--output", "s3://bucket/out")
    assert (result.code, result.error.startswith("etl.py: AWS credentials: ")) == (2, True)
    assert "half" not in result.err.lower()


def test_a_store_out_of_reach_is_blamed_on_its_own_location(main, monkeypatch, tmp_path):
    text = f"[AWS]\nKEY = {KEY}\nSECRET = {SECRET}\n"
    monkeypatch.setenv("HTTPS_PROXY", NOWHERE)
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "1")
    for more in ("", f"ENDPOINT = {NOWHERE}\n"):
        (tmp_path / "dl.cfg").write_text(text + more)
        result = main("--input", "s3://udacity-dend", "--output", "output")
        assert result.code in (1, 2), result.err
        assert result.error.startswith("etl.py: Listing INPUT s3a://udacity-dend: ")


# S3's code -> what the hint says
ANSWERS = {
    # a redirect without a Location
    "PermanentRedirect": "[AWS] REGION",
    "AuthorizationHeaderMalformed": "[AWS] REGION",
    # a region that wants its own endpoint
    "IllegalLocationConstraintException": "[AWS] REGION",
    "RequestTimeTooSkewed": "clock",
    "AccessDenied": "INPUT",
    "ExpiredToken": "sign in again",
    "InvalidAccessKeyId": "[AWS] KEY",
    "NoSuchBucket": "bucket",
    "KMS.DisabledException": None,
}


@pytest.mark.parametrize("code", ANSWERS)
@pytest.mark.parametrize("setting", ["INPUT", "OUTPUT"])
def test_an_error_of_s3_is_quoted_with_a_hint_for_its_code(main, s3, tmp_path, code, setting):
    (tmp_path / "in" / "song_data").mkdir(parents=True)
    places = {"INPUT": "in", "OUTPUT": "output", setting: "s3://bucket/x"}
    with proxy(s3.endpoint, lambda *_: code, region="us-west-2") as store:
        result = main("--config", s3.config(tmp_path, *places.values(), store.endpoint))
    hint = ANSWERS[code]
    assert result.code == (2 if hint else 1), result.err
    doing = {"INPUT": "Listing INPUT", "OUTPUT": "Checking OUTPUT"}[setting]
    assert result.error.startswith(f"etl.py: {doing} s3a://bucket/x: ")
    assert code in result.error and (hint or "") in result.error
    assert KEY not in result.err and SECRET not in result.err


def test_a_bucket_in_another_region_than_region_says_is_reached_there(main, s3, lake):
    def choose(method, path, headers, body):
        return "PermanentRedirect" if "/us-east-1/" in headers["Authorization"] else None

    with proxy(s3.endpoint, choose, region="us-west-2") as store:
        location, settings = lake(store.endpoint)
        assert location.list("songs") == {}
    options = etl.s3a_options([location.bucket], settings)
    assert options["fs.s3a.bucket.clients.endpoint.region"] == "us-west-2"
