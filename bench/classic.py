"""The job as it is usually written, to time beside etl.py: globs, inferred schemas, plain overwrite.

python bench/classic.py INPUT OUTPUT
"""

import sys

from pyspark.sql import SparkSession
from pyspark.sql import functions as F

source, output = sys.argv[1:]
spark = (
    SparkSession.builder.appName("classic")
    .config("spark.sql.session.timeZone", "UTC")
    .getOrCreate()
)
spark.sparkContext.setLogLevel("ERROR")

songs_in = spark.read.json(f"{source}/song_data/*/*/*/*.json")
songs = songs_in.select("song_id", "title", "artist_id", "year", "duration").dropDuplicates(
    ["song_id"]
)
songs.write.mode("overwrite").partitionBy("year", "artist_id").parquet(f"{output}/songs")
artists = songs_in.select(
    "artist_id", "artist_name", "artist_location", "artist_latitude", "artist_longitude"
).dropDuplicates(["artist_id"])
artists.write.mode("overwrite").parquet(f"{output}/artists")

events = spark.read.json(f"{source}/log_data/*/*/*.json").where("page = 'NextSong'")
users = events.select("userId", "firstName", "lastName", "gender", "level").dropDuplicates(
    ["userId"]
)
users.write.mode("overwrite").parquet(f"{output}/users")
events = events.withColumn("start_time", F.timestamp_millis("ts"))
time = events.select("start_time").dropDuplicates()
for name in ("hour", "dayofmonth", "weekofyear", "month", "year", "dayofweek"):
    time = time.withColumn(name, getattr(F, name)("start_time"))
time.write.mode("overwrite").partitionBy("year", "month").parquet(f"{output}/time")
same = (
    (events.song == songs_in.title)
    & (events.artist == songs_in.artist_name)
    & (events.length == songs_in.duration)
)
plays = events.join(songs_in, same, "left").select(
    "start_time", "userId", "level", "song_id", "artist_id", "sessionId", events.location, "userAgent",
    F.year("start_time").alias("year"), F.month("start_time").alias("month"),
).withColumn("songplay_id", F.monotonically_increasing_id())  # fmt: skip
plays.write.mode("overwrite").partitionBy("year", "month").parquet(f"{output}/songplays")
