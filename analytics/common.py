"""What the programs of analytics/ and cloud/ share.  It needs Python's standard library alone."""

from __future__ import annotations

import ast
import os
import re
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parents[1]
FAILED, SETTINGS, INTERRUPTED = 1, 2, 130  # exit codes, the same as etl.py's


class Stop(Exception):
    """Ends the program with an exit code and one line.

    The line names the thing, the place and the remedy.
    """

    def __init__(self, code: int, message: str):
        super().__init__(message)
        self.code = code


def one_line(error: BaseException) -> str:
    """The first line of an error's text, or the error's name if it has no text."""
    text = str(error).strip() or type(error).__name__
    return text.splitlines()[0][:300]


# ── Running a program ────────────────────────────────────────────────────────────────────────────


@contextmanager
def needed_packages(requirements: str) -> Iterator[None]:
    """Around a program's imports: a missing package is said in one line, with the command for it.

    requirements   the file that lists the package, from the project's folder
    """
    program = Path(sys.argv[0]).name
    try:
        yield
    except ModuleNotFoundError as error:
        file = os.path.relpath(ROOT / requirements)
        remedy = f"run `pip install -r {file}`"
        print(f"{program}: the package {error.name} is missing; {remedy}", file=sys.stderr)
        sys.exit(SETTINGS)
    except KeyboardInterrupt:
        print(f"{program}: interrupted", file=sys.stderr)
        sys.exit(INTERRUPTED)


def run_main(
    program: str,
    main: Callable[[], int | None],
    explain: Callable[[Exception], Stop | None] = lambda error: None,
) -> int:
    """Runs a program's main, says in one line on stderr what went wrong, returns the exit code.

    explain   the Stop that an error of another kind amounts to, or None for a fault of ours
    """
    try:
        return main() or 0
    except KeyboardInterrupt:
        stop = Stop(INTERRUPTED, "interrupted")
    except Stop as error:
        stop = error
    except Exception as error:
        stop = explain(error)
        if stop is None:
            raise
    print(f"{program}: {stop}", file=sys.stderr)
    return stop.code


# ── The tables, as etl.py defines them ───────────────────────────────────────────────────────────

COLUMN = re.compile(r"(\w+)\s+(\w+)(?:\s+COMMENT\s+'((?:[^'\\]|\\.)*)')?,?")


class Column(NamedTuple):
    name: str
    type: str  # Spark's name of it, such as BIGINT
    comment: str  # empty if there is none


@cache
def etl_tree() -> ast.Module:
    """etl.py as Python parses it.  It is not imported, because that would need Spark."""
    path = ROOT / "etl.py"
    try:
        return ast.parse(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise Stop(SETTINGS, f"{path}: {error.strerror}; clone the whole project") from None


def read_columns(ddl: str) -> list[Column]:
    """The columns of a table's text in etl.COLUMNS."""
    found = [COLUMN.fullmatch(line.strip()) for line in ddl.strip().splitlines()]
    return [Column(match[1], match[2], re.sub(r"\\(.)", r"\1", match[3] or "")) for match in found]


@cache
def etl_constant(name: str) -> object:
    """The value of a constant of etl.py that is written out there."""
    for statement in etl_tree().body:
        if isinstance(statement, ast.Assign) and ast.unparse(statement.targets[0]) == name:
            return ast.literal_eval(statement.value)
    raise ValueError(f"etl.py has no {name}")


@cache
def tables() -> dict[str, list[Column]]:
    """Table -> its columns, in the order of etl.COLUMNS."""
    return {table: read_columns(ddl) for table, ddl in etl_constant("COLUMNS").items()}


@cache
def grains() -> dict[str, str]:
    """Table -> what one row is: the first line of its function's docstring in etl.py."""
    found = {
        statement.name: ast.get_docstring(statement) or ""
        for statement in etl_tree().body
        if isinstance(statement, ast.FunctionDef)
    }
    return {table: found.get(f"{table}_table", "").partition("\n")[0] for table in tables()}


# ── Commits ──────────────────────────────────────────────────────────────────────────────────────


def done_commits(names: Iterable[str]) -> list[str]:
    """The keys, below OUTPUT, of the commits whose publication is finished, oldest first.

    names   of the objects in `_etl/done/`, with or without folders before them
    """
    last_parts = (name.rpartition("/")[2] for name in names)
    numbers = [part for part in last_parts if re.fullmatch(r"\d{9}", part)]
    return [f"_etl/commits/{number}.json" for number in sorted(numbers)]


def newest_done(names: Iterable[str]) -> str | None:
    """The key of the newest of them, if there is one."""
    keys = done_commits(names)
    return keys[-1] if keys else None
