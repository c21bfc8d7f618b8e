-- Questions to start from, asked of the five tables. In a DuckDB shell, after views.sql:
--
--     .read analytics/queries.sql
--
-- report.py asks the same. Times are UTC; after `.read analytics/local_time.sql` they are local.
-- In PostgreSQL (to_postgres.py) each query runs as well, without its .print line.
-- A session is one session_id of one user.

-- name: headline
.print "\nHow much is played, by how many listeners, and when?"
SELECT
    count(*) AS plays,
    count(DISTINCT user_id) AS listeners,
    (SELECT count(*) FROM users) AS users,
    (
        SELECT count(*)
        FROM (SELECT DISTINCT user_id, session_id FROM songplays) AS one_each
    ) AS sessions,
    CAST(min(start_time) AS DATE) AS first_day,
    CAST(max(start_time) AS DATE) AS last_day,
    count(song_id) AS matched,
    (SELECT count(*) FROM songs) AS songs,
    (SELECT count(*) FROM artists) AS artists,
    (
        SELECT count(*)
        FROM (
            SELECT user_id FROM songplays GROUP BY user_id HAVING min(level) <> max(level)
        ) AS changed
    ) AS changed_level
FROM songplays;

-- name: plays_per_day
.print "\nHow many plays are there per day?"
SELECT
    make_date(time.year, time.month, time.day) AS day,
    count(*) AS plays,
    count(DISTINCT user_id) AS listeners
FROM songplays
JOIN time ON time.start_time = songplays.start_time
GROUP BY 1
ORDER BY day;

-- name: plays_by_weekday
.print "\nWhich days of the week are busiest?"
-- Only days with plays count.
WITH days AS (
    SELECT
        weekday,
        make_date(time.year, time.month, time.day) AS day,
        count(*) AS plays
    FROM songplays
    JOIN time ON time.start_time = songplays.start_time
    GROUP BY weekday, make_date(time.year, time.month, time.day)
)
SELECT
    CASE weekday
        WHEN 1 THEN 'Sunday'
        WHEN 2 THEN 'Monday'
        WHEN 3 THEN 'Tuesday'
        WHEN 4 THEN 'Wednesday'
        WHEN 5 THEN 'Thursday'
        WHEN 6 THEN 'Friday'
        ELSE 'Saturday'
    END AS weekday_name,
    count(*) AS days,
    CAST(sum(plays) AS BIGINT) AS plays,
    round(sum(plays) * 1.0 / count(*), 1) AS plays_per_day,
    min(plays) AS quietest_day,
    max(plays) AS busiest_day
FROM days
GROUP BY weekday
ORDER BY (weekday + 5) % 7;

-- name: plays_by_hour
.print "\nWhich hours of the day are busiest?"
SELECT
    hour,
    count(*) AS plays,
    round(count(*) * 100.0 / sum(count(*)) OVER (), 1) AS percent_of_plays
FROM songplays
JOIN time ON time.start_time = songplays.start_time
GROUP BY hour
ORDER BY hour;

-- name: plays_by_weekday_and_hour
.print "\nWhen in the week are people listening?"
-- The average of that hour over the days of that weekday. Only days with plays count.
WITH plays AS (
    SELECT weekday, hour, make_date(time.year, time.month, time.day) AS day
    FROM songplays
    JOIN time ON time.start_time = songplays.start_time
),
weekdays AS (
    SELECT weekday, count(DISTINCT day) AS days
    FROM plays
    GROUP BY weekday
)
SELECT
    plays.weekday,
    hour,
    count(*) AS plays,
    round(count(*) * 1.0 / days, 1) AS plays_per_day
FROM plays
JOIN weekdays ON weekdays.weekday = plays.weekday
GROUP BY plays.weekday, hour, days
ORDER BY plays.weekday, hour;

-- name: listeners_per_week
.print "\nHow many listeners are new each week, and how many come back?"
-- Weeks are those of ISO 8601 and begin on Monday. A listener is new in the week of their first
-- play, and returning in each later one. A week with plays on fewer than 7 days is a partial week.
WITH days AS (
    SELECT DISTINCT
        user_id,
        weekday,
        week,
        make_date(time.year, time.month, time.day) - (weekday + 5) % 7 AS monday
    FROM songplays
    JOIN time ON time.start_time = songplays.start_time
),
weeks AS (
    SELECT *, min(monday) OVER (PARTITION BY user_id) AS first_monday
    FROM days
)
SELECT
    monday,
    week,
    count(DISTINCT weekday) AS days,
    count(DISTINCT user_id) AS listeners,
    count(DISTINCT CASE WHEN monday = first_monday THEN user_id END) AS new_listeners,
    count(DISTINCT CASE WHEN monday > first_monday THEN user_id END) AS returning_listeners
FROM weeks
GROUP BY monday, week
ORDER BY monday;

-- name: plays_by_gender
.print "\nHow much do women and men listen, and how much of it at weekends?"
-- An even week would have 28.6 percent of its plays on Saturday and Sunday.
SELECT
    gender,
    count(DISTINCT songplays.user_id) AS listeners,
    count(*) AS plays,
    round(count(*) * 1.0 / count(DISTINCT songplays.user_id), 1) AS plays_per_listener,
    round(avg(CASE WHEN weekday IN (1, 7) THEN 100.0 ELSE 0 END), 1) AS weekend_percent
FROM songplays
JOIN users ON users.user_id = songplays.user_id
JOIN time ON time.start_time = songplays.start_time
GROUP BY gender
ORDER BY plays DESC, gender;

-- name: plays_by_level
.print "\nWho listens more, paid or free listeners?"
-- level is the one at the play; level_now is the listener's latest, from the users table.
SELECT
    songplays.level,
    users.level AS level_now,
    count(DISTINCT songplays.user_id) AS listeners,
    count(*) AS plays,
    round(count(*) * 1.0 / count(DISTINCT songplays.user_id), 1) AS plays_per_listener
FROM songplays
JOIN users ON users.user_id = songplays.user_id
GROUP BY songplays.level, users.level
ORDER BY songplays.level, users.level;

-- name: level_history
.print "\nWhen do listeners change their level?"
-- One row per listener and stretch of plays at one level: the 20 listeners with the most plays, of
-- those with plays at more than one level, and at most 200 rows.
WITH changed AS (
    SELECT user_id
    FROM songplays
    GROUP BY user_id
    HAVING min(level) <> max(level)
    ORDER BY count(*) DESC, user_id
    LIMIT 20
),
numbered AS (
    SELECT
        user_id,
        level,
        start_time,
        row_number() OVER (PARTITION BY user_id ORDER BY start_time, songplay_id)
        - row_number() OVER (PARTITION BY user_id, level ORDER BY start_time, songplay_id) AS stretch
    FROM songplays
    WHERE user_id IN (SELECT user_id FROM changed)
)
SELECT
    user_id,
    level,
    CAST(min(start_time) AS DATE) AS first_day,
    CAST(max(start_time) AS DATE) AS last_day,
    count(*) AS plays
FROM numbered
GROUP BY user_id, level, stretch
ORDER BY user_id, min(start_time)
LIMIT 200;

-- name: top_listeners
.print "\nWho listens most?"
WITH listened AS (
    SELECT
        user_id,
        count(*) AS plays,
        count(DISTINCT session_id) AS sessions,
        CAST(max(start_time) AS DATE) AS last_day
    FROM songplays
    GROUP BY user_id
)
SELECT listened.user_id, gender, level AS level_now, plays, sessions, last_day
FROM listened
JOIN users ON users.user_id = listened.user_id
ORDER BY plays DESC, listened.user_id
LIMIT 10;

-- name: sessions
.print "\nHow long are sessions?"
-- Minutes run from the start of a session's first play to the start of its last.
WITH sessions AS (
    SELECT
        count(*) AS plays,
        EXTRACT(EPOCH FROM max(start_time) - min(start_time)) / 60.0 AS minutes
    FROM songplays
    GROUP BY user_id, session_id
),
sized AS (
    SELECT
        plays,
        minutes,
        CASE
            WHEN plays = 1 THEN '1'
            WHEN plays <= 5 THEN '2 to 5'
            WHEN plays <= 20 THEN '6 to 20'
            WHEN plays <= 50 THEN '21 to 50'
            ELSE 'over 50'
        END AS plays_per_session
    FROM sessions
)
SELECT
    plays_per_session,
    count(*) AS sessions,
    CAST(sum(plays) AS BIGINT) AS plays,
    round(avg(minutes), 1) AS average_minutes
FROM sized
GROUP BY plays_per_session
ORDER BY min(sized.plays);

-- name: top_songs
.print "\nWhich songs are played most, of the plays that match a song?"
-- Songs of one title and artist name count together.
SELECT
    title AS song,
    artists.name AS artist,
    count(*) AS plays,
    count(DISTINCT user_id) AS listeners
FROM songplays
JOIN songs ON songs.song_id = songplays.song_id
JOIN artists ON artists.artist_id = songplays.artist_id
GROUP BY title, artists.name
ORDER BY plays DESC, listeners DESC, song, artist
LIMIT 10;

-- name: top_artists
.print "\nWhich artists are played most, of the plays that match a song?"
-- Artists of one name count together.
SELECT
    artists.name AS artist,
    count(*) AS plays,
    count(DISTINCT user_id) AS listeners,
    count(DISTINCT song_id) AS songs
FROM songplays
JOIN artists ON artists.artist_id = songplays.artist_id
GROUP BY artists.name
ORDER BY plays DESC, listeners DESC, artist
LIMIT 10;

-- name: songs_by_decade
.print "\nHow old are the songs of song_data?"
SELECT
    CASE WHEN year > 0 THEN CAST(year - year % 10 AS VARCHAR) || 's' ELSE 'unknown' END AS decade,
    count(*) AS songs,
    round(CAST(sum(duration) AS BIGINT) / 3600.0, 1) AS hours_of_music
FROM songs
GROUP BY 1
ORDER BY decade;

-- name: top_locations
.print "\nWhere are the listeners?"
-- The location is the one at the play, so a listener who moved counts in each.
SELECT location, count(DISTINCT user_id) AS listeners, count(*) AS plays
FROM songplays
GROUP BY location
ORDER BY listeners DESC, plays DESC, location
LIMIT 10;

-- name: systems
.print "\nWhich systems do they use?"
-- Judged by words in user_agent. A listener with two systems counts in each.
WITH agents AS (
    SELECT user_agent, user_id, count(*) AS plays
    FROM songplays
    GROUP BY user_agent, user_id
)
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
    count(DISTINCT user_id) AS listeners,
    CAST(sum(plays) AS BIGINT) AS plays
FROM agents
GROUP BY 1
ORDER BY listeners DESC, plays DESC, system;

-- name: browsers
.print "\nWhich browsers do they use?"
-- Judged by words in user_agent. A listener with two browsers counts in each.
WITH agents AS (
    SELECT user_agent, user_id, count(*) AS plays
    FROM songplays
    GROUP BY user_agent, user_id
)
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
    count(DISTINCT user_id) AS listeners,
    CAST(sum(plays) AS BIGINT) AS plays
FROM agents
GROUP BY 1
ORDER BY listeners DESC, plays DESC, browser;
