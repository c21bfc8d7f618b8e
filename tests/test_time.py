"""time: one row per distinct start_time of a play, all in UTC."""

from conftest import play, rows_of

from etl import stage_events, stage_plays, time_table


def times(json_lines, *milliseconds):
    lines = json_lines(*(play(ts=ts, itemInSession=item) for item, ts in enumerate(milliseconds)))
    return time_table(stage_plays(stage_events(lines)))


def test_an_instant_is_there_once_with_its_milliseconds(json_lines):
    assert rows_of(times(json_lines, 1541106106796, 1541106106796)) == [
        ("2018-11-01 21:01:46.796", 21, 1, 44, 5, 2018, 11)
    ]


def test_weeks_are_iso_8601_and_sunday_is_day_1(json_lines):
    # 2018-12-31 is a Monday of week 1, 2016-01-03 a Sunday of week 53
    found = rows_of(times(json_lines, 1546214400000, 1451779200000), "week", "weekday", "year")
    assert found == [(1, 2, 2018), (53, 1, 2016)]


def test_the_limits_of_the_period(json_lines):
    found = rows_of(times(json_lines, 946684800000, 4102444799999), "start_time")
    assert found == [("2000-01-01 00:00:00",), ("2099-12-31 23:59:59.999",)]


def test_pages_that_are_no_plays_have_no_time(json_lines):
    assert rows_of(time_table(stage_plays(stage_events(json_lines(play(page="Home")))))) == []
