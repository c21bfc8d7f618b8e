-- What people listen to, asked of the five tables. report.py runs these; each runs as it stands in DuckDB, Athena
-- (Trino) and PostgreSQL. A name and the question stand above each query. Times are those of 'UTC': for local time, put
-- another zone in its place, such as 'America/Los_Angeles' (report.py --timezone does just that). A session is one
-- session_id of one user. EXTRACT(DOW) counts from 0 = Sunday in DuckDB and PostgreSQL and ends with 7 = Sunday in
-- Trino: % 7 + 1 makes it the time table's weekday, 1 = Sunday, in all three.

-- name: headline
-- How much is listened to, by how many, and when?
SELECT
    count(*) AS plays,
    count(DISTINCT user_id) AS listeners,
    (SELECT count(*) FROM users) AS users,
    (SELECT count(*) FROM (SELECT DISTINCT user_id, session_id FROM songplays) AS one_each) AS sessions,
    CAST(CAST(min(start_time) AS TIMESTAMP WITH TIME ZONE) AT TIME ZONE 'UTC' AS DATE) AS first_day,
    CAST(CAST(max(start_time) AS TIMESTAMP WITH TIME ZONE) AT TIME ZONE 'UTC' AS DATE) AS last_day,
    count(song_id) AS matched,
    (SELECT count(*) FROM songs) AS songs,
    (SELECT count(*) FROM artists) AS artists
FROM songplays;

-- name: plays_by_weekday
-- Which days of the week are busiest?
-- Plays a day: over the days of that weekday that had plays, as a month has five of some weekdays and four of others.
WITH plays AS (
    SELECT CAST(start_time AS TIMESTAMP WITH TIME ZONE) AT TIME ZONE 'UTC' AS local_time FROM songplays
),
counted AS (
    SELECT
        EXTRACT(DOW FROM local_time) % 7 + 1 AS weekday,
        count(*) AS plays,
        count(DISTINCT CAST(local_time AS DATE)) AS days
    FROM plays
    GROUP BY 1
)
SELECT
    names.day,
    coalesce(plays, 0) AS plays,
    coalesce(days, 0) AS days,
    coalesce(CAST(plays AS DOUBLE PRECISION) / days, 0) AS plays_a_day
FROM (
    VALUES (1, 'Sunday'), (2, 'Monday'), (3, 'Tuesday'), (4, 'Wednesday'),
        (5, 'Thursday'), (6, 'Friday'), (7, 'Saturday')
) AS names (weekday, day)
LEFT JOIN counted ON counted.weekday = names.weekday
ORDER BY (names.weekday + 5) % 7;

-- name: plays_by_hour
-- Which hours of the day are busiest?
-- Percent: of all plays.
WITH plays AS (
    SELECT CAST(start_time AS TIMESTAMP WITH TIME ZONE) AT TIME ZONE 'UTC' AS local_time FROM songplays
)
SELECT
    CAST(EXTRACT(HOUR FROM local_time) AS INTEGER) AS hour,
    count(*) AS plays,
    CAST(count(*) AS DOUBLE PRECISION) * 100 / sum(count(*)) OVER () AS percent
FROM plays
GROUP BY 1
ORDER BY 1;

-- name: plays_by_weekday_and_hour
-- When in the week is it busiest?
-- Plays in that hour on an average day of that weekday, out of the days that had plays.
WITH plays AS (
    SELECT CAST(start_time AS TIMESTAMP WITH TIME ZONE) AT TIME ZONE 'UTC' AS local_time FROM songplays
),
days AS (
    SELECT EXTRACT(DOW FROM local_time) % 7 + 1 AS weekday, count(DISTINCT CAST(local_time AS DATE)) AS days
    FROM plays
    GROUP BY 1
),
hours AS (
    SELECT
        EXTRACT(DOW FROM local_time) % 7 + 1 AS weekday,
        CAST(EXTRACT(HOUR FROM local_time) AS INTEGER) AS hour,
        count(*) AS plays
    FROM plays
    GROUP BY 1, 2
)
SELECT names.day, hour, plays, CAST(plays AS DOUBLE PRECISION) / days AS plays_a_day
FROM (
    VALUES (1, 'Sunday'), (2, 'Monday'), (3, 'Tuesday'), (4, 'Wednesday'),
        (5, 'Thursday'), (6, 'Friday'), (7, 'Saturday')
) AS names (weekday, day)
JOIN days ON days.weekday = names.weekday
JOIN hours ON hours.weekday = names.weekday
ORDER BY (names.weekday + 5) % 7, hour;

-- name: top_songs
-- Which songs are played most?
-- Only plays that match a song of the catalogue; the artist is the song's in the catalogue.
WITH counted AS (
    SELECT song_id, count(*) AS plays, count(DISTINCT user_id) AS listeners
    FROM songplays
    WHERE song_id IS NOT NULL
    GROUP BY song_id
)
SELECT songs.title AS song, artists.name AS artist, counted.plays, counted.listeners
FROM counted
JOIN songs ON songs.song_id = counted.song_id
LEFT JOIN artists ON artists.artist_id = songs.artist_id
ORDER BY counted.plays DESC, counted.listeners DESC, songs.title, songs.song_id
LIMIT 10;

-- name: top_artists
-- Which artists are played most?
-- Only plays that match a song of the catalogue.
WITH counted AS (
    SELECT artist_id, count(*) AS plays, count(DISTINCT song_id) AS songs, count(DISTINCT user_id) AS listeners
    FROM songplays
    WHERE artist_id IS NOT NULL
    GROUP BY artist_id
)
SELECT artists.name AS artist, counted.plays, counted.songs, counted.listeners
FROM counted
JOIN artists ON artists.artist_id = counted.artist_id
ORDER BY counted.plays DESC, counted.listeners DESC, artists.name, artists.artist_id
LIMIT 10;

-- name: plays_by_level
-- Who listens more, paying listeners or free ones?
-- The level is the one at the play, so a listener who changed level counts in each.
SELECT
    level,
    count(*) AS plays,
    count(DISTINCT user_id) AS listeners,
    CAST(count(*) AS DOUBLE PRECISION) / count(DISTINCT user_id) AS plays_a_listener,
    CAST(count(*) AS DOUBLE PRECISION) * 100 / sum(count(*)) OVER () AS percent_of_plays,
    CAST(count(DISTINCT user_id) AS DOUBLE PRECISION) * 100
        / (SELECT count(DISTINCT user_id) FROM songplays) AS percent_of_listeners
FROM songplays
GROUP BY level
ORDER BY plays DESC, level;

-- name: level_changes
-- How often do listeners change level?
-- From one play of a listener to the next.
WITH both_levels AS (
    SELECT user_id FROM songplays GROUP BY user_id HAVING min(level) <> max(level)
),
ordered AS (
    SELECT
        user_id,
        level,
        lag(level) OVER (PARTITION BY user_id ORDER BY start_time, session_id, level) AS previous
    FROM songplays
    WHERE level IS NOT NULL AND user_id IN (SELECT user_id FROM both_levels)
)
SELECT previous AS from_level, level AS to_level, count(*) AS changes, count(DISTINCT user_id) AS listeners
FROM ordered
WHERE previous <> level
GROUP BY previous, level
ORDER BY changes DESC, from_level, to_level;

-- name: top_locations
-- Where are the listeners?
-- The location is the one at the play.
SELECT location, count(*) AS plays, count(DISTINCT user_id) AS listeners
FROM songplays
GROUP BY location
ORDER BY plays DESC, listeners DESC, location
LIMIT 10;

-- name: client_systems
-- What do they listen with?
-- System and browser, by the words of user_agent.
WITH agents AS (
    SELECT user_agent, user_id, count(*) AS plays FROM songplays GROUP BY user_agent, user_id
),
clients AS (
    SELECT
        CASE
            WHEN user_agent LIKE '%iPhone%' THEN 'iPhone'
            WHEN user_agent LIKE '%iPad%' THEN 'iPad'
            WHEN user_agent LIKE '%Android%' THEN 'Android'
            WHEN user_agent LIKE '%Windows%' THEN 'Windows'
            WHEN user_agent LIKE '%Macintosh%' THEN 'Mac'
            WHEN user_agent LIKE '%Linux%' OR user_agent LIKE '%X11%' THEN 'Linux'
            ELSE 'other'
        END AS system,
        CASE
            WHEN user_agent LIKE '%Edge/%' OR user_agent LIKE '%Edg/%' THEN 'Edge'
            WHEN user_agent LIKE '%OPR/%' OR user_agent LIKE '%Opera%' THEN 'Opera'
            WHEN user_agent LIKE '%Firefox/%' OR user_agent LIKE '%FxiOS/%' THEN 'Firefox'
            WHEN user_agent LIKE '%MSIE %' OR user_agent LIKE '%Trident/%' THEN 'Internet Explorer'
            WHEN user_agent LIKE '%Chrome/%' OR user_agent LIKE '%CriOS/%' THEN 'Chrome'
            WHEN user_agent LIKE '%Safari/%' THEN 'Safari'
            ELSE 'other'
        END AS browser,
        user_id,
        plays
    FROM agents
)
SELECT system, browser, CAST(sum(plays) AS BIGINT) AS plays, count(DISTINCT user_id) AS listeners
FROM clients
GROUP BY system, browser
ORDER BY plays DESC, system, browser;

-- name: songs_by_decade
-- How old is the catalogue?
-- By the year of the song; hours: of music.
WITH dated AS (
    SELECT duration, CASE WHEN year > 0 THEN CAST(year - year % 10 AS VARCHAR) || 's' ELSE 'unknown' END AS decade
    FROM songs
)
SELECT decade, count(*) AS songs, sum(duration) / 3600 AS hours
FROM dated
GROUP BY decade
ORDER BY decade;

-- name: artists_by_coordinates
-- Where do the catalogue's artists come from?
-- Artists with coordinates, to the nearest 5 degrees (floor, as engines round a half to different sides).
SELECT
    CAST(floor(latitude / 5 + 0.5) * 5 AS INTEGER) AS latitude,
    CAST(floor(longitude / 5 + 0.5) * 5 AS INTEGER) AS longitude,
    count(*) AS artists
FROM artists
WHERE latitude IS NOT NULL AND longitude IS NOT NULL
GROUP BY 1, 2
ORDER BY artists DESC, 1, 2;
