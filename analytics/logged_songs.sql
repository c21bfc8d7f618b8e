-- The songs that are played most, matched or not, with the titles that only the logs hold.
-- report.py asks this of the logs from which the tables were made. In a DuckDB shell, replace
-- INPUT first.

-- name: logged_songs
.print "\nWhich songs are played most?"
-- By the title and artist in the logs. matched: the plays that match a song in song_data.
WITH logged AS (
    SELECT DISTINCT ON (songplay_id)
        md5(concat_ws('|', TRY_CAST(userId AS BIGINT), sessionId, itemInSession, ts)) AS songplay_id,
        coalesce(song, '(no title)') AS song,
        artist
    FROM read_json(
        'INPUT/log_data/**/*json*',
        format = 'newline_delimited',
        ignore_errors = true,
        columns = {
            page: 'VARCHAR',
            song: 'VARCHAR',
            artist: 'VARCHAR',
            userId: 'VARCHAR',
            sessionId: 'BIGINT',
            itemInSession: 'BIGINT',
            ts: 'BIGINT'
        }
    )
    WHERE page = 'NextSong'
    ORDER BY songplay_id, song, artist
)
SELECT
    coalesce(logged.song, '(not in the logs)') AS song,
    logged.artist,
    count(*) AS plays,
    count(song_id) AS matched,
    count(DISTINCT user_id) AS listeners
FROM songplays
LEFT JOIN logged ON logged.songplay_id = songplays.songplay_id
GROUP BY coalesce(logged.song, '(not in the logs)'), logged.artist
ORDER BY plays DESC, listeners DESC, song, artist
LIMIT 10;
