"""What etl.py says about its tables, read from its text, so that pyspark need not be there."""

from __future__ import annotations

import ast
import re
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parents[1]
COLUMN = re.compile(r"(\w+)\s+([A-Z]+)(?:\s+COMMENT\s+'((?:[^'\\]|\\.)*)')?")
HEADINGS = ("Key", "Source", "Dropped", "Units", "Raises")


class Column(NamedTuple):
    name: str
    type: str
    comment: str
    is_folder: bool


class Rules(NamedTuple):
    """A table function's docstring: its first sentences, then what stands under each heading."""

    grain: str
    parts: dict[str, str]


def _tree() -> ast.Module:
    return ast.parse((ROOT / "etl.py").read_text(encoding="utf-8"))


def constant(name: str):
    """The value of an upper-case name of etl.py that is a literal."""
    for node in _tree().body:
        targets = node.targets if isinstance(node, ast.Assign) else [getattr(node, "target", None)]
        if any(isinstance(target, ast.Name) and target.id == name for target in targets):
            return ast.literal_eval(node.value)
    raise KeyError(f"etl.py has no {name}")


def columns() -> dict[str, list[Column]]:
    """Table -> its columns, in order. The folders of songs are those of the default layout."""
    folders = {"songs": ["year"], **constant("PARTITIONS")}
    tables = {}
    for table, ddl in constant("COLUMNS").items():
        tables[table] = [
            Column(name, kind, re.sub(r"\\(.)", r"\1", comment), name in folders.get(table, ()))
            for name, kind, comment in COLUMN.findall(ddl)
        ]
    return tables


def rules(table: str) -> Rules:
    """The docstring of `<table>_table`."""
    for node in ast.walk(_tree()):
        if isinstance(node, ast.FunctionDef) and node.name == f"{table}_table":
            return split_docstring(ast.get_docstring(node) or "")
    raise KeyError(f"etl.py has no function {table}_table")


def split_docstring(text: str) -> Rules:
    grain: list[str] = []
    parts: dict[str, list[str]] = {}
    lines = grain
    for line in text.splitlines():
        first, _, rest = line.partition(" ")
        if first in HEADINGS:
            lines = parts.setdefault(first, [])
            line = rest
        lines.append(line.strip())
    joined = {heading: " ".join(filter(None, found)) for heading, found in parts.items()}
    return Rules(" ".join(filter(None, grain)), joined)
