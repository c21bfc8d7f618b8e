"""Hostile records: each line and file ends in its class, and damage to one costs no other."""

import json
import random
from collections import Counter

import hostile
import pytest
import reference
from helpers import SAMPLE, all_tables, play, song, write_input

REJECTED = ("malformed", "invalid")


def write(folder, side, files):
    for name, data in files.items():
        path = folder / side / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data if isinstance(data, bytes) else json.dumps(data).encode())


def quarantined(result, side):
    """File -> how many of its lines are in quarantine as malformed or invalid."""
    kept = Counter()
    for row in result.quarantine():
        if not row["reason"].startswith("another play"):
            kept[row["file"]] += 1
    return {file: count for file, count in kept.items() if file.startswith(side)}


@pytest.fixture(scope="module")
def cases():
    """A file for each named case -> its content and what the account must say of it."""
    lines = [
        (line, kind) for line, kind in hostile.LINES.values() if len(line) < 1_000_000
    ]  # others: see HUGE
    logs = {  # as second lines, where a BOM is no BOM
        f"{number:03d}.json": (b"\n" + line + b"\n", Counter(["blank", kind]))
        for number, (line, kind) in enumerate(lines)
    }
    logs.update({f"f{number:03d}.json": case for number, case in enumerate(hostile.FILES.values())})
    songs = {
        f"{number:03d}.json": (line, {kind: 1})
        for number, (line, kind) in enumerate(hostile.RECORDS.values())
    }
    return {"log_data": logs, "song_data": songs}


def test_the_corpus_is_large_enough():
    assert len(hostile.LINES) + len(hostile.RECORDS) + len(hostile.FILES) > 180


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
    write(
        tmp_path / "in",
        "log_data",
        {f"{name}.json": line for name, (line, _) in hostile.HUGE.items()},
    )
    write(tmp_path / "in", "song_data", {"a.json": song()})
    result = job(tmp_path / "in", "--max-rejected", "1")
    assert result.code == 0, result.err
    total, events = Counter(kind for _, kind in hostile.HUGE.values()), result.report["events"]
    assert [events[kind] for kind in ("lines", "blank", "malformed")] == [
        4,
        total["blank"],
        total["malformed"],
    ]
    assert events["songplays"] + events["duplicate"] + events["key_conflict"] == total["play"]


def test_names_of_every_kind_are_read_and_what_is_no_input_is_not(job, tmp_path):
    for side, record in (("log_data", play), ("song_data", song)):
        keys = (
            {"itemInSession": number, "song_id": f"SO{number}"}
            for number in range(len(hostile.NAMES))
        )
        write(
            tmp_path / "in",
            side,
            {f"{name}.json": record(**key) for name, key in zip(hostile.NAMES, keys)},
        )
        write(tmp_path / "in", side, dict.fromkeys(hostile.IGNORED, b"not JSON"))
    result = job(tmp_path / "in")
    assert result.code == 0, result.err
    assert (
        result.report["events"]["songplays"]
        == result.report["songs"]["songs"]
        == len(hostile.NAMES)
    )
    assert result.out.count(f"{len(hostile.IGNORED)} others ignored") == 2


@pytest.mark.parametrize("side", ["log_data", "song_data"])
@pytest.mark.parametrize("name", hostile.UNADDRESSABLE, ids=ascii)
def test_a_name_that_cannot_be_addressed_is_refused_and_named(job, tmp_path, side, name):
    write_input(tmp_path / "in", [song()], [[play()]])
    write(tmp_path / "in", side, {f"{name}.json": b"x"})
    result = job(tmp_path / "in")
    assert (result.code, len(result.err.splitlines())) == (2, 1), result.err
    assert "a key cannot be addressed" in result.err and ascii(name)[1:-1] in result.err


def test_a_colon_in_a_local_logs_name_is_beyond_hadoop_and_said(job, tmp_path):
    write_input(tmp_path / "in", [song()], [[play()]])
    write(tmp_path / "in", "log_data", {"a:b.json": play()})
    result = job(tmp_path / "in")
    assert (result.code, len(result.err.splitlines()), "a:b.json" in result.err) == (1, 1, True), (
        result.err
    )
    assert "nothing is published" in result.err and not list(result.output.glob("*/*.parquet"))


def damaged(line: bytes, others: list, chance: random.Random) -> bytes:
    """A line with one byte flipped, cut off, inserted, spliced with another, or repeated."""
    place = chance.randrange(len(line))
    return {
        "flip": lambda: (
            line[:place] + bytes([line[place] ^ (1 << chance.randrange(8))]) + line[place + 1 :]
        ),
        "cut": lambda: line[:place],
        "insert": lambda: (
            line[:place]
            + chance.choice((b"}", b"{", b'"', b",", b"\0", b"\xc3", b"\\"))
            + line[place:]
        ),
        "splice": lambda: line[:place] + chance.choice(others)[place:],
        "repeat": lambda: line + line,
    }[chance.choice(("flip", "cut", "insert", "splice", "repeat"))]()


def test_a_thousand_damaged_lines_cost_no_other_line_its_row(job, tmp_path):
    """The tables and the account are those of the plain-Python reading of the same bytes."""
    chance, damages = random.Random(2018), {"log_data": 900, "song_data": 100}
    files = {side: sorted(SAMPLE.glob(f"{side}/**/*.json")) for side in damages}
    data, untouched = {}, []
    for side, number in damages.items():
        lines = [(file, line) for file in files[side] for line in file.read_bytes().split(b"\n")]
        hit = set(chance.sample([place for place, (_, line) in enumerate(lines) if line], number))
        others = [line for _, line in lines]
        for place, (file, line) in enumerate(lines):
            new = damaged(line, others, chance) if place in hit else line
            data.setdefault(side, {}).setdefault(str(file.relative_to(SAMPLE / side)), []).append(
                new
            )
            if place not in hit and side == "log_data":
                untouched.append(line)
        data[side] = {name: b"\n".join(parts) for name, parts in data[side].items()}
        write(tmp_path / "in", side, data[side])
    result = job(tmp_path / "in", "--max-rejected", "1")
    assert result.code == 0, result.err
    tables, account, song_account = reference.derive(
        list(data["song_data"].values()), list(data["log_data"].values())
    )
    report, published = result.report, all_tables(result.output)
    assert report["events"] == {name: account[name] for name in report["events"]}
    assert report["songs"] == {name: song_account[name] for name in report["songs"]}
    for table, rows in tables.items():
        assert published[table] == sorted(rows, key=repr), table
    kept = {(row[2], row[6], row[1].timestamp()) for row in published["songplays"]}
    plays = [fields for kind, fields in map(reference.event, untouched) if kind == "play"]
    assert len(plays) > 1000 and all(
        (at["user"], at["session"], at["ts"] / 1000) in kept for at in plays
    )
