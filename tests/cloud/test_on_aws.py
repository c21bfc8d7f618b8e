"""On a real account: `pytest -m aws --bucket NAME`; docs/emr.md says what it proves and costs."""

import os

import pytest
from common import tables
from proof import Proof

pytestmark = pytest.mark.aws


@pytest.fixture(scope="module")
def proof(request):
    bucket = request.config.getoption("--bucket")
    if not bucket:
        pytest.skip("name a bucket of yours with --bucket")
    with pytest.MonkeyPatch.context() as patch:
        # boto3 itself reads AWS_DEFAULT_REGION alone
        if os.environ.get("AWS_REGION"):
            patch.setenv("AWS_DEFAULT_REGION", os.environ["AWS_REGION"])
        yield Proof(bucket)


@pytest.fixture
def once(request, proof):
    """Does a step unless an earlier `pytest -m aws` did it; a test that failed is done again."""
    key = f"sparkify-proof/{proof.bucket}/{request.node.name}"

    def step(action, *arguments):
        if not request.config.cache.get(key, False):
            action(*arguments)
            request.config.cache.set(key, True)

    return step


@pytest.fixture(scope="module", autouse=True)
def removed_after(proof, request):
    """Whatever fails, nothing that setup made is left; teardown names what still runs."""
    yield
    proof.teardown()
    for step in STEPS:
        request.config.cache.set(f"sparkify-proof/{proof.bucket}/{step.__name__}", False)


def test_setup_may_be_repeated(once, proof):
    """At most 0.00 USD."""
    once(proof.setup)


def test_a_cluster_publishes_the_tables(once, proof):
    """At most 0.40 USD: three nodes for one hour, and less on the sample."""
    once(proof.run)


def test_a_serverless_run_publishes_the_tables(once, proof):
    """At most 0.30 USD: 12 vCPU for half an hour."""
    once(proof.run, "--serverless")


def test_athena_counts_what_the_job_reported(proof):
    """At most 0.01 USD."""
    proof.register()
    rows = {table: made["rows"] for table, made in proof.report()["tables"].items()}
    assert {table: proof.count(table) for table in tables()} == rows


STEPS = (
    test_setup_may_be_repeated,
    test_a_cluster_publishes_the_tables,
    test_a_serverless_run_publishes_the_tables,
)
