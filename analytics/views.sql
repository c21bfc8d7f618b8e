-- The five tables of an OUTPUT by name, for the DuckDB shell:
--
--     duckdb -init analytics/views.sql
--     OUTPUT=/home/you/lake duckdb -init analytics/views.sql
--
-- The environment variable OUTPUT names the folder; without it, it is `output` in the current one.
-- In the shell `.tables` lists the tables, and `.read analytics/queries.sql` asks them questions.
--
-- For an OUTPUT on S3, first give DuckDB the credentials that AWS's tools use:
--
--     OUTPUT=s3://my-bucket/lake duckdb \
--         -cmd "CREATE SECRET (TYPE s3, PROVIDER credential_chain)" -cmd ".read analytics/views.sql"
--
-- The views read all files in the folders. During a publication, which takes a fraction of a
-- second, old and new files are both there; report.py reads the files of one commit.

SET VARIABLE output = coalesce(nullif(getenv('OUTPUT'), ''), 'output');
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

CREATE OR REPLACE VIEW time AS
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
