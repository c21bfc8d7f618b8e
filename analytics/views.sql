-- The five tables by name, for DuckDB, from the folder that etl.py wrote.
--
--     duckdb -init analytics/views.sql
--
-- opens a shell, in the project's folder after `python etl.py`, in which these run:
--
--     SELECT count(*) FROM songplays;
--     .read analytics/queries.sql
--
-- For another OUTPUT set the variable before this file is read:
--
--     duckdb -cmd "SET VARIABLE output = '/data/lake'" -cmd ".read analytics/views.sql"
--
-- An OUTPUT on S3 also needs the extension httpfs and credentials, before this file is read:
--
--     INSTALL httpfs; LOAD httpfs; CREATE SECRET (TYPE s3, PROVIDER credential_chain);
--     SET VARIABLE output = 's3://my-bucket/lake';
--
-- The views read whatever lies in the folders. During a publication, which takes fractions of a
-- second, that is old and new together; report.py reads the files of one finished commit.

SET VARIABLE output = coalesce(getvariable('output'), 'output');
SET TimeZone = 'UTC';

CREATE OR REPLACE VIEW songplays AS
SELECT
    songplay_id,
    start_time,
    user_id,
    level,
    song_id,
    artist_id,
    session_id,
    location,
    user_agent,
    year,
    month
FROM read_parquet(
    getvariable('output') || '/songplays/**/*.parquet',
    hive_partitioning = true,
    hive_types = {'year': INT, 'month': INT}
);

CREATE OR REPLACE VIEW users AS
SELECT
    user_id,
    first_name,
    last_name,
    gender,
    level
FROM read_parquet(getvariable('output') || '/users/**/*.parquet');

CREATE OR REPLACE VIEW songs AS
SELECT
    song_id,
    title,
    artist_id,
    duration,
    year
FROM read_parquet(
    getvariable('output') || '/songs/**/*.parquet',
    hive_partitioning = true,
    hive_types = {'year': INT}
);

CREATE OR REPLACE VIEW artists AS
SELECT
    artist_id,
    name,
    location,
    latitude,
    longitude
FROM read_parquet(getvariable('output') || '/artists/**/*.parquet');

CREATE OR REPLACE VIEW "time" AS
SELECT
    start_time,
    hour,
    day,
    week,
    weekday,
    year,
    month
FROM read_parquet(
    getvariable('output') || '/time/**/*.parquet',
    hive_partitioning = true,
    hive_types = {'year': INT, 'month': INT}
);
