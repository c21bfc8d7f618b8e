"""A store that is slow, busy or wrong: the run is right, or says why and keeps the old tables."""

import pytest

import etl
from tests.helpers import KEY, SECRET, write_input
from tests.proxy import at, at_random, once, proxy

OLD, NEW = b"version 1", b"version 2"


@pytest.fixture(scope="module")
def bucket(s3):
    s3.bucket("bad-store")
    return "s3://bad-store"


@pytest.fixture
def publish(main, s3, bucket, tmp_path):
    """Publishes version 2 over 1 by way of a bad store; returns the result, and the store's fates.

    No table lacks rows then, and another run by way of the good store is right.
    """
    source, output = tmp_path / "in", f"{bucket}/{tmp_path.name}"

    def run(version, endpoint=None):
        write_input(source, [version], [[b"{}"]])
        return main("--config", s3.config(tmp_path, source, output, endpoint))

    def publish_version_2(choose):
        assert run(OLD).code == 0
        settings = etl.read_settings(["--config", str(tmp_path / "s3.cfg")])
        lake = etl.open_location(settings.output, settings)

        def versions():
            return [{lake.read(key) for key in lake.list(table)} for table in etl.COLUMNS]

        with proxy(s3.endpoint, choose) as store:
            result = run(NEW, store.endpoint)
        assert SECRET not in result.err and KEY not in result.err
        if "nothing is published" in result.err:
            assert versions() == [{OLD}] * 5
        assert all(found and found <= {OLD, NEW} for found in versions())
        assert run(NEW).code == 0
        assert versions() == [{NEW}] * 5
        assert not lake.list("_etl/staging")
        return result, store.fates

    return publish_version_2


@pytest.mark.parametrize("fate", ["reset", "lost", "cut"])
def test_a_store_that_fails_now_and_then_costs_no_row(publish, fate):
    result, _ = publish(at_random(fate, 0.05))
    assert result.code == 0 or result.error


def test_a_busy_store_is_asked_again_until_the_run_is_done(publish):
    result, fates = publish(at_random("SlowDown", 0.2))
    assert (result.code, fates["SlowDown"] > 0) == (0, True), result.err


STEPS = {
    "staging": {"method": "PUT", "path": "_etl/staging"},
    "commit": {"method": "PUT", "path": "_etl/commits"},
    "copy": {"method": "PUT", "header": "x-amz-copy-source"},
    "delete": {"method": "POST", "path": "delete", "body": b"/c000000001-"},
}


@pytest.mark.parametrize("step", STEPS)
def test_a_step_whose_answer_is_lost_is_asked_for_again(publish, step):
    result, fates = publish(once(at("lost", **STEPS[step])))
    assert fates["lost"] == 1
    # boto3 does not repeat a POST
    assert result.code == (1 if step == "delete" else 0), result.err


@pytest.mark.parametrize("step", ["staging", "copy"])
def test_a_store_that_forbids_a_step_is_quoted(publish, step):
    result, _ = publish(at("AccessDenied", **STEPS[step]))
    assert (result.code, "AccessDenied" in result.error) == (2, True)


def test_a_store_that_cannot_create_if_absent_is_quoted(publish):
    result, _ = publish(at("NotImplemented", **STEPS["commit"]))
    assert (result.code, "NotImplemented" in result.error) == (1, True)
