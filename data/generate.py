"""Invents Sparkify input of any size: the sample beside this file, or gigabytes.

    python data/generate.py             writes data/sample again, byte for byte
    python data/generate.py ~/big --songs 14896 --events 1000000

No song, artist or person in it is real. The same arguments give the same bytes.

People listen most in the evening of their own time zone and at weekends. Some
change from free to paid and stay. A few songs come out during the period.

The data has what real data has: users who never play, artists whose records
disagree, one song in two recordings, one recording under two song_ids, names
beyond ASCII, replayed lines, three malformed lines, and one play that was
logged with two contents.
"""

from __future__ import annotations

import argparse
import itertools
import json
import random
import string
from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import NamedTuple
from zoneinfo import ZoneInfo

# A Monday. From here four weeks hold the end of a month and the autumn clock changes.
START = datetime(2018, 10, 15, tzinfo=UTC)

ARTIST_LOCATIONS = (
    ("Reykjavík, Iceland", 64.14, -21.94),
    ("São Paulo, Brazil", -23.55, -46.63),
    ("Detroit, MI", 42.33, -83.05),
    ("Kyōto, Japan", 35.01, 135.77),
    ("London, England", 51.51, -0.13),
    ("Nashville, TN", 36.17, -86.78),
    ("Zürich, Switzerland", 47.37, 8.54),
    ("Lagos, Nigeria", 6.45, 3.39),
    ("Oakland, CA", 37.8, -122.27),
    ("Montréal, Canada", 45.5, -73.57),
)
LISTENER_LOCATIONS = (
    ("San Francisco-Oakland-Hayward, CA", "America/Los_Angeles"),
    ("New York-Newark-Jersey City, NY-NJ-PA", "America/New_York"),
    ("Phoenix-Mesa-Scottsdale, AZ", "America/Phoenix"),
    ("Portland-South Portland, ME", "America/New_York"),
    ("San José-Sunnyvale, CA", "America/Los_Angeles"),
    ("Chicago-Naperville-Elgin, IL-IN-WI", "America/Chicago"),
    ("Atlanta-Sandy Springs-Roswell, GA", "America/New_York"),
    ("Lake Havasu City-Kingman, AZ", "America/Phoenix"),
)
# Some are logged with quotes around them, as in the public data set.
AGENTS = (
    '"Mozilla/5.0 (Macintosh; Intel Mac OS X 10_9_4) AppleWebKit/537.36'
    ' Chrome/36.0.1985.143 Safari/537.36"',
    '"Mozilla/5.0 (Windows NT 6.1; WOW64) AppleWebKit/537.36 Chrome/37.0.2062.103 Safari/537.36"',
    '"Mozilla/5.0 (iPhone; CPU iPhone OS 7_1_2 like Mac OS X) AppleWebKit/537.51.2'
    ' Mobile/11D257 Safari/9537.53"',
    "Mozilla/5.0 (Windows NT 6.1; WOW64; rv:31.0) Gecko/20100101 Firefox/31.0",
    "Mozilla/5.0 (X11; Linux x86_64; rv:31.0) Gecko/20100101 Firefox/31.0",
)
FIRST = """
    Ada Björn Chloé Diego Edith Fatou Grete Hana Iván Jóna Kaito Mara Noël Olga Quinn Søren Tariq
""".split()
LAST = """
    Adams Brandão Castillo Dvořák Eklund Frye Gómez Hughes Ito Jensen López Müller Nguyễn Okafor
""".split()
ADJECTIVES = """
    Blue Golden Électrique Silent Broken Velvet Hidden Neon Distant Paper Lonely Midnight Última
""".split()
NOUNS = """
    River Corazón Summer Radio Highway Mirror Garden Señorita Winter Dream Station Étoile Ocean
""".split()
BANDS = """
    Foxes Björk-ish Orchestra Machines Café Trio Brothers Motörcats Collective Sisters Sigur Parade
""".split()
PAGES = ("Home", "Settings", "About", "Thumbs Up", "Add to Playlist", "Help")

# How busy each day of the week (Monday first) and each hour of the listener's day is.
WEEKDAYS = (10, 10, 10, 11, 13, 19, 17)
WORKDAY_HOURS = (1, 1, 0, 0, 0, 1, 4, 8, 8, 4, 3, 4, 6, 4, 3, 4, 6, 10, 15, 19, 20, 16, 9, 4)
WEEKEND_HOURS = (4, 2, 1, 0, 0, 0, 1, 1, 2, 4, 6, 7, 7, 7, 8, 8, 8, 8, 9, 9, 9, 8, 7, 5)

# The first listener and the first song are by far the most active and the most popular.
SKEW = 0.8

# Song number -> the share of the period after which it comes out, and is popular at once.
LATE_SONGS = {2: 0.3, 4: 0.5, 6: 0.7}


class Listener(NamedTuple):
    person: dict
    zone: ZoneInfo
    upgrade: float  # share of the period before the level becomes paid; 2 is never
    plays: bool


class Session(NamedTuple):
    start: datetime
    progress: float  # share of the period before the start
    person: dict
    level: str
    plays: bool
    items: int


# ── Songs ───────────────────────────────────────────────────────────────────────────────────────


def invent_songs(rng: random.Random, count: int) -> list[dict]:
    """Song records with the fields of the public data set. A few disagree with each other."""
    artists = invent_artists(rng, max(2, count * 2 // 3))
    records = []
    for number in range(count):
        artist = artists[min(number, rng.randrange(len(artists)))]
        records.append(invent_song(rng, number, artist))
    if count > 3:
        # one song in two recordings, and one recording under two song_ids
        records[-1] = {**records[0], "duration": records[0]["duration"] + 31.5}
        records[-2] = {**records[1], "song_id": "SO999999" + records[1]["song_id"][8:]}
    return records


def invent_artists(rng: random.Random, count: int) -> list[tuple]:
    """artist_id, name and location of each artist."""
    artists = []
    for number in range(count):
        name = f"{rng.choice(ADJECTIVES)} {rng.choice(BANDS)}"
        if number > 40:
            name += f" {number}"
        artist_id = f"AR{number:05d}{rng.getrandbits(44):011X}"
        artists.append((artist_id, name, rng.choice(ARTIST_LOCATIONS)))
    return artists


def invent_song(rng: random.Random, number: int, artist: tuple) -> dict:
    artist_id, name, (location, latitude, longitude) = artist
    has_coordinates = rng.random() < 0.6
    has_location = rng.random() < 0.7
    is_alone = rng.random() < 0.95
    artist_name = name if is_alone else f"{name} feat. {rng.choice(FIRST)}"
    song_id = f"SO{number:06d}{rng.getrandbits(40):010X}"
    title = f"{rng.choice(ADJECTIVES)} {rng.choice(NOUNS)}"
    if number > 60:
        title += f" (Part {number})"
    duration = round(rng.uniform(90, 420), 5)
    has_year = rng.random() < 0.6
    year = rng.randrange(1962, 2011) if has_year else 0
    return {
        "num_songs": 1,
        "artist_id": artist_id,
        "artist_latitude": latitude if has_coordinates else None,
        "artist_longitude": longitude if has_coordinates else None,
        "artist_location": location if has_location else "",
        "artist_name": artist_name,
        "song_id": song_id,
        "title": title,
        "duration": duration,
        "year": START.year if number in LATE_SONGS else year,
    }


# ── Listeners and their sessions ────────────────────────────────────────────────────────────────


def invent_listener(rng: random.Random, number: int, users: int) -> Listener:
    """The lower the number, the more active. Who upgrades is one of the active."""
    location, zone = rng.choice(LISTENER_LOCATIONS)
    person = {
        "firstName": rng.choice(FIRST),
        "gender": rng.choice("FM"),
        "lastName": rng.choice(LAST),
        "location": location,
        "registration": START.timestamp() * 1000 - rng.randrange(10**10),
        "userAgent": rng.choice(AGENTS),
        "userId": str(number + 2),
    }
    upgrades = number < users / 5 and rng.random() < 0.5
    upgrade = rng.uniform(0.1, 0.75) if upgrades else rng.choice((0, 2, 2))
    return Listener(person, ZoneInfo(zone), upgrade, plays=rng.random() < 0.96)


def skewed(count: int) -> list[float]:
    """Cumulative weights of which the first ones are by far the heaviest."""
    weights = [1 / (rank + 1) ** SKEW for rank in range(count)]
    return list(itertools.accumulate(weights))


def plan_sessions(rng: random.Random, events: int, users: int, days: int) -> list[Session]:
    """Sessions that hold that many events, by start. Everybody comes at least once."""
    people = [invent_listener(rng, number, users) for number in range(users)]
    activity = skewed(users)
    busy_days = list(itertools.accumulate(WEEKDAYS[day % 7] for day in range(days)))
    sessions: list[Session] = []
    planned = 0
    while planned < events:
        listener = rng.choices(people, cum_weights=activity)[0]
        if len(sessions) < users:
            listener = people[len(sessions)]
        session = plan_session(rng, listener, busy_days)
        planned += session.items
        sessions.append(session)
    return sorted(sessions, key=lambda session: session.start)


def plan_session(rng: random.Random, listener: Listener, busy_days: list[float]) -> Session:
    """A session of this listener; `busy_days` holds the cumulative weights of the days."""
    period = timedelta(days=len(busy_days))
    day = rng.choices(range(len(busy_days)), cum_weights=busy_days)[0]
    is_weekend = day % 7 in (5, 6)
    busy_hours = WEEKEND_HOURS if is_weekend else WORKDAY_HOURS
    hour = rng.choices(range(24), busy_hours)[0]
    after_midnight = timedelta(days=day, hours=hour, seconds=rng.randrange(3600))
    start = (START.replace(tzinfo=listener.zone) + after_midnight).astimezone(UTC)
    # an American evening after the last day in UTC becomes one before the first day
    if start >= START + period:
        start -= period
    progress = (start - START) / period
    level = "paid" if progress >= listener.upgrade else "free"
    if rng.random() < 0.03:
        signed_out = dict.fromkeys(listener.person) | {"userId": ""}
        return Session(start, progress, signed_out, level, plays=False, items=1)
    items = rng.randint(2, 22 if level == "paid" else 13)
    return Session(start, progress, listener.person, level, listener.plays, items)


# ── Events ──────────────────────────────────────────────────────────────────────────────────────


def invent_events(
    rng: random.Random, sessions: list[Session], song_records: list[dict]
) -> Iterator[tuple[date, dict]]:
    """The events of each session, with the day on which it starts."""
    popularity = skewed(len(song_records))
    for number, session in enumerate(sessions, 1):
        clock = int(session.start.timestamp() * 1000) + rng.randrange(1000)
        for item in range(session.items):
            page = "NextSong"
            track = {"artist": None, "length": None, "song": None}
            if not session.plays or rng.random() < 0.13:
                page = rng.choice(PAGES)
            else:
                song_number = rng.choices(range(len(song_records)), cum_weights=popularity)[0]
                is_out = session.progress >= LATE_SONGS.get(song_number, 0)
                track = invent_track(rng, song_records[song_number] if is_out else None)
            event = {
                **session.person,
                **track,
                "auth": "Logged In" if session.person["userId"] else "Logged Out",
                "itemInSession": item,
                "level": session.level,
                "method": "PUT" if page == "NextSong" else "GET",
                "page": page,
                "sessionId": number,
                "status": 200,
                "ts": clock,
            }
            yield session.start.date(), event
            seconds = track["length"] or rng.uniform(2, 90)
            clock += int(seconds * 1000)


def invent_track(rng: random.Random, record: dict | None) -> dict:
    """What is played: in a third of the plays this song of song_data, if it is out."""
    if record and rng.random() < 0.33:
        return {
            "artist": record["artist_name"],
            "length": record["duration"],
            "song": record["title"],
        }
    return {
        "artist": f"{rng.choice(ADJECTIVES)} {rng.choice(NOUNS)}s",
        "length": round(rng.uniform(90, 420), 5),
        "song": f"{rng.choice(NOUNS)} of {rng.choice(NOUNS)}",
    }


# ── Files ───────────────────────────────────────────────────────────────────────────────────────


def write_songs(folder: Path, song_records: list[dict]) -> None:
    """One file per song: ASCII with escapes and without a line end, as in the public data set."""
    for number, record in enumerate(song_records):
        outer = string.ascii_uppercase[number // 26 % 26]
        inner = string.ascii_uppercase[number % 26]
        name = f"TRA{outer}{inner}{number:011X}.json"
        path = folder / "song_data" / "A" / outer / inner / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(record))


def write_events(folder: Path, events: Iterator[tuple[date, dict]]) -> int:
    """One file per day, the last with what goes wrong in real logs; returns how many lines."""
    lines = 0
    plays: list[tuple[dict, str]] = []
    for day, of_day in itertools.groupby(events, key=lambda pair: pair[0]):
        path = folder / "log_data" / f"{day:%Y}" / f"{day:%m}" / f"{day}-events.json"
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("w", encoding="utf-8", newline="\n") as day_file:
            for _, event in of_day:
                line = as_line(event)
                day_file.write(line + "\n")
                lines += 1
                if event["page"] == "NextSong" and len(plays) < 200:
                    plays.append((event, line))
    troubles = invent_troubles(plays)
    with path.open("a", encoding="utf-8", newline="\n") as last_file:
        last_file.write("\n".join(troubles))
    return lines + len(troubles)


def as_line(event: dict) -> str:
    return json.dumps(event, ensure_ascii=False, separators=(",", ":"), sort_keys=True)


def invent_troubles(plays: list[tuple[dict, str]]) -> list[str]:
    """Lines that real logs hold as well, one of them blank; the last is without a line end."""
    first, line = plays[0]
    _, other = plays[-1]
    changed = as_line({**first, "location": "Ångström, WA"})
    replayed = [text for _, text in plays[10:14]]
    malformed = [line + other, line[: len(line) // 2], other + " <end of batch>"]
    return [*replayed, changed, *malformed, "", other]


def main() -> None:
    as_written = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=as_written)
    parser.add_argument("folder", nargs="?", type=Path, default=Path(__file__).parent / "sample")
    parser.add_argument("--songs", type=int, default=150, help="song records")
    parser.add_argument("--events", type=int, default=2400, help="log lines, or up to 30 more")
    parser.add_argument("--users", type=int, default=80)
    parser.add_argument("--days", type=int, default=28)
    parser.add_argument("--seed", type=int, default=2022)
    given = parser.parse_args()
    rng = random.Random(given.seed)
    song_records = invent_songs(rng, given.songs)
    write_songs(given.folder, song_records)
    sessions = plan_sessions(rng, given.events, given.users, given.days)
    lines = write_events(given.folder, invent_events(rng, sessions, song_records))
    print(f"{given.folder}: {given.songs:,} invented song records and {lines:,} log lines")


if __name__ == "__main__":
    main()
