"""Hostile records: each named line and file ends in its class, and no damage to one line costs another."""

import json
from collections import Counter

import hostile
import pytest
from conftest import play, song

REJECTED = ("malformed", "invalid")


def write(folder, side, files):
    for name, data in files.items():
        path = folder / side / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data if isinstance(data, bytes) else json.dumps(data).encode())


def quarantined(result, side):
    """File -> how many of its lines are in quarantine as malformed or invalid."""
    kept = Counter(row["file"] for row in result.quarantine() if not row["reason"].startswith("another content"))
    return {file: count for file, count in kept.items() if file.startswith(side)}


@pytest.fixture(scope="module")
def cases():
    """A file for each named case -> its content and what the account must say of it."""
    lines = [(line, kind) for line, kind in hostile.LINES.values() if 0 < len(line) < 1_000_000]  # others: see HUGE
    logs = {f"{number:03d}.json": (line, {kind: 1}) for number, (line, kind) in enumerate(lines)}
    logs.update({f"f{number:03d}.json": case for number, case in enumerate(hostile.FILES.values())})
    songs = {f"{number:03d}.json": (line, {kind: 1}) for number, (line, kind) in enumerate(hostile.RECORDS.values())}
    return {"log_data": logs, "song_data": songs}


def test_the_corpus_is_large_enough():
    assert len(hostile.LINES) + len(hostile.RECORDS) + len(hostile.FILES) + len(hostile.NAMES) > 200


def test_each_named_line_and_file_ends_in_its_class(job, tmp_path, cases):
    for side, files in cases.items():
        write(tmp_path / "in", side, {name: data for name, (data, _) in files.items()})
    result = job(tmp_path / "in", "--max-rejected", "1")
    assert result.code == 0, result.err
    events, songs = result.report["events"], result.report["songs"]
    for side, files in cases.items():
        expected = {
            f"{side}/{name}": sum(kinds.get(kind, 0) for kind in REJECTED)
            for name, (_, kinds) in files.items()
            if any(kinds.get(kind) for kind in REJECTED)
        }
        assert quarantined(result, side) == expected
    total = sum((Counter(kinds) for _, kinds in cases["log_data"].values()), Counter())
    assert events["lines"] == sum(total.values())
    assert {kind: events[kind] for kind in ("blank", "malformed", "invalid", "out_of_scope")} == {
        kind: total[kind] for kind in ("blank", "malformed", "invalid", "out_of_scope")
    }
    assert events["songplays"] + events["duplicate"] + events["key_conflict"] == total["play"]
    total = sum((Counter(kinds) for _, kinds in cases["song_data"].values()), Counter())
    assert songs["records"] == sum(total.values())
    assert songs["songs"] + songs["duplicate"] + songs["variant"] == total["record"]


def test_huge_lines_end_in_their_class(job, tmp_path):
    write(tmp_path / "in", "log_data", {f"{name}.json": line for name, (line, _) in hostile.HUGE.items()})
    write(tmp_path / "in", "song_data", {"a.json": song()})
    result = job(tmp_path / "in", "--max-rejected", "1")
    assert result.code == 0, result.err
    total, events = Counter(kind for _, kind in hostile.HUGE.values()), result.report["events"]
    assert [events[kind] for kind in ("lines", "blank", "malformed")] == [4, total["blank"], total["malformed"]]
    assert events["songplays"] + events["duplicate"] + events["key_conflict"] == total["play"]


def test_names_of_every_kind_are_read_and_what_is_no_input_is_not(job, tmp_path):
    for side, record in (("log_data", play), ("song_data", song)):
        keys = ({"itemInSession": number, "song_id": f"SO{number}"} for number in range(len(hostile.NAMES)))
        write(tmp_path / "in", side, {f"{name}.json": record(**key) for name, key in zip(hostile.NAMES, keys)})
        write(tmp_path / "in", side, dict.fromkeys(hostile.IGNORED, b"not JSON"))
    result = job(tmp_path / "in")
    assert result.code == 0, result.err
    assert result.report["events"]["songplays"] == result.report["songs"]["songs"] == len(hostile.NAMES)
    assert result.out.count(f"{len(hostile.IGNORED)} others ignored") == 2
