"""Makes what the documentation shows of the sample and of etl.py; nobody keeps it right by hand.

    python etl.py && python docs/make.py

It writes docs/tables.md, image/schema.svg, image/log_dataset.svg, and the marked blocks of
README.md and docs/how-it-works.md.
"""

from __future__ import annotations

import argparse
import re
import sys
from pathlib import Path

try:
    from blocks import grain, make_all
    from etl_text import ROOT, columns, rules
    from pictures import log_lines, schema
    from rows import Lake, Sample, table
except ModuleNotFoundError as missing:
    if __name__ != "__main__":
        raise
    remedy = "run `pip install -r requirements-dev.txt`"
    print(f"make.py: the package {missing.name} is missing; {remedy}", file=sys.stderr)
    sys.exit(2)

# A block ends at the first blank line.
BLOCK = re.compile(r"(<!-- made: ([\w ]+) -->\n)(?:.+\n)*")
MEANING_OF_HEADINGS = {
    "Key": "key",
    "Source": "made from",
    "Dropped": "left out",
    "Units": "units",
}


def make_pages(output: Path) -> dict[Path, str]:
    """Every file that this program writes, with its content."""
    sample = Sample()
    lake = Lake(output)
    made = {
        ROOT / "docs/tables.md": tables_page(lake),
        ROOT / "image/schema.svg": schema(columns()),
        ROOT / "image/log_dataset.svg": log_picture(sample),
    }
    blocks = make_all(sample, lake)
    for page in (ROOT / "README.md", ROOT / "docs/how-it-works.md"):
        made[page] = fill(page.read_text(encoding="utf-8"), blocks)
    return made


def fill(page: str, blocks: dict[str, str]) -> str:
    """A page with its marked blocks replaced by what is made for them."""
    return BLOCK.sub(lambda found: f"{found[1]}{blocks[found[2]]}\n", page)


def log_picture(sample: Sample) -> str:
    """A page view, the play after it, and a play of somebody who pays."""
    plays = sample.plays
    page = next(event for event in sample.events if event["page"] != "NextSong")
    paid = next(play for play in plays if play["level"] == "paid")
    shown = [("a page view", page), ("a play", plays[0]), ("a play, level paid", paid)]
    return log_lines("Three lines of the sample's log files", shown)


# ── docs/tables.md ──────────────────────────────────────────────────────────────────────────────

INTRODUCTION = """# The five tables

This page is made by `python docs/make.py` from the column comments and docstrings of
[etl.py](../etl.py) and from a run over the [sample](../data/sample). Change it there, not here.

All times are UTC instants with microsecond type and the milliseconds of the source. NULL means that
the source does not say. A column that is a folder stands in the names of the folders, as in
`songplays/year=2018/month=11/`; DuckDB, Polars, pandas and Spark read it back as a column.
[How it works](how-it-works.md) shows how each table is made, [queries](queries.md) how to read it.

![Star schema: songplays refers to users, songs, artists and time](../image/schema.svg)
"""


def tables_page(lake: Lake) -> str:
    parts = [INTRODUCTION]
    names = list(lake.columns)
    parts.append("\n".join(f"- [{name}](#{name}): one row per {grain(name)}" for name in names))
    for name in names:
        parts += [f"## {name}", table_section(name), column_list(lake, name), five_rows(lake, name)]
    return "\n\n".join(part.strip() for part in parts) + "\n"


def table_section(name: str) -> str:
    """What a row is, and the rules, from the docstring."""
    found = rules(name)
    lines = [found.grain, ""]
    for heading, words in MEANING_OF_HEADINGS.items():
        if heading in found.parts:
            lines.append(f"- **{words}**: {found.parts[heading]}")
    return "\n".join(lines)


def column_list(lake: Lake, name: str) -> str:
    rows = []
    for column in lake.columns[name]:
        rows.append(
            {
                "column": column.name,
                "type": column.type,
                "meaning": column.comment or "–",
            }
        )
    return table(rows, letters=200)


def five_rows(lake: Lake, name: str) -> str:
    key = lake.columns[name][0].name
    return table(lake.rows(f"SELECT * FROM {name} ORDER BY {key} LIMIT 5"))


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("output", nargs="?", type=Path, default=ROOT / "output")
    given = parser.parse_args()
    if not (given.output / "_etl").is_dir():
        print(f"make.py: {given.output} has no tables; run `python etl.py`", file=sys.stderr)
        return 2
    for path, content in make_pages(given.output).items():
        path.write_text(content, encoding="utf-8")
        print(path.relative_to(ROOT))
    return 0


if __name__ == "__main__":
    sys.exit(main())
