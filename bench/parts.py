"""The two parts of a run on 100 million events and a million songs that one small machine can run.

python bench/parts.py pack 1000000     packs so many local song files: seconds, and the driver's peak memory
python bench/parts.py join 30000000    matches so many plays with a catalogue of a million songs: seconds
"""

import json
import resource
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))
import etl


def pack(count):
    """Lists and packs `count` song files; the job's own functions, without Spark."""
    with tempfile.TemporaryDirectory() as folder:
        for number in range(count):
            path = Path(folder, "song_data", f"{number // 1000:04d}", f"TR{number:07d}.json")
            path.parent.mkdir(parents=True, exist_ok=True)
            record = {
                "song_id": f"SO{number}",
                "title": "River " * 20,
                "artist_id": "AR1",
                "artist_name": "Foxes",
            }
            path.write_text(json.dumps({**record, "duration": 200.5, "year": 0}))
        place = etl.open_place(f"file://{folder}", None, None)
        start = time.monotonic()
        run = etl.Run(etl.Settings({}, "", "", "", 0, False, False), "bench", place, place)
        run.pinned["song_data"] = sorted(filter(None, etl.list_input(place, "song_data")))
        records = etl.pack_songs(place, run.pinned["song_data"], place, "_etl/packed")
        assert not set(run.pinned["song_data"]).difference(etl.list_input(place, "song_data"))
        etl.fingerprint(run)
        seconds, peak = (
            time.monotonic() - start,
            resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3,
        )
    print(f"packed {records:,} songs in {seconds:.1f} s; the driver's peak was {peak:.0f} MB")


def join(count):
    """Matches plays, a third of which are of catalogue songs, and throws the rows away."""
    from pyspark.sql import SparkSession
    from pyspark.sql import functions as F

    spark = SparkSession.builder.config("spark.driver.memory", "4g").getOrCreate()
    spark.sparkContext.setLogLevel("OFF")
    number = F.xxhash64("id") % 1_000_000
    catalog = spark.range(1_000_000).select(
        *(
            F.concat(F.lit(name), "id").alias(name)
            for name in ("song_id", "title", "artist_id", "artist_name")
        ),
        (F.col("id") % 300 + 0.5).alias("duration"),
    )
    plays = spark.range(count).select(
        F.timestamp_millis(F.col("id") * 100 + 1_500_000_000_000).alias("start_time"),
        *(F.col("id").alias(name) for name in ("user_id", "session_id", "item_in_session", "ts")),
        *(F.lit(name).alias(name) for name in ("level", "location", "user_agent")),
        F.concat(F.lit("title"), F.when(F.col("id") % 3 == 0, F.abs(number)).otherwise(-1)).alias(
            "title"
        ),
        F.concat(F.lit("artist_name"), F.abs(number)).alias("artist_name"),
        (F.abs(number) % 300 + 0.5).alias("length"),
        *(F.lit(2018).alias("year"), F.lit(11).alias("month"), F.lit("songplays").alias("outcome")),
    )
    start = time.monotonic()
    etl.songplays_table(etl.match_plays(plays, catalog)).write.format("noop").mode(
        "overwrite"
    ).save()
    print(f"matched {count:,} plays with a million songs in {time.monotonic() - start:.1f} s")


if __name__ == "__main__":
    {"pack": pack, "join": join}[sys.argv[1]](int(sys.argv[2]))
