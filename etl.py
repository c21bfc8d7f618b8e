"""Song catalogue and app event logs in, a star schema out.

Reads   INPUT/song_data/   one song in each JSON file
        INPUT/log_data/    one app event a line
Writes  OUTPUT/{songplays,users,songs,artists,time}   Parquet, published whole or not at all
        OUTPUT/_etl/       commits, run summaries, rejected lines

    python etl.py          on a laptop        settings come from dl.cfg; README.md describes them
    spark-submit etl.py    on a cluster
"""

from __future__ import annotations

import os
import signal

if __name__ == "__main__":  # for a Ctrl-C while the rest is imported
    signal.signal(signal.SIGINT, lambda *_: os._exit(130))

import argparse
import codecs
import configparser
import gzip
import hashlib
import json
import logging
import re
import secrets
import shutil
import subprocess
import sys
import tempfile
import time
from collections import Counter
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import reduce
from itertools import accumulate, groupby
from pathlib import Path
from typing import NamedTuple
from urllib.parse import quote, unquote, urlsplit

import obstore
import pyspark
from obstore.exceptions import AlreadyExistsError, BaseError, InvalidPathError, PreconditionError
from obstore.store import LocalStore, S3Store
from pyspark import SparkConf, SparkContext
from pyspark.find_spark_home import _find_spark_home
from pyspark.java_gateway import launch_gateway
from pyspark.sql import Column, DataFrame, Observation, SparkSession, Window
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
PARTITIONS = {
    "songplays": ["year", "month"],
    "time": ["year", "month"],
}  # songs: SONGS_PARTITION_BY
SONG_LAYOUTS = ("year", "year,artist_id")
PLAY_KEY = ("ts", "user_id", "session_id", "item_in_session")
PLAY_CONTENT = tuple(
    "artist_name first_name gender last_name length level location title user_agent".split()
)
CATALOG = tuple(
    "song_id title artist_id artist_name duration year location latitude longitude".split()
)
WRITTEN_AT = ("year", "month", "part")
EVENT_CLASSES = (
    "blank",
    "malformed",
    "invalid",
    "out_of_scope",
    "duplicate",
    "key_conflict",
    "songplays",
)
SONG_CLASSES = ("malformed", "invalid", "duplicate", "variant", "songs")

PLAYS_PER_FILE = 250_000
SHUFFLE_BYTES = 32 * 2**20  # of input to a shuffle partition
SMALL_BYTES = 64 * 2**20  # of input, below which compiling costs more than it gains
PACK_BYTES = 8 * 2**20
GETS_IN_FLIGHT = 128  # of songs
REQUESTS_IN_FLIGHT = 64  # of all others
ANSWER_SECONDS = 120  # that a store may take for one answer, before the run gives up or asks again


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
            return {
                item["path"]: item["size"]
                for chunk in obstore.list(self.store, prefix)
                for item in chunk
            }
        found = {}  # by os.walk, as obstore hides the NAME#0 files that a cut-off copy leaves and Spark reads
        for folder, _, names in os.walk(f"{self.path}/{prefix}"):
            for path in (os.path.join(folder, name) for name in names):
                with suppress(FileNotFoundError):  # another run removed it while we looked
                    found[os.path.relpath(path, self.path)] = os.stat(path).st_size
        return found

    def put(self, key: str, data: bytes, mode: str = "overwrite", tries: int = 9) -> None:
        try:
            obstore.put(self.store, key, data, mode=mode, use_multipart=False)
        except (
            BaseError
        ) as error:  # another run may just have removed a folder above, as it was empty
            if tries == 1 or "Unable to create dir" not in str(error):
                raise
            self.put(key, data, mode, tries - 1)

    def create(self, key: str, data: bytes) -> bool:
        """Creates an object if there is none of that name; says whether it did."""
        with suppress(AlreadyExistsError):
            self.put(key, data, "create")
            return True
        return False

    def upload(self, key: str, file: Path) -> None:
        obstore.put(
            self.store, key, file, max_concurrency=2
        )  # of parts, each of which takes 5 MB of memory

    def copy(self, source: str, target: str) -> None:
        """Copies a file to a name that is never reused, so one that is there already is the same."""
        with suppress(AlreadyExistsError):
            obstore.copy(
                self.store, source, target, overwrite=bool(self.bucket)
            )  # S3 knows no copy-if-absent

    def delete(self, key: str) -> None:
        with suppress(FileNotFoundError):
            obstore.delete(self.store, key)

    def delete_tree(self, prefix: str) -> None:
        if (
            self.bucket
        ):  # boto3, because obstore cannot name the "folder/" markers that Hadoop leaves
            pages = self.bucket.objects.filter(Prefix=f"{self.path}/{prefix}/".lstrip("/")).pages()
            some = ({"Objects": [{"Key": item.key} for item in page]} for page in pages if page)
            delete = self.bucket.meta.client.delete_objects
            for answer in in_parallel(
                lambda keys: delete(Bucket=self.bucket.name, Delete=keys), some
            ):
                for error in answer.get("Errors", ()):
                    raise OSError(f"{error['Key']}: not deleted, {error['Code']}")
        else:
            shutil.rmtree(f"{self.path}/{prefix}", ignore_errors=True)


@dataclass
class Run:
    """One run: where it reads and writes, and what it has counted so far."""

    settings: Settings
    id: str  # UTC start time, then 8 hex digits
    source: Place
    lake: Place
    spool: Place | None = (
        None  # the local folder by way of which Spark writes to the lake, where there is one
    )
    number: int = 0  # of the commit that this run is to make
    committed: bool | None = False  # None: asked for, and not known
    place: str = ""  # what is being reached now, for the message when it fails
    java: subprocess.Popen | None = None
    spark: SparkSession | None = None
    pinned: dict[str, list[str]] = field(default_factory=dict)  # side -> its listing
    events: dict[str, int] = field(default_factory=dict)
    songs: dict[str, int] = field(default_factory=dict)
    tables: dict[str, dict] = field(default_factory=dict)
    seconds: dict[str, float] = field(default_factory=dict)

    @property
    def target(self) -> Place:  # of what Spark writes
        return self.spool or self.lake

    @property
    def staging(self) -> str:
        return f"_etl/staging/{self.number:09d}-{self.id}"

    def partitions(self, table: str) -> list[str]:
        return (
            self.settings.songs_partition_by.split(",")
            if table == "songs"
            else PARTITIONS.get(table, [])
        )

    @contextmanager
    def phase(self, name: str, place: str):
        print(f"{name} …", flush=True)
        self.place, start = place, time.monotonic()
        yield
        self.seconds[name] = round(time.monotonic() - start, 2)


def run_id(start: datetime) -> str:
    return f"{start:%Y%m%dT%H%M%SZ}-{secrets.token_hex(4)}"


def in_parallel(action, items) -> list:
    """What an action returns for each item, or raises: requests wait together for the store, jobs for its cores."""
    with ThreadPoolExecutor(REQUESTS_IN_FLIGHT) as pool:
        return list(pool.map(action, items))


# ── Reading: the pinned listing, packed songs, lines and their one JSON object ───────────────────────────────────────


def list_input(source: Place, side: str):
    """Yields each input object of one side as a JSON line [key, size, etag], and None for each ignored one."""
    try:
        for item in (
            item for chunk in obstore.list(source.store, side, chunk_size=1000) for item in chunk
        ):
            is_hidden = any(part[0] in "_." for part in item["path"].split("/")[1:])
            version = [item["path"], item["size"], item["e_tag"] or str(item["last_modified"])]
            yield json.dumps(version) if item["path"].endswith(".json") and not is_hidden else None
    except InvalidPathError as error:
        key = re.search(r'Path "(.*?)":|$', str(error), re.DOTALL)[1]
        raise Stop(
            SETTINGS, f"{source.uri}: a key cannot be addressed: {key!r}; rename the object"
        ) from None


def changed(source: Place, key: str) -> Stop:
    return Stop(FAILED, f"{source.uri}: input changed while it was read: {key}; run again")


def fetch(source: Place, key: str, size: int, version: str) -> bytes:
    """One object, as it was pinned and to its end."""
    try:
        data = bytes(obstore.get(source.store, key, options={"if_match": version}).bytes())
        if len(data) != size:
            raise OSError(f"{len(data)} of {size} bytes")
        return data
    except (FileNotFoundError, PreconditionError):
        raise changed(source, key) from None
    except (BaseError, OSError) as error:
        raise Stop(
            FAILED, f"{source.uri}/{key}: cannot be read to its end: {one_line(error)}; run again"
        ) from None


def pack_songs(source: Place, pinned: list[str], lake: Place, folder: str) -> int:
    """Copies song objects into a few text files of `key <TAB> line`; returns how many non-blank lines there were.

    Spark would need two requests and a task's overhead for each 300-byte object. Memory is bounded by one pack,
    whatever the catalogue's size.
    """
    records, done = 0, 0
    ends = accumulate(json.loads(line)[1] for line in pinned)
    with ThreadPoolExecutor(GETS_IN_FLIGHT) as pool:
        for number, group in groupby(
            zip(ends, pinned), key=lambda end_and_line: end_and_line[0] // PACK_BYTES
        ):
            pack, objects = bytearray(), [json.loads(line) for _, line in group]
            for (key, *_), data in zip(
                objects, pool.map(lambda item: fetch(source, *item), objects)
            ):
                for line in data.removeprefix(codecs.BOM_UTF8).split(b"\n"):
                    if line.strip(b" \t\r"):
                        pack += b"%s\t%s\n" % (quote(key).encode(), line)
                        records += 1
                done += 1
                if sys.stdout.isatty() and (done % 250 == 0 or done == len(pinned)):
                    print(
                        f"\r  song {done:,} of {len(pinned):,}",
                        end="\n" * (done == len(pinned)),
                        flush=True,
                    )
            lake.put(f"{folder}/{number:05d}.txt", bytes(pack))
    return records


def read_text(spark: SparkSession, uri: str, suffix: str) -> DataFrame:
    """Lines as they stand, one row each; a lone CR ends none, and no character of the URI is a wildcard."""
    options = {
        "lineSep": "\n",
        "recursiveFileLookup": True,
        "pathGlobFilter": f"*{suffix}",
        "__globPaths__": False,
    }
    return spark.read.options(**options).text(uri)


def read_packed_songs(spark: SparkSession, uri: str) -> DataFrame:
    """One row per packed line: `file`, the object's key percent-encoded, and `line`."""
    line = F.expr(
        "substring(CAST(value AS BINARY), instr(value, '\t') + 1)"
    )  # as bytes: it need not be UTF-8
    file = F.substring_index("value", "\t", 1)
    return read_text(spark, uri, ".txt").select(
        file.alias("file"), line.cast("string").alias("line")
    )


def key_of(source: Place, uri: str) -> str:
    return unquote(urlsplit(uri).path)[len(source.path) + 1 :]


def read_logs(spark: SparkSession, source: Place, pinned: list[str]) -> DataFrame:
    """One row per physical line of the logs: `file`, the object's URI percent-encoded, and `line`.

    Raises   Stop where Spark's listing and the pinned one differ
    """
    lines = read_text(spark, f"{source.uri}/log_data", ".json")
    keys = {key_of(source, uri) for uri in lines.inputFiles()}
    hidden = {
        key for key in keys if re.search("/[_.]", key)
    }  # Spark reads _a=b/, where else an underscore hides
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
    utf8 = (
        "is_valid_utf8(line)"
        if hasattr(F, "is_valid_utf8")
        else "decode(encode(line, 'UTF-8'), 'UTF-8') = line"
    )
    is_one_object = F.map_keys("json.wrapped").eqNullSafe(F.array(F.lit("record"), F.lit(end)))
    is_finite = [
        F.coalesce(F.abs(F.col(f"record.{name}")) < float("inf"), F.lit(True)) for name in doubles
    ]
    is_typed = reduce(Column.__and__, is_finite, F.col("json.misfit").isNull())
    malformed = (
        F.when(~F.expr(utf8), "not UTF-8")
        .when(~is_one_object | F.col("record").isNull(), "not exactly one JSON object")
        .when(~is_typed, "a number field is not a JSON number that fits its type")
    )
    parsed = lines.withColumn("json", wrapped).withColumn("record", F.col("json.wrapped")["record"])
    return parsed.withColumn("malformed", malformed)


# ── Staging: renamed, typed and classed, not yet joined or deduplicated ──────────────────────────────────────────────


def text_of(name: str, alias: str) -> Column:
    """A text field of the record, as written; "" and NULL are both NULL."""
    return F.nullif(F.col(f"record.{name}"), F.lit("")).alias(alias)


def classed(parsed: DataFrame, invalid: Column, accepted: Column, *fields: Column) -> DataFrame:
    """One row per line: file, line, bytes, class (blank, malformed, invalid or `accepted`), reason, and the fields."""
    is_blank = F.trim(F.translate("line", "\t\r", "  ")) == ""
    is_malformed = F.col("malformed").isNotNull()
    kind = F.when(is_malformed, F.when(is_blank, "blank").otherwise("malformed"))
    reason = F.when(~(is_malformed & is_blank), F.coalesce("malformed", invalid))
    text = F.expr(
        "substring(CAST(line AS BINARY), 1, octet_length(line) - CAST(endswith(line, '\r') AS INT))"
    )
    return parsed.select(
        "file",
        kind.when(invalid.isNotNull(), "invalid").otherwise(accepted).alias("class"),
        reason.alias("reason"),
        text.cast("string").alias(
            "line"
        ),  # without a CR at its end; as bytes, since it need not be UTF-8
        F.octet_length("line").alias("bytes"),
        *fields,
    )


def stage_events(lines: DataFrame) -> DataFrame:
    """One row per physical line of the logs, with its class; nothing downstream sees camelCase.

    Columns  as `classed` describes; an accepted line is a play or out_of_scope
    Units    ts in epoch milliseconds, length in seconds
    """
    user_id, page = F.expr("try_cast(record.userId AS BIGINT)"), F.col("record.page")
    is_number = F.coalesce(
        (user_id >= 0) & (user_id.cast("string") == F.col("record.userId")), F.lit(False)
    )
    lacks_key = (
        user_id.isNull()
        | F.col("record.sessionId").isNull()
        | F.col("record.itemInSession").isNull()
    )
    in_range = F.coalesce(
        F.col("record.ts").between(946_684_800_000, 4_102_444_799_999), F.lit(False)
    )
    invalid = (
        F.when(F.coalesce(page, F.lit("")) == "", "no page")
        .when(~in_range, "ts is missing or outside 2000-01-01 to 2099-12-31")
        .when(
            (F.col("record.userId") != "") & ~is_number,
            "userId is not a whole number that fits BIGINT",
        )
        .when((page == "NextSong") & lacks_key, "a play without userId, sessionId or itemInSession")
    )
    return classed(
        parse_lines(lines, EVENT, ("length",)),
        invalid,
        F.when(page == "NextSong", "play").otherwise("out_of_scope"),
        *(
            text_of("artist", "artist_name"),
            text_of("firstName", "first_name"),
            text_of("gender", "gender"),
        ),
        *(
            text_of("lastName", "last_name"),
            text_of("level", "level"),
            text_of("location", "location"),
        ),
        *(text_of("song", "title"), text_of("userAgent", "user_agent"), user_id.alias("user_id")),
        *(
            F.col("record.length"),
            F.col("record.ts"),
            F.col("record.sessionId").alias("session_id"),
        ),
        F.col("record.itemInSession").alias("item_in_session"),
    )


def stage_plays(events: DataFrame, files: int = 1) -> DataFrame:
    """Events that are plays, every copy of them, with their time.

    Columns  year, month, part: where a play is written; a month has as many parts, of some hours each, as `files`
    """
    plays = events.where(F.col("class") == "play").withColumn(
        "start_time", F.timestamp_millis("ts")
    )
    hour_of_month = (F.dayofmonth("start_time") - 1) * 24 + F.hour("start_time")
    return plays.select(
        *("start_time", F.year("start_time").alias("year"), F.month("start_time").alias("month")),
        F.floor(hour_of_month * files / (31 * 24)).alias("part"),
        *("file", "line", *PLAY_KEY, *PLAY_CONTENT),
    )


def stage_songs(lines: DataFrame) -> DataFrame:
    """One row per song record, with its class; an accepted one is a record, with the fields of CATALOG.

    Units    duration in seconds; latitude and longitude in degrees, NULL outside ±90 and ±180; year 0 is unknown
    """
    texts = [text_of(name, name) for name in ("song_id", "title", "artist_id", "artist_name")]
    is_positive = F.coalesce(F.col("record.duration") > 0, F.lit(False))
    latitude, longitude = F.col("record.artist_latitude"), F.col("record.artist_longitude")
    lacks = reduce(Column.__or__, (text.isNull() for text in texts))
    return classed(
        parse_lines(lines, SONG, ("duration", "artist_latitude", "artist_longitude")),
        F.when(lacks, "no song_id, title, artist_id or artist_name").when(
            ~is_positive, "duration not positive"
        ),
        F.lit("record"),
        *(*texts, F.col("record.duration"), F.coalesce("record.year", F.lit(0)).alias("year")),
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
    rest = ascending(
        "year", "title", "artist_id", "duration", "artist_name", "location", "latitude", "longitude"
    )
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
    return latest.select(
        "user_id", "latest.first_name", "latest.last_name", "latest.gender", "latest.level"
    )


def time_table(plays: DataFrame) -> DataFrame:
    """Time dimension: one row per distinct start_time of a play.

    Key      start_time, a UTC instant
    Source   stage_plays, each month's part in one partition
    Units    week is ISO 8601; weekday 1 is Sunday, 7 is Saturday; all in UTC
    """
    parts = {"hour": F.hour, "day": F.dayofmonth, "week": F.weekofyear, "weekday": F.dayofweek}
    columns = (part("start_time").alias(name) for name, part in parts.items())
    times = plays.select("start_time", *WRITTEN_AT).distinct()
    return times.select("start_time", *columns, "year", "month")


# ── The fact table ───────────────────────────────────────────────────────────────────────────────────────────────────


def songplay_id() -> Column:
    return F.md5(F.concat_ws("|", "user_id", "session_id", "item_in_session", "ts"))


def one_song_per_recording(catalog: DataFrame) -> DataFrame:
    """One row per recording (title, artist_name, duration): the smallest (song_id, artist_id) that names it.

    Columns  candidates: how many song_ids there were to choose from
    """
    smallest = F.min(F.struct("song_id", "artist_id")).alias("track")
    recordings = catalog.groupBy("title", "artist_name", "duration")
    named = recordings.agg(smallest, F.count_distinct("song_id").alias("candidates"))
    return named.select(
        "title", "artist_name", "duration", "track.song_id", "track.artist_id", "candidates"
    )


def match_plays(plays: DataFrame, catalog: DataFrame) -> DataFrame:
    """Every play, once, with the song_id and artist_id of its recording, or NULL where the catalogue has none."""
    same_recording = (
        (F.col("play.title") == F.col("track.title"))
        & (F.col("play.artist_name") == F.col("track.artist_name"))
        & (F.col("play.length") == F.col("track.duration"))
    )
    # many plays to at most one track
    matched = plays.alias("play").join(
        one_song_per_recording(catalog).alias("track"), on=same_recording, how="left"
    )
    return matched.select("play.*", "track.song_id", "track.artist_id", "track.candidates")


def settle_copies(plays: DataFrame) -> DataFrame:
    """Adds `outcome` to each copy of a play: songplays for the one kept, key_conflict or duplicate.

    Of the copies with one natural key the smallest content is kept; each further content is a conflict, once; the
    rest are replays. WRITTEN_AT follows from ts; it is named so that plays that lie as they are written stay there.
    """
    same_key = Window.partitionBy(*PLAY_KEY, *WRITTEN_AT).orderBy(*ascending(*PLAY_CONTENT))
    number, rank = F.row_number().over(same_key), F.rank().over(same_key)
    outcome = (
        F.when(number == 1, "songplays").when(number == rank, "key_conflict").otherwise("duplicate")
    )
    return plays.withColumn("outcome", outcome)


def songplays_table(settled: DataFrame) -> DataFrame:
    """Fact, factless: one row per NextSong event, matched to at most one song.

    Key      songplay_id, md5 hex of `userId|sessionId|itemInSession|ts`
    Source   match_plays, settle_copies
    Dropped  replayed copies and further contents of one natural key
    Units    start_time is a UTC instant; level, location and user_agent are as of the play
    """
    kept = settled.where(F.col("outcome") == "songplays").withColumn("songplay_id", songplay_id())
    return kept.select(*(column.split()[0] for column in COLUMNS["songplays"].split(", ")))


# ── Audit: what was staged, read back ────────────────────────────────────────────────────────────────────────────────


def read_staged(run: Run, name: str) -> DataFrame:
    """A staged table as readers will see it.  Raises Stop where its columns are not those of COLUMNS."""
    staged = run.spark.read.option("__globPaths__", False).parquet(
        f"{run.target.uri}/{run.staging}/{name}"
    )
    folders = run.partitions(name)
    promised = sorted(
        COLUMNS[name].split(", "), key=lambda column: column.split()[0] in folders
    )  # folders read last
    found = [
        f"{column} {'STRING' if column in folders else kind.upper()}"
        for column, kind in staged.dtypes
    ]
    if found != promised[: -len(folders) or None] + [f"{column} STRING" for column in folders]:
        raise Stop(
            FAILED, f"audit: {name} has the columns {found}, not {promised}; nothing is published"
        )
    return staged.select(
        *(F.col(column).cast(kind) for column, kind in (item.split() for item in promised))
    )


def audit(run: Run, tables: dict[str, DataFrame]) -> dict[str, int]:
    """Checks the staged tables against each other and the account; returns how many rows each has.

    Raises   Stop naming the check and its numbers: an account that does not balance, a row count that is not the
             account's, a key that is NULL or there twice, a reference to a dimension row that is not there
    """
    counts = []
    for name, key in KEYS.items():
        rows = tables[name].select(
            F.col(key).alias("key"), F.lit(1).alias("row"), F.lit(0).alias("reference")
        )
        if name != "songplays":
            references = tables["songplays"].where(F.col(key).isNotNull())
            rows = rows.unionAll(references.select(key, F.lit(0), F.lit(1)))
        keys = rows.groupBy("key").agg(
            F.sum("row").alias("rows"), F.sum("reference").alias("references")
        )
        is_row = F.col("key").isNotNull() & (F.col("rows") > 0)
        sums = (
            F.sum("rows"),
            F.count_if(is_row),
            F.sum("references"),
            F.sum(F.when(is_row, F.col("references"))),
        )
        counts.append(keys.agg(F.lit(name), *sums))
    found = {
        name: [number or 0 for number in sums]
        for name, *sums in reduce(DataFrame.unionAll, counts).collect()
    }
    rows, run.events["matched"] = {name: found[name][0] for name in COLUMNS}, found["songs"][2]
    checks = {f"{name}: rows and distinct keys": sums[:2] for name, sums in found.items()}
    checks.update(
        {
            f"songplays.{KEYS[name]}: references and rows found": sums[2:]
            for name, sums in found.items()
        }
    )
    for side, whole, classes in (
        (run.events, "lines", EVENT_CLASSES),
        (run.songs, "records", SONG_CLASSES),
    ):
        checks[f"{whole} and the sum of their classes"] = (
            side[whole],
            sum(side[name] for name in classes),
        )
        checks[f"rows of {classes[-1]} and the account's"] = rows[classes[-1]], side[classes[-1]]
    for check, (left, right) in checks.items():
        if left != right:
            raise Stop(
                FAILED,
                f"audit: {check}: {left:,} and {right:,} should be equal; nothing is published",
            )
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
        raise Stop(
            SETTINGS,
            f"{run.lake.uri}: the store overwrites where it should only create; choose another store",
        )


def newest(lake: Place, folder: str) -> int:
    """The newest number in `_etl/commits` or `_etl/done`; 0 where there is none."""
    names = (key.rpartition("/")[2] for key in lake.list(f"_etl/{folder}"))
    return max(
        (int(name[:9]) for name in names if re.fullmatch(r"\d{9}(\.json)?", name)), default=0
    )


def read_commit(lake: Place, number: int) -> dict:
    return json.loads(bytes(obstore.get(lake.store, f"_etl/commits/{number:09d}.json").bytes()))


def live_files(commit: dict) -> dict[str, dict]:
    """What a commit says the tables hold: key -> {"staged": key, "bytes": size}."""
    return {
        f"{table}/{name}": file
        for table in COLUMNS
        for name, file in commit["tables"][table]["files"].items()
    }


def list_tables(lake: Place) -> dict[str, int]:
    """Key and size of the job's own files in the table folders.

    Raises   Stop where a folder holds a file of somebody else's that a reader would take for rows
    """
    found = {
        key: size for listed in in_parallel(lake.list, COLUMNS) for key, size in listed.items()
    }
    for key, size in found.items():
        name = key.rpartition("/")[2]
        if not OURS.fullmatch(key) and (
            name.endswith(".parquet") or (size and name[0] not in "_.")
        ):
            raise Stop(
                SETTINGS,
                f"{lake.uri}/{key}: not written by this job; move it, or choose another OUTPUT",
            )
    return {key: size for key, size in found.items() if OURS.fullmatch(key)}


def superseded(present: dict[str, int], number: int, live: dict[str, dict]) -> list[str]:
    """Files of this or an earlier commit that this commit does not list; those of a later one are not ours to judge."""
    return [key for key in present if int(OURS.fullmatch(key)[1]) <= number and key not in live]


def overtaken(run: Run) -> Stop:
    first = f"another run made commit {run.number} first, nothing is published; run again"
    return Stop(OVERTAKEN, f"{run.lake.uri}: {first}")


def commit(run: Run, record: dict) -> None:
    """Creates the commit that makes this run's staged tables the live ones.

    Raises   Stop where another run made this commit first, or already removed our staging
    """
    key, error = f"_etl/commits/{run.number:09d}.json", "its staging is gone"
    if {file["staged"] for file in live_files(record).values()} <= run.lake.list(
        run.staging
    ).keys():
        run.committed = None  # from here on nobody may remove the staging but who knows what became of the commit
        try:
            run.lake.create(key, json.dumps(record, indent=1).encode())
        except BaseError as lost:  # it may have been made all the same: reading it back tells
            error = f"no answer ({one_line(lost)})"
    try:
        run.committed = read_commit(run.lake, run.number)["run"] == run.id
    except FileNotFoundError:
        raise Stop(
            FAILED, f"{run.lake.uri}/{key}: {error}, nothing is published; run again"
        ) from None
    if not run.committed:
        raise overtaken(run)


def publish(lake: Place, number: int) -> None:
    """Makes the table folders hold just what a commit lists.  Any run may repeat it wherever another broke off.

    Raises   Stop where the files are not as listed afterwards
    """
    live = live_files(read_commit(lake, number))
    try:
        present = list_tables(lake)
        in_parallel(lambda key: lake.copy(live[key]["staged"], key), live.keys() - present.keys())
        present = list_tables(lake)
        if in_parallel(lake.delete, superseded(present, number, live)):
            present = list_tables(lake)
        for key in [key for key in live if present.get(key) != live[key]["bytes"]] + superseded(
            present, number, live
        ):
            raise FileNotFoundError(f"{key} is not as the commit lists it")
        lake.create(f"_etl/done/{number:09d}", b"")
    except Exception as error:
        with suppress(BaseError):
            if number <= newest(lake, "done") or number < newest(lake, "commits"):
                return  # another run finished it, or published a newer one, and removed what was staged
        unfinished = (
            f"commit {number} is made, publication unfinished; run again ({one_line(error)})"
        )
        raise Stop(FAILED, f"{lake.uri}: {unfinished}") from None


def clean(lake: Place) -> None:
    """Removes what no reader or publisher can want: staging first, or a publisher that slept could bring files back."""
    number, yesterday = newest(lake, "done"), run_id(datetime.now(UTC) - timedelta(days=1))
    in_parallel(
        lake.delete, [key for key in lake.list("_etl/probes") if key.rpartition("/")[2] < yesterday]
    )
    for folder in set(
        re.findall(
            r"^_etl/staging/(\d{9}-[^/]+)", "\n".join(lake.list("_etl/staging")), re.MULTILINE
        )
    ):
        if int(folder[:9]) <= number:
            lake.delete_tree(f"_etl/staging/{folder}")
    if number:
        in_parallel(
            lake.delete,
            superseded(list_tables(lake), number, live_files(read_commit(lake, number))),
        )


def recover(lake: Place) -> None:
    """Finishes what earlier runs left."""
    if newest(lake, "commits") > newest(lake, "done"):
        publish(lake, newest(lake, "commits"))
    clean(lake)


# ── The two processes: read, derive, stage ───────────────────────────────────────────────────────────────────────────


def write(run: Run, rows: DataFrame, kind: str, folder: str, *partitions: str) -> None:
    """Lets Spark write a folder of the lake; by way of a local one where Spark has no other machine to write from.

    S3A's committer sends a dozen requests a file, one after another, where an upload sends one.
    """
    rows.write.partitionBy(*partitions).format(kind).save(f"{run.target.uri}/{folder}")
    if run.spool:
        files = [key for key in run.spool.list(folder) if key.rpartition("/")[2][0] not in "_."]
        try:
            in_parallel(lambda key: run.lake.upload(key, Path(run.spool.path, key)), files)
        except BaseError as error:
            known = explain(error, run.lake.uri)
            raise Stop(known.code, f"{known}, nothing is published") from None


def stage_table(run: Run, name: str, table: DataFrame) -> None:
    write(run, table, "parquet", f"{run.staging}/{name}", *run.partitions(name))
    print(f"  {name} staged", flush=True)


def keep_rejected(run: Run, kind: str, rejected: DataFrame) -> None:
    """Writes rejected lines as JSON lines: file, reason, and raw, or raw_base64 where the line is not UTF-8."""
    is_text = F.col("reason") != "not UTF-8"
    uri = F.url_decode(
        F.replace(F.col("file"), F.lit("+"), F.lit("%2B"))
    )  # url_decode takes "+" for a blank
    root = run.source.uri.replace("file://", "file:") + "/"
    base64 = F.translate(F.base64(F.col("line").cast("binary")), "\r\n", "")
    texts = (
        F.when(is_text, F.col("line")).alias("raw"),
        F.when(~is_text, base64).alias("raw_base64"),
    )
    kept = rejected.select(F.replace(uri, F.lit(root), F.lit("")).alias("file"), "reason", *texts)
    write(run, kept, "json", f"_etl/quarantine/{run.id}/{kind}")


def check_account(
    run: Run, side: str, staged: DataFrame, account: dict[str, int], total: int
) -> None:
    """Keeps a side's rejected lines; raises Stop where their share is too large, or nothing of the side is accepted."""
    rejected = account["malformed"] + account["invalid"]
    if rejected:
        keep_rejected(run, side, staged.where("reason IS NOT NULL"))
    where = f"{run.source.uri}/{side}: {rejected:,} of {total:,} lines are malformed or invalid"
    kept = f"see {run.lake.uri}/_etl/quarantine/{run.id}; the published tables are untouched"
    if rejected > run.settings.max_rejected * total:
        raise Stop(
            REFUSED,
            f"{where}, more than MAX_REJECTED = {run.settings.max_rejected:g} allows; {kept}",
        )
    if not account["play"] + account["record"]:
        raise Stop(
            REFUSED, f"{where} and no other is a {'play' if side == 'log_data' else 'song'}; {kept}"
        )


def process_song_data(run: Run) -> DataFrame:
    """Packed song records in; songs and artists staged.  Returns the catalog, cached: matching reads it again."""
    records = stage_songs(
        read_packed_songs(run.spark, f"{run.lake.uri}/{run.staging}/packed")
    ).cache()
    account = Counter(dict(records.groupBy("class").count().collect()))
    check_account(run, "song_data", records, account, run.songs["records"])

    catalog = stage_catalog(records).cache()
    distinct, songs = catalog.agg(F.count("*"), F.count_distinct("song_id")).first()
    run.songs.update(malformed=account["malformed"], invalid=account["invalid"])
    run.songs.update(duplicate=account["record"] - distinct, variant=distinct - songs, songs=songs)
    tasks = (
        run.spark.sparkContext.defaultParallelism
    )  # said, as else Spark takes one for so few bytes in many files
    stage_table(run, "songs", songs_table(catalog).repartition(tasks, *run.partitions("songs")))
    stage_table(run, "artists", artists_table(catalog))
    return catalog


def process_log_data(run: Run, catalog: Future[DataFrame]) -> None:
    """Event lines in; users, time and songplays staged, the last as soon as the catalog is there to match with.

    Raises   Stop where the bytes that were read are not those of the pinned files
    """
    lines = read_logs(run.spark, run.source, run.pinned["log_data"])
    # one parse for all that follows; without the accepted lines' text, it takes a tenth of the logs' size
    events = (
        stage_events(lines)
        .withColumn("line", F.when(F.col("reason").isNotNull(), F.col("line")))
        .cache()
    )
    month = F.when(F.col("class") == "play", F.date_trunc("month", F.timestamp_millis("ts")))
    counts = events.groupBy("file", "class", month).agg(F.count("*"), F.sum("bytes")).collect()
    account, read, plays_in = Counter(), Counter(), Counter()
    for uri, kind, play_month, count, size in counts:
        account[kind] += count
        read[key_of(run.source, uri)] += count + size
        plays_in[play_month] += count if kind == "play" else 0
    for key, size, _ in map(json.loads, run.pinned["log_data"]):
        # each line has its line end, but perhaps the last; a BOM at the start is 3 bytes that Spark skips
        if size - read[key] not in (0, -1, 3, 2):
            raise changed(run.source, key)
    run.events["lines"] = sum(account.values())
    check_account(run, "log_data", events, account, run.events["lines"] - account["blank"])
    plays = stage_plays(events, files=-(-max(plays_in.values()) // PLAYS_PER_FILE))
    # one bit a play, by its key: those of conflicts tell where to look for them again
    bit_of_key = F.expr(f"shiftleft(1L, CAST(pmod(xxhash64({', '.join(PLAY_KEY)}), 64) AS INT))")

    def stage_songplays() -> None:
        matched = match_plays(plays, catalog.result())
        settled = settle_copies(
            matched.repartition(*WRITTEN_AT)
        )  # one shuffle for both, copies and files
        is_ambiguous = (F.col("outcome") == "songplays") & (F.col("candidates") > 1)
        is_conflict, seen = F.col("outcome") == "key_conflict", Observation()
        settled = settled.observe(
            seen,
            F.count_if(F.col("outcome") == "duplicate").alias("duplicate"),
            F.count_if(is_conflict).alias("key_conflict"),
            F.count_if(is_ambiguous).alias("ambiguous"),
            F.bit_or(F.when(is_conflict, bit_of_key)).alias("bits"),
        )
        stage_table(run, "songplays", songplays_table(settled))
        account.update(
            {name: seen.get[name] for name in ("duplicate", "key_conflict", "ambiguous")}
        )
        account["songplays"] = account["play"] - account["duplicate"] - account["key_conflict"]
        run.events.update({name: account[name] for name in (*EVENT_CLASSES, "ambiguous")})
        if account["key_conflict"]:
            near = plays.where(bit_of_key.bitwiseAND(F.lit(seen.get["bits"])) != 0)
            keep_rejected(run, "key_conflict", key_conflicts(near, lines))

    users, times = users_table(events), time_table(plays.repartition(*WRITTEN_AT))
    stages = (
        stage_songplays,
        lambda: stage_table(run, "time", times),
        lambda: stage_table(run, "users", users),
    )
    in_parallel(lambda stage: stage(), stages)


def key_conflicts(plays: DataFrame, lines: DataFrame) -> DataFrame:
    """One row per key_conflict, with its line, which is looked up in the few files that hold one."""
    content = ("file", *PLAY_KEY, *PLAY_CONTENT)
    conflicts = (
        settle_copies(plays).where(F.col("outcome") == "key_conflict").select(*content).cache()
    )
    files = [file for (file,) in conflicts.select("file").distinct().collect()]
    again = stage_plays(stage_events(lines.where(F.col("file").isin(files)))).alias("again")
    same = reduce(
        Column.__and__,
        (F.col(f"again.{name}").eqNullSafe(F.col(f"conflict.{name}")) for name in content),
    )
    found = again.join(F.broadcast(conflicts.alias("conflict")), on=same, how="left_semi")
    reason = F.concat(F.lit("another content of the play "), songplay_id()).alias("reason")
    return found.groupBy(*content).agg(F.min("line").alias("line")).select("file", reason, "line")


# ── Settings: command line, then dl.cfg, then default ────────────────────────────────────────────────────────────────

KNOWN = {
    "AWS": ("KEY", "SECRET", "TOKEN", "PROFILE", "REGION", "ENDPOINT"),
    "DATA": ("INPUT", "OUTPUT"),
    "JOB": ("SONGS_PARTITION_BY", "MAX_REJECTED"),
}
FLAGS = {
    "--config": "settings file (default: ./dl.cfg, else dl.cfg beside etl.py)",
    "--input": "folder or s3a:// prefix that holds song_data/ and log_data/",
    "--output": "folder or s3a:// prefix for the tables",
    "--songs-partition-by": f"folders of the songs table: {' or '.join(SONG_LAYOUTS)}",
    "--max-rejected": "share of lines that may be malformed or invalid, from 0 to 1",
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
    parser, wrong = configparser.ConfigParser(interpolation=None), ""
    try:
        parser.read_string(path.read_text(encoding="utf-8-sig"))
    except OSError as error:
        wrong = f"{error.strerror}; name a settings file with --config"
    except UnicodeDecodeError:
        wrong = "not UTF-8 text; save it as UTF-8"
    except configparser.MissingSectionHeaderError as error:
        wrong = f"line {error.lineno} stands before any section; begin with [AWS]"
    except configparser.ParsingError as error:
        wrong = f"line {error.errors[0][0]} is not `KEY = value`; correct it"
    except configparser.Error as error:
        wrong = f"line {error.lineno} repeats a section or key; keep one of them"
    if wrong:
        raise Stop(SETTINGS, f"{path}: {wrong}")
    values = {}
    for section, name, value in (
        (part, name.upper(), text) for part in parser for name, text in parser.items(part)
    ):
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
    if (
        scheme not in ("s3", "s3a")
        or not bucket
        or {"", ".", ".."} & set(prefix.split("/") if prefix else ())
    ):
        raise Stop(
            SETTINGS,
            f"{where}: {value} cannot be used; name a folder, file:///folder or s3a://bucket/prefix",
        )
    return f"{scheme if ON_EMR else 's3a'}://{bucket}" + (f"/{prefix}" if prefix else "")


def read_settings(arguments: list[str]) -> Settings:
    """Raises Stop naming the setting, where it stands and what would be right."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    for flag, text in FLAGS.items():
        parser.add_argument(flag, help=text)
    parser.add_argument("--dry-run", action="store_true", help="check everything, write nothing")
    parser.add_argument("--force", action="store_true", help="rebuild although nothing changed")
    given = parser.parse_args(arguments)
    beside = [
        path for path in (Path("dl.cfg"), Path(__file__).with_name("dl.cfg")) if path.is_file()
    ]
    config = Path(given.config) if given.config else next(iter(beside), None)
    values = read_config(config) if config else {}
    where = config or "no dl.cfg"
    aws = {name: values.get(name, "") for name in KNOWN["AWS"]}
    layout = given.songs_partition_by or values.get("SONGS_PARTITION_BY") or SONG_LAYOUTS[0]
    layout, share = (
        layout.replace(" ", "").lower(),
        given.max_rejected or values.get("MAX_REJECTED") or "0.01",
    )
    paths = {name: getattr(given, name.lower()) or values.get(name) for name in KNOWN["DATA"]}
    for is_wrong, wrong in (
        (
            bool(aws["KEY"]) != bool(aws["SECRET"]),
            "[AWS] has one of KEY and SECRET; give both or neither",
        ),
        (
            aws["KEY"].startswith("ASIA") and not aws["TOKEN"],
            "[AWS] KEY is a temporary one (ASIA…); add its TOKEN",
        ),
        (aws["KEY"] and aws["PROFILE"], "[AWS] has both KEY and PROFILE; keep one of them"),
        (
            layout not in SONG_LAYOUTS,
            f"SONGS_PARTITION_BY is {layout}; choose {' or '.join(SONG_LAYOUTS)}",
        ),
        (
            not re.fullmatch(r"0?\.\d+|[01](\.0*)?", share),
            f"MAX_REJECTED is {share}; it is a share from 0 to 1",
        ),
        *(
            (not path, f"[DATA] has no {name}; name a folder or an s3a:// prefix")
            for name, path in paths.items()
        ),
    ):
        if is_wrong:
            raise Stop(SETTINGS, f"{where}: {wrong}")
    for name, path in paths.items():
        base = config.parent if config and not getattr(given, name.lower()) else Path()
        paths[name] = locate(path, base, f"{where}: {name}")
    source, lake = (
        f"{os.path.realpath(uri[7:]) if uri[0] == 'f' else uri.split(':')[1]}/"
        for uri in paths.values()
    )
    if lake.startswith(source):
        raise Stop(SETTINGS, f"{where}: OUTPUT {lake} lies in INPUT {source}; name another OUTPUT")
    return Settings(aws, *paths.values(), layout, float(share), given.dry_run, given.force)


# ── Session and main ─────────────────────────────────────────────────────────────────────────────────────────────────

HINTS = {  # what an error's text holds, and what to do; the first that matches is said
    "InvalidAccessKeyId": "AWS does not know this KEY; check [AWS] KEY, and TOKEN if it begins with ASIA",
    "SignatureDoesNotMatch": "the SECRET does not fit the KEY; check [AWS] SECRET and this machine's clock",
    r"ExpiredToken|InvalidToken|\bSSO": "the credentials have expired; sign in again",
    "NoSuchBucket|UnknownStore": "there is no such bucket; check the name, and [AWS] ENDPOINT",
    "PermanentRedirect|AuthorizationHeaderMalformed": "the bucket is in another region; correct [AWS] REGION",
    "AccessDenied|Forbidden": "access is denied; let this identity list and read, and on OUTPUT write and delete",
    "unresolved dependency|UnresolvedDep": "hadoop-aws cannot be fetched; check the network and Maven's address",
    "error sending request|ConnectException|UnknownHost": "no answer; check [AWS] ENDPOINT, REGION and the network",
    "S3AFileSystem": "Spark lacks hadoop-aws; add --packages org.apache.hadoop:hadoop-aws:VERSION, as README.md says",
    "JAVA_GATEWAY|UnsupportedClassVersion|getSubject": "Java did not start, or does not fit this Spark; let JAVA_HOME "
    "name Java 17 or 21, and check Spark's settings",
    "No space left|File too large": "the disk is full; free some, or name another OUTPUT or spark.local.dir",
    r"\S+ \(Permission denied\)|Permission denied|Read-only file|[Nn]ot a directory|File exists": "this user may not "
    "read or write there; correct that, or name another folder",
}


def one_line(error: BaseException) -> str:
    """An error and its root cause without stack traces."""
    java = getattr(error, "java_exception", None) or getattr(error, "_origin", None)
    causes = [java.toString() if java else str(error) or type(error).__name__]
    while java and java.getCause():
        java = java.getCause()
        causes[1:] = [java.toString()]
    return ": ".join(cause.strip().splitlines()[0][:300] for cause in causes)


def explain(error: BaseException, place: str) -> Stop:
    """What went wrong at a place: a known cause with its remedy, any other in its own words."""
    for text, remedy in HINTS.items():
        found = re.search(text, f"{one_line(error)} {error}")
        if found:
            is_late = "disk is full" in remedy or ("this user" in remedy and place == "Spark")
            return Stop(FAILED if is_late else SETTINGS, f"{place}: {remedy} ({found[0]})")
    return Stop(FAILED, f"{place}: {one_line(error)}")


def hadoop_version() -> str:
    """The version of Spark's own Hadoop, which hadoop-aws must have exactly."""
    jars = Path(_find_spark_home(), "jars").glob("hadoop-client-api-*.jar")
    return next((jar.stem.rpartition("-")[2] for jar in jars), "VERSION")


def check_java() -> None:
    """Raises Stop where Python is to start a Java that is not there or too old for this Spark."""
    spark, home = pyspark.__version__, os.environ.get("JAVA_HOME")
    lowest, names = (17, "17 or 21") if int(spark.split(".")[0]) >= 4 else (8, "8, 11 or 17")
    java = shutil.which("java", path=f"{home}/bin" if home else None)
    found = f"no Java in {f'JAVA_HOME, {home}' if home else 'PATH, and JAVA_HOME is not set'}"
    if java:
        said = subprocess.run(
            [java, "-version"], stdin=subprocess.DEVNULL, capture_output=True, text=True
        ).stderr
        version = re.search(r'version "(?:1\.)?(\d+)', said)
        if version and int(version[1]) >= lowest:
            return
        found = f"{java} is Java {version[1] if version else 'of no known version'}"
    raise Stop(
        SETTINGS,
        f"{found}; Spark {spark} needs Java {names}: install it, and let JAVA_HOME name its folder",
    )


def connect(settings: Settings):
    """The boto3 session whose identity all clients share; None where no path is on S3."""
    if settings.input.startswith("file") and settings.output.startswith("file"):
        return None
    import boto3  # here, as local runs start faster without
    from botocore.exceptions import BotoCoreError

    names = ("aws_access_key_id", "aws_secret_access_key", "aws_session_token", "profile_name")
    own = {name: value for name, value in zip(names, settings.aws.values()) if value}
    if ON_EMR and own:
        warn(
            "[AWS] KEY, SECRET, TOKEN and PROFILE are ignored on EMR, where the cluster's role decides"
        )
        own = {}
    try:
        session = boto3.Session(region_name=settings.aws["REGION"] or None, **own)
        session.get_credentials().get_frozen_credentials()
    except AttributeError:  # get_credentials found None
        looked = "dl.cfg, the environment, ~/.aws, SSO, container and instance role"
        raise Stop(
            SETTINGS, f"no AWS credentials in {looked}; set [AWS] KEY and SECRET, or sign in"
        ) from None
    except BotoCoreError as error:
        raise Stop(
            SETTINGS, f"AWS credentials: {one_line(error)}; correct [AWS], or sign in again"
        ) from None
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
    endpoint, region = (
        settings.aws["ENDPOINT"] or None,
        settings.aws["REGION"] or session.region_name or "us-east-1",
    )
    if not (
        endpoint or settings.aws["REGION"]
    ):  # each bucket may be in a region of its own, which S3 tells anybody
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
        client_options={
            "allow_http": True,
            "connect_timeout": "5s",
            "timeout": f"{ANSWER_SECONDS}s",
        },
        retry_config={"max_retries": 6, "retry_timeout": timedelta(seconds=60)},
        **({"endpoint": endpoint, "virtual_hosted_style_request": False} if endpoint else {}),
    )
    patience = {
        "connect_timeout": 5,
        "read_timeout": ANSWER_SECONDS,
        "retries": {"max_attempts": 2},
    }
    style = {"addressing_style": "path" if endpoint else "auto"}
    config = Config(s3=style, max_pool_connections=REQUESTS_IN_FLIGHT, **patience)
    s3 = session.resource("s3", region_name=region, endpoint_url=endpoint, config=config)
    return Place(store, uri, f"/{prefix}" if prefix else "", s3.Bucket(name))


def s3a_packages(hadoop: str) -> dict[str, str]:
    """hadoop-aws for Spark's Hadoop, where its SDK is known with five modules (18 MB) instead of the bundle (600)."""
    sdk = {"3.4.2": "2.29.52", "3.5.0": "2.35.4"}.get(hadoop)
    modules = (
        ("s3", "s3-transfer-manager", "sts", "apache-client", "netty-nio-client") if sdk else ()
    )
    packages = [
        f"org.apache.hadoop:hadoop-aws:{hadoop}",
        *(f"software.amazon.awssdk:{name}:{sdk}" for name in modules),
    ]
    excluded = {"spark.jars.excludes": "software.amazon.awssdk:bundle"} if sdk else {}
    return {"spark.jars.packages": ",".join(packages), **excluded}


def s3a_options(run: Run, session) -> dict[str, str]:
    """The identity, endpoint and regions of obstore, as hadoop-aws names them."""
    credentials, endpoint = (
        session.get_credentials().get_frozen_credentials(),
        run.settings.aws["ENDPOINT"],
    )
    kind = "Temporary" if credentials.token else "Simple"
    options = {
        "fs.s3a.access.key": credentials.access_key,
        "fs.s3a.secret.key": credentials.secret_key,
        "fs.s3a.session.token": credentials.token,
        "fs.s3a.aws.credentials.provider": f"org.apache.hadoop.fs.s3a.{kind}AWSCredentialsProvider",
        "fs.s3a.endpoint": endpoint,
        "fs.s3a.path.style.access": str(bool(endpoint)).lower(),
        "fs.s3a.input.stream.type": "classic",
        "fs.s3a.connection.establish.timeout": "5s",
        "fs.s3a.connection.timeout": f"{ANSWER_SECONDS}s",
        "fs.s3a.connection.request.timeout": f"{ANSWER_SECONDS}s",
        "fs.s3a.attempts.maximum": "2",  # for each of Hadoop's own: 5 and 7 would be hours on a store that hangs
        "fs.s3a.retry.limit": "3",
        "fs.s3a.performance.flags": "create,mkdir,delete",
    }
    for bucket in filter(None, (run.source.bucket, run.lake.bucket)):
        options[f"fs.s3a.bucket.{bucket.name}.endpoint.region"] = (
            bucket.meta.client.meta.region_name
        )
    return {name: value for name, value in options.items() if value}


def launch_java(run: Run, conf: SparkConf) -> None:
    """Starts Spark's Java; what it says on the way is said only where it fails."""
    with tempfile.TemporaryFile("w+") as words:
        try:
            gateway = launch_gateway(conf, {"stderr": words})
            run.java = gateway.proc
            SparkContext(conf=conf, gateway=gateway)
        except Exception as error:
            words.seek(0)
            said = [
                line.strip() for line in words if re.search("(?i)error|exception|unresolved", line)
            ]
            stop = explain(RuntimeError(" ".join([*said, one_line(error)])), "Spark")
            raise Stop(stop.code, ": ".join([str(stop), *said[:1]])) from None
    if sys.stderr.isatty():  # for the progress bar
        gateway.jvm.System.setErr(gateway.jvm.java.io.PrintStream("/dev/tty"))


PLAIN_FILES = """
    package sparkify;
    public class PlainFiles extends org.apache.hadoop.fs.LocalFileSystem {
        public PlainFiles() {
            super(new org.apache.hadoop.fs.RawLocalFileSystem() {
                public void setPermission(
                    org.apache.hadoop.fs.Path path, org.apache.hadoop.fs.permission.FsPermission permission) {}
            });
            setWriteChecksum(false);
        }
    }
"""


def spare_chmod(spark: SparkSession) -> None:
    """Lets this process create local files as the system does it.

    Hadoop without its native library starts a chmod for each folder, file and checksum file, which takes three
    quarters of the time that Spark needs for a small one.
    """
    jvm, conf = spark.sparkContext._jvm, spark.sparkContext._jsc.hadoopConfiguration()
    compiler, local = jvm.org.codehaus.janino.SimpleCompiler(), jvm.java.net.URI("file:///")
    compiler.setParentClassLoader(conf.getClassLoader())
    compiler.cook(PLAIN_FILES)
    plain = jvm.org.apache.hadoop.conf.Configuration(conf)
    plain.setClassLoader(compiler.getClassLoader())
    plain.set("fs.file.impl", "sparkify.PlainFiles")
    jvm.org.apache.hadoop.fs.FileSystem.get(
        local, conf
    ).close()  # makes way in the cache that all of Spark asks
    jvm.org.apache.hadoop.fs.FileSystem.get(local, plain)


def start_spark(run: Run, session) -> SparkSession:
    """A session in UTC; off EMR, with a path on S3, also hadoop-aws at Spark's own Hadoop version."""
    size = sum(json.loads(line)[1] for side in run.pinned.values() for line in side)
    is_s3_ours = session and not ON_EMR
    options = {
        "spark.sql.session.timeZone": "UTC",
        "spark.sql.parquet.outputTimestampType": "TIMESTAMP_MICROS",
        "spark.sql.caseSensitive": "true",
        "spark.sql.sources.partitionColumnTypeInference.enabled": "false",
        "spark.sql.optimizer.canChangeCachedPlanOutputPartitioning": "true",  # a small catalog in few partitions
        "spark.sql.sources.parallelPartitionDiscovery.threshold": "8"
        if session
        else "1000",  # folders listed by tasks
        "spark.sql.sources.parallelPartitionDiscovery.parallelism": "64",  # such tasks, not one for each folder
        "spark.sql.maxConcurrentOutputFileWriters": "4",  # a task's rows need no sort for that few folders
        "spark.sql.files.ignoreCorruptFiles": "false",
        "spark.sql.files.ignoreMissingFiles": "false",
    }
    conf = SparkConf().setAppName("sparkify-etl").setAll(options.items())
    if (
        not ON_EMR
    ):  # a rename less a file: what a task left half done in staging, the audit would find
        conf.set("spark.hadoop.mapreduce.fileoutputcommitter.algorithm.version", "2")
        conf.set("spark.hadoop.mapreduce.fileoutputcommitter.marksuccessfuljobs", "false")
    if (
        "PYSPARK_GATEWAY_PORT" not in os.environ
    ):  # spark-submit takes these on its own command line only
        conf.set("spark.ui.showConsoleProgress", str(sys.stderr.isatty()).lower())
        conf.setIfMissing("spark.driver.memory", "2g")
        conf.set("spark.driver.extraJavaOptions", "-XX:+UseParallelGC")
        if (
            size < SMALL_BYTES
        ):  # half of such a run is Java loading classes, and these come from Spark's own jars
            conf.set(
                "spark.driver.extraJavaOptions",
                "-XX:+UseSerialGC -XX:TieredStopAtLevel=1 -Xverify:none",
            )
            conf.set("spark.sql.codegen.wholeStage", "false").set(
                "spark.sql.codegen.factoryMode", "NO_CODEGEN"
            )
            conf.set("spark.ui.enabled", "false")
        if is_s3_ours:
            conf.setAll(s3a_packages(hadoop_version()).items())
        launch_java(run, conf)
    spark = SparkSession.builder.config(conf=conf).getOrCreate()
    if spark.sparkContext.master.startswith("local"):
        spark.sparkContext.setLogLevel("OFF")  # what goes wrong is said in one line
        spare_chmod(spark)
    if not spark.sparkContext.getConf().contains("spark.sql.shuffle.partitions"):
        partitions = max(spark.sparkContext.defaultParallelism, size // SHUFFLE_BYTES)
        spark.conf.set("spark.sql.shuffle.partitions", partitions)
    if (
        is_s3_ours
    ):  # now, as Spark would pass its own settings to Java on a command line that all may read
        for name, value in s3a_options(run, session).items():
            spark.sparkContext._jsc.hadoopConfiguration().set(name, value)
    return spark


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
        raise Stop(
            SETTINGS,
            f"{run.lake.uri}/songs is laid out by {layout}; keep that, or choose another OUTPUT",
        )
    same = all(last[name] == value for name, value in fingerprint(run).items())
    return same and {key: file["bytes"] for key, file in live_files(last).items()} == list_tables(
        run.lake
    )


def staged_files(run: Run, table: str) -> dict[str, dict]:
    """Final name, in the table's folder, of each file that Spark staged."""
    prefix, files = f"{run.staging}/{table}/", {}
    staged = {
        key: size
        for key, size in run.lake.list(prefix[:-1]).items()
        if re.search(r"/part-[^/]*\.parquet$", key)
    }
    for count, key in enumerate(sorted(staged)):
        folder = key[len(prefix) : key.rfind("/") + 1]
        name = f"{folder}c{run.number:09d}-{run.id[-8:]}-{count:05d}.parquet"
        files[name] = {"staged": key, "bytes": staged[key]}
    return files


def run_job(run: Run, session) -> None:
    """The whole run, in the order that lets several runs overlap and any of them die.  Raises Stop, else it is done."""
    settings, lake, source = run.settings, run.lake, run.source
    with run.phase("begin", lake.uri):
        list_tables(lake)  # somebody else's file stops the run before it touches anything
        prove_create_if_absent(run)
        if not settings.dry_run:
            recover(lake)
        base = newest(
            lake, "commits"
        )  # read before the input is: who commits on top of it has seen newer input
        run.number = base + 1
    with run.phase("list", source.uri):
        for side in ("song_data", "log_data"):
            found = list(list_input(source, side))
            run.pinned[side], ignored = sorted(filter(None, found)), found.count(None)
            print(
                f"  {side}: {len(run.pinned[side]):,} objects"
                + f", {ignored:,} others ignored" * bool(ignored)
            )
            if not run.pinned[side]:
                what = f"{source.uri}/{side}: no object ends in .json"
                raise Stop(SETTINGS, f"{what}; let INPUT name the folder above it")
    if is_current(run, base) and not settings.force:
        return print(
            f"Nothing to do: commit {base} has this input, settings and code. --force builds it again."
        )
    if settings.dry_run:
        return print(
            f"Dry run: would write {', '.join(COLUMNS)} to {lake.uri} as commit {run.number}."
        )
    with ThreadPoolExecutor(1) as pool:
        spark = pool.submit(start_spark, run, session)  # Java starts while the songs arrive
        with run.phase("fetch songs", lake.uri):
            run.songs["records"] = pack_songs(
                source, run.pinned["song_data"], lake, f"{run.staging}/packed"
            )
        with run.phase("start Spark", "Spark"):
            run.spark = spark.result()
    if lake.bucket and re.match(r"local(\[|$)", run.spark.sparkContext.master):
        run.spool = open_place(f"file://{tempfile.mkdtemp(prefix='sparkify-')}", settings, None)
    with run.phase("tables", "Spark"), ThreadPoolExecutor(1) as pool:
        process_log_data(run, pool.submit(process_song_data, run))
    with run.phase("audit", "Spark"):
        # Spark reads the footers of one table while it plans for another
        tables = dict(zip(COLUMNS, in_parallel(lambda table: read_staged(run, table), COLUMNS)))
        rows = audit(run, tables)
        run.tables = {
            table: {"rows": rows[table], "files": staged_files(run, table)} for table in COLUMNS
        }
    with run.phase("commit", lake.uri):
        for side, pinned in run.pinned.items():
            missing = set(pinned)
            missing.difference_update(
                list_input(source, side)
            )  # objects that are new wait for the next run
            if missing:
                raise changed(source, json.loads(min(missing))[0])
        obstore.put(
            lake.store, f"_etl/inputs/{run.number:09d}.json.gz", gzip.compress(listing(run))
        )
        account = {"events": run.events, "songs": run.songs}
        commit(
            run,
            {
                "commit": run.number,
                "run": run.id,
                **fingerprint(run),
                **account,
                "tables": run.tables,
            },
        )
    with run.phase("publish", lake.uri):
        publish(lake, run.number)


def summary(run: Run, code: int, error: str) -> dict:
    """What `_etl/runs/<run>.json` holds of a run."""
    tables = {}
    for table, made in run.tables.items():
        sizes = [file["bytes"] for file in made["files"].values()]
        tables[table] = {"rows": made["rows"], "files": len(sizes), "bytes": sum(sizes)}
    versions = {
        "etl": fingerprint(run)["code"][:12],
        "spark": pyspark.__version__,
        "python": sys.version.split()[0],
    }
    report = {
        "run": run.id,
        "commit": run.number if run.committed else None,
        "exit": code,
        "error": error,
    }
    report.update(events=run.events, songs=run.songs, tables=tables, seconds=run.seconds)
    return {
        **report,
        "input": run.settings.input,
        "output": run.settings.output,
        "versions": versions,
    }


def show(report: dict) -> None:
    """The run on one screen."""
    events, songs, seconds = report["events"], report["songs"], report["seconds"]
    print(
        f"\n{events['lines']:,} log lines = "
        + " + ".join(f"{events[name]:,} {name}" for name in EVENT_CLASSES)
    )
    print(
        f"{songs['records']:,} song records = "
        + " + ".join(f"{songs[name]:,} {name}" for name in SONG_CLASSES)
    )
    print(
        f"plays matched to a song: {events['matched']:,}; with several to choose from: {events['ambiguous']:,}"
    )
    print(f"\n{'table':<10} {'rows':>13} {'files':>7} {'MB':>10}")
    for table, made in report["tables"].items():
        print(f"{table:<10} {made['rows']:>13,} {made['files']:>7,} {made['bytes'] / 1e6:>10,.2f}")
    spent = " · ".join(f"{name} {spent:.1f}" for name, spent in seconds.items())
    print(f"\n{sum(seconds.values()):.1f} seconds: {spent}")
    if (
        any(side[name] for side in (events, songs) for name in ("malformed", "invalid"))
        or events["key_conflict"]
    ):
        print(f"rejected lines: {report['output']}/_etl/quarantine/{report['run']}")
    print(f"commit {report['commit']}: the tables are in {report['output']}")


def end_run(run: Run, code: int, error: str) -> None:
    """Stops Spark, removes what was staged for nothing, and leaves the run's summary."""
    if run.spark and code != INTERRUPTED:  # then Java is gone
        run.spark.stop()
    if run.spool:
        shutil.rmtree(run.spool.path, ignore_errors=True)
    if run.number and run.committed is False:
        run.lake.delete_tree(run.staging)
    if run.songs:  # it got as far as reading
        report = summary(run, code, error)
        run.lake.create(f"_etl/runs/{run.id}.json", json.dumps(report, indent=1).encode())
        if code == 0:
            show(report)
            clean(run.lake)


def main(arguments: list[str] | None = None) -> int:
    """Runs the job; returns the exit code, and says what is wrong in one line on stderr."""
    run, code, error, new_folder = None, 0, "", ""

    def interrupt(signal_number, frame) -> None:
        if run and run.java:
            logging.disable()  # of py4j's regrets
            run.java.kill()  # amid an answer it does not hear a stop, and threads would wait for it
        raise KeyboardInterrupt

    signal.signal(signal.SIGINT, interrupt)
    signal.signal(signal.SIGTERM, interrupt)
    try:
        settings = read_settings(sys.argv[1:] if arguments is None else arguments)
        if "PYSPARK_GATEWAY_PORT" not in os.environ:  # under spark-submit, Java runs already
            check_java()
        session = connect(settings)
        source = open_place(settings.input, settings, session)
        if settings.output.startswith("file") and not os.path.isdir(settings.output[7:]):
            os.makedirs(settings.output[7:], exist_ok=True)  # perhaps by now, by another run
            new_folder = settings.output[7:] if settings.dry_run else ""
        run = Run(
            settings,
            run_id(datetime.now(UTC)),
            source,
            open_place(settings.output, settings, session),
        )
        run_job(run, session)
    except Stop as stop:
        code, error = stop.code, str(stop)
    except KeyboardInterrupt:
        code, error = INTERRUPTED, "interrupted, nothing is published; run again"
    except Exception as unexpected:
        known = explain(unexpected, run.place if run else settings.output)
        code, error = known.code, f"{known}, nothing is published"
    with suppress(
        Exception
    ):  # a run that commits first removes what others have staged: that looks like many things
        if (
            code in (FAILED, SETTINGS)
            and run.committed is False
            and 0 < run.number <= newest(run.lake, "commits")
        ):
            code, error = OVERTAKEN, str(overtaken(run))
    if code and run and run.committed is not False and "publication unfinished" not in error:
        made = "is" if run.committed else "may be"
        error = f"{error.partition(', nothing')[0]}: commit {run.number} {made} made, publication unfinished; run again"
    try:
        if run:
            end_run(run, code, error)
        if new_folder:
            os.rmdir(new_folder)
    except KeyboardInterrupt:
        code, error = (
            INTERRUPTED,
            error or "interrupted at its end; the next run removes what this one left",
        )
    except Exception as leftover:
        warn(f"{one_line(leftover)}; the next run removes what this one left")
    if error:
        print(f"etl.py: {error}", file=sys.stderr)
    return code


if __name__ == "__main__":
    sys.exit(main())
