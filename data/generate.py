"""Makes Sparkify input of any size: the sample beside this file, or gigabytes for a benchmark.

    python data/generate.py                                           writes data/sample again, byte for byte
    python data/generate.py /tmp/big --songs 14896 --events 1000000   the public data set's catalogue, a million events

The same arguments give the same bytes. Among the plain rows every input has what real ones have: users who change
level, users who never play, artists whose records disagree, one song in two recordings, one recording under two
song_ids, names beyond ASCII, replayed lines, three malformed lines and one play that was logged with two contents.
"""

import argparse
import json
import random
from datetime import UTC, datetime, timedelta
from pathlib import Path

START = datetime(
    2018, 10, 15, tzinfo=UTC
)  # 30 days hold a month's end and the autumn clock changes
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
AGENTS = (
    '"Mozilla/5.0 (Macintosh; Intel Mac OS X 10_9_4) AppleWebKit/537.36 Chrome/36.0.1985.143 Safari/537.36"',
    '"Mozilla/5.0 (Windows NT 6.1; WOW64) AppleWebKit/537.36 Chrome/37.0.2062.103 Safari/537.36"',
    '"Mozilla/5.0 (iPhone; CPU iPhone OS 7_1_2 like Mac OS X) AppleWebKit/537.51.2 Mobile/11D257 Safari/9537.53"',
    "Mozilla/5.0 (Windows NT 6.1; WOW64; rv:31.0) Gecko/20100101 Firefox/31.0",
    "Mozilla/5.0 (X11; Linux x86_64; rv:31.0) Gecko/20100101 Firefox/31.0",
)
FIRST = "Ada Björn Chloé Diego Edith Fatou Grete Hana Iván Jóna Kaito Lena Mara Noël Olga Pía Quinn Søren Tariq".split()
LAST = "Adams Brandão Castillo Dvořák Eklund Frye Gómez Hughes Ito Jensen Koch López Müller Nguyễn Okafor Summers".split()
ADJECTIVES = "Blue Golden Électrique Silent Broken Velvet Hidden Neon Distant Paper Wild Lonely Midnight Última".split()
NOUNS = "River Corazón Summer Radio Highway Mirror Garden Señorita Winter Dream Station Fire Étoile Ocean Ghost".split()
BANDS = "Foxes Björk-ish Orchestra Machines Café Trio Brothers Motörcats Collective Sisters Sigur Parade".split()
PAGES = ("Home", "Settings", "About", "Thumbs Up", "Add to Playlist", "Help")
HOURS = (3, 2, 1, 1, 1, 2, 3, 5, 7, 7, 6, 6, 7, 7, 8, 10, 12, 13, 11, 9, 8, 7, 5, 4)
WEEKDAYS = (10, 11, 12, 11, 13, 7, 6)  # Monday first


def songs(rng, count):
    """Song records with the public data set's fields; a few disagree with each other on purpose."""
    artists = []
    for number in range(max(2, count * 2 // 3)):
        name = f"{rng.choice(ADJECTIVES)} {rng.choice(BANDS)}" + (
            f" {number}" if number > 40 else ""
        )
        artists.append((f"AR{number:05d}{rng.getrandbits(44):011X}", name, rng.choice(PLACES)))
    records = []
    for number in range(count):
        artist_id, name, (location, latitude, longitude) = artists[
            min(number, rng.randrange(len(artists)))
        ]
        has_place = rng.random() < 0.6
        record = {
            "num_songs": 1,
            "artist_id": artist_id,
            "artist_latitude": latitude if has_place else None,
            "artist_longitude": longitude if has_place else None,
            "artist_location": location if rng.random() < 0.7 else "",
            "artist_name": name if rng.random() < 0.95 else f"{name} feat. {rng.choice(FIRST)}",
            "song_id": f"SO{number:06d}{rng.getrandbits(40):010X}",
            "title": f"{rng.choice(ADJECTIVES)} {rng.choice(NOUNS)}"
            + (f" (Part {number})" if number > 60 else ""),
            "duration": round(rng.uniform(90, 420), 5),
            "year": rng.randrange(1962, 2011) if rng.random() < 0.6 else 0,
        }
        records.append(record)
    if count > 3:
        records[-1] = {
            **records[0],
            "duration": records[0]["duration"] + 31.5,
        }  # one song, two recordings
        records[-2] = {
            **records[1],
            "song_id": "SO999999" + records[1]["song_id"][8:],
        }  # one recording, two ids
    return records


def events(rng, catalogue, count, users, days):
    """About `count` events in time order, session by session; a third of the plays are of catalogue songs."""
    people = []
    for number in range(users):
        person = {
            "firstName": rng.choice(FIRST),
            "gender": rng.choice("FM"),
            "lastName": rng.choice(LAST),
            "location": rng.choice(CITIES),
            "registration": 1.539e12 + rng.randrange(10**9),
            "userAgent": rng.choice(AGENTS),
            "userId": str(number + 2),
        }
        upgrade = (
            rng.uniform(0.1, 0.9) if rng.random() < 0.4 else rng.choice((0, 2))
        )  # share of the period, 2 = never
        people.append((person, upgrade, rng.random() < 0.04))
    # 0.6: the most active users and most popular songs come a few hundred times as often as the last ones
    activity = [1 / (rank + 1) ** 0.6 for rank in range(users)]
    popularity, total = [], 0.0
    for rank in range(len(catalogue)):
        total += 1 / (rank + 1) ** 0.6
        popularity.append(total)
    session_starts = sorted(
        START
        + timedelta(
            days=rng.choices(
                range(days), [WEEKDAYS[(START.weekday() + day) % 7] for day in range(days)]
            )[0],
            hours=rng.choices(range(24), HOURS)[0],
            seconds=rng.randrange(3600),
        )
        for _ in range(max(1, count // 14))
    )
    listeners = people + rng.choices(
        people, activity, k=max(0, len(session_starts) - users)
    )  # everybody comes once
    rng.shuffle(listeners)
    for session, (start, listener) in enumerate(zip(session_starts, listeners), 1):
        person, upgrade, listens_never = listener
        progress = (start - START) / timedelta(days=days)
        level = "paid" if progress >= upgrade else "free"
        clock = int(start.timestamp() * 1000) + rng.randrange(1000)
        signed_out = rng.random() < 0.03
        for item in range(1 if signed_out else rng.randrange(2, 26)):
            page, status, track = "NextSong", 200, {"artist": None, "length": None, "song": None}
            if signed_out or listens_never or rng.random() < 0.13:
                page = rng.choice(PAGES)
            elif rng.random() < 0.33:
                record = rng.choices(catalogue, cum_weights=popularity)[0]
                track = {
                    "artist": record["artist_name"],
                    "length": record["duration"],
                    "song": record["title"],
                }
            else:
                track = {
                    "artist": f"{rng.choice(ADJECTIVES)} {rng.choice(NOUNS)}s",
                    "length": round(rng.uniform(90, 420), 5),
                    "song": f"{rng.choice(NOUNS)} of {rng.choice(NOUNS)}",
                }
            who = {"firstName": None, "gender": None, "lastName": None, "location": None, "registration": None,
                   "userAgent": None, "userId": ""} if signed_out else person  # fmt: skip
            yield {
                **who,
                **track,
                "auth": "Logged Out" if signed_out else "Logged In",
                "itemInSession": item,
                "level": level,
                "method": "PUT" if page == "NextSong" else "GET",
                "page": page,
                "sessionId": session,
                "status": status,
                "ts": clock,
            }
            clock += int((track["length"] or rng.uniform(2, 90)) * 1000)


def write(folder, song_count, event_count, users, days, seed):
    """song_data/ with a file a song and log_data/ with a file a day, under `folder`."""
    rng = random.Random(seed)
    catalogue = songs(rng, song_count)
    for number, record in enumerate(catalogue):
        letters = "".join(
            "ABCDEFGHIJKLMNOPQRSTUVWXYZ"[number // 26**place % 26] for place in range(3)
        )
        path = (
            folder
            / "song_data"
            / "A"
            / letters[1]
            / letters[0]
            / f"TRA{letters[1]}{letters[0]}{number:011X}.json"
        )
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(
            json.dumps(record)
        )  # ASCII with escapes and no line end, as in the public data set
    day_file, day, plays = None, None, []
    for event in events(rng, catalogue, event_count, users, days):
        date = datetime.fromtimestamp(event["ts"] / 1000, UTC)
        line = json.dumps(dict(sorted(event.items())), ensure_ascii=False, separators=(",", ":"))
        if date.date() != day and (day is None or date.date() > day):
            if day_file:
                day_file.close()
            day = date.date()
            path = folder / "log_data" / f"{day:%Y}" / f"{day:%m}" / f"{day}-events.json"
            path.parent.mkdir(parents=True, exist_ok=True)
            day_file = path.open("w", encoding="utf-8", newline="\n")
        if event["page"] == "NextSong" and len(plays) < 200:
            plays.append((event, line))
        day_file.write(line + "\n")
    # What goes wrong in real logs, all on the last day.
    (first, line), (_, other) = plays[0], plays[-1]
    replayed = [text for _, text in plays[10:14]]
    changed = json.dumps({**first, "location": "Ångström, WA"}, ensure_ascii=False, sort_keys=True)
    malformed = [line + other, line[: len(line) // 2], other + " <end of batch>"]
    day_file.write(
        "\n".join([*replayed, changed, *malformed, "", other])
    )  # a blank line; no final line end
    day_file.close()


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folder", nargs="?", type=Path, default=Path(__file__).parent / "sample")
    parser.add_argument("--songs", type=int, default=150)
    parser.add_argument(
        "--events", type=int, default=2500, help="about as many (sessions vary in length)"
    )
    parser.add_argument("--users", type=int, default=100)
    parser.add_argument("--days", type=int, default=30)
    parser.add_argument("--seed", type=int, default=2018)
    given = parser.parse_args()
    write(given.folder, given.songs, given.events, given.users, given.days, given.seed)


if __name__ == "__main__":
    main()
