"""The named queries of queries.sql, and the clock by which their days and hours count."""

from __future__ import annotations

import re
from pathlib import Path
from typing import NamedTuple

from common import SETTINGS, Stop
from lake import Lake

LISTENERS = "listeners"
# Below this share of plays with a known zone, every play counts in UTC.
ZONE_KNOWN = 0.9
# The time of most people in a state of the USA; the others of a divided state count by it too.
ZONES = {
    "America/New_York": "CT DC DE FL GA IN KY MA MD ME MI NC NH NJ NY OH PA RI SC VA VT WV",
    "America/Chicago": "AL AR IA IL KS LA MN MO MS ND NE OK SD TN TX WI",
    "America/Denver": "CO ID MT NM UT WY",
    "America/Phoenix": "AZ",
    "America/Los_Angeles": "CA NV OR WA",
    "America/Anchorage": "AK",
    "Pacific/Honolulu": "HI",
    "America/Puerto_Rico": "PR",
}
IN_UTC = "CAST(start_time AS TIMESTAMP WITH TIME ZONE) AT TIME ZONE 'UTC'"
# Of "Chicago-Naperville-Elgin, IL-IN-WI" the first state, which is the one of the main city.
STATE = "substr(split_part(location, ', ', 2), 1, 2)"


class Query(NamedTuple):
    question: str
    note: str
    sql: str


class Clock(NamedTuple):
    """By which days and hours count."""

    zone: str  # a name of the time zone database, or LISTENERS
    name: str  # as an axis says it
    rule: str  # whole sentences


def quoted_list(words: str) -> str:
    return ", ".join(f"'{word}'" for word in words.split())


def local_time_sql(zone: str) -> str:
    """The expression that stands for IN_UTC."""
    if zone != LISTENERS:
        return IN_UTC.replace("UTC", zone)
    cases = [
        f"            WHEN {STATE} IN ({quoted_list(states)})\n"
        f"                THEN {IN_UTC.replace('UTC', name)}\n"
        for name, states in ZONES.items()
    ]
    return f"CASE\n{''.join(cases)}            ELSE {IN_UTC}\n        END"


def read_queries(zone: str = "UTC") -> dict[str, Query]:
    """The named queries, with their times in a zone that choose_clock knows."""
    text = Path(__file__).with_name("queries.sql").read_text(encoding="utf-8")
    text = text.replace(IN_UTC, local_time_sql(zone))
    found = re.findall(r"^-- name: (\w+)\n-- (.*)\n((?:-- .*\n)*)([^;]+);", text, re.MULTILINE)
    return {
        name: Query(question, note.replace("\n-- ", " ").removeprefix("-- ").strip(), sql.strip())
        for name, question, note, sql in found
    }


def zone_known(lake: Lake) -> tuple[int, int]:
    """The plays whose place has a state of ZONES, and all plays."""
    states = quoted_list(" ".join(ZONES.values()))
    (row,) = lake.rows(f"""
        WITH places AS (
            SELECT location, count(*) AS plays FROM songplays GROUP BY location
        )
        SELECT
            CAST(coalesce(sum(plays) FILTER ({STATE} IN ({states})), 0) AS BIGINT) AS known,
            CAST(coalesce(sum(plays), 0) AS BIGINT) AS plays
        FROM places
    """)
    return row["known"], row["plays"]


def choose_clock(lake: Lake, wanted: str = LISTENERS) -> Clock:
    """The clock for --timezone.

    Raises   Stop if there is no such zone
    """
    if wanted != LISTENERS:
        known_zones = "SELECT name FROM pg_timezone_names() WHERE lower(name) = lower(?)"
        found = lake.db.execute(known_zones, [wanted]).fetchone()
        if not found:
            remedy = f"name one such as UTC or America/Los_Angeles, or {LISTENERS}"
            raise Stop(SETTINGS, f"--timezone {wanted}: no such time zone; {remedy}")
        return Clock(found[0], found[0], f"Days and hours are those of {found[0]}.")
    known, plays = zone_known(lake)
    if not plays:
        return Clock("UTC", "UTC", "Days and hours are UTC.")
    if known < ZONE_KNOWN * plays:
        why = f"the time zone is known for only {known:,} of {plays:,} plays"
        return Clock("UTC", "UTC", f"Days and hours are UTC, because {why}.")
    covered = "every play" if known == plays else f"{known:,} of {plays:,} plays"
    rest = "" if known == plays else " The others count in UTC."
    return Clock(
        LISTENERS,
        "local time",
        "Days and hours are local time where the listener is: the time of the first state in the "
        f"play's location, and in a divided state that of most of its people. It is known for "
        f"{covered}.{rest} report.py --timezone UTC makes the page in UTC.",
    )
