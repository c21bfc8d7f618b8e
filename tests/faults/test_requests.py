"""Runs on local folders that are killed before any change to a file."""

import signal
from itertools import count

import pytest

import etl
from tests.faults.harness import Local, check_is, check_no_gap

CHANGES = ("write", "create", "move", "delete", "delete_tree")


@pytest.fixture(scope="module")
def lakes(tmp_path_factory):
    return Local(tmp_path_factory.mktemp("local"))


def test_whichever_change_is_not_made_no_row_is_lost_and_the_next_run_is_right(lakes):
    for number in count(1):
        output = lakes.copy(f"killed-{number}")
        code, said = lakes.run(output, at=(signal.SIGKILL, number, *CHANGES))
        lake = lakes.location(output)
        check_no_gap(lake, 1, 2)
        again, says = lakes.run(output)
        assert again == 0, f"{number}: {said}\nand then\n{says}"
        check_is(lake, 2)
        if code == 0:
            # there was no such call
            break
    assert number > 20


def test_a_commit_that_was_cut_short_is_replaced(lakes):
    """On a local disk a file has its name before its content."""
    output = lakes.copy("cut")
    code, _ = lakes.run(output, at=(signal.SIGKILL, 1, "publish"))
    assert code == -signal.SIGKILL
    path = output / "_etl/commits/000000002.json"
    path.write_bytes(path.read_bytes()[:100])
    assert lakes.run(output)[0] == 0
    check_is(lakes.location(output), 2)
    assert etl.commit_numbers(lakes.location(output)) == [3, 2, 1]
