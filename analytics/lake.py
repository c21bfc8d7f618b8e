"""The tables of an OUTPUT as one finished run published them, open in DuckDB.

report.py, to_postgres.py and the notebook read through this. It takes the files that the newest
commit with a `_etl/done/` entry lists, so it never reads half of a publication that is under way.
"""

from __future__ import annotations

import argparse
import configparser
import glob
import gzip
import json
import os
import re
import tempfile
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

import common
from common import FAILED, SETTINGS, Stop, needed_packages, one_line

with needed_packages("analytics/requirements.txt"):
    import duckdb
    import obstore
    from obstore.exceptions import BaseError
    from obstore.store import LocalStore, S3Store

AWS = ("KEY", "SECRET", "TOKEN", "PROFILE", "REGION", "ENDPOINT")
GETS_IN_FLIGHT = 32
# DuckDB's share of memory; what needs more goes to disk.
MEMORY = "1GB"


class Place(NamedTuple):
    """A folder on this machine, or a prefix on S3."""

    uri: str  # /folder or s3a://bucket/prefix
    store: object  # an obstore store whose root is this place
    is_s3: bool

    def sizes(self, prefix: str) -> dict[str, int]:
        """Key -> bytes of every object below a prefix."""
        chunks = obstore.list(self.store, prefix)
        return {item["path"]: item["size"] for chunk in chunks for item in chunk}

    def read(self, key: str) -> bytes:
        return bytes(obstore.get(self.store, key).bytes())


class Lake(NamedTuple):
    """An OUTPUT at one finished commit."""

    place: Place
    folder: str  # on this machine, where the table files are or come to be
    commit: dict  # `_etl/commits/<number>.json`
    db: duckdb.DuckDBPyConnection  # with one view per table
    settings: dict[str, str]  # those of dl.cfg
    copies: tempfile.TemporaryDirectory | None  # of what lies on S3; gone with this object

    @property
    def uri(self) -> str:
        return self.place.uri

    def rows(self, sql: str, *values) -> list[dict]:
        """The answer to a query, one dict per row."""
        answer = self.db.execute(sql, list(values))
        names = [column[0] for column in answer.description]
        return [dict(zip(names, row)) for row in answer.fetchall()]


def columns(table: str) -> dict[str, str]:
    """Name -> Spark's type, in the order of the table."""
    return {column.name: column.type for column in common.tables()[table]}


def tables() -> list[str]:
    return list(common.tables())


# ── Settings and places ──────────────────────────────────────────────────────────────────────────


def read_config(path: Path) -> dict[str, str]:
    """The settings of a dl.cfg.

    Raises   Stop, which never quotes a line of the file, because that may hold a secret
    """
    parser = configparser.ConfigParser(interpolation=None)
    try:
        with path.open(encoding="utf-8-sig") as lines:
            parser.read_file(lines)
    except OSError as error:
        message = f"{path}: {error.strerror}; name a settings file with --config"
        raise Stop(SETTINGS, message) from None
    except (configparser.Error, UnicodeDecodeError):
        remedy = "`python etl.py --dry-run` says which line is wrong"
        raise Stop(SETTINGS, f"{path}: cannot be read; {remedy}") from None
    values = {}
    for section in parser.sections():
        for name, value in parser.items(section):
            values[name.upper()] = re.sub(r"""^(["'])(.*)\1$""", r"\2", value)
    return values


def find_region(session, bucket: str) -> str:
    """The region of a bucket, which S3 tells anybody."""
    from botocore.exceptions import ClientError

    region = session.region_name or "us-east-1"
    try:
        answer = session.client("s3", region_name=region).head_bucket(Bucket=bucket)
    except ClientError as error:
        answer = error.response
    return answer["ResponseMetadata"]["HTTPHeaders"].get("x-amz-bucket-region", region)


def open_s3(uri: str, settings: dict[str, str]) -> S3Store:
    """The store of an S3 prefix, by etl.py's rule: dl.cfg's identity, else the usual AWS chain."""
    with needed_packages("analytics/requirements.txt"):
        import boto3
        from botocore.exceptions import BotoCoreError
        from obstore.auth.boto3 import Boto3CredentialProvider

    aws = {name: settings.get(name) or None for name in AWS}
    bucket, _, prefix = uri.partition("://")[2].partition("/")
    options = {}
    if aws["ENDPOINT"]:
        options = {"endpoint": aws["ENDPOINT"], "virtual_hosted_style_request": False}
    try:
        session = boto3.Session(
            aws["KEY"],
            aws["SECRET"],
            aws["TOKEN"],
            aws["REGION"],
            profile_name=aws["PROFILE"],
        )
        if session.get_credentials() is None:
            remedy = "set [AWS] KEY and SECRET in dl.cfg, or sign in"
            raise Stop(SETTINGS, f"{uri}: no AWS credentials; {remedy}")
        region = aws["REGION"] or session.region_name or "us-east-1"
        if not (aws["ENDPOINT"] or aws["REGION"]):
            region = find_region(session, bucket)
        credentials = Boto3CredentialProvider(session)
    except BotoCoreError as error:
        remedy = "correct [AWS] in dl.cfg, or sign in again"
        raise Stop(SETTINGS, f"{uri}: {one_line(error)}; {remedy}") from None
    return S3Store(
        bucket,
        prefix=prefix or None,
        region=region,
        credential_provider=credentials,
        client_options={"allow_http": True, "connect_timeout": "5s", "timeout": "120s"},
        retry_config={"max_retries": 3},
        **options,
    )


def open_place(where: str, settings: dict[str, str], remedy: str) -> Place:
    """A folder, file:///folder, s3://bucket/prefix or s3a://bucket/prefix.

    remedy   what the message about a missing folder advises
    """
    scheme, has_scheme, rest = where.partition("://")
    if not has_scheme or scheme == "file":
        folder = os.path.abspath(os.path.expanduser(rest if has_scheme else where))
        if not os.path.isdir(folder):
            raise Stop(SETTINGS, f"{folder}: no such folder; {remedy}")
        return Place(folder, LocalStore(folder), False)
    if scheme not in ("s3", "s3a") or not rest.strip("/"):
        raise Stop(SETTINGS, f"{where}: cannot be used; name a folder or s3a://bucket/prefix")
    uri = where.rstrip("/")
    return Place(uri, open_s3(uri, settings), True)


def fetch(place: Place, keys: Iterable[str], folder: str) -> None:
    """Copies objects of S3 to a folder, many at a time, under their keys."""

    def copy_object(key: str) -> None:
        path = Path(folder, key)
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("wb") as copy:
            for chunk in obstore.get(place.store, key).stream():
                copy.write(chunk)

    with ThreadPoolExecutor(GETS_IN_FLIGHT) as pool:
        for _ in pool.map(copy_object, keys):
            pass  # an error in a thread is raised here


# ── The tables ───────────────────────────────────────────────────────────────────────────────────


def done_commits(place: Place) -> list[str]:
    """The keys of the commits whose publication is finished, oldest first."""
    return common.done_commits(place.sizes("_etl/done"))


def read_commit(place: Place) -> dict:
    """The newest commit whose publication is finished."""
    keys = done_commits(place)
    if not keys:
        remedy = "run `python etl.py`, or name its OUTPUT"
        raise Stop(SETTINGS, f"{place.uri}: no run has finished publishing here; {remedy}")
    return json.loads(place.read(keys[-1]))


def check_files(lake: Lake, table: str) -> None:
    """Raises Stop unless each file that the commit lists of a table is there, with its size."""
    files = lake.commit["tables"][table]["files"]
    present = lake.place.sizes(table)
    missing = [
        f"{table}/{name}"
        for name, file in files.items()
        if present.get(f"{table}/{name}") != file["bytes"]
    ]
    if missing:
        count = f"{len(missing)} of the {len(files)} files of commit {lake.commit['commit']}"
        message = f"table {table} is not whole: {count} are missing, such as {missing[0]}"
        raise Stop(FAILED, f"{lake.uri}: {message}; run etl.py again")


def create_view(lake: Lake, table: str) -> None:
    """A view with the table's columns, in order; without rows if the commit lists no file."""
    types = columns(table)
    files = list(lake.commit["tables"][table]["files"])
    if not files:
        typed = [
            f"CAST(NULL AS {'TIMESTAMPTZ' if kind == 'TIMESTAMP' else kind}) AS {name}"
            for name, kind in types.items()
        ]
        lake.db.execute(f'CREATE VIEW "{table}" AS SELECT {", ".join(typed)} WHERE false')
        return
    paths = [glob.escape(f"{lake.folder}/{table}/{name}").replace("'", "''") for name in files]
    listed = ", ".join(f"'{path}'" for path in paths)
    folders = [part.partition("=")[0] for part in files[0].split("/")[:-1]]
    hive_types = ", ".join(f"{name}: {types[name]}" for name in folders)
    options = "hive_partitioning = false"
    if folders:
        options = f"hive_partitioning = true, hive_types = {{{hive_types}}}"
    lake.db.execute(
        f'CREATE VIEW "{table}" AS SELECT {", ".join(types)} '
        f"FROM read_parquet([{listed}], {options})"
    )


def connect() -> duckdb.DuckDBPyConnection:
    """A DuckDB in memory, in UTC, that spills to the temporary folder and not to where we are."""
    config = {
        "memory_limit": MEMORY,
        "preserve_insertion_order": False,
        "temp_directory": str(Path(tempfile.gettempdir(), f"sparkify-duckdb-{os.getpid()}")),
    }
    db = duckdb.connect(config=config)
    db.execute("SET TimeZone = 'UTC'")
    return db


def open_lake(output: str, settings: dict[str, str] | None = None) -> Lake:
    """Opens an OUTPUT.

    Source   the newest finished commit; files on S3 are copied to a temporary folder first
    Raises   Stop if there is no such place or commit, or a table of it is not whole
    """
    settings = settings or {}
    place = open_place(output, settings, "run `python etl.py`, or name its OUTPUT")
    table = ""
    try:
        copies = tempfile.TemporaryDirectory(prefix="sparkify-") if place.is_s3 else None
        folder = copies.name if copies else place.uri
        db = connect()
        lake = Lake(place, folder, read_commit(place), db, settings, copies)
        for table in tables():
            check_files(lake, table)
        if copies:
            for table in tables():
                names = lake.commit["tables"][table]["files"]
                fetch(place, [f"{table}/{name}" for name in names], folder)
        for table in tables():
            create_view(lake, table)
    # ValueError: a commit that is not JSON
    except (BaseError, OSError, ValueError) as error:
        message = f"cannot be read: {one_line(error)}; check it, and [AWS] in dl.cfg"
        raise Stop(SETTINGS, f"{place.uri}: {message}") from None
    except duckdb.Error as error:
        message = f"table {table} cannot be read: {one_line(error)}; run etl.py --force"
        raise Stop(FAILED, f"{place.uri}: {message}") from None
    return lake


def read_runs(lake: Lake, most: int) -> list[dict]:
    """The summaries of the newest runs, oldest first; one that is damaged is left out."""
    keys = sorted(key for key in lake.place.sizes("_etl/runs") if key.endswith(".json"))
    found = []
    for key in keys[-most:]:
        try:
            found.append(json.loads(lake.place.read(key)))
        except ValueError:
            continue
    return found


def read_inputs(lake: Lake) -> dict[str, int]:
    """Key below INPUT -> bytes of each object that the commit's run read; empty if unknown."""
    try:
        packed = lake.place.read(f"_etl/inputs/{lake.commit['commit']:09d}.json.gz")
        lines = gzip.decompress(packed).decode().splitlines()
        return {key: size for key, size, *_ in map(json.loads, lines)}
    except (FileNotFoundError, OSError, ValueError):
        return {}


# ── Command lines ────────────────────────────────────────────────────────────────────────────────


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "output",
        nargs="?",
        help="what etl.py wrote: a folder or an s3a:// prefix (default: dl.cfg's OUTPUT)",
    )
    parser.add_argument(
        "--config",
        metavar="FILE",
        help="settings file (default: ./dl.cfg, else dl.cfg beside etl.py)",
    )


def from_arguments(given: argparse.Namespace) -> Lake:
    """The lake that the command line, else dl.cfg, names."""
    usual = [Path("dl.cfg"), common.ROOT / "dl.cfg"]
    config = next((path for path in usual if path.is_file()), None)
    if given.config:
        config = Path(given.config)
    settings = read_config(config) if config else {}
    if given.output:
        return open_lake(given.output, settings)
    output = settings.get("OUTPUT")
    if not output:
        place = f"{config}: [DATA] has no OUTPUT" if config else "no dl.cfg"
        raise Stop(SETTINGS, f"{place}; name a folder or an s3a:// prefix")
    if "://" not in output:
        output = str(config.parent / os.path.expanduser(output))
    return open_lake(output, settings)


def explain(error: Exception) -> Stop | None:
    """What an error amounts to that comes while the tables are read."""
    if isinstance(error, (duckdb.Error, BaseError)):
        message = f"the tables cannot be read to their end: {one_line(error)}; run it again"
        return Stop(FAILED, message)
    return None
