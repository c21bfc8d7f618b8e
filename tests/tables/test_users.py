"""users: type 1, one row per user_id as of the latest valid event."""

import pytest

from etl import stage_events, users_table
from tests.helpers import play, rows_of


@pytest.fixture
def users(json_lines):
    return lambda *events: users_table(stage_events(json_lines(*events)))


def test_a_user_who_upgrades_keeps_the_latest_level(users):
    found = users(
        play(ts=1541106106796, sessionId=9, level="free"),
        play(ts=1541192506796, sessionId=7, level="paid"),
    )
    assert rows_of(found) == [(8, "Ada", "Koch", "F", "paid")]


def test_a_user_who_never_played_is_a_user(users):
    assert rows_of(users(play(page="Home", userId="9")), "user_id") == [(9,)]


def test_events_without_a_user_and_invalid_events_are_nobody(users):
    found = users(
        play(page="Home", userId=""),
        play(page="Home", userId=None),
        play(ts=None),
        play(userId="08"),
    )
    assert rows_of(found) == []


def test_a_session_that_is_unknown_is_lowest(users):
    found = users(
        play(sessionId=7, level="free"),
        play(sessionId=None, page="Home", level="paid"),
    )
    assert rows_of(found, "level") == [("free",)]


@pytest.mark.parametrize(
    ("winner", "other"),
    [
        (
            {"sessionId": 8, "itemInSession": 0, "level": "free"},
            {"sessionId": 7, "itemInSession": 9, "level": "paid"},
        ),
        ({"itemInSession": 1, "level": "free"}, {"itemInSession": 0, "level": "paid"}),
        ({"level": "paid", "firstName": "Ada"}, {"level": "free", "firstName": "Bea"}),
        ({"firstName": "Bea", "lastName": "Koch"}, {"firstName": "Ada", "lastName": "Lutz"}),
        ({"lastName": "Lutz", "gender": "F"}, {"lastName": "Koch", "gender": "M"}),
    ],
)
def test_events_at_one_instant_are_ordered_by_session_item_and_the_columns(users, winner, other):
    assert rows_of(users(play(**winner), play(**other))) == rows_of(users(play(**winner)))


def test_null_is_lowest(users):
    found = users(play(firstName=None), play(firstName="Ada"), play(firstName=""))
    assert rows_of(found, "first_name") == [("Ada",)]


def test_the_order_of_the_input_changes_nothing(users):
    events = []
    for level in ("free", "paid"):
        events += [play(level=level, firstName=name) for name in ("Ada", "Zoë", None)]
    expected = [(8, "Zoë", "Koch", "F", "paid")]
    assert rows_of(users(*events)) == rows_of(users(*reversed(events))) == expected
