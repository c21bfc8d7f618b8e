"""The job as a good Spark engineer writes it in an afternoon, to time beside etl.py.

    python bench/plain.py INPUT OUTPUT

The tables are etl.py's. Malformed lines are not rejected or counted, nothing is audited, and each
table is overwritten while others read it.
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


def write(rows, table, *folders):
    rows.write.mode("overwrite").partitionBy(*folders).parquet(f"{output}/{table}")


# written from three times
song_records = read.schema(SONG).json(f"{source}/song_data").cache()
songs = song_records.dropDuplicates(["song_id"])
songs = songs.select("song_id", "title", "artist_id", "duration", "year")
write(songs.repartition("year"), "songs", "year")
artists = song_records.dropDuplicates(["artist_id"])
origin = ["artist_location", "artist_latitude", "artist_longitude"]
write(artists.select("artist_id", "artist_name", *origin), "artists")

events = read.schema(EVENT).json(f"{source}/log_data")
newest_first = Window.partitionBy("userId").orderBy(F.desc("ts"), F.desc("itemInSession"))
users = events.where("userId <> ''").withColumn("rank", F.row_number().over(newest_first))
user_id = F.col("userId").cast("bigint").alias("user_id")
users = users.where("rank = 1").select(user_id, "firstName", "lastName", "gender", "level")
write(users, "users")

plays = events.where("page = 'NextSong'").withColumn("start_time", F.timestamp_millis("ts"))
time = plays.select("start_time").distinct()
for part in (F.hour, F.dayofmonth, F.weekofyear, F.dayofweek, F.year, F.month):
    time = time.withColumn(part.__name__, part("start_time"))
# one file per month
write(time.repartition("year", "month"), "time", "year", "month")

lookup = song_records.groupBy("title", "artist_name", "duration")
lookup = lookup.agg(F.min(F.struct("song_id", "artist_id")).alias("track"))
same_recording = (
    (F.col("song") == F.col("title"))
    & (F.col("artist") == F.col("artist_name"))
    & (F.col("length") == F.col("duration"))
)
key = ["userId", "sessionId", "itemInSession", "ts"]
# many plays to at most one recording
matched = plays.dropDuplicates(key).join(F.broadcast(lookup), same_recording, "left")
songplays = matched.select(
    F.md5(F.concat_ws("|", *key)).alias("songplay_id"),
    "start_time",
    user_id,
    "level",
    "track.song_id",
    "track.artist_id",
    F.col("sessionId").alias("session_id"),
    "location",
    "userAgent",
    F.year("start_time").alias("year"),
    F.month("start_time").alias("month"),
)
write(songplays, "songplays", "year", "month")
