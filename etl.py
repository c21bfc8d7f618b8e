# /// script
# requires-python = ">=3.11"
# dependencies = ["pyspark==4.3.*", "boto3>=1.40,<2", "obstore>=0.12,<0.13"]
# ///
"""Song catalogue and app event logs in, a star schema out.

Reads   INPUT/song_data/   one song per JSON file
        INPUT/log_data/    one app event per line
Writes  OUTPUT/TABLE/      songplays, users, songs, artists, time, as Parquet;
                           published whole or not at all
        OUTPUT/_etl/       commits, run summaries, rejected lines

    python etl.py          on a laptop
    spark-submit etl.py    on a cluster

Settings come from the command line, else from dl.cfg; README.md describes them.

Words   place     a folder or an S3 prefix; `source` is the place of INPUT, `lake` that of OUTPUT
        side      one half of the input: song_data or log_data
        pinned    an input object as it was when the run listed it
        play      an event of the page NextSong; songplays keeps one row of each
        catalog   the distinct valid song records; several may share a song_id
        account   how many lines ended in each class, such as songplays or malformed
        staged    written below OUTPUT/_etl/staging, which no reader of the tables sees
        commit    a numbered record of all files that the five tables consist of
"""

from __future__ import annotations

import os
import signal

if __name__ == "__main__":
    # a signal during the imports below, which take a second, ends without a traceback
    signal.signal(signal.SIGINT, lambda *_: os._exit(130))
    signal.signal(signal.SIGTERM, lambda *_: os._exit(130))

import argparse
import codecs
import configparser
import gzip
import hashlib
import json
import locale
import re
import secrets
import shutil
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from fractions import Fraction
from functools import reduce
from pathlib import Path
from typing import NamedTuple
from urllib.parse import quote, unquote, urlsplit


def missing_package(error: ModuleNotFoundError) -> str:
    remedy = "pip install -r requirements.txt (on a cluster: pip install boto3 obstore)"
    return f"the Python package {error.name} is missing; {remedy}"


try:
    import obstore
    import pyspark
    from obstore.exceptions import (
        AlreadyExistsError,
        BaseError,
        InvalidPathError,
        PreconditionError,
    )
    from obstore.store import LocalStore, S3Store
    from pyspark import SparkConf, SparkContext, SparkFiles
    from pyspark.find_spark_home import _find_spark_home
    from pyspark.java_gateway import launch_gateway
    from pyspark.sql import Column, DataFrame, Observation, Row, SparkSession, Window
    from pyspark.sql import functions as F
except ModuleNotFoundError as missing:
    if __name__ != "__main__":
        raise
    print(f"etl.py: {missing_package(missing)}", file=sys.stderr)
    sys.exit(2)

FAILED = 1
SETTINGS = 2
REFUSED = 3
OVERTAKEN = 75
INTERRUPTED = 130


class Stop(Exception):
    """Ends the run with an exit code and one line: the thing, the place and the remedy."""

    def __init__(self, code: int, message: str):
        super().__init__(message)
        self.code = code


# ── Schemas: what the source holds and what the tables promise ────────────────────────────────

EVENT = """
    artist        STRING,
    firstName     STRING,
    gender        STRING,
    itemInSession BIGINT  COMMENT 'position in the session, from 0',
    lastName      STRING,
    length        DOUBLE  COMMENT 'seconds, of the track played',
    level         STRING  COMMENT 'free or paid, at the time of the event',
    location      STRING,
    page          STRING  COMMENT 'NextSong marks a play',
    sessionId     BIGINT,
    song          STRING  COMMENT 'title of the track played',
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
# the first column of each table is its key
COLUMNS = {
    "songplays": """
        songplay_id STRING    COMMENT 'md5 hex of userId|sessionId|itemInSession|ts',
        start_time  TIMESTAMP COMMENT 'when the play began, UTC; refers to time',
        user_id     BIGINT    COMMENT 'who listened; refers to users',
        level       STRING    COMMENT 'free or paid, at the time of the play',
        song_id     STRING    COMMENT 'refers to songs; NULL if the catalogue lacks the track',
        artist_id   STRING    COMMENT 'refers to artists; NULL if the catalogue lacks the track',
        session_id  BIGINT    COMMENT 'the app session of the play; it has no table',
        location    STRING    COMMENT 'where the listener was, at the time of the play',
        user_agent  STRING    COMMENT 'browser of the listener, at the time of the play',
        year        INT       COMMENT 'of start_time; a folder',
        month       INT       COMMENT 'of start_time, 1 to 12; a folder'
    """,
    "users": """
        user_id    BIGINT COMMENT 'number of the user in the app',
        first_name STRING COMMENT 'as of the latest event of the user',
        last_name  STRING COMMENT 'as of the latest event of the user',
        gender     STRING COMMENT 'F or M, as of the latest event of the user',
        level      STRING COMMENT 'free or paid, as of the latest event of the user'
    """,
    "songs": """
        song_id   STRING COMMENT 'id of the song in the catalogue',
        title     STRING COMMENT 'as the catalogue has it',
        artist_id STRING COMMENT 'refers to artists',
        duration  DOUBLE COMMENT 'seconds',
        year      INT    COMMENT 'year of release, 0 when unknown; a folder'
    """,
    "artists": """
        artist_id STRING COMMENT 'id of the artist in the catalogue',
        name      STRING COMMENT 'as the catalogue has it',
        location  STRING COMMENT 'where the artist comes from, in words',
        latitude  DOUBLE COMMENT 'degrees, north is positive',
        longitude DOUBLE COMMENT 'degrees, east is positive'
    """,
    "time": """
        start_time TIMESTAMP COMMENT 'an instant at which a play began, UTC',
        hour       INT       COMMENT '0 to 23, UTC',
        day        INT       COMMENT 'day of the month, 1 to 31, UTC',
        week       INT       COMMENT 'ISO 8601 week of the year, 1 to 53',
        weekday    INT       COMMENT '1 is Sunday, 7 is Saturday',
        year       INT       COMMENT 'UTC; a folder',
        month      INT       COMMENT '1 to 12, UTC; a folder'
    """,
}
PARTITIONS = {"songplays": ["year", "month"], "time": ["year", "month"]}
SONG_LAYOUTS = ("year", "year,artist_id")

# Every line of the logs and every song record ends in one of these classes.
EVENT_CLASSES = {
    "songplays": "plays, one row each",
    "out_of_scope": "other events, such as page views and logins",
    "duplicate": "repeated copies of a play",
    "key_conflict": "plays under a key that another play has",
    "invalid": "a value is missing or impossible",
    "malformed": "not exactly one JSON object",
    "blank": "empty lines",
}
SONG_CLASSES = {
    "songs": "songs, one row each",
    "variant": "other records of a song that is kept",
    "duplicate": "repeated copies of a record",
    "invalid": "a value is missing or impossible",
    "malformed": "not exactly one JSON object",
}


def columns(table: str) -> dict[str, str]:
    """Name and type of each column of a table, in order."""
    lines = COLUMNS[table].replace(",", " ").strip().splitlines()
    return dict(line.split()[:2] for line in lines)


# ── Reading: the listed input, packed songs, lines and their one JSON object ──────────────────


def read_text(spark: SparkSession, uri: str, suffix: str) -> DataFrame:
    """Lines as they stand, one row each; a lone CR ends none, and a `*` in the URI is a `*`."""
    reader = spark.read.option("lineSep", "\n").option("recursiveFileLookup", True)
    return reader.option("pathGlobFilter", f"*{suffix}").option("__globPaths__", False).text(uri)


def read_packed_songs(spark: SparkSession, uri: str) -> DataFrame:
    """One row per packed line: `file`, the object's key percent-encoded, and `line`."""
    file = F.substring_index("value", "\t", 1)
    # as bytes, because the line need not be UTF-8
    line = F.expr("substring(CAST(value AS BINARY), instr(value, '\t') + 1)")
    packed = read_text(spark, uri, ".txt")
    return packed.select(file.alias("file"), line.cast("string").alias("line"))


def read_logs(spark: SparkSession, source: Place, pinned: list[Pinned]) -> DataFrame:
    """One row per physical line of the logs: `file`, the object's URI percent-encoded, and `line`.

    Raises   Stop if Spark misses a file of the listing
    """
    lines = read_text(spark, f"{source.uri}/log_data", ".json")
    uris = {}
    for uri in lines.inputFiles():
        uris[unquote(urlsplit(uri).path).removeprefix(f"{source.path}/")] = uri
    lines = lines.select(F.col("_metadata.file_path").alias("file"), F.col("value").alias("line"))
    listed = {item.key for item in pinned}
    missing = listed - uris.keys()
    if missing:
        raise input_changed(source, min(missing))
    # new files wait for the next run, and Spark reads hidden ones in folders such as `_a=b`
    others = uris.keys() - listed
    if others:
        # here Spark begins a local URI with file:///, and there with file:/
        paths = [re.sub("^file:/+", "/", uris[key]) for key in others]
        path = F.regexp_replace("file", "^file:/+", "/")
        lines = lines.where(~path.isin(paths))
    return lines


def parse_lines(lines: DataFrame, fields: str, doubles: list[str]) -> DataFrame:
    """Adds `record`, the line's JSON object typed by `fields`, and `malformed`, why it is none.

    Spark's JSON parser stops after the first object and says nothing of what follows. So each line
    is parsed as a value inside a map whose keys no line can foresee. If the parser finds just the
    two keys that we wrote, nothing but one object stood on the line. A field of another type than
    declared shows in the corrupt column, `misfit`.
    """
    # {"m-x": {"r-x": LINE, "e-x": null}}, where x is another token in each run
    token = secrets.token_hex(5)
    options = {
        "columnNameOfCorruptRecord": "misfit",
        "mode": "PERMISSIVE",
        "allowNonNumericNumbers": "false",
        "allowSingleQuotes": "false",
        "maxStringLen": str(2**31 - 1),
        "maxNestingDepth": str(2**31 - 1),
        "maxNumLen": str(2**31 - 1),
    }
    start = F.lit(f'{{"m-{token}":{{"r-{token}":')
    end = F.lit(f',"e-{token}":null}}}}')
    schema = f"`m-{token}` MAP<STRING, STRUCT<{fields}>>, misfit STRING"
    wrapped = F.from_json(F.concat(start, "line", end), schema, options)
    wrapper = F.col("json")[f"m-{token}"]
    our_keys = F.array(F.lit(f"r-{token}"), F.lit(f"e-{token}"))
    is_one_object = F.map_keys(wrapper).eqNullSafe(our_keys) & F.col("record").isNotNull()
    is_typed = F.col("json.misfit").isNull()
    for name in doubles:
        is_finite = F.abs(F.col(f"record.{name}")) < float("inf")
        is_typed = is_typed & F.coalesce(is_finite, F.lit(True))
    # Spark 3.5 has no is_valid_utf8, and the comparison raises an error on Spark 4
    is_utf8 = "decode(encode(line, 'UTF-8'), 'UTF-8') = line"
    if hasattr(F, "is_valid_utf8"):
        is_utf8 = "is_valid_utf8(line)"
    malformed = (
        F.when(~F.expr(is_utf8), NOT_UTF8)
        .when(~is_one_object, "not exactly one JSON object")
        .when(~is_typed, "a number field is not a JSON number that fits its type")
    )
    parsed = lines.withColumn("json", wrapped)
    return parsed.withColumn("record", wrapper[f"r-{token}"]).withColumn("malformed", malformed)


# ── Staging: renamed, typed and classed, not yet joined or deduplicated ───────────────────────

NOT_UTF8 = "not UTF-8"
# name in the source -> name in the tables
EVENT_TEXTS = {
    "artist": "artist_name",
    "firstName": "first_name",
    "gender": "gender",
    "lastName": "last_name",
    "level": "level",
    "location": "location",
    "song": "title",
    "userAgent": "user_agent",
}
EVENT_NUMBERS = {
    "length": "length",
    "ts": "ts",
    "sessionId": "session_id",
    "itemInSession": "item_in_session",
}
PLAY_KEY = ("ts", "user_id", "session_id", "item_in_session")
# decides, in this order, which of several plays with one key is kept
PLAY_CONTENT = sorted([*EVENT_TEXTS.values(), "length"])


def text_of(name: str, alias: str) -> Column:
    """A text field of the record, as written; "" and NULL are both NULL."""
    return F.nullif(F.col(f"record.{name}"), F.lit("")).alias(alias)


def classed(
    parsed: DataFrame, invalid: Column, accepted: Column, fields: list[Column]
) -> DataFrame:
    """One row per line: file, line, class, reason and the fields.

    Columns  class: blank, malformed, invalid, or what `accepted` says
             reason: why the line is malformed or invalid, else NULL
    """
    is_malformed = F.col("malformed").isNotNull()
    # asked of malformed lines alone: of all lines it takes 8 of 90 CPU seconds at a million events
    is_blank = F.trim(F.translate("line", "\t\r", "  ")) == ""
    reason = F.when(is_malformed, F.when(~is_blank, F.col("malformed"))).otherwise(invalid)
    # as bytes, because the line need not be UTF-8
    without_cr = F.expr(
        "substring(CAST(line AS BINARY), 1, octet_length(line) - CAST(endswith(line, '\r') AS INT))"
    )
    return parsed.select(
        "file",
        F.when(is_malformed, F.when(is_blank, "blank").otherwise("malformed"))
        .when(invalid.isNotNull(), "invalid")
        .otherwise(accepted)
        .alias("class"),
        reason.alias("reason"),
        without_cr.cast("string").alias("line"),
        *fields,
    )


def stage_events(lines: DataFrame) -> DataFrame:
    """One row per physical line of the logs, with its class; nothing downstream sees camelCase.

    Columns  as `classed` describes; an accepted line is a play or out_of_scope
    Units    ts in epoch milliseconds, length in seconds
    """
    page = F.col("record.page")
    is_play = page == "NextSong"
    user_id = F.expr("try_cast(record.userId AS BIGINT)")
    is_number = (user_id >= 0) & (user_id.cast("string") == F.col("record.userId"))
    is_odd_user = (F.col("record.userId") != "") & ~F.coalesce(is_number, F.lit(False))
    numbers = F.col("record.sessionId").isNotNull() & F.col("record.itemInSession").isNotNull()
    has_key = user_id.isNotNull() & numbers
    # the years 2000 to 2099
    in_range = F.col("record.ts").between(946_684_800_000, 4_102_444_799_999)
    invalid = (
        F.when(F.coalesce(page, F.lit("")) == "", "no page")
        .when(
            ~F.coalesce(in_range, F.lit(False)), "ts is missing or outside the years 2000 to 2099"
        )
        .when(is_odd_user, "userId is not a whole number that fits BIGINT")
        .when(is_play & ~has_key, "a play without userId, sessionId or itemInSession")
    )
    fields = [user_id.alias("user_id")]
    fields += [text_of(name, alias) for name, alias in EVENT_TEXTS.items()]
    fields += [F.col(f"record.{name}").alias(alias) for name, alias in EVENT_NUMBERS.items()]
    return classed(
        parse_lines(lines, EVENT, doubles=["length"]),
        invalid,
        F.when(is_play, "play").otherwise("out_of_scope"),
        fields,
    )


def stage_plays(events: DataFrame, files: int = 1) -> DataFrame:
    """Events that are plays, every copy of them, with their time.

    Columns  part: each month is cut into `files` spans of equal length, and each span becomes a
             file; `part` is the number of the play's span
    """
    start_time = F.timestamp_millis("ts")
    hour_of_month = (F.dayofmonth(start_time) - 1) * 24 + F.hour(start_time)
    return events.where(F.col("class") == "play").select(
        start_time.alias("start_time"),
        F.year(start_time).alias("year"),
        F.month(start_time).alias("month"),
        F.floor(hour_of_month * files / (31 * 24)).alias("part"),
        "file",
        *PLAY_KEY,
        *PLAY_CONTENT,
    )


def stage_songs(lines: DataFrame) -> DataFrame:
    """One row per song record, with its class; an accepted one is a `record`.

    Units    duration in seconds; latitude and longitude in degrees, NULL outside ±90 and ±180;
             year 0 is unknown
    """
    latitude = F.col("record.artist_latitude")
    longitude = F.col("record.artist_longitude")
    texts = [text_of(name, name) for name in ("song_id", "title", "artist_id", "artist_name")]
    is_complete = reduce(Column.__and__, (text.isNotNull() for text in texts))
    is_positive = F.coalesce(F.col("record.duration") > 0, F.lit(False))
    # Spark writes such an artist_id as a folder of another name, or not at all
    artist_id = F.col("record.artist_id")
    is_no_folder = artist_id.rlike(r"[\x00-\x1f]") | (artist_id == "__HIVE_DEFAULT_PARTITION__")
    invalid = (
        F.when(~is_complete, "no song_id, title, artist_id or artist_name")
        .when(~is_positive, "duration not positive")
        .when(is_no_folder, "artist_id cannot name a folder")
    )
    fields = [
        *texts,
        F.col("record.duration"),
        F.coalesce("record.year", F.lit(0)).alias("year"),
        text_of("artist_location", "location"),
        F.when(latitude.between(-90, 90), latitude).alias("latitude"),
        F.when(longitude.between(-180, 180), longitude).alias("longitude"),
    ]
    parsed = parse_lines(lines, SONG, doubles=["duration", "artist_latitude", "artist_longitude"])
    return classed(parsed, invalid, F.lit("record"), fields)


def stage_catalog(records: DataFrame) -> DataFrame:
    """One row per distinct valid song record; several may share a song_id (variants).

    Source   stage_songs
    """
    accepted = records.where(F.col("class") == "record")
    return accepted.drop("class", "file", "line", "reason").distinct()


# ── Dimension tables ──────────────────────────────────────────────────────────────────────────


def first_of_each(rows: DataFrame, key: str, order: list[Column]) -> DataFrame:
    """One row per key: the first in an order that leaves no ties between different rows."""
    rank = F.row_number().over(Window.partitionBy(key).orderBy(*order))
    return rows.withColumn("rank", rank).where(F.col("rank") == 1)


def ascending(*names: str) -> list[Column]:
    return [F.asc_nulls_last(name) for name in names]


def songs_table(catalog: DataFrame) -> DataFrame:
    """Song dimension: one row per song_id.

    Key      song_id, the catalogue's natural key
    Source   stage_catalog
    Dropped  all variants of a song but one: a known year first, then the smallest by the others
    Units    duration in seconds; year 0 is unknown
    """
    known_year_first = F.asc(F.col("year") == 0)
    ours = ascending("year", "title", "artist_id", "duration")
    others = ascending("artist_name", "location", "latitude", "longitude")
    kept = first_of_each(catalog, "song_id", [known_year_first, *ours, *others])
    return kept.select("song_id", "title", "artist_id", "duration", "year")


def artists_table(catalog: DataFrame) -> DataFrame:
    """Artist dimension: one row per artist_id, taken whole from one record, never a mixture.

    Key      artist_id, the catalogue's natural key
    Source   stage_catalog
    Dropped  all records of an artist but one: the most of location, latitude and longitude
             filled, then the smallest
    Units    latitude and longitude in degrees
    """
    home = ("location", "latitude", "longitude")
    filled = sum((F.col(name).isNotNull().cast("int") for name in home), F.lit(0))
    order = [F.desc(filled), *ascending("artist_name", *home)]
    kept = first_of_each(catalog, "artist_id", order)
    return kept.select(
        "artist_id",
        F.col("artist_name").alias("name"),
        "location",
        "latitude",
        "longitude",
    )


def users_table(events: DataFrame) -> DataFrame:
    """User dimension, type 1: one row per user_id, as of that user's latest valid event.

    Key      user_id, the log's natural key
    Source   stage_events; pages that are no plays and copies of plays count too
    Dropped  events without a user_id, and all events of a user but the latest. Events at one
             instant are ordered by session, item and then the columns themselves, NULL lowest,
             so that two runs keep the same one
    """
    is_known = F.col("class").isin("play", "out_of_scope") & F.col("user_id").isNotNull()
    order = ("ts", "session_id", "item_in_session", "level", "first_name", "last_name", "gender")
    latest = F.max(F.struct(*order))
    users = events.where(is_known).groupBy("user_id").agg(latest.alias("latest"))
    return users.select(
        "user_id",
        "latest.first_name",
        "latest.last_name",
        "latest.gender",
        "latest.level",
    )


def time_table(plays: DataFrame) -> DataFrame:
    """Time dimension: one row per distinct start_time of a play.

    Key      start_time, a UTC instant
    Source   stage_plays; if its rows lie together by year, month and part, nothing moves again
    Units    week is ISO 8601; weekday 1 is Sunday, 7 is Saturday; all in UTC
    """
    times = plays.select("start_time", "year", "month", "part").distinct()
    return times.select(
        "start_time",
        F.hour("start_time").alias("hour"),
        F.dayofmonth("start_time").alias("day"),
        F.weekofyear("start_time").alias("week"),
        F.dayofweek("start_time").alias("weekday"),
        "year",
        "month",
    )


# ── The fact table ────────────────────────────────────────────────────────────────────────────


def one_song_per_recording(catalog: DataFrame) -> DataFrame:
    """One row per recording (title, artist_name, duration): the smallest (song_id, artist_id).

    Columns  candidates: how many song_ids there were to choose from
    """
    smallest = F.min(F.struct("song_id", "artist_id")).alias("track")
    candidates = F.count_distinct("song_id").alias("candidates")
    named = catalog.groupBy("title", "artist_name", "duration").agg(smallest, candidates)
    return named.select(
        "title",
        "artist_name",
        "duration",
        "track.song_id",
        "track.artist_id",
        "candidates",
    )


def match_plays(plays: DataFrame, catalog: DataFrame) -> DataFrame:
    """Every play, once, with song_id and artist_id of its recording, or NULL if there is none."""
    lookup = one_song_per_recording(catalog)
    same_recording = (
        (F.col("play.title") == F.col("track.title"))
        & (F.col("play.artist_name") == F.col("track.artist_name"))
        & (F.col("play.length") == F.col("track.duration"))
    )
    # many plays to at most one track
    matched = plays.alias("play").join(lookup.alias("track"), on=same_recording, how="left")
    return matched.select("play.*", "track.song_id", "track.artist_id", "track.candidates")


def settle_copies(plays: DataFrame) -> DataFrame:
    """Adds `outcome` to each copy of a play: songplays for the one kept, key_conflict or duplicate.

    Of the copies with one natural key the smallest content is kept. Each further content is a
    key_conflict, once; the rest are replayed lines. The window names year, month and part as well,
    although ts decides them, because then Spark needs no second shuffle.
    """
    same_key = Window.partitionBy(*PLAY_KEY, "year", "month", "part")
    by_content = same_key.orderBy(*ascending(*PLAY_CONTENT))
    position = F.row_number().over(by_content)
    is_new_content = position == F.rank().over(by_content)
    outcome = (
        F.when(position == 1, "songplays")
        .when(is_new_content, "key_conflict")
        .otherwise("duplicate")
    )
    return plays.withColumn("outcome", outcome)


def songplays_table(settled: DataFrame) -> DataFrame:
    """Fact, factless: one row per NextSong event, matched to at most one song.

    Key      songplay_id, md5 hex of `userId|sessionId|itemInSession|ts`
    Source   match_plays, settle_copies
    Dropped  replayed copies, and further contents of one natural key
    Units    start_time is a UTC instant; level, location and user_agent are as of the play
    """
    natural_key = F.concat_ws("|", "user_id", "session_id", "item_in_session", "ts")
    return settled.where(F.col("outcome") == "songplays").select(
        F.md5(natural_key).alias("songplay_id"),
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


# ── Audit: what was staged, read back ─────────────────────────────────────────────────────────


def key_rows(rows: DataFrame, table: str, is_row: int) -> DataFrame:
    """The key of a table in each of these rows, which are its own (is_row 1) or refer to it (0).

    Columns  low, high: 128 bits of hash, which group faster than text; two keys of 10 million are
             taken for one with a chance of 2^-81
    """
    key = F.col(next(iter(columns(table))))
    return rows.select(
        F.lit(table).alias("table"),
        F.when(key.isNotNull(), F.xxhash64(key)).alias("low"),
        F.when(key.isNotNull(), F.xxhash64(F.lit(table), key)).alias("high"),
        F.lit(is_row).alias("is_row"),
    )


def measure(staged: dict[str, DataFrame]) -> dict[str, Row]:
    """What the audit asks of each table: rows, distinct keys, and the songplays that refer to it.

    Columns  rows, keys; uses: plays with such a key; orphans: those whose key has no row
    """
    parts = []
    for table, rows in staged.items():
        parts.append(key_rows(rows, table, is_row=1))
        if table != "songplays":
            parts.append(key_rows(staged["songplays"], table, is_row=0))
    counts = [F.sum("is_row").alias("rows"), F.count("*").alias("all")]
    keys = reduce(DataFrame.unionAll, parts).groupBy("table", "low", "high").agg(*counts)
    uses = F.when(F.col("low").isNotNull(), F.col("all") - F.col("rows"))
    measured = keys.groupBy("table").agg(
        F.sum("rows").alias("rows"),
        F.count_if(F.col("low").isNotNull() & (F.col("rows") > 0)).alias("keys"),
        F.sum(uses).alias("uses"),
        F.sum(F.when(F.col("rows") == 0, uses)).alias("orphans"),
    )
    return {row["table"]: row for row in measured.na.fill(0).collect()}


def audit(run: Run) -> dict[str, int]:
    """Checks the staged tables against each other and the account; returns how many rows each has.

    Raises   Stop naming the check and its numbers: an account that does not balance, a row count
             that is not the account's, a key that is NULL or there twice, a reference to a
             dimension row that is not there. `stage_table` has checked the columns
    """

    def check(what: str, found: int, expected: int) -> None:
        if found != expected:
            raise Stop(FAILED, f"audit: {what}: {found:,} and {expected:,} should be equal")

    reader = run.spark.read.option("__globPaths__", False)
    staged = {}
    for table, promised in COLUMNS.items():
        staged[table] = reader.schema(promised).parquet(f"{run.scratch.uri}/{run.staging}/{table}")
    measured = measure(staged)
    for table, found in measured.items():
        check(f"{table}: rows and distinct keys", found["rows"], found["keys"])
        check(f"{table}: songplays that refer to no row of it", found["orphans"], 0)
    run.events["matched"] = measured["songs"]["uses"]
    lines = sum(run.events[name] for name in EVENT_CLASSES)
    check("lines and the sum of their classes", run.events["lines"], lines)
    records = sum(run.songs[name] for name in SONG_CLASSES)
    check("records and the sum of their classes", run.songs["records"], records)
    rows = {table: measured[table]["rows"] for table in COLUMNS}
    check("rows of songplays and the account's", rows["songplays"], run.events["songplays"])
    check("rows of songs and the account's", rows["songs"], run.songs["songs"])
    return rows


# ── The two processes: read, account, derive, stage ───────────────────────────────────────────


def check_account(run: Run, side: str, staged: DataFrame, account: Counter, accepted: str) -> None:
    """Writes a side's rejected lines to quarantine, and decides whether the run may go on.

    Raises   Stop if their share is too large, or if nothing of the side is accepted
    """
    rejected = account["malformed"] + account["invalid"]
    lines = account.total() - account["blank"]
    if rejected:
        keep_rejected(run, side, staged.where(F.col("reason").isNotNull()))
    what = f"{run.source.uri}/{side}: {rejected:,} of {lines:,} lines are malformed or invalid"
    kept = f"see {run.lake.uri}/_etl/quarantine/{run.id}; the published tables are untouched"
    share = run.settings.max_rejected
    if rejected > share * lines:
        raise Stop(REFUSED, f"{what}, more than MAX_REJECTED = {float(share):g} allows; {kept}")
    if not account[accepted]:
        raise Stop(REFUSED, f"{what}, and no other line is a {accepted}; {kept}")


def process_song_data(run: Run) -> DataFrame:
    """Song records in; songs and artists staged; returns the catalog, for matching plays."""
    packed = read_packed_songs(run.spark, f"{run.lake.uri}/{run.staging}/packed")
    records = stage_songs(packed).cache()
    account = Counter(dict(records.groupBy("class").count().collect()))
    check_account(run, "song_data", records, account, "record")

    # read four times: to be counted, for songs, for artists, and to match plays
    catalog = stage_catalog(records).cache()
    counts = [F.count("*").alias("records"), F.count_distinct("song_id").alias("songs")]
    distinct = catalog.agg(*counts).first()
    run.songs.update(
        malformed=account["malformed"],
        invalid=account["invalid"],
        duplicate=account["record"] - distinct["records"],
        variant=distinct["records"] - distinct["songs"],
        songs=distinct["songs"],
    )
    # without a number, Spark takes one task for so few bytes, even into thousands of folders
    tasks = run.spark.sparkContext.defaultParallelism
    folders = run.partitions("songs")
    stage_table(run, "songs", songs_table(catalog).repartition(tasks, *folders))
    stage_table(run, "artists", artists_table(catalog))
    return catalog


def process_log_data(run: Run) -> DataFrame:
    """Log lines in; users and time staged; returns the plays, all copies of them."""
    lines = read_logs(run.spark, run.source, run.pinned["log_data"])
    # parsed once for all that follows; the text of accepted lines is nine tenths of the logs
    rejected_line = F.when(F.col("reason").isNotNull(), F.col("line"))
    events = stage_events(lines).withColumn("line", rejected_line).cache()
    is_play = F.col("class") == "play"
    month = F.date_trunc("month", F.timestamp_millis(F.when(is_play, F.col("ts"))))
    account = Counter()
    most_plays = 0
    for row in events.groupBy("class", month.alias("month")).count().collect():
        account[row["class"]] += row["count"]
        if row["class"] == "play":
            most_plays = max(most_plays, row["count"])
    for name in ("blank", "malformed", "invalid", "out_of_scope"):
        run.events[name] = account[name]
    run.events["lines"] = account.total()
    check_account(run, "log_data", events, account, "play")

    plays = stage_plays(events, files=most_plays // PLAYS_PER_FILE + 1)
    tables = {
        "users": users_table(events),
        "time": time_table(plays.repartition("year", "month", "part")),
    }
    in_parallel(lambda name: stage_table(run, name, tables[name]), tables)
    return plays


def process_plays(run: Run, plays: DataFrame, catalog: DataFrame) -> None:
    """The plays and the catalog in; songplays staged, and what became of each copy accounted."""
    # one shuffle both to settle copies and to write files
    matched = match_plays(plays, catalog).repartition("year", "month", "part")
    seen = Observation()
    is_kept = F.col("outcome") == "songplays"
    is_conflict = F.col("outcome") == "key_conflict"
    settled = settle_copies(matched).observe(
        seen,
        F.count_if(is_kept).alias("songplays"),
        F.count_if(F.col("outcome") == "duplicate").alias("duplicate"),
        F.count_if(is_conflict).alias("key_conflict"),
        F.count_if(is_kept & (F.col("candidates") > 1)).alias("ambiguous"),
        F.min(F.when(is_conflict, F.col("ts"))).alias("first_conflict"),
        F.max(F.when(is_conflict, F.col("ts"))).alias("last_conflict"),
    )
    stage_table(run, "songplays", songplays_table(settled))
    for name in ("songplays", "duplicate", "key_conflict", "ambiguous"):
        run.events[name] = seen.get[name]
    if run.events["key_conflict"]:
        # few plays lie between the first and the last conflict, so they are settled once more
        span = F.col("ts").between(seen.get["first_conflict"], seen.get["last_conflict"])
        conflicts = settle_copies(plays.where(span)).where(is_conflict)
        keep_rejected(run, "key_conflict", as_lines(conflicts))


# ── The run: begin, build, commit, publish ────────────────────────────────────────────────────


def run_job(run: Run) -> None:
    """The whole run, in the order that lets several runs overlap and any of them die.

    Raises   Stop; if it returns, the run is done
    """
    base = begin(run)
    if is_current(run, base) and not run.settings.force:
        say(f"Nothing to do: commit {base['commit']} has this input, settings and code.")
        say(f"The tables are in {shown(run.lake.uri)}; --force builds them again.")
    elif run.settings.dry_run:
        say(f"Dry run: all is well; a run would write {', '.join(COLUMNS)}")
        say(f"to {shown(run.lake.uri)} as commit {run.number}.")
    else:
        try:
            build(run)
            commit(run)
        except Exception as error:
            raise explained_by_another_run(run, error) from None
        with run.phase("publish", "Publishing", run.lake.uri):
            publish(run.lake, run.number)
        run.published = ALL


def begin(run: Run) -> dict:
    """Checks OUTPUT, mends what earlier runs left, and pins the input; returns the newest commit.

    The commit is read before the input is listed: a run that commits on top of it has therefore
    seen newer input.
    """
    with run.phase("begin", "Checking OUTPUT", run.lake.uri):
        # a file of another program stops the run before it changes anything
        check_folders(run.lake)
        present = list_tables(run.lake)
        prove_create_if_absent(run)
        if not run.settings.dry_run:
            recover(run.lake)
        base = newest_commit(run.lake)
        run.number = next_number(run.lake, present)
    list_input(run)
    check_names(run)
    return base


def build(run: Run) -> None:
    """From the pinned input to staged and audited tables."""
    with run.phase("songs", "Reading songs and starting Spark", run.lake.uri):
        # Java starts while the songs arrive: saves 1.4 s for 15,000 local songs, 5 s on S3
        start = (lambda: start_spark(run), lambda: pack_songs(run))
        run.spark, run.songs["records"] = in_parallel(lambda step: step(), start)
        run.scratch = open_scratch(run)
    with run.phase("tables", "Building the tables", "Spark"):
        processes = (process_song_data, process_log_data)
        catalog, plays = in_parallel(lambda process: process(run), processes)
        process_plays(run, plays, catalog)
    with run.phase("audit", "Auditing the tables", "Spark"):
        # listed first: a file that is lost later stops the audit or the commit
        files = staged_files(run)
        rows = audit(run)
        for table in COLUMNS:
            run.tables[table] = {"rows": rows[table], "files": files[table]}


# ══ MACHINERY ═════════════════════════════════════════════════════════════════════════════════
# You have read the whole job. Below is how bytes are stored, how a run is published, where settings
# come from, what an error says, and how Spark starts.


# ── Storage: one set of calls for local folders and S3 ────────────────────────────────────────


class Place(NamedTuple):
    """A folder or an S3 prefix: what Spark calls it, and how obstore reaches it."""

    # file:///folder or s3a://bucket/prefix
    uri: str
    # an obstore store whose root is this place
    store: LocalStore | S3Store
    # the Bucket of boto3, on S3
    bucket: object = None

    @property
    def path(self) -> str:
        """The URI from its folder or prefix on: /folder, /prefix, or nothing for a whole bucket."""
        return self.uri.partition("://")[2].removeprefix(self.bucket.name if self.bucket else "")

    def list(self, prefix: str) -> dict[str, int]:
        """Key and size of everything below a prefix."""
        sizes = {}
        if self.bucket:
            for chunk in obstore.list(self.store, prefix):
                for item in chunk:
                    sizes[item["path"]] = item["size"]
            return sizes
        # obstore omits `NAME#0`, which an interrupted copy leaves and Spark would read
        for folder, _, names in os.walk(f"{self.path}/{prefix}"):
            for name in names:
                path = os.path.join(folder, name)
                # another run may have removed it meanwhile
                with suppress(FileNotFoundError):
                    sizes[os.path.relpath(path, self.path)] = os.stat(path).st_size
        return sizes

    def read(self, key: str) -> bytes:
        return bytes(obstore.get(self.store, key).bytes())

    def write(self, key: str, data: bytes) -> None:
        obstore.put(self.store, key, data, use_multipart=False)

    def upload(self, key: str, file: Path) -> None:
        # each of the parts sent at once takes 5 MB of memory
        obstore.put(self.store, key, file, max_concurrency=2)

    def create(self, key: str, data: bytes) -> bool:
        """Creates an object if there is none of that name; says whether it did."""
        try:
            obstore.put(self.store, key, data, mode="create", use_multipart=False)
            return True
        except AlreadyExistsError:
            return False

    def copy(self, source: str, target: str) -> None:
        """Gives a file its final name, which is never reused: a file already there is the same."""
        try:
            # S3 has no copy-if-absent
            obstore.copy(self.store, source, target, overwrite=bool(self.bucket))
        except AlreadyExistsError:
            pass
        except BaseError:
            if self.bucket:
                raise
            # a local copy is a hard link, which Linux forbids on files of other users
            self.create(target, self.read(source))

    def delete(self, key: str) -> None:
        with suppress(FileNotFoundError):
            obstore.delete(self.store, key)

    def delete_tree(self, prefix: str) -> None:
        if not self.bucket:
            shutil.rmtree(f"{self.path}/{prefix}", ignore_errors=True)
            return
        # by boto3, because obstore cannot name the "folder/" markers that Hadoop leaves
        below = self.bucket.objects.filter(Prefix=f"{self.path}/{prefix}/".lstrip("/"))
        for answer in below.delete():
            for error in answer.get("Errors", []):
                raise OSError(f"{error['Key']}: not deleted, {error['Code']}")


# ── Fetching: the listing of the input, and songs by the thousand ─────────────────────────────

PACK_BYTES = 8 * 2**20
GETS_IN_FLIGHT = 128


class Pinned(NamedTuple):
    """An input object as it was when the run listed it."""

    key: str
    size: int
    # its etag, else when it was last changed
    version: str


def is_input(key: str) -> bool:
    """Whether a key below song_data/ or log_data/ is read: it ends in .json and is not hidden."""
    _, *parts = key.split("/")
    return key.endswith(".json") and not any(part.startswith(("_", ".")) for part in parts)


def is_marker(source: Place, key: str, size: int) -> bool:
    """Whether a key is an S3 folder marker `x.json/`, which obstore lists as an empty `x.json`."""
    if size or not source.bucket:
        return False
    try:
        return obstore.head(source.store, key)["size"] > 0
    except FileNotFoundError:
        return True


def pin(source: Place, side: str) -> tuple[list[Pinned], int]:
    """The input objects of one side, in order, and how many other objects were ignored.

    Raises   Stop if a key cannot be addressed
    """
    pinned = set()
    total = 0
    try:
        for chunk in obstore.list(source.store, side, chunk_size=1000):
            total += len(chunk)
            for item in chunk:
                key = item["path"]
                if is_input(key) and not is_marker(source, key, item["size"]):
                    version = item["e_tag"] or str(item["last_modified"])
                    pinned.add(Pinned(key, item["size"], version))
    except InvalidPathError as error:
        named = re.search(r'Path "(.*?)":', str(error), re.DOTALL)
        key = repr(named[1]) if named else "its name is not UTF-8"
        raise Stop(SETTINGS, f"{source.uri}: a key cannot be addressed: {key}; rename it") from None
    if not source.bucket:
        # obstore does not list what is no file, such as a link that leads nowhere
        folders = os.walk(f"{source.path}/{side}", followlinks=True)
        total = sum(len(names) for _, _, names in folders)
    return sorted(pinned), total - len(pinned)


def list_input(run: Run) -> None:
    """Pins both sides of the input.  Raises Stop if one of them holds nothing to read."""
    with run.phase("list", "Listing INPUT", run.source.uri):
        for side in ("song_data", "log_data"):
            pinned, ignored = pin(run.source, side)
            run.pinned[side] = pinned
            say(f"  {side}: {len(pinned):,} files to read, {ignored:,} others ignored")
            if not pinned:
                wrong = f"{run.source.uri}/{side}: no file ends in .json"
                remedy = "INPUT is the folder that holds song_data and log_data"
                raise Stop(SETTINGS, f"{wrong}; {remedy}")


def input_changed(source: Place, key: str) -> Stop:
    return Stop(FAILED, f"{source.uri}: input changed while it was read: {key}; run again")


def fetch(source: Place, item: Pinned) -> bytes:
    """One object, as it was pinned and to its end."""
    try:
        answer = obstore.get(source.store, item.key, options={"if_match": item.version})
        data = bytes(answer.bytes())
        if len(data) != item.size:
            raise OSError(f"{len(data)} of {item.size} bytes")
        return data
    except (FileNotFoundError, PreconditionError):
        raise input_changed(source, item.key) from None
    except (BaseError, OSError) as error:
        wrong = f"cannot be read to its end: {one_line(error)}"
        raise Stop(FAILED, f"{source.uri}/{item.key}: {wrong}; run again") from None


def packs(pinned: list[Pinned]) -> Iterator[list[Pinned]]:
    """Splits the listing into groups of about PACK_BYTES, which bound the memory of a run."""
    pack = []
    size = 0
    for item in pinned:
        pack.append(item)
        size += item.size
        if size >= PACK_BYTES:
            yield pack
            pack = []
            size = 0
    if pack:
        yield pack


def pack_songs(run: Run) -> int:
    """Copies song objects into a few text files of `key <TAB> line`; returns how many records.

    Spark would need two requests and the overhead of a task for each 300-byte object.
    """
    pinned = run.pinned["song_data"]
    records = 0
    done = 0
    with ThreadPoolExecutor(GETS_IN_FLIGHT) as pool:
        for number, group in enumerate(packs(pinned)):
            pack = bytearray()
            objects = pool.map(lambda item: fetch(run.source, item), group)
            for item, data in zip(group, objects):
                key = quote(item.key).encode()
                for line in data.removeprefix(codecs.BOM_UTF8).split(b"\n"):
                    if line.strip(b" \t\r"):
                        pack += b"%s\t%s\n" % (key, line)
                        records += 1
                done += 1
                show_progress("song", done, len(pinned))
            run.lake.write(f"{run.staging}/packed/{number:05d}.txt", bytes(pack))
    return records


# ── Writing: staged tables and rejected lines ─────────────────────────────────────────────────

PLAYS_PER_FILE = 250_000


def write(run: Run, rows: DataFrame, kind: str, folder: str, partitions: list[str]) -> None:
    """Lets Spark write a folder of the lake, directly or by way of a local scratch folder.

    Hadoop's committer sends a dozen requests per file to S3, one after another. So on one machine
    Spark writes to local files, and each of them is uploaded with one request.
    """
    rows.write.partitionBy(*partitions).format(kind).save(f"{run.scratch.uri}/{folder}")
    if run.scratch is not run.lake:
        files = [
            key for key in run.scratch.list(folder) if not Path(key).name.startswith(("_", "."))
        ]
        in_parallel(lambda key: run.lake.upload(key, Path(run.scratch.path, key)), files)


def stage_table(run: Run, name: str, table: DataFrame) -> None:
    """Writes a table below the staging folder.  Raises Stop if its columns are not COLUMNS'."""
    found = {column: kind.upper() for column, kind in table.dtypes}
    if list(found.items()) != list(columns(name).items()):
        raise Stop(FAILED, f"{name} has the columns {found}, not {columns(name)}")
    write(run, table, "parquet", f"{run.staging}/{name}", run.partitions(name))
    say(f"  {name} written")


def keep_rejected(run: Run, kind: str, rejected: DataFrame) -> None:
    """Writes rejected lines as JSON lines: file, reason, and raw, or raw_base64 if not UTF-8."""
    is_text = F.col("reason") != NOT_UTF8
    # url_decode would take "+" for a blank
    uri = F.url_decode(F.replace(F.col("file"), F.lit("+"), F.lit("%2B")))
    # songs have a key there, logs a URI that begins with s3a://, or with file:/ or file:///
    key = F.regexp_replace(
        uri, f"^([a-z0-9]+:)?/*{re.escape(run.source.uri.partition('//')[2].lstrip('/'))}/", ""
    )
    base64 = F.translate(F.base64(F.col("line").cast("binary")), "\r\n", "")
    kept = rejected.select(
        key.alias("file"),
        "reason",
        F.when(is_text, F.col("line")).alias("raw"),
        F.when(~is_text, base64).alias("raw_base64"),
    )
    write(run, kept, "json", f"_etl/quarantine/{run.id}/{kind}", [])


def as_lines(conflicts: DataFrame) -> DataFrame:
    """Conflicting plays as rejected lines: file, reason, and the used fields as a JSON object."""
    names = {**EVENT_TEXTS, **EVENT_NUMBERS}
    fields = [F.col(alias).alias(name) for name, alias in names.items()]
    user_id = F.col("user_id").cast("string").alias("userId")
    event = F.struct(F.lit("NextSong").alias("page"), user_id, *fields)
    reason = F.lit("another play with the same userId, sessionId, itemInSession and ts is kept")
    return conflicts.select("file", reason.alias("reason"), F.to_json(event).alias("line"))


# ── The state of a run ────────────────────────────────────────────────────────────────────────

NOTHING = "nothing is published"
ALL = "all is published"


@dataclass
class Run:
    """One run: where it reads and writes, and what it has found out so far."""

    settings: Settings
    source: Place
    lake: Place
    # the session of boto3, whose identity all clients share; None if no path is on S3
    session: object = None
    # UTC start time, then 8 hex digits
    id: str = field(default_factory=lambda: run_id(datetime.now(UTC)))
    # where Spark writes: the lake, or a local folder whose files are then uploaded
    scratch: Place | None = None
    spark: SparkSession | None = None
    # whether the run started Spark, and therefore stops it
    owns_spark: bool = False
    # of the commit that this run is to make
    number: int = 0
    # what is true of that commit, in the words of an error message: NOTHING, ALL or a sentence
    published: str = NOTHING
    # the place that the run talks to now; an error names it
    place: str = ""
    pinned: dict[str, list[Pinned]] = field(default_factory=dict)
    # the account of the logs, and that of the catalogue
    events: dict[str, int] = field(default_factory=dict)
    songs: dict[str, int] = field(default_factory=dict)
    tables: dict[str, dict] = field(default_factory=dict)
    seconds: dict[str, float] = field(default_factory=dict)

    @property
    def staging(self) -> str:
        return f"_etl/staging/{self.number:09d}-{self.id}"

    @property
    def input_bytes(self) -> int:
        return sum(item.size for side in self.pinned.values() for item in side)

    def partitions(self, table: str) -> list[str]:
        if table == "songs":
            return self.settings.songs_partition_by.split(",")
        return PARTITIONS.get(table, [])

    @contextmanager
    def phase(self, name: str, words: str, place: str) -> Iterator[None]:
        say(f"{words} …")
        self.place = place
        start = time.monotonic()
        yield
        self.seconds[name] = round(time.monotonic() - start, 2)


def run_id(start: datetime) -> str:
    return f"{start:%Y%m%dT%H%M%SZ}-{secrets.token_hex(4)}"


def in_parallel(action: Callable, items: Iterable) -> list:
    """What an action returns for each item, in order; raises what the first failed one raised.

    Threads, because requests wait for the network and Spark jobs for cores.
    """
    with ThreadPoolExecutor(64) as pool:
        return list(pool.map(action, items))


# ── Publishing: stage, commit, roll forward ───────────────────────────────────────────────────
#
#   OUTPUT/_etl/probes/RUN             a run creates it twice, to see that the second is refused
#   OUTPUT/_etl/staging/NUMBER-RUN/    1. Spark writes the tables here, and they are audited
#   OUTPUT/_etl/inputs/NUMBER.json.gz  2. the listing of the input
#   OUTPUT/_etl/commits/NUMBER.json    3. names all files of all tables; the first run to create
#                                         it has won
#   OUTPUT/TABLE/…/cNUMBER-….parquet   4. staged files are copied here, then older ones deleted
#   OUTPUT/_etl/done/NUMBER            5. says that the tables are just what the commit names
#
# A run that finds a commit without `done` repeats step 4 first. Names are never reused, so a
# reader that listed a deleted file gets an error, never other rows.

OURS = re.compile(r"[^/]+/(?:[^/]+/)*c(\d{9})-[0-9a-f]{8}-\d{5,}\.parquet")


def prove_create_if_absent(run: Run) -> None:
    """Raises Stop unless the store refuses to create what exists: commits rest on that."""
    probe = f"_etl/probes/{run.id}"
    run.lake.create(probe, b"")
    overwrites = run.lake.create(probe, b"")
    run.lake.delete(probe)
    if overwrites:
        wrong = "the store overwrites what it should only create; choose another store"
        raise Stop(SETTINGS, f"{run.lake.uri}: {wrong}")


def numbers(lake: Place, folder: str) -> set[int]:
    """The numbers in the names of `_etl/commits` or `_etl/done`."""
    names = (key.rpartition("/")[2] for key in lake.list(f"_etl/{folder}"))
    return {int(name[:9]) for name in names if re.fullmatch(r"\d{9}(\.json)?", name)}


def newest(lake: Place, folder: str) -> int:
    """The newest number in `_etl/commits` or `_etl/done`; 0 if there is none."""
    return max(numbers(lake, folder), default=0)


def next_number(lake: Place, present: Iterable[str]) -> int:
    """One more than any number in use; names of files count too, in case `_etl/` was lost."""
    used = [int(OURS.fullmatch(key)[1]) for key in present]
    return max([0, *used, newest(lake, "commits"), newest(lake, "done")]) + 1


def commit_key(number: int) -> str:
    return f"_etl/commits/{number:09d}.json"


def read_commit(lake: Place, number: int) -> dict:
    """A commit; one that is missing, damaged or another's copy has no tables and is replaced."""
    with suppress(FileNotFoundError, ValueError, TypeError, LookupError, AttributeError):
        commit = json.loads(lake.read(commit_key(number)))
        live_files(commit)
        if commit["commit"] == number:
            return commit
    return {"commit": 0, "run": "", "tables": {table: {"files": {}} for table in COLUMNS}}


def newest_commit(lake: Place) -> dict:
    number = newest(lake, "commits")
    commit = read_commit(lake, number)
    if commit["commit"] != number:
        damaged = f"{lake.uri}/{commit_key(number)}"
        warn(f"{damaged}: damaged and ignored; the next commit replaces it")
    return commit


def live_files(commit: dict) -> dict[str, dict]:
    """What a commit says the tables hold: key -> {"staged": key, "bytes": size}."""
    files = {}
    for table in COLUMNS:
        for name, file in commit["tables"][table]["files"].items():
            files[f"{table}/{name}"] = {"staged": file["staged"], "bytes": file["bytes"]}
    return files


def check_folders(lake: Place) -> None:
    """Raises Stop if a file stands where the job keeps a folder; on S3 there are no folders."""
    control = ("probes", "staging", "inputs", "commits", "done", "runs", "quarantine")
    folders = ["_etl", *COLUMNS]
    folders += [f"_etl/{name}" for name in control]
    for folder in folders:
        if not lake.bucket and os.path.isfile(f"{lake.path}/{folder}"):
            wrong = f"{lake.uri}/{folder}: a file stands where a folder should be"
            raise Stop(SETTINGS, f"{wrong}; move it")


def list_tables(lake: Place) -> dict[str, int]:
    """Key and size of the job's own files in the table folders.

    Raises   Stop if there is a file that a reader would take for rows
    """
    ours = {}
    for listed in in_parallel(lake.list, COLUMNS):
        for key, size in listed.items():
            name = key.rpartition("/")[2]
            if OURS.fullmatch(key):
                ours[key] = size
            elif name.endswith(".parquet") or (size and not name.startswith(("_", "."))):
                remedy = "not written by this job; move it, or choose another OUTPUT"
                raise Stop(SETTINGS, f"{lake.uri}/{key}: {remedy}")
    return ours


def superseded(present: dict[str, int], number: int, live: dict[str, dict]) -> list[str]:
    """Files of this or an earlier commit that this commit does not list.

    Files of a later commit are not for this one to judge.
    """
    return [key for key in present if int(OURS.fullmatch(key)[1]) <= number and key not in live]


def lacking(present: dict[str, int], live: dict[str, dict]) -> list[str]:
    """Files of a commit that are not there, or not whole."""
    return [key for key, file in live.items() if present.get(key) != file["bytes"]]


def is_staged(lake: Place, commit: dict, folder: str) -> bool:
    """Whether all files of a commit still lie in a staging folder, whole."""
    staged = {file["staged"]: file["bytes"] for file in live_files(commit).values()}
    return staged.items() <= lake.list(folder).items()


def commit(run: Run) -> None:
    """Creates the commit that makes this run's staged tables the live ones.

    Raises   Stop if the input changed, or if another run made this commit first
    """
    with run.phase("commit", "Looking at INPUT again", run.source.uri):
        for side, pinned in run.pinned.items():
            # objects that are new wait for the next run
            missing = set(pinned).difference(pin(run.source, side)[0])
            if missing:
                raise input_changed(run.source, min(missing).key)
    run.place = run.lake.uri
    record = {
        "commit": run.number,
        "run": run.id,
        **fingerprint(run),
        "events": run.events,
        "songs": run.songs,
        "tables": run.tables,
    }
    problem = "its staging is gone"
    if is_staged(run.lake, record, run.staging):
        inputs = f"_etl/inputs/{run.number:09d}.json.gz"
        is_first = False
        with suppress(BaseError):
            is_first = run.lake.create(inputs, gzip.compress(listing(run)))
        # from here on the commit may exist, so staging stays until we know
        run.published = f"commit {run.number} may be made, publication unfinished; run again"
        try:
            run.lake.create(commit_key(run.number), json.dumps(record, indent=1).encode())
        except BaseError as lost:
            # it may have been made all the same: reading it back tells
            problem = f"no answer to the commit ({one_line(lost)})"
    made_by = read_commit(run.lake, run.number)["run"]
    if made_by == run.id:
        run.published = f"commit {run.number} is made, publication unfinished; run again"
        if not is_first:
            # a run that lost was here before, or the answer was lost
            run.lake.write(inputs, gzip.compress(listing(run)))
        return
    run.published = NOTHING
    if made_by:
        raise overtaken(run)
    raise Stop(FAILED, f"{run.lake.uri}: {problem}; run again")


def overtaken(run: Run) -> Stop:
    words = f"another run made commit {run.number} first, {NOTHING}; run again"
    return Stop(OVERTAKEN, f"{run.lake.uri}: {words}")


def explained_by_another_run(run: Run, error: Exception) -> Exception:
    """What a failed run has to say: its error, unless another run's commit explains it.

    A run that commits first removes what the others have staged, which may look like any failure.
    Refused data stay refused, whoever commits first.
    """
    may_be = run.published == NOTHING and getattr(error, "code", FAILED) != REFUSED
    with suppress(Exception):
        if may_be and newest(run.lake, "commits") >= run.number:
            return overtaken(run)
    return error


def publish(lake: Place, number: int) -> None:
    """Makes the table folders hold just what a commit lists.

    Any run may repeat it from wherever another one stopped.

    Raises   Stop if the files are not as listed afterwards
    """
    commit = read_commit(lake, number)
    live = live_files(commit)
    try:
        if commit["commit"] != number:
            raise FileNotFoundError(f"{commit_key(number)} is lost or damaged")
        missing = live.keys() - list_tables(lake).keys()
        in_parallel(lambda key: lake.copy(live[key]["staged"], key), missing)
        present = list_tables(lake)
        # older files stay until the new ones are whole
        wrong = lacking(present, live)
        older = superseded(present, number, live)
        if older and not wrong:
            in_parallel(lake.delete, older)
            wrong = superseded(list_tables(lake), number, live)
        if wrong:
            raise FileNotFoundError(f"{wrong[0]} is not as the commit lists it")
        lake.create(f"_etl/done/{number:09d}", b"")
    except Exception as error:
        with suppress(BaseError):
            if number <= newest(lake, "done") or number < newest(lake, "commits"):
                # that is success: another run finished this commit, or published a newer one
                return
        unfinished = f"commit {number} is made, publication unfinished; run again"
        raise Stop(FAILED, f"{lake.uri}: {unfinished} ({one_line(error)})") from None


def clean(lake: Place) -> None:
    """Removes what no reader or publisher needs any more.

    Staging goes first: a publisher that was paused could else copy old files back.
    """
    yesterday = run_id(datetime.now(UTC) - timedelta(days=1))
    probes = [key for key in lake.list("_etl/probes") if key.rpartition("/")[2] < yesterday]
    in_parallel(lake.delete, probes)
    published = numbers(lake, "done") & numbers(lake, "commits")
    if not published:
        return
    number = max(published)
    commit = read_commit(lake, number)
    if commit["commit"] != number:
        return
    for folder in sorted({key.split("/")[2] for key in lake.list("_etl/staging")}):
        if re.match(r"\d{9}-", folder) and int(folder[:9]) <= number:
            lake.delete_tree(f"_etl/staging/{folder}")
    present = list_tables(lake)
    live = live_files(commit)
    # if live files are missing or cut, older ones stay: some rows are better than none
    if not lacking(present, live):
        in_parallel(lake.delete, superseded(present, number, live))


def recover(lake: Place) -> None:
    """Finishes the newest commit if an earlier run did not, and removes what runs have left."""
    number = newest(lake, "commits")
    if number > newest(lake, "done"):
        live = live_files(read_commit(lake, number))
        present = list_tables(lake)
        staged = lake.list("_etl/staging")
        there = {key: staged.get(file["staged"]) for key, file in live.items()}
        lost = lacking({**there, **present}, live)
        if live and not lost:
            publish(lake, number)
        elif number > newest(lake, "done"):
            warn(f"{lake.uri}: commit {number} can no longer be published; this run replaces it")
    clean(lake)


def code_version() -> str:
    return hashlib.sha256(Path(__file__).read_bytes()).hexdigest()


def fingerprint(run: Run) -> dict:
    """What decides a run's result: if the newest commit has the same, there is nothing to do."""
    settings = run.settings
    return {
        "settings": {
            "input": settings.input,
            "songs_partition_by": settings.songs_partition_by,
            "max_rejected": float(settings.max_rejected),
        },
        "code": code_version(),
        "input_sha256": hashlib.sha256(listing(run)).hexdigest(),
    }


def listing(run: Run) -> bytes:
    lines = [json.dumps(item) for side in sorted(run.pinned) for item in run.pinned[side]]
    return "\n".join(lines).encode()


def is_current(run: Run, base: dict) -> bool:
    """Whether a commit was made from this input, settings and code, and its files are all there."""
    is_same = all(base.get(name) == value for name, value in fingerprint(run).items())
    live = {key: file["bytes"] for key, file in live_files(base).items()}
    return is_same and live == list_tables(run.lake)


def staged_files(run: Run) -> dict[str, dict[str, dict]]:
    """Table by table, the final name, in the table's folder, of each file that Spark staged."""
    files = {table: {} for table in COLUMNS}
    for key, size in sorted(run.lake.list(run.staging).items()):
        table, _, path = key.removeprefix(f"{run.staging}/").partition("/")
        folder, _, name = path.rpartition("/")
        if name.startswith("part-") and name.endswith(".parquet"):
            final = f"c{run.number:09d}-{run.id[-8:]}-{len(files[table]):05d}.parquet"
            files[table][f"{folder}/{final}".lstrip("/")] = {"staged": key, "bytes": size}
    return files


# ── The account of a run: on the screen and in _etl/runs/ ─────────────────────────────────────


def summary(run: Run, code: int, error: str) -> dict:
    """What `_etl/runs/<run>.json` holds of a run."""
    tables = {}
    for table, made in run.tables.items():
        sizes = [file["bytes"] for file in made["files"].values()]
        tables[table] = {"rows": made["rows"], "files": len(sizes), "bytes": sum(sizes)}
    return {
        "run": run.id,
        "commit": run.number if run.published != NOTHING else None,
        "exit": code,
        "error": error,
        "events": run.events,
        "songs": run.songs,
        "tables": tables,
        "seconds": run.seconds,
        "input": run.settings.input,
        "output": run.settings.output,
        "versions": {
            "etl": code_version()[:12],
            "spark": pyspark.__version__,
            "python": sys.version.split()[0],
        },
    }


def show(report: dict) -> None:
    """The run on one screen of 80 columns."""
    events = report["events"]
    for account, lines, classes in (
        (events, f"{events['lines']:,} log lines", EVENT_CLASSES),
        (report["songs"], f"{report['songs']['records']:,} song records", SONG_CLASSES),
    ):
        say(f"\n{lines}")
        for name, meaning in classes.items():
            if account[name]:
                say(f"{account[name]:>15,}  {name:<13} {meaning}")
    say(f"\n{'table':<10} {'rows':>13} {'files':>9} {'size':>11}")
    for table, made in report["tables"].items():
        say(f"{table:<10} {made['rows']:>13,} {made['files']:>9,} {size_of(made['bytes']):>11}")
    say(f"\n{events['matched']:,} of {events['songplays']:,} plays match a song of the catalogue.")
    if events["ambiguous"]:
        say(f"{events['ambiguous']:,} of them match several songs; the smallest song_id is taken.")
    rejected = [
        side[name] for side in (events, report["songs"]) for name in ("malformed", "invalid")
    ]
    if any(rejected) or events["key_conflict"]:
        say(f"Rejected lines: {shown(report['output'])}/_etl/quarantine/{report['run']}")
    seconds = report["seconds"]
    longest = max(seconds, key=seconds.get)
    total = sum(seconds.values())
    say(f"It took {total:.1f} seconds, {seconds[longest]:.1f} of them for {longest}.")
    say(f"The tables are in {shown(report['output'])} (commit {report['commit']}).")
    say("\nNext: python analytics/report.py         makes a page of charts")
    say("      duckdb -init analytics/views.sql   takes your own queries")


def shown(uri: str) -> str:
    return uri.removeprefix("file://")


def size_of(size: int) -> str:
    """Bytes in the unit that leaves at most four digits."""
    for unit in ("B", "kB", "MB"):
        if size < 10_000:
            return f"{size:,} {unit}"
        size = round(size / 1000)
    return f"{size:,} GB"


# ── Settings: command line, then dl.cfg, then default ─────────────────────────────────────────

KNOWN = {
    "AWS": ("KEY", "SECRET", "TOKEN", "PROFILE", "REGION", "ENDPOINT"),
    "DATA": ("INPUT", "OUTPUT"),
    "JOB": ("SONGS_PARTITION_BY", "MAX_REJECTED"),
}
ON_EMR = Path("/usr/share/aws/emr").is_dir() or "amzn" in pyspark.__version__


class Settings(NamedTuple):
    """What dl.cfg and the command line say; paths as file:///folder or s3a://bucket/prefix."""

    # the keys of KNOWN["AWS"]
    aws: dict[str, str]
    input: str
    output: str
    songs_partition_by: str
    max_rejected: Fraction
    dry_run: bool
    force: bool


def read_config(path: Path) -> dict[str, dict[str, str]]:
    """The known settings of a dl.cfg, by section.

    Raises   Stop. Neither it nor a warning quotes a line of the file, which may hold a secret
    """
    # without a default section, [DEFAULT] is an unknown one
    parser = configparser.ConfigParser(interpolation=None, default_section="")
    try:
        parser.read_string(path.read_text(encoding="utf-8-sig"))
    except OSError as error:
        wrong = f"{error.strerror}; name a settings file with --config"
        raise Stop(SETTINGS, f"{path}: {wrong}") from None
    except UnicodeDecodeError:
        raise Stop(SETTINGS, f"{path}: not UTF-8 text; save it as UTF-8") from None
    except configparser.Error as error:
        line = getattr(error, "lineno", None) or error.errors[0][0]
        wrong = f"line {line} is not the first `KEY = value` of its name below a [SECTION]"
        raise Stop(SETTINGS, f"{path}: {wrong}; correct it") from None
    known = {section: {} for section in KNOWN}
    for section in parser.sections():
        if section not in KNOWN:
            warn(f"{path}: a section other than [{'], ['.join(KNOWN)}] is ignored")
            continue
        for name, value in parser.items(section):
            if name.upper() not in KNOWN[section]:
                names = ", ".join(KNOWN[section])
                warn(f"{path}: [{section}] holds a name that is ignored; its names are {names}")
                continue
            if "\n" in value.strip():
                wrong = f"[{section}] {name.upper()} goes on in the next line, which is indented"
                raise Stop(SETTINGS, f"{path}: {wrong}; correct it")
            if len(value) > 1 and value[0] == value[-1] and value[0] in "'\"":
                warn(f"{path}: [{section}] {name.upper()} stands in quotes, which are left out")
                value = value[1:-1]
            known[section][name.upper()] = value
    return known


def located(text: str, base: Path) -> str:
    """A path as the job writes it everywhere: file:///folder, s3a://bucket/prefix, s3:// on EMR."""
    scheme, has_scheme, rest = text.partition(":")
    if has_scheme and scheme in ("s3", "s3a"):
        bucket, *parts = rest.removeprefix("//").rstrip("/").split("/")
        if "@" in text:
            raise ValueError("holds credentials; put them into dl.cfg, [AWS]")
        if not rest.startswith("//") or not bucket or {"", ".", ".."} & set(parts):
            raise ValueError("is not an S3 prefix; write s3a://bucket/prefix")
        return "/".join([f"{scheme if ON_EMR else 's3a'}://{bucket}", *parts])
    if has_scheme and scheme == "file":
        if re.match("//[^/]|[^/]", rest):
            raise ValueError("names no local folder; write file:///folder")
        text = re.sub("^/*", "/", rest)
    elif re.match("[A-Za-z0-9+.-]+:/", text):
        raise ValueError("is no place that this job reads; name a folder or s3a://bucket/prefix")
    folder = os.path.expanduser(text)
    if folder.startswith("~"):
        raise ValueError("names a user who does not exist; write the whole path")
    path = os.path.abspath(base / folder)
    if path == "/":
        raise ValueError("is the root folder; name one below it")
    return f"file://{path}"


def input_place(text: str, base: Path) -> str:
    uri = located(text, base)
    if uri.startswith("file:") and not os.path.isdir(uri.removeprefix("file://")):
        raise ValueError("names no folder; it is the one that holds song_data and log_data")
    return uri


def song_layout(text: str, base: Path) -> str:
    layout = text.replace(" ", "").lower()
    if layout not in SONG_LAYOUTS:
        raise ValueError(f"is not one of {' and '.join(SONG_LAYOUTS)}")
    return layout


def share(text: str, base: Path) -> Fraction:
    """Exact, because 29 of 100 is not more than 0.29, but 0.29 * 100 is less than 29."""
    with suppress(ValueError, ZeroDivisionError):
        if 0 <= Fraction(text) <= 1:
            return Fraction(text)
    raise ValueError("is not a share from 0 to 1, such as 0.01")


CHECKS = {
    "INPUT": input_place,
    "OUTPUT": located,
    "SONGS_PARTITION_BY": song_layout,
    "MAX_REJECTED": share,
}
DEFAULTS = {"SONGS_PARTITION_BY": "year", "MAX_REJECTED": "0.01"}


def read_arguments(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="etl.py",
        description=(__doc__ or "").partition("Words")[0],
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    flag = parser.add_argument
    flag("--config", metavar="FILE", help="settings (default: ./dl.cfg, or dl.cfg beside etl.py)")
    flag("--input", metavar="PLACE", help="folder or s3a:// prefix with song_data/ and log_data/")
    flag("--output", metavar="PLACE", help="folder or s3a:// prefix for the tables")
    flag("--songs-partition-by", metavar="LAYOUT", help="folders of songs: year, or year,artist_id")
    flag("--max-rejected", metavar="SHARE", help="lines that may be malformed or invalid, 0 to 1")
    flag("--dry-run", action="store_true", help="check everything, write nothing")
    flag("--force", action="store_true", help="build the tables even if nothing changed")
    return parser.parse_args(arguments)


def find_config(flag: str | None) -> Path | None:
    """The settings file: --config, else ./dl.cfg, else dl.cfg beside etl.py, through links too."""
    if flag is not None:
        return Path(flag)
    for folder in (Path(), Path(__file__).parent, Path(__file__).resolve().parent):
        if (folder / "dl.cfg").is_file():
            return folder / "dl.cfg"
    return None


def read_settings(arguments: list[str] | None) -> Settings:
    """The command line, else dl.cfg, else the defaults.

    Raises   Stop naming the flag, or dl.cfg's section and key, and what would be right
    """
    given = read_arguments(arguments)
    try:
        here = Path.cwd()
    except FileNotFoundError:
        raise Stop(SETTINGS, "the current folder was deleted; change to another") from None
    if given.config is not None and not given.config.strip():
        raise Stop(SETTINGS, "--config is empty; name a settings file, or leave it out")
    config = find_config(given.config)
    file = read_config(config) if config else {section: {} for section in KNOWN}
    values = {}
    for section in ("DATA", "JOB"):
        for name in KNOWN[section]:
            text = getattr(given, name.lower())
            where = f"--{name.lower().replace('_', '-')}"
            base = here
            if text is None:
                text = file[section].get(name) or DEFAULTS.get(name, "")
                where = f"{config or 'no dl.cfg'}: [{section}] {name}"
                base = config.parent if config else here
            elif "@" not in text:
                where = f"{where} {text}".rstrip()
            if not text.strip():
                raise Stop(SETTINGS, f"{where} is empty; give it a value")
            try:
                values[name.lower()] = CHECKS[name](text.strip(), base)
            except ValueError as wrong:
                raise Stop(SETTINGS, f"{where} {wrong}") from None
    for side in ("song_data", "log_data"):
        if is_inside(values["output"], f"{values['input']}/{side}"):
            wrong = f"OUTPUT lies in {side} of INPUT; name a folder outside it"
            raise Stop(SETTINGS, wrong)
    aws = {name: file["AWS"].get(name, "") for name in KNOWN["AWS"]}
    check_aws(aws, f"{config}: [AWS]")
    return Settings(aws=aws, dry_run=given.dry_run, force=given.force, **values)


def is_inside(uri: str, folder: str) -> bool:
    """Whether one place is another or lies in it; links are followed, s3 and s3a are the same."""
    paths = []
    for one in (uri, folder):
        scheme, _, path = one.partition("://")
        paths.append(os.path.realpath(path) if scheme == "file" else f"s3:{path}")
    inner, outer = paths
    return f"{inner}/".startswith(f"{outer}/")


def check_aws(aws: dict[str, str], where: str) -> None:
    """Raises Stop if settings of [AWS] do not fit together; it prints none of their values."""
    keys = (aws["KEY"], aws["SECRET"], aws["TOKEN"])
    if any(re.search(r"[^\x21-\x7e]", value) for value in keys):
        raise Stop(SETTINGS, f"{where} has a value with a blank or line end in it; correct it")
    if bool(aws["KEY"]) != bool(aws["SECRET"]):
        raise Stop(SETTINGS, f"{where} has one of KEY and SECRET; give both or neither")
    if aws["KEY"].startswith("ASIA") and not aws["TOKEN"]:
        raise Stop(SETTINGS, f"{where} KEY is a temporary one (ASIA…); add its TOKEN")
    if aws["KEY"] and aws["PROFILE"]:
        raise Stop(SETTINGS, f"{where} has both KEY and PROFILE; keep one of them")
    if not re.fullmatch("[a-z0-9-]*", aws["REGION"]):
        raise Stop(SETTINGS, f"{where} REGION is not a region such as us-west-2")
    if not re.fullmatch(r"(https?://[^/@\s]+/?)?", aws["ENDPOINT"]):
        raise Stop(SETTINGS, f"{where} ENDPOINT is not a URL such as http://127.0.0.1:9000")


# ── What is said: progress, warnings, errors with their remedies ──────────────────────────────


def say(text: str, end: str = "\n", stream=None) -> None:
    """Prints a line without control characters of names from the data; nobody may be listening."""
    stream = stream or sys.stdout
    clean_text = "".join(c if c.isprintable() or c in "\n\r" else "?" for c in text)
    try:
        print(clean_text, end=end, file=stream, flush=True)
    except OSError:
        # the reader is gone (`etl.py | head`): from here on the text goes nowhere
        os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())


def warn(text: str) -> None:
    say(f"etl.py: warning: {text}", stream=sys.stderr)


def is_terminal(stream) -> bool:
    return stream is not None and stream.isatty()


def show_progress(what: str, done: int, total: int) -> None:
    """One line that counts, on a terminal only."""
    if is_terminal(sys.stdout) and (done % 250 == 0 or done == total):
        say(f"\r  {what} {done:,} of {total:,}", end="\n" if done == total else "")


# What an error's text holds, and what to do about it; the first that matches is said.
REMOTE_REMEDIES = {
    "InvalidAccessKeyId|Credential is mal-formed": (
        "AWS does not know this KEY; check it, and TOKEN if it begins with ASIA"
    ),
    "SignatureDoesNotMatch": "the SECRET does not fit the KEY; check it, and this machine's clock",
    "ExpiredToken|InvalidToken|SSOToken|UnauthorizedSSO": "the credentials expired; sign in again",
    "NoSuchBucket|UnknownStore": "there is no such bucket; check its name, and [AWS] ENDPOINT",
    "PermanentRedirect|AuthorizationHeaderMalformed": "another region; correct [AWS] REGION",
    "AccessDenied|403 Forbidden|Status Code: 403": (
        "access is denied; let this identity list and read, and on OUTPUT write and delete"
    ),
    "unresolved dependency|UnresolvedDep": "hadoop-aws cannot be fetched; check the network",
    "error sending request|ConnectException|UnknownHost|(Could not|Failed to) connect|Timeout": (
        "no answer; check [AWS] ENDPOINT, REGION and the network"
    ),
    "S3AFileSystem not found": (
        "Spark lacks hadoop-aws; add --packages org.apache.hadoop:hadoop-aws:VERSION"
    ),
    "BindException": "this machine has no such address; correct SPARK_LOCAL_IP, or unset it",
    "bin/spark-submit": "SPARK_HOME names no folder of Spark; correct it, or unset it",
    "JAVA_GATEWAY|UnsupportedClassVersion|getSubject": (
        "Java did not start, or does not fit this Spark; set JAVA_HOME to Java 17 or 21"
    ),
}
REMEDIES = {
    "No space left|File too large": "the disk is full; free some, or name another OUTPUT",
    "Permission denied|Read-only file": "this user may not read or write there",
    "[Nn]ot a directory|File exists": "a file stands where a folder should be; move it",
}
# these come in the middle of a run, whose settings were right
LATE = ("No space left", "File too large")


def one_line(error: BaseException) -> str:
    """An error and its root cause without stack traces."""
    java = getattr(error, "java_exception", None) or getattr(error, "_origin", None)
    texts = [java.toString() if java else str(error) or type(error).__name__]
    while java and java.getCause():
        java = java.getCause()
        texts[1:] = [java.toString()]
    return ": ".join(text.strip().partition("\n")[0][:300] for text in texts)


def explain(error: BaseException, place: str) -> Stop:
    """What went wrong at a place: a known cause with its remedy, any other in its own words."""
    if isinstance(error, Stop):
        return error
    if isinstance(error, ModuleNotFoundError):
        return Stop(SETTINGS, missing_package(error))
    # a folder may be named "Forbidden"
    text = f"{type(error).__name__}: {one_line(error)} {error}"
    text = text.replace(place.partition("://")[2] or place, "")
    remedies = REMEDIES if place.startswith("file:") else {**REMOTE_REMEDIES, **REMEDIES}
    for pattern, remedy in remedies.items():
        found = re.search(pattern, text)
        if found:
            code = FAILED if found[0] in LATE else SETTINGS
            return Stop(code, f"{place}: {remedy} ({found[0]})")
    return Stop(FAILED, f"{place}: {one_line(error)}")


# ── AWS: one identity, endpoint and region for every client ───────────────────────────────────

ANSWER_SECONDS = 120


def connect(settings: Settings):
    """The boto3 session whose identity all clients share; None if no path is on S3."""
    if settings.input.startswith("file:") and settings.output.startswith("file:"):
        return None
    # imported here, because local runs start faster without it
    import boto3
    from botocore.exceptions import BotoCoreError, ProfileNotFound

    aws = settings.aws
    if ON_EMR and (aws["KEY"] or aws["PROFILE"]):
        warn("[AWS] KEY, SECRET, TOKEN and PROFILE are ignored on EMR; the cluster's role decides")
        aws = {**aws, "KEY": "", "SECRET": "", "TOKEN": "", "PROFILE": ""}
    try:
        session = boto3.Session(
            aws_access_key_id=aws["KEY"] or None,
            aws_secret_access_key=aws["SECRET"] or None,
            aws_session_token=aws["TOKEN"] or None,
            profile_name=aws["PROFILE"] or None,
            region_name=aws["REGION"] or os.environ.get("AWS_REGION") or None,
        )
        credentials = session.get_credentials()
        if credentials is None:
            looked = "dl.cfg, the environment, ~/.aws, SSO, container and instance role"
            remedy = "set [AWS] KEY and SECRET, or sign in"
            raise Stop(SETTINGS, f"no AWS credentials in {looked}; {remedy}")
        frozen = credentials.get_frozen_credentials()
    except ProfileNotFound:
        remedy = "correct [AWS] PROFILE, or AWS_PROFILE in the environment"
        raise Stop(SETTINGS, f"AWS credentials: ~/.aws has no such profile; {remedy}") from None
    except (BotoCoreError, OSError, ValueError) as error:
        # the last two come from a credential_process
        remedy = "correct [AWS], or sign in again"
        raise Stop(SETTINGS, f"AWS credentials: {one_line(error)}; {remedy}") from None
    for text in (frozen.access_key, frozen.secret_key, frozen.token or "x"):
        if not re.fullmatch(r"[\x21-\x7e]+", text):
            wrong = "AWS credentials: a key or token holds a blank or a line end; correct it"
            raise Stop(SETTINGS, wrong)
    return session


def open_bucket(uri: str, aws: dict[str, str], session) -> Place:
    """The place of an S3 prefix, reached by boto3, obstore and Spark at the same endpoint."""
    from botocore.config import Config
    from botocore.exceptions import ClientError
    from obstore.auth.boto3 import Boto3CredentialProvider

    name, _, prefix = uri.partition("://")[2].partition("/")
    config = Config(
        connect_timeout=5,
        read_timeout=ANSWER_SECONDS,
        retries={"max_attempts": 2},
        s3={"addressing_style": "path", "use_accelerate_endpoint": False},
        max_pool_connections=64,
    )
    options = {"endpoint_url": aws["ENDPOINT"] or None, "config": config}
    region = aws["REGION"] or session.region_name or "us-east-1"
    client = session.client("s3", region_name=region, **options)
    if not aws["REGION"] and is_aws(client.meta.endpoint_url):
        # each bucket may be in a region of its own, which S3 tells anybody
        try:
            answer = client.head_bucket(Bucket=name)
        except ClientError as error:
            answer = error.response
        headers = answer["ResponseMetadata"]["HTTPHeaders"]
        region = headers.get("x-amz-bucket-region", region)
    bucket = session.resource("s3", region_name=region, **options).Bucket(name)
    store = S3Store(
        name,
        prefix=prefix or None,
        credential_provider=Boto3CredentialProvider(session),
        client_options={
            "allow_http": True,
            "connect_timeout": "5s",
            "timeout": f"{ANSWER_SECONDS}s",
        },
        retry_config={"max_retries": 6, "retry_timeout": timedelta(seconds=60)},
        # obstore reads AWS_* variables too: what they could change is set here for good
        region=region,
        endpoint=bucket.meta.client.meta.endpoint_url,
        aws_endpoint_url_s3=bucket.meta.client.meta.endpoint_url,
        virtual_hosted_style_request=False,
        skip_signature=False,
        s3_express=False,
        conditional_put="etag",
    )
    return Place(uri, store, bucket)


def is_aws(endpoint: str) -> bool:
    return ".amazonaws.com" in endpoint


def open_place(uri: str, settings: Settings, session) -> Place:
    """The place that a setting names; a folder is created.  Raises Stop if that fails."""
    try:
        if uri.startswith("file:"):
            return Place(uri, LocalStore(uri.removeprefix("file://"), mkdir=True))
        return open_bucket(uri, settings.aws, session)
    except Exception as error:
        raise explain(error, uri) from None


def s3a_packages(hadoop: str) -> dict[str, str]:
    """hadoop-aws for Spark's Hadoop.

    If the version of its SDK is known, five modules (18 MB) replace the bundle (600 MB).
    """
    packages = [f"org.apache.hadoop:hadoop-aws:{hadoop}"]
    options = {}
    sdk = {"3.4.2": "2.29.52", "3.5.0": "2.35.4"}.get(hadoop)
    if sdk:
        for module in ("s3", "s3-transfer-manager", "sts", "apache-client", "netty-nio-client"):
            packages.append(f"software.amazon.awssdk:{module}:{sdk}")
        options["spark.jars.excludes"] = "software.amazon.awssdk:bundle"
    return {"spark.jars.packages": ",".join(packages), **options}


def s3a_options(places: list[Place], session) -> dict[str, str]:
    """The identity, endpoints and regions of obstore, in the words of hadoop-aws."""
    credentials = session.get_credentials().get_frozen_credentials()
    kind = "Temporary" if credentials.token else "Simple"
    options = {
        "fs.s3a.access.key": credentials.access_key,
        "fs.s3a.secret.key": credentials.secret_key,
        "fs.s3a.session.token": credentials.token or "",
        "fs.s3a.aws.credentials.provider": (
            f"org.apache.hadoop.fs.s3a.{kind}AWSCredentialsProvider"
        ),
        # the default stream of Hadoop 3.5 is made for Parquet, not for lines of text
        "fs.s3a.input.stream.type": "classic",
        # milliseconds, because the Hadoop of Spark 3.5 knows no units
        "fs.s3a.connection.establish.timeout": "5000",
        "fs.s3a.connection.timeout": f"{ANSWER_SECONDS}000",
        "fs.s3a.connection.request.timeout": f"{ANSWER_SECONDS}000",
        # the defaults, 5 and 7, would be hours on a store that hangs
        "fs.s3a.attempts.maximum": "2",
        "fs.s3a.retry.limit": "3",
        "fs.s3a.performance.flags": "create,mkdir,delete",
    }
    for place in places:
        if place.bucket:
            client = place.bucket.meta.client.meta
            own = f"fs.s3a.bucket.{place.bucket.name}"
            options[f"{own}.endpoint.region"] = client.region_name
            if not is_aws(client.endpoint_url):
                options[f"{own}.endpoint"] = client.endpoint_url
                options[f"{own}.path.style.access"] = "true"
    return options


# ── Spark ─────────────────────────────────────────────────────────────────────────────────────

SHUFFLE_BYTES = 32 * 2**20
SMALL_BYTES = 64 * 2**20

# What the tables rest on; no setting of a user may change it.
PROMISES = {
    "spark.sql.session.timeZone": "UTC",
    "spark.sql.parquet.outputTimestampType": "TIMESTAMP_MICROS",
    "spark.sql.caseSensitive": "true",
    "spark.sql.sources.partitionColumnTypeInference.enabled": "false",
    "spark.sql.files.ignoreCorruptFiles": "false",
    "spark.sql.files.ignoreMissingFiles": "false",
}
# What makes the job quicker; settings of a user win.
TUNING = {
    # a small catalog is read in few partitions
    "spark.sql.optimizer.canChangeCachedPlanOutputPartitioning": "true",
    # saves 4 of 79 CPU seconds at a million events, and takes 240 MB more memory
    "spark.sql.inMemoryColumnarStorage.compressed": "false",
    # few folders per task need no sort before they are written
    "spark.sql.maxConcurrentOutputFileWriters": "4",
    # many folders on S3 are listed by 64 tasks, not by one per folder
    "spark.sql.sources.parallelPartitionDiscovery.parallelism": "64",
}
# Half of a run on little input is Java loading and compiling classes. Of 16.7 CPU seconds for the
# sample, one compiler instead of two saves 9.7, unverified classes 1.0, plans that are not compiled
# 1.5, and plans that are not revised while they run, in one partition, 0.3.
SMALL_RUN = {
    "spark.driver.extraJavaOptions": "-XX:+UseSerialGC -XX:TieredStopAtLevel=1 -Xverify:none",
    "spark.sql.codegen.wholeStage": "false",
    "spark.sql.codegen.factoryMode": "NO_CODEGEN",
    "spark.sql.adaptive.enabled": "false",
    "spark.sql.shuffle.partitions": "1",
    # a run of seconds needs no web page, which would open a port
    "spark.ui.enabled": "false",
}
# Java's compilers take a third of the CPU time of a million events. If code must run five times as
# often before it is compiled, a run takes 159 CPU seconds instead of 169.
LARGE_RUN = {"spark.driver.extraJavaOptions": "-XX:+UseParallelGC -XX:CompileThresholdScaling=5"}


def is_submitted() -> bool:
    """Whether spark-submit started this program, so that Java runs already."""
    return "PYSPARK_GATEWAY_PORT" in os.environ


def hadoop_version() -> str:
    """The version of Spark's own Hadoop, which hadoop-aws must have exactly."""
    for jar in Path(_find_spark_home(), "jars").glob("hadoop-client-api-*.jar"):
        return jar.stem.rpartition("-")[2]
    return "VERSION"


def check_java() -> None:
    """Raises Stop if Python is to start a Java that is not there or does not fit this Spark."""
    major, minor = map(int, pyspark.__version__.split(".")[:2])
    lowest = 21 if major > 4 else 17 if major == 4 else 8
    # Java 24 took away what Hadoop calls before Spark 4.2
    highest = 99 if (major, minor) >= (4, 2) else 23
    home = os.environ.get("JAVA_HOME")
    java = shutil.which("java", path=f"{home}/bin" if home else None)
    if not java:
        found = f"no Java in JAVA_HOME, {home}" if home else "no Java on the PATH"
    else:
        asked = subprocess.run(
            [java, "-version"], stdin=subprocess.DEVNULL, capture_output=True, text=True
        )
        # options of the environment, which Java repeats, may hold a password
        words = " ".join(re.sub(r"(Picked up \w+).*", r"\1;", asked.stderr).split())
        version = re.search(r'version "(?:1\.)?(\d+)', words)
        if not version:
            raise Stop(SETTINGS, f"{java} cannot tell its version; it says: {words[:300]}")
        if lowest <= int(version[1]) <= highest:
            return
        found = f"{java} is Java {version[1]}"
    remedy = "install Java 17 or 21, and set JAVA_HOME to its folder"
    raise Stop(SETTINGS, f"{found}, which Spark {pyspark.__version__} cannot use; {remedy}")


def check_names(run: Run) -> None:
    """Raises Stop if Java, which follows the locale, could not open a local file by its name."""
    names = []
    for place in (run.source, run.lake):
        if not place.bucket:
            names.append(place.path)
    if not run.source.bucket:
        names += [item.key for item in run.pinned["log_data"]]
    encoding = locale.getencoding()
    for name in names:
        try:
            name.encode(encoding)
        except UnicodeEncodeError:
            wrong = f"{name}: a name that the locale's {encoding} cannot hold"
            raise Stop(SETTINGS, f"{wrong}; set LC_ALL=C.UTF-8") from None


def user_settings() -> set[str]:
    """Names of the settings in spark-defaults.conf."""
    folder = os.environ.get("SPARK_CONF_DIR") or f"{_find_spark_home()}/conf"
    path = Path(folder, "spark-defaults.conf")
    text = path.read_text(encoding="utf-8", errors="replace") if path.is_file() else ""
    return {re.split(r"[\s=:]", line.strip())[0] for line in text.splitlines()}


def spark_options(run: Run) -> dict[str, str]:
    """The job's own Spark settings, without those that spark-defaults.conf has."""
    options = dict(TUNING)
    # tasks list many folders on S3, where each takes a request; elsewhere a job costs more
    is_remote = bool(run.source.bucket or run.lake.bucket)
    options["spark.sql.sources.parallelPartitionDiscovery.threshold"] = "8" if is_remote else "1000"
    if not ON_EMR:
        # one rename per file instead of two; a half-written task cannot pass the audit
        options["spark.hadoop.mapreduce.fileoutputcommitter.algorithm.version"] = "2"
        options["spark.hadoop.mapreduce.fileoutputcommitter.marksuccessfuljobs"] = "false"
    if is_submitted():
        # Java runs already, and knows the user's settings
        return options
    options["spark.driver.memory"] = "2g"
    options["spark.ui.showConsoleProgress"] = str(is_terminal(sys.stderr)).lower()
    options.update(SMALL_RUN if run.input_bytes < SMALL_BYTES else LARGE_RUN)
    if is_remote and not ON_EMR:
        options.update(s3a_packages(hadoop_version()))
    theirs = user_settings()
    return {name: value for name, value in options.items() if name not in theirs}


def start_context(options: dict[str, str]) -> None:
    """Starts Spark with these settings, or with the user's own; its words are shown if it fails.

    pyspark's own start would let Java and Ivy print some dozen lines first. The progress bar goes
    where the errors of Java go at the moment that the SparkContext is made.
    """
    with tempfile.TemporaryFile("w+") as words:
        try:
            launch = SparkConf(loadDefaults=False).setAll(options.items())
            gateway = SparkContext._gateway or launch_gateway(launch, {"stderr": words})
            with suppress(OSError, AttributeError):
                terminal = gateway.jvm.java.io.PrintStream(os.ttyname(sys.stderr.fileno()))
                gateway.jvm.System.setErr(terminal)
            # what spark-submit or PYSPARK_SUBMIT_ARGS said is known to Java alone
            conf = SparkConf(_jvm=gateway.jvm)
            for name, value in options.items():
                conf.setIfMissing(name, value)
            SparkContext(conf=conf.setAppName("sparkify-etl"), gateway=gateway)
        except Exception as error:
            words.seek(0)
            # a line of Spark's own log, with " ERROR ", says less than the exception
            lines = [text.strip() for text in words if " ERROR " not in text]
            said = [text for text in lines if re.search("(?i)error|exception|unresolved", text)]
            stop = explain(RuntimeError(" ".join([*said, one_line(error)])), "Spark")
            details = f": {said[0]}" if said else ""
            raise Stop(stop.code, f"{stop}{details}") from None


def start_spark(run: Run) -> SparkSession:
    """A session in UTC; off EMR it gets the identity and endpoints for S3."""
    run.owns_spark = SparkContext._active_spark_context is None
    if run.owns_spark:
        start_context(spark_options(run))
    spark = SparkSession.builder.getOrCreate()
    for name, value in PROMISES.items():
        spark.conf.set(name, value)
    if not spark.sparkContext.getConf().contains("spark.sql.shuffle.partitions"):
        partitions = max(spark.sparkContext.defaultParallelism, run.input_bytes // SHUFFLE_BYTES)
        spark.conf.set("spark.sql.shuffle.partitions", partitions)
    if run.owns_spark and is_local(spark):
        # what goes wrong is said in one line
        spark.sparkContext.setLogLevel("OFF")
        use_plain_files(spark)
    if run.session and not ON_EMR:
        # set after the start: as settings of Spark they would be visible in `ps`
        hadoop = spark.sparkContext._jsc.hadoopConfiguration()
        for name, value in s3a_options([run.source, run.lake], run.session).items():
            hadoop.set(name, value)
        if run.settings.aws["ENDPOINT"]:
            # else AWS_USE_DUALSTACK_ENDPOINT, for which S3A has no setting, is an error
            spark._jvm.java.lang.System.setProperty("aws.useDualstackEndpoint", "false")
    return spark


def is_local(spark: SparkSession) -> bool:
    return re.match(r"local(\[|$)", spark.sparkContext.master) is not None


def open_scratch(run: Run) -> Place:
    """Where Spark writes: the lake; if that is on S3 and Spark on one machine, a local folder."""
    if not run.lake.bucket or not is_local(run.spark):
        return run.lake
    return open_place(f"file://{SparkFiles.getRootDirectory()}/lake", run.settings, None)


# ── Local files without a chmod process each ──────────────────────────────────────────────────
#
# Without its native library, Hadoop starts a chmod process for each folder, file and checksum file
# that it creates. This file system lets the operating system set the mode and writes no checksum
# files. The 13,351 files of SONGS_PARTITION_BY=year,artist_id then take 57 s instead of 202, and
# the sample 13.0 s instead of 14.4. Janino, the compiler, comes with Spark; if it is missing or
# refuses, the job runs on, slower.

PLAIN_FILES = """
    package sparkify;
    public class PlainFiles extends org.apache.hadoop.fs.LocalFileSystem {
        public PlainFiles() {
            super(new org.apache.hadoop.fs.RawLocalFileSystem() {
                public void setPermission(
                    org.apache.hadoop.fs.Path path,
                    org.apache.hadoop.fs.permission.FsPermission permission
                ) {}
            });
            setWriteChecksum(false);
        }
    }
"""


def use_plain_files(spark: SparkSession) -> None:
    """Puts PLAIN_FILES into the cache of file systems that all of Spark asks."""
    jvm = spark.sparkContext._jvm
    conf = spark.sparkContext._jsc.hadoopConfiguration()
    root = jvm.java.net.URI("file:///")
    with suppress(Exception):
        compiler = jvm.org.codehaus.janino.SimpleCompiler()
        compiler.setParentClassLoader(conf.getClassLoader())
        compiler.cook(PLAIN_FILES)
        plain = jvm.org.apache.hadoop.conf.Configuration(conf)
        plain.setClassLoader(compiler.getClassLoader())
        plain.set("fs.file.impl", "sparkify.PlainFiles")
        # the cache keeps what is there until that is closed
        jvm.org.apache.hadoop.fs.FileSystem.get(root, conf).close()
        jvm.org.apache.hadoop.fs.FileSystem.get(root, plain)


# ── Main ──────────────────────────────────────────────────────────────────────────────────────


@contextmanager
def no_new_folders(settings: Settings) -> Iterator[None]:
    """Removes the folders that a dry run had to make: OUTPUT itself, and that of its probe."""
    probes = Path(settings.output.removeprefix("file://"), "_etl", "probes")
    new = []
    if settings.dry_run and settings.output.startswith("file:"):
        new = [folder for folder in (probes, *probes.parents) if not folder.exists()]
    try:
        yield
    finally:
        for folder in new:
            with suppress(OSError):
                folder.rmdir()


def main(arguments: list[str] | None = None) -> int:
    """Runs the job; returns the exit code, and says what is wrong in one line on stderr.

    Tests and other programs may call it; an active Spark session is used, and left running.
    """
    run = None
    hidden = []
    try:
        settings = read_settings(arguments)
        hidden += [settings.aws[name] for name in ("KEY", "SECRET", "TOKEN")]
        if not is_submitted():
            check_java()
        session = connect(settings)
        with no_new_folders(settings):
            source = open_place(settings.input, settings, session)
            lake = open_place(settings.output, settings, session)
            run = Run(settings, source, lake, session)
            run_job(run)
        stop = None
    except (KeyboardInterrupt, SystemExit):
        raise
    except BaseException as error:
        # a panic inside obstore is not an Exception
        stop = explain(error, run.place if run else "start")
    return end_run(run, stop, hidden)


def end_run(run: Run | None, stop: Stop | None, hidden: list[str]) -> int:
    """Stops Spark, removes what was staged for nothing, leaves the run's summary; the exit code."""
    code = stop.code if stop else 0
    error = str(stop or "")
    if run and code == FAILED and run.published not in error:
        error = f"{error}; {run.published}"
    # a shorter text is no key, and could be part of any word
    for secret in [text for text in hidden if len(text) > 7]:
        error = error.replace(secret, "***")
    try:
        if run and run.number:
            if run.published == NOTHING:
                run.lake.delete_tree(run.staging)
            if run.songs:
                report = summary(run, code, error)
                text = json.dumps(report, indent=1).encode()
                run.lake.create(f"_etl/runs/{run.id}.json", text)
                if code == 0:
                    show(report)
                    clean(run.lake)
    except Exception as leftover:
        warn(f"{one_line(leftover)}; the next run removes what this one left")
    if run and run.spark and run.owns_spark:
        run.spark.stop()
    if error:
        say(f"etl.py: {error}", stream=sys.stderr)
    return code


def run_until_signal() -> None:
    """Runs main in a thread and ends the process with its exit code.

    A thread that waits for a store that hangs sees no signal until the answer comes. This one only
    waits for the other, so Ctrl-C and SIGTERM end the process at once. Java ends with it, and the
    next run removes or finishes what this one leaves.
    """

    def interrupt(number: int, frame: object) -> None:
        words = "interrupted; the next run removes or finishes what this one left"
        say(f"etl.py: {words}", stream=sys.stderr)
        os._exit(INTERRUPTED)

    # a closed standard stream would lend its number to the next file that is opened
    while os.open(os.devnull, os.O_RDWR) < 3:
        pass
    for stream in (sys.stdout, sys.stderr):
        if stream:
            stream.reconfigure(errors="backslashreplace")
    signal.signal(signal.SIGINT, interrupt)
    signal.signal(signal.SIGTERM, interrupt)
    with ThreadPoolExecutor(1) as pool:
        sys.exit(pool.submit(main).result())


if __name__ == "__main__":
    run_until_signal()
