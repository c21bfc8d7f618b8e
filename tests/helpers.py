"""What all tests share: input to write, ways to run the job and to read what it left, an S3."""

import contextlib
import io
import json
import os
import re
import secrets
import shutil
import socket
import subprocess
import sys
import time
from pathlib import Path
from urllib.parse import unquote

from pyspark.sql import functions as F

import etl

ROOT = Path(__file__).parents[1]
SAMPLE = ROOT / "data" / "sample"

SECRET = "cana/ry+Secret%2Fkey%(x)s"  # what a careless parser would expand, decode or split
KEY = "AKIACANARYCANARYKEYS"
NOWHERE = "http://127.0.0.1:9"
# what boto3, obstore or hadoop-aws read, and values that would lead them astray
ASTRAY = {
    "AWS_ACCESS_KEY_ID": "AKIAWRONG",
    "AWS_SECRET_ACCESS_KEY": "wrong",
    "AWS_SESSION_TOKEN": "wrong",
    "AWS_REGION": "eu-north-1",
    "AWS_DEFAULT_REGION": "eu-north-1",
    "AWS_ENDPOINT": NOWHERE,
    "AWS_ENDPOINT_URL": NOWHERE,
    "AWS_ENDPOINT_URL_S3": NOWHERE,
    "AWS_USE_FIPS_ENDPOINT": "true",
    "AWS_USE_DUALSTACK_ENDPOINT": "true",
    "AWS_VIRTUAL_HOSTED_STYLE_REQUEST": "true",
    "AWS_SKIP_SIGNATURE": "true",
    "AWS_ALLOW_HTTP": "false",
}
SONG_RECORDS = """
    song_id STRING, title STRING, artist_id STRING, artist_name STRING,
    duration DOUBLE, year INT, location STRING, latitude DOUBLE, longitude DOUBLE
"""


def rows_of(table, *columns):
    """A frame's rows as sorted tuples, timestamps as text in UTC."""
    picked = table.select(*columns) if columns else table
    texts = [
        F.col(name).cast("string") if kind == "timestamp" else F.col(name)
        for name, kind in picked.dtypes
    ]
    return sorted((tuple(row) for row in picked.select(*texts).collect()), key=repr)


def play(**changes):
    """A play as the app logs it."""
    event = {
        "artist": "Foxes",
        "auth": "Logged In",
        "firstName": "Ada",
        "gender": "F",
        "itemInSession": 1,
        "lastName": "Koch",
        "length": 200.5,
        "level": "free",
        "location": "Oakland, CA",
        "method": "PUT",
        "page": "NextSong",
        "registration": 1.5e12,
        "sessionId": 7,
        "song": "River",
        "status": 200,
        "ts": 1541106106796,
        "userAgent": "Safari",
        "userId": "8",
    }
    return {**event, **changes}


def song(**changes):
    record = {
        "num_songs": 1,
        "artist_id": "AR1",
        "artist_latitude": 37.8,
        "artist_longitude": -122.27,
        "artist_location": "Oakland, CA",
        "artist_name": "Foxes",
        "song_id": "SO1",
        "title": "River",
        "duration": 200.5,
        "year": 1999,
    }
    return {**record, **changes}


def write_input(folder, songs, events):
    """An input folder: each song an object of its own, each list of events a log file."""
    for number, record in enumerate(songs):
        path = folder / "song_data" / "A" / f"TR{number:05d}.json"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(record if isinstance(record, bytes) else json.dumps(record).encode())
    for number, lines in enumerate(events):
        path = folder / "log_data" / "2018" / f"{number:02d}-events.json"
        path.parent.mkdir(parents=True, exist_ok=True)
        data = [line if isinstance(line, bytes) else json.dumps(line).encode() for line in lines]
        path.write_bytes(b"\n".join(data))
    return folder


class Result:
    """What a run of the job printed and left."""

    def __init__(self, code, out, err, output):
        self.code = code
        self.out = out
        self.err = err
        self.output = Path(output)

    @property
    def error(self):
        """The one line of an error; warnings stand before it."""
        [line] = [line for line in self.err.splitlines() if "etl.py: warning: " not in line]
        return line

    @property
    def summary(self):
        return json.loads(max((self.output / "_etl" / "runs").iterdir()).read_text())

    @property
    def commit(self):
        return json.loads(max((self.output / "_etl" / "commits").iterdir()).read_text())

    def quarantine(self):
        """The rejected lines of all runs; of a file, the path below INPUT."""
        rows = []
        for path in sorted((self.output / "_etl" / "quarantine").rglob("*.json")):
            # U+2028 ends a line of splitlines(), but not of JSON lines
            rows += [json.loads(line) for line in path.read_text().split("\n") if line]
        for row in rows:
            row["file"] = re.search("(song|log)_data/.*", unquote(row["file"]))[0]
        return rows


def run_main(*arguments, output):
    """Calls etl.main in this process; what it says is kept."""
    out = io.StringIO()
    err = io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        code = etl.main([str(argument) for argument in arguments])
    return Result(code, out.getvalue(), err.getvalue(), output)


def without_spark(replace=setattr):
    """Lets a run do all of its work but Spark's: the files of each table are the song objects."""

    def process_song_data(spark, run):
        contents = [run.source.read(item.key) for item in run.manifest["song_data"]]
        for table in etl.COLUMNS:
            for number, content in enumerate(contents):
                run.lake.write(f"{run.staging}/{table}/part-{number}.parquet", content)
            run.summary["tables"][table] = {"rows": 1}
        return None, dict.fromkeys(("records", *etl.SONG_CLASSES), 1)

    def process_log_data(spark, run):
        return None, dict.fromkeys(("lines", "matched", "ambiguous", *etl.EVENT_CLASSES), 1)

    replace(etl, "start_spark", lambda *_: None)
    replace(etl, "process_song_data", process_song_data)
    replace(etl, "process_log_data", process_log_data)
    replace(etl, "process_plays", lambda run, plays, song_records: {})
    replace(etl, "audit", lambda spark, run: None)


def run_process(*arguments, cwd, env=None, timeout=240, code=""):
    """Runs etl.py as users do, in a process of its own; or code that imports it."""
    program = ["-c", code] if code else [str(ROOT / "etl.py")]
    command = [sys.executable, *program, *map(str, arguments)]
    environment = {**os.environ, **({"PYTHONPATH": str(ROOT)} if code else {}), **(env or {})}
    return subprocess.run(
        command, cwd=cwd, env=environment, capture_output=True, text=True, timeout=timeout
    )


def files_below(folder):
    """Name -> (content, inode) of every file below a folder."""
    return {
        str(path.relative_to(folder)): (path.read_bytes(), path.stat().st_ino)
        for path in sorted(Path(folder).rglob("*"))
        if path.is_file()
    }


def table_rows(output, table):
    """A published table as DuckDB reads it, sorted."""
    # imported here, because tests/tables needs few packages
    import duckdb

    names = ", ".join(line.split()[0] for line in etl.COLUMNS[table].strip().splitlines())
    files = f"read_parquet('{output}/{table}/**/*.parquet', hive_partitioning = true)"
    query = f"SELECT {names} FROM {files}"
    with duckdb.connect() as connection:
        connection.execute("SET TimeZone = 'UTC'")
        return sorted(connection.execute(query).fetchall(), key=repr)


def all_tables(output):
    return {table: table_rows(output, table) for table in etl.COLUMNS}


def check_tables(output, answer):
    """The published tables are those of an answer of tests/reference.py."""
    for table, rows in answer.tables.items():
        assert table_rows(output, table) == sorted(rows, key=repr), table


def upload_folder(client, folder, bucket, prefix=""):
    for path in folder.rglob("*.*"):
        if path.is_file():
            client.upload_file(str(path), bucket, f"{prefix}{path.relative_to(folder)}")


def keys_below(client, bucket, prefix):
    pages = client.get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix=prefix)
    return [item["Key"] for page in pages for item in page.get("Contents", [])]


def download_folder(client, bucket, prefix, folder):
    """Copies what is below a prefix of a bucket; returns the copy's folder."""
    for key in keys_below(client, bucket, f"{prefix}/"):
        # Hadoop marks a folder by a key that ends in /
        if not key.endswith("/"):
            path = folder / key
            path.parent.mkdir(parents=True, exist_ok=True)
            client.download_file(bucket, key, str(path))
    return folder / prefix


def free_port():
    """A port below those that the system gives to connections, which could take it meanwhile."""
    while True:
        port = 10_000 + secrets.randbelow(20_000)
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return port


class S3Server:
    """SeaweedFS on this machine: one identity, signatures checked, and a public bucket."""

    def __init__(self, folder, *arguments):
        self.folder = folder
        ports = {name: free_port() for name in ("master", "volume", "filer", "s3")}
        config = folder / "s3.json"
        credentials = [{"accessKey": KEY, "secretKey": SECRET}]
        identity = {
            "name": "tester",
            "credentials": credentials,
            "actions": ["Admin", "Read", "List", "Write"],
        }
        # what everybody may do
        public = {"name": "anonymous", "actions": ["Read:public", "List:public"]}
        config.write_text(json.dumps({"identities": [identity, public]}))
        (folder / "data").mkdir()
        flags = "-ip=127.0.0.1 -ip.bind=127.0.0.1 -s3 -s3.port.iceberg=0 -s3.port.lance=0"
        flags += " -master.telemetry=false -master.volumeSizeLimitMB=64 -volume.max=500"
        for name, port in ports.items():
            flags += f" -{name}.port={port} -{name}.port.grpc={free_port()}"
        search = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
        command = [shutil.which("weed", path=search), "server", *flags.split()]
        command += [f"-dir={folder / 'data'}", f"-s3.config={config}", *arguments]
        self.log = (folder / "weed.log").open("w")
        self.process = subprocess.Popen(
            command, stdout=self.log, stderr=subprocess.STDOUT, cwd=folder
        )
        self.endpoint = f"http://127.0.0.1:{ports['s3']}"

    def client(self):
        import boto3

        return boto3.client(
            "s3",
            endpoint_url=self.endpoint,
            aws_access_key_id=KEY,
            aws_secret_access_key=SECRET,
            region_name="us-east-1",
        )

    def bucket(self, name):
        """A new bucket, once the server answers."""
        client, error = self.client(), None
        for _ in range(1200):
            try:
                client.create_bucket(Bucket=name)
                return client
            except client.exceptions.BucketAlreadyOwnedByYou:
                raise  # by another test: name it otherwise
            except Exception as failure:
                error = failure
                if self.process.poll() is not None:
                    break
                time.sleep(0.25)
        raise RuntimeError(
            f"SeaweedFS does not answer: {error}\n{(self.folder / 'weed.log').read_text()[-2000:]}"
        )

    def config(self, folder, source, output, endpoint=None, key=KEY, secret=SECRET):
        path = folder / "s3.cfg"
        path.write_text(
            f"[AWS]\nKEY = {key}\nSECRET = {secret}\nREGION = us-east-1\n"
            f"ENDPOINT = {endpoint or self.endpoint}\n"
            f"[DATA]\nINPUT = {source}\nOUTPUT = {output}\n"
        )
        return path

    def stop(self):
        self.process.kill()  # asked politely, it takes half a minute
        self.process.wait(30)
        self.log.close()
        ports = re.findall(r"port(?:\.grpc)?=(\d+)", " ".join(self.process.args))
        for path in Path("/tmp").glob("seaweedfs-*.sock"):
            if path.stem.rpartition("-")[2] in ports:
                path.unlink()
