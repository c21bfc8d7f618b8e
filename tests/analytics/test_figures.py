"""analytics/queries.sql: its figures against those that plain Python counts."""

from collections import Counter, defaultdict
from zoneinfo import ZoneInfo

import lake
import pytest
import queries
from helpers import all_tables
from lakes import answers, play_row, write_lake

DAYS = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")
STATES = {state: zone for zone, states in queries.ZONES.items() for state in states.split()}


def zone_of(location):
    return STATES.get((location or "").partition(", ")[2][:2], "UTC")


def local(play, zone):
    name = zone_of(play["location"]) if zone == queries.LISTENERS else zone
    return play["start_time"].astimezone(ZoneInfo(name))


@pytest.fixture(scope="module")
def sample(sample_tables):
    """Table -> its rows as dicts."""
    return {
        table: [dict(zip(lake.columns(table), row)) for row in rows]
        for table, rows in all_tables(sample_tables).items()
    }


def listeners(plays):
    return len({play["user_id"] for play in plays})


def grouped(plays, key):
    groups = defaultdict(list)
    for play in plays:
        groups[key(play)].append(play)
    return groups


@pytest.mark.parametrize("zone", ["UTC", "America/New_York", "Asia/Kolkata", queries.LISTENERS])
def test_days_and_hours_count_by_the_clock(sample, sample_tables, zone):
    found, plays = answers(sample_tables, zone), sample["songplays"]
    by_day = grouped(plays, lambda play: local(play, zone).date())
    assert [tuple(row.values()) for row in found["plays_per_day"]] == [
        (day, len(group), listeners(group)) for day, group in sorted(by_day.items())
    ]
    whole = sorted(by_day)[1:-1]
    assert len(whole) > 13
    for row in found["plays_by_weekday"]:
        counts = [len(by_day[day]) for day in whole if f"{day:%A}" == row["weekday"]]
        assert (row["days"], row["plays"]) == (len(counts), sum(counts))
        assert (row["quietest"], row["busiest"]) == (min(counts), max(counts))
        assert row["plays_per_day"] == pytest.approx(sum(counts) / len(counts))
    hours = Counter(local(play, zone).hour for play in plays)
    assert {row["hour"]: row["plays"] for row in found["plays_by_hour"]} == hours
    assert sum(row["percent_of_plays"] for row in found["plays_by_hour"]) == pytest.approx(100)
    week = Counter(
        (f"{local(play, zone):%A}", local(play, zone).hour)
        for play in plays
        if local(play, zone).date() in whole
    )
    cells = found["plays_by_weekday_and_hour"]
    assert {(row["weekday"], row["hour"]): row["plays"] for row in cells} == week


def test_headline(sample, sample_tables):
    (head,) = answers(sample_tables)["headline"]
    plays = sample["songplays"]
    assert head["plays"] == len(plays)
    assert head["listeners"] == listeners(plays)
    assert head["matched"] == sum(play["song_id"] is not None for play in plays)
    assert head["sessions"] == len(grouped(plays, lambda p: (p["user_id"], p["session_id"])))
    for table in ("users", "songs", "artists"):
        assert head[table] == len(sample[table])


def test_rankings_merge_names(sample, sample_tables):
    found = answers(sample_tables)
    names = {artist["artist_id"]: artist["name"] for artist in sample["artists"]}
    songs = {song["song_id"]: (song["title"], names[song["artist_id"]]) for song in sample["songs"]}
    matched = [play for play in sample["songplays"] if play["song_id"]]
    artists = grouped(matched, lambda play: names[play["artist_id"]])
    for row in found["top_artists"]:
        group = artists[row["artist"]]
        assert (row["plays"], row["listeners"]) == (len(group), listeners(group))
        assert row["artist_ids"] == len({play["artist_id"] for play in group})
    counts = sorted(map(len, artists.values()), reverse=True)
    assert [row["plays"] for row in found["top_artists"]] == counts[:10]
    assert max(row["artist_ids"] for row in found["top_artists"]) == 3
    played = Counter(songs[play["song_id"]] for play in matched)
    for row in found["top_songs"]:
        assert row["plays"] == played[row["song"], row["artist"]]
        assert row["ranked"] == len(played)
        assert row["tied"] == list(played.values()).count(row["plays"])
    assert found["top_songs"][0]["plays"] == max(played.values())


def test_places_levels_and_sessions(sample, sample_tables):
    found, plays = answers(sample_tables), sample["songplays"]
    places = grouped(plays, lambda play: play["location"])
    for row in found["top_places"]:
        group = places[row["place"]]
        assert (row["listeners"], row["plays"]) == (listeners(group), len(group))
        assert row["ranked"] == len(places)
    for row in found["plays_by_level"]:
        group = [play for play in plays if play["level"] == row["level"]]
        each = sorted(Counter(play["user_id"] for play in group).values())
        quarters = [each[-(-len(each) * part // 4) - 1] for part in (1, 2, 3)]
        assert [row["lower_quarter"], row["median"], row["upper_quarter"]] == quarters
        assert (row["plays"], row["listeners"]) == (len(group), len(each))
        assert (row["least"], row["most"]) == (each[0], each[-1])
    sessions = grouped(plays, lambda play: (play["user_id"], play["session_id"]))
    assert sum(row["sessions"] for row in found["sessions"]) == len(sessions)
    assert sum(row["plays"] for row in found["sessions"]) == len(plays)
    assert max(row["most_plays"] for row in found["sessions"]) == max(map(len, sessions.values()))


def test_clients(sample, sample_tables):
    found, plays = answers(sample_tables), sample["songplays"]
    for row in found["client_browsers"]:
        others = {"Firefox": "Chrome", "Chrome": "Firefox", "Safari": "Chrome"}[row["browser"]]
        group = [
            play
            for play in plays
            if row["browser"] in play["user_agent"] and others not in play["user_agent"]
        ]
        assert (row["plays"], row["listeners"]) == (len(group), listeners(group))
    assert sum(row["plays"] for row in found["client_systems"]) == len(plays)


def test_decades(sample, sample_tables):
    decades = Counter(
        f"{song['year'] // 10}0s" if song["year"] else "unknown" for song in sample["songs"]
    )
    found = answers(sample_tables)["songs_by_decade"]
    assert [(row["decade"], row["songs"]) for row in found] == sorted(decades.items())


def test_a_history_of_level_has_a_row_per_stretch_of_plays(tmp_path):
    levels = ("free", "free", "paid", "free")
    rows = [
        play_row(n, f"2018-11-0{n + 1} 12:00:00", level=level) for n, level in enumerate(levels)
    ]
    rows.append(play_row(9, "2018-11-01 12:00:00", user=9, level="paid"))
    found = answers(write_lake(tmp_path / "lake", songplays=rows))
    history = [
        (row["level"], row["from_day"].day, row["until_day"] and row["until_day"].day, row["plays"])
        for row in found["level_history"]
    ]
    assert history == [("free", 1, 3, 2), ("paid", 3, 4, 1), ("free", 4, None, 1)]
    changes = [tuple(row.values()) for row in found["level_changes"]]
    assert changes == [("free", "paid", 1, 1), ("paid", "free", 1, 1)]


def test_a_listener_is_new_once(tmp_path):
    rows = [
        play_row(1, "2018-11-05 12:00:00", user=1),
        play_row(2, "2018-11-11 12:00:00", user=1),
        play_row(3, "2018-11-12 12:00:00", user=1),
        play_row(4, "2018-11-12 12:00:00", user=2),
    ]
    found = answers(write_lake(tmp_path / "lake", songplays=rows))["listeners_per_week"]
    assert [(row["new_listeners"], row["returning_listeners"]) for row in found] == [(1, 0), (1, 1)]


def test_daylight_saving_time_ends_within_the_data(tmp_path):
    # 1:30 twice, then 2:30 in New York
    times = (
        "2018-11-04 05:30:00",
        "2018-11-04 06:30:00",
        "2018-11-04 07:30:00",
    )
    rows = [play_row(number, time, location="Albany-Troy, NY") for number, time in enumerate(times)]
    output = write_lake(tmp_path / "lake", songplays=rows)
    for zone in ("America/New_York", queries.LISTENERS):
        found = answers(output, zone)["plays_by_hour"]
        assert [(row["hour"], row["plays"]) for row in found] == [(1, 2), (2, 1)]


def test_weekdays_and_hours_in_utc_are_the_time_table_s(sample_tables):
    opened = lake.open_lake(str(sample_tables))
    of_table = opened.rows(
        'SELECT hour, count(*) AS plays FROM songplays JOIN "time" USING (start_time) '
        "GROUP BY hour ORDER BY hour"
    )
    found = opened.rows(queries.read_queries()["plays_by_hour"].sql)
    assert [(row["hour"], row["plays"]) for row in found] == [
        (row["hour"], row["plays"]) for row in of_table
    ]


def test_the_clock_is_the_listeners_only_if_their_zones_are_known(tmp_path):
    known = [play_row(n, location="Reno, NV") for n in range(19)]
    unknown = [play_row(n, location="Paris") for n in range(20, 22)]
    clocks = []
    for place, rows in enumerate((known, known + unknown, known + unknown * 2)):
        output = write_lake(tmp_path / str(place), songplays=rows)
        clocks.append(queries.choose_clock(lake.open_lake(str(output))))
    assert [clock.zone for clock in clocks] == [queries.LISTENERS, queries.LISTENERS, "UTC"]
    assert "It is known for every play." in clocks[0].rule
    assert "It is known for 19 of 21 plays. The others count in UTC." in clocks[1].rule
    assert "known for only 19 of 23 plays" in clocks[2].rule


def test_every_state_has_one_zone():
    states = " ".join(queries.ZONES.values()).split()
    assert len(states) == len(set(states)) == 50 + len(("DC", "PR"))
    assert all(ZoneInfo(zone) for zone in queries.ZONES)
