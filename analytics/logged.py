"""The titles and artists of all plays, as the app logged them, matched or not.

The five tables keep a play's song_id and artist_id alone, so the title of a play that matches no
song of the catalogue is only in the logs. These are read where the run of the commit found them.
"""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import NamedTuple

from common import Stop, needed_packages, one_line
from lake import Lake, fetch, open_place, read_inputs
from queries import Query

with needed_packages("analytics/requirements.txt"):
    import duckdb
    from obstore.exceptions import BaseError

# Logs on S3 are copied before they are read; more than this is not worth the wait.
FETCHED_BYTES = 2 * 2**30
LINE_BYTES = 64 * 2**20
# The paths of the files stand in the place of INPUT when the view is made.
VIEW = """CREATE OR REPLACE TEMP TABLE logged AS
SELECT nullif(song, '') AS song, nullif(artist, '') AS artist, userId AS user_id
FROM read_json(
    'INPUT/log_data/**/*.json',
    format = 'newline_delimited',
    ignore_errors = true,
    columns = {
        page: 'VARCHAR', song: 'VARCHAR', artist: 'VARCHAR',
        userId: 'VARCHAR', sessionId: 'BIGINT', itemInSession: 'BIGINT', ts: 'BIGINT'
    }
)
WHERE page = 'NextSong'"""
# The same for logs that hold a play more than once, which takes more time and memory.
ONE_PER_PLAY = """
QUALIFY row_number() OVER (
    PARTITION BY userId, sessionId, itemInSession, ts ORDER BY artist, song
) = 1"""
# Listeners are counted for the ten that are shown alone: of 10 million plays that saves 14 of 24
# seconds, and half of the memory.
QUERIES = {
    "logged_songs": Query(
        "Which songs are played most, by the title that the app logged?",
        "All plays, matched or not. A title and an artist that are written in two ways count "
        "twice.",
        """WITH counted AS (
    SELECT song, artist, count(*) AS plays
    FROM logged
    GROUP BY song, artist
),
ranking AS (
    SELECT
        *,
        count(*) OVER () AS ranked,
        count(*) OVER (PARTITION BY plays) AS tied
    FROM counted
    ORDER BY plays DESC, song, artist
    LIMIT 10
)
SELECT
    ranking.song,
    ranking.artist,
    ranking.plays,
    count(DISTINCT logged.user_id) AS listeners,
    ranked,
    tied
FROM ranking
JOIN logged
    ON logged.song IS NOT DISTINCT FROM ranking.song
    AND logged.artist IS NOT DISTINCT FROM ranking.artist
GROUP BY ALL
ORDER BY ranking.plays DESC, ranking.song, ranking.artist""",
    ),
    "logged_artists": Query(
        "Which artists are played most, by the name that the app logged?",
        "All plays, matched or not. A name that is written in two ways counts twice.",
        """WITH counted AS (
    SELECT artist, count(*) AS plays
    FROM logged
    GROUP BY artist
),
ranking AS (
    SELECT
        *,
        count(*) OVER () AS ranked,
        count(*) OVER (PARTITION BY plays) AS tied
    FROM counted
    ORDER BY plays DESC, artist
    LIMIT 10
)
SELECT
    ranking.artist,
    ranking.plays,
    count(DISTINCT logged.song) AS songs,
    count(DISTINCT logged.user_id) AS listeners,
    ranked,
    tied
FROM ranking
JOIN logged ON logged.artist IS NOT DISTINCT FROM ranking.artist
GROUP BY ALL
ORDER BY ranking.plays DESC, ranking.artist""",
    ),
}


class Logged(NamedTuple):
    """The answers of QUERIES, or a sentence that says why there are none."""

    answers: dict[str, list[dict]]
    missing: str
    note: str  # what a reader must know about the logs that were read


def log_files(lake: Lake, where: str, folder: str) -> list[str]:
    """The paths of the commit's log files, copied to a folder if they lie on S3.

    Raises   Stop if they are not there as the run read them
    """
    listed = {key: size for key, size in read_inputs(lake).items() if key.startswith("log_data/")}
    if not listed:
        raise Stop(1, "the commit does not list the log files that it read")
    place = open_place(where, lake.settings, "name the folder above log_data with --input")
    present = place.sizes("log_data")
    changed = [key for key, size in listed.items() if present.get(key) != size]
    if changed:
        count = f"{len(changed):,} of {len(listed):,} log files are gone or changed"
        raise Stop(1, f"{count}, such as {changed[0]}")
    if not place.is_s3:
        return [str(Path(place.uri, key)) for key in listed]
    if sum(listed.values()) > FETCHED_BYTES:
        raise Stop(1, "they are larger than 2 GiB; name a local copy of INPUT with --input")
    fetch(place, listed, folder)
    return [str(Path(folder, key)) for key in listed]


def read_logs(lake: Lake, where: str) -> None:
    """Makes the table `logged` of the commit's logs."""
    account = lake.commit.get("events", {})
    sql = VIEW
    if account.get("duplicate") or account.get("key_conflict"):
        sql = VIEW + ONE_PER_PLAY
    with tempfile.TemporaryDirectory(prefix="sparkify-") as folder:
        paths = [path.replace("'", "''") for path in log_files(lake, where, folder)]
        listed = ", ".join(f"'{path}'" for path in paths)
        sql = sql.replace("'INPUT/log_data/**/*.json'", f"[{listed}]")
        sql = sql.replace("ignore_errors", f"maximum_object_size = {LINE_BYTES}, ignore_errors")
        lake.db.execute(sql)


def read_logged(lake: Lake, plays: int, where: str = "") -> Logged:
    """The rankings of QUERIES.

    plays   rows of songplays, which the logs should hold as well
    where   the INPUT to read, if it is not the one of the commit
    """
    where = where or lake.commit.get("settings", {}).get("input", "")
    try:
        if not where:
            raise Stop(1, "the commit does not say where its INPUT was")
        read_logs(lake, where)
        answers = {name: lake.rows(query.sql) for name, query in QUERIES.items()}
        (total,) = lake.rows("SELECT count(*) AS plays FROM logged")
    except (Stop, duckdb.Error, BaseError, OSError) as error:
        return Logged({}, f"The logs of this commit cannot be read: {one_line(error)}.", "")
    note = ""
    if total["plays"] != plays:
        note = f"The logs hold {total['plays']:,} plays, songplays {plays:,}."
    return Logged(answers, "", note)
