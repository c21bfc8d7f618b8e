"""time: one row per distinct start_time of a play, all in UTC."""

from helpers import play, rows_of

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


def test_a_month_is_written_in_as_many_parts_as_asked_for_from_its_first_hour_to_its_last(
    json_lines,
):
    hours = (
        1514764800000,
        1516103999999,
        1516104000000,
        1517443199999,
    )  # of January 2018; it is half over at noon
    lines = json_lines(*(play(ts=ts) for ts in hours))
    assert rows_of(stage_plays(stage_events(lines), files=2), "ts", "part") == list(
        zip(hours, (0, 0, 1, 1))
    )
