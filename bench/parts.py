"""The two parts of a run on 100 million events and a million songs that one small machine can run.

    python bench/parts.py pack 1000000     packs so many local song files
    python bench/parts.py join 30000000    matches so many plays with a million songs

docs/performance.md has the estimate that rests on them.
"""

import json
import resource
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))
import etl

SONGS = 1_000_000
SONGS_PER_FOLDER = 1000
FIRST_PLAY = 1_500_000_000_000  # epoch milliseconds


def write_songs(folder: str, count: int) -> None:
    """One file per song, as in the public data set, of about its size."""
    for number in range(count):
        record = {
            "song_id": f"SO{number}",
            "title": "River " * 20,
            "artist_id": "AR1",
            "artist_name": "Foxes",
            "duration": 200.5,
            "year": 0,
        }
        subfolder = Path(folder, "song_data", f"{number // SONGS_PER_FOLDER:04d}")
        subfolder.mkdir(parents=True, exist_ok=True)
        (subfolder / f"TR{number:07d}.json").write_text(json.dumps(record))


def pack(count: int) -> None:
    """Lists and packs song files with the job's own functions, which needs no Spark."""
    with tempfile.TemporaryDirectory() as folder:
        write_songs(folder, count)
        place = etl.open_place(f"file://{folder}", None, None)
        run = etl.Run(settings=None, source=place, lake=place)
        start = time.monotonic()
        run.pinned["song_data"], _ = etl.pin(place, "song_data")
        records = etl.pack_songs(run)
        # what a commit keeps of the input
        etl.listing(run)
        seconds = time.monotonic() - start
    peak_mb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3
    print(f"packed {records:,} songs in {seconds:.1f} s; the driver's peak was {peak_mb:.0f} MB")


def make_catalog(spark):
    """A million songs, each another recording."""
    from pyspark.sql import functions as F

    texts = []
    for name in ("song_id", "title", "artist_id", "artist_name"):
        texts.append(F.concat(F.lit(name), "id").alias(name))
    duration = (F.col("id") % 300 + 0.5).alias("duration")
    return spark.range(SONGS).select(*texts, duration)


def make_plays(spark, count: int):
    """So many plays, each third one of a song in the catalogue."""
    from pyspark.sql import functions as F

    song = F.abs(F.xxhash64("id") % SONGS)
    is_known = F.col("id") % 3 == 0
    return spark.range(count).select(
        F.timestamp_millis(F.col("id") * 100 + FIRST_PLAY).alias("start_time"),
        F.col("id").alias("ts"),
        F.col("id").alias("user_id"),
        F.col("id").alias("session_id"),
        F.col("id").alias("item_in_session"),
        F.lit("free").alias("level"),
        F.lit("Oakland, CA").alias("location"),
        F.lit("Safari").alias("user_agent"),
        F.concat(F.lit("title"), F.when(is_known, song).otherwise(-1)).alias("title"),
        F.concat(F.lit("artist_name"), song).alias("artist_name"),
        (song % 300 + 0.5).alias("length"),
        F.lit(2018).alias("year"),
        F.lit(11).alias("month"),
        F.lit("songplays").alias("outcome"),
    )


def join(count: int) -> None:
    """Matches plays with the catalogue by the job's own functions, and throws the rows away."""
    from pyspark.sql import SparkSession

    spark = SparkSession.builder.config("spark.driver.memory", "4g").getOrCreate()
    spark.sparkContext.setLogLevel("OFF")
    matched = etl.match_plays(make_plays(spark, count), make_catalog(spark))
    start = time.monotonic()
    etl.songplays_table(matched).write.format("noop").mode("overwrite").save()
    seconds = time.monotonic() - start
    print(f"matched {count:,} plays with a million songs in {seconds:.1f} s")


if __name__ == "__main__":
    part, count = sys.argv[1:]
    {"pack": pack, "join": join}[part](int(count))
