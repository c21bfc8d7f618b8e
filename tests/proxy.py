"""An S3 server in front of another: it passes requests on, and now and then does something else."""

import http.client
import random
import socket
import struct
import threading
from collections import Counter
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

ERROR = "<?xml version='1.0'?><Error><Code>{0}</Code><Message>{0} by the test</Message></Error>"
# of S3's error codes; of others it is 400
STATUS = {
    "SlowDown": 503,
    "NotImplemented": 501,
    "NoSuchBucket": 404,
    "AccessDenied": 403,
    "RequestTimeTooSkewed": 403,
    "InvalidAccessKeyId": 403,
    "PermanentRedirect": 301,
}
OF_A_CONNECTION = ("connection", "content-length", "transfer-encoding")


class Handler(BaseHTTPRequestHandler):
    """One connection.  `choose` gets method, path, headers and body, and may name a fate.

    reset, lost   no answer; a lost one is that of a request that was passed on
    cut           half of an answer
    another       S3's error of this code
    """

    protocol_version = "HTTP/1.1"

    def pass_on(self):
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        fate = self.server.choose(self.command, self.path, self.headers, body)
        if fate:
            self.server.fates[fate] += 1
        if fate == "reset":
            return self.reset()
        if fate not in (None, "lost", "cut"):
            return self.answer(STATUS.get(fate, 400), {}, ERROR.format(fate).encode())
        status, headers, data = self.ask(body)
        if fate == "lost":
            return self.reset()
        length = headers.get("Content-Length") if self.command == "HEAD" else len(data)
        if fate == "cut" and data:
            self.answer(status, headers, data[: len(data) // 2], length)
            return self.reset()
        self.answer(status, headers, data, length)

    do_GET = do_PUT = do_POST = do_DELETE = do_HEAD = pass_on

    def ask(self, body):
        store = http.client.HTTPConnection(self.server.store)
        # the Host too: it is signed
        headers = {name: self.headers[name] for name in self.headers if name.lower() != "expect"}
        store.request(self.command, self.path, body, headers)
        answer = store.getresponse()
        data = answer.read()
        store.close()
        return answer.status, dict(answer.getheaders()), data

    def answer(self, status, headers, data, length=None):
        self.send_response_only(status)
        for name, value in headers.items():
            if name.lower() not in OF_A_CONNECTION:
                self.send_header(name, value)
        if self.server.region:
            self.send_header("x-amz-bucket-region", self.server.region)
        if status != 204:
            self.send_header("Content-Length", str(len(data) if length is None else length))
        self.end_headers()
        self.wfile.write(data)
        self.wfile.flush()

    def reset(self):
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.connection.shutdown(socket.SHUT_RD)
        self.connection.close()
        self.close_connection = True

    def finish(self):
        with suppress(OSError, ValueError):
            super().finish()

    def log_message(self, *_):
        pass


class Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 256

    def handle_error(self, *_):
        """The client went away."""


@contextmanager
def proxy(endpoint: str, choose, region: str = ""):
    """A server whose `endpoint` passes requests on; `fates` counts what it did instead."""
    server = Server(("127.0.0.1", 0), Handler)
    server.store = endpoint.removeprefix("http://")
    server.choose = choose
    # of all buckets
    server.region = region
    server.fates = Counter()
    server.endpoint = f"http://127.0.0.1:{server.server_port}"
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield server
    server.shutdown()
    server.server_close()


def at_random(fate: str, share: float):
    chance = random.Random(1)
    return lambda *_: fate if chance.random() < share else None


def at(fate: str, method: str, path: str = "", header: str = "", body: bytes = b""):
    """Every request of a method whose path, headers' names and body hold these."""
    return lambda verb, target, headers, data: (
        fate
        if verb == method and path in target and header in str(headers).lower() and body in data
        else None
    )


def once(choose):
    """The first of these requests alone."""
    done = []

    def choose_once(*request):
        fate = None if done else choose(*request)
        if fate:
            done.append(fate)
        return fate

    return choose_once
