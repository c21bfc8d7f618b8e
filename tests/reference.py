"""The job's rules once more, in plain Python: what the tables and the account must be.

Written from the contract and not from etl.py, which shares nothing with it: json instead of
Spark's parser, loops instead of windows and joins. It is for small inputs.
"""

import hashlib
import json
import math
import re
from collections import Counter, defaultdict
from datetime import UTC, datetime, timedelta

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
TS_RANGE = range(946684800000, 4102444800000)
BIGINT = range(-(2**63), 2**63)


class Malformed(Exception):
    pass


def refuse(_):
    raise Malformed


def parse(line: bytes) -> dict:
    """The one JSON object of a line; of a key given twice the last counts."""
    try:
        record = json.loads(line.decode("utf-8"), parse_constant=refuse)
    except (ValueError, RecursionError) as error:
        raise Malformed from error
    if not isinstance(record, dict):
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
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise Malformed
    try:
        value = float(value)
    except OverflowError as error:
        raise Malformed from error
    if not math.isfinite(value):
        raise Malformed
    return value


def physical_lines(data: bytes) -> list:
    data = data[3:] if data.startswith(b"\xef\xbb\xbf") else data
    lines = data.split(b"\n")
    if lines[-1] == b"":
        lines.pop()
    return [line[:-1] if line.endswith(b"\r") else line for line in lines]


def low(value):
    """Sort key with NULL lowest and text in UTF-8 byte order."""
    return (value is not None, value.encode() if isinstance(value, str) else value)


def last(value):
    """Sort key with NULL last."""
    return (value is None, value.encode() if isinstance(value, str) else value)


def event(line: bytes):
    """Class and fields of one physical line of the logs."""
    if not line.strip(b" \t\r"):
        return "blank", None
    try:
        raw = parse(line)
        fields = {
            "item": integer(raw.get("itemInSession")),
            "length": double(raw.get("length")),
            "session": integer(raw.get("sessionId")),
            "ts": integer(raw.get("ts")),
        }
    except Malformed:
        return "malformed", None
    names = dict(first="firstName", last="lastName", agent="userAgent", user="userId")
    names.update({name: name for name in ("artist", "gender", "level", "location", "page", "song")})
    fields.update({name: text(raw.get(key)) for name, key in names.items()})
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


def song(line: bytes):
    try:
        raw = parse(line)
        duration = double(raw.get("duration"))
        latitude, longitude = (
            double(raw.get("artist_latitude")),
            double(raw.get("artist_longitude")),
        )
        year = integer(raw.get("year"), range(-(2**31), 2**31))
    except Malformed:
        return "malformed", None
    song_id, title, artist_id, name = (
        text(raw.get(key)) for key in ("song_id", "title", "artist_id", "artist_name")
    )
    if None in (song_id, title, artist_id, name) or duration is None or duration <= 0:
        return "invalid", None
    latitude = latitude if latitude is not None and abs(latitude) <= 90 else None
    longitude = longitude if longitude is not None and abs(longitude) <= 180 else None
    location = text(raw.get("artist_location"))
    return "record", (
        song_id,
        title,
        artist_id,
        name,
        duration,
        year or 0,
        location,
        latitude,
        longitude,
    )


def derive(song_objects: list, log_files: list):
    """The five tables as sets of tuples in the contract's column order, and the two accounts."""
    records, song_account = set(), Counter()
    for data in song_objects:
        for line in physical_lines(data):
            if not line.strip(b" \t\r"):
                continue
            kind, record = song(line)
            song_account["records"] += 1
            song_account["duplicate" if record in records else kind] += 1
            if record:
                records.add(record)
    by_song, by_artist, by_recording = defaultdict(list), defaultdict(list), defaultdict(list)
    for record in records:
        by_song[record[0]].append(record)
        by_artist[record[2]].append(record)
        by_recording[record[1], record[3], record[4]].append(record)
    songs = set()
    for group in by_song.values():
        order = (5, 1, 2, 4, 3, 6, 7, 8)
        kept = min(
            group, key=lambda record: (record[5] == 0, *(last(record[place]) for place in order))
        )
        songs.add((kept[0], kept[1], kept[2], kept[4], kept[5]))
    artists = set()
    for group in by_artist.values():
        kept = min(
            group,
            key=lambda record: (
                -sum(value is not None for value in record[6:]),
                *(last(record[place]) for place in (3, 6, 7, 8)),
            ),
        )
        artists.add((kept[2], kept[3], kept[6], kept[7], kept[8]))
    song_account["songs"] = len(songs)
    song_account["variant"] = song_account.pop("record", 0) - len(songs)

    account, copies, latest = Counter(), defaultdict(list), {}
    for data in log_files:
        for line in physical_lines(data):
            kind, fields = event(line)
            account["lines"] += 1
            if kind != "play":
                account[kind] += 1
            if kind in ("play", "out_of_scope") and fields["user"] is not None:
                names = ("ts", "session", "item", "level", "first", "last", "gender")
                order = tuple(low(fields[name]) for name in names)
                if fields["user"] not in latest or order > latest[fields["user"]][0]:
                    latest[fields["user"]] = order, fields
            if kind == "play":
                content = (
                    "artist",
                    "first",
                    "gender",
                    "last",
                    "length",
                    "level",
                    "location",
                    "song",
                    "agent",
                )
                key = fields["user"], fields["session"], fields["item"], fields["ts"]
                copies[key].append(
                    (*tuple(last(fields[name]) for name in content), json.dumps(fields))
                )
    users = {
        (user, at["first"], at["last"], at["gender"], at["level"])
        for user, (_, at) in latest.items()
    }
    songplays, times = set(), set()
    for (user, session, item, ts), contents in copies.items():
        distinct = {content[:-1] for content in contents}
        account["songplays"] += 1
        account["key_conflict"] += len(distinct) - 1
        account["duplicate"] += len(contents) - len(distinct)
        fields = json.loads(min(contents)[-1])
        found = by_recording.get((fields["song"], fields["artist"], fields["length"]), [])
        track = min(((r[0].encode(), r[2].encode()) for r in found), default=None)
        account["matched"] += track is not None
        account["ambiguous"] += len({record[0] for record in found}) > 1
        at = EPOCH + timedelta(milliseconds=ts)
        play_id = hashlib.md5(f"{user}|{session}|{item}|{ts}".encode()).hexdigest()
        ids = tuple(part.decode() for part in track) if track else (None, None)
        songplays.add(
            (
                play_id,
                at,
                user,
                fields["level"],
                *ids,
                session,
                fields["location"],
                fields["agent"],
                at.year,
                at.month,
            )
        )
        times.add(
            (at, at.hour, at.day, at.isocalendar()[1], at.isoweekday() % 7 + 1, at.year, at.month)
        )
    tables = {
        "songplays": songplays,
        "users": users,
        "songs": songs,
        "artists": artists,
        "time": times,
    }
    return tables, account, song_account
