"""A bad S3 store: passes requests on to a good one, and now and then does something else."""

import http.client
import random
import socket
import struct
import threading
from collections import Counter
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

ERROR = "<?xml version='1.0'?><Error><Code>{0}</Code><Message>{0} by the test</Message></Error>"
STATUS = {"SlowDown": 503, "AccessDenied": 403, "ExpiredToken": 400, "NotImplemented": 501}
OF_A_CONNECTION = ("connection", "content-length", "transfer-encoding", "expect")


class Proxy(BaseHTTPRequestHandler):
    """One connection.  `choose` gets method, path, headers and body; it names a fate, or none."""

    protocol_version = "HTTP/1.1"

    def pass_on(self):
        body = self.body()
        fate = self.server.choose(self.command, self.path, self.headers, body)
        if fate:
            self.server.fates[fate] += 1
        if fate == "reset":
            return self.reset()
        if fate in STATUS:
            error = ERROR.format(fate).encode()
            return self.answer(STATUS[fate], {"Content-Type": "application/xml"}, error)
        status, headers, data = self.ask(body)
        if fate == "lost":
            return self.reset()
        length = len(data)
        if self.command == "HEAD":
            length = headers.get("Content-Length")
        if fate == "cut" and data:
            self.answer(status, headers, data[: len(data) // 2], length)
            return self.reset()
        self.answer(status, headers, data, length)

    do_GET = do_PUT = do_POST = do_DELETE = do_HEAD = pass_on

    def body(self) -> bytes:
        if self.headers.get("Transfer-Encoding", "").lower() != "chunked":
            return self.rfile.read(int(self.headers.get("Content-Length", 0)))
        data = b""
        while size := int(self.rfile.readline().split(b";")[0], 16):
            data += self.rfile.read(size)
            self.rfile.readline()
        self.rfile.readline()
        return data

    def ask(self, body):
        store = http.client.HTTPConnection(self.server.store)
        store.putrequest(self.command, self.path, skip_host=True, skip_accept_encoding=True)
        # the Host too: it is signed
        for name, value in self.headers.items():
            if name.lower() not in OF_A_CONNECTION:
                store.putheader(name, value)
        store.putheader("Content-Length", str(len(body)))
        store.endheaders(body)
        answer = store.getresponse()
        data = answer.read()
        store.close()
        return answer.status, dict(answer.getheaders()), data

    def answer(self, status, headers, data, length=None):
        self.send_response_only(status)
        for name, value in headers.items():
            if name.lower() not in OF_A_CONNECTION:
                self.send_header(name, value)
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
def bad_store(endpoint: str, choose):
    """A server whose `endpoint` passes requests on; `fates` counts what it did instead."""
    server = Server(("127.0.0.1", 0), Proxy)
    server.store = endpoint.removeprefix("http://")
    server.choose = choose
    server.fates = Counter()
    server.endpoint = f"http://127.0.0.1:{server.server_port}"
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield server
    server.shutdown()
    server.server_close()


def at_random(fate: str, share: float, seed: int):
    chance = random.Random(seed)
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
