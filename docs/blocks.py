"""The blocks of README.md and docs/ that are made from the sample, a run over it, and etl.py.

A page marks a block with `<!-- made: NAME -->`; the block ends at the first blank line.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from pathlib import Path

from etl_text import rules
from rows import Lake, Sample, Song, code, cut, pick, table

# What differs from run to run in the names of files: the run's start, and random digits.
RUN = re.compile(
    r"""
      [0-9a-f]{8} (-[0-9a-f]{4}){3} -[0-9a-f]{12}
    | \d{8}T\d{6}Z- [0-9a-f]{8}
    | \b [0-9a-f]{8} \b (?!\.)
    """,
    re.VERBOSE,
)
CLASSES = "songplays out_of_scope duplicate key_conflict malformed invalid blank".split()
MATCHED = "(FROM songplays WHERE song_id IS NOT NULL)"
EVENT = "ts userId sessionId itemInSession level song artist length"
RECORD = "song_id title artist_id artist_name duration year"
PLACE = "artist_id artist_name artist_location artist_latitude artist_longitude"


def make_all(sample: Sample, lake: Lake) -> dict[str, str]:
    """Block name -> Markdown."""
    blocks = {
        "tree": code(first_files(lake.output)),
        "three plays": table(three_plays(lake)),
        "tables": table(tables_in_short(lake), letters=200),
        "input": code(tree("data/sample", sample_files(sample), depth=5, most=3)),
        "song object": code(json.dumps(matched_song(sample, lake).record, indent=2), "json"),
        "packed line": code(packed_line(matched_song(sample, lake))),
        "audit": table(audit(lake)),
        "publish": table(moved_files(lake), letters=120),
        "classes": table(classes(sample, lake), letters=60),
        "rejected": table(rejected(lake), letters=80),
        "control files": code(tree("_etl", files_below(lake.output / "_etl"), depth=3, most=5)),
    }
    for name, (before, after) in steps(sample, lake).items():
        blocks[f"{name} before"] = table(before)
        blocks[f"{name} after"] = table(after)
    return blocks


# ── Trees of folders ────────────────────────────────────────────────────────────────────────────


def files_below(folder: Path) -> list[str]:
    return [str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()]


def sample_files(sample: Sample) -> list[str]:
    return sorted({line.file for line in sample.lines} | {song.file for song in sample.songs})


def first_files(output: Path) -> str:
    """The first file of each folder of OUTPUT, and how many more there are."""
    lines = ["output"]
    folders = sorted(output.iterdir(), key=lambda path: (path.name.startswith("_"), path.name))
    for folder in folders:
        first, *others = sorted(files_below(folder))
        branch = "└──" if folder == folders[-1] else "├──"
        more = f"   … and {len(others)} more" if others else ""
        lines.append(f"{branch} {folder.name}/{RUN.sub('…', first)}{more}")
    return "\n".join(lines)


def tree(name: str, files: list[str], depth: int, most: int) -> str:
    """A folder as `tree` prints it, down to a depth. Of more names than `most` it shows two.

    What differs from run to run is left out of the names.
    """
    nested: dict = {}
    for file in sorted(files):
        place = nested
        for part in file.split("/")[:depth]:
            place = place.setdefault(RUN.sub("…", part), {})
    return "\n".join([name, *branches(nested, most)])


def branches(nested: dict, most: int) -> list[str]:
    names = sorted(nested, key=lambda name: (name.startswith("_"), name))
    shown = names if len(names) <= most else names[:2]
    more = len(names) - len(shown)
    lines = []
    for name in shown:
        is_last = name == shown[-1] and not more
        lines.append(("└── " if is_last else "├── ") + name)
        indent = "    " if is_last else "│   "
        lines += [indent + line for line in branches(nested[name], most)]
    if more:
        lines.append(f"└── … and {more} more")
    return lines


# ── The front page ──────────────────────────────────────────────────────────────────────────────


def three_plays(lake: Lake) -> list[dict]:
    """The first play that matches no song, and the first two that match one."""
    plays = lake.rows("SELECT * FROM songplays ORDER BY start_time")
    matched = [play for play in plays if play["song_id"]]
    others = [play for play in plays if not play["song_id"]]
    rows = [others[0], *matched[:2]]
    for row in rows:
        for name in ("songplay_id", "song_id", "artist_id", "location", "user_agent"):
            if row[name]:
                row[name] = cut(row[name], 9)
    return rows


def grain(table_name: str) -> str:
    """What one row of the table is, from the docstring of its function."""
    _, _, sentence = rules(table_name).grain.partition("one row per ")
    return sentence.rstrip(".")


def tables_in_short(lake: Lake) -> list[dict]:
    rows = []
    for name, columns in lake.columns.items():
        folders = [column.name for column in columns if column.is_folder]
        row = {
            "table": f"[{name}](docs/tables.md#{name})",
            "one row per": grain(name),
            "columns": ", ".join(column.name for column in columns),
            "folders": ", ".join(folders) or "none",
        }
        rows.append(row)
    return rows


# ── How it works ────────────────────────────────────────────────────────────────────────────────


def classes(sample: Sample, lake: Lake) -> list[dict]:
    """How many log lines of the sample ended in each class, and one line of each."""
    first = {}
    for line in sample.lines:
        if not line.text:
            first.setdefault("blank", line.text)
        elif not line.event:
            # the last, which shows at its end what is wrong
            first["malformed"] = line.text
        elif line.event["page"] == "NextSong":
            first.setdefault("songplays", line.text)
        else:
            first.setdefault("out_of_scope", line.text)
    first["duplicate"] = sample.replayed()
    first["key_conflict"] = next(
        line["raw"] for line in rejected(lake) if "JSON object" not in line["reason"]
    )
    counts = lake.summary()["events"]
    rows = []
    for name in CLASSES:
        text = first.get(name)
        example = f"`{middle(text)}`" if text else "an empty line"
        if text is None:
            example = "none in the sample"
        rows.append({"class": name, "lines": counts[name], "for example": example})
    return rows


def middle(text: str) -> str:
    """The start and the end of a long line."""
    return text if len(text) < 58 else f"{text[:28]} … {text[-26:]}"


def rejected(lake: Lake) -> list[dict]:
    rows = []
    for line in lake.rejected():
        row = {
            "file": line["file"],
            "reason": cut(line["reason"], 48),
            "raw": f"`{middle(line['raw'])}`",
        }
        rows.append(row)
    return rows


def matched_song(sample: Sample, lake: Lake) -> Song:
    """The catalogue's record of the first play that matches one."""
    (play,) = lake.rows(
        "SELECT song_id FROM songplays WHERE song_id IS NOT NULL ORDER BY start_time LIMIT 1"
    )
    return next(song for song in sample.songs if song.record["song_id"] == play["song_id"])


def steps(sample: Sample, lake: Lake) -> dict[str, tuple[list[dict], list[dict]]]:
    """Table -> a few input rows, and the rows that were made of them."""
    return {
        "songs": songs_step(sample, lake),
        "artists": artists_step(sample, lake),
        "users": users_step(sample, lake),
        "songplays": songplays_step(sample, lake),
        "time": time_step(sample, lake),
    }


def packed_line(song: Song) -> str:
    """The line that stands for a song file in the text that Spark reads."""
    return f"{song.file} <TAB> {cut(song.text, 60)}"


def audit(lake: Lake) -> list[dict]:
    """What is counted for each table before it is published."""
    found = []
    for name, columns in lake.columns.items():
        key = columns[0].name
        missing = f"(SELECT count(*) FROM songplays ANTI JOIN {name} USING ({key}))"
        if name in ("songs", "artists"):
            missing = missing.replace("FROM songplays", f"FROM {MATCHED}")
        query = f"""
            SELECT '{name}' AS "table", '{key}' AS "key", count(*) AS "rows",
                count(DISTINCT {key}) AS "distinct keys", {missing} AS "plays without a row"
            FROM {name}"""
        found += lake.rows(query)
    return found


def moved_files(lake: Lake) -> list[dict]:
    """Where a commit's files of songplays were staged, and what they are called since."""
    commit = json.loads((lake.output / "_etl/commits/000000001.json").read_text(encoding="utf-8"))
    rows = []
    for name, file in commit["tables"]["songplays"]["files"].items():
        row = {
            "staged in _etl/staging/": RUN.sub("…", file["staged"].removeprefix("_etl/staging/")),
            "published in songplays/": RUN.sub("…", name),
        }
        rows.append(row)
    return rows


def songs_step(sample: Sample, lake: Lake):
    """A song with two records."""
    counts = Counter(song.record["song_id"] for song in sample.songs)
    song_id = next(song for song, count in counts.items() if count > 1)
    before = [pick(record, RECORD) for record in sample.records(song_id=song_id)]
    return before, lake.rows(f"SELECT * FROM songs WHERE song_id = '{song_id}'")


def artists_step(sample: Sample, lake: Lake):
    """An artist whose records differ in name and place; at most three of them."""
    variants: dict[str, set] = {}
    for song in sample.songs:
        found = pick(song.record, PLACE)
        variants.setdefault(found["artist_id"], set()).add(json.dumps(found))
    artist_id = max(variants, key=lambda artist: len(variants[artist]))
    before = [json.loads(text) for text in sorted(variants[artist_id])]
    return before, lake.rows(f"SELECT * FROM artists WHERE artist_id = '{artist_id}'")


def users_step(sample: Sample, lake: Lake):
    """The first user who changes level: the last event before, the first after, the latest."""
    for user in dict.fromkeys(event["userId"] for event in sample.plays):
        events = [event for event in sample.events if event["userId"] == user]
        levels = [event["level"] for event in events]
        if len(set(levels)) == 2:
            change = levels.index(levels[-1])
            shown = [events[change - 1], events[change], events[-1]]
            names = "ts userId firstName lastName gender level"
            after = lake.rows(f"SELECT * FROM users WHERE user_id = {user}")
            return [pick(event, names) for event in shown], after
    raise LookupError("no user of the sample changes level")


def songplays_step(sample: Sample, lake: Lake):
    """A play that matches one song, one that matches two, and one that matches none."""
    song_ids: dict[tuple, set] = {}
    for song in sample.songs:
        record = song.record
        recording = (record["title"], record["artist_name"], record["duration"])
        song_ids.setdefault(recording, set()).add(record["song_id"])
    shown: dict[int, dict] = {}
    for event in sorted(sample.plays, key=lambda event: event["ts"]):
        recording = (event["song"], event["artist"], event["length"])
        shown.setdefault(len(song_ids.get(recording, ())), event)
    before, after = [], []
    for count in (1, 2, 0):
        event = shown[count]
        before.append({**pick(event, EVENT), "song_ids in the catalogue": count})
        found = lake.rows(
            f"SELECT * FROM songplays WHERE session_id = {event['sessionId']}"
            f" AND epoch_ms(start_time) = {event['ts']}"
        )
        after += [
            pick(row, "start_time user_id level song_id artist_id session_id") for row in found
        ]
    return before, after


def time_step(sample: Sample, lake: Lake):
    """The first and the last play."""
    instants = [event["ts"] for event in sample.plays]
    shown = (min(instants), max(instants))
    query = f"SELECT * FROM time WHERE epoch_ms(start_time) IN {shown} ORDER BY start_time"
    return [{"ts": instant} for instant in shown], lake.rows(query)
