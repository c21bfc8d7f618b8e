"""Each request that changes the store fails, loses its answer or ends the run: no row is lost."""

from itertools import count

import pytest
from harness import S3, WHOLE, Faults, Local, check_no_gap, published
from helpers import KEY, SECRET

import etl

SLOW = ("lost twice", "terminated")  # on S3; locally they are quick


@pytest.fixture(scope="module")
def local(tmp_path_factory):
    return Local(tmp_path_factory.mktemp("local"))


@pytest.fixture(scope="module")
def remote(s3, tmp_path_factory):
    lakes = S3(tmp_path_factory.mktemp("remote"), s3, "requests")
    yield lakes
    lakes.check_no_secret(KEY, SECRET)


cases = [
    pytest.param(store, way, marks=pytest.mark.long if store == "remote" and way in SLOW else ())
    for store in ("local", "remote")
    for way in Faults.WAYS
]


@pytest.mark.parametrize(("store", "way"), cases)
def test_whichever_request_goes_wrong_no_row_is_lost_and_the_next_run_mends_it(request, store, way):
    lakes = request.getfixturevalue(store)
    for number in count(1):
        output = lakes.copy(f"{way}-{number}")
        code, said = lakes.run(output, faults=(way, number))
        lake = lakes.place(output)
        tables, commits, done = (
            published(lake),
            etl.newest(lake, "commits"),
            etl.newest(lake, "done"),
        )
        for versions in tables.values():
            check_no_gap(versions, {1, 2})
        is_old = all(versions == {1: WHOLE} for versions in tables.values())
        is_new = all(versions == {2: WHOLE} for versions in tables.values())
        if code == 0:
            assert is_new and done == 2, said
        elif code > 0:
            errors = [
                line
                for line in said.splitlines()
                if line.startswith("etl.py: ") and "warning" not in line
            ]
            assert len(errors) == 1, said
            assert ("nothing is published" in said) <= (is_old and commits == 1), said
            assert ("commit 2 is made" in said) <= (commits == 2), said
        again, says = lakes.run(output)
        assert again == 0, f"{number}: {said}\nand then\n{says}"
        assert all(versions == {2: WHOLE} for versions in published(lake).values()), says
        assert not lake.list("_etl/staging"), says
        assert etl.newest(lake, "done") == etl.newest(lake, "commits") == 2
        if code == 0 and f"requests: {number - 1}\n" in said:
            break  # there was no such request
    assert number > 20
