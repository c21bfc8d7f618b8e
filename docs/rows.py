"""Rows to show: what the sample holds, and what a run made of it."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

import duckdb
from etl_text import ROOT, columns

SAMPLE = ROOT / "data" / "sample"


class Line(NamedTuple):
    """A line of a log file, with its event if it is one JSON object."""

    file: str
    text: str
    event: dict | None


class Song(NamedTuple):
    file: str
    text: str
    record: dict


class Sample:
    """The input that comes with the project."""

    def __init__(self, folder: Path = SAMPLE):
        self.lines = []
        for path in sorted((folder / "log_data").rglob("*.json")):
            name = str(path.relative_to(folder))
            text = path.read_text(encoding="utf-8")
            self.lines += [Line(name, line, event_of(line)) for line in text.split("\n")]
        self.songs = []
        for path in sorted((folder / "song_data").rglob("*.json")):
            text = path.read_text(encoding="utf-8")
            self.songs.append(Song(str(path.relative_to(folder)), text, json.loads(text)))

    @property
    def events(self) -> list[dict]:
        return [line.event for line in self.lines if line.event]

    @property
    def plays(self) -> list[dict]:
        return [event for event in self.events if event["page"] == "NextSong"]

    def records(self, **wanted) -> list[dict]:
        """The song records with these values."""
        found = []
        for song in self.songs:
            if all(song.record[name] == value for name, value in wanted.items()):
                found.append(song.record)
        return found

    def replayed(self) -> str:
        """The first line that stands in the logs twice."""
        times = Counter(line.text for line in self.lines if line.event)
        return next(text for text, count in times.items() if count > 1)


def event_of(line: str) -> dict | None:
    try:
        return json.loads(line)
    except ValueError:
        return None


class Lake:
    """The tables and the control files that a run left in OUTPUT."""

    def __init__(self, output: Path):
        self.output = output
        self.connection = duckdb.connect()
        self.connection.execute("SET TimeZone = 'UTC'")
        self.columns = columns()
        for table, found in self.columns.items():
            names = ", ".join(column.name for column in found)
            files = f"{output}/{table}/**/*.parquet"
            self.connection.execute(
                f"CREATE VIEW {table} AS SELECT {names}"
                f" FROM read_parquet('{files}', hive_partitioning = true)"
            )

    def rows(self, query: str) -> list[dict[str, str]]:
        """The rows of a query, every value as text."""
        found = self.connection.execute(f"SELECT COLUMNS(*)::VARCHAR FROM ({query})")
        names = [column[0] for column in found.description]
        rows = [dict(zip(names, values)) for values in found.fetchall()]
        for row in rows:
            if row.get("start_time"):
                row["start_time"] = row["start_time"].removesuffix("+00")
        return rows

    def summary(self) -> dict:
        """The summary of the newest run that published."""
        for path in sorted((self.output / "_etl" / "runs").iterdir(), reverse=True):
            summary = json.loads(path.read_text(encoding="utf-8"))
            if summary["commit"]:
                return summary
        raise FileNotFoundError(f"{self.output}/_etl/runs names no run that published")

    def rejected(self) -> list[dict]:
        """The lines in the quarantine folder, one dict with file, reason and raw per line."""
        found = []
        for path in sorted((self.output / "_etl" / "quarantine").rglob("*.json")):
            text = path.read_text(encoding="utf-8")
            found += [json.loads(line) for line in text.split("\n") if line]
        return sorted(found, key=lambda line: (line["reason"], line["raw"]))


# ── Markdown ────────────────────────────────────────────────────────────────────────────────────


def table(rows: Iterable[dict], letters: int = 36) -> str:
    """A Markdown table; the names of the first row are its head."""
    rows = list(rows)
    head = list(rows[0])
    lines = [
        "| " + " | ".join(head) + " |",
        "| " + " | ".join("---" for _ in head) + " |",
    ]
    for row in rows:
        cells = [cell(row[name], letters) for name in head]
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


def cell(value, letters: int) -> str:
    if value is None:
        return "NULL"
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    return cut(text, letters).replace("|", "\\|") or '""'


def cut(text: str, letters: int) -> str:
    return text if len(text) <= letters else text[: letters - 1].rstrip() + "…"


def code(text: str, language: str = "") -> str:
    return f"```{language}\n{text}\n```"


def pick(row: dict, names: str) -> dict:
    return {name: row[name] for name in names.split()}
