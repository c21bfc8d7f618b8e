-- What people listen to, asked of the five tables. report.py runs these queries; each runs as it
-- stands in DuckDB (views.sql gives it the tables by name), Athena (Trino) and PostgreSQL.
-- Above each query stand its name, its question and what a reader must know.
--
-- Times are UTC. For another zone replace 'UTC', for example by 'America/Los_Angeles'. report.py
-- puts the time of each listener's place there.
-- A session is one session_id of one user.
-- EXTRACT(DOW) counts from 0 = Sunday in DuckDB and PostgreSQL and ends with 7 = Sunday in Trino:
-- % 7 + 1 makes it the time table's weekday, 1 = Sunday, in all three.
-- The first and the last day may be cut off by the edge of the data. If there are 15 days or more,
-- those two do not count towards averages.
-- In a ranking, `ranked` is the number of names in all, and `tied` how many share a row's value.

-- name: headline
-- How much is listened to, by how many, and when?
SELECT
    count(*) AS plays,
    count(DISTINCT user_id) AS listeners,
    (SELECT count(*) FROM users) AS users,
    (
        SELECT count(*)
        FROM (SELECT DISTINCT user_id, session_id FROM songplays) AS one_each
    ) AS sessions,
    CAST(min(CAST(start_time AS TIMESTAMP WITH TIME ZONE) AT TIME ZONE 'UTC') AS DATE) AS first_day,
    CAST(max(CAST(start_time AS TIMESTAMP WITH TIME ZONE) AT TIME ZONE 'UTC') AS DATE) AS last_day,
    count(song_id) AS matched,
    (SELECT count(*) FROM songs) AS songs,
    (SELECT count(*) FROM artists) AS artists
FROM songplays;

-- name: plays_per_day
-- How many plays are there per day?
-- A day without a play is missing: whether nobody listened or nothing was logged is not known.
WITH plays AS (
    SELECT user_id, CAST(start_time AS TIMESTAMP WITH TIME ZONE) AT TIME ZONE 'UTC' AS local_time
    FROM songplays
)
SELECT
    CAST(local_time AS DATE) AS day,
    count(*) AS plays,
    count(DISTINCT user_id) AS listeners
FROM plays
GROUP BY CAST(local_time AS DATE)
ORDER BY 1;

-- name: plays_by_weekday
-- Which days of the week are busiest?
-- The average of each weekday's days, and its quietest and busiest single day.
WITH plays AS (
    SELECT CAST(start_time AS TIMESTAMP WITH TIME ZONE) AT TIME ZONE 'UTC' AS local_time
    FROM songplays
),
days AS (
    SELECT CAST(local_time AS DATE) AS day, count(*) AS plays
    FROM plays
    GROUP BY CAST(local_time AS DATE)
),
numbered AS (
    SELECT day, plays, row_number() OVER (ORDER BY day) AS number, count(*) OVER () AS total
    FROM days
),
whole_days AS (
    SELECT day, plays, EXTRACT(DOW FROM day) % 7 + 1 AS weekday
    FROM numbered
    WHERE total < 15 OR (number > 1 AND number < total)
),
counted AS (
    SELECT
        weekday,
        count(*) AS days,
        CAST(sum(plays) AS BIGINT) AS plays,
        CAST(sum(plays) AS DOUBLE PRECISION) / count(*) AS plays_per_day,
        min(plays) AS quietest,
        max(plays) AS busiest
    FROM whole_days
    GROUP BY weekday
)
SELECT names.weekday_name AS weekday, days, plays, plays_per_day, quietest, busiest
FROM (
    VALUES
        (1, 'Sunday'),
        (2, 'Monday'),
        (3, 'Tuesday'),
        (4, 'Wednesday'),
        (5, 'Thursday'),
        (6, 'Friday'),
        (7, 'Saturday')
) AS names (weekday, weekday_name)
LEFT JOIN counted ON counted.weekday = names.weekday
ORDER BY (names.weekday + 5) % 7;

-- name: plays_by_hour
-- Which hours of the day are busiest?
WITH plays AS (
    SELECT CAST(start_time AS TIMESTAMP WITH TIME ZONE) AT TIME ZONE 'UTC' AS local_time
    FROM songplays
),
hours AS (
    SELECT CAST(EXTRACT(HOUR FROM local_time) AS INTEGER) AS hour
    FROM plays
)
SELECT
    hour,
    count(*) AS plays,
    CAST(count(*) AS DOUBLE PRECISION) * 100 / sum(count(*)) OVER () AS percent_of_plays
FROM hours
GROUP BY hour
ORDER BY hour;

-- name: plays_by_weekday_and_hour
-- When in the week is it busiest?
-- The plays that start in that hour, on an average day of that weekday.
WITH plays AS (
    SELECT CAST(start_time AS TIMESTAMP WITH TIME ZONE) AT TIME ZONE 'UTC' AS local_time
    FROM songplays
),
days AS (
    SELECT CAST(local_time AS DATE) AS day, count(*) AS plays
    FROM plays
    GROUP BY CAST(local_time AS DATE)
),
numbered AS (
    SELECT day, plays, row_number() OVER (ORDER BY day) AS number, count(*) OVER () AS total
    FROM days
),
whole_days AS (
    SELECT day, plays, EXTRACT(DOW FROM day) % 7 + 1 AS weekday
    FROM numbered
    WHERE total < 15 OR (number > 1 AND number < total)
),
weekdays AS (
    SELECT weekday, count(*) AS days
    FROM whole_days
    GROUP BY weekday
),
hours AS (
    SELECT
        CAST(local_time AS DATE) AS day,
        CAST(EXTRACT(HOUR FROM local_time) AS INTEGER) AS hour,
        count(*) AS plays
    FROM plays
    GROUP BY CAST(local_time AS DATE), CAST(EXTRACT(HOUR FROM local_time) AS INTEGER)
),
counted AS (
    SELECT whole_days.weekday, hours.hour, CAST(sum(hours.plays) AS BIGINT) AS plays
    FROM hours
    JOIN whole_days ON whole_days.day = hours.day
    GROUP BY whole_days.weekday, hours.hour
)
SELECT
    names.weekday_name AS weekday,
    hour,
    days,
    plays,
    CAST(plays AS DOUBLE PRECISION) / days AS plays_per_day
FROM (
    VALUES
        (1, 'Sunday'),
        (2, 'Monday'),
        (3, 'Tuesday'),
        (4, 'Wednesday'),
        (5, 'Thursday'),
        (6, 'Friday'),
        (7, 'Saturday')
) AS names (weekday, weekday_name)
JOIN weekdays ON weekdays.weekday = names.weekday
JOIN counted ON counted.weekday = names.weekday
ORDER BY (names.weekday + 5) % 7, hour;

-- name: listeners_per_week
-- How many listeners are new, and how many come back?
-- A week begins on Monday. A listener is new in the first week with a play, and returns in each
-- later one.
WITH plays AS (
    SELECT user_id, CAST(start_time AS TIMESTAMP WITH TIME ZONE) AT TIME ZONE 'UTC' AS local_time
    FROM songplays
),
weeks AS (
    SELECT user_id, CAST(date_trunc('week', local_time) AS DATE) AS week
    FROM plays
    GROUP BY user_id, CAST(date_trunc('week', local_time) AS DATE)
),
first_weeks AS (
    SELECT user_id, min(week) AS first_week
    FROM weeks
    GROUP BY user_id
)
SELECT
    weeks.week,
    count(CASE WHEN weeks.week = first_weeks.first_week THEN 1 END) AS new_listeners,
    count(CASE WHEN weeks.week > first_weeks.first_week THEN 1 END) AS returning_listeners
FROM weeks
JOIN first_weeks ON first_weeks.user_id = weeks.user_id
GROUP BY weeks.week
ORDER BY weeks.week;

-- name: top_songs
-- Which songs are played most?
-- Only plays that match a song of the catalogue. Songs of one title and artist name count together.
WITH counted AS (
    SELECT
        songs.title AS song,
        artists.name AS artist,
        count(*) AS plays,
        count(DISTINCT songplays.user_id) AS listeners
    FROM songplays
    JOIN songs ON songs.song_id = songplays.song_id
    LEFT JOIN artists ON artists.artist_id = songs.artist_id
    GROUP BY songs.title, artists.name
)
SELECT
    song,
    artist,
    plays,
    listeners,
    count(*) OVER () AS ranked,
    count(*) OVER (PARTITION BY plays) AS tied
FROM counted
ORDER BY plays DESC, listeners DESC, song, artist
LIMIT 10;

-- name: top_artists
-- Which artists are played most?
-- Only plays that match a song of the catalogue. Artists of one name count together; artist_ids
-- says how many they are.
WITH counted AS (
    SELECT
        artists.name AS artist,
        count(DISTINCT songplays.artist_id) AS artist_ids,
        count(*) AS plays,
        count(DISTINCT songplays.user_id) AS listeners
    FROM songplays
    JOIN artists ON artists.artist_id = songplays.artist_id
    GROUP BY artists.name
)
SELECT
    artist,
    artist_ids,
    plays,
    listeners,
    count(*) OVER () AS ranked,
    count(*) OVER (PARTITION BY plays) AS tied
FROM counted
ORDER BY plays DESC, listeners DESC, artist
LIMIT 10;

-- name: plays_by_level
-- Who listens more, paying listeners or free ones?
-- The level is the one at the play, so a listener who changed level counts in each. The columns
-- from `least` to `most` are plays per listener: a quarter of the listeners have at most
-- `lower_quarter` plays, half of them at most `median`.
WITH per_listener AS (
    SELECT level, user_id, count(*) AS plays
    FROM songplays
    GROUP BY level, user_id
),
numbered AS (
    SELECT
        level,
        plays,
        row_number() OVER (PARTITION BY level ORDER BY plays) AS number,
        count(*) OVER (PARTITION BY level) AS listeners
    FROM per_listener
)
SELECT
    level,
    CAST(sum(plays) AS BIGINT) AS plays,
    count(*) AS listeners,
    min(plays) AS least,
    min(CASE WHEN 4 * number >= listeners THEN plays END) AS lower_quarter,
    min(CASE WHEN 2 * number >= listeners THEN plays END) AS median,
    min(CASE WHEN 4 * number >= 3 * listeners THEN plays END) AS upper_quarter,
    max(plays) AS most
FROM numbered
GROUP BY level
ORDER BY plays DESC, level;

-- name: level_changes
-- How often do listeners change level?
-- From one play of a listener to the next.
WITH both_levels AS (
    SELECT user_id
    FROM songplays
    GROUP BY user_id
    HAVING min(level) <> max(level)
),
ordered AS (
    SELECT
        user_id,
        level,
        lag(level) OVER (
            PARTITION BY user_id ORDER BY start_time, session_id, songplay_id
        ) AS previous
    FROM songplays
    WHERE level IS NOT NULL AND user_id IN (SELECT user_id FROM both_levels)
)
SELECT
    previous AS from_level,
    level AS to_level,
    count(*) AS changes,
    count(DISTINCT user_id) AS listeners
FROM ordered
WHERE previous <> level
GROUP BY previous, level
ORDER BY changes DESC, from_level, to_level;

-- name: level_history
-- Who had which level, and from when to when?
-- The type 2 history of `level`, from plays: one row per listener and stretch of plays at one
-- level. No until_day: the level at the listener's last play. The 20 listeners with the most
-- plays, of those who changed.
WITH both_levels AS (
    SELECT user_id, count(*) AS plays
    FROM songplays
    WHERE level IS NOT NULL
    GROUP BY user_id
    HAVING min(level) <> max(level)
    ORDER BY plays DESC, user_id
    LIMIT 20
),
ordered AS (
    SELECT
        user_id,
        level,
        CAST(start_time AS TIMESTAMP WITH TIME ZONE) AT TIME ZONE 'UTC' AS local_time,
        lag(level) OVER (
            PARTITION BY user_id ORDER BY start_time, session_id, songplay_id
        ) AS previous,
        row_number() OVER (
            PARTITION BY user_id ORDER BY start_time, session_id, songplay_id
        ) AS number
    FROM songplays
    WHERE level IS NOT NULL AND user_id IN (SELECT user_id FROM both_levels)
),
stretches AS (
    SELECT
        user_id,
        level,
        local_time,
        sum(CASE WHEN level = previous THEN 0 ELSE 1 END) OVER (
            PARTITION BY user_id ORDER BY number
        ) AS stretch
    FROM ordered
),
history AS (
    SELECT
        user_id,
        stretch,
        min(level) AS level,
        CAST(min(local_time) AS DATE) AS from_day,
        CAST(max(local_time) AS DATE) AS last_play_day,
        count(*) AS plays
    FROM stretches
    GROUP BY user_id, stretch
)
SELECT
    user_id,
    level,
    from_day,
    lead(from_day) OVER (PARTITION BY user_id ORDER BY stretch) AS until_day,
    last_play_day,
    plays
FROM history
ORDER BY user_id, stretch;

-- name: sessions
-- How long do people listen at a stretch?
-- Minutes run from the start of a session's first play to the start of its last.
WITH counted AS (
    SELECT count(*) AS plays, max(start_time) - min(start_time) AS duration
    FROM songplays
    GROUP BY user_id, session_id
),
measured AS (
    SELECT
        plays,
        EXTRACT(DAY FROM duration) * 1440
        + EXTRACT(HOUR FROM duration) * 60
        + EXTRACT(MINUTE FROM duration) AS minutes
    FROM counted
)
SELECT
    size.plays_per_session,
    count(*) AS sessions,
    CAST(sum(measured.plays) AS BIGINT) AS plays,
    max(measured.plays) AS most_plays,
    CAST(avg(measured.minutes) AS DOUBLE PRECISION) AS average_minutes
FROM measured
JOIN (
    VALUES
        (1, 1, '1'),
        (2, 5, '2 to 5'),
        (6, 20, '6 to 20'),
        (21, 50, '21 to 50'),
        (51, 2000000000, 'over 50')
) AS size (least, most, plays_per_session)
    ON measured.plays BETWEEN size.least AND size.most
GROUP BY size.plays_per_session, size.least
ORDER BY size.least;

-- name: top_places
-- Where are the listeners?
-- The place is the one at the play, so a listener who moved counts in each.
WITH counted AS (
    SELECT location AS place, count(DISTINCT user_id) AS listeners, count(*) AS plays
    FROM songplays
    GROUP BY location
)
SELECT
    place,
    listeners,
    plays,
    count(*) OVER () AS ranked,
    count(*) OVER (PARTITION BY listeners) AS tied
FROM counted
ORDER BY listeners DESC, plays DESC, place
LIMIT 10;

-- name: client_systems
-- On which systems do they listen?
-- By the words of user_agent. A listener with two systems counts in each.
WITH agents AS (
    SELECT user_agent, user_id, count(*) AS plays
    FROM songplays
    GROUP BY user_agent, user_id
),
systems AS (
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
        user_id,
        plays
    FROM agents
)
SELECT system, count(DISTINCT user_id) AS listeners, CAST(sum(plays) AS BIGINT) AS plays
FROM systems
GROUP BY system
ORDER BY listeners DESC, plays DESC, system;

-- name: client_browsers
-- With which browsers do they listen?
-- By the words of user_agent. A listener with two browsers counts in each.
WITH agents AS (
    SELECT user_agent, user_id, count(*) AS plays
    FROM songplays
    GROUP BY user_agent, user_id
),
browsers AS (
    SELECT
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
SELECT browser, count(DISTINCT user_id) AS listeners, CAST(sum(plays) AS BIGINT) AS plays
FROM browsers
GROUP BY browser
ORDER BY listeners DESC, plays DESC, browser;

-- name: songs_by_decade
-- How old is the catalogue?
-- By the year of the song. Hours are hours of music.
WITH dated AS (
    SELECT
        duration,
        CASE
            WHEN year > 0 THEN CAST(year - year % 10 AS VARCHAR) || 's'
            ELSE 'unknown'
        END AS decade
    FROM songs
)
SELECT decade, count(*) AS songs, sum(duration) / 3600 AS hours
FROM dated
GROUP BY decade
ORDER BY decade;
