"""The job against its rules in plain Python, on the sample and on generated input."""

import gzip
import json
import os
from datetime import UTC, datetime

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import etl
from tests import reference
from tests.helpers import SAMPLE, play, song
from tests.lines import damaged

ANY_REJECTED = ("--max-rejected", "1")


def in_utc(value):
    return value.astimezone(UTC) if isinstance(value, datetime) else value


@pytest.fixture
def check(job, spark):
    """Runs the job, and compares its tables and counts with the reference."""

    def rows_of(output, table):
        names = spark.createDataFrame([], etl.COLUMNS[table]).columns
        files = spark.read.schema(etl.COLUMNS[table]).parquet(f"{output}/{table}")
        return {tuple(map(in_utc, row)) for row in files.select(names).collect()}

    def run(source, *flags, output=None):
        songs, skipped_songs = reference.read_dataset(source, "song_data")
        logs, skipped_logs = reference.read_dataset(source, "log_data")
        expected = reference.derive(songs, logs)
        result = job(source, *flags, output=output)
        assert result.code == 0, result.err
        for table, rows in expected.tables.items():
            assert rows_of(result.output, table) == rows, table
        summary = result.summary
        for table, rows in expected.tables.items():
            # a set hides a row that is there twice
            assert summary["tables"][table]["rows"] == len(rows)
        assert summary["events"] == {name: expected.events[name] for name in summary["events"]}
        assert summary["songs"] == {name: expected.songs[name] for name in summary["songs"]}
        skipped = {name: item["objects"] for name, item in summary["skipped"].items()}
        found = {"song_data": len(skipped_songs), "log_data": len(skipped_logs)}
        assert skipped == {name: count for name, count in found.items() if count}
        return result

    return run


def test_the_sample_gives_the_reference_answers_in_the_two_level_layout_too(check):
    """That by year alone is the layout of all other tests."""
    result = check(SAMPLE, "--songs-partition-by", "year,artist_id")
    for path in result.output.glob("songs/**/*.parquet"):
        folders = path.parent.relative_to(result.output / "songs").parts
        assert [folder.partition("=")[0] for folder in folders] == ["year", "artist_id"]


def test_every_suffix_and_case_is_read_and_other_objects_are_skipped(check, tmp_path):
    """Hidden and empty objects are neither; a pretty-printed song is one record."""
    names = "a.json a.jsonl a.ndjson a.json.gz a.JSONL.gz a.Json.GZ a.ndjson.GZ _k=v/a.JSON".split()
    others = "a.txt a.json.bak a _a.json .a.json _b/a.json .b/a.json c/.d/a.json.gz".split()
    bom = b"\xef\xbb\xbf"
    for number, name in enumerate([*names, *others]):
        folders = {"song_data": song(song_id=f"SO{number}"), "log_data": play(sessionId=number)}
        for dataset, record in folders.items():
            path = tmp_path / "in" / dataset / "d" / name
            path.parent.mkdir(parents=True, exist_ok=True)
            is_pretty = dataset == "song_data" and number % 2
            text = json.dumps(record, indent=2 if is_pretty else None)
            if dataset == "log_data":
                text = f"{{\n\n{text}"
            data = bom + text.encode() + b"\r\n"
            path.write_bytes(gzip.compress(data) if name.lower().endswith(".gz") else data)
            (path.parent / "empty.json").touch()
            (path.parent / "empty.csv").touch()
    summary = check(tmp_path / "in", *ANY_REJECTED).summary
    assert summary["events"]["songplays"] == summary["songs"]["songs"] == 7
    first = {"objects": 3, "first": "log_data/d/a"}
    assert summary["skipped"]["log_data"] == first


def some_of(**values):
    """Fields of a record, each with one of these values, or left as it is."""
    picks = {name: st.sampled_from(found) for name, found in values.items()}
    return st.fixed_dictionaries({}, optional=picks)


NAN = float("nan")
TEXTS = ["River", "River ", "Río", "É", "e\u0301", "\U0001f3b5", "a", "Z", "", None]
SECONDS = [200.5, 200.50001, 1, 0.1, 59.9]
event_fields = some_of(
    userId=["8", "9", "10", "", None, "08", "-1", 8, "9223372036854775807", "9223372036854775808"],
    ts=[1541106106796, 1541106106797, 1540771200000, 946684799999, 4102444800000, None],
    sessionId=[7, 8, None],
    itemInSession=[0, 1, None],
    page=["NextSong", "Home", "", None, 7],
    song=TEXTS,
    artist=TEXTS,
    length=[*SECONDS, NAN],
    level=["free", "paid", None],
    firstName=TEXTS,
    gender=["F", "M", "", None],
    location=TEXTS,
    registration=[NAN],
)
song_fields = some_of(
    song_id=["SO1", "SO2", "SO3", "", None],
    artist_id=["AR1", "AR2", "ar1", "Ä"],
    title=TEXTS,
    artist_name=TEXTS,
    duration=[*SECONDS, 0, -1, None, "1"],
    year=[0, 1999, 2000, None, 1999.5, 2**31],
    artist_location=TEXTS,
    artist_latitude=[0, -0.0, 90, 90.1, 37.8, None, NAN],
    artist_longitude=[0, 180, -180.5, None, NAN, float("inf")],
)
odd_lines = st.sampled_from(
    [b"", b" \t\r", b"\r", b"{}{}", b"[1]", b"null", b'{"ts":1.0}', b"\xff", b"\xef\xbb\xbf{}"]
)


def as_bytes(record, indent=None):
    return json.dumps(record, ensure_ascii=False, indent=indent).encode()


@st.composite
def inputs(draw):
    """Song objects and log objects: generated, replayed, shuffled, split, some damaged."""
    songs = []
    for fields in draw(st.lists(song_fields, min_size=5, max_size=30)):
        songs.append(as_bytes(song(**fields), draw(st.sampled_from([None, None, 1]))))
    songs += draw(st.lists(st.sampled_from(songs), max_size=8))
    events = []
    for fields in draw(st.lists(event_fields, min_size=20, max_size=90)):
        events.append(as_bytes(play(**fields)))
    events += draw(st.lists(st.sampled_from(events), max_size=20))
    events += draw(st.lists(odd_lines, max_size=8))
    hit, chance = draw(st.lists(st.sampled_from(events), max_size=20)), draw(st.randoms())
    events += [damaged(line, events, chance) for line in hit]
    events = draw(st.permutations(events))
    # at least one song and one play
    songs = [*draw(st.permutations(songs)), as_bytes(song(song_id="SO0"))]
    logs = [as_bytes(play(userId="1"))]
    cuts = sorted(draw(st.lists(st.integers(0, len(events)), max_size=2)))
    for start, end in zip([0, *cuts], [*cuts, len(events)]):
        bom = draw(st.sampled_from([b"", b"\xef\xbb\xbf"]))
        line_end = draw(st.sampled_from([b"\n", b"\r\n"]))
        logs.append(bom + line_end.join(events[start:end]))
    return songs, logs


@pytest.fixture(params=["little", "much"])
def spark_for(request, spark):
    """Spark as it is for little input, and for much: with generated code and adaptive plans."""
    options = {
        "spark.sql.codegen.wholeStage": "true",
        "spark.sql.codegen.factoryMode": "FALLBACK",
        "spark.sql.adaptive.enabled": "true",
    }
    before = {name: spark.conf.get(name) for name in options}
    if request.param == "much":
        for name, value in options.items():
            spark.conf.set(name, value)
    yield
    for name, value in before.items():
        spark.conf.set(name, value)


# EXAMPLES=100 looks further; each example takes a run of the job
EXAMPLES = int(os.environ.get("EXAMPLES", "4"))


@settings(
    max_examples=EXAMPLES, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck)
)
@given(given_input=inputs())
def test_generated_input_gives_the_reference_answers(
    check, spark_for, tmp_path_factory, given_input
):
    folder = tmp_path_factory.mktemp("generated")
    for dataset, objects in zip(("song_data", "log_data"), given_input):
        (folder / dataset).mkdir()
        for number, data in enumerate(objects):
            suffix, pack = (".json.gz", gzip.compress) if number % 3 == 2 else (".json", bytes)
            (folder / dataset / f"{number}{suffix}").write_bytes(pack(data))
    check(folder, *ANY_REJECTED, output=folder / "out")
