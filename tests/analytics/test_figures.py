"""queries.sql: each figure equals the one that plain Python counts."""

from zoneinfo import ZoneInfo

import lake
import pytest
import queries
from figures import count_figures
from lakes import one_play_lake, play_row, time_row, write_lake

# Of the locations in the sample; any other is UTC.
ZONES = {
    "AZ": "America/Phoenix",
    "CA": "America/Los_Angeles",
    "GA": "America/New_York",
    "IL": "America/Chicago",
    "ME": "America/New_York",
    "NY": "America/New_York",
}


def where_the_listener_is(play):
    state = play["location"].partition(", ")[2][:2]
    return play["start_time"].astimezone(ZoneInfo(ZONES.get(state, "UTC")))


def in_kolkata(play):
    return play["start_time"].astimezone(ZoneInfo("Asia/Kolkata"))


def read_tables(opened):
    return {table: opened.rows(f"SELECT * FROM {table}") for table in opened.tables}


def check_figures(opened, expected):
    named = queries.read_queries()
    # these are cases of LIKE, which another reading of user_agent could only repeat
    assert set(named) - set(expected) == {"systems", "browsers"}
    for name, rows in expected.items():
        found = [tuple(row.values()) for row in opened.rows(named[name].sql)]
        # the queries round to one decimal
        near = [pytest.approx(row, abs=0.0501) for row in rows]
        assert found == near, name


def test_the_sample_in_utc(sample_tables):
    opened = lake.open_lake(str(sample_tables))
    check_figures(opened, count_figures(read_tables(opened)))


@pytest.mark.parametrize(
    ("zone", "clock"),
    [("Asia/Kolkata", in_kolkata), (queries.LISTENERS, where_the_listener_is)],
)
def test_the_sample_in_local_time(sample_tables, zone, clock):
    opened = lake.open_lake(str(sample_tables))
    expected = count_figures(read_tables(opened), clock)
    queries.use_local_time(opened, zone)
    check_figures(opened, expected)


@pytest.mark.parametrize("make", [one_play_lake, write_lake])
def test_one_play_and_none(tmp_path, make):
    opened = lake.open_lake(str(make(tmp_path / "lake")))
    check_figures(opened, count_figures(read_tables(opened)))


def test_a_week_belongs_to_its_monday_also_across_new_year(tmp_path):
    # ISO week 1 of 2019 begins on Monday, 31 December 2018
    times = ("2018-12-30 12:00:00", "2018-12-31 12:00:00", "2019-01-01 12:00:00")
    rows = [play_row(number, time) for number, time in enumerate(times)]
    made = write_lake(
        tmp_path / "lake",
        songplays=rows,
        users=[(8, "Ada", "Koch", "F", "free")],
        time=[time_row(time) for time in times],
    )
    found = lake.open_lake(str(made)).rows(queries.read_queries()["listeners_per_week"].sql)
    assert [(str(row["monday"]), row["week"], row["days"]) for row in found] == [
        ("2018-12-24", 52, 1),
        ("2018-12-31", 1, 2),
    ]


def test_systems_and_browsers_are_those_that_user_agent_names(tmp_path):
    agents = {
        "Mozilla/5.0 (iPad; CPU OS 7_1_2) AppleWebKit/537 Version/7.0 Safari/9537": (
            "iPad",
            "Safari",
        ),
        "Mozilla/5.0 (Windows NT 6.3) Chrome/36.0 Safari/537.36": ("Windows", "Chrome"),
        "Mozilla/5.0 (Windows NT 6.1; Trident/7.0; rv:11.0)": ("Windows", "Internet Explorer"),
        "Mozilla/5.0 (X11; Linux x86_64; rv:31.0) Firefox/31.0": ("Linux", "Firefox"),
        "curl/8": ("other", "other"),
    }
    rows = [play_row(number, user=number, agent=agent) for number, agent in enumerate(agents)]
    opened = lake.open_lake(str(write_lake(tmp_path / "lake", songplays=rows)))
    for place, name in enumerate(("systems", "browsers")):
        found = opened.rows(queries.read_queries()[name].sql)
        expected = {}
        for both in agents.values():
            expected[both[place]] = expected.get(both[place], 0) + 1
        assert {next(iter(row.values())): row["plays"] for row in found} == expected
