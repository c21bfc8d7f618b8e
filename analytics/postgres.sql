-- The five tables in PostgreSQL, with their keys, and a view that joins them. to_postgres.py runs
-- this in the schema that it loads; what is there already stays.

CREATE TABLE IF NOT EXISTS users (
    user_id bigint PRIMARY KEY,
    first_name text,
    last_name text,
    gender text,
    level text
);

CREATE TABLE IF NOT EXISTS artists (
    artist_id text PRIMARY KEY,
    name text NOT NULL,
    location text,
    latitude double precision,
    longitude double precision
);

CREATE TABLE IF NOT EXISTS songs (
    song_id text PRIMARY KEY,
    title text NOT NULL,
    artist_id text NOT NULL REFERENCES artists,
    duration double precision NOT NULL,
    year integer NOT NULL
);

CREATE TABLE IF NOT EXISTS "time" (
    start_time timestamp with time zone PRIMARY KEY,
    hour integer NOT NULL,
    day integer NOT NULL,
    week integer NOT NULL,
    weekday integer NOT NULL,
    year integer NOT NULL,
    month integer NOT NULL
);

CREATE TABLE IF NOT EXISTS songplays (
    songplay_id text PRIMARY KEY,
    start_time timestamp with time zone NOT NULL REFERENCES "time",
    user_id bigint NOT NULL REFERENCES users,
    level text,
    song_id text REFERENCES songs,
    artist_id text REFERENCES artists,
    session_id bigint NOT NULL,
    location text,
    user_agent text,
    year integer NOT NULL,
    month integer NOT NULL
);

CREATE INDEX IF NOT EXISTS songs_artist_id_idx ON songs (artist_id);
CREATE INDEX IF NOT EXISTS songplays_start_time_idx ON songplays (start_time);
CREATE INDEX IF NOT EXISTS songplays_user_id_idx ON songplays (user_id);
CREATE INDEX IF NOT EXISTS songplays_song_id_idx ON songplays (song_id);
CREATE INDEX IF NOT EXISTS songplays_artist_id_idx ON songplays (artist_id);

CREATE OR REPLACE VIEW plays AS
SELECT
    songplays.songplay_id,
    songplays.start_time,
    "time".hour,
    "time".weekday,
    "time".week,
    songplays.year,
    songplays.month,
    songplays.user_id,
    users.first_name,
    users.last_name,
    users.gender,
    songplays.level,
    users.level AS level_now,
    songplays.session_id,
    songplays.location,
    songplays.user_agent,
    songplays.song_id,
    songs.title AS song_title,
    songs.duration AS song_duration,
    songs.year AS song_year,
    songplays.artist_id,
    artists.name AS artist_name,
    artists.location AS artist_location
FROM songplays
JOIN "time" ON "time".start_time = songplays.start_time
JOIN users ON users.user_id = songplays.user_id
LEFT JOIN songs ON songs.song_id = songplays.song_id
LEFT JOIN artists ON artists.artist_id = songplays.artist_id;

COMMENT ON VIEW plays IS 'one row per play, with its song, artist, listener and time';
