"""queries.sql: each figure equals the one that Polars counts."""

from zoneinfo import ZoneInfo

import lake
import pytest
import queries

from tests.analytics.figures import count_figures
from tests.analytics.lakes import one_play_lake, play_row, plays_lake, write_lake

# The states of the sample that do not have New York's time.
ZONES = {"AZ": "Phoenix", "CA": "Los_Angeles", "IL": "Chicago"}


def where_the_listener_is(play):
    state = play["location"].partition(", ")[2][:2]
    return play["start_time"].astimezone(ZoneInfo(f"America/{ZONES.get(state, 'New_York')}"))


def in_kolkata(play):
    return play["start_time"].astimezone(ZoneInfo("Asia/Kolkata"))


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
    check_figures(opened, count_figures(opened))


@pytest.mark.parametrize(
    ("zone", "clock"),
    [("Asia/Kolkata", in_kolkata), (queries.LISTENERS, where_the_listener_is)],
)
def test_the_sample_in_local_time(sample_tables, zone, clock):
    opened = lake.open_lake(str(sample_tables))
    expected = count_figures(opened, clock)
    queries.use_local_time(opened, zone)
    check_figures(opened, expected)


@pytest.mark.parametrize("make", [one_play_lake, write_lake])
def test_one_play_and_none(tmp_path, make):
    opened = lake.open_lake(str(make(tmp_path / "lake")))
    check_figures(opened, count_figures(opened))


def test_a_week_belongs_to_its_monday_also_across_new_year(tmp_path):
    # ISO week 1 of 2019 begins on Monday, 31 December 2018
    times = ("2018-12-30 12:00:00", "2018-12-31 12:00:00", "2019-01-01 12:00:00")
    made = plays_lake(tmp_path / "lake", *times)
    found = lake.open_lake(str(made)).rows(queries.read_queries()["listeners_per_week"].sql)
    assert [(str(row["monday"]), row["week"], row["days"]) for row in found] == [
        ("2018-12-24", 52, 1),
        ("2018-12-31", 1, 2),
    ]


def test_systems_and_browsers_are_those_that_user_agent_names(tmp_path):
    agents = {
        "(iPad; CPU OS 7_1_2) AppleWebKit/537 Version/7.0 Safari/9537": ("iPad", "Safari"),
        "(Windows NT 6.3) Chrome/36.0 Safari/537.36": ("Windows", "Chrome"),
        "(X11; Linux x86_64; rv:31.0) Firefox/31.0": ("Linux", "Firefox"),
        "curl/8": ("other", "other"),
    }
    rows = [play_row(number, user=number, agent=agent) for number, agent in enumerate(agents)]
    opened = lake.open_lake(str(write_lake(tmp_path / "lake", songplays=rows)))
    for position, name in enumerate(("systems", "browsers")):
        found = opened.rows(queries.read_queries()[name].sql)
        assert {tuple(row.values()) for row in found} == {
            (both[position], 1, 1) for both in agents.values()
        }
