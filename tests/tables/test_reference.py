"""The job against its rules in plain Python, on the sample and on generated input."""

import json

import pytest
import reference
from helpers import SAMPLE, all_tables, play, song, table_rows, write_input
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import etl

SOURCES = {name: sorted(SAMPLE.glob(f"{name}/**/*.json")) for name in ("song_data", "log_data")}


def compare(result, songs, logs):
    tables, account, song_account = reference.derive(songs, logs)
    assert result.code == 0, result.err
    published = all_tables(result.output)
    for table, rows in tables.items():
        assert published[table] == sorted(rows, key=repr), table
    report = result.report
    assert report["events"] == {name: account[name] for name in report["events"]}
    assert report["songs"] == {name: song_account[name] for name in report["songs"]}


def test_the_sample_gives_the_reference_answers(job):
    songs, logs = (
        [path.read_bytes() for path in SOURCES[side]] for side in ("song_data", "log_data")
    )
    compare(job(SAMPLE), songs, logs)


texts = st.sampled_from(
    ["River", "River ", "Río", "É", "e\u0301", "\U0001f3b5", "a", "Z", "", None]
)
seconds = st.sampled_from([200.5, 200.50001, 1, 0.1, 59.9])
users = st.sampled_from(
    ["8", "9", "10", "", None, "08", "-1", 8, "9223372036854775807", "9223372036854775808"]
)
event_fields = st.fixed_dictionaries(
    {},
    optional={
        "userId": users,
        "ts": st.sampled_from(
            [1541106106796, 1541106106797, 1540771200000, 946684799999, 4102444800000, None]
        ),
        "sessionId": st.sampled_from([7, 8, None]),
        "itemInSession": st.sampled_from([0, 1, None]),
        "page": st.sampled_from(["NextSong", "Home", "", None, 7]),
        "song": texts,
        "artist": texts,
        "length": seconds,
        "level": st.sampled_from(["free", "paid", None]),
        "firstName": texts,
        "gender": st.sampled_from(["F", "M", "", None]),
        "location": texts,
    },
)
song_fields = st.fixed_dictionaries(
    {},
    optional={
        "song_id": st.sampled_from(["SO1", "SO2", "SO3", "", None]),
        "artist_id": st.sampled_from(["AR1", "AR2", "ar1", "Ä"]),
        "title": texts,
        "artist_name": texts,
        "duration": st.one_of(seconds, st.sampled_from([0, -1, None, "1"])),
        "year": st.sampled_from([0, 1999, 2000, None, 1999.5, 2**31]),
        "artist_location": texts,
        "artist_latitude": st.sampled_from([0, -0.0, 90, 90.1, 37.8, None]),
        "artist_longitude": st.sampled_from([0, 180, -180.5, None]),
    },
)
odd_lines = st.sampled_from(
    [
        b"",
        b" \t\r",
        b"\r",
        b"{}{}",
        b"[1]",
        b"null",
        b'{"ts":1.0}',
        b"\xff\xfe",
        b"\xef\xbb\xbf{}",
        b'{"page":"NextSong"} x',
    ]
)


def as_bytes(record):
    return json.dumps(record, ensure_ascii=False).encode()


def damaged(data, draw):
    """A line with one byte flipped, cut, inserted or repeated."""
    if not data:
        return data
    place = draw(st.integers(0, len(data) - 1))
    how = draw(st.sampled_from(["flip", "cut", "insert", "repeat"]))
    if how == "flip":
        return (
            data[:place] + bytes([data[place] ^ (1 << draw(st.integers(0, 7)))]) + data[place + 1 :]
        )
    if how == "cut":
        return data[:place]
    if how == "insert":
        return (
            data[:place]
            + draw(st.sampled_from([b"}", b"{", b'"', b",", b"\x00", b"\xc3", b"\\"]))
            + data[place:]
        )
    return data[:place] + data


@st.composite
def inputs(draw):
    """Song objects and log files: generated, replayed, shuffled, split, some damaged."""
    songs = [
        as_bytes(song(**fields)) for fields in draw(st.lists(song_fields, min_size=5, max_size=30))
    ]
    events = [
        as_bytes(play(**fields))
        for fields in draw(st.lists(event_fields, min_size=20, max_size=90))
    ]
    events += draw(st.lists(st.sampled_from(events), max_size=20)) + draw(
        st.lists(odd_lines, max_size=8)
    )
    events += [damaged(line, draw) for line in draw(st.lists(st.sampled_from(events), max_size=20))]
    songs += draw(st.lists(st.sampled_from(songs), max_size=8))
    events, songs = draw(st.permutations(events)), draw(st.permutations(songs))
    cuts = sorted(draw(st.lists(st.integers(0, len(events)), max_size=2)))
    files = [events[start:end] for start, end in zip([0, *cuts], [*cuts, len(events)])]
    logs = [
        draw(st.sampled_from([b"", b"\xef\xbb\xbf"]))
        + draw(st.sampled_from([b"\n", b"\r\n"])).join(part)
        for part in files
    ]
    anchors = (
        [as_bytes(song(song_id="SO0"))],
        [as_bytes(play(userId="1"))],
    )  # at least one song and one play
    return [*songs, *anchors[0]], [*logs, *anchors[1]]


@pytest.fixture(params=["little", "much"])
def spark_for(request, spark):
    """Spark as it is for little input, and for much: with generated code and adaptive plans."""
    much = {
        "spark.sql.codegen.wholeStage": "true",
        "spark.sql.codegen.factoryMode": "FALLBACK",
        "spark.sql.adaptive.enabled": "true",
    }
    before = {name: spark.conf.get(name) for name in much}
    if request.param == "much":
        for name, value in much.items():
            spark.conf.set(name, value)
    yield
    for name, value in before.items():
        spark.conf.set(name, value)


@settings(max_examples=10, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
@given(given_input=inputs())
def test_generated_input_gives_the_reference_answers(job, spark_for, tmp_path_factory, given_input):
    songs, logs = given_input
    folder = tmp_path_factory.mktemp("generated")
    write_input(folder / "in", songs, [[data] for data in logs])
    compare(job(folder / "in", "--max-rejected", "1", output=folder / "out"), songs, logs)


@pytest.mark.parametrize("layout", etl.SONG_LAYOUTS)
def test_both_layouts_of_songs_hold_the_same_rows(job, layout):
    result = job(SAMPLE, "--songs-partition-by", layout)
    songs = [path.read_bytes() for path in SOURCES["song_data"]]
    expected = reference.derive(songs, [])[0]["songs"]
    assert table_rows(result.output, "songs") == sorted(expected, key=repr)
    folders = {
        path.parent.relative_to(result.output / "songs")
        for path in result.output.glob("songs/**/*.parquet")
    }
    assert {len(folder.parts) for folder in folders} == {len(layout.split(","))}
