"""The job's rules once more, in plain Python: what the tables and the counts must be.

Written from the specification and not from etl.py, with which it shares nothing: json instead of
Spark's parser, loops instead of windows and joins. It is for small inputs.
"""

import gzip
import hashlib
import json
import math
import re
from collections import Counter, defaultdict
from datetime import UTC, datetime, timedelta
from fractions import Fraction
from pathlib import Path
from typing import NamedTuple

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
TS_RANGE = range(946684800000, 4102444800000)
BIGINT = range(-(2**63), 2**63)
INT = range(-(2**31), 2**31)
READABLE = re.compile(r".*\.(json|jsonl|ndjson)(\.gz)?", re.IGNORECASE)


class Malformed(Exception):
    pass


class Answer(NamedTuple):
    """What the job must make of an input."""

    # table -> its rows, as tuples in the order of the columns
    tables: dict[str, set]
    events: Counter
    songs: Counter
    # malformed and invalid lines, as the larger of their shares of all lines and of all bytes
    rejected: Fraction


# ── Reading ───────────────────────────────────────────────────────────────────────────────────


def read_dataset(folder: Path, name: str) -> tuple[list[bytes], list[str]]:
    """The content of each object that is read, and the keys of those that are skipped."""
    contents, skipped = [], []
    for path in sorted((folder / name).rglob("*")):
        key = path.relative_to(folder)
        if path.is_dir() or any(part[0] in "_." for part in key.parts[1:]):
            continue
        data = path.read_bytes()
        if data and READABLE.fullmatch(path.name):
            contents.append(gzip.decompress(data) if path.name.lower().endswith(".gz") else data)
        elif data:
            skipped.append(str(key))
    return contents, skipped


def lines_of(data: bytes) -> list[bytes]:
    lines = data.removeprefix(b"\xef\xbb\xbf").split(b"\n")
    if lines[-1] == b"":
        lines.pop()
    return lines


def is_blank(line: bytes) -> bool:
    return not line.strip(b" \t\r")


def records_of(data: bytes) -> list[bytes]:
    """The song records of an object: its lines, or all of it if it is pretty-printed."""
    lines = [line for line in lines_of(data) if not is_blank(line)]
    if lines and lines[0].strip() == b"{":
        return [b"\r".join(lines)]
    return lines


# ── Values ────────────────────────────────────────────────────────────────────────────────────


class Record(dict):
    """A JSON object; of a key given twice the last value counts, but each must be right."""

    def __init__(self, pairs):
        super().__init__(pairs)
        self.pairs = pairs

    def number(self, name, read):
        values = [read(value) for key, value in self.pairs if key == name]
        return values[-1] if values else None


def parse(line: bytes) -> Record:
    """The one JSON object of a line."""
    try:
        record = json.loads(line.decode("utf-8"), object_pairs_hook=Record)
    except (ValueError, RecursionError) as error:
        raise Malformed from error
    if not isinstance(record, Record):
        raise Malformed
    return record


def text(value):
    if value is None or value == "":
        return None
    if isinstance(value, str):
        return value
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))


def integer(value, allowed=BIGINT):
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int) or value not in allowed:
        raise Malformed
    return value


def double(value):
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise Malformed
    try:
        value = float(value)
    except OverflowError as error:
        raise Malformed from error
    if not math.isfinite(value):
        raise Malformed
    return value


def degrees(value, limit):
    """NULL if it is impossible, or NaN, which Python's json writes."""
    if isinstance(value, float) and math.isnan(value):
        return None
    value = double(value)
    return value if value is not None and abs(value) <= limit else None


def low(value):
    """Sort key with NULL lowest and text in UTF-8 byte order."""
    return (value is not None, value.encode() if isinstance(value, str) else value)


def last(value):
    """Sort key with NULL last."""
    return (value is None, value.encode() if isinstance(value, str) else value)


# ── Records ───────────────────────────────────────────────────────────────────────────────────

EVENT_TEXTS = {
    "artist": "artist",
    "first": "firstName",
    "gender": "gender",
    "last": "lastName",
    "level": "level",
    "location": "location",
    "page": "page",
    "song": "song",
    "agent": "userAgent",
    "user": "userId",
}


def event(line: bytes):
    """Class and fields of one physical line of the logs."""
    if is_blank(line):
        return "blank", None
    try:
        raw = parse(line)
        fields = {
            "item": raw.number("itemInSession", integer),
            "length": raw.number("length", double),
            "session": raw.number("sessionId", integer),
            "ts": raw.number("ts", integer),
        }
    except Malformed:
        return "malformed", None
    fields |= {name: text(raw.get(key)) for name, key in EVENT_TEXTS.items()}
    if fields["page"] is None or fields["ts"] is None or fields["ts"] not in TS_RANGE:
        return "invalid", None
    if fields["user"] is not None:
        if not re.fullmatch("0|[1-9][0-9]*", fields["user"]) or int(fields["user"]) not in BIGINT:
            return "invalid", None
        fields["user"] = int(fields["user"])
    if fields["page"] != "NextSong":
        return "out_of_scope", fields
    if None in (fields["user"], fields["session"], fields["item"]):
        return "invalid", None
    return "play", fields


class Song(NamedTuple):
    song_id: str
    title: str
    artist_id: str
    artist_name: str
    duration: float
    year: int
    location: str | None
    latitude: float | None
    longitude: float | None


def song(line: bytes):
    """Class and fields of one song record."""
    try:
        raw = parse(line)
        duration = raw.number("duration", double)
        year = raw.number("year", lambda value: integer(value, INT))
        latitude = raw.number("artist_latitude", lambda value: degrees(value, 90))
        longitude = raw.number("artist_longitude", lambda value: degrees(value, 180))
    except Malformed:
        return "malformed", None
    ids = [text(raw.get(key)) for key in ("song_id", "title", "artist_id", "artist_name")]
    if None in ids or duration is None or duration <= 0:
        return "invalid", None
    if re.search("[\0-\x1f]|^__HIVE_DEFAULT_PARTITION__$", ids[2]):
        return "invalid", None
    location = text(raw.get("artist_location"))
    return "record", Song(*ids, duration, year or 0, location, latitude, longitude)


# ── Tables ────────────────────────────────────────────────────────────────────────────────────


def order_of_songs(record: Song):
    names = ("year", "title", "artist_id", "duration", "artist_name", "location")
    values = [getattr(record, name) for name in (*names, "latitude", "longitude")]
    return (record.year == 0, *map(last, values))


def order_of_artists(record: Song):
    place = record[6:]
    filled = sum(value is not None for value in place)
    return (-filled, *map(last, (record.artist_name, *place)))


def order_of_users(fields: dict):
    names = ("ts", "session", "item", "level", "first", "last", "gender")
    return [low(fields[name]) for name in names]


def content_of(fields: dict):
    names = ("artist", "first", "gender", "last", "length", "level", "location", "song", "agent")
    return tuple(last(fields[name]) for name in names)


def grouped(items, key) -> dict:
    groups = defaultdict(list)
    for item in items:
        groups[key(item)].append(item)
    return groups


def share(rejected: list[bytes], lines: list[bytes]) -> Fraction:
    by_lines = Fraction(len(rejected), max(len(lines), 1))
    by_bytes = Fraction(sum(map(len, rejected)), max(sum(map(len, lines)), 1))
    return max(by_lines, by_bytes)


def derive_songs(objects: list[bytes]):
    """Rows of songs and artists, the distinct records, the counts, and the share rejected."""
    lines = [line for data in objects for line in records_of(data)]
    classed = [(line, *song(line)) for line in lines]
    counts = Counter(kind for _, kind, _ in classed)
    records = {record for _, _, record in classed if record}
    songs, artists = set(), set()
    for group in grouped(records, lambda record: record.song_id).values():
        kept = min(group, key=order_of_songs)
        songs.add((kept.song_id, kept.title, kept.artist_id, kept.duration, kept.year))
    for group in grouped(records, lambda record: record.artist_id).values():
        kept = min(group, key=order_of_artists)
        artists.add((kept.artist_id, kept.artist_name, *kept[6:]))
    counts["records"] = len(lines)
    counts["duplicate"] = counts.pop("record", 0) - len(records)
    counts["variant"] = len(records) - len(songs)
    counts["songs"] = len(songs)
    rejected = [line for line, kind, _ in classed if kind in ("malformed", "invalid")]
    return songs, artists, records, counts, share(rejected, lines)


def derive(song_objects: list[bytes], log_objects: list[bytes]) -> Answer:
    songs, artists, records, song_counts, rejected_songs = derive_songs(song_objects)
    recordings = grouped(
        records, lambda record: (record.title, record.artist_name, record.duration)
    )

    lines = [line for data in log_objects for line in lines_of(data)]
    classed = [(line, *event(line)) for line in lines]
    counts = Counter(kind for _, kind, _ in classed)
    counts["lines"] = len(lines)
    plays = [fields for _, kind, fields in classed if kind == "play"]
    known = [fields for _, _, fields in classed if fields and fields["user"] is not None]

    users = set()
    for user, events in grouped(known, lambda fields: fields["user"]).items():
        latest = max(events, key=order_of_users)
        users.add((user, *(latest[name] for name in ("first", "last", "gender", "level"))))

    songplays, times = set(), set()
    natural_key = ("user", "session", "item", "ts")
    copies = grouped(plays, lambda fields: tuple(fields[name] for name in natural_key))
    for (user, session, item, ts), group in copies.items():
        kept = min(group, key=content_of)
        distinct = len({content_of(fields) for fields in group})
        counts["songplays"] += 1
        counts["key_conflict"] += distinct - 1
        counts["duplicate"] += len(group) - distinct
        found = recordings.get((kept["song"], kept["artist"], kept["length"]), [])
        tracks = [(record.song_id.encode(), record.artist_id.encode()) for record in found]
        ids = [part.decode() for part in min(tracks)] if tracks else [None, None]
        counts["matched"] += bool(tracks)
        counts["ambiguous"] += len({song_id for song_id, _ in tracks}) > 1
        at = EPOCH + timedelta(milliseconds=ts)
        month = (at.year, at.month)
        play_id = hashlib.md5(f"{user}|{session}|{item}|{ts}".encode()).hexdigest()
        where = (session, kept["location"], kept["agent"])
        songplays.add((play_id, at, user, kept["level"], *ids, *where, *month))
        times.add((at, at.hour, at.day, at.isocalendar()[1], at.isoweekday() % 7 + 1, *month))
    del counts["play"]

    tables = {
        "songplays": songplays,
        "users": users,
        "songs": songs,
        "artists": artists,
        "time": times,
    }
    written = [line for line in lines if not is_blank(line)]
    rejected = [line for line, kind, _ in classed if kind in ("malformed", "invalid")]
    return Answer(tables, counts, song_counts, max(rejected_songs, share(rejected, written)))


def answer(folder: Path) -> Answer:
    """What the job must make of an input folder."""
    return derive(*(read_dataset(folder, name)[0] for name in ("song_data", "log_data")))
