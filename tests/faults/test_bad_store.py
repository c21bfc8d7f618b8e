"""A store that is slow, busy or wrong: done right, or a clear failure and the old tables."""

import pytest

import etl
from tests.faults.harness import S3, check_is, check_no_gap
from tests.faults.proxy import at, at_random, bad_store, once
from tests.helpers import KEY, SECRET


@pytest.fixture(scope="module")
def lakes(s3, tmp_path_factory):
    return S3(tmp_path_factory.mktemp("bad"), s3, "bad-store")


def run(lakes, name, choose):
    """A run against a bad store and what it left; another against the good one is right."""
    output = lakes.copy(name.replace(" ", "-"))
    lake = lakes.location(output)
    with bad_store(lakes.server.endpoint, choose) as store:
        code, said = lakes.run(output, endpoint=store.endpoint)
    check_no_gap(lake, 1, 2)
    assert SECRET not in said and KEY not in said
    if code:
        errors = [line for line in said.splitlines() if line.startswith("etl.py: ")]
        errors = [line for line in errors if "warning" not in line]
        assert len(errors) == 1, said
    if "nothing is published" in said:
        assert etl.newest_commit(lake)["commit"] == 1, said
    again, says = lakes.run(output) if code else (0, "")
    assert again == 0, f"{said}\n{says}"
    check_is(lake, 2)
    return code, said, store.fates


RANDOM = {
    "busy at 20 %": ("SlowDown", 0.2),
    "connections reset at 5 %": ("reset", 0.05),
    "answers lost at 5 %": ("lost", 0.05),
    "answers cut short at 5 %": ("cut", 0.05),
}


@pytest.mark.parametrize("name", RANDOM)
def test_a_store_that_fails_now_and_then(lakes, name):
    code, said, _ = run(lakes, name, at_random(*RANDOM[name], seed=1))
    assert code == 0 or "busy" not in name, said


STEPS = {
    "staging": {"method": "PUT", "path": "_etl/staging"},
    "commit": {"method": "PUT", "path": "_etl/commits"},
    "copy": {"method": "PUT", "header": "x-amz-copy-source"},
    "delete": {"method": "POST", "path": "delete", "body": b"/c000000001-"},
    "list": {"method": "GET", "path": "list-type"},
}


@pytest.mark.parametrize("step", STEPS)
def test_a_step_whose_answer_is_lost_is_asked_for_again(lakes, step):
    code, said, fates = run(lakes, f"lost {step}", once(at("lost", **STEPS[step])))
    # the client does not repeat a POST
    assert code == (1 if step == "delete" else 0), said
    assert fates["lost"] == 1


@pytest.mark.parametrize("step", STEPS)
def test_a_store_that_forbids_a_step_is_quoted(lakes, step):
    code, said, fates = run(lakes, f"forbidden {step}", at("AccessDenied", **STEPS[step]))
    assert code in (1, 2) and fates["AccessDenied"], said
    assert "AccessDenied" in said


def test_a_store_that_cannot_create_if_absent_is_quoted(lakes):
    code, said, _ = run(lakes, "without conditions", at("NotImplemented", **STEPS["commit"]))
    assert code == 1 and "NotImplemented" in said
