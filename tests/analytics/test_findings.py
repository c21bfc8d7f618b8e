"""analytics/findings.py: a title says only what its rows bear."""

import re
from datetime import date, timedelta
from types import SimpleNamespace

import findings
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

DAYS = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")
HEAD = {"plays": 1000, "sessions": 1000, "listeners": 50, "matched": 500, "songs": 10}


def day_rows(*plays, first=date(2018, 11, 1)):
    return [
        {"day": first + timedelta(days=place), "plays": count, "listeners": 1}
        for place, count in enumerate(plays)
    ]


def weekday_rows(averages, days=4):
    return [
        {
            "weekday": weekday,
            "days": days if average is not None else None,
            "plays": average and average * days,
            "plays_per_day": average and float(average),
            "quietest": average,
            "busiest": average,
        }
        for weekday, average in zip(DAYS, averages)
    ]


def hour_rows(plays):
    total = sum(plays)
    return [
        {"hour": hour, "plays": count, "percent_of_plays": 100 * count / total}
        for hour, count in enumerate(plays)
        if count
    ]


def ranked(*plays, column="plays", names="ABCDEFGHIJ", listeners=20):
    return [
        {
            "name": name,
            "listeners": listeners,
            column: count,
            "ranked": len(plays),
            "tied": plays.count(count),
        }
        for name, count in zip(names, plays)
    ]


def rank(rows):
    return findings.ranking(rows, lambda row: row["name"], "plays", "play")


# ── Flat, tied, tiny, skewed ─────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("averages", "title"),
    [
        (
            (948, 940, 939, 938, 934, 936, 935),
            "The days of the week hardly differ: 934 to 948 plays per day",
        ),
        ((10, 10, 10, 10, 10, 10, 10), "The days of the week do not differ: 10.0 plays per day"),
        (
            (50, 80, 30, 30, 30, 30, 20),
            "Tuesday has the most plays per day on average, 80.0; Sunday the fewest, 20.0",
        ),
        (
            (80, 80, 75, 30, 20, 30, 20),
            "Monday and Tuesday have the most plays per day on average, 80.0, hardly more than "
            "Wednesday (75.0); Friday and Sunday the fewest, 20.0",
        ),
        ((None, None, None, None, None, 5, None), "All plays are on a Saturday"),
    ],
)
def test_weekdays(averages, title):
    assert findings.by_weekday(weekday_rows(averages), HEAD) == title


def test_few_days_are_no_pattern_of_the_week():
    rows = weekday_rows((5, 9, None, None, None, None, None), days=1)
    title = "Too few days to compare the days of the week: 2 days"
    assert findings.by_weekday(rows, HEAD) == title


@pytest.mark.parametrize(
    ("plays", "title"),
    [
        ((7,), "7 plays are on one day, 1 November 2018"),
        ((1,), "1 play is on one day, 1 November 2018"),
        ((5, 5, 5), "Every day has 5 plays"),
        ((95, 100, 97), "The days hardly differ: 95 to 100 plays per day"),
        ((10, 40, 25), "10 to 40 plays per day, 25.0 on average; the most on 2 November 2018"),
        (
            (40, 40, 10),
            "10 to 40 plays per day, 30.0 on average; the most on 1 November 2018 and "
            "2 November 2018",
        ),
        ((9, 9, 9, 9, 1), "1 to 9 plays per day, 7.4 on average; the most on 4 days"),
        ((1, *[20] * 13, 2), "Every day has 20 plays"),
    ],
)
def test_days(plays, title):
    assert findings.per_day(day_rows(*plays), HEAD) == title


@pytest.mark.parametrize(
    ("plays", "title"),
    [
        ([100] * 24, "The hours of the day hardly differ: each has 4.2 % of the plays"),
        ([5] * 3, "Too few plays to tell the busiest hour: 15"),
        ([3, 1] * 12, "No hour of the day stands out: each has 2.1 % to 6.3 % of the plays"),
        (
            [*[10] * 23, 200],
            "23:00 to 24:00 is the busiest hour, with 46.5 % of the plays",
        ),
        (
            [*[10] * 22, 200, 195],
            "22:00 to 23:00 is the busiest hour, with 32.5 % of the plays, hardly more than "
            "23:00 to 24:00",
        ),
        (
            [*[10] * 22, 200, 200],
            "22:00 to 23:00 and 23:00 to 24:00 are equally busy, with 32.3 % of the plays each",
        ),
    ],
)
def test_hours(plays, title):
    head = {**HEAD, "plays": sum(plays), "sessions": sum(plays)}
    assert findings.by_hour(hour_rows(plays), head) == title


def test_plays_in_long_sessions_need_more_of_them_to_stand_out():
    plays = [*[30] * 23, 60]
    alone = {**HEAD, "plays": sum(plays), "sessions": sum(plays)}
    together = {**alone, "sessions": sum(plays) // 30}
    assert "busiest hour" in findings.by_hour(hour_rows(plays), alone)
    assert "No hour of the day stands out" in findings.by_hour(hour_rows(plays), together)


@pytest.mark.parametrize(
    ("rows", "title"),
    [
        (ranked(30, 20, 10), "A leads with 30 plays"),
        (ranked(30, 29, 10), "A leads with 30 plays, hardly ahead of B with 29"),
        (ranked(30, 30, 10), "A and B share the lead with 30 plays each"),
        (ranked(*[3] * 10), "10 share the lead with 3 plays each"),
        (ranked(30, 20, listeners=2), "A leads with 30 plays by 2 listeners"),
        (ranked(1), "A leads with 1 play"),
    ],
)
def test_rankings(rows, title):
    assert rank(rows) == title


def test_those_who_share_the_lead_below_the_cut_are_counted():
    rows = [{**row, "tied": 14} for row in ranked(*[13] * 10)]
    assert rank(rows) == "14 share the lead with 13 plays each"
    assert findings.cut_off(rows, "plays", "song") == "4 songs more have as many as the last shown."
    assert findings.cut_off(ranked(3, 2), "plays", "song") == ""


def test_a_name_of_several_artists_is_said_to_be_one():
    assert (
        findings.artist_name({"artist": "Home", "artist_ids": 34})
        == "Home (34 artists of that name)"
    )
    assert findings.song_name({"song": None, "artist": "A\x00"}) == "“(unknown)” by A "


def test_few_matched_plays_are_no_ranking():
    finding = findings.matched_ranking(lambda row: row["name"])
    few = {**HEAD, "matched": 1, "plays": 6820}
    assert finding(ranked(1), few) == "Too few plays match the catalogue for a ranking: 1 of 6,820"
    assert finding(ranked(30, 20), HEAD) == "Of the matched plays, A leads with 30 plays"


def level_row(level, listeners, *quarters):
    names = ("least", "lower_quarter", "median", "upper_quarter", "most")
    return {"level": level, "listeners": listeners, **dict(zip(names, quarters))}


@pytest.mark.parametrize(
    ("rows", "title"),
    [
        (
            (level_row("paid", 22, 9, 140, 208, 341, 650), level_row("free", 82, 1, 4, 9, 20, 114)),
            "208 plays per paid listener (the median), 9 per free one",
        ),
        (
            (level_row("paid", 49, 1, 9, 21, 30, 80), level_row("free", 59, 1, 8, 16, 25, 70)),
            "The levels do not clearly differ: 21 plays per paid listener (the median), 16 per "
            "free one, and the middle halves overlap",
        ),
        (
            (level_row("paid", 3, 1, 1, 2, 3, 3), level_row("free", 59, 1, 8, 16, 25, 70)),
            "Too few listeners to compare the levels: 3 paid and 59 free",
        ),
        ((level_row(None, 3, 1, 1, 2, 3, 3),), "All plays are at level (unknown)"),
    ],
)
def test_levels(rows, title):
    assert findings.by_level(list(rows), HEAD) == title


def test_places_are_ranked_by_their_listeners():
    rows = [{**row, "place": row["name"]} for row in ranked(10, 4, column="listeners")]
    assert findings.by_place(rows, HEAD) == "A leads with 10 listeners; there are 50 in 2 places"
    rows = [{**row, "place": row["name"]} for row in ranked(2, 1, column="listeners")]
    assert findings.by_place(rows, HEAD) == "No place has more than 2 of the 50 listeners"


def test_an_unknown_year_is_no_decade():
    rows = [{"decade": "1990s", "songs": 2}, {"decade": "unknown", "songs": 8}]
    title = "The 1990s have the most, 2 songs of the 2 with a year; the year of 8 of 10 is unknown"
    assert findings.by_decade(rows, HEAD) == title
    assert findings.by_decade(rows[1:], HEAD) == "The year of no song is known"


def test_a_half_is_rounded_up():
    assert [findings.number(value) for value in (103.25, 88.25, 99.96, 4.05)] == [
        "103",
        "88.3",
        "100",
        "4.1",
    ]
    assert findings.share(1, 6820) == "0.015 %"
    assert findings.share(6819, 6820) == "99.9853 %"
    assert findings.share(0, 5) == "0 %"


# ── No title contradicts its table ───────────────────────────────────────────────────────────────

counts = st.integers(0, 500)
some = settings(max_examples=200, deadline=None)


@some
@given(st.lists(st.integers(1, 500), min_size=1, max_size=40))
def test_a_title_of_days_holds_for_every_day_that_counts(plays):
    rows = day_rows(*plays)
    title = findings.per_day(rows, HEAD)
    counted = [row["plays"] for row in (rows[1:-1] if len(rows) >= 15 else rows)]
    if "hardly differ" in title:
        assert min(counted) >= 0.9 * max(counted)
    elif " to " in title:
        assert title.startswith(f"{min(counted):,} to {max(counted):,} plays per day")
        named = re.findall(r"\d+ \w+ 20\d\d", title)
        best = [row for row in rows if findings.number(row["day"]) in named]
        assert all(row["plays"] == max(counted) for row in best)


@some
@given(st.lists(st.one_of(st.none(), st.integers(1, 500)), min_size=7, max_size=7))
def test_a_title_of_weekdays_names_the_busiest_and_the_quietest(averages):
    if not any(averages):
        return
    title = findings.by_weekday(weekday_rows(averages), HEAD)
    known = {day: average for day, average in zip(DAYS, averages) if average}
    most, least = max(known.values()), min(known.values())
    if "hardly differ" in title or "do not differ" in title:
        assert least >= 0.9 * most
        return
    if len(known) == 1:
        assert title == f"All plays are on a {next(iter(known))}"
        return
    best, rest = title.split(" the most plays")
    close, worst = rest.split(";")
    for day, average in known.items():
        assert (day in best) == (average == most)
        assert (day in close) == (0.9 * most <= average < most)
        assert (day in worst) == (average == least)


@some
@given(st.lists(counts, min_size=24, max_size=24), st.integers(1, 30))
def test_a_title_of_hours_names_only_hours_that_lead(plays, per_session):
    total = sum(plays)
    if not total:
        return
    head = {**HEAD, "plays": total, "sessions": max(total // per_session, 1)}
    title = findings.by_hour(hour_rows(plays), head)
    if "busiest hour," in title or "equally busy" in title:
        named = [int(hour) for hour in re.findall(r"(\d+):00 to", title)]
        assert not named or plays[named[0]] == max(plays)
        assert all(plays[hour] >= 0.9 * max(plays) for hour in named)
        assert max(plays) - total / 24 > findings.by_chance(total / 24, head)
    elif "hardly differ" in title:
        assert min(plays) >= 0.9 * max(plays)


@some
@given(st.lists(st.integers(1, 60), min_size=1, max_size=10))
def test_a_title_of_a_ranking_names_all_who_lead_or_none(plays):
    plays = sorted(plays, reverse=True)
    title = rank(ranked(*plays))
    leaders = "ABCDEFGHIJ"[: plays.count(plays[0])]
    named = re.findall(r"\b[A-J]\b", title.partition(", hardly")[0])
    if "share the lead" in title and not named:
        assert title.startswith(f"{len(leaders)} share") and len(leaders) > 3
    else:
        assert named == list(leaders)
    assert ("hardly ahead" in title) == (
        len(leaders) == 1 and len(plays) > 1 and plays[1] >= 0.9 * plays[0]
    )


@some
@given(
    st.lists(
        st.tuples(st.integers(0, 6), st.integers(0, 23), st.integers(1, 300)),
        min_size=1,
        max_size=168,
        unique_by=lambda cell: cell[:2],
    ),
    st.integers(1, 6),
)
def test_a_title_of_the_week_names_only_its_peaks(cells, days):
    rows = [
        {
            "weekday": DAYS[day],
            "hour": hour,
            "days": days,
            "plays": plays,
            "plays_per_day": plays / days,
        }
        for day, hour, plays in sorted(cells)
    ]
    head = {**HEAD, "plays": sum(cell[2] for cell in cells), "clock": SimpleNamespace(name="UTC")}
    title = findings.by_weekday_and_hour(rows, head)
    named = re.findall(r"(\w+) (\d+):00 to", title)
    most = max(row["plays"] for row in rows)
    for weekday, hour in named:
        (row,) = [r for r in rows if (r["weekday"], r["hour"]) == (weekday, int(hour))]
        assert row["plays"] >= 0.9 * most and days >= 3
    if named:
        assert len(named) == sum(row["plays"] >= 0.9 * most for row in rows)
