"""An S3 server as far away as another region: SeaweedFS, and a proxy that delays its answers."""

import asyncio
import contextlib
import os
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import boto3

KEY = "AKIABENCHBENCHBENCHB"
SECRET = "bench/only+secret"
DELAY_SECONDS = 0.025
VERBS = (b"GET ", b"PUT ", b"POST ", b"HEAD ", b"DELETE ")


class SlowProxy(threading.Thread):
    """Passes requests on at once and their answers late, and counts the requests."""

    def __init__(self, server_port: int):
        super().__init__(daemon=True)
        self.server_port = server_port
        self.socket = socket.create_server(("127.0.0.1", 0))
        self.port = self.socket.getsockname()[1]
        self.requests = 0

    def settings(self) -> str:
        """The dl.cfg that leads here."""
        endpoint = f"http://127.0.0.1:{self.port}"
        return f"[AWS]\nKEY = {KEY}\nSECRET = {SECRET}\nREGION = us-east-1\nENDPOINT = {endpoint}\n"

    def run(self) -> None:
        asyncio.run(self.serve())

    async def serve(self) -> None:
        proxy = await asyncio.start_server(self.connect, sock=self.socket)
        await proxy.serve_forever()

    async def connect(self, client: asyncio.StreamReader, to_client: asyncio.StreamWriter) -> None:
        server, to_server = await asyncio.open_connection("127.0.0.1", self.server_port)
        requests = self.pass_requests(client, to_server)
        answers = self.pass_answers(server, to_client)
        with contextlib.suppress(ConnectionError):
            await asyncio.gather(requests, answers)

    async def pass_requests(self, source, target) -> None:
        while data := await source.read(2**16):
            # clients write the head of each request by itself
            self.requests += data.startswith(VERBS)
            target.write(data)
        target.close()

    async def pass_answers(self, source, target) -> None:
        loop = asyncio.get_running_loop()
        while data := await source.read(2**16):
            loop.call_later(DELAY_SECONDS, target.write, data)
        loop.call_later(DELAY_SECONDS, target.close)


@contextlib.contextmanager
def serve(folder: str, source: str, log) -> Iterator[SlowProxy]:
    """A server that keeps its objects in `folder`; `source` is at s3a://lake/in."""
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    command = [
        f"{Path(sys.executable).parent}/weed",
        "mini",
        "-ip=127.0.0.1",
        "-ip.bind=127.0.0.1",
        f"-dir={folder}",
        "-bucket=lake",
        f"-s3.port={port}",
        "-webdav=false",
    ]
    identity = {"AWS_ACCESS_KEY_ID": KEY, "AWS_SECRET_ACCESS_KEY": SECRET}
    # in a process group of its own, so that nobody waits for it to end
    server = subprocess.Popen(
        command, env=os.environ | identity, stdout=log, stderr=log, process_group=0
    )
    try:
        upload(source, f"http://127.0.0.1:{port}")
        proxy = SlowProxy(port)
        proxy.start()
        yield proxy
    finally:
        server.kill()
        server.wait()


def upload(source: str, endpoint: str) -> None:
    session = boto3.Session(KEY, SECRET, region_name="us-east-1")
    client = session.client("s3", endpoint_url=endpoint)
    client.get_waiter("bucket_exists").wait(Bucket="lake")
    for path in Path(source).rglob("*.json"):
        key = f"in/{path.relative_to(source)}"
        client.put_object(Bucket="lake", Key=key, Body=path.read_bytes())
