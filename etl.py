"""Song catalogue and app event logs in, a star schema out.

Reads   INPUT/song_data/   one song in each JSON file
        INPUT/log_data/    one app event a line
Writes  OUTPUT/{songplays,users,songs,artists,time}   Parquet, published whole or not at all
        OUTPUT/_etl/       commits, run summaries, rejected lines

    python etl.py          on a laptop        settings come from dl.cfg; README.md describes them
    spark-submit etl.py    on a cluster
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
from contextlib import contextmanager, suppress
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
PLAY_KEY = ("user_id", "session_id", "item_in_session", "ts")
PLAY_CONTENT = (
    "artist_name",
    "first_name",
    "gender",
    "last_name",
    "length",
    "level",
    "location",
    "title",
    "user_agent",
)
CATALOG = ("song_id", "title", "artist_id", "artist_name", "duration", "year", "location", "latitude", "longitude")
EVENT_CLASSES = ("blank", "malformed", "invalid", "out_of_scope", "duplicate", "key_conflict", "songplays")
SONG_CLASSES = ("malformed", "invalid", "duplicate", "variant", "songs")

PLAYS_PER_FILE = 250_000
SHUFFLE_BYTES = 32 * 2**20  # of log text to a shuffle partition
PACK_BYTES = 8 * 2**20
GETS_IN_FLIGHT = 128
COPIES_IN_FLIGHT = 32


# ── Storage and the run: one set of calls for local folders and S3 ───────────────────────────────────────────────────


class Place(NamedTuple):
    """A folder or an S3 prefix: what Spark calls it, and how obstore reaches it."""

    store: object  # an obstore store whose root is this place
    uri: str  # file:///folder or s3a://bucket/prefix
    path: str  # /folder or /prefix, as the paths inside a URI begin
    bucket: object = None  # boto3's, on S3

    def list(self, prefix: str) -> dict[str, int]:
        """Key and size of everything below a prefix, folder markers (size 0) included."""
        if self.bucket:
            return {item["path"]: item["size"] for chunk in obstore.list(self.store, prefix) for item in chunk}
        found = {}  # by os.walk, as obstore hides the NAME#0 files that a cut-off copy leaves and Spark reads
        for folder, _, names in os.walk(f"{self.path}/{prefix}"):
            for path in (os.path.join(folder, name) for name in names):
                with suppress(FileNotFoundError):  # another run removed it while we looked
                    found[os.path.relpath(path, self.path)] = os.stat(path).st_size
        return found

    def create(self, key: str, data: bytes) -> bool:
        """Creates an object if there is none of that name; says whether it did."""
        with suppress(AlreadyExistsError):
            obstore.put(self.store, key, data, mode="create", use_multipart=False)
            return True
        return False

    def copy(self, source: str, target: str) -> None:
        """Copies a file to a name that is never reused, so one that is there already is the same."""
        with suppress(AlreadyExistsError):
            obstore.copy(self.store, source, target, overwrite=bool(self.bucket))  # S3 knows no copy-if-absent

    def delete(self, key: str) -> None:
        with suppress(FileNotFoundError):
            obstore.delete(self.store, key)

    def delete_tree(self, prefix: str) -> None:
        if self.bucket:  # boto3, because obstore cannot name the "folder/" markers that Hadoop leaves
            self.bucket.objects.filter(Prefix=f"{self.path}/{prefix}/".lstrip("/")).delete()
        else:
            shutil.rmtree(f"{self.path}/{prefix}", ignore_errors=True)


@dataclass
class Run:
    """One run: where it reads and writes, and what it has counted so far."""

    settings: Settings
    id: str  # UTC start time, then 8 hex digits
    source: Place
    lake: Place
    number: int = 0  # of the commit that this run is to make
    committed: bool = False
    spark: Optional[SparkSession] = None
    pinned: dict[str, list[str]] = field(default_factory=dict)  # side -> its listing
    events: dict[str, int] = field(default_factory=dict)
    songs: dict[str, int] = field(default_factory=dict)
    tables: dict[str, dict] = field(default_factory=dict)
    seconds: dict[str, float] = field(default_factory=dict)

    @property
    def staging(self) -> str:
        return f"_etl/staging/{self.number:09d}-{self.id}"

    def partitions(self, table: str) -> list[str]:
        return self.settings.songs_partition_by.split(",") if table == "songs" else PARTITIONS.get(table, [])

    @contextmanager
    def phase(self, name: str):
        say(f"{name} …")
        start = time.monotonic()
        yield
        self.seconds[name] = round(time.monotonic() - start, 2)


def run_id(start: datetime) -> str:
    return f"{start:%Y%m%dT%H%M%SZ}-{secrets.token_hex(4)}"


def say(text: str, end: str = "\n") -> None:
    print(text, end=end, flush=True)


def in_parallel(action, items) -> None:
    """Requests that wait for the store wait together."""
    with ThreadPoolExecutor(COPIES_IN_FLIGHT) as pool:
        list(pool.map(action, items))  # list() raises what an action raised


# ── Reading: the pinned listing, packed songs, lines and their one JSON object ───────────────────────────────────────


def list_input(source: Place, side: str):
    """Yields each input object of one side as a JSON line [key, size, etag], and None for each ignored one."""
    try:
        for item in (item for chunk in obstore.list(source.store, side, chunk_size=1000) for item in chunk):
            is_hidden = any(part[0] in "_." for part in item["path"].split("/")[1:])
            is_input = item["path"].endswith(".json") and not is_hidden
            version = item["e_tag"] or str(item["last_modified"])
            yield json.dumps([item["path"], item["size"], version]) if is_input else None
    except InvalidPathError as error:
        key = str(error).splitlines()[0].partition(": ")[2]
        raise Stop(SETTINGS, f"{source.uri}/{side}: a key cannot be addressed: {key!r}; rename the object") from None


def changed(source: Place, key: str) -> Stop:
    return Stop(FAILED, f"{source.uri}: input changed while it was read: {key}; run again")


def check_unchanged(source: Place, side: str, pinned: list[str]) -> None:
    """Lists a side again.  Raises Stop where a pinned object is changed or gone; new ones wait for the next run."""
    missing = set(pinned)
    missing.difference_update(list_input(source, side))
    if missing:
        raise changed(source, json.loads(min(missing))[0])


async def fetch(source: Place, key: str, size: int, version: str) -> bytes:
    """One object, as it was pinned and to its end."""
    try:
        answer = await obstore.get_async(source.store, key, options={"if_match": version})
        data = bytes(await answer.bytes_async())
    except (FileNotFoundError, PreconditionError):
        raise changed(source, key) from None
    except (BaseError, OSError) as error:
        raise Stop(FAILED, f"{source.uri}/{key}: cannot be read to its end: {one_line(error)}; run again") from None
    if len(data) != size:
        raise Stop(FAILED, f"{source.uri}/{key}: cannot be read to its end: {len(data)} of {size} bytes; run again")
    return data


async def pack_songs(source: Place, pinned: list[str], lake: Place, folder: str) -> int:
    """Copies song objects into a few text files of `key <TAB> line`; returns how many non-blank lines there were.

    Spark would need two requests and a task's overhead for each 300-byte object. Memory is bounded by the objects in
    flight and one pack, whatever the catalogue's size.
    """
    queue, lock, pack, packs, done, records = iter(pinned), asyncio.Lock(), bytearray(), 0, 0, 0

    async def flush() -> None:
        nonlocal packs
        packs += 1
        await obstore.put_async(lake.store, f"{folder}/{packs:05d}.txt", bytes(pack), use_multipart=False)
        pack.clear()

    async def work() -> None:
        nonlocal done, records
        for key, size, version in map(json.loads, queue):
            data = await fetch(source, key, size, version) if size else b""
            async with lock:
                for line in (data[3:] if data[:3] == b"\xef\xbb\xbf" else data).split(b"\n"):
                    if line.strip(b" \t\r"):
                        pack.extend(b"%s\t%s\n" % (quote(key).encode(), line[:-1] if line[-1:] == b"\r" else line))
                        records += 1
                if len(pack) >= PACK_BYTES:
                    await flush()
                done += 1
            if sys.stdout.isatty() and (done % 250 == 0 or done == len(pinned)):
                say(f"\r  song {done:,} of {len(pinned):,}", end="\n" if done == len(pinned) else "")

    await asyncio.gather(*(work() for _ in range(GETS_IN_FLIGHT)))
    await flush()
    return records


def read_text(spark: SparkSession, uri: str, suffix: str) -> DataFrame:
    """Lines as they stand, one row each; a lone CR ends none, and no character of the URI is a wildcard."""
    options = {"lineSep": "\n", "recursiveFileLookup": True, "pathGlobFilter": f"*{suffix}", "__globPaths__": False}
    return spark.read.options(**options).text(uri)


def read_packed_songs(spark: SparkSession, uri: str) -> DataFrame:
    """One row per packed line: `file`, the object's key percent-encoded, and `line`."""
    line = F.expr("substring(CAST(value AS BINARY), instr(value, '\t') + 1)")  # as bytes: it need not be UTF-8
    file = F.substring_index("value", "\t", 1)
    return read_text(spark, uri, ".txt").select(file.alias("file"), line.cast("string").alias("line"))


def key_of(source: Place, uri: str) -> str:
    return unquote(urlsplit(uri).path)[len(source.path) + 1 :]


def read_logs(spark: SparkSession, source: Place, pinned: list[str]) -> DataFrame:
    """One row per physical line of the logs: `file`, the object's URI percent-encoded, and `line`.

    Raises   Stop where Spark's listing and the pinned one differ
    """
    lines = read_text(spark, f"{source.uri}/log_data", ".json")
    keys = {key_of(source, uri) for uri in lines.inputFiles()}
    hidden = {key for key in keys if re.search("/[_.]", key)}  # Spark reads _a=b/, where else an underscore hides
    for key in (keys - hidden) ^ {json.loads(line)[0] for line in pinned}:
        raise changed(source, key)
    lines = lines.select(F.col("_metadata.file_path").alias("file"), F.col("value").alias("line"))
    path = F.substring(F.col("file"), len(source.uri) - 2, 2**31 - 1)
    return lines.where(~path.rlike("/[_.]")) if hidden else lines


def parse_lines(lines: DataFrame, fields: str, doubles: tuple[str, ...]) -> DataFrame:
    """Adds `record`, the line's JSON object typed by `fields`, and `malformed`, why it is none (else NULL).

    Spark's JSON parser stops after the first object and says nothing of what follows. So the line is parsed as one
    value in a map, before a last key that no line can foresee: if the parser finds just these two keys, nothing else
    stood on the line. A field of another type than declared shows in the corrupt column, `misfit`.
    """
    end = f"end-{secrets.token_hex(8)}"
    limits = dict.fromkeys(("maxStringLen", "maxNestingDepth", "maxNumLen"), str(2**31 - 1))
    strict = {"allowNonNumericNumbers": "false", "allowSingleQuotes": "false", "mode": "PERMISSIVE"}
    wrapped = F.from_json(
        F.concat(F.lit('{"wrapped":{"record":'), "line", F.lit(f',"{end}":null}}}}')),
        f"wrapped MAP<STRING, STRUCT<{fields}>>, misfit STRING",
        {"columnNameOfCorruptRecord": "misfit", **strict, **limits},
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
    parsed = lines.withColumn("json", wrapped).withColumn("record", F.col("json.wrapped")["record"])
    return parsed.withColumn("malformed", malformed).drop("json")


# ── Staging: renamed, typed and classed, not yet joined or deduplicated ──────────────────────────────────────────────


def text_of(name: str, alias: str = "") -> Column:
    """A text field of the record, as written; "" and NULL are both NULL."""
    return F.nullif(F.col(f"record.{name}"), F.lit("")).alias(alias or name)


def rejected_text(line: Column) -> Column:
    """The line, without a CR at its end, where it has a `reason`; NULL elsewhere, so that a cache stays small."""
    raw = line.cast("binary")
    without_cr = F.when(F.endswith(line, F.lit("\r")), raw.substr(F.lit(1), F.octet_length(line) - 1)).otherwise(raw)
    return F.when(F.col("reason").isNotNull(), without_cr.cast("string"))


def stage_events(lines: DataFrame) -> DataFrame:
    """One row per physical line of the logs, with its class; nothing downstream sees camelCase.

    Columns  file, line; class: blank, malformed, invalid, out_of_scope or play; the reason of the middle two
    Units    ts in epoch milliseconds, length in seconds
    """
    user_id = F.expr("try_cast(record.userId AS BIGINT)")
    is_bad_user = text_of("userId").isNotNull() & ~F.coalesce(
        (user_id >= 0) & (user_id.cast("string") == F.col("record.userId")), F.lit(False)
    )
    lacks_key = user_id.isNull() | F.col("record.sessionId").isNull() | F.col("record.itemInSession").isNull()
    in_range = F.coalesce(F.col("record.ts").between(946_684_800_000, 4_102_444_799_999), F.lit(False))
    is_play = F.col("record.page") == "NextSong"
    is_blank = F.trim(F.translate("line", "\t\r", "  ")) == ""
    invalid = (
        F.when(text_of("page").isNull(), "no page")
        .when(~in_range, "ts is missing or outside 2000-01-01 to 2099-12-31")
        .when(is_bad_user, "userId is not a whole number that fits BIGINT")
        .when(is_play & lacks_key, "a play without userId, sessionId or itemInSession")
    )
    kind = (
        F.when(F.col("malformed").isNotNull(), F.when(is_blank, "blank").otherwise("malformed"))
        .when(F.col("invalid").isNotNull(), "invalid")
        .otherwise(F.when(is_play, "play").otherwise("out_of_scope"))
    )
    parsed = parse_lines(lines, EVENT, ("length",))
    return parsed.withColumn("invalid", F.when(F.col("malformed").isNull(), invalid)).select(
        "file",
        "line",
        kind.alias("class"),
        F.when(kind != "blank", F.coalesce("malformed", "invalid")).alias("reason"),
        text_of("artist", "artist_name"),
        text_of("firstName", "first_name"),
        text_of("gender"),
        F.col("record.itemInSession").alias("item_in_session"),
        text_of("lastName", "last_name"),
        "record.length",
        text_of("level"),
        text_of("location"),
        F.col("record.sessionId").alias("session_id"),
        text_of("song", "title"),
        "record.ts",
        text_of("userAgent", "user_agent"),
        user_id.alias("user_id"),
    )


def stage_plays(events: DataFrame) -> DataFrame:
    """Events that are plays, every copy of them, with surrogate key and time.

    Key      songplay_id, md5 of the natural key `userId|sessionId|itemInSession|ts`; not yet unique
    """
    plays = events.where(F.col("class") == "play").withColumn("start_time", F.timestamp_millis("ts"))
    return plays.select(
        F.md5(F.concat_ws("|", *PLAY_KEY)).alias("songplay_id"),
        "start_time",
        F.year("start_time").alias("year"),
        F.month("start_time").alias("month"),
        *("file", "line", *PLAY_KEY, *PLAY_CONTENT),
    )


def stage_songs(lines: DataFrame) -> DataFrame:
    """One row per song record: file, line, class (malformed, invalid or record), reason, and the fields of CATALOG.

    Units    duration in seconds; latitude and longitude in degrees, NULL outside ±90 and ±180; year 0 is unknown
    """
    lacks = reduce(Column.__or__, (text_of(name).isNull() for name in ("song_id", "title", "artist_id", "artist_name")))
    is_positive = F.coalesce(F.col("record.duration") > 0, F.lit(False))
    latitude, longitude = F.col("record.artist_latitude"), F.col("record.artist_longitude")
    invalid = F.when(lacks, "no song_id, title, artist_id or artist_name").when(~is_positive, "duration not positive")
    kind = (
        F.when(F.col("malformed").isNotNull(), "malformed")
        .when(F.col("invalid").isNotNull(), "invalid")
        .otherwise("record")
    )
    parsed = parse_lines(lines, SONG, ("duration", "artist_latitude", "artist_longitude"))
    return parsed.withColumn("invalid", F.when(F.col("malformed").isNull(), invalid)).select(
        "file",
        "line",
        kind.alias("class"),
        F.coalesce("malformed", "invalid").alias("reason"),
        text_of("song_id"),
        text_of("title"),
        text_of("artist_id"),
        text_of("artist_name"),
        "record.duration",
        F.coalesce("record.year", F.lit(0)).alias("year"),
        text_of("artist_location", "location"),
        F.when(latitude.between(-90, 90), latitude).alias("latitude"),
        F.when(longitude.between(-180, 180), longitude).alias("longitude"),
    )


def stage_catalog(records: DataFrame) -> DataFrame:
    """One row per distinct valid song record; several may share a song_id (variants).  Source: stage_songs."""
    return records.where(F.col("class") == "record").select(*CATALOG).distinct()


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


def repeated_keys(plays: DataFrame) -> DataFrame:
    """One row per natural key that more than one line carries: few, or none."""
    return plays.groupBy(*PLAY_KEY).count().where("count > 1").select(*PLAY_KEY)


def settle_copies(plays: DataFrame, repeated: DataFrame) -> DataFrame:
    """Adds `outcome` to each copy of a play: songplays for the one kept, key_conflict or duplicate.

    Of the copies with one natural key the smallest content is kept; each further content is a conflict, once; the
    rest are replays. Only the keys in `repeated` are brought together and sorted.
    """
    once = plays.join(repeated, on=list(PLAY_KEY), how="left_anti").withColumn("outcome", F.lit("songplays"))
    copies = plays.join(repeated, on=list(PLAY_KEY), how="left_semi")
    same_key = Window.partitionBy(*PLAY_KEY).orderBy(*ascending(*PLAY_CONTENT))
    number, rank = F.row_number().over(same_key), F.rank().over(same_key)
    outcome = F.when(number == 1, "songplays").when(number == rank, "key_conflict").otherwise("duplicate")
    return once.unionByName(copies.withColumn("outcome", outcome))


def songplays_table(plays: DataFrame, catalog: DataFrame) -> DataFrame:
    """Fact, factless: one row per NextSong event, matched to at most one song.

    Key      songplay_id, md5 hex of `userId|sessionId|itemInSession|ts`
    Source   settle_copies, stage_catalog
    Dropped  replayed copies and further contents of one natural key
    Units    start_time is a UTC instant; level, location and user_agent are as of the play
    """
    matched = match_plays(plays.where(F.col("outcome") == "songplays"), catalog)
    return matched.select(
        *("songplay_id", "start_time", "user_id", "level", "song_id", "artist_id", "session_id", "location"),
        *("user_agent", "year", "month"),
    )


# ── Audit: what was staged, read back ────────────────────────────────────────────────────────────────────────────────


def read_staged(run: Run, name: str) -> DataFrame:
    """A staged table as readers will see it.  Raises Stop where its columns are not those of COLUMNS."""
    staged = run.spark.read.option("__globPaths__", False).parquet(f"{run.lake.uri}/{run.staging}/{name}")
    folders = run.partitions(name)
    promised = sorted(COLUMNS[name].split(", "), key=lambda column: column.split()[0] in folders)  # folders read last
    found = [f"{column} {'STRING' if column in folders else kind.upper()}" for column, kind in staged.dtypes]
    if found != promised[: -len(folders) or None] + [f"{column} STRING" for column in folders]:
        raise Stop(FAILED, f"audit: {name} has the columns {found}, not {promised}; nothing is published")
    return staged.select(*(F.col(column).cast(kind) for column, kind in (item.split() for item in promised)))


def audit(run: Run, tables: dict[str, DataFrame]) -> dict[str, int]:
    """Checks the staged tables against each other and the account; returns how many rows each has.

    Raises   Stop naming the check and its numbers: an account that does not balance, a row count that is not the
             account's, a key that is NULL or there twice, a reference to a dimension row that is not there
    """
    facts = [
        table.agg(F.lit(name), F.count("*"), F.count_distinct(KEYS[name])) for name, table in tables.items()
    ]  # fmt: skip
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
    found = {what: numbers for what, *numbers in reduce(DataFrame.unionAll, facts).collect()}
    rows = {table: found[table][0] for table in tables}
    checks = {f"{what} (rows, distinct keys)": numbers for what, numbers in found.items() if what in tables}
    checks.update({f"{what} (rows, allowed)": numbers for what, numbers in found.items() if what not in tables})
    for side, whole, classes in ((run.events, "lines", EVENT_CLASSES), (run.songs, "records", SONG_CLASSES)):
        checks[f"{whole} and the sum of their classes"] = side[whole], sum(side[name] for name in classes)
        checks[f"rows of {classes[-1]} and the account's"] = rows[classes[-1]], side[classes[-1]]
    for check, (left, right) in checks.items():
        if left != right:
            raise Stop(FAILED, f"audit: {check}: {left:,} and {right:,} should be equal; nothing is published")
    return rows


# ── Publish: stage, commit, roll forward ─────────────────────────────────────────────────────────────────────────────

OURS = re.compile(r"[^/]+/(?:[^/]+/)*c(\d{9})-[0-9a-f]{8}-\d{5,}\.parquet")


def prove_create_if_absent(run: Run) -> None:
    """Raises Stop unless the store is writable and refuses to create what exists: commits rest on it."""
    probe = f"_etl/probes/{run.id}"
    run.lake.create(probe, b"")
    overwrites = run.lake.create(probe, b"")
    run.lake.delete(probe)
    if overwrites:
        raise Stop(SETTINGS, f"{run.lake.uri}: the store overwrites where it should only create; choose another store")


def newest(lake: Place, folder: str) -> int:
    """The newest number in `_etl/commits` or `_etl/done`; 0 where there is none."""
    names = (key.rpartition("/")[2] for key in lake.list(f"_etl/{folder}"))
    return max((int(name[:9]) for name in names if re.fullmatch(r"\d{9}(\.json)?", name)), default=0)


def read_commit(lake: Place, number: int) -> dict:
    return json.loads(bytes(obstore.get(lake.store, f"_etl/commits/{number:09d}.json").bytes()))


def live_files(commit: dict) -> dict[str, dict]:
    """What a commit says the tables hold: key -> {"staged": key, "bytes": size}."""
    return {f"{table}/{name}": file for table in COLUMNS for name, file in commit["tables"][table]["files"].items()}


def list_tables(lake: Place) -> dict[str, int]:
    """Key and size of the job's own files in the table folders.

    Raises   Stop where a folder holds a file of somebody else's that a reader would take for rows
    """
    found = {key: size for table in COLUMNS for key, size in lake.list(table).items()}
    for key, size in found.items():
        name = key.rpartition("/")[2]
        if not OURS.fullmatch(key) and (name.endswith(".parquet") or (size and name[0] not in "_.")):
            raise Stop(SETTINGS, f"{lake.uri}/{key}: not written by this job; move it, or choose another OUTPUT")
    return {key: size for key, size in found.items() if OURS.fullmatch(key)}


def superseded(present: dict[str, int], number: int, live: dict[str, dict]) -> list[str]:
    """Files of this or an earlier commit that this commit does not list; those of a later one are not ours to judge."""
    return [key for key in present if int(OURS.fullmatch(key)[1]) <= number and key not in live]


def commit(run: Run, record: dict) -> None:
    """Creates the commit that makes this run's staged tables the live ones.

    Raises   Stop where another run made this commit first, or already removed our staging
    """
    key, error = f"_etl/commits/{run.number:09d}.json", "its staging is gone"
    if {file["staged"] for file in live_files(record).values()} <= run.lake.list(run.staging).keys():
        try:
            run.lake.create(key, json.dumps(record, indent=1).encode())
        except BaseError as lost:  # it may have been made all the same: reading it back tells
            error = one_line(lost)
    try:
        if read_commit(run.lake, run.number)["run"] == run.id:
            return
    except FileNotFoundError:
        raise Stop(FAILED, f"{run.lake.uri}/{key}: not made, nothing is published ({error}); run again") from None
    raise Stop(
        OVERTAKEN, f"{run.lake.uri}: another run made commit {run.number} first, nothing is published; run again"
    )


def publish(lake: Place, number: int) -> None:
    """Makes the table folders hold just what a commit lists.  Any run may repeat it wherever another broke off.

    Raises   Stop where the files are not as listed afterwards
    """
    live = live_files(read_commit(lake, number))
    try:
        present = list_tables(lake)
        in_parallel(lambda key: lake.copy(live[key]["staged"], key), live.keys() - present.keys())
        in_parallel(lake.delete, superseded(list_tables(lake), number, live))
        present = list_tables(lake)
        for key in [key for key in live if present.get(key) != live[key]["bytes"]] + superseded(present, number, live):
            raise FileNotFoundError(f"{key} is not as the commit lists it")
        lake.create(f"_etl/done/{number:09d}", b"")
    except Exception as error:
        with suppress(BaseError):
            if number <= newest(lake, "done") or number < newest(lake, "commits"):
                return  # another run finished it, or published a newer one, and removed what was staged
        raise Stop(
            FAILED, f"{lake.uri}: commit {number} is made, publication unfinished; run again ({one_line(error)})"
        ) from None


def clean(lake: Place) -> None:
    """Removes what no reader or publisher can want: staging first, or a publisher that slept could bring files back."""
    number, yesterday = newest(lake, "done"), run_id(datetime.now(timezone.utc) - timedelta(days=1))
    in_parallel(lake.delete, [key for key in lake.list("_etl/probes") if key.rpartition("/")[2] < yesterday])
    for folder in {key.split("/")[2] for key in lake.list("_etl/staging") if key.count("/") > 1}:
        if int(folder[:9]) <= number:
            lake.delete_tree(f"_etl/staging/{folder}")
    if number:
        in_parallel(lake.delete, superseded(list_tables(lake), number, live_files(read_commit(lake, number))))


def recover(lake: Place) -> None:
    """Finishes what earlier runs left."""
    if newest(lake, "commits") > newest(lake, "done"):
        publish(lake, newest(lake, "commits"))
    clean(lake)


# ── The two processes: read, derive, stage ───────────────────────────────────────────────────────────────────────────


def stage_table(table: DataFrame, run: Run, name: str) -> None:
    table.write.partitionBy(*run.partitions(name)).parquet(f"{run.lake.uri}/{run.staging}/{name}")


def keep_rejected(run: Run, side: str, rejected: DataFrame) -> None:
    """Writes rejected lines as JSON lines: file, reason, and raw, or raw_base64 where the line is not UTF-8."""
    is_text = F.col("reason") != "not UTF-8"
    uri = F.url_decode(F.replace(F.col("file"), F.lit("+"), F.lit("%2B")))  # url_decode takes "+" for a blank
    root = run.source.uri.replace("file://", "file:") + "/"
    base64 = F.translate(F.base64(F.col("line").cast("binary")), "\r\n", "")
    rejected.select(
        F.replace(uri, F.lit(root), F.lit("")).alias("file"),
        "reason",
        F.when(is_text, F.col("line")).alias("raw"),
        F.when(~is_text, base64).alias("raw_base64"),
    ).write.mode("append").json(f"{run.lake.uri}/_etl/quarantine/{run.id}/{side}")


def check_account(run: Run, side: str, account: dict[str, int], total: int) -> None:
    """Raises Stop where too large a share of a side is rejected, or nothing of it is accepted."""
    rejected = account["malformed"] + account["invalid"]
    where = f"{run.source.uri}/{side}: {rejected:,} of {total:,} lines are malformed or invalid"
    kept = f"see {run.lake.uri}/_etl/quarantine/{run.id}; the published tables are untouched"
    if rejected > run.settings.max_rejected * total:
        raise Stop(REFUSED, f"{where}, more than MAX_REJECTED = {run.settings.max_rejected:g} allows; {kept}")
    if not account["play"] + account["record"]:
        raise Stop(REFUSED, f"{where} and no other is a {'play' if side == 'log_data' else 'song'}; {kept}")


def process_song_data(run: Run) -> DataFrame:
    """Packed song records in; songs and artists staged.  Returns the catalog, cached: matching reads it again."""
    lines = read_packed_songs(run.spark, f"{run.lake.uri}/{run.staging}/packed")
    records = stage_songs(lines).withColumn("line", rejected_text(F.col("line"))).cache()
    account = Counter(dict(records.groupBy("class").count().collect()))
    if account["malformed"] + account["invalid"]:
        keep_rejected(run, "song_data", records.where("reason IS NOT NULL"))
    check_account(run, "song_data", account, run.songs["records"])

    catalog = stage_catalog(records).cache()
    distinct, songs = catalog.agg(F.count("*"), F.count_distinct("song_id")).first()
    run.songs.update(malformed=account["malformed"], invalid=account["invalid"])
    run.songs.update(duplicate=account["record"] - distinct, variant=distinct - songs, songs=songs)
    stage_table(songs_table(catalog).repartition(*run.partitions("songs")), run, "songs")
    stage_table(artists_table(catalog), run, "artists")
    return catalog


def process_log_data(run: Run, catalog: DataFrame) -> None:
    """Event lines in; users, time and songplays staged.

    Raises   Stop where the bytes that were read are not those of the pinned files
    """
    pinned = run.pinned["log_data"]
    lines = read_logs(run.spark, run.source, pinned)
    staged = stage_events(lines).withColumn("bytes", F.octet_length("line"))
    events = staged.withColumn("line", rejected_text(F.col("line"))).cache()  # one parse for all that follows
    month = F.when(F.col("class") == "play", F.date_trunc("month", F.timestamp_millis("ts")))
    account, read, plays_in = Counter(), Counter(), Counter()
    for uri, kind, play_month, count, size in (
        events.groupBy("file", "class", month).agg(F.count("*"), F.sum("bytes")).collect()
    ):
        account[kind] += count
        read[key_of(run.source, uri)] += count + size
        plays_in[play_month] += count if kind == "play" else 0
    for key, size, _ in map(json.loads, pinned):
        # each line has its line end, but perhaps the last; a BOM at the start is 3 bytes that Spark skips
        if size - read[key] not in (0, -1, 3, 2):
            raise changed(run.source, key)
    run.events["lines"] = sum(account.values())
    if account["malformed"] + account["invalid"]:
        keep_rejected(run, "log_data", events.where("reason IS NOT NULL"))
    check_account(run, "log_data", account, run.events["lines"] - account["blank"])

    repeated = repeated_keys(stage_plays(events)).cache()
    repeated.count()  # now Spark knows how few they are, and broadcasts them instead of shuffling every play
    plays = settle_copies(stage_plays(events), repeated)
    is_ambiguous = F.when(F.col("candidates") > 1, True)
    outcomes = match_plays(plays, catalog).groupBy("outcome")
    counted = outcomes.agg(F.count("*"), F.count("song_id"), F.count(is_ambiguous)).collect()
    settled = {outcome: numbers for outcome, *numbers in counted}
    account.update({outcome: count for outcome, (count, _, _) in settled.items()})
    run.events.update({name: account[name] for name in EVENT_CLASSES})
    run.events.update(zip(("matched", "ambiguous"), settled["songplays"][1:]))
    if account["key_conflict"]:
        keep_rejected(run, "log_data", key_conflicts(plays, lines))
    # a file holds one part of one month: enough parts to keep the cores busy, and no more files than that
    hour = (F.dayofmonth("start_time") - 1) * 24 + F.hour("start_time")
    part = F.floor(hour * -(-max(plays_in.values()) // PLAYS_PER_FILE) / (31 * 24))
    stage_table(songplays_table(plays, catalog).repartition("year", "month", part), run, "songplays")
    stage_table(users_table(events), run, "users")
    stage_table(time_table(stage_plays(events)).repartition("year", "month"), run, "time")


def key_conflicts(plays: DataFrame, lines: DataFrame) -> DataFrame:
    """One row per key_conflict, with its line, which is looked up in the few files that hold one."""
    content = ("file", "songplay_id", *PLAY_CONTENT)
    conflicts = plays.where("outcome = 'key_conflict'").select(*content)
    files = [file for (file,) in conflicts.select("file").distinct().collect()]
    again = stage_plays(stage_events(lines.where(F.col("file").isin(files)))).alias("again")
    same = reduce(Column.__and__, (F.col(f"again.{name}").eqNullSafe(F.col(f"conflict.{name}")) for name in content))
    found = again.join(F.broadcast(conflicts.alias("conflict")), on=same, how="left_semi")
    one_each = found.groupBy(*content).agg(F.min("line").alias("line"))
    reason = F.concat(F.lit("another content of the play "), "songplay_id")
    return one_each.withColumn("reason", reason).withColumn("line", rejected_text(F.col("line")))


# ── Settings: command line, then dl.cfg, then default ────────────────────────────────────────────────────────────────

KNOWN = {
    "AWS": ("KEY", "SECRET", "TOKEN", "PROFILE", "REGION", "ENDPOINT"),
    "DATA": ("INPUT", "OUTPUT"),
    "JOB": ("SONGS_PARTITION_BY", "MAX_REJECTED"),
}
ON_EMR = Path("/usr/share/aws/emr").is_dir()


class Settings(NamedTuple):
    """What dl.cfg and the command line say; paths as file:///folder or s3a://bucket/prefix."""

    aws: dict[str, str]  # the keys of KNOWN["AWS"]
    input: str
    output: str
    songs_partition_by: str
    max_rejected: float
    dry_run: bool
    force: bool


def warn(text: str) -> None:
    print(f"etl.py: warning: {text}", file=sys.stderr)


def read_config(path: Path) -> dict[str, str]:
    """The known settings of a dl.cfg.  Raises Stop without ever quoting a line of it, which may hold a secret."""
    parser = configparser.ConfigParser(interpolation=None)
    try:
        with path.open(encoding="utf-8-sig") as lines:
            parser.read_file(lines)
    except OSError as error:
        raise Stop(SETTINGS, f"{path}: {error.strerror}; name a settings file with --config") from None
    except UnicodeDecodeError:
        raise Stop(SETTINGS, f"{path}: not UTF-8 text; save it as UTF-8") from None
    except configparser.MissingSectionHeaderError as error:
        raise Stop(SETTINGS, f"{path}: line {error.lineno} stands before any section; begin with [AWS]") from None
    except (configparser.DuplicateOptionError, configparser.DuplicateSectionError) as error:
        raise Stop(SETTINGS, f"{path}: line {error.lineno} repeats a section or key; keep one of them") from None
    except configparser.ParsingError as error:
        raise Stop(SETTINGS, f"{path}: line {error.errors[0][0]} is not `KEY = value`; correct it") from None
    values = {}
    for section, name, value in ((part, name.upper(), text) for part in parser for name, text in parser.items(part)):
        if name not in KNOWN.get(section, ()):
            warn(f"{path}: [{section}] {name} is no setting of this job; README.md lists them")
        elif len(value) > 1 and value[0] == value[-1] and value[0] in "'\"":
            warn(f"{path}: [{section}] {name} stands in quotes, which are left out")
            value = value[1:-1]
        values[name] = value
    return values


def locate(value: str, base: Path, where: str) -> str:
    """A path as the job writes it everywhere: file:///folder, s3a://bucket/prefix, or s3:// on EMR."""
    scheme, has_scheme, rest = value.partition("://")
    if not has_scheme or scheme == "file":
        return "file://" + os.path.abspath(base / Path(rest if has_scheme else value).expanduser())
    bucket, _, prefix = rest.rstrip("/").partition("/")
    if scheme not in ("s3", "s3a") or not bucket or {"", ".", ".."} & set(prefix.split("/") if prefix else ()):
        raise Stop(SETTINGS, f"{where}: {value} cannot be used; name a folder, file:///folder or s3a://bucket/prefix")
    return f"{scheme if ON_EMR else 's3a'}://{bucket}" + (f"/{prefix}" if prefix else "")


def lies_in(inner: str, outer: str) -> bool:
    inner, outer = (
        os.path.realpath(uri[7:]) if uri.startswith("file") else uri.split(":")[1] for uri in (inner, outer)
    )
    return f"{inner}/".startswith(f"{outer}/")


def read_settings(arguments: list[str]) -> Settings:
    """Raises Stop naming the setting, where it stands and what would be right."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--config", metavar="FILE", help="settings file (default: ./dl.cfg, else dl.cfg beside etl.py)")
    parser.add_argument("--input", help="folder or s3a:// prefix that holds song_data/ and log_data/")
    parser.add_argument("--output", help="folder or s3a:// prefix for the tables")
    parser.add_argument("--songs-partition-by", help="folders of the songs table: " + " or ".join(SONG_LAYOUTS))
    parser.add_argument("--max-rejected", help="share of lines that may be malformed or invalid, 0 to 1")
    parser.add_argument("--dry-run", action="store_true", help="check everything, write nothing")
    parser.add_argument("--force", action="store_true", help="rebuild although nothing changed")
    given = parser.parse_args(arguments)
    beside = [path for path in (Path("dl.cfg"), Path(__file__).with_name("dl.cfg")) if path.is_file()]
    config = Path(given.config) if given.config else next(iter(beside), None)
    values = read_config(config) if config else {}
    where = config or "no dl.cfg"

    def setting(name: str, default: str) -> str:
        return getattr(given, name.lower()) or values.get(name) or default

    def path_of(name: str) -> str:
        if not setting(name, ""):
            raise Stop(SETTINGS, f"{where}: [DATA] has no {name}; name a folder or an s3a:// prefix")
        base = Path() if getattr(given, name.lower()) or not config else config.parent
        return locate(setting(name, ""), base, f"{where}: {name}")

    aws = {name: values.get(name, "") for name in KNOWN["AWS"]}
    layout = setting("SONGS_PARTITION_BY", SONG_LAYOUTS[0]).replace(" ", "").lower()
    share = setting("MAX_REJECTED", "0.01")
    for is_wrong, wrong in (
        (bool(aws["KEY"]) != bool(aws["SECRET"]), "[AWS] has one of KEY and SECRET; give both or neither"),
        (aws["KEY"].startswith("ASIA") and not aws["TOKEN"], "[AWS] KEY is a temporary one (ASIA…); add its TOKEN"),
        (aws["KEY"] and aws["PROFILE"], "[AWS] has both KEY and PROFILE; keep one of them"),
        (layout not in SONG_LAYOUTS, f"SONGS_PARTITION_BY is {layout}; choose {' or '.join(SONG_LAYOUTS)}"),
        (not re.fullmatch(r"0?\.\d+|[01](\.0*)?", share), f"MAX_REJECTED is {share}; it is a share from 0 to 1"),
    ):
        if is_wrong:
            raise Stop(SETTINGS, f"{where}: {wrong}")
    source, lake = path_of("INPUT"), path_of("OUTPUT")
    if lies_in(lake, source):
        raise Stop(SETTINGS, f"{where}: OUTPUT {lake} lies in INPUT {source}; name another OUTPUT")
    return Settings(aws, source, lake, layout, float(share), given.dry_run, given.force)


# ── Session and main ─────────────────────────────────────────────────────────────────────────────────────────────────

HINTS = {  # what an error's text holds, and what to do; the first that matches is said
    "InvalidAccessKeyId": "AWS does not know this KEY; check [AWS] KEY, and TOKEN if it begins with ASIA",
    "SignatureDoesNotMatch": "the SECRET does not fit the KEY; check [AWS] SECRET and this machine's clock",
    "ExpiredToken|InvalidToken|SSO": "the credentials have expired; sign in again",
    "NoSuchBucket|UnknownStore": "there is no such bucket; check the name, and [AWS] ENDPOINT",
    "PermanentRedirect|AuthorizationHeaderMalformed": "the bucket is in another region; correct [AWS] REGION",
    "AccessDenied|Forbidden": "access is denied; let this identity list and read, and on OUTPUT write and delete",
    "error sending request|ConnectException|UnknownHost": "no answer; check [AWS] ENDPOINT, REGION and the network",
    "S3AFileSystem": "Spark lacks hadoop-aws; start it with --packages org.apache.hadoop:hadoop-aws:{hadoop}",
    "JAVA_GATEWAY|UnsupportedClassVersion": "Java did not start, its words stand above; check Java, and Maven for S3",
    "No space left": "the disk is full; free some, or name another OUTPUT or spark.local.dir",
    "Permission denied|Read-only file|[Nn]ot a directory|File exists": "name a folder that this user may write",
}


def one_line(error: BaseException) -> str:
    """An error and its root cause without stack traces."""
    java = getattr(error, "java_exception", None) or getattr(error, "_origin", None)
    causes = [java.toString() if java else str(error) or type(error).__name__]
    while java and java.getCause():
        java = java.getCause()
        causes[1:] = [java.toString()]
    return ": ".join(cause.strip().splitlines()[0][:300] for cause in causes)


def explain(error: BaseException, place: str = "") -> Stop:
    """What went wrong: a known cause with its remedy, any other in its own words."""
    for text, remedy in HINTS.items():
        found = re.search(text, f"{one_line(error)} {error}")
        if found:
            remedy = remedy.replace("{hadoop}", hadoop_version()) if "{hadoop}" in remedy else remedy
            return Stop(SETTINGS, f"{place or 'Spark'}: {remedy} ({found[0]})")
    return Stop(FAILED, f"{place or type(error).__name__}: {one_line(error)}")


@contextmanager
def reaching(place: str):
    """Names the place in what goes wrong while it is reached."""
    try:
        yield
    except (BaseError, OSError) as error:
        raise explain(error, place) from None


def hadoop_version() -> str:
    """The version of Spark's own Hadoop, which hadoop-aws must have exactly."""
    try:
        jars = Path(_find_spark_home(), "jars").glob("hadoop-client-api-*.jar")
    except SystemExit:  # in a YARN container, where pyspark came as a zip and Spark has no home
        return "VERSION"
    return next((jar.stem.rpartition("-")[2] for jar in jars), "VERSION")


def check_java() -> None:
    """Raises Stop where Python is to start a Java that is not there or too old for this Spark."""
    if "PYSPARK_GATEWAY_PORT" in os.environ:
        return  # under spark-submit it runs already
    spark, home = pyspark.__version__, os.environ.get("JAVA_HOME")
    lowest, names = (17, "17 or 21") if int(spark.split(".")[0]) >= 4 else (8, "8, 11 or 17")
    remedy = f"Spark {spark} needs Java {names}: install it, and let JAVA_HOME name its folder"
    java = shutil.which("java", path=f"{home}/bin" if home else None)
    if not java:
        raise Stop(
            SETTINGS, f"no Java in {f'JAVA_HOME, {home}' if home else 'PATH, and JAVA_HOME is not set'}; {remedy}"
        )
    said = subprocess.run([java, "-version"], stdin=subprocess.DEVNULL, capture_output=True, text=True).stderr
    version = re.search(r'version "(?:1\.)?(\d+)', said)
    if not version or int(version[1]) < lowest:
        raise Stop(SETTINGS, f"{java} is Java {version[1] if version else 'of no known version'}; {remedy}")


def connect(settings: Settings):
    """The boto3 session whose identity all clients share; None where no path is on S3."""
    if settings.input.startswith("file") and settings.output.startswith("file"):
        return None
    import boto3  # here, as local runs start faster without
    from botocore.exceptions import BotoCoreError

    own = dict(
        zip(("aws_access_key_id", "aws_secret_access_key", "aws_session_token", "profile_name"), settings.aws.values())
    )
    if ON_EMR and any(own.values()):
        warn("[AWS] KEY, SECRET, TOKEN and PROFILE are ignored on EMR, where the cluster's role decides")
        own = {}
    try:
        own = {name: value for name, value in own.items() if value}
        session = boto3.Session(region_name=settings.aws["REGION"] or None, **own)
        if session.get_credentials() is None:
            looked = "dl.cfg, the environment, ~/.aws, SSO, container and instance role"
            raise Stop(SETTINGS, f"no AWS credentials in {looked}; set [AWS] KEY and SECRET, or sign in")
        session.get_credentials().get_frozen_credentials()
    except BotoCoreError as error:
        raise Stop(SETTINGS, f"AWS credentials: {one_line(error)}; correct [AWS], or sign in again") from None
    return session


def open_place(uri: str, settings: Settings, session) -> Place:
    """The place that a located path names.  Raises Stop where a local folder is not there."""
    if uri.startswith("file"):
        if not os.path.isdir(uri[7:]):
            raise Stop(SETTINGS, f"{uri}: no such folder; create it, or correct dl.cfg")
        return Place(LocalStore(uri[7:], automatic_cleanup=True), uri, uri[7:])
    from botocore.config import Config
    from botocore.exceptions import ClientError
    from obstore.auth.boto3 import Boto3CredentialProvider

    name, _, prefix = uri.partition("://")[2].partition("/")
    endpoint, region = settings.aws["ENDPOINT"] or None, settings.aws["REGION"] or session.region_name or "us-east-1"
    if not (endpoint or settings.aws["REGION"]):  # each bucket may be in a region of its own, which S3 tells anybody
        try:
            answer = session.client("s3", region_name=region).head_bucket(Bucket=name)
        except ClientError as error:
            answer = error.response
        region = answer["ResponseMetadata"]["HTTPHeaders"].get("x-amz-bucket-region", region)
    store = S3Store(
        name,
        prefix=prefix or None,
        region=region,
        credential_provider=Boto3CredentialProvider(session),
        client_options={"allow_http": True, "connect_timeout": "5s", "timeout": "120s"},
        retry_config={"max_retries": 6, "retry_timeout": timedelta(seconds=60)},
        **({"endpoint": endpoint, "virtual_hosted_style_request": False} if endpoint else {}),
    )
    config = Config(s3={"addressing_style": "path" if endpoint else "auto"})
    s3 = session.resource("s3", region_name=region, endpoint_url=endpoint, config=config)
    return Place(store, uri, f"/{prefix}" if prefix else "", s3.Bucket(name))


def start_spark(run: Run, session) -> SparkSession:
    """A session in UTC; where S3 is read off EMR with hadoop-aws and the identity, region and endpoint of obstore."""
    options = {
        "spark.sql.session.timeZone": "UTC",
        "spark.sql.parquet.outputTimestampType": "TIMESTAMP_MICROS",
        "spark.sql.caseSensitive": "true",
        "spark.sql.sources.partitionColumnTypeInference.enabled": "false",
        "spark.sql.sources.parallelPartitionDiscovery.threshold": "8",
        "spark.sql.files.ignoreCorruptFiles": "false",
        "spark.sql.files.ignoreMissingFiles": "false",
    }
    is_ours = "PYSPARK_GATEWAY_PORT" not in os.environ  # spark-submit takes these on its own command line only
    if is_ours:
        options["spark.ui.showConsoleProgress"] = str(sys.stderr.isatty()).lower()
    if is_ours and session and not ON_EMR:
        options.update(s3a_packages(hadoop_version()))
    builder = SparkSession.builder.appName("sparkify-etl")
    for name, value in options.items():
        builder = builder.config(name, value)
    spark = builder.getOrCreate()
    signal.signal(signal.SIGINT, signal.default_int_handler)  # Spark's own would talk to Java amid an answer
    if spark.sparkContext.master.startswith("local"):
        spark.sparkContext.setLogLevel("OFF")  # what goes wrong is said in one line
    if not spark.sparkContext.getConf().contains("spark.sql.shuffle.partitions"):
        size = sum(json.loads(line)[1] for line in run.pinned["log_data"])
        spark.conf.set(
            "spark.sql.shuffle.partitions", max(spark.sparkContext.defaultParallelism, size // SHUFFLE_BYTES)
        )
    if session and not ON_EMR:
        # on the running session, as Spark would pass its own settings to Java on a command line that all may read
        hadoop = spark.sparkContext._jsc.hadoopConfiguration()
        for name, value in s3a_options(run, session).items():
            hadoop.set(f"fs.s3a.{name}", value)
    return spark


def s3a_packages(hadoop: str) -> dict[str, str]:
    """hadoop-aws for Spark's Hadoop, where its SDK is known with five modules (18 MB) instead of the bundle (600)."""
    sdk = {"3.4.2": "2.29.52", "3.5.0": "2.35.4"}.get(hadoop)
    modules = ("s3", "s3-transfer-manager", "sts", "apache-client", "netty-nio-client") if sdk else ()
    packages = [f"org.apache.hadoop:hadoop-aws:{hadoop}", *(f"software.amazon.awssdk:{name}:{sdk}" for name in modules)]
    excluded = {"spark.jars.excludes": "software.amazon.awssdk:bundle"} if sdk else {}
    return {"spark.jars.packages": ",".join(packages), **excluded}


def s3a_options(run: Run, session) -> dict[str, str]:
    credentials, endpoint = session.get_credentials().get_frozen_credentials(), run.settings.aws["ENDPOINT"]
    kind = "Temporary" if credentials.token else "Simple"
    options = {
        "access.key": credentials.access_key,
        "secret.key": credentials.secret_key,
        "aws.credentials.provider": f"org.apache.hadoop.fs.s3a.{kind}AWSCredentialsProvider",
        "input.stream.type": "classic",
        **({"session.token": credentials.token} if credentials.token else {}),
        **({"endpoint": endpoint, "path.style.access": "true"} if endpoint else {}),
    }
    for bucket in filter(None, (run.source.bucket, run.lake.bucket)):
        options[f"bucket.{bucket.name}.endpoint.region"] = bucket.meta.client.meta.region_name
    return options


def listing(run: Run) -> bytes:
    return "\n".join(line for side in sorted(run.pinned) for line in run.pinned[side]).encode()


def fingerprint(run: Run) -> dict:
    """What decides a run's result: where the newest commit has the same, there is nothing to do."""
    names = ("input", "songs_partition_by", "max_rejected")
    return {
        "settings": {name: getattr(run.settings, name) for name in names},
        "code": hashlib.sha256(Path(__file__).read_bytes()).hexdigest(),
        "input_sha256": hashlib.sha256(listing(run)).hexdigest(),
    }


def is_current(run: Run, base: int) -> bool:
    """Whether the newest commit was made from this input, settings and code, and its files are all there."""
    if not base:
        return False
    last = read_commit(run.lake, base)
    layout = last["settings"]["songs_partition_by"]
    if layout != run.settings.songs_partition_by:
        raise Stop(SETTINGS, f"{run.lake.uri}/songs is laid out by {layout}; keep that, or choose another OUTPUT")
    same = all(last[name] == value for name, value in fingerprint(run).items())
    return same and {key: file["bytes"] for key, file in live_files(last).items()} == list_tables(run.lake)


def staged_files(run: Run, table: str) -> dict[str, dict]:
    """Final name, in the table's folder, of each file that Spark staged."""
    prefix = f"{run.staging}/{table}/"
    staged = {key: size for key, size in run.lake.list(prefix[:-1]).items() if re.search(r"/part-[^/]*\.parquet$", key)}
    files = {}
    for count, key in enumerate(sorted(staged)):
        folder = key[len(prefix) : key.rfind("/") + 1]
        name = f"{folder}c{run.number:09d}-{run.id[-8:]}-{count:05d}.parquet"
        files[name] = {"staged": key, "bytes": staged[key]}
    return files


def run_job(run: Run, session) -> None:
    """The whole run, in the order that lets several runs overlap and any of them die.  Raises Stop, else it is done."""
    settings, lake, source = run.settings, run.lake, run.source
    with run.phase("begin"), reaching(lake.uri):
        list_tables(lake)  # somebody else's file stops the run before it touches anything
        prove_create_if_absent(run)
        if not settings.dry_run:
            recover(lake)
        base = newest(lake, "commits")  # read before the input is: who commits on top of it has seen newer input
        run.number = base + 1
    with run.phase("list"), reaching(source.uri):
        for side in ("song_data", "log_data"):
            found = list(list_input(source, side))
            run.pinned[side], ignored = sorted(filter(None, found)), found.count(None)
            say(f"  {side}: {len(run.pinned[side]):,} objects" + f", {ignored:,} others ignored" * bool(ignored))
            if not run.pinned[side]:
                raise Stop(
                    SETTINGS, f"{source.uri}/{side}: no object ends in .json; let INPUT name the folder above it"
                )
    if is_current(run, base) and not settings.force:
        return say(f"Nothing to do: commit {base} was made from this input with these settings. --force rebuilds it.")
    if settings.dry_run:
        return say(
            f"Dry run: would write {', '.join(COLUMNS)} to {lake.uri} as commit {run.number}. Nothing is written."
        )
    with run.phase("fetch songs"), reaching(lake.uri):
        packed = pack_songs(source, run.pinned["song_data"], lake, f"{run.staging}/packed")
        run.songs["records"] = asyncio.run(packed)
    with run.phase("start Spark"):
        run.spark = start_spark(run, session)
    with run.phase("songs"):
        catalog = process_song_data(run)
    with run.phase("plays"):
        process_log_data(run, catalog)
    with run.phase("audit"):
        rows = audit(run, {table: read_staged(run, table) for table in COLUMNS})
        run.tables = {table: {"rows": rows[table], "files": staged_files(run, table)} for table in COLUMNS}
    with run.phase("commit"), reaching(lake.uri):
        for side, pinned in run.pinned.items():
            check_unchanged(source, side, pinned)
        obstore.put(lake.store, f"_etl/inputs/{run.number:09d}.json.gz", gzip.compress(listing(run)))
        account = {"events": run.events, "songs": run.songs}
        commit(run, {"commit": run.number, "run": run.id, **fingerprint(run), **account, "tables": run.tables})
        run.committed = True
    with run.phase("publish"):
        publish(lake, run.number)
        clean(lake)


def summary(run: Run, code: int, error: str) -> dict:
    """What `_etl/runs/<run>.json` holds of a run."""
    tables = {}
    for table, made in run.tables.items():
        sizes = [file["bytes"] for file in made["files"].values()]
        tables[table] = {"rows": made["rows"], "files": len(sizes), "bytes": sum(sizes)}
    versions = {"etl": fingerprint(run)["code"][:12], "spark": pyspark.__version__, "python": sys.version.split()[0]}
    report = {"run": run.id, "commit": run.number if run.committed else None, "exit": code, "error": error}
    report.update(events=run.events, songs=run.songs, tables=tables, seconds=run.seconds)
    return {**report, "input": run.settings.input, "output": run.settings.output, "versions": versions}


def show(report: dict) -> None:
    """The run on one screen."""
    events, songs, seconds = report["events"], report["songs"], report["seconds"]
    say(f"\n{events['lines']:,} log lines = " + " + ".join(f"{events[name]:,} {name}" for name in EVENT_CLASSES))
    say(f"{songs['records']:,} song records = " + " + ".join(f"{songs[name]:,} {name}" for name in SONG_CLASSES))
    say(f"{events['matched']:,} plays matched to a song, {events['ambiguous']:,} of them with several to choose from\n")
    say(f"{'table':<10} {'rows':>13} {'files':>7} {'MB':>10}")
    for table, made in report["tables"].items():
        say(f"{table:<10} {made['rows']:>13,} {made['files']:>7,} {made['bytes'] / 1e6:>10,.2f}")
    say(
        f"\n{sum(seconds.values()):.1f} seconds: "
        + " · ".join(f"{name} {spent:.1f}" for name, spent in seconds.items())
    )
    if any(side[name] for side in (events, songs) for name in ("malformed", "invalid")) or events["key_conflict"]:
        say(f"rejected lines: {report['output']}/_etl/quarantine/{report['run']}")
    say(f"commit {report['commit']}: the tables are in {report['output']}")


def end_run(run: Run, code: int, error: str) -> None:
    """Stops Spark, removes what was staged for nothing, and leaves the run's summary."""
    if run.spark:
        java = getattr(run.spark.sparkContext._gateway, "proc", None)
        if code == INTERRUPTED and java:  # amid an answer, Java does not hear a stop
            java.kill()
            java.wait()
        else:
            run.spark.stop()
    if run.number and not run.committed:
        run.lake.delete_tree(run.staging)
    if run.songs:  # it got as far as reading
        report = summary(run, code, error)
        run.lake.create(f"_etl/runs/{run.id}.json", json.dumps(report, indent=1).encode())
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
        source = open_place(settings.input, settings, session)
        if settings.output.startswith("file"):
            with reaching(settings.output):
                os.makedirs(settings.output[7:], exist_ok=True)
        lake = open_place(settings.output, settings, session)
        run = Run(settings, run_id(datetime.now(timezone.utc)), source, lake)
        run_job(run, session)
    except Stop as stop:
        code, error = stop.code, str(stop)
    except KeyboardInterrupt:
        code, error = INTERRUPTED, "interrupted, nothing is published; run again"
    except Exception as unexpected:
        known = explain(unexpected)
        code, error = known.code, f"{known}; nothing is published"
    if run and run.committed and code not in (0, FAILED):
        error = f"{error.partition(',')[0]}: commit {run.number} is made, publication unfinished; run again"
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
