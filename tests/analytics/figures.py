"""The figures of the report again, counted by Polars from the rows of the tables."""

import polars as pl

PLAYS = pl.len().alias("plays")
LISTENERS = pl.col("user_id").n_unique().alias("listeners")
PER_LISTENER = (PLAYS / LISTENERS).alias("average")
WEEKDAYS = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")
SIZES = {1: "1", 5: "2 to 5", 20: "6 to 20", 50: "21 to 50", 10**9: "over 50"}


def size_of(plays):
    return next(name for most, name in SIZES.items() if plays <= most)


def read_frames(opened, clock):
    """Table -> DataFrame; plays also have their day, and times are what `clock` shows."""
    frames = {table: opened.db.sql(f"SELECT * FROM {table}").pl() for table in opened.tables}
    plays = frames["songplays"]
    shown = [clock(play).replace(tzinfo=None) for play in plays.iter_rows(named=True)]
    time = pl.Series("start_time", shown, dtype=pl.Datetime("us"))
    frames["songplays"] = plays.with_columns(time, time.dt.date().alias("day"))
    return frames


def rank(frame, *names, by=("plays", "listeners")):
    """The ten rows with the most, then by name."""
    falls = [True] * len(by) + [False] * len(names)
    return frame.sort(*by, *names, descending=falls).head(10)


def count_figures(opened, clock=lambda play: play["start_time"]):
    """Query -> its rows, as tuples."""
    frames = read_frames(opened, clock)
    plays, users, songs = frames["songplays"], frames["users"], frames["songs"]
    day, start, user = pl.col("day"), pl.col("start_time"), pl.col("user_id")
    hour = start.dt.hour().alias("hour")
    weekday = day.dt.weekday()
    sunday_first = (weekday % 7 + 1).alias("weekday")
    monday = day - pl.duration(days=weekday - 1)
    days = plays.group_by("day").agg(PLAYS, LISTENERS).sort("day")
    each = pl.col("plays")
    levels = plays.group_by("user_id").agg(PLAYS, levels=pl.col("level").n_unique())
    changed = levels.filter(pl.col("levels") > 1)
    most_plays = changed.sort("plays", "user_id", descending=[True, False]).head(20)
    by_session = plays.group_by("user_id", "session_id").agg(
        PLAYS,
        minutes=(start.max() - start.min()).dt.total_microseconds() / 60e6,
    )
    weeks = plays.with_columns(monday=monday, first=monday.min().over("user_id"))
    matched = plays.drop_nulls("song_id").join(songs.select("song_id", "title"), on="song_id")
    matched = matched.join(frames["artists"].select("artist_id", "name"), on="artist_id")
    with_users = plays.join(users, on="user_id", suffix="_now")
    found = {
        "headline": plays.select(
            PLAYS,
            LISTENERS,
            users=pl.lit(len(users)),
            sessions=pl.lit(len(by_session)),
            first=day.min(),
            last=day.max(),
            matched=pl.col("song_id").count(),
            songs=pl.lit(len(songs)),
            artists=pl.lit(len(frames["artists"])),
            changed=pl.lit(len(changed)),
        ),
        "plays_per_day": days,
        "plays_by_weekday": days.group_by(number=weekday)
        .agg(pl.len(), each.sum(), mean=each.mean(), least=each.min(), most=each.max())
        .sort("number")
        .with_columns(pl.col("number").map_elements(lambda n: WEEKDAYS[n - 1], pl.String)),
        "plays_by_hour": plays.group_by(hour)
        .agg(PLAYS, percent=100 * pl.len() / len(plays))
        .sort("hour"),
        "plays_by_weekday_and_hour": plays.with_columns(days=day.n_unique().over(weekday))
        .group_by(sunday_first, hour)
        .agg(PLAYS, average=PLAYS / pl.first("days"))
        .sort("weekday", "hour"),
        "listeners_per_week": weeks.group_by("monday", week=day.dt.week())
        .agg(
            day.n_unique(),
            LISTENERS,
            new=user.filter(pl.col("first") == pl.col("monday")).n_unique(),
            returning=user.filter(pl.col("first") < pl.col("monday")).n_unique(),
        )
        .sort("monday"),
        "plays_by_gender": with_users.group_by("gender")
        .agg(LISTENERS, PLAYS, PER_LISTENER, weekend=100 * (weekday > 5).mean())
        .sort("plays", descending=True),
        "plays_by_level": with_users.group_by("level", "level_now")
        .agg(LISTENERS, PLAYS, PER_LISTENER)
        .sort("level", "level_now"),
        "level_history": plays.filter(user.is_in(most_plays["user_id"].implode()))
        .sort("user_id", "start_time", "songplay_id")
        .with_columns(stretch=pl.struct("user_id", "level").rle_id())
        .group_by("user_id", "stretch", maintain_order=True)
        .agg(pl.col("level").first(), PLAYS, first=day.min(), last=day.max())
        .select("user_id", "level", "first", "last", "plays")
        .head(200),
        "top_listeners": rank(
            with_users.group_by("user_id", "gender", "level_now").agg(
                PLAYS, sessions=pl.col("session_id").n_unique(), last=day.max()
            ),
            "user_id",
            by=("plays",),
        ),
        "sessions": by_session.with_columns(size=each.map_elements(size_of, pl.String))
        .group_by("size")
        .agg(pl.len(), each.sum(), pl.col("minutes").mean(), order=each.min())
        .sort("order")
        .drop("order"),
        "top_songs": rank(matched.group_by("title", "name").agg(PLAYS, LISTENERS), "title", "name"),
        "top_artists": rank(
            matched.group_by("name").agg(PLAYS, LISTENERS, pl.col("song_id").n_unique()), "name"
        ),
        "songs_by_decade": songs.group_by(decade=pl.col("year") // 10 * 10)
        .agg(pl.len(), pl.col("duration").sum() / 3600)
        .with_columns(decade=pl.col("decade").cast(pl.String).replace("0", "unknown"))
        .with_columns(pl.col("decade").str.replace(r"^(\d+)$", "${1}s"))
        .sort("decade"),
        "top_locations": rank(
            plays.group_by("location").agg(LISTENERS, PLAYS), "location", by=("listeners", "plays")
        ),
    }
    return {name: frame.rows() for name, frame in found.items()}
