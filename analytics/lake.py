"""The tables of an OUTPUT as one finished run published them, open in DuckDB.

report.py, to_postgres.py and the notebook read through this. It takes the files that the newest commit with a
`_etl/done/` entry lists, so a publication under way is never read half.
"""

from __future__ import annotations

import argparse
import configparser
import glob
import json
import os
import re
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

import duckdb
import obstore
from obstore.exceptions import BaseError
from obstore.store import LocalStore, S3Store

FAILED, SETTINGS = 1, 2  # exit codes
TABLES = {  # etl.COLUMNS once more, for readers without Spark, which etl.py imports; a test holds them equal
    "songplays": "songplay_id STRING, start_time TIMESTAMP, user_id BIGINT, level STRING, song_id STRING, "
    "artist_id STRING, session_id BIGINT, location STRING, user_agent STRING, year INT, month INT",
    "users": "user_id BIGINT, first_name STRING, last_name STRING, gender STRING, level STRING",
    "songs": "song_id STRING, title STRING, artist_id STRING, duration DOUBLE, year INT",
    "artists": "artist_id STRING, name STRING, location STRING, latitude DOUBLE, longitude DOUBLE",
    "time": "start_time TIMESTAMP, hour INT, day INT, week INT, weekday INT, year INT, month INT",
}
AWS = ("KEY", "SECRET", "TOKEN", "PROFILE", "REGION", "ENDPOINT")
GETS_IN_FLIGHT = 32
MEMORY = "1GB"  # DuckDB's share; more goes to disk


class Stop(Exception):
    """Ends the program with an exit code and one line that names the thing, the place and the remedy."""

    def __init__(self, code: int, message: str):
        super().__init__(message)
        self.code = code


class Lake(NamedTuple):
    """An OUTPUT at one finished commit."""

    uri: str  # /folder or s3a://bucket/prefix
    store: object  # an obstore store whose root is this place
    folder: str  # on this machine, where the table files are or come to be
    commit: dict  # `_etl/commits/<number>.json`
    db: duckdb.DuckDBPyConnection  # with a view a table
    copies: tempfile.TemporaryDirectory | None  # of what lies on S3; gone with this object


def columns(table: str) -> dict[str, str]:
    """Name -> type, in the order of the output contract."""
    return dict(column.split() for column in TABLES[table].split(", "))


def one_line(error: BaseException) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0][:300]


def read_config(path: Path) -> dict[str, str]:
    """The settings of a dl.cfg.  Raises Stop without ever quoting a line of it, which may hold a secret."""
    parser = configparser.ConfigParser(interpolation=None)
    try:
        with path.open(encoding="utf-8-sig") as lines:
            parser.read_file(lines)
    except OSError as error:
        raise Stop(
            SETTINGS, f"{path}: {error.strerror}; name a settings file with --config"
        ) from None
    except (configparser.Error, UnicodeDecodeError):
        raise Stop(
            SETTINGS, f"{path}: cannot be read; `python etl.py --dry-run` says which line is wrong"
        ) from None
    values = {name.upper(): value for section in parser for name, value in parser.items(section)}
    return {name: re.sub(r"""^(["'])(.*)\1$""", r"\2", value) for name, value in values.items()}


def open_s3(uri: str, values: dict[str, str]):
    """The store of an S3 prefix, with etl.py's rule: dl.cfg's identity, else the usual AWS chain."""
    import boto3
    from botocore.exceptions import BotoCoreError, ClientError
    from obstore.auth.boto3 import Boto3CredentialProvider

    aws = {name: values.get(name) or None for name in AWS}
    bucket, _, prefix = uri.partition("://")[2].partition("/")
    try:
        session = boto3.Session(
            aws["KEY"], aws["SECRET"], aws["TOKEN"], aws["REGION"], profile_name=aws["PROFILE"]
        )
        if session.get_credentials() is None:
            raise Stop(
                SETTINGS,
                f"{uri}: no AWS credentials; set [AWS] KEY and SECRET in dl.cfg, or sign in",
            )
        region = aws["REGION"] or session.region_name or "us-east-1"
        if not (aws["ENDPOINT"] or aws["REGION"]):  # S3 tells anybody a bucket's region
            try:
                answer = session.client("s3", region_name=region).head_bucket(Bucket=bucket)
            except ClientError as error:
                answer = error.response
            region = answer["ResponseMetadata"]["HTTPHeaders"].get("x-amz-bucket-region", region)
        credentials = Boto3CredentialProvider(session)
    except BotoCoreError as error:
        raise Stop(
            SETTINGS, f"{uri}: {one_line(error)}; correct [AWS] in dl.cfg, or sign in again"
        ) from None
    endpoint = (
        {"endpoint": aws["ENDPOINT"], "virtual_hosted_style_request": False}
        if aws["ENDPOINT"]
        else {}
    )
    options = {"allow_http": True, "connect_timeout": "5s", "timeout": "120s"}
    return S3Store(
        bucket,
        prefix=prefix or None,
        region=region,
        credential_provider=credentials,
        client_options=options,
        retry_config={"max_retries": 3},
        **endpoint,
    )


def read_commit(uri: str, store) -> dict:
    """The newest commit whose publication is finished."""
    found = [item["path"] for chunk in obstore.list(store, "_etl/done") for item in chunk]
    numbers = [
        name for name in (path.rpartition("/")[2] for path in found) if re.fullmatch(r"\d{9}", name)
    ]
    if not numbers:
        raise Stop(
            SETTINGS,
            f"{uri}: no run has finished publishing here; run `python etl.py`, or name its OUTPUT",
        )
    return json.loads(bytes(obstore.get(store, f"_etl/commits/{max(numbers)}.json").bytes()))


def check_files(lake: Lake, table: str) -> None:
    """Raises Stop unless each file that the commit lists of a table is there, with its size."""
    listed = {
        f"{table}/{name}": file["bytes"]
        for name, file in lake.commit["tables"][table]["files"].items()
    }
    if lake.copies:
        present = {
            item["path"]: item["size"]
            for chunk in obstore.list(lake.store, table)
            for item in chunk
        }
    else:
        paths = {key: f"{lake.folder}/{key}" for key in listed}
        present = {
            key: os.path.getsize(path) for key, path in paths.items() if os.path.isfile(path)
        }
    wrong = [key for key, size in listed.items() if present.get(key) != size]
    if wrong:
        raise Stop(
            FAILED,
            f"{lake.uri}: table {table} is not whole: {len(wrong)} of the {len(listed)} files of commit "
            f"{lake.commit['commit']} are missing, such as {wrong[0]}; run etl.py again",
        )


def fetch(lake: Lake, key: str) -> None:
    path = Path(lake.folder, key)
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("wb") as copy:
        for chunk in obstore.get(lake.store, key).stream():
            copy.write(chunk)


def create_view(lake: Lake, table: str) -> None:
    """A view with the table's columns, in order; without rows where the commit lists no file."""
    names, files = columns(table), list(lake.commit["tables"][table]["files"])
    if files:
        folders = [part.partition("=")[0] for part in files[0].split("/")[:-1]]
        types = ", ".join(f"{name}: {names[name]}" for name in folders)
        paths = [glob.escape(f"{lake.folder}/{table}/{name}").replace("'", "''") for name in files]
        listed = ", ".join(f"'{path}'" for path in paths)
        options = (
            f"hive_partitioning = true, hive_types = {{{types}}}"
            if folders
            else "hive_partitioning = false"
        )
        query = f"SELECT {', '.join(names)} FROM read_parquet([{listed}], {options})"
    else:
        typed = (
            f"CAST(NULL AS {'TIMESTAMPTZ' if kind == 'TIMESTAMP' else kind}) AS {name}"
            for name, kind in names.items()
        )
        query = f"SELECT {', '.join(typed)} WHERE false"
    lake.db.execute(f'CREATE VIEW "{table}" AS {query}')


def open_lake(output: str, values: dict[str, str] | None = None) -> Lake:
    """Opens an OUTPUT: a folder, file:///folder, s3://bucket/prefix or s3a://bucket/prefix.

    Source   the newest finished commit; files on S3 are copied to a temporary folder first, many at a time
    Raises   Stop where there is no such place or commit, or a table of it is not whole
    """
    scheme, has_scheme, rest = output.partition("://")
    is_s3 = bool(has_scheme) and scheme != "file"
    if is_s3 and (scheme not in ("s3", "s3a") or not rest.strip("/")):
        raise Stop(SETTINGS, f"{output}: cannot be used; name a folder or s3a://bucket/prefix")
    uri = (
        output.rstrip("/")
        if is_s3
        else os.path.abspath(os.path.expanduser(rest if has_scheme else output))
    )
    if not is_s3 and not os.path.isdir(uri):
        raise Stop(SETTINGS, f"{uri}: no such folder; run `python etl.py`, or name its OUTPUT")
    try:
        store = open_s3(uri, values or {}) if is_s3 else LocalStore(uri)
        copies = tempfile.TemporaryDirectory(prefix="sparkify-") if is_s3 else None
        db = duckdb.connect(config={"memory_limit": MEMORY, "preserve_insertion_order": False})
        db.execute("SET TimeZone = 'UTC'")
        lake = Lake(uri, store, copies.name if copies else uri, read_commit(uri, store), db, copies)
        for table in TABLES:
            check_files(lake, table)
        if copies:
            keys = [
                f"{table}/{name}"
                for table in TABLES
                for name in lake.commit["tables"][table]["files"]
            ]
            with ThreadPoolExecutor(GETS_IN_FLIGHT) as pool:
                list(
                    pool.map(lambda key: fetch(lake, key), keys)
                )  # list() raises what a thread raised
        for table in TABLES:
            create_view(lake, table)
    except (BaseError, OSError, ValueError) as error:  # ValueError: a commit that is no JSON
        raise Stop(
            SETTINGS, f"{uri}: cannot be read: {one_line(error)}; check it, and [AWS] in dl.cfg"
        ) from None
    except duckdb.Error as error:
        raise Stop(
            FAILED, f"{uri}: table {table} cannot be read: {one_line(error)}; run etl.py --force"
        ) from None
    return lake


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "output", nargs="?", help="what etl.py wrote: a folder or s3a:// prefix (default: dl.cfg's)"
    )
    parser.add_argument(
        "--config",
        metavar="FILE",
        help="settings file (default: ./dl.cfg, else dl.cfg beside etl.py)",
    )


def from_arguments(given: argparse.Namespace) -> Lake:
    """The lake that the command line, else dl.cfg, names."""
    beside = [
        path for path in (Path("dl.cfg"), Path(__file__).parents[1] / "dl.cfg") if path.is_file()
    ]
    config = Path(given.config) if given.config else next(iter(beside), None)
    values = read_config(config) if config else {}
    output = given.output or values.get("OUTPUT")
    if not output:
        raise Stop(
            SETTINGS,
            f"{config or 'no dl.cfg'}: [DATA] has no OUTPUT; name a folder or an s3a:// prefix",
        )
    if not given.output and "://" not in output:
        output = str(config.parent / os.path.expanduser(output))
    return open_lake(output, values)


def run_main(program: str, main) -> int:
    """Runs a program's main and says in one line on stderr what went wrong; returns the exit code."""
    try:
        main()
        return 0
    except Stop as stop:
        code, error = stop.code, str(stop)
    except KeyboardInterrupt:
        code, error = 130, "interrupted"
    except (duckdb.Error, BaseError) as failure:
        code, error = (
            FAILED,
            f"the tables cannot be read to their end: {one_line(failure)}; run it again",
        )
    print(f"{program}: {error}", file=sys.stderr)
    return code
