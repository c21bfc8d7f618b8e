"""Invents Sparkify input of any size: the sample beside this file, or gigabytes for a benchmark.

    python data/generate.py             writes data/sample again, byte for byte
    python data/generate.py ~/big --songs 14896 --events 1000000

No song, artist or person in it is real. The same arguments give the same bytes.

The data has what real data has: users who change level, users who never play, artists whose records
disagree, one song in two recordings, one recording under two song_ids, names beyond ASCII, replayed
lines, three malformed lines, and one play that was logged with two contents.
"""

from __future__ import annotations

import argparse
import json
import random
import sys
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import NamedTuple

# From here 30 days hold the end of a month and the autumn clock changes.
START = datetime(2018, 10, 15, tzinfo=UTC)

PLACES = (
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
CITIES = (
    "San Francisco-Oakland-Hayward, CA",
    "New York-Newark-Jersey City, NY-NJ-PA",
    "Phoenix-Mesa-Scottsdale, AZ",
    "Portland-South Portland, ME",
    "San José-Sunnyvale, CA",
    "Chicago-Naperville-Elgin, IL-IN-WI",
    "Atlanta-Sandy Springs-Roswell, GA",
    "Lake Havasu City-Kingman, AZ",
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
    Ada Björn Chloé Diego Edith Fatou Grete Hana Iván Jóna Kaito Lena Mara Noël Olga Pía Quinn Søren
    Tariq
""".split()
LAST = """
    Adams Brandão Castillo Dvořák Eklund Frye Gómez Hughes Ito Jensen Koch López Müller Nguyễn
    Okafor Summers
""".split()
ADJECTIVES = """
    Blue Golden Électrique Silent Broken Velvet Hidden Neon Distant Paper Wild Lonely Midnight
    Última
""".split()
NOUNS = """
    River Corazón Summer Radio Highway Mirror Garden Señorita Winter Dream Station Fire Étoile Ocean
    Ghost
""".split()
BANDS = """
    Foxes Björk-ish Orchestra Machines Café Trio Brothers Motörcats Collective Sisters Sigur Parade
""".split()
PAGES = ("Home", "Settings", "About", "Thumbs Up", "Add to Playlist", "Help")
LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"

# How busy each hour of the day (UTC) and each day of the week (Monday first) is.
HOURS = (3, 2, 1, 1, 1, 2, 3, 5, 7, 7, 6, 6, 7, 7, 8, 10, 12, 13, 11, 9, 8, 7, 5, 4)
WEEKDAYS = (10, 11, 12, 11, 13, 7, 6)

# The most active users and most popular songs come a few hundred times as often as the last ones.
SKEW = 0.6


class Listener(NamedTuple):
    person: dict
    upgrade: float  # share of the period before the level becomes paid; 2 is never
    listens_never: bool


# ── Songs ───────────────────────────────────────────────────────────────────────────────────────


def invent_songs(rng: random.Random, count: int) -> list[dict]:
    """Song records with the fields of the public data set. A few disagree with each other."""
    artists = invent_artists(rng, max(2, count * 2 // 3))
    records = []
    for number in range(count):
        artist = artists[min(number, rng.randrange(len(artists)))]
        records.append(invent_song(rng, number, artist))
    if count > 3:
        one_song_in_two_recordings = {**records[0], "duration": records[0]["duration"] + 31.5}
        one_recording_under_two_ids = {
            **records[1],
            "song_id": "SO999999" + records[1]["song_id"][8:],
        }
        records[-1] = one_song_in_two_recordings
        records[-2] = one_recording_under_two_ids
    return records


def invent_artists(rng: random.Random, count: int) -> list[tuple]:
    """artist_id, name and place of each artist."""
    artists = []
    for number in range(count):
        name = f"{rng.choice(ADJECTIVES)} {rng.choice(BANDS)}"
        if number > 40:
            name += f" {number}"
        artist_id = f"AR{number:05d}{rng.getrandbits(44):011X}"
        artists.append((artist_id, name, rng.choice(PLACES)))
    return artists


def invent_song(rng: random.Random, number: int, artist: tuple) -> dict:
    artist_id, name, (location, latitude, longitude) = artist
    has_place = rng.random() < 0.6
    has_location = rng.random() < 0.7
    is_alone = rng.random() < 0.95
    artist_name = name if is_alone else f"{name} feat. {rng.choice(FIRST)}"
    song_id = f"SO{number:06d}{rng.getrandbits(40):010X}"
    title = f"{rng.choice(ADJECTIVES)} {rng.choice(NOUNS)}"
    if number > 60:
        title += f" (Part {number})"
    duration = round(rng.uniform(90, 420), 5)
    has_year = rng.random() < 0.6
    return {
        "num_songs": 1,
        "artist_id": artist_id,
        "artist_latitude": latitude if has_place else None,
        "artist_longitude": longitude if has_place else None,
        "artist_location": location if has_location else "",
        "artist_name": artist_name,
        "song_id": song_id,
        "title": title,
        "duration": duration,
        "year": rng.randrange(1962, 2011) if has_year else 0,
    }


# ── Events ──────────────────────────────────────────────────────────────────────────────────────


def invent_events(
    rng: random.Random, catalog: list[dict], count: int, users: int, days: int
) -> Iterator[dict]:
    """About `count` events, session by session. A third of the plays are of the catalogue."""
    people = [invent_listener(rng, number) for number in range(users)]
    activity = [1 / (rank + 1) ** SKEW for rank in range(users)]
    popularity = running_total([1 / (rank + 1) ** SKEW for rank in range(len(catalog))])
    sessions = max(1, count // 14)
    starts = sorted(invent_start(rng, days) for _ in range(sessions))
    # everybody comes once, and the active ones come again
    again = rng.choices(people, activity, k=max(0, sessions - users))
    listeners = people + again
    rng.shuffle(listeners)
    for number, (start, listener) in enumerate(zip(starts, listeners), 1):
        progress = (start - START) / timedelta(days=days)
        level = "paid" if progress >= listener.upgrade else "free"
        yield from invent_session(rng, number, start, listener, level, catalog, popularity)


def invent_listener(rng: random.Random, number: int) -> Listener:
    person = {
        "firstName": rng.choice(FIRST),
        "gender": rng.choice("FM"),
        "lastName": rng.choice(LAST),
        "location": rng.choice(CITIES),
        "registration": 1.539e12 + rng.randrange(10**9),
        "userAgent": rng.choice(AGENTS),
        "userId": str(number + 2),
    }
    changes_level = rng.random() < 0.4
    upgrade = rng.uniform(0.1, 0.9) if changes_level else rng.choice((0, 2))
    return Listener(person, upgrade, listens_never=rng.random() < 0.04)


def running_total(weights: list[float]) -> list[float]:
    totals = []
    total = 0.0
    for weight in weights:
        total += weight
        totals.append(total)
    return totals


def invent_start(rng: random.Random, days: int) -> datetime:
    weights = [WEEKDAYS[(START.weekday() + day) % 7] for day in range(days)]
    return START + timedelta(
        days=rng.choices(range(days), weights)[0],
        hours=rng.choices(range(24), HOURS)[0],
        seconds=rng.randrange(3600),
    )


def invent_session(
    rng: random.Random,
    number: int,
    start: datetime,
    listener: Listener,
    level: str,
    catalog: list[dict],
    popularity: list[float],
) -> Iterator[dict]:
    """One session's events: pages, and plays one after the other."""
    clock = int(start.timestamp() * 1000) + rng.randrange(1000)
    is_signed_out = rng.random() < 0.03
    items = 1 if is_signed_out else rng.randrange(2, 26)
    who = dict.fromkeys(listener.person) | {"userId": ""} if is_signed_out else listener.person
    for item in range(items):
        page = "NextSong"
        track = {"artist": None, "length": None, "song": None}
        if is_signed_out or listener.listens_never or rng.random() < 0.13:
            page = rng.choice(PAGES)
        else:
            track = invent_track(rng, catalog, popularity)
        yield {
            **who,
            **track,
            "auth": "Logged Out" if is_signed_out else "Logged In",
            "itemInSession": item,
            "level": level,
            "method": "PUT" if page == "NextSong" else "GET",
            "page": page,
            "sessionId": number,
            "status": 200,
            "ts": clock,
        }
        seconds = track["length"] or rng.uniform(2, 90)
        clock += int(seconds * 1000)


def invent_track(rng: random.Random, catalog: list[dict], popularity: list[float]) -> dict:
    """What is played: a song of the catalogue, or one that the catalogue lacks."""
    is_in_catalog = rng.random() < 0.33
    if is_in_catalog:
        record = rng.choices(catalog, cum_weights=popularity)[0]
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


def write_songs(folder: Path, catalog: list[dict]) -> None:
    """One file per song: ASCII with escapes and without a line end, as in the public data set."""
    for number, record in enumerate(catalog):
        outer = LETTERS[number // 26 % 26]
        inner = LETTERS[number % 26]
        name = f"TRA{outer}{inner}{number:011X}.json"
        path = folder / "song_data" / "A" / outer / inner / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(record))


def write_events(folder: Path, events: Iterator[dict]) -> tuple[int, int]:
    """One file per day, the last with what goes wrong in real logs; returns how many of each."""
    day_file = None
    day = None
    files = 0
    lines = 0
    plays: list[tuple[dict, str]] = []
    for event in events:
        date = datetime.fromtimestamp(event["ts"] / 1000, UTC).date()
        # a session that began before midnight stays in the file that is open
        if day is None or date > day:
            if day_file:
                day_file.close()
            day = date
            path = folder / "log_data" / f"{day:%Y}" / f"{day:%m}" / f"{day}-events.json"
            path.parent.mkdir(parents=True, exist_ok=True)
            day_file = path.open("w", encoding="utf-8", newline="\n")
            files += 1
        line = json.dumps(dict(sorted(event.items())), ensure_ascii=False, separators=(",", ":"))
        if event["page"] == "NextSong" and len(plays) < 200:
            plays.append((event, line))
        day_file.write(line + "\n")
        lines += 1
    troubles = invent_troubles(plays)
    day_file.write("\n".join(troubles))
    day_file.close()
    return files, lines + len(troubles)


def invent_troubles(plays: list[tuple[dict, str]]) -> list[str]:
    """Lines that real logs hold as well; the last is without a line end."""
    first, line = plays[0]
    _, other = plays[-1]
    changed = json.dumps({**first, "location": "Ångström, WA"}, ensure_ascii=False, sort_keys=True)
    replayed = [text for _, text in plays[10:14]]
    malformed = [line + other, line[: len(line) // 2], other + " <end of batch>"]
    blank = ""
    return [*replayed, changed, *malformed, blank, other]


def write(
    folder: Path, song_count: int, event_count: int, users: int, days: int, seed: int
) -> tuple[int, int]:
    """Writes song_data/ and log_data/ under `folder`; returns how many log files and lines."""
    rng = random.Random(seed)
    catalog = invent_songs(rng, song_count)
    write_songs(folder, catalog)
    return write_events(folder, invent_events(rng, catalog, event_count, users, days))


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    sample = Path(__file__).parent / "sample"
    parser.add_argument("folder", nargs="?", type=Path, default=sample)
    parser.add_argument("--songs", type=int, default=150)
    parser.add_argument("--events", type=int, default=2500, help="about as many")
    parser.add_argument("--users", type=int, default=100)
    parser.add_argument("--days", type=int, default=30)
    parser.add_argument("--seed", type=int, default=2018)
    given = parser.parse_args()
    files, lines = write(
        given.folder, given.songs, given.events, given.users, given.days, given.seed
    )
    print(f"{given.folder}: {given.songs:,} invented song records in as many files,")
    print(f"  {lines:,} log lines in {files:,} files")


if __name__ == "__main__":
    sys.exit(main())
