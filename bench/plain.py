"""The job as a good Spark engineer writes it in an afternoon, to time beside etl.py.

    python bench/plain.py INPUT OUTPUT

The tables are etl.py's. There is no account of the lines, no strictness, no audit, and each table
is overwritten in place.
"""

import sys

from pyspark.sql import SparkSession, Window
from pyspark.sql import functions as F

SONG = """
    song_id STRING, title STRING, duration DOUBLE, year INT,
    artist_id STRING, artist_name STRING,
    artist_location STRING, artist_latitude DOUBLE, artist_longitude DOUBLE
"""
EVENT = """
    page STRING, ts BIGINT, userId STRING, firstName STRING, lastName STRING, gender STRING,
    level STRING, sessionId BIGINT, itemInSession BIGINT, location STRING, userAgent STRING,
    artist STRING, song STRING, length DOUBLE
"""

source, output = sys.argv[1:]
spark = SparkSession.builder.config("spark.sql.session.timeZone", "UTC").getOrCreate()
spark.sparkContext.setLogLevel("ERROR")
read = spark.read.option("recursiveFileLookup", True)

catalog = read.schema(SONG).json(f"{source}/song_data").cache()
songs = catalog.dropDuplicates(["song_id"])
songs = songs.select("song_id", "title", "artist_id", "duration", "year")
songs.repartition("year").write.mode("overwrite").partitionBy("year").parquet(f"{output}/songs")
artists = catalog.dropDuplicates(["artist_id"]).select(
    "artist_id", "artist_name", "artist_location", "artist_latitude", "artist_longitude"
)
artists.write.mode("overwrite").parquet(f"{output}/artists")

events = read.schema(EVENT).json(f"{source}/log_data")
newest = Window.partitionBy("userId").orderBy(F.desc("ts"), F.desc("itemInSession"))
users = events.where("userId <> ''").withColumn("rank", F.row_number().over(newest))
users = users.where("rank = 1").selectExpr(
    "CAST(userId AS BIGINT) AS user_id", "firstName", "lastName", "gender", "level"
)
users.write.mode("overwrite").parquet(f"{output}/users")

plays = events.where("page = 'NextSong'").withColumn("start_time", F.timestamp_millis("ts"))
year, month = F.year("start_time").alias("year"), F.month("start_time").alias("month")
parts = [F.hour, F.dayofmonth, F.weekofyear, F.dayofweek]
time = plays.select("start_time").distinct()
time = time.select("start_time", *[part("start_time") for part in parts], year, month)
time = time.repartition("year", "month").write.mode("overwrite").partitionBy("year", "month")
time.parquet(f"{output}/time")

lookup = catalog.groupBy("title", "artist_name", "duration")
lookup = lookup.agg(F.min(F.struct("song_id", "artist_id")).alias("track"))
same = (F.col("song") == F.col("title")) & (F.col("artist") == F.col("artist_name"))
same = same & (F.col("length") == F.col("duration"))
key = ["userId", "sessionId", "itemInSession", "ts"]
matched = plays.dropDuplicates(key).join(F.broadcast(lookup), same, "left").select(
    F.md5(F.concat_ws("|", *key)).alias("songplay_id"), "start_time",
    F.col("userId").cast("bigint").alias("user_id"), "level", "track.song_id", "track.artist_id",
    F.col("sessionId").alias("session_id"), "location", "userAgent", year, month,
)  # fmt: skip
songplays = matched.write.mode("overwrite").partitionBy("year", "month")
songplays.parquet(f"{output}/songplays")
