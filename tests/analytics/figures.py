"""The figures of the report again, counted in plain Python from the rows of the tables."""

from collections import Counter, defaultdict
from datetime import timedelta

WEEKDAYS = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")
SIZES = ((1, "1"), (5, "2 to 5"), (20, "6 to 20"), (50, "21 to 50"), (10**9, "over 50"))


def group(rows, *names):
    """Values of these columns -> the rows that have them."""
    found = defaultdict(list)
    for row in rows:
        found[tuple(row[name] for name in names)].append(row)
    return found


def listeners(rows):
    return len({row["user_id"] for row in rows})


def per_listener(rows):
    return len(rows) / listeners(rows)


def matched(rows):
    return [row for row in rows if row["song_id"]]


def headline(tables, plays):
    starts = sorted(play["start_time"] for play in plays)
    levels = group(plays, "user_id")
    changed = [rows for rows in levels.values() if len({row["level"] for row in rows}) > 1]
    row = {
        "plays": len(plays),
        "listeners": listeners(plays),
        "users": len(tables["users"]),
        "sessions": len(group(plays, "user_id", "session_id")),
        "first_day": starts[0].date() if starts else None,
        "last_day": starts[-1].date() if starts else None,
        "matched": len(matched(plays)),
        "songs": len(tables["songs"]),
        "artists": len(tables["artists"]),
        "changed_level": len(changed),
    }
    return [tuple(row.values())]


def plays_per_day(tables, plays):
    days = group(plays, "day")
    return [(day, len(rows), listeners(rows)) for (day,), rows in sorted(days.items())]


def plays_by_weekday(tables, plays):
    found = []
    for number, name in enumerate(WEEKDAYS):
        rows = [play for play in plays if play["day"].weekday() == number]
        each = [len(day) for day in group(rows, "day").values()]
        if each:
            average = len(rows) / len(each)
            found.append((name, len(each), len(rows), average, min(each), max(each)))
    return found


def plays_by_hour(tables, plays):
    hours = Counter(play["start_time"].hour for play in plays)
    return [(hour, count, 100 * count / len(plays)) for hour, count in sorted(hours.items())]


def plays_by_weekday_and_hour(tables, plays):
    days = Counter(day.isoweekday() % 7 + 1 for (day,) in group(plays, "day"))
    cells = Counter((play["day"].isoweekday() % 7 + 1, play["start_time"].hour) for play in plays)
    return [(*cell, count, count / days[cell[0]]) for cell, count in sorted(cells.items())]


def listeners_per_week(tables, plays):
    found = []
    seen = set()
    weeks = defaultdict(list)
    for play in plays:
        weeks[play["day"] - timedelta(days=play["day"].weekday())].append(play)
    for monday, rows in sorted(weeks.items()):
        users = {row["user_id"] for row in rows}
        days = len(group(rows, "day"))
        new = len(users - seen)
        week = monday.isocalendar().week
        found.append((monday, week, days, len(users), new, len(users) - new))
        seen |= users
    return found


def plays_by_gender(tables, plays):
    genders = {user["user_id"]: user["gender"] for user in tables["users"]}
    found = []
    for gender in set(genders.values()):
        rows = [play for play in plays if genders[play["user_id"]] == gender]
        if rows:
            weekend = sum(row["day"].weekday() > 4 for row in rows)
            share = 100 * weekend / len(rows)
            found.append((gender, listeners(rows), len(rows), per_listener(rows), share))
    return sorted(found, key=lambda row: (-row[2], row[0]))


def plays_by_level(tables, plays):
    now = {user["user_id"]: user["level"] for user in tables["users"]}
    levels = defaultdict(list)
    for play in plays:
        levels[play["level"], now[play["user_id"]]].append(play)
    return [
        (*pair, listeners(rows), len(rows), per_listener(rows))
        for pair, rows in sorted(levels.items())
    ]


def level_history(tables, plays):
    users = group(plays, "user_id")
    changed = [user for user, rows in users.items() if len({row["level"] for row in rows}) > 1]
    changed = sorted(changed, key=lambda user: (-len(users[user]), user))[:20]
    found = []
    for user in sorted(changed):
        stretches = []
        for play in sorted(users[user], key=lambda row: (row["start_time"], row["songplay_id"])):
            if not stretches or stretches[-1][0]["level"] != play["level"]:
                stretches.append([])
            stretches[-1].append(play)
        for rows in stretches:
            days = (rows[0]["day"], rows[-1]["day"])
            found.append((*user, rows[0]["level"], *days, len(rows)))
    return found


def top_listeners(tables, plays):
    users = {user["user_id"]: user for user in tables["users"]}
    found = []
    for (number,), rows in group(plays, "user_id").items():
        user = users[number]
        sessions = len(group(rows, "session_id"))
        last = max(row["day"] for row in rows)
        found.append((number, user["gender"], user["level"], len(rows), sessions, last))
    return sorted(found, key=lambda row: (-row[3], row[0]))[:10]


def sessions(tables, plays):
    sized = defaultdict(list)
    for rows in group(plays, "user_id", "session_id").values():
        size = next(name for most, name in SIZES if len(rows) <= most)
        starts = [row["start_time"] for row in rows]
        sized[size].append((len(rows), (max(starts) - min(starts)).total_seconds() / 60))
    return [
        (
            name,
            len(sized[name]),
            sum(count for count, _ in sized[name]),
            sum(minutes for _, minutes in sized[name]) / len(sized[name]),
        )
        for _, name in SIZES
        if sized[name]
    ]


def most_listeners(row):
    """Most plays first, then most listeners, then by name."""
    *names, plays, heard = row
    return (-plays, -heard, names)


def top_songs(tables, plays):
    titles = {song["song_id"]: song["title"] for song in tables["songs"]}
    names = {artist["artist_id"]: artist["name"] for artist in tables["artists"]}
    songs = defaultdict(list)
    for play in matched(plays):
        songs[titles[play["song_id"]], names[play["artist_id"]]].append(play)
    found = [(*song, len(rows), listeners(rows)) for song, rows in songs.items()]
    return sorted(found, key=most_listeners)[:10]


def top_artists(tables, plays):
    names = {artist["artist_id"]: artist["name"] for artist in tables["artists"]}
    artists = defaultdict(list)
    for play in matched(plays):
        artists[names[play["artist_id"]]].append(play)
    found = [(name, len(rows), listeners(rows)) for name, rows in artists.items()]
    return [
        (*row, len(group(artists[row[0]], "song_id")))
        for row in sorted(found, key=most_listeners)[:10]
    ]


def songs_by_decade(tables, plays):
    decades = defaultdict(list)
    for song in tables["songs"]:
        decades[f"{song['year'] // 10}0s" if song["year"] else "unknown"].append(song["duration"])
    return [
        (decade, len(seconds), sum(seconds) / 3600) for decade, seconds in sorted(decades.items())
    ]


def top_places(tables, plays):
    places = group(plays, "location")
    found = [(*place, listeners(rows), len(rows)) for place, rows in places.items()]
    return sorted(found, key=lambda row: (-row[1], -row[2], row[0]))[:10]


FIGURES = (
    headline,
    plays_per_day,
    plays_by_weekday,
    plays_by_hour,
    plays_by_weekday_and_hour,
    listeners_per_week,
    plays_by_gender,
    plays_by_level,
    level_history,
    top_listeners,
    sessions,
    top_songs,
    top_artists,
    songs_by_decade,
    top_places,
)


def count_figures(tables, clock=lambda play: play["start_time"]):
    """Query -> its rows, as tuples.

    clock   what a play's clock showed
    """
    plays = []
    for play in tables["songplays"]:
        start = clock(play).replace(tzinfo=None)
        plays.append({**play, "start_time": start, "day": start.date()})
    return {figure.__name__: figure(tables, plays) for figure in FIGURES}
