# /// script
# requires-python = ">=3.11"
# dependencies = ["pyspark==4.3.*", "boto3[crt]>=1.40,<2", "obstore>=0.12,<0.13"]
# ///
"""Song catalogue and app event logs in, a star schema out.

Reads   INPUT/song_data/   one song per JSON file
        INPUT/log_data/    one app event per line
Writes  OUTPUT/TABLE/      songplays, users, songs, artists, time, as Parquet;
                           all five tables are published together
        OUTPUT/_etl/       commits, run summaries, rejected lines

    python etl.py          on a laptop
    spark-submit etl.py    on a cluster

Settings come from the command line, dl.local.cfg and dl.cfg; see README.md.
"""

from __future__ import annotations

import sys

if sys.version_info < (3, 11):
    print("etl.py: Python 3.11 or newer is needed, not", sys.version.split()[0], file=sys.stderr)
    sys.exit(2)

import argparse
import configparser
import gzip
import hashlib
import importlib.util
import json
import logging
import os
import re
import secrets
import shlex
import shutil
import signal
import threading
import time
import traceback
import zlib
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from fractions import Fraction
from functools import cached_property, reduce
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import quote, unquote, urlsplit

try:
    import obstore
    import pyspark
except ModuleNotFoundError as missing:
    hint = "activate the virtual environment, or run `pip install -r requirements.txt`"
    print(f"etl.py: the package {missing.name} is missing; {hint}", file=sys.stderr)
    sys.exit(2)
if pyspark.__version__ < "3.5":
    print("etl.py: Spark 3.5 or newer is needed, not", pyspark.__version__, file=sys.stderr)
    sys.exit(2)

from obstore.exceptions import AlreadyExistsError, BaseError
from obstore.store import LocalStore, S3Store
from pyspark import SparkFiles
from pyspark.sql import Column, DataFrame, Observation, SparkSession, Window
from pyspark.sql import functions as F

FAILED = 1
SETTINGS = 2
REFUSED = 3
OVERTAKEN = 75


class Stop(Exception):
    """Ends the run with an exit code and one line that names the thing and what to do."""

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
FIELDS = {"song_data": SONG, "log_data": EVENT}
# the first column of each table is its key
COLUMNS = {
    "songplays": """
        songplay_id STRING    COMMENT 'md5 hex of userId|sessionId|itemInSession|ts',
        start_time  TIMESTAMP COMMENT 'when the play began, UTC; refers to time',
        user_id     BIGINT    COMMENT 'who listened; refers to users',
        level       STRING    COMMENT 'free or paid, at the time of the play',
        song_id     STRING    COMMENT 'refers to songs; NULL if no song matches',
        artist_id   STRING    COMMENT 'refers to artists; NULL if no song matches',
        session_id  BIGINT    COMMENT 'app session of the play; it has no table',
        location    STRING    COMMENT 'where the listener was, at the time of the play',
        user_agent  STRING    COMMENT 'browser of the listener, at the time of the play',
        year        INT       COMMENT 'of start_time; partition folder',
        month       INT       COMMENT 'of start_time, 1 to 12; partition folder'
    """,
    "users": """
        user_id    BIGINT COMMENT 'user number in the app',
        first_name STRING COMMENT 'as of the latest event of the user',
        last_name  STRING COMMENT 'as of the latest event of the user',
        gender     STRING COMMENT 'F or M, as of the latest event of the user',
        level      STRING COMMENT 'free or paid, as of the latest event of the user'
    """,
    "songs": """
        song_id   STRING COMMENT 'id in the song catalogue',
        title     STRING COMMENT 'as in the song catalogue',
        artist_id STRING COMMENT 'refers to artists',
        duration  DOUBLE COMMENT 'seconds',
        year      INT    COMMENT 'year of release, 0 if unknown; partition folder'
    """,
    "artists": """
        artist_id STRING COMMENT 'id in the song catalogue',
        name      STRING COMMENT 'as in the song catalogue',
        location  STRING COMMENT 'where the artist comes from',
        latitude  DOUBLE COMMENT 'degrees, north is positive',
        longitude DOUBLE COMMENT 'degrees, east is positive'
    """,
    "time": """
        start_time TIMESTAMP COMMENT 'when a play began, UTC',
        hour       INT       COMMENT '0 to 23, UTC',
        day        INT       COMMENT 'day of the month, 1 to 31, UTC',
        week       INT       COMMENT 'ISO 8601 week of the year, 1 to 53',
        weekday    INT       COMMENT '1 is Sunday, 7 is Saturday',
        year       INT       COMMENT 'UTC; partition folder',
        month      INT       COMMENT '1 to 12, UTC; partition folder'
    """,
}
BY_MONTH = ("year", "month")

# Every line of the logs and every song record ends in one of these classes.
EVENT_CLASSES = {
    "songplays": "plays, one row each",
    "out_of_scope": "other events, such as page views and logins",
    "duplicate": "repeated copies of a play",
    "key_conflict": "other plays with the key of a play that is kept",
    "invalid": "a value is missing or out of range",
    "malformed": "not one JSON object, or a field of a wrong type",
    "blank": "empty lines",
}
SONG_CLASSES = {
    "songs": "songs, one row each",
    "variant": "other records of a song that is kept",
    "duplicate": "repeated copies of a record",
    "invalid": "a value is missing or out of range",
    "malformed": "not one JSON object, or a field of a wrong type",
}


# ── The flow: from INPUT to published tables ──────────────────────────────────────────────────


def run_job(run: Run) -> None:
    """One run, in the order that lets runs overlap and lets any of them be killed."""
    settings = run.settings
    with run.step("begin", f"Checking OUTPUT {settings.output}"):
        if settings.output.startswith("s3") or not settings.dry_run:
            run.lake = open_location(settings.output, settings)
        if not settings.dry_run:
            newest, wrong = reconcile(run.lake)
            # taken before INPUT is listed: a run that commits on top has seen a newer INPUT
            run.number = max([0, *commit_numbers(run.lake), *map(number_of, wrong)]) + 1
    with run.step("list", f"Listing INPUT {settings.input}"):
        run.source = open_location(settings.input, settings)
        run.manifest = list_input(run)
    if settings.dry_run:
        say("Dry run: settings, access and file names are fine. The data was not read.")
        return
    if wrong:
        warn(f"{run.lake.name}: {wrong[0]} is lost or damaged; this run replaces it")
    made_from = fingerprint(run)
    is_current = made_from.items() <= newest.items()
    if is_current and not wrong and not settings.force:
        say(f"Nothing to do: commit {newest['commit']} has the same input, settings and code.")
        say(f"The tables are in {run.lake.name}. To rebuild them, add --force.")
        show_next_steps(run)
        return
    # Java starts while the songs arrive: saves 1.4 s for 15,000 local songs, 5 s on S3
    # in a thread, because in the main one Spark would take Ctrl-C for itself
    with run.step("songs", "Reading songs and starting Spark"), ThreadPoolExecutor() as pool:
        starting = pool.submit(start_spark, run, SparkSession.getActiveSession())
        pack_objects(run, "song_data", run.manifest["song_data"])
        spark = starting.result()
    with run.step("tables", "Building the tables"), ThreadPoolExecutor() as pool:
        songs = pool.submit(process_song_data, spark, run)
        plays, counts = process_log_data(spark, run)
        song_records, run.summary["songs"] = songs.result()
        run.summary["events"] = counts | process_plays(run, plays, song_records)
    with run.step("audit", "Auditing the tables"):
        # listed before they are read: a file that is lost later stops the audit or the commit
        files = staged_files(run)
        audit(spark, run)
    with run.step("commit", "Checking that INPUT did not change"):
        check_unchanged(run)
    with run.step("publish", f"Publishing to {settings.output}"):
        make_commit(run, made_from, files)
        publish(run)


def process_song_data(spark: SparkSession, run: Run) -> tuple[DataFrame, dict[str, int]]:
    """Song records in; songs and artists staged.

    Returns the distinct song records, for matching plays, and the counts of `SONG_CLASSES`.
    """
    lines = read_packed(spark, run, "song_data")
    staged = stage_songs(lines).cache()
    classes = count_classes(run, "song_data", staged, SONG_PLACE)
    if not classes["record"]:
        raise Stop(REFUSED, f"{run.source.name}/song_data: no valid song; {UNCHANGED}")

    # read four times; in few parts, because Spark's number of them is made for the logs
    song_records = distinct_records(staged).coalesce(lines.rdd.getNumPartitions()).cache()
    # one task per folder, or each task would write a file into each
    folders = run.settings.songs_partition_by.split(",")
    stage_table(run, "songs", songs_table(song_records).repartition(*folders), folders)
    stage_table(run, "artists", artists_table(song_records))
    records = song_records.count()
    songs = run.summary["tables"]["songs"]["rows"]
    return song_records, {
        "records": classes.total(),
        "songs": songs,
        "variant": records - songs,
        "duplicate": classes["record"] - records,
        "invalid": classes["invalid"],
        "malformed": classes["malformed"],
    }


def process_log_data(spark: SparkSession, run: Run) -> tuple[DataFrame, dict[str, int]]:
    """Log lines in; users and time staged.

    Returns all copies of the plays, and the counts of the other `EVENT_CLASSES`.
    """
    lines = read_logs(spark, run)
    # parsed once for all that follows
    events = stage_events(lines).cache()
    classes = count_classes(run, "log_data", events, EVENT_TEXTS | EVENT_NUMBERS)
    if not classes["play"]:
        raise no_play(run, lines)
    stage_table(run, "users", users_table(events))
    plays = stage_plays(events)
    stage_table(run, "time", time_table(plays.repartition(*DAY)), BY_MONTH)
    names = ("malformed", "invalid", "out_of_scope", "blank")
    return plays, {"lines": classes.total(), **{name: classes[name] for name in names}}


def process_plays(run: Run, plays: DataFrame, song_records: DataFrame) -> dict[str, int]:
    """All copies of the plays, and the song records in; songplays staged.

    Returns the counts of what became of the copies, and how many plays are matched and ambiguous.
    """
    matched = match_plays(plays, song_records).repartition(*DAY)
    outcomes = Observation()
    deduped = dedupe_plays(matched).observe(
        outcomes,
        F.expr("count_if(outcome = 'songplays') AS songplays"),
        F.expr("count_if(outcome = 'duplicate') AS duplicate"),
        F.expr("count_if(outcome = 'key_conflict') AS key_conflict"),
        F.expr("count_if(outcome = 'songplays' AND song_id IS NOT NULL) AS matched"),
        F.expr("count_if(outcome = 'songplays' AND candidates > 1) AS ambiguous"),
        F.expr("min(if(outcome = 'key_conflict', ts, NULL)) AS first"),
        F.expr("max(if(outcome = 'key_conflict', ts, NULL)) AS last"),
    )
    stage_table(run, "songplays", songplays_table(deduped), BY_MONTH)
    counts = outcomes.get
    span = F.col("ts").between(counts.pop("first"), counts.pop("last"))
    if counts["key_conflict"]:
        # Spark writes one table at a time, so these plays are deduplicated once more
        conflicts = dedupe_plays(plays.where(span)).where(F.col("outcome") == "key_conflict")
        quarantine(run, "key_conflict", as_lines(conflicts))
    return counts


# ── Reading: lines as they are, and the one JSON object on each ───────────────────────────────

# what every line is parsed with; the limits of Spark's parser are lifted, because JSON has none
JSON_OPTIONS = {
    "columnNameOfCorruptRecord": "misfit",
    "allowSingleQuotes": "false",
    "maxStringLen": str(2**31 - 1),
    "maxNestingDepth": str(2**31 - 1),
    "maxNumLen": str(2**31 - 1),
}
NOT_UTF8 = "not UTF-8"
# Spark 3.5 has no is_valid_utf8; on Spark 4 the comparison raises an error
IS_UTF8 = "is_valid_utf8(line)"
if not hasattr(F, "is_valid_utf8"):
    IS_UTF8 = "decode(encode(line, 'UTF-8'), 'UTF-8') = line"


def literal(uri: str) -> str:
    """A URI whose `*` and `[` Spark takes as they are, not as a pattern of names."""
    return re.sub(r"([][{}*?\\])", r"\\\1", uri)


def read_text(spark: SparkSession, uri: str) -> DataFrame:
    """Lines as they are, one row each, at any depth of folders; a lone CR ends none."""
    return spark.read.text(literal(uri), lineSep="\n", recursiveFileLookup=True)


def read_packed(spark: SparkSession, run: Run, dataset: str) -> DataFrame:
    """One row per packed line: `file`, the object's URI percent-encoded, and `line`."""
    packed = read_text(spark, f"{run.lake.uri}/{run.staging}/packed/{dataset}")
    # as bytes, because the line need not be UTF-8
    line = F.expr("substring(CAST(value AS BINARY), instr(value, '\t') + 1)").cast("string")
    file = F.substring_index("value", "\t", 1)
    return packed.select(file.alias("file"), line.alias("line"))


def read_logs(spark: SparkSession, run: Run) -> DataFrame:
    """One row per physical line of the logs: `file`, the object's URI percent-encoded, and `line`.

    Spark lists one folder, because naming every object would cost a request each on S3.
    """
    lines = read_text(spark, f"{run.source.uri}/log_data")
    lines = lines.select(F.col("_metadata.file_path").alias("file"), F.col("value").alias("line"))
    uris = {key_of(run.source, uri): uri for uri in lines.inputFiles()}
    objects = {item.key: item for item in run.manifest["log_data"]}
    missing = objects.keys() - uris.keys()
    if missing:
        raise input_changed(run.source, min(missing))
    # Spark knows gzip by the suffix .gz alone, not by .GZ
    unknown = [key for key in objects if re.search(r"\.(gZ|G[zZ])$", key)]
    # new objects wait for the next run; skipped ones are not read at all
    others = {*uris.keys() - objects.keys(), *unknown}
    if others:
        # here Spark begins a local URI with file:///, and there with file:/
        paths = [re.sub("^file:/+", "/", uris[key]) for key in others]
        lines = lines.where(~F.regexp_replace("file", "^file:/+", "/").isin(paths))
    if unknown:
        pack_objects(run, "log_data", [objects[key] for key in unknown])
        lines = lines.unionAll(read_packed(spark, run, "log_data"))
    return lines


def key_of(source: Location, uri: str) -> str:
    """The key of an input object, from its URI as Spark writes it."""
    return unquote(urlsplit(uri).path).removeprefix(f"{source.path}/")


def parse_lines(lines: DataFrame, fields: str, text: str | Column = "line") -> DataFrame:
    """Adds `record`, the JSON object in a line's text, typed by `fields`, and `is_malformed`.

    Spark's JSON parser stops after the first object and says nothing of what follows. So each line
    is parsed as the one element of an array between two keys that no line can foresee. A field of
    another type than declared shows in the corrupt column, `misfit`.
    """
    # {"r-x": [LINE], "e-x": 1}, where x is another token in each run
    token = secrets.token_hex(5)
    wrapped = F.concat(F.lit(f'{{"r-{token}":['), text, F.lit(f'],"e-{token}":1}}'))
    schema = f"`r-{token}` ARRAY<STRUCT<{fields}>>, `e-{token}` INT, misfit STRING"
    parsed = lines.withColumn("json", F.from_json(wrapped, schema, JSON_OPTIONS))
    parsed = parsed.withColumn("record", F.get(F.col(f"json.r-{token}"), F.lit(0)))
    doubles = re.findall(r"(\w+) +DOUBLE", fields)
    is_finite = [f"coalesce(abs(record.{name}) < double('infinity'), true)" for name in doubles]
    is_right = f"""
        {IS_UTF8}
        AND size(json.`r-{token}`) = 1
        AND json.`e-{token}` = 1
        AND json.misfit IS NULL
        AND record IS NOT NULL
        AND {" AND ".join(is_finite)}
    """
    is_malformed = F.expr(f"NOT coalesce({is_right}, false)")
    return parsed.select(*lines.columns, "record", is_malformed.alias("is_malformed"))


def malformed_reason(fields: str) -> Column:
    """What is wrong with a malformed line: not one object, or a field that is no number.

    Asked of rejected lines alone, because it parses a line once more for each number.
    """

    def parse(declared: str) -> Column:
        return F.from_json("line", f"{declared}, misfit STRING", JSON_OPTIONS)

    misfit = parse("other STRING")["misfit"]
    reason = (
        F.when(~F.expr(IS_UTF8), NOT_UTF8)
        .when(F.col("line").rlike(r"^\s*\["), "a JSON array, not one object per line")
        .when(~F.col("line").rlike(r"^\s*\{"), "not a JSON object")
        .when(misfit.isNotNull(), "not valid JSON, or cut off")
    )
    for name, kind in re.findall(r"(\w+) +(BIGINT|INT|DOUBLE)", fields):
        found = parse(f"{name} {kind}")
        what = "a number" if kind == "DOUBLE" else "a whole number"
        reason = reason.when(found["misfit"].isNotNull(), f"{name} is not {what}")
        if kind == "DOUBLE":
            is_finite = F.abs(found[name]) < float("inf")
            reason = reason.when(~is_finite, F.concat(F.lit(f"{name} is "), found[name]))
    return reason.otherwise("text after the JSON object")


# ── Staging models: renamed, typed and classed; and what becomes of rejected lines ────────────

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
# plays are shuffled by day, once, to find copies and to write few files
DAY = ("year", "month", "day")
PLAY_KEY = ("ts", "user_id", "session_id", "item_in_session")
# decides, in this order, which of the plays with one key is kept
PLAY_CONTENT = sorted([*EVENT_TEXTS.values(), "length"])
SONG_PLACE = {
    "artist_location": "location",
    "artist_latitude": "latitude",
    "artist_longitude": "longitude",
}
UNCHANGED = "the published tables are unchanged"
# why a well-formed record is invalid: the first that applies, NULL if none does
INVALID_EVENT = """
    CASE
        WHEN coalesce(record.page, '') = '' THEN 'page is missing'
        WHEN record.ts IS NULL THEN 'ts is missing'
        WHEN record.ts NOT BETWEEN 946684800000 AND 4102444799999
            THEN 'ts is outside the years 2000 to 2099 in milliseconds'
        WHEN record.userId != '' AND NOT coalesce(
            try_cast(record.userId AS BIGINT) >= 0
            AND CAST(try_cast(record.userId AS BIGINT) AS STRING) = record.userId, false
        ) THEN 'userId is not a number'
        WHEN record.page != 'NextSong' THEN NULL
        WHEN coalesce(record.userId, '') = '' THEN 'userId of a play is missing'
        WHEN record.sessionId IS NULL THEN 'sessionId of a play is missing'
        WHEN record.itemInSession IS NULL THEN 'itemInSession of a play is missing'
    END
"""
INVALID_SONG = r"""
    CASE
        WHEN coalesce(record.song_id, '') = '' THEN 'song_id is missing'
        WHEN coalesce(record.title, '') = '' THEN 'title is missing'
        WHEN coalesce(record.artist_id, '') = '' THEN 'artist_id is missing'
        WHEN coalesce(record.artist_name, '') = '' THEN 'artist_name is missing'
        WHEN record.duration IS NULL THEN 'duration is missing'
        WHEN record.duration <= 0 THEN 'duration is not positive'
        WHEN record.artist_id RLIKE r'[\x00-\x1f]|^__HIVE_DEFAULT_PARTITION__$'
            THEN 'artist_id cannot name a folder'
    END
"""


def classify(parsed: DataFrame, invalid: str, accepted: str, fields: list[str]) -> DataFrame:
    """One row per line: file, class, reason, line, bytes and the fields.

    Columns  class: blank, malformed, invalid, or what `accepted` says
             reason: why the line is invalid, else NULL
             line: the text of a rejected line, else NULL: text is nine tenths of the logs
    """
    # asked of malformed lines alone: of all lines it takes 8 of 90 CPU seconds at a million events
    is_blank = F.trim(F.translate("line", "\t\r", "  ")) == ""
    reason = F.when(~F.col("is_malformed"), F.expr(invalid))
    kind = (
        F.when(F.col("is_malformed"), F.when(is_blank, "blank").otherwise("malformed"))
        .when(reason.isNotNull(), "invalid")
        .otherwise(F.expr(accepted))
    )
    without_cr = F.expr("trim(TRAILING '\r' FROM line)")
    return parsed.select(
        "file",
        kind.alias("class"),
        reason.alias("reason"),
        F.when(kind.isin("malformed", "invalid"), without_cr).alias("line"),
        F.octet_length("line").alias("bytes"),
        *map(F.expr, fields),
    )


def stage_events(lines: DataFrame) -> DataFrame:
    """One row per physical line of the logs, with its class; nothing downstream sees camelCase.

    Columns  as `classify` describes; an accepted line is a play or out_of_scope
    Units    ts in epoch milliseconds, length in seconds
    """
    accepted = "if(record.page = 'NextSong', 'play', 'out_of_scope')"
    fields = ["try_cast(record.userId AS BIGINT) AS user_id"]
    fields += [f"nullif(record.{name}, '') AS {alias}" for name, alias in EVENT_TEXTS.items()]
    fields += [f"record.{name} AS {alias}" for name, alias in EVENT_NUMBERS.items()]
    return classify(parse_lines(lines, EVENT), INVALID_EVENT, accepted, fields)


def stage_plays(events: DataFrame) -> DataFrame:
    """Events that are plays, every copy of them, with start_time and its year, month and day."""
    start_time = F.timestamp_millis("ts")
    return events.where(F.col("class") == "play").select(
        start_time.alias("start_time"),
        F.year(start_time).alias("year"),
        F.month(start_time).alias("month"),
        F.dayofmonth(start_time).alias("day"),
        "file",
        *PLAY_KEY,
        *PLAY_CONTENT,
    )


def stage_songs(lines: DataFrame) -> DataFrame:
    """One row per song record, with its class; an accepted one is a `record`.

    Columns  as `classify` describes
    Units    duration in seconds; latitude and longitude in degrees, NULL outside ±90 and ±180;
             year 0 is unknown
    """
    # Python's json writes NaN, which is not JSON
    text = F.regexp_replace("line", r'("artist_l(?:at|ong)itude"\s*:\s*)NaN', "$1null")
    fields = [
        "record.song_id",
        "record.title",
        "record.artist_id",
        "record.artist_name",
        "record.duration",
        "coalesce(record.year, 0) AS year",
        "nullif(record.artist_location, '') AS location",
        "if(abs(record.artist_latitude) <= 90, record.artist_latitude, NULL) AS latitude",
        "if(abs(record.artist_longitude) <= 180, record.artist_longitude, NULL) AS longitude",
    ]
    return classify(parse_lines(lines, SONG, text), INVALID_SONG, "'record'", fields)


def distinct_records(staged: DataFrame) -> DataFrame:
    """One row per distinct valid song record; several may share a song_id (variants)."""
    records = staged.where(F.col("class") == "record")
    return records.drop("class", "file", "line", "reason", "bytes").distinct()


def count_classes(run: Run, dataset: str, staged: DataFrame, used: dict[str, str]) -> Counter[str]:
    """Lines of a dataset by class, before copies are found.  Raises Stop if many are rejected."""
    counts = [F.count("*").alias("lines"), F.sum("bytes").alias("bytes")]
    counts += [F.count(alias).alias(f"has {name}") for name, alias in used.items()]
    rows = staged.groupBy("class").agg(*counts).collect()
    lines = Counter({row["class"]: row["lines"] for row in rows})
    sizes = Counter({row["class"]: row["bytes"] for row in rows})
    # the summary of a run that is refused has these counts
    run.summary["songs" if dataset == "song_data" else "events"] = lines
    accepted = [row for row in rows if row["class"] in ("play", "out_of_scope", "record")]
    missing = [name for name in used if not any(row[f"has {name}"] for row in accepted)]
    if accepted and missing:
        run.warnings.append(f"{dataset}: no accepted line has a value for {', '.join(missing)}")
    if rejected_share(lines):
        reason = F.coalesce("reason", malformed_reason(FIELDS[dataset]))
        rejected = staged.where(F.col("line").isNotNull()).withColumn("reason", reason)
        quarantine(run, dataset, rejected)
        counts = [F.count("*").alias("lines"), F.min("file").alias("file")]
        reasons = rejected.groupBy("reason").agg(*counts).orderBy(F.desc("lines"), "reason")
        for row in reasons.limit(3).collect():
            first = key_of(run.source, row["file"])
            warning = f"{dataset}: rejected {row['lines']:,} × {row['reason']}, first in {first}"
            run.warnings.append(warning)
    # by bytes too, because a whole day of events may be on one line
    by_lines, by_bytes = rejected_share(lines), rejected_share(sizes)
    if max(by_lines, by_bytes) > Fraction(run.settings.max_rejected):
        found = f"{float(by_lines):.1%} of the lines and {float(by_bytes):.1%} of the bytes"
        limit = f"MAX_REJECTED = {run.settings.max_rejected} allows less"
        raise Stop(REFUSED, f"{run.source.name}/{dataset}: rejected {found}; {limit}; {UNCHANGED}")
    return lines


def rejected_share(counts: Counter[str]) -> Fraction:
    """A fraction, because 29 of 100 is not more than 0.29, but 0.29 * 100 is less than 29."""
    lines = counts.total() - counts["blank"]
    return Fraction(counts["malformed"] + counts["invalid"], max(lines, 1))


def no_play(run: Run, lines: DataFrame) -> Stop:
    """Refuses logs without a play; says which pages there are."""
    pages = parse_lines(lines, EVENT).groupBy("record.page").count().dropna()
    most = pages.orderBy(F.desc("count"), "page").limit(3).collect()
    found = ", ".join(f"{row['page']} ({row['count']:,})" for row in most) or "none"
    wrong = f"no plays: no valid line has page NextSong; pages found: {found}"
    return Stop(REFUSED, f"{run.source.name}/log_data: {wrong}; {UNCHANGED}")


def as_lines(conflicts: DataFrame) -> DataFrame:
    """Conflicting plays as rejected lines: file, reason, and the used fields as a JSON object."""
    names = EVENT_TEXTS | EVENT_NUMBERS
    fields = [F.col(alias).alias(name) for name, alias in names.items()]
    user_id = F.col("user_id").cast("string").alias("userId")
    event = F.struct(F.lit("NextSong").alias("page"), user_id, *fields)
    reason = F.lit("another play with the same userId, sessionId, itemInSession and ts is kept")
    return conflicts.select("file", reason.alias("reason"), F.to_json(event).alias("line"))


# ── The five tables: dimensions first, then the fact ──────────────────────────────────────────


def first_of_each(rows: DataFrame, key: str, order: list[Column]) -> DataFrame:
    """One row per key: the first in an order that leaves no ties between different rows."""
    rank = F.row_number().over(Window.partitionBy(key).orderBy(*order))
    return rows.withColumn("rank", rank).where(F.col("rank") == 1)


def ascending(*names: str) -> list[Column]:
    return [F.asc_nulls_last(name) for name in names]


def songs_table(song_records: DataFrame) -> DataFrame:
    """Song dimension: one row per song_id.

    Key      song_id, the catalogue's natural key
    Source   distinct_records
    Dropped  all variants of a song but one: a known year comes first, then the smallest values
    Units    duration in seconds; year 0 is unknown
    """
    known_year_first = F.asc(F.col("year") == 0)
    # what else differs is in no column of this table
    order = ascending("year", "title", "artist_id", "duration")
    kept = first_of_each(song_records, "song_id", [known_year_first, *order])
    return kept.select("song_id", "title", "artist_id", "duration", "year")


def artists_table(song_records: DataFrame) -> DataFrame:
    """Artist dimension: one row per artist_id, taken whole from one record.

    Key      artist_id, the catalogue's natural key
    Source   distinct_records
    Dropped  all records of an artist but the one with the most of location, latitude and
             longitude filled in; of several, the smallest by name and place
    Units    latitude and longitude in degrees
    """
    home = ("location", "latitude", "longitude")
    filled = sum((F.col(name).isNotNull().cast("int") for name in home), F.lit(0))
    order = [F.desc(filled), *ascending("artist_name", *home)]
    kept = first_of_each(song_records, "artist_id", order)
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
    Source   stage_events: events of any page
    Dropped  events without a user_id, and all events of a user but the latest. Events at one
             instant are ordered by session, item and then the columns themselves, NULL lowest,
             so that every run keeps the same one
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
    Source   stage_plays
    Units    week is ISO 8601; weekday 1 is Sunday, 7 is Saturday; all in UTC
    """
    # grouped by these columns, rows that are together by DAY need no second shuffle
    times = plays.select("start_time", *DAY).distinct()
    return times.select(
        "start_time",
        F.hour("start_time").alias("hour"),
        "day",
        F.weekofyear("start_time").alias("week"),
        F.dayofweek("start_time").alias("weekday"),
        "year",
        "month",
    )


def one_song_per_recording(song_records: DataFrame) -> DataFrame:
    """One row per recording (title, artist_name, duration): the smallest (song_id, artist_id).

    Columns  candidates: how many song_ids there were to choose from
    """
    smallest = F.min(F.struct("song_id", "artist_id")).alias("track")
    candidates = F.count_distinct("song_id").alias("candidates")
    named = song_records.groupBy("title", "artist_name", "duration").agg(smallest, candidates)
    return named.select("title", "artist_name", "duration", "track.*", "candidates")


def match_plays(plays: DataFrame, song_records: DataFrame) -> DataFrame:
    """Every play, once, with song_id and artist_id of its recording, or NULL if there is none."""
    lookup = one_song_per_recording(song_records)
    same_recording = (
        (F.col("play.title") == F.col("track.title"))
        & (F.col("play.artist_name") == F.col("track.artist_name"))
        & (F.col("play.length") == F.col("track.duration"))
    )
    # many plays to at most one track
    matched = plays.alias("play").join(lookup.alias("track"), on=same_recording, how="left")
    return matched.select("play.*", "track.song_id", "track.artist_id", "track.candidates")


def dedupe_plays(plays: DataFrame) -> DataFrame:
    """Adds `outcome` to each copy of a play: songplays for the one kept, key_conflict or duplicate.

    Of the copies with one natural key, the smallest content is kept. Each further content is a
    key_conflict, once; the rest are duplicates. The window begins with DAY, which ts implies, so
    that Spark needs no second shuffle, nor a second sort to write files by year and month.
    """
    same_key = Window.partitionBy(*DAY, *PLAY_KEY)
    by_content = same_key.orderBy(*ascending(*PLAY_CONTENT))
    position = F.row_number().over(by_content)
    is_new_content = position == F.rank().over(by_content)
    outcome = (
        F.when(position == 1, "songplays")
        .when(is_new_content, "key_conflict")
        .otherwise("duplicate")
    )
    return plays.withColumn("outcome", outcome)


def songplays_table(deduped: DataFrame) -> DataFrame:
    """Factless fact table: one row per NextSong event, matched to at most one song.

    Key      songplay_id, md5 hex of `userId|sessionId|itemInSession|ts`
    Source   match_plays, dedupe_plays
    Dropped  repeated deliveries of a play, and conflicting versions of it
    Units    start_time is a UTC instant; level, location and user_agent are as of the play
    """
    natural_key = F.concat_ws("|", "user_id", "session_id", "item_in_session", "ts")
    return deduped.where(F.col("outcome") == "songplays").select(
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

# table, rows, keys (distinct ones where that is cheap), and references to no row
AUDIT = """
    SELECT 'users', count(*), count(DISTINCT user_id), 0 FROM {users}
    UNION ALL SELECT 'songs', count(*), count(DISTINCT song_id), 0 FROM {songs}
    UNION ALL SELECT 'artists', count(*), count(DISTINCT artist_id), 0 FROM {artists}
    UNION ALL SELECT 'time', count(*), count(start_time), 0 FROM {time}
    UNION ALL SELECT 'songplays', count(*), count(songplay_id),
        count_if(user.user_id IS NULL)
        + count_if(song.song_id IS NULL AND play.song_id IS NOT NULL)
        + count_if(artist.artist_id IS NULL AND play.artist_id IS NOT NULL)
    FROM {songplays} AS play
    LEFT JOIN {users} AS user ON play.user_id = user.user_id
    LEFT JOIN {songs} AS song ON play.song_id = song.song_id
    LEFT JOIN {artists} AS artist ON play.artist_id = artist.artist_id
"""


def audit(spark: SparkSession, run: Run) -> None:
    """Checks the staged tables against each other and against the counts.

    Keys of songplays and time are unique by how they are made: one row per key of a window, or of
    a group. `stage_table` has checked the columns.  Raises Stop naming the check and its numbers.
    """
    events, songs = run.summary["events"], run.summary["songs"]
    made = {table: figures["rows"] for table, figures in run.summary["tables"].items()}
    check("log lines of all classes", sum(map(events.get, EVENT_CLASSES)), events["lines"])
    check("song records of all classes", sum(map(songs.get, SONG_CLASSES)), songs["records"])
    check("plays that are kept", made["songplays"], events["songplays"])
    staged: dict[str, Any] = {}
    for table, declared in COLUMNS.items():
        folder = literal(f"{run.scratch.uri}/{run.staging}/{table}")
        staged[table] = spark.read.schema(declared).parquet(folder)
    for table, rows, keys, orphans in spark.sql(AUDIT, **staged).collect():
        check(f"rows of {table}", rows, made[table])
        check(f"distinct keys of {table}", keys, made[table])
        check(f"orphans of {table}", orphans, 0)


def check(what: str, found: int, expected: int) -> None:
    if found != expected:
        raise Stop(FAILED, f"audit: {what}: found {found:,}, expected {expected:,}")


# ══ MACHINERY ═════════════════════════════════════════════════════════════════════════════════
# You have read the job. Below: storage, publishing, the screen, settings, errors, AWS and Spark.


# ── Storage: one set of calls for local folders and S3 ────────────────────────────────────────


class Location(NamedTuple):
    """A folder or an S3 prefix: what Spark calls it, and how obstore and boto3 reach it."""

    # file:///folder or s3a://bucket/prefix
    uri: str
    store: LocalStore | S3Store
    # on S3 alone; with the endpoint and region of all clients
    bucket: Any = None

    @property
    def name(self) -> str:
        """As people write it: /folder or s3a://bucket/prefix."""
        return self.uri.removeprefix("file://")

    @property
    def path(self) -> str:
        """The URI from its folder or prefix on; nothing for a whole bucket."""
        return self.uri.partition("://")[2].removeprefix(self.bucket.name if self.bucket else "")

    def list(self, prefix: str) -> dict[str, int]:
        """Key and size of everything below a prefix."""
        chunks = obstore.list(self.store, prefix)
        return {item["path"]: item["size"] for chunk in chunks for item in chunk}

    def read(self, key: str) -> bytes:
        return bytes(obstore.get(self.store, key).bytes())

    def write(self, key: str, data: bytes | Path) -> None:
        # each of the parts sent at once takes 5 MB of memory
        obstore.put(self.store, key, data, max_concurrency=2)

    def create(self, key: str, data: bytes) -> None:
        """Creates an object, unless there is one of that name."""
        if self.bucket:
            with suppress(AlreadyExistsError):
                obstore.put(self.store, key, data, mode="create", use_multipart=False)
            return
        # obstore would need hard links, which exFAT, SMB and many mounted stores lack
        path = Path(self.path, key)
        path.parent.mkdir(parents=True, exist_ok=True)
        with suppress(FileExistsError), path.open("xb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())

    def move(self, source: str, target: str) -> None:
        """Gives a staged file its final name, unless another run has done so."""
        # S3 can only copy; the staging folder is deleted later, a thousand objects in one request
        move = obstore.copy if self.bucket else obstore.rename
        with suppress(FileNotFoundError):
            move(self.store, source, target)

    def delete(self, key: str) -> None:
        with suppress(FileNotFoundError):
            obstore.delete(self.store, key)

    def delete_tree(self, prefix: str) -> None:
        below = f"{self.path}/{prefix}/"
        if self.bucket:
            # by boto3, because obstore cannot name the "folder/" markers that Hadoop leaves
            self.bucket.objects.filter(Prefix=below.lstrip("/")).delete()
        else:
            shutil.rmtree(below, ignore_errors=True)


# ── The manifest, and packing songs by the thousand ───────────────────────────────────────────

INPUT_NAME = re.compile(r".*\.(json|jsonl|ndjson)(\.gz)?", re.IGNORECASE)
# bounds the memory that a pack takes
OBJECTS_PER_PACK = 10_000


class InputObject(NamedTuple):
    """An input object as it was when the run listed it."""

    key: str
    size: int
    # its etag, else when it was last changed
    version: str


def list_dataset(source: Location, dataset: str) -> tuple[list[InputObject], list[str]]:
    """The objects to read, and the keys of those whose names this job does not read."""
    objects = []
    skipped = []
    for chunk in obstore.list(source.store, dataset, chunk_size=1000):
        for item in chunk:
            key = item["path"]
            # an empty object holds no line, or is S3's marker of a folder
            if re.search("/[_.]", key) or not item["size"]:
                continue
            if INPUT_NAME.fullmatch(key):
                version = item["e_tag"] or str(item["last_modified"])
                objects.append(InputObject(key, item["size"], version))
            else:
                skipped.append(key)
    return sorted(objects), sorted(skipped)


def list_input(run: Run) -> dict[str, list[InputObject]]:
    """The manifest of INPUT.  Raises Stop if a dataset holds nothing to read."""
    manifest = {}
    for name in ("song_data", "log_data"):
        objects, skipped = list_dataset(run.source, name)
        manifest[name] = objects
        found = "no such folder; INPUT must contain song_data and log_data"
        if skipped:
            wanted = "names must end in .json, .jsonl, .ndjson or these with .gz"
            found = f"skipped {len(skipped):,}, such as {skipped[0]}; {wanted}"
            run.warnings.append(f"{name}: {found}")
            run.summary["skipped"][name] = {"objects": len(skipped), "first": skipped[0]}
        if not objects:
            raise Stop(SETTINGS, f"{run.source.name}/{name}: no file to read: {found}")
        say(f"  {name}: {len(objects):,} files")
    return manifest


def input_changed(source: Location, key: str) -> Stop:
    return Stop(FAILED, f"{source.name}: INPUT changed during the run: {key}; run again")


def check_unchanged(run: Run) -> None:
    """Raises Stop if an object of the manifest changed; new objects wait for the next run."""
    for name, objects in run.manifest.items():
        missing = set(objects).difference(list_dataset(run.source, name)[0])
        if missing:
            raise input_changed(run.source, min(missing).key)


def pack_lines(source: Location, item: InputObject) -> bytes:
    """`URI <TAB> line` for each line of an object; a pretty-printed song is one line."""
    data = b""
    with suppress(FileNotFoundError):
        data = source.read(item.key)
    if len(data) != item.size:
        raise input_changed(source, item.key)
    if item.key.lower().endswith(".gz"):
        try:
            data = gzip.decompress(data)
        except (EOFError, OSError, zlib.error) as error:
            raise Stop(FAILED, f"{source.name}/{item.key}: {error}") from error
    lines = data.removeprefix(b"\xef\xbb\xbf").split(b"\n")
    if not lines[-1]:
        lines.pop()
    if item.key.startswith("song_data"):
        lines = [line for line in lines if line.strip(b" \t\r")]
        if lines and lines[0].strip() == b"{":
            # between the parts of an object a CR is white space, and within text it is an error
            lines = [b"\r".join(lines)]
    uri = quote(f"{source.uri}/{item.key}", safe=":/").encode()
    return b"".join(b"%s\t%s\n" % (uri, line) for line in lines)


def pack_objects(run: Run, dataset: str, objects: list[InputObject]) -> None:
    """Copies the lines of many objects into a few text files.

    Spark would need two requests and the overhead of a task for each 300-byte song.
    """
    for start in range(0, len(objects), OBJECTS_PER_PACK):
        group = objects[start : start + OBJECTS_PER_PACK]
        packed = in_parallel(lambda item: pack_lines(run.source, item), group)
        run.lake.write(f"{run.staging}/packed/{dataset}/{start:09d}.txt", b"".join(packed))


# ── Writing: staged tables and rejected lines ─────────────────────────────────────────────────


def write(run: Run, rows: DataFrame, kind: str, folder: str, partitions: Iterable[str]) -> None:
    """Lets Spark write a folder of the lake, directly or by way of a local scratch folder.

    Hadoop's committer sends a dozen requests per file to S3, one after another. So on one machine
    Spark writes to local files, and each of them is uploaded with one request.
    """
    rows.write.partitionBy(*partitions).format(kind).save(f"{run.scratch.uri}/{folder}")
    if run.scratch is not run.lake:
        files = [key for key in run.scratch.list(folder) if "/part-" in key]
        in_parallel(lambda key: run.lake.write(key, Path(run.scratch.path, key)), files)


def stage_table(run: Run, name: str, table: DataFrame, folders: Iterable[str] = ()) -> None:
    """Stages a table, and notes what a commit says of it.  Raises Stop if a column is wrong."""
    declared = table.sparkSession.createDataFrame([], COLUMNS[name])
    if table.dtypes != declared.dtypes:
        raise Stop(FAILED, f"audit: columns of {name}: {table.dtypes}, not {declared.dtypes}")
    made = Observation()
    counted = table.observe(made, F.count("*").alias("rows"))
    write(run, counted, "parquet", f"{run.staging}/{name}", folders)
    run.summary["tables"][name] = {
        # the first line of the docstring of users_table, and so on
        "grain": globals()[f"{name}_table"].__doc__.partition("\n")[0],
        "partitioned_by": list(folders),
        "columns": [
            {"name": field.name, "type": field.dataType.simpleString().upper(), **field.metadata}
            for field in declared.schema
        ],
        **made.get,
    }
    say(f"  {name} written")


def quarantine(run: Run, kind: str, rejected: DataFrame) -> None:
    """Writes rejected lines as JSON lines: file, reason, and raw, or raw_base64 if not UTF-8."""
    is_text = F.col("reason") != NOT_UTF8
    kept = rejected.select(
        "file",
        "reason",
        F.when(is_text, F.col("line")).alias("raw"),
        F.when(~is_text, F.base64("line")).alias("raw_base64"),
    )
    folder = run.summary["quarantine"] = f"_etl/quarantine/{run.id}"
    write(run, kept, "json", f"{folder}/{kind}", ())


# ── The state of a run ────────────────────────────────────────────────────────────────────────


class Run:
    """One run: its settings, where it reads and writes, and its summary."""

    source: Location
    lake: Location
    # where Spark writes: the lake, or a local folder whose files are then uploaded
    scratch: Location
    manifest: dict[str, list[InputObject]]
    # of the commit that this run is to make
    number: int = 0
    # the words of the current step, which an error begins with
    doing: str

    def __init__(self, settings: Settings):
        self.settings = settings
        # UTC start time, then 8 hex digits
        self.id = f"{datetime.now(UTC):%Y%m%dT%H%M%SZ}-{secrets.token_hex(4)}"
        # what the screen and `_etl/runs/<run>.json` say
        self.summary: dict[str, Any] = {
            "run": self.id,
            "commit": None,
            "input": settings.input,
            "output": settings.output,
            "versions": {"spark": pyspark.__version__, "python": sys.version.split()[0]},
            "traceback": "",
        }
        for name in ("events", "songs", "tables", "skipped", "seconds"):
            self.summary[name] = {}
        self.warnings: list[str] = []

    @property
    def staging(self) -> str:
        return f"_etl/staging/{self.number:09d}-{self.id}"

    @contextmanager
    def step(self, name: str, words: str) -> Iterator[None]:
        say(f"{words} …")
        self.doing = words
        start = time.monotonic()
        yield
        self.summary["seconds"][name] = round(time.monotonic() - start, 2)


def in_parallel(action: Callable[[Any], Any], items: Iterable[Any]) -> list[Any]:
    """What an action returns for each item, in order; in threads, which wait for the network."""
    with ThreadPoolExecutor(128) as pool:
        return list(pool.map(action, items))


# ── Publishing: stage, commit, reconcile ──────────────────────────────────────────────────────
#
#   OUTPUT/_etl/staging/NUMBER-RUN/    1. Spark writes the tables here, and they are audited
#   OUTPUT/_etl/commits/NUMBER.json    2. lists all files; the first run to create it wins
#   OUTPUT/TABLE/…/cNUMBER-….parquet   3. reconcile() moves the staged files here, deletes staging,
#                                         and then older files
#
# The tables hold what the newest commit lists. Each run begins and ends with reconcile(), so it
# finishes what a killed run left. Names are never reused: a reader that listed a deleted file gets
# an error, never other rows.

OURS = re.compile(r".+/c\d{9}-[0-9a-f]{8}-\d{5,}\.parquet")
COMMIT = re.compile(r"_etl/commits/\d{9}\.json")


def number_of(key: str) -> int:
    """The number in the name of a commit, or of a table's file."""
    return int(os.path.basename(key).lstrip("c")[:9])


def commit_key(number: int) -> str:
    return f"_etl/commits/{number:09d}.json"


def commit_numbers(lake: Location) -> list[int]:
    """Numbers of all commits, newest first; some may be damaged."""
    keys = lake.list("_etl/commits")
    return sorted((number_of(key) for key in keys if COMMIT.fullmatch(key)), reverse=True)


def read_commit(lake: Location, number: int) -> dict[str, Any]:
    """A commit; an empty one if it is missing, damaged or not yet written to its end."""
    with suppress(FileNotFoundError, ValueError):
        commit = json.loads(lake.read(commit_key(number)))
        if isinstance(commit, dict) and "files" in commit:
            return commit
    return {}


def newest_commit(lake: Location) -> dict[str, Any]:
    """The newest commit that can be read; number 0, without files, if there is none."""
    for number in commit_numbers(lake):
        if commit := read_commit(lake, number):
            return commit
    return {"commit": 0, "files": {}}


def list_tables(lake: Location) -> dict[str, int]:
    """Key and size of the job's files in the table folders.  Raises Stop if there are others."""
    present = reduce(dict.__or__, in_parallel(lake.list, COLUMNS))
    for key in present:
        if key.endswith(".parquet") and not OURS.fullmatch(key):
            hint = "this job did not write it; move it, or choose another OUTPUT"
            raise Stop(SETTINGS, f"{lake.name}/{key}: {hint}")
    return {key: size for key, size in present.items() if OURS.fullmatch(key)}


def reconcile(lake: Location) -> tuple[dict[str, Any], list[str]]:
    """Makes the table folders hold just what the newest commit lists, and removes what is left.

    Any run may repeat it from wherever another one stopped. Returns the commit, and what calls for
    a new one: files of it that are lost or cut short, and later commits that are lost.
    """
    commit = newest_commit(lake)
    files = commit["files"]
    present = list_tables(lake)
    missing = files.keys() - present.keys()
    if missing:
        in_parallel(lambda key: lake.move(files[key]["staged"], key), missing)
        present = list_tables(lake)
    lost = lost_files(files, present)
    unlisted = present.keys() - files.keys()
    superseded = {key for key in unlisted if number_of(key) <= commit["commit"]}
    if newest_commit(lake) != commit:
        # another run has published meanwhile, and these may be its files
        return reconcile(lake)
    # older files stay until the new ones are seen to be whole
    if not lost:
        in_parallel(lake.delete_tree, abandoned_staging(lake, commit))
        in_parallel(lake.delete, superseded)
    lost_commits = {commit_key(number_of(key)) for key in unlisted - superseded}
    return commit, [*sorted(lost_commits), *lost]


def lost_files(files: dict[str, dict], present: dict[str, int]) -> list[str]:
    """Files of a commit that are not there, or not whole."""
    return [key for key, file in files.items() if present.get(key) != file["bytes"]]


def abandoned_staging(lake: Location, commit: dict[str, Any]) -> list[str]:
    """Staging of runs that can no longer commit."""
    # their names begin with the number of the commit
    later = f"{commit['commit'] + 1:09d}"
    folders = {key.split("/")[2] for key in lake.list("_etl/staging")}
    return [f"_etl/staging/{name}" for name in sorted(folders) if name < later]


def staged_files(run: Run) -> dict[str, dict[str, Any]]:
    """The final name of each file that Spark staged, where it is now, and its size."""
    files = {}
    for table, figures in run.summary["tables"].items():
        sizes = run.lake.list(f"{run.staging}/{table}")
        staged = sorted(key for key in sizes if re.search(r"/part-[^/]+\.parquet$", key))
        for number, key in enumerate(staged):
            folder = os.path.dirname(os.path.relpath(key, run.staging))
            name = f"{folder}/c{run.number:09d}-{run.id[-8:]}-{number:05d}.parquet"
            files[name] = {"staged": key, "bytes": sizes[key]}
        figures |= {"files": len(staged), "bytes": sum(sizes[key] for key in staged)}
    return files


def make_commit(run: Run, made_from: dict[str, Any], files: dict[str, dict]) -> None:
    """Creates the commit of this run's staged files.  Raises Stop if another run was first."""
    record = {"commit": run.number, "run": run.id, **made_from}
    record |= {"events": run.summary["events"], "songs": run.summary["songs"]}
    record["tables"] = {name: run.summary["tables"][name] for name in COLUMNS}
    record["files"] = files
    data = json.dumps(record, indent=1).encode()
    # from here on the commit may exist, so staging stays until we know
    run.summary["commit"] = run.number
    failure: Exception = overtaken(run)
    try:
        run.lake.create(commit_key(run.number), data)
    except (BaseError, OSError) as error:
        failure = error
    # it may be made although the answer was lost
    if read_commit(run.lake, run.number).get("run") != run.id:
        run.summary["commit"] = None
        raise failure


def overtaken(run: Run) -> Stop:
    return Stop(OVERTAKEN, f"{run.lake.name}: another run made commit {run.number} first")


def publish(run: Run) -> None:
    """Makes the tables what this or a newer run's commit lists.  Raises Stop if it is lost."""
    commit, wrong = reconcile(run.lake)
    if commit["commit"] < run.number:
        wrong.append(commit_key(run.number))
    if wrong:
        raise Stop(FAILED, f"{run.lake.name}: {wrong[0]} disappeared during publishing")


def fingerprint(run: Run) -> dict[str, Any]:
    """What decides a run's result: if the newest commit has the same, there is nothing to do."""
    names = ("input", "songs_partition_by", "max_rejected")
    manifest = json.dumps(run.manifest).encode()
    return {
        "settings": {name: getattr(run.settings, name) for name in names},
        "code": hashlib.sha256(Path(__file__).read_bytes()).hexdigest(),
        "manifest": hashlib.sha256(manifest).hexdigest(),
    }


# ── The last screen ───────────────────────────────────────────────────────────────────────────


def show_run(run: Run) -> None:
    """The run on one screen of 80 columns."""
    summary = run.summary
    events, songs = summary["events"], summary["songs"]
    show_counts(f"{events['lines']:,} log lines", events, EVENT_CLASSES)
    show_counts(f"{songs['records']:,} song records", songs, SONG_CLASSES)
    say(f"\n{'table':<10} {'rows':>13} {'files':>9} {'kB':>11}")
    for table in COLUMNS:
        made = summary["tables"][table]
        say(f"{table:<10} {made['rows']:>13,} {made['files']:>9,} {made['bytes'] // 1000:>11,}")
    say(f"\n{events['matched']:,} of {events['songplays']:,} plays match a song.")
    if events["ambiguous"]:
        say(f"{events['ambiguous']:,} of them match several songs; the smallest song_id is used.")
    show_warnings(run)
    seconds = summary["seconds"]
    say(f"\nTook {sum(seconds.values()):.1f} s ({seconds['tables']:.1f} s building tables).")
    say(f"The tables are in {run.lake.name} (commit {run.number}).")
    show_next_steps(run)


def show_counts(title: str, counts: dict[str, int], classes: dict[str, str]) -> None:
    say(f"\n{title}")
    for name, meaning in classes.items():
        if counts[name]:
            say(f"{counts[name]:>15,}  {name:<13} {meaning}")


def show_warnings(run: Run) -> None:
    for text in run.warnings:
        warn(text)
    if folder := run.summary.get("quarantine"):
        say(f"Rejected lines are in {run.lake.name}/{folder}")


def show_next_steps(run: Run) -> None:
    """Commands that work as printed: from this folder, with this Python, on this lake."""
    analytics = Path(__file__).resolve().with_name("analytics")
    if not analytics.is_dir():
        return
    folder = os.path.relpath(analytics)
    python = "python" if shutil.which("python") == sys.executable else sys.executable
    say("\nNext:")
    if not importlib.util.find_spec("altair"):
        say(f"  {shlex.join([python, '-m', 'pip', 'install', '-r', f'{folder}/requirements.txt'])}")
    say(f"  {shlex.join([python, f'{folder}/report.py', run.lake.name])}")


# ── Settings: command line, then dl.local.cfg, then dl.cfg, then defaults ─────────────────────

# no comment, placeholder or variable
PATH = r"(?!.*( [#;]|[$<]))"
BUCKET = PATH + r"s3a?://[a-z0-9][a-z0-9.-]{1,61}[a-z0-9](/(?!\.{1,2}(/|$))[^/@]+)*/?"
FOLDER = PATH + r"(file://(?=/))?(?!\w+:/).+"
WORD = r"[\x21-\x7e]*"
ON_EMR = Path("/usr/share/aws/emr").is_dir()
# section of dl.cfg, pattern of right values, and the same in words
CREDENTIAL = ("AWS", WORD, "text without spaces")
PLACE = ("DATA", f"{BUCKET}|{FOLDER}", "a folder or s3://bucket/prefix, without #, ; $ or <")
RULES = {
    "KEY": CREDENTIAL,
    "SECRET": CREDENTIAL,
    "TOKEN": CREDENTIAL,
    "PROFILE": ("AWS", ".*", "the name of a profile"),
    "REGION": ("AWS", "[a-z0-9-]*", "a region such as us-west-2"),
    "ENDPOINT": ("AWS", r"(https?://[^/@\s]+/?)?", "a URL such as http://127.0.0.1:9000"),
    "INPUT": PLACE,
    "OUTPUT": PLACE,
    "SONGS_PARTITION_BY": ("JOB", "year(,artist_id)?", "year or year,artist_id"),
    "MAX_REJECTED": ("JOB", r"0?\.\d+|[01](\.0*)?", "a number from 0 to 1"),
}
DEFAULTS = {"SONGS_PARTITION_BY": "year", "MAX_REJECTED": "0.01"}
SWITCHES = {
    "dry_run": "check settings, access and file names; read no data, write nothing",
    "force": "rebuild even if nothing changed",
    "verbose": "show Spark's log, and tracebacks",
}


class Settings(argparse.Namespace):
    """What RULES and SWITCHES name, in small letters; paths as /folder or s3a://bucket/prefix."""

    @cached_property
    def session(self) -> Any:
        return connect(self)


def flag_of(name: str) -> str:
    return f"--{name.lower().replace('_', '-')}"


def read_config(path: Path, known: dict[str, tuple[str, Path]]) -> None:
    """Adds the settings of a file, and its name, to those known.

    Raises   Stop; like the warnings it quotes no value, which may be a secret
    """
    # without a default section, [DEFAULT] is an unknown one
    parser = configparser.ConfigParser(interpolation=None, default_section="")
    try:
        parser.read_string(path.read_text(encoding="utf-8-sig"))
    except (OSError, UnicodeDecodeError) as error:
        raise Stop(SETTINGS, f"{path} cannot be read as text: {type(error).__name__}") from None
    except configparser.Error as error:
        line = getattr(error, "lineno", 0) or getattr(error, "errors")[0][0]  # noqa: B009
        wrong = "each line must be NAME = value, once, after a section header such as [DATA]"
        raise Stop(SETTINGS, f"{path}, line {line}: {wrong}") from None
    for section in parser.sections():
        for option, value in parser.items(section):
            name = option.upper()
            if name not in RULES or RULES[name][0] != section:
                warn(f"{path}: an unknown setting is ignored; README.md lists the settings")
                continue
            if re.fullmatch(r"""(["']).*\1""", value):
                warn(f"{path}: [{section}] {name}: quotes ignored")
                value = value[1:-1]
            known[name] = value, path


def read_settings(arguments: list[str] | None = None) -> Settings:
    """The command line, else dl.local.cfg, else dl.cfg, else the defaults.

    Raises   Stop naming the flag, or the file, section and name, and what would be right
    """
    layout = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser("etl.py", description=__doc__, formatter_class=layout)
    parser.add_argument("--config", metavar="FILE", type=Path, help="settings (default: dl.cfg)")
    for name, (section, _, words) in RULES.items():
        # keys have no flag, because others could see them in `ps`
        if section != "AWS":
            parser.add_argument(flag_of(name), metavar="VALUE", help=words)
    for name, words in SWITCHES.items():
        parser.add_argument(flag_of(name), action="store_true", help=words)
    settings = parser.parse_args(arguments, Settings())
    config = settings.config or Path("dl.cfg")
    if not settings.config and not config.is_file():
        config = Path(__file__).resolve().with_name("dl.cfg")
    known: dict[str, tuple[str, Path]] = {}
    for file in (config, config.with_name("dl.local.cfg")):
        if file.is_file() or file == settings.config:
            read_config(file, known)
    for name, (section, pattern, words) in RULES.items():
        text, base = known.get(name, (DEFAULTS.get(name, ""), config))
        where = f"{base}: [{section}] {name}"
        given = getattr(settings, name.lower(), None)
        if given is not None:
            text, where, base = given, flag_of(name), Path("dl.cfg")
        if ON_EMR and section == "AWS":
            # the cluster's role decides, as it does for Spark there
            text = ""
        if not re.fullmatch(pattern, text):
            raise Stop(SETTINGS, f"{where} must be {words}")
        value = absolute(text, base.parent) if section == "DATA" else text
        setattr(settings, name.lower(), value)
    for dataset in ("song_data", "log_data"):
        if f"{settings.output}/".startswith(f"{settings.input}/{dataset}/"):
            raise Stop(SETTINGS, f"OUTPUT is inside INPUT's {dataset}; choose a folder outside it")
    return settings


def absolute(text: str, folder: Path) -> str:
    """A path as the job writes it everywhere: /folder, s3a://bucket/prefix, or s3:// on EMR."""
    if re.match("s3a?://", text):
        return re.sub("^s3a?", "s3" if ON_EMR else "s3a", text.rstrip("/"))
    return os.path.abspath(folder / os.path.expanduser(text.removeprefix("file://")))


# ── What is said: progress, warnings, errors and their hints ──────────────────────────────────


def say(text: str, stream: Any = None) -> None:
    """Prints text without control characters."""
    text = "".join(c if c.isprintable() or c == "\n" else "?" for c in text)
    print(text, file=stream or sys.stdout, flush=True)


def warn(text: str) -> None:
    say(f"etl.py: warning: {text}", sys.stderr)


# what to do about an error, and S3's codes or the types of the errors that leave no doubt
HINTS = {
    "check [AWS] KEY and SECRET, and TOKEN if KEY begins with ASIA": (
        "InvalidAccessKeyId SignatureDoesNotMatch InvalidToken"
    ),
    "the bucket is in another region; leave [AWS] REGION empty to look it up": (
        "PermanentRedirect AuthorizationHeaderMalformed IllegalLocationConstraintException"
    ),
    "the credentials expired; sign in again, or renew [AWS] TOKEN": "ExpiredToken",
    "set the clock of this machine": "RequestTimeTooSkewed",
    "this identity must be allowed to list and read INPUT, and to write OUTPUT": "AccessDenied",
    "check the name of the bucket, and [AWS] ENDPOINT": "NoSuchBucket ParamValidationError",
    "check [AWS] ENDPOINT and the network": "EndpointConnectionError ConnectTimeoutError",
    "this user may not read or write there": "PermissionError PermissionDeniedError",
    "a file is where a folder should be; move it": "NotADirectoryError FileExistsError",
    "rename the object: a part of its key is empty, . or .., or not UTF-8": "InvalidPathError",
}


def root_cause(error: BaseException) -> tuple[str, str, str]:
    """Type of an error, S3's code for it if there is one, and its words; of Java the root cause."""
    kind, code, words = type(error).__name__, "", str(error)
    response = getattr(error, "response", None)
    java = getattr(error, "java_exception", None) or getattr(error, "_origin", None)
    if isinstance(response, dict):
        code = response["Error"]["Code"]
    elif java:
        # the outermost error names the file or object
        words = str(java.getMessage()).partition("\n")[0]
        while java.getCause():
            java = java.getCause()
        kind = java.getClass().getName()
        words = " ".join(dict.fromkeys([words, str(java.getMessage())]))
        with suppress(Exception):
            code = java.awsErrorDetails().errorCode()
    elif answer := re.search("<Code>(.+?)</Code>.*<Message>(.+?)</Message>", words, re.DOTALL):
        # of obstore; the rest of S3's answer repeats the key
        code = answer[1]
        words = f"{code}: {answer[2]}"
    return kind, code, " ".join(words.split())


def explain(error: Exception, doing: str) -> Stop:
    """How an error ends the run: in its own words, with a hint if the cause is certain."""
    if isinstance(error, Stop):
        return error
    kind, code, words = root_cause(error)
    # an error of Java has the name of its own type
    if kind.startswith("Py4J") or kind == "ConnectionRefusedError":
        return Stop(FAILED, f"{doing}: Java exited during the run, perhaps out of memory ({words})")
    for hint, names in HINTS.items():
        if code in names.split() or kind in names.split():
            return Stop(SETTINGS, f"{doing}: {words}; {hint}")
    return Stop(FAILED, f"{doing}: {kind}: {words}")


# ── AWS: one identity, endpoint and region for every client ───────────────────────────────────


def connect(settings: Settings) -> Any:
    """The boto3 session whose identity all clients share.  Its errors quote no value of [AWS]."""
    # imported here, because local runs start faster without it
    import boto3
    from botocore.exceptions import BotoCoreError

    own_keys = (settings.key, settings.secret, settings.token or None)
    region = settings.region or os.environ.get("AWS_REGION")
    try:
        session = boto3.Session(*own_keys, region, profile_name=settings.profile or None)
        identity = session.get_credentials()
        keys = identity.get_frozen_credentials() if identity else ()
    except (BotoCoreError, OSError, ValueError) as error:
        # its text may repeat a value of dl.cfg; the last two come from a credential_process
        wrong = type(error).__name__
        raise Stop(SETTINGS, f"AWS credentials: {wrong}; correct [AWS], or sign in") from None
    if not all(keys[:2]) or not all(re.fullmatch(WORD, text or "") for text in keys[:3]):
        wrong = "KEY or SECRET is missing, or contains a space or line break"
        raise Stop(SETTINGS, f"AWS credentials: {wrong}; correct [AWS]")
    if not keys and settings.output.startswith("s3"):
        hint = "set [AWS] KEY and SECRET in dl.local.cfg, or sign in with `aws login`"
        raise Stop(SETTINGS, f"AWS credentials: none found; {hint}")
    return session


def open_location(text: str, settings: Settings) -> Location:
    """The location that a setting names; a local OUTPUT is created."""
    if text.startswith("s3"):
        return open_bucket(text, settings)
    if text == settings.output:
        Path(text).mkdir(parents=True, exist_ok=True)
    elif not Path(text).is_dir():
        raise Stop(SETTINGS, f"{text}: no such folder; INPUT must contain song_data and log_data")
    return Location(f"file://{text}", LocalStore(text))


def open_bucket(uri: str, settings: Settings) -> Location:
    """The location of an S3 prefix, reached by boto3, obstore and Spark at the same endpoint."""
    from botocore import UNSIGNED
    from botocore.config import Config
    from obstore.auth.boto3 import Boto3CredentialProvider

    name, _, prefix = uri.partition("://")[2].partition("/")
    session = settings.session
    # a public bucket needs no account
    is_signed = session.get_credentials() is not None
    config = Config(
        s3={"addressing_style": "path", "use_accelerate_endpoint": False},
        signature_version=None if is_signed else UNSIGNED,
        max_pool_connections=64,
    )
    options = {"endpoint_url": settings.endpoint or None, "config": config}
    region = session.region_name or "us-east-1"
    # the first request shows whether access works, with S3's own words if it does not
    client = session.client("s3", region_name=region, **options)
    folder = f"{prefix}/" if prefix else ""
    answer = client.list_objects_v2(Bucket=name, Prefix=folder, MaxKeys=1)
    # each bucket may be in a region of its own, to which boto3 was redirected
    region = answer["ResponseMetadata"]["HTTPHeaders"].get("x-amz-bucket-region", region)
    bucket = session.resource("s3", region_name=region, **options).Bucket(name)
    endpoint = bucket.meta.client.meta.endpoint_url
    store = S3Store(
        name,
        prefix=prefix or None,
        credential_provider=Boto3CredentialProvider(session) if is_signed else None,
        client_options={"allow_http": True, "timeout": "120s"},
        # obstore reads AWS_* variables too: what they could change is set here for good
        region=region,
        endpoint=endpoint,
        aws_endpoint_url_s3=endpoint,
        virtual_hosted_style_request=False,
        skip_signature=not is_signed,
    )
    return Location(uri, store, bucket)


def s3a_packages() -> dict[str, str]:
    """hadoop-aws, which must have the version of Spark's own Hadoop.

    If the version of its SDK is known, five modules (18 MB) replace the bundle (600 MB).
    """
    spark_home = os.environ.get("SPARK_HOME") or os.path.dirname(pyspark.__file__)
    [jar] = Path(spark_home, "jars").glob("hadoop-client-api-*.jar")
    hadoop = jar.stem.rpartition("-")[2]
    packages = [f"org.apache.hadoop:hadoop-aws:{hadoop}"]
    sdk = {"3.4.2": "2.29.52", "3.5.0": "2.35.4"}.get(hadoop)
    if not sdk:
        return {"spark.jars.packages": packages[0]}
    for module in ("s3", "s3-transfer-manager", "sts", "apache-client", "netty-nio-client"):
        packages.append(f"software.amazon.awssdk:{module}:{sdk}")
    excluded = "software.amazon.awssdk:bundle"
    return {"spark.jars.packages": ",".join(packages), "spark.jars.excludes": excluded}


def s3a_options(buckets: list[Any], settings: Settings) -> dict[str, str]:
    """The identity, endpoints and regions of obstore, in the words of hadoop-aws."""
    identity = settings.session.get_credentials()
    options = {
        # the default stream of Hadoop 3.5 is made for Parquet, not for lines of text
        "fs.s3a.input.stream.type": "classic",
        # the defaults would be hours on a store that hangs
        "fs.s3a.attempts.maximum": "2",
        "fs.s3a.retry.limit": "3",
        "fs.s3a.path.style.access": "true",
        "fs.s3a.performance.flags": "create,mkdir,delete",
    }
    kind = "Anonymous"
    if identity:
        keys = identity.get_frozen_credentials()
        kind = "Temporary" if keys.token else "Simple"
        options["fs.s3a.access.key"] = keys.access_key
        options["fs.s3a.secret.key"] = keys.secret_key
        options["fs.s3a.session.token"] = keys.token or ""
    provider = f"org.apache.hadoop.fs.s3a.{kind}AWSCredentialsProvider"
    options["fs.s3a.aws.credentials.provider"] = provider
    for bucket in buckets:
        client = bucket.meta.client.meta
        options[f"fs.s3a.bucket.{bucket.name}.endpoint"] = client.endpoint_url
        options[f"fs.s3a.bucket.{bucket.name}.endpoint.region"] = client.region_name
    return options


# ── Spark ─────────────────────────────────────────────────────────────────────────────────────

SMALL_BYTES = 64 * 2**20
# per task after a shuffle; with Spark's 200 tasks a million events take 86 CPU seconds, not 62
SHUFFLE_BYTES = 32 * 2**20
# what the guarantees rest on; no setting of a user may change it
GUARANTEES = {
    "spark.sql.session.timeZone": "UTC",
    "spark.sql.timestampType": "TIMESTAMP_LTZ",
    "spark.sql.parquet.outputTimestampType": "TIMESTAMP_MICROS",
    "spark.sql.caseSensitive": "true",
    "spark.sql.files.ignoreCorruptFiles": "false",
    "spark.sql.files.ignoreMissingFiles": "false",
}
# `python etl.py` starts Spark with these; `spark-submit` leaves all of them to its user
OPTIONS = {
    # saves 4 of 79 CPU seconds at a million events, and takes 240 MB more memory
    "spark.sql.inMemoryColumnarStorage.compressed": "false",
    # saves 1.9 of 2.4 CPU seconds that Spark needs to look at 365 log files
    "spark.sql.sources.parallelPartitionDiscovery.threshold": "1000",
    # a run needs no web page, which would open a port
    "spark.ui.enabled": "false",
}
# Most of a run on little input is code that runs for the first time. Of 19 CPU seconds for the
# sample, one compiler instead of two saves 5.5, plans that are not compiled save 1.4, and plans
# that are not revised save 0.8.
SMALL_RUN = {
    "spark.driver.extraJavaOptions": "-XX:+UseSerialGC -XX:TieredStopAtLevel=1",
    "spark.sql.codegen.factoryMode": "NO_CODEGEN",
    "spark.sql.adaptive.enabled": "false",
}
# Java's compilers take a quarter of the CPU time of a million events. If code must run five times
# as often before it is compiled, a run takes 56 CPU seconds instead of 59.
LARGE_RUN = {
    "spark.driver.extraJavaOptions": "-XX:+UseParallelGC -XX:CompileThresholdScaling=5",
}


def spark_options(run: Run) -> dict[str, Any]:
    """The settings that `python etl.py` starts Spark with."""
    size = sum(item.size for objects in run.manifest.values() for item in objects)
    options = OPTIONS | (SMALL_RUN if size < SMALL_BYTES else LARGE_RUN)
    # at 10 million events, 4 GB instead of 2 save 19 of 356 CPU seconds
    options["spark.driver.memory"] = f"{min(4, 2 + size // 2**30)}g"
    options["spark.sql.shuffle.partitions"] = str(size // SHUFFLE_BYTES + 1)
    options["spark.ui.showConsoleProgress"] = str(sys.stderr.isatty()).lower()
    options["spark.driver.extraJavaOptions"] += class_archive()
    if (run.source.bucket or run.lake.bucket) and not ON_EMR:
        options.update(s3a_packages())
        # S3A has no settings of its own for these, and AWS_* variables must not decide
        no_variables = " -Daws.useDualstackEndpoint=false -Daws.useFipsEndpoint=false"
        options["spark.driver.extraJavaOptions"] += no_variables
    else:
        # no checksum file, with a chmod process of its own, beside each file
        options["spark.hadoop.fs.file.impl"] = "org.apache.hadoop.fs.RawLocalFileSystem"
    return options


def class_archive() -> str:
    """Java's options to keep Spark's classes in an archive: saves 2.7 of 10.6 s for the sample."""
    archive = Path(pyspark.__file__).with_name(f"classes-{pyspark.__version__}.jsa")
    option = "SharedArchiveFile" if archive.exists() else "ArchiveClassesAtExit"
    if option == "ArchiveClassesAtExit" and not os.access(archive.parent, os.W_OK):
        return ""
    return f' -Xlog:disable -XX:{option}="{archive}"'


def start_spark(run: Run, active: SparkSession | None) -> SparkSession:
    """A session in UTC; off EMR it gets the identity and endpoints for S3."""
    builder = SparkSession.builder.appName("sparkify-etl")
    # under spark-submit Java runs already, with the settings of the user
    if active or "PYSPARK_GATEWAY_PORT" in os.environ:
        spark = builder.getOrCreate()
    else:
        spark = start_java(builder.config(map=spark_options(run)), run.settings.verbose)
    session_options = dict(GUARANTEES)
    buckets = [place.bucket for place in (run.source, run.lake) if place.bucket]
    if buckets and not ON_EMR:
        # set after the start: as settings of Spark they would be visible in `ps`
        session_options.update(s3a_options(buckets, run.settings))
    for name, value in session_options.items():
        spark.conf.set(name, value)
    run.scratch = run.lake
    if run.lake.bucket and str(spark.sparkContext.master).startswith("local"):
        folder = SparkFiles.getRootDirectory()
        run.scratch = Location(f"file://{folder}", LocalStore(folder))
    return spark


def start_java(builder: SparkSession.Builder, verbose: bool) -> SparkSession:
    """Starts Java and Spark.  What they print meanwhile is shown only if they do not start."""
    home = os.environ.get("JAVA_HOME")
    if not shutil.which("java", path=f"{home}/bin" if home else None):
        raise Stop(SETTINGS, "Java not found; install Java 17, 21 or 25, or set JAVA_HOME")
    printed: list[bytes] = []
    # Java keeps the stderr that it was started with: a pipe, which a thread reads
    terminal = os.dup(2)
    reader, writer = os.pipe()

    def read_stderr() -> None:
        while data := os.read(reader, 2**16):
            # Spark's progress bar begins like this
            if verbose or data.startswith(b"\r"):
                os.write(terminal, data)
            else:
                printed.append(data)

    threading.Thread(target=read_stderr, daemon=True).start()
    os.dup2(writer, 2)
    try:
        spark = builder.getOrCreate()
    except Exception as error:
        # a line that repeats Java's options may hold a secret
        os.write(terminal, re.sub(rb"Picked up .*\n", b"", b"".join(printed)))
        raise Stop(SETTINGS, f"Spark did not start: {root_cause(error)[2]}") from error
    finally:
        os.dup2(terminal, 2)
        os.close(writer)
    if not verbose:
        # an error is said in one line, also if Java is gone, which py4j would log
        spark.sparkContext.setLogLevel("OFF")
        logging.disable()
    return spark


# ── Main ──────────────────────────────────────────────────────────────────────────────────────


def main(arguments: list[str] | None = None) -> int:
    """Runs the job, and returns its exit code.  An active Spark session is used, and left open."""
    try:
        run = Run(read_settings(arguments))
    except Stop as stop:
        say(f"etl.py: {stop}", sys.stderr)
        return stop.code
    end = Stop(0, "")
    try:
        run_job(run)
    except Exception as error:
        end = explain(error, run.doing)
        # without the words of the error, which may repeat a key
        frames = traceback.format_tb(error.__traceback__)
        run.summary["traceback"] = "".join([*frames, str(end)])
    end_run(run, end)
    return run.summary["exit"]


def end_run(run: Run, stop: Stop) -> None:
    """Says how the run ended, leaves its summary, and removes what it staged for nothing."""
    summary = run.summary
    is_unpublished = run.number and not summary["commit"]
    code, error = stop.code, str(stop)
    if is_unpublished and code in (FAILED, SETTINGS):
        # a run that commits first removes what others have staged, which looks like any failure
        with suppress(Exception):
            if newest_commit(run.lake)["commit"] >= run.number:
                code, error = OVERTAKEN, str(overtaken(run))
    if code not in (0, REFUSED):
        error += "; run again to publish it" if summary["commit"] else "; nothing is published"
    summary.update(exit=code, error=error)
    if code:
        show_warnings(run)
        if run.settings.verbose:
            say(summary["traceback"], sys.stderr)
        say(f"etl.py: {error}", sys.stderr)
    elif summary["commit"]:
        show_run(run)
    try:
        if is_unpublished:
            run.lake.delete_tree(run.staging)
        is_kept = hasattr(run, "lake") and not run.settings.dry_run
        if is_kept and (code or summary["commit"]):
            run.lake.create(f"_etl/runs/{run.id}.json", json.dumps(summary, indent=1).encode())
    except Exception as error:
        warn(f"{root_cause(error)[2]}; the next run removes what this one left")


if __name__ == "__main__":
    # Ctrl-C ends the run at once, even if a store hangs; the next run finishes or removes its work
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    sys.exit(main())
