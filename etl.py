"""Song catalogue and app event logs in, a star schema out.

Reads   INPUT/song_data/   one song in each JSON file
        INPUT/log_data/    one app event a line
Writes  OUTPUT/{songplays,users,songs,artists,time}   Parquet, published whole or not at all
        OUTPUT/_etl/       commits, run summaries, rejected records

    python etl.py            on a laptop; settings come from dl.cfg, README.md describes them
    spark-submit etl.py      on a cluster
"""

from __future__ import annotations

import argparse
import asyncio
import configparser
import gzip
import hashlib
import json
import os
import re
import secrets
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime, timedelta, timezone
from functools import reduce
from pathlib import Path
from typing import NamedTuple, Optional
from urllib.parse import quote, unquote, urlsplit

import obstore
import pyspark
from obstore.exceptions import AlreadyExistsError, BaseError, InvalidPathError, PreconditionError
from obstore.store import LocalStore, S3Store
from pyspark.find_spark_home import _find_spark_home
from pyspark.sql import Column, DataFrame, SparkSession, Window
from pyspark.sql import functions as F

FAILED, SETTINGS, REFUSED, OVERTAKEN, INTERRUPTED = 1, 2, 3, 75, 130  # exit codes


class Stop(Exception):
    """Ends the run with an exit code and one line that names the thing, the place and the remedy."""

    def __init__(self, code: int, message: str):
        super().__init__(message)
        self.code = code


# ── Schemas: what the source holds and what the tables promise ───────────────────────────────────────────────────────

EVENT = """
    artist        STRING,
    firstName     STRING,
    gender        STRING,
    itemInSession BIGINT  COMMENT 'position in the session, from 0',
    lastName      STRING,
    length        DOUBLE  COMMENT 'seconds; of the track played',
    level         STRING  COMMENT 'free or paid, at the time of the event',
    location      STRING,
    page          STRING  COMMENT 'NextSong marks a play',
    sessionId     BIGINT,
    song          STRING,
    ts            BIGINT  COMMENT 'epoch milliseconds, UTC',
    userAgent     STRING,
    userId        STRING  COMMENT 'digits in quotes; empty when signed out'
"""
SONG = """
    artist_id        STRING,
    artist_latitude  DOUBLE  COMMENT 'degrees',
    artist_location  STRING,
    artist_longitude DOUBLE  COMMENT 'degrees',
    artist_name      STRING,
    duration         DOUBLE  COMMENT 'seconds',
    song_id          STRING,
    title            STRING,
    year             INT     COMMENT '0 when unknown'
"""
COLUMNS = {
    "songplays": "songplay_id STRING, start_time TIMESTAMP, user_id BIGINT, level STRING, song_id STRING, "
    "artist_id STRING, session_id BIGINT, location STRING, user_agent STRING, year INT, month INT",
    "users": "user_id BIGINT, first_name STRING, last_name STRING, gender STRING, level STRING",
    "songs": "song_id STRING, title STRING, artist_id STRING, duration DOUBLE, year INT",
    "artists": "artist_id STRING, name STRING, location STRING, latitude DOUBLE, longitude DOUBLE",
    "time": "start_time TIMESTAMP, hour INT, day INT, week INT, weekday INT, year INT, month INT",
}
KEYS = {table: columns.split()[0] for table, columns in COLUMNS.items()}
PARTITIONS = {"songplays": ["year", "month"], "time": ["year", "month"]}  # songs: SONGS_PARTITION_BY
SONG_LAYOUTS = ("year", "year,artist_id")
PLAY_KEY = ["user_id", "session_id", "item_in_session", "ts"]
PLAY_CONTENT = [
    "artist_name", "first_name", "gender", "last_name", "length", "level", "location", "title", "user_agent",
]  # fmt: skip
SONG_FIELDS = [
    "song_id", "title", "artist_id", "artist_name", "duration", "year", "location", "latitude", "longitude",
]  # fmt: skip
EVENT_CLASSES = ["blank", "malformed", "invalid", "out_of_scope", "duplicate", "key_conflict", "songplays"]
SONG_CLASSES = ["malformed", "invalid", "duplicate", "variant", "songs"]

PLAYS_PER_FILE = 250_000
PACK_BYTES = 8 * 2**20
GETS_IN_FLIGHT = 128
COPIES_IN_FLIGHT = 32


# ── Storage: one set of calls for local folders and S3 ───────────────────────────────────────────────────────────────


class Place(NamedTuple):
    """A folder or an S3 prefix: how obstore reaches it and what Spark calls it."""

    store: object  # an obstore store whose root is this place
    uri: str  # file:///folder or s3a://bucket/prefix
    path: str  # /folder or /prefix, as the paths inside a URI begin
    bucket: object = None  # boto3's, on S3

    @property
    def is_local(self) -> bool:
        return self.bucket is None


@dataclass
class Run:
    """One run: where it reads and writes, and what it has counted so far."""

    settings: Settings
    id: str  # UTC start time, then 8 hex digits
    source: Place
    lake: Place
    number: int = 0  # of the commit that this run wants to make
    committed: bool = False
    spark: Optional[SparkSession] = None
    pinned: dict = field(default_factory=dict)  # side -> its listing
    events: dict = field(default_factory=dict)
    songs: dict = field(default_factory=dict)
    tables: dict = field(default_factory=dict)
    seconds: dict = field(default_factory=dict)

    @property
    def staging(self) -> str:
        return f"_etl/staging/{self.number:09d}-{self.id}"

    def partitions(self, table: str) -> list[str]:
        return self.settings.songs_partition_by.split(",") if table == "songs" else PARTITIONS.get(table, [])

    @contextmanager
    def phase(self, name: str):
        say(f"{name} …")
        start = time.monotonic()
        try:
            yield
        finally:
            self.seconds[name] = round(self.seconds.get(name, 0) + time.monotonic() - start, 2)


def run_id(start: datetime) -> str:
    return f"{start:%Y%m%dT%H%M%SZ}-{secrets.token_hex(4)}"


def say(text: str, end: str = "\n") -> None:
    print(text, end=end, flush=True)


def tick(done: int, total: int) -> None:
    if sys.stdout.isatty() and (done % 250 == 0 or done == total):
        say(f"\rreading songs {done:,}/{total:,}", end="\n" if done == total else "")


def list_objects(place: Place, prefix: str) -> dict[str, int]:
    """Key and size of everything below a prefix, folder markers (size 0) included."""
    if not place.is_local:
        return {item["path"]: item["size"] for chunk in obstore.list(place.store, prefix) for item in chunk}
    found = {}  # by os.walk, as obstore hides the NAME#0 files that a cut-off copy leaves and Spark reads
    for folder, _, names in os.walk(f"{place.path}/{prefix}"):
        for path in (os.path.join(folder, name) for name in names):
            try:
                found[os.path.relpath(path, place.path)] = os.stat(path).st_size
            except FileNotFoundError:
                pass  # another run removed it while we looked
    return found


def create(place: Place, key: str, data: bytes) -> bool:
    """Creates an object if there is none of that name; says whether it did."""
    try:
        obstore.put(place.store, key, data, mode="create", use_multipart=False)
        return True
    except AlreadyExistsError:
        return False


def read_json(place: Place, key: str) -> dict:
    return json.loads(bytes(obstore.get(place.store, key).bytes()))


def copy_file(place: Place, source: str, target: str) -> None:
    """Copies a file to a name that is never reused; a copy that is there already is success."""
    try:
        obstore.copy(place.store, source, target, overwrite=not place.is_local)  # S3 has no copy-if-absent
    except AlreadyExistsError:
        pass


def delete_file(place: Place, key: str) -> None:
    try:
        obstore.delete(place.store, key)
    except FileNotFoundError:
        pass


def delete_tree(place: Place, prefix: str) -> None:
    if place.is_local:
        shutil.rmtree(f"{place.path}/{prefix}", ignore_errors=True)
    else:  # through boto3, because obstore cannot name the "folder/" markers that Hadoop leaves
        place.bucket.objects.filter(Prefix=f"{place.path}/{prefix}/".lstrip("/")).delete()


def in_parallel(action, items) -> None:
    with ThreadPoolExecutor(COPIES_IN_FLIGHT) as pool:
        list(pool.map(action, items))  # list() raises what an action raised


# ── Reading: the pinned listing, packed songs, lines and their one JSON object ───────────────────────────────────────


def list_input(source: Place, side: str):
    """Yields each input object of one side as a JSON line [key, size, etag], and None for each ignored one."""
    try:
        for chunk in obstore.list(source.store, side, chunk_size=1000):
            for item in chunk:
                key = item["path"]
                hidden = any(part[0] in "_." for part in key.split("/")[1:])
                is_input = key.endswith(".json") and not hidden
                version = item["e_tag"] or str(item["last_modified"])
                yield json.dumps([key, item["size"], version]) if is_input else None
    except InvalidPathError as error:
        detail = str(error).splitlines()[0].partition(": ")[2]
        raise Stop(
            SETTINGS, f"{source.uri}/{side}: a key cannot be addressed: {detail!r}; rename that object"
        ) from None


def pin_input(source: Place, side: str) -> tuple[list[str], int]:
    """The side's objects as sorted JSON lines, and how many others were ignored.  Raises Stop on an empty side."""
    pinned, ignored = [], 0
    for line in list_input(source, side):
        if line is None:
            ignored += 1
        else:
            pinned.append(line)
    if not pinned:
        raise Stop(SETTINGS, f"{source.uri}/{side}: no object ends in .json; point [DATA] INPUT at the folder above it")
    return sorted(pinned), ignored


def changed(source: Place, key: str) -> Stop:
    return Stop(FAILED, f"{source.uri}: input changed while it was read: {key}; run again")


def check_unchanged(source: Place, side: str, pinned: list[str]) -> None:
    """Lists a side again.  Raises Stop where a pinned object is changed or gone; new ones wait for the next run."""
    missing = set(pinned)
    missing.difference_update(line for line in list_input(source, side) if line)
    if missing:
        raise changed(source, json.loads(min(missing))[0])


async def pack_songs(source: Place, pinned: list[str], lake: Place, folder: str, tick) -> int:
    """Copies song objects into a few text files of `key <TAB> line`; returns how many non-blank lines there were.

    Spark would need two requests and a task's overhead for each 300-byte object. Memory is bounded by the objects in
    flight and one pack, whatever the catalogue's size.
    """
    queue, lock = iter(pinned), asyncio.Lock()
    pack, packs, done, records = bytearray(), 0, 0, 0

    async def flush():
        nonlocal pack, packs
        full, pack, packs = bytes(pack), bytearray(), packs + 1
        await obstore.put_async(lake.store, f"{folder}/{packs:05d}.txt", full, use_multipart=False)

    async def work():
        nonlocal done, records
        for line in queue:
            key, size, version = json.loads(line)
            data = await fetch(source, key, size, version) if size else b""
            name = quote(key).encode() + b"\t"
            async with lock:
                for text in data[3:].split(b"\n") if data[:3] == b"\xef\xbb\xbf" else data.split(b"\n"):
                    if text.strip(b" \t\r"):
                        pack.extend(name + (text[:-1] if text[-1:] == b"\r" else text) + b"\n")
                        records += 1
                if len(pack) >= PACK_BYTES:
                    await flush()
                done += 1
            tick(done, len(pinned))

    await asyncio.gather(*(work() for _ in range(GETS_IN_FLIGHT)))
    await flush()
    return records


async def fetch(source: Place, key: str, size: int, version: str) -> bytes:
    """One object, as it was pinned and to its end."""
    try:
        answer = await obstore.get_async(source.store, key, options={"if_match": version})
        data = bytes(await answer.bytes_async())
    except (FileNotFoundError, PreconditionError):
        raise changed(source, key) from None
    except (BaseError, OSError) as error:
        raise Stop(FAILED, f"{source.uri}/{key}: cannot be read to its end: {one_line(error)}") from None
    if len(data) != size:
        raise Stop(FAILED, f"{source.uri}/{key}: cannot be read to its end: {len(data)} of {size} bytes; run again")
    return data


def read_text(spark: SparkSession, uri: str, suffix: str) -> DataFrame:
    """Lines as they stand, one row each; a lone CR ends none, and no character of the URI is a wildcard."""
    options = {"lineSep": "\n", "recursiveFileLookup": True, "pathGlobFilter": f"*{suffix}", "__globPaths__": False}
    return spark.read.options(**options).text(uri)


def read_packed_songs(spark: SparkSession, uri: str) -> DataFrame:
    """One row per packed line: `file`, the object's key, and `line`."""
    line = F.expr("substring(CAST(value AS BINARY), instr(value, '\t') + 1)")  # as bytes: it need not be UTF-8
    return read_text(spark, uri, ".txt").select(
        F.url_decode(F.substring_index("value", "\t", 1)).alias("file"), line.cast("string").alias("line")
    )


def read_logs(spark: SparkSession, source: Place, pinned: list[str]) -> DataFrame:
    """One row per physical line of the logs: `file`, the object's key, and `line`.

    Raises Stop where Spark's listing and the pinned one differ.
    """
    lines = read_text(spark, f"{source.uri}/log_data", ".json")
    keys = {unquote(urlsplit(uri).path)[len(source.path) + 1 :] for uri in lines.inputFiles()}
    hidden = r"/[_.]"  # Spark reads _a=b/, where an underscore hides a name otherwise
    for key in {key for key in keys if not re.search(hidden, key)} ^ {json.loads(line)[0] for line in pinned}:
        raise changed(source, key)
    # percent-encoded, but for "+", which url_decode takes for a blank
    uri = F.url_decode(F.replace(F.col("_metadata.file_path"), F.lit("+"), F.lit("%2B")))
    start = F.instr(uri, f"{source.path}/log_data/") + F.lit(len(source.path) + 1)
    key = uri.substr(start, F.lit(2**31 - 1))
    return lines.select(key.alias("file"), F.col("value").alias("line")).where(~F.col("file").rlike(hidden))


def parse_lines(lines: DataFrame, fields: str, doubles: list[str]) -> DataFrame:
    """Adds `record`, the line's JSON object typed by `fields`, and `malformed`, why it is none (else NULL).

    Spark's JSON parser stops after the first object and says nothing of what follows. So the line is parsed as one
    value in a map, before a last key that no line can hold: if the parser finds just these two keys, nothing else
    stood on the line. Fields of another type than declared show in the corrupt column, `misfit`.
    """
    end = f"end-{secrets.token_hex(8)}"
    limits = dict.fromkeys(("maxStringLen", "maxNestingDepth", "maxNumLen"), str(2**31 - 1))
    options = {"columnNameOfCorruptRecord": "misfit", "allowNonNumericNumbers": "false", "allowSingleQuotes": "false"}
    wrapped = F.from_json(
        F.concat(F.lit('{"wrapped":{"record":'), "line", F.lit(f',"{end}":null}}}}')),
        f"wrapped MAP<STRING, STRUCT<{fields}>>, misfit STRING",
        {"mode": "PERMISSIVE", **options, **limits},
    )
    utf8 = "is_valid_utf8(line)" if hasattr(F, "is_valid_utf8") else "decode(encode(line, 'UTF-8'), 'UTF-8') = line"
    is_one_object = F.map_keys("json.wrapped").eqNullSafe(F.array(F.lit("record"), F.lit(end)))
    is_finite = [F.coalesce(F.abs(F.col(f"record.{name}")) < float("inf"), F.lit(True)) for name in doubles]
    is_typed = reduce(Column.__and__, is_finite, F.col("json.misfit").isNull())
    malformed = (
        F.when(~F.expr(utf8), "not UTF-8")
        .when(~is_one_object | F.col("record").isNull(), "not exactly one JSON object")
        .when(~is_typed, "a number field is not a JSON number that fits its type")
    )
    return (
        lines.withColumn("json", wrapped)
        .withColumn("record", F.col("json.wrapped")["record"])
        .withColumn("malformed", malformed)
        .drop("json")
    )


# ── Staging: renamed, typed and classed, not yet joined or deduplicated ──────────────────────────────────────────────


def text_of(name: str) -> Column:
    """A text field of the record, as written; "" and NULL are both NULL."""
    return F.nullif(F.col(f"record.{name}"), F.lit(""))


def stage_events(lines: DataFrame) -> DataFrame:
    """One row per physical line of the logs with its class; nothing downstream sees camelCase.

    Columns  file, line; class: blank, malformed, invalid, out_of_scope or play; reason of the middle two; the fields
    Units    ts in epoch milliseconds, length in seconds
    """
    user_id = F.expr("try_cast(record.userId AS BIGINT)")
    user_id_is_good = text_of("userId").isNull() | (
        text_of("userId").rlike(r"^(0|[1-9][0-9]{0,18})\z") & user_id.isNotNull()
    )
    lacks_key = user_id.isNull() | F.col("record.sessionId").isNull() | F.col("record.itemInSession").isNull()
    ts_is_good = F.coalesce(F.col("record.ts").between(946_684_800_000, 4_102_444_799_999), F.lit(False))
    is_play = F.col("record.page") == "NextSong"
    invalid = (
        F.when(text_of("page").isNull(), "no page")
        .when(~ts_is_good, "ts is missing or outside 2000-01-01 to 2099-12-31")
        .when(~user_id_is_good, "userId is not a whole number that fits BIGINT")
        .when(is_play & lacks_key, "a play without userId, sessionId or itemInSession")
    )
    is_blank = F.trim(F.translate("line", "\t\r", "  ")) == ""
    parsed = parse_lines(lines, EVENT, ["length"])
    return parsed.withColumn("invalid", F.when(F.col("malformed").isNull(), invalid)).select(
        "file",
        "line",
        F.when(F.col("malformed").isNotNull(), F.when(is_blank, "blank").otherwise("malformed"))
        .when(F.col("invalid").isNotNull(), "invalid")
        .otherwise(F.when(is_play, "play").otherwise("out_of_scope"))
        .alias("class"),
        F.coalesce("malformed", "invalid").alias("reason"),
        text_of("artist").alias("artist_name"),
        text_of("firstName").alias("first_name"),
        text_of("gender").alias("gender"),
        F.col("record.itemInSession").alias("item_in_session"),
        text_of("lastName").alias("last_name"),
        F.col("record.length").alias("length"),
        text_of("level").alias("level"),
        text_of("location").alias("location"),
        F.col("record.sessionId").alias("session_id"),
        text_of("song").alias("title"),
        F.col("record.ts").alias("ts"),
        text_of("userAgent").alias("user_agent"),
        user_id.alias("user_id"),
    )


def stage_plays(events: DataFrame) -> DataFrame:
    """Events that are plays, every copy of them, with their surrogate key and their time.

    Key      songplay_id, md5 of the natural key `userId|sessionId|itemInSession|ts`; not yet unique
    """
    start_time = F.timestamp_millis("ts")
    return events.where(F.col("class") == "play").select(
        F.md5(F.concat_ws("|", *PLAY_KEY)).alias("songplay_id"),
        start_time.alias("start_time"),
        F.year(start_time).alias("year"),
        F.month(start_time).alias("month"),
        "file",
        "line",
        *PLAY_KEY,
        *PLAY_CONTENT,
    )


def stage_songs(lines: DataFrame) -> DataFrame:
    """One row per song record: file, line, class (malformed, invalid or record), reason, and the nine fields used.

    Units    duration in seconds, latitude and longitude in degrees; those outside ±90 and ±180 are NULL
    """
    missing = [text_of(name).isNull() for name in ("song_id", "title", "artist_id", "artist_name")]
    has_duration = F.coalesce(F.col("record.duration") > 0, F.lit(False))
    invalid = F.when(reduce(Column.__or__, missing), "no song_id, title, artist_id or artist_name").when(
        ~has_duration, "duration is not positive"
    )
    latitude, longitude = F.col("record.artist_latitude"), F.col("record.artist_longitude")
    parsed = parse_lines(lines, SONG, ["duration", "artist_latitude", "artist_longitude"])
    return parsed.withColumn("invalid", F.when(F.col("malformed").isNull(), invalid)).select(
        "file",
        "line",
        F.when(F.col("malformed").isNotNull(), "malformed")
        .when(F.col("invalid").isNotNull(), "invalid")
        .otherwise("record")
        .alias("class"),
        F.coalesce("malformed", "invalid").alias("reason"),
        text_of("song_id").alias("song_id"),
        text_of("title").alias("title"),
        text_of("artist_id").alias("artist_id"),
        text_of("artist_name").alias("artist_name"),
        F.col("record.duration").alias("duration"),
        F.coalesce("record.year", F.lit(0)).alias("year"),
        text_of("artist_location").alias("location"),
        F.when(latitude.between(-90, 90), latitude).alias("latitude"),
        F.when(longitude.between(-180, 180), longitude).alias("longitude"),
    )


def stage_catalog(records: DataFrame) -> DataFrame:
    """One row per distinct valid song record; several may share a song_id (variants).  Source: stage_songs."""
    return records.where(F.col("class") == "record").select(*SONG_FIELDS).distinct()


# ── Dimension tables ─────────────────────────────────────────────────────────────────────────────────────────────────


def first_of_each(rows: DataFrame, key: str, *order: Column) -> DataFrame:
    """One row per key: the first in an order that leaves no ties between different rows."""
    rank = F.row_number().over(Window.partitionBy(key).orderBy(*order))
    return rows.withColumn("rank", rank).where("rank = 1")


def ascending(*names: str) -> list[Column]:
    return [F.asc_nulls_last(name) for name in names]


def songs_table(catalog: DataFrame) -> DataFrame:
    """Song dimension: one row per song_id.

    Key      song_id, the catalogue's natural key
    Source   stage_catalog
    Dropped  all variants of a song but one: known year first, then the smallest by the other fields
    Units    duration in seconds; year 0 is unknown
    """
    rest = ascending("year", "title", "artist_id", "duration", "artist_name", "location", "latitude", "longitude")
    kept = first_of_each(catalog, "song_id", F.asc(F.col("year") == 0), *rest)
    return kept.select("song_id", "title", "artist_id", "duration", "year")


def artists_table(catalog: DataFrame) -> DataFrame:
    """Artist dimension: one row per artist_id, taken whole from one record.

    Key      artist_id, the catalogue's natural key
    Source   stage_catalog
    Dropped  all records of an artist but one: the most of location, latitude and longitude filled, then the smallest
    Units    latitude and longitude in degrees
    """
    place = ("location", "latitude", "longitude")
    filled = sum((F.col(name).isNotNull().cast("int") for name in place), F.lit(0))
    kept = first_of_each(catalog, "artist_id", F.desc(filled), *ascending("artist_name", *place))
    return kept.select("artist_id", F.col("artist_name").alias("name"), *place)


def users_table(events: DataFrame) -> DataFrame:
    """User dimension, type 1: one row per user_id, as of that user's latest valid event.

    Key      user_id, the log's natural key
    Source   stage_events; also pages that are no plays, and copies of plays
    Dropped  events without a user_id, and all of a user but the latest. Events at one instant are ordered by
             session, item and then the columns themselves, NULL lowest, so that two runs keep the same one
    """
    is_known = F.col("class").isin("play", "out_of_scope") & F.col("user_id").isNotNull()
    order = ("ts", "session_id", "item_in_session", "level", "first_name", "last_name", "gender")
    latest = events.where(is_known).groupBy("user_id").agg(F.max(F.struct(*order)).alias("latest"))
    return latest.select("user_id", "latest.first_name", "latest.last_name", "latest.gender", "latest.level")


def time_table(plays: DataFrame) -> DataFrame:
    """Time dimension: one row per distinct start_time of a play.

    Key      start_time, a UTC instant
    Source   stage_plays
    Units    week is ISO 8601; weekday 1 is Sunday, 7 is Saturday; all in UTC
    """
    return (
        plays.select("start_time", "year", "month")
        .distinct()
        .select(
            "start_time",
            F.hour("start_time").alias("hour"),
            F.dayofmonth("start_time").alias("day"),
            F.weekofyear("start_time").alias("week"),
            F.dayofweek("start_time").alias("weekday"),
            "year",
            "month",
        )
    )


# ── The fact table ───────────────────────────────────────────────────────────────────────────────────────────────────


def one_song_per_recording(catalog: DataFrame) -> DataFrame:
    """One row per recording (title, artist_name, duration): the smallest (song_id, artist_id) that names it.

    Columns  candidates: how many song_ids there were to choose from
    """
    return (
        catalog.groupBy("title", "artist_name", "duration")
        .agg(F.min(F.struct("song_id", "artist_id")).alias("track"), F.count_distinct("song_id").alias("candidates"))
        .select("title", "artist_name", "duration", "track.song_id", "track.artist_id", "candidates")
    )


def match_plays(plays: DataFrame, catalog: DataFrame) -> DataFrame:
    """Every play, once, with the song_id and artist_id of its recording, or NULL where the catalogue has none."""
    same_recording = (
        (F.col("play.title") == F.col("track.title"))
        & (F.col("play.artist_name") == F.col("track.artist_name"))
        & (F.col("play.length") == F.col("track.duration"))
    )
    # many plays to at most one track
    matched = plays.alias("play").join(one_song_per_recording(catalog).alias("track"), on=same_recording, how="left")
    return matched.select("play.*", "track.song_id", "track.artist_id", "track.candidates")


def settle_copies(plays: DataFrame, slices: int = 1) -> DataFrame:
    """Adds `outcome` to each copy of a play: songplays for the one kept, key_conflict or duplicate.

    Of the copies with one natural key the smallest content is kept; each further content is a conflict, once; all
    others are replays. Rows are first brought together by month and by one of `slices` parts of it, which is how they
    are written; the natural key holds the time, so this moves the rows only once.
    """
    hour_of_month = (F.dayofmonth("start_time") - 1) * 24 + F.hour("start_time")
    placed = plays.withColumn("slice", F.floor(hour_of_month * slices / (31 * 24))).repartition(
        "year", "month", "slice"
    )
    same_key = Window.partitionBy("year", "month", "slice", *PLAY_KEY).orderBy(*ascending(*PLAY_CONTENT))
    rank, number = F.rank().over(same_key), F.row_number().over(same_key)
    outcome = F.when(number == 1, "songplays").when(number == rank, "key_conflict").otherwise("duplicate")
    return placed.withColumn("outcome", outcome)


def songplays_table(settled: DataFrame) -> DataFrame:
    """Fact, factless: one row per NextSong event, matched to at most one song.

    Key      songplay_id, md5 hex of `userId|sessionId|itemInSession|ts`
    Source   settle_copies over match_plays
    Dropped  replayed copies and conflicting contents of one natural key
    Units    start_time is a UTC instant; level, location and user_agent are as of the play
    """
    return settled.where(F.col("outcome") == "songplays").select(
        "songplay_id",
        "start_time",
        "user_id",
        "level",
        "song_id",
        "artist_id",
        "session_id",
        "location",
        "user_agent",
        "year",
        "month",
    )


# ── Audit: what was staged, read back ────────────────────────────────────────────────────────────────────────────────


def columns_of(table: str, partitions: list[str]) -> list[str]:
    """The table's columns as `name TYPE`, in the order in which they read back: partition columns last."""
    columns = COLUMNS[table].split(", ")
    return sorted(columns, key=lambda column: column.split()[0] in partitions)


def audit(tables: dict[str, DataFrame], expected: dict[str, int]) -> dict[str, int]:
    """Checks the five tables against each other and the account; returns how many rows each has.

    Raises   Stop naming the check and its numbers: a row count that is not the expected one, a key that is NULL or
             there twice, a reference to a dimension row that is not there
    """
    facts = []
    for name, table in tables.items():
        facts.append(table.agg(F.lit(name).alias("what"), F.count("*").alias("rows"), F.count_distinct(KEYS[name])))
    for child, column, parent in (
        ("songplays", "song_id", "songs"),
        ("songplays", "artist_id", "artists"),
        ("songplays", "user_id", "users"),
        ("songplays", "start_time", "time"),
        ("songs", "artist_id", "artists"),
    ):
        values = tables[child].select(column).where(F.col(column).isNotNull())
        orphans = values.join(tables[parent].select(column), on=column, how="left_anti")
        facts.append(orphans.agg(F.lit(f"{child}.{column} not in {parent}"), F.count("*"), F.lit(0)))
    found = {what: (rows, keys) for what, rows, keys in reduce(DataFrame.unionAll, facts).collect()}
    for what, (rows, keys) in found.items():
        if what not in tables and rows:
            raise Stop(FAILED, f"audit: {what}: {rows:,} rows; nothing is published")
        if what in tables and rows != keys:
            raise Stop(FAILED, f"audit: {what}: {rows:,} rows but {keys:,} distinct {KEYS[what]}; nothing is published")
        if what in expected and rows != expected[what]:
            raise Stop(FAILED, f"audit: {what}: {rows:,} rows, {expected[what]:,} by the account; nothing is published")
    return {table: found[table][0] for table in tables}


# ── Publish: stage, commit, roll forward ─────────────────────────────────────────────────────────────────────────────

OURS = re.compile(r"[^/]+/(?:[^/]+/)*c(\d{9})-[0-9a-f]{8}-\d{5,}\.parquet")


def prove_create_if_absent(lake: Place, run_id: str) -> None:
    """Raises Stop unless the store is writable and refuses to create what exists: commits rest on it."""
    probe = f"_etl/probes/{run_id}"
    create(lake, probe, b"")
    try:
        if create(lake, probe, b""):
            raise Stop(SETTINGS, f"{lake.uri}: the store overwrites where it should create only; choose another store")
    finally:
        delete_file(lake, probe)


def commit_number(lake: Place, folder: str) -> int:
    """The newest number in `_etl/commits` or `_etl/done`; 0 where there is none."""
    names = (key.rpartition("/")[2] for key in list_objects(lake, f"_etl/{folder}"))
    return max((int(name[:9]) for name in names if re.fullmatch(r"\d{9}(\.json)?", name)), default=0)


def read_commit(lake: Place, number: int) -> dict:
    return read_json(lake, f"_etl/commits/{number:09d}.json")


def live_files(commit: dict) -> dict[str, dict]:
    """What a commit says the tables hold: final key -> {"staged": key, "bytes": size}."""
    return {f"{table}/{name}": file for table in COLUMNS for name, file in commit["tables"][table]["files"].items()}


def list_tables(lake: Place) -> dict[str, int]:
    """Key and size of the job's own files in the table folders.

    Raises Stop where a folder holds a file of somebody else's that a reader would take for rows.
    """
    ours = {}
    for table in COLUMNS:
        for key, size in list_objects(lake, table).items():
            name = key.rpartition("/")[2]
            if OURS.fullmatch(key):
                ours[key] = size
            elif name.endswith(".parquet") or (size and name[0] not in "_."):
                raise Stop(SETTINGS, f"{lake.uri}/{key}: not written by this job; move it, or choose another OUTPUT")
    return ours


def superseded(present: dict[str, int], number: int, live: dict[str, dict]) -> list[str]:
    """Files of this or an earlier commit that this commit does not list; those of a later one are not ours to judge."""
    return [key for key in present if int(OURS.fullmatch(key).group(1)) <= number and key not in live]


def publish(lake: Place, number: int) -> None:
    """Makes the table folders hold just what a commit lists; repeatable, by any run, at any point where one broke off.

    Raises   Stop where the files are not as listed afterwards
    """
    live = live_files(read_commit(lake, number))
    try:
        present = list_tables(lake)
        in_parallel(lambda key: copy_file(lake, live[key]["staged"], key), [key for key in live if key not in present])
        in_parallel(lambda key: delete_file(lake, key), superseded(list_tables(lake), number, live))
        present = list_tables(lake)
        unlike = [key for key in live if present.get(key) != live[key]["bytes"]] + superseded(present, number, live)
        if unlike:
            raise FileNotFoundError(f"{unlike[0]} is not as the commit lists it")
        create(lake, f"_etl/done/{number:09d}", b"")
    except Exception as error:
        if isinstance(error, FileNotFoundError) and number <= max(
            commit_number(lake, "done"), commit_number(lake, "commits") - 1
        ):
            return  # another run finished it, or published a newer one, and removed our staging
        reason = one_line(error)
        raise Stop(
            FAILED, f"{lake.uri}: commit {number} is made, publication unfinished; run again ({reason})"
        ) from None


def clean(lake: Place) -> None:
    """Removes what no reader or publisher can want: staging first, or a publisher that slept could bring files back."""
    yesterday = run_id(datetime.now(timezone.utc) - timedelta(days=1))
    in_parallel(lambda key: delete_file(lake, key), [
        key for key in list_objects(lake, "_etl/probes") if key.rpartition("/")[2] < yesterday
    ])  # fmt: skip
    number = commit_number(lake, "done")
    for folder in {key.split("/")[2] for key in list_objects(lake, "_etl/staging") if key.count("/") > 1}:
        if int(folder[:9]) <= number:
            delete_tree(lake, f"_etl/staging/{folder}")
    if number:
        live = live_files(read_commit(lake, number))
        in_parallel(lambda key: delete_file(lake, key), superseded(list_tables(lake), number, live))


def recover(lake: Place) -> int:
    """Finishes what earlier runs left; returns the newest commit's number, which the next one builds on."""
    list_tables(lake)  # a foreign file stops the run before anything is touched
    base = commit_number(lake, "commits")
    if base > commit_number(lake, "done"):
        publish(lake, base)
    clean(lake)
    return base


def commit(run: Run, record: dict) -> None:
    """Creates the commit that makes this run's staged tables the live ones.

    Raises   Stop where another run made this commit first, or already removed our staging
    """
    key = f"_etl/commits/{run.number:09d}.json"
    staged = list_objects(run.lake, run.staging)
    if any(file["staged"] not in staged for file in live_files(record).values()):
        raise Stop(
            OVERTAKEN, f"{run.lake.uri}: another run committed while this one worked; nothing is published, run again"
        )
    try:
        created = create(run.lake, key, json.dumps(record, indent=1).encode())
    except BaseError as error:  # it may have been made all the same
        created, lost = False, one_line(error)
    else:
        lost = ""
    try:
        if created or read_json(run.lake, key)["run"] == run.id:
            return
    except FileNotFoundError:
        raise Stop(FAILED, f"{run.lake.uri}/{key}: cannot be written, nothing is published: {lost}") from None
    raise Stop(
        OVERTAKEN, f"{run.lake.uri}: another run made commit {run.number} first; nothing is published, run again"
    )


# ── The two processes: read, derive, stage ───────────────────────────────────────────────────────────────────────────


def stage_table(table: DataFrame, run: Run, name: str) -> None:
    table.write.partitionBy(*run.partitions(name)).parquet(f"{run.lake.uri}/{run.staging}/{name}")


def read_staged(run: Run, name: str) -> DataFrame:
    """A staged table as readers will see it.  Raises Stop where its columns are not those of COLUMNS."""
    staged = run.spark.read.option("__globPaths__", False).parquet(f"{run.lake.uri}/{run.staging}/{name}")
    promised = columns_of(name, run.partitions(name))
    inner = len(promised) - len(run.partitions(name))  # partition columns are text in folder names
    found = [f"{column} {kind.upper()}" for column, kind in staged.dtypes]
    if found[:inner] != promised[:inner] or staged.columns != [column.split()[0] for column in promised]:
        raise Stop(FAILED, f"audit: {name}: columns {found}, {promised} by the contract; nothing is published")
    return staged.select(*(F.col(column).cast(kind) for column, kind in (item.split() for item in promised)))


def keep_rejected(run: Run, side: str, rejected: DataFrame) -> None:
    """Writes rejected lines (file, line, reason) as JSON lines; as base64 where a line is not UTF-8."""
    is_text = F.col("reason") != "not UTF-8"
    rejected.select(
        "file",
        "reason",
        F.when(is_text, F.col("line")).alias("raw"),
        F.when(~is_text, F.translate(F.base64(F.col("line").cast("binary")), "\r\n", "")).alias("raw_base64"),
    ).write.mode("append").json(f"{run.lake.uri}/_etl/quarantine/{run.id}/{side}")


def check_rejected(run: Run, side: str, account: dict, total: int, accepted: str) -> None:
    """Raises Stop where too large a share of a side is rejected, or nothing of it is accepted."""
    rejected = account["malformed"] + account["invalid"]
    where = f"{run.source.uri}/{side}: {rejected:,} of {total:,} lines are rejected"
    kept = f"see {run.lake.uri}/_etl/quarantine/{run.id}; the published tables are untouched"
    if rejected > run.settings.max_rejected * total:
        raise Stop(REFUSED, f"{where}, more than MAX_REJECTED = {run.settings.max_rejected:g} allows; {kept}")
    if not account[accepted]:
        raise Stop(REFUSED, f"{where} and none is a valid {accepted.rstrip('s')}; {kept}")


def rejected_text(line: Column) -> Column:
    """The line where it has a reason to be rejected, without a CR at its end; NULL elsewhere, so that a cache stays small."""
    raw = line.cast("binary")
    trimmed = F.when(F.endswith(line, F.lit("\r")), raw.substr(F.lit(1), F.octet_length(line) - 1)).otherwise(raw)
    return F.when(F.col("reason").isNotNull(), trimmed.cast("string"))


def process_song_data(run: Run) -> DataFrame:
    """Packed song records in; songs and artists staged.  Returns the catalog, cached: matching reads it again."""
    lines = read_packed_songs(run.spark, f"{run.lake.uri}/{run.staging}/packed")
    records = stage_songs(lines).withColumn("line", rejected_text(F.col("line"))).cache()
    account = Counter(dict(records.groupBy("class").count().collect()))
    account["records"] = run.songs["records"]  # as counted before Spark saw a line
    if account["records"] != account["malformed"] + account["invalid"] + account["record"]:
        raise Stop(FAILED, f"account: song_data: {dict(account)} does not add up; nothing is published")
    if account["malformed"] + account["invalid"]:
        keep_rejected(run, "song_data", records.where("reason IS NOT NULL"))
    check_rejected(run, "song_data", account, account["records"], "record")

    catalog = stage_catalog(records).cache()
    distinct, songs = catalog.agg(F.count("*"), F.count_distinct("song_id")).first()
    counts = {"duplicate": account["record"] - distinct, "variant": distinct - songs, "songs": songs}
    run.songs.update({name: account[name] for name in ("malformed", "invalid")}, **counts)
    stage_table(songs_table(catalog).repartition(*run.partitions("songs")), run, "songs")
    stage_table(artists_table(catalog), run, "artists")
    return catalog


def process_log_data(run: Run, catalog: DataFrame) -> None:
    """Event lines in; users, time and songplays staged.

    Raises   Stop where the bytes that were read are not those of the pinned files
    """
    lines = read_logs(run.spark, run.source, run.pinned["log_data"])
    staged = stage_events(lines).withColumn("bytes", F.octet_length("line"))
    events = staged.withColumn("line", rejected_text(F.col("line"))).cache()  # one parse for all that follows
    month = F.when(F.col("class") == "play", F.date_trunc("month", F.timestamp_millis("ts")))
    groups = events.groupBy("file", "class", month).agg(F.count("*").alias("lines"), F.sum("bytes").alias("bytes"))
    account, read, plays_in = Counter(), Counter(), Counter()
    for file, kind, play_month, count, size in groups.collect():
        account[kind] += count
        read[file] += count + size
        plays_in[play_month] += count if kind == "play" else 0
    for key, size, _ in map(json.loads, run.pinned["log_data"]):
        # every line has its line end, but perhaps the last; a BOM at the start is 3 bytes that Spark skips
        if size - read[key] not in (0, -1, 3, 2):
            raise changed(run.source, key)
    run.events["lines"] = sum(account.values())
    if account["malformed"] + account["invalid"]:
        keep_rejected(run, "log_data", events.where("reason IS NOT NULL"))
    check_rejected(run, "log_data", account, run.events["lines"] - account["blank"], "play")

    slices = -(-max(plays_in.values()) // PLAYS_PER_FILE)
    plays = settle_copies(match_plays(stage_plays(events), catalog), slices).cache()
    outcomes = plays.groupBy("outcome").agg(
        F.count("*"), F.count("song_id"), F.count(F.when(F.col("candidates") > 1, True))
    )
    settled = {outcome: counts for outcome, *counts in outcomes.collect()}
    matched, ambiguous = settled["songplays"][1:]
    run.events.update({name: account[name] for name in EVENT_CLASSES[:4]})
    run.events.update({name: settled.get(name, [0])[0] for name in EVENT_CLASSES[4:]})
    run.events.update(matched=matched, ambiguous=ambiguous)
    if run.events["lines"] != sum(run.events[name] for name in EVENT_CLASSES):
        raise Stop(FAILED, f"account: log_data: {run.events} does not add up; nothing is published")
    if run.events["key_conflict"]:
        keep_rejected(run, "log_data", key_conflicts(plays, lines))
    stage_table(songplays_table(plays), run, "songplays")
    stage_table(users_table(events), run, "users")
    stage_table(time_table(plays).repartition(*run.partitions("time")), run, "time")


def key_conflicts(plays: DataFrame, lines: DataFrame) -> DataFrame:
    """One row per key_conflict, with its line; the lines come from a second look at the few files that hold one."""
    conflicts = plays.where(F.col("outcome") == "key_conflict").select("songplay_id").distinct()
    copies = plays.select("songplay_id", "file").join(F.broadcast(conflicts), on="songplay_id", how="left_semi")
    files = [file for (file,) in copies.select("file").distinct().collect()]
    again = stage_plays(stage_events(lines.where(F.col("file").isin(files))))
    settled = settle_copies(again.join(F.broadcast(conflicts), on="songplay_id", how="left_semi"))
    reason = F.concat(F.lit("another content of the play "), "songplay_id")
    found = settled.where(F.col("outcome") == "key_conflict").select("file", "line", reason.alias("reason"))
    return found.withColumn("line", rejected_text(F.col("line")))


# ── Settings: command line, then dl.cfg, then default ────────────────────────────────────────────────────────────────


class Settings(NamedTuple):
    """What dl.cfg and the command line say; paths as file:///folder or s3a://bucket/prefix."""

    key: str
    secret: str
    token: str
    profile: str
    region: str
    endpoint: str
    input: str
    output: str
    songs_partition_by: str
    max_rejected: float
    dry_run: bool = False
    force: bool = False


KNOWN = {
    "AWS": ("KEY", "SECRET", "TOKEN", "PROFILE", "REGION", "ENDPOINT"),
    "DATA": ("INPUT", "OUTPUT"),
    "JOB": ("SONGS_PARTITION_BY", "MAX_REJECTED"),
}
ON_EMR = Path("/usr/share/aws/emr").is_dir()


def warn(text: str) -> None:
    print(f"etl.py: warning: {text}", file=sys.stderr)


def read_config(path: Path) -> dict[str, str]:
    """The known settings of a dl.cfg, by key.  Raises Stop without ever printing a value: it may be a secret."""
    parser = configparser.ConfigParser(interpolation=None)
    try:
        with path.open(encoding="utf-8-sig") as lines:
            parser.read_file(lines)
    except OSError as error:
        raise Stop(
            SETTINGS, f"{path}: cannot be read ({error.strerror}); name a file that is there with --config"
        ) from None
    except UnicodeDecodeError:
        raise Stop(SETTINGS, f"{path}: is not UTF-8 text; save it as UTF-8") from None
    except configparser.MissingSectionHeaderError as error:
        raise Stop(
            SETTINGS, f"{path}: line {error.lineno} stands before any section; begin the file with [AWS]"
        ) from None
    except configparser.DuplicateOptionError as error:
        raise Stop(SETTINGS, f"{path}: line {error.lineno} sets {error.option.upper()} again; keep one") from None
    except configparser.DuplicateSectionError as error:
        raise Stop(SETTINGS, f"{path}: line {error.lineno} opens [{error.section}] again; keep one") from None
    except configparser.ParsingError as error:
        raise Stop(SETTINGS, f"{path}: line {error.errors[0][0]} is not `KEY = value`; correct it") from None
    values = {}
    for section in parser.sections():
        for option, value in parser.items(section):
            name = option.upper()
            if name not in KNOWN.get(section, ()):
                warn(f"{path}: [{section}] {name} is no setting of this job and is ignored; README.md lists them")
                continue
            if len(value) > 1 and value[0] == value[-1] and value[0] in "'\"":
                warn(f"{path}: [{section}] {name} stands in quotes; they are left out")
                value = value[1:-1]
            values[name] = value
    return values


def locate(value: str, base: Path, where: str) -> str:
    """A path as the job writes it everywhere: file:///folder, s3a://bucket/prefix, or s3:// on EMR."""
    scheme, colon, rest = value.partition("://")
    if not colon or scheme == "file":
        return "file://" + os.path.abspath(base / Path(rest if colon else value).expanduser())
    if scheme not in ("s3", "s3a"):
        raise Stop(SETTINGS, f"{where}: {value}: {scheme}:// is not supported; name a folder, file://, s3:// or s3a://")
    bucket, _, prefix = rest.strip("/").partition("/")
    if not bucket or {"", ".", ".."} & set(prefix.split("/") if prefix else ()):
        raise Stop(SETTINGS, f"{where}: {value}: is not s3a://bucket/prefix; mind //, . and ..")
    return f"{scheme if ON_EMR else 's3a'}://{bucket}" + (f"/{prefix}" if prefix else "")


def read_settings(arguments: list[str]) -> Settings:
    """Raises Stop naming the setting, where it stands and what would be right."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--config", metavar="FILE", help="settings file (default: ./dl.cfg, else dl.cfg beside etl.py)")
    parser.add_argument("--input", help="folder or s3a:// prefix that holds song_data/ and log_data/")
    parser.add_argument("--output", help="folder or s3a:// prefix for the tables")
    parser.add_argument("--songs-partition-by", help="folders of the songs table: " + " or ".join(SONG_LAYOUTS))
    parser.add_argument("--max-rejected", help="share of lines that may be malformed or invalid (0 to 1)")
    parser.add_argument("--dry-run", action="store_true", help="check everything, write nothing")
    parser.add_argument("--force", action="store_true", help="rebuild although nothing changed")
    given = parser.parse_args(arguments)

    beside = [path for path in (Path("dl.cfg"), Path(__file__).with_name("dl.cfg")) if path.is_file()]
    config = Path(given.config) if given.config else next(iter(beside), None)
    values = read_config(config) if config else {}
    base, where = (config.parent, str(config)) if config else (Path(), "the command line")

    def path_of(name: str) -> str:
        on_command_line = getattr(given, name.lower())
        if not (on_command_line or values.get(name)):
            remedy = "name a folder or an s3a:// prefix there, or with --" + name.lower()
            raise Stop(SETTINGS, f"{where}: [DATA] has no {name}; {remedy}")
        if on_command_line:
            return locate(on_command_line, Path(), f"--{name.lower()}")
        return locate(values[name], base, f"{where}: [DATA] {name}")

    layout = (given.songs_partition_by or values.get("SONGS_PARTITION_BY") or SONG_LAYOUTS[0]).replace(" ", "").lower()
    if layout not in SONG_LAYOUTS:
        raise Stop(SETTINGS, f"{where}: SONGS_PARTITION_BY is {layout}; choose {' or '.join(SONG_LAYOUTS)}")
    share = given.max_rejected or values.get("MAX_REJECTED") or "0.01"
    if not re.fullmatch(r"0|1|0?\.\d+|[01]\.0*", share):
        raise Stop(SETTINGS, f"{where}: MAX_REJECTED is {share}; it is a share from 0 to 1, such as 0.01")
    aws = {name.lower(): values.get(name, "") for name in KNOWN["AWS"]}
    if bool(aws["key"]) != bool(aws["secret"]):
        raise Stop(SETTINGS, f"{where}: [AWS] has one of KEY and SECRET; give both, or neither to use the AWS chain")
    if aws["key"].startswith("ASIA") and not aws["token"]:
        raise Stop(SETTINGS, f"{where}: [AWS] KEY is a temporary one (ASIA…) without its TOKEN; add TOKEN")
    if aws["key"] and aws["profile"]:
        raise Stop(SETTINGS, f"{where}: [AWS] has both KEY and PROFILE; keep one of them")
    source, lake = path_of("INPUT"), path_of("OUTPUT")
    inner, outer = (
        os.path.realpath(path[7:]) if path.startswith("file") else path[path.find(":") :] for path in (lake, source)
    )
    if f"{inner}/".startswith(f"{outer}/"):
        raise Stop(SETTINGS, f"{where}: OUTPUT {lake} lies in INPUT {source}; name another OUTPUT")
    return Settings(
        **aws,
        input=source,
        output=lake,
        songs_partition_by=layout,
        max_rejected=float(share),
        dry_run=given.dry_run,
        force=given.force,
    )


# ── Session and main ─────────────────────────────────────────────────────────────────────────────────────────────────

HINTS = (  # what a cause's text means, and what to do; the first that matches is said
    ("InvalidAccessKeyId", "AWS does not know this KEY; check [AWS] KEY, and TOKEN if it begins with ASIA"),
    ("SignatureDoesNotMatch", "the SECRET does not fit the KEY; check [AWS] SECRET, and this machine's clock"),
    ("ExpiredToken|TokenRefreshRequired|SSO", "the credentials have expired; sign in again"),
    ("NoSuchBucket|UnknownStoreException", "there is no such bucket; check the name, and [AWS] ENDPOINT"),
    ("PermanentRedirect|AuthorizationHeaderMalformed|301 Moved", "the bucket is in another region; set [AWS] REGION"),
    ("AccessDenied|403 Forbidden|Forbidden", "access is denied; grant this identity list, read and, on OUTPUT, write"),
    (
        "error sending request|Connection refused|UnknownHost|dns error|timed out",
        "no answer; check [AWS] ENDPOINT, the region and the network",
    ),
    ("S3AFileSystem|fs.s3a", "Spark has no hadoop-aws; add --packages org.apache.hadoop:hadoop-aws:{hadoop}"),
    (
        "JAVA_GATEWAY_EXITED|UnsupportedClassVersion",
        "Spark's Java did not start: its own words stand above; check Java, and for S3 that Maven's repository can be reached",
    ),
    (
        "Permission denied|Read-only file system|Not a directory|File exists|NotADirectory",
        "cannot be written; name a folder that this user may write",
    ),
)


def one_line(error: BaseException) -> str:
    """An error in its own first words and its root cause's, without a stack trace."""
    java = getattr(error, "java_exception", None) or getattr(error, "_origin", None)
    words = [str(error).strip().splitlines()[0] if java is None and str(error).strip() else type(error).__name__]
    while java is not None:
        words.append(java.toString().strip().splitlines()[0])
        java = java.getCause()
    return ": ".join(dict.fromkeys(words[:1] if len(words) == 1 else [words[1], words[-1]]))[:600]


def explain(error: BaseException) -> Stop:
    """What went wrong in one line, with its remedy where it is a known one."""
    line = one_line(error)
    for pattern, remedy in HINTS:
        if re.search(pattern, f"{line} {error}"):
            return Stop(SETTINGS, f"{remedy.format(hadoop=hadoop_version())} ({line})")
    return Stop(FAILED, line)


@contextmanager
def reaching(place: str):
    """Names the place in what goes wrong while it is reached."""
    try:
        yield
    except (BaseError, OSError) as error:
        known = explain(error)
        raise Stop(known.code, f"{place}: {known}") from None


def hadoop_version() -> str:
    """The version of Spark's own Hadoop, which hadoop-aws must have exactly."""
    jars = Path(_find_spark_home(), "jars").glob("hadoop-client-api-*.jar")
    return next((jar.stem.rpartition("-")[2] for jar in jars), "VERSION")


def check_java() -> None:
    """Raises Stop where Python is to start a Java that is not there or does not run this Spark."""
    if "PYSPARK_GATEWAY_PORT" in os.environ:
        return  # under spark-submit it runs already
    spark, home = pyspark.__version__, os.environ.get("JAVA_HOME")
    lowest, names = (17, "17 or 21") if int(spark.split(".")[0]) >= 4 else (8, "8, 11 or 17")
    remedy = f"Spark {spark} needs Java {names}; install it and let JAVA_HOME name its folder"
    java = shutil.which("java", path=str(Path(home, "bin"))) if home else shutil.which("java")
    if not java:
        raise Stop(
            SETTINGS, f"no Java in {f'JAVA_HOME={home}' if home else 'PATH, and JAVA_HOME is not set'}; {remedy}"
        )
    said = subprocess.run([java, "-version"], stdin=subprocess.DEVNULL, capture_output=True, text=True).stderr
    version = re.search(r'version "(?:1\.)?(\d+)', said)
    if not version or int(version.group(1)) < lowest:
        raise Stop(SETTINGS, f"{java} is Java {version.group(1) if version else 'of no known version'}; {remedy}")


def connect(settings: Settings):
    """The boto3 session whose identity all clients share; None where no path is on S3."""
    if settings.input.startswith("file") and settings.output.startswith("file"):
        return None
    import boto3  # here, as local runs start faster without
    from botocore.exceptions import BotoCoreError

    own = {"aws_access_key_id": settings.key, "aws_secret_access_key": settings.secret}
    own.update(aws_session_token=settings.token, profile_name=settings.profile)
    if ON_EMR and any(own.values()):
        warn("[AWS] KEY, SECRET, TOKEN and PROFILE are ignored on EMR, where the cluster's role decides")
        own = {}
    try:
        session = boto3.Session(
            region_name=settings.region or None, **{name: value or None for name, value in own.items()}
        )
        credentials = session.get_credentials()
        if credentials is None:
            looked = "dl.cfg, the environment, ~/.aws, SSO, container and instance role"
            raise Stop(SETTINGS, f"no AWS credentials in {looked}; set [AWS] KEY and SECRET, or sign in")
        credentials.get_frozen_credentials()
    except BotoCoreError as error:
        raise Stop(SETTINGS, f"AWS credentials: {one_line(error)}; correct [AWS], or sign in again") from None
    return session


def open_place(uri: str, settings: Settings, session) -> Place:
    """The place of a located path.  Raises Stop where a local folder cannot be there."""
    if uri.startswith("file"):
        path = uri[len("file://") :]
        if not os.path.isdir(path):
            raise Stop(SETTINGS, f"{uri}: no such folder; create it, or correct [DATA] INPUT")
        return Place(LocalStore(path, automatic_cleanup=True), uri, path)
    from botocore.config import Config
    from botocore.exceptions import BotoCoreError, ClientError
    from obstore.auth.boto3 import Boto3CredentialProvider

    name, _, prefix = uri.partition("://")[2].partition("/")
    region = settings.region or session.region_name or "us-east-1"
    if not (settings.region or settings.endpoint):  # each bucket may be in a region of its own
        try:
            region = session.client("s3", region_name=region).head_bucket(Bucket=name)["BucketRegion"]
        except ClientError as error:
            region = error.response["ResponseMetadata"]["HTTPHeaders"].get("x-amz-bucket-region", region)
        except (BotoCoreError, KeyError):
            pass  # the listing will say what is wrong
    endpoint = {"endpoint": settings.endpoint, "virtual_hosted_style_request": False} if settings.endpoint else {}
    store = S3Store(
        name,
        prefix=prefix or None,
        region=region,
        credential_provider=Boto3CredentialProvider(session),
        client_options={"allow_http": True, "connect_timeout": "5s", "timeout": "120s"},
        retry_config={"max_retries": 6, "retry_timeout": timedelta(seconds=60)},
        **endpoint,
    )
    config = Config(s3={"addressing_style": "path"} if settings.endpoint else {})
    resource = session.resource("s3", region_name=region, endpoint_url=settings.endpoint or None, config=config)
    return Place(store, uri, f"/{prefix}" if prefix else "", resource.Bucket(name))


def start_spark(run: Run, session) -> SparkSession:
    """A session in UTC with explicit types; off EMR with hadoop-aws, and the identity of `session`, where S3 is read."""
    aws_sdk = {"3.4.2": "2.29.52", "3.5.0": "2.35.4"}  # the SDK that each Hadoop was built with
    builder = SparkSession.builder.appName("sparkify-etl")
    options = {
        "spark.sql.session.timeZone": "UTC",
        "spark.sql.parquet.outputTimestampType": "TIMESTAMP_MICROS",
        "spark.sql.caseSensitive": "true",
        "spark.sql.sources.partitionColumnTypeInference.enabled": "false",
        "spark.sql.sources.parallelPartitionDiscovery.threshold": "8",
        "spark.sql.files.ignoreCorruptFiles": "false",
        "spark.sql.files.ignoreMissingFiles": "false",
    }
    on_s3 = session is not None and not ON_EMR
    if not ON_EMR:
        options["spark.ui.showConsoleProgress"] = str(sys.stderr.isatty()).lower()
    if on_s3 and "PYSPARK_GATEWAY_PORT" not in os.environ:
        hadoop = hadoop_version()
        packages = [f"org.apache.hadoop:hadoop-aws:{hadoop}"]
        if hadoop in aws_sdk:  # five modules, 18 MB, instead of the bundle's 600
            modules = ("s3", "s3-transfer-manager", "sts", "apache-client", "netty-nio-client")
            packages += [f"software.amazon.awssdk:{module}:{aws_sdk[hadoop]}" for module in modules]
            options["spark.jars.excludes"] = "software.amazon.awssdk:bundle"
        options["spark.jars.packages"] = ",".join(packages)
    for name, value in options.items():
        builder = builder.config(name, value)
    spark = builder.getOrCreate()
    if spark.sparkContext.master.startswith("local"):
        spark.sparkContext.setLogLevel("OFF")  # what goes wrong is said in one line
    if on_s3:
        # on the running session, as Spark would pass its own settings to Java on a command line that all may read
        hadoop_conf = spark.sparkContext._jsc.hadoopConfiguration()
        for name, value in s3a_options(run, session).items():
            hadoop_conf.set(f"fs.s3a.{name}", value)
    return spark


def s3a_options(run: Run, session) -> dict[str, str]:
    """fs.s3a options that give S3A the identity, region and endpoint that obstore has."""
    credentials = session.get_credentials().get_frozen_credentials()
    provider = "Temporary" if credentials.token else "Simple"
    options = {
        "access.key": credentials.access_key,
        "secret.key": credentials.secret_key,
        "aws.credentials.provider": f"org.apache.hadoop.fs.s3a.{provider}AWSCredentialsProvider",
        "input.stream.type": "classic",
    }
    if credentials.token:
        options["session.token"] = credentials.token
    if run.settings.endpoint:
        options.update({"endpoint": run.settings.endpoint, "path.style.access": "true"})
    for place in (run.source, run.lake):
        if not place.is_local:
            options[f"bucket.{place.bucket.name}.endpoint.region"] = place.bucket.meta.client.meta.region_name
    return options


def fingerprint(run: Run) -> dict:
    """What decides a run's result: a run whose fingerprint is the newest commit's has nothing to do."""
    listing = "\n".join(line for side in sorted(run.pinned) for line in run.pinned[side]).encode()
    names = ("input", "songs_partition_by", "max_rejected")
    return {
        "settings": {name: getattr(run.settings, name) for name in names},
        "code": hashlib.sha256(Path(__file__).read_bytes()).hexdigest(),
        "input_sha256": hashlib.sha256(listing).hexdigest(),
    }


def is_current(run: Run, base: int) -> bool:
    """Whether the newest commit was made from this input, settings and code, and its files are all there."""
    if not base:
        return False
    newest = read_commit(run.lake, base)
    layout = newest["settings"]["songs_partition_by"]
    if layout != run.settings.songs_partition_by:
        raise Stop(
            SETTINGS,
            f"{run.lake.uri}/songs is partitioned by {layout}; keep SONGS_PARTITION_BY, or choose another OUTPUT",
        )
    present = list_tables(run.lake)
    same = all(newest[name] == value for name, value in fingerprint(run).items())
    return same and {key: file["bytes"] for key, file in live_files(newest).items()} == present


def run_job(run: Run) -> None:
    """The whole run, in the order that lets several runs overlap and any of them die.  Raises Stop, else it is done."""
    settings, lake, source = run.settings, run.lake, run.source
    with run.phase("begin"), reaching(lake.uri):
        prove_create_if_absent(lake, run.id)
        list_tables(lake)
        # the newest commit is read before the input is listed: who commits on top of it has seen newer input
        base = commit_number(lake, "commits") if settings.dry_run else recover(lake)
        run.number = base + 1
    with run.phase("list"), reaching(source.uri):
        for side in ("song_data", "log_data"):
            run.pinned[side], ignored = pin_input(source, side)
            say(f"  {side}: {len(run.pinned[side]):,} objects" + (f", {ignored:,} others ignored" if ignored else ""))
    if is_current(run, base) and not settings.force:
        say(f"Nothing to do: commit {base} was made from this input with these settings. --force rebuilds it.")
        return
    if settings.dry_run:
        say(f"Dry run: would write {', '.join(COLUMNS)} to {lake.uri} as commit {run.number}. Nothing is written.")
        return
    with run.phase("fetch songs"), reaching(lake.uri):
        packed = pack_songs(source, run.pinned["song_data"], lake, f"{run.staging}/packed", tick)
        run.songs["records"] = asyncio.run(packed)
    with run.phase("start Spark"):
        run.spark = start_spark(run, connect(settings))
    with run.phase("songs"):
        catalog = process_song_data(run)
    with run.phase("plays"):
        process_log_data(run, catalog)
    with run.phase("audit"):
        expected = {"songs": run.songs["songs"], "songplays": run.events["songplays"]}
        rows = audit({table: read_staged(run, table) for table in COLUMNS}, expected)
    with run.phase("commit"), reaching(lake.uri):
        for side, pinned in run.pinned.items():
            check_unchanged(source, side, pinned)
        run.tables = {table: {"rows": rows[table], "files": staged_files(run, table)} for table in COLUMNS}
        listing = "\n".join(line for side in sorted(run.pinned) for line in run.pinned[side])
        obstore.put(lake.store, f"_etl/inputs/{run.number:09d}.json.gz", gzip.compress(listing.encode()))
        account = {"events": run.events, "songs": run.songs}
        commit(run, {"commit": run.number, "run": run.id, **fingerprint(run), **account, "tables": run.tables})
        run.committed = True
    with run.phase("publish"):
        publish(lake, run.number)
        clean(lake)


def staged_files(run: Run, table: str) -> dict[str, dict]:
    """Final name, below the table's folder, of each file that Spark staged."""
    prefix = f"{run.staging}/{table}/"
    staged = list_objects(run.lake, prefix[:-1])
    names = sorted(key[len(prefix) :] for key in staged if key.endswith(".parquet"))
    files = {}
    for count, name in enumerate(name for name in names if not name.rpartition("/")[2].startswith((".", "_"))):
        folder = name[: name.rfind("/") + 1]
        final = f"{folder}c{run.number:09d}-{run.id[-8:]}-{count:05d}.parquet"
        files[final] = {"staged": prefix + name, "bytes": staged[prefix + name]}
    return files


def summary(run: Run, code: int, error: str) -> dict:
    """What `_etl/runs/<run>.json` holds of a run."""
    sizes = {
        table: {"rows": made["rows"], "files": len(made["files"]), "bytes": sum(file["bytes"] for file in made["files"].values())}
        for table, made in run.tables.items()
    }  # fmt: skip
    return {
        "run": run.id,
        "commit": run.number if run.committed else None,
        "exit": code,
        **({"error": error} if error else {}),
        "events": run.events,
        "songs": run.songs,
        "tables": sizes,
        "seconds": run.seconds,
        "input": run.settings.input,
        "output": run.settings.output,
        "versions": {
            "etl": fingerprint(run)["code"][:12],
            "spark": pyspark.__version__,
            "python": sys.version.split()[0],
            "obstore": obstore.__version__,
        },
    }


def show(report: dict) -> None:
    """The run on one screen."""
    events, songs = report["events"], report["songs"]
    say(f"\n{events['lines']:,} log lines = " + " + ".join(f"{events[name]:,} {name}" for name in EVENT_CLASSES))
    say(f"{songs['records']:,} song records = " + " + ".join(f"{songs[name]:,} {name}" for name in SONG_CLASSES))
    say(f"{events['matched']:,} plays matched to a song, {events['ambiguous']:,} of them with several to choose from\n")
    say(f"{'table':<10} {'rows':>13} {'files':>7} {'MB':>10}")
    for table, made in report["tables"].items():
        say(f"{table:<10} {made['rows']:>13,} {made['files']:>7,} {made['bytes'] / 1e6:>10,.2f}")
    phases = " · ".join(f"{name} {seconds:.1f}" for name, seconds in report["seconds"].items())
    say(f"\n{sum(report['seconds'].values()):.1f} seconds: {phases}")
    if any(events[name] for name in ("malformed", "invalid", "key_conflict")) or songs["malformed"] or songs["invalid"]:
        say(f"rejected lines: {report['output']}/_etl/quarantine/{report['run']}")
    say(f"commit {report['commit']}: the tables are in {report['output']}")


def end_run(run: Run, code: int, error: str) -> None:
    """Stops Spark, removes what was staged for nothing, and leaves the run's summary."""
    if run.spark:
        run.spark.stop()
    if not run.number or run.settings.dry_run:
        return
    if not run.committed:
        delete_tree(run.lake, run.staging)
    if run.songs:
        report = summary(run, code, error)
        create(run.lake, f"_etl/runs/{run.id}.json", json.dumps(report, indent=1).encode())
        if code == 0:
            show(report)


def main(arguments: Optional[list[str]] = None) -> int:
    """Runs the job; returns the exit code, and says what is wrong in one line on stderr."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    run, code, error = None, 0, ""
    try:
        settings = read_settings(sys.argv[1:] if arguments is None else arguments)
        check_java()
        session = connect(settings)
        if settings.output.startswith("file"):
            with reaching(settings.output):
                os.makedirs(settings.output[len("file://") :], exist_ok=True)
        places = (open_place(uri, settings, session) for uri in (settings.input, settings.output))
        run = Run(settings, run_id(datetime.now(timezone.utc)), *places)
        run_job(run)
    except Stop as stop:
        code, error = stop.code, str(stop)
    except KeyboardInterrupt:
        unfinished = (
            f"commit {run.number} is made, publication unfinished" if run and run.committed else "nothing is published"
        )
        code, error = INTERRUPTED, f"interrupted: {unfinished}; run again"
    except Exception as unexpected:
        known = explain(unexpected)
        code, error = known.code, str(known)
    try:
        if run:
            end_run(run, code, error)
    except (Exception, KeyboardInterrupt) as leftover:
        warn(f"{one_line(leftover)}; the next run removes what this one left")
    if error:
        print(f"etl.py: {error}", file=sys.stderr)
    return code


if __name__ == "__main__":
    sys.exit(main())
