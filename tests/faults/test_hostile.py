"""Hostile records: each line and file ends in its class, and damage to one costs no other."""

import json
import random
from collections import Counter

from tests import reference
from tests.faults import hostile
from tests.helpers import SAMPLE, check_tables, play, song, write_input
from tests.lines import damaged

REJECTED = ("malformed", "invalid")
ANY_REJECTED = ("--max-rejected", "1")


def write(folder, files):
    for name, data in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data if isinstance(data, bytes) else json.dumps(data).encode())


def cases():
    """Dataset -> file -> its content, and its lines by class."""
    logs, songs = {}, {}
    for number, (line, kind) in enumerate(hostile.LINES.values()):
        # as second lines, where a BOM is no BOM
        logs[f"{number:03d}.json"] = (b"\n" + line + b"\n", Counter(["blank", kind]))
    for number, (data, kinds) in enumerate(hostile.FILES.values()):
        logs[f"f{number:03d}.json"] = (data, Counter(kinds))
    for number, (line, kind) in enumerate(hostile.RECORDS.values()):
        songs[f"{number:03d}.json"] = (line, Counter([kind]))
    return {"log_data": logs, "song_data": songs}


def test_each_named_line_and_file_ends_in_its_class(job, tmp_path):
    totals = {}
    rejected = {}
    for dataset, files in cases().items():
        write(tmp_path / "in" / dataset, {name: data for name, (data, _) in files.items()})
        totals[dataset] = sum((kinds for _, kinds in files.values()), Counter())
        for name, (_, kinds) in files.items():
            rejected[f"{dataset}/{name}"] = sum(kinds[kind] for kind in REJECTED)
    result = job(tmp_path / "in", *ANY_REJECTED)
    assert result.code == 0, result.err
    kept = Counter()
    for row in result.quarantine():
        if not row["reason"].startswith("another play"):
            kept[row["file"]] += 1
    assert kept == Counter(rejected)
    events, expected = result.summary["events"], totals["log_data"]
    copies = [events.pop(name) for name in ("songplays", "duplicate", "key_conflict")]
    assert sum(copies) == expected.pop("play")
    assert events.pop("lines") == sum(copies) + expected.total()
    assert {name: events[name] for name in expected} == expected
    songs, expected = result.summary["songs"], totals["song_data"]
    copies = [songs[name] for name in ("songs", "duplicate", "variant")]
    assert sum(copies) == expected["record"]
    assert [songs[name] for name in REJECTED] == [expected[name] for name in REJECTED]


def test_names_of_every_kind_are_read_hidden_ones_are_not_and_others_are_skipped(job, tmp_path):
    for number, name in enumerate(hostile.NAMES):
        write(tmp_path / "in" / "log_data", {f"{name}.json": play(itemInSession=number)})
        write(tmp_path / "in" / "song_data", {f"{name}.json": song(song_id=f"SO{number}")})
    for dataset in ("log_data", "song_data"):
        others = dict.fromkeys((*hostile.HIDDEN, *hostile.SKIPPED), b"not JSON")
        write(tmp_path / "in" / dataset, others)
    result = job(tmp_path / "in")
    assert result.code == 0, result.err
    summary = result.summary
    assert summary["events"]["songplays"] == summary["songs"]["songs"] == len(hostile.NAMES)
    for skipped in summary["skipped"].values():
        assert skipped["objects"] == len(hostile.SKIPPED)


def test_a_colon_in_a_local_logs_name_is_beyond_hadoop_and_said(job, tmp_path):
    write_input(tmp_path / "in", [song()], [[play()]])
    write(tmp_path / "in" / "log_data", {"a:b.json": play()})
    result = job(tmp_path / "in")
    assert (result.code, "a:b.json" in result.error) == (1, True)


def test_a_thousand_damaged_lines_cost_no_other_line_its_row(job, tmp_path):
    """The tables and the counts are those of the plain-Python reading of the same bytes."""
    chance = random.Random(2018)
    untouched = []
    for dataset, number in {"log_data": 900, "song_data": 100}.items():
        files = {}
        for path in sorted(SAMPLE.glob(f"{dataset}/**/*.json")):
            files[str(path.relative_to(SAMPLE))] = path.read_bytes().split(b"\n")
        places = [(name, at) for name, lines in files.items() for at in range(len(lines))]
        others = [line for lines in files.values() for line in lines]
        hit = set(chance.sample([place for place in places if files[place[0]][place[1]]], number))
        for name, at in places:
            if (name, at) in hit:
                files[name][at] = damaged(files[name][at], others, chance)
            elif dataset == "log_data":
                untouched.append(files[name][at])
        write(tmp_path / "in", {name: b"\n".join(lines) for name, lines in files.items()})
    result = job(tmp_path / "in", *ANY_REJECTED)
    assert result.code == 0, result.err
    expected = reference.answer(tmp_path / "in")
    summary = result.summary
    assert summary["events"] == {name: expected.events[name] for name in summary["events"]}
    assert summary["songs"] == {name: expected.songs[name] for name in summary["songs"]}
    check_tables(result.output, expected)
    kept = {(row[2], row[6], row[1].timestamp()) for row in expected.tables["songplays"]}
    plays = [fields for kind, fields in map(reference.event, untouched) if kind == "play"]
    assert len(plays) > 1000
    assert all((at["user"], at["session"], at["ts"] / 1000) in kept for at in plays)
