"""time: one row per distinct start_time of a play, all in UTC."""

import pytest

from etl import stage_events, stage_plays, time_table
from tests.helpers import play, rows_of


@pytest.fixture
def times(json_lines):
    return lambda *events: time_table(stage_plays(stage_events(json_lines(*events))))


def test_an_instant_is_there_once_with_its_milliseconds(times):
    found = times(play(ts=1541106106796), play(ts=1541106106796, sessionId=9))
    assert rows_of(found) == [("2018-11-01 21:01:46.796", 21, 1, 44, 5, 2018, 11)]


def test_weeks_are_iso_8601_and_sunday_is_day_1(times):
    found = times(play(ts=1546214400000), play(ts=1451779200000))
    assert rows_of(found, "start_time", "week", "weekday", "year") == [
        ("2016-01-03 00:00:00", 53, 1, 2016),
        ("2018-12-31 00:00:00", 1, 2, 2018),
    ]


def test_the_limits_of_the_period(times):
    found = times(play(ts=946684800000), play(ts=4102444799999))
    assert rows_of(found, "start_time") == [
        ("2000-01-01 00:00:00",),
        ("2099-12-31 23:59:59.999",),
    ]


def test_pages_that_are_no_plays_have_no_time(times):
    assert rows_of(times(play(page="Home"))) == []
