"""The job as it is usually written, to time beside etl.py.

    python bench/classic.py INPUT OUTPUT

It reads by globs, infers schemas, and overwrites each table.
"""

import sys

from pyspark.sql import SparkSession
from pyspark.sql import functions as F

source, output = sys.argv[1:]
spark = SparkSession.builder.config("spark.sql.session.timeZone", "UTC").getOrCreate()
spark.sparkContext.setLogLevel("ERROR")

song_records = spark.read.json(f"{source}/song_data/*/*/*/*.json")
songs = song_records.select("song_id", "title", "artist_id", "year", "duration")
songs = songs.dropDuplicates(["song_id"])
songs.write.mode("overwrite").partitionBy("year", "artist_id").parquet(f"{output}/songs")
origin = ["artist_location", "artist_latitude", "artist_longitude"]
artists = song_records.select("artist_id", "artist_name", *origin).dropDuplicates(["artist_id"])
artists.write.mode("overwrite").parquet(f"{output}/artists")

events = spark.read.json(f"{source}/log_data/*/*/*.json").where("page = 'NextSong'")
users = events.select("userId", "firstName", "lastName", "gender", "level")
users = users.dropDuplicates(["userId"])
users.write.mode("overwrite").parquet(f"{output}/users")

events = events.withColumn("start_time", F.timestamp_millis("ts"))
time = events.select("start_time").dropDuplicates()
for name in ("hour", "dayofmonth", "weekofyear", "month", "year", "dayofweek"):
    time = time.withColumn(name, getattr(F, name)("start_time"))
time.write.mode("overwrite").partitionBy("year", "month").parquet(f"{output}/time")

same_recording = (
    (events.song == song_records.title)
    & (events.artist == song_records.artist_name)
    & (events.length == song_records.duration)
)
songplays = events.join(song_records, same_recording, "left").select(
    "start_time",
    "userId",
    "level",
    "song_id",
    "artist_id",
    "sessionId",
    events.location,
    "userAgent",
    F.year("start_time").alias("year"),
    F.month("start_time").alias("month"),
)
songplays = songplays.withColumn("songplay_id", F.monotonically_increasing_id())
songplays.write.mode("overwrite").partitionBy("year", "month").parquet(f"{output}/songplays")
