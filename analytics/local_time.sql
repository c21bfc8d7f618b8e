-- Local time instead of UTC. In a DuckDB shell, after views.sql:
--
--     .read analytics/local_time.sql
--
-- From then on, `songplays` and `time` are views in which start_time is what a clock showed where
-- the listener was, and hour, day, week, weekday, month and year follow from it. The zone is that
-- of the first state in `location` ("Chicago-Naperville-Elgin, IL-IN-WI" is Central Time), and in
-- a state with several zones the one of most of its people. Without a known state it is UTC.
--
-- `SET VARIABLE timezone = 'America/Los_Angeles';` before it makes that the zone of all plays.
-- `SET search_path = 'main';` returns to UTC.

CREATE SCHEMA IF NOT EXISTS local_time;

CREATE OR REPLACE TABLE local_time.zones AS
SELECT zone, unnest(string_split(states, ' ')) AS state
FROM (
    VALUES
        ('America/New_York', 'CT DC DE FL GA IN KY MA MD ME MI NC NH NJ NY OH PA RI SC VA VT WV'),
        ('America/Chicago', 'AL AR IA IL KS LA MN MO MS ND NE OK SD TN TX WI'),
        ('America/Denver', 'CO ID MT NM UT WY'),
        ('America/Phoenix', 'AZ'),
        ('America/Los_Angeles', 'CA NV OR WA'),
        ('America/Anchorage', 'AK'),
        ('Pacific/Honolulu', 'HI'),
        ('America/Puerto_Rico', 'PR')
) AS listed (zone, states);

CREATE OR REPLACE VIEW local_time.songplays AS
WITH zoned AS (
    SELECT
        plays.* EXCLUDE (year, month),
        coalesce(getvariable('timezone')::VARCHAR, zone, 'UTC') AS zone
    FROM main.songplays AS plays
    LEFT JOIN local_time.zones ON state = substr(split_part(location, ', ', 2), 1, 2)
)
SELECT
    * EXCLUDE (zone) REPLACE (start_time AT TIME ZONE zone AS start_time),
    CAST(year(start_time AT TIME ZONE zone) AS INT) AS year,
    CAST(month(start_time AT TIME ZONE zone) AS INT) AS month
FROM zoned;

CREATE OR REPLACE VIEW local_time.time AS
SELECT DISTINCT
    start_time,
    CAST(hour(start_time) AS INT) AS hour,
    CAST(day(start_time) AS INT) AS day,
    CAST(week(start_time) AS INT) AS week,
    CAST(dayofweek(start_time) + 1 AS INT) AS weekday,
    year,
    month
FROM local_time.songplays;

SET search_path = 'local_time,main';
