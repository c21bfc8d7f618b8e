"""What the rows of a query say, as one sentence that is the title of its chart.

Each finding is a function of the rows and of the headline. A title claims only what its rows bear:

- numbers of which the smaller is at least 90 % of the larger "hardly differ", and a leader that
  is so close to the next names it;
- all who share the lead are named, or counted if they are many;
- a group of fewer than 10 people, or fewer than 30 plays, is too small to be compared;
- an hour of the day stands out only if its plays are above the even share by more than three
  standard deviations of what chance would do, and an hour of the week by more than four;
- the levels differ only if the middle halves of their listeners do not overlap;
- what is not known is not counted as zero.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from datetime import date
from decimal import ROUND_HALF_UP, Decimal

HARDLY = 0.9
FEW_PEOPLE, FEW_PLAYS = 10, 30
# From so many days on, the first and the last are taken to be cut off; so do the queries.
EDGES_FROM = 15
# Of one weekday, to compare it with another.
FEW_DAYS = 3
NAMED = 3

Rows = list[dict]
Name = Callable[[dict], str]

# ── Words ────────────────────────────────────────────────────────────────────────────────────────


def rounded(value: float, places: int) -> str:
    """Rounded as people do it: a half goes up."""
    step = Decimal(1).scaleb(-places)
    return f"{Decimal(repr(float(value))).quantize(step, ROUND_HALF_UP):,}"


def number(value) -> str:
    """A value as a reader writes it: 1,234, 12.3, 1 November 2018, or a dash for none."""
    if value is None:
        return "–"
    if isinstance(value, float):
        return rounded(value, 0 if abs(value) >= 99.95 else 1)
    if isinstance(value, int):
        return f"{value:,}"
    if isinstance(value, date):
        return f"{value.day} {value:%B %Y}"
    return str(value)


def share(part: float, whole: float) -> str:
    """A percentage that is only 0 or 100 if it is exactly that."""
    percent = 100 * part / whole if whole else 0
    shown = rounded(percent, 1)
    if (shown == "0.0" and part) or (shown == "100.0" and part != whole):
        shown = f"{percent:.2g}" if percent < 50 else f"{percent:.4f}"
    return f"{shown.removesuffix('.0')} %"


def plural(count: int, noun: str) -> str:
    return f"{count:,} {noun}" if count == 1 else f"{count:,} {noun}s"


def label(value) -> str:
    """Text of the data for a reader: NULL named, without control characters, which XML forbids."""
    if value is None:
        return "(unknown)"
    return re.sub(r"[\x00-\x1f\x7f-\x9f\ufffe\uffff]", " ", str(value))


def listed(names: list[str]) -> str:
    """A, B and C."""
    *first, last = names
    return f"{', '.join(first)} and {last}" if first else last


def hours(hour: int) -> str:
    return f"{hour}:00 to {hour + 1}:00"


# ── Comparing ────────────────────────────────────────────────────────────────────────────────────


def is_close(small: float, large: float) -> bool:
    return small >= HARDLY * large


def leaders(rows: Rows, column: str) -> Rows:
    """The rows that look the same as the highest, as they are shown."""
    most = number(max(row[column] for row in rows))
    return [row for row in rows if number(row[column]) == most]


def followers(rows: Rows, column: str) -> Rows:
    """The rows below the leaders, highest first."""
    most = number(max(row[column] for row in rows))
    rest = [row for row in rows if number(row[column]) != most]
    return sorted(rest, key=lambda row: -row[column])


def by_chance(expected: float, head: dict, deviations: int = 3) -> float:
    """How far a count may lie from what is expected by chance, in standard deviations.

    Plays come in sessions, so the sessions are what falls by chance.
    """
    per_session = head["plays"] / max(head["sessions"], 1)
    return deviations * math.sqrt(expected * per_session)


def ranking(rows: Rows, name: Name, column: str, noun: str) -> str:
    """Who leads a ranking, with all who share the lead and whoever is close behind."""
    top = leaders(rows, column)
    count = plural(rows[0][column], noun)
    tied = rows[0].get("tied", len(top))
    if tied > max(NAMED, len(top)) or len(top) > NAMED:
        return f"{tied:,} share the lead with {count} each"
    if len(top) > 1:
        return f"{listed([name(row) for row in top])} share the lead with {count} each"
    text = f"{name(top[0])} leads with {count}"
    if column == "plays" and top[0]["listeners"] < FEW_PEOPLE:
        text += f" by {plural(top[0]['listeners'], 'listener')}"
    if len(rows) > 1 and is_close(rows[1][column], rows[0][column]):
        text += f", hardly ahead of {name(rows[1])} with {number(rows[1][column])}"
    return text


def cut_off(rows: Rows, column: str, noun: str) -> str:
    """How many more have as many as the last row of a ranking; empty if none."""
    last = rows[-1]
    shown = sum(row[column] == last[column] for row in rows)
    more = last["tied"] - shown
    if not more:
        return ""
    return f"{plural(more, noun)} more {'has' if more == 1 else 'have'} as many as the last shown."


# ── When ─────────────────────────────────────────────────────────────────────────────────────────


def counted_days(rows: Rows) -> Rows:
    """The days that count towards averages."""
    return rows[1:-1] if len(rows) >= EDGES_FROM else rows


def per_day(rows: Rows, head: dict) -> str:
    if len(rows) == 1:
        verb = "is" if rows[0]["plays"] == 1 else "are"
        return f"{plural(rows[0]['plays'], 'play')} {verb} on one day, {number(rows[0]['day'])}"
    days = counted_days(rows)
    least = min(row["plays"] for row in days)
    most = max(row["plays"] for row in days)
    average = number(sum(row["plays"] for row in days) / len(days))
    if least == most:
        return f"Every day has {plural(most, 'play')}"
    if is_close(least, most):
        return f"The days hardly differ: {least:,} to {most:,} plays per day"
    top = leaders(days, "plays")
    when = f"on {listed([number(row['day']) for row in top])}"
    if len(top) > NAMED:
        when = f"on {len(top)} days"
    return f"{least:,} to {most:,} plays per day, {average} on average; the most {when}"


def by_weekday(rows: Rows, head: dict) -> str:
    seen = [row for row in rows if row["days"]]
    if len(seen) == 1:
        return f"All plays are on a {seen[0]['weekday']}"
    if min(row["days"] for row in seen) < FEW_DAYS:
        days = plural(sum(row["days"] for row in seen), "day")
        return f"Too few days to compare the days of the week: {days}"
    worst = min(seen, key=lambda row: row["plays_per_day"])
    top = leaders(seen, "plays_per_day")
    lowest, highest = number(worst["plays_per_day"]), number(top[0]["plays_per_day"])
    if lowest == highest:
        return f"The days of the week do not differ: {highest} plays per day"
    if is_close(worst["plays_per_day"], top[0]["plays_per_day"]):
        return f"The days of the week hardly differ: {lowest} to {highest} plays per day"
    names = listed([row["weekday"] for row in top])
    verb = "has" if len(top) == 1 else "have"
    text = f"{names} {verb} the most plays per day on average, {highest}"
    behind = [
        row
        for row in followers(seen, "plays_per_day")
        if is_close(row["plays_per_day"], top[0]["plays_per_day"])
    ]
    if behind:
        close = [f"{row['weekday']} ({number(row['plays_per_day'])})" for row in behind]
        text += f", hardly more than {listed(close)}"
    lowest_names = [row["weekday"] for row in seen if number(row["plays_per_day"]) == lowest]
    return f"{text}; {listed(lowest_names)} the fewest, {lowest}"


def widest_weekday(rows: Rows) -> str:
    """How much the single days of one weekday differ, so that nobody trusts the average alone."""
    seen = [row for row in rows if row["days"] and row["days"] > 1]
    if not seen:
        return ""
    widest = max(seen, key=lambda row: row["busiest"] - row["quietest"])
    return (
        f"Single days differ: the {widest['days']} {widest['weekday']}s have from "
        f"{widest['quietest']:,} to {widest['busiest']:,} plays."
    )


def all_hours(rows: Rows) -> Rows:
    """One row per hour of the day; an hour without plays has none, because every day has it."""
    found = {row["hour"]: row for row in rows}
    none = {"plays": 0, "percent_of_plays": 0.0}
    return [found.get(hour, {"hour": hour, **none}) for hour in range(24)]


def by_hour(rows: Rows, head: dict) -> str:
    if head["plays"] < FEW_PLAYS:
        return f"Too few plays to tell the busiest hour: {head['plays']:,}"
    every = all_hours(rows)
    least = min(row["plays"] for row in every)
    top = leaders(every, "plays")
    most = top[0]["plays"]
    lowest, highest = share(least, head["plays"]), share(most, head["plays"])
    spread = f"{lowest} to {highest} of the plays"
    if lowest == highest:
        spread = f"{highest} of the plays"
    if is_close(least, most):
        return f"The hours of the day hardly differ: each has {spread}"
    even = head["plays"] / 24
    if most - even <= by_chance(even, head):
        return f"No hour of the day stands out: each has {spread}"
    if len(top) > 1:
        names = listed([hours(row["hour"]) for row in top])
        if len(top) > NAMED:
            names = f"{len(top)} hours of the day"
        return f"{names} are equally busy, with {highest} of the plays each"
    rate = share(most, head["plays"])
    text = f"{hours(top[0]['hour'])} is the busiest hour, with {rate} of the plays"
    behind = [row for row in followers(every, "plays") if is_close(row["plays"], most)]
    if len(behind) > NAMED:
        return f"{text}, hardly more than {len(behind)} others"
    if behind:
        text += f", hardly more than {listed([hours(row['hour']) for row in behind])}"
    return text


def all_cells(rows: Rows) -> Rows:
    """One row per weekday that occurred and hour; an hour without plays has none."""
    found = {(row["weekday"], row["hour"]): row for row in rows}
    days = {row["weekday"]: row["days"] for row in rows}
    none = {"plays": 0, "plays_per_day": 0.0}
    return [
        found.get((day, hour), {"weekday": day, "hour": hour, "days": days[day], **none})
        for day in days
        for hour in range(24)
    ]


def week_peaks(rows: Rows, head: dict) -> Rows:
    """The cells that the title names: the highest, and whichever is close to it, if few are."""
    highest = max(rows, key=lambda row: row["plays_per_day"])
    most, days = highest["plays_per_day"], highest["days"]
    even = sum(row["plays_per_day"] for row in rows) / len(all_cells(rows))
    # Of 168 hours some are three deviations above the others by chance.
    by_luck = by_chance(even * days, head, deviations=4) / days
    if min(row["days"] for row in rows) < FEW_DAYS or most - even <= by_luck:
        return []
    close = [row for row in rows if is_close(row["plays_per_day"], most)]
    ordered = sorted(close, key=lambda row: -row["plays_per_day"])
    return ordered if len(ordered) <= NAMED else []


def by_weekday_and_hour(rows: Rows, head: dict) -> str:
    if min(row["days"] for row in rows) < FEW_DAYS:
        return "Too few days to tell the busiest hour of the week"
    peaks = week_peaks(rows, head)
    if not peaks:
        return "No single hour of the week stands out"
    names = [
        f"{row['weekday']} {hours(row['hour'])} ({number(row['plays_per_day'])} plays)"
        for row in peaks
    ]
    if len(peaks) > 1:
        return f"The busiest hours of the week hardly differ: {listed(names)}"
    return f"The busiest hour of the week is {names[0]}"


def per_week(rows: Rows, head: dict) -> str:
    if len(rows) == 1:
        verb = "is" if head["listeners"] == 1 else "are"
        return f"{plural(head['listeners'], 'listener')} {verb} heard, all in one week"
    later = sum(row["new_listeners"] for row in rows[1:])
    last = rows[-1]
    heard = last["new_listeners"] + last["returning_listeners"]
    return (
        f"{later:,} of {plural(head['listeners'], 'listener')} came after the first week; "
        f"in the last week {last['returning_listeners']:,} of {heard:,} had come before"
    )


def sessions(rows: Rows, head: dict) -> str:
    total = sum(row["sessions"] for row in rows)
    short = sum(row["sessions"] for row in rows if row["most_plays"] <= 5)
    longest = max(row["most_plays"] for row in rows)
    verb = "has" if short == 1 else "have"
    return (
        f"{short:,} of {plural(total, 'session')} ({share(short, total)}) {verb} at most 5 plays; "
        f"the longest has {longest:,}"
    )


# ── What ─────────────────────────────────────────────────────────────────────────────────────────


def song_name(row: dict) -> str:
    return f"“{label(row['song'])}” by {label(row['artist'])}"


def artist_name(row: dict) -> str:
    name = label(row["artist"])
    ids = row.get("artist_ids", 1)
    return name if ids == 1 else f"{name} ({ids} artists of that name)"


def matched_ranking(name: Name) -> Callable[[Rows, dict], str]:
    def finding(rows: Rows, head: dict) -> str:
        if head["matched"] < FEW_PLAYS:
            counts = f"{head['matched']:,} of {head['plays']:,}"
            return f"Too few plays match the catalogue for a ranking: {counts}"
        return f"Of the matched plays, {ranking(rows, name, 'plays', 'play')}"

    return finding


def logged_ranking(name: Name) -> Callable[[Rows, dict], str]:
    def finding(rows: Rows, head: dict) -> str:
        if head["plays"] < FEW_PLAYS:
            return f"Too few plays for a ranking: {head['plays']:,}"
        return f"As logged, {ranking(rows, name, 'plays', 'play')}"

    return finding


def by_decade(rows: Rows, head: dict) -> str:
    known = [row for row in rows if row["decade"] != "unknown"]
    total = sum(row["songs"] for row in known)
    if not known:
        return "The year of no song is known"
    top = leaders(known, "songs")
    unknown = f"the year of {head['songs'] - total:,} of {head['songs']:,} is unknown"
    if total == head["songs"]:
        unknown = "every song's year is known"
    counts = f"{plural(top[0]['songs'], 'song')} of the {total:,} with a year"
    names = listed([f"{row['decade']}" for row in top])
    each = " each" if len(top) > 1 else ""
    return f"The {names} have the most, {counts}{each}; {unknown}"


# ── Who ──────────────────────────────────────────────────────────────────────────────────────────


def by_level(rows: Rows, head: dict) -> str:
    if len(rows) == 1:
        return f"All plays are at level {label(rows[0]['level'])}"
    few = [row for row in rows if row["listeners"] < FEW_PEOPLE]
    if few:
        counts = [f"{row['listeners']:,} {label(row['level'])}" for row in rows]
        return f"Too few listeners to compare the levels: {listed(counts)}"
    most, *_, least = sorted(rows, key=lambda row: -row["median"])
    medians = (
        f"{number(most['median'])} plays per {label(most['level'])} listener (the median), "
        f"{number(least['median'])} per {label(least['level'])} one"
    )
    if most["lower_quarter"] > least["upper_quarter"]:
        return medians
    return f"The levels do not clearly differ: {medians}, and the middle halves overlap"


def level_changes(rows: Rows, head: dict) -> str:
    texts = [
        f"{plural(row['listeners'], 'listener')} changed from {label(row['from_level'])} "
        f"to {label(row['to_level'])}"
        + (f" ({row['changes']:,} times)" if row["changes"] > row["listeners"] else "")
        for row in rows
    ]
    return listed(texts)


def level_history(rows: Rows, head: dict) -> str:
    users = len({row["user_id"] for row in rows})
    if users >= 20:
        return f"{users} of those who changed level, the ones with the most plays"
    return f"{users:,} of {plural(head['listeners'], 'listener')} changed level"


def by_place(rows: Rows, head: dict) -> str:
    most = rows[0]["listeners"]
    everybody = plural(head["listeners"], "listener")
    if rows[0]["ranked"] == 1:
        return f"All plays are in one place, {label(rows[0]['place'])}"
    if most <= 2:
        return f"No place has more than {most} of the {everybody}"
    text = ranking(rows, lambda row: label(row["place"]), "listeners", "listener")
    return f"{text}; there are {head['listeners']:,} in {plural(rows[0]['ranked'], 'place')}"


def by_client(column: str) -> Callable[[Rows, dict], str]:
    def finding(rows: Rows, head: dict) -> str:
        if len(rows) == 1:
            if rows[0][column] == "other":
                return f"No {column} is recognised"
            return f"All listeners use {label(rows[0][column])}"
        if head["listeners"] < FEW_PEOPLE:
            return f"Too few listeners to compare: {head['listeners']:,}"
        text = ranking(rows, lambda row: label(row[column]), "listeners", "listener")
        return f"{text}; there are {head['listeners']:,} in all"

    return finding
